//! ARP frames for IPv4 over Ethernet (RFC 826): gratuitous ones (RFC 5944 §4.6), probes (RFC 5227 §2.1.1), questions, and
//! what others send. Pure: bytes only.
//!
//! Gratuitous ARP is sent in both forms because receivers differ: some update their caches on requests only, some on
//! replies only.

use core::net::Ipv4Addr;

use super::ethernet::{self, HEADER_BYTES, MacAddress};

/// Which of the two forms a gratuitous ARP takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpForm {
    /// Operation 1; the target hardware address is unset, as in RFC 5227 §2.3.
    Request,
    /// Operation 2; the target hardware address repeats the sender's, as RFC 5944 §4.6 asks.
    Reply,
}

/// Length of an ARP frame for IPv4 over Ethernet, without the padding that the driver adds.
pub const ARP_FRAME_BYTES: usize = HEADER_BYTES + 28;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
const HARDWARE_ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const NOBODY: MacAddress = MacAddress([0; 6]);

/// What an ARP packet says, whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    /// It asks; otherwise it answers.
    pub request: bool,
    /// The hardware address that the sender gives as its own.
    pub sender_mac: MacAddress,
    /// The sender's address; `0.0.0.0` in a probe.
    pub sender: Ipv4Addr,
    /// Whom it asks for or answers.
    pub target: Ipv4Addr,
}

/// The frame that tells everybody on the segment: `address` is at `mac`.
pub fn gratuitous_arp(form: ArpForm, address: Ipv4Addr, mac: MacAddress) -> [u8; ARP_FRAME_BYTES] {
    let (operation, target_mac) = match form {
        ArpForm::Request => (REQUEST, NOBODY),
        ArpForm::Reply => (REPLY, mac),
    };
    frame(MacAddress::BROADCAST, operation, (mac, address), (target_mac, address))
}

/// The frame that asks whether anybody uses `address`, and says nothing about the sender, so that no cache changes:
/// RFC 5227 §2.1.1.
pub fn arp_probe(address: Ipv4Addr, mac: MacAddress) -> [u8; ARP_FRAME_BYTES] {
    arp_question(address, None, mac, Ipv4Addr::UNSPECIFIED)
}

/// The frame that asks for `address` in the name of `sender`, which is at `mac`: everybody, or the one station that is
/// believed to have it (RFC 1122 §2.3.2.1).
pub fn arp_question(
    address: Ipv4Addr,
    believed_at: Option<MacAddress>,
    mac: MacAddress,
    sender: Ipv4Addr,
) -> [u8; ARP_FRAME_BYTES] {
    let to = believed_at.unwrap_or(MacAddress::BROADCAST);
    frame(to, REQUEST, (mac, sender), (NOBODY, address))
}

/// Reads a whole frame; nothing if it is not ARP for IPv4 over Ethernet.
pub fn parse(frame: &[u8]) -> Option<ArpPacket> {
    let packet: &[u8; 28] = frame.get(HEADER_BYTES..)?.first_chunk()?;
    let [hw_a, hw_b, type_a, type_b, mac_bytes, ip_bytes, op_a, op_b, rest @ ..] = *packet;
    let fits = u16::from_be_bytes([frame[12], frame[13]]) == ETHERTYPE_ARP
        && u16::from_be_bytes([hw_a, hw_b]) == HARDWARE_ETHERNET
        && u16::from_be_bytes([type_a, type_b]) == ETHERTYPE_IPV4
        && (mac_bytes, ip_bytes) == (6, 4);
    let request = match u16::from_be_bytes([op_a, op_b]) {
        REQUEST => true,
        REPLY => false,
        _ => return None,
    };
    let ip = |at: usize| rest[at..].first_chunk::<4>().copied().map(Ipv4Addr::from);
    let sender_mac = MacAddress(*rest.first_chunk()?);
    fits.then_some(ArpPacket { request, sender_mac, sender: ip(6)?, target: ip(16)? })
}

