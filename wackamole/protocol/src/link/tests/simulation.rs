//! Two nodes and a bad network between them, driven by operations. What one stream delivers is a prefix of what was sent in
//! it, in order, each once, after every operation; once the network is healed, everything arrives in bounded time.

use std::collections::VecDeque;

use super::*;

const RETRANSMIT: Duration = Duration::from_millis(10);
const LATENCY: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
enum Op {
    Send {
        side: usize,
        length: usize,
    },
    /// The oldest datagrams under way arrive.
    Deliver {
        count: usize,
    },
    /// Any datagram arrives, before its turn.
    DeliverLate {
        at: usize,
    },
    Duplicate {
        at: usize,
    },
    Lose {
        at: usize,
        count: usize,
    },
    Elapse {
        milliseconds: u64,
    },
    GiveUp {
        side: usize,
    },
    Restart {
        side: usize,
    },
    /// A heartbeat arrives at the other side.
    Hello {
        side: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let side = 0..2_usize;
    let at = 0..200_usize;
    prop_oneof![
        6 => (side.clone(), 8..900_usize).prop_map(|(side, length)| Op::Send { side, length }),
        8 => (1..40_usize).prop_map(|count| Op::Deliver { count }),
        4 => at.clone().prop_map(|at| Op::DeliverLate { at }),
        2 => at.clone().prop_map(|at| Op::Duplicate { at }),
        3 => (at, 1..20_usize).prop_map(|(at, count)| Op::Lose { at, count }),
        5 => (0..40_u64).prop_map(|milliseconds| Op::Elapse { milliseconds }),
        1 => side.clone().prop_map(|side| Op::GiveUp { side }),
        1 => side.clone().prop_map(|side| Op::Restart { side }),
        2 => side.prop_map(|side| Op::Hello { side }),
    ]
}

struct World {
    now: Instant,
    sides: [Side; 2],
    network: VecDeque<Datagram>,
    streams: Vec<Stream>,
}

struct Side {
    incarnation: Incarnation,
    link: Link,
    peer: Option<Incarnation>,
    /// Index into `World::streams` of the stream that it sends; `None` before it knows the peer.
    sending: Option<usize>,
    /// Likewise of the last one from which something was delivered to it.
    delivered: usize,
}

#[derive(Clone, Debug)]
struct Datagram {
    to: usize,
    from: Incarnation,
    body: Body,
}

/// What the world knows of one stream.
struct Stream {
    from: usize,
    to: Incarnation,
    messages: Vec<Vec<u8>>,
    delivered: usize,
}

impl Side {
    fn new(incarnation: Incarnation) -> Self {
        let config =
            LinkConfig { retransmit: RETRANSMIT, fragment_bytes: 10, queue_bytes_max: 50_000 };
        let link = Link::new(incarnation, config);
        Self { incarnation, link, peer: None, sending: None, delivered: 0 }
    }
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::ORIGIN,
            sides: [Side::new(ALICE), Side::new(BOB)],
            network: VecDeque::new(),
            streams: Vec::new(),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Send { side, length } => self.send(side, length),
            Op::Deliver { count } => {
                for _ in 0..count {
                    let Some(datagram) = self.network.pop_front() else { break };
                    self.deliver(datagram);
                }
            }
            Op::DeliverLate { at } => {
                if let Some(datagram) = self.network.remove(at) {
                    self.deliver(datagram);
                }
            }
            Op::Duplicate { at } => {
                if let Some(datagram) = self.network.get(at).cloned() {
                    self.deliver(datagram);
                }
            }
            Op::Lose { at, count } => {
                let at = at.min(self.network.len());
                let end = (at + count).min(self.network.len());
                self.network.drain(at..end);
            }
            Op::Elapse { milliseconds } => self.elapse(Duration::from_millis(milliseconds)),
            Op::GiveUp { side } => {
                if let Some(peer) = self.sides[side].peer {
                    self.reset(side, peer);
                }
            }
            Op::Restart { side } => {
                let Incarnation(before) = self.sides[side].incarnation;
                self.sides[side] = Side::new(Incarnation(before + (1 << 32)));
            }
            Op::Hello { side } => {
                self.hear(1 - side, self.sides[side].incarnation);
            }
        }
        self.settle();
    }

    fn send(&mut self, side: usize, length: usize) {
        let now = self.now;
        let Side { link, sending, .. } = &mut self.sides[side];
        let Some(stream) = *sending else {
            assert_eq!(link.send(b"", now), Err(SendError::UnknownPeer));
            return;
        };
        let messages = &mut self.streams[stream].messages;
        let message = labelled(stream, messages.len(), length);
        if link.send(&message, now).is_ok() {
            messages.push(message);
        }
    }

    /// What a node does with a datagram, whatever it says: an earlier incarnation is refused, a new one resets the link.
    fn hear(&mut self, side: usize, from: Incarnation) -> bool {
        let peer = self.sides[side].peer;
        if Some(from) < peer {
            return false;
        }
        if Some(from) > peer {
            self.reset(side, from);
        }
        true
    }

    fn reset(&mut self, side: usize, peer: Incarnation) {
        self.sides[side].sending = Some(self.streams.len());
        self.streams.push(Stream { from: side, to: peer, messages: Vec::new(), delivered: 0 });
        self.sides[side].peer = Some(peer);
        self.sides[side].link.reset(peer);
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram { to, from, body } = datagram;
        if self.hear(to, from) {
            deliver(body, from, &mut self.sides[to].link, self.now);
        }
        self.settle();
    }

    fn elapse(&mut self, time: Duration) {
        self.now = self.now + time;
        for side in &mut self.sides {
            side.link.handle_timeout(self.now);
            let due = side.link.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "overdue: {due:?} at {}", self.now);
        }
    }

    /// Drains both links, with the safety check on all that they deliver.
    fn settle(&mut self) {
        for side in 0..2 {
            while let Some(message) = self.sides[side].link.poll_message() {
                self.check_delivery(side, &message);
            }
            let Side { link, incarnation: from, .. } = &mut self.sides[side];
            while let Some(body) = link.poll_transmit() {
                self.network.push_back(Datagram { to: 1 - side, from: *from, body });
            }
            if link.idle()
                && let Some(stream) = self.sides[side].sending
            {
                let Stream { messages, delivered, .. } = &self.streams[stream];
                assert_eq!(messages.len(), *delivered, "idle, but not all has arrived");
            }
        }
    }

    fn check_delivery(&mut self, side: usize, message: &[u8]) {
        let (stream, number) = label(message);
        let Stream { from, to, messages, delivered } = &mut self.streams[stream];
        let receiver = &mut self.sides[side];
        assert_eq!((*from, *to), (1 - side, receiver.incarnation), "not for this one");
        assert_eq!(number, *delivered, "in order, each once");
        assert_eq!(message, messages[number], "unchanged");
        assert!(stream >= receiver.delivered, "an earlier stream came back");
        *delivered += 1;
        receiver.delivered = stream;
    }

    /// From here on nothing is lost and everything takes [`LATENCY`].
    fn heal(&mut self) {
        self.hear(0, self.sides[1].incarnation);
        self.hear(1, self.sides[0].incarnation);
        self.settle();
        let healed = self.now;
        let backlog: usize = self.sides.iter().map(|side| side.link.buffered_bytes() / 10).sum();
        let bound = 8 * RETRANSMIT + LATENCY * (20 + backlog as u32);
        while !self.sides.iter().all(|side| side.link.idle()) {
            if self.network.is_empty() {
                let next = self.sides.iter().filter_map(|side| side.link.poll_timeout()).min();
                let due = next.expect("not idle, so something is awaited");
                self.elapse(due.since(self.now));
            } else {
                self.elapse(LATENCY);
                for datagram in core::mem::take(&mut self.network) {
                    self.deliver(datagram);
                }
            }
            self.settle();
            let took = self.now.since(healed);
            assert!(took <= bound, "{took:?} for a backlog of {backlog} fragments");
        }
    }
}

