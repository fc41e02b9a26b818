//! What this node knows of one peer: when it was heard, what it says it hears, what we promised it.
//!
//! This is the failure detector. It knows nothing of views beyond what the peer says about its own.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use crate::event::LinkState;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::link::{Link, LinkConfig};
use crate::time::{Duration, Instant};
use crate::wire::message::{Heartbeat, PeerEcho};
use crate::wire::{FRAGMENT_BYTES_MAX, ReplayWindow};

use super::tempo::Tempo;

/// Bytes of undelivered messages kept for one peer.
const QUEUE_BYTES_MAX: usize = 4 << 20;

/// What a peer says about one other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowEntry {
    pub(crate) heard: bool,
    pub(crate) in_view: bool,
    /// Since when `heard` has had its value, by our clock.
    pub(crate) since: Instant,
}

pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) addresses: Vec<SocketAddr>,
    /// When a datagram last came from each of `addresses`.
    pub(crate) paths_heard: Vec<Option<Instant>>,
    /// The highest incarnation heard.
    pub(crate) incarnation: Option<Incarnation>,
    /// The incarnation that said that it has released everything.
    pub(crate) left: Option<Incarnation>,
    pub(crate) window: ReplayWindow,
    pub(crate) heard_at: Option<Instant>,
    pub(crate) sequence: u64,
    /// By how much our own loop was late since the peer was heard; our verdict waits by as much.
    late: Duration,
    /// When we sent the latest of our datagrams that the peer has echoed.
    pub(crate) echoed_at: Option<Instant>,
    /// The same, of those that came with a promise: what a lease may count on.
    pub(crate) promised_at: Option<Instant>,
    /// How long each of its promises is by what it said last, on our clock at least.
    pub(crate) promises: Option<Duration>,
    /// The longest promise that any start of the peer has told, on its own clock.
    pub(crate) promise_max: Duration,
    /// Until when the peer's promises last at least, by our clock.
    pub(crate) promised_until: Option<Instant>,
    /// Its promise ended while it was silent, and it has not made another: it speaks for nobody but itself, and whoever is
    /// in contact with both of us has promised us more.
    pub(crate) lapsed: bool,
    /// When the peer last told us what it hears of us.
    pub(crate) row_at: Option<Instant>,
    /// A heartbeat has come since the peer was silent, so that its view and whom it hears are known.
    pub(crate) introduced: bool,
    /// Whom the peer says it hears.
    pub(crate) row: BTreeMap<NodeId, RowEntry>,
    pub(crate) view: ViewId,
    /// When the peer last told its view.
    pub(crate) view_at: Option<Instant>,
    /// The peer says that a member of another view is in contact with it.
    pub(crate) beside: bool,
    /// Since when it has said that it is in no view, and in contact with somebody in one.
    pub(crate) defers_since: Option<Instant>,
    pub(crate) accepted: ViewId,
    /// The heartbeat interval that the peer uses.
    pub(crate) interval: Option<Duration>,
    /// We have refused to drop the peer and let our promise run out: it is not renewed past this instant.
    pub(crate) frozen_at: Option<Instant>,
    /// The latest of its datagrams that had been heard then.
    frozen_sequence: u64,
    /// When we last told a proposer that it shall be dropped as soon as our promise is over, and what that had proposed.
    pub(crate) given_up: Option<(Instant, ViewId)>,
    /// When to nudge a peer that owes us a sign of life.
    pub(crate) nudge_at: Option<Instant>,
    pub(crate) link_state: LinkState,
    /// Since when the link has been in that state.
    link_since: Instant,
    /// The state that was told last: a link that comes up is one-way for a round trip, which is no news.
    link_told: LinkState,
    /// When the link became two-way.
    pub(crate) two_way_since: Option<Instant>,
    pub(crate) link: Link,
}

