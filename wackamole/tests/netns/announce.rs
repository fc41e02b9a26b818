//! Telling the segment, as the other end of a cable sees it.

use std::collections::BTreeSet;

use wackamole::env::{Action, AddressEvent};

use crate::capture::{Capture, advertisement, arp};
use crate::kernel::{Kernel, cable, sysctl};
use crate::worker::{Worker, vip};

const ELSEWHERE: [u8; 6] = [2, 0xba, 0xd0, 0, 0, 1];
const NOBODY: [u8; 6] = [0; 6];
const BROADCAST: [u8; 6] = [0xff; 6];

pub(crate) fn in_both_arp_forms_and_caches_follow() {
    let (left, right) = cable();
    let capture = right.enter(|| {
        Kernel::here().add_stale_neighbour("eth0", "10.0.0.1", ELSEWHERE);
        Capture::here()
    });
    left.enter(|| {
        let mac = Kernel::here().mac("eth0");
        let vip = vip(&["10.0.0.1/32@eth0"]);
        let address = [10, 0, 0, 1];
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&vip), Ok(()));

        assert_eq!(worker.announce(&vip), Ok(()));

        let frames = capture.until(|frame| arp(frame).is_some_and(|(_, (op, ..))| op == 2));
        let seen: Vec<_> = frames.iter().filter_map(|frame| arp(frame)).collect();
        let request = (BROADCAST, (1, mac, address, NOBODY, address));
        let reply = (BROADCAST, (2, mac, address, mac, address));
        assert_eq!(seen, [request, reply]);
        right.enter(|| {
            assert_eq!(Kernel::here().neighbour("eth0", "10.0.0.1"), Some(mac));
        });
    });
}

pub(crate) fn by_neighbour_advertisement_and_caches_follow() {
    let (left, right) = cable();
    let capture = right.enter(|| {
        Kernel::here().add_stale_neighbour("eth0", "fd00::1", ELSEWHERE);
        Capture::here()
    });
    left.enter(|| {
        let mac = Kernel::here().mac("eth0");
        let vip = vip(&["fd00::1/128@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&vip), Ok(()));

        assert_eq!(worker.announce(&vip), Ok(()));

        let frames = capture.until(|frame| advertisement_for(frame, "fd00::1").is_some());
        let (flags, hop_limit) = advertisement_for(frames.last().unwrap(), "fd00::1").unwrap();
        assert_eq!((flags, hop_limit), (0x20, 255));
        right.enter(|| {
            assert_eq!(Kernel::here().neighbour("eth0", "fd00::1"), Some(mac));
        });
    });
}

pub(crate) fn as_a_router_if_the_machine_forwards() {
    let (left, right) = cable();
    let capture = right.enter(Capture::here);
    left.enter(|| {
        sysctl("ipv6/conf/all/forwarding", "1");
        let vip = vip(&["fd00::1/128@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&vip), Ok(()));

        assert_eq!(worker.announce(&vip), Ok(()));

        let frames = capture.until(|frame| advertisement_for(frame, "fd00::1").is_some());
        let (flags, _) = advertisement_for(frames.last().unwrap(), "fd00::1").unwrap();
        assert_eq!(flags & 0xa0, 0xa0, "router and override");
    });
}

pub(crate) fn only_what_is_held() {
    let (left, right) = cable();
    let capture = right.enter(Capture::here);
    left.enter(|| {
        let kernel = Kernel::here();
        let names = ["never", "released", "deleted", "half", "marker"];
        let address = |number: usize| format!("10.0.0.{}/32@eth0", number + 1);
        let mut vips: Vec<_> = (0..names.len()).map(|n| vip(&[&address(n)])).collect();
        vips[3] = vip(&[&address(3), "10.0.9.4/32@eth0"]);
        let mut worker = Worker::here();
        for vip in &vips[1..] {
            assert_eq!(worker.acquire(vip), Ok(()));
        }
        assert_eq!(worker.release(&vips[1]), Ok(()));
        kernel.delete_address("eth0", "10.0.0.3/32");
        kernel.delete_address("eth0", "10.0.9.4/32");

        for vip in &vips {
            assert_eq!(worker.announce(vip), Ok(()));
        }

        let frames = capture.until(|frame| sender(frame) == Some([10, 0, 0, 5]));
        let mut senders: Vec<_> = frames.iter().filter_map(|frame| sender(frame)).collect();
        senders.dedup();
        assert_eq!(senders, [[10, 0, 0, 4], [10, 0, 0, 5]], "of {names:?}");
    });
}

pub(crate) fn not_on_a_dead_interface() {
    let (left, right) = cable();
    left.enter(|| {
        let kernel = Kernel::here();
        let vip = vip(&["10.0.0.1/32@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&vip), Ok(()));

        right.enter(|| Kernel::here().set_up("eth0", false));
        worker.wait_until_interfaces_changed();
        let error = worker.announce(&vip).unwrap_err().to_string();
        assert_eq!(error, "cannot announce 10.0.0.1/32 on eth0: it has no carrier");

        kernel.set_up("eth0", false);
        worker.wait_until_interfaces_changed();
        let error = worker.announce(&vip).unwrap_err().to_string();
        assert_eq!(error, "cannot announce 10.0.0.1/32 on eth0: it is down");

        right.enter(|| Kernel::here().set_up("eth0", true));
        kernel.set_up("eth0", true);
        while worker.announce(&vip).is_err() {
            worker.wait_until_interfaces_changed();
        }
    });
}

/// A queue that holds four frames and sends some 600 a second: what does not fit is sent later, and nothing is lost.
pub(crate) fn at_the_pace_of_a_slow_device() {
    const COUNT: u8 = 60;
    let (left, right) = cable();
    let capture = right.enter(Capture::here);
    left.enter(|| {
        if !Kernel::here().slow_down("eth0", 25_000, 200) {
            eprintln!("skipped: this kernel has no token bucket filter (sch_tbf)");
            return;
        }
        let vips: Vec<_> =
            (0..COUNT).map(|number| vip(&[&format!("10.0.0.{number}/32@eth0")])).collect();
        let mut worker = Worker::here();
        for vip in &vips {
            assert_eq!(worker.acquire(vip), Ok(()));
        }
        let tickets: Vec<_> =
            vips.iter().map(|vip| worker.submit(Action::Announce(vip.clone()))).collect();
        for _ in &tickets {
            let AddressEvent::Done { ticket, result } = worker.next() else { continue };
            assert_eq!((tickets.contains(&ticket), result), (true, Ok(())));
        }

        let mut missing: BTreeSet<_> =
            (0..COUNT).flat_map(|number| [(1, number), (2, number)]).collect();
        capture.until(|frame| {
            if let Some((_, (operation, _, [10, 0, 0, number], ..))) = arp(frame) {
                missing.remove(&(operation, number));
            }
            missing.is_empty()
        });
    });
}

fn sender(frame: &[u8]) -> Option<[u8; 4]> {
    arp(frame).map(|(_, (_, _, sender, ..))| sender)
}

/// Flags and hop limit of an advertisement for `target`.
fn advertisement_for(frame: &[u8], target: &str) -> Option<(u8, u8)> {
    let target: std::net::Ipv6Addr = target.parse().unwrap();
    let (flags, hop_limit, advertised) = advertisement(frame)?;
    // The kernel advertises an address that it adds without a check too, to the same group; ours overrides.
    (advertised == target.octets() && flags & 0x20 != 0).then_some((flags, hop_limit))
}
