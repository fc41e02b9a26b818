//! The few frames that the observers send and read, as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::mac::Mac;

/// EtherType of IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;

/// Length of the Ethernet header.
const ETHERNET: usize = 14;
/// What an ARP message for IPv4 on Ethernet starts with.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// The protocol number of ICMPv6 (RFC 4443).
const ICMPV6: u8 = 58;
/// ICMP and ICMPv6 header of an echo message, with identifier and sequence number.
const ECHO: usize = 8;

/// What an observer makes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An answer to an echo request of ours.
    EchoReply {
        /// Who answered, as the frame says.
        mac: Mac,
        /// The address that was asked.
        address: IpAddr,
        /// The identifier of the request.
        identifier: u16,
        /// The number that the request carried.
        sequence: u64,
    },
    /// Somebody says where an address is: an ARP frame's sender, or a neighbour advertisement's target.
    Claim {
        /// The sender's hardware address as the message gives it.
        mac: Mac,
        /// The address.
        address: IpAddr,
        /// Nobody asked: gratuitous ARP, or an unsolicited advertisement.
        unasked: bool,
    },
}

/// An echo request (RFC 792, RFC 4443 §4.1) without its IP header. ICMPv6 leaves the checksum to the kernel, which
/// knows the addresses (RFC 3542 §3.1).
pub fn echo_request(to: IpAddr, identifier: u16, sequence: u64) -> Vec<u8> {
    let mut bytes = vec![if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0];
    bytes.extend(identifier.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(sequence.to_be_bytes());
    if to.is_ipv4() {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// An ARP request (RFC 826) from a machine, to everybody: who has `target`?
pub fn arp_request(mac: Mac, own: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(mac, 1, own, Mac([0; 6]), target)
}

/// A gratuitous ARP reply to everybody: `address` is at `mac`.
pub fn gratuitous_arp(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(mac, 2, address, Mac([0xff; 6]), address)
}

fn arp(mac: Mac, operation: u16, sender: Ipv4Addr, to: Mac, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(Mac([0xff; 6]), mac, ARP);
    frame.extend(ETHERNET_IPV4);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac.0);
    frame.extend(sender.octets());
    frame.extend(to.0);
    frame.extend(target.octets());
    frame
}

/// A neighbour solicitation (RFC 4861 §4.3) from a machine to the solicited-node group of `target`.
pub fn neighbour_solicitation(mac: Mac, own: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]);
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]); // Source link-layer address, so that whoever answers need not ask.
    message.extend(mac.0);
    let length = [0, 32u8];
    let mut sum_of = Vec::from(own.octets());
    sum_of.extend(group.octets());
    sum_of.extend([0, 0, length[0], length[1], 0, 0, 0, ICMPV6]);
    sum_of.extend(&message);
    let sum = checksum(&sum_of);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(Mac([0x33, 0x33, 0xff, x, y, z]), mac, IPV6);
    frame.extend([0x60, 0, 0, 0, length[0], length[1], ICMPV6, 255]);
    frame.extend(own.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: Mac, from: Mac, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::from(to.0);
    frame.extend(from.0);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// Reads an Ethernet frame. `None` is a frame that says nothing of interest, or is malformed.
pub fn read(frame: &[u8]) -> Option<Seen> {
    let source = Mac::from_slice(frame.get(6..12)?)?;
    let payload = frame.get(ETHERNET..)?;
    match u16::from_be_bytes(array(frame, 12)?) {
        IPV4 => read_ipv4(source, payload),
        IPV6 => read_ipv6(source, payload),
        ARP => read_arp(payload),
        _ => None,
    }
}

fn read_ipv4(source: Mac, packet: &[u8]) -> Option<Seen> {
    const ICMP: u8 = 1;
    const ECHO_REPLY: u8 = 0;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let message = packet.get(header..)?;
    if *packet.get(9)? != ICMP || *message.first()? != ECHO_REPLY {
        return None;
    }
    let address = Ipv4Addr::from(array::<4>(packet, 12)?).into();
    echo_reply(source, address, message)
}

fn read_ipv6(source: Mac, packet: &[u8]) -> Option<Seen> {
    const HEADER: usize = 40;
    const ECHO_REPLY: u8 = 129;
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const SOLICITED: u8 = 0x40;
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
    if *packet.get(6)? != ICMPV6 {
        return None;
    }
    let message = packet.get(HEADER..)?;
    match *message.first()? {
        ECHO_REPLY => {
            let address = Ipv6Addr::from(array::<16>(packet, 8)?).into();
            echo_reply(source, address, message)
        }
        // RFC 4861 §4.4: flags, target, then options of which the target's link-layer address is usually the first.
        NEIGHBOUR_ADVERTISEMENT => Some(Seen::Claim {
            mac: match message.get(24..26) {
                Some(option) if option == TARGET_LINK_LAYER_ADDRESS => {
                    Mac::from_slice(message.get(26..)?)?
                }
                _ => source,
            },
            address: Ipv6Addr::from(array::<16>(message, 8)?).into(),
            unasked: message.get(4)? & SOLICITED == 0,
        }),
        _ => None,
    }
}

fn read_arp(message: &[u8]) -> Option<Seen> {
    if message.get(..6)? != ETHERNET_IPV4 {
        return None;
    }
    let sender = array::<4>(message, 14)?;
    let target = array::<4>(message, 24)?;
    if sender == [0; 4] {
        return None; // A probe (RFC 5227 §1.1) claims nothing.
    }
    Some(Seen::Claim {
        mac: Mac::from_slice(message.get(8..)?)?,
        address: Ipv4Addr::from(sender).into(),
        unasked: sender == target,
    })
}

fn echo_reply(mac: Mac, address: IpAddr, message: &[u8]) -> Option<Seen> {
    let identifier = u16::from_be_bytes(array(message, 4)?);
    let sequence = u64::from_be_bytes(array(message, ECHO)?);
    Some(Seen::EchoReply { mac, address, identifier, sequence })
}

fn array<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..start + N)?.try_into().ok()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0x77, 0, 0, 0, 11]);

    fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend(MAC.0);
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn ipv4_reply() -> Vec<u8> {
        let mut packet =
            vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 1, 0, 0, 10, 77, 1, 1, 10, 77, 0, 100];
        let mut message = echo_request("10.77.1.1".parse().unwrap(), 7, 42);
        message[0] = 0;
        packet.extend(message);
        frame(IPV4, &packet)
    }

    #[test]
    fn an_echo_reply_names_its_sender_and_its_request() {
        let seen = read(&ipv4_reply());

        let address = "10.77.1.1".parse().unwrap();
        assert_eq!(seen, Some(Seen::EchoReply { mac: MAC, address, identifier: 7, sequence: 42 }));
    }

    #[test]
    fn a_truncated_frame_says_nothing() {
        let whole = ipv4_reply();

        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn an_echo_request_has_a_valid_checksum() {
        let request = echo_request("10.77.1.1".parse().unwrap(), 0xbeef, u64::MAX - 3);

        assert_eq!(checksum(&request), 0);
    }

    #[test]
    fn a_gratuitous_arp_is_a_claim_that_nobody_asked_for_and_a_probe_is_none() {
        let arp = |sender: [u8; 4], target: [u8; 4]| {
            let mut message = vec![0, 1, 8, 0, 6, 4, 0, 1];
            message.extend(MAC.0);
            message.extend(sender);
            message.extend([0; 6]);
            message.extend(target);
            read(&frame(ARP, &message))
        };
        let claim =
            |unasked| Some(Seen::Claim { mac: MAC, address: [10, 77, 1, 1].into(), unasked });

        assert_eq!(arp([10, 77, 1, 1], [10, 77, 1, 1]), claim(true));
        assert_eq!(arp([10, 77, 1, 1], [10, 77, 0, 100]), claim(false));
        assert_eq!(arp([0; 4], [10, 77, 1, 1]), None);
    }

    #[test]
    fn a_gratuitous_arp_of_ours_claims_and_a_request_claims_only_its_sender() {
        let (own, vip) = (Ipv4Addr::new(10, 77, 0, 102), Ipv4Addr::new(10, 77, 1, 1));
        let claim = |address: Ipv4Addr, unasked| {
            Some(Seen::Claim { mac: MAC, address: address.into(), unasked })
        };

        assert_eq!(read(&gratuitous_arp(MAC, vip)), claim(vip, true));
        assert_eq!(read(&arp_request(MAC, own, vip)), claim(own, false));
    }

    #[test]
    fn a_neighbour_solicitation_has_a_valid_checksum() {
        let own: Ipv6Addr = "fd00:77::66".parse().unwrap();
        let frame = neighbour_solicitation(MAC, own, "fd00:77::1:1".parse().unwrap());
        let message = &frame[ETHERNET + 40..];

        let mut sum_of = Vec::from(&frame[ETHERNET + 8..ETHERNET + 40]);
        sum_of.extend([0, 0, 0, 32, 0, 0, 0, ICMPV6]);
        sum_of.extend(message);

        assert_eq!((message.len(), checksum(&sum_of)), (32, 0));
    }

    #[test]
    fn a_neighbour_advertisement_claims_its_target() {
        let target: Ipv6Addr = "fd00:77::1:1".parse().unwrap();
        let other = Mac([2, 0, 0, 0, 0, 9]);
        let mut packet = vec![0x60, 0, 0, 0, 0, 32, 58, 255];
        packet.extend([0; 32]);
        packet.extend([136, 0, 0, 0, 0x20, 0, 0, 0]);
        packet.extend(target.octets());
        packet.extend([2, 1]);
        packet.extend(other.0);

        let seen = read(&frame(IPV6, &packet));

        assert_eq!(seen, Some(Seen::Claim { mac: other, address: target.into(), unasked: true }));
    }
}
