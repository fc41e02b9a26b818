//! A tiny world for nodes: an event queue, links that lose and delay, and kernels that answer for VIPs.
//!
//! After every step it is checked that no two kernels of one connected component answer for one VIP, but for a bounded
//! time after two components have met.

mod machine;
mod promises;
mod traps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::{
    Balance, ClusterKey, NodeConfig, NodeDefinition, Partition, Safety, Timing, VipDefinition,
};
use crate::event::Event;
use crate::id::{Incarnation, NodeId};
use crate::node::{AddressOutcome, Node};
use crate::status::Status;
use crate::time::{Duration, Instant};
use crate::vip::{Vip, VipAddress, VipId};
pub(super) use traps::{Bait, Strike};

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough chance for a test, and the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }
}

enum Happening {
    Arrive { to: usize, from: usize, datagram: Vec<u8> },
    Kernel { node: usize, life: u32, vip: VipId, acquire: bool, generation: u64 },
    Probed { node: usize, life: u32 },
    Saved { node: usize, life: u32, ticket: u64, record: Vec<u8> },
}

struct Machine {
    node: Option<Node>,
    /// Which start of the machine; what was under way before is void.
    life: u32,
    kernel: BTreeSet<VipId>,
    desired: BTreeSet<VipId>,
    busy_until: BTreeMap<VipId, Instant>,
    /// The generation in which a VIP came in or went out last.
    changed_in: BTreeMap<VipId, u64>,
    stopped_until: Option<Instant>,
    inbox: Vec<(usize, Vec<u8>)>,
    /// What the kernel has answered while the daemon was stopped.
    answers: Vec<AddressOutcome>,
    /// What it asks the segment about before it acquires it.
    to_clear: BTreeSet<VipId>,
    /// The record of votes; survives everything but the loss of the disk.
    disk: Option<Vec<u8>>,
    /// Tickets of what was saved while the daemon was stopped.
    saved: Vec<u64>,
    /// Until when its gate lets it answer, by its own clock.
    gate: Option<Instant>,
    /// What is to be released is shut at once, whenever the kernel comes to it.
    shut: BTreeSet<VipId>,
    /// The machine's clock is ahead of the world's by so much.
    ahead: Duration,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) config: NodeConfig,
    machines: Vec<Machine>,
    queue: BTreeMap<(Instant, u64), Happening>,
    next: u64,
    dice: Dice,
    /// Directed links that carry nothing.
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) loss_percent: u64,
    pub(super) duplicate_percent: u64,
    pub(super) latency_us: (u64, u64),
    pub(super) operation_us: (u64, u64),
    /// Overlaps are tolerated until then: two components that both served have met, or a machine woke up.
    tolerant_until: Instant,
    /// Somebody who fell silent may be owed a promise until then.
    promised_until: Instant,
    overlap_since: BTreeMap<VipId, Instant>,
    pub(super) log: Vec<(Instant, usize, Event)>,
    /// How often an acquire fails.
    pub(super) fail_percent: u64,
    /// VIPs, by their position, that a node's configuration does not have.
    pub(super) unknown: BTreeSet<(usize, usize)>,
    /// The last datagrams sent, whether they arrived or not.
    sent: Vec<(usize, usize, Vec<u8>)>,
    traps: Vec<(Bait, Strike)>,
    sprung: Vec<Strike>,
}

/// How many datagrams are remembered to be delivered once more.
const SENT_REMEMBERED: usize = 2_048;

