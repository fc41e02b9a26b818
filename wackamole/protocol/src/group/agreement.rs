//! Agreement on a view: propose, accept or refuse, install. docs/protocol.md, "Agreement".
//!
//! Ballots order by (epoch, coordinator). A member accepts only a ballot greater than its highest, and one that drops a
//! member to which it owes a promise only when the promise is over. What it has accepted it keeps to: a lower install is
//! ignored.

use std::collections::BTreeMap;

use crate::config::Partition;
use crate::event::Event;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};
use crate::vote::Claim;

use super::message::{GroupMessage, MemberKey, Refusal};
use super::send::micros;
use super::{EARLY_MESSAGES_MAX, EPOCH_STEP, Group, GroupOutput, InstalledView};

/// How often a proposal that was refused for a better set is tried again at the pace of heartbeats: those who see a
/// machine die a moment later than we do agree with us by then.
const BETTER_RETRIES: u32 = GONE_RETRIES + 4;

/// Pauses after refusals for a vote double this many times, up to two heartbeats.
const VOTES_DOUBLINGS: u32 = 4;

/// How often one that drops nobody but those who have left is tried again at once before that.
const GONE_RETRIES: u32 = 4;

/// The highest ballot accepted.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) ballot: ViewId,
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    pub(super) at: Instant,
    /// It was proposed no earlier than this.
    pub(super) proposed_since: Option<Instant>,
    /// For how long its proposer promises.
    pub(super) promise: Duration,
    /// The latest datagram that we had heard of each other member when we accepted, by its number.
    heard: BTreeMap<NodeId, u64>,
    /// Not installed yet: the agent acquires nothing.
    pub(super) awaits_install: bool,
}

/// A ballot about to be accepted.
pub(super) struct Accepting {
    pub(super) ballot: ViewId,
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    /// For how long its proposer promises.
    pub(super) promise: Duration,
    /// It was proposed no earlier than this.
    pub(super) proposed_since: Option<Instant>,
}

/// A ballot that was accepted before the highest one, and not installed here.
#[derive(Clone, Debug)]
pub(super) struct EarlierAccept {
    members: BTreeMap<NodeId, Incarnation>,
    /// Nobody installs it from then on, if nobody has.
    until: Instant,
}

/// This node's own attempt.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) ballot: ViewId,
    members: BTreeMap<NodeId, Incarnation>,
    states: BTreeMap<NodeId, Vec<u8>>,
    /// Whom each member had heard when it accepted.
    heard: BTreeMap<NodeId, BTreeMap<NodeId, u64>>,
    /// The shortest promise told so far.
    promise_us: u32,
    /// The view may hold VIPs.
    primary: bool,
}

/// Somebody's proposal.
#[derive(Clone, Debug)]
struct Offer {
    from: NodeId,
    ballot: ViewId,
    members: BTreeMap<NodeId, Incarnation>,
    digest: u64,
    promise: Duration,
    /// The latest datagram of ours that the proposer had heard.
    heard: Option<u64>,
    claim: Option<Claim>,
}

/// Members whose view was refused.
#[derive(Clone, Debug)]
pub(super) struct HeldOff {
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    /// When they may be proposed again in any case.
    pub(super) until: Instant,
    /// Who refused because it heard somebody else: when it says that it does not any more, nothing is left to wait for.
    pub(super) while_heard_by: Option<NodeId>,
}

/// A newcomer that has refused to be in a view with us.
#[derive(Clone, Debug)]
pub(super) struct NotYet {
    /// When it may be asked again in any case.
    pub(super) until: Instant,
    /// Those whom it refused.
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    /// The view that it was in then.
    pub(super) view: ViewId,
    /// It heard somebody else then, and that is why.
    pub(super) hears_more: bool,
}

/// A proposal that will be looked at again when a promise ends.
#[derive(Clone, Debug)]
pub(super) struct Deferred {
    offer: Offer,
    pub(super) until: Instant,
}

/// What goes with an install.
struct Standing {
    promise_us: u32,
    /// The latest of our datagrams that each other member had heard when it accepted.
    heard: BTreeMap<NodeId, u64>,
    primary: bool,
}

/// What a member tells with its accept.
struct Ayes {
    promise_us: u32,
    heard: BTreeMap<NodeId, u64>,
    state: Vec<u8>,
}

/// What to do with a proposal.
enum Answer {
    Accept,
    Wait(Duration),
    Refuse(Refusal),
}

