//! The kernel's own limit to how long it keeps our addresses.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use wackamole::env::{Action, Addresses as _, Lease};
use wackamole::io::addresses::AddressesConfig;
use wackamole::io::clock::boot_time;
use wackamole_protocol::time::Instant;

use crate::kernel::{Kernel, ours};
use crate::namespace::Namespace;
use crate::standstill::Standstill;
use crate::worker::{Worker, vip};

/// A machine with one interface, `eth0`, and a worker that gives addresses a lifetime of a second.
fn machine(test: impl FnOnce(&Kernel, Worker) + Send) {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_interface("eth0");
        test(&kernel, fenced());
    });
}

fn fenced() -> Worker {
    Worker::with(AddressesConfig::new(BTreeSet::new()).with_fences(None))
}

fn lease(worker: &Worker, milliseconds: u64) -> Instant {
    let until = boot_time() + Duration::from_millis(milliseconds);
    worker.addresses().renew(Lease::Until(until));
    until
}

/// When the last address has gone.
fn watch_them_go(kernel: &Kernel) -> Instant {
    while !kernel.addresses("eth0").is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    boot_time()
}

const TWO_SECONDS: Duration = Duration::from_secs(2);

pub(crate) fn ends_when_the_lease_does() {
    machine(|kernel, mut worker| {
        let vip = vip(&["10.0.0.1/32@eth0", "10.1.0.1/24@eth0", "fd00::1/128@eth0"]);
        let standstill = Standstill::watch();
        let until = lease(&worker, 1_500);
        assert_eq!(worker.acquire(&vip), Ok(()));
        while boot_time() < until {
            assert_eq!(kernel.addresses("eth0").len(), 3, "as long as the lease runs");
            thread::sleep(Duration::from_millis(20));
        }

        let gone = watch_them_go(kernel);

        eprintln!("addresses gone {:.2?} after the lease's end", gone.since(until));
        let in_time = standstill.is_within(gone.since(until), TWO_SECONDS);
        assert!(in_time, "{gone}, but the lease ended {until}");
        worker.wait_until_vanished(&vip);
        lease(&worker, 60_000);
        assert_eq!(worker.acquire(&vip), Ok(()), "under another lease");
        assert_eq!(kernel.addresses("eth0").len(), 3);
    });
}

pub(crate) fn ends_when_nobody_is_left_to_renew_it() {
    machine(|kernel, mut worker| {
        lease(&worker, 60_000);
        assert_eq!(worker.acquire(&vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"])), Ok(()));
        thread::sleep(Duration::from_millis(800));

        let standstill = Standstill::watch();
        drop(worker);

        let dropped = boot_time();
        let gone = watch_them_go(kernel);
        eprintln!("addresses gone {:.2?} after the worker", gone.since(dropped));
        assert!(standstill.is_within(gone.since(dropped), TWO_SECONDS));
    });
}

pub(crate) fn is_renewed_and_nothing_else_changes() {
    machine(|kernel, mut worker| {
        let vip = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        lease(&worker, 60_000);
        assert_eq!(worker.acquire(&vip), Ok(()));
        let end = boot_time() + Duration::from_secs(5);

        while boot_time() < end {
            let expected = [ours("10.0.0.1/32"), ours("fd00::1/128")];
            assert_eq!(kernel.addresses("eth0"), expected);
            for address in ["10.0.0.1", "fd00::1"] {
                // A deprecated address, with nothing left to be preferred for, is none to answer new connections from.
                let (preferred, valid) = kernel.lifetime("eth0", address);
                assert_eq!(preferred, valid, "{address}");
                assert!(valid <= 1, "{address}: {valid} s");
            }
            thread::sleep(Duration::from_millis(20));
        }

        worker.forget_reports();
        assert_eq!(worker.announce(&vip), Ok(()));
        assert_eq!(worker.vanished(), 0);
        assert_eq!(worker.release(&vip), Ok(()));
        thread::sleep(Duration::from_millis(700));
        assert_eq!(kernel.addresses("eth0"), [], "and what is released is not renewed");
    });
}

/// A deletion by hand is noticed although the address is renewed all the time.
pub(crate) fn does_not_hide_an_address_deleted_by_hand() {
    machine(|kernel, mut worker| {
        let vip = vip(&["10.0.0.1/32@eth0"]);
        lease(&worker, 60_000);
        for _ in 0..3 {
            assert_eq!(worker.acquire(&vip), Ok(()));

            kernel.delete_address("eth0", "10.0.0.1/32");

            worker.wait_until_vanished(&vip);
            thread::sleep(Duration::from_millis(500));
            assert_eq!(kernel.addresses("eth0"), [], "and nobody renews it");
        }
    });
}

/// An earlier daemon, without lifetimes, left one that lives for ever.
pub(crate) fn is_given_to_an_address_that_was_there_before() {
    machine(|kernel, mut worker| {
        drop(std::mem::replace(&mut worker, Worker::here()));
        let vip = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        assert_eq!(worker.acquire(&vip), Ok(()));
        assert_eq!(kernel.lifetime("eth0", "fd00::1"), (u32::MAX, u32::MAX));

        let mut worker = fenced();
        let standstill = Standstill::watch();
        let until = lease(&worker, 300);
        assert_eq!(worker.acquire(&vip), Ok(()));

        assert!(standstill.is_within(watch_them_go(kernel).since(until), TWO_SECONDS));
    });
}

pub(crate) fn of_many_addresses_is_renewed_at_a_price() {
    price("IPv4", 1_000, |number| format!("10.0.{}.{}/32@eth0", number / 250, number % 250 + 1));
    price("IPv6", 250, |number| format!("fd00::{number:x}/128@eth0"));
}

/// The price is printed, not judged: the machine may be busy.
fn price(what: &str, count: usize, address: impl Fn(usize) -> String + Sync) {
    const SECONDS: u32 = 4;
    machine(|kernel, mut worker| {
        lease(&worker, 60_000);
        let vips = (0..count).map(|number| vip(&[&address(number)]));
        let tickets: Vec<_> = vips.map(|vip| worker.submit(Action::Acquire(vip))).collect();
        worker.wait_until_done(tickets[count - 1]);
        let before = cpu_of("addresses");
        thread::sleep(Duration::from_secs(SECONDS.into()));
        let spent = cpu_of("addresses") - before;

        assert_eq!(kernel.addresses("eth0").len(), count, "all of them are renewed");
        eprintln!(
            "{count} {what} addresses of 1 s are renewed at {:.1?} of CPU in a second",
            spent / SECONDS
        );
    });
}

/// What the threads of a name have used, their system calls included: the first number of schedstat, in nanoseconds.
pub(crate) fn cpu_of(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let used = tasks.filter_map(|task| {
        let comm = fs::read_to_string(task.join("comm")).ok()?;
        let statistics = fs::read_to_string(task.join("schedstat")).ok()?;
        let (nanoseconds, _) = statistics.split_once(' ')?;
        if comm.trim() == name { nanoseconds.parse::<u64>().ok() } else { None }
    });
    Duration::from_nanos(used.sum())
}
