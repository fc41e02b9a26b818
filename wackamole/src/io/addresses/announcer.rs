//! Whole Ethernet frames on any interface, through one packet socket (packet(7)).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

/// Why a frame was not sent.
#[derive(Debug)]
pub(super) enum SendError {
    /// The device takes no more just now; try again in a moment.
    Busy,
    /// Anything else.
    Failed(io::Error),
}

/// The packet socket. It has no protocol, so it receives nothing.
#[derive(Debug)]
pub(super) struct Announcer {
    socket: OwnedFd,
    /// The packet-level names of interfaces, by index. getifaddrs(3) is the only safe way to make one; of its content
    /// only the index counts here, so it stays valid as long as the interface exists.
    interfaces: BTreeMap<usize, LinkAddr>,
}

impl Announcer {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        Ok(Self { socket, interfaces: BTreeMap::new() })
    }

    /// Sends a frame, without waiting.
    pub(super) fn send(&mut self, interface: u32, frame: &[u8]) -> Result<(), SendError> {
        let to = self.interface(interface).map_err(SendError::Failed)?;
        loop {
            match sendto(self.socket.as_raw_fd(), frame, &to, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return Err(SendError::Busy),
                Err(error) => return Err(SendError::Failed(error.into())),
            }
        }
    }

    /// Gets ready to send on an interface, which takes longer the more addresses the machine has.
    pub(super) fn prepare(&mut self, index: u32) {
        // If it cannot be named now it is looked up again when it is needed.
        let _ = self.interface(index);
    }

    fn interface(&mut self, index: u32) -> io::Result<LinkAddr> {
        let index = index as usize;
        if !self.interfaces.contains_key(&index) {
            self.interfaces = getifaddrs()?
                .filter_map(|interface| interface.address?.as_link_addr().copied())
                .map(|address| (address.ifindex(), address))
                .collect();
        }
        self.interfaces.get(&index).copied().ok_or_else(|| Errno::ENODEV.into())
    }
}
