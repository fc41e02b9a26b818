//! Each kind of expectation fails where it is not met, and says what was expected, what was seen, and when.

use sim::engine::Scheduler;
use sim::scenario::Scenario;
use sim::shrink::{self, Failing};
use sim::world;

/// Of three machines one loses its power and comes back; the stop at the end is the last fault.
const STORY: &str = r#"
    title = "b dies and returns, c stops"
    nodes = 3
    vips = 6
    duration = "30s"

    [[step]]
    name = "b dies"
    at = "6s"
    power_loss = "b"

    [[step]]
    name = "b is back"
    at = "12s"
    restart = "b"

    [[step]]
    name = "c stops"
    at = "24s"
    stop = "c"
"#;

fn scenario(expectations: &str) -> Scenario {
    let text = format!("{STORY}\n{expectations}");
    Scenario::parse("story.toml", &text).unwrap_or_else(|error| panic!("{error}"))
}

/// What is found broken, each with its time and the name that it is filed under.
fn violations(expectations: &str) -> String {
    let outcome = world::run(&scenario(expectations), 1, false);
    let line = |(at, check, text): (std::time::Duration, _, _)| {
        format!("{:.3}s {check}: {text}\n", at.as_secs_f64())
    };
    outcome.violations().map(line).collect()
}

#[test]
fn what_is_met_is_not_found() {
    let met = r#"
        [[expect]]
        after = "b dies"
        covered_within = "failover"
        interruption_max = "failover"
        moves_max = "1 per vip"
        view_size = { a = 2, c = 2 }
        quiet_for = "4s"

        [[expect]]
        after = "b is back"
        balanced_within = "maturity + balance_interval + failover"
        moves_max = 2
        view_size = 3

        [[expect]]
        after = "start"
        overlap_max = "0s"

        [[expect]]
        covered_within = "handover"
        quiet_for = "5s"
    "#;
    assert_eq!(violations(met), "");
}

