//! "Left, released", said for a daemon that cannot say it any more.
//!
//! The daemon seals the datagrams in advance, in its own name, so the guardian knows no key and does not need to know what
//! it says. Their sequence numbers lie beyond all that a daemon ever reaches, so that peers take them for new.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;

use serde::{Deserialize, Serialize};
use wackamole_protocol::config::NodeConfig;
use wackamole_protocol::id::{Incarnation, NodeId};
use wackamole_protocol::time::Duration;
use wackamole_protocol::wire::Codec;
use wackamole_protocol::wire::message::{Body, Header, Leave};

/// The first sequence number of a guardian. A daemon that sends a million datagrams a second gets there in 146 000 years.
const FIRST_SEQUENCE: u64 = 1 << 62;
/// Rounds of datagrams: one may be lost.
const ROUNDS: usize = 3;
/// Pauses before each round but the last: what loses a datagram often loses the next one as well.
const PAUSES_MS: [u64; ROUNDS - 1] = [0, 3];

/// What is sent, round by round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Farewell {
    rounds: Vec<Vec<Parting>>,
}

/// One datagram on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Parting {
    /// Where the daemon listens there.
    from: SocketAddr,
    to: Vec<SocketAddr>,
    datagram: Vec<u8>,
}

impl Farewell {
    /// The farewell of `incarnation` to all peers, over all networks. Each datagram has a sequence number of its own, or
    /// the second would be a replay.
    pub fn seal(config: &NodeConfig, incarnation: Incarnation) -> Self {
        let codec = Codec::new(&config.key, &config.cluster);
        let mut sequence = FIRST_SEQUENCE;
        let own = config.nodes.iter().find(|node| node.id() == config.me);
        let own = own.map(|node| node.addresses.as_slice()).unwrap_or_default();
        let peers = || config.nodes.iter().filter(|node| node.id() != config.me);
        let rounds = [(); ROUNDS].map(|()| {
            let networks = own.iter().enumerate().map(|(network, &from)| {
                let to = peers().filter_map(|peer| peer.addresses.get(network).copied()).collect();
                let header =
                    Header { from: config.me, to: NodeId::EVERYBODY, incarnation, sequence };
                sequence += 1;
                let datagram = codec.seal(&header, &Body::Leave(Leave { incarnation }));
                Parting { from, to, datagram }
            });
            networks.collect()
        });
        Self { rounds: rounds.into() }
    }

    /// Sends all rounds but the last, at once.
    pub(super) fn send(&self) {
        if let Some((_, hurried)) = self.rounds.split_last() {
            for (round, pause) in hurried.iter().zip(PAUSES_MS) {
                thread::sleep(Duration::from_millis(pause));
                send(round);
            }
        }
    }

    /// Sends the last round: to be called when the daemon's own ports, which peers and firewalls know, are free.
    pub(super) fn send_last(&self) {
        if let Some(last) = self.rounds.last() {
            send(last);
        }
    }
}

fn send(round: &[Parting]) {
    for parting in round {
        if let Err(error) = parting.send() {
            tracing::warn!(from = %parting.from, %error, "cannot tell the peers");
        }
    }
}

impl Parting {
    fn send(&self) -> io::Result<()> {
        let any_port = SocketAddr::new(self.from.ip(), 0);
        let socket = UdpSocket::bind(self.from).or_else(|_| UdpSocket::bind(any_port))?;
        socket.set_nonblocking(true)?;
        for &to in &self.to {
            // What ICMP said about the one before comes as an error of this one, so twice.
            if let Err(error) =
                socket.send_to(&self.datagram, to).or_else(|_| socket.send_to(&self.datagram, to))
            {
                tracing::warn!(%to, %error, "cannot tell a peer");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wackamole_protocol::config::{
        Balance, ClusterKey, NodeDefinition, Partition, Safety, Timing,
    };
    use wackamole_protocol::wire::ReplayWindow;

    use super::*;

    fn config() -> NodeConfig {
        let node = |name: &str, ports: [u16; 2]| NodeDefinition {
            name: name.into(),
            addresses: ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).into(),
            weight: 1,
            witness: false,
        };
        let ms = Duration::from_millis;
        let timing = Timing { heartbeat: ms(100), failure_timeout: ms(400), mature: ms(2_000) };
        NodeConfig {
            cluster: "web".into(),
            key: ClusterKey([7; 32]),
            me: NodeId::from_name("a"),
            nodes: vec![node("a", [1, 2]), node("b", [3, 4]), node("c", [5, 6])],
            vips: vec![],
            timing,
            balance: Balance { moves_per_round: None, interval: ms(4_000) },
            multicast: false,
            safety: Safety::new(Partition::Lan, &timing),
            must_reach: Vec::new(),
        }
    }

    #[test]
    fn peers_take_each_datagram_for_a_new_one_of_the_daemon() {
        let config = config();
        let incarnation = Incarnation::new(3, 4);
        let farewell = Farewell::seal(&config, incarnation);

        let codec = Codec::new(&config.key, &config.cluster);
        let mut window = ReplayWindow::default();
        for sequence in 1..5_000 {
            assert!(window.accept(sequence), "the daemon's own");
        }
        assert_eq!(farewell.rounds.len(), ROUNDS);
        for parting in farewell.rounds.iter().flatten() {
            let (header, body) = codec.open(&parting.datagram).unwrap();
            assert_eq!((header.from, header.incarnation), (config.me, incarnation));
            assert_eq!(body, Body::Leave(Leave { incarnation }));
            assert!(window.accept(header.sequence), "{}", header.sequence);
        }
        let ports = |parting: &Parting| {
            (parting.from.port(), parting.to.iter().map(SocketAddr::port).collect::<Vec<_>>())
        };
        let first: Vec<_> = farewell.rounds[0].iter().map(ports).collect();
        assert_eq!(first, [(1, vec![3, 5]), (2, vec![4, 6])]);
    }
}