impl Group {
    pub(super) fn highest_accepted(&self) -> ViewId {
        self.accepted.as_ref().map_or(ViewId::NONE, |accepted| accepted.ballot)
    }

    /// Members of the highest ballot accepted: those to whom an echo is a promise.
    pub(super) fn accepted_members(&self) -> Option<&BTreeMap<NodeId, Incarnation>> {
        self.accepted.as_ref().map(|accepted| &accepted.members)
    }

    pub(super) fn handle_message(&mut self, from: NodeId, message: GroupMessage, now: Instant) {
        match message {
            GroupMessage::Propose { ballot, members, digest, promise_us, heard, claim } => {
                let members: BTreeMap<NodeId, Incarnation> = members.into_iter().collect();
                self.epoch = self.epoch.max(ballot.epoch);
                if ballot.coordinator == from {
                    if let Some(claim) = &claim {
                        self.learn_record(from, Some(claim.record.clone()), now);
                    }
                    let promise = Duration::from_micros(promise_us.into());
                    let heard = heard.into_iter().find(|(id, _)| *id == self.me).map(|(_, n)| n);
                    let offer = Offer { from, ballot, members, digest, promise, heard, claim };
                    self.handle_propose(offer, now);
                }
            }
            GroupMessage::Accept { ballot, promise_us, heard, record, state } => {
                if self.proposal.as_ref().is_some_and(|proposal| proposal.ballot == ballot) {
                    self.count_vote(from, record.as_ref());
                }
                self.learn_record(from, record, now);
                let heard = heard.into_iter().collect();
                self.handle_accept(from, ballot, Ayes { promise_us, heard, state });
            }
            GroupMessage::Refuse { ballot, highest, why, record } => {
                self.learn_record(from, record, now);
                self.handle_refuse(from, ballot, highest, why, now);
            }
            GroupMessage::Install { view, members, promise_us, heard, primary, decision } => {
                if view.coordinator == from {
                    let heard = heard.into_iter().collect();
                    let standing = Standing { promise_us, heard, primary };
                    self.install(view, members.into_iter().collect(), standing, decision, now);
                }
            }
            GroupMessage::Vote { record } => self.handle_vote(from, record, now),
            GroupMessage::Agent { view, bytes } => self.handle_agent_message(from, view, bytes),
        }
    }

    /// Starts an attempt of our own. Our own promises bind us like everybody else's.
    pub(super) fn propose(&mut self, members: BTreeMap<NodeId, Incarnation>, now: Instant) {
        let debt = self.largest_debt(&members, now);
        if debt > Duration::ZERO {
            self.freeze_promises(&members, now);
            self.hold_off(members, debt, None, now);
            self.attempt_at = Some(now + debt);
            return;
        }
        self.epoch = self.next_epoch();
        let ballot = ViewId { epoch: self.epoch, coordinator: self.me };
        self.event(Event::Proposed { ballot, members: members.keys().copied().collect() });
        self.deferred = None;
        self.drop_proposal();
        let claim = self.attempt_primary(ballot, &members);
        let primary = self.safety.partition != Partition::Quorum || claim.is_some();
        self.proposal = Some(Proposal {
            ballot,
            members: members.clone(),
            states: BTreeMap::new(),
            heard: BTreeMap::new(),
            promise_us: u32::MAX,
            primary,
        });
        let keys: Vec<MemberKey> = members.iter().map(|(&id, &i)| (id, i)).collect();
        let promise = self.timing.failure_timeout;
        let message = GroupMessage::Propose {
            ballot,
            members: keys,
            digest: self.digest,
            promise_us: micros(promise),
            heard: self.heard_of(&members).into_iter().collect(),
            claim,
        };
        self.send_to_members(&members, &message, now);
        let proposed_since = Some(now);
        self.accept(Accepting { ballot, members, promise, proposed_since }, self.digest, now);
        self.attempt_at = Some(now + self.timing.failure_timeout);
    }

    /// The next epoch that is this start's own: of two starts of a node no two views have one name, also if the earlier one
    /// had heard of epochs beyond the first of the later one. A member that claims the last epoch of all stops the agreement,
    /// not the daemon.
    fn next_epoch(&self) -> u64 {
        let mine = u64::from(self.incarnation.counter()) % EPOCH_STEP;
        let behind = (self.epoch % EPOCH_STEP + EPOCH_STEP - mine) % EPOCH_STEP;
        self.epoch.saturating_add(EPOCH_STEP - behind)
    }

