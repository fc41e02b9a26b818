//! Unsolicited neighbour advertisements (RFC 4861 §4.4 and §7.2.6), as whole Ethernet frames. Pure: bytes only.

use core::net::Ipv6Addr;

use super::ethernet::{self, HEADER_BYTES, MacAddress};

/// Length of the whole frame: Ethernet, IPv6, the advertisement, one option.
pub const ADVERTISEMENT_FRAME_BYTES: usize = HEADER_BYTES + IPV6_HEADER_BYTES + PAYLOAD_BYTES;

const IPV6_HEADER_BYTES: usize = 40;
const PAYLOAD_BYTES: usize = 32;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const NEXT_HEADER_ICMPV6: u8 = 58;
const TYPE_NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_OVERRIDE: u8 = 0x20;
const OPTION_TARGET_LINK_LAYER_ADDRESS: u8 = 2;
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
    let mut frame = [0; ADVERTISEMENT_FRAME_BYTES];
    let (header, packet) = frame.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&ethernet::header(MacAddress::ALL_NODES, mac, ETHERTYPE_IPV6));
    let (ip, payload) = packet.split_at_mut(IPV6_HEADER_BYTES);
    ip[0] = 6 << 4;
    ip[4..6].copy_from_slice(&(PAYLOAD_BYTES as u16).to_be_bytes());
    ip[6] = NEXT_HEADER_ICMPV6;
    ip[7] = 255; // receivers drop anything less: it may have been forwarded
    ip[8..24].copy_from_slice(&address.octets());
    ip[24..40].copy_from_slice(&ALL_NODES.octets());

    payload[0] = TYPE_NEIGHBOUR_ADVERTISEMENT;
    payload[4] = FLAG_OVERRIDE | if router { FLAG_ROUTER } else { 0 };
    payload[8..24].copy_from_slice(&address.octets());
    payload[24] = OPTION_TARGET_LINK_LAYER_ADDRESS;
    payload[25] = 1; // in units of eight bytes
    payload[26..32].copy_from_slice(&mac.0);
    let checksum = checksum(address, ALL_NODES, payload);
    payload[2..4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The ICMPv6 checksum over the pseudo-header and `payload`, whose own checksum field is zero: RFC 4443 §2.3.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> u16 {
    let pseudo_header = [0, 0, 0, payload.len() as u8, 0, 0, 0, NEXT_HEADER_ICMPV6];
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
}
