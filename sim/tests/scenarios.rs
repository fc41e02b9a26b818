//! Every scenario keeps every promise with its first seeds. Many seeds: `cargo xtask simulate scenarios`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use sim::engine::Scheduler;
use sim::report;
use sim::scenario::Scenario;
use sim::sweep::{Seeds, sweep};

const SEEDS: u64 = 2;

#[test]
fn every_scenario_keeps_every_promise() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let scenarios = Scenario::load_all(&[folder]).unwrap_or_else(|error| panic!("{error}"));
    assert!(scenarios.len() >= 15);
    let jobs = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);

    let summaries = sweep(Scheduler::Turmoil, &scenarios, &Seeds::Range(1..=SEEDS), jobs);

    let failures = report::failures(&scenarios, &summaries);
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn titles_and_names_are_unique() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let scenarios = Scenario::load_all(&[folder]).unwrap_or_else(|error| panic!("{error}"));
    let titles: std::collections::BTreeSet<_> = scenarios.iter().map(|s| &s.title).collect();
    // One file may tell its story under several policies.
    let files: std::collections::BTreeSet<_> = scenarios.iter().map(|s| &s.file).collect();
    assert_eq!(titles.len(), files.len());
    assert!(scenarios.iter().all(|scenario| !scenario.story.is_empty()));
}
