//! Noticing that somebody else uses or wants a VIP.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use wackamole::io::addresses::AddressesConfig;
use wackamole::io::arp::{ArpForm, arp_probe, arp_question, gratuitous_arp};
use wackamole::io::ethernet::MacAddress;
use wackamole::io::ndp;
use wackamole_protocol::mac::Claim;

use crate::capture::{Capture, Forger, arp};
use crate::kernel::{Kernel, cable};
use crate::worker::{Worker, vip};

const THEIRS: MacAddress = MacAddress([2, 0xba, 0xd0, 0, 0, 1]);
const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

pub(crate) fn of_others_on_what_is_held_are_reported() {
    let (left, right) = cable();
    let forger = right.enter(Forger::here);
    left.enter(|| {
        let ours = Kernel::here().mac("eth0");
        let vip = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        let mut config = AddressesConfig::new([].into());
        config.segment.vips = vec![vip.clone()];
        let mut worker = Worker::with(config);
        assert_eq!(worker.acquire(&vip), Ok(()));
        let address = "fe80::9".parse().unwrap();
        for (frame, claim) in [
            (gratuitous_arp(ArpForm::Request, V4, THEIRS).to_vec(), Claim::Uses),
            (arp_probe(V4, THEIRS).to_vec(), Claim::Wants),
            (gratuitous_arp(ArpForm::Reply, V4, THEIRS).to_vec(), Claim::Uses),
            (ndp::probe(V6, THEIRS, [9; 6]).to_vec(), Claim::Wants),
            (ndp::neighbour_advertisement(V6, THEIRS, false).to_vec(), Claim::Uses),
        ] {
            forger.send(&arp_question(V4, None, THEIRS, CLIENT)); // a client's question is none
            forger.send(&ndp::question(V6, None, THEIRS, address));
            forger.send(&frame);
            assert_eq!(worker.next_claim(), (vip.id(), THEIRS.0, ours, claim));
        }
        // Whoever asks from the address has it.
        std::thread::sleep(Duration::from_millis(100)); // the next heartbeat
        forger.send(&arp_question(CLIENT, None, THEIRS, V4));
        assert_eq!(worker.next_claim(), (vip.id(), THEIRS.0, ours, Claim::Uses));
        forger.send(&ndp::question(address, None, THEIRS, V6));
        assert_eq!(worker.next_claim(), (vip.id(), THEIRS.0, ours, Claim::Uses));
        assert_eq!(worker.segment_reports(), 0);
    });
}

pub(crate) fn of_nobody_are_reported_for_what_is_not_held() {
    let (left, right) = cable();
    let forger = right.enter(Forger::here);
    left.enter(|| {
        let known = vip(&["10.0.0.1/32@eth0"]);
        let marker = vip(&["10.0.0.2/32@eth0"]);
        let mut config = AddressesConfig::new([].into());
        config.segment.vips = vec![known.clone(), marker.clone()];
        let mut worker = Worker::with(config);
        assert_eq!(worker.acquire(&marker), Ok(()));
        let say = |address| forger.send(&gratuitous_arp(ArpForm::Request, address, THEIRS));
        let marked = Ipv4Addr::new(10, 0, 0, 2);

        say(V4); // its holder announces it
        say(marked);
        assert_eq!(worker.next_claim().0, marker.id());

        assert_eq!(worker.acquire(&known), Ok(()));
        say(V4);
        assert_eq!(worker.next_claim().0, known.id());

        assert_eq!(worker.release(&known), Ok(()));
        say(V4); // the new holder announces it
        say(marked);
        assert_eq!(worker.next_claim().0, marker.id());

        Kernel::here().delete_address("eth0", "10.0.0.2/32");
        worker.wait_until_vanished(&marker);
        say(marked);
        assert_eq!(worker.acquire(&known), Ok(()));
        say(V4);
        assert_eq!(worker.next_claim().0, known.id());
        assert_eq!(worker.segment_reports(), 0);
    });
}

pub(crate) fn that_are_our_own_are_not_reported() {
    let (left, right) = cable();
    let (capture, forger) = right.enter(|| (Capture::here(), Forger::here()));
    left.enter(|| {
        let mac = MacAddress(Kernel::here().mac("eth0"));
        let held = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        let marker = vip(&["10.0.0.2/32@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&held), Ok(()));
        assert_eq!(worker.acquire(&marker), Ok(()));

        assert_eq!(worker.probe(&held), Ok(()));
        assert_eq!(worker.announce(&held), Ok(()));

        // All that we sent comes back, as on a loop: with our own source address, or behind somebody's who rewrites it.
        let ours = |frame: &[u8]| arp(frame).is_some_and(|(_, (op, ..))| op == 2);
        let mut frames = capture.until(ours);
        frames.extend(capture.until(|frame| frame.get(54) == Some(&136)));
        for frame in &frames {
            forger.send(frame);
        }
        for frame in frames.iter_mut().filter(|frame| frame.get(54) == Some(&135)) {
            frame[6..12].copy_from_slice(&THEIRS.0); // told by its nonce
            forger.send(frame);
        }
        assert!(frames.iter().any(|frame| ndp::parse(frame).is_some_and(|p| p.nonce.is_some())));
        assert!(frames.iter().any(|frame| **frame == arp_probe(V4, mac)));
        forger.send(&gratuitous_arp(ArpForm::Request, Ipv4Addr::new(10, 0, 0, 2), THEIRS));

        assert_eq!(worker.next_claim().0, marker.id());
        assert_eq!(worker.segment_reports(), 0);
    });
}

pub(crate) fn of_others_who_probe_are_heard_while_we_do() {
    let (left, right) = cable();
    let forger = right.enter(Forger::here);
    left.enter(|| {
        let ours = Kernel::here().mac("eth0");
        let vip = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.probe(&vip), Ok(()));

        forger.send(&arp_probe(V4, THEIRS));
        assert_eq!(worker.next_claim(), (vip.id(), THEIRS.0, ours, Claim::Wants));
        forger.send(&ndp::probe(V6, THEIRS, [9; 6]));
        assert_eq!(worker.next_claim(), (vip.id(), THEIRS.0, ours, Claim::Wants));

        // Not every device lets every group through: this machine is in the one that others' probes go to.
        let groups = || std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap();
        let member = || groups().contains("ff0200000000000000000001ff000001");
        wait_until("joined", member);
        wait_until("left", || !member());
    });
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not {what} in time");
}

pub(crate) fn in_a_flood_become_a_few_reports() {
    let (left, right) = cable();
    let forger = right.enter(Forger::here);
    left.enter(|| {
        let held = vip(&["10.0.0.1/32@eth0"]);
        let marker = vip(&["10.0.0.2/32@eth0"]);
        let mut config = AddressesConfig::new([].into());
        config.segment.heartbeat = Duration::from_secs(3_600);
        config.segment.vips = vec![held.clone(), marker.clone()];
        let mut worker = Worker::with(config);
        for vip in [&held, &marker] {
            assert_eq!(worker.acquire(vip), Ok(()));
        }

        for _ in 0..100 {
            forger.send(&gratuitous_arp(ArpForm::Request, V4, THEIRS));
        }
        forger.send(&gratuitous_arp(ArpForm::Request, Ipv4Addr::new(10, 0, 0, 2), THEIRS));

        for _ in 0..3 {
            assert_eq!(worker.next_claim().0, held.id());
        }
        assert_eq!(worker.next_claim().0, marker.id());
    });
}
