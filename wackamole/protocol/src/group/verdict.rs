//! What the node concludes from what it hears: links, whether its own view still stands, and whether to propose another.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, LinkState};
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};

use super::peer::Peer;
use super::{Group, GroupOutput, InstalledView};

impl Group {
    /// Looks at everything anew. Cheap, but not free: called when something changed or a deadline has passed.
    pub(super) fn evaluate(&mut self, now: Instant) {
        self.evaluated_at = now;
        self.dirty = false;
        self.refresh_links(now);
        self.disputed = self.is_disputed();
        self.tell_suspects(now);
        self.doubt_own_view(now);
        self.tell_beside(now);
        self.revisit_deferred(now);
        self.consider_proposal(now);
    }

    /// Whether a view waits for this peer to be heard and to echo us.
    pub(super) fn is_awaited(&self, id: NodeId, now: Instant) -> bool {
        self.wanted_since.is_some() && !self.has_echoed_lately(id, now)
    }

    /// The state of each link, told to the log, and to the peers before the next heartbeat.
    fn refresh_links(&mut self, now: Instant) {
        let (me, timing) = (self.me, self.timing);
        let members = self.view.as_ref().map(|view| &view.members);
        let mut changed = false;
        let (mut news, mut gone) = (Vec::new(), Vec::new());
        for peer in self.peers.values_mut() {
            let state = if !peer.is_heard(&timing, now) {
                LinkState::Silent
            } else if peer.is_two_way(me, &timing, now) {
                LinkState::TwoWay
            } else {
                LinkState::OneWay
            };
            if state != peer.link_state {
                changed = true;
                peer.set_link_state(state, now);
                if state == LinkState::Silent {
                    let served = peer.view != ViewId::NONE;
                    peer.forget();
                    // What is under way to a member is delivered as long as the view stands: it may be a permission, and
                    // the silence may end before anybody is dropped.
                    if let Some(incarnation) = peer.incarnation
                        && members.is_none_or(|members| members.get(&peer.id) != Some(&incarnation))
                    {
                        peer.link.reset(incarnation);
                        gone.extend(served.then_some(peer.id));
                    }
                }
            }
            if let Some(state) = peer.link_news(&timing, now) {
                let silent_for = match (state, peer.heard_at) {
                    (LinkState::Silent, Some(at)) => now.since(at),
                    _ => Duration::ZERO,
                };
                news.push(Event::Link { peer: peer.id, state, silent_for });
            }
        }
        if changed {
            self.hasten_heartbeat(now);
        }
        for event in news {
            self.event(event);
        }
        self.outputs.extend(gone.into_iter().map(GroupOutput::Gone));
    }

    /// Tells which members may soon be given up.
    fn tell_suspects(&mut self, now: Instant) {
        let members = self.view.iter().flat_map(|view| &view.members);
        let suspects: BTreeSet<NodeId> = members
            .filter_map(|(id, incarnation)| {
                let peer = self.peers.get(id)?;
                let gone = peer.incarnation != Some(*incarnation) || peer.has_left();
                (gone || peer.is_suspect(&self.timing, now)).then_some(*id)
            })
            .collect();
        if suspects != self.suspects {
            self.suspects.clone_from(&suspects);
            self.outputs.push_back(GroupOutput::Suspects(suspects));
        }
    }

    /// Lets go of a view that the others have left behind.
    fn doubt_own_view(&mut self, now: Instant) {
        if let Some(why) = self.why_to_let_go(now) {
            self.lose_view(why, now);
        }
    }

