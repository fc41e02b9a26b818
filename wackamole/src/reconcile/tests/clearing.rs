//! What is asked of the segment before an address is acquired, and what is done about others who use it.

mod taking;

use wackamole_protocol::id::NodeId;
use wackamole_protocol::mac::{Claim, MacAddress};
use wackamole_protocol::time::Deadline;

use super::*;

const LOW: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const HIGH: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 5]);

fn lan() -> (Reconciler, VipId) {
    (Reconciler::new(&config(1, Partition::Lan)), vip(0).id())
}

fn claim(reconciler: &mut Reconciler, by: MacAddress, claim: Claim, at: Instant) {
    let event = AddressEvent::Claimed { vip: vip(0).id(), by, ours: OURS, claim };
    reconciler.handle_event(event, at);
    settle(reconciler, at);
}

/// What has come in has its effect.
fn settle(reconciler: &mut Reconciler, now: Instant) {
    if reconciler.poll_timeout().at <= now {
        reconciler.handle_timeout(now);
    }
}

fn want(reconciler: &mut Reconciler, id: VipId, from: Option<NodeId>, at: Instant) {
    let from = from.into_iter().collect();
    reconciler.handle_clearing(&BTreeMap::new(), &BTreeMap::from([(id, Wanted { from })]), at);
}

/// Lets every probe go out at once, those too that wait since `from`, and runs the timers. Returns how many there were.
fn run(reconciler: &mut Reconciler, from: Instant, end: Instant) -> usize {
    let mut probes = send_probes(reconciler, from);
    while reconciler.poll_timeout().at <= end {
        let at = reconciler.poll_timeout().at;
        reconciler.handle_timeout(at);
        probes += send_probes(reconciler, at);
    }
    probes
}

fn run_timers(reconciler: &mut Reconciler, end: Instant) {
    while reconciler.poll_timeout().at <= end {
        let at = reconciler.poll_timeout().at;
        reconciler.handle_timeout(at);
    }
}

fn send_probes(reconciler: &mut Reconciler, now: Instant) -> usize {
    let mut probes = 0;
    while let Some(work) = reconciler.poll_work() {
        assert!(matches!(&work.action, Action::Probe(_)), "{work:?}");
        done(reconciler, &work, Ok(()), now);
        settle(reconciler, now);
        probes += 1;
    }
    probes
}

#[test]
fn a_prospective_heir_that_nobody_answers_loses_no_time() {
    let (mut reconciler, id) = lan();
    reconciler.handle_clearing(&BTreeMap::from([(id, false)]), &BTreeMap::new(), start());
    let probes = run(&mut reconciler, start(), start() + ms(199));
    assert_eq!(probes, 10, "each shows whether the one before was heard");
    assert_eq!(outcomes(&mut reconciler), []);

    want(&mut reconciler, id, None, start() + ms(200));
    assert_eq!(outcomes(&mut reconciler), []);
    let last = send_probes(&mut reconciler, start() + ms(200));

    assert_eq!(
        last, 2,
        "whoever came since the last probe is heard of, and hears that it is taken"
    );
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn a_prospective_heir_whose_port_died_after_its_last_probe_takes_nothing() {
    let (mut reconciler, id) = lan();
    reconciler.handle_clearing(&BTreeMap::from([(id, false)]), &BTreeMap::new(), start());
    run(&mut reconciler, start(), start() + ms(199));
    want(&mut reconciler, id, None, start() + ms(200));
    let last = reconciler.poll_work().expect("a probe");

    done(&mut reconciler, &last, Err(AddressError::NothingHeard), start() + ms(200));

    assert_eq!(outcomes(&mut reconciler), []);
}

#[test]
fn whoever_has_not_probed_before_waits_for_an_answer() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    run(&mut reconciler, start(), start() + ms(29));
    assert_eq!(outcomes(&mut reconciler), []);
    run(&mut reconciler, start(), start() + ms(30));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn a_rival_that_asked_a_moment_before_is_heard_when_it_asks_again() {
    let (mut reconciler, id) = lan();
    claim(&mut reconciler, LOW, Claim::Wants, start());
    want(&mut reconciler, id, None, start() + ms(3));
    run(&mut reconciler, start() + ms(3), start() + ms(24));
    // It takes what it asks for now, and announces it a moment later.
    claim(&mut reconciler, LOW, Claim::Wants, start() + ms(25));
    run(&mut reconciler, start() + ms(25), start() + ms(27));
    claim(&mut reconciler, LOW, Claim::Uses, start() + ms(28));
    run(&mut reconciler, start() + ms(28), start() + ms(60));

    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
}

#[test]
fn nothing_is_free_before_answers_can_have_been_heard() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    let first = reconciler.poll_work().expect("a probe");
    // Whoever sends it does not get its turn.
    run_timers(&mut reconciler, start() + ms(3_000));
    assert!(reconciler.poll_work().is_none(), "one probe at a time");
    done(&mut reconciler, &first, Ok(()), start() + ms(3_000));
    assert_eq!(outcomes(&mut reconciler), []);

    // Now it does not get to hear the answer.
    reconciler.handle_timeout(start() + ms(3_020));
    assert_eq!(outcomes(&mut reconciler), []);
    let second = reconciler.poll_work().expect("another probe");
    claim(&mut reconciler, LOW, Claim::Uses, start() + ms(3_300));
    done(&mut reconciler, &second, Ok(()), start() + ms(3_300));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
}

