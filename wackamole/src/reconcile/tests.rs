//! The reconciler alone: single rules, then anything in any order with its invariants after every step.

mod anything;
mod clearing;

use std::net::IpAddr;

use wackamole_protocol::config::{
    Balance, ClusterKey, NodeDefinition, Partition, Safety, Timing, VipDefinition,
};
use wackamole_protocol::vip::VipAddress;

use super::announcing::ANNOUNCE_AGAIN;
use super::*;

fn vip(i: u8) -> Arc<Vip> {
    let address =
        VipAddress { address: IpAddr::from([10, 0, 0, i]), prefix: 32, interface: "eth0".into() };
    Arc::new(Vip::new(format!("v{i}"), vec![address]))
}

fn config(vips: u8, partition: Partition) -> NodeConfig {
    let timing = Timing { heartbeat: ms(100), failure_timeout: ms(400), mature: ms(0) };
    let nodes: Vec<NodeDefinition> = ["a", "b"]
        .map(|name| NodeDefinition {
            name: name.into(),
            addresses: vec![],
            weight: 1,
            witness: false,
        })
        .into();
    NodeConfig {
        cluster: "test".into(),
        key: ClusterKey([0; 32]),
        me: nodes[0].id(),
        nodes,
        vips: (0..vips).map(|i| VipDefinition { vip: vip(i), prefer: vec![] }).collect(),
        timing,
        balance: Balance { moves_per_round: None, interval: ms(1_000) },
        multicast: false,
        safety: Safety::new(partition, &timing),
        must_reach: Vec::new(),
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn start() -> Instant {
    Instant::ORIGIN + ms(1_000)
}

/// One VIP that is wanted from generation 1 on.
fn wanted() -> (Reconciler, VipId) {
    let mut reconciler = Reconciler::new(&config(1, Partition::Component));
    let id = vip(0).id();
    reconciler.handle_desired(1, &BTreeSet::from([id]), start());
    (reconciler, id)
}

/// The same, acquired and announced at the start.
fn held() -> (Reconciler, VipId) {
    let (mut reconciler, id) = wanted();
    let work = reconciler.poll_work().expect("an acquire");
    done(&mut reconciler, &work, Ok(()), start());
    announce(&mut reconciler, start());
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Held { vip: id, generation: 1 }]);
    (reconciler, id)
}

/// The worker is asked for an announcement, and sends it.
#[track_caller]
fn announce(reconciler: &mut Reconciler, now: Instant) {
    let work = reconciler.poll_work().expect("an announcement");
    assert!(matches!(&work.action, Action::Announce(_)), "{work:?}");
    done(reconciler, &work, Ok(()), now);
}

fn next(reconciler: &mut Reconciler) -> Option<Action> {
    reconciler.poll_work().map(|work| work.action)
}

fn done(reconciler: &mut Reconciler, work: &Work, result: Result<(), AddressError>, now: Instant) {
    reconciler.handle_event(AddressEvent::Done { ticket: work.ticket, result }, now);
}

fn outcomes(reconciler: &mut Reconciler) -> Vec<AddressOutcome> {
    std::iter::from_fn(|| reconciler.poll_outcome()).collect()
}

fn trouble() -> AddressError {
    AddressError::Other("out of memory".into())
}

#[test]
fn releases_come_before_acquires() {
    let mut reconciler = Reconciler::new(&config(2, Partition::Component));
    let (first, second) = (vip(0).id(), vip(1).id());
    reconciler.handle_desired(1, &BTreeSet::from([first]), start());
    let work = reconciler.poll_work().expect("an acquire");
    done(&mut reconciler, &work, Ok(()), start());
    assert!(matches!(next(&mut reconciler), Some(Action::Announce(_))));

    reconciler.handle_desired(2, &BTreeSet::from([second]), start());
    assert!(matches!(next(&mut reconciler), Some(Action::Release(_))));
    assert!(matches!(next(&mut reconciler), Some(Action::Acquire(_))));
}

#[test]
fn an_announcement_is_repeated_at_growing_spacing_then_now_and_then() {
    let (mut reconciler, _) = held();
    let mut at = start();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let due = reconciler.poll_timeout().at;
        pauses.push(due.since(at));
        at = due;
        reconciler.handle_timeout(at);
        announce(&mut reconciler, at);
        assert!(reconciler.poll_work().is_none(), "one at a time");
    }
    assert_eq!(pauses[..4], [ms(1_100), ms(2_200), ms(4_400), ms(8_800)]);
    assert!(pauses[4..].iter().all(|p| (ms(60_000)..=ms(100_000)).contains(p)), "{pauses:?}");
}

