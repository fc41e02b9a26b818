//! One seed determines everything: the trace is the same to the byte, whatever thread it runs on and whatever else runs.

use sim::narrate::Narrator;
use sim::scenario::Scenario;
use sim::world;

const EVERYTHING: &str = r#"
    title = "everything that draws random numbers, at once"
    nodes = 5
    vips = 8
    clients = ["left", "right"]
    duration = "20s"

    [network]
    latency = "1ms..4ms"
    loss = 0.02
    duplicate = 0.05
    reorder = 0.05
    corrupt = 0.002
    segment = "own"

    [addresses]
    operation = "100us..3ms"

    [timing]
    mature = "1s"

    [balance]
    interval = "500ms"

    [node.b]
    drift = "+300ppm"

    [[step]]
    at = "4s..5s"
    latency = "2ms..9ms"

    [chaos]
    from = "2s"
    until = "15s"
    every = "50ms..500ms"
    faults = ["power-loss", "kill", "stop", "restart", "restart", "pause", "partition", "partition-segment", "cut", "heal", "flush-address",
        "port-dead", "kill-guardian", "pause-guardian", "kill-both", "pause-both", "pause-machine", "loss",
        "carrier-lost", "disk-lost", "rolling-restart"]

    [safety]
    partition = "lan"
"#;

/// The whole trace with every datagram.
fn trace(seed: u64) -> String {
    let scenario = Scenario::parse("everything.toml", EVERYTHING).unwrap_or_else(|e| panic!("{e}"));
    let outcome = world::run(&scenario, seed, true);
    Narrator::new(&scenario).trace(&outcome.entries, &outcome.chronicle)
}

/// Says where two traces part, instead of printing both.
fn assert_same(one: &str, other: &str) {
    let parting = one.lines().zip(other.lines()).find(|(a, b)| a != b);
    assert_eq!(parting, None);
    assert_eq!(one.len(), other.len());
}

#[test]
fn the_same_seed_gives_the_same_trace_to_the_byte() {
    let first = trace(1);
    let datagrams = first.lines().filter(|line| line.contains("  wire  ")).count();
    assert!(datagrams > 1_000, "the trace has every datagram, and found are {datagrams}");
    assert_same(&first, &trace(1));
}

#[test]
fn the_same_seed_gives_the_same_trace_on_another_thread_beside_other_runs() {
    let here = trace(2);
    std::thread::scope(|scope| {
        let same = scope.spawn(|| trace(2));
        let other = scope.spawn(|| trace(3));
        let (same, other) = (same.join().expect("a run"), other.join().expect("a run"));
        assert_same(&here, &same);
        assert_ne!(here, other, "another seed takes another course");
    });
}
