//! A client on the other end of the cable: asks for an address in every way there is, and says whether it is answered.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt,
    socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::capture::{advertisement, arp};
use crate::kernel::{Kernel, sysctl};

/// An answer that takes longer will not come.
const PATIENCE_MS: i64 = 60;

pub(crate) const IPV4: &str = "10.0.254.1";
pub(crate) const IPV6: &str = "fd00::200";

/// In the namespace of the thread that made it, on its `eth0`.
pub(crate) struct Client {
    frames: OwnedFd,
    interface: LinkAddr,
    mac: [u8; 6],
}

impl Client {
    pub(crate) fn here() -> Self {
        let kernel = Kernel::here();
        kernel.add_address("eth0", &format!("{IPV4}/16"));
        kernel.add_address("eth0", &format!("{IPV6}/64"));
        let flags = SockFlag::SOCK_CLOEXEC;
        let frames =
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        setsockopt(&frames, ReceiveTimeout, &TimeVal::milliseconds(PATIENCE_MS)).unwrap();
        let interface = getifaddrs()
            .unwrap()
            .filter(|interface| interface.interface_name == "eth0")
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .unwrap();
        Self { frames, interface, mac: kernel.mac("eth0") }
    }

    /// By what of neighbour discovery, and datagrams sent to `mac`, `address` is answered: `"discovery datagrams"` if by
    /// both, `""` if by neither.
    pub(crate) fn answers(&self, address: &str, mac: [u8; 6]) -> String {
        let address: IpAddr = address.parse().unwrap();
        let discovery = match address {
            IpAddr::V4(v4) => self.answers_arp(v4),
            IpAddr::V6(v6) => self.answers_solicitation(v6),
        };
        // The cache is made to know it, whatever discovery has said.
        Kernel::here().set_permanent_neighbour("eth0", &address.to_string(), mac);
        let datagrams = Stream::to(address).answers();
        let names = [(discovery, "discovery"), (datagrams, "datagrams")];
        names.iter().filter(|(yes, _)| *yes).map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    }

    fn answers_arp(&self, address: Ipv4Addr) -> bool {
        let own: Ipv4Addr = IPV4.parse().unwrap();
        let mut request = [[0xff; 6], self.mac].concat();
        request.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        request.extend(self.mac);
        request.extend(own.octets());
        request.extend([0; 6]);
        request.extend(address.octets());
        self.ask(&request, |frame| {
            matches!(arp(frame), Some((_, (2, _, sender, ..))) if sender == address.octets())
        })
    }

    /// RFC 4861 §4.3, to the solicited-node group, with our hardware address.
    fn answers_solicitation(&self, address: Ipv6Addr) -> bool {
        let own: Ipv6Addr = IPV6.parse().unwrap();
        let target = address.octets();
        let group =
            [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, target[13], target[14], target[15]];
        let mut icmp = vec![135, 0, 0, 0, 0, 0, 0, 0];
        icmp.extend(target);
        icmp.extend([1, 1]);
        icmp.extend(self.mac);
        let length = icmp.len() as u8;
        let pseudo = [&own.octets()[..], &group, &[0, 0, 0, length, 0, 0, 0, 58], &icmp].concat();
        let sum: u32 = pseudo.chunks(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
        icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
        let mut frame = vec![0x33, 0x33, 0xff, target[13], target[14], target[15]];
        frame.extend(self.mac);
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 58, 255]);
        frame.extend(own.octets());
        frame.extend(group);
        frame.extend(icmp);
        self.ask(
            &frame,
            |frame| matches!(advertisement(frame), Some((.., advertised)) if advertised == target),
        )
    }

    fn ask(&self, frame: &[u8], is_answer: impl Fn(&[u8]) -> bool) -> bool {
        let mut buffer = [0; 2048];
        // What came in before is no answer.
        while recv(self.frames.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
        sendto(self.frames.as_raw_fd(), frame, &self.interface, MsgFlags::empty()).unwrap();
        while let Ok(length) = recv(self.frames.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            if is_answer(&buffer[..length]) {
                return true;
            }
        }
        false
    }
}

/// Datagrams to a port where nobody listens: each is answered by ICMP.
pub(crate) struct Stream(UdpSocket);

impl Stream {
    pub(crate) fn to(address: IpAddr) -> Self {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(SocketAddr::new(address, 9)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS as u64))).unwrap();
        Self(socket)
    }

    /// Whether one datagram is answered.
    pub(crate) fn answers(&self) -> bool {
        match self.0.send(b"?").and_then(|_| self.0.recv(&mut [0; 8])) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            other => panic!("neither an answer nor none: {other:?}"),
        }
    }
}

/// The kernel answers as many datagrams as there are, in the namespace of this thread.
pub(crate) fn answer_every_datagram() {
    sysctl("ipv4/icmp_ratelimit", "0");
    sysctl("ipv4/icmp_msgs_per_sec", "1000000");
    sysctl("ipv4/icmp_msgs_burst", "1000000");
    sysctl("ipv6/icmp/ratelimit", "0");
}