#[test]
fn announcements_of_one_vip_do_not_pile_up() {
    let (mut reconciler, id) = held();
    let held = BTreeSet::from([id]);
    let again =
        |reconciler: &mut Reconciler, at| reconciler.announce_again(&held, start() + ms(at));
    again(&mut reconciler, 10);
    let slow = reconciler.poll_work().expect("an announcement");
    for at in [20, 30, 40] {
        again(&mut reconciler, at);
        assert!(reconciler.poll_work().is_none(), "the one before has not been sent");
        assert!(reconciler.poll_timeout().at > start() + ms(at), "nothing to do until then");
    }

    done(&mut reconciler, &slow, Err(trouble()), start() + ms(50));
    announce(&mut reconciler, start() + ms(51));
    assert!(reconciler.poll_work().is_none(), "one for all that was asked for meanwhile");
    assert_eq!(reconciler.poll_timeout().at, start() + ms(50) + ANNOUNCE_AGAIN[0]);

    again(&mut reconciler, 60);
    let slow = reconciler.poll_work().expect("an announcement");
    again(&mut reconciler, 70);
    reconciler.handle_desired(2, &BTreeSet::new(), start() + ms(80));
    done(&mut reconciler, &slow, Ok(()), start() + ms(90));
    assert!(matches!(next(&mut reconciler), Some(Action::Release(_))));
    assert!(reconciler.poll_work().is_none(), "what is let go of is not announced");
}

#[test]
fn a_failing_acquire_is_tried_again_at_growing_and_bounded_pauses_and_offered_to_others() {
    let (mut reconciler, id) = wanted();
    let mut at = start();
    let mut pauses = Vec::new();
    for failures in 1..=14 {
        let work = reconciler.poll_work().expect("an acquire");
        assert!(matches!(work.action, Action::Acquire(_)));
        done(&mut reconciler, &work, Err(trouble()), at);
        let told = outcomes(&mut reconciler);
        let error = trouble().to_string();
        let given_up = failures >= 3;
        assert_eq!(told, [AddressOutcome::Failed { vip: id, generation: 1, error, given_up }]);
        let due = reconciler.poll_timeout().at;
        pauses.push(due.since(at));
        at = due;
        reconciler.handle_timeout(at);
    }
    assert_eq!(pauses[..4], [ms(10), ms(20), ms(40), ms(80)]);
    assert_eq!(pauses[10..], [RETRY_MAX; 4]);
}

#[test]
fn what_will_never_succeed_is_offered_to_others_at_once() {
    let (mut reconciler, _) = wanted();
    let work = reconciler.poll_work().expect("an acquire");
    done(&mut reconciler, &work, Err(AddressError::NoInterface("eth0".into())), start());
    let told = outcomes(&mut reconciler);
    assert!(matches!(told[..], [AddressOutcome::Failed { given_up: true, .. }]), "{told:?}");
}

#[test]
fn new_hope_ends_a_pause() {
    let (mut reconciler, _) = wanted();
    let mut at = start();
    for _ in 0..10 {
        let work = reconciler.poll_work().expect("an acquire");
        done(&mut reconciler, &work, Err(trouble()), at);
        at = reconciler.poll_timeout().at;
        reconciler.handle_timeout(at);
    }
    let work = reconciler.poll_work().expect("an acquire");
    done(&mut reconciler, &work, Err(trouble()), at);
    assert!(reconciler.poll_timeout().at >= at + RETRY_MAX);
    reconciler.handle_event(AddressEvent::InterfacesChanged, at);
    assert_eq!(reconciler.poll_timeout().at, at + RETRY_FIRST);
}

#[test]
fn a_vip_of_which_something_vanished_is_released_before_it_is_told_as_released() {
    let (mut reconciler, id) = held();
    reconciler.handle_event(AddressEvent::Vanished(id), start());
    outcomes(&mut reconciler);
    reconciler.handle_desired(2, &BTreeSet::new(), start());

    assert_eq!(outcomes(&mut reconciler), [], "its other addresses may be there");
    let work = reconciler.poll_work().expect("a release");
    assert!(matches!(work.action, Action::Release(_)));
    done(&mut reconciler, &work, Ok(()), start());
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Released { vip: id, generation: 2 }]);
}

