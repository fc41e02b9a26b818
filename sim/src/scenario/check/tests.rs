//! What is refused, and how the refusal reads.

use super::*;
use crate::fault::Fault;
use crate::fences::FenceSpec;
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
    assert!(scenario.expect.is_empty() && scenario.allow.unattended_overlap.is_zero());
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
        [[step]]
        at = "2s"
        kill_guardian = "a"
        [[step]]
        at = "2s"
        pause_guardian = "a"
        [[step]]
        at = "2s"
        resume_guardian = "all"
        [[step]]
        at = "2s"
        pause_machine = "b"
        [[step]]
        at = "2s"
        resume_machine = "b"
        [[step]]
        at = "2s"
        disk_lost = "b"
        [[step]]
        at = "2s"
        force_primary = "b"
        [[step]]
        at = "2s"
        port_dead = "c"
        [[step]]
        at = "2s"
        carrier_lost = "c"
        [[step]]
        at = "2s"
        port_back = "c"
    "#;
    let scenario = check("x.toml", &format!("{MINIMAL}{steps}")).expect("all faults");
    assert_eq!(scenario.steps.len(), 22);
    assert_eq!(scenario.steps[19].fault, Fault::PortDead(Net::Both, vec![2]));
    assert_eq!(scenario.steps[1].fault, Fault::Kill(vec![0, 1]));
    assert_eq!(scenario.steps[3].fault, Fault::Partition(Net::Both, vec![vec![0, 3], vec![1, 2]]));
}

#[test]
fn on_two_networks_each_is_cut_by_itself_and_ports_belong_to_the_segment() {
    let text = format!(
        "{MINIMAL}[network]\nsegment = \"own\"\n\
         [[step]]\nat = \"1s\"\npartition = [[\"a\"], [\"b\", \"c\"]]\n\
         [[step]]\nat = \"1s\"\npartition_segment = [[\"a\"], [\"b\", \"c\"]]\n\
         [[step]]\nat = \"1s\"\nheal_segment = \"all\"\n\
         [[step]]\nat = \"1s\"\nport_dead = \"a\"\n"
    );
    let faults: Vec<Fault> =
        check("x.toml", &text).expect("two networks").steps.into_iter().map(|s| s.fault).collect();
    assert!(matches!(faults[0], Fault::Partition(Net::Heartbeats, _)));
    assert!(matches!(faults[1], Fault::Partition(Net::Segment, _)));
    assert_eq!(faults[2..], [Fault::HealAll(Net::Segment), Fault::PortDead(Net::Segment, vec![0])]);
}

#[test]
fn a_story_is_told_under_each_policy_that_it_names() {
    let text = format!("policies = [\"lan\", \"quorum\"]\n{MINIMAL}");
    let stories = check("dir/010-idle.toml", &text).expect("two policies").under_its_policies();
    let names: Vec<&str> = stories.iter().map(|story| story.name.as_str()).collect();
    assert_eq!(names, ["010-idle.lan", "010-idle.quorum"]);
    assert_eq!(stories[1].policy_option(), " --policies quorum");
    let plain = check("dir/010-idle.toml", MINIMAL).expect("minimal").under_its_policies();
    assert_eq!((plain.len(), plain[0].policy_option().as_str()), (1, ""));
}

