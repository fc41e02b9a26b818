//! One timeline for each scenario, seed 1: whoever changes the protocol sees what that does to every story.
//!
//! After a change that is meant, look at the new timelines and accept them: `INSTA_UPDATE=always cargo test -p sim --test
//! timelines`, then read the diff.

use std::path::PathBuf;

use sim::narrate::Narrator;
use sim::scenario::Scenario;
use sim::world;

/// Of a chaotic scenario that much is enough to see a change.
const CHAOS_LINES: usize = 120;

#[test]
fn timelines_are_as_they_were() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let scenarios = Scenario::load_all(&[folder]).unwrap_or_else(|error| panic!("{error}"));
    let mut changed = Vec::new();
    for scenario in &scenarios {
        let outcome = world::run(scenario, 1, false);
        let timeline = Narrator::new(scenario).timeline(&outcome.entries);
        let lines = if scenario.chaos.is_some() { CHAOS_LINES } else { usize::MAX };
        let shown: Vec<&str> = timeline.lines().take(lines).collect();
        let text = format!("{}\n\n{}\n", scenario.title, shown.join("\n"));
        // All are compared before the test fails, so that one run shows every change.
        let same = std::panic::catch_unwind(|| {
            insta::assert_snapshot!(scenario.name.as_str(), text);
        });
        if same.is_err() {
            changed.push(scenario.name.as_str());
        }
    }
    assert!(changed.is_empty(), "changed timelines: {}", changed.join(", "));
}
