//! What was found free ages: while the kernel works, while a process is stopped, between two tries.

use super::*;

/// A VIP that was free and is being acquired, and its acquire.
fn taking() -> (Reconciler, VipId, Work) {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    run(&mut reconciler, start(), start() + ms(30));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Cleared { vip: id }]);
    reconciler.handle_clearing(&BTreeMap::new(), &BTreeMap::new(), start() + ms(30));
    reconciler.handle_desired(1, &BTreeSet::from([id]), start() + ms(31));
    let acquire = reconciler.poll_work().expect("it is acquired");
    (reconciler, id, acquire)
}

/// It asks once more, and hears that somebody uses the VIP.
fn finds_it_taken(reconciler: &mut Reconciler, id: VipId, now: Instant) {
    let probe = reconciler.poll_work().expect("a question");
    claim(reconciler, LOW, Claim::Uses, now);
    done(reconciler, &probe, Ok(()), now + ms(1));
    settle(reconciler, now + ms(1));
    assert_eq!(outcomes(reconciler), [AddressOutcome::Occupied { vip: id, by: LOW }]);
}

#[test]
fn what_is_free_is_asked_about_however_long_the_kernel_takes() {
    let (mut reconciler, _, _) = taking();
    run(&mut reconciler, start() + ms(31), start() + ms(1_000));
    let probes = run(&mut reconciler, start() + ms(1_000), start() + ms(1_100));
    assert!(probes >= 4, "{probes} in a heartbeat, more than a failure timeout later");
}

#[test]
fn whoever_takes_what_we_are_about_to_take_or_goes_first_is_heard_of() {
    for (by, what, gives_way) in [
        (HIGH, Claim::Uses, true),
        (LOW, Claim::Uses, true),
        (LOW, Claim::Wants, true),
        (HIGH, Claim::Wants, false),
    ] {
        let (mut reconciler, id, _) = taking();
        claim(&mut reconciler, by, what, start() + ms(35));
        let expected = gives_way.then_some(AddressOutcome::Occupied { vip: id, by });
        assert_eq!(outcomes(&mut reconciler), Vec::from_iter(expected), "{by} {what:?}");
    }
}

#[test]
fn what_the_kernel_refuses_for_long_is_asked_about_before_it_is_tried_again() {
    let (mut reconciler, id, first) = taking();
    done(&mut reconciler, &first, Err(trouble()), start() + ms(32));
    let mut at = start() + ms(32);
    let mut is_stale = false;
    while !is_stale && at < start() + ms(1_500) {
        at = reconciler.poll_timeout().at;
        reconciler.handle_timeout(at);
        while let Some(work) = reconciler.poll_work() {
            let acquire = matches!(&work.action, Action::Acquire(_));
            done(&mut reconciler, &work, if acquire { Err(trouble()) } else { Ok(()) }, at);
        }
        is_stale = outcomes(&mut reconciler).contains(&AddressOutcome::Stale { vip: id });
    }
    assert!(is_stale, "as soon as it is not asked about all the time");

    // Let go of to be asked about, it fails as often as before.
    reconciler.handle_desired(2, &BTreeSet::new(), at);
    let release = reconciler.poll_work().expect("nobody knows what a failed acquire has left");
    assert!(matches!(&release.action, Action::Release(_)), "{release:?}");
    done(&mut reconciler, &release, Ok(()), at);
    reconciler.handle_desired(3, &BTreeSet::from([id]), at + ms(40));
    let again = reconciler.poll_work().expect("it is tried again");
    done(&mut reconciler, &again, Err(trouble()), at + ms(40));
    let retry = reconciler.poll_timeout().at.since(at + ms(40));
    assert!(retry >= ms(640), "{retry:?}");
}

#[test]
fn whoever_was_stopped_before_it_took_a_vip_asks_once_more() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    run(&mut reconciler, start(), start() + ms(20));
    assert_eq!(outcomes(&mut reconciler), []);

    // Nothing happens for 200 ms; then the timer comes first.
    let late = start() + ms(220);
    reconciler.handle_timeout(late);
    assert_eq!(outcomes(&mut reconciler), []);
    finds_it_taken(&mut reconciler, id, late);
}

#[test]
fn what_a_probe_found_before_a_stop_is_old_when_it_is_read_after_it() {
    let (mut reconciler, id) = lan();
    want(&mut reconciler, id, None, start());
    send_probes(&mut reconciler, start());
    // Whoever lives there falls silent, and is given up a failure timeout later.
    claim(&mut reconciler, HIGH, Claim::Uses, start() + ms(150));
    run(&mut reconciler, start() + ms(150), start() + ms(515));
    // It goes out just before the stop, and its end is read before what was said meanwhile.
    let sent = reconciler.poll_timeout().at;
    assert!(sent < start() + ms(550), "before it is given up");
    reconciler.handle_timeout(sent);
    let probe = reconciler.poll_work().expect("a question");
    outcomes(&mut reconciler);
    let late = start() + ms(900);
    done(&mut reconciler, &probe, Ok(()), late);
    reconciler.handle_timeout(late);
    assert_eq!(outcomes(&mut reconciler), []);

    finds_it_taken(&mut reconciler, id, late);
}
