//! Datagrams between daemons: one UDP socket for each of this node's addresses, and one for the multicast group.
//!
//! tokio is asked only when there is nothing to do but wait. What must not wait is a system call of its own, whatever
//! tokio knows of readiness: so the first datagram after start goes out, and a node that was stopped sees at once what
//! came in meanwhile.

mod multicast;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::ReadBuf;

use crate::env::Network;
use crate::io::arrivals::Arrivals;
use crate::io::clock::boot_time;
use multicast::Multicast;

/// What the kernel keeps for us while we are busy or stopped: a second of heartbeats of a large cluster.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// DSCP CS6, "network control" (RFC 4594 §3.2): switches that look at it forward heartbeats before bulk traffic.
const TRAFFIC_CLASS: u32 = 0xc0;

/// Why the network cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A socket for one of our addresses.
    #[error("cannot listen on {address}: {}", explain(source))]
    Address {
        /// The configured address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The multicast group.
    #[error("cannot join multicast group {group} with {address}: {}", explain(source))]
    Group {
        /// The configured group.
        group: SocketAddr,
        /// Our address on the network where the group lives.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The group's address is none.
    #[error("{0} is not a multicast address; expected one in 224.0.0.0/4 or ff00::/8")]
    NotMulticast(SocketAddr),
    /// The group is of a family in which we have no address.
    #[error("multicast group {0} needs a node address of the same family, and this node has none")]
    NoAddressForGroup(SocketAddr),
    /// The node has no address at all.
    #[error("this node has no address to listen on")]
    NoAddress,
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address (or IPv6 is still checking it for duplicates)".into()
        }
        io::ErrorKind::AddrInUse => {
            "another program, perhaps another wackamole, already listens there".into()
        }
        _ => error.to_string(),
    }
}

/// The daemon's network.
#[derive(Debug)]
pub struct UdpNetwork {
    /// One for each of our addresses, in their order.
    sockets: Vec<Endpoint>,
    multicast: Option<Multicast>,
    /// On which of our networks a peer's address is.
    networks: BTreeMap<SocketAddr, usize>,
    /// Where the next receive begins to look, so that a flood on one network does not hide the others.
    next: Cell<usize>,
    /// When something of a peer last came in on each network.
    arrivals: Arc<Arrivals>,
}

