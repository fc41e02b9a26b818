//! Putting datagrams on the wire: heartbeats, echoes, nudges, leaves and the reliable links' pieces.

use crate::event::LinkState;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};
use crate::wire::message::{Body, Header, Heartbeat, Leave, PeerEcho};
use crate::wire::{self};

use super::message::GroupMessage;
use super::peer::Peer;
use super::{Destination, Group, GroupOutput, SENT_REMEMBERED};

/// A leave is not acknowledged; it is said several times instead.
const LEAVE_REPEATS: usize = 3;

impl Group {
    fn seal(&mut self, to: NodeId, body: &Body) -> Vec<u8> {
        self.sequence += 1;
        let header =
            Header { from: self.me, to, incarnation: self.incarnation, sequence: self.sequence };
        self.codec.seal(&header, body)
    }

    fn transmit(&mut self, to: Destination, datagram: Vec<u8>) {
        self.outputs.push_back(GroupOutput::Transmit { to, datagram });
    }

    /// To one peer, over the path on which it was heard last.
    fn send_to_peer(&mut self, to: NodeId, body: &Body) {
        let datagram = self.seal(to, body);
        if let Some(address) = self.peers.get(&to).and_then(Peer::best_address) {
            self.transmit(Destination::Peer(address), datagram);
        }
    }

    /// To all peers over all paths. Every path gets a datagram of its own, or the second copy would be a replay.
    fn send_to_everybody(&mut self, body: &Body) {
        if self.multicast {
            let datagram = self.seal(NodeId::EVERYBODY, body);
            self.transmit(Destination::Group, datagram);
            return;
        }
        let paths = self.peers.values().map(|peer| peer.addresses.len()).max().unwrap_or(0);
        for path in 0..paths {
            let datagram = self.seal(NodeId::EVERYBODY, body);
            let addresses: Vec<_> =
                self.peers.values().filter_map(|peer| peer.addresses.get(path).copied()).collect();
            for address in addresses {
                self.transmit(Destination::Peer(address), datagram.clone());
            }
        }
    }

    pub(super) fn send_due_heartbeats(&mut self, now: Instant) {
        let due = now >= self.heartbeat_at;
        let early = self.heartbeat_early_at.is_some_and(|at| now >= at);
        if due || early {
            let heartbeat = Body::Heartbeat(self.heartbeat(now));
            // An echo of what is sent now must find its send time.
            self.sent.push_back((self.sequence + 1, now));
            if self.sent.len() > SENT_REMEMBERED {
                self.sent.pop_front();
            }
            self.send_to_everybody(&heartbeat);
            if self.heartbeat_early_at.take().is_some_and(|at| now >= at) {
                self.hastened_at = now;
            }
        }
        if due {
            // Keeps its rhythm unless it is late by more than an interval.
            self.heartbeat_at =
                (self.heartbeat_at + self.timing.heartbeat).max(now + self.timing.heartbeat / 2);
        }
        self.send_due_nudges(now);
    }

    /// A member that is overdue, or that has not echoed us for too long, is sent heartbeats at a quicker pace: it echoes
    /// at once, so that only a real silence, and not a few lost datagrams, lasts for the failure timeout.
    fn send_due_nudges(&mut self, now: Instant) {
        let pace = (self.timing.heartbeat / 4).max(Duration::from_millis(2));
        let mut nudged = Vec::new();
        let heartbeat_at = self.heartbeat_at;
        for (&id, peer) in &mut self.peers {
            if peer.link_state != LinkState::TwoWay {
                peer.nudge_at = None;
                continue;
            }
            let due = peer.nudge_due(&self.timing);
            if now >= due {
                if peer.nudge_at.is_none_or(|at| now >= at) {
                    nudged.push(id);
                    peer.nudge_at = Some(now + pace);
                }
            } else {
                // Looked at again with the next heartbeat anyway.
                peer.nudge_at = (due < heartbeat_at).then_some(due);
            }
        }
        if nudged.is_empty() {
            return;
        }
        let heartbeat = Body::Heartbeat(self.heartbeat(now));
        self.sent.push_back((self.sequence + 1, now));
        if self.sent.len() > SENT_REMEMBERED {
            self.sent.pop_front();
        }
        for id in nudged {
            for address in self.peers.get(&id).map(|p| p.addresses.clone()).unwrap_or_default() {
                let datagram = self.seal(id, &heartbeat);
                self.transmit(Destination::Peer(address), datagram);
            }
        }
    }