    fn send_to_members(
        &mut self,
        members: &BTreeMap<NodeId, Incarnation>,
        message: &GroupMessage,
        now: Instant,
    ) {
        for &id in members.keys() {
            if id != self.me {
                self.send_message(id, message, now);
            }
        }
    }

    /// The latest datagram of each of the others for which a promise to it counts, by its number.
    pub(super) fn heard_of(
        &self,
        members: &BTreeMap<NodeId, Incarnation>,
    ) -> BTreeMap<NodeId, u64> {
        members
            .keys()
            .filter_map(|&id| Some((id, self.peers.get(&id)?.backed_sequence())))
            .collect()
    }

    fn accept(&mut self, accepting: Accepting, digest: u64, now: Instant) {
        let Accepting { ballot, members, promise, proposed_since } = accepting;
        if self.proposal.as_ref().is_some_and(|proposal| proposal.ballot < ballot) {
            self.drop_proposal();
        }
        self.remember_earlier_accept(now);
        let heard = self.heard_of(&members);
        let awaits_install = true;
        let accepted =
            Accepted { ballot, members, at: now, proposed_since, promise, heard, awaits_install };
        self.note_vote(&accepted);
        self.accepted = Some(accepted);
        self.wanted_since = Some(now);
        self.dirty = true;
        self.overtake();
        self.event(Event::Accepted { ballot });
        self.outputs.push_back(GroupOutput::StateWanted { ballot, digest });
    }

    /// The agent's state for a ballot that was accepted.
    pub fn provide_state(&mut self, ballot: ViewId, state: Vec<u8>, now: Instant) {
        if self.highest_accepted() != ballot {
            return;
        }
        if self.keep_for_the_disk(ballot, &state) {
            return;
        }
        let promise_us = micros(self.timing.failure_timeout);
        let heard = self.accepted.as_ref().map(|a| a.heard.clone()).unwrap_or_default();
        if ballot.coordinator == self.me {
            self.count_vote(self.me, None);
            self.handle_accept(self.me, ballot, Ayes { promise_us, heard, state });
        } else {
            let record = self.told_record();
            let heard = heard.into_iter().collect();
            let accept = GroupMessage::Accept { ballot, promise_us, heard, record, state };
            self.send_message(ballot.coordinator, &accept, now);
        }
    }

    fn handle_propose(&mut self, offer: Offer, now: Instant) {
        let ballot = offer.ballot;
        let proposed_since = offer.heard.and_then(|sequence| self.sent_at(sequence));
        let accepting = Accepting {
            ballot,
            members: offer.members.clone(),
            promise: offer.promise,
            proposed_since,
        };
        let mut answer = self.answer(ballot, &offer.members, now);
        if let (Answer::Accept, Some(claim)) = (&answer, &offer.claim) {
            if self.would_cost_the_lease(&accepting, now) {
                answer = Answer::Refuse(Refusal::Unheard);
            } else if !self.vote_for(ballot, &offer.members, claim) {
                answer = Answer::Refuse(Refusal::Votes);
            }
        }
        match answer {
            Answer::Accept => {
                self.deferred = None;
                self.accept(accepting, offer.digest, now);
            }
            Answer::Wait(debt) => {
                if self.deferred.as_ref().is_none_or(|deferred| deferred.offer.ballot < ballot) {
                    self.deferred = Some(Deferred { offer, until: now + debt });
                }
            }
            Answer::Refuse(why) => {
                if let Refusal::Debt { .. } = why {
                    self.freeze_promises(&offer.members, now);
                }
                self.event(Event::Refused { ballot, by: self.me, why: why.phrase() });
                let highest = self.highest_accepted();
                let record = self.told_record();
                let refuse = GroupMessage::Refuse { ballot, highest, why, record };
                self.send_message(offer.from, &refuse, now);
            }
        }
    }

