//! The embedded group engine: heartbeats → failure detection → agreed views.
//!
//! Knows nothing of addresses or VIPs: members' states and the coordinator's decision are opaque bytes that ride on the
//! agreement. The rules are those of `docs/protocol.md`, sections "Detection" and "Agreement".
//!
//! Contract: *mutate, drain, then wait*. After every `handle_*` or command, call [`Group::poll_output`] until it returns
//! `None`, then sleep until [`Group::poll_timeout`].
//!
//! Invariants: a view is installed only with the acceptance of all its members; the highest accepted ballot never falls;
//! a member for which a promise is outstanding is dropped by no view that this node accepts.

mod agreement;
mod answer;
mod beside;
mod company;
mod debt;
mod install;
mod lease;
mod matrix;
mod message;
mod peer;
mod primary;
mod receive;
mod refusal;
mod send;
mod tempo;
mod verdict;

#[cfg(test)]
mod tests;

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::config::{NodeConfig, Safety};
use crate::event::{Event, LinkState, Rejection};
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Deadline, Duration, Instant};
use crate::wire::Codec;

use agreement::{Accepted, Proposal};
use answer::Deferred;
use beside::Beside;
use debt::EarlierAccept;
use lease::next_is;
use message::GroupMessage;
pub use message::message_kind;
use peer::Peer;
use primary::Votes;
use refusal::{HeldOff, NotYet};
use tempo::Tempo;

/// Where a node that hears nobody begins to count, times the number of its start: the counter of starts is at least the time in
/// seconds, and a thousand attempts in each second for ever (each an `EPOCH_STEP`) would not catch up with the calendar.
const EPOCHS_PER_START: u64 = 1_000_000;
/// Each start counts in these steps from its own first epoch, so that a view of an earlier start is never named again.
const EPOCH_STEP: u64 = 1_000;
/// Agent messages kept for a view that is not installed here yet.
const EARLY_MESSAGES_MAX: usize = 4_096;
/// Own heartbeats whose send times are remembered, to know what an echo refers to.
const SENT_REMEMBERED: usize = 256;