impl Peer {
    pub(crate) fn new(
        id: NodeId,
        addresses: Vec<SocketAddr>,
        me: Incarnation,
        timing: &Tempo,
    ) -> Self {
        let retransmit = (timing.heartbeat / 4).max(Duration::from_millis(3));
        Self {
            id,
            paths_heard: vec![None; addresses.len()],
            addresses,
            incarnation: None,
            left: None,
            window: ReplayWindow::default(),
            heard_at: None,
            sequence: 0,
            late: Duration::ZERO,
            echoed_at: None,
            promised_at: None,
            promises: None,
            promise_max: Duration::ZERO,
            promised_until: None,
            lapsed: false,
            row_at: None,
            introduced: false,
            row: BTreeMap::new(),
            view: ViewId::NONE,
            view_at: None,
            beside: false,
            defers_since: None,
            accepted: ViewId::NONE,
            interval: None,
            frozen_at: None,
            frozen_sequence: 0,
            given_up: None,
            nudge_at: None,
            link_state: LinkState::Silent,
            link_since: Instant::ORIGIN,
            link_told: LinkState::Silent,
            two_way_since: None,
            link: Link::new(
                me,
                LinkConfig {
                    retransmit,
                    fragment_bytes: FRAGMENT_BYTES_MAX,
                    queue_bytes_max: QUEUE_BYTES_MAX,
                },
            ),
        }
    }

    /// Forgets everything about the previous incarnation.
    pub(crate) fn restarted(&mut self, incarnation: Incarnation) {
        self.incarnation = Some(incarnation);
        self.window = ReplayWindow::default();
        self.sequence = 0;
        self.accepted = ViewId::NONE;
        self.promises = None;
        self.forget();
        self.link.reset(incarnation);
    }

    /// The peer has fallen silent or gone: what it said before counts no more.
    pub(crate) fn forget(&mut self) {
        self.echoed_at = None;
        self.promised_at = None;
        self.promised_until = None;
        self.row_at = None;
        self.row.clear();
        self.introduced = false;
        self.view = ViewId::NONE;
        self.beside = false;
        self.defers_since = None;
        self.frozen_at = None;
        self.given_up = None;
        self.nudge_at = None;
    }

    pub(crate) fn heard(&mut self, sequence: u64, from: SocketAddr, now: Instant) {
        self.heard_at = Some(now);
        self.late = Duration::ZERO;
        self.sequence = self.sequence.max(sequence);
        if let Some(path) = self.addresses.iter().position(|&a| a == from) {
            self.paths_heard[path] = Some(now);
        }
    }

    /// Our own loop ran late: the peer may have spoken and we did not listen. The verdict waits by just as much, which
    /// after a long stop is at most a failure timeout from now.
    pub(crate) fn excuse(&mut self, late: Duration) {
        self.late += late;
    }

    /// When the peer counts as silent unless it is heard before.
    pub(crate) fn silent_at(&self, timing: &Tempo) -> Option<Instant> {
        self.heard_at.map(|at| at + timing.failure_timeout + self.late)
    }

    pub(crate) fn is_heard(&self, timing: &Tempo, now: Instant) -> bool {
        !self.has_left() && self.silent_at(timing).is_some_and(|at| now < at)
    }

    /// Unheard for half of the failure timeout, though it was nudged: its VIPs may soon need another holder.
    pub(crate) fn is_suspect(&self, timing: &Tempo, now: Instant) -> bool {
        now >= self.suspect_at(timing)
    }

    /// When it will be, unless it is heard before.
    pub(crate) fn suspect_at(&self, timing: &Tempo) -> Instant {
        self.heard_at.map_or(Instant::ORIGIN, |at| at + timing.suspected_after + self.late)
    }

    pub(crate) fn has_left(&self) -> bool {
        self.left.is_some() && self.left == self.incarnation
    }