    fn why_to_let_go(&self, now: Instant) -> Option<&'static str> {
        let view = self.view.as_ref()?;
        let others: Vec<_> = view
            .members
            .iter()
            .filter(|&(&id, _)| id != self.me)
            .filter_map(|(id, incarnation)| {
                // A restarted peer no longer speaks for the member that it was.
                self.peers.get(id).filter(|peer| peer.incarnation == Some(*incarnation))
            })
            .collect();
        if others.iter().any(|peer| {
            peer.link_state != LinkState::Silent
                && peer.view > view.id
                && !peer.row.get(&self.me).is_some_and(|entry| entry.in_view)
        }) {
            return Some("a member is in a newer view without this node");
        }
        if self.is_outranked(now) {
            return Some("a better view is in reach that cannot take this node in");
        }
        if self.is_left_for_another_view(now) {
            return Some("the other members have let go of this view for a better one");
        }
        // docs/protocol.md, "Letting go". A member that hears us and promises nothing is about to drop us. One that does
        // not hear us counts only if nobody else promises anything: of two that do not hear each other one stays.
        let timing = &self.timing;
        let is_over = |peer: &&Peer| {
            now >= peer.promised_at.map_or(view.at, |at| at.max(view.at)) + timing.patience
        };
        let is_dropped_by = |peer: &&Peer| {
            // Whoever has just come back from silence has not had the time to promise.
            peer.link_state == LinkState::TwoWay
                && !peer.lapsed
                && peer.is_promise_withheld(view.at, timing)
                && !self.has_left_its_vote(peer.id, view.id)
        };
        let is_denied_by =
            |peer: &Peer| peer.link_state != LinkState::Silent && peer.echo_is_stale(timing);
        let dropped = others.iter().copied().filter(is_over).any(|peer| is_dropped_by(&peer));
        let alone = others.iter().all(is_over);
        let denied = alone && others.iter().any(|peer| is_denied_by(peer));
        if alone
            && self.votes.is_none()
            && self.peers.values().any(|peer| self.serves_beside_us(peer, now))
        {
            return Some("a node in another view is heard that does not hear this one");
        }
        let why = "the members that are heard promise this node nothing any more";
        (dropped || denied).then_some(why)
    }

    /// Somebody who does not hear us has been in a view without us for so long that it takes us for dead: it serves what we do.
    fn serves_beside_us(&self, peer: &Peer, now: Instant) -> bool {
        let in_view_with_us = peer.row.get(&self.me).is_some_and(|entry| entry.in_view);
        peer.view != ViewId::NONE
            && !in_view_with_us
            && peer.is_deaf_at(&self.timing).is_some_and(|at| now >= at)
    }

    /// Whether we are linked to somebody in another view that is better than ours, and for so long that the two should
    /// have become one: some link in between must be broken. Then the smaller one yields, or both would serve.
    fn is_outranked(&self, now: Instant) -> bool {
        if self.votes.is_some() {
            return false; // of two views only one is primary
        }
        let ours = |view: &InstalledView| {
            let here = |id: &NodeId| *id == self.me || self.is_present(*id) && self.hears(*id);
            view.members.keys().copied().filter(here).collect()
        };
        let Some(view) = &self.view else { return false };
        self.peers.values().any(|peer| {
            self.outranked_at(peer).is_some_and(|at| now >= at)
                && self.is_foreign_view_better(peer, ours(view))
        })
    }

    /// From when on the other view that this peer is in is one that should have become one with ours.
    pub(super) fn outranked_at(&self, peer: &Peer) -> Option<Instant> {
        let view = self.view.as_ref().filter(|view| view.id != peer.view)?;
        peer.two_way_since.map(|at| at.max(view.at) + self.timing.failure_timeout * 2)
    }

    /// A node without a view helps to make no new one beside a view at least as large to which it is linked, unless that one may hold
    /// nothing; and makes none of its own beside one to which somebody defers with whom it is in contact.
    pub(super) fn would_rival_a_view(&self, members: &BTreeMap<NodeId, Incarnation>) -> bool {
        let defers =
            |peer: &Peer| peer.link_state == LinkState::TwoWay && peer.defers_since.is_some();
        self.view.is_none()
            && (members.len() == 1 && self.votes.is_none() && self.peers.values().any(defers)
                || self.peers.values().any(|peer| {
                    peer.link_state == LinkState::TwoWay
                        && peer.view != ViewId::NONE
                        && !members.contains_key(&peer.id)
                        && self.still_with(peer) >= members.len()
                        && !self.alone_may_decide(members, &whole_view_of(peer))
                }))
    }

    /// How many are in the view of this peer, as far as is known: not we, who are in none, nor anybody who has said since that it is in
    /// another one or in none. Two such views would each look as large as what is proposed, and nobody go on
    /// (`regressions/between-two-that-are-left`).
    fn still_with(&self, peer: &Peer) -> usize {
        let has_gone = |id: &NodeId| {
            self.peers.get(id).is_some_and(|other| {
                let since = peer.view_at.map(|at| at + self.timing.heartbeat / 2);
                other.view != peer.view
                    && other.link_state != LinkState::Silent
                    && other.row_at > since
            })
        };
        peer.partners().filter(|id| *id != self.me && !has_gone(id)).count() + 1
    }

    fn hears(&self, id: NodeId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.link_state != LinkState::Silent)
    }

    /// Whether the peer is in a view without us that is larger than `ours`, or equally large and of lower ranks.
    fn is_foreign_view_better(&self, peer: &Peer, ours: BTreeSet<NodeId>) -> bool {
        if peer.view == ViewId::NONE || peer.row.get(&self.me).is_some_and(|e| e.in_view) {
            return false;
        }
        self.is_better(&whole_view_of(peer), &ours)
    }

    /// A member that says, well after the install, that it is in another view or in none: it has let go.
    fn has_strayed(&self, id: NodeId, view: &InstalledView, now: Instant) -> bool {
        let settled = view.at + self.timing.heartbeat / 2;
        now >= settled
            && self.peers.get(&id).is_some_and(|peer| {
                peer.introduced
                    && peer.view != view.id
                    && peer.view_at.is_some_and(|at| at >= settled)
            })
    }

    /// What is under way to silent peers that are in no view with us is not sent any more.
    pub(super) fn give_up_messages_to_outsiders(&mut self) {
        let members = self.view.as_ref().map(|view| &view.members);
        for peer in self.peers.values_mut() {
            if peer.link_state == LinkState::Silent
                && !peer.link.idle()
                && let Some(incarnation) = peer.incarnation
                && members.is_none_or(|members| members.get(&peer.id) != Some(&incarnation))
            {
                peer.link.reset(incarnation);
            }
        }
    }

    pub(super) fn lose_view(&mut self, why: &'static str, now: Instant) {
        self.view = None;
        self.lease = None;
        self.give_up_messages_to_outsiders();
        self.joining_since = now;
        self.wanted_since = None;
        self.dirty = true;
        self.hasten_heartbeat(now);
        self.outputs.push_back(GroupOutput::ViewLost { why });
        self.event(Event::ViewLost { why });
    }

    /// Proposes a view if one is wanted and it is our turn.
    fn consider_proposal(&mut self, now: Instant) {
        self.attempt_at = None;
        let target = self.best_set(now);
        let Self { peers, view, timing, .. } = self;
        for (id, peer) in peers {
            let start = view.as_ref().and_then(|view| view.members.get(id));
            let present = start.is_some() && start == peer.incarnation.as_ref();
            match (target.contains_key(id), peer.is_given_up(timing, now)) {
                // Nobody has a reason to drop it any more.
                (true, false) => peer.frozen_at = None,
                (true, true) => {}
                // All members come to this verdict at about the same time, so their debts end together.
                (false, _) if present => peer.freeze(now),
                (false, _) => {}
            }
        }
        let satisfied = self.view.as_ref().is_some_and(|view| {
            view.members == target
                && !self.has_gap
                && !view.members.keys().any(|id| self.has_strayed(*id, view, now))
                && !self.could_be_primary(view)
        });
        if satisfied && !self.is_agreeing() {
            self.wanted_since = None;
            self.drop_proposal();
            return;
        }
        let wanted_since = *self.wanted_since.get_or_insert(now);
        match self.proposal_due(&target, wanted_since, now) {
            Some(at) if now >= at && !self.is_writing() && !self.is_past_proposing() => {
                self.propose(target, now);
            }
            other => {
                // Pairs, settling times and the disk are looked at again while anything is amiss.
                let again = now + self.timing.heartbeat / 2;
                let due = other.filter(|&at| at > now);
                self.attempt_at = Some(due.map_or(again, |at| at.min(again)));
            }
        }
    }

    /// When this node should propose `target`; `None` if something else has to happen first.
    pub(super) fn proposal_due(
        &self,
        target: &BTreeMap<NodeId, Incarnation>,
        wanted_since: Instant,
        now: Instant,
    ) -> Option<Instant> {
        let timeout = self.timing.failure_timeout;
        let position =
            self.ranks.iter().filter(|id| target.contains_key(id)).position(|&id| id == self.me)?;
        let patience = timeout * u32::try_from(position).unwrap_or(u32::MAX);
        if self.would_rob_a_view(target)
            || self.would_rival_a_view(target)
            || self.must_defer_to_one_way_peer(target)
        {
            return None;
        }
        let mut due = wanted_since + patience;
        if let Some(accepted) = &self.accepted
            && accepted.awaits_install
        {
            let alive = accepted.members.iter().all(|(id, i)| target.get(id) == Some(i));
            let coordinator = accepted.ballot.coordinator;
            let abandoned =
                self.peers.get(&coordinator).is_some_and(|peer| peer.accepted > accepted.ballot);
            if coordinator == self.me && (!alive || self.proposal.is_none()) {
                // One of those we asked is gone, or has refused: ask anew as soon as there is hope.
                due = self.settled_at(target, wanted_since);
            } else if !abandoned && (alive || target.contains_key(&coordinator)) {
                due = due.max(accepted.at + timeout + patience);
            } else {
                // Its proposer is further by now, or gone. Whoever has no view any more has yet to hear who is there.
                due = due.max(self.settled_at(target, wanted_since));
            }
        } else {
            due = due.max(self.settled_at(target, wanted_since));
        }
        if let Some(until) = self.held_off_until(target) {
            due = due.max(until);
        }
        if !self.is_echoed_lately(target, now) {
            return None;
        }
        Some(due)
    }

    /// Whether those have echoed something young enough for a lease to come of it that lasts until they echo the install. After a
    /// stop they have not, until they hear us again: a view that is installed before that ends with its lease, at once.
    fn is_echoed_lately(&self, target: &BTreeMap<NodeId, Incarnation>, now: Instant) -> bool {
        target.keys().filter(|&&id| id != self.me).all(|&id| self.has_echoed_lately(id, now))
    }

    fn has_echoed_lately(&self, id: NodeId, now: Instant) -> bool {
        let needed = self.timing.heartbeat + self.safety.release_margin;
        let age_max = self.timing.failure_timeout.saturating_sub(needed);
        self.peers.get(&id).is_some_and(|peer| {
            peer.echoed_at.is_some_and(|at| now < at + age_max)
                && self.can_promise(peer, false, now)
        })
    }

    /// The proposal would take live members away from a view that is at least as large, or that can grow to a better one: they would
    /// refuse.
    fn would_rob_a_view(&self, target: &BTreeMap<NodeId, Incarnation>) -> bool {
        let target: BTreeSet<NodeId> = target.keys().copied().collect();
        target.iter().any(|id| self.keeps_to_its_view(*id, &target))
    }

    /// Whether this peer is in a view that is not ours and would refuse to leave it for `target`, because somebody would be left out and
    /// that view is at least as large, or can grow to a better one.
    pub(super) fn keeps_to_its_view(&self, id: NodeId, target: &BTreeSet<NodeId>) -> bool {
        let Some(peer) = self.peers.get(&id).filter(|peer| peer.view != ViewId::NONE) else {
            return false;
        };
        if self.view.as_ref().is_some_and(|view| view.id == peer.view) {
            return false;
        }
        let members = peer.row.values().filter(|entry| entry.in_view).count() + 1;
        let left_out: Vec<NodeId> =
            peer.partners().filter(|id| *id != self.me && !target.contains(id)).collect();
        !left_out.is_empty()
            && (target.len() <= members || self.can_outgrow(peer, &left_out, target))
    }

    /// Whether the view of this peer, with those whom it would lose to us, is better than `target` if it takes in all of that who hear
    /// them. Two sets that are about equally good would displace each other's proposals again and again, and nobody be in a view for long
    /// (`regressions/two-sets-of-four`).
    fn can_outgrow(&self, peer: &Peer, left_out: &[NodeId], target: &BTreeSet<NodeId>) -> bool {
        let hears_them = |id: &&NodeId| {
            self.peers.get(id).is_some_and(|other| {
                left_out.iter().all(|id| other.row.get(id).is_some_and(|entry| entry.heard))
            })
        };
        let joins = target.iter().filter(hears_them).copied();
        let mut grown: BTreeSet<NodeId> = whole_view_of(peer).into_iter().chain(joins).collect();
        grown.remove(&self.me);
        self.is_better(&grown, target)
    }

    /// By what is known here `members` could be a primary view, and `others` could not. Where that is wrong a vote is refused, and with
    /// the refusal comes what was not known.
    fn alone_may_decide(
        &self,
        members: &BTreeMap<NodeId, Incarnation>,
        others: &BTreeSet<NodeId>,
    ) -> bool {
        self.could_decide(&members.keys().copied().collect()) && !self.could_decide(others)
    }

    /// Larger, or as large and of lower ranks.
    fn is_better(&self, one: &BTreeSet<NodeId>, other: &BTreeSet<NodeId>) -> bool {
        let absent = |set: &BTreeSet<NodeId>| -> Vec<bool> {
            self.ranks.iter().map(|id| !set.contains(id)).collect()
        };
        one.len() > other.len() || one.len() == other.len() && absent(one) < absent(other)
    }

    /// A node that only hears others, and is heard by nobody, must not take everything: whoever it hears is alive and
    /// serves without it; unless by the votes nobody can without it (`scenarios/366-deaf-to-the-one-that-decides.toml`).
    fn must_defer_to_one_way_peer(&self, target: &BTreeMap<NodeId, Incarnation>) -> bool {
        target.len() == 1
            && self.peers.values().any(|peer| {
                peer.link_state == LinkState::OneWay
                    && !self.alone_may_decide(target, &whole_view_of(peer))
            })
    }

    /// A larger view waits a moment for those who are about to be in it, so that two halves meet in one step, and a
    /// cluster that starts does not go through every size.
    fn settled_at(&self, target: &BTreeMap<NodeId, Incarnation>, wanted_since: Instant) -> Instant {
        let somebody_serves = self.view.is_some()
            || self
                .peers
                .values()
                .any(|peer| target.contains_key(&peer.id) && peer.view != ViewId::NONE);
        if !somebody_serves {
            let complete = target.len() == self.ranks.len();
            // Whoever has just started has heard nobody yet; later a silent peer has been silent for the failure timeout.
            let heard_of = self.started_at + self.timing.failure_timeout;
            let listened = heard_of.max(self.joining_since) + self.timing.heartbeat;
            return if complete { wanted_since } else { wanted_since.max(listened) };
        }
        let shrinking = self
            .view
            .as_ref()
            .is_some_and(|view| view.members.iter().any(|(id, i)| target.get(id) != Some(i)));
        if shrinking {
            return wanted_since;
        }
        let expected: BTreeSet<NodeId> = self
            .peers
            .values()
            .filter(|peer| peer.link_state != LinkState::Silent)
            .flat_map(|peer| {
                let theirs =
                    peer.row.iter().filter(|(_, e)| e.heard && e.in_view).map(|(&id, _)| id);
                theirs.chain([peer.id])
            })
            .collect();
        let complete = expected.iter().all(|id| target.contains_key(id));
        if complete {
            return wanted_since;
        }
        // Counted from the last link that came up: whoever has waited for a view for long has not waited for those.
        let met_at = self.peers.values().filter_map(|peer| peer.two_way_since).max();
        met_at.map_or(wanted_since, |at| at.max(wanted_since)) + self.timing.heartbeat
    }
}

/// Everybody who is in the view that this peer says it is in.
fn whole_view_of(peer: &Peer) -> BTreeSet<NodeId> {
    peer.partners().chain([peer.id]).collect()
}
