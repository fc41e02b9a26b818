//! One seed's course of events: every range is drawn, every repetition spelt out, chaos turned into faults.

use std::collections::BTreeMap;

use wackamole_protocol::time::Duration;

use super::schema::ChaosFault;
use super::{ChaosSpec, Scenario, StepSpec};
use crate::fault::Fault;
use crate::netem::Knob;
use crate::rng::{Rng, Span};
use crate::segment::{Net, SabotageKind};

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// When.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// The name of the step that it comes from.
    pub name: Option<String>,
}

impl Happening {
    fn unnamed((at, fault): (Duration, Fault)) -> Self {
        Self { at, fault, name: None }
    }
}

/// What happens when, in order.
pub fn plan(scenario: &Scenario, seed: u64) -> Vec<(Duration, Fault)> {
    course(scenario, seed).into_iter().map(|Happening { at, fault, .. }| (at, fault)).collect()
}

/// The same, with the names of steps.
pub fn course(scenario: &Scenario, seed: u64) -> Vec<Happening> {
    let mut rng = Rng::new(seed, "plan");
    let mut starts: BTreeMap<Duration, Vec<usize>> = BTreeMap::new();
    for (node, start) in starts_of(scenario, &mut rng).into_iter().enumerate() {
        if let Some(start) = start {
            starts.entry(start).or_default().push(node);
        }
    }
    let starts = starts.into_iter().map(|(at, nodes)| (at, Fault::Restart(nodes)));
    let mut events: Vec<Happening> = starts.map(Happening::unnamed).collect();
    events.extend(happenings(scenario, &mut rng));
    events.sort_by_key(|happening| happening.at);
    events
}

/// The same story with nothing left to chance: every step once and at its time, chaos as steps. With the same seed it takes
/// the same course.
pub fn spell_out(scenario: &Scenario, seed: u64) -> Scenario {
    let mut rng = Rng::new(seed, "plan");
    let mut plain = scenario.clone();
    for (node, start) in plain.nodes.iter_mut().zip(starts_of(scenario, &mut rng)) {
        node.start = start.map(Span::exactly);
    }
    let mut events = happenings(scenario, &mut rng);
    events.sort_by_key(|happening| happening.at);
    let once = |Happening { at, fault, name }| StepSpec {
        name,
        at: Span::exactly(at),
        every: Span::exactly(Duration::ZERO),
        times: 1,
        fault,
    };
    plain.steps = events.into_iter().map(once).collect();
    plain.spells_of_loss |=
        plain.chaos.take().is_some_and(|chaos| chaos.faults.contains(&ChaosFault::Loss));
    plain.seeds = 1;
    plain
}

/// When each machine is switched on, if it is.
fn starts_of(scenario: &Scenario, rng: &mut Rng) -> Vec<Option<Duration>> {
    scenario.nodes.iter().map(|node| Some(node.start?.draw_ticks(rng))).collect()
}

/// What happens apart from that, in no order.
fn happenings(scenario: &Scenario, rng: &mut Rng) -> Vec<Happening> {
    let mut events = Vec::new();
    for step in &scenario.steps {
        let mut at = step.at.draw(rng);
        for _ in 0..step.times {
            events.push(Happening { at, fault: step.fault.clone(), name: step.name.clone() });
            at += step.every.draw(rng);
        }
    }
    if let Some(chaos) = &scenario.chaos {
        let course = Chaos {
            spec: chaos,
            rng,
            health: vec![Health::Up; scenario.nodes.len()],
            own_segment: scenario.own_segment,
            loss: scenario.wires.loss,
        };
        events.extend(course.unfold(scenario.vips.len()).into_iter().map(Happening::unnamed));
    }
    events
}

/// What chaos has done to a node so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Up,
    Down,
    PausedUntil(Duration),
}

/// How long a pause lasts, and a port is dead.
const PAUSE: Span = Span { min: Duration::from_millis(100), max: Duration::from_secs(2) };
/// How long a kernel refuses work on a VIP.
const TROUBLE: Span = Span { min: Duration::from_millis(20), max: Duration::from_millis(200) };
/// How long a spell of loss lasts, and how much is lost.
const LOSS: Span = Span { min: Duration::from_millis(100), max: Duration::from_secs(1) };
const LOSS_RATIO: f64 = 0.25;
/// How long a daemon is away in a rolling restart, and how long it takes to the next.
const ROLL: Span = Span { min: Duration::from_millis(200), max: Duration::from_millis(800) };
/// How long an operator waits before a machine that is left alone is made primary.
const FORCED_AFTER: Duration = Duration::from_secs(1);

