//! `env::Network` over the engine's sockets.
//!
//! The engine carries what every datagram needs: whole ticks of latency, explicit partitions and cuts. Everything that happens
//! to single datagrams is decided on arrival ([`Segment::datagram`](crate::segment::Segment::datagram)), because only
//! there each copy of a multicast is on its own link.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use wackamole::env::Network;
use wackamole_protocol::time::Duration;

use crate::bell::Bell;
use crate::engine::{Host, Socket, WorldTime};
use crate::links::Station;
use crate::segment::SharedSegment;

/// The UDP port of every daemon.
pub const PORT: u16 = 7700;

/// The group of a cluster that uses multicast (RFC 2365: organisation-local scope).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 192, 77, 1);

/// The address of node number `node`.
pub fn node_address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 11 + node as u8)
}

pub(crate) fn node_at(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) => usize::from(ip.octets()[3]).checked_sub(11),
        IpAddr::V6(_) => None,
    }
}

/// One daemon's socket.
pub struct SimNetwork {
    time: WorldTime,
    socket: Socket,
    node: Station,
    segment: SharedSegment,
    multicast: bool,
    late: RefCell<Late>,
    mail: Rc<Bell>,
}

/// Datagrams that the wires hold back, by arrival.
#[derive(Default)]
struct Late {
    count: u64,
    queue: BTreeMap<(Duration, u64), (SocketAddr, Vec<u8>)>,
}

impl SimNetwork {
    /// Opens the socket of a host.
    ///
    /// # Errors
    /// The port is taken; or with `multicast`, the group cannot be joined.
    pub async fn bind(
        host: &Host,
        node: Station,
        multicast: bool,
        segment: SharedSegment,
    ) -> io::Result<Self> {
        let socket = host.bind(multicast).await?;
        let mail = segment.borrow().mail_bell(node);
        let time = host.time();
        Ok(Self { time, socket, node, segment, multicast, late: RefCell::default(), mail })
    }

    /// A datagram that was held back and has arrived by now.
    fn arrived(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let mut late = self.late.borrow_mut();
        while let Some(first) = late.queue.first_entry() {
            if first.key().0 > self.time.now() {
                return None;
            }
            let (from, bytes) = first.remove();
            // Whatever cuts the link also loses what is in flight on it.
            if node_at(from)
                .is_some_and(|peer| self.segment.borrow().links.reaches(peer, self.node))
            {
                let length = bytes.len().min(buffer.len());
                buffer[..length].copy_from_slice(&bytes[..length]);
                return Some((length, from));
            }
        }
        None
    }

    /// Lets the wires have their way with a datagram in the buffer. Returns its length if it arrives at once.
    fn admit(&self, buffer: &mut [u8], length: usize, from: SocketAddr) -> Option<usize> {
        let peer = node_at(from)?;
        let fate =
            self.segment.borrow_mut().datagram(self.time.now(), peer, self.node, &buffer[..length]);
        if let Some(bit) = fate.flipped_bit {
            buffer[bit / 8] ^= 1 << (bit % 8);
        }
        if let Some(delay) = fate.second {
            self.hold_back(delay, from, &buffer[..length]);
        }
        let delay = fate.first?;
        if delay == Duration::ZERO {
            return Some(length);
        }
        self.hold_back(delay, from, &buffer[..length]);
        None
    }

    /// What somebody else than a daemon sent, and the wires let through at once.
    fn posted(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            let mail = self.segment.borrow_mut().next_mail(self.node)?;
            let from = SocketAddr::new(IpAddr::V4(node_address(mail.from)), PORT);
            let length = mail.bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&mail.bytes[..length]);
            if let Some(length) = self.admit(buffer, length, from) {
                return Some((length, from));
            }
        }
    }

    fn hold_back(&self, delay: Duration, from: SocketAddr, bytes: &[u8]) {
        let mut late = self.late.borrow_mut();
        late.count += 1;
        let key = (self.time.now() + delay, late.count);
        late.queue.insert(key, (from, bytes.to_vec()));
    }
}

impl Network for SimNetwork {
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, to)
    }

    fn send_group(&self, datagram: &[u8]) -> io::Result<()> {
        if !self.multicast {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "no multicast group is configured",
            ));
        }
        self.socket.send_group(datagram)
    }

    async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            if let Some(arrived) = self.arrived(buffer).or_else(|| self.posted(buffer)) {
                return Ok(arrived);
            }
            let next = self.late.borrow().queue.first_key_value().map(|(key, _)| key.0);
            let received = match next {
                None => tokio::select! { biased;
                    received = self.socket.recv_from(buffer) => Some(received?),
                    () = self.mail.heard() => None,
                },
                Some(at) => tokio::select! { biased;
                    received = self.socket.recv_from(buffer) => Some(received?),
                    () = self.mail.heard() => None,
                    () = self.time.sleep(at.saturating_sub(self.time.now())) => None,
                },
            };
            if let Some((length, from)) = received
                && let Some(length) = self.admit(buffer, length, from)
            {
                return Ok((length, from));
            }
        }
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            if let Some(arrived) = self.arrived(buffer).or_else(|| self.posted(buffer)) {
                return Ok(arrived);
            }
            let (length, from) = self.socket.try_recv_from(buffer)?;
            if let Some(length) = self.admit(buffer, length, from) {
                return Ok((length, from));
            }
        }
    }
}
