//! Whether each daemon keeps the rules that docs/protocol.md builds its argument on, seen from its own door: what it is told, what
//! it sends, what it has its kernel and its disk do.
//!
//! The [checkers](crate::check) look at what becomes of the cluster, and a broken rule costs something only when three other
//! things go wrong in the same moment. Here it is noticed when it is broken. A rule is stated for one machine and on that machine's own
//! clock, so that nothing need be excused for what goes on elsewhere: stopped processes, clocks that drift, links that work one way.
//!
//! Nothing here is taken from the code that it watches but the vocabulary ([`Event`], the wire format, the stored record).

mod announcing;
mod ballots;
mod breach;
mod fencing;
mod freeze;
mod holders;
mod installs;
mod lease;
mod memory;
mod promises;
mod repeats;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use wackamole::driver::{Effect, Input, Observation};
use wackamole_protocol::config::{NodeConfig, Partition, QuorumKind};
use wackamole_protocol::event::Event;
use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::time::Instant;
use wackamole_protocol::wire::message::{Body, Header};
use wackamole_protocol::wire::{self, Codec};

use announcing::Announcing;
use ballots::Ballots;
pub use breach::Breach;
use fencing::Fencing;
use freeze::Freeze;
use holders::Holder;
use installs::{Accepts, Installs};
use lease::Leased;
use memory::Memory;
use promises::Promises;
use repeats::Repeats;

/// What all daemons of one world did.
#[derive(Clone, Debug, Default)]
pub struct Conduct(Rc<RefCell<Everybody>>);

/// So many proposals are remembered; who accepts one does so soon.
const PROPOSALS_MAX: usize = 1_000;

#[derive(Debug, Default)]
struct Everybody {
    machines: Vec<Machine>,
    /// Whom each ballot would make members.
    proposals: BTreeMap<ViewId, BTreeSet<NodeId>>,
    accepts: Accepts,
    memory: Memory,
}

/// What one machine did. Promises outlive the daemon that made them; the rest is of its present start.
#[derive(Debug)]
struct Machine {
    me: NodeId,
    codec: Option<Codec>,
    /// Whatever it sent last.
    sent: u64,
    promises: Promises,
    ballots: Ballots,
    installs: Installs,
    freeze: Freeze,
    fencing: Fencing,
    announcing: Announcing,
    holder: Holder,
    leased: Leased,
    repeats: Repeats,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            me: NodeId::EVERYBODY,
            codec: None,
            sent: 0,
            promises: Promises::default(),
            ballots: Ballots::default(),
            installs: Installs::default(),
            freeze: Freeze::default(),
            fencing: Fencing::default(),
            announcing: Announcing::default(),
            holder: Holder::default(),
            leased: Leased::default(),
            repeats: Repeats::default(),
        }
    }
}

impl Conduct {
    /// A daemon starts on machine number `node`.
    /// `record` is what it finds on its disk.
    pub fn started(
        &self,
        node: usize,
        config: &NodeConfig,
        record: Option<&[u8]>,
        now: Instant,
    ) -> Option<Breach> {
        let mut all = self.0.borrow_mut();
        if all.machines.len() <= node {
            all.machines.resize_with(node + 1, Machine::default);
        }
        let promises = std::mem::take(&mut all.machines[node].promises);
        all.machines[node] = Machine {
            me: config.me,
            codec: Some(Codec::new(&config.key, &config.cluster)),
            promises,
            fencing: Fencing::new(config.safety.fences_nodes),
            ..Machine::default()
        };
        all.machines[node].promises.started(now);
        let dynamic = config.safety.partition == Partition::Quorum
            && config.safety.quorum == QuorumKind::Dynamic;
        all.memory.watch(dynamic);
        all.memory.recalled(config.me, record)
    }

    /// A machine's disk is replaced by a blank one: what it had promised and accepted is forgotten.
    pub fn lost_its_disk(&self, node: usize) {
        let mut all = self.0.borrow_mut();
        let Everybody { machines, memory, .. } = &mut *all;
        if let Some(machine) = machines.get_mut(node) {
            machine.promises.void();
            memory.lost(machine.me);
        }
    }

