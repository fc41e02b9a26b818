//! What differs from policy to policy, and what fences and stopped machines are allowed.

use super::*;

const OWN: &str = "[network]\nsegment = \"own\"\n";

fn policy(word: &str) -> String {
    format!("[safety]\npartition = \"{word}\"\n{OWN}")
}

fn apart(links: &mut Links) {
    links.partition(&[vec![0], vec![1, 2, 3]]);
}

#[test]
fn two_parts_on_one_segment_are_what_component_is_for_and_what_lan_and_quorum_exclude() {
    for (word, good) in [("component", true), ("lan", false), ("quorum", false)] {
        let mut scene = Scene::new(&policy(word));
        scene.disturb(5000);
        scene.segment.rewire(Net::Heartbeats, apart);
        scene.at(5001);
        scene.segment.acquire(ms(5400), 1, 0);
        scene.at(5401);
        assert_eq!(scene.violations.is_empty(), good, "{word}: {:?}", scene.violations);
        scene.segment.release(ms(9401), 1, 0);
        scene.at(9401);
        let split = if good { ms(4000) } else { ms(0) };
        assert_eq!(scene.checks.measurements().split_overlap_max, split, "{word}");
    }
}

#[test]
fn two_parts_of_a_segment_are_judged_when_they_meet_under_lan_and_at_once_under_quorum() {
    for (word, good) in [("lan", true), ("quorum", false)] {
        let mut scene = Scene::new(&policy(word));
        scene.disturb(5000);
        // Whoever is alone has no right to anything new, so the third machine goes with the first.
        let groups = |links: &mut Links| links.partition(&[vec![0, 2], vec![1, 3]]);
        scene.segment.rewire(Net::Heartbeats, groups);
        scene.segment.rewire(Net::Segment, groups);
        scene.at(5001);
        scene.segment.acquire(ms(5400), 1, 0);
        scene.at(5401);
        assert_eq!(scene.violations.is_empty(), good, "{word}: {:?}", scene.violations);
        if good {
            scene.disturb(9000);
            scene.segment.rewire(Net::Heartbeats, Links::heal_all);
            scene.segment.rewire(Net::Segment, Links::heal_all);
            scene.at(9000);
            let window = scene.bounds.merge.as_millis() as u64;
            scene.at(9000 + window);
            scene.violations.retain(|violation| violation.contains("exclusivity"));
            scene.assert_quiet();
            scene.at(9001 + window);
            scene.assert_found("two parts met");
        }
    }
}

#[test]
fn whoever_acquires_behind_a_dead_port_is_found_when_the_port_is_back() {
    for (acquired_before, good) in [(true, true), (false, false)] {
        let mut scene = Scene::new("[safety]\npartition = \"lan\"\n");
        scene.disturb(5000);
        scene.at(5000);
        scene.segment.rewire(Net::Both, |links| links.set_port(0, false));
        scene.at(5001);
        if acquired_before {
            // What the lone machine has had all the time, somebody else has acquired.
            scene.segment.acquire(ms(5300), 1, 0);
        } else {
            scene.segment.acquire(ms(5300), 0, 1);
        }
        scene.at(5301);
        scene.disturb(5350);
        scene.segment.rewire(Net::Both, |links| links.set_port(0, true));
        scene.at(5350);
        assert_eq!(scene.violations.is_empty(), good, "{:?}", scene.violations);
    }
}

#[test]
fn beside_a_dead_daemon_only_as_much_is_allowed_as_its_fences_need() {
    for (only, allowed) in [("gate", 0), ("guardian", 0), ("lifetime", 1900)] {
        let fences: String = ["gate", "guardian", "lifetime"]
            .iter()
            .map(|fence| format!("{fence} = {}\n", *fence == only))
            .collect();
        let mut scene = Scene::new(&format!("[fences]\n{fences}")).fenced();
        scene.disturb(5000);
        scene.segment.set_daemon(0, Daemon::Killed);
        scene.at(5001);
        scene.segment.acquire(ms(5400), 1, 0);
        scene.at(5401);
        scene.at(5401 + allowed);
        assert_eq!(scene.violations.is_empty(), allowed > 0, "{only}: {:?}", scene.violations);
        scene.violations.clear();
        scene.at(5402 + allowed);
        assert_eq!(scene.violations.is_empty(), allowed == 0, "{only}: {:?}", scene.violations);
    }
}

#[test]
fn a_machine_that_goes_on_after_a_stop_is_outside_the_assumptions_and_bounded() {
    let mut scene = Scene::new("[safety]\npartition = \"quorum\"\n");
    scene.disturb(5000);
    scene.segment.kernels.set_frozen(0, true);
    scene.segment.set_daemon(0, Daemon::Frozen(ms(0)));
    scene.at(5001);
    scene.segment.acquire(ms(5400), 1, 0);
    scene.at(5401);
    scene.disturb(8000);
    scene.segment.kernels.set_frozen(0, false);
    scene.segment.thawed[0] = Some(ms(8000));
    scene.segment.set_daemon(0, Daemon::Running(ms(0)));
    scene.at(8001);
    scene.assert_quiet();
    scene.segment.release(ms(8050), 0, 0);
    scene.at(8050);
    assert_eq!(scene.checks.measurements().outside_overlap_max, ms(49));

    scene.segment.acquire(ms(12_000), 0, 0);
    scene.at(12_001);
    scene.assert_found("exclusivity: v1 is answered by a (running) and b (running)");
}

