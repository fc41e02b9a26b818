//! Frames of one kind as they come in on any interface (packet(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{LinkAddr, recvfrom, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// A thousand answers may come while this thread waits for the processor.
const BUFFER_BYTES: usize = 2 << 20;
/// Neighbour discovery and ARP are far shorter; what is cut off of a longer one does not matter.
const FRAME_BYTES: usize = 1_514;

/// What comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Arp,
    Ipv6,
}

/// A packet socket. It is bound to no interface, so it need not follow as they come and go, and it is of one protocol, so
/// the kernel gives it nothing that this machine sends.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    buffer: Box<[u8; FRAME_BYTES]>,
}

impl Listener {
    pub(super) fn open(kind: Kind, filter: &[SockFilter]) -> io::Result<Self> {
        let protocol = match kind {
            Kind::Arp => libc::ETH_P_ARP,
            Kind::Ipv6 => libc::ETH_P_IPV6,
        };
        let protocol = i32::from((protocol as u16).to_be());
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(protocol)))?;
        socket.attach_filter(filter)?;
        socket.set_nonblocking(true)?;
        // Beyond the machine's limit only with CAP_NET_ADMIN in the initial user namespace; less does too.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES)?;
        }
        Ok(Self { socket, buffer: Box::new([0; FRAME_BYTES]) })
    }

    /// Replaces the filter. What came before may still be queued.
    pub(super) fn filter(&self, filter: &[SockFilter]) -> io::Result<()> {
        self.socket.attach_filter(filter)
    }

    /// The next frame with the index of its interface, if one is there.
    pub(super) fn next(&mut self) -> io::Result<Option<(u32, &[u8])>> {
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut self.buffer[..]) {
                Ok((length, Some(from))) if from.pkttype() != libc::PACKET_OUTGOING => {
                    let interface = u32::try_from(from.ifindex()).unwrap_or(0);
                    return Ok(Some((interface, &self.buffer[..length])));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
