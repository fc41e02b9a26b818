//! The gate: what the kernel drops by itself, as a client at the other end of a cable sees it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use wackamole::env::{Action, AddressError, Addresses as _, Lease};
use wackamole::io::addresses::AddressesConfig;
use wackamole::io::clock::boot_time;
use wackamole::io::gate::{self, Doors, Gate};
use wackamole_protocol::time::Instant;

use crate::client::{Client, Stream, answer_every_datagram};
use crate::kernel::{Kernel, cable, second_cable, sysctl};
use crate::lifetime::cpu_of;
use crate::namespace::Namespace;
use crate::worker::{Worker, vip};

const TABLE: &str = "wackamole_test";
const BOTH: &str = "discovery datagrams";

/// A machine with addresses and what a client at its other end hears from them.
struct Scene {
    machine: Namespace,
    other: Namespace,
    mac: [u8; 6],
    client: Client,
}

impl Scene {
    fn with(addresses: &[&str]) -> Self {
        let (machine, other) = cable();
        let mac = machine.enter(|| {
            answer_every_datagram();
            let kernel = Kernel::here();
            kernel.add_address("eth0", "10.0.255.1/16"); // its own
            kernel.add_address("eth0", "fd00::ffff/64");
            for address in addresses {
                kernel.add_address("eth0", address);
            }
            kernel.mac("eth0")
        });
        let client = other.enter(Client::here);
        Self { machine, other, mac, client }
    }

    fn answers(&self, address: &str) -> String {
        self.other.enter(|| self.client.answers(address, self.mac))
    }

    /// All are answered in both ways, if not at once: the machine may be busy.
    fn answered(&self, addresses: &[&str], when: &str) {
        for address in addresses {
            let found = (0..50).any(|_| self.answers(address) == BOTH);
            assert!(found, "{address} is not answered {when}");
        }
    }

    /// None is answered in any way.
    fn silent(&self, addresses: &[&str], when: &str) {
        for address in addresses {
            assert_eq!(self.answers(address), "", "{address} {when}");
        }
    }

    fn stream(&self, address: &str) -> Stream {
        self.other.enter(|| {
            Kernel::here().set_permanent_neighbour("eth0", address, self.mac);
            Stream::to(address.parse().unwrap())
        })
    }

    fn gate(&self, vips: &[&str]) -> (Gate, Doors) {
        self.machine.enter(|| {
            let gate = Gate::install(TABLE, set(vips)).unwrap();
            let doors = gate.doors().unwrap();
            (gate, doors)
        })
    }
}

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn in_ms(milliseconds: u64) -> Instant {
    boot_time() + Duration::from_millis(milliseconds)
}

/// The lease is known to the kernel a moment after it was given: the thread has to wake up.
fn settle() {
    thread::sleep(Duration::from_millis(20));
}

pub(crate) fn lets_only_what_is_open_under_a_lease_be_answered() {
    let scene = Scene::with(&["10.0.0.1/32", "10.0.0.2/32", "fd00::1/128", "fd00::2/128"]);
    let vips = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"];
    let others = ["10.0.255.1", "fd00::ffff"];
    scene.answered(&vips, "without a gate");

    let (gate, mut doors) = scene.gate(&vips);

    scene.silent(&vips, "when it is shut");
    scene.answered(&others, "which is no VIP");

    doors.open(&set(&["10.0.0.1", "fd00::1"])).unwrap();
    scene.silent(&vips, "without a lease");

    gate.renew(Lease::Until(in_ms(60_000)));
    settle();
    scene.answered(&["10.0.0.1", "fd00::1"], "open under a lease");
    scene.silent(&["10.0.0.2", "fd00::2"], "which is not open");

    doors.shut(&set(&vips)).unwrap();
    scene.silent(&vips, "after all have been shut");
    doors.open(&set(&vips)).unwrap();
    scene.answered(&vips, "after all have been opened");

    gate.renew(Lease::Until(boot_time()));
    settle();
    scene.silent(&vips, "after a lease that has ended");
    gate.renew(Lease::Until(in_ms(60_000)));
    settle();
    scene.answered(&vips, "under a new lease");
    gate.renew(Lease::None);
    settle();
    scene.silent(&vips, "without a lease again");
    scene.answered(&others, "which is no VIP");
}

