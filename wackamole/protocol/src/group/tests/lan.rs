//! A few engines on a wire without delay, and what was said on it.

use std::collections::{BTreeSet, VecDeque};

use crate::config::{Balance, ClusterKey, NodeConfig, NodeDefinition, Partition, Safety, Timing};
use crate::group::message::GroupMessage;
use crate::group::{Destination, Group, GroupOutput};
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};
use crate::wire::message::Body;
use crate::wire::{self, Codec};

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn word(i: usize) -> String {
    ["a", "b", "c", "d"][i].to_owned()
}

pub(super) fn name(i: usize) -> NodeId {
    NodeId::from_name(&word(i))
}

pub(super) fn config(nodes: usize, me: usize) -> NodeConfig {
    let timing = Timing { heartbeat: ms(100), failure_timeout: ms(400), mature: ms(500) };
    NodeConfig {
        cluster: "test".into(),
        key: ClusterKey([7; 32]),
        me: name(me),
        nodes: (0..nodes)
            .map(|i| NodeDefinition {
                name: word(i),
                addresses: vec![([10, 77, 0, u8::try_from(i).expect("few")], 4803).into()],
                weight: 1,
                witness: false,
            })
            .collect(),
        vips: vec![],
        timing,
        balance: Balance { moves_per_round: None, interval: ms(1_000) },
        multicast: false,
        safety: Safety::new(Partition::Component, &timing),
        must_reach: Vec::new(),
    }
}

/// Whether a message from one node to another waits in `held_back` instead of arriving.
type HoldBack = fn(usize, usize, &GroupMessage) -> bool;

pub(super) struct Lan {
    pub(super) now: Instant,
    pub(super) groups: Vec<Group>,
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) hold_back: Option<HoldBack>,
    pub(super) held_back: Vec<(usize, usize, Vec<u8>)>,
    /// Every message that was put on the wire in one piece: from, to, what.
    pub(super) messages: Vec<(usize, usize, GroupMessage)>,
    /// Every view that was installed: where, which, with which decision.
    pub(super) views: Vec<(usize, ViewId, Vec<u8>)>,
    /// The leases when they were.
    pub(super) leases: Vec<Option<Instant>>,
    /// Whether another view was told to be beside each of them.
    pub(super) besides: Vec<bool>,
    /// Whether one is told to be beside each node now.
    pub(super) beside: Vec<bool>,
    /// Proposals of the engines themselves are lost.
    pub(super) keep_quiet: bool,
    wire: VecDeque<(usize, usize, Vec<u8>)>,
}

impl Lan {
    pub(super) fn new(nodes: usize) -> Self {
        Self::under(Partition::Component, nodes)
    }

    pub(super) fn under(partition: Partition, nodes: usize) -> Self {
        let now = Instant::ORIGIN + ms(1_000);
        let start = |i: usize| {
            let nonce = u32::try_from(i).expect("few");
            let mut config = config(nodes, i);
            config.safety = Safety::new(partition, &config.timing);
            Group::new(&config, 0, Incarnation::new(2, nonce), now)
        };
        Self {
            now,
            groups: (0..nodes).map(start).collect(),
            cut: BTreeSet::new(),
            hold_back: None,
            held_back: Vec::new(),
            messages: Vec::new(),
            views: Vec::new(),
            leases: Vec::new(),
            besides: Vec::new(),
            beside: vec![false; nodes],
            keep_quiet: false,
            wire: VecDeque::new(),
        }
    }

    /// All are in one view.
    pub(super) fn agreed(nodes: usize) -> Self {
        Self::agreed_under(Partition::Component, nodes)
    }

    /// All are in one view, under that policy.
    pub(super) fn agreed_under(partition: Partition, nodes: usize) -> Self {
        let mut lan = Self::under(partition, nodes);
        lan.run_until(|lan| lan.views.len() == nodes);
        lan
    }