impl UdpNetwork {
    /// Listens on `own`, the addresses of this node. `peers` are the address lists of all other nodes: the n-th
    /// addresses of all nodes are on one network, and are reached from our n-th socket. `group` is the multicast
    /// group, if one is used; it lives on the network of our first address of its family.
    ///
    /// Must be called on a tokio runtime with IO enabled.
    ///
    /// # Errors
    /// An address that is not ours or is taken, a group that is none.
    pub fn bind<'a>(
        own: &[SocketAddr],
        peers: impl IntoIterator<Item = &'a [SocketAddr]>,
        group: Option<SocketAddr>,
    ) -> Result<Self, BindError> {
        if own.is_empty() {
            return Err(BindError::NoAddress);
        }
        let mut sockets = Vec::new();
        for &address in own {
            let endpoint = open(address).and_then(|socket| {
                socket.bind(&address.into())?;
                Endpoint::new(socket)
            });
            sockets.push(endpoint.map_err(|source| BindError::Address { address, source })?);
        }
        let mut networks = BTreeMap::new();
        for addresses in peers {
            for (network, &address) in addresses.iter().enumerate() {
                if own.get(network).is_some_and(|own| own.is_ipv4() == address.is_ipv4()) {
                    networks.insert(address, network);
                }
            }
        }
        let multicast = match group {
            Some(group) => Some(Multicast::join(group, own, &sockets)?),
            None => None,
        };
        let arrivals = Arc::new(Arrivals::new(own.len()));
        Ok(Self { sockets, multicast, networks, next: Cell::new(0), arrivals })
    }

    /// When datagrams of peers last came in on each of our networks.
    pub fn arrivals(&self) -> &Arc<Arrivals> {
        &self.arrivals
    }

    /// Where this node listens, in the order of its addresses; tells the port where the configured one was zero.
    ///
    /// # Errors
    /// None in practice; whatever getsockname(2) says.
    pub fn local_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(|endpoint| endpoint.direct.local_addr()).collect()
    }

    /// The socket on the network where `to` is: known from the peers' table, or guessed by family.
    fn socket_towards(&self, to: SocketAddr) -> io::Result<&UdpSocket> {
        let known = self.networks.get(&to).and_then(|&network| self.sockets.get(network));
        let of_same_family = || {
            self.sockets.iter().find(|endpoint| {
                endpoint.direct.local_addr().is_ok_and(|own| own.is_ipv4() == to.is_ipv4())
            })
        };
        known.or_else(of_same_family).map(|endpoint| &endpoint.direct).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!("this node has no address of the family of {to}"),
            )
        })
    }

    /// All sockets on which something may arrive.
    fn receivers(&self) -> impl Iterator<Item = &Endpoint> + Clone {
        self.sockets.iter().chain(self.multicast.as_ref().map(Multicast::receiver))
    }

    /// The receivers, numbered, beginning where the last successful receive left off.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        let first = self.next.get();
        let numbered = self.receivers().enumerate();
        numbered.clone().skip(first).chain(numbered.take(first))
    }

    fn received_on(&self, receiver: usize, result: &io::Result<(usize, SocketAddr)>) {
        self.next.set((receiver + 1) % self.receivers().count());
        if let Ok((_, from)) = result
            && let Some(&network) = self.networks.get(from)
        {
            self.arrivals.note(network, boot_time());
        }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        for (number, receiver) in self.in_turn() {
            if let Poll::Ready(result) = receiver.poll_recv(context, buffer) {
                self.received_on(number, &result);
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    }
}

impl Network for UdpNetwork {
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        never_waiting(self.socket_towards(to)?.send_to(datagram, to))
    }

    fn send_group(&self, datagram: &[u8]) -> io::Result<()> {
        let multicast = self.multicast.as_ref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "no multicast group is configured")
        })?;
        let sender = &self.sockets[multicast.sender()].direct;
        never_waiting(sender.send_to(datagram, multicast.group()))
    }

    async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        std::future::poll_fn(|context| self.poll_recv(context, buffer)).await
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        for (number, receiver) in self.in_turn() {
            match receiver.try_recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.received_on(number, &result);
                    return result;
                }
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A full socket buffer is a lost datagram, not a fault.
fn never_waiting(sent: io::Result<usize>) -> io::Result<()> {
    match sent {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// One socket, by two descriptors.
#[derive(Debug)]
struct Endpoint {
    /// For what must not wait.
    direct: UdpSocket,
    /// For waiting.
    waiting: tokio::net::UdpSocket,
}

impl Endpoint {
    fn new(socket: Socket) -> io::Result<Self> {
        let direct = UdpSocket::from(socket);
        let waiting = tokio::net::UdpSocket::from_std(direct.try_clone()?)?;
        Ok(Self { direct, waiting })
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut filled = ReadBuf::new(buffer);
        loop {
            match ready!(self.waiting.poll_recv_from(context, &mut filled)) {
                Err(error) if is_no_fault_of_ours(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(from) => return Poll::Ready(Ok((filled.filled().len(), from))),
            }
        }
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            match self.direct.recv_from(buffer) {
                Err(error) if is_no_fault_of_ours(&error) => {}
                result => return result,
            }
        }
    }
}

/// What ICMP says about datagrams that we sent earlier is skipped: it can be forged, and the silence of a peer tells as
/// much.
fn is_no_fault_of_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable,
    };
    let kind = error.kind();
    matches!(
        kind,
        ConnectionRefused | ConnectionReset | HostUnreachable | Interrupted | NetworkUnreachable
    )
}

/// A socket for `address`'s family with everything set but its name.
fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The rest makes things better but is not needed, and some of it needs privileges that a test does not have.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    }
    let _ = match address {
        SocketAddr::V4(_) => socket.set_tos_v4(TRAFFIC_CLASS),
        SocketAddr::V6(_) => socket.set_tclass_v6(TRAFFIC_CLASS),
    };
    Ok(socket)
}

#[cfg(test)]
mod tests;