pub(crate) fn shuts_when_the_lease_ends_though_nobody_is_left() {
    const ROUNDS: u64 = 24;
    let scene = Scene::with(&["10.0.0.1/32"]);
    let stream = scene.stream("10.0.0.1");
    let mut early = Vec::new();
    for round in 0..ROUNDS {
        let (gate, mut doors) = scene.gate(&["10.0.0.1"]);
        doors.open(&set(&["10.0.0.1"])).unwrap();
        let until = in_ms(100 + 7 * round);
        gate.renew(Lease::Until(until));
        while !stream.answers() {}
        drop((gate, doors)); // as if it had been killed: the tables stay

        // When the last datagram that was answered was sent; the answer may wait for this thread to be scheduled.
        let mut last = boot_time();
        loop {
            let sent = boot_time();
            if !stream.answers() {
                break;
            }
            last = sent;
        }

        // By so much the machine's tick may be behind, where it is a guest.
        assert!(last < until + Duration::from_millis(10), "{last}, but the lease ended {until}");
        early.push(until.since(last).as_micros() as i64 - last.since(until).as_micros() as i64);
    }
    early.sort_unstable();
    assert!(early[ROUNDS as usize - 1] < 30_000, "shut far too early, in µs: {early:?}");
    eprintln!("last answered datagram sent so many µs before the lease's end: {early:?}");
    scene.machine.enter(|| gate::remove(TABLE).unwrap());
    scene.answered(&["10.0.0.1"], "after the gate was removed");
}

/// Renewed every 20 ms for a lease of 80 ms, it answers without a gap.
pub(crate) fn never_blinks_while_the_lease_is_renewed() {
    let scene = Scene::with(&["10.0.0.1/32", "fd00::1/128"]);
    let (gate, mut doors) = scene.gate(&["10.0.0.1", "fd00::1"]);
    doors.open(&set(&["10.0.0.1", "fd00::1"])).unwrap();
    let streams = [scene.stream("10.0.0.1"), scene.stream("fd00::1")];
    let end = in_ms(1_500);
    gate.renew(Lease::Until(in_ms(80)));
    settle();
    let unanswered = thread::scope(|scope| {
        scope.spawn(|| {
            while boot_time() < end {
                gate.renew(Lease::Until(in_ms(80)));
                thread::sleep(Duration::from_millis(20));
            }
        });
        let mut unanswered = 0;
        while boot_time() < end {
            unanswered += streams.iter().filter(|stream| !stream.answers()).count();
        }
        unanswered
    });
    // A machine that is stopped for longer than the lease is silent, and right to be.
    assert!(unanswered <= 1, "{unanswered} times");
}

pub(crate) fn shut_and_removed_by_anybody_at_any_time() {
    let scene = Scene::with(&["10.0.0.1/32", "fd00::1/128"]);
    let vips = ["10.0.0.1", "fd00::1"];
    scene.machine.enter(|| {
        gate::shut(TABLE).unwrap();
        gate::remove(TABLE).unwrap();
    });
    let (gate, mut doors) = scene.gate(&vips);
    doors.open(&set(&vips)).unwrap();
    gate.renew(Lease::Until(in_ms(60_000)));
    settle();
    scene.answered(&vips, "now");

    for _ in 0..2 {
        scene.machine.enter(|| gate::shut(TABLE).unwrap());

        scene.silent(&vips, "now");
    }
    doors.shut(&set(&vips)).unwrap();
    scene.silent(&vips, "what was shut already");
    for _ in 0..2 {
        scene.machine.enter(|| gate::remove(TABLE).unwrap());
        scene.answered(&vips, "now");
    }
}