impl World {
    pub(super) fn new(nodes: usize, vips: u8, seed: u64) -> Self {
        let name = |i: usize| char::from(b'a' + u8::try_from(i).expect("few nodes")).to_string();
        let nodes: Vec<NodeDefinition> = (0..nodes)
            .map(|i| NodeDefinition {
                name: name(i),
                addresses: vec![([10, 77, 0, u8::try_from(i).expect("few")], 4803).into()],
                weight: 1,
                witness: false,
            })
            .collect();
        let vips = (0..vips)
            .map(|i| {
                let address = VipAddress {
                    address: [10, 77, 1, i].into(),
                    prefix: 32,
                    interface: "eth0".into(),
                };
                VipDefinition {
                    vip: Arc::new(Vip::new(format!("v{i}"), vec![address])),
                    prefer: vec![],
                }
            })
            .collect();
        let timing = Timing { heartbeat: ms(100), failure_timeout: ms(400), mature: ms(500) };
        let machines = nodes
            .iter()
            .map(|_| Machine {
                node: None,
                life: 0,
                kernel: BTreeSet::new(),
                desired: BTreeSet::new(),
                busy_until: BTreeMap::new(),
                changed_in: BTreeMap::new(),
                stopped_until: None,
                inbox: Vec::new(),
                answers: Vec::new(),
                to_clear: BTreeSet::new(),
                disk: None,
                saved: Vec::new(),
                gate: None,
                shut: BTreeSet::new(),
                ahead: Duration::ZERO,
            })
            .collect();
        Self {
            now: Instant::ORIGIN + ms(1_000),
            config: NodeConfig {
                cluster: "test".into(),
                key: ClusterKey([7; 32]),
                me: NodeId(0),
                nodes,
                vips,
                timing,
                balance: Balance { moves_per_round: None, interval: ms(1_000) },
                multicast: false,
                safety: Safety {
                    release_margin: Duration::ZERO, // there is a gate
                    ..Safety::new(Partition::Component, &timing)
                },
                must_reach: Vec::new(),
            },
            machines,
            queue: BTreeMap::new(),
            next: 0,
            dice: Dice(seed),
            cut: BTreeSet::new(),
            loss_percent: 0,
            duplicate_percent: 0,
            latency_us: (100, 900),
            operation_us: (100, 900),
            tolerant_until: Instant::ORIGIN,
            promised_until: Instant::ORIGIN,
            overlap_since: BTreeMap::new(),
            log: Vec::new(),
            fail_percent: 0,
            unknown: BTreeSet::new(),
            sent: Vec::new(),
            traps: Vec::new(),
            sprung: Vec::new(),
        }
    }

    /// The same world under a partition policy.
    pub(super) fn under(mut self, partition: Partition) -> Self {
        self.config.safety.partition = partition;
        self
    }

    /// What the clock of a machine shows.
    fn clock(&self, i: usize) -> Instant {
        self.now + self.machines[i].ahead
    }

    /// The clock of one machine jumps, as after a suspension that nobody else noticed.
    pub(super) fn jump(&mut self, i: usize, by: Duration) {
        self.machines[i].ahead += by;
    }

    /// Delivers datagrams that were sent at some time before, within the next `within`. Some of them had been lost.
    pub(super) fn replay(&mut self, count: u64, within: Duration) {
        for _ in 0..count.min(self.sent.len() as u64) {
            let pick = usize::try_from(self.dice.below(self.sent.len() as u64)).expect("small");
            let (to, from, datagram) = self.sent[pick].clone();
            let micros = u64::try_from(within.as_micros()).expect("short");
            let delay = self.delay((0, micros));
            if !self.cut.contains(&(from, to)) {
                self.later(self.now + delay, Happening::Arrive { to, from, datagram });
            }
        }
    }

    /// Somebody takes an address away under the daemon.
    pub(super) fn vanish(&mut self, i: usize, nth: usize) {
        let machine = &mut self.machines[i];
        let Some(&vip) = machine.kernel.iter().nth(nth % machine.kernel.len().max(1)) else {
            return;
        };
        if machine.node.is_none() || !machine.desired.contains(&vip) {
            return;
        }
        machine.kernel.remove(&vip);
        let retry_in = ms(10);
        self.answer(i, AddressOutcome::Vanished { vip, retry_in });
        self.try_again(i, vip, retry_in);
    }

    /// As the reconciler does: unless something else is wanted by then.
    fn try_again(&mut self, i: usize, vip: VipId, pause: Duration) {
        let machine = &self.machines[i];
        let (life, generation) = (machine.life, machine.changed_in.get(&vip).copied().unwrap_or(0));
        let again = Happening::Kernel { node: i, life, vip, acquire: true, generation };
        self.later(self.now + pause, again);
    }

