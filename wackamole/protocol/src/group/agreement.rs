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

use super::answer::Offer;
use super::install::{Ayes, Standing};
use super::message::{GroupMessage, MemberKey};
use super::refusal::Unless;
use super::send::micros;
use super::{EPOCH_STEP, Group, GroupOutput};

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

/// This node's own attempt.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) ballot: ViewId,
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    pub(super) states: BTreeMap<NodeId, Vec<u8>>,
    /// Whom each member had heard when it accepted.
    pub(super) heard: BTreeMap<NodeId, BTreeMap<NodeId, u64>>,
    /// The shortest promise told so far.
    pub(super) promise_us: u32,
    /// The view may hold VIPs.
    pub(super) primary: bool,
    /// Some member that has accepted is linked to another view.
    pub(super) beside: bool,
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
                    let waits = 0;
                    let offer =
                        Offer { from, ballot, members, digest, promise, heard, claim, waits };
                    self.handle_propose(offer, now);
                }
            }
            GroupMessage::Accept { ballot, promise_us, heard, record, beside, state } => {
                if self.proposal.as_ref().is_some_and(|proposal| proposal.ballot == ballot) {
                    self.count_vote(from, record.as_ref());
                }
                self.learn_record(from, record, now);
                let heard = heard.into_iter().collect();
                self.handle_accept(from, ballot, Ayes { promise_us, heard, beside, state });
            }
            GroupMessage::Refuse { ballot, highest, why, record } => {
                self.learn_record(from, record, now);
                self.handle_refuse(from, ballot, highest, why, now);
            }
            GroupMessage::Install {
                view,
                members,
                promise_us,
                heard,
                primary,
                beside,
                decision,
            } => {
                if view.coordinator == from {
                    let heard = heard.into_iter().collect();
                    let standing = Standing { promise_us, heard, primary, beside };
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
            self.freeze_promises(&members, None, now);
            self.hold_off(members, debt, Unless::Nothing, now);
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
            beside: false,
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

    pub(super) fn accept(&mut self, accepting: Accepting, digest: u64, now: Instant) {
        let Accepting { ballot, members, promise, proposed_since } = accepting;
        if self.proposal.as_ref().is_some_and(|proposal| proposal.ballot < ballot) {
            self.drop_proposal();
        }
        self.remember_earlier_accept(ballot.coordinator, now);
        self.thaw_promises(&members, now);
        let heard = self.heard_of(&members);
        let awaits_install = true;
        let accepted =
            Accepted { ballot, members, at: now, proposed_since, promise, heard, awaits_install };
        self.note_vote(&accepted);
        self.accepted = Some(accepted);
        if self.is_vote(ballot) {
            // Whoever asked lives on what is promised from now on.
            self.hasten_heartbeat(now);
        }
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
        let Some(accepted) = &self.accepted else { return };
        let heard = accepted.heard.clone();
        let beside = self.is_linked_elsewhere(&accepted.members);
        if ballot.coordinator == self.me {
            self.count_vote(self.me, None);
            self.handle_accept(self.me, ballot, Ayes { promise_us, heard, beside, state });
        } else {
            let record = self.told_record();
            let heard = heard.into_iter().collect();
            let accept = GroupMessage::Accept { ballot, promise_us, heard, record, beside, state };
            self.send_message(ballot.coordinator, &accept, now);
        }
    }
}