#[test]
fn a_probe_that_could_not_be_sent_says_nothing() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    for beat in 0..20 {
        let at = start() + ms(100 * beat);
        reconciler.handle_timeout(at);
        let work = reconciler.poll_work().expect("a probe");
        done(&mut reconciler, &work, Err(trouble()), at + ms(1));
    }
    assert_eq!(outcomes(&mut reconciler), []);

    run(&mut reconciler, start() + ms(2_000), start() + ms(2_030));

    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn what_is_answered_stays_where_it_is_until_nobody_answers_any_more() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    let mut probes = 0;
    for beat in 0..50 {
        let at = start() + ms(100 * beat);
        probes += run(&mut reconciler, at, at);
        claim(&mut reconciler, LOW, Claim::Uses, at + ms(3));
    }
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
    assert_eq!(probes, 50);

    // The last answer came after 4903 ms, and the failure timeout is 400 ms.
    run(&mut reconciler, start(), start() + ms(5_302));
    assert_eq!(outcomes(&mut reconciler), []);
    run(&mut reconciler, start(), start() + ms(5_303));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn a_lost_answer_takes_nothing_away_from_a_machine_that_lives() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    for beat in [0, 1, 4, 5, 8] {
        let at = start() + ms(100 * beat);
        run(&mut reconciler, at, at);
        claim(&mut reconciler, LOW, Claim::Uses, at + ms(3));
    }
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
}

#[test]
fn nothing_is_free_where_nothing_is_heard() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    let deaf = || Err(AddressError::NothingHeard);
    for (probe, result) in [Ok(()), deaf(), Ok(()), deaf()].into_iter().enumerate() {
        let at = start() + ms(100) * probe as u32;
        run_timers(&mut reconciler, at);
        let work = reconciler.poll_work().expect("a probe");
        done(&mut reconciler, &work, result, at);
        run_timers(&mut reconciler, at + ms(19));
    }
    assert_eq!(outcomes(&mut reconciler), []);

    run(&mut reconciler, start() + ms(319), start() + ms(430));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn where_frames_are_far_apart_some_before_a_probe_and_some_after_it_are_enough_in_the_end() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    // Somebody says something every 300 ms.
    let (mut frames, mut probes, mut cleared_at) = (0, 0, None);
    for time in 0..1_500 {
        let at = start() + ms(time);
        run_timers(&mut reconciler, at);
        while let Some(work) = reconciler.poll_work() {
            let heard = std::mem::replace(&mut frames, time / 300) != time / 300;
            let result = if heard { Ok(()) } else { Err(AddressError::NothingHeard) };
            done(&mut reconciler, &work, result, at);
            probes += 1;
        }
        if cleared_at.is_none() && !outcomes(&mut reconciler).is_empty() {
            cleared_at = Some(time);
        }
    }
    // What was said at 600 ms and at 900 ms came before and after a probe.
    assert!(cleared_at.is_some_and(|at| (900..=1_000).contains(&at)), "{cleared_at:?}");
    assert!(probes < 40, "{probes} probes");
}

