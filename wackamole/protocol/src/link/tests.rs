mod simulation;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::{FRAGMENT_BYTES_MAX, MESSAGE_MAX};

const ALICE: Incarnation = Incarnation(1 << 32 | 0xa);
const BOB: Incarnation = Incarnation(1 << 32 | 0xb);

fn ms(milliseconds: u64) -> Instant {
    Instant::after_origin(Duration::from_millis(milliseconds))
}

fn config() -> LinkConfig {
    LinkConfig {
        retransmit: Duration::from_millis(10),
        fragment_bytes: 100,
        queue_bytes_max: 1024 * 1024,
    }
}

fn pair() -> (Link, Link) {
    let mut alice = Link::new(ALICE, config());
    let mut bob = Link::new(BOB, config());
    alice.reset(BOB);
    bob.reset(ALICE);
    (alice, bob)
}

/// Carries everything that is ready to be transmitted, in both directions, until both are silent.
fn exchange(alice: &mut Link, bob: &mut Link, now: Instant) {
    loop {
        let a = carry(alice, ALICE, bob, now);
        let b = carry(bob, BOB, alice, now);
        if a + b == 0 {
            return;
        }
    }
}

fn carry(from: &mut Link, incarnation: Incarnation, to: &mut Link, now: Instant) -> usize {
    let mut carried = 0;
    while let Some(body) = from.poll_transmit() {
        deliver(body, incarnation, to, now);
        carried += 1;
    }
    carried
}

fn deliver(body: Body, from: Incarnation, to: &mut Link, now: Instant) {
    match body {
        Body::Fragment(fragment) => to.handle_fragment(from, fragment),
        Body::FragmentAck(ack) => to.handle_ack(from, ack, now),
        Body::Heartbeat(_) | Body::Echo(_) | Body::Leave(_) => panic!("no link sends {body:?}"),
    }
}

fn messages(link: &mut Link) -> Vec<Vec<u8>> {
    core::iter::from_fn(|| link.poll_message()).collect()
}

#[test]
fn messages_arrive_whole_and_in_order() {
    let (mut alice, mut bob) = pair();
    let sent: Vec<Vec<u8>> = [0, 1, 100, 101, 12_345].map(|n| vec![n as u8; n]).into();

    for message in &sent {
        alice.send(message, ms(0)).unwrap();
    }
    exchange(&mut alice, &mut bob, ms(0));

    assert_eq!(messages(&mut bob), sent);
    assert!(alice.idle());
    assert_eq!(alice.poll_timeout(), None);
    assert_eq!((alice.buffered_bytes(), bob.buffered_bytes()), (0, 0));
}

#[test]
fn a_short_message_is_transmitted_at_once_and_its_acknowledgement_too() {
    let (mut alice, mut bob) = pair();

    alice.send(b"now", ms(0)).unwrap();
    let first = alice.poll_transmit().expect("a fragment");
    deliver(first, ALICE, &mut bob, ms(1));

    assert_eq!(messages(&mut bob), [b"now"]);
    assert!(matches!(bob.poll_transmit(), Some(Body::FragmentAck(_))));
    assert_eq!((alice.poll_transmit(), bob.poll_transmit()), (None, None));
}

#[test]
fn pauses_between_retransmissions_double_up_to_eightfold() {
    let (mut alice, _) = pair();
    alice.send(b"lost", ms(0)).unwrap();
    assert!(alice.poll_transmit().is_some());

    let mut pauses = Vec::new();
    let mut now = ms(0);
    for _ in 0..6 {
        let due = alice.poll_timeout().expect("it is not acknowledged");
        alice.handle_timeout(due - Duration::from_nanos(1));
        assert_eq!(alice.poll_transmit(), None, "not before it is due");
        alice.handle_timeout(due);
        assert!(alice.poll_transmit().is_some());
        pauses.push(due.since(now).as_millis());
        now = due;
    }

    assert_eq!(pauses, [10, 20, 40, 80, 80, 80]);
}

#[test]
fn what_was_lost_is_sent_again_at_once_when_the_peer_is_heard_again() {
    let (mut alice, mut bob) = pair();
    alice.send(b"lost for long", ms(0)).unwrap();
    for late in [0, 10, 30, 70, 150] {
        alice.handle_timeout(ms(late));
        while alice.poll_transmit().is_some() {}
    }
    assert_eq!(alice.poll_timeout(), Some(ms(230)), "the pause is eight times as long by now");

    alice.hasten(ms(160));
    assert_eq!(alice.poll_timeout(), Some(ms(200)), "if this is lost as well");
    exchange(&mut alice, &mut bob, ms(160));
    assert_eq!(messages(&mut bob), [b"lost for long"]);
    assert!(alice.idle());
}

