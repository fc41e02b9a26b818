//! Putting addresses on and taking them away.

use std::time::Duration;

use rtnetlink::packet_route::address::AddressAttribute;
use wackamole::env::{Action, AddressError, AddressEvent, Addresses as _, Lease};
use wackamole::io::clock;

use crate::kernel::{Kernel, cable, foreign, ours, sysctl};
use crate::namespace::Namespace;
use crate::worker::{Worker, vip};

/// A machine with one interface, `eth0`.
fn machine(test: impl FnOnce(&Kernel) + Send) {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_interface("eth0");
        test(&kernel);
    });
}

pub(crate) fn puts_marked_addresses_on() {
    machine(|kernel| {
        let vip = vip(&["10.0.0.1/32@eth0", "10.1.0.1/24@eth0", "fd00::1/128@eth0"]);
        let mut worker = Worker::here();

        assert_eq!(worker.acquire(&vip), Ok(()));

        let expected = [ours("10.0.0.1/32"), ours("10.1.0.1/24"), ours("fd00::1/128")];
        assert_eq!(kernel.addresses("eth0"), expected);

        assert_eq!(worker.release(&vip), Ok(()));

        assert_eq!(kernel.addresses("eth0"), []);
        assert_eq!(worker.vanished(), 0, "what we remove is no news");
    });
}

pub(crate) fn is_idempotent() {
    machine(|kernel| {
        let vip = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.release(&vip), Ok(()), "absent");

        for _ in 0..3 {
            assert_eq!(worker.acquire(&vip), Ok(()));
            assert_eq!(kernel.addresses("eth0"), [ours("10.0.0.1/32"), ours("fd00::1/128")]);
        }
        kernel.delete_address("eth0", "10.0.0.1/32");
        assert_eq!(worker.acquire(&vip), Ok(()), "half of it was gone");
        assert_eq!(kernel.addresses("eth0"), [ours("10.0.0.1/32"), ours("fd00::1/128")]);

        kernel.delete_address("eth0", "fd00::1/128");
        assert_eq!(worker.release(&vip), Ok(()), "half of it was gone");
        assert_eq!(worker.release(&vip), Ok(()));
        assert_eq!(kernel.addresses("eth0"), []);
    });
}

pub(crate) fn leaves_a_foreign_address_alone() {
    machine(|kernel| {
        for address in ["10.0.0.1/32", "10.0.0.1/24", "fd00::1/128", "fd00::1/64"] {
            kernel.add_address("eth0", address);
            let (text, _) = address.split_once('/').unwrap();
            let prefix = if text.contains(':') { 128 } else { 32 };
            let vip = vip(&[&format!("{text}/{prefix}@eth0")]);
            let mut worker = Worker::here();

            let conflict = AddressError::Conflict(format!("{address} on eth0"));
            assert_eq!(worker.acquire(&vip), Err(conflict.clone()));
            assert_eq!(worker.release(&vip), Err(conflict), "the kernel still answers for it");

            assert_eq!(kernel.addresses("eth0"), [foreign(address)]);
            kernel.delete_address("eth0", address);
            assert_eq!(worker.acquire(&vip), Ok(()), "now it is free");
            assert_eq!(worker.release(&vip), Ok(()));
        }
    });
}

pub(crate) fn is_all_or_nothing() {
    machine(|kernel| {
        let vip = vip(&["10.0.0.1/32@eth0", "10.0.0.2/32@eth0", "fd00::1/128@eth0"]);
        sysctl("ipv6/conf/eth0/disable_ipv6", "1");
        let mut worker = Worker::here();

        let error = worker.acquire(&vip).unwrap_err().to_string();

        assert!(error.starts_with("cannot add fd00::1/128 to eth0: "), "{error}");
        assert_eq!(kernel.addresses("eth0"), []);
        assert_eq!(worker.vanished(), 0, "nothing had been held");

        sysctl("ipv6/conf/eth0/disable_ipv6", "0");
        assert_eq!(worker.acquire(&vip), Ok(()));

        sysctl("ipv6/conf/eth0/disable_ipv6", "1"); // which takes the address away
        worker.wait_until_vanished(&vip);
        let error = worker.acquire(&vip).unwrap_err().to_string();
        assert!(error.starts_with("cannot add fd00::1/128 to eth0: "), "{error}");
        assert_eq!(kernel.addresses("eth0"), [], "what was there before goes as well");
    });
}

pub(crate) fn leaves_nothing_of_a_vip_half_of_which_meets_a_foreign_address() {
    machine(|kernel| {
        kernel.add_interface("eth1");
        let vip = vip(&["10.0.0.1/32@eth0", "10.0.0.2/32@eth1"]);
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&vip), Ok(()));
        kernel.delete_address("eth1", "10.0.0.2/32");
        kernel.add_address("eth1", "10.0.0.2/24");
        worker.wait_until_vanished(&vip);

        let conflict = AddressError::Conflict("10.0.0.2/24 on eth1".into());
        assert_eq!(worker.acquire(&vip), Err(conflict));

        assert_eq!(kernel.addresses("eth0"), []);
        assert_eq!(kernel.addresses("eth1"), [foreign("10.0.0.2/24")]);
        assert_eq!(worker.vanished(), 0, "what we remove is no news");
    });
}

