//! A broken promise is told with the command that shows it again and with what led to it.

use std::num::NonZeroUsize;

use sim::engine::Scheduler;
use sim::report;
use sim::scenario::Scenario;
use sim::sweep::{Seeds, sweep};

const TOO_MUCH_TO_ASK: &str = r#"
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

#[test]
fn a_failure_names_the_promise_the_command_and_the_course_of_events() {
    let scenarios = [Scenario::parse("scenarios/x.toml", TOO_MUCH_TO_ASK).expect("a scenario")];

    let summaries = sweep(Scheduler::Turmoil, &scenarios, &Seeds::Range(3..=4), NonZeroUsize::MIN);

    let failures = report::failures(&scenarios, &summaries);
    for part in [
        "x: a crash that nobody may notice",
        "interruption_max: expected interruption_max = \"10ms\" (10 ms) after the last fault at 5.000 s: client had no answer from",
        "reproduce: cargo xtask simulate scenarios/x.toml --seed 3 --trace",
        "look at it: cargo xtask simulate scenarios/x.toml --seed 3 --report x-3.html",
        "power loss: b",
        "BROKEN",
    ] {
        assert!(failures.contains(part), "{part} is missing in\n{failures}");
    }
    assert!(!failures.contains("--seed 4"), "one failure of each scenario is enough");
    let table = report::table(&report::rows(&scenarios, &summaries));
    assert!(table.contains("2 FAILED"), "{table}");
}
