//! Reading frames as they arrive at a machine, and asking a segment who answers for an address.

use std::collections::BTreeSet;
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::frame::{self, Seen};
use crate::host::Host;
use crate::mac::Mac;
use crate::time::Moment;

/// Receives the frames of one EtherType that arrive on any interface of a machine (packet(7)).
pub struct Capture {
    socket: Socket,
    /// Room for the kernel's time stamp.
    control: Vec<u8>,
}

impl Capture {
    /// Starts listening on `host`.
    ///
    /// # Errors
    /// The kernel refuses packet sockets.
    pub fn start(host: &Host, ethertype: u16) -> Result<Self> {
        let socket = host
            .run(move || {
                let protocol = Protocol::from(i32::from(ethertype.to_be()));
                let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
                // Room for the answers that come in while the reader is not scheduled; the kernel may grant less.
                socket.set_recv_buffer_size(4 << 20)?;
                setsockopt(&socket, ReceiveTimestampns, &true)?;
                socket.set_nonblocking(true)?;
                std::io::Result::Ok(socket)
            })
            .with_context(|| format!("opening a packet socket on {}", host.name()))?;
        Ok(Self { socket, control: cmsg_space!(TimeSpec) })
    }

    /// The next frame of interest that has arrived, if any, and when the kernel had it: a reader that is not scheduled
    /// for a while must not take that for a slow answer.
    ///
    /// # Errors
    /// The interface went away, or the kernel refuses.
    pub fn arrived(&mut self) -> Result<Option<(Moment, Seen)>> {
        let mut buffer = [0; 256];
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let descriptor = self.socket.as_raw_fd();
            let (space, flags) = (Some(self.control.as_mut_slice()), MsgFlags::empty());
            let (length, stamp) = match recvmsg::<()>(descriptor, &mut parts, space, flags) {
                Ok(message) => (message.bytes, message.cmsgs()?.find_map(stamp)),
                Err(Errno::EAGAIN) => return Ok(None),
                // The interface was switched off; when it comes back, so do frames.
                Err(Errno::ENETDOWN) => continue,
                Err(error) => return Err(error).context("reading a packet socket"),
            };
            if let Some(seen) = frame::read(&buffer[..length.min(buffer.len())]) {
                return Ok(Some((stamp.map_or_else(Moment::now, Moment::at_wall_time), seen)));
            }
        }
    }
}

fn stamp(message: ControlMessageOwned) -> Option<TimeSpec> {
    match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(time),
        _ => None,
    }
}

impl std::os::fd::AsFd for Capture {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A raw socket that sends echo requests.
pub(crate) struct EchoSender {
    ipv4: Socket,
    ipv6: Socket,
}

impl EchoSender {
    pub(crate) fn open(host: &Host) -> Result<Self> {
        let open = |domain, protocol| {
            let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
            socket.set_nonblocking(true)?;
            // Answers are read from packet sockets, which show the sender's hardware address as well.
            socket.set_recv_buffer_size(1)?;
            std::io::Result::Ok(socket)
        };
        let (ipv4, ipv6) = host.run(move || {
            (open(Domain::IPV4, Protocol::ICMPV4), open(Domain::IPV6, Protocol::ICMPV6))
        });
        let name = host.name();
        Ok(Self {
            ipv4: ipv4.with_context(|| format!("opening a raw ICMP socket on {name}"))?,
            ipv6: ipv6.with_context(|| format!("opening a raw ICMPv6 socket on {name}"))?,
        })
    }

    /// Sends a request. A local fault is a lost request: whoever waits for the answer notices.
    pub(crate) fn send(&self, to: IpAddr, identifier: u16, sequence: u64) {
        let socket = if to.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
        let destination = SockAddr::from(std::net::SocketAddr::new(to, 0));
        let _ = socket.send_to(&frame::echo_request(to, identifier, sequence), &destination);
    }
}

/// Asks the whole segment of `interface` who has `address`, and collects everybody that answers within `window`. Asks
/// again, some times, if nobody does.
///
/// The kernel itself asks, by broadcast or multicast, because its cache has been told to forget the address.
///
/// # Errors
/// The kernel refuses packet or raw sockets.
pub fn who_answers(
    host: &Host,
    interface: &str,
    address: IpAddr,
    window: Duration,
) -> Result<BTreeSet<Mac>> {
    const ATTEMPTS: usize = 10;
    let ethertype = if address.is_ipv4() { frame::ARP } else { frame::IPV6 };
    let mut capture = Capture::start(host, ethertype)?;
    let sender = EchoSender::open(host)?;
    let mut answers = BTreeSet::new();
    for _ in 0..ATTEMPTS {
        // An address that was never asked about has no entry.
        let _ = host.netlink(|netlink| netlink.forget_neighbour(interface, address));
        sender.send(address, 0, 0);
        let asked = Moment::now();
        while asked.elapsed() < window {
            match capture.arrived()? {
                Some((_, Seen::Claim { mac, address: claimed, .. })) if claimed == address => {
                    answers.insert(mac);
                }
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        if !answers.is_empty() {
            break;
        }
    }
    Ok(answers)
}
