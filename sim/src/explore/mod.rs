//! Exploration: one world after the other, each drawn from a number, until the seeds or the time run out.

mod draw;
mod tally;

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use wackamole_protocol::config::Partition;

use crate::engine::Scheduler;
use crate::scenario::plan::plan;
use crate::scenario::policy_word;
use crate::shrink::Failing;
use crate::stopwatch::Stopwatch;
use crate::world;
pub use draw::draw;
pub use tally::Tally;

/// What to explore.
#[derive(Clone, Debug)]
pub struct Course {
    /// The first seed.
    pub first: u64,
    /// How many; until the time is over if there is no number.
    pub count: Option<u64>,
    /// For how long.
    pub time: Option<Duration>,
    /// Until a promise is broken.
    pub until_found: bool,
    /// How many at a time.
    pub jobs: NonZeroUsize,
    /// Under which engine.
    pub scheduler: Scheduler,
    /// Under which policies.
    pub policies: Vec<Partition>,
}

/// Explores. Failures are kept as they are, in the order of their seeds.
pub fn explore(course: &Course) -> Tally {
    let watch = Stopwatch::start();
    let progress = progress(course);
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    let over = || course.time.is_some_and(|time| watch.elapsed() >= time);
    std::thread::scope(|scope| {
        for _ in 0..course.jobs.get() {
            scope.spawn(|| {
                while !over() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if course.count.is_some_and(|count| index >= count) {
                        break;
                    }
                    let one = one(course.scheduler, course.first + index, &course.policies);
                    let Ok(mut tally) = tally.lock() else { break };
                    tally.add(one);
                    if course.until_found && !tally.failures.is_empty() {
                        break;
                    }
                    progress.set_message(tally.progress(watch.elapsed()));
                    match course.time {
                        Some(_) => progress.set_position(watch.elapsed().as_secs()),
                        None => progress.inc(1),
                    }
                }
            });
        }
    });
    progress.finish_and_clear();
    let mut tally = tally.into_inner().unwrap_or_default();
    tally.took = watch.elapsed();
    tally.failures.sort_by_key(|failing| failing.seed);
    tally
}

fn progress(course: &Course) -> ProgressBar {
    let (length, style) = match (course.time, course.count) {
        (Some(time), _) => (time.as_secs(), "{bar:30} {pos}/{len} s  {msg}"),
        (None, Some(count)) => (count, "{bar:30} {pos}/{len} seeds  (left {eta})  {msg}"),
        (None, None) => (0, "{spinner} {pos} seeds  {msg}"),
    };
    let progress = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(style) {
        progress.set_style(style);
    }
    progress
}

/// One world's life.
fn one(scheduler: Scheduler, seed: u64, policies: &[Partition]) -> Tally {
    let world = draw(seed, policies);
    let watch = Stopwatch::start();
    let outcome = world::run_on(scheduler, &world, seed, false);
    let mut tally = Tally { seeds: 1, simulated: outcome.simulated, ..Tally::default() };
    tally.worked = watch.worked();
    tally.node_time = outcome.simulated * world.nodes.len() as u32;
    *tally.policies.entry(policy_word(world.safety.partition)).or_default() += 1;
    for (_, fault) in plan(&world, seed) {
        *tally.faults.entry(fault.kind()).or_default() += 1;
    }
    tally.failures = outcome
        .violations()
        .next()
        .map(|(at, check, sentence)| Failing {
            scenario: world.clone(),
            seed,
            check: check.to_owned(),
            at,
            sentence: sentence.to_owned(),
        })
        .into_iter()
        .collect();
    tally
}
