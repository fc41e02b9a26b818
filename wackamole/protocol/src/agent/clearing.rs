//! What is not known to be free is asked about on its own segment before it is acquired. docs/protocol.md, "Clearing".
//!
//! A release that its holder has confirmed in our view needs no asking. Everything else may still be answered by a machine
//! that we do not hear: then it stays where it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::assignment::{Candidate, Member, MemberSet, assign};
use crate::config::{NodeConfig, Partition};
use crate::event::Event;
use crate::id::NodeId;
use crate::mac::MacAddress;
use crate::time::Instant;
use crate::vip::VipId;

use super::{Agent, AgentOutput, Local, Wanted};

/// What is done before an address is acquired whose release nobody has confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Precautions {
    /// The segment is probed.
    pub(super) probes: bool,
    /// A node that vanished is fenced.
    pub(super) fences: bool,
    /// Of two machines of different components that both use a VIP one yields.
    yields: bool,
}

impl Precautions {
    pub(super) fn new(config: &NodeConfig) -> Self {
        let lan = config.safety.partition == Partition::Lan;
        Self { probes: lan, fences: config.safety.fences_nodes, yields: lan }
    }

    /// Whoever is gone from the view may hear on the segment what we hold; only where one of two yields that is of use.
    pub(super) fn tells_the_vanished(self) -> bool {
        self.yields
    }

    /// Whether a VIP whose release nobody has confirmed, lost with `vanished`, may be acquired without more ado.
    pub(super) fn none_for(self, vanished: &BTreeSet<NodeId>) -> bool {
        !(self.probes || self.fences && !vanished.is_empty())
    }
}

