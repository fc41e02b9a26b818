//! One node: the embedded group engine and the agent, joined.
//!
//! Contract: *mutate, drain, then wait*. After every `handle_*` or [`Node::leave`], call [`Node::poll_output`] until it
//! returns `None`, then sleep until [`Node::poll_timeout`].

mod status;

#[cfg(test)]
mod tests;

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use crate::agent::{AddressOutcome, Wanted};
use crate::agent::{Agent, AgentOutput};
use crate::config::NodeConfig;
use crate::event::Event;
pub use crate::group::Destination;
use crate::group::{Group, GroupOutput};
use crate::id::Incarnation;
use crate::names::Names;
use crate::time::{Deadline, Duration, Instant};
use crate::vip::VipId;
use crate::vote::Damaged;

/// What the node wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Transmit {
        /// Where to.
        to: Destination,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// These VIPs and no others shall be on this machine.
    Hold {
        /// Grows with each change; outcomes name it.
        generation: u64,
        /// The whole set.
        vips: BTreeSet<VipId>,
    },
    /// Announce these once more: an overlap was possible.
    Announce {
        /// VIPs that are held.
        vips: BTreeSet<VipId>,
    },
    /// Ask the segment about these; the whole sets. Only under [`crate::config::Partition::Lan`], or with a fence command.
    Clear {
        /// Their holder is suspected, and this node would be their heir: begin to probe, so that it costs no time later.
        /// With whether some other node that is away may want it as well.
        suspected: BTreeMap<VipId, bool>,
        /// This node owns them, and nobody has confirmed to have released them: tell [`AddressOutcome::Cleared`] as soon as
        /// they may be acquired.
        wanted: BTreeMap<VipId, Wanted>,
    },
    /// Put this record on the disk, in the place of the one before, and call [`Node::handle_saved`].
    Save {
        /// To be returned; grows with each record.
        ticket: u64,
        /// The record.
        record: Vec<u8>,
    },
    /// Something worth logging, counting or checking.
    Event(Event),
    /// The node has left. Nothing follows.
    Left {
        /// Every release is confirmed, and the peers are told so. If not they are told nothing: they wait until this node's lease
        /// has surely ended.
        released: bool,
    },
}

/// How far a graceful departure has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    No,
    /// Handing over; what is still here at this instant is just released.
    Draining(Instant),
    /// Releasing; at this instant we go even if a release is not confirmed.
    Releasing(Instant),
    Done,
}

/// For how long a hand-over may take before a departing node releases what is left.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// For how long a departing node waits for its kernel.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// One node of the cluster.
pub struct Node {
    config: NodeConfig,
    names: Names,
    incarnation: Incarnation,
    group: Group,
    agent: Agent,
    departure: Departure,
    /// Worked out once after each change, because a driver asks for it more often.
    timeout: Deadline,
    outputs: VecDeque<Output>,
}

impl Node {
    /// Starts a node that is in no view. Its machine must be free of VIPs.
    pub fn new(config: NodeConfig, incarnation: Incarnation, now: Instant) -> Self {
        let agent = Agent::new(&config, now);
        let group = Group::new(&config, agent.fingerprint(), incarnation, now);
        let names = Names::new(
            config.nodes.iter().map(|node| node.name.as_str()),
            config.vips.iter().map(|definition| &*definition.vip),
        );
        let mut node = Self {
            config,
            names,
            incarnation,
            group,
            agent,
            departure: Departure::No,
            timeout: Deadline::NEVER,
            outputs: VecDeque::new(),
        };
        node.timeout = node.next_timeout();
        node
    }

