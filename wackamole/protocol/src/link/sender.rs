//! The sending half: messages → numbered fragments, each sent until it is acknowledged.

use std::collections::VecDeque;

use super::{LinkConfig, WINDOW};
use crate::id::Incarnation;
use crate::time::{Duration, Instant};
use crate::wire::message::{Fragment, FragmentAck};
use crate::wire::{FRAGMENT_BYTES_MAX, MESSAGE_MAX};

/// How many fragments may be unacknowledged before the network has shown what it takes: an agreement among many nodes sends
/// large messages to all of them at once, and a socket buffer holds about a hundred datagrams.
const ALLOWANCE_AT_FIRST: usize = 16;

/// The fewest; also how many are sent again at once to a peer that does not answer.
const ALLOWANCE_MIN: usize = 4;

/// A fragment is taken for lost when one that left this many transmissions later has arrived (RFC 9002 §6.1.1).
const OVERTAKEN_BY: u64 = 3;

/// Retransmission pauses double this many times.
const DOUBLINGS: u32 = 3;

/// What a queued fragment costs beyond its bytes, so that many empty messages are bounded as well.
const PIECE_OVERHEAD: usize = 64;

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too much waits to be acknowledged; may succeed later.
    #[error("too much waits to be acknowledged by the peer")]
    Full,
    /// Longer than [`MESSAGE_MAX`].
    #[error("a message of {0} bytes; at most {MESSAGE_MAX} are possible")]
    TooLong(usize),
    /// The peer was not heard yet: [`super::Link::reset`] was never called.
    #[error("the peer was not heard yet")]
    UnknownPeer,
}

#[derive(Debug)]
pub(super) struct Sender {
    retransmit: Duration,
    fragment_bytes: usize,
    queue_bytes_max: usize,

    stream: u64,
    /// Unacknowledged from the front on; the front is fragment `first`.
    pieces: VecDeque<Piece>,
    first: u64,
    /// The first that was never sent.
    unsent: u64,
    /// What all of `pieces` cost.
    bytes: usize,

    /// Sent and not acknowledged.
    in_flight: usize,
    /// How many may be: grows with each arrival, is halved once for each round of losses.
    allowance: usize,
    /// Transmissions so far in this stream.
    transmissions: u64,
    /// The highest transmission that is known to have arrived.
    arrived: u64,
    /// The allowance was last halved before this transmission.
    halved: u64,
    /// Ready to be polled.
    transmit: VecDeque<u64>,
}

#[derive(Debug)]
struct Piece {
    last: bool,
    bytes: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    InFlight(Flight),
    Arrived,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    /// Which transmission of the stream was the last of this fragment, from one.
    transmission: u64,
    /// When it is due again.
    due: Instant,
    /// How often it was sent.
    times: u32,
    /// Still in `transmit`.
    queued: bool,
}

impl Sender {
    pub(super) fn new(config: LinkConfig) -> Self {
        Self {
            retransmit: config.retransmit,
            fragment_bytes: config.fragment_bytes.clamp(1, FRAGMENT_BYTES_MAX),
            queue_bytes_max: config.queue_bytes_max,
            stream: 0,
            pieces: VecDeque::new(),
            first: 0,
            unsent: 0,
            bytes: 0,
            in_flight: 0,
            allowance: ALLOWANCE_AT_FIRST,
            transmissions: 0,
            arrived: 0,
            halved: 0,
            transmit: VecDeque::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self {
            stream: self.stream + 1,
            ..Self::new(LinkConfig {
                retransmit: self.retransmit,
                fragment_bytes: self.fragment_bytes,
                queue_bytes_max: self.queue_bytes_max,
            })
        };
    }

    pub(super) fn send(&mut self, message: &[u8], now: Instant) -> Result<(), SendError> {
        if message.len() > MESSAGE_MAX {
            return Err(SendError::TooLong(message.len()));
        }
        let count = message.len().div_ceil(self.fragment_bytes).max(1);
        let cost = message.len() + count * PIECE_OVERHEAD;
        if !self.idle() && self.bytes + cost > self.queue_bytes_max {
            return Err(SendError::Full);
        }
        self.bytes += cost;
        for index in 0..count {
            let begin = index * self.fragment_bytes;
            let end = message.len().min(begin + self.fragment_bytes);
            let bytes = message[begin..end].to_vec();
            let last = index + 1 == count;
            self.pieces.push_back(Piece { last, bytes, state: State::Waiting });
        }
        self.transmit_new(now);
        Ok(())
    }

    pub(super) fn handle_ack(&mut self, ack: FragmentAck, now: Instant) {
        if ack.stream != self.stream || ack.next > self.unsent {
            return;
        }
        for number in self.first..ack.next {
            self.mark_arrived(number);
        }
        for bit in (0..WINDOW).filter(|bit| ack.ahead >> bit & 1 == 1) {
            self.mark_arrived(ack.next + 1 + bit);
        }
        while let Some(Piece { state: State::Arrived, .. }) = self.pieces.front() {
            self.pieces.pop_front();
            self.first += 1;
        }
        self.retransmit_overtaken(now);
        self.handle_timeout(now);
        self.transmit_new(now);
    }

    /// Sends again what is overdue, of the oldest fragments only, as many as the allowance says: a peer that does not answer
    /// is not flooded, and one that answers again raises the allowance with each acknowledgement.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let oldest_overdue = self.eligible().find(|(_, flight)| flight.due <= now);
        let Some((_, Flight { transmission, .. })) = oldest_overdue else { return };
        self.halve(transmission);
        let overdue: Vec<u64> = self
            .eligible()
            .filter(|(_, flight)| flight.due <= now)
            .map(|(number, _)| number)
            .collect();
        for number in overdue {
            self.transmit_again(number, now);
        }
    }

