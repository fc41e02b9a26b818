//! Whoever has told a peer that it will accept no view without it for a while does not (docs/protocol.md, "The lease", rows 1 to 3),
//! and promises nothing to whoever is not in the view that it accepted last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wackamole_protocol::id::{Incarnation, NodeId};
use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::wire::message::{Body, Header, PeerEcho};

use super::Breach;

/// So many datagrams of each peer are remembered with the time at which they came.
const HEARD_MAX: usize = 64;

/// The numbers of a peer's datagrams, and when they were read.
#[derive(Debug)]
struct Heard {
    peer: (NodeId, Incarnation),
    /// Each number once.
    datagrams: VecDeque<(u64, Instant)>,
    highest: u64,
}

#[derive(Debug, Default)]
pub(super) struct Promises {
    /// When which datagram of which start of a peer was read; the last ones of each. Peers are few.
    heard: Vec<Heard>,
    /// Until when no view without that start of a peer may be accepted.
    owed: BTreeMap<(NodeId, Incarnation), Instant>,
    /// The members of the view that this start accepted last.
    accepted: Option<BTreeSet<NodeId>>,
    last: Option<Instant>,
}

impl Promises {
    pub(super) fn started(&mut self, now: Instant) {
        self.heard.clear();
        self.accepted = None;
        if self.last.is_some_and(|last| now < last) {
            self.owed.clear(); // another clock
        }
    }

    /// Whether it comes from the start of a peer that was heard last.
    pub(super) fn knows(&self, header: &Header) -> bool {
        self.heard.iter().any(|heard| heard.peer == (header.from, header.incarnation))
    }

    pub(super) fn came(&mut self, header: &Header, now: Instant) {
        self.last = Some(now);
        let peer = (header.from, header.incarnation);
        let is_over = |heard: &Heard| heard.peer.0 == peer.0 && heard.peer.1 > peer.1;
        if self.heard.iter().any(is_over) {
            return; // a copy that comes late
        }
        let position = self.heard.iter().position(|heard| heard.peer == peer);
        let position = position.unwrap_or_else(|| {
            self.heard.retain(|heard| heard.peer.0 != header.from);
            self.heard.push(Heard { peer, datagrams: VecDeque::new(), highest: 0 });
            self.heard.len() - 1
        });
        let Heard { datagrams, highest, .. } = &mut self.heard[position];
        // A copy that comes later counts for nothing.
        let is_same = |&(sequence, _): &(u64, Instant)| sequence == header.sequence;
        if header.sequence <= *highest && datagrams.iter().any(is_same) {
            return;
        }
        *highest = header.sequence.max(*highest);
        datagrams.push_back((header.sequence, now));
        if datagrams.len() > HEARD_MAX {
            datagrams.pop_front();
        }
    }

    pub(super) fn sent(&mut self, body: &Body) -> Option<Breach> {
        let echoes = match body {
            Body::Heartbeat(heartbeat) => &heartbeat.echoes[..],
            Body::Echo(echo) => std::slice::from_ref(echo),
            Body::Leave(_) | Body::Fragment(_) | Body::FragmentAck(_) => &[],
        };
        echoes.iter().filter(|echo| echo.promise_us > 0).find_map(|echo| self.promised(echo))
    }

    fn promised(&mut self, echo: &PeerEcho) -> Option<Breach> {
        let key = (echo.peer, echo.incarnation);
        let of_peer = self.heard.iter().find(|heard| heard.peer == key);
        let named = of_peer.and_then(|heard| {
            heard.datagrams.iter().rev().find(|(sequence, _)| *sequence == echo.sequence)
        });
        if let Some(&(_, heard)) = named {
            let until = heard + Duration::from_micros(echo.promise_us.into());
            let owed = self.owed.entry(key).or_insert(until);
            *owed = (*owed).max(until);
        }
        let stranger = self.accepted.as_ref().is_some_and(|members| !members.contains(&echo.peer));
        stranger.then_some(Breach::PromisedAStranger { peer: echo.peer })
    }

    pub(super) fn accepted(&mut self, members: &BTreeSet<NodeId>, now: Instant) -> Option<Breach> {
        self.owed.retain(|_, until| now < *until);
        self.accepted = Some(members.clone());
        let ((peer, _), until) = self.owed.iter().find(|((peer, _), _)| !members.contains(peer))?;
        Some(Breach::PromiseBroken { peer: *peer, left: until.since(now) })
    }

    /// A peer, or its guardian, has said that nothing of it is left.
    pub(super) fn left(&mut self, left: NodeId) {
        self.owed.retain(|(peer, _), _| *peer != left);
    }

    /// An earlier start of a peer is over.
    pub(super) fn restarted(&mut self, again: NodeId, incarnation: Incarnation) {
        self.owed.retain(|&(peer, start), _| peer != again || start >= incarnation);
    }

    /// Nothing that was promised counts any more.
    pub(super) fn void(&mut self) {
        self.owed.clear();
    }
}
