//! The optional multicast group: joined with our first address of its family, never leaves the segment.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use socket2::SockRef;

use super::{BindError, Endpoint, open};

/// Datagrams to the group stay on the segment.
const TTL: u32 = 1;

/// A joined group.
#[derive(Debug)]
pub(super) struct Multicast {
    group: SocketAddr,
    /// Which of our own sockets sends, so that peers see the address that they know.
    sender: usize,
    /// Bound to the group itself, so that it hears nothing else.
    receiver: Endpoint,
}

impl Multicast {
    /// Joins `group` on the network of the first of `own` that is of its family; `sockets` are bound to `own`.
    pub(super) fn join(
        group: SocketAddr,
        own: &[SocketAddr],
        sockets: &[Endpoint],
    ) -> Result<Self, BindError> {
        if !group.ip().is_multicast() {
            return Err(BindError::NotMulticast(group));
        }
        let sender = own
            .iter()
            .position(|address| address.is_ipv4() == group.is_ipv4())
            .ok_or(BindError::NoAddressForGroup(group))?;
        let address = own[sender];
        join(group, address, &sockets[sender].direct)
            .map(|(group, receiver)| Self { group, sender, receiver })
            .map_err(|source| BindError::Group { group, address, source })
    }

    /// Where to send: the group, with the interface as its scope under IPv6.
    pub(super) fn group(&self) -> SocketAddr {
        self.group
    }

    /// The number of our own socket that sends.
    pub(super) fn sender(&self) -> usize {
        self.sender
    }

    /// What hears the group.
    pub(super) fn receiver(&self) -> &Endpoint {
        &self.receiver
    }
}

fn join(
    group: SocketAddr,
    own: SocketAddr,
    sender: &UdpSocket,
) -> io::Result<(SocketAddr, Endpoint)> {
    let sender = SockRef::from(sender);
    let receiver = open(group)?;
    // Several daemons of a machine, each in its own cluster, may use one group and port.
    receiver.set_reuse_address(true)?;
    let scoped = match (group, own.ip()) {
        (SocketAddr::V4(v4), IpAddr::V4(interface)) => {
            receiver.bind(&group.into())?;
            receiver.set_multicast_all_v4(false)?;
            receiver.join_multicast_v4(v4.ip(), &interface)?;
            sender.set_multicast_if_v4(&interface)?;
            sender.set_multicast_ttl_v4(TTL)?;
            sender.set_multicast_loop_v4(false)?;
            group
        }
        (SocketAddr::V6(mut v6), IpAddr::V6(address)) => {
            let interface = interface_of(address.into())?;
            v6.set_scope_id(interface);
            receiver.bind(&SocketAddr::from(v6).into())?;
            receiver.set_multicast_all_v6(false)?;
            receiver.join_multicast_v6(v6.ip(), interface)?;
            sender.set_multicast_if_v6(interface)?;
            sender.set_multicast_hops_v6(TTL)?;
            sender.set_multicast_loop_v6(false)?;
            v6.into()
        }
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    Ok((scoped, Endpoint::new(receiver)?))
}

/// The index of the interface that carries `address`.
fn interface_of(address: IpAddr) -> io::Result<u32> {
    for interface in getifaddrs()? {
        let carried = interface.address.and_then(|storage| {
            storage
                .as_sockaddr_in()
                .map(|v4| IpAddr::from(v4.ip()))
                .or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        });
        if carried == Some(address) {
            return Ok(if_nametoindex(interface.interface_name.as_str())?);
        }
    }
    Err(io::ErrorKind::AddrNotAvailable.into())
}