/// What the engine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupOutput {
    /// Send a datagram.
    Transmit {
        /// Where to.
        to: Destination,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// Call [`Group::provide_state`] with the agent's state, which from now on acquires nothing until the next view.
    StateWanted {
        /// The ballot that was accepted.
        ballot: ViewId,
        /// The proposer's fingerprint of its configuration, in whose terms the state may be told.
        digest: u64,
    },
    /// Everybody has accepted: call [`Group::provide_decision`] with the agent's decision.
    DecisionWanted {
        /// The ballot.
        ballot: ViewId,
        /// The members' states.
        states: BTreeMap<NodeId, Vec<u8>>,
        /// The view may hold VIPs.
        primary: bool,
    },
    /// Put this on the disk, and call [`Group::handle_saved`].
    Save {
        /// To be returned.
        ticket: u64,
        /// The record of votes.
        record: Vec<u8>,
    },
    /// A view is installed.
    View {
        /// Its name.
        view: ViewId,
        /// Its members.
        members: BTreeMap<NodeId, Incarnation>,
        /// It may hold VIPs.
        primary: bool,
        /// What the coordinator's agent decided.
        decision: Vec<u8>,
        /// Those of the last view that said that they have released everything.
        left: BTreeSet<NodeId>,
    },
    /// These members, and no others, have not been heard for half of the failure timeout.
    Suspects(BTreeSet<NodeId>),
    /// A start of this peer is over: it has left, or another one has begun; or nothing is heard any more of one that was in no
    /// view with us.
    Gone(NodeId),
    /// From now on some member of our view is linked to somebody in another one, or none is any more: what nobody of ours holds may be
    /// held there. Told before the view for which it is so.
    Beside(bool),
    /// This node is in no view any more: it may hold nothing.
    ViewLost {
        /// Why, for people.
        why: &'static str,
    },
    /// A message of a member's agent, in order.
    Message {
        /// The member.
        from: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Something worth logging.
    Event(Event),
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To one address of a peer.
    Peer(SocketAddr),
    /// To the multicast group.
    Group,
}

/// The installed view.
#[derive(Clone, Debug)]
pub(crate) struct InstalledView {
    pub(crate) id: ViewId,
    pub(crate) members: BTreeMap<NodeId, Incarnation>,
    pub(crate) at: Instant,
    /// It may hold VIPs.
    pub(crate) primary: bool,
    /// Until when each member owes us, by our clock, from what it had heard of us when it accepted the view, told or not.
    pub(crate) owed_until: BTreeMap<NodeId, Instant>,
}

/// The engine of one node.
pub struct Group {
    me: NodeId,
    incarnation: Incarnation,
    /// All configured nodes in rank order.
    ranks: Vec<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
    timing: Tempo,
    safety: Safety,
    multicast: bool,
    codec: Codec,
    /// Fingerprint of the agent's configuration; travels with proposals.
    digest: u64,

    sequence: u64,
    sent: VecDeque<(u64, Instant)>,
    heartbeat_at: Instant,
    /// Something changed that the peers should know before the next heartbeat is due.
    heartbeat_early_at: Option<Instant>,
    /// When one was sent early last.
    hastened_at: Instant,

    view: Option<InstalledView>,
    /// Until when the fences let this machine answer.
    lease: Option<Instant>,
    /// Only under [`crate::config::Partition::Quorum`].
    votes: Option<Votes>,
    /// The primary views that were accepted since the installed one, and may have been installed by others.
    voted: Vec<InstalledView>,
    beside: Beside,
    /// Members that have not been heard for half of the failure timeout, as told.
    suspects: BTreeSet<NodeId>,
    accepted: Option<Accepted>,
    /// What was accepted before that and may be installed by others yet, by its proposer.
    earlier_accepts: BTreeMap<NodeId, EarlierAccept>,
    proposal: Option<Proposal>,
    deferred: Option<Deferred>,
    epoch: u64,
    /// Without a view since.
    joining_since: Instant,
    /// A view change has been wanted since.
    wanted_since: Option<Instant>,
    /// When to try to propose.
    attempt_at: Option<Instant>,
    /// Members whose view was refused, and who are not proposed again for a while.
    held_off: Option<HeldOff>,
    /// Newcomers that have refused, and are not asked again for a while.
    not_yet: BTreeMap<NodeId, NotYet>,
    started_at: Instant,
    /// Proposals refused since the last view.
    refusals: u32,
    left: bool,

    /// Our own loop ran late: what came in meanwhile has to be heard before anything is decided.
    listening_until: Instant,
    evaluated_at: Instant,
    /// When timers were looked at last: what was due before that has been late already.
    timed_at: Instant,
    dirty: bool,
    /// A member says that it does not hear another one, who may be dead: what is heard of that one decides it.
    disputed: bool,
    /// Something that was to be told to a member is lost for good.
    has_gap: bool,
    early: Vec<(NodeId, ViewId, Vec<u8>)>,
    rejected: BTreeMap<Rejection, u64>,
    outputs: VecDeque<GroupOutput>,
}

/// The earliest of several deadlines. Asked for after every datagram, when nearly all that is considered lies behind the next
/// heartbeat.
struct Next {
    deadline: Deadline,
    evaluated_at: Instant,
}

impl Next {
    #[inline]
    fn consider(&mut self, at: Option<Instant>, reason: &'static str) {
        if let Some(at) = at
            && at < self.deadline.at
        {
            self.deadline = Deadline::new(at, reason);
        }
    }

    /// Something that is looked at with everything else: what was due by the last time has been looked at.
    #[inline]
    fn verdict(&mut self, at: Option<Instant>, reason: &'static str) {
        if let Some(at) = at
            && at < self.deadline.at
            && at > self.evaluated_at
        {
            self.deadline = Deadline::new(at, reason);
        }
    }
}

impl Group {
    /// Starts without a view. `digest` is a fingerprint of the agent's configuration.
    pub fn new(config: &NodeConfig, digest: u64, incarnation: Incarnation, now: Instant) -> Self {
        let timing = Tempo::of(&config.timing, &config.safety);
        let peers = config
            .nodes
            .iter()
            .filter(|node| node.id() != config.me)
            .map(|node| {
                let addresses = node.addresses.clone();
                (node.id(), Peer::new(node.id(), addresses, incarnation, &timing))
            })
            .collect();
        Self {
            me: config.me,
            incarnation,
            ranks: config.nodes.iter().map(|node| node.id()).collect(),
            peers,
            timing,
            safety: config.safety,
            multicast: config.multicast,
            codec: Codec::new(&config.key, &config.cluster),
            digest,
            sequence: 0,
            sent: VecDeque::new(),
            heartbeat_at: now,
            heartbeat_early_at: None,
            hastened_at: Instant::ORIGIN,
            view: None,
            lease: None,
            votes: Votes::new(config),
            voted: Vec::new(),
            beside: Beside::default(),
            suspects: BTreeSet::new(),
            accepted: None,
            earlier_accepts: BTreeMap::new(),
            proposal: None,
            deferred: None,
            epoch: u64::from(incarnation.counter()) * EPOCHS_PER_START,
            joining_since: now,
            wanted_since: None,
            attempt_at: None,
            held_off: None,
            not_yet: BTreeMap::new(),
            started_at: now,
            refusals: 0,
            left: false,
            listening_until: now,
            evaluated_at: now,
            timed_at: now,
            dirty: true,
            disputed: false,
            has_gap: false,
            early: Vec::new(),
            rejected: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Does what is due. Late calls are noticed: our verdicts about peers then wait by as much, and after a stop that
    /// the peers must have noticed the view is given up before anything else.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.left {
            return;
        }
        let late = now.since(self.poll_timeout().at.max(self.timed_at));
        self.end_lease_if_over(now);
        if late >= self.timing.heartbeat / 4 {
            self.ran_late(late, now);
        }
        for peer in self.peers.values_mut() {
            peer.link.handle_timeout(now);
        }
        self.flush_links();
        self.evaluate(now);
        self.renew_lease(now);
        self.send_due_heartbeats(now);
        self.timed_at = now;
    }

    fn ran_late(&mut self, late: Duration, now: Instant) {
        self.event(Event::RanLate { late });
        // Whoever had been silent before is none of those whom we did not listen to.
        for peer in self.peers.values_mut().filter(|peer| peer.link_state != LinkState::Silent) {
            peer.excuse(late);
        }
        self.listening_until = now + late.min(self.timing.failure_timeout);
        if self.view.is_none() {
            self.joining_since = now; // what there is to hear has yet to be listened to
        }
        if late >= self.timing.failure_timeout.saturating_sub(self.timing.heartbeat)
            && self.view.as_ref().is_some_and(|view| view.members.len() > 1)
        {
            self.lose_view("this machine was stopped for too long", now);
        }
    }

    /// Sends a message to one member of the installed view, reliably and in order. Without a view it is dropped.
    pub fn send(&mut self, to: NodeId, bytes: Vec<u8>, now: Instant) {
        if let Some(view) = &self.view
            && view.members.contains_key(&to)
        {
            let message = GroupMessage::Agent { view: view.id, bytes };
            self.send_message(to, &message, now);
        }
    }

    /// Tells everybody that this incarnation has released everything, and falls silent.
    pub fn leave(&mut self) {
        if !self.left {
            self.send_leave();
            self.fall_silent();
        }
    }

    /// Ends without a word: something may still be held, so the peers must take the time that it takes them to notice.
    pub fn fall_silent(&mut self) {
        self.left = true;
        self.view = None;
        self.lease = None;
    }

    /// What to do next; `None` when the caller may wait.
    pub fn poll_output(&mut self) -> Option<GroupOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Group::handle_timeout`].
    pub fn poll_timeout(&self) -> Deadline {
        if self.left {
            return Deadline::NEVER;
        }
        let mut next = Next {
            deadline: Deadline::new(self.heartbeat_at, "heartbeat"),
            evaluated_at: self.evaluated_at,
        };
        next.consider(self.heartbeat_early_at, "early heartbeat");
        next.consider(self.lets_go_at(), "the lease ends");
        next.consider(self.deferred.as_ref().map(|d| d.until), "a promise ends");
        next.verdict(self.attempt_at, "propose a view");
        for refusal in self.not_yet.values() {
            next.verdict(Some(refusal.until), "a newcomer may be asked again");
        }
        let timing = &self.timing;
        let mut members = self.view.iter().flat_map(|view| view.members.keys()).peekable();
        for (id, peer) in &self.peers {
            if let Some(at) = peer.nudge_at {
                // Whoever has been heard since it was put down is due later.
                next.consider(Some(at.max(peer.nudge_due(timing))), "a nudge");
            }
            next.consider(peer.link.poll_timeout(), "a retransmission");
            if self.is_quiet_until(peer, next.deadline.at) {
                continue;
            }
            if peer.link_state != LinkState::Silent {
                next.verdict(peer.silent_at(timing), "a peer falls silent");
                next.verdict(peer.unechoed_at(timing), "a link becomes one-way");
                next.verdict(peer.is_deaf_at(timing), "a peer does not hear us");
            }
            if let Some(view) = &self.view
                && next_is(&mut members, id)
            {
                let over = peer.promised_at.map(|at| at.max(view.at) + timing.patience);
                next.verdict(over, "no promise left");
                next.verdict(Some(peer.suspect_at(timing)), "a member is suspected");
            } else {
                next.verdict(self.outranked_at(peer), "a better view stays in reach");
            }
            next.verdict(self.besides_until(peer), "another view counts no more");
            next.verdict(self.deferred_at(peer), "a member has left for a better view");
        }
        next.deadline
    }

    /// Whether nothing about a peer that is in our view and in contact with us falls due before then, by the oldest sign of it: as
    /// nearly always.
    fn is_quiet_until(&self, peer: &Peer, at: Instant) -> bool {
        let oldest = peer.heard_at.min(peer.echoed_at).min(peer.promised_at);
        let in_our_view = self.view.as_ref().is_some_and(|view| view.id == peer.view);
        let soonest = self.timing.suspected_after.min(self.timing.patience);
        peer.link_state == LinkState::TwoWay
            && in_our_view
            && oldest.is_some_and(|oldest| oldest + soonest > at)
    }

    /// Until then nothing should be begun that rests on nobody having said otherwise.
    pub(crate) fn listening_until(&self) -> Instant {
        self.listening_until
    }

    /// Everything that was sent to members has been acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.peers.values().all(|p| p.link_state != LinkState::TwoWay || p.link.idle())
    }

    pub(crate) fn view(&self) -> Option<&InstalledView> {
        self.view.as_ref()
    }

    pub(crate) fn is_agreeing(&self) -> bool {
        self.accepted.as_ref().is_some_and(|accepted| accepted.awaits_install)
    }

    pub(crate) fn peer(&self, id: NodeId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    pub(crate) fn rejected(&self) -> &BTreeMap<Rejection, u64> {
        &self.rejected
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(GroupOutput::Event(event));
    }
}
