//! Many runs at once: every scenario with every seed, one thread per core. Runs share nothing, and each is the same on
//! whatever thread it runs.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::check::Measurements;
use crate::engine::Scheduler;
use crate::narrate::Narrator;
use crate::scenario::Scenario;
use crate::stopwatch::Stopwatch;
use crate::world;

/// What remains of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The position of its scenario.
    pub scenario: usize,
    /// Its seed.
    pub seed: u64,
    /// Broken promises, each as `checker: sentence`.
    pub violations: Vec<String>,
    /// The lengths of all interruptions.
    pub interruptions: Vec<Duration>,
    /// What the checkers measured.
    pub measurements: Measurements,
    /// How long the world was simulated.
    pub simulated: Duration,
    /// How much work of one core that took.
    pub took: Duration,
    /// What happened, if a promise was broken.
    pub timeline: Option<String>,
}

/// Which seeds to run.
#[derive(Clone, Debug)]
pub enum Seeds {
    /// As many as each scenario says, from 1 on.
    Default,
    /// These.
    Range(RangeInclusive<u64>),
}

impl Seeds {
    /// The one seed that a scenario needs is among them, unless a single other one is asked for.
    fn of(&self, scenario: &Scenario) -> Vec<u64> {
        match (self, scenario.seed) {
            (Self::Default, Some(seed)) => vec![seed],
            (Self::Default, None) => (1..=scenario.seeds).collect(),
            (Self::Range(range), needed) => {
                let one = range.start() == range.end();
                let needed = needed.filter(|seed| !one && !range.contains(seed));
                range.clone().chain(needed).collect()
            }
        }
    }
}

/// Runs every scenario with its seeds on `jobs` threads, and shows the progress on a terminal. The summaries come in the
/// order of scenarios and seeds.
pub fn sweep(
    scheduler: Scheduler,
    scenarios: &[Scenario],
    seeds: &Seeds,
    jobs: NonZeroUsize,
) -> Vec<Summary> {
    let runs: Vec<(usize, u64)> = scenarios
        .iter()
        .enumerate()
        .flat_map(|(index, scenario)| seeds.of(scenario).into_iter().map(move |seed| (index, seed)))
        .collect();
    let progress = ProgressBar::new(runs.len() as u64);
    let style = "{bar:40} {pos}/{len} runs  {elapsed} (left {eta})  {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        progress.set_style(style);
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done = Mutex::new(Vec::with_capacity(runs.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.get().min(runs.len()) {
            scope.spawn(|| {
                while let Some(&(index, seed)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let summary = summarise(scheduler, &scenarios[index], index, seed);
                    if !summary.violations.is_empty() {
                        let failed = failed.fetch_add(1, Ordering::Relaxed) + 1;
                        progress.set_message(format!("{failed} failed"));
                    }
                    if let Ok(mut done) = done.lock() {
                        done.push(summary);
                    }
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    let mut summaries = done.into_inner().unwrap_or_default();
    summaries.sort_by_key(|summary| (summary.scenario, summary.seed));
    summaries
}

fn summarise(scheduler: Scheduler, scenario: &Scenario, index: usize, seed: u64) -> Summary {
    let stopwatch = Stopwatch::start();
    let outcome = world::run_on(scheduler, scenario, seed, false);
    let took = stopwatch.worked();
    let violations: Vec<String> =
        outcome.violations().map(|(_, check, text)| format!("{check}: {text}")).collect();
    let timeline =
        (!violations.is_empty()).then(|| Narrator::new(scenario).timeline(&outcome.entries));
    Summary {
        scenario: index,
        seed,
        violations,
        interruptions: outcome.interruptions.iter().map(|i| i.length()).collect(),
        measurements: outcome.measurements,
        simulated: outcome.simulated,
        took,
        timeline,
    }
}