/// `from` says who sends, `about` whom it is about; each with its hardware address.
fn frame(
    to: MacAddress,
    operation: u16,
    from: (MacAddress, Ipv4Addr),
    about: (MacAddress, Ipv4Addr),
) -> [u8; ARP_FRAME_BYTES] {
    let mut frame = [0; ARP_FRAME_BYTES];
    let (header, packet) = frame.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&ethernet::header(to, from.0, ETHERTYPE_ARP));
    packet[0..2].copy_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
    packet[2..4].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    packet[4] = 6; // bytes of a hardware address
    packet[5] = 4; // bytes of a protocol address
    packet[6..8].copy_from_slice(&operation.to_be_bytes());
    packet[8..14].copy_from_slice(&from.0.0);
    packet[14..18].copy_from_slice(&from.1.octets());
    packet[18..24].copy_from_slice(&about.0.0);
    packet[24..28].copy_from_slice(&about.1.octets());
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddress = MacAddress([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 9);

    #[test]
    fn the_request_form_asks_for_the_senders_own_address() {
        let golden = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55,
            0x0a, 0x4d, 0x01, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x4d, 0x01, 0x09,
        ];

        assert_eq!(gratuitous_arp(ArpForm::Request, VIP, MAC), golden);
    }

    #[test]
    fn the_reply_form_names_the_sender_as_target_too() {
        let golden = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55,
            0x0a, 0x4d, 0x01, 0x09, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x0a, 0x4d, 0x01, 0x09,
        ];

        assert_eq!(gratuitous_arp(ArpForm::Reply, VIP, MAC), golden);
    }

    #[test]
    fn a_probe_names_no_sender_address() {
        let golden = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x4d, 0x01, 0x09,
        ];

        assert_eq!(arp_probe(VIP, MAC), golden);
    }

    #[test]
    fn a_question_goes_to_the_one_who_is_believed_to_answer() {
        let other = MacAddress([0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]);
        let golden = [
            0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55,
            0x0a, 0x4d, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x4d, 0x01, 0x09,
        ];

        let own = Ipv4Addr::new(10, 77, 1, 2);
        assert_eq!(arp_question(VIP, Some(other), MAC, own), golden);
        assert_eq!(arp_question(VIP, None, MAC, own)[..6], [0xff; 6]);
    }

    #[test]
    fn what_is_sent_is_read_back() {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        for (frame, request, sender) in [
            (gratuitous_arp(ArpForm::Request, VIP, MAC), true, VIP),
            (gratuitous_arp(ArpForm::Reply, VIP, MAC), false, VIP),
            (arp_probe(VIP, MAC), true, unspecified),
        ] {
            let read = ArpPacket { request, sender_mac: MAC, sender, target: VIP };
            assert_eq!(parse(&frame), Some(read));
            let mut padded = frame.to_vec();
            padded.resize(60, 0); // as it comes from a real wire
            assert_eq!(parse(&padded), Some(read));
        }
    }

    #[test]
    fn other_frames_are_not_arp() {
        let good = arp_probe(VIP, MAC);
        // Type, hardware, protocol, their lengths, operation.
        for at in [12, 13, 14, 15, 16, 17, 18, 19, 20, 21] {
            let mut bad = good;
            bad[at] ^= 0x40;
            assert_eq!(parse(&bad), None, "byte {at}");
        }
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_confuse_the_parser(mut bytes in prop::collection::vec(any::<u8>(), 0..80), patch: bool) {
            if patch && bytes.len() > 22 {
                bytes[12..22].copy_from_slice(&arp_probe(VIP, MAC)[12..22]);
            }
            match parse(&bytes) {
                Some(packet) => prop_assert_eq!(&packet.target.octets()[..], &bytes[38..42]),
                None => prop_assert!(!patch || bytes.len() < ARP_FRAME_BYTES),
            }
        }
    }
}