    /// When it owes us a sign of life, or an echo, and is nudged if it is a member.
    pub(crate) fn nudge_due(&self, timing: &Tempo) -> Instant {
        let overdue = self.heard_at.map(|at| at + timing.overdue_after);
        let unechoed = self.echoed_at.map(|at| at + timing.unechoed_after);
        let (overdue, unechoed) =
            (overdue.unwrap_or(Instant::FAR_FUTURE), unechoed.unwrap_or(Instant::FAR_FUTURE));
        overdue.min(unechoed)
    }

    /// When it has not echoed us for so long that it does not seem to hear us.
    pub(crate) fn unechoed_at(&self, timing: &Tempo) -> Option<Instant> {
        self.echoed_at.map(|at| at + timing.one_way_after + self.late)
    }

    /// Both ways: we hear it, and it says that it hears us.
    pub(crate) fn is_two_way(&self, me: NodeId, timing: &Tempo, now: Instant) -> bool {
        let echoed = self.unechoed_at(timing).is_some_and(|at| now < at);
        self.introduced
            && self.is_heard(timing, now)
            && echoed
            && self.row.get(&me).is_some_and(|entry| entry.heard)
    }

    /// When it will have taken us for dead, if it goes on not hearing us while we hear it.
    pub(crate) fn is_deaf_at(&self, timing: &Tempo) -> Option<Instant> {
        (self.link_state == LinkState::OneWay).then(|| self.link_since + timing.patience)
    }

    /// Where to send to: the path on which the peer was heard last.
    pub(crate) fn best_address(&self) -> Option<SocketAddr> {
        let best = (0..self.addresses.len())
            .max_by_key(|&i| (self.paths_heard[i], core::cmp::Reverse(i)))?;
        Some(self.addresses[best])
    }

    /// The peer hears us and does not promise anything: it lets its debt to us run out, or is in no view with us.
    /// Whoever shares a view since `view_at` has had until then no reason to promise.
    pub(crate) fn is_promise_withheld(&self, view_at: Instant, timing: &Tempo) -> bool {
        let promised = self.promised_at.map_or(view_at, |at| at.max(view_at));
        self.echoed_at.is_some_and(|echoed| echoed.since(promised) > timing.settled_after)
    }

    /// The link is in this state from now on.
    pub(crate) fn set_link_state(&mut self, state: LinkState, now: Instant) {
        self.link_state = state;
        self.link_since = now;
        self.two_way_since = (state == LinkState::TwoWay).then_some(now);
    }

    /// The state of the link, if it is news for the log.
    pub(crate) fn link_news(&mut self, timing: &Tempo, now: Instant) -> Option<LinkState> {
        let state = self.link_state;
        let settled = now.since(self.link_since) >= timing.settled_after;
        if state == self.link_told || state == LinkState::OneWay && !settled {
            return None;
        }
        self.link_told = state;
        // Whoever has left was told as such.
        (state != LinkState::Silent || !self.has_left()).then_some(state)
    }

    /// The promise to the peer is not renewed any more from now on.
    pub(crate) fn freeze(&mut self, now: Instant) {
        if self.frozen_at.is_none() {
            (self.frozen_at, self.frozen_sequence) = (Some(now), self.sequence);
        }
    }

    /// The latest datagram of the peer for which our promise to it counts.
    pub(crate) fn backed_sequence(&self) -> u64 {
        self.frozen_at.map_or(self.sequence, |_| self.frozen_sequence)
    }

    /// A proposer has been told that it shall be dropped, so lately that it could not have proposed anew. Otherwise two that are equally
    /// good to some, and to others not, would hold each other up for ever.
    pub(crate) fn is_given_up(&self, timing: &Tempo, now: Instant) -> bool {
        let held_to = timing.failure_timeout + timing.heartbeat;
        self.given_up.is_some_and(|(at, _)| now < at + held_to)
    }

    /// How much of the promise to the peer would be left if it was not frozen.
    pub(crate) fn debt_if_thawed(&self, timing: &Tempo, now: Instant) -> Duration {
        match self.heard_at {
            Some(at) if !self.has_left() => (at + timing.failure_timeout).since(now),
            _ => Duration::ZERO,
        }
    }