    fn answer(&mut self, i: usize, outcome: AddressOutcome) {
        let now = self.clock(i);
        let machine = &mut self.machines[i];
        if machine.stopped_until.is_some() {
            machine.answers.push(outcome);
        } else if let Some(node) = &mut machine.node {
            node.handle_addresses([outcome], now);
            self.drain(i);
        }
    }

    pub(super) fn size(&self) -> usize {
        self.machines.len()
    }

    pub(super) fn start_all(&mut self) {
        for i in 0..self.size() {
            self.start(i);
        }
    }

    /// Starts the daemon; leftovers are removed first, as the driver does.
    pub(super) fn start(&mut self, i: usize) {
        self.stop_daemon(i);
        let now = self.clock(i);
        let machine = &mut self.machines[i];
        machine.kernel.clear();
        machine.gate = None;
        let mut config = NodeConfig { me: self.config.nodes[i].id(), ..self.config.clone() };
        let mut position = 0;
        config.vips.retain(|_| {
            position += 1;
            !self.unknown.contains(&(i, position - 1))
        });
        let incarnation = Incarnation::new(machine.life, 99);
        let mut node = Node::new(config, incarnation, now);
        if let Some(record) = &machine.disk {
            node.recall(record).expect("what was stored");
        }
        machine.node = Some(node);
        self.drain(i);
    }

    /// `kill -9`: the kernel goes on answering.
    pub(super) fn stop_daemon(&mut self, i: usize) {
        self.silenced();
        let machine = &mut self.machines[i];
        machine.node = None;
        machine.life += 1;
        machine.desired.clear();
        machine.busy_until.clear();
        machine.changed_in.clear();
        machine.stopped_until = None;
        machine.to_clear.clear();
        machine.inbox.clear();
        machine.answers.clear();
        machine.saved.clear();
    }

    pub(super) fn power_loss(&mut self, i: usize) {
        self.stop_daemon(i);
        self.machines[i].kernel.clear();
        self.machines[i].gate = None;
    }

    pub(super) fn leave(&mut self, i: usize) {
        let now = self.clock(i);
        if let Some(node) = &mut self.machines[i].node {
            node.leave(now);
        }
        self.drain(i);
    }

    /// SIGSTOP: nothing runs until then, the kernel goes on answering and queueing.
    pub(super) fn pause(&mut self, i: usize, until: Instant) {
        if self.is_running(i) {
            self.machines[i].stopped_until = Some(until);
            self.silenced();
        }
    }

    pub(super) fn lose_disk(&mut self, i: usize) {
        self.machines[i].disk = None;
    }

    pub(super) fn force_primary(&mut self, i: usize) -> bool {
        let now = self.clock(i);
        let forced = self.node(i).force_primary(now);
        self.drain(i);
        forced
    }

    /// Whether the witness answers a machine, from now on.
    pub(super) fn reach(&mut self, i: usize, answers: bool) {
        let now = self.clock(i);
        let answering = self.config.must_reach.iter().copied().filter(|_| answers).collect();
        self.node(i).handle_reach(answering, now);
        self.drain(i);
    }

    pub(super) fn status(&mut self, i: usize) -> Status {
        let now = self.clock(i);
        self.node(i).status(now)
    }

    pub(super) fn is_running(&self, i: usize) -> bool {
        self.machines[i].node.is_some() && self.machines[i].stopped_until.is_none()
    }

    pub(super) fn node(&mut self, i: usize) -> &mut Node {
        self.machines[i].node.as_mut().expect("it runs")
    }

    /// Cuts everything between two machines of different groups, and heals everything within one.
    pub(super) fn partition(&mut self, groups: &[&[usize]]) {
        self.cut.clear();
        let group = |i: usize| groups.iter().position(|group| group.contains(&i));
        for a in 0..self.size() {
            for b in 0..self.size() {
                if group(a) != group(b) {
                    self.cut.insert((a, b));
                }
            }
        }
        self.silenced();
        self.tolerate();
    }

