use super::*;

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
