use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::wire::message::{Fragment, FragmentAck, Heartbeat, Leave, PeerEcho};

const ALICE: NodeId = NodeId(0x0a0a_0a0a);
const BOB: NodeId = NodeId(0x0b0b_0b0b);
const CAROL: NodeId = NodeId(0x0c);

fn key() -> ClusterKey {
    ClusterKey(core::array::from_fn(|i| i as u8))
}

fn codec() -> Codec {
    Codec::new(&key(), "web")
}

fn header(to: NodeId) -> Header {
    Header { from: ALICE, to, incarnation: Incarnation::new(3, 0x1122_3344), sequence: 1000 }
}

fn echo_of_bob() -> PeerEcho {
    PeerEcho {
        peer: BOB,
        incarnation: Incarnation::new(5, 0x5566_7788),
        sequence: 77,
        promise_us: 400_000,
        heard: true,
        in_view: false,
    }
}

/// Gives `content` a valid prefix and tag, whatever it says.
fn sealed_raw(content: &[u8]) -> Vec<u8> {
    sealed_raw_behind(codec().prefix, content)
}

fn sealed_raw_behind(prefix: [u8; PREFIX_LENGTH], content: &[u8]) -> Vec<u8> {
    let mut datagram = [&prefix, content].concat();
    let tag = codec().mac.chain_update(&datagram).finalize().into_bytes();
    datagram.extend_from_slice(&tag[..TAG_LENGTH]);
    datagram
}

