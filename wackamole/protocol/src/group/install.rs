//! From the accepts to the installed view. docs/protocol.md, "Agreement".

use std::collections::BTreeMap;

use crate::event::Event;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};

use super::message::GroupMessage;
use super::{EARLY_MESSAGES_MAX, Group, GroupOutput, InstalledView};

/// What goes with an install.
pub(super) struct Standing {
    pub(super) promise_us: u32,
    /// The latest of our datagrams that each other member had heard when it accepted.
    pub(super) heard: BTreeMap<NodeId, u64>,
    pub(super) primary: bool,
    /// Some member was linked to another view when it accepted.
    pub(super) beside: bool,
}

/// What a member tells with its accept.
pub(super) struct Ayes {
    pub(super) promise_us: u32,
    pub(super) heard: BTreeMap<NodeId, u64>,
    pub(super) beside: bool,
    pub(super) state: Vec<u8>,
}

impl Group {
    pub(super) fn handle_accept(&mut self, from: NodeId, ballot: ViewId, ayes: Ayes) {
        let Ayes { promise_us, heard, beside, state } = ayes;
        let Some(proposal) = &mut self.proposal else { return };
        if proposal.ballot != ballot || !proposal.members.contains_key(&from) {
            return;
        }
        proposal.states.insert(from, state);
        proposal.heard.insert(from, heard);
        proposal.promise_us = proposal.promise_us.min(promise_us);
        proposal.beside |= beside;
        if proposal.states.len() == proposal.members.len() {
            let states = core::mem::take(&mut proposal.states);
            let primary = proposal.primary;
            self.outputs.push_back(GroupOutput::DecisionWanted { ballot, states, primary });
        }
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
            self.dirty = true;
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
                beside: proposal.beside,
                decision: decision.clone(),
            };
            self.send_message(id, &message, now);
        }
        let standing = Standing {
            promise_us: proposal.promise_us,
            heard: heard_of(self.me),
            primary: proposal.primary,
            beside: proposal.beside,
        };
        self.install(ballot, proposal.members, standing, decision, now);
    }

    /// Whether what this node accepted was so long ago that those who accepted it too may have gone on without it: it
    /// may have been stopped meanwhile, or the install was late. Whoever installs goes on alone with old assignments then.
    pub(super) fn is_acceptance_over(&self, now: Instant) -> bool {
        let patience = self.timing.failure_timeout.saturating_sub(self.timing.heartbeat);
        self.accepted
            .as_ref()
            .is_some_and(|accepted| accepted.members.len() > 1 && now >= accepted.at + patience)
    }

    pub(super) fn install(
        &mut self,
        view: ViewId,
        members: BTreeMap<NodeId, Incarnation>,
        Standing { promise_us, heard, primary, beside }: Standing,
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
        let promise = self.timing.shortened(promise);
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
        self.has_gap = false;
        self.forget_earlier_accepts(&members);
        self.renew_lease(now);
        self.wanted_since = None;
        self.held_off = None;
        self.refusals = 0;
        for peer in self.peers.values_mut() {
            peer.frozen_at = None;
            peer.given_up = None;
        }
        self.give_up_messages_to_outsiders();
        self.hasten_heartbeat(now);
        self.dirty = true;
        let names = members.keys().copied().collect();
        self.event(Event::ViewInstalled { view, members: names, primary });
        self.note_beside_at_install(beside);
        self.tell_beside(now);
        self.outputs.push_back(GroupOutput::View { view, members, primary, decision, left });
        for (from, _, bytes) in
            core::mem::take(&mut self.early).into_iter().filter(|(_, id, _)| *id == view)
        {
            self.outputs.push_back(GroupOutput::Message { from, bytes });
        }
    }

    /// Delivers what belongs to the installed view, keeps what belongs to the one that is about to be.
    pub(super) fn handle_agent_message(&mut self, from: NodeId, view: ViewId, bytes: Vec<u8>) {
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