#[test]
fn an_answer_before_the_lease_was_over_for_sure_costs_no_failure_timeout() {
    let (mut reconciler, id) = lan();
    reconciler.handle_clearing(&BTreeMap::from([(id, false)]), &BTreeMap::new(), start());
    send_probes(&mut reconciler, start());
    claim(&mut reconciler, LOW, Claim::Uses, start() + ms(1));
    run(&mut reconciler, start() + ms(2), start() + ms(89));
    want(&mut reconciler, id, None, start() + ms(90));
    run(&mut reconciler, start() + ms(90), start() + ms(120));

    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn where_something_answers_for_everybody_the_wait_ends() {
    let mut config = config(1, Partition::Lan);
    config.safety.lan_wait_max = Some(ms(1_000));
    let (mut reconciler, id) = (Reconciler::new(&config), vip(0).id());
    want(&mut reconciler, id, None, start());
    for beat in 0..10 {
        let at = start() + ms(100 * beat);
        run(&mut reconciler, at, at);
        claim(&mut reconciler, LOW, Claim::Uses, at + ms(1));
    }
    run(&mut reconciler, start(), start() + ms(999));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
    run(&mut reconciler, start(), start() + ms(1_000));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
    reconciler.handle_clearing(&BTreeMap::new(), &BTreeMap::new(), start() + ms(1_000));
    reconciler.handle_desired(1, &BTreeSet::from([id]), start() + ms(1_001));
    claim(&mut reconciler, LOW, Claim::Uses, start() + ms(1_002));
    assert_eq!(outcomes(&mut reconciler), [], "that was waited out");
}

#[test]
fn of_two_that_probe_the_lower_address_goes_first() {
    for (by, waits) in [(LOW, true), (MacAddress([2, 0, 0, 0, 0, 9]), false)] {
        let (mut reconciler, id) = lan();
        want(&mut reconciler, id, None, start());
        send_probes(&mut reconciler, start());
        claim(&mut reconciler, by, Claim::Wants, start() + ms(5));
        run(&mut reconciler, start(), start() + ms(50));
        let cleared = outcomes(&mut reconciler).contains(&AddressOutcome::Cleared { vip: id });
        assert_eq!(cleared, !waits, "{by}");
    }
}

#[test]
fn whoever_asked_before_the_lease_was_over_goes_first_if_it_may_be_a_rival() {
    for rivals in [true, false] {
        let (mut reconciler, id) = lan();
        reconciler.handle_clearing(&BTreeMap::from([(id, rivals)]), &BTreeMap::new(), start());
        run(&mut reconciler, start(), start() + ms(90));
        claim(&mut reconciler, LOW, Claim::Wants, start() + ms(90));
        want(&mut reconciler, id, None, start() + ms(100));
        run(&mut reconciler, start() + ms(100), start() + ms(209));
        let cleared = outcomes(&mut reconciler).contains(&AddressOutcome::Cleared { vip: id });
        assert_eq!(cleared, !rivals);

        run(&mut reconciler, start() + ms(209), start() + ms(231));
        let cleared = outcomes(&mut reconciler).contains(&AddressOutcome::Cleared { vip: id });
        assert_eq!(cleared, rivals, "it asks no more");
    }
}

#[test]
fn what_is_free_is_asked_about_until_the_kernel_has_it() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    run(&mut reconciler, start(), start() + ms(30));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
    reconciler.handle_clearing(&BTreeMap::new(), &BTreeMap::new(), start() + ms(30));
    reconciler.handle_desired(1, &BTreeSet::from([id]), start() + ms(31));
    let acquire = reconciler.poll_work().expect("it is acquired");
    assert!(matches!(&acquire.action, Action::Acquire(_)), "{acquire:?}");

    let probes = run(&mut reconciler, start() + ms(31), start() + ms(95));
    assert_eq!(probes, 3, "others hear of it while the kernel is busy");

    done(&mut reconciler, &acquire, Ok(()), start() + ms(96));
    while let Some(work) = reconciler.poll_work() {
        assert!(matches!(&work.action, Action::Announce(_)), "{work:?}");
    }
    run_timers(&mut reconciler, start() + ms(300));
    assert!(reconciler.poll_work().is_none(), "the kernel answers for itself");
}