#[test]
fn a_client_that_waits_too_long_is_found() {
    insta::assert_snapshot!(violations("[[expect]]\nafter = \"b dies\"\ncovered_within = \"2 * heartbeat\"\n"), @r#"6.201s covered_within: expected covered_within = "2 * heartbeat" (200 ms) after `b dies` at 6.000 s: at 6.201 s client has no answer from v3, since 6.001 s"#);
    insta::assert_snapshot!(violations("[[expect]]\nafter = \"start\"\ncovered_within = \"1s\"\n"), @r#"1.001s covered_within: expected covered_within = "1s" (1000 ms) in the whole run: at 1.001 s client has had no answer from v1 so far"#);
    insta::assert_snapshot!(violations("[[expect]]\nafter = \"start\"\ninterruption_max = \"2 heartbeats\"\n"), @r#"6.365s interruption_max: expected interruption_max = "2 * heartbeat" (200 ms) in the whole run: client had no answer from v3 for 364 ms, from 6.001 s on"#);
}

#[test]
fn an_interruption_without_an_end_is_found() {
    let nobody = "[[step]]\nat = \"26s\"\npower_loss = \"all\"\n[[expect]]\ninterruption_max = \"failover\"\n";
    insta::assert_snapshot!(violations(nobody), @r#"30.000s interruption_max: expected interruption_max = "failover" (520 ms) after the last fault at 26.000 s: client had no answer from v1 for 3999 ms, from 26.001 s on"#);
}

#[test]
fn a_move_too_many_is_found() {
    insta::assert_snapshot!(violations("[[expect]]\nafter = \"b dies\"\nmoves_max = 1\n"), @"6.365s moves_max: expected moves_max = 1 after `b dies` at 6.000 s: v6 goes from b to c at 6.364 s, which makes 2 moves");
    insta::assert_snapshot!(violations("[[expect]]\nafter = \"start\"\nmoves_max = \"1 per vip\"\n"), @r#"24.006s moves_max: expected moves_max = "1 per vip" in the whole run: v6 goes from c to b at 24.005 s, which makes 2 moves of v6"#);
}

#[test]
fn another_holder_is_found() {
    insta::assert_snapshot!(violations("[[expect]]\nafter = \"b dies\"\nholder = { v1 = \"b\" }\n"), @r#"12.000s holder: expected holder = { v1 = "b" } after `b dies` at 6.000 s: at 12.000 s v1 is held by a"#);
}

#[test]
fn an_uneven_load_is_found() {
    insta::assert_snapshot!(violations("[[expect]]\nafter = \"b is back\"\nbalanced_within = \"maturity + failover\"\n"), @r#"14.521s balanced_within: expected balanced_within = "maturity + failover" (2520 ms) after `b is back` at 12.000 s: at 14.521 s a has 3 VIPs (weight 1) and b has 0 (weight 1)"#);
}

#[test]
fn a_view_of_another_size_is_found() {
    insta::assert_snapshot!(violations("[[expect]]\nafter = \"b dies\"\nview_size = 3\n"), @"12.000s view_size: expected view_size = 3 after `b dies` at 6.000 s: at 12.000 s a is in a view of 2");
    insta::assert_snapshot!(violations("[[expect]]\nview_size = { c = 1 }\n"), @"30.000s view_size: expected view_size = { c = 1 } after the last fault at 24.000 s: at 30.000 s c is in no view");
}

#[test]
fn a_stir_is_found() {
    insta::assert_snapshot!(violations("[[expect]]\nafter = \"b is back\"\nquiet_for = \"8s\"\n"), @r#"24.000s quiet_for: expected quiet_for = "8s" (8000 ms) after `b is back` at 12.000 s: at 18.025 s v2 was acquired on b"#);
}

#[test]
fn an_overlap_is_found() {
    let parted = r#"
        [[step]]
        name = "parted"
        at = "26s"
        partition = [["a"], ["b", "c"]]
        [[step]]
        name = "together"
        at = "28s"
        heal = "all"
        [[expect]]
        after = "together"
        overlap_max = "0s"
    "#;
    insta::assert_snapshot!(violations(parted), @r#"28.006s overlap_max: expected overlap_max = "0s" (0 ms) after `together` at 28.000 s: a and b both answered for v2 for 5 ms, from 28.001 s on"#);
}

#[test]
fn what_cannot_be_judged_is_found() {
    let too_soon = "[[step]]\nat = \"6.1s\"\nrestart = \"b\"\n[[expect]]\nafter = \"b dies\"\ncovered_within = \"failover\"\n";
    insta::assert_snapshot!(violations(too_soon), @r#"30.000s unjudged: expected covered_within = "failover" (520 ms) after `b dies` at 6.000 s: it could not be judged, because something else was done 100 ms later"#);
}

#[test]
fn an_expectation_of_another_policy_is_left_out() {
    let strict = |policy| {
        format!(
            "[[expect]]\nafter = \"b dies\"\npolicies = [\"{policy}\"]\ncovered_within = \"0s\"\n"
        )
    };
    assert_eq!(violations(&strict("lan")), "");
    assert_ne!(violations(&strict("component")), "");
}

#[test]
fn a_shrunk_story_keeps_the_expectation_that_failed_and_no_other() {
    let story = scenario(
        r#"
        [[expect]]
        after = "c stops"
        view_size = 3
        [[expect]]
        after = "b dies"
        interruption_max = "failure_timeout"
        moves_max = 1
        quiet_for = "5s"
        [[expect]]
        after = "start"
        interruption_max = "50ms"
    "#,
    );
    let failing = Failing::find(Scheduler::Fast, &story, 1, Some("moves_max")).expect("it fails");

    let small = shrink::shrink(Scheduler::Fast, failing, 80, &mut |_, _| {});

    let text = small.text("a test");
    let told = text.find("[[expect]]").map(|at| &text[at..]);
    assert_eq!(told, Some("[[expect]]\nafter = \"b dies\"\nmoves_max = 1\n"), "{text}");
    assert_eq!(small.scenario.steps.len(), 1, "{text}");
    let again = Scenario::parse("small.toml", &text).expect("a good file");
    let again =
        Failing::find(Scheduler::Fast, &again, 1, None).map(|found| (found.check, found.sentence));
    assert_eq!(again, Some((small.check, small.sentence)));
}
