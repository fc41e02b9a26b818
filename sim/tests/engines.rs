//! A scenario takes the same course under every engine: every entry of the journal, in its order, and every verdict.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sim::determinism::{differing, fingerprints};
use sim::engine::Scheduler;
use sim::explore::{self, Pace};
use sim::narrate::Narrator;
use sim::scenario::Scenario;
use sim::world::{Outcome, run_on};
use wackamole_protocol::config::Partition;

const SEEDS: u64 = 2;
const WORLDS: u64 = 30;
const POLICIES: [Partition; 3] = [Partition::Component, Partition::Lan, Partition::Quorum];

/// Where the two courses part, if they do.
fn parting(scenario: &Scenario, seed: u64) -> Option<String> {
    let run = |scheduler| run_on(scheduler, scenario, seed, true);
    let trace =
        |outcome: &Outcome| Narrator::new(scenario).trace(&outcome.entries, &outcome.chronicle);
    let one = run(Scheduler::EveryTick);
    let one_trace = trace(&one);
    [Scheduler::Turmoil, Scheduler::Fast].into_iter().find_map(|scheduler| {
        let other = run(scheduler);
        let other_trace = trace(&other);
        let parts = one_trace.lines().zip(other_trace.lines()).find(|(one, other)| one != other);
        let same = one_trace == other_trace
            && one.interruptions == other.interruptions
            && one.measurements == other.measurements
            && one.simulated == other.simulated;
        let (name, engine) = (&scenario.name, scheduler.word());
        (!same).then(|| format!("{name} seed {seed}, {engine}: {parts:?}"))
    })
}

/// Runs all on all cores; returns what differs.
fn all(stories: &[(Scenario, u64)]) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((scenario, seed)) = stories.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let parting = parting(scenario, *seed);
                    found.lock().expect("nobody panics with it").extend(parting);
                }
            });
        }
    });
    found.into_inner().expect("nobody panics with it")
}

#[test]
fn every_scenario_takes_the_same_course_under_all_engines() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let scenarios = Scenario::load_all(&[folder]).unwrap_or_else(|error| panic!("{error}"));
    let seeds = |scenario: Scenario| (1..=SEEDS).map(move |seed| (scenario.clone(), seed));
    let stories: Vec<_> = scenarios.into_iter().flat_map(seeds).collect();
    assert_eq!(all(&stories), Vec::<String>::new());
}

#[test]
fn so_does_every_world_of_the_exploration() {
    let stories: Vec<_> =
        (1..=WORLDS).map(|seed| (explore::draw(seed, &POLICIES, Pace::Dense), seed)).collect();
    assert_eq!(all(&stories), Vec::<String>::new());
}

#[test]
fn so_does_a_story_in_which_a_promise_is_broken() {
    let text = r#"
        title = "a crash that nobody may notice"
        nodes = 3
        vips = 3
        duration = "8s"

        [[step]]
        at = "5s"
        power_loss = "b"

        [[expect]]
        interruption_max = "10ms"
    "#;
    let scenario = Scenario::parse("broken.toml", text).unwrap_or_else(|error| panic!("{error}"));
    assert!(!run_on(Scheduler::Fast, &scenario, 1, false).is_good());
    assert_eq!(parting(&scenario, 1), None);
}

#[test]
fn traces_are_the_same_on_one_thread_and_on_two() {
    let course = |threads| {
        let threads = NonZeroUsize::new(threads).expect("a number of threads");
        fingerprints(Scheduler::Fast, &(1..=WORLDS), &POLICIES, threads, &|| ())
    };
    let (one, two) = (course(1), course(2));
    assert_eq!(one.len() as u64, WORLDS);
    assert_eq!(differing(&one, &two), Vec::<u64>::new());
}
