//! Membership in the solicited-node groups of IPv6 addresses that are probed.
//!
//! A probe for an address goes to that group, so whoever wants to hear somebody else's must be in it (RFC 4862 §5.4.2): by
//! the kernel's own means, so that the device's filter lets the group through and switches with MLD snooping do. It costs
//! a place in that filter and an MLD report for each group, and the kernel may take a moment for each, so they are
//! joined one at a time, while there is nothing else to do, and left when the probes are over.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Ipv6Addr;

use socket2::{Domain, Protocol, Socket, Type};
use wackamole_protocol::time::Instant;

/// Interface and group.
type Membership = (u32, Ipv6Addr);

/// The memberships, as many sockets as they need: the kernel allows some hundred on each.
#[derive(Debug, Default)]
pub(super) struct Groups {
    sockets: Vec<Socket>,
    /// Until when each is wanted, and the socket that is in it.
    wanted: BTreeMap<Membership, (Instant, Option<usize>)>,
    to_join: VecDeque<Membership>,
    to_leave: BTreeMap<Membership, usize>,
    /// When the first may have to be left.
    expires: Option<Instant>,
}

impl Groups {
    /// Wants to be in a group for a while.
    pub(super) fn want(&mut self, interface: u32, group: Ipv6Addr, until: Instant) {
        let membership = (interface, group);
        if let Some((wanted, _)) = self.wanted.get_mut(&membership) {
            *wanted = until.max(*wanted);
        } else if let Some(socket) = self.to_leave.remove(&membership) {
            self.wanted.insert(membership, (until, Some(socket)));
        } else {
            self.wanted.insert(membership, (until, None));
            self.to_join.push_back(membership);
        }
        self.expires = Some(self.expires.map_or(until, |expires| expires.min(until)));
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Instant {
        if self.to_join.is_empty() && self.to_leave.is_empty() {
            self.expires.unwrap_or(Instant::FAR_FUTURE)
        } else {
            Instant::ORIGIN
        }
    }

    /// Joins or leaves one group.
    pub(super) fn step(&mut self, now: Instant) {
        if self.expires.is_some_and(|expires| expires <= now) {
            self.expire(now);
        }
        if let Some(membership) = self.to_join.pop_front() {
            match self.join(membership) {
                Ok(socket) => {
                    if let Some((_, joined)) = self.wanted.get_mut(&membership) {
                        *joined = Some(socket);
                    }
                }
                Err(error) => {
                    let group = membership.1;
                    tracing::debug!(%error, %group, "cannot hear who else probes");
                    self.wanted.remove(&membership);
                }
            }
        } else if let Some(((interface, group), socket)) = self.to_leave.pop_first() {
            // The interface may have gone, and the membership with it.
            let _ = self.sockets[socket].leave_multicast_v6(&group, interface);
        }
    }

    fn expire(&mut self, now: Instant) {
        let (over, wanted) = std::mem::take(&mut self.wanted)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, (until, _))| *until <= now);
        self.wanted = wanted;
        self.to_join.retain(|membership| self.wanted.contains_key(membership));
        let left =
            over.into_iter().filter_map(|(membership, (_, socket))| Some((membership, socket?)));
        self.to_leave.extend(left);
        self.expires = self.wanted.values().map(|&(until, _)| until).min();
    }

    /// Joins with the first socket that has room.
    fn join(&mut self, (interface, group): Membership) -> io::Result<usize> {
        // All but the newest are full, or were; what they left is not worth the search.
        if let Some(newest) = self.sockets.last() {
            match newest.join_multicast_v6(&group, interface) {
                Ok(()) => return Ok(self.sockets.len() - 1),
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let fresh = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        fresh.join_multicast_v6(&group, interface)?;
        self.sockets.push(fresh);
        Ok(self.sockets.len() - 1)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ENOBUFS | nix::libc::ENOMEM))
}