    /// How much of the promise to the peer is left: until then we accept no view without it.
    pub(crate) fn debt(&self, timing: &Tempo, now: Instant) -> Duration {
        if self.has_left() {
            return Duration::ZERO;
        }
        let promised_at = match (self.frozen_at, self.heard_at) {
            (Some(frozen), Some(heard)) => Some(frozen.min(heard)),
            (_, heard) => heard,
        };
        promised_at.map_or(Duration::ZERO, |at| (at + timing.failure_timeout).since(now))
    }

    /// The peer is alive, yet what it echoes of us is older than it should be: it does not hear us.
    pub(crate) fn echo_is_stale(&self, timing: &Tempo) -> bool {
        match (self.row_at, self.echoed_at) {
            (Some(row), Some(echoed)) => row.since(echoed) > timing.settled_after,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// With whom it is in a view, of those whom it hears. Others it has yet to lose: who counts them takes a machine that has been left
    /// alone for half of the view that it was in, and nobody may do without it (`regressions/alone-in-a-view-of-two`).
    pub(crate) fn partners(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.row.iter().filter(|(_, entry)| entry.in_view && entry.heard).map(|(&id, _)| id)
    }

    /// Takes over what a heartbeat says about everybody. Returns whether anything but times changed.
    pub(crate) fn handle_row(&mut self, heartbeat: &Heartbeat, now: Instant) -> bool {
        self.row_at = Some(now);
        self.introduced = true;
        let mut changed = self.view != heartbeat.view || self.beside != heartbeat.beside;
        self.view = heartbeat.view;
        self.beside = heartbeat.beside;
        let defers = self.beside && self.view == ViewId::NONE;
        self.defers_since = defers.then(|| self.defers_since.unwrap_or(now));
        self.view_at = Some(now);
        self.accepted = self.accepted.max(heartbeat.accepted);
        self.interval = Some(Duration::from_micros(heartbeat.interval_us.into()));
        for (node, entry) in &mut self.row {
            if heartbeat.echoes.iter().all(|echo| echo.peer != *node) {
                changed |= entry.heard || entry.in_view;
                let since = if entry.heard { now } else { entry.since };
                *entry = RowEntry { heard: false, in_view: false, since };
            }
        }
        for echo in &heartbeat.echoes {
            changed |= self.set_row_entry(echo, now);
        }
        changed
    }

    /// Takes over that the peer has heard what we sent at `sent_at`, what it promises for at least `promise` of our clock,
    /// and what it says of us. Returns whether anything but times changed.
    pub(crate) fn handle_echo(
        &mut self,
        echo: &PeerEcho,
        sent_at: Option<Instant>,
        promise: Duration,
        now: Instant,
    ) -> bool {
        self.row_at = Some(now);
        self.echoed_at = self.echoed_at.max(sent_at);
        if echo.promise_us > 0 {
            self.promises = Some(promise);
            self.promise_max = self.promise_max.max(Duration::from_micros(echo.promise_us.into()));
            self.promised_at = self.promised_at.max(sent_at);
            self.promised_until = self.promised_until.max(sent_at.map(|at| at + promise));
        }
        self.set_row_entry(echo, now)
    }

    /// What the peer says of one node. Returns whether that is new.
    fn set_row_entry(&mut self, echo: &PeerEcho, now: Instant) -> bool {
        let mut new = false;
        let entry = self.row.entry(echo.peer).or_insert_with(|| {
            new = true;
            RowEntry { heard: echo.heard, in_view: echo.in_view, since: now }
        });
        if entry.heard != echo.heard {
            (new, entry.since) = (true, now);
        }
        new |= entry.in_view != echo.in_view;
        (entry.heard, entry.in_view) = (echo.heard, echo.in_view);
        new
    }
}
