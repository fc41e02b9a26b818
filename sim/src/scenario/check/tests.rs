//! What is refused, and how the refusal reads.

use super::*;
use crate::fault::Fault;
use crate::segment::Net;

const MINIMAL: &str = "title = \"idle\"\nnodes = 3\nvips = 2\nduration = \"10s\"\n";

fn complaint(addition: &str) -> String {
    let text = format!("{MINIMAL}{addition}");
    check("x.toml", &text).expect_err(addition).to_string()
}

#[test]
fn a_minimal_file_gets_the_defaults() {
    let scenario = check("dir/010-idle.toml", MINIMAL).expect("minimal");
    assert_eq!(scenario.name, "010-idle");
    assert_eq!(scenario.station_names(), ["a", "b", "c", "client"]);
    assert_eq!(scenario.vip_names(), ["v1", "v2"]);
    assert_eq!(scenario.timing.heartbeat, Duration::from_millis(100));
    assert_eq!(scenario.expect.unattended_overlap_max, Duration::ZERO);
}

#[test]
fn every_fault_can_be_written() {
    let steps = r#"
        [[step]]
        at = "1s..2s"
        power_loss = "a"
        [[step]]
        at = "1s"
        every = "500ms"
        times = 3
        kill = ["a", "b"]
        [[step]]
        at = "2s"
        restart = "all"
        [[step]]
        at = "2s"
        partition = [["a", "client"], ["b", "c"]]
        [[step]]
        at = "2s"
        cut = { from = "a", to = "b" }
        [[step]]
        at = "2s"
        heal = ["a", "b"]
        [[step]]
        at = "2s"
        loss = 0.1
        [[step]]
        at = "2s"
        corrupt = { ratio = 0.1, from = "a", to = "b" }
        [[step]]
        at = "2s"
        latency = "1ms..4ms"
        [[step]]
        at = "2s"
        drift = { node = "a", ppm = 200 }
        [[step]]
        at = "2s"
        address_error = { node = "a", vip = "v1", kind = "hang", for = "1s" }
        [[step]]
        at = "2s"
        flush_address = { vip = "v2" }
    "#;
    let scenario = check("x.toml", &format!("{MINIMAL}{steps}")).expect("all faults");
    assert_eq!(scenario.steps.len(), 12);
    assert_eq!(scenario.steps[1].fault, Fault::Kill(vec![0, 1]));
    assert_eq!(scenario.steps[3].fault, Fault::Partition(Net::Both, vec![vec![0, 3], vec![1, 2]]));
}

#[test]
fn complaints_name_file_line_what_was_found_and_what_is_accepted() {
    let unknown = complaint("[[step]]\nat = \"1s\"\npower_loss = \"d\"\n");
    assert!(unknown.starts_with("x.toml:7:"), "{unknown}");
    assert!(unknown.contains("no node `d`; there are a, b, c"), "{unknown}");

    let key = complaint("[network]\nlos = 0.1\n");
    assert!(key.starts_with("x.toml:6:1:") && key.contains("los") && key.contains("loss"), "{key}");

    let duration = complaint("[timing]\nheartbeat = \"5\"\n");
    assert!(duration.starts_with("x.toml:6:") && duration.contains("found `5`"), "{duration}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (addition, expected) in [
        ("[timing]\nheartbeat = \"200ms\"\n", "three heartbeats"),
        ("[network]\nloss = 1.5\n", "from 0 to 1"),
        ("[network]\nlatency = \"500us\"\n", "whole milliseconds"),
        ("[[step]]\nat = \"1s\"\n", "exactly one of"),
        ("[[step]]\nat = \"1s\"\nkill = \"a\"\nstop = \"b\"\n", "exactly one of"),
        ("[[step]]\nat = \"11s\"\nkill = \"a\"\n", "after the scenario's duration"),
        ("[[step]]\nat = \"1s\"\npartition = [[\"a\"], [\"b\"]]\n", "`c` is in no group"),
        ("[[step]]\nat = \"1s\"\npartition = [[\"a\", \"b\"], [\"b\", \"c\"]]\n", "in two groups"),
        ("[[step]]\nat = \"1s\"\ntimes = 2\nkill = \"a\"\n", "belong together"),
        ("[node.z]\nweight = 2\n", "no node `z`"),
        ("[node.a]\nweight = -1\n", "u32"),
        ("[vip.v1]\naddresses = [\"10.0.0.1\"]\n", "10.77.2.1/24@eth0"),
        ("[vip.v1]\nprefer = [\"q\"]\n", "no node `q`"),
        ("[[expect.holder]]\nvip = \"v9\"\nnode = \"a\"\n", "no VIP `v9`"),
        ("[balance]\nmoves_per_round = 0\n", "positive number"),
        (
            "[chaos]\nfrom = \"5s\"\nuntil = \"5s\"\nevery = \"1s\"\nfaults = [\"kill\"]\n",
            "from < until",
        ),
        (
            "[chaos]\nfrom = \"1s\"\nuntil = \"5s\"\nevery = \"1s\"\nfaults = [\"fire\"]\n",
            "power-loss",
        ),
    ] {
        let complaint = complaint(addition);
        assert!(complaint.contains(expected), "{addition}\n{complaint}");
    }
}

#[test]
fn a_number_of_nodes_that_turmoil_cannot_carry_is_refused() {
    let text = MINIMAL.replace("nodes = 3", "nodes = 17");
    let complaint = check("x.toml", &text).expect_err("17").to_string();
    assert!(complaint.starts_with("x.toml:2:9:") && complaint.contains("1 and 16"), "{complaint}");
}
