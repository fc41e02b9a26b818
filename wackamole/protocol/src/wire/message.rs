//! What daemons say to each other, before it becomes bytes.
//!
//! A datagram is a [`Header`] and one [`Body`]. Heartbeats, echoes and leaves are datagrams of their own; everything that
//! must arrive travels as [`Fragment`]s of a reliable link (`crate::link`). The encoding (postcard) and the
//! authentication are `super::codec`'s business. A change here is a new [`super::VERSION`].

use serde::{Deserialize, Serialize};

use super::echo::EchoOnWire;
use crate::id::{Incarnation, NodeId, ViewId};

/// Stands in front of every datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Who sent it.
    pub from: NodeId,
    /// Who it is for; [`NodeId::EVERYBODY`] for heartbeats and leaves.
    pub to: NodeId,
    /// Which start of the sender.
    pub incarnation: Incarnation,
    /// Grows by one with each datagram of this incarnation, whatever its addressee; the replay window counts on it.
    pub sequence: u64,
}

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Sent to every peer at the heartbeat interval, and at once when the sender's view of a link changes.
    Heartbeat(Heartbeat),
    /// Sent to one peer at once on receipt of its heartbeat: a lease that waits for the next heartbeat does not survive
    /// one loss at short settings (design: embedded engine, point 1).
    Echo(PeerEcho),
    /// The sender has released everything and is going.
    Leave(Leave),
    /// A piece of a reliable message.
    Fragment(Fragment),
    /// Which pieces have arrived.
    FragmentAck(FragmentAck),
}

/// The periodic message: who I am, which view I am in, whom I hear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The installed view, [`ViewId::NONE`] without one.
    pub view: ViewId,
    /// The highest ballot accepted by this incarnation.
    pub accepted: ViewId,
    /// The sender is in contact with somebody in another view, which should be one with its own and is not.
    pub beside: bool,
    /// The current heartbeat interval in microseconds, so that peers can show a differing configuration.
    pub interval_us: u32,
    /// One entry for each peer that was heard within the failure timeout or is in the sender's view.
    pub echoes: Vec<PeerEcho>,
}

/// What the sender heard last of one peer, and what it promises to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "EchoOnWire", try_from = "EchoOnWire")]
pub struct PeerEcho {
    /// Whom this is about.
    pub peer: NodeId,
    /// The incarnation that was heard.
    pub incarnation: Incarnation,
    /// The highest sequence number heard of it.
    pub sequence: u64,
    /// For how long after hearing that datagram the sender will not accept a view without the peer, in microseconds.
    /// Zero where nothing is promised: the sender's highest accepted view does not contain the peer, or the promise is
    /// frozen because the sender has refused a proposal and lets the debt run out (design: embedded engine, point 4).
    pub promise_us: u32,
    /// The peer was heard within the failure timeout.
    pub heard: bool,
    /// The peer is a member of the sender's installed view.
    pub in_view: bool,
}

/// A graceful departure, acted on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// The incarnation that has released all its addresses. The header's incarnation when the daemon itself says so;
    /// a guardian that speaks for a dead daemon names the daemon's.
    pub incarnation: Incarnation,
}

/// A piece of a reliable message on the link from the sender to one peer. The pieces of all messages of a stream are
/// numbered in one row; a message is what lies between two `last`s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// The addressee's incarnation; a restarted addressee ignores what was meant for its predecessor.
    pub peer_incarnation: Incarnation,
    /// The sender starts a new stream whenever it gives up undelivered messages; a higher one resets the receiver.
    pub stream: u64,
    /// Number of the piece within the stream, from zero.
    pub number: u64,
    /// The message ends with this piece.
    pub last: bool,
    /// The piece; at most [`super::FRAGMENT_BYTES_MAX`] bytes.
    pub bytes: Vec<u8>,
}

/// Acknowledges the pieces of one stream that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FragmentAck {
    /// The incarnation of the fragments' sender.
    pub peer_incarnation: Incarnation,
    /// The stream that is acknowledged.
    pub stream: u64,
    /// Every piece below this number has arrived, this one has not.
    pub next: u64,
    /// Bit `i` (the lowest is 0): piece `next + 1 + i` has arrived.
    pub ahead: u64,
}
