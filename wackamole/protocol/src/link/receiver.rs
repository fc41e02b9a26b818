//! The receiving half: fragments → whole messages, in order, and the acknowledgements for them.

use std::collections::{BTreeMap, VecDeque};

use super::WINDOW;
use crate::id::Incarnation;
use crate::wire::message::{Fragment, FragmentAck};
use crate::wire::{FRAGMENT_BYTES_MAX, MESSAGE_MAX};

/// Whole messages that wait for the caller before further fragments are ignored.
const WAITING_MAX: usize = WINDOW as usize;

#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// The peer's current stream; real ones count from one.
    stream: u64,
    /// The first fragment that is missing.
    next: u64,
    /// What came before its turn: fewer than [`WINDOW`], all above `next`.
    ahead: BTreeMap<u64, Piece>,
    /// The beginning of the message that is not yet whole.
    message: Vec<u8>,
    /// A message exceeded [`MESSAGE_MAX`]: nothing more is taken from this stream, nor acknowledged.
    broken: bool,
    whole: VecDeque<Vec<u8>>,
    ack_owed: bool,
}

#[derive(Debug)]
struct Piece {
    last: bool,
    bytes: Vec<u8>,
}

impl Receiver {
    pub(super) fn handle_fragment(&mut self, fragment: Fragment) {
        let Fragment { peer_incarnation: _, stream, number, last, bytes } = fragment;
        if stream < self.stream || bytes.len() > FRAGMENT_BYTES_MAX {
            return;
        }
        if stream > self.stream {
            self.start(stream);
        }
        if self.broken || self.crowded() {
            return;
        }
        // A repeated fragment is acknowledged too: the acknowledgement may have been lost.
        self.ack_owed = true;
        let Some(distance) = number.checked_sub(self.next) else { return };
        if distance < WINDOW {
            self.ahead.entry(number).or_insert(Piece { last, bytes });
            self.append_what_is_next();
        }
    }

    pub(super) fn poll_ack(&mut self, peer_incarnation: Incarnation) -> Option<FragmentAck> {
        if !core::mem::take(&mut self.ack_owed) {
            return None;
        }
        let ahead = self.ahead.keys().map(|number| 1 << (number - self.next - 1)).sum();
        Some(FragmentAck { peer_incarnation, stream: self.stream, next: self.next, ahead })
    }

    pub(super) fn poll_message(&mut self) -> Option<Vec<u8>> {
        self.whole.pop_front()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        let ahead: usize = self.ahead.values().map(|piece| piece.bytes.len()).sum();
        let whole: usize = self.whole.iter().map(Vec::len).sum();
        ahead + whole + self.message.len()
    }

    /// Messages that are already whole stay: they were delivered, the caller has only not looked yet.
    fn start(&mut self, stream: u64) {
        *self = Self { stream, whole: core::mem::take(&mut self.whole), ..Self::default() };
    }

    fn crowded(&self) -> bool {
        self.whole.len() >= WAITING_MAX
            || self.whole.iter().map(Vec::len).sum::<usize>() >= MESSAGE_MAX
    }

    fn append_what_is_next(&mut self) {
        while let Some(piece) = self.ahead.remove(&self.next) {
            if self.message.len() + piece.bytes.len() > MESSAGE_MAX {
                self.broken = true;
                self.ack_owed = false;
                self.ahead.clear();
                self.message = Vec::new();
                return;
            }
            self.next += 1;
            self.message.extend_from_slice(&piece.bytes);
            if piece.last {
                self.whole.push_back(core::mem::take(&mut self.message));
            }
        }
    }
}
