//! What happens to the agent at a view change and within a view.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, Reason};
use crate::id::{NodeId, ViewId};
use crate::time::Instant;
use crate::vip::VipId;
use crate::wire;

use super::message::{
    AgentMessage, Change, Decision, HandedOver, Holding, MemberInfo, MemberState, Report, Update,
    VipList,
};
use super::plan::Plan;
use super::slot::Slot;
use super::{Agent, AgentView, Local, Permission, lasting};

impl Agent {
    /// Decides on the coordinator, once all members have told their states. The decision takes effect when the view is
    /// installed, here as elsewhere.
    pub fn decide(
        &mut self,
        ballot: ViewId,
        states: &BTreeMap<NodeId, Vec<u8>>,
        primary: bool,
    ) -> Vec<u8> {
        let states: Vec<(NodeId, MemberState)> = self
            .ranks
            .iter()
            .filter_map(|id| Some((*id, wire::decode(states.get(id)?).ok()?)))
            .collect();
        let own_vips: Vec<VipId> = self.slots.keys().copied().collect();
        let plan = Plan::new(&states, &own_vips, self.fingerprint, primary);
        let decision = wire::encode(&plan.decision());
        self.prepared = Some((ballot, plan));
        decision
    }

    /// A view is installed. Whether it is `primary` the group knows better than the coordinator that decided: an operator may have forced
    /// another primary view here since our accept. `left` are those members of the one before that have said that they have released everything.
    pub fn handle_view(
        &mut self,
        id: ViewId,
        decision: &[u8],
        primary: bool,
        left: &BTreeSet<NodeId>,
        now: Instant,
    ) {
        let Ok(decision) = wire::decode::<Decision>(decision) else { return };
        let before = self.members().to_vec();
        let earlier: BTreeSet<NodeId> = before.iter().map(|member| member.id).collect();
        let somebody_joined =
            decision.members.iter().any(|member| before.iter().all(|b| b.id != member.id));
        let stays = |id| decision.members.iter().any(|member| member.id == id);
        let somebody_vanished =
            before.iter().any(|member| !left.contains(&member.id) && !stays(member.id));
        let plan = self.prepared.take().and_then(|(ballot, plan)| (ballot == id).then_some(plan));
        self.frozen = false;
        let is_coordinator = plan.is_some();
        self.view = Some(AgentView {
            id,
            members: before,
            number: 0,
            primary,
            plan,
            balance_at: is_coordinator.then_some(now + self.balance.interval),
        });
        // Whatever was to be told of the last view is in the states that led to this one.
        self.holding = Holding::default();
        if !self.mature && self.mature_at.is_none() {
            self.mature_at = Some(now + self.mature_after);
        }
        self.learn_members(decision.members.clone());
        if somebody_joined {
            self.slots.values_mut().for_each(Slot::forget_who_went_first);
            self.able_at = self.slots.values().filter_map(|slot| slot.unable_until).min();
        }
        self.adopt(&decision, &earlier, left, now);
        self.restate_desired();
        if somebody_vanished {
            // Whoever has just gone may find free what is ours and not there yet.
            let me = self.me;
            let unsettled = |slot: &&Slot| {
                slot.owner == Some(me) && (slot.vanished || slot.local == Local::Wanted)
            };
            let unsettled: Vec<VipId> =
                self.slots.values().filter(unsettled).map(|slot| slot.vip.id()).collect();
            if !unsettled.is_empty() {
                self.ask_again(unsettled);
            }
        }
        // Whoever comes (back) may have answered for what we hold, and its word may have been the last. Whoever vanished lives
        // on, perhaps, and may have found what we hold free: if we were stopped by a hypervisor, without a clock to show it.
        if somebody_joined || somebody_vanished && self.precautions.tells_the_vanished() {
            self.announce.extend(
                self.slots.iter().filter(|(_, s)| s.local == Local::Held).map(|(&vip, _)| vip),
            );
        }
        if self.stated.take() != Some(self.current_report()) {
            self.report(now);
        }
    }