    /// Nothing of what `from` sends reaches `to` any more.
    pub(super) fn cut_one_way(&mut self, from: usize, to: usize) {
        if from != to {
            self.cut.insert((from, to));
            self.silenced();
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.tolerate();
    }

    /// Two components may have met: docs/protocol.md, "Merging". Generous where datagrams are lost.
    pub(super) fn tolerate(&mut self) {
        let heartbeats = if self.loss_percent > 0 { 12 } else { 3 };
        let timing = self.config.timing;
        let kernel = Duration::from_micros(self.operation_us.1);
        let mut until = self.now.max(self.promised_until) + timing.heartbeat * heartbeats + kernel;
        if !self.cut.is_empty() {
            // Two that meet may be kept apart by a third; then the smaller one yields.
            until = until + timing.failure_timeout * 2;
        }
        self.tolerant_until = self.tolerant_until.max(until);
    }

    /// From now on so many of a hundred datagrams are lost, also of those with which two that have just met agree.
    pub(super) fn lose(&mut self, percent: u64) {
        self.loss_percent = percent;
        if percent > 0 && self.now < self.tolerant_until {
            self.tolerate();
        }
    }

    /// Somebody fell silent. Whoever meets somebody new within the failure timeout owes that one its promise first.
    fn silenced(&mut self) {
        self.promised_until = self.now + self.config.timing.failure_timeout;
        if self.now < self.tolerant_until {
            self.tolerate();
        }
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let due = (0..self.size())
                .filter(|&i| self.machines[i].stopped_until.is_none())
                .filter_map(|i| {
                    let at = self.machines[i].node.as_ref()?.poll_timeout().at;
                    Some(((at - self.machines[i].ahead).max(self.now), i))
                })
                .min();
            let wake = (0..self.size())
                .filter_map(|i| Some((self.machines[i].stopped_until?.max(self.now), i)))
                .min();
            let arrival = self.queue.keys().next().map(|&(at, _)| at);
            let next = [due.map(|d| d.0), wake.map(|w| w.0), arrival].into_iter().flatten().min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
            if arrival.is_some_and(|at| at <= self.now) {
                let (_, happening) = self.queue.pop_first().expect("just seen");
                self.happen(happening);
            } else if let Some((_, i)) = wake.filter(|w| w.0 <= self.now) {
                self.wake(i);
            } else if let Some((_, i)) = due {
                let now = self.clock(i);
                self.node(i).handle_timeout(now);
                self.drain(i);
            }
            self.spring_traps();
            self.check_exclusive();
        }
        self.now = end;
    }

    fn transmit(&mut self, from: usize, to: usize, datagram: Vec<u8>) {
        if self.sent.len() < SENT_REMEMBERED {
            self.sent.push((to, from, datagram.clone()));
        } else {
            let forgotten = self.dice.below(SENT_REMEMBERED as u64);
            self.sent[usize::try_from(forgotten).expect("small")] = (to, from, datagram.clone());
        }
        if self.cut.contains(&(from, to)) || self.dice.below(100) < self.loss_percent {
            return;
        }
        let copies = if self.dice.below(100) < self.duplicate_percent { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.delay(self.latency_us);
            let datagram = datagram.clone();
            self.later(self.now + delay, Happening::Arrive { to, from, datagram });
        }
    }

    fn delay(&mut self, (min, max): (u64, u64)) -> Duration {
        Duration::from_micros(min + self.dice.below(max - min + 1))
    }

    fn later(&mut self, at: Instant, happening: Happening) {
        self.next += 1;
        self.queue.insert((at, self.next), happening);
    }

    pub(super) fn holders(&self, vip: VipId) -> Vec<usize> {
        let open = |i: usize| self.machines[i].gate.is_none_or(|until| self.clock(i) < until);
        (0..self.size())
            .filter(|&i| self.machines[i].kernel.contains(&vip))
            .filter(|&i| !self.machines[i].shut.contains(&vip) && open(i))
            .collect()
    }

    pub(super) fn holds(&self, i: usize) -> usize {
        self.machines[i].kernel.len()
    }

    pub(super) fn vips(&self) -> Vec<VipId> {
        self.config.vips.iter().map(|definition| definition.vip.id()).collect()
    }

    fn linked(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a, b)) && !self.cut.contains(&(b, a))
    }
}