#[test]
fn only_what_is_missing_is_sent_again() {
    let (mut alice, mut bob) = pair();
    alice.send(&[7; 1000], ms(0)).unwrap();
    let mut fragments: Vec<_> = core::iter::from_fn(|| alice.poll_transmit()).collect();
    let lost = fragments.remove(9);
    for fragment in fragments {
        deliver(fragment, ALICE, &mut bob, ms(1));
    }
    carry(&mut bob, BOB, &mut alice, ms(2));
    assert_eq!(alice.poll_transmit(), None, "nothing has overtaken the last fragment");

    alice.handle_timeout(ms(10));

    assert_eq!(alice.poll_transmit(), Some(lost));
    assert_eq!(alice.poll_transmit(), None);
}

#[test]
fn an_overtaken_fragment_is_sent_again_without_waiting() {
    let (mut alice, mut bob) = pair();
    alice.send(&[7; 1000], ms(0)).unwrap();
    let lost = alice.poll_transmit().expect("a fragment");
    let overtaking = |alice: &mut Link, bob: &mut Link| {
        let next = alice.poll_transmit().expect("a fragment");
        deliver(next, ALICE, bob, ms(1));
        carry(bob, BOB, alice, ms(1));
    };

    overtaking(&mut alice, &mut bob);
    overtaking(&mut alice, &mut bob);
    overtaking(&mut alice, &mut bob);
    let remaining: Vec<_> = core::iter::from_fn(|| alice.poll_transmit()).collect();

    assert_eq!(remaining.len(), 7, "six for the first time, one again");
    assert_eq!(remaining.last(), Some(&lost));
}

#[test]
fn a_late_acknowledgement_of_what_was_sent_twice_overtakes_nothing() {
    let (mut alice, mut bob) = pair();
    alice.send(&[7; 800], ms(0)).unwrap();
    let originals: Vec<_> = core::iter::from_fn(|| alice.poll_transmit()).collect();
    alice.handle_timeout(ms(10));
    assert_eq!(core::iter::from_fn(|| alice.poll_transmit()).count(), 8);

    deliver(originals[7].clone(), ALICE, &mut bob, ms(11));
    carry(&mut bob, BOB, &mut alice, ms(12));

    assert_eq!(alice.poll_transmit(), None, "the first transmission may have arrived");
}

#[test]
fn what_is_overdue_twice_before_it_is_polled_is_sent_once() {
    let (mut alice, _) = pair();
    alice.send(b"slow caller", ms(0)).unwrap();

    alice.handle_timeout(ms(10));
    alice.handle_timeout(ms(100));

    assert!(alice.poll_transmit().is_some());
    assert_eq!(alice.poll_transmit(), None);
}

#[test]
fn nothing_is_sent_or_kept_beyond_the_window() {
    let (mut alice, mut bob) = pair();
    alice.send(&[7; 20_000], ms(0)).unwrap();
    let first = alice.poll_transmit().expect("a fragment");
    let number = |body: &Body| match body {
        Body::Fragment(fragment) => Some(fragment.number),
        Body::FragmentAck(_) | Body::Heartbeat(_) | Body::Echo(_) | Body::Leave(_) => None,
    };
    let mut highest = 0;
    while let Some(body) = alice.poll_transmit() {
        highest = highest.max(number(&body).expect("only fragments"));
        if number(&body) != Some(0) {
            deliver(body, ALICE, &mut bob, ms(1));
        }
        carry(&mut bob, BOB, &mut alice, ms(1));
    }
    assert_eq!(highest, WINDOW - 1);
    let kept = bob.buffered_bytes();

    let beyond = Fragment {
        peer_incarnation: BOB,
        stream: 1,
        number: WINDOW,
        last: false,
        bytes: vec![0; 100],
    };
    bob.handle_fragment(ALICE, beyond);
    assert_eq!(bob.buffered_bytes(), kept);

    deliver(first, ALICE, &mut bob, ms(2));
    exchange(&mut alice, &mut bob, ms(2));
    assert_eq!(messages(&mut bob), [vec![7; 20_000]]);
}