/// The kernel calls the first address of a subnet primary, and takes the others with it when it goes.
pub(crate) fn of_a_wide_prefix_does_not_take_others_with_it() {
    machine(|kernel| {
        sysctl("ipv4/conf/all/promote_secondaries", "0");
        sysctl("ipv4/conf/eth0/promote_secondaries", "0");
        let first = vip(&["10.0.0.1/24@eth0"]);
        let second = vip(&["10.0.0.2/24@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&first), Ok(()));
        assert_eq!(worker.acquire(&second), Ok(()));
        kernel.add_address("eth0", "10.0.0.3/24"); // the machine's own, late

        assert_eq!(worker.release(&first), Ok(()));

        assert_eq!(kernel.addresses("eth0"), [ours("10.0.0.2/24"), foreign("10.0.0.3/24")]);
        assert_eq!(worker.vanished(), 0);
    });
}

pub(crate) fn names_a_missing_interface() {
    machine(|kernel| {
        let vip = vip(&["10.0.0.1/32@eth0", "10.0.0.2/32@eth7"]);
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&vip), Err(AddressError::NoInterface("eth7".into())));
        assert_eq!(kernel.addresses("eth0"), []);

        kernel.add_interface("eth7");

        worker.wait_until_interfaces_changed();
        assert_eq!(worker.acquire(&vip), Ok(()));
        assert_eq!(kernel.addresses("eth7"), [ours("10.0.0.2/32")]);
    });
}

/// An address with our mark that another machine has too: the kernel found out and does not answer for it.
pub(crate) fn replaces_an_address_that_failed_the_duplicate_check() {
    let (left, right) = cable();
    right.enter(|| Kernel::here().add_address("eth0", "fd00::1/64"));
    left.enter(|| {
        let kernel = Kernel::here();
        kernel.add_address_with("eth0", "fd00::1/128", |message| {
            message.attributes.retain(|a| !matches!(a, AddressAttribute::Flags(_)));
            message.attributes.push(AddressAttribute::Protocol(crate::kernel::MARK.into()));
        });
        assert!(kernel.addresses("eth0")[0].tentative);
        let mut worker = Worker::here();

        assert_eq!(worker.acquire(&vip(&["fd00::1/128@eth0"])), Ok(()));

        assert_eq!(kernel.addresses("eth0"), [ours("fd00::1/128")]);
        assert_eq!(worker.vanished(), 0);
    });
}

pub(crate) fn never_waits_behind_acquires_to_release() {
    machine(|_| {
        let mut worker = Worker::here();
        let held = vip(&["10.9.0.1/32@eth0"]);
        assert_eq!(worker.acquire(&held), Ok(()));
        let mut last = 0;
        for number in 0..400 {
            let address = format!("10.0.{}.{}/32@eth0", number / 250, number % 250);
            last = worker.submit(Action::Acquire(vip(&[&address])));
        }
        let release = worker.submit(Action::Release(held));

        let mut acquired_before = 0;
        loop {
            match worker.next() {
                AddressEvent::Done { ticket, .. } if ticket == release => break,
                AddressEvent::Done { ticket, .. } if ticket == last => {
                    panic!("the release was last")
                }
                _ => acquired_before += 1,
            }
        }
        // How many is up to the scheduler; that they are not all is up to us.
        assert!(acquired_before < 399, "{acquired_before} acquires came first");
    });
}

/// A process that was stopped may go on in the middle of an acquire.
pub(crate) fn adds_nothing_past_the_lease() {
    machine(|kernel| {
        let mut worker = Worker::here();
        let vip = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        let now = clock::boot_time();
        worker.addresses().renew(Lease::Until(now));
        let over = Err(AddressError::Other("the lease is over".into()));
        assert_eq!(worker.acquire(&vip), over.clone());
        assert_eq!(kernel.addresses("eth0"), []);

        let longer = now + Duration::from_secs(60);
        worker.addresses().renew(Lease::Until(longer));
        assert_eq!(worker.acquire(&vip), Ok(()));

        kernel.delete_address("eth0", "fd00::1/128");
        worker.wait_until_vanished(&vip);
        worker.addresses().renew(Lease::Until(now));
        assert_eq!(worker.acquire(&vip), over);
        assert_eq!(kernel.addresses("eth0"), [], "half of it does not stay");
    });
}

/// The kernel takes its time, and meanwhile the lease ends and there is another one: the VIP may be somebody else's by now.
pub(crate) fn that_hangs_past_the_lease_is_undone_under_the_next_one() {
    const MANY: usize = 6_000;
    machine(|kernel| {
        let addresses: Vec<_> =
            (0..MANY).map(|n| format!("10.{}.{}.1/32@eth0", n / 250, n % 250)).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        let mut worker = Worker::here();
        let lease = |ms| Lease::Until(clock::boot_time() + Duration::from_millis(ms));
        worker.addresses().renew(lease(20));
        let began = clock::boot_time();
        let acquire = worker.submit(Action::Acquire(vip(&addresses)));
        let behind = worker.submit(Action::Acquire(vip(&["10.200.0.1/32@eth0"])));
        std::thread::sleep(Duration::from_millis(25));
        worker.addresses().renew(lease(60_000));

        let result = worker.result_of(acquire);

        let took = clock::boot_time().since(began);
        println!("{MANY} addresses added and removed in {took:?}");
        let over = Err(AddressError::Other("the lease is over".into()));
        assert_eq!((&result, worker.result_of(behind)), (&over, over.clone()));
        assert_eq!(kernel.addresses("eth0"), []);
        assert_eq!(worker.acquire(&vip(&addresses[..10])), Ok(()));
    });
}
