use std::net::{Ipv4Addr, Ipv6Addr};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use proptest::prelude::*;
use socket2::Socket;
use std::os::fd::{AsRawFd, OwnedFd};

use super::*;
use crate::io::arp::{ArpForm, arp_probe, arp_question, gratuitous_arp};
use crate::io::ethernet::MacAddress;
use crate::io::ndp::{neighbour_advertisement, probe, question};

const MAC: MacAddress = MacAddress([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]);
const OTHER: MacAddress = MacAddress([0x02, 0x11, 0x22, 0x33, 0x44, 0x66]);

/// The kernel runs the program, on datagrams that look like frames.
struct Kernel {
    sender: OwnedFd,
    receiver: Socket,
}

impl Kernel {
    fn with(program: &[SockFilter]) -> Self {
        let flags = SockFlag::SOCK_NONBLOCK;
        let (sender, receiver) =
            socketpair(AddressFamily::Unix, SockType::Datagram, None, flags).unwrap();
        let receiver = Socket::from(receiver);
        receiver.attach_filter(program).unwrap();
        Self { sender, receiver }
    }

    fn lets_through(&self, frame: &[u8]) -> bool {
        send(self.sender.as_raw_fd(), frame, MsgFlags::empty()).unwrap();
        let mut buffer = [0; 256];
        match recv(self.receiver.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => {
                assert_eq!(&buffer[..length], frame, "whole");
                true
            }
            Err(_) => false,
        }
    }
}

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

fn to(mac: MacAddress, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac.0);
    frame
}

#[test]
fn arp_that_claims_a_vip_or_answers_us_comes_through() {
    let vips = [1, 2, 3, 200].map(|last| IpAddr::from(v4(last)));
    let kernel = Kernel::with(&arp(Scope::Claims, vips.into_iter()));
    for vip in [1, 2, 3, 200].map(v4) {
        assert!(kernel.lets_through(&gratuitous_arp(ArpForm::Request, vip, MAC)));
        assert!(kernel.lets_through(&gratuitous_arp(ArpForm::Reply, vip, MAC)));
        assert!(kernel.lets_through(&arp_probe(vip, MAC)));
        assert!(kernel.lets_through(&arp_question(v4(9), None, MAC, vip)), "sent from it");
        assert!(!kernel.lets_through(&arp_question(vip, None, MAC, v4(9))), "a client asks for it");
    }
    for stranger in [0, 4, 199, 201].map(v4) {
        assert!(!kernel.lets_through(&gratuitous_arp(ArpForm::Request, stranger, MAC)));
        assert!(!kernel.lets_through(&gratuitous_arp(ArpForm::Reply, stranger, MAC)));
        assert!(!kernel.lets_through(&arp_probe(stranger, MAC)));
    }
    let answer = gratuitous_arp(ArpForm::Reply, v4(9), MAC).to_vec();
    assert!(kernel.lets_through(&to(OTHER, answer)), "an answer to this machine");
}

#[test]
fn neighbour_discovery_that_claims_a_vip_or_answers_us_comes_through() {
    let vips = [1, 2, 3, 200].map(|last| IpAddr::from(v6(last)));
    let kernel = Kernel::with(&ndp(Scope::Claims, vips.into_iter()));
    for vip in [1, 2, 3, 200].map(v6) {
        assert!(kernel.lets_through(&neighbour_advertisement(vip, MAC, false)));
        assert!(kernel.lets_through(&probe(vip, MAC, [7; 6])));
        assert!(kernel.lets_through(&question(v6(9), None, MAC, vip)), "sent from it");
        assert!(!kernel.lets_through(&question(vip, None, MAC, v6(9))), "a client asks for it");
    }
    for stranger in [0, 4, 199, 201].map(v6) {
        assert!(!kernel.lets_through(&neighbour_advertisement(stranger, MAC, false)));
        assert!(!kernel.lets_through(&probe(stranger, MAC, [7; 6])));
    }
    let answer = neighbour_advertisement(v6(9), MAC, false).to_vec();
    assert!(kernel.lets_through(&to(OTHER, answer)), "an answer to this machine");
    let mut other = probe(v6(1), MAC, [7; 6]);
    other[54] = 128; // an echo request
    assert!(!kernel.lets_through(&other));
    other[20] = 17; // UDP
    assert!(!kernel.lets_through(&other));
}

#[test]
fn a_curious_filter_lets_all_arp_and_neighbour_discovery_through() {
    let arp = Kernel::with(&arp(Scope::Everything, std::iter::empty()));
    assert!(arp.lets_through(&arp_question(v4(1), None, MAC, v4(9))));
    let ndp = Kernel::with(&ndp(Scope::Everything, std::iter::empty()));
    assert!(ndp.lets_through(&question(v6(1), None, MAC, v6(9))));
    assert!(ndp.lets_through(&neighbour_advertisement(v6(9), MAC, false)));
    let mut echo = probe(v6(1), MAC, [7; 6]);
    echo[54] = 128;
    assert!(!ndp.lets_through(&echo));
}

#[test]
fn without_vips_nothing_claims_one() {
    let kernel = Kernel::with(&arp(Scope::Claims, std::iter::empty()));
    assert!(!kernel.lets_through(&arp_probe(v4(1), MAC)));
}

proptest! {
    #[test]
    fn ranges_contain_all_values_and_are_few_and_apart(values in prop::collection::vec(any::<u32>(), 0..300)) {
        let ranges = ranges(values.clone());
        prop_assert!(ranges.len() <= RANGES_MAX);
        for value in &values {
            prop_assert!(ranges.iter().any(|&(first, last)| (first..=last).contains(value)));
        }
        for &(first, last) in &ranges {
            prop_assert!(first <= last && values.contains(&first) && values.contains(&last));
        }
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].1 < pair[1].0);
        }
    }

    #[test]
    fn the_kernel_lets_every_claim_through_however_many_vips(
        vips in prop::collection::btree_set(any::<u32>(), 1..400),
        chosen in any::<prop::sample::Index>(),
    ) {
        let vip = Ipv4Addr::from_bits(*chosen.get(&vips.iter().collect::<Vec<_>>()).to_owned());
        let all = || vips.iter().map(|&bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
        let kernel = Kernel::with(&arp(Scope::Claims, all()));
        prop_assert!(kernel.lets_through(&gratuitous_arp(ArpForm::Request, vip, MAC)));
        prop_assert!(kernel.lets_through(&arp_probe(vip, MAC)));
        let v6 = |v4: Ipv4Addr| Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(v4.to_bits()));
        let all = vips.iter().map(|&bits| IpAddr::from(v6(Ipv4Addr::from_bits(bits))));
        let kernel = Kernel::with(&ndp(Scope::Claims, all));
        prop_assert!(kernel.lets_through(&neighbour_advertisement(v6(vip), MAC, false)));
        prop_assert!(kernel.lets_through(&probe(v6(vip), MAC, [7; 6])));
    }
}
