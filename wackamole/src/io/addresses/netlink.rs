//! The two rtnetlink sockets (rtnetlink(7)): one asks, the other listens.
//!
//! Of what the kernel says only the attributes that are used are decoded, so that a change in any other cannot disturb.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    DoneBuffer, ErrorBuffer, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL,
    NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlasIterator, parse_string, parse_u32,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::MARK;
use super::mirror::{AddressState, KernelAddress, Link, Notice};
use crate::io::ethernet::MacAddress;

/// The kernel sends at most 32 KiB at a time while it dumps, and far less otherwise.
const DATAGRAM_BYTES: usize = 64 << 10;

/// So many answers surely fit into the default receive buffer; a change is sent only while they do.
pub(super) const CHANGES_AT_ONCE: usize = 64;

/// An interrupted dump is read again, but not for ever.
const DUMP_ATTEMPTS: usize = 10;

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// To live for so many seconds, or for ever.
    Add(KernelAddress, Option<u32>),
    /// What is there lives for so many seconds from now. (The kernel adds what is not there.)
    Renew(KernelAddress, Option<u32>),
    Remove(KernelAddress),
}

/// The socket that asks. The kernel does the work inside the call that sends.
#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_cap_ack(true)?;
        // Answers are there when the request has been sent: to wait means that one was lost.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM_BYTES) })
    }

    /// Makes the changes in their order and returns what the kernel said to each. A change that fails does not keep
    /// the later ones from being made.
    ///
    /// An error means that it is not known what has been done.
    pub(super) fn apply(&mut self, changes: &[Change]) -> io::Result<Vec<Result<(), Errno>>> {
        let mut answers = Vec::with_capacity(changes.len());
        for some in changes.chunks(CHANGES_AT_ONCE) {
            self.apply_at_once(some, &mut answers)?;
        }
        Ok(answers)
    }

    fn apply_at_once(
        &mut self,
        changes: &[Change],
        answers: &mut Vec<Result<(), Errno>>,
    ) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut request = Vec::new();
        for &change in changes {
            let (payload, flags) = match change {
                Change::Add(key, seconds) => {
                    let message = to_add(key, seconds);
                    (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
                }
                Change::Renew(key, seconds) => {
                    (RouteNetlinkMessage::NewAddress(to_add(key, seconds)), NLM_F_REPLACE)
                }
                Change::Remove(key) => (RouteNetlinkMessage::DelAddress(to_remove(key)), 0),
            };
            self.append(&mut request, payload, NLM_F_REQUEST | NLM_F_ACK | flags);
        }
        self.send(&request)?;
        let mut missing = changes.len();
        let start = answers.len();
        answers.resize(start + changes.len(), Ok(()));
        while missing > 0 {
            self.receive()?;
            for message in messages(&self.buffer) {
                let number = message.sequence_number().wrapping_sub(first) as usize;
                if message.message_type() == NLMSG_ERROR && number < changes.len() {
                    answers[start + number] = answer(&message)?;
                    missing -= 1;
                }
            }
        }
        Ok(())
    }

    /// Reads all links.
    pub(super) fn dump_links(&mut self) -> io::Result<Vec<Notice>> {
        let mut notices = Vec::new();
        let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump_into(links, &mut notices)?;
        Ok(notices)
    }

    /// Reads all links and addresses.
    pub(super) fn dump(&mut self) -> io::Result<Vec<Notice>> {
        let mut notices = self.dump_links()?;
        let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump_into(addresses, &mut notices)?;
        Ok(notices)
    }

    fn dump_into(
        &mut self,
        question: RouteNetlinkMessage,
        notices: &mut Vec<Notice>,
    ) -> io::Result<()> {
        for _ in 0..DUMP_ATTEMPTS {
            let kept = notices.len();
            let mut request = Vec::new();
            self.append(&mut request, question.clone(), NLM_F_REQUEST | NLM_F_DUMP);
            self.send(&request)?;
            if self.receive_dump(notices)? {
                return Ok(());
            }
            notices.truncate(kept);
        }
        Err(io::Error::other("the kernel's tables changed each time they were read"))
    }

    /// Whether the dump is consistent.
    fn receive_dump(&mut self, notices: &mut Vec<Notice>) -> io::Result<bool> {
        let mut consistent = true;
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                if message.sequence_number() != self.sequence {
                    continue;
                }
                consistent &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE => {
                        let done = DoneBuffer::new_checked(message.payload());
                        let code = done.map_or(0, |done| done.code());
                        return if code < 0 { Err(from_code(code)) } else { Ok(consistent) };
                    }
                    NLMSG_ERROR => answer(&message)?.map_err(io::Error::from)?,
                    _ => notices.extend(notice(&message)),
                }
            }
        }
    }

    fn append(&mut self, request: &mut Vec<u8>, payload: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
        message.finalize();
        let start = request.len();
        request.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut request[start..]);
    }

    fn send(&self, request: &[u8]) -> io::Result<()> {
        let kernel = SocketAddr::new(0, 0);
        let sent = self.socket.send_to(request, &kernel, 0)?;
        if sent == request.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn receive(&mut self) -> io::Result<()> {
        receive(&self.socket, &mut self.buffer)
    }
}