impl Agent {
    /// Tells what is to be asked about, if that changed.
    pub(super) fn restate_clearing(&mut self) {
        let (me, frozen, restraint) = (self.me, self.frozen || self.gave_up, self.restraint());
        let wanted: BTreeMap<VipId, Wanted> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.wants_clearing(me, restraint))
            .map(|(&vip, slot)| (vip, Wanted { from: slot.clear_from.clone() }))
            .collect();
        for (vip, slot) in &mut self.slots {
            if !wanted.contains_key(vip) && !frozen {
                slot.occupied_by = None;
            }
        }
        let to_clear = (self.suspected.clone(), wanted);
        if to_clear != self.to_clear {
            self.to_clear = to_clear;
            let (suspected, wanted) = self.to_clear.clone();
            self.outputs.push_back(AgentOutput::Clear { suspected, wanted });
        }
    }

    /// Members are suspected: whoever would be their heir begins to probe, so that it costs no time if they are gone.
    pub fn handle_suspects(&mut self, suspects: BTreeSet<NodeId>) {
        self.suspects = suspects;
        self.suspected = if self.precautions.probes { self.prospects() } else { BTreeMap::new() };
        self.restate_clearing();
    }

    /// The VIPs that would be ours if the suspects were gone, by what we know of the others. If the coordinator decides
    /// otherwise its choice probes a moment later; nothing but time depends on this. With each, whether a node that we do
    /// not hear may want it too: members agree who is the heir, and pay no heed to each other's guesses.
    fn prospects(&self) -> BTreeMap<VipId, bool> {
        let members: Vec<Member> = self
            .members()
            .iter()
            .filter(|member| !self.suspects.contains(&member.id))
            .map(|member| Member {
                id: member.id,
                weight: member.weight,
                mature: member.mature,
                draining: member.draining,
            })
            .collect();
        let all = || (0..members.len()).collect::<MemberSet>();
        let mine = members.iter().position(|member| member.id == self.me);
        let candidates: Vec<Candidate> = self
            .slots
            .iter()
            .map(|(&vip, slot)| Candidate {
                vip,
                known_by: all(),
                held_by: slot
                    .owner
                    .and_then(|owner| members.iter().position(|member| member.id == owner))
                    .into_iter()
                    .collect(),
                preferred: slot.preferred.clone(),
                unable: mine.filter(|_| slot.is_unable()).into_iter().collect(),
                locked: None,
            })
            .collect();
        let lost =
            |vip: &VipId| self.slots[vip].owner.is_some_and(|owner| self.suspects.contains(&owner));
        let away = |id: &&NodeId| {
            self.suspects.contains(*id) || self.members().iter().all(|member| member.id != **id)
        };
        let away: BTreeSet<NodeId> = self.holders.iter().filter(away).copied().collect();
        let rivals = |vip: &VipId| away.iter().any(|&id| self.slots[vip].owner != Some(id));
        assign(&members, &candidates)
            .into_iter()
            .filter(|(vip, ownership)| ownership.owner == self.me && lost(vip))
            .map(|(vip, _)| (vip, rivals(&vip)))
            .collect()
    }

    pub(super) fn handle_cleared(&mut self, vip: VipId) {
        let (me, restraint) = (self.me, self.restraint());
        let Some(slot) = self.slots.get_mut(&vip) else { return };
        if slot.wants_clearing(me, restraint) {
            slot.cleared = true;
            slot.occupied_by = None;
            // Many come in one turn: the desired set is told once for all of them.
            self.restate_due = true;
        }
    }

    pub(super) fn handle_occupied(&mut self, vip: VipId, by: MacAddress) {
        let (me, restraint) = (self.me, self.restraint());
        let Some(slot) = self.slots.get_mut(&vip) else { return };
        slot.free = false;
        slot.let_go = false;
        let is_being_acquired = slot.local == Local::Wanted;
        let news = slot.occupied_by != Some(by);
        if is_being_acquired || slot.wants_clearing(me, restraint) && news {
            slot.occupied_by = Some(by);
            self.event(Event::Occupied { vip, by });
        }
        if is_being_acquired {
            self.ask_again([vip]);
        }
    }

    /// Somebody else uses what we hold. A member of our view would have said so: it is a machine of another component, or
    /// a stranger. Against a stranger an address is defended; of two components one yields, by a rule that both know.
    pub(super) fn handle_contested(
        &mut self,
        vip: VipId,
        by: MacAddress,
        ours: MacAddress,
        again: bool,
        now: Instant,
    ) {
        let somebody_is_away = self.members().len() < self.ranks.len();
        let yields = self.precautions.yields && again && somebody_is_away && by < ours;
        let Some(slot) = self.slots.get_mut(&vip).filter(|slot| slot.local == Local::Held) else {
            return;
        };
        slot.contested_by = Some((by, now));
        if yields {
            slot.give_way(now);
        }
        self.event(Event::Contested { vip, by, yields });
        if yields {
            self.yield_for_now([vip]);
            self.able_at = self.slots.values().filter_map(|slot| slot.unable_until).min();
            self.report(now);
        }
    }

    /// What was free is not known to be so any more, and is not there yet: it is asked about like anything else before it is acquired.
    pub(super) fn ask_again(&mut self, vips: impl IntoIterator<Item = VipId>) {
        if self.precautions.probes {
            self.yield_for_now(vips);
        }
    }

    /// Lets go of what stays ours by assignment: it is asked about before it is acquired again.
    fn yield_for_now(&mut self, vips: impl IntoIterator<Item = VipId>) {
        for vip in vips {
            if let Some(slot) = self.slots.get_mut(&vip) {
                slot.cleared = false;
                slot.handed_over = false;
                slot.yielded = true;
            }
        }
        self.restate_desired();
        self.slots.values_mut().for_each(|slot| slot.yielded = false);
    }

    /// VIPs cannot be served from here, or can again: somebody else should have them meanwhile.
    pub(super) fn handle_servable(
        &mut self,
        vips: Vec<VipId>,
        why_not: Option<String>,
        now: Instant,
    ) {
        let mut changed = Vec::new();
        for vip in vips {
            let Some(slot) = self.slots.get_mut(&vip) else { continue };
            if slot.unservable.is_some() != why_not.is_some() {
                changed.push(vip);
            }
            slot.unservable.clone_from(&why_not);
            // Whoever does not hear its segment does not know who takes what it lets go.
            slot.free &= why_not.is_none();
            slot.let_go &= why_not.is_none();
            if why_not.is_some() && self.precautions.probes {
                slot.cleared = false;
            }
        }
        if changed.is_empty() {
            return;
        }
        self.event(Event::Servable { vips: changed, why_not });
        self.restate_desired();
        self.report(now);
    }

    /// A start of a peer is over: whatever that said on the segment at its end, or the next one at its beginning, we hold what it
    /// once had. And if it was in another view it may have held what we hold, all of it, and been believed last.
    pub fn handle_gone(&mut self, peer: NodeId) {
        let ours = |slot: &&super::Slot| slot.local == Local::Held;
        let stranger = self.members().iter().all(|member| member.id != peer);
        self.announce.extend(
            self.slots
                .values()
                .filter(ours)
                .filter(|slot| stranger || slot.previous_owner == Some(peer))
                .map(|slot| slot.vip.id()),
        );
    }
}