/// `nft flush ruleset`, with which many firewalls start, removes everybody's tables.
pub(crate) fn comes_back_when_somebody_removes_it() {
    let scene = Scene::with(&["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"]);
    let (gate, mut doors) = scene.gate(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    doors.open(&set(&["10.0.0.1"])).unwrap();
    gate.renew(Lease::Until(in_ms(400)));
    settle();

    scene.machine.enter(|| gate::remove(TABLE).unwrap());
    scene.answered(&["10.0.0.2"], "now");
    thread::sleep(Duration::from_millis(300));
    gate.renew(Lease::Until(in_ms(60_000)));
    settle();

    scene.answered(&["10.0.0.1"], "now");
    scene.silent(&["10.0.0.2"], "by the next renewal");

    scene.machine.enter(|| gate::remove(TABLE).unwrap());
    doors.open(&set(&["10.0.0.2"])).unwrap();
    scene.silent(&["10.0.0.3"], "by the next opening");
    scene.machine.enter(|| gate::remove(TABLE).unwrap());
    doors.shut(&set(&["10.0.0.1"])).unwrap();
    scene.silent(&["10.0.0.1"], "by the next shutting");
}

/// As after `nft list ruleset` at some time, and `flush ruleset` with that at another one: in one transaction there are tables of our
/// name again, with what was open then.
pub(crate) fn comes_back_when_somebody_restores_an_old_one() {
    let scene = Scene::with(&["10.0.0.1/32", "10.0.0.2/32"]);
    let vips = ["10.0.0.1", "10.0.0.2"];
    let (gate, mut doors) = scene.gate(&vips);
    doors.open(&set(&["10.0.0.1"])).unwrap();
    gate.renew(Lease::Until(in_ms(60_000)));
    settle();

    let (_, mut old_doors) = scene.gate(&vips);
    old_doors.open(&set(&["10.0.0.2"])).unwrap();
    scene.silent(&vips, "now");
    gate.renew(Lease::Until(in_ms(50_000)));
    settle();

    scene.answered(&["10.0.0.1"], "by the next renewal");
    scene.silent(&["10.0.0.2"], "though it was open in the old one");
    gate.renew(Lease::Until(in_ms(40_000)));
    settle();
    scene.answered(&["10.0.0.1"], "and after further ones");
}

/// A machine of the cluster is also a client of the VIPs that others hold.
pub(crate) fn lets_the_machine_learn_who_holds_a_vip_now() {
    const BEFORE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let scene = Scene::with(&[]);
    let (_gate, _doors) = scene.gate(&["10.0.0.1", "fd00::1"]);
    scene.machine.enter(|| {
        Kernel::here().add_stale_neighbour("eth0", "10.0.0.1", BEFORE);
        Kernel::here().add_stale_neighbour("eth0", "fd00::1", BEFORE);
    });
    let holder = scene.other.enter(|| {
        let vip = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&vip), Ok(()));
        assert_eq!(worker.announce(&vip), Ok(()));
        Kernel::here().mac("eth0")
    });

    settle();

    scene.machine.enter(|| {
        assert_eq!(Kernel::here().neighbour("eth0", "10.0.0.1"), Some(holder));
        assert_eq!(Kernel::here().neighbour("eth0", "fd00::1"), Some(holder));
    });
    let to_it = scene.machine.enter(|| Stream::to("10.0.0.1".parse().unwrap()));
    assert!(to_it.answers(), "and reaches it");
}

pub(crate) fn opened_by_an_acquire_and_shut_by_a_release() {
    let scene = Scene::with(&[]);
    let vips = ["10.0.0.1", "fd00::1"];
    let (gate, _doors) = scene.gate(&vips);
    scene.machine.enter(|| {
        let config = AddressesConfig::new(BTreeSet::new()).with_fences(Some(gate));
        let mut worker = Worker::with(config);
        let both = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        worker.addresses().renew(Lease::Until(in_ms(60_000)));

        assert_eq!(worker.acquire(&both), Ok(()));
        scene.answered(&vips, "now");

        worker.addresses().renew(Lease::Until(boot_time()));
        settle();
        let kernel = Kernel::here();
        let ours: Vec<_> =
            kernel.addresses("eth0").into_iter().filter(|a| a.mark.is_some()).collect();
        assert_eq!(ours, [crate::kernel::ours("10.0.0.1/32"), crate::kernel::ours("fd00::1/128")]);
        scene.silent(&vips, "past its lease");
        worker.addresses().renew(Lease::Until(in_ms(60_000)));
        settle();
        scene.answered(&vips, "now");

        assert_eq!(worker.release(&both), Ok(()));
        assert!(kernel.addresses("eth0").iter().all(|address| address.mark.is_none()));
        for address in ["10.0.0.1/32", "fd00::1/128"] {
            kernel.add_address("eth0", address); // if it were put there by somebody else
        }
        scene.silent(&vips, "after its release");
    });
}

/// Somebody else's copy of a VIP is not ours to remove, and does not keep others from having the VIP.
pub(crate) fn keeps_a_foreign_copy_of_a_released_vip_silent() {
    let scene = Scene::with(&[]);
    let vips = ["10.0.0.1", "fd00::1"];
    let (gate, _doors) = scene.gate(&vips);
    scene.machine.enter(|| {
        let config = AddressesConfig::new(BTreeSet::new()).with_fences(Some(gate));
        let mut worker = Worker::with(config);
        let both = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        worker.addresses().renew(Lease::Until(in_ms(60_000)));
        assert_eq!(worker.acquire(&both), Ok(()));
        let kernel = Kernel::here();
        kernel.add_address("eth0", "10.0.0.1/24");
        kernel.delete_address("eth0", "fd00::1/128"); // of IPv6 there is only one
        kernel.add_address("eth0", "fd00::1/64");
        scene.answered(&vips, "while it is held");

        assert_eq!(worker.release(&both), Ok(()));

        scene.silent(&vips, "though it is there");
        let conflict = worker.acquire(&both);
        assert!(matches!(conflict, Err(AddressError::Conflict(_))), "{conflict:?}");
        let elsewhere = vip(&["10.0.0.2/32@eth0"]);
        kernel.add_address("eth0", "10.0.0.2/24");
        let ungoverned = worker.release(&elsewhere);
        assert!(matches!(ungoverned, Err(AddressError::Conflict(_))), "{ungoverned:?}");
    });
}

