//! Until when one engine may hold, told from echoes that are made by hand.

use super::*;
use crate::wire::message::PeerEcho;

/// An echo of the second node, to whatever start of the first; later than everything that it has sent.
fn echo(lan: &Lan, peer_incarnation: Incarnation, sequence: u64, promise: Duration) -> Vec<u8> {
    let header = Header {
        from: name(1),
        to: name(0),
        incarnation: lan.groups[1].incarnation,
        sequence: 100_000 + sequence + promise.as_millis() as u64,
    };
    let echo = PeerEcho {
        peer: name(0),
        incarnation: peer_incarnation,
        sequence,
        promise_us: u32::try_from(promise.as_micros()).expect("short"),
        heard: true,
        in_view: true,
    };
    Codec::new(&crate::config::ClusterKey([7; 32]), "test").seal(&header, &Body::Echo(echo))
}

/// Two in a view; the first has just sent a heartbeat, which was echoed, and hears nothing from now on.
fn cut_off() -> (Lan, u64, Instant) {
    let mut lan = Lan::agreed(2);
    let last = |lan: &Lan| *lan.groups[0].sent.back().expect("heartbeats");
    let (mark, _) = last(&lan);
    lan.run_until(|lan| last(lan).0 > mark + 2);
    let (sequence, at) = last(&lan);
    lan.cut.insert((1, 0));
    (lan, sequence, at)
}

#[test]
fn a_lease_is_a_promise_from_the_sending_of_what_was_echoed_less_drift_and_margin() {
    let (mut lan, sequence, sent_at) = cut_off();
    let incarnation = lan.groups[0].incarnation;
    lan.run(ms(110));
    assert!(lan.groups[0].sent.back().expect("heartbeats").0 > sequence, "others were sent since");

    let late = echo(&lan, incarnation, sequence, ms(400));
    lan.deliver(1, 0, &late);

    let safety = config(2, 0).safety;
    assert_eq!((safety.drift_ppm, safety.release_margin), (1_000, ms(15)));
    assert_eq!(lan.groups[0].lease(), Some(sent_at + Duration::from_micros(399_600) - ms(15)));
}

#[test]
fn an_echo_that_promises_less_or_means_an_earlier_start_extends_no_lease() {
    let (mut lan, _, _) = cut_off();
    let (mine, earlier) = (lan.groups[0].incarnation, Incarnation::new(1, 0));
    lan.run(ms(110));
    let before = lan.groups[0].lease();
    assert!(before.is_some());
    let newest = lan.groups[0].sequence;

    for (incarnation, sequence, promise) in
        [(mine, newest, Duration::ZERO), (earlier, newest, ms(400)), (mine, newest + 1, ms(400))]
    {
        let datagram = echo(&lan, incarnation, sequence, promise);
        lan.deliver(1, 0, &datagram);
        assert_eq!(lan.groups[0].lease(), before, "{incarnation} {sequence} {promise:?}");
    }

    let good = echo(&lan, mine, newest, ms(500));
    lan.deliver(1, 0, &good);
    assert!(lan.groups[0].lease() > before, "this one does");
}

#[test]
fn past_its_lease_a_node_lets_go_before_it_looks_at_what_has_come() {
    let (mut lan, sequence, _) = cut_off();
    let incarnation = lan.groups[0].incarnation;
    lan.run(ms(110));
    let newest = lan.groups[0].sequence;
    assert!(newest > sequence);
    let in_time = echo(&lan, incarnation, newest, ms(400));

    lan.now = lan.groups[0].lease().expect("a lease");
    lan.deliver(1, 0, &in_time);

    assert!(lan.groups[0].view().is_none(), "it came too late");
}

#[test]
fn of_several_members_in_contact_the_one_whose_promise_ends_first_counts() {
    let mut lan = Lan::agreed(3);
    let last = |lan: &Lan| *lan.groups[0].sent.back().expect("heartbeats");
    let (mark, _) = last(&lan);
    lan.run_until(|lan| last(lan).0 > mark + 2);
    let (_, sent_at) = last(&lan);
    lan.cut.insert((1, 0));
    lan.run(ms(110));

    let third = lan.groups[0].peer(name(2)).expect("a peer").promised_until;
    assert!(third > Some(sent_at + ms(400)), "the third has echoed since");
    let end = sent_at + Duration::from_micros(399_600) - ms(15);
    assert_eq!(lan.groups[0].lease(), Some(end));
}

