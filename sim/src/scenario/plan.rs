//! One seed's course of events: every range is drawn, every repetition spelt out, chaos turned into faults.

use std::collections::BTreeMap;

use wackamole_protocol::time::Duration;

use super::schema::ChaosFault;
use super::{ChaosSpec, Scenario};
use crate::fault::Fault;
use crate::rng::{Rng, Span};

/// What happens when, in order.
pub fn plan(scenario: &Scenario, seed: u64) -> Vec<(Duration, Fault)> {
    let mut rng = Rng::new(seed, "plan");
    let mut events = Vec::new();
    let mut starts: BTreeMap<Duration, Vec<usize>> = BTreeMap::new();
    for (node, spec) in scenario.nodes.iter().enumerate() {
        if let Some(start) = spec.start {
            starts.entry(start.draw_ticks(&mut rng)).or_default().push(node);
        }
    }
    events.extend(starts.into_iter().map(|(at, nodes)| (at, Fault::Restart(nodes))));
    for step in &scenario.steps {
        let mut at = step.at.draw(&mut rng);
        for _ in 0..step.times {
            events.push((at, step.fault.clone()));
            at += step.every.draw(&mut rng);
        }
    }
    if let Some(chaos) = &scenario.chaos {
        let course =
            Chaos { spec: chaos, rng: &mut rng, health: vec![Health::Up; scenario.nodes.len()] };
        events.extend(course.unfold(scenario.vips.len()));
    }
    events.sort_by_key(|(at, _)| *at);
    events
}

/// What chaos has done to a node so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Up,
    Down,
    PausedUntil(Duration),
}

struct Chaos<'a> {
    spec: &'a ChaosSpec,
    rng: &'a mut Rng,
    health: Vec<Health>,
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
        events.push((until, Fault::HealAll));
        let nodes = || 0..self.health.len();
        let paused = |node: &usize| matches!(self.health[*node], Health::PausedUntil(_));
        for node in nodes().filter(paused) {
            events.push((until, Fault::Resume(vec![node])));
        }
        for node in nodes().filter(|&node| self.health[node] == Health::Down) {
            events.push((until, Fault::Restart(vec![node])));
        }
        events
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
                let span = Span { min: Duration::from_millis(100), max: Duration::from_secs(2) };
                let resumed = at + span.draw(self.rng);
                self.health[node] = Health::PausedUntil(resumed);
                events.push((at, Fault::Pause(vec![node])));
                events.push((resumed, Fault::Resume(vec![node])));
            }
            (ChaosFault::Restart, _) => {
                let down = with(&self.health, |health| health == Health::Down);
                if let Some(&node) = self.rng.pick(&down) {
                    self.health[node] = Health::Up;
                    events.push((at, Fault::Restart(vec![node])));
                }
            }
            (ChaosFault::Partition, _) if nodes > 1 => {
                let mut groups = vec![Vec::new(), Vec::new()];
                for node in 0..nodes {
                    groups[self.rng.below(2) as usize].push(node);
                }
                for group in 0..2 {
                    if groups[group].is_empty() {
                        let lonely = groups[1 - group].remove(0);
                        groups[group].push(lonely);
                    }
                }
                // The client stays with the first group, so that it is never alone.
                groups[0].push(nodes);
                events.push((at, Fault::Partition(groups)));
            }
            (ChaosFault::Cut, _) if nodes > 1 => {
                let from = self.rng.below(nodes as u64) as usize;
                let to = (from + 1 + self.rng.below(nodes as u64 - 1) as usize) % nodes;
                events.push((at, Fault::Cut { from, to }));
            }
            (ChaosFault::Heal, _) => events.push((at, Fault::HealAll)),
            (ChaosFault::FlushAddress, _) => {
                let vip = self.rng.below(vips as u64) as usize;
                events.push((at, Fault::FlushAddress { node: None, vip }));
            }
            (ChaosFault::Cut | ChaosFault::Partition, _)
            | (
                ChaosFault::PowerLoss | ChaosFault::Kill | ChaosFault::Stop | ChaosFault::Pause,
                None,
            ) => {}
        }
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
        faults = ["power-loss", "kill", "stop", "restart", "restart", "pause", "partition", "cut", "heal"]
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
                    | Fault::Pause(nodes) => Some((nodes, true)),
                    Fault::Restart(nodes) | Fault::Resume(nodes) => Some((nodes, false)),
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
