//! From a failing run to the smallest scenario that still fails: fewer faults, nodes and VIPs, a shorter story, a plainer
//! world.
//!
//! The story is spelt out first, so that every fault is a step of its own. Then whatever can be left out is left out, the
//! largest pieces first (delta debugging: Zeller and Hildebrandt, *Simplifying and isolating failure-inducing input*, IEEE
//! TSE 28, 2002), until nothing more can go. A smaller story fails if it breaks the same kind of promise, at whatever time.

mod expectations;

use wackamole_protocol::time::Duration;

use crate::engine::Scheduler;
use crate::fault::Fault;
use crate::netem::Impairment;
use crate::rng::Span;
use crate::scenario::plan::spell_out;
use crate::scenario::{Scenario, StepSpec};
use crate::world;

/// A scenario that fails, and how.
#[derive(Clone, Debug)]
pub struct Failing {
    /// The story.
    pub scenario: Scenario,
    /// With this seed.
    pub seed: u64,
    /// The kind of promise that is broken: the checker's name.
    pub check: String,
    /// When it is broken first.
    pub at: Duration,
    /// What the checker says.
    pub sentence: String,
}

impl Failing {
    /// Runs a story; returns how it fails, if it does. Looks for `check` alone if one is given.
    pub fn find(
        scheduler: Scheduler,
        scenario: &Scenario,
        seed: u64,
        check: Option<&str>,
    ) -> Option<Self> {
        let outcome = world::run_on(scheduler, scenario, seed, false);
        let mut violations = outcome.violations();
        let (at, check, sentence) =
            violations.find(|(_, name, _)| check.is_none_or(|wanted| wanted == *name))?;
        let (check, sentence) = (check.to_owned(), sentence.to_owned());
        Some(Self { scenario: scenario.clone(), seed, check, at, sentence })
    }

    /// How many faults there are.
    pub fn faults(&self) -> usize {
        self.scenario.steps.len()
    }

    /// The story as a file that says where it comes from.
    pub fn text(&self, found_by: &str) -> String {
        let mut scenario = self.scenario.clone();
        scenario.title = format!("{}: {}", self.check, self.sentence);
        scenario.story = format!("Found by {found_by}, then shrunk as far as it still failed.");
        scenario.seed = Some(self.seed);
        scenario.text()
    }
}

/// Pairs are tried, and other seeds, when no more faults than this are left.
const BOLD_MAX: usize = 12;
/// So many seeds are tried with each.
const SEEDS: u64 = 6;

/// Shrinks stories, within a number of runs.
pub struct Shrinker<'a> {
    scheduler: Scheduler,
    best: Failing,
    runs: usize,
    runs_max: usize,
    /// Is told after each run: how many there were, and the smallest story so far.
    progress: &'a mut dyn FnMut(usize, &Failing),
}

/// Shrinks a failing story with at most `runs_max` runs.
pub fn shrink(
    scheduler: Scheduler,
    failing: Failing,
    runs_max: usize,
    progress: &mut dyn FnMut(usize, &Failing),
) -> Failing {
    let mut shrinker = Shrinker { scheduler, best: failing, runs: 0, runs_max, progress };
    shrinker.run();
    shrinker.best
}

