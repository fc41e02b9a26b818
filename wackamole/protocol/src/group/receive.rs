//! What comes in: whether a datagram is for us and new, and to which part of the engine each kind of it goes.

use core::net::SocketAddr;

use crate::event::{Event, LinkState, Rejection};
use crate::id::{NodeId, ViewId};
use crate::time::{Duration, Instant};
use crate::wire;
use crate::wire::message::{Body, Header, Heartbeat, PeerEcho};

use super::message::GroupMessage;
use super::peer::RowEntry;
use super::{Group, GroupOutput};

impl Group {
    /// Takes a datagram from the network. Bad ones are counted, never answered.
    pub fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) {
        if self.left {
            return;
        }
        self.end_lease_if_over(now);
        match self.codec.open(datagram).and_then(|(header, body)| {
            self.admit(&header)?;
            Ok((header, body))
        }) {
            Ok((header, body)) => {
                self.handle_body(from, header, body, now);
                self.flush_link(header.from, now);
                if self.dirty {
                    self.evaluate(now);
                }
                self.renew_lease(now);
            }
            Err(rejection) => {
                *self.rejected.entry(rejection).or_default() += 1;
                self.event(Event::Rejected { from, rejection });
            }
        }
    }

    /// Decides whether an authentic datagram is for us, and new.
    fn admit(&mut self, header: &Header) -> Result<(), Rejection> {
        if header.from == self.me {
            return Err(Rejection::OwnName);
        }
        if header.to != NodeId::EVERYBODY && header.to != self.me {
            return Err(Rejection::NotForUs);
        }
        let peer = self.peers.get_mut(&header.from).ok_or(Rejection::UnknownNode)?;
        match peer.incarnation {
            Some(known) if header.incarnation < known => return Err(Rejection::Replayed),
            Some(known) if header.incarnation == known => {}
            earlier => {
                peer.restarted(header.incarnation);
                self.dirty = true;
                if earlier.is_some() {
                    let (peer, incarnation) = (header.from, header.incarnation);
                    self.event(Event::PeerRestarted { peer, incarnation });
                    self.outputs.push_back(GroupOutput::Gone(peer));
                }
            }
        }
        let peer = self.peers.get_mut(&header.from).ok_or(Rejection::UnknownNode)?;
        if peer.has_left() || !peer.window.accept(header.sequence) {
            return Err(Rejection::Replayed);
        }
        Ok(())
    }

    fn handle_body(&mut self, from: SocketAddr, header: Header, body: Body, now: Instant) {
        let was_awaited = self.is_awaited(header.from, now);
        let Some(peer) = self.peers.get_mut(&header.from) else { return };
        if peer.heard_at.is_some_and(|at| now >= at + self.timing.settled_after) {
            peer.link.hasten(now);
        }
        peer.heard(header.sequence, from, now);
        if peer.link_state == LinkState::Silent {
            self.dirty = true;
        }
        match body {
            Body::Heartbeat(heartbeat) => {
                self.handle_heartbeat(header.from, heartbeat, now);
                self.send_echo(header.from, now);
            }
            Body::Echo(echo) => self.handle_echo(header.from, &echo, now),
            Body::Leave(leave) => {
                if Some(leave.incarnation) == peer.incarnation {
                    peer.left = Some(leave.incarnation);
                    peer.forget();
                    peer.link.reset(leave.incarnation);
                    self.dirty = true;
                    self.event(Event::PeerLeft { peer: header.from });
                    self.outputs.push_back(GroupOutput::Gone(header.from));
                }
            }
            Body::Fragment(fragment) => {
                peer.link.handle_fragment(header.incarnation, fragment);
                while let Some(bytes) =
                    self.peers.get_mut(&header.from).and_then(|peer| peer.link.poll_message())
                {
                    match wire::decode::<GroupMessage>(&bytes) {
                        Ok(message) => self.handle_message(header.from, message, now),
                        Err(rejection) => {
                            *self.rejected.entry(rejection).or_default() += 1;
                            self.event(Event::Rejected { from, rejection });
                        }
                    }
                }
            }
            Body::FragmentAck(ack) => {
                peer.link.handle_ack(header.incarnation, ack, now);
            }
        }
        self.dirty |= was_awaited && !self.is_awaited(header.from, now)
            || self.disputed && self.is_denied(header.from, now);
    }

    fn handle_heartbeat(&mut self, from: NodeId, mut heartbeat: Heartbeat, now: Instant) {
        self.epoch = self.epoch.max(heartbeat.accepted.epoch).max(heartbeat.view.epoch);
        let (me, incarnation) = (self.me, self.incarnation);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        // What is said of an earlier start of ours is not said of us.
        heartbeat.echoes.retain(|echo| echo.peer != me || echo.incarnation == incarnation);
        if peer.handle_row(&heartbeat, now) {
            self.dirty = true;
        }
        // Of nodes that only the sender knows nothing is remembered longer than it speaks of them.
        peer.row.retain(|id, entry| entry.heard || entry.in_view || self.ranks.contains(id));
        // Whom a heartbeat does not name its sender does not hear. After a silence nothing else would say so, and a view with both be
        // proposed for ever (`regressions/back-and-deaf-to-one`).
        if peer.row.len() + 1 < self.ranks.len() {
            let unnamed = self.ranks.iter().filter(|id| **id != from);
            for &id in unnamed {
                let denial = RowEntry { heard: false, in_view: false, since: now };
                peer.row.entry(id).or_insert(denial);
            }
            self.dirty = true;
        }
        // Whoever has been told that somebody shall be dropped for its sake, and is in a later view, goes on without us: what it
        // had proposed may have been waiting since before a stop.
        let moved_on = |ballot: ViewId| ballot.coordinator == from && ballot < heartbeat.view;
        for peer in self.peers.values_mut() {
            peer.given_up.take_if(|(_, ballot)| moved_on(*ballot));
        }
        if let Some(echo) = heartbeat.echoes.iter().find(|echo| echo.peer == me) {
            self.handle_echo(from, echo, now);
        } else if self.peers.get(&from).is_some_and(|peer| peer.link_state == LinkState::TwoWay) {
            self.dirty = true;
        }
    }

    fn handle_echo(&mut self, from: NodeId, echo: &PeerEcho, now: Instant) {
        if echo.peer != self.me || echo.incarnation != self.incarnation {
            return;
        }
        let sent_at = self.sent_at(echo.sequence);
        let promise = self.timing.shortened(Duration::from_micros(echo.promise_us.into()));
        let (me, timing) = (self.me, self.timing);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let changed = peer.handle_echo(echo, sent_at, promise, now);
        if changed || peer.is_two_way(me, &timing, now) != (peer.link_state == LinkState::TwoWay) {
            self.dirty = true;
        }
    }

    /// When we sent what the echo refers to: the latest heartbeat not after it, which errs on the safe side.
    pub(super) fn sent_at(&self, sequence: u64) -> Option<Instant> {
        if sequence > self.sequence {
            return None;
        }
        self.sent.iter().rev().find(|(sent, _)| *sent <= sequence).map(|&(_, at)| at)
    }
}
