//! rtnetlink, one question at a time: what `ip link`, `ip address` and `ip neighbour` do, without needing them.
//!
//! Blocking, because a test does one thing after another. See rtnetlink(7).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result, anyhow};
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    BridgePortState, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::mac::Mac;

/// What a protocol knows of an interface (`linux/if_link.h`); for a bridge port, its state.
const IFLA_PROTINFO: u16 = 12;

/// An entry of an ARP or neighbour cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The address asked about.
    pub address: IpAddr,
    /// Where the cache says that it is, if it says.
    pub mac: Option<Mac>,
    /// How sure the cache is.
    pub state: NeighbourState,
}

/// A connection to the kernel of the namespace in which it was opened.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Connects to the kernel of the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel has no rtnetlink.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("opening rtnetlink")?;
        socket.bind_auto().context("binding rtnetlink")?;
        socket.connect(&SocketAddr::new(0, 0)).context("connecting rtnetlink")?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Opens a connection that also hears of changes in the given multicast groups (rtnetlink(7), `RTMGRP_…`).
    ///
    /// # Errors
    /// The kernel has no rtnetlink.
    pub(crate) fn subscribe(groups: u32) -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("opening rtnetlink")?;
        socket.bind(&SocketAddr::new(0, groups)).context("binding rtnetlink")?;
        socket.set_non_blocking(true).context("making rtnetlink non-blocking")?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The messages that have arrived on a subscribed connection.
    ///
    /// # Errors
    /// The kernel had to drop messages, or sent something that cannot be read.
    pub(crate) fn arrived(&mut self) -> Result<Vec<RouteNetlinkMessage>> {
        let mut messages = Vec::new();
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => {
                    messages.extend(decode(&bytes)?.into_iter().filter_map(|m| match m.payload {
                        NetlinkPayload::InnerMessage(message) => Some(message),
                        _ => None,
                    }));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(messages),
                Err(error) => return Err(error).context("reading rtnetlink"),
            }
        }
    }

    /// Makes a bridge that behaves like a plain switch: no spanning tree, multicast goes everywhere.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn create_bridge(&mut self, name: &str) -> Result<()> {
        let info = vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ];
        let attributes =
            vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(info)];
        self.new_link(attributes).with_context(|| format!("creating bridge {name}"))?;
        self.set_up(name)
    }

    /// Makes a cable: `name` stays here, its other end becomes `peer_name` with `peer_mac` in `peer_network`, or stays
    /// here as well.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn create_cable(
        &mut self,
        name: &str,
        peer_name: &str,
        peer_mac: Option<Mac>,
        peer_network: Option<&File>,
    ) -> Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(peer_name.to_owned()));
        peer.attributes.extend(peer_mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        peer.attributes.extend(peer_network.map(|file| LinkAttribute::NetNsFd(file.as_raw_fd())));
        let info = vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ];
        let attributes =
            vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(info)];
        self.new_link(attributes).with_context(|| format!("creating cable {name} - {peer_name}"))
    }

    /// Switches an interface on.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn set_up(&mut self, name: &str) -> Result<()> {
        self.set_flags(name, LinkFlags::Up).with_context(|| format!("switching {name} on"))
    }

    /// Switches an interface off.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn set_down(&mut self, name: &str) -> Result<()> {
        self.set_flags(name, LinkFlags::empty()).with_context(|| format!("switching {name} off"))
    }

    /// Plugs a port into a bridge, taking it out of the one where it was.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn plug(&mut self, port: &str, bridge: &str) -> Result<()> {
        let bridge_index = self.index(bridge)?;
        self.change_link(port, vec![LinkAttribute::Controller(bridge_index)])
            .with_context(|| format!("plugging {port} into {bridge}"))
    }

    /// Lets a bridge port forward, or makes it drop every frame both ways while its carrier stays on.
    ///
    /// # Errors
    /// The interface is no bridge port, or the kernel refuses.
    pub fn set_forwarding(&mut self, port: &str, forwards: bool) -> Result<()> {
        let state = if forwards { BridgePortState::Forwarding } else { BridgePortState::Disabled };
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.header.index = self.index(port)?;
        // A lone byte is the state alone. Through IFLA_LINKINFO it would not last: the kernel announces the change as
        // one of the device, and a bridge that hears of a running device enables its port.
        let attribute = DefaultNla::new(IFLA_PROTINFO, vec![state.into()]);
        message.attributes.push(LinkAttribute::Other(attribute));
        self.command(RouteNetlinkMessage::SetLink(message), 0)
            .with_context(|| format!("setting bridge port {port} to {state:?}"))
    }

    /// Removes an interface; the other end of a cable goes with it.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn delete_link(&mut self, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(name)?;
        self.command(RouteNetlinkMessage::DelLink(message), 0)
            .with_context(|| format!("removing {name}"))
    }

    /// Adds an address without duplicate address detection.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn add_address(&mut self, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let message = self.address_message(interface, address, prefix)?;
        self.command(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
            .with_context(|| format!("adding {address}/{prefix} to {interface}"))
    }

    /// Removes an address.
    ///
    /// # Errors
    /// There is no such interface or address, or the kernel refuses.
    pub fn delete_address(&mut self, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let message = self.address_message(interface, address, prefix)?;
        self.command(RouteNetlinkMessage::DelAddress(message), 0)
            .with_context(|| format!("removing {address}/{prefix} from {interface}"))
    }

    /// All addresses, those of `lo` and link-local ones included.
    ///
    /// It takes no lock that adding an address would wait for: all machines share one kernel, and a case asks often.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn addresses(&mut self) -> Result<BTreeSet<IpAddr>> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask(question, NLM_F_DUMP).context("reading addresses")?;
        let address = |answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => local_address(&message),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(address).collect())
    }

    /// The ARP and neighbour caches.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>> {
        let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answers = self.ask(question, NLM_F_DUMP).context("reading neighbours")?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(message) => neighbour(&message),
                _ => None,
            })
            .collect())
    }

    /// Removes an entry from the ARP or neighbour cache, so that the kernel asks the segment again.
    ///
    /// # Errors
    /// There is no such interface or entry, or the kernel refuses.
    pub fn forget_neighbour(&mut self, interface: &str, address: IpAddr) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = self.index(interface)?;
        let destination = match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        };
        message.attributes.push(NeighbourAttribute::Destination(destination));
        self.command(RouteNetlinkMessage::DelNeighbour(message), 0)
            .with_context(|| format!("forgetting {address} on {interface}"))
    }

    /// The number of an interface.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn index(&mut self, name: &str) -> Result<u32> {
        self.links()?
            .into_iter()
            .find(|link| link.1 == name)
            .map(|link| link.0)
            .ok_or_else(|| anyhow!("there is no interface {name}"))
    }

    fn links(&mut self) -> Result<Vec<(u32, String)>> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.ask(question, NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(message) => Some(message),
                _ => None,
            })
            .filter_map(|message| {
                let index = message.header.index;
                message.attributes.into_iter().find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some((index, name)),
                    _ => None,
                })
            })
            .collect())
    }

    fn new_link(&mut self, attributes: Vec<LinkAttribute>) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = attributes;
        self.command(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn change_link(&mut self, name: &str, attributes: Vec<LinkAttribute>) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(name)?;
        message.attributes = attributes;
        self.command(RouteNetlinkMessage::NewLink(message), 0)
    }

    fn set_flags(&mut self, name: &str, flags: LinkFlags) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(name)?;
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
        self.command(RouteNetlinkMessage::NewLink(message), 0)
    }

    fn address_message(
        &mut self,
        interface: &str,
        address: IpAddr,
        prefix: u8,
    ) -> Result<AddressMessage> {
        let mut message = AddressMessage::default();
        message.header.index = self.index(interface)?;
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.attributes =
            vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        if address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        Ok(message)
    }

    fn command(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.ask(message, flags | NLM_F_ACK).map(|_| ())
    }

    fn ask(
        &mut self,
        question: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).context("writing rtnetlink")?;

        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full().context("reading rtnetlink")?;
            for message in decode(&bytes)? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                    _ => {}
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The address that an address message is about. On a point-to-point link IFA_ADDRESS is the other end, so IFA_LOCAL
/// goes first; IPv6 has IFA_ADDRESS alone.
pub(crate) fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some((*address).into())
        }
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::from_slice(bytes),
        _ => None,
    });
    Some(Neighbour { address, mac, state: message.header.state })
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn decode(mut bytes: &[u8]) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
            .map_err(|error| anyhow!("{error}"))
            .context("decoding an rtnetlink message")?;
        // Each message is padded to four bytes (netlink(7), NLMSG_ALIGN).
        let length = (message.header.length as usize).next_multiple_of(4).min(bytes.len());
        if length == 0 {
            break;
        }
        bytes = &bytes[length..];
        messages.push(message);
    }
    Ok(messages)
}