/// All that wait to be released are shut before the first is deleted.
pub(crate) fn shuts_a_thousand_vips_before_it_deletes_them() {
    const COUNT: usize = 1_000;
    let scene = Scene::with(&[]);
    let addresses: Vec<String> =
        (0..COUNT).map(|n| format!("10.0.{}.{}", n / 250, n % 250 + 1)).collect();
    let names: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let (gate, mut doors) = scene.gate(&names);
    let all = set(&names);
    let (opening, ()) = elapsed(|| doors.open(&all).unwrap());
    let (shutting, ()) = elapsed(|| doors.shut(&all).unwrap());
    eprintln!("{COUNT} addresses opened in {opening:.1?}, shut in {shutting:.1?}");
    scene.machine.enter(|| {
        let config = AddressesConfig::new(BTreeSet::new()).with_fences(Some(gate));
        let mut worker = Worker::with(config);
        worker.addresses().renew(Lease::Until(in_ms(60_000)));
        let vips: Vec<_> = names.iter().map(|a| vip(&[&format!("{a}/32@eth0")])).collect();
        let (acquiring, ()) = elapsed(|| {
            let last = vips.iter().map(|vip| worker.submit(Action::Acquire(vip.clone()))).max();
            worker.wait_until_done(last.unwrap());
        });
        let stream = scene.stream(names[COUNT - 1]);
        assert!((0..20).any(|_| stream.answers()));

        let (releasing, ()) = elapsed(|| {
            let tickets: Vec<_> =
                vips.iter().map(|vip| worker.submit(Action::Release(vip.clone()))).collect();
            // The worker may have begun before the last was submitted; when half are gone it knows them all.
            worker.wait_until_done(tickets[COUNT / 2]);
            assert!(Kernel::here().addresses("eth0").len() > 2, "the last are still there");
            assert!(!stream.answers(), "but shut long ago");
            worker.wait_until_done(tickets[COUNT - 1]);
        });
        eprintln!("{COUNT} VIPs acquired in {acquiring:.1?}, released in {releasing:.1?} (60 ms of it waiting)");
    });
}

/// The price is printed, not judged: the machine may be busy. Every lease that ends earlier is passed on at once.
pub(crate) fn is_renewed_at_a_price_that_does_not_grow() {
    const TIMES: u32 = 200;
    for count in [1, 1_000] {
        let addresses: Vec<String> =
            (0..count).map(|n| format!("10.0.{}.{}", n / 250, n % 250 + 1)).collect();
        let names: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let scene = Scene::with(&["10.0.0.1/32"]);
        let (installing, (gate, mut doors)) = elapsed(|| scene.gate(&names));
        doors.open(&set(&names)).unwrap();
        gate.renew(Lease::Until(in_ms(60_000)));
        settle();
        let before = cpu_of("gate");
        for number in 0..TIMES {
            gate.renew(Lease::Until(in_ms(50_000) - Duration::from_millis((10 * number).into())));
            thread::sleep(Duration::from_millis(2));
        }
        let spent = cpu_of("gate") - before;

        scene.answered(&["10.0.0.1"], "now");
        eprintln!(
            "gate of {count} VIPs made in {installing:.1?}; a renewal takes {:.1?} of CPU",
            spent / TIMES
        );
    }
}

/// The machine is also a router: what it passes on to a VIP of another machine, and back, is none of its gate's business.
pub(crate) fn passes_on_what_a_router_forwards() {
    const VIPS: [&str; 2] = ["10.1.0.1", "fd01::1"];
    let scene = Scene::with(&[]);
    let holder = scene.machine.enter(|| {
        sysctl("ipv4/ip_forward", "1");
        sysctl("ipv6/conf/all/forwarding", "1");
        let holder = second_cable();
        let kernel = Kernel::here();
        kernel.add_address("eth1", "10.1.255.1/16");
        kernel.add_address("eth1", "fd01::ffff/64");
        holder
    });
    holder.enter(|| {
        answer_every_datagram();
        let kernel = Kernel::here();
        kernel.add_address("eth0", "10.1.0.1/16");
        kernel.add_address("eth0", "fd01::1/64");
        kernel.add_default_routes("eth0", "10.1.255.1", "fd01::ffff");
    });
    let (_gate, _doors) = scene.gate(&VIPS);

    scene.other.enter(|| {
        Kernel::here().add_default_routes("eth0", "10.0.255.1", "fd00::ffff");
        for vip in VIPS {
            let stream = Stream::to(vip.parse().unwrap());
            // The first ones wait for the kernel to check its link-local addresses.
            let answered = (0..100).any(|_| stream.answers());
            assert!(answered, "{vip} behind a router whose gate is shut");
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "a measurement of real time, printed and not judged")]
fn elapsed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = std::time::Instant::now();
    let result = work();
    (start.elapsed(), result)
}