fn content_of(header: &Header, body: &Body) -> Vec<u8> {
    let datagram = codec().seal(header, body);
    datagram[PREFIX_LENGTH..datagram.len() - TAG_LENGTH].to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The expected bytes were not made by this program but by `docs/protocol.md` and another HMAC implementation: they pin the
/// format. If this test fails, [`VERSION`] must grow.
#[test]
fn the_format_is_the_documented_one() {
    let check = |to, body: &Body, expected: &str| {
        assert_eq!(hex(&codec().seal(&header(to), body)), expected, "{body:?}");
    };
    let carol = PeerEcho {
        peer: CAROL,
        incarnation: Incarnation::new(1, 2),
        sequence: 0,
        promise_us: 0,
        heard: false,
        in_view: true,
    };
    let heartbeat = Heartbeat {
        view: ViewId { epoch: 7, coordinator: ALICE },
        accepted: ViewId { epoch: 8, coordinator: BOB },
        beside: true,
        interval_us: 100_000,
        echoes: vec![PeerEcho { in_view: true, ..echo_of_bob() }, carol],
    };
    let peer_incarnation = Incarnation::new(5, 0x5566_7788);

    check(
        NodeId::EVERYBODY,
        &Body::Heartbeat(heartbeat),
        "776b0400e3935f518a94a85000c4e6888931e80700078a94a850088b96ac5801a08d06020b0b0b0b05556677\
         884d83d4610000000c01000000020001aadf878dfea2a1734ad5b7a5b5376b0f",
    );
    check(
        BOB,
        &Body::Echo(echo_of_bob()),
        "776b0400e3935f518a94a8508b96ac58c4e6888931e807010b0b0b0b05556677884d82d461dd7b2d65677cc3\
         d8c19058484028a2e2",
    );
    check(
        NodeId::EVERYBODY,
        &Body::Leave(Leave { incarnation: header(BOB).incarnation }),
        "776b0400e3935f518a94a85000c4e6888931e80702c4e6888931ecfd15e1681d6a5c55b9bba4f35866e9",
    );
    check(
        BOB,
        &Body::Fragment(Fragment {
            peer_incarnation,
            stream: 2,
            number: 300,
            last: true,
            bytes: b"hello".to_vec(),
        }),
        "776b0400e3935f518a94a8508b96ac58c4e6888931e8070388ef99ab5502ac02010568656c6c6fff229b6c7a\
         08f2351976cc60464bbf54",
    );
    check(
        BOB,
        &Body::FragmentAck(FragmentAck {
            peer_incarnation,
            stream: 2,
            next: 300,
            ahead: 1 << 63 | 0b101,
        }),
        "776b0400e3935f518a94a8508b96ac58c4e6888931e8070488ef99ab5502ac02858080808080808080013e5c\
         11bbc23588606fdf3ae3aa769f5b",
    );
}

#[test]
fn each_stranger_is_told_apart() {
    let body = Body::Echo(echo_of_bob());
    let ours = codec().seal(&header(BOB), &body);
    let check = |datagram: &[u8], expected: Rejection| {
        assert_eq!(codec().open(datagram), Err(expected), "{}", hex(datagram));
    };
    let with_byte = |index: usize, byte: u8| {
        let mut datagram = ours.clone();
        datagram[index] = byte;
        datagram
    };

    check(&[], Rejection::Malformed);
    check(b"wk\x01\x00", Rejection::Malformed);
    check(&ours[..PREFIX_LENGTH], Rejection::Malformed);
    check(&[&[0; 9], &ours[..]].concat(), Rejection::Malformed);
    check(&with_byte(0, b'W'), Rejection::Malformed);
    check(&with_byte(2, VERSION + 1), Rejection::Version);
    check(&Codec::new(&key(), "mail").seal(&header(BOB), &body), Rejection::OtherCluster);
    let other_key = ClusterKey([7; 32]);
    check(&Codec::new(&other_key, "web").seal(&header(BOB), &body), Rejection::WrongKey);
    assert_eq!(codec().open(&ours), Ok((header(BOB), body)));
}

/// Should two names share the 32 bits that are sent in clear, the authentication still tells them apart.
#[test]
fn the_cluster_name_is_part_of_the_authentication() {
    let mut other = Codec::new(&key(), "mail");
    other.prefix = codec().prefix;

    let datagram = other.seal(&header(BOB), &Body::Echo(echo_of_bob()));

    assert_eq!(codec().open(&datagram), Err(Rejection::WrongKey));
}

#[test]
fn authenticated_nonsense_is_malformed() {
    let echo = content_of(&header(BOB), &Body::Echo(echo_of_bob()));
    let check = |datagram: &[u8]| {
        assert_eq!(codec().open(datagram), Err(Rejection::Malformed), "{}", hex(datagram));
    };
    assert_eq!(codec().open(&sealed_raw(&echo)), Ok((header(BOB), Body::Echo(echo_of_bob()))));

    let mut reserved = codec().prefix;
    reserved[3] = 1;
    check(&sealed_raw_behind(reserved, &echo));
    check(&sealed_raw(&[]));
    check(&sealed_raw(&[&echo[..], &[0]].concat()));
    check(&sealed_raw(&echo[..echo.len() - 1]));
    check(&sealed_raw(&[0; DATAGRAM_MAX]));

    let behind_header = |body: &[u8]| sealed_raw(&[&encode(&header(BOB)), body].concat());
    let leave = Body::Leave(Leave { incarnation: Incarnation(9) });
    assert_eq!(codec().open(&behind_header(&[2, 9])), Ok((header(BOB), leave)));
    check(&behind_header(&[5, 9])); // there is no sixth body
    check(&behind_header(&[3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f])); // 4 GiB of fragment

    let echo_with_promise_ending_in =
        |byte| behind_header(&[1, 0, 0, 0, 9, 1, 0, 0, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, byte]);
    assert!(codec().open(&echo_with_promise_ending_in(0x3f)).is_ok());
    check(&echo_with_promise_ending_in(0x40)); // more than 32 bits of promise
}

#[test]
fn more_echoes_than_a_cluster_has_peers_are_malformed() {
    let heartbeat = |echoes| {
        let none = ViewId::NONE;
        let echo = PeerEcho { incarnation: Incarnation(0), promise_us: 0, ..echo_of_bob() };
        let echoes = vec![echo; echoes];
        Body::Heartbeat(Heartbeat {
            view: none,
            accepted: none,
            beside: false,
            interval_us: 1,
            echoes,
        })
    };
    let content =
        |echoes| postcard::to_allocvec(&(header(NodeId::EVERYBODY), heartbeat(echoes))).unwrap();

    assert!(codec().open(&sealed_raw(&content(ECHOES_MAX))).is_ok());
    assert_eq!(codec().open(&sealed_raw(&content(ECHOES_MAX + 1))), Err(Rejection::Malformed));
}

/// As large as they get in nine years of a million datagrams per second, a start each second, and a promise of a minute.
#[test]
fn a_heartbeat_to_48_peers_fits_into_one_datagram() {
    let incarnation = Incarnation::new((1 << 28) - 1, u32::MAX);
    let echo = PeerEcho {
        peer: NodeId(u32::MAX),
        incarnation,
        sequence: (1 << 49) - 1,
        promise_us: (1 << 26) - 1,
        heard: true,
        in_view: true,
    };
    let view = ViewId { epoch: u64::MAX, coordinator: NodeId(u32::MAX) };
    let header =
        Header { from: NodeId(u32::MAX), to: NodeId(u32::MAX), incarnation, sequence: u64::MAX };
    let body = Body::Heartbeat(Heartbeat {
        view,
        accepted: view,
        beside: true,
        interval_us: u32::MAX,
        echoes: vec![echo; ECHOES_MAX],
    });

    let datagram = codec().seal(&header, &body);

    assert!(datagram.len() <= DATAGRAM_MAX, "{} bytes", datagram.len());
    assert_eq!(codec().open(&datagram), Ok((header, body)));
}

#[test]
fn the_longest_fragment_fills_a_datagram_at_worst() {
    let header = Header {
        from: NodeId(u32::MAX),
        to: NodeId(u32::MAX),
        incarnation: Incarnation(u64::MAX),
        sequence: u64::MAX,
    };
    let body = Body::Fragment(Fragment {
        peer_incarnation: Incarnation(u64::MAX),
        stream: u64::MAX,
        number: u64::MAX,
        last: true,
        bytes: vec![0xff; FRAGMENT_BYTES_MAX],
    });

    let datagram = codec().seal(&header, &body);

    assert_eq!(datagram.len(), DATAGRAM_MAX);
    assert_eq!(codec().open(&datagram), Ok((header, body)));
}

#[test]
fn a_message_has_no_trailing_bytes_and_a_greatest_length() {
    let message = vec![7_u8; MESSAGE_MAX - 3];
    let encoded = encode(&message);
    assert_eq!(encoded.len(), MESSAGE_MAX);

    assert_eq!(decode::<Vec<u8>>(&encoded), Ok(message));
    assert_eq!(decode::<Vec<u8>>(&encoded[..MESSAGE_MAX - 1]), Err(Rejection::Malformed));
    assert_eq!(decode::<u8>(&[7, 0]), Err(Rejection::Malformed));
    assert_eq!(decode::<Vec<u8>>(&encode(&vec![7_u8; MESSAGE_MAX - 2])), Err(Rejection::Malformed));
}

fn any_node() -> impl Strategy<Value = NodeId> {
    prop_oneof![0..300_u32, any::<u32>()].prop_map(NodeId)
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, any::<u64>()]
}

