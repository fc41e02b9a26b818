//! Datagrams between machines, as far as loopback cannot show it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use wackamole::env::Network;
use wackamole::io::udp::UdpNetwork;

use crate::kernel::{Kernel, cable};
use crate::namespace::Namespace;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A network of the machine `namespace`. A socket stays where it was opened, so one runtime can drive both machines.
fn bind(namespace: &Namespace, own: SocketAddr, group: Option<&str>) -> UdpNetwork {
    let runtime = Handle::current();
    namespace.enter(|| {
        let _inside = runtime.enter();
        UdpNetwork::bind(&[own], [], group.map(|group| group.parse().unwrap())).unwrap()
    })
}

async fn next(network: &UdpNetwork) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 64];
    let received = tokio::time::timeout(Duration::from_secs(5), network.recv(&mut buffer));
    let (length, from) = received.await.expect("a datagram in time").unwrap();
    (buffer[..length].to_vec(), from)
}

pub(crate) fn survives_the_absence_of_its_address() {
    let (left, right) = cable();
    let (a_address, b_address) =
        ("10.0.0.1:4803".parse().unwrap(), "10.0.0.2:4803".parse().unwrap());
    left.enter(|| Kernel::here().add_address("eth0", "10.0.0.1/24"));
    right.enter(|| Kernel::here().add_address("eth0", "10.0.0.2/24"));
    runtime().block_on(async {
        let a = bind(&left, a_address, None);
        let b = bind(&right, b_address, None);

        left.enter(|| Kernel::here().delete_address("eth0", "10.0.0.1/24"));

        assert!(a.send(b_address, b"lost").is_err(), "from an address that is gone");
        let nothing = a.try_recv(&mut [0; 64]).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);

        left.enter(|| Kernel::here().add_address("eth0", "10.0.0.1/24"));

        a.send(b_address, b"ping").unwrap();
        assert_eq!(next(&b).await, (b"ping".to_vec(), a_address));
        b.send(a_address, b"pong").unwrap();
        assert_eq!(next(&a).await, (b"pong".to_vec(), b_address));
    });
}

pub(crate) fn hears_its_multicast_group_over_ipv4() {
    group_reaches_the_other_machine("10.0.0.1/24", "10.0.0.2/24", "239.77.0.1:4803");
}

pub(crate) fn hears_its_multicast_group_over_ipv6() {
    group_reaches_the_other_machine("fd00::1/64", "fd00::2/64", "[ff02::4803]:4803");
}

fn group_reaches_the_other_machine(a: &str, b: &str, group: &str) {
    let (left, right) = cable();
    left.enter(|| Kernel::here().add_address("eth0", a));
    right.enter(|| Kernel::here().add_address("eth0", b));
    let on_port = |address: &str| {
        let (ip, _) = address.split_once('/').unwrap();
        SocketAddr::new(ip.parse().unwrap(), 4804)
    };
    let (a_address, b_address) = (on_port(a), on_port(b));
    runtime().block_on(async {
        let a = bind(&left, a_address, Some(group));
        let b = bind(&right, b_address, Some(group));

        a.send_group(b"to all").unwrap();

        assert_eq!(next(&b).await, (b"to all".to_vec(), a_address));
        b.send_group(b"back").unwrap();
        assert_eq!(next(&a).await, (b"back".to_vec(), b_address), "and no echo of its own");
    });
}
