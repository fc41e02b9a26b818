//! Each checker sees what it is there for, and lets pass what is allowed. The world is moved by hand here: no daemon runs.

mod policies;

use std::rc::Rc;

use wackamole_protocol::event::{Event, Reason, Rejection};
use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::time::Duration;

use super::{Checks, Glance};
use crate::bounds::Bounds;
use crate::clients::Clients;
use crate::connectivity::Connectivity;
use crate::fences::Fences;
use crate::journal::What;
use crate::links::Links;
use crate::netem::Impairment;
use crate::scenario::Scenario;
use crate::segment::{Daemon, Net, Segment};

const SCENARIO: &str = r#"
    title = "by hand"
    nodes = 3
    vips = 2
    duration = "60s"
"#;

/// A world without daemons.
struct Scene {
    scenario: Scenario,
    bounds: Bounds,
    segment: Segment,
    connectivity: Connectivity,
    checks: Checks,
    disturbances: Vec<Duration>,
    looked_at: usize,
    violations: Vec<String>,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Scene {
    /// Three machines that have run for a long time; a holds v1, b holds v2.
    fn new(addition: &str) -> Self {
        let text = format!("{SCENARIO}{addition}");
        let scenario = Scenario::parse("by-hand.toml", &text).unwrap_or_else(|e| panic!("{e}"));
        let clients = Clients::new(1, 2, scenario.neighbour_timeout, 1);
        let mut segment = Segment::new(3, 2, clients, Impairment::default(), ms(1), 1);
        for node in 0..3 {
            segment.kernels.power_on(node);
            segment.set_daemon(node, Daemon::Running(ms(0)));
        }
        segment.acquire(ms(10), 0, 0);
        segment.acquire(ms(10), 1, 1);
        let mut scene = Self {
            bounds: Bounds::of(&scenario),
            connectivity: Connectivity::new(3, ms(300)),
            checks: Checks::new(&scenario, 1),
            scenario,
            segment,
            disturbances: Vec::new(),
            looked_at: 0,
            violations: Vec::new(),
        };
        scene.at(20);
        scene
    }

    /// The checkers look.
    fn at(&mut self, now: u64) {
        let now = ms(now);
        self.connectivity.refresh(now, &self.segment);
        self.segment.refresh_clients(now, true, true);
        let glance = Glance {
            now,
            scenario: &self.scenario,
            bounds: &self.bounds,
            segment: &self.segment,
            connectivity: &self.connectivity,
            fresh: self.segment.journal.since(self.looked_at),
            changed: true,
            disturbances: &self.disturbances,
            wires_calm_since: self.disturbances.last().copied().unwrap_or_default(),
            storm: None,
        };
        let mut findings = self.checks.step(&glance);
        if now == ms(59_999) {
            findings.entries.extend(self.checks.finish(&glance).entries);
        }
        self.looked_at = self.segment.journal.len();
        for entry in findings.entries {
            if let What::Violation { check, text } = entry {
                self.violations.push(format!("{check}: {text}"));
            }
        }
    }

    /// The machines have the fences that the scenario says.
    fn fenced(mut self) -> Self {
        let machines = self.scenario.nodes.iter().map(|node| (node.fences, Rc::default()));
        self.segment.fences = Fences::new(machines.collect(), None, 1);
        (0..3).for_each(|node| self.segment.fences.daemon_starts(node));
        self
    }

    fn disturb(&mut self, now: u64) {
        self.disturbances.push(ms(now));
    }

    fn says(&mut self, now: u64, node: usize, event: Event) {
        self.segment.journal.push(ms(now), What::Daemon { node, event });
    }

    #[track_caller]
    fn assert_quiet(&self) {
        assert_eq!(self.violations, Vec::<String>::new());
    }

    #[track_caller]
    fn assert_found(&self, text: &str) {
        assert!(
            self.violations.iter().any(|violation| violation.contains(text)),
            "expected {text}, found {:?}",
            self.violations
        );
    }
}

#[test]
fn two_attended_holders_that_reach_each_other_are_found_at_once() {
    let mut scene = Scene::new("");
    scene.segment.acquire(ms(5000), 1, 0);
    scene.at(5001);
    scene.assert_found("exclusivity: v1 is answered by a (running) and b (running)");
}

#[test]
fn holders_in_two_parts_are_no_overlap_until_the_parts_meet_and_then_for_the_merge_window() {
    let mut scene = Scene::new("");
    scene.disturb(5000);
    scene.segment.rewire(Net::Both, |links| links.partition(&[vec![0, 3], vec![1, 2]]));
    scene.at(5001);
    scene.segment.acquire(ms(5400), 1, 0);
    scene.segment.acquire(ms(5400), 0, 1);
    scene.at(5401);
    scene.at(9000);
    scene.assert_quiet();

    scene.disturb(10_000);
    scene.segment.rewire(Net::Both, Links::heal_all);
    scene.at(10_000);
    let window = scene.bounds.merge.as_millis() as u64;
    scene.at(10_000 + window);
    scene.assert_quiet();
    scene.at(10_001 + window);

    scene.assert_found("exclusivity: v1 is answered by a (running) and b (running) for");
    scene.assert_found("two parts met");
    assert_eq!(scene.checks.measurements().merge_overlaps, 0, "measured when it ends");
    scene.segment.release(ms(10_200), 1, 0);
    scene.at(10_200);
    assert_eq!(scene.checks.measurements().merge_overlap_max, ms(200));
}

#[test]
fn an_overlap_beside_a_dead_daemon_is_allowed_as_long_as_the_scenario_says() {
    for (allowed, good) in [("", false), ("[allow]\nunattended_overlap = \"1s\"\n", true)] {
        let mut scene = Scene::new(allowed);
        scene.disturb(5000);
        scene.segment.set_daemon(0, Daemon::Killed);
        scene.at(5001);
        scene.segment.acquire(ms(5400), 1, 0);
        scene.at(5401);
        scene.at(6401);
        assert_eq!(scene.violations.is_empty(), good, "{:?}", scene.violations);
        scene.at(6402);
        scene.assert_found("v1 is answered by a (killed) and b (running) for");
    }
}

#[test]
fn a_daemon_that_resumes_may_find_an_overlap_but_not_make_one() {
    let mut scene = Scene::new("[allow]\nunattended_overlap = \"5s\"\n");
    scene.disturb(5000);
    scene.segment.set_daemon(0, Daemon::Paused(ms(0)));
    scene.at(5001);
    scene.segment.acquire(ms(5400), 1, 0);
    scene.at(5401);
    scene.disturb(7000);
    scene.segment.set_daemon(0, Daemon::Running(ms(0)));
    scene.at(7001);
    scene.assert_quiet();

    scene.segment.acquire(ms(7001), 0, 1);
    scene.at(7002);

    scene.assert_found("exclusivity: v2 is answered by a (running) and b (running)");
}

#[test]
fn a_vip_without_a_holder_is_found_when_the_bound_has_passed() {
    let mut scene = Scene::new("");
    scene.disturb(5000);
    scene.segment.power_off(ms(5000), 0);
    scene.segment.set_daemon(0, Daemon::Off);
    scene.at(5000);
    let bound = scene.bounds.cover.as_millis() as u64;
    scene.at(5000 + bound);
    scene.assert_quiet();
    scene.at(5001 + bound);
    scene.assert_found("coverage: nobody among b, c holds v1");
}

#[test]
fn nobody_covers_where_nobody_is_mature() {
    let mut scene = Scene::new("");
    scene.disturb(5000);
    for node in 0..3 {
        scene.segment.power_off(ms(5000), node);
        scene.segment.kernels.power_on(node);
        scene.segment.set_daemon(node, Daemon::Running(ms(5000)));
    }
    scene.at(5000);
    scene.at(6900);
    scene.assert_quiet();
    scene.at(8000);
    scene.at(8100);
    scene.assert_found("coverage: nobody among a, b, c holds v1");
}

#[test]
fn one_view_with_two_member_sets_is_found() {
    let mut scene = Scene::new("");
    let id = NodeId::from_name;
    let view = ViewId { epoch: 3, coordinator: id("a") };
    let installed = |members: &[&str]| Event::ViewInstalled {
        view,
        primary: true,
        members: members.iter().map(|name| id(name)).collect(),
    };
    scene.says(100, 0, installed(&["a", "b"]));
    scene.says(101, 1, installed(&["b", "a"]));
    scene.at(102);
    scene.assert_quiet();
    scene.says(103, 2, installed(&["a", "c"]));
    scene.at(104);
    scene.assert_found("agreement: view 3/a has members {a,b} for a and {a,c} for c");
}

#[test]
fn an_uneven_load_is_found_once_everything_should_have_settled() {
    let mut scene = Scene::new("");
    scene.disturb(1000);
    scene.segment.release(ms(1000), 1, 1);
    scene.segment.acquire(ms(1000), 0, 1);
    scene.at(1001);
    let settled = 1000 + scene.bounds.settle.as_millis() as u64;
    scene.at(settled - 1);
    scene.assert_quiet();
    scene.at(settled + 1);
    scene.assert_found("balance: a has 2 VIPs (weight 1) and b has 0 (weight 1)");
}

#[test]
fn an_uneven_load_by_weight_or_by_preference_is_even() {
    for addition in [
        "[node.a]\nweight = 3\n[node.b]\nweight = 1\n[node.c]\nweight = 0\n",
        "[vip.v1]\nprefer = [\"a\"]\n[vip.v2]\nprefer = [\"a\"]\n",
    ] {
        let mut scene = Scene::new(addition);
        scene.disturb(1000);
        scene.segment.release(ms(1000), 1, 1);
        scene.segment.acquire(ms(1000), 0, 1);
        scene.at(1001);
        scene.at(30_000);
        scene.assert_quiet();
    }
}

#[test]
fn a_move_in_a_settled_world_is_found_and_moves_are_counted() {
    let mut scene = Scene::new("[[expect]]\nafter = \"start\"\nmoves_max = 0\n");
    scene.segment.release(ms(50_000), 0, 0);
    scene.segment.acquire(ms(50_000), 2, 0);
    scene.segment.announce(ms(50_000), 2, 0);
    scene.at(50_001);
    scene.assert_found("stability: v1 was acquired on c");
    assert_eq!(scene.checks.measurements().moves, 1);
    scene.at(59_999);
    scene.assert_found(
        "moves_max: expected moves_max = 0 in the whole run: v1 goes from a to c at 50.000 s",
    );
}

#[test]
fn a_move_whose_reason_is_that_nothing_moves_is_found() {
    let mut scene = Scene::new("");
    scene.disturb(5000);
    scene.segment.release(ms(5000), 0, 0);
    scene.segment.acquire(ms(5000), 2, 0);
    scene.segment.announce(ms(5000), 2, 0);
    let vip = scene.scenario.vips[0].vip.id();
    scene.says(5001, 2, Event::Acquired { vip, reason: Reason::Kept });
    scene.at(5001);
    scene.assert_found("stability: v1 moved to c for no other reason");
}

#[test]
fn a_client_that_was_not_told_is_found() {
    let mut scene = Scene::new("");
    scene.segment.release(ms(5000), 0, 0);
    scene.segment.acquire(ms(5000), 2, 0);
    scene.at(5000);
    let notice = scene.bounds.notice.as_millis() as u64;
    scene.at(5000 + notice);
    scene.assert_quiet();
    scene.at(5001 + notice);
    scene.assert_found("caches: client does not send to c");
}

#[test]
fn a_daemon_that_leaves_something_behind_is_found() {
    let mut scene = Scene::new("");
    scene.segment.set_daemon(0, Daemon::Ended);
    scene.segment.journal.push(ms(5000), What::Ended { node: 0 });
    scene.at(5000);
    scene.assert_found("leftovers: a has left and still has v1");
}

#[test]
fn a_refused_datagram_needs_an_explanation() {
    let refused = || Event::Rejected {
        from: "10.77.0.11:7700".parse().expect("an address"),
        rejection: Rejection::WrongKey,
    };
    let mut clean = Scene::new("");
    clean.says(5000, 1, refused());
    clean.at(5000);
    clean.assert_found("oddities: b: refused a datagram");

    let mut noisy = Scene::new("");
    noisy.segment.netem.set(None, crate::netem::Knob::Corrupt, 0.1);
    noisy.says(5000, 1, refused());
    noisy.at(5000);
    noisy.assert_quiet();
}