    /// Takes what the driver of a daemon says that it does. `now` is by its own clock.
    pub fn observe(&self, node: usize, now: Instant, what: &Observation<'_>) -> Option<Breach> {
        let mut all = self.0.borrow_mut();
        let Everybody { machines, proposals, accepts, memory } = &mut *all;
        let machine = machines.get_mut(node)?;
        let me = machine.me;
        match what {
            Observation::Input(Input::Datagram { bytes, .. }) => {
                let header = header(bytes);
                machine.repeats.came(tag(bytes)?, header.as_ref());
                let header = header?;
                // What is looked at all the time is too much to be authenticated, and a number that was damaged on its way costs
                // nothing. A start of a peer is replaced by another one only if there is one.
                let known = machine.promises.knows(&header);
                if known || machine.codec.as_ref().is_some_and(|codec| codec.open(bytes).is_ok()) {
                    machine.promises.came(&header, now);
                }
                None
            }
            Observation::Turn => {
                machine.freeze.turn();
                None
            }
            Observation::Rest => machine.repeats.rest(),
            Observation::Event(event) => {
                machine.event(event, now, proposals, accepts).or_else(|| memory.event(me, event))
            }
            Observation::Effect(Effect::Transmit { datagram, .. }) => {
                let tag = tag(datagram)?;
                // A heartbeat is the same one to everybody.
                let another = std::mem::replace(&mut machine.sent, tag) != tag;
                another.then(|| machine.promises.sent(&body(datagram)?)).flatten()
            }
            Observation::Effect(Effect::Renew(lease)) => {
                machine.leased.renewed(*lease);
                None
            }
            Observation::Effect(Effect::Submit(work)) => {
                let breach = machine.leased.submitted(work, now);
                let breach = breach.or(machine.freeze.submitted(work));
                let breach = breach.or(machine.fencing.submitted(work));
                let breach = breach.or(machine.announcing.submitted(work));
                let new = machine.holder.submitted(work);
                let other = new.and_then(|(vip, view)| {
                    let others = machines.iter().enumerate().filter(|(other, _)| *other != node);
                    let mut others = others.map(|(_, other)| other);
                    let other = others.find(|other| other.holder.may_answer_in(vip, view))?;
                    Some(Breach::AcquiredBesideAnother { vip, other: other.me })
                });
                breach.or(other)
            }
            Observation::Effect(Effect::Save { record, .. }) => memory.saved(me, record),
            Observation::Input(Input::Address(event)) => {
                machine.freeze.reported(event);
                machine.holder.reported(event);
                machine.fencing.reported(event);
                machine.announcing.reported(event);
                None
            }
            Observation::Input(_)
            | Observation::Effect(Effect::Event(_))
            | Observation::NetworkFault { .. } => None,
        }
    }
}

impl Machine {
    fn event(
        &mut self,
        event: &Event,
        now: Instant,
        proposals: &mut BTreeMap<ViewId, BTreeSet<NodeId>>,
        accepts: &mut Accepts,
    ) -> Option<Breach> {
        self.repeats.event(event);
        self.freeze.event(event);
        self.holder.event(event);
        self.fencing.event(self.me, event);
        match event {
            Event::Proposed { ballot, members } => {
                proposals.insert(*ballot, members.clone());
                if proposals.len() > PROPOSALS_MAX {
                    proposals.pop_first();
                }
                None
            }
            Event::ViewInstalled { view, members, .. } => {
                self.installs.installed(*view, members, accepts)
            }
            Event::Accepted { ballot } => {
                accepts.accepted(self.me, *ballot);
                self.installs.accepted(*ballot);
                let members = proposals.get(ballot);
                let kept = members.and_then(|members| self.promises.accepted(members, now));
                self.ballots.accepted(*ballot).or(kept)
            }
            Event::PeerLeft { peer } => {
                self.promises.left(*peer);
                None
            }
            Event::PeerRestarted { peer, incarnation } => {
                self.promises.restarted(*peer, *incarnation);
                None
            }
            // An operator has decided, whatever was promised.
            Event::ForcedPrimary => {
                self.promises.void();
                None
            }
            _ => None,
        }
    }
}

/// What stands in front of a datagram's content, and behind it (docs/protocol.md, "Datagram").
const PREFIX: usize = 8;
const TAG: usize = 16;

/// Tells a datagram from all others.
fn tag(datagram: &[u8]) -> Option<u64> {
    let (_, tag) = datagram.split_last_chunk::<TAG>()?;
    tag.first_chunk().map(|beginning| u64::from_le_bytes(*beginning))
}

/// Who sent a datagram, if it is authentic; that is not looked at.
fn header(datagram: &[u8]) -> Option<Header> {
    postcard::take_from_bytes(datagram.get(PREFIX..)?).ok().map(|(header, _)| header)
}

/// What is in a datagram of our own.
fn body(datagram: &[u8]) -> Option<Body> {
    let content = datagram.get(PREFIX..datagram.len().checked_sub(TAG)?)?;
    wire::decode::<(Header, Body)>(content).ok().map(|(_, body)| body)
}
