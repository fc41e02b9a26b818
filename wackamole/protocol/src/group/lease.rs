//! Until when this node may hold what it holds, on its own clock. docs/protocol.md, "The lease".
//!
//! An echo of what we sent at `t` is the peer's promise to accept no view without us until the promise length after it
//! heard that, and it heard it no earlier than `t`. So the promise lasts at least until `t` + length × (1 − drift) on our
//! clock. Whatever becomes of this process, the fences see to it that nothing is answered from here past the end.

use std::collections::BTreeMap;

use crate::config::Partition;
use crate::event::LinkState;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};

use super::agreement::{Accepted, Accepting};
use super::peer::Peer;
use super::{Group, InstalledView};

/// The daemon lets go this much before the fences act, or a tenth of a heartbeat if that is less: a fence that acts on a
/// living daemon costs it its life.
const BEFORE_THE_FENCES_MAX: Duration = Duration::from_millis(5);

impl Group {
    /// Until when the fences let this machine answer; nothing while it is in no view.
    pub fn lease(&self) -> Option<Instant> {
        self.lease
    }

    /// When this node lets go by itself.
    pub(super) fn lets_go_at(&self) -> Option<Instant> {
        let early = (self.timing.heartbeat / 10).min(BEFORE_THE_FENCES_MAX);
        self.lease.map(|lease| lease - early)
    }

    /// Past its lease a node lets go before it does anything else. An echo that comes too late revives nothing.
    pub(super) fn end_lease_if_over(&mut self, now: Instant) {
        if self.lets_go_at().is_some_and(|at| now >= at) {
            self.lose_view("its lease has run out", now);
        }
    }

    /// Reckons the lease anew from what the members have echoed. Called with each install, and at the end of each turn, after
    /// [`Group::end_lease_if_over`] at its beginning: so there is one with each view, and one that ran out is never made
    /// good.
    pub(super) fn renew_lease(&mut self, now: Instant) {
        self.note_lapses(now);
        self.forget_failed_votes();
        // A view that may hold nothing needs no lease.
        self.lease = self.view.as_ref().filter(|view| view.primary).map(|view| {
            let end = match self.safety.partition {
                Partition::Component | Partition::Lan => self.lease_of_a_component(view, now),
                Partition::Quorum => self.lease_of_a_lineage(view, now),
            };
            // What should have ended before ends now: our loop is not late because of it.
            (end - self.safety.release_margin).max(now)
        });
    }

    /// Remembers whose promise ended in silence.
    fn note_lapses(&mut self, now: Instant) {
        let Some(view) = &self.view else { return };
        let mut members = view.members.keys().peekable();
        for (id, peer) in &mut self.peers {
            if !next_is(&mut members, id) {
                continue;
            }
            let runs = peer.promised_until.is_some_and(|end| now < end)
                || promise_end(peer, view).is_some_and(|end| now < end);
            let silent =
                || peer.link_state == LinkState::Silent || peer.is_suspect(&self.timing, now);
            peer.lapsed = !runs && (peer.lapsed || silent());
        }
    }

    /// Whoever goes on without us has all of those with it that are in contact with both it and us, and each of them
    /// promised us not to. So the first of their promises to end is the end. If nobody is in contact, those who are heard
    /// and do not hear us count: they may go on without us. If nobody is heard either there is nobody to be afraid of but
    /// those who hear us and whom we do not hear: they go on a whole promise after this turn at the earliest. Half of that is
    /// enough to come to the next one, and long enough for a gate, which opens for no lease of a few milliseconds.
    fn lease_of_a_component(&self, view: &InstalledView, now: Instant) -> Instant {
        let members = || {
            let mut members = view.members.iter().map(|(&id, &start)| (id, Some(start))).peekable();
            self.peers.iter().filter_map(move |(&id, peer)| {
                while members.next_if(|&(member, _)| member < id).is_some() {}
                let is_member = members.peek() == Some(&(id, peer.incarnation));
                (is_member && !peer.has_left()).then_some(peer)
            })
        };
        // It has said that it promises nothing any more: however silent it is since, it goes on without us when its promise ends.
        let told = |peer: &&Peer| {
            let promised = peer.promised_at.map_or(view.at, |at| at.max(view.at));
            peer.echoed_at > Some(promised)
        };
        let in_contact = |peer: &&Peer| {
            peer.link_state == LinkState::TwoWay
                && !peer.lapsed
                && (told(peer)
                    || !peer.is_suspect(&self.timing, now) && !peer.echo_is_stale(&self.timing))
        };
        let heard = |peer: &&Peer| {
            peer.link_state != LinkState::Silent
                && !peer.lapsed
                && !peer.is_suspect(&self.timing, now)
        };
        let end = |peer: &Peer| promise_end(peer, view);
        if let Some(end) = members().filter(in_contact).filter_map(end).min() {
            return end;
        }
        if let Some(end) = members().filter(heard).filter_map(end).min() {
            return end;
        }
        if members().next().is_none() {
            return self.lease_alone(now);
        }
        now + (self.timing.whole_promise / 2).max(self.timing.heartbeat)
            + self.safety.release_margin
    }

