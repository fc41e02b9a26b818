//! Gratuitous ARP frames (RFC 826, RFC 5944 §4.6). Pure: bytes only.
//!
//! Both forms are sent because receivers differ: some update their caches on requests only, some on replies only.

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

/// The frame that tells everybody on the segment: `address` is at `mac`.
pub fn gratuitous_arp(form: ArpForm, address: Ipv4Addr, mac: MacAddress) -> [u8; ARP_FRAME_BYTES] {
    let (operation, target_mac) = match form {
        ArpForm::Request => (1u16, [0; 6]),
        ArpForm::Reply => (2, mac.0),
    };
    let mut frame = [0; ARP_FRAME_BYTES];
    let (header, packet) = frame.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&ethernet::header(MacAddress::BROADCAST, mac, ETHERTYPE_ARP));
    packet[0..2].copy_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
    packet[2..4].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    packet[4] = 6; // bytes of a hardware address
    packet[5] = 4; // bytes of a protocol address
    packet[6..8].copy_from_slice(&operation.to_be_bytes());
    packet[8..14].copy_from_slice(&mac.0);
    packet[14..18].copy_from_slice(&address.octets());
    packet[18..24].copy_from_slice(&target_mac);
    packet[24..28].copy_from_slice(&address.octets());
    frame
}

#[cfg(test)]
mod tests {
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
}