    /// All hear each other for a while; then the proposals of the engines themselves are lost.
    pub(super) fn hush(&mut self) {
        self.run(ms(250));
        self.keep_quiet = true;
    }

    /// Neither of each pair hears the other any more.
    pub(super) fn cut_both_ways(&mut self, pairs: &[(usize, usize)]) {
        self.cut.extend(pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]));
    }

    /// Later than all that anybody knows of.
    pub(super) fn next_epoch(&self) -> u64 {
        self.groups.iter().map(|group| group.epoch).max().expect("engines") + 1
    }

    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..5_000 {
            if done(self) {
                return;
            }
            self.run(ms(1));
        }
        panic!("never happened within five seconds");
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.settle();
            let due = self.groups.iter().map(|group| group.poll_timeout().at).min();
            match due {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            let now = self.now;
            for group in self.groups.iter_mut().filter(|group| group.poll_timeout().at <= now) {
                group.handle_timeout(now);
            }
        }
        self.now = end;
    }

    /// A message comes out of the reliable link between two nodes.
    pub(super) fn tell(&mut self, from: usize, to: usize, message: GroupMessage) {
        self.groups[to].handle_message(name(from), message, self.now);
        self.settle();
    }

    /// A datagram arrives, and what follows happens.
    pub(super) fn deliver(&mut self, from: usize, to: usize, datagram: &[u8]) {
        let address = config(self.groups.len(), 0).nodes[from].addresses[0];
        self.groups[to].handle_datagram(address, datagram, self.now);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            for i in 0..self.groups.len() {
                while let Some(output) = self.groups[i].poll_output() {
                    self.execute(i, output);
                }
            }
            let Some((from, to, datagram)) = self.wire.pop_front() else { return };
            let address = config(self.groups.len(), 0).nodes[from].addresses[0];
            self.groups[to].handle_datagram(address, &datagram, self.now);
        }
    }

    fn execute(&mut self, i: usize, output: GroupOutput) {
        match output {
            GroupOutput::Transmit { to: Destination::Peer(address), datagram } => {
                let nodes = config(self.groups.len(), 0).nodes;
                let to = nodes.iter().position(|node| node.addresses.contains(&address));
                self.transmit(i, to.expect("a configured address"), datagram);
            }
            GroupOutput::StateWanted { ballot, .. } => {
                self.groups[i].provide_state(ballot, vec![], self.now);
            }
            GroupOutput::DecisionWanted { ballot, .. } => {
                self.groups[i].provide_decision(ballot, b"decision".to_vec(), self.now);
            }
            GroupOutput::View { view, decision, .. } => {
                self.views.push((i, view, decision));
                self.leases.push(self.groups[i].lease());
                self.besides.push(self.beside[i]);
            }
            GroupOutput::Beside(beside) => self.beside[i] = beside,
            GroupOutput::Save { ticket, .. } => self.groups[i].handle_saved(ticket, self.now),
            GroupOutput::Transmit { to: Destination::Group, .. }
            | GroupOutput::ViewLost { .. }
            | GroupOutput::Message { .. }
            | GroupOutput::Suspects(_)
            | GroupOutput::Gone(_)
            | GroupOutput::Event(_) => {}
        }
    }

    fn transmit(&mut self, from: usize, to: usize, datagram: Vec<u8>) {
        let codec = Codec::new(&ClusterKey([7; 32]), "test");
        if let Ok((_, Body::Fragment(fragment))) = codec.open(&datagram)
            && let Ok(message) = wire::decode::<GroupMessage>(&fragment.bytes)
        {
            let held_back = self.hold_back.is_some_and(|hold| hold(from, to, &message));
            let quiet = self.keep_quiet && matches!(message, GroupMessage::Propose { .. });
            self.messages.push((from, to, message));
            if held_back {
                self.held_back.push((from, to, datagram));
                return;
            }
            if quiet {
                return;
            }
        }
        if !self.cut.contains(&(from, to)) {
            self.wire.push_back((from, to, datagram));
        }
    }
}
