//! Neighbour discovery as whole Ethernet frames: unsolicited advertisements (RFC 4861 §4.4 and §7.2.6), probes (RFC 4862
//! §5.4.2), questions, and what others send. Pure: bytes only.

use core::net::Ipv6Addr;

use super::ethernet::{self, HEADER_BYTES, MacAddress};

/// Length of the whole frame: Ethernet, IPv6, the advertisement, one option.
pub const ADVERTISEMENT_FRAME_BYTES: usize = HEADER_BYTES + IPV6_HEADER_BYTES + PAYLOAD_BYTES;

/// Length of a whole solicitation frame: Ethernet, IPv6, the solicitation, one option.
pub const SOLICITATION_FRAME_BYTES: usize = ADVERTISEMENT_FRAME_BYTES;

/// Tells a probe of ours that came back from somebody else's: RFC 7527 §4.
pub type Nonce = [u8; 6];

const IPV6_HEADER_BYTES: usize = 40;
const PAYLOAD_BYTES: usize = 32;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const NEXT_HEADER_ICMPV6: u8 = 58;
const TYPE_NEIGHBOUR_SOLICITATION: u8 = 135;
const TYPE_NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_OVERRIDE: u8 = 0x20;
const OPTION_SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const OPTION_TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const OPTION_NONCE: u8 = 14; // RFC 3971 §5.3.2
/// Receivers drop anything less: it may have been forwarded.
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The frame that tells all nodes on the segment: `address` is at `mac`, whatever you believed before.
///
/// `router` must say whether this machine forwards IPv6: hosts strike a router that advertises itself as a host from
/// their default routers (RFC 4861 §7.2.5), and a VIP is often somebody's gateway.
pub fn neighbour_advertisement(
    address: Ipv6Addr,
    mac: MacAddress,
    router: bool,
) -> [u8; ADVERTISEMENT_FRAME_BYTES] {
    let mut payload = [0; PAYLOAD_BYTES];
    payload[0] = TYPE_NEIGHBOUR_ADVERTISEMENT;
    payload[4] = FLAG_OVERRIDE | if router { FLAG_ROUTER } else { 0 };
    payload[8..24].copy_from_slice(&address.octets());
    put_option(&mut payload, OPTION_TARGET_LINK_LAYER_ADDRESS, mac.0);
    frame((MacAddress::ALL_NODES, ALL_NODES), (mac, address), payload)
}

/// The frame that asks whether anybody uses `address` and says nothing about the sender, so that no cache changes:
/// RFC 4862 §5.4.2. Whoever uses the address answers to all nodes.
pub fn probe(address: Ipv6Addr, mac: MacAddress, nonce: Nonce) -> [u8; SOLICITATION_FRAME_BYTES] {
    let payload = solicitation(address, OPTION_NONCE, nonce);
    frame(to_solicited_node(address), (mac, Ipv6Addr::UNSPECIFIED), payload)
}

/// The frame that asks for `address` in the name of `sender`, which is at `mac`: its solicited-node group, or the one
/// station that is believed to have it (RFC 4861 §7.2.2 and §7.3.3).
pub fn question(
    address: Ipv6Addr,
    believed_at: Option<MacAddress>,
    mac: MacAddress,
    sender: Ipv6Addr,
) -> [u8; SOLICITATION_FRAME_BYTES] {
    let payload = solicitation(address, OPTION_SOURCE_LINK_LAYER_ADDRESS, mac.0);
    let to = believed_at.map_or_else(|| to_solicited_node(address), |mac| (mac, address));
    frame(to, (mac, sender), payload)
}

/// The group in which everybody is who has an address that ends like `address`: RFC 4291 §2.7.1.
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

fn to_solicited_node(address: Ipv6Addr) -> (MacAddress, Ipv6Addr) {
    let group = solicited_node(address);
    let [.., a, b, c, d] = group.octets();
    (MacAddress([0x33, 0x33, a, b, c, d]), group) // RFC 2464 §7
}

fn solicitation(target: Ipv6Addr, option: u8, value: [u8; 6]) -> [u8; PAYLOAD_BYTES] {
    let mut payload = [0; PAYLOAD_BYTES];
    payload[0] = TYPE_NEIGHBOUR_SOLICITATION;
    payload[8..24].copy_from_slice(&target.octets());
    put_option(&mut payload, option, value);
    payload
}

fn put_option(payload: &mut [u8; PAYLOAD_BYTES], kind: u8, value: [u8; 6]) {
    payload[24] = kind;
    payload[25] = 1; // in units of eight bytes
    payload[26..32].copy_from_slice(&value);
}