    /// Takes over owners and holders from a decision.
    fn adopt(
        &mut self,
        decision: &Decision,
        before: &BTreeSet<NodeId>,
        left: &BTreeSet<NodeId>,
        now: Instant,
    ) {
        let listed: Vec<VipId> = match &decision.vips {
            VipList::Listed(vips) => vips.clone(),
            VipList::Fingerprint(f) if *f == self.fingerprint => {
                self.slots.keys().copied().collect()
            }
            VipList::Fingerprint(_) => Vec::new(),
        };
        // Whoever is not among us may have taken what was free or let go of: on a segment that the last holder did not
        // see, and that may have come together with ours since. A leave is good for this change only, as whoever has left
        // may start again where we do not hear it.
        let is_member = |id: &NodeId| decision.members.iter().any(|member| member.id == *id);
        let nobody_is_away = self.holders.iter().all(is_member);
        let nobody_vanished =
            before.iter().chain(&self.holders).all(|id| left.contains(id) || is_member(id));
        let primary = self.view.as_ref().is_some_and(|view| view.primary);
        let member = |position: u8| decision.members.get(usize::from(position)).map(|m| m.id);
        for (vip, verdict) in listed.iter().zip(&decision.verdicts) {
            let owner = verdict.owner.filter(|_| primary).and_then(member);
            let holders: BTreeSet<NodeId> =
                verdict.holders.iter().filter_map(|&position| member(position)).collect();
            let me = self.me;
            let precautions = self.precautions;
            let Some(slot) = self.slots.get_mut(vip) else { continue };
            let former = slot.owner.filter(|&former| former != me);
            // Whoever only owned it, and waited for somebody else to let go, has released nothing.
            let all_left = former
                .is_some_and(|f| left.contains(&f) && slot.other_holders.contains(&f))
                && slot.other_holders.iter().all(|holder| left.contains(holder));
            // Also those of the views before: nobody has held it since.
            slot.clear_from.extend(former);
            slot.clear_from.retain(|former| !left.contains(former) && !is_member(former));
            let held_by_us = holders.contains(&me);
            let others: BTreeSet<NodeId> = holders.into_iter().filter(|&h| h != me).collect();
            slot.early_permission = false;
            slot.let_go = false;
            slot.declined = false;
            slot.permission = match owner {
                Some(owner) if owner == me => {
                    if others.is_empty() {
                        Permission::Here
                    } else {
                        Permission::Awaiting(others.clone())
                    }
                }
                _ if held_by_us => Permission::Owed,
                _ => Permission::None,
            };
            slot.free = others.is_empty() && nobody_vanished && (slot.free || all_left);
            slot.other_holders = others;
            // Those who said that they hold it confirm their releases, unless they say otherwise.
            slot.handed_over = all_left || matches!(slot.permission, Permission::Awaiting(_));
            slot.cleared = slot.free
                || nobody_is_away && matches!(slot.permission, Permission::Awaiting(_))
                || precautions.none_for(&slot.clear_from);
            // What we told as held may have been let go of since: then it is not kept but taken again.
            let kept = match slot.permission {
                Permission::Awaiting(_) => slot.is_there(),
                _ => matches!(slot.local, Local::Wanted | Local::Held),
            };
            let kept = kept || owner != Some(me);
            let reason = match verdict.reason {
                Reason::Kept if !kept => Reason::Uncovered,
                reason => reason,
            };
            self.set_owner(*vip, owner, reason, now);
            // What was told as held may have been let go of meanwhile.
            if self.slots.get(vip).is_some_and(|slot| slot.permission == Permission::Owed) {
                self.hand_over(*vip);
            }
        }
    }

    fn set_owner(&mut self, vip: VipId, owner: Option<NodeId>, reason: Reason, now: Instant) {
        let Some(slot) = self.slots.get_mut(&vip) else { return };
        let previous = slot.owner;
        if previous == owner {
            slot.reason = lasting(reason, Some(slot.reason));
            return;
        }
        slot.previous_owner = slot.owner.or(slot.previous_owner);
        slot.owner = owner;
        slot.reason = reason;
        slot.owned_since = now;
        self.event(Event::Assigned { vip, owner, previous, reason });
    }