#[test]
fn a_member_in_a_newer_view_without_us_ends_ours_at_once() {
    let mut lan = Lan::agreed(2);
    let epoch = lan.groups[0].view().expect("a view").id.epoch + 1;
    let heartbeat = Heartbeat {
        view: ballot(epoch, 1),
        accepted: ballot(epoch, 1),
        beside: false,
        interval_us: 100_000,
        echoes: vec![],
    };
    let header = Header {
        from: name(1),
        to: NodeId::EVERYBODY,
        incarnation: lan.groups[1].incarnation,
        sequence: 100_000,
    };
    let codec = Codec::new(&crate::config::ClusterKey([7; 32]), "test");
    let datagram = codec.seal(&header, &Body::Heartbeat(heartbeat));

    lan.groups[0].handle_datagram(config(2, 0).nodes[1].addresses[0], &datagram, lan.now);

    assert!(lan.groups[0].view().is_none());
}

#[test]
fn a_member_is_suspected_after_half_of_the_failure_timeout() {
    let (mut lan, _, _) = cut_off();
    lan.run(ms(190));
    assert!(lan.groups[0].suspects.is_empty());
    lan.run(ms(20));
    assert_eq!(lan.groups[0].suspects, BTreeSet::from([name(1)]));
    assert!(lan.groups[0].view().is_some());
}

#[test]
fn a_node_echoes_no_promise_that_it_has_frozen_or_never_gave() {
    let mut lan = Lan::agreed(3);
    lan.hush();
    lan.cut.extend([(0, 2), (2, 0)]);
    lan.run_until(|lan| lan.groups[1].peer(name(2)).expect("a peer").frozen_at.is_some());
    let frozen_at = lan.now;
    lan.run(ms(250));
    let promised_at = lan.groups[2].peer(name(1)).expect("a peer").promised_at;
    assert!(promised_at <= Some(frozen_at), "{promised_at:?}, frozen at {frozen_at}");
    let echoed_at = lan.groups[2].peer(name(1)).expect("a peer").echoed_at;
    assert!(echoed_at > Some(frozen_at), "it is heard all the same");

    let mut lan = Lan::new(2);
    lan.keep_quiet = true;
    lan.run(ms(250));
    let peer = lan.groups[0].peer(name(1)).expect("a peer");
    assert_eq!((peer.link_state, peer.promised_at), (LinkState::TwoWay, None));
}

/// The first proposes to the second a view without the third. Returns whether it is accepted at once.
fn drops_the_third(lan: &mut Lan) -> bool {
    let epoch = lan.groups[1].highest_accepted().epoch + 1;
    let message = propose(lan, epoch, 0, &[0, 1]);
    lan.tell(0, 1, message);
    lan.groups[1].highest_accepted().epoch == epoch
}

#[test]
fn a_promise_binds_in_the_view_that_was_accepted_and_in_the_one_installed() {
    let mut lan = Lan::new(3);
    lan.hold_back =
        Some(|_, to, message| to > 0 && matches!(message, GroupMessage::Install { .. }));
    lan.run_until(|lan| !lan.held_back.is_empty());
    lan.groups[1].started_at = Instant::ORIGIN;
    assert!(lan.groups[1].view().is_none());
    assert!(!drops_the_third(&mut lan), "it has accepted a view with it");

    let mut lan = Lan::agreed(3);
    lan.groups[1].started_at = Instant::ORIGIN;
    let accepted = lan.groups[1].accepted.as_mut().expect("it accepted the view");
    accepted.members.remove(&name(2));
    assert!(!drops_the_third(&mut lan), "it is in a view with it");
}