    fn answer(
        &self,
        ballot: ViewId,
        members: &BTreeMap<NodeId, Incarnation>,
        now: Instant,
    ) -> Answer {
        if ballot <= self.highest_accepted() {
            return Answer::Refuse(Refusal::Outbid);
        }
        if members.get(&self.me) != Some(&self.incarnation) {
            return Answer::Refuse(Refusal::NotMe);
        }
        // Whatever our own loop missed: what a member is promised with this counts from when it was heard, or from when we ceased to
        // renew it. As long as less than half of it is left to one of them, the others would count on more than there is.
        let half = self.timing.failure_timeout / 2;
        let heard = |id: &NodeId, incarnation: &Incarnation| {
            self.peers.get(id).is_some_and(|peer| {
                peer.incarnation == Some(*incarnation)
                    && peer.is_heard(&self.timing, now)
                    && peer.debt(&self.timing, now) > half
            })
        };
        if members.iter().any(|(id, i)| *id != self.me && !heard(id, i)) {
            return Answer::Refuse(Refusal::Unheard);
        }
        if self.would_rival_a_view(members) {
            return Answer::Refuse(Refusal::Better);
        }
        let debt = self.largest_debt(members, now);
        if debt == Duration::ZERO {
            return Answer::Accept;
        }
        // docs/protocol.md, "Promises": a debt that is nearly over is waited out. It is the rule when a machine dies,
        // because every member has heard it last at another moment.
        if debt <= self.timing.heartbeat * 5 / 4 {
            return Answer::Wait(debt);
        }
        if !self.is_worth_a_member(ballot.coordinator, members, now) {
            return Answer::Refuse(Refusal::Better);
        }
        let remaining_us = u32::try_from(debt.as_micros()).unwrap_or(u32::MAX);
        Answer::Refuse(Refusal::Debt { remaining_us })
    }

    /// Whether a view of `members` justifies that a live member of ours is dropped. Within our view one of two who do not
    /// hear each other has to go. To join others the result must be strictly larger than what we have, and no worse than
    /// the best that we know; of two that are equally large the one with the lower ranks wins everywhere.
    fn is_worth_a_member(
        &self,
        proposer: NodeId,
        members: &BTreeMap<NodeId, Incarnation>,
        now: Instant,
    ) -> bool {
        let best = self.best_set(now);
        let is_ours = self.view.as_ref().is_some_and(|view| view.members.contains_key(&proposer));
        let survivors = best.keys().filter(|&&id| id == self.me || self.is_present(id)).count();
        let ranks = |set: &BTreeMap<NodeId, Incarnation>| -> Vec<bool> {
            self.ranks.iter().map(|id| !set.contains_key(id)).collect()
        };
        (is_ours || members.len() > survivors)
            && (members.len() > best.len()
                || members.len() == best.len() && ranks(members) <= ranks(&best))
    }

    /// The ballot that was the highest until now may be installed by others yet, with our accept.
    fn remember_earlier_accept(&mut self, now: Instant) {
        self.earlier_accepts.retain(|earlier| now < earlier.until);
        let Some(earlier) = self.accepted.take_if(|accepted| accepted.awaits_install) else {
            return;
        };
        if earlier.ballot.coordinator == self.me {
            return; // given up with this
        }
        let until = earlier.at + self.timing.failure_timeout.max(earlier.promise);
        match self.earlier_accepts.iter_mut().find(|known| known.members == earlier.members) {
            Some(known) => known.until = known.until.max(until),
            None => {
                self.earlier_accepts.push(EarlierAccept { members: earlier.members, until });
            }
        }
    }

    /// Whether a view without this start of a peer may yet be installed with an accept of ours. As long as that is so an echo must
    /// promise the peer nothing: another member may be keeping a promise to it until then, and from then on ours would stand in
    /// for that one, although both of us have agreed to go on without it.
    pub(super) fn may_go_on_without(
        &self,
        id: NodeId,
        incarnation: Incarnation,
        now: Instant,
    ) -> bool {
        let mut earlier = self.earlier_accepts.iter().filter(|earlier| now < earlier.until);
        earlier.any(|earlier| earlier.members.get(&id) != Some(&incarnation))
    }

    /// Looks again at a proposal whose obstacle may be gone.
    pub(super) fn revisit_deferred(&mut self, now: Instant) {
        if let Some(deferred) = self.deferred.take_if(|deferred| now >= deferred.until) {
            self.handle_propose(deferred.offer, now);
        }
    }

    fn handle_accept(&mut self, from: NodeId, ballot: ViewId, ayes: Ayes) {
        let Ayes { promise_us, heard, state } = ayes;
        let Some(proposal) = &mut self.proposal else { return };
        if proposal.ballot != ballot || !proposal.members.contains_key(&from) {
            return;
        }
        proposal.states.insert(from, state);
        proposal.heard.insert(from, heard);
        proposal.promise_us = proposal.promise_us.min(promise_us);
        if proposal.states.len() == proposal.members.len() {
            let states = core::mem::take(&mut proposal.states);
            let primary = proposal.primary;
            self.outputs.push_back(GroupOutput::DecisionWanted { ballot, states, primary });
        }
    }