    fn learn_members(&mut self, members: Vec<MemberInfo>) {
        let mut news = Vec::new();
        for member in &members {
            let was_mature = self.members().iter().any(|m| m.id == member.id && m.mature);
            if member.id == self.me {
                if member.mature && !self.mature {
                    self.mature = true;
                    self.mature_at = None;
                    news.push(Event::Matured { node: member.id });
                }
            } else if member.mature && !was_mature {
                news.push(Event::Matured { node: member.id });
            }
            let differed = self
                .members()
                .iter()
                .any(|m| m.id == member.id && m.fingerprint == member.fingerprint);
            if member.fingerprint != self.fingerprint && !differed {
                news.push(Event::ConfigurationDiffers { node: member.id });
            }
        }
        self.saw_mature |= members.iter().any(|member| member.mature);
        if let Some(view) = &mut self.view {
            view.members = members;
        }
        for event in news {
            self.event(event);
        }
    }

    /// This node is in no view any more: it lets go of everything.
    pub fn handle_view_lost(&mut self, now: Instant) {
        self.view = None;
        self.frozen = false;
        self.holding = Holding::default();
        for vip in self.slots.keys().copied().collect::<Vec<_>>() {
            if let Some(slot) = self.slots.get_mut(&vip) {
                slot.permission = Permission::None;
                slot.early_permission = false;
                slot.other_holders.clear();
                slot.free = false;
                slot.handed_over = false;
                slot.cleared = false;
            }
            self.set_owner(vip, None, Reason::NoView, now);
        }
        self.restate_desired();
    }

    /// A message of a member of the view. Between accept and install nothing is taken into account that would move a VIP:
    /// the states that decide the next view are on their way.
    pub fn handle_message(&mut self, from: NodeId, bytes: &[u8], now: Instant) {
        let Ok(message) = wire::decode::<AgentMessage>(bytes) else { return };
        match message {
            AgentMessage::Report(report) => self.handle_report(from, &report, now),
            AgentMessage::Update(update) => self.handle_update(from, &update, now),
            AgentMessage::Holding(holding) => self.handle_holding(from, &holding, now),
        }
    }

    pub(super) fn handle_report(&mut self, from: NodeId, report: &Report, now: Instant) {
        let interval = self.balance.interval;
        let frozen = self.frozen;
        let update = self.view.as_mut().and_then(|view| {
            let update = view.plan.as_mut().filter(|_| !frozen)?.handle_report(from, report)?;
            view.balance_at = Some(now + interval);
            Some(update)
        });
        if let Some(update) = update {
            self.publish(&update, now);
        }
    }

    pub(super) fn balance_if_due(&mut self, now: Instant) {
        let (interval, rate) = (self.balance.interval, self.balance.moves_per_round);
        let Some(view) = &mut self.view else { return };
        let (Some(at), Some(plan)) = (view.balance_at, &mut view.plan) else { return };
        if now < at {
            return;
        }
        if self.frozen {
            view.balance_at = Some(now + interval);
            return;
        }
        let moving = plan.is_moving();
        let update = plan.balance(rate);
        // Another round follows while there was something to do, or something stood still that may have to move.
        view.balance_at = (update.is_some() || moving).then_some(now + interval);
        if let Some(update) = update {
            self.event(Event::BalanceRound { moves: update.changes.len() });
            self.publish(&update, now);
        }
    }

    /// Sends an update to the members and follows it.
    fn publish(&mut self, update: &Update, now: Instant) {
        let me = self.me;
        let others: Vec<NodeId> =
            self.members().iter().map(|member| member.id).filter(|&id| id != me).collect();
        let message = AgentMessage::Update(update.clone());
        for to in others {
            self.send(to, &message);
        }
        self.apply(update, now);
    }

    fn handle_update(&mut self, from: NodeId, update: &Update, now: Instant) {
        let Some(view) = &self.view else { return };
        let from_coordinator = view.id.coordinator == from;
        if self.frozen || !view.primary || !from_coordinator || update.number <= view.number {
            return;
        }
        // What happened before this update is told as such.
        self.tell_holding(now);
        self.apply(update, now);
    }

