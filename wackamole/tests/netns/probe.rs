//! Asking the segment whether anybody answers for a VIP.

use std::sync::Arc;
use std::time::Duration;

use wackamole::env::{Action, AddressError, AddressEvent};
use wackamole::io::addresses::AddressesConfig;
use wackamole::io::clock;
use wackamole_protocol::mac::Claim;
use wackamole_protocol::vip::Vip;

use crate::kernel::{Kernel, cable, foreign, sysctl};
use crate::namespace::Namespace;
use crate::worker::{Worker, vip};

pub(crate) fn finds_whoever_has_the_address() {
    let (left, right) = cable();
    let theirs = right.enter(|| {
        let kernel = Kernel::here();
        kernel.add_address("eth0", "10.0.0.1/32");
        kernel.add_address("eth0", "fd00::1/128");
        kernel.mac("eth0")
    });
    left.enter(|| {
        let ours = Kernel::here().mac("eth0");
        // More answers than a heartbeat of the usual length would let through.
        let mut worker = with_heartbeat(Duration::from_micros(1));
        worker.find(&vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]));
        for text in ["10.0.0.1/32@eth0", "fd00::1/128@eth0"] {
            let vip = vip(&[text]);
            for _ in 0..3 {
                assert_eq!(worker.probe(&vip), Ok(()));
                assert_eq!(worker.next_claim(), (vip.id(), theirs, ours, Claim::Uses));
            }
        }
        let both = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        assert_eq!(worker.probe(&both), Ok(()));
        for _ in 0..2 {
            assert_eq!(worker.next_claim(), (both.id(), theirs, ours, Claim::Uses));
        }
        right.enter(|| {
            let kernel = Kernel::here();
            assert_eq!(kernel.neighbour("eth0", "10.0.0.1"), None, "no cache has changed");
            assert_eq!(kernel.addresses("eth0"), ["10.0.0.1/32", "fd00::1/128"].map(foreign));
        });
    });
}

pub(crate) fn finds_nobody_where_nobody_is() {
    let (left, right) = cable();
    right.enter(|| {
        Kernel::here().add_address("eth0", "10.0.0.2/24");
        Kernel::here().add_address("eth0", "fd00::2/64");
    });
    left.enter(|| {
        // More answers than a heartbeat of the usual length would let through.
        let mut worker = with_heartbeat(Duration::from_micros(1));
        let nobodys = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        let theirs = vip(&["10.0.0.2/32@eth0", "fd00::2/128@eth0"]);
        worker.find(&theirs);
        for _ in 0..5 {
            assert_eq!(worker.probe(&nobodys), Ok(()));
            assert_eq!(worker.probe(&theirs), Ok(()));
            for _ in 0..2 {
                assert_eq!(worker.next_claim().0, theirs.id());
            }
        }
        // And there is nobody who is found, if it is ours already.
        assert_eq!(worker.acquire(&nobodys), Ok(()));
        assert_eq!(worker.probe(&nobodys), Ok(()));
        assert_eq!(worker.probe(&theirs), Ok(()));
        for _ in 0..2 {
            assert_eq!(worker.next_claim().0, theirs.id());
        }
        assert_eq!(worker.segment_reports(), 0);
    });
}

pub(crate) fn has_nobody_to_ask_without_neighbours() {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.set_up("lo", true);
        kernel.add_alone("alone0");
        let mut worker = Worker::here();
        for text in ["10.0.0.1/32@lo", "fd00::1/128@lo", "10.0.0.2/32@alone0", "fd00::2/128@alone0"]
        {
            assert_eq!(worker.probe(&vip(&[text])), Ok(()), "{text}");
        }
    });
}

pub(crate) fn names_an_interface_that_cannot_be_asked() {
    let (left, right) = cable();
    let theirs = right.enter(|| {
        Kernel::here().add_address("eth0", "10.0.0.2/32");
        Kernel::here().mac("eth0")
    });
    left.enter(|| {
        let kernel = Kernel::here();
        let mut worker = Worker::here();
        let no_interface = Err(AddressError::NoInterface("eth7".into()));
        assert_eq!(worker.probe(&vip(&["10.0.0.1/32@eth7"])), no_interface);

        let half = vip(&["10.0.0.2/32@eth0", "10.0.9.1/32@eth7"]);
        assert_eq!(worker.probe(&half), no_interface);
        assert_eq!(worker.next_claim().1, theirs, "the other half is asked");

        let vip = vip(&["10.0.0.1/32@eth0"]);
        right.enter(|| Kernel::here().set_up("eth0", false));
        worker.wait_until_interfaces_changed();
        probe_until(&mut worker, &vip, "cannot probe 10.0.0.1 on eth0: it has no carrier");
        kernel.set_up("eth0", false);
        probe_until(&mut worker, &vip, "cannot probe 10.0.0.1 on eth0: it is down");
    });
}