    fn handle_refuse(
        &mut self,
        from: NodeId,
        ballot: ViewId,
        highest: ViewId,
        why: Refusal,
        now: Instant,
    ) {
        self.epoch = self.epoch.max(highest.epoch);
        if self.proposal.as_ref().is_none_or(|proposal| proposal.ballot != ballot) {
            return;
        }
        self.event(Event::Refused { ballot, by: from, why: why.phrase() });
        let heartbeat = self.timing.heartbeat;
        let pause = match why {
            // Whoever outbid us is at work; the lower rank tries again first.
            Refusal::Outbid => heartbeat / 4 * (1 + self.rank()),
            Refusal::NotMe | Refusal::Unheard => heartbeat / 2,
            // It has told what it knows; with that the next attempt is another one. Those who accepted this one tell what they know
            // when it is on their disks: whoever does not wait for that is refused by them the next time, and so on for ever.
            Refusal::Votes => heartbeat / 8 * (1 << self.refusals.min(VOTES_DOUBLINGS)),
            // Whoever has left told everybody. The refuser has not got its turn to read it yet.
            Refusal::Better if self.refusals < GONE_RETRIES && self.drops_only_the_gone() => {
                heartbeat / 16
            }
            // The refuser may learn within a heartbeat what we know; if it then still refuses it knows more than we do.
            Refusal::Better if self.refusals < BETTER_RETRIES => heartbeat,
            Refusal::Better => self.timing.failure_timeout,
            Refusal::Debt { remaining_us } => Duration::from_micros(remaining_us.into()),
        };
        // The attempt is over; those who accepted it wait for a higher ballot.
        if let Some(proposal) = self.proposal.clone() {
            self.drop_proposal();
            self.refusals += 1;
            let bound_elsewhere = matches!(why, Refusal::Better | Refusal::Debt { .. });
            let better = matches!(why, Refusal::Better);
            let hears_more = better && self.hears_others(from, &proposal.members);
            if bound_elsewhere && !self.is_present(from) {
                // A newcomer that is not free yet keeps nobody waiting.
                let view = self.peers.get(&from).map_or(ViewId::NONE, |peer| peer.view);
                let members = proposal.members;
                self.not_yet.insert(from, NotYet { until: now + pause, members, view, hears_more });
            } else {
                self.hold_off(proposal.members, pause, hears_more.then_some(from), now);
            }
        }
        self.dirty = true;
    }

    /// Whether everybody whom our proposal takes out of the view has left, or has been started anew.
    fn drops_only_the_gone(&self) -> bool {
        let (Some(view), Some(proposal)) = (&self.view, &self.proposal) else { return false };
        let dropped = view.members.iter().filter(|&(id, i)| proposal.members.get(id) != Some(i));
        dropped.into_iter().all(|(id, incarnation)| {
            self.peers
                .get(id)
                .is_some_and(|peer| peer.has_left() || peer.incarnation != Some(*incarnation))
        })
    }

    /// Does not propose these members again for a while. Other members may be proposed at any time.
    fn hold_off(
        &mut self,
        members: BTreeMap<NodeId, Incarnation>,
        pause: Duration,
        while_heard_by: Option<NodeId>,
        now: Instant,
    ) {
        self.held_off = Some(HeldOff { members, until: now + pause, while_heard_by });
    }

    /// Whether this peer says that it hears anybody but these.
    pub(super) fn hears_others(&self, id: NodeId, members: &BTreeMap<NodeId, Incarnation>) -> bool {
        self.peers.get(&id).is_some_and(|peer| {
            peer.row.iter().any(|(other, entry)| {
                *other != self.me && entry.heard && !members.contains_key(other)
            })
        })
    }

    fn rank(&self) -> u32 {
        let rank = self.ranks.iter().position(|&id| id == self.me).unwrap_or(0);
        u32::try_from(rank).unwrap_or(u32::MAX)
    }