/// Adds the headers and the checksum.
fn frame(
    to: (MacAddress, Ipv6Addr),
    from: (MacAddress, Ipv6Addr),
    mut payload: [u8; PAYLOAD_BYTES],
) -> [u8; ADVERTISEMENT_FRAME_BYTES] {
    let mut frame = [0; ADVERTISEMENT_FRAME_BYTES];
    let (header, packet) = frame.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&ethernet::header(to.0, from.0, ETHERTYPE_IPV6));
    let (ip, rest) = packet.split_at_mut(IPV6_HEADER_BYTES);
    ip[0] = 6 << 4;
    ip[4..6].copy_from_slice(&(PAYLOAD_BYTES as u16).to_be_bytes());
    ip[6] = NEXT_HEADER_ICMPV6;
    ip[7] = HOP_LIMIT;
    ip[8..24].copy_from_slice(&from.1.octets());
    ip[24..40].copy_from_slice(&to.1.octets());
    let checksum = checksum(from.1, to.1, &payload);
    payload[2..4].copy_from_slice(&checksum.to_be_bytes());
    rest.copy_from_slice(&payload);
    frame
}

/// A neighbour solicitation or advertisement, whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpPacket {
    /// It asks; otherwise it answers or announces.
    pub solicitation: bool,
    /// The sender's address; `::` in a probe.
    pub source: Ipv6Addr,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// The hardware address that it names, or else the one that it came from: the sender's in a solicitation, the
    /// target's in an advertisement.
    pub mac: MacAddress,
    /// What a probe is told by.
    pub nonce: Option<Nonce>,
}

/// Reads a whole frame; nothing if it is no neighbour solicitation or advertisement that a host may believe (RFC 4861
/// §7.1.1 and §7.1.2).
pub fn parse(frame: &[u8]) -> Option<NdpPacket> {
    let ip: &[u8; IPV6_HEADER_BYTES] = frame.get(HEADER_BYTES..)?.first_chunk()?;
    let address = |bytes: &[u8]| bytes.first_chunk::<16>().copied().map(Ipv6Addr::from);
    let (source, destination) = (address(&ip[8..])?, address(&ip[24..])?);
    let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    let payload = frame.get(HEADER_BYTES + IPV6_HEADER_BYTES..)?.get(..length)?;
    let solicitation = match *payload.first()? {
        TYPE_NEIGHBOUR_SOLICITATION => true,
        TYPE_NEIGHBOUR_ADVERTISEMENT => false,
        _ => return None,
    };
    let target = address(payload.get(8..)?)?;
    let sound = frame[12..HEADER_BYTES] == ETHERTYPE_IPV6.to_be_bytes()
        && ip[0] >> 4 == 6
        && (ip[6], ip[7], payload[1]) == (NEXT_HEADER_ICMPV6, HOP_LIMIT, 0)
        && length.is_multiple_of(8)
        && checksum(source, destination, payload) == 0;
    if !sound {
        return None;
    }
    let names_mac = if solicitation {
        OPTION_SOURCE_LINK_LAYER_ADDRESS
    } else {
        OPTION_TARGET_LINK_LAYER_ADDRESS
    };
    let came_from = MacAddress(*frame[6..].first_chunk()?);
    let mut packet = NdpPacket { solicitation, source, target, mac: came_from, nonce: None };
    let mut options = &payload[24..];
    while let [kind, units, value @ ..] = options {
        let length = usize::from(*units) * 8;
        if length == 0 || length > options.len() {
            return None;
        }
        if let (Some(value), 8) = (value.first_chunk::<6>(), length) {
            if *kind == names_mac {
                packet.mac = MacAddress(*value);
            } else if *kind == OPTION_NONCE {
                packet.nonce = Some(*value);
            }
        }
        options = &options[length..];
    }
    Some(packet)
}