#[test]
fn whoever_has_just_started_is_bound_by_what_it_may_have_promised_before() {
    for (started, accepts) in [(Instant::ORIGIN + ms(1_000), false), (Instant::ORIGIN, true)] {
        let mut lan = Lan::new(3);
        lan.keep_quiet = true;
        lan.run(ms(110));
        lan.groups[1].started_at = started;
        assert_eq!(drops_the_third(&mut lan), accepts);
    }
}

#[test]
fn whoever_has_said_that_it_promises_nothing_counts_though_it_falls_silent() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(350));
    // The first hears both of two that do not hear each other, and will drop the third.
    lan.cut_both_ways(&[(1, 2)]);
    lan.run_until(|lan| lan.groups[0].peer(name(2)).expect("a peer").frozen_at.is_some());
    let promised_at = lan.groups[2].peer(name(0)).expect("a peer").promised_at.expect("a promise");
    lan.run((promised_at + ms(140)).since(lan.now));
    lan.cut.insert((0, 2));
    let without_the_third = |lan: &Lan| lan.groups[0].view().is_some_and(|v| v.members.len() == 2);
    lan.run_until(|lan| {
        // Whatever it hears or does not hear, nothing counts beyond the last promise while it is in the view with the others.
        let third = &lan.groups[2];
        let lease = third.lease().filter(|_| third.view().is_some_and(|v| v.members.len() > 1));
        assert!(lease.is_none_or(|lease| lease <= promised_at + ms(400)), "{lease:?}");
        without_the_third(lan)
    });

    // In a view of its own it may have another one by then.
    let third = &lan.groups[2];
    let shared = third.view().is_some_and(|view| view.members.len() > 1);
    assert_eq!(third.lease().filter(|lease| shared && *lease > lan.now), None);
}

#[test]
fn alone_a_node_counts_on_no_more_than_whoever_heard_it_longest_ago() {
    let mut lan = Lan::new(2);
    lan.cut_both_ways(&[(0, 1)]);
    lan.run(ms(1_500));
    assert_eq!(lan.groups[1].view().expect("a view").members.len(), 1);
    lan.groups[0] = Group::new(&config(2, 0), 0, Incarnation::new(3, 0), lan.now);
    lan.run(ms(150));
    lan.cut.clear();
    lan.hold_back =
        Some(|_, to, message| to == 0 && matches!(message, GroupMessage::Accept { .. }));
    lan.run_until(|lan| !lan.held_back.is_empty());
    lan.cut.insert((1, 0));
    lan.run(ms(300));
    let lease = lan.groups[1].lease().expect("not over yet");
    lan.groups[1].fall_silent(); // it is stopped
    let mark = lan.views.len();
    lan.run_until(|lan| lan.views[mark..].iter().any(|(i, _, _)| *i == 0));

    assert!(lease <= lan.now, "the other serves at {}, it until {lease}", lan.now);
}

#[test]
fn whoever_hears_one_that_serves_and_does_not_hear_it_lets_go_whichever_start_that_is() {
    for restarts in [false, true] {
        let mut lan = Lan::agreed(2);
        lan.run(ms(350));
        lan.cut.insert((1, 0));
        if restarts {
            lan.groups[0] = Group::new(&config(2, 0), 0, Incarnation::new(3, 0), lan.now);
        }
        lan.run(ms(1_500));

        let serves = |i: usize| lan.groups[i].lease().is_some_and(|lease| lease > lan.now);
        assert_eq!([serves(0), serves(1)], [true, false], "restarts: {restarts}");
    }
}

#[test]
fn whoever_is_heard_by_nobody_and_serves_nothing_costs_nobody_its_view() {
    let mut lan = Lan::agreed(2);
    lan.run(ms(350));
    lan.cut_both_ways(&[(0, 1)]);
    lan.run(ms(1_500));
    lan.groups[0] = Group::new(&config(2, 0), 0, Incarnation::new(3, 0), lan.now);
    // It hears the second one, and has nothing while that does not hear it; the second one hears it now and then.
    lan.cut.remove(&(1, 0));
    lan.run(ms(2_000));

    assert!(lan.groups[0].view().is_none());
    assert!(lan.groups[1].lease().is_some_and(|lease| lease > lan.now));
}