#[test]
fn what_is_free_and_not_acquired_after_all_is_not_asked_about_for_ever() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    run(&mut reconciler, start(), start() + ms(30));
    reconciler.handle_clearing(&BTreeMap::new(), &BTreeMap::new(), start() + ms(30));
    run(&mut reconciler, start() + ms(30), start() + ms(429));
    assert_eq!(run(&mut reconciler, start() + ms(430), start() + ms(5_000)), 0);
    assert_eq!(reconciler.poll_timeout(), Deadline::NEVER);
}

#[test]
fn what_comes_in_long_after_a_probe_does_not_show_that_the_probe_was_heard() {
    let (mut reconciler, id) = lan();
    reconciler.handle_clearing(&BTreeMap::from([(id, true)]), &BTreeMap::new(), start());
    let first = reconciler.poll_work().expect("a probe");
    done(&mut reconciler, &first, Ok(()), start());
    reconciler.handle_timeout(start() + ms(20));
    let second =
        reconciler.poll_work().expect("it is asked again as soon as an answer would be here");
    done(&mut reconciler, &second, Err(AddressError::NothingHeard), start() + ms(20));
    run_timers(&mut reconciler, start() + ms(120));
    let third = reconciler.poll_work().expect("a probe");
    // The port is dead until just before the next one, which somebody who holds the VIP has heard.
    done(&mut reconciler, &third, Err(AddressError::NothingHeard), start() + ms(120));
    want(&mut reconciler, id, None, start() + ms(170));
    let fourth = reconciler.poll_work().expect("a probe");
    done(&mut reconciler, &fourth, Ok(()), start() + ms(170));
    run_timers(&mut reconciler, start() + ms(189));
    assert_eq!(outcomes(&mut reconciler), []);

    claim(&mut reconciler, LOW, Claim::Uses, start() + ms(174));
    run(&mut reconciler, start() + ms(174), start() + ms(250));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
}

#[test]
fn a_probe_that_goes_out_late_is_the_first_again() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    let first = reconciler.poll_work().expect("a probe");
    done(&mut reconciler, &first, Ok(()), start());
    reconciler.handle_timeout(start() + ms(20));
    let second = reconciler.poll_work().expect("another");
    // Whoever sends it does not get its turn; what has come in may have come just now.
    done(&mut reconciler, &second, Ok(()), start() + ms(70));
    run(&mut reconciler, start() + ms(71), start() + ms(90));
    assert_eq!(outcomes(&mut reconciler), []);
    run(&mut reconciler, start() + ms(91), start() + ms(102));

    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn a_rival_that_asks_for_ever_is_not_waited_for() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    for beat in 0..8 {
        let at = start() + ms(100 * beat);
        claim(&mut reconciler, LOW, Claim::Wants, at);
        run(&mut reconciler, at, at + ms(99));
        assert!(!outcomes(&mut reconciler).contains(&AddressOutcome::Cleared { vip: id }));
    }
    claim(&mut reconciler, LOW, Claim::Wants, start() + ms(800));
    run(&mut reconciler, start() + ms(800), start() + ms(930));
    assert!(outcomes(&mut reconciler).contains(&AddressOutcome::Cleared { vip: id }));
}

#[test]
fn a_rival_is_waited_for_from_when_it_could_take_what_it_asks_for() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    // For long neither of two can take it, because somebody lives there.
    for beat in 0..30 {
        let at = start() + ms(100 * beat);
        claim(&mut reconciler, LOW, Claim::Wants, at);
        claim(&mut reconciler, HIGH, Claim::Uses, at);
        run(&mut reconciler, at, at + ms(99));
    }
    for beat in 30..36 {
        let at = start() + ms(100 * beat);
        claim(&mut reconciler, LOW, Claim::Wants, at);
        run(&mut reconciler, at, at + ms(99));
    }
    let cleared = AddressOutcome::Cleared { vip: id };
    assert!(!outcomes(&mut reconciler).contains(&cleared), "the rival goes first");

    run(&mut reconciler, start() + ms(3_600), start() + ms(3_730));
    assert!(outcomes(&mut reconciler).contains(&cleared), "it has given up");
}