/// The ICMPv6 checksum over the pseudo-header and `payload`, whose own checksum field is zero: RFC 4443 §2.3. Zero if the
/// field holds the right one. `payload` has an even number of bytes, as these packets have.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> u16 {
    let [a, b, c, d] = (payload.len() as u32).to_be_bytes();
    let pseudo_header = [a, b, c, d, 0, 0, 0, NEXT_HEADER_ICMPV6];
    let words = [&source.octets()[..], &destination.octets(), &pseudo_header, payload];
    let mut sum: u32 = words
        .iter()
        .flat_map(|part| part.chunks_exact(2))
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddress = MacAddress([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]);

    fn vip() -> Ipv6Addr {
        "fd00:77::1".parse().unwrap()
    }

    #[test]
    fn the_frame_is_an_unsolicited_overriding_advertisement() {
        let golden = [
            // Ethernet
            0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x86, 0xdd,
            // IPv6
            0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a,
            0xff, // 32 bytes of ICMPv6, hop limit 255
            0xfd, 0x00, 0x00, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, // from fd00:77::1
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, // to ff02::1
            // advertisement: override only; checksum from an independent calculation
            0x88, 0x00, 0xf3, 0x14, 0x20, 0x00, 0x00, 0x00, //
            0xfd, 0x00, 0x00, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, // target
            0x02, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, // target link-layer address
        ];

        assert_eq!(neighbour_advertisement(vip(), MAC, false), golden);
    }

    #[test]
    fn a_router_says_that_it_is_one() {
        let host = neighbour_advertisement(vip(), MAC, false);
        let router = neighbour_advertisement(vip(), MAC, true);

        let flags = HEADER_BYTES + IPV6_HEADER_BYTES + 4;
        assert_eq!(host[flags], 0x20);
        assert_eq!(router[flags], 0xa0);
    }

    #[test]
    fn the_checksum_verifies_as_a_receiver_would_do_it() {
        for address in ["fd00:77::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::1"] {
            let address: Ipv6Addr = address.parse().unwrap();
            let frame = neighbour_advertisement(address, MAC, true);

            let payload = &frame[HEADER_BYTES + IPV6_HEADER_BYTES..];
            assert_eq!(checksum(address, ALL_NODES, payload), 0, "over a valid packet it is zero");
        }
    }

    const NONCE: Nonce = [1, 2, 3, 4, 5, 6];

    #[test]
    fn a_probe_comes_from_nobody_and_carries_a_nonce() {
        let golden = [
            // Ethernet: the solicited-node group
            0x33, 0x33, 0xff, 0x00, 0x00, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x86, 0xdd,
            // IPv6
            0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, //
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // from ::
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff, 0x00, 0x00, 0x01,
            // solicitation; checksum from an independent calculation
            0x87, 0x00, 0x66, 0x19, 0x00, 0x00, 0x00, 0x00, //
            0xfd, 0x00, 0x00, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, // target
            0x0e, 0x01, 1, 2, 3, 4, 5, 6, // nonce
        ];

        assert_eq!(probe(vip(), MAC, NONCE), golden);
    }

    #[test]
    fn a_question_names_who_asks() {
        let sender = "fe80::11:22ff:fe33:4455".parse().unwrap();
        let other = MacAddress([0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]);

        let to_all = parse(&question(vip(), None, MAC, sender)).unwrap();
        let to_one = question(vip(), Some(other), MAC, sender);

        let asks =
            NdpPacket { solicitation: true, source: sender, target: vip(), mac: MAC, nonce: None };
        assert_eq!(to_all, asks);
        assert_eq!(parse(&to_one), Some(asks));
        assert_eq!(to_one[..6], other.0);
        assert_eq!(to_one[HEADER_BYTES + 24..][..16], vip().octets());
        assert_eq!(to_one[HEADER_BYTES + IPV6_HEADER_BYTES + 24], 1, "source link-layer address");
    }

    #[test]
    fn what_is_sent_is_read_back() {
        let announced = parse(&neighbour_advertisement(vip(), MAC, true));
        let probed = parse(&probe(vip(), MAC, NONCE));

        let packet =
            NdpPacket { solicitation: false, source: vip(), target: vip(), mac: MAC, nonce: None };
        assert_eq!(announced, Some(packet));
        let packet = NdpPacket {
            solicitation: true,
            source: Ipv6Addr::UNSPECIFIED,
            nonce: Some(NONCE),
            ..packet
        };
        assert_eq!(probed, Some(packet));
    }

    #[test]
    fn a_frame_with_any_damage_is_not_believed() {
        let good = probe(vip(), MAC, NONCE);
        // Hardware addresses, traffic class and flow label are not covered by anything.
        for at in (12..HEADER_BYTES).chain(HEADER_BYTES + 4..good.len()) {
            let mut bad = good;
            bad[at] ^= 0x10;
            assert_eq!(parse(&bad), None, "byte {at}");
        }
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        /// Around a packet whose lengths and checksum fit, so that the options are reached.
        #[test]
        fn no_bytes_confuse_the_parser(
            junk in prop::collection::vec(any::<u8>(), 0..120),
            body in prop::collection::vec(any::<u8>(), 0..64),
            advertisement: bool,
        ) {
            let _ = parse(&junk);
            let mut payload = vec![0; 24];
            payload[0] = if advertisement { 136 } else { 135 };
            payload.extend(&body);
            payload.truncate(payload.len() / 8 * 8);
            let sum = checksum(vip(), ALL_NODES, &payload);
            payload[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut frame = neighbour_advertisement(vip(), MAC, false).to_vec();
            frame.truncate(HEADER_BYTES + IPV6_HEADER_BYTES);
            frame[HEADER_BYTES + 5] = payload.len() as u8;
            frame.extend(&payload);
            if let Some(packet) = parse(&frame) {
                prop_assert_eq!(packet.solicitation, !advertisement);
                prop_assert_eq!(packet.target, Ipv6Addr::UNSPECIFIED);
            } else {
                // Only because of an option that is empty or too long.
                prop_assert!(!body.is_empty());
            }
        }
    }
}