#[test]
fn a_silent_peer_is_not_flooded() {
    let (mut alice, _) = pair();
    alice.send(&[7; 10_000], ms(0)).unwrap();

    let mut rounds = Vec::new();
    for _ in 0..5 {
        rounds.push(core::iter::from_fn(|| alice.poll_transmit()).count());
        let due = alice.poll_timeout().expect("nothing is acknowledged");
        alice.handle_timeout(due);
        assert!(alice.poll_timeout() > Some(due), "what is due was dealt with");
    }

    assert_eq!(rounds, [16, 8, 4, 4, 4]);
}

#[test]
fn a_lost_acknowledgement_is_repeated() {
    let (mut alice, mut bob) = pair();
    alice.send(b"once", ms(0)).unwrap();
    carry(&mut alice, ALICE, &mut bob, ms(1));
    assert!(bob.poll_transmit().is_some(), "this acknowledgement is lost");

    alice.handle_timeout(ms(10));
    exchange(&mut alice, &mut bob, ms(10));

    assert!(alice.idle());
    assert_eq!(messages(&mut bob), [b"once"]);
}

#[test]
fn a_reset_drops_what_was_under_way_and_the_next_stream_starts_clean() {
    let (mut alice, mut bob) = pair();
    alice.send(&[1; 300], ms(0)).unwrap();
    let first_third = alice.poll_transmit().expect("a fragment");
    let second_third = alice.poll_transmit().expect("a fragment");
    deliver(first_third, ALICE, &mut bob, ms(1));
    bob.send(b"the other way", ms(1)).unwrap();

    alice.reset(BOB);
    assert!(alice.idle());
    alice.send(&[2; 150], ms(2)).unwrap();
    exchange(&mut alice, &mut bob, ms(3));
    deliver(second_third, ALICE, &mut bob, ms(4));

    assert_eq!(messages(&mut bob), [vec![2; 150]]);
    assert_eq!(bob.buffered_bytes(), 0, "nothing of the old stream is kept");
    assert_eq!(messages(&mut alice), [b"the other way"], "its stream was not touched");
}

#[test]
fn what_was_meant_for_a_predecessor_is_ignored() {
    let (mut alice, mut bob) = pair();
    alice.send(b"for the first bob", ms(0)).unwrap();
    carry(&mut alice, ALICE, &mut bob, ms(0));
    let stale_ack = bob.poll_transmit().expect("an acknowledgement");
    let restarted = Incarnation(2 << 32);
    let mut second_bob = Link::new(restarted, config());
    second_bob.reset(ALICE);

    alice.handle_timeout(ms(10));
    carry(&mut alice, ALICE, &mut second_bob, ms(10));
    assert_eq!(second_bob.poll_message(), None);
    assert_eq!(second_bob.poll_transmit(), None, "not even acknowledged");

    alice.reset(restarted);
    alice.send(b"for the second", ms(11)).unwrap();
    deliver(stale_ack, BOB, &mut alice, ms(11));
    assert!(!alice.idle(), "the first bob cannot acknowledge for the second");
    let fragment = alice.poll_transmit().expect("a fragment");
    deliver(fragment.clone(), Incarnation(ALICE.0 - 1), &mut second_bob, ms(12));
    assert_eq!(
        messages(&mut second_bob),
        Vec::<Vec<u8>>::new(),
        "not from the alice that it knows"
    );
    deliver(fragment, ALICE, &mut second_bob, ms(12));
    assert_eq!(messages(&mut second_bob), [b"for the second"]);
}

#[test]
fn a_full_queue_refuses_and_takes_again_once_acknowledged() {
    let config = LinkConfig { queue_bytes_max: 1000, ..config() };
    let mut alice = Link::new(ALICE, config);
    let mut bob = Link::new(BOB, config);
    assert_eq!(alice.send(b"to whom?", ms(0)), Err(SendError::UnknownPeer));
    alice.reset(BOB);
    bob.reset(ALICE);
    assert_eq!(
        alice.send(&vec![0; MESSAGE_MAX + 1], ms(0)),
        Err(SendError::TooLong(MESSAGE_MAX + 1))
    );

    alice.send(&[1; 5000], ms(0)).expect("one message may exceed the bound when nothing waits");
    assert_eq!(alice.send(&[], ms(0)), Err(SendError::Full));
    exchange(&mut alice, &mut bob, ms(1));
    let empty_ones = (0..1000).take_while(|_| alice.send(&[], ms(1)).is_ok()).count();

    assert!((1..=1000 / 64).contains(&empty_ones), "empty messages cost too: {empty_ones}");
    exchange(&mut alice, &mut bob, ms(2));
    assert_eq!(messages(&mut bob).len(), 1 + empty_ones);
}