#[test]
fn fences_are_there_unless_a_file_or_a_node_says_otherwise() {
    let text =
        format!("{MINIMAL}[fences]\ngate = false\n[node.b]\ngate = true\nguardian = false\n");
    let nodes = check("x.toml", &text).expect("fences").nodes;
    assert_eq!(nodes[0].fences, FenceSpec { gate: false, ..FenceSpec::ALL });
    assert_eq!(nodes[1].fences, FenceSpec { guardian: false, ..FenceSpec::ALL });
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
        ("[[expect]]\nholder = { v9 = \"a\" }\n", "no VIP `v9`"),
        ("[balance]\nmoves_per_round = 0\n", "positive number"),
        ("[safety]\npartition = \"lam\"\n", "component"),
        ("[safety]\nmin_quorum = 0\n", "at least one member"),
        ("[safety]\nmust_reach = true\n", "only under"),
        ("[safety]\ndrift = \"200000ppm\"\n", "`100000ppm`"),
        ("[safety]\ndrift = \"-5ppm\"\n", "`0ppm`"),
        ("[fences]\ncommand_fails = 1.5\n", "from 0 to 1"),
        ("[fences]\nrespawn = \"soon\"\n", "or `never`"),
        ("[network]\nsegment = \"other\"\n", "shared"),
        ("[[step]]\nat = \"1s\"\nheal_segment = \"all\"\n", "one network for all"),
        ("[[step]]\nat = \"1s\"\nport_dead = \"z\"\n", "no node `z`"),
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

#[test]
fn a_wrong_expectation_is_shown_with_its_place_what_was_found_and_what_is_accepted() {
    let of = |expectation: &str| {
        complaint(&format!("[[step]]\nname = \"a dies\"\nat = \"2s\"\nkill = \"a\"\n{expectation}"))
    };
    insta::assert_snapshot!(of("[[expect]]\nafter = \"a diez\"\nmoves_max = 1\n"), @r#"
    x.toml:10:9: found `a diez`, expected `last fault`, `start` or the name of a step: `a dies`
       10 | after = "a diez"
          |         ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\nafter = \"a dies\"\n"), @r"
    x.toml:9:1: found nothing that is expected, expected at least one of covered_within, balanced_within, interruption_max, overlap_max, moves_max, view_size, holder, quiet_for
        9 | [[expect]]
          | ^
    ");
    insta::assert_snapshot!(of("[[expect]]\ncovered_within = \"failover + 2 * hartbeat\"\n"), @r#"
    x.toml:10:18: found `2 * hartbeat` in `failover + 2 * hartbeat`, expected a duration such as `20ms`, or a multiple such as `2 * heartbeat` of one of heartbeat, failure_timeout, maturity, lease, failover, handover, inquiry, round_trip, balance_interval, sync, repetitions; joined with `+`
       10 | covered_within = "failover + 2 * hartbeat"
          |                  ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\ncovered_within = 300\n"), @r#"
    x.toml:10:18: invalid type: integer `300`, expected a length of time such as "failure_timeout + 2 * heartbeat + 20ms"
       10 | covered_within = 300
          |                  ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\nquiet_for = \"8s\"\n"), @r#"
    x.toml:10:13: found `8s`, which is 8s; expected less than 8s, which is all that is left of the scenario's duration
       10 | quiet_for = "8s"
          |             ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\nmoves_max = \"two\"\n"), @r#"
    x.toml:10:13: found `two`, expected a number of moves, or one for each VIP such as "2 per vip"
       10 | moves_max = "two"
          |             ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\nmoves_max = -1\n"), @r#"
    x.toml:10:13: found `-1`, expected a number of moves, or one for each VIP such as "2 per vip"
       10 | moves_max = -1
          |             ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\nholder = { v1 = \"d\" }\n"), @r#"
    x.toml:10:17: there is no node `d`; there are a, b, c
       10 | holder = { v1 = "d" }
          |                 ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\nholder = { v3 = \"a\" }\n"), @r#"
    x.toml:10:12: there is no VIP `v3`; there are v1, v2
       10 | holder = { v3 = "a" }
          |            ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\nview_size = { x = 1 }\n"), @r"
    x.toml:10:15: there is no node `x`; there are a, b, c
       10 | view_size = { x = 1 }
          |               ^
    ");
    insta::assert_snapshot!(of("[[expect]]\nview_size = \"all\"\n"), @r#"
    x.toml:10:13: invalid type: string "all", expected a number of members, or one for each of some nodes such as { a = 2, c = 0 }
       10 | view_size = "all"
          |             ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\nclients = [\"left\"]\nmoves_max = 0\n"), @r#"
    x.toml:10:12: there is no client `left`; there are client
       10 | clients = ["left"]
          |            ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\npolicies = [\"lam\"]\nmoves_max = 0\n"), @r#"
    x.toml:10:13: unknown variant `lam`, expected one of `component`, `lan`, `quorum`
       10 | policies = ["lam"]
          |             ^
    "#);
    insta::assert_snapshot!(of("[[expect]]\ninterruption = \"1s\"\n"), @r#"
    x.toml:10:1: unknown field `interruption`, expected one of `after`, `policies`, `clients`, `covered_within`, `balanced_within`, `interruption_max`, `overlap_max`, `moves_max`, `view_size`, `holder`, `quiet_for`
       10 | interruption = "1s"
          | ^
    "#);
    insta::assert_snapshot!(of("[expect]\nmoves_max = 0\n"), @r"
    x.toml:9:1: found one table `[expect]`, expected tables `[[expect]]`, each with what is expected after one thing
        9 | [expect]
          | ^
    ");
    insta::assert_snapshot!(of("[allow]\nuncovered = [\"v7\"]\n"), @r#"
    x.toml:10:14: there is no VIP `v7`; there are v1, v2
       10 | uncovered = ["v7"]
          |              ^
    "#);
    insta::assert_snapshot!(of("[[step]]\nname = \"start\"\nat = \"1s\"\nkill = \"b\"\n"), @r#"
    x.toml:10:8: found `start`, expected a name for the step that is neither empty nor `last fault` nor `start`
       10 | name = "start"
          |        ^
    "#);
}