    /// What people call the nodes and VIPs of this configuration.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What it was told at its start.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Takes a datagram from the network.
    pub fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) {
        self.group.handle_datagram(from, datagram, now);
        self.pump(now);
    }

    /// Address operations ended. What is told at once is told to the peers in one message.
    pub fn handle_addresses(
        &mut self,
        outcomes: impl IntoIterator<Item = AddressOutcome>,
        now: Instant,
    ) {
        for outcome in outcomes {
            self.agent.handle_addresses(outcome, now);
        }
        self.pump(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.group.handle_timeout(now);
        if self.agent_deadline().at <= now {
            self.agent.handle_timeout(now);
        }
        self.pump(now);
    }

    /// Starts a graceful departure: hands over, releases, tells the peers, then [`Output::Left`].
    pub fn leave(&mut self, now: Instant) {
        if self.departure == Departure::No {
            self.departure = Departure::Draining(now + DRAIN_MAX);
            self.agent.drain(now);
            self.pump(now);
        }
    }

    /// The record of [`Output::Save`] with this ticket, and all before it, are surely on the disk. A record that could not
    /// be written is not told: what depends on it then never happens.
    pub fn handle_saved(&mut self, ticket: u64, now: Instant) {
        self.group.handle_saved(ticket, now);
        self.pump(now);
    }

    /// These of the addresses that must be reached (`NodeConfig::must_reach`) answer this machine, and no others: to be told
    /// at each change. None does until something is said.
    pub fn handle_reach(&mut self, answering: BTreeSet<IpAddr>, now: Instant) {
        self.group.handle_reach(answering, now);
        self.pump(now);
    }

    /// Until when this machine may answer for VIPs; nothing while it holds none.
    pub fn lease(&self) -> Option<Instant> {
        self.group.lease().filter(|_| self.agent.may_answer())
    }

    /// Takes over the record of votes that an earlier start stored. To be called before anything else.
    ///
    /// # Errors
    /// It is damaged: this node then has no vote until it is in a new primary view.
    pub fn recall(&mut self, record: &[u8]) -> Result<(), Damaged> {
        let recalled = self.group.recall(record);
        self.timeout = self.next_timeout();
        recalled
    }

    /// An operator declares this node alone to be the primary view. Returns whether that means anything under this
    /// partition policy.
    pub fn force_primary(&mut self, now: Instant) -> bool {
        let forced = self.group.force_primary(now);
        self.group.handle_timeout(now);
        self.pump(now);
        forced
    }

    /// What to do next; `None` when the caller may wait.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Node::handle_timeout`].
    pub fn poll_timeout(&self) -> Deadline {
        self.timeout
    }

    fn next_timeout(&self) -> Deadline {
        let departure = match self.departure {
            Departure::No => Deadline::NEVER,
            Departure::Done => return Deadline::NEVER,
            Departure::Draining(at) => Deadline::new(at, "handing over has taken too long"),
            Departure::Releasing(at) => Deadline::new(at, "releasing has taken too long"),
        };
        self.group.poll_timeout().min(self.agent_deadline()).min(departure)
    }

    /// The agent does nothing of its own accord before the group has listened.
    fn agent_deadline(&self) -> Deadline {
        let deadline = self.agent.poll_timeout();
        Deadline { at: deadline.at.max(self.group.listening_until()), ..deadline }
    }

    /// Moves what one machine says to the other, until both are quiet.
    fn pump(&mut self, now: Instant) {
        self.exchange(now);
        self.timeout = self.next_timeout();
    }

    fn exchange(&mut self, now: Instant) {
        loop {
            while let Some(output) = self.group.poll_output() {
                self.handle_group(output, now);
            }
            let Some(output) = self.agent.poll_output(now) else {
                if self.depart_if_ready(now) {
                    continue;
                }
                break;
            };
            match output {
                AgentOutput::Hold { generation, vips } => {
                    self.outputs.push_back(Output::Hold { generation, vips });
                }
                AgentOutput::Clear { suspected, wanted } => {
                    self.outputs.push_back(Output::Clear { suspected, wanted });
                }
                AgentOutput::Announce { vips } => self.outputs.push_back(Output::Announce { vips }),
                AgentOutput::Send { to, bytes } => self.group.send(to, bytes, now),
                AgentOutput::Event(event) => self.outputs.push_back(Output::Event(event)),
            }
        }
    }

    fn handle_group(&mut self, output: GroupOutput, now: Instant) {
        match output {
            GroupOutput::Transmit { to, datagram } => {
                self.outputs.push_back(Output::Transmit { to, datagram });
            }
            GroupOutput::StateWanted { ballot, digest } => {
                let state = self.agent.state(digest);
                self.group.provide_state(ballot, state, now);
            }
            GroupOutput::DecisionWanted { ballot, states, primary } => {
                let decision = self.agent.decide(ballot, &states, primary);
                self.group.provide_decision(ballot, decision, now);
            }
            GroupOutput::Save { ticket, record } => {
                self.outputs.push_back(Output::Save { ticket, record });
            }
            GroupOutput::View { view, members: _, primary, decision, left } => {
                self.agent.handle_view(view, &decision, primary, &left, now);
            }
            GroupOutput::Suspects(suspects) => self.agent.handle_suspects(suspects),
            GroupOutput::Beside(beside) => self.agent.handle_beside(beside),
            GroupOutput::Gone(peer) => self.agent.handle_gone(peer),
            GroupOutput::ViewLost { why: _ } => self.agent.handle_view_lost(now),
            GroupOutput::Message { from, bytes } => self.agent.handle_message(from, &bytes, now),
            GroupOutput::Event(event) => self.outputs.push_back(Output::Event(event)),
        }
    }

    /// Takes the next step of a departure when the one before is complete or has taken too long. Returns whether it did.
    fn depart_if_ready(&mut self, now: Instant) -> bool {
        if let Departure::Draining(until) = self.departure
            && (self.agent.is_drained() || now >= until)
        {
            self.departure = Departure::Releasing(now + RELEASE_MAX);
            self.agent.give_up();
            return true;
        }
        if let Departure::Releasing(until) = self.departure
            && (self.agent.is_empty() && self.group.give_vote(now) && self.group.is_idle()
                || now >= until)
        {
            self.departure = Departure::Done;
            let released = self.agent.is_empty();
            if self.agent.is_empty() {
                self.group.leave();
            } else {
                self.group.fall_silent();
            }
            while let Some(output) = self.group.poll_output() {
                self.handle_group(output, now);
            }
            self.outputs.push_back(Output::Event(Event::Left));
            self.outputs.push_back(Output::Left { released });
        }
        false
    }
}
