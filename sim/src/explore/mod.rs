//! Exploration: one world after the other, each drawn from a number, until the seeds or the time run out.

mod aim;
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
use crate::scenario::{Scenario, policy_word};
use crate::shrink::Failing;
use crate::stopwatch::Stopwatch;
use crate::world::{self, Outcome};
use aim::{Moments, aim};
pub use draw::{Pace, draw};
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
    /// How fast things go wrong.
    pub pace: Pace,
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
                    let one = one(course, course.first + index);
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

/// How often each world lives.
pub const LIVES: u64 = 3;

/// All lives of a seed's world. The first is as it was drawn; the others are struck at moments that the first has shown.
pub fn lives(
    scheduler: Scheduler,
    seed: u64,
    policies: &[Partition],
    pace: Pace,
    datagrams: bool,
) -> impl Iterator<Item = (Scenario, Outcome)> {
    let world = draw(seed, policies, pace);
    let mut moments = None;
    (1..=LIVES).filter_map(move |number| {
        let scenario = match &moments {
            None => world.clone(),
            Some(moments) => aim(&world, seed, number, moments)?,
        };
        let outcome = world::run_on(scheduler, &scenario, seed, datagrams);
        moments.get_or_insert_with(|| Moments::of(&world, &outcome.entries));
        Some((scenario, outcome))
    })
}

/// One of them, for which the first is lived.
pub fn life(
    scheduler: Scheduler,
    seed: u64,
    policies: &[Partition],
    pace: Pace,
    number: u64,
) -> Option<Scenario> {
    let world = draw(seed, policies, pace);
    if number <= 1 {
        return Some(world);
    }
    let first = world::run_on(scheduler, &world, seed, false);
    aim(&world, seed, number, &Moments::of(&world, &first.entries))
}

/// A world, until a promise is broken in one of its lives.
fn one(course: &Course, seed: u64) -> Tally {
    let mut tally = Tally { seeds: 1, ..Tally::default() };
    let mut lives = lives(course.scheduler, seed, &course.policies, course.pace, false);
    while tally.failures.is_empty() {
        let watch = Stopwatch::start();
        let Some((scenario, outcome)) = lives.next() else { break };
        tally.worked += watch.worked();
        if tally.lives == 0 {
            *tally.policies.entry(policy_word(scenario.safety.partition)).or_default() += 1;
        }
        note(&mut tally, scenario, seed, &outcome);
    }
    tally
}

fn note(tally: &mut Tally, scenario: Scenario, seed: u64, outcome: &Outcome) {
    tally.lives += 1;
    tally.simulated += outcome.simulated;
    tally.node_time += outcome.simulated * scenario.nodes.len() as u32;
    for (_, fault) in plan(&scenario, seed) {
        *tally.faults.entry(fault.kind()).or_default() += 1;
    }
    let broken = outcome.violations().next();
    tally.failures.extend(broken.map(|(at, check, sentence)| Failing {
        scenario,
        seed,
        check: check.to_owned(),
        at,
        sentence: sentence.to_owned(),
    }));
}
