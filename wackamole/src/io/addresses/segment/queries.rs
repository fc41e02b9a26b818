//! What the watcher asks the kernel (rtnetlink(7)): counters of an interface, the way to an address. Both answer at once.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::super::netlink::{attributes, ip, messages, receive};
use super::questions::Route;

// linux/rtnetlink.h and linux/if_link.h; since Linux 4.7, not in every libc's headers.
const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;
const IFLA_STATS_LINK_64: u16 = 1;

const HEADER_BYTES: usize = 16;

/// The socket that asks.
#[derive(Debug)]
pub(super) struct Queries {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Queries {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // Answers are there when the request has been sent.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(8 << 10) })
    }

    /// How many frames an interface has received; nothing if there is no such interface or the kernel does not say.
    pub(super) fn frames_received(&mut self, interface: u32) -> Option<u64> {
        // struct if_stats_msg: family, padding (three bytes), interface index, filter.
        let mut request = [0; 12];
        request[4..8].copy_from_slice(&interface.to_ne_bytes());
        request[8..12].copy_from_slice(&(1u32 << (IFLA_STATS_LINK_64 - 1)).to_ne_bytes());
        self.ask(RTM_GETSTATS, RTM_NEWSTATS, &request, |answer| {
            // struct rtnl_link_stats64 begins with the frames received.
            let (_, counters) = attributes(answer, 12).find(|a| a.0 == IFLA_STATS_LINK_64)?;
            Some(u64::from_ne_bytes(*counters.first_chunk()?))
        })
    }

    /// How the kernel would reach an address; nothing if it would not, or is there.
    pub(super) fn route(&mut self, to: IpAddr) -> Option<Route> {
        // struct rtmsg: family, prefix length, and more that is zero in a question.
        let mut request = [0; 12].to_vec();
        let mut destination = |family: i32, address: &[u8]| {
            request[0] = family as u8;
            request[1] = address.len() as u8 * 8;
            request.extend((address.len() as u16 + 4).to_ne_bytes());
            request.extend(libc::RTA_DST.to_ne_bytes());
            request.extend(address);
        };
        match to {
            IpAddr::V4(v4) => destination(libc::AF_INET, &v4.octets()),
            IpAddr::V6(v6) => destination(libc::AF_INET6, &v6.octets()),
        }
        self.ask(libc::RTM_GETROUTE, libc::RTM_NEWROUTE, &request, |answer| {
            let &[family, _, _, _, _, _, _, kind] = answer.first_chunk::<8>()?;
            if kind != libc::RTN_UNICAST {
                return None;
            }
            let (mut interface, mut gateway, mut source) = (None, None, None);
            for (kind, value) in attributes(answer, 12) {
                match kind {
                    libc::RTA_OIF => interface = value.first_chunk().copied(),
                    libc::RTA_GATEWAY => gateway = ip(family, value),
                    // A gateway of the other family: family (two bytes), address.
                    libc::RTA_VIA => {
                        let family = u16::from_ne_bytes(*value.first_chunk()?);
                        gateway = ip(family as u8, &value[2..]);
                    }
                    libc::RTA_PREFSRC => source = ip(family, value),
                    _ => {}
                }
            }
            Some(Route { interface: u32::from_ne_bytes(interface?), gateway, source })
        })
    }

    fn ask<T>(
        &mut self,
        question: u16,
        expected: u16,
        body: &[u8],
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<T> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Vec::with_capacity(HEADER_BYTES + body.len());
        request.extend((HEADER_BYTES as u32 + body.len() as u32).to_ne_bytes());
        request.extend(question.to_ne_bytes());
        request.extend(NLM_F_REQUEST.to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend(0u32.to_ne_bytes()); // the kernel fills in who asks
        request.extend(body);
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0).ok()?;
        loop {
            // Nothing in time, or the answer was lost: it is asked again soon.
            receive(&self.socket, &mut self.buffer).ok()?;
            for message in messages(&self.buffer) {
                if message.sequence_number() != self.sequence {
                    continue;
                }
                return match message.message_type() {
                    NLMSG_ERROR => None,
                    kind if kind == expected => read(message.payload()),
                    _ => None,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_counts_what_it_receives() {
        let mut queries = Queries::open().unwrap();
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        let before = queries.frames_received(loopback).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"hello", socket.local_addr().unwrap()).unwrap();
        assert!(queries.frames_received(loopback).unwrap() > before);
        assert_eq!(queries.frames_received(u32::MAX >> 1), None, "no such interface");
    }

    #[test]
    fn there_is_no_way_to_this_machine_itself() {
        let mut queries = Queries::open().unwrap();
        assert_eq!(queries.route("127.0.0.1".parse().unwrap()), None);
        assert_eq!(queries.route("::1".parse().unwrap()), None);
    }
}