struct Chaos<'a> {
    spec: &'a ChaosSpec,
    rng: &'a mut Rng,
    health: Vec<Health>,
    own_segment: bool,
    loss: f64,
}

impl Chaos<'_> {
    fn unfold(mut self, vips: usize) -> Vec<(Duration, Fault)> {
        let mut events = Vec::new();
        let mut at = self.spec.from;
        while at < self.spec.until {
            self.wake_the_paused(at);
            if let Some(&kind) = self.rng.pick(&self.spec.faults) {
                self.strike(at, kind, vips, &mut events);
            }
            at += self.spec.every.draw(self.rng);
        }
        let until = self.spec.until;
        events.retain(|(at, _)| *at < until);
        let all: Vec<usize> = (0..self.health.len()).collect();
        events.extend(self.healing(until));
        if self.spec.faults.contains(&ChaosFault::Loss) {
            let (link, knob, ratio) = (None, Knob::Loss, self.loss);
            events.push((until, Fault::Impair { link, knob, ratio }));
        }
        let any = |kinds: &[ChaosFault]| kinds.iter().any(|kind| self.spec.faults.contains(kind));
        if any(&[ChaosFault::PauseMachine]) {
            events.push((until, Fault::ResumeMachine(all.clone())));
        }
        if any(&[ChaosFault::PauseGuardian, ChaosFault::PauseBoth]) {
            events.push((until, Fault::ResumeGuardian(all.clone())));
        }
        let paused = |node: &usize| matches!(self.health[*node], Health::PausedUntil(_));
        for node in all.iter().copied().filter(paused) {
            events.push((until, Fault::Resume(vec![node])));
        }
        for node in all.into_iter().filter(|&node| self.health[node] == Health::Down) {
            events.push((until, Fault::Restart(vec![node])));
        }
        events
    }

    /// All links and ports work again.
    fn healing(&self, at: Duration) -> Vec<(Duration, Fault)> {
        let mut events = if self.own_segment {
            vec![(at, Fault::HealAll(Net::Heartbeats)), (at, Fault::HealAll(Net::Segment))]
        } else {
            vec![(at, Fault::HealAll(Net::Both))]
        };
        if self.spec.faults.contains(&ChaosFault::PortDead)
            || self.spec.faults.contains(&ChaosFault::CarrierLost)
        {
            let all = (0..self.health.len()).collect();
            events.push((at, Fault::PortBack(self.ports(), all)));
        }
        events
    }

    fn ports(&self) -> Net {
        if self.own_segment { Net::Segment } else { Net::Both }
    }

    fn daemons(&self) -> Net {
        if self.own_segment { Net::Heartbeats } else { Net::Both }
    }

    /// Random groups, at least two of them, none of them empty.
    fn groups(&mut self) -> Vec<Vec<usize>> {
        let nodes = self.health.len();
        let most = if nodes > 2 && self.rng.chance(0.3) { 3 } else { 2 };
        let mut groups = vec![Vec::new(); most];
        for node in 0..nodes {
            groups[self.rng.below(most as u64) as usize].push(node);
        }
        groups.retain(|group| !group.is_empty());
        if groups.len() == 1 {
            let lonely = groups[0].remove(0);
            groups.push(vec![lonely]);
        }
        // The client stays with the first group, so that it is never alone.
        groups[0].push(nodes);
        groups
    }

    fn strike(
        &mut self,
        at: Duration,
        kind: ChaosFault,
        vips: usize,
        events: &mut Vec<(Duration, Fault)>,
    ) {
        let nodes = self.health.len();
        let with = |health: &[Health], wanted: fn(Health) -> bool| -> Vec<usize> {
            (0..nodes).filter(|&node| wanted(health[node])).collect()
        };
        let up = with(&self.health, |health| health == Health::Up);
        // One daemon is always left alone: a cluster without any is a scenario of its own.
        let victim = if up.len() > 1 { self.rng.pick(&up).copied() } else { None };
        match (kind, victim) {
            (ChaosFault::PowerLoss, Some(node)) => {
                self.health[node] = Health::Down;
                events.push((at, Fault::PowerLoss(vec![node])));
            }
            (ChaosFault::Kill, Some(node)) => {
                self.health[node] = Health::Down;
                events.push((at, Fault::Kill(vec![node])));
            }
            (ChaosFault::Stop, Some(node)) => {
                self.health[node] = Health::Down;
                events.push((at, Fault::Stop(vec![node])));
            }
            (ChaosFault::Pause, Some(node)) => {
                let resumed = self.pause(at, node);
                events.push((at, Fault::Pause(vec![node])));
                events.push((resumed, Fault::Resume(vec![node])));
            }
            (ChaosFault::PauseBoth, Some(node)) => {
                let resumed = self.pause(at, node);
                events.push((at, Fault::PauseGuardian(vec![node])));
                events.push((at, Fault::Pause(vec![node])));
                events.push((resumed, Fault::ResumeGuardian(vec![node])));
                events.push((resumed, Fault::Resume(vec![node])));
            }
            (ChaosFault::PauseMachine, Some(node)) => {
                let resumed = self.pause(at, node);
                events.push((at, Fault::PauseMachine(vec![node])));
                events.push((resumed, Fault::ResumeMachine(vec![node])));
            }
            (ChaosFault::KillBoth, Some(node)) => {
                self.health[node] = Health::Down;
                events.push((at, Fault::KillGuardian(vec![node])));
                events.push((at, Fault::Kill(vec![node])));
            }
            (ChaosFault::KillGuardian, Some(node)) => {
                events.push((at, Fault::KillGuardian(vec![node])));
            }
            (ChaosFault::PauseGuardian, Some(node)) => {
                events.push((at, Fault::PauseGuardian(vec![node])));
                let resumed = at + PAUSE.draw(self.rng);
                events.push((resumed, Fault::ResumeGuardian(vec![node])));
            }
            (ChaosFault::PortDead, _) => {
                let node = self.rng.below(nodes as u64) as usize;
                events.push((at, Fault::PortDead(self.ports(), vec![node])));
                let back = at + PAUSE.draw(self.rng);
                events.push((back, Fault::PortBack(self.ports(), vec![node])));
            }
            (ChaosFault::CarrierLost, _) => {
                let node = self.rng.below(nodes as u64) as usize;
                events.push((at, Fault::CarrierLost(self.ports(), vec![node])));
                let back = at + PAUSE.draw(self.rng);
                events.push((back, Fault::PortBack(self.ports(), vec![node])));
            }
            (ChaosFault::AddressTrouble, _) => {
                let node = self.rng.below(nodes as u64) as usize;
                let vip = self.rng.below(vips as u64) as usize;
                let hangs = self.rng.chance(0.5);
                let kind = if hangs { SabotageKind::Hang } else { SabotageKind::Fail };
                let lasts = Some(TROUBLE.draw_ticks(self.rng));
                events.push((at, Fault::AddressError { node, vip, kind, lasts }));
            }
            (ChaosFault::DiskLost, _) => {
                let down = with(&self.health, |health| health == Health::Down);
                if let Some(&node) = self.rng.pick(&down) {
                    events.push((at, Fault::DiskLost(vec![node])));
                }
            }
            (ChaosFault::RollingRestart, _) => self.roll(at, &up, events),
            (ChaosFault::ForcePrimary, Some(node)) => {
                let others: Vec<usize> = (0..nodes).filter(|&other| other != node).collect();
                // The operator looks first whether the machine is in service by itself.
                let forced = at + FORCED_AFTER;
                // Whoever is about to come back is not off.
                let busy = |health: &Health| matches!(health, Health::PausedUntil(_));
                if forced >= self.spec.until || self.health.iter().any(busy) {
                    return;
                }
                others.iter().for_each(|&other| self.health[other] = Health::Down);
                self.health[node] = Health::PausedUntil(forced);
                events.push((at, Fault::PowerLoss(others)));
                events.push((forced, Fault::ForcePrimary(vec![node])));
            }
            (ChaosFault::Loss, _) => {
                let (link, knob) = (None, Knob::Loss);
                events.push((at, Fault::Impair { link, knob, ratio: LOSS_RATIO.max(self.loss) }));
                let over = at + LOSS.draw(self.rng);
                events.push((over, Fault::Impair { link, knob, ratio: self.loss }));
            }
            (ChaosFault::Restart, _) => {
                let down = with(&self.health, |health| health == Health::Down);
                if let Some(&node) = self.rng.pick(&down) {
                    self.health[node] = Health::Up;
                    events.push((at, Fault::Restart(vec![node])));
                }
            }
            (ChaosFault::Partition, _) if nodes > 1 => {
                let groups = self.groups();
                events.push((at, Fault::Partition(self.daemons(), groups)));
            }
            (ChaosFault::PartitionSegment, _) if nodes > 1 && self.own_segment => {
                let groups = self.groups();
                events.push((at, Fault::Partition(Net::Segment, groups)));
            }
            (ChaosFault::Cut, _) if nodes > 1 => {
                let from = self.rng.below(nodes as u64) as usize;
                let to = (from + 1 + self.rng.below(nodes as u64 - 1) as usize) % nodes;
                events.push((at, Fault::Cut { net: self.daemons(), from, to }));
            }
            (ChaosFault::Heal, _) => events.extend(self.healing(at)),
            (ChaosFault::FlushAddress, _) => {
                let vip = self.rng.below(vips as u64) as usize;
                events.push((at, Fault::FlushAddress { node: None, vip }));
            }
            (ChaosFault::Cut | ChaosFault::Partition | ChaosFault::PartitionSegment, _)
            | (
                ChaosFault::PowerLoss
                | ChaosFault::Kill
                | ChaosFault::Stop
                | ChaosFault::Pause
                | ChaosFault::KillBoth
                | ChaosFault::PauseBoth
                | ChaosFault::PauseMachine
                | ChaosFault::KillGuardian
                | ChaosFault::ForcePrimary
                | ChaosFault::PauseGuardian,
                None,
            ) => {}
        }
    }

    /// Stops and starts one daemon after the other, as many as there is time for.
    fn roll(&mut self, at: Duration, up: &[usize], events: &mut Vec<(Duration, Fault)>) {
        let mut stops = at;
        for &node in up.iter().filter(|_| up.len() > 1) {
            let starts = stops + ROLL.draw(self.rng);
            if starts >= self.spec.until {
                break;
            }
            events.push((stops, Fault::Stop(vec![node])));
            events.push((starts, Fault::Restart(vec![node])));
            stops = starts + ROLL.draw(self.rng);
        }
        // Whoever is not away is needed meanwhile.
        up.iter().for_each(|&node| self.health[node] = Health::PausedUntil(stops));
    }

    /// Puts a node to sleep; returns when it wakes.
    fn pause(&mut self, at: Duration, node: usize) -> Duration {
        let resumed = at + PAUSE.draw(self.rng);
        self.health[node] = Health::PausedUntil(resumed);
        resumed
    }

    fn wake_the_paused(&mut self, now: Duration) {
        for health in &mut self.health {
            if matches!(health, Health::PausedUntil(until) if *until <= now) {
                *health = Health::Up;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAOTIC: &str = r#"
        title = "chaos"
        nodes = 4
        vips = 3
        duration = "60s"
        [node.d]
        start = "1s..2s"
        [[step]]
        at = "1s..3s"
        every = "1s..2s"
        times = 3
        flush_address = { vip = "v1" }
        [chaos]
        from = "5s"
        until = "50s"
        every = "50ms..500ms"
        faults = ["power-loss", "kill", "stop", "restart", "restart", "pause", "partition", "cut", "heal",
            "port-dead", "partition-segment", "kill-guardian", "pause-guardian", "kill-both", "pause-both",
            "pause-machine", "loss", "carrier-lost", "address-trouble", "disk-lost", "rolling-restart"]
    "#;

    fn scenario() -> Scenario {
        Scenario::parse("chaos.toml", CHAOTIC).expect("chaotic but correct")
    }

    #[test]
    fn a_seed_determines_the_course_and_another_seed_gives_another() {
        let scenario = scenario();
        assert_eq!(plan(&scenario, 1), plan(&scenario, 1));
        assert_ne!(plan(&scenario, 1), plan(&scenario, 2));
    }

    #[test]
    fn ranges_and_repetitions_are_spelt_out_in_order() {
        let events = plan(&scenario(), 3);
        assert!(events.is_sorted_by_key(|(at, _)| *at));
        let flushes: Vec<_> = events
            .iter()
            .filter(|(_, fault)| matches!(fault, Fault::FlushAddress { .. }))
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(flushes.len(), 3);
        assert!(flushes.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(1)));
    }

    #[test]
    fn chaos_always_leaves_one_daemon_alone_and_puts_everything_right() {
        for seed in 0..50 {
            let mut down = [false; 4];
            for (at, fault) in plan(&scenario(), seed) {
                let change = match &fault {
                    Fault::PowerLoss(nodes)
                    | Fault::Kill(nodes)
                    | Fault::Stop(nodes)
                    | Fault::PauseMachine(nodes)
                    | Fault::Pause(nodes) => Some((nodes, true)),
                    Fault::Restart(nodes) | Fault::ResumeMachine(nodes) | Fault::Resume(nodes) => {
                        Some((nodes, false))
                    }
                    _ => None,
                };
                for (node, value) in
                    change.iter().flat_map(|(nodes, v)| nodes.iter().map(|n| (*n, *v)))
                {
                    down[node] = value;
                }
                assert!(down.iter().any(|down| !down), "seed {seed} at {at:?}: {fault:?}");
            }
            assert_eq!(down, [false; 4], "seed {seed}");
        }
    }
}