fn labelled(stream: usize, number: usize, length: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(length);
    message.extend((stream as u32).to_le_bytes());
    message.extend((number as u32).to_le_bytes());
    message.extend((8..length).map(|i| (i * 31 + number * 7 + stream) as u8));
    message
}

fn label(message: &[u8]) -> (usize, usize) {
    let word = |at: usize| {
        let bytes = message[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    };
    (word(0), word(4))
}

proptest! {
    #[test]
    fn streams_are_delivered_in_order_and_once_and_complete_when_the_network_heals(
        introduced: bool,
        ops in vec(op(), 1..200),
    ) {
        let mut world = World::new();
        if introduced {
            world.hear(0, BOB);
            world.hear(1, ALICE);
        }
        for op in ops {
            world.apply(op);
        }
        world.heal();
    }
}

/// Sends 300 KB over a network that loses every `lose_every`-th datagram in a scattered pattern; returns how long it took and
/// how many fragments were sent in excess.
fn transfer(lose_every: Option<u64>) -> (Duration, usize) {
    let config = LinkConfig {
        retransmit: Duration::from_millis(25),
        fragment_bytes: 1100,
        queue_bytes_max: MESSAGE_MAX,
    };
    let mut links = [(ALICE, Link::new(ALICE, config)), (BOB, Link::new(BOB, config))];
    links[0].1.reset(BOB);
    links[1].1.reset(ALICE);
    let message: Vec<u8> = (0..300_000).map(|i| (i % 251) as u8).collect();
    links[0].1.send(&message, ms(0)).unwrap();
    let mut network: VecDeque<(Instant, usize, Body)> = VecDeque::new();
    let (mut now, mut fragments, mut noise) = (ms(0), 0, 1_u64);
    loop {
        for (side, (_, link)) in links.iter_mut().enumerate() {
            while let Some(body) = link.poll_transmit() {
                fragments += usize::from(side == 0);
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let lost = lose_every.is_some_and(|every| (noise >> 33) % every == 0);
                if !lost {
                    network.push_back((now + Duration::from_micros(150), 1 - side, body));
                }
            }
        }
        if let Some(received) = links[1].1.poll_message() {
            assert!(received == message);
            return (now.since(ms(0)), fragments - 300_000_usize.div_ceil(1100));
        }
        let arrival = network.front().map(|(at, ..)| *at);
        let timeouts = links.iter().filter_map(|(_, link)| link.poll_timeout());
        now = timeouts.chain(arrival).min().expect("something is under way");
        while network.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, to, body) = network.pop_front().expect("it is in front");
            let from = links[1 - to].0;
            deliver(body, from, &mut links[to].1, now);
        }
        links.iter_mut().for_each(|(_, link)| link.handle_timeout(now));
    }
}

#[test]
fn a_long_message_takes_a_few_round_trips() {
    let (took, in_excess) = transfer(None);

    assert_eq!(in_excess, 0);
    assert!(took <= Duration::from_millis(2), "{took:?} at a round trip of 0.3 ms");
}

#[test]
fn a_long_message_gets_through_a_lossy_network_without_much_waiting() {
    for (lose_every, bound_ms) in [(100, 30), (20, 60), (5, 400)] {
        let (took, in_excess) = transfer(Some(lose_every));
        assert!(took <= Duration::from_millis(bound_ms), "1/{lose_every} lost: {took:?}");
        let expected = 300 / lose_every as usize;
        assert!(in_excess <= 10 + 2 * expected, "1/{lose_every} lost: {in_excess} sent again");
    }
}