    /// Nobody has promised anything. Whoever hears us, in another view or in none, takes us for dead no sooner than a failure
    /// timeout after the last heartbeat that it has heard: the last one that it echoed, or else the last one that we sent.
    fn lease_alone(&self, now: Instant) -> Instant {
        // After a stop somebody echoes what has waited for it in its socket, first of all what is oldest, and hears it now.
        let has_caught_up = |peer: &Peer| {
            let settled = self.timing.settled_after;
            peer.two_way_since.is_some_and(|at| now >= at + settled)
        };
        let in_contact = |peer: &&Peer| {
            peer.link_state == LinkState::TwoWay
                && !peer.is_suspect(&self.timing, now)
                && (!peer.echo_is_stale(&self.timing) || has_caught_up(peer))
        };
        let heard = self.peers.values().filter(in_contact).filter_map(|peer| peer.echoed_at);
        let sent = self.sent.iter().map(|&(_, at)| at).next_back();
        heard.chain(sent).min().unwrap_or(now) + self.timing.whole_promise
    }

    /// A primary view that this node has accepted and not installed may have been installed by the others, and another one after it
    /// that needs nobody of our present view: so each of them binds like the one that is installed here, whatever was accepted
    /// after it. A later primary view without us is the end.
    fn lease_of_a_lineage(&self, view: &InstalledView, now: Instant) -> Instant {
        if self.is_superseded(view.id) {
            return Instant::ORIGIN;
        }
        let voted = self.voted.iter().map(|accepted| self.lease_of_a_primary(accepted, now));
        voted.fold(self.lease_of_a_primary(view, now), Instant::min)
    }

    /// Remembers a primary view that was accepted.
    pub(super) fn note_vote(&mut self, accepted: &Accepted) {
        // Our own is installed by nobody before us.
        if self.is_vote(accepted.ballot) && accepted.ballot.coordinator != self.me {
            let Accepted { ballot, members, promise, proposed_since, at, .. } = accepted;
            let owed_until = self.owed_if_installed(*ballot, members, *promise, *proposed_since);
            self.voted.push(InstalledView {
                id: *ballot,
                members: members.clone(),
                at: *at,
                primary: true,
                owed_until,
            });
        }
    }

    /// What the members of a view that we accept owe us if they accept it as well. Its proposer had heard what it says. The
    /// others accept after it was proposed, and have heard us then for no longer than half of their promises ago; whoever has never
    /// told how long those are counts for nothing.
    fn owed_if_installed(
        &self,
        ballot: ViewId,
        members: &BTreeMap<NodeId, Incarnation>,
        promise: Duration,
        proposed_since: Option<Instant>,
    ) -> BTreeMap<NodeId, Instant> {
        let Some(since) = proposed_since else { return BTreeMap::new() };
        let own = self.timing.whole_promise.min(self.timing.shortened(promise));
        let owed = |&id: &NodeId| {
            let told = self.peers.get(&id)?.promises;
            let promise = if id == ballot.coordinator { own } else { own.min(told?) / 2 };
            Some((id, since + promise))
        };
        members.keys().filter_map(owed).collect()
    }

    /// Whether a vote for this view would end the lease at once, or as good as that, for want of promises by those with whom we would be
    /// in it. They are sure to promise more when they have heard us again.
    pub(super) fn would_cost_the_lease(&self, offer: &Accepting, now: Instant) -> bool {
        let Accepting { ballot, members, promise, proposed_since } = offer;
        let Some(view) = self.view.as_ref().filter(|view| view.primary) else { return false };
        let voted = InstalledView {
            id: *ballot,
            members: members.clone(),
            at: now,
            primary: true,
            owed_until: self.owed_if_installed(*ballot, members, *promise, *proposed_since),
        };
        let enough = now + self.timing.heartbeat / 2 + self.safety.release_margin;
        self.lease_of_a_primary(&voted, now) < enough.min(self.lease_of_a_lineage(view, now))
    }

    /// What is known never to have been installed by anybody binds nobody.
    fn forget_failed_votes(&mut self) {
        let mut voted = core::mem::take(&mut self.voted);
        voted.retain(|accepted| self.may_be_formed(accepted.id));
        self.voted = voted;
    }

    /// Any other primary view has among its members one of every set that could decide for ours: as long as the promises
    /// of one such set last there is none.
    fn lease_of_a_primary(&self, view: &InstalledView, now: Instant) -> Instant {
        let mut ends: Vec<_> = view
            .members
            .iter()
            .filter_map(|(id, incarnation)| {
                if *id == self.me {
                    return Some((now + self.timing.whole_promise, *id));
                }
                let peer = self.peers.get(id)?;
                let present = peer.incarnation == Some(*incarnation) && !peer.has_left();
                Some((promise_end(peer, view).filter(|_| present)?, *id))
            })
            .collect();
        ends.sort_unstable();
        let formed = self.formed(view);
        let by_end: Vec<NodeId> = ends.iter().map(|&(_, id)| id).collect();
        // The later ones together with the one at hand: the largest `t` for which they still decide.
        for (position, &(end, _)) in ends.iter().enumerate().rev() {
            let promising = &by_end[position..];
            if self.decides_for(&formed, promising) {
                return end;
            }
        }
        Instant::ORIGIN
    }
}

/// When the peer's promise to us ends at the earliest, by our clock.
fn promise_end(peer: &Peer, view: &InstalledView) -> Option<Instant> {
    peer.promised_until.max(view.owed_until.get(&peer.id).copied())
}

/// Whether `id` is among `members`. Both are asked for in ascending order, so that nothing is looked up.
pub(super) fn next_is<'a>(
    members: &mut core::iter::Peekable<impl Iterator<Item = &'a NodeId>>,
    id: &NodeId,
) -> bool {
    while members.next_if(|member| *member < id).is_some() {}
    members.next_if(|member| *member == id).is_some()
}