    /// The coordinator's decision for a ballot that everybody accepted.
    pub fn provide_decision(&mut self, ballot: ViewId, decision: Vec<u8>, now: Instant) {
        let Some(proposal) = self.proposal.clone().filter(|proposal| proposal.ballot == ballot)
        else {
            return;
        };
        let over = self.is_acceptance_over(now);
        if self.highest_accepted() != ballot || over {
            self.drop_proposal();
            self.dirty |= over; // some took too long to answer: asked anew with a higher ballot
            return;
        }
        if self.votes.is_some() && proposal.primary && !self.form_primary(ballot) {
            self.drop_proposal();
            return;
        }
        self.proposal = None;
        let heard_of = |member: NodeId| -> BTreeMap<NodeId, u64> {
            let heard = proposal.heard.iter();
            heard.filter_map(|(&id, theirs)| Some((id, *theirs.get(&member)?))).collect()
        };
        let others = proposal.members.keys().copied().filter(|&id| id != self.me);
        for id in others.collect::<Vec<_>>() {
            let message = GroupMessage::Install {
                view: ballot,
                members: proposal.members.iter().map(|(&id, &i)| (id, i)).collect(),
                promise_us: proposal.promise_us,
                heard: heard_of(id).into_iter().collect(),
                primary: proposal.primary,
                decision: decision.clone(),
            };
            self.send_message(id, &message, now);
        }
        let standing = Standing {
            promise_us: proposal.promise_us,
            heard: heard_of(self.me),
            primary: proposal.primary,
        };
        self.install(ballot, proposal.members, standing, decision, now);
    }

    /// Whether what this node accepted was so long ago that those who accepted it too may have gone on without it: it
    /// may have been stopped meanwhile, or the install was late. Whoever installs goes on alone with old assignments then.
    fn is_acceptance_over(&self, now: Instant) -> bool {
        let patience = self.timing.failure_timeout.saturating_sub(self.timing.heartbeat);
        self.accepted
            .as_ref()
            .is_some_and(|accepted| accepted.members.len() > 1 && now >= accepted.at + patience)
    }

    fn install(
        &mut self,
        view: ViewId,
        members: BTreeMap<NodeId, Incarnation>,
        Standing { promise_us, heard, primary }: Standing,
        decision: Vec<u8>,
        now: Instant,
    ) {
        if self.is_acceptance_over(now) {
            return;
        }
        let Some(accepted) = &mut self.accepted else { return };
        if accepted.ballot != view || !accepted.awaits_install || accepted.members != members {
            return;
        }
        accepted.awaits_install = false;
        let promise = Duration::from_micros(promise_us.into());
        let left = self
            .view
            .iter()
            .flat_map(|before| before.members.keys())
            .filter(|id| self.peers.get(id).is_some_and(|peer| peer.has_left()))
            .copied()
            .collect();
        let promise = self.shortened(promise);
        let heard = heard.into_iter().filter(|(id, _)| members.contains_key(id));
        let owed_until =
            heard.filter_map(|(id, n)| Some((id, self.sent_at(n)? + promise))).collect();
        let primary = primary && self.note_formed(view);
        self.view = Some(InstalledView {
            id: view,
            members: members.clone(),
            at: now,
            primary,
            owed_until,
        });
        // Every earlier vote was known to this view's coordinator, or it would have been refused.
        self.voted.clear();
        self.earlier_accepts.clear();
        self.renew_lease(now);
        self.wanted_since = None;
        self.held_off = None;
        self.refusals = 0;
        for peer in self.peers.values_mut() {
            peer.frozen_at = None;
            peer.given_up_at = None;
        }
        self.give_up_messages_to_outsiders();
        self.hasten_heartbeat(now);
        self.dirty = true;
        let names = members.keys().copied().collect();
        self.event(Event::ViewInstalled { view, members: names, primary });
        self.outputs.push_back(GroupOutput::View { view, members, primary, decision, left });
        for (from, _, bytes) in
            core::mem::take(&mut self.early).into_iter().filter(|(_, id, _)| *id == view)
        {
            self.outputs.push_back(GroupOutput::Message { from, bytes });
        }
    }

    /// Delivers what belongs to the installed view, keeps what belongs to the one that is about to be.
    fn handle_agent_message(&mut self, from: NodeId, view: ViewId, bytes: Vec<u8>) {
        let installed = self.view.as_ref().filter(|installed| installed.id == view);
        let sender = self.incarnation_of(from);
        if installed.is_some_and(|installed| installed.members.get(&from) == sender.as_ref()) {
            self.outputs.push_back(GroupOutput::Message { from, bytes });
        } else if self.is_agreeing()
            && self.highest_accepted() == view
            && self.early.len() < EARLY_MESSAGES_MAX
        {
            self.early.push((from, view, bytes));
        }
    }
}