#[test]
fn clocks_beyond_the_drift_excuse_an_overlap_as_long_as_their_excess() {
    let slow = "[node.a]\ndrift = \"-100000ppm\"\n[safety]\npartition = \"quorum\"\n";
    let mut scene = Scene::new(slow);
    let bound = scene.bounds.drift_overlap.as_millis() as u64;
    assert!((44..=47).contains(&bound), "{bound}");
    scene.segment.acquire(ms(5000), 1, 0);
    scene.at(5000);
    scene.at(5000 + bound);
    scene.assert_quiet();
    scene.at(5001 + bound);
    scene.assert_found("clocks differ by more than the configured drift");
}

#[test]
fn under_quorum_a_majority_must_serve_and_a_minority_need_not() {
    let mut scene = Scene::new("[safety]\npartition = \"quorum\"\n");
    scene.at(10_000);
    scene.disturb(10_500);
    scene.segment.rewire(Net::Both, apart);
    scene.segment.release(ms(10_500), 0, 0);
    scene.at(10_500);
    let bound = scene.bounds.cover.as_millis() as u64;
    scene.at(10_500 + bound);
    scene.assert_quiet();
    scene.at(10_600 + bound);
    scene.assert_found("coverage: nobody among b, c holds v1");
    assert!(!scene.violations.iter().any(|v| v.contains("among a")), "{:?}", scene.violations);

    // Dynamic voting: of the primary view {b, c} the lower rank decides, and a has no say.
    scene.disturb(20_000);
    scene.segment.acquire(ms(20_000), 1, 0);
    scene.segment.rewire(Net::Both, |links| links.partition(&[vec![0, 2, 3], vec![1]]));
    scene.violations.clear();
    scene.at(20_000);
    scene.segment.release(ms(20_001), 1, 0);
    scene.segment.release(ms(20_001), 1, 1);
    scene.at(20_001);
    scene.at(20_100 + bound);
    scene.at(20_200 + bound);
    scene.assert_found("coverage: nobody among b holds v1");
}

#[test]
fn whoever_is_cut_off_from_the_witness_and_from_others_must_not_serve_and_whoever_reaches_it_must()
{
    let rules = "[safety]\npartition = \"quorum\"\nmust_reach = true\n";
    let cut_off = |of: [usize; 2], witness: bool| {
        let mut scene = Scene::new(rules);
        scene.at(10_000);
        scene.disturb(10_500);
        let other = 3 - of[0] - of[1];
        let mut groups = vec![of.to_vec(), vec![other]];
        groups[usize::from(!witness)].push(3);
        scene.segment.rewire(Net::Both, |links| links.partition(&groups));
        scene.at(10_500);
        let bound = scene.bounds.cover.as_millis() as u64;
        scene.at(10_500 + bound);
        scene.assert_quiet();
        scene.at(10_501 + bound);
        scene.at(10_700 + bound);
        (scene, bound)
    };
    // b and c could decide without a, if the witness answered them.
    let (scene, _) = cut_off([1, 2], false);
    scene.assert_found("coverage: a holds v1, cut off from others and from the witness");
    scene.assert_found("coverage: b holds v2, cut off from others and from the witness");
    assert_eq!(scene.violations.len(), 2, "{:?}", scene.violations);

    // It does: then nobody must hold what a held, which has none to decide with, but they.
    let (scene, _) = cut_off([1, 2], true);
    scene.assert_found("coverage: nobody among b, c holds v1");
    scene.assert_found("coverage: a holds v1, cut off from others and from the witness");

    // All are there: nobody is lost, whether the witness answers or not.
    let mut scene = Scene::new(rules);
    scene.at(10_000);
    scene.disturb(10_500);
    scene.segment.rewire(Net::Both, |links| links.partition(&[vec![0, 1, 2], vec![3]]));
    scene.segment.release(ms(10_500), 0, 0);
    scene.at(10_500);
    let bound = scene.bounds.cover.as_millis() as u64;
    scene.at(10_501 + bound);
    scene.at(10_700 + bound);
    scene.assert_found("coverage: nobody among a, b, c holds v1");
    assert_eq!(scene.violations.len(), 1, "{:?}", scene.violations);
}

#[test]
fn a_member_that_reaches_the_witness_has_time_for_each_of_lower_rank_that_does_not() {
    let mut scene = Scene::new("[safety]\npartition = \"quorum\"\nmust_reach = true\n");
    scene.at(10_000);
    scene.disturb(10_500);
    scene.segment.rewire(Net::Both, |links| links.partition(&[vec![0, 1], vec![2], vec![3]]));
    scene.segment.rewire(Net::Both, |links| links.heal(1, 3));
    scene.segment.release(ms(10_500), 0, 0);
    scene.at(10_500);
    let cover = scene.bounds.cover + scene.scenario.timing.failure_timeout;
    let bound = cover.as_millis() as u64;
    scene.at(10_400 + bound);
    scene.at(10_500 + bound);
    scene.assert_quiet();
    scene.at(10_501 + bound);
    scene.at(10_600 + bound);
    scene.assert_found("coverage: nobody among a, b holds v1");
}

#[test]
fn under_lan_a_holder_elsewhere_counts_as_long_as_it_answers() {
    let mut scene = Scene::new(&policy("lan"));
    scene.disturb(10_000);
    scene.segment.rewire(Net::Heartbeats, apart);
    scene.at(10_001);
    scene.at(12_000);
    scene.violations.retain(|violation| violation.contains("coverage"));
    scene.assert_quiet();
    scene.segment.release(ms(12_000), 0, 0);
    scene.at(12_001);
    // Either part may find that the other one asks too.
    let disputed = 12_000 + scene.bounds.dispute.as_millis() as u64;
    scene.at(disputed);
    scene.assert_quiet();
    scene.at(disputed + 100);
    scene.assert_found("coverage: nobody among a holds v1");
    scene.assert_found("coverage: nobody among b, c holds v1");
}
