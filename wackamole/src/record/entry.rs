//! What stands in a record, in order.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use wackamole_protocol::node::Destination;
use wackamole_protocol::vip::VipId;

use crate::driver::{Effect, Input};
use crate::env::{Action, AddressEvent, Lease};

/// An entry with its instant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Timed<'a> {
    /// Nanoseconds since the entry before, or since the start of the node.
    pub after: i64,
    /// What happened then.
    #[serde(borrow)]
    pub entry: Entry<'a>,
}

/// One thing that happened. First what the machines were told, then what they wanted done, which a replay compares, then
/// what is of use to whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry<'a> {
    /// A turn: what is due is done, the effects follow.
    Turn,
    /// A datagram has come.
    Datagram {
        /// From there.
        from: SocketAddr,
        /// Every byte of it.
        #[serde(borrow)]
        bytes: &'a [u8],
    },
    /// The worker has reported.
    Address(AddressEvent),
    /// The record of votes with this ticket is safe.
    Saved(u64),
    /// These of the addresses that must be reached answer.
    Reach(BTreeSet<IpAddr>),
    /// An operator declared this node to be the primary view.
    ForcePrimary,
    /// The daemon was asked to leave.
    Leave,

    /// The fences were told: until this many nanoseconds on the clock, or nothing is held.
    Renewed(Option<u64>),
    /// A datagram was sent.
    Sent {
        /// There; to the multicast group if there is no address.
        to: Option<SocketAddr>,
        /// So many bytes.
        length: u32,
        /// With this CRC-32.
        check: u32,
    },
    /// Work was handed to the worker.
    Submitted {
        /// Its ticket.
        ticket: u64,
        /// What it is.
        errand: Errand<'a>,
    },
    /// A record of votes was handed to the disk.
    Stored {
        /// Its ticket.
        ticket: u64,
        /// So many bytes.
        length: u32,
        /// With this CRC-32.
        check: u32,
    },
    /// The node said that something happened, in the words of Rust's `Debug`.
    Event(#[serde(borrow)] Cow<'a, str>),

    /// The network of this machine did not do what it should. The machines are not told.
    NetworkFault(#[serde(borrow)] Cow<'a, str>),
    /// The wall clock showed so many microseconds since 1970.
    WallClock(u64),
    /// The record ends here.
    End(End),
}

/// A piece of address work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the variants of `Action`, without the addresses of the VIP
pub enum Errand<'a> {
    CleanUp,
    Acquire(VipId),
    Release(VipId),
    Announce(VipId),
    Probe(VipId),
    FenceNode(#[serde(borrow)] Cow<'a, str>),
}

/// Why nothing follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The daemon has left the cluster.
    Left,
    /// The record has reached its greatest size, in bytes.
    Limit(u64),
    /// The disk could not keep up: so many bytes were waiting.
    TooSlow(u64),
    /// The disk refused.
    Refused(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("the daemon has left"),
            Self::Limit(bytes) => write!(f, "the record has reached its limit of {bytes} bytes"),
            Self::TooSlow(bytes) => {
                write!(f, "the disk could not keep up, {bytes} bytes were waiting")
            }
            Self::Refused(error) => write!(f, "the disk refused: {error}"),
        }
    }
}

impl<'a> Entry<'a> {
    /// An input, as it is recorded.
    pub(super) fn of_input(input: &Input<'a>) -> Self {
        match input {
            Input::Datagram { from, bytes } => Self::Datagram { from: *from, bytes },
            Input::Address(event) => Self::Address(event.clone()),
            Input::Saved(ticket) => Self::Saved(*ticket),
            Input::Reach(answering) => Self::Reach(answering.clone()),
            Input::ForcePrimary => Self::ForcePrimary,
            Input::Leave => Self::Leave,
        }
    }

    /// What the machines were told, if that is what it is.
    pub fn input(&self) -> Option<Input<'a>> {
        Some(match self {
            Self::Datagram { from, bytes } => Input::Datagram { from: *from, bytes },
            Self::Address(event) => Input::Address(event.clone()),
            Self::Saved(ticket) => Input::Saved(*ticket),
            Self::Reach(answering) => Input::Reach(answering.clone()),
            Self::ForcePrimary => Input::ForcePrimary,
            Self::Leave => Input::Leave,
            _ => return None,
        })
    }

    /// What the machines wanted done. A replay compares it.
    pub fn is_effect(&self) -> bool {
        matches!(
            self,
            Self::Renewed(_)
                | Self::Sent { .. }
                | Self::Submitted { .. }
                | Self::Stored { .. }
                | Self::Event(_)
        )
    }
}

impl<'a> From<&'a Effect> for Entry<'a> {
    fn from(effect: &'a Effect) -> Self {
        let nanos = |at: wackamole_protocol::time::Instant| {
            u64::try_from(at.since_origin().as_nanos()).unwrap_or(u64::MAX)
        };
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match effect {
            Effect::Renew(Lease::None) => Self::Renewed(None),
            Effect::Renew(Lease::Until(until)) => Self::Renewed(Some(nanos(*until))),
            Effect::Transmit { to, datagram } => Self::Sent {
                to: match to {
                    Destination::Peer(to) => Some(*to),
                    Destination::Group => None,
                },
                length: length(datagram),
                check: crc32fast::hash(datagram),
            },
            Effect::Submit(work) => Self::Submitted {
                ticket: work.ticket,
                errand: match &work.action {
                    Action::CleanUp => Errand::CleanUp,
                    Action::Acquire(vip) => Errand::Acquire(vip.id()),
                    Action::Release(vip) => Errand::Release(vip.id()),
                    Action::Announce(vip) => Errand::Announce(vip.id()),
                    Action::Probe(vip) => Errand::Probe(vip.id()),
                    Action::FenceNode(name) => Errand::FenceNode(name.into()),
                },
            },
            Effect::Save { ticket, record } => Self::Stored {
                ticket: *ticket,
                length: length(record),
                check: crc32fast::hash(record),
            },
            Effect::Event(event) => Self::Event(format!("{event:?}").into()),
        }
    }
}
