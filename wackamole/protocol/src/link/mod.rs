//! A reliable link to one peer: messages of any length arrive whole, in order, each once, or the stream ends.
//!
//! Messages are cut into fragments that are numbered in one row for each *stream*; the peer acknowledges them selectively,
//! what is missing is sent again, first when later ones have overtaken it, then after a time that doubles. A stream ends
//! when its sender gives the peer up ([`Link::reset`]) or one of the two restarts; what was under way is dropped and the next
//! stream has a higher number. `docs/protocol.md`, section "Reliable messages", is the normative description.
//!
//! The link knows nothing of views and never decides that a peer is gone. What it keeps is bounded on both sides, whatever the
//! peer sends. After each `handle_*` or [`Link::send`], drain [`Link::poll_message`] and [`Link::poll_transmit`], then
//! wait for [`Link::poll_timeout`].

mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use receiver::Receiver;
pub use sender::SendError;
use sender::Sender;

use crate::id::Incarnation;
use crate::time::{Duration, Instant};
use crate::wire::message::{Body, Fragment, FragmentAck};

/// How many fragments may be under way at once; the acknowledgement has a bit for each.
const WINDOW: u64 = 64;

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Pause before a fragment is sent again for the first time; doubles up to eightfold. Longer than a usual round trip, or
    /// much is sent twice: a quarter of a heartbeat, at least 3 ms.
    pub retransmit: Duration,
    /// Most bytes of a message in one fragment; taken as no more than [`crate::wire::FRAGMENT_BYTES_MAX`].
    pub fragment_bytes: usize,
    /// Most bytes of messages that wait to be acknowledged. A single message may exceed it when nothing else waits.
    pub queue_bytes_max: usize,
}

/// Our end of the reliable link to one peer. Keep it as long as the process lives, through all restarts of the peer: a new
/// one would begin with a stream number that the peer has seen.
#[derive(Debug)]
pub struct Link {
    me: Incarnation,
    peer: Option<Incarnation>,
    sender: Sender,
    receiver: Receiver,
}

impl Link {
    /// The link of our incarnation `me` to a peer that was not heard yet.
    pub fn new(me: Incarnation, config: LinkConfig) -> Self {
        Self { me, peer: None, sender: Sender::new(config), receiver: Receiver::default() }
    }

    /// The peer is heard for the first time, has restarted, or was given up: drops what is queued for it and starts a new
    /// stream. What the peer is sending to us goes on, unless its incarnation is another than before.
    pub fn reset(&mut self, peer: Incarnation) {
        if self.peer != Some(peer) {
            self.receiver = Receiver::default();
        }
        self.peer = Some(peer);
        self.sender.reset();
    }

    /// Queues a message; its first fragments are ready to be transmitted at once, as far as the window is open.
    ///
    /// # Errors
    /// See [`SendError`]. Nothing of the message is queued then.
    pub fn send(&mut self, message: &[u8], now: Instant) -> Result<(), SendError> {
        if self.peer.is_none() {
            return Err(SendError::UnknownPeer);
        }
        self.sender.send(message, now)
    }

    /// Takes a fragment that came in a datagram of the peer's incarnation `from`. Ignored unless it is from the incarnation
    /// named to [`Link::reset`] and meant for ours.
    pub fn handle_fragment(&mut self, from: Incarnation, fragment: Fragment) {
        if self.peer == Some(from) && fragment.peer_incarnation == self.me {
            self.receiver.handle_fragment(fragment);
        }
    }

    /// Takes an acknowledgement that came in a datagram of the peer's incarnation `from`. Ignored as fragments are.
    pub fn handle_ack(&mut self, from: Incarnation, ack: FragmentAck, now: Instant) {
        if self.peer == Some(from) && ack.peer_incarnation == self.me {
            self.sender.handle_ack(ack, now);
        }
    }

    /// The peer is heard again after a silence: what was lost meanwhile is sent again at once.
    pub fn hasten(&mut self, now: Instant) {
        self.sender.hasten(now);
    }

    /// Makes what is overdue ready to be sent again. Harmless when called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sender.handle_timeout(now);
    }

    /// When [`Link::handle_timeout`] wants to be called; `None` while nothing awaits an acknowledgement.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sender.poll_timeout()
    }

    /// The next datagram for the peer: an acknowledgement or a fragment.
    pub fn poll_transmit(&mut self) -> Option<Body> {
        let peer_incarnation = self.peer?;
        if let Some(ack) = self.receiver.poll_ack(peer_incarnation) {
            return Some(Body::FragmentAck(ack));
        }
        self.sender.poll_transmit(peer_incarnation).map(Body::Fragment)
    }

    /// The next message of the peer. While many wait here, further fragments are ignored and the peer sends them again.
    pub fn poll_message(&mut self) -> Option<Vec<u8>> {
        self.receiver.poll_message()
    }

    /// All that was sent is acknowledged.
    pub fn idle(&self) -> bool {
        self.sender.idle()
    }

    /// Bytes kept for both directions.
    pub fn buffered_bytes(&self) -> usize {
        self.sender.buffered_bytes() + self.receiver.buffered_bytes()
    }
}
