//! Frames as they arrive at a machine, and as somebody forges them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{RcvBuf, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt,
    socket,
};
use nix::sys::time::TimeVal;

/// No frame that is waited for takes as long.
const LIMIT: Duration = Duration::from_secs(5);

/// Hears everything that arrives in the namespace of the thread that made it, from then on.
pub(crate) struct Capture(OwnedFd);

impl Capture {
    pub(crate) fn here() -> Self {
        let protocol = SockProtocol::EthAll;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, protocol).unwrap();
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(LIMIT.as_secs() as i64, 0)).unwrap();
        let _ = setsockopt(&socket, RcvBuf, &(4 << 20));
        Self(socket)
    }

    /// All frames up to the first that is `last`, which is included.
    pub(crate) fn until(&self, mut last: impl FnMut(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let mut buffer = [0; 2048];
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())
                .expect("the frame that is waited for arrives in time");
            let frame = buffer[..length].to_vec();
            let found = last(&frame);
            frames.push(frame);
            if found {
                return frames;
            }
        }
    }
}

/// Sends any frame on `eth0`.
pub(crate) struct Forger {
    socket: OwnedFd,
    interface: LinkAddr,
}

impl Forger {
    pub(crate) fn here() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap();
        let interface = getifaddrs()
            .unwrap()
            .filter(|interface| interface.interface_name == "eth0")
            .find_map(|interface| interface.address?.as_link_addr().copied());
        Self { socket, interface: interface.unwrap() }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        sendto(self.socket.as_raw_fd(), frame, &self.interface, MsgFlags::empty()).unwrap();
    }
}

/// An ARP packet in the order of its fields: operation, sender MAC and address, target MAC and address.
pub(crate) type Arp = (u16, [u8; 6], [u8; 4], [u8; 6], [u8; 4]);

/// Destination and content of an ARP frame.
pub(crate) fn arp(frame: &[u8]) -> Option<([u8; 6], Arp)> {
    if frame.get(12..20)? != [0x08, 0x06, 0, 1, 8, 0, 6, 4] {
        return None;
    }
    let mac = |at: usize| frame[at..].first_chunk().copied();
    let ip = |at: usize| frame[at..].first_chunk().copied();
    let operation = u16::from_be_bytes([frame[20], frame[21]]);
    Some((mac(0)?, (operation, mac(22)?, ip(28)?, mac(32)?, ip(38)?)))
}

/// Flags, hop limit and target of a neighbour advertisement.
pub(crate) fn advertisement(frame: &[u8]) -> Option<(u8, u8, [u8; 16])> {
    let icmp = frame.get(12..14)? == [0x86, 0xdd] && *frame.get(20)? == 58;
    let advertisement = icmp && *frame.get(54)? == 136;
    advertisement.then(|| Some((frame[58], frame[21], *frame[62..].first_chunk()?)))?
}
