//! On loopback only. Multicast needs two machines: see `tests/netns/`.

use std::pin::pin;
use std::task::Waker;
use std::time::Duration;

use super::*;

fn on_a_runtime<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A network on ports that the kernel picks, and where it listens.
fn network(own: &[&str]) -> (UdpNetwork, Vec<SocketAddr>) {
    let network = UdpNetwork::bind(&addresses(own), [], None).unwrap();
    let local = network.local_addresses().unwrap();
    (network, local)
}

async fn next(network: &UdpNetwork) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 64];
    let received = tokio::time::timeout(Duration::from_secs(5), network.recv(&mut buffer));
    let (length, from) = received.await.expect("a datagram within five seconds").unwrap();
    (buffer[..length].to_vec(), from)
}

#[test]
fn the_first_datagram_goes_out_before_the_runtime_has_ever_polled() {
    on_a_runtime(async {
        let (a, a_address) = network(&["127.0.0.1:0"]);
        let (b, b_address) = network(&["127.0.0.1:0"]);

        a.send(b_address[0], b"one").unwrap();

        assert_eq!(next(&b).await, (b"one".to_vec(), a_address[0]));
    });
}

#[test]
fn what_is_queued_can_be_taken_without_waiting() {
    on_a_runtime(async {
        let (a, _) = network(&["127.0.0.1:0"]);
        let (b, b_address) = network(&["127.0.0.1:0"]);
        let mut buffer = [0; 64];
        let nothing = b.try_recv(&mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);

        a.send(b_address[0], b"one").unwrap();

        let (length, _) = b.try_recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"one");
    });
}

#[test]
fn the_nth_address_of_a_peer_is_reached_from_our_nth_socket() {
    on_a_runtime(async {
        let (peer, peer_addresses) = network(&["127.0.0.1:0", "127.0.0.1:0"]);
        let own = addresses(&["127.0.0.1:0", "127.0.0.1:0"]);
        let a = UdpNetwork::bind(&own, [peer_addresses.as_slice()], None).unwrap();
        let local = a.local_addresses().unwrap();

        for network in [0, 1] {
            a.send(peer_addresses[network], &[network as u8]).unwrap();
            assert_eq!(next(&peer).await, (vec![network as u8], local[network]));
        }
    });
}

#[test]
fn an_address_of_another_family_is_refused() {
    on_a_runtime(async {
        let (a, _) = network(&["127.0.0.1:0"]);
        let error = a.send("[::1]:9".parse().unwrap(), b"x").unwrap_err();
        assert!(error.to_string().contains("family of [::1]:9"), "{error}");
    });
}

#[test]
fn a_flood_on_one_network_does_not_hide_the_others() {
    on_a_runtime(async {
        let (sender, _) = network(&["127.0.0.1:0"]);
        let (b, b_addresses) = network(&["127.0.0.1:0", "127.0.0.1:0"]);
        for _ in 0..50 {
            sender.send(b_addresses[0], b"flood").unwrap();
        }
        sender.send(b_addresses[1], b"quiet").unwrap();

        let first_three = [next(&b).await.0, next(&b).await.0, next(&b).await.0];

        assert!(first_three.contains(&b"quiet".to_vec()), "{first_three:?}");
    });
}

#[test]
fn a_port_where_nobody_listens_does_not_break_receiving() {
    on_a_runtime(async {
        let (a, a_address) = network(&["127.0.0.1:0"]);
        let (b, b_address) = network(&["127.0.0.1:0"]);
        let gone = b_address[0];
        drop(b);
        for _ in 0..5 {
            a.send(gone, b"anybody?").unwrap();
        }
        let (c, _) = network(&["127.0.0.1:0"]);

        c.send(a_address[0], b"here").unwrap();

        assert_eq!(next(&a).await.0, b"here");
    });
}

#[test]
fn a_cancelled_receive_loses_nothing() {
    on_a_runtime(async {
        let (a, _) = network(&["127.0.0.1:0"]);
        let (b, b_address) = network(&["127.0.0.1:0"]);
        let mut buffer = [0; 64];
        {
            let mut context = Context::from_waker(Waker::noop());
            assert!(pin!(b.recv(&mut buffer)).poll(&mut context).is_pending());
        }

        a.send(b_address[0], b"kept").unwrap();

        assert_eq!(next(&b).await.0, b"kept");
    });
}

#[test]
fn what_cannot_be_bound_is_named() {
    on_a_runtime(async {
        let (_taken, local) = network(&["127.0.0.1:0"]);
        let in_use = UdpNetwork::bind(&local, [], None).unwrap_err().to_string();
        assert!(in_use.contains(&local[0].to_string()), "{in_use}");
        assert!(in_use.contains("already listens there"), "{in_use}");

        let foreign = addresses(&["192.0.2.1:4803"]);
        let not_ours = UdpNetwork::bind(&foreign, [], None).unwrap_err().to_string();
        assert!(not_ours.contains("192.0.2.1:4803: no interface of this machine"), "{not_ours}");

        let own = addresses(&["127.0.0.1:0"]);
        let group = |text: &str| Some(text.parse().unwrap());
        let unicast = UdpNetwork::bind(&own, [], group("10.1.2.3:4803")).unwrap_err();
        assert!(matches!(unicast, BindError::NotMulticast(_)), "{unicast}");
        let family = UdpNetwork::bind(&own, [], group("[ff02::77]:4803")).unwrap_err();
        assert!(matches!(family, BindError::NoAddressForGroup(_)), "{family}");
        let none = UdpNetwork::bind(&[], [], None).unwrap_err();
        assert!(matches!(none, BindError::NoAddress), "{none}");
    });
}
