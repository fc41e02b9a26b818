//! What is asked of the segment before an address is acquired, and what is done about others who use it.

use super::*;

const LOW: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 5]);

fn lan() -> (Reconciler, VipId) {
    (Reconciler::new(&config(1, Partition::Lan)), vip(0).id())
}

fn claim(reconciler: &mut Reconciler, by: MacAddress, claim: Claim, at: Instant) {
    let event = AddressEvent::Claimed { vip: vip(0).id(), by, ours: OURS, claim };
    reconciler.handle_event(event, at);
}

fn want(reconciler: &mut Reconciler, id: VipId, from: Option<NodeId>, at: Instant) {
    reconciler.handle_clearing(&BTreeSet::new(), &BTreeMap::from([(id, from)]), at);
}

fn run_until(reconciler: &mut Reconciler, end: Instant) {
    while reconciler.poll_timeout().at <= end {
        let at = reconciler.poll_timeout().at;
        reconciler.handle_timeout(at);
    }
}

fn probes(reconciler: &mut Reconciler) -> usize {
    std::iter::from_fn(|| next(reconciler))
        .filter(|action| matches!(action, Action::Probe(_)))
        .count()
}

#[test]
fn a_prospective_heir_that_nobody_answers_loses_no_time() {
    let (mut reconciler, id) = lan();
    reconciler.handle_clearing(&BTreeSet::from([id]), &BTreeMap::new(), start());
    run_until(&mut reconciler, start() + ms(199));
    assert_eq!(probes(&mut reconciler), 2);
    assert_eq!(outcomes(&mut reconciler), []);

    want(&mut reconciler, id, None, start() + ms(200));

    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
    assert_eq!(probes(&mut reconciler), 1, "whoever came since the last probe is heard of");
}

#[test]
fn whoever_has_not_probed_before_waits_for_an_answer() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    run_until(&mut reconciler, start() + ms(19));
    assert_eq!(outcomes(&mut reconciler), []);
    run_until(&mut reconciler, start() + ms(20));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn what_is_answered_stays_where_it_is_until_nobody_answers_any_more() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    for beat in 0..50 {
        let at = start() + ms(100 * beat);
        run_until(&mut reconciler, at);
        claim(&mut reconciler, LOW, Claim::Uses, at + ms(3));
    }
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
    assert_eq!(probes(&mut reconciler), 50);

    // The last answer came after 4903 ms, and the failure timeout is 400 ms.
    run_until(&mut reconciler, start() + ms(5_302));
    assert_eq!(outcomes(&mut reconciler), []);
    run_until(&mut reconciler, start() + ms(5_303));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn a_lost_answer_takes_nothing_away_from_a_machine_that_lives() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    for beat in [0, 1, 4, 5, 8] {
        let at = start() + ms(100 * beat);
        run_until(&mut reconciler, at);
        claim(&mut reconciler, LOW, Claim::Uses, at + ms(3));
    }
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
}

#[test]
fn an_answer_before_the_lease_was_over_for_sure_costs_no_time() {
    let (mut reconciler, id) = lan();
    reconciler.handle_clearing(&BTreeSet::from([id]), &BTreeMap::new(), start());
    claim(&mut reconciler, LOW, Claim::Uses, start() + ms(1));

    want(&mut reconciler, id, None, start() + ms(90));
    run_until(&mut reconciler, start() + ms(110));

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
        run_until(&mut reconciler, at);
        claim(&mut reconciler, LOW, Claim::Uses, at + ms(1));
    }
    run_until(&mut reconciler, start() + ms(999));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
    run_until(&mut reconciler, start() + ms(1_000));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
}

#[test]
fn of_two_that_probe_the_lower_address_goes_first() {
    for (by, waits) in [(LOW, true), (MacAddress([2, 0, 0, 0, 0, 9]), false)] {
        let (mut reconciler, id) = lan();
        want(&mut reconciler, id, None, start());
        claim(&mut reconciler, by, Claim::Wants, start() + ms(5));
        run_until(&mut reconciler, start() + ms(50));
        let cleared = outcomes(&mut reconciler).contains(&AddressOutcome::Cleared { vip: id });
        assert_eq!(cleared, !waits, "{by}");
    }
}

#[test]
fn a_node_that_vanished_is_fenced_before_anything_is_taken_over_from_it() {
    let mut config = config(2, Partition::Component);
    config.safety.fences_nodes = true;
    let b = config.nodes[1].id();
    let mut reconciler = Reconciler::new(&config);
    let wanted = BTreeMap::from([(vip(0).id(), Some(b)), (vip(1).id(), Some(b))]);
    reconciler.handle_clearing(&BTreeSet::new(), &wanted, start());
    let first = reconciler.poll_work().expect("one command for both");
    assert!(matches!(&first.action, Action::FenceNode(name) if name == "b"));
    assert!(reconciler.poll_work().is_none());

    let failed = Err(AddressError::Other("exit status 1".into()));
    done(&mut reconciler, &first, failed, start() + ms(500));
    run_until(&mut reconciler, start() + ms(1_500));
    assert_eq!(outcomes(&mut reconciler), []);
    let second = reconciler.poll_work().expect("it is run again");
    done(&mut reconciler, &second, Ok(()), start() + ms(1_600));

    let cleared: Vec<_> = outcomes(&mut reconciler);
    assert_eq!(cleared.len(), 2, "{cleared:?}");
}

#[test]
fn an_address_is_defended_once_and_then_it_is_told() {
    let (mut reconciler, id) = held();
    let again = |reconciler: &mut Reconciler, at| {
        claim(reconciler, LOW, Claim::Uses, at);
        let announced = std::iter::from_fn(|| next(reconciler))
            .any(|action| matches!(action, Action::Announce(_)));
        (announced, outcomes(reconciler))
    };
    let told = |again| AddressOutcome::Contested { vip: id, by: LOW, ours: OURS, again };
    assert_eq!(again(&mut reconciler, start() + ms(10)), (true, vec![told(false)]));
    assert_eq!(again(&mut reconciler, start() + ms(20)), (false, vec![]));
    assert_eq!(again(&mut reconciler, start() + ms(1_050)).1, [told(true)]);
    assert_eq!(again(&mut reconciler, start() + ms(10_050)), (true, vec![told(false)]));

    claim(&mut reconciler, LOW, Claim::Wants, start() + ms(30_000));
    assert_eq!(outcomes(&mut reconciler), [], "the kernel answers those who probe");
}