fn any_incarnation() -> impl Strategy<Value = Incarnation> {
    any_number().prop_map(Incarnation)
}

fn any_header() -> impl Strategy<Value = Header> {
    (any_node(), any_node(), any_incarnation(), any_number())
        .prop_map(|(from, to, incarnation, sequence)| Header { from, to, incarnation, sequence })
}

fn any_echo() -> impl Strategy<Value = PeerEcho> {
    let flags = (any::<bool>(), any::<bool>());
    (any_node(), any_incarnation(), any_number(), any::<u32>(), flags).prop_map(
        |(peer, incarnation, sequence, promise_us, (heard, in_view))| PeerEcho {
            peer,
            incarnation,
            sequence,
            promise_us,
            heard,
            in_view,
        },
    )
}

fn any_view() -> impl Strategy<Value = ViewId> {
    (any_number(), any_node()).prop_map(|(epoch, coordinator)| ViewId { epoch, coordinator })
}

fn any_body() -> impl Strategy<Value = Body> {
    let heartbeat = (any_view(), any_view(), any::<bool>(), any::<u32>(), vec(any_echo(), 0..30))
        .prop_map(|(view, accepted, beside, interval_us, echoes)| {
            Body::Heartbeat(Heartbeat { view, accepted, beside, interval_us, echoes })
        });
    let fragment = (
        any_incarnation(),
        any_number(),
        any_number(),
        any::<bool>(),
        vec(any::<u8>(), 0..=FRAGMENT_BYTES_MAX),
    )
        .prop_map(|(peer_incarnation, stream, number, last, bytes)| {
            Body::Fragment(Fragment { peer_incarnation, stream, number, last, bytes })
        });
    let ack = (any_incarnation(), any_number(), any_number(), any_number()).prop_map(
        |(peer_incarnation, stream, next, ahead)| {
            Body::FragmentAck(FragmentAck { peer_incarnation, stream, next, ahead })
        },
    );
    prop_oneof![
        heartbeat,
        any_echo().prop_map(Body::Echo),
        any_incarnation().prop_map(|incarnation| Body::Leave(Leave { incarnation })),
        fragment,
        ack,
    ]
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened_unchanged(header in any_header(), body in any_body()) {
        let datagram = codec().seal(&header, &body);
        prop_assert!(datagram.len() <= DATAGRAM_MAX);
        prop_assert_eq!(codec().open(&datagram), Ok((header, body)));
    }

    #[test]
    fn bytes_from_anybody_are_refused(bytes in vec(any::<u8>(), 0..1500), ours: bool) {
        let prefix: &[u8] = if ours { &codec().prefix } else { &[] };
        prop_assert!(codec().open(&[prefix, &bytes].concat()).is_err());
    }

    /// A member with a fault, or somebody who has the key: no panic, and what is accepted can be sealed again.
    #[test]
    fn authenticated_bytes_never_panic(
        header in any_header(),
        bytes in prop_oneof![vec(any::<u8>(), 0..1176), vec(0..8_u8, 0..100)],
        behind_a_header: bool,
    ) {
        let header_bytes = encode(&header);
        let bytes = if behind_a_header { [&header_bytes[..], &bytes].concat() } else { bytes };
        if let Ok((header, body)) = codec().open(&sealed_raw(&bytes)) {
            let again = codec().seal(&header, &body);
            prop_assert_eq!(codec().open(&again), Ok((header, body)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused(
        header in any_header(),
        body in any_body(),
    ) {
        let datagram = codec().seal(&header, &body);
        for length in 0..datagram.len() {
            prop_assert!(codec().open(&datagram[..length]).is_err(), "{} bytes", length);
        }
        let mut flipped = datagram;
        for bit in 0..flipped.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(codec().open(&flipped).is_err(), "bit {}", bit);
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