#[test]
fn messages_that_nobody_takes_do_not_pile_up() {
    let (mut alice, mut bob) = pair();
    for _ in 0..200 {
        alice.send(&[3; 50], ms(0)).unwrap();
    }
    exchange(&mut alice, &mut bob, ms(0));
    assert!(bob.buffered_bytes() <= 2 * WINDOW as usize * 50);
    assert!(!alice.idle());

    let mut taken = 0;
    let mut now = ms(0);
    while let Some(due) = alice.poll_timeout() {
        taken += messages(&mut bob).len();
        now = due;
        alice.handle_timeout(now);
        exchange(&mut alice, &mut bob, now);
    }

    assert_eq!(taken + messages(&mut bob).len(), 200);
    assert!(now < ms(200), "{now}");
}

#[test]
fn an_endless_message_breaks_its_stream_and_only_that() {
    let (mut alice, mut bob) = pair();
    let fragment = |stream, number, last| Fragment {
        peer_incarnation: BOB,
        stream,
        number,
        last,
        bytes: vec![0; FRAGMENT_BYTES_MAX],
    };
    let mut number = 0;
    loop {
        bob.handle_fragment(ALICE, fragment(7, number, false));
        if bob.poll_transmit().is_none() {
            break;
        }
        number += 1;
        assert!(number as usize <= MESSAGE_MAX / FRAGMENT_BYTES_MAX, "must end");
    }
    bob.handle_fragment(ALICE, fragment(7, number + 1, true));
    assert_eq!(bob.poll_transmit(), None, "no more acknowledgements");
    assert_eq!((bob.poll_message(), bob.buffered_bytes()), (None, 0));

    bob.handle_fragment(ALICE, fragment(8, 0, true));
    assert_eq!(messages(&mut bob).len(), 1);
    carry(&mut bob, BOB, &mut alice, ms(0));
}

#[derive(Clone, Debug)]
enum Hostile {
    Fragment(Fragment),
    Ack(FragmentAck),
    Send(usize),
    Elapse(u64),
    Drain,
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let number = prop_oneof![
        8 => 0..100_u64,
        1 => (0..100_u64).prop_map(|n| u64::MAX - n),
        1 => any::<u64>()
    ];
    let stream = prop_oneof![8 => 0..3_u64, 1 => Just(u64::MAX)];
    let fragment = (number.clone(), stream.clone(), any::<bool>(), 0..1300_usize).prop_map(
        |(number, stream, last, length)| {
            let bytes = vec![0; length];
            Hostile::Fragment(Fragment { peer_incarnation: ALICE, stream, number, last, bytes })
        },
    );
    let ack = (number, stream, any::<u64>()).prop_map(|(next, stream, ahead)| {
        Hostile::Ack(FragmentAck { peer_incarnation: ALICE, stream, next, ahead })
    });
    prop_oneof![
        6 => fragment,
        3 => ack,
        2 => (0..2000_usize).prop_map(Hostile::Send),
        1 => (0..50_u64).prop_map(Hostile::Elapse),
        1 => Just(Hostile::Drain),
    ]
}

proptest! {
    #[test]
    fn whatever_a_peer_sends_memory_is_bounded_and_time_goes_on(ops in vec(hostile(), 1..300)) {
        let config = LinkConfig { queue_bytes_max: 10_000, ..config() };
        let mut link = Link::new(ALICE, config);
        link.reset(BOB);
        let mut now = ms(0);
        for op in ops {
            match op {
                Hostile::Fragment(fragment) => link.handle_fragment(BOB, fragment),
                Hostile::Ack(ack) => link.handle_ack(BOB, ack, now),
                Hostile::Send(length) => drop(link.send(&vec![0; length], now)),
                Hostile::Elapse(time) => {
                    now = now + Duration::from_millis(time);
                    link.handle_timeout(now);
                    prop_assert!(link.poll_timeout().is_none_or(|due| due > now));
                }
                Hostile::Drain => {
                    while link.poll_transmit().is_some() {}
                    while link.poll_message().is_some() {}
                }
            }
            let bound = 10_000 + MESSAGE_MAX + 2 * WINDOW as usize * FRAGMENT_BYTES_MAX;
            prop_assert!(link.buffered_bytes() <= bound, "{} bytes", link.buffered_bytes());
        }
    }
}
