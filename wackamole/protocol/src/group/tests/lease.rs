//! Until when one engine may hold, told from echoes that are made by hand.

use super::*;
use crate::wire::message::PeerEcho;

/// An echo of the second node, to whatever start of the first; later than everything that it has sent.
fn echo(lan: &Lan, peer_incarnation: Incarnation, sequence: u64, promise: Duration) -> Vec<u8> {
    let header = Header {
        from: name(1),
        to: name(0),
        incarnation: lan.groups[1].incarnation,
        sequence: 100_000 + sequence,
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

    for (incarnation, sequence, promise) in [
        (earlier, newest - 1, ms(400)),
        (mine, newest, Duration::ZERO),
        (mine, newest + 1, ms(400)),
    ] {
        let datagram = echo(&lan, incarnation, sequence, promise);
        lan.deliver(1, 0, &datagram);
        assert_eq!(lan.groups[0].lease(), before, "{incarnation} {sequence} {promise:?}");
    }
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
