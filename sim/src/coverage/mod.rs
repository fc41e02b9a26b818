//! Coverage of the search: what scenarios and exploration reached, and what neither did.
//!
//! Nothing is built into the daemon for it: faults, events with their causes, transitions and received messages are counted
//! from journals and by a watcher among the checkers ([`record`]). `points` lists what there is to be reached.

mod points;
mod reach;
pub mod record;
mod table;
mod unreachable;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use wackamole_protocol::config::Partition;

use crate::engine::Scheduler;
use crate::explore::{Pace, lives};
use crate::scenario::Scenario;
use crate::stopwatch::Stopwatch;
use crate::world::{self, Outcome};
use record::Counts;

/// What is run.
#[derive(Clone, Debug)]
pub struct Course {
    /// The stories.
    pub scenarios: Vec<Scenario>,
    /// With how many seeds each.
    pub story_seeds: u64,
    /// The seeds of exploration.
    pub explored: RangeInclusive<u64>,
    /// For how long is explored at most.
    pub time: Option<Duration>,
    /// How many runs at a time.
    pub jobs: NonZeroUsize,
}

/// How often something was reached, and by what first.
#[derive(Clone, Debug, Default)]
struct Reached {
    times: u64,
    /// The position of the run, and its name.
    first: Option<(usize, String)>,
}

impl Reached {
    fn add(&mut self, times: u64, position: usize, run: &str) {
        self.times += times;
        if self.first.as_ref().is_none_or(|(first, _)| position < *first) {
            self.first = Some((position, run.to_owned()));
        }
    }
}

/// What was reached.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// By group and name: by stories, and by exploration.
    reached: BTreeMap<(&'static str, String), [Reached; 2]>,
    /// How many stories' and how many explored runs there were.
    runs: [usize; 2],
    /// Runs in which a promise was broken.
    pub broken: Vec<String>,
}

impl Coverage {
    fn add(&mut self, kind: usize, position: usize, run: &str, counts: Counts) {
        self.runs[kind] += 1;
        for (point, times) in counts {
            self.reached.entry(point).or_default()[kind].add(times, position, run);
        }
    }
}

/// One run: a story with a seed, or an explored world.
#[derive(Clone, Copy)]
enum Run {
    Story(usize, u64),
    World(u64),
}

/// Runs everything, and shows the progress on a terminal.
pub fn measure(course: &Course) -> Coverage {
    let stories = (0..course.scenarios.len()).flat_map(|scenario| {
        let needed = course.scenarios[scenario].seed;
        let seeds = (1..=course.story_seeds).filter(move |seed| Some(*seed) != needed);
        seeds.chain(needed).map(move |seed| Run::Story(scenario, seed))
    });
    let stories: Vec<Run> = stories.collect();
    let worlds = course.explored.end() - course.explored.start() + 1;
    let first_world = *course.explored.start();
    let watch = Stopwatch::start();
    let progress =
        ProgressBar::new(stories.len() as u64 + if course.time.is_some() { 0 } else { worlds });
    let style = "{bar:40} {pos}/{len} runs  {elapsed} (left {eta})  {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        progress.set_style(style);
    }
    let next = AtomicUsize::new(0);
    let coverage = Mutex::new(Coverage::default());
    std::thread::scope(|scope| {
        for _ in 0..course.jobs.get() {
            scope.spawn(|| {
                loop {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    let run = match position.checked_sub(stories.len()) {
                        None => stories[position],
                        Some(world) if (world as u64) < worlds => {
                            if course.time.is_some_and(|time| watch.elapsed() >= time) {
                                break;
                            }
                            Run::World(first_world + world as u64)
                        }
                        Some(_) => break,
                    };
                    let one = one(run, &course.scenarios);
                    let Ok(mut coverage) = coverage.lock() else { break };
                    coverage.add(one.kind, position, &one.name, one.counts);
                    coverage.broken.extend(one.broken);
                    progress.set_message(format!("{} reached", coverage.reached.len()));
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    let mut coverage = coverage.into_inner().unwrap_or_default();
    coverage.broken.sort();
    coverage
}

struct One {
    kind: usize,
    name: String,
    counts: Counts,
    broken: Option<String>,
}

fn one(run: Run, scenarios: &[Scenario]) -> One {
    const POLICIES: [Partition; 3] = [Partition::Component, Partition::Lan, Partition::Quorum];
    match run {
        Run::Story(scenario, seed) => {
            let scenario = &scenarios[scenario];
            let name = format!("{} seed {seed}", scenario.name);
            let outcome = world::run_on(Scheduler::Fast, scenario, seed, true);
            let counts = reach::reached(scenario, seed, &outcome);
            One { kind: 0, broken: broken(&name, &outcome), counts, name }
        }
        Run::World(seed) => {
            let name = format!("seed {seed}");
            let mut one = One { kind: 1, name, counts: Counts::default(), broken: None };
            for (scenario, outcome) in lives(Scheduler::Fast, seed, &POLICIES, Pace::Dense, true) {
                for (point, count) in reach::reached(&scenario, seed, &outcome) {
                    *one.counts.entry(point).or_default() += count;
                }
                one.broken = one.broken.or_else(|| broken(&one.name, &outcome));
            }
            one
        }
    }
}

fn broken(name: &str, outcome: &Outcome) -> Option<String> {
    let (at, check, sentence) = outcome.violations().next()?;
    Some(format!("{name}: {:.3}s {check}: {sentence}", at.as_secs_f64()))
}