#[test]
fn a_vip_that_could_not_be_put_back_is_released_before_it_is_told_as_released() {
    let (mut reconciler, id) = held();
    reconciler.handle_event(AddressEvent::Vanished(id), start());
    let at = reconciler.poll_timeout().at;
    reconciler.handle_timeout(at);
    let work = reconciler.poll_work().expect("an acquire");
    done(&mut reconciler, &work, Err(trouble()), at);
    outcomes(&mut reconciler);
    reconciler.handle_desired(2, &BTreeSet::new(), at);

    assert_eq!(outcomes(&mut reconciler), [], "its other addresses may be there");
    assert!(matches!(next(&mut reconciler), Some(Action::Release(_))));
}

#[test]
fn somebody_else_s_address_is_not_waited_for() {
    let (mut reconciler, id) = wanted();
    let work = reconciler.poll_work().expect("an acquire");
    done(&mut reconciler, &work, Err(AddressError::Conflict("10.0.0.0/32".into())), start());
    outcomes(&mut reconciler);
    reconciler.handle_desired(2, &BTreeSet::new(), start());
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Released { vip: id, generation: 2 }]);
}

#[test]
fn whoever_was_stopped_itself_reads_the_answer_before_it_complains_of_none() {
    let (mut reconciler, _) = wanted();
    let late = start() + STUCK + ms(2_000);
    let work = reconciler.poll_work().expect("an acquire");
    reconciler.handle_timeout(late);
    assert_eq!(outcomes(&mut reconciler), []);
    done(&mut reconciler, &work, Ok(()), late);
    let told = outcomes(&mut reconciler);
    assert!(
        !told.iter().any(|outcome| matches!(outcome, AddressOutcome::Failed { .. })),
        "{told:?}"
    );

    let (mut reconciler, _) = wanted();
    reconciler.poll_work().expect("an acquire");
    reconciler.handle_timeout(late);
    reconciler.handle_timeout(late + STUCK);
    assert_eq!(outcomes(&mut reconciler).len(), 1, "it does not answer now either");
}

#[test]
fn what_is_not_answered_is_told_once_and_nobody_else_may_have_it() {
    let (mut reconciler, _) = wanted();
    let work = reconciler.poll_work().expect("an acquire");
    reconciler.handle_timeout(start() + STUCK);
    let told = outcomes(&mut reconciler);
    assert!(matches!(told[..], [AddressOutcome::Failed { given_up: false, .. }]), "{told:?}");
    assert_eq!(reconciler.poll_timeout(), Deadline::NEVER);

    reconciler.handle_desired(2, &BTreeSet::new(), start() + STUCK);
    assert_eq!(outcomes(&mut reconciler), [], "the acquire may yet complete");
    done(&mut reconciler, &work, Ok(()), start() + ms(60_000));
    assert!(matches!(next(&mut reconciler), Some(Action::Release(_))));
}

#[test]
fn a_release_does_not_wait_for_an_acquire_that_is_under_way() {
    let (mut reconciler, id) = wanted();
    let acquire = reconciler.poll_work().expect("an acquire");
    reconciler.handle_desired(2, &BTreeSet::new(), start() + ms(1));
    let release = reconciler.poll_work().expect("a release behind it");
    assert!(matches!(&release.action, Action::Release(_)), "{release:?}");
    assert!(!reconciler.is_empty());

    done(&mut reconciler, &acquire, Ok(()), start() + ms(2));
    assert_eq!(outcomes(&mut reconciler), [], "it is about to go");
    done(&mut reconciler, &release, Ok(()), start() + ms(3));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Released { vip: id, generation: 2 }]);
    assert!(reconciler.is_empty());
}

#[test]
fn an_acquire_that_is_not_wanted_any_more_when_it_would_begin_does_not_begin() {
    let (mut reconciler, id) = wanted();
    reconciler.handle_desired(2, &BTreeSet::new(), start());

    let release = reconciler.poll_work().expect("a release, to be sure");
    assert!(matches!(&release.action, Action::Release(_)), "{release:?}");
    assert!(reconciler.poll_work().is_none());
    done(&mut reconciler, &release, Ok(()), start() + ms(1));
    assert_eq!(outcomes(&mut reconciler), [AddressOutcome::Released { vip: id, generation: 2 }]);
    assert!(reconciler.is_empty());

    reconciler.handle_desired(3, &BTreeSet::from([id]), start() + ms(2));
    assert!(matches!(next(&mut reconciler), Some(Action::Acquire(_))), "it is wanted again");
}