/// The watcher hears of interfaces by itself, sooner or later than the worker.
fn probe_until(worker: &mut Worker, vip: &Arc<Vip>, expected: &str) {
    for _ in 0..1_000 {
        if worker.probe(vip).is_err_and(|error| error.to_string() == expected) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{expected}: {:?}", worker.probe(vip));
}

pub(crate) fn follows_an_interface_that_is_made_again() {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_interface("eth0");
        let there = vip(&["10.0.0.1/32@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.probe(&there), Ok(()));

        kernel.delete_link("eth0");
        probe_until(&mut worker, &there, "there is no interface eth0");
        kernel.add_interface("eth0");
        kernel.set_mac("eth0", [2, 0, 0, 0, 0, 7]);
        // Its other end is on this machine: what it says must not be taken for somebody else's.
        sysctl("ipv4/conf/all/arp_ignore", "0");
        kernel.add_address("eth0-end", "10.0.0.1/32");
        while worker.probe(&there).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        worker.watch_for(Duration::from_millis(50));
        assert_eq!(worker.segment_reports(), 0);
    });
}

const MANY: usize = 1_000;

/// A thousand acquires are under way when a thousand probes are asked for: they are sent and answered meanwhile.
pub(crate) fn never_waits_for_address_work() {
    let (left, right) = cable();
    let probed = |number: usize| format!("10.2.{}.{}", number / 250, number % 250 + 1);
    right.enter(|| {
        let kernel = Kernel::here();
        for number in 0..MANY {
            kernel.add_address("eth0", &format!("{}/32", probed(number)));
        }
    });
    left.enter(|| {
        let acquired: Vec<_> = (0..MANY)
            .map(|number| vip(&[&format!("10.1.{}.{}/32@eth0", number / 250, number % 250 + 1)]))
            .collect();
        let wanted: Vec<_> =
            (0..MANY).map(|number| vip(&[&format!("{}/32@eth0", probed(number))])).collect();
        let mut worker = knowing(wanted.iter().chain(&acquired));
        let start = clock::boot_time();
        let acquires: Vec<_> =
            acquired.iter().map(|vip| worker.submit(Action::Acquire(vip.clone()))).collect();
        let probes: Vec<_> =
            wanted.iter().map(|vip| worker.submit(Action::Probe(vip.clone()))).collect();
        let (mut sent, mut claimed, mut added) = (0, 0, 0);
        let (mut all_claimed, mut all_added, mut claimed_meanwhile) = (None, None, 0);
        while all_claimed.is_none() || all_added.is_none() {
            match worker.next() {
                AddressEvent::Done { ticket, result } => {
                    assert_eq!(result, Ok(()));
                    sent += usize::from(probes.contains(&ticket));
                    added += usize::from(acquires.contains(&ticket));
                }
                AddressEvent::Claimed { claim: Claim::Uses, .. } => claimed += 1,
                _ => {}
            }
            let elapsed = Some(clock::boot_time().since(start));
            all_claimed = all_claimed.or(elapsed.filter(|_| (sent, claimed) == (MANY, MANY)));
            if added == MANY && all_added.is_none() {
                (all_added, claimed_meanwhile) = (elapsed, claimed);
            }
        }
        let (all_claimed, all_added) = (all_claimed.unwrap(), all_added.unwrap());
        eprintln!(
            "{MANY} probes while {MANY} addresses are added: all answered after {all_claimed:.1?}, all added after {all_added:.1?}, {claimed_meanwhile} answered by then"
        );
        assert!(claimed_meanwhile > MANY / 10);
    });
}

/// Printed, not asserted: the machine may be busy.
pub(crate) fn answers_within() {
    const ROUNDS: usize = 300;
    let (left, right) = cable();
    right.enter(|| {
        let kernel = Kernel::here();
        kernel.add_address("eth0", "10.0.0.1/32");
        kernel.add_address("eth0", "fd00::1/128");
    });
    left.enter(|| {
        for (what, text) in [("IPv4", "10.0.0.1/32@eth0"), ("IPv6", "fd00::1/128@eth0")] {
            let vip = vip(&[text]);
            let mut worker = with_heartbeat(Duration::from_micros(1));
            worker.find(&vip);
            let mut times: Vec<_> = (0..ROUNDS)
                .map(|_| {
                    let start = clock::boot_time();
                    worker.submit(Action::Probe(vip.clone()));
                    worker.next_claim();
                    clock::boot_time().since(start)
                })
                .collect();
            times.sort();
            eprintln!(
                "{what} probe to claim: median {:.0?}, 99th percentile {:.0?}",
                times[ROUNDS / 2],
                times[ROUNDS * 99 / 100]
            );
        }
    });
}

fn with_heartbeat(heartbeat: Duration) -> Worker {
    let mut config = AddressesConfig::new([].into());
    config.segment.heartbeat = heartbeat;
    Worker::with(config)
}

fn knowing<'a>(vips: impl Iterator<Item = &'a Arc<Vip>>) -> Worker {
    let mut config = AddressesConfig::new([].into());
    config.segment.vips = vips.cloned().collect();
    Worker::with(config)
}