    /// Lets the peers know of a change before the next heartbeat is due, but not more often than eight times as often. The regular
    /// heartbeats do not count: those of all machines may come at the same time, and two that meet then would wait for an eighth more.
    pub(super) fn hasten_heartbeat(&mut self, now: Instant) {
        let at = now.max(self.hastened_at + self.timing.heartbeat / 8);
        self.heartbeat_early_at = Some(self.heartbeat_early_at.map_or(at, |early| early.min(at)));
    }

    fn heartbeat(&self, now: Instant) -> Heartbeat {
        let echoes = self
            .peers
            .values()
            .filter(|peer| {
                peer.is_heard(&self.timing, now)
                    || self.view.as_ref().is_some_and(|view| view.members.contains_key(&peer.id))
            })
            .filter_map(|peer| self.echo_for(peer, now))
            .collect();
        Heartbeat {
            view: self.view.as_ref().map_or(ViewId::NONE, |view| view.id),
            accepted: self.highest_accepted(),
            beside: self.is_linked_beside(now),
            interval_us: micros(self.timing.heartbeat),
            echoes,
        }
    }

    pub(super) fn echo_for(&self, peer: &Peer, now: Instant) -> Option<PeerEcho> {
        let incarnation = peer.incarnation?;
        let heard = peer.is_heard(&self.timing, now);
        let promised = heard
            && peer.frozen_at.is_none()
            && !self.has_given_its_vote()
            && !self.may_go_on_without(peer.id, incarnation, now)
            && self.accepted_members().is_some_and(|m| m.get(&peer.id) == Some(&incarnation));
        Some(PeerEcho {
            peer: peer.id,
            incarnation,
            sequence: peer.sequence,
            promise_us: if promised { micros(self.timing.failure_timeout) } else { 0 },
            heard,
            in_view: self
                .view
                .as_ref()
                .is_some_and(|view| view.members.get(&peer.id) == Some(&incarnation)),
        })
    }

    pub(super) fn send_echo(&mut self, to: NodeId, now: Instant) {
        if let Some(echo) = self.peers.get(&to).and_then(|peer| self.echo_for(peer, now)) {
            self.send_to_peer(to, &Body::Echo(echo));
        }
    }

    pub(super) fn send_leave(&mut self) {
        let leave = Body::Leave(Leave { incarnation: self.incarnation });
        for _ in 0..LEAVE_REPEATS {
            self.send_to_everybody(&leave);
        }
    }

    /// Queues a reliable message.
    pub(super) fn send_message(&mut self, to: NodeId, message: &GroupMessage, now: Instant) {
        let is_member = self.is_present(to);
        if let Some(peer) = self.peers.get_mut(&to) {
            // A full queue means that nothing was acknowledged for long. What is dropped here leaves a gap in the order, perhaps a
            // permission that nobody would repeat: so the whole stream is given up, and the agreement starts anew.
            if let (Err(_), Some(incarnation)) =
                (peer.link.send(&wire::encode(message), now), peer.incarnation)
            {
                peer.link.reset(incarnation);
                self.has_gap |= is_member;
                self.dirty = true;
            }
        }
        self.flush_link(to, now);
    }

    /// The same for all links.
    pub(super) fn flush_links(&mut self) {
        loop {
            let mut links = self.peers.iter_mut();
            let next = links.find_map(|(&id, peer)| Some((id, peer.link.poll_transmit()?)));
            let Some((id, body)) = next else { return };
            self.send_to_peer(id, &body);
        }
    }

    /// Sends what a link wants sent: pieces and acknowledgements.
    pub(super) fn flush_link(&mut self, id: NodeId, _now: Instant) {
        while let Some(body) = self.peers.get_mut(&id).and_then(|peer| peer.link.poll_transmit()) {
            self.send_to_peer(id, &body);
        }
    }

    pub(super) fn incarnation_of(&self, id: NodeId) -> Option<Incarnation> {
        if id == self.me {
            Some(self.incarnation)
        } else {
            self.peers.get(&id).and_then(|peer| peer.incarnation)
        }
    }
}

pub(super) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