    /// The peer is heard again after a silence: what was lost meanwhile is sent again at once, and not only when a pause is over
    /// that has doubled in vain.
    pub(super) fn hasten(&mut self, now: Instant) {
        for number in self.eligible().map(|(number, _)| number).collect::<Vec<_>>() {
            if let Some(Piece { state: State::InFlight(flight), .. }) = self.piece(number) {
                flight.due = now;
                // Not less than that it was sent more than once: an acknowledgement does not tell which one has arrived.
                flight.times = flight.times.min(2);
            }
        }
        self.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight == 0 {
            return None; // as nearly always, and it is asked with each datagram
        }
        self.eligible().map(|(_, flight)| flight.due).min()
    }

    pub(super) fn poll_transmit(&mut self, peer_incarnation: Incarnation) -> Option<Fragment> {
        while let Some(number) = self.transmit.pop_front() {
            let stream = self.stream;
            // It may have been acknowledged since it was queued.
            if let Some(piece) = self.piece(number)
                && let State::InFlight(flight) = &mut piece.state
            {
                flight.queued = false;
                let (last, bytes) = (piece.last, piece.bytes.clone());
                return Some(Fragment { peer_incarnation, stream, number, last, bytes });
            }
        }
        None
    }

    pub(super) fn idle(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.bytes
    }

    /// The fragments whose deadlines count: the oldest in flight, as many as the allowance says.
    fn eligible(&self) -> impl Iterator<Item = (u64, Flight)> {
        let in_flight = |(number, piece): (u64, &Piece)| match piece.state {
            State::InFlight(flight) => Some((number, flight)),
            State::Waiting | State::Arrived => None,
        };
        let sent = (self.first..self.unsent).zip(&self.pieces);
        sent.filter_map(in_flight).take(self.allowance)
    }

    fn transmit_new(&mut self, now: Instant) {
        while self.in_flight < self.allowance && self.unsent - self.first < WINDOW {
            let number = self.unsent;
            let due = now + self.retransmit;
            let transmission = self.transmissions + 1;
            let Some(piece) = self.piece(number) else { return };
            piece.state = State::InFlight(Flight { transmission, due, times: 1, queued: true });
            self.transmissions = transmission;
            self.in_flight += 1;
            self.unsent += 1;
            self.transmit.push_back(number);
        }
    }

    fn transmit_again(&mut self, number: u64, now: Instant) {
        let retransmit = self.retransmit;
        let transmission = self.transmissions + 1;
        let Some(Piece { state: State::InFlight(flight), .. }) = self.piece(number) else { return };
        let due = now + retransmit * (1 << flight.times.min(DOUBLINGS));
        let queued = flight.queued;
        let times = flight.times.saturating_add(1);
        *flight = Flight { transmission, due, times, queued: true };
        self.transmissions = transmission;
        if !queued {
            self.transmit.push_back(number);
        }
    }

    fn retransmit_overtaken(&mut self, now: Instant) {
        let overtaken: Vec<(u64, Flight)> = (self.first..self.unsent)
            .zip(&self.pieces)
            .filter_map(|(number, piece)| match piece.state {
                State::InFlight(flight) => Some((number, flight)),
                State::Waiting | State::Arrived => None,
            })
            .filter(|(_, flight)| flight.transmission + OVERTAKEN_BY <= self.arrived)
            .collect();
        for (number, flight) in overtaken {
            self.halve(flight.transmission);
            self.transmit_again(number, now);
        }
    }

    fn mark_arrived(&mut self, number: u64) {
        let Some(piece) = self.piece(number) else { return };
        let State::InFlight(flight) = piece.state else { return };
        let cost = piece.bytes.len() + PIECE_OVERHEAD;
        piece.bytes = Vec::new();
        piece.state = State::Arrived;
        self.bytes -= cost;
        self.in_flight -= 1;
        self.allowance = (self.allowance + 1).min(WINDOW as usize);
        // Of a fragment that was sent more than once it is unknown which one arrived (Karn's rule).
        if flight.times == 1 {
            self.arrived = self.arrived.max(flight.transmission);
        }
    }

    /// Halves the allowance because a transmission was lost, unless it was halved since that transmission.
    fn halve(&mut self, lost: u64) {
        if lost > self.halved {
            self.allowance = (self.allowance / 2).max(ALLOWANCE_MIN);
            self.halved = self.transmissions;
        }
    }

    fn piece(&mut self, number: u64) -> Option<&mut Piece> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.pieces.get_mut(index)
    }
}