#[test]
fn a_node_that_vanished_is_fenced_before_anything_is_taken_over_from_it() {
    let mut config = config(2, Partition::Component);
    config.safety.fences_nodes = true;
    let b = config.nodes[1].id();
    let mut reconciler = Reconciler::new(&config);
    let from_b = Wanted { from: BTreeSet::from([b]) };
    let wanted = BTreeMap::from([(vip(0).id(), from_b.clone()), (vip(1).id(), from_b)]);
    reconciler.handle_clearing(&BTreeMap::new(), &wanted, start());
    let first = reconciler.poll_work().expect("one command for both");
    assert!(matches!(&first.action, Action::FenceNode(name) if name == "b"));
    assert!(reconciler.poll_work().is_none());

    let failed = Err(AddressError::Other("exit status 1".into()));
    done(&mut reconciler, &first, failed, start() + ms(500));
    run_timers(&mut reconciler, start() + ms(1_500));
    assert_eq!(outcomes(&mut reconciler), []);
    let second = reconciler.poll_work().expect("it is run again");
    done(&mut reconciler, &second, Ok(()), start() + ms(1_600));
    settle(&mut reconciler, start() + ms(1_600));

    let cleared: Vec<_> = outcomes(&mut reconciler);
    assert_eq!(cleared.len(), 2, "{cleared:?}");
}

#[test]
fn an_address_is_defended_once_and_then_it_is_told() {
    let (mut reconciler, id) = held();
    let again = |reconciler: &mut Reconciler, at| {
        claim(reconciler, LOW, Claim::Uses, at);
        let mut announced = false;
        while let Some(work) = reconciler.poll_work() {
            announced |= matches!(work.action, Action::Announce(_));
            done(reconciler, &work, Ok(()), at);
        }
        (announced, outcomes(reconciler))
    };
    let told = |again| AddressOutcome::Contested { vip: id, by: LOW, ours: OURS, again };
    assert_eq!(again(&mut reconciler, start() + ms(10)), (true, vec![told(false)]));
    let answered = again(&mut reconciler, start() + ms(14));
    assert_eq!(answered, (false, vec![told(true)]), "one of the two yields within a round trip");
    assert_eq!(again(&mut reconciler, start() + ms(20)), (false, vec![]));
    assert_eq!(again(&mut reconciler, start() + ms(1_050)).1, [told(true)]);
    assert_eq!(again(&mut reconciler, start() + ms(10_050)), (true, vec![told(false)]));

    claim(&mut reconciler, LOW, Claim::Wants, start() + ms(30_000));
    assert_eq!(outcomes(&mut reconciler), [], "the kernel answers those who probe");
}

#[test]
fn a_fence_command_that_has_run_counts_after_an_install_in_which_nothing_was_wanted() {
    let mut config = config(1, Partition::Component);
    config.safety.fences_nodes = true;
    let b = config.nodes[1].id();
    let (mut reconciler, id) = (Reconciler::new(&config), vip(0).id());
    want(&mut reconciler, id, Some(b), start());
    let command = reconciler.poll_work().expect("a command");
    reconciler.handle_clearing(&BTreeMap::new(), &BTreeMap::new(), start() + ms(5_000));
    done(&mut reconciler, &command, Ok(()), start() + ms(5_001));
    settle(&mut reconciler, start() + ms(5_001));
    want(&mut reconciler, id, Some(b), start() + ms(5_002));
    settle(&mut reconciler, start() + ms(5_002));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);

    // It vanishes again, later.
    reconciler.handle_clearing(&BTreeMap::new(), &BTreeMap::new(), start() + ms(5_003));
    want(&mut reconciler, id, Some(b), start() + ms(6_000));
    assert!(matches!(next(&mut reconciler), Some(Action::FenceNode(_))));
}

#[test]
fn a_fence_command_that_failed_is_not_waited_for_when_nobody_wants_anything_of_its_node() {
    let mut config = config(1, Partition::Component);
    config.safety.fences_nodes = true;
    let b = config.nodes[1].id();
    let (mut reconciler, id) = (Reconciler::new(&config), vip(0).id());
    want(&mut reconciler, id, Some(b), start());
    let command = reconciler.poll_work().expect("a command");
    done(&mut reconciler, &command, Err(trouble()), start() + ms(100));
    settle(&mut reconciler, start() + ms(100));
    assert_eq!(reconciler.poll_timeout().at, start() + ms(1_100), "once more");

    reconciler.handle_clearing(&BTreeMap::new(), &BTreeMap::new(), start() + ms(200));
    assert_eq!(reconciler.poll_timeout(), Deadline::NEVER);
    assert!(reconciler.poll_work().is_none());
}