/// What the listening socket has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Notices(Vec<Notice>),
    /// Some were lost, and what is queued is older.
    Overrun,
    Nothing,
}

/// The socket that listens. It never waits.
#[derive(Debug)]
pub(super) struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Listens to changes of links and addresses.
    pub(super) fn open(buffer_bytes: usize) -> io::Result<Self> {
        let addresses = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        Self::of_groups(libc::RTMGRP_LINK | addresses, buffer_bytes)
    }

    /// Listens to changes of links only.
    pub(super) fn of_links(buffer_bytes: usize) -> io::Result<Self> {
        Self::of_groups(libc::RTMGRP_LINK, buffer_bytes)
    }

    fn of_groups(groups: i32, buffer_bytes: usize) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // Beyond the machine's limit only with CAP_NET_ADMIN in the initial user namespace; less does too.
        if setsockopt(&socket, sockopt::RcvBufForce, &buffer_bytes).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &buffer_bytes)?;
        }
        socket.bind(&SocketAddr::new(0, groups as u32))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM_BYTES) })
    }

    pub(super) fn next(&mut self) -> io::Result<Heard> {
        match receive(&self.socket, &mut self.buffer) {
            Ok(()) => {
                Ok(Heard::Notices(messages(&self.buffer).filter_map(|m| notice(&m)).collect()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Heard::Overrun),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One datagram from the kernel; what other processes send is skipped.
pub(super) fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    loop {
        buffer.clear();
        match socket.recv_from(buffer, 0) {
            Ok((_, from)) if from.port_number() == 0 => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The messages of a datagram.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = (message.length() as usize).next_multiple_of(4).min(rest.len());
        rest = &rest[length..];
        Some(message)
    })
}

fn answer(message: &NetlinkBuffer<&[u8]>) -> io::Result<Result<(), Errno>> {
    let error = ErrorBuffer::new_checked(message.payload()).map_err(io::Error::other)?;
    Ok(match error.code() {
        None => Ok(()),
        Some(code) => Err(Errno::from_raw(code.get().saturating_neg())),
    })
}

fn from_code(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.saturating_neg())
}

fn to_add(key: KernelAddress, seconds: Option<u32>) -> AddressMessage {
    let mut message = to_remove(key);
    let mut flags = AddressFlags::Noprefixroute;
    if key.address.is_ipv6() {
        // Whoever asks for an acquire knows that nobody else has the address; the kernel's check takes 1.9 s.
        flags |= AddressFlags::Nodad;
    }
    message.attributes.push(AddressAttribute::Flags(flags));
    message.attributes.push(AddressAttribute::Protocol(MARK.into()));
    if let Some(seconds) = seconds {
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = seconds;
        // Preferred to the end: a deprecated address would be none to answer from in a new connection.
        lifetime.ifa_preferred = seconds;
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    }
    message
}

fn to_remove(key: KernelAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match key.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = key.prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = key.interface;
    message.attributes.push(AddressAttribute::Local(key.address));
    message.attributes.push(AddressAttribute::Address(key.address));
    message
}

/// Decodes a notification or a part of a dump; nothing if it does not concern us.
fn notice(message: &NetlinkBuffer<&[u8]>) -> Option<Notice> {
    let payload = message.payload();
    match message.message_type() {
        libc::RTM_NEWADDR => address(payload).map(|(key, state)| Notice::Address(key, state)),
        libc::RTM_DELADDR => address(payload).map(|(key, _)| Notice::AddressGone(key)),
        libc::RTM_NEWLINK => link(payload).map(|(index, link)| Notice::Link(index, link)),
        libc::RTM_DELLINK => link(payload).map(|(index, _)| Notice::LinkGone(index)),
        _ => None,
    }
}

/// Attributes of a message whose fixed part is `header` bytes long.
pub(super) fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let attributes = payload.get(header..).unwrap_or_default();
    NlasIterator::new(attributes).map_while(Result::ok).map(|nla| {
        let value = nla.into_inner();
        let length = usize::from(u16::from_ne_bytes([value[0], value[1]]));
        let kind = u16::from_ne_bytes([value[2], value[3]]) & 0x3fff;
        (kind, &value[4..length])
    })
}

/// struct ifaddrmsg: family, prefix length, flags, scope (one byte each), interface index.
fn address(payload: &[u8]) -> Option<(KernelAddress, AddressState)> {
    let &[family, prefix, flags, _scope, a, b, c, d] = payload.first_chunk::<8>()?;
    let interface = u32::from_ne_bytes([a, b, c, d]);
    let mut flags = u32::from(flags);
    let (mut local, mut address, mut mark) = (None, None, None);
    for (kind, value) in attributes(payload, 8) {
        match kind {
            libc::IFA_LOCAL => local = ip(family, value),
            libc::IFA_ADDRESS => address = ip(family, value),
            libc::IFA_FLAGS => flags = parse_u32(value).ok()?,
            IFA_PROTO => mark = value.first().copied().filter(|&mark| mark != 0),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other end; under IPv6 it may stand alone.
    let address = local.or(address)?;
    let duplicate = flags & libc::IFA_F_DADFAILED != 0;
    let tentative = flags & libc::IFA_F_TENTATIVE != 0 && flags & libc::IFA_F_OPTIMISTIC == 0;
    let state = AddressState {
        mark,
        no_prefix_route: flags & libc::IFA_F_NOPREFIXROUTE != 0,
        duplicate,
        unusable: duplicate || tentative,
    };
    Some((KernelAddress { address, prefix, interface }, state))
}

/// Since Linux 5.18; not in every libc's headers.
const IFA_PROTO: u16 = 11;

pub(super) fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(IpAddr::from(*value.first_chunk::<4>()?)),
        libc::AF_INET6 => Some(IpAddr::from(*value.first_chunk::<16>()?)),
        _ => None,
    }
}

/// struct ifinfomsg: family, padding, type (two bytes), index, flags, change mask.
fn link(payload: &[u8]) -> Option<(u32, Link)> {
    let &[family, _, kind_a, kind_b, a, b, c, d, e, f, g, h] = payload.first_chunk::<12>()?;
    if i32::from(family) != libc::AF_UNSPEC {
        return None; // a bridge speaks of its ports in the same messages
    }
    let kind = u16::from_ne_bytes([kind_a, kind_b]);
    let flags = u32::from_ne_bytes([e, f, g, h]);
    let (mut name, mut hardware) = (None, None);
    for (attribute, value) in attributes(payload, 16) {
        match attribute {
            libc::IFLA_IFNAME => name = parse_string(value).ok(),
            libc::IFLA_ADDRESS => hardware = value.first_chunk::<6>().copied(),
            _ => {}
        }
    }
    let set = |flag: i32| flags & flag as u32 != 0;
    let link = Link {
        name: name?,
        up: set(libc::IFF_UP),
        running: set(libc::IFF_RUNNING),
        loopback: set(libc::IFF_LOOPBACK),
        no_arp: set(libc::IFF_NOARP) || set(libc::IFF_LOOPBACK) || set(libc::IFF_POINTOPOINT),
        mac: hardware.filter(|_| kind == libc::ARPHRD_ETHER).map(MacAddress),
    };
    Some((u32::from_ne_bytes([a, b, c, d]), link))
}