    fn apply(&mut self, update: &Update, now: Instant) {
        if let Some(view) = &mut self.view {
            view.number = update.number;
        }
        self.learn_members(update.members.clone());
        for change in &update.changes {
            self.apply_change(change, now);
        }
        self.restate_desired();
        // Those of whom nothing is on this machine can be handed on at once.
        for change in &update.changes {
            if self.slots.get(&change.vip).is_some_and(|s| s.permission == Permission::Owed) {
                self.hand_over(change.vip);
            }
        }
    }

    fn apply_change(&mut self, change: &Change, now: Instant) {
        let (me, precautions) = (self.me, self.precautions);
        let nobody_is_away = self.nobody_is_away();
        let Some(slot) = self.slots.get_mut(&change.vip) else { return };
        if change.to == me {
            let here = core::mem::take(&mut slot.early_permission);
            let clear = core::mem::replace(&mut slot.early_clear, false);
            // Whoever hands it over confirms the release first.
            slot.handed_over = change.from.is_some_and(|from| from != me) && (clear || !here);
            slot.cleared = nobody_is_away && slot.handed_over
                || slot.free
                || precautions.none_for(&slot.clear_from);
            slot.permission = match change.from {
                Some(from) if from != me && !here => Permission::Awaiting(BTreeSet::from([from])),
                _ => Permission::Here,
            };
        } else if change.from == Some(me) && !matches!(slot.permission, Permission::Awaiting(_)) {
            // A permission that is still on its way to us is passed on when it comes.
            slot.permission = Permission::Owed;
        }
        self.set_owner(change.vip, Some(change.to), change.reason, now);
    }

    /// Keeps the coordinator's book on what everybody's kernel answers for.
    pub(super) fn book_holding(&mut self, from: NodeId, holding: &Holding, now: Instant) {
        let frozen = self.frozen;
        let plan = self.view.as_mut().and_then(|view| view.plan.as_mut()).filter(|_| !frozen);
        if let Some(update) = plan.and_then(|plan| plan.handle_holding(from, holding)) {
            self.publish(&update, now);
        }
    }

    fn handle_holding(&mut self, from: NodeId, holding: &Holding, now: Instant) {
        self.book_holding(from, holding, now);
        let nobody_is_away = self.nobody_is_away();
        for vip in &holding.acquired {
            if let Some(slot) = self.slots.get_mut(vip) {
                slot.other_holders.insert(from);
                slot.clear_from.clear();
                slot.free = false;
                slot.let_go = false;
            }
        }
        for released in &holding.released {
            if let Some(slot) = self.slots.get_mut(&released.vip) {
                slot.other_holders.remove(&from);
                slot.free = nobody_is_away
                    && released.clear
                    && slot.other_holders.is_empty()
                    && slot.local == Local::Absent;
            }
            if released.next == Some(self.me) {
                self.receive_permission(from, released);
            }
        }
        self.restate_desired();
    }

    fn receive_permission(&mut self, from: NodeId, released: &HandedOver) {
        let (me, precautions) = (self.me, self.precautions);
        let nobody_is_away = self.nobody_is_away();
        let Some(slot) = self.slots.get_mut(&released.vip) else { return };
        let Permission::Awaiting(others) = &mut slot.permission else {
            slot.early_permission |= slot.owner != Some(me);
            slot.early_clear = released.clear;
            return;
        };
        others.remove(&from);
        slot.handed_over &= released.clear;
        slot.cleared &= released.clear && nobody_is_away || precautions.none_for(&slot.clear_from);
        if !others.is_empty() {
            return;
        }
        if slot.owner != Some(me) {
            slot.permission = Permission::Owed;
            if slot.local == Local::Absent {
                self.hand_over(released.vip);
            }
            return;
        }
        slot.permission = Permission::Here;
        slot.cleared |= slot.local == Local::Held;
        if slot.local == Local::Held {
            // We held it all along, and so did others until now: the segment may point at any of them.
            self.holding.acquired.push(released.vip);
            self.announce.insert(released.vip);
        }
    }
}