impl Shrinker<'_> {
    fn run(&mut self) {
        self.attempt(spell_out(&self.best.scenario, self.best.seed));
        let sentence = self.best.sentence.clone();
        self.change(|scenario| expectations::keep_the_violated(scenario, &sentence));
        loop {
            let before = self.size();
            self.shorten();
            self.drop_steps();
            self.drop_nodes();
            self.drop_vips();
            self.plainer();
            if self.size() == before && !self.drop_boldly() || self.runs >= self.runs_max {
                break;
            }
        }
        self.round_times();
        self.shorten();
    }

    /// What is to become smaller.
    fn size(&self) -> (usize, usize, usize, usize) {
        let Scenario { nodes, vips, steps, .. } = &self.best.scenario;
        (steps.len(), nodes.len(), vips.len(), self.best.scenario.text().len())
    }

    /// Takes a story if it still fails in the same way.
    fn attempt(&mut self, scenario: Scenario) -> bool {
        self.attempt_with(scenario, self.best.seed)
    }

    fn attempt_with(&mut self, scenario: Scenario, seed: u64) -> bool {
        if self.runs >= self.runs_max {
            return false;
        }
        self.runs += 1;
        let found = Failing::find(self.scheduler, &scenario, seed, Some(&self.best.check));
        let taken = found.is_some();
        if let Some(found) = found {
            self.best = found;
        }
        (self.progress)(self.runs, &self.best);
        taken
    }

    /// Takes the change if the story still fails.
    fn change(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut scenario = self.best.scenario.clone();
        change(&mut scenario);
        expectations::drop_dangling(&mut scenario);
        self.attempt(scenario)
    }

    /// Nothing that comes after the failure matters.
    fn shorten(&mut self) {
        let end = self.best.at + Duration::from_millis(100);
        if end < self.best.scenario.duration {
            self.change(|scenario| {
                scenario.steps.retain(|step| step.at.max < end);
                scenario.duration = end;
            });
        }
    }

    /// Halves, quarters, … of the faults, then single ones.
    fn drop_steps(&mut self) {
        let mut piece = self.best.scenario.steps.len().div_ceil(2);
        while piece > 0 {
            let mut from = 0;
            while from < self.best.scenario.steps.len() {
                let to = (from + piece).min(self.best.scenario.steps.len());
                let gone = self.change(|scenario| drop(scenario.steps.drain(from..to)));
                if !gone {
                    from = to;
                }
            }
            piece /= 2;
        }
    }

    /// Where nothing more can go, two may together: what breaks something and what mends it. And where the story hangs on how long a
    /// datagram takes, it may do so with another seed.
    fn drop_boldly(&mut self) -> bool {
        let steps = self.best.scenario.steps.len();
        if steps > BOLD_MAX {
            return false;
        }
        let first = self.best.seed;
        let pairs = (0..steps).flat_map(|a| (a..steps).map(move |b| (a, b)));
        for (seed, (a, b)) in (first..first + SEEDS).flat_map(|seed| {
            let pairs = pairs.clone();
            pairs.map(move |pair| (seed, pair))
        }) {
            if seed == first && a == b {
                continue;
            }
            let mut scenario = self.best.scenario.clone();
            scenario.steps.remove(b);
            if a < b {
                scenario.steps.remove(a);
            }
            expectations::drop_dangling(&mut scenario);
            if self.attempt_with(scenario, seed) {
                return true;
            }
        }
        false
    }

    fn drop_nodes(&mut self) {
        for node in (0..self.best.scenario.nodes.len()).rev() {
            if self.best.scenario.nodes.len() > 1 {
                self.change(|scenario| remove_node(scenario, node));
            }
        }
    }

    /// Halves first, as of the faults.
    fn drop_vips(&mut self) {
        let mut piece = self.best.scenario.vips.len() / 2;
        while piece > 0 {
            let mut from = 0;
            while from < self.best.scenario.vips.len() {
                let to = (from + piece).min(self.best.scenario.vips.len());
                let all = from == 0 && to == self.best.scenario.vips.len();
                if all || !self.change(|scenario| remove_vips(scenario, from, to)) {
                    from = to;
                }
            }
            piece /= 2;
        }
    }

    /// Whatever is unusual about the world goes, one after the other.
    fn plainer(&mut self) {
        type Change = fn(&mut Scenario);
        let changes: [Change; 8] = [
            |s| s.nodes.iter_mut().for_each(|node| node.drift_ppm = 0),
            |s| s.nodes.iter_mut().for_each(|node| node.weight = 1),
            |s| s.vips.iter_mut().for_each(|vip| vip.prefer.clear()),
            |s| {
                let extra_delay = s.wires.extra_delay;
                s.wires = Impairment { extra_delay, ..Impairment::default() };
            },
            |s| {
                s.latency = Span::exactly(s.latency.min);
                s.wires.extra_delay = Span::exactly(Duration::ZERO);
            },
            |s| s.operation = Span::exactly(s.operation.min),
            |s| s.sync = Span::exactly(s.sync.min),
            |s| s.nodes.iter_mut().for_each(|node| node.start = node.start.map(|_| EARLY)),
        ];
        for change in changes {
            let mut changed = self.best.scenario.clone();
            change(&mut changed);
            if changed.text() != self.best.scenario.text() {
                self.attempt(changed);
            }
        }
    }

    /// Times that are easy to read: all of them, or else one by one.
    fn round_times(&mut self) {
        for unit in [100, 10, 1] {
            if self.change(|scenario| scenario.steps.iter_mut().for_each(|s| round(s, unit))) {
                return;
            }
        }
        for step in 0..self.best.scenario.steps.len() {
            for unit in [100, 10, 1] {
                if self.change(|scenario| round(&mut scenario.steps[step], unit)) {
                    break;
                }
            }
        }
    }
}

/// All machines are switched on at once.
const EARLY: Span = Span::exactly(Duration::ZERO);

fn round(step: &mut StepSpec, unit_ms: u64) {
    let unit = unit_ms * 1_000;
    let micros = (step.at.min.as_micros() as u64 + unit / 2) / unit * unit;
    step.at = Span::exactly(Duration::from_micros(micros));
}

