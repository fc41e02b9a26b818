//! Whether an address answers: echo requests over a cable, to a machine that comes and goes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use wackamole::env::Reach;
use wackamole::io::clock;
use wackamole::io::reach::EchoReach;
use wackamole_protocol::config::Timing;

use crate::kernel::{Kernel, cable};
use crate::namespace::Namespace;

const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(50),
    failure_timeout: Duration::from_millis(200),
    mature: Duration::ZERO,
};
/// A busy machine runs us late.
const SLACK: Duration = Duration::from_millis(25);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Works inside, on a runtime of its own: sockets are opened when there is something to ask.
fn asking(namespace: &Namespace, addresses: &[&str], test: impl AsyncFnOnce(EchoReach) + Send) {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    namespace.enter(|| {
        runtime().block_on(async {
            test(EchoReach::new(&addresses, &TIMING).unwrap()).await;
        });
    });
}

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

async fn next(reach: &EchoReach) -> BTreeSet<IpAddr> {
    timeout(Duration::from_secs(5), reach.changed()).await.expect("a change in time")
}

/// Nothing changes, and the daemon is awake now and then: what is cancelled each time goes on all the same.
async fn assert_quiet(reach: &EchoReach, time: Duration) {
    let end = clock::boot_time() + time;
    while clock::boot_time() < end {
        let changed = timeout(TIMING.heartbeat / 7, reach.changed()).await;
        assert!(changed.is_err(), "{changed:?}");
    }
}

pub(crate) fn is_seen_to_end_and_to_come_back() {
    for (own, peer, address) in
        [("10.0.0.1/24", "10.0.0.2/24", "10.0.0.2"), ("fd00::1/64", "fd00::2/64", "fd00::2")]
    {
        let (left, right) = cable();
        left.enter(|| Kernel::here().add_address("eth0", own));
        right.enter(|| Kernel::here().add_address("eth0", peer));
        asking(&left, &[address], async |reach| {
            assert_eq!(next(&reach).await, set(&[address]));
            assert_quiet(&reach, Duration::from_secs(1)).await;

            let asked = clock::boot_time();
            right.enter(|| Kernel::here().delete_address("eth0", peer));
            assert_eq!(next(&reach).await, set(&[]));
            let noticed = clock::boot_time().since(asked);
            eprintln!("{address} is gone: noticed after {noticed:.0?}");
            // The last answer came up to a heartbeat before.
            assert!(noticed > TIMING.silence() - TIMING.heartbeat - SLACK, "{noticed:?}");
            // Before a peer that went at the same time is given up: a heartbeat before the failure timeout at the earliest.
            assert!(noticed < TIMING.failure_timeout - TIMING.heartbeat + SLACK, "{noticed:?}");
            assert_quiet(&reach, 2 * TIMING.failure_timeout).await;

            right.enter(|| Kernel::here().add_address("eth0", peer));
            assert_eq!(next(&reach).await, set(&[address]));
        });
    }
}

pub(crate) fn of_one_address_is_enough_and_each_is_told() {
    let (left, right) = cable();
    left.enter(|| Kernel::here().add_address("eth0", "10.0.0.1/24"));
    right.enter(|| {
        Kernel::here().add_address("eth0", "10.0.0.2/32");
        Kernel::here().add_address("eth0", "10.0.0.3/24");
    });
    asking(&left, &["10.0.0.2", "10.0.0.3", "10.0.0.4"], async |reach| {
        let mut answering = next(&reach).await;
        while answering.len() < 2 {
            answering = next(&reach).await;
        }
        assert_eq!(answering, set(&["10.0.0.2", "10.0.0.3"]));
        assert_quiet(&reach, TIMING.failure_timeout).await;

        right.enter(|| Kernel::here().delete_address("eth0", "10.0.0.2/32"));
        assert_eq!(next(&reach).await, set(&["10.0.0.3"]));
    });
}

pub(crate) fn needs_a_route_and_finds_a_new_one() {
    let (left, right) = cable();
    right.enter(|| Kernel::here().add_address("eth0", "10.0.0.2/24"));
    asking(&left, &["10.0.0.2"], async |reach| {
        assert_quiet(&reach, TIMING.failure_timeout).await; // there is none

        left.enter(|| Kernel::here().add_address("eth0", "10.0.0.1/24"));
        assert_eq!(next(&reach).await, set(&["10.0.0.2"]));

        // The socket was connected from an address that goes; another takes its place.
        left.enter(|| Kernel::here().delete_address("eth0", "10.0.0.1/24"));
        assert_eq!(next(&reach).await, set(&[]));
        left.enter(|| Kernel::here().add_address("eth0", "10.0.0.9/24"));
        assert_eq!(next(&reach).await, set(&["10.0.0.2"]));
    });
}

pub(crate) fn is_not_given_up_for_a_late_look() {
    let (left, right) = cable();
    left.enter(|| Kernel::here().add_address("eth0", "10.0.0.1/24"));
    right.enter(|| Kernel::here().add_address("eth0", "10.0.0.2/24"));
    asking(&left, &["10.0.0.2"], async |reach| {
        assert_eq!(next(&reach).await, set(&["10.0.0.2"]));
        tokio::time::sleep(TIMING.heartbeat).await;
        // A request goes out, and its answer is not looked at before the one before has ceased to count.
        assert_eq!(reach.changed().now_or_never(), None);
        std::thread::sleep(TIMING.silence() - TIMING.heartbeat / 2);
        assert_quiet(&reach, TIMING.failure_timeout).await;
    });
}

pub(crate) fn is_not_shown_by_what_came_before_a_stop() {
    let (left, right) = cable();
    left.enter(|| Kernel::here().add_address("eth0", "10.0.0.1/24"));
    right.enter(|| Kernel::here().add_address("eth0", "10.0.0.2/24"));
    asking(&left, &["10.0.0.2"], async |reach| {
        assert_eq!(next(&reach).await, set(&["10.0.0.2"]));
        // A request goes out, and its answer lies there while the process is stopped and the other end dies.
        tokio::time::sleep(TIMING.heartbeat).await;
        assert_eq!(reach.changed().now_or_never(), None);
        std::thread::sleep(Duration::from_millis(10));
        right.enter(|| Kernel::here().delete_address("eth0", "10.0.0.2/24"));
        std::thread::sleep(TIMING.failure_timeout);

        assert_eq!(next(&reach).await, set(&[]));
        assert_quiet(&reach, TIMING.failure_timeout).await;
    });
}