/// A node goes, and whatever concerned only it. Stations are numbered after the nodes.
fn remove_node(scenario: &mut Scenario, node: usize) {
    scenario.nodes.remove(node);
    let moved = |station: &mut usize| *station -= usize::from(*station > node);
    let kept = |stations: &mut Vec<usize>| {
        stations.retain(|&station| station != node);
        stations.iter_mut().for_each(moved);
        !stations.is_empty()
    };
    scenario.steps.retain_mut(|step| match &mut step.fault {
        Fault::PowerLoss(nodes)
        | Fault::Kill(nodes)
        | Fault::Restart(nodes)
        | Fault::Stop(nodes)
        | Fault::Pause(nodes)
        | Fault::Resume(nodes)
        | Fault::KillGuardian(nodes)
        | Fault::PauseGuardian(nodes)
        | Fault::ResumeGuardian(nodes)
        | Fault::PauseMachine(nodes)
        | Fault::ResumeMachine(nodes)
        | Fault::DiskLost(nodes)
        | Fault::ForcePrimary(nodes)
        | Fault::PortDead(_, nodes)
        | Fault::CarrierLost(_, nodes)
        | Fault::PortBack(_, nodes) => kept(nodes),
        Fault::Heal(_, stations) => kept(stations) && stations.len() > 1,
        Fault::Partition(_, groups) => {
            groups.retain_mut(kept);
            groups.len() > 1
        }
        Fault::Cut { from, to, .. } | Fault::Impair { link: Some((from, to)), .. } => {
            let concerns = *from == node || *to == node;
            moved(from);
            moved(to);
            !concerns
        }
        Fault::Drift { node: whose, .. }
        | Fault::AddressError { node: whose, .. }
        | Fault::FlushAddress { node: Some(whose), .. } => {
            let concerns = *whose == node;
            moved(whose);
            !concerns
        }
        Fault::HealAll(_)
        | Fault::Impair { link: None, .. }
        | Fault::Latency(_)
        | Fault::FlushAddress { node: None, .. } => true,
    });
    for vip in &mut scenario.vips {
        kept(&mut vip.prefer);
    }
    scenario.must_reach.iter_mut().for_each(moved);
    expectations::without_node(scenario, node);
}

/// VIPs go, and whatever concerned only them.
fn remove_vips(scenario: &mut Scenario, from: usize, to: usize) {
    scenario.vips.drain(from..to);
    let stays = |vip: &mut usize| {
        let stays = !(from..to).contains(vip);
        if *vip >= to {
            *vip -= to - from;
        }
        stays
    };
    scenario.steps.retain_mut(|step| match &mut step.fault {
        Fault::AddressError { vip, .. } | Fault::FlushAddress { vip, .. } => stays(vip),
        _ => true,
    });
    expectations::without_vips(scenario, stays);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two kernels answer while a daemon without any fence is paused; everything else has nothing to do with it.
    const BROKEN: &str = r#"
        title = "too much at once"
        nodes = 4
        vips = 5
        duration = "20s"
        [fences]
        gate = false
        guardian = false
        lifetime = false
        [[step]]
        at = "4s"
        restart = "b"
        [[step]]
        at = "6123ms"
        pause = "a"
        [[step]]
        at = "7s"
        flush_address = { vip = "v2" }
        [[step]]
        at = "8s"
        partition = [["a", "b"], ["c", "d"]]
        [[step]]
        at = "9s"
        heal = "all"
    "#;

    #[test]
    fn what_has_nothing_to_do_with_the_failure_goes() {
        let scenario = Scenario::parse("broken.toml", BROKEN).expect("a good file");
        let failing = Failing::find(Scheduler::Fast, &scenario, 1, None).expect("it fails");
        assert_eq!(failing.check, "exclusivity");
        let mut runs = 0;

        let small = shrink(Scheduler::Fast, failing, 200, &mut |so_far, _| runs = so_far);

        assert!(runs < 200, "{runs} runs");
        let Scenario { nodes, vips, steps, .. } = &small.scenario;
        assert_eq!((nodes.len(), vips.len(), steps.len()), (2, 1, 1));
        assert!(matches!(&steps[0].fault, Fault::Pause(nodes) if nodes.len() == 1));
        let again = Scenario::parse("small.toml", &small.text("a test")).expect("a good file");
        let again = Failing::find(Scheduler::Turmoil, &again, again.seed.expect("it says"), None);
        assert_eq!(again.map(|f| (f.check, f.at)), Some((small.check, small.at)));
    }

    #[test]
    fn without_a_node_the_others_keep_their_parts() {
        let mut scenario = Scenario::parse("broken.toml", BROKEN).expect("a good file");
        remove_node(&mut scenario, 0);
        let faults: Vec<String> = scenario
            .steps
            .iter()
            .map(|step| step.fault.describe(&scenario.station_names(), &scenario.vip_names()))
            .collect();
        assert_eq!(
            faults,
            [
                "start: b",
                "addresses of v2 deleted by hand on its holder",
                "partition: b, client | c, d",
                "heal: all links"
            ]
        );
    }
}
