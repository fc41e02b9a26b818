//! Another view beside ours, linked to it and not one with it yet. docs/protocol.md, "Beside another view".
//!
//! As a rule the two are one within a heartbeat and a few round trips. Where links work in one direction only, or some do not work at all,
//! they may never be, until one of them yields. What nobody of our view holds may be held in the other one meanwhile: it is left alone.

use std::collections::BTreeMap;

use crate::event::LinkState;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::Instant;

use super::peer::Peer;
use super::{Group, GroupOutput, InstalledView};

/// What is known of another view beside the installed one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    /// Some member was linked to one when it accepted ours. It counts until that member has been heard in ours.
    at_install: bool,
    /// What was told to the agent last.
    told: bool,
    /// What was told to the peers last of our own links.
    linked: bool,
}

impl Group {
    /// Whether somebody who is not among `members` is in contact with us and in a view that is not ours.
    pub(super) fn is_linked_elsewhere(&self, members: &BTreeMap<NodeId, Incarnation>) -> bool {
        // Of two views only one is primary.
        self.votes.is_none() && self.peers.values().any(|peer| self.is_elsewhere(peer, members))
    }

    fn is_elsewhere(&self, peer: &Peer, members: &BTreeMap<NodeId, Incarnation>) -> bool {
        peer.link_state == LinkState::TwoWay
            && peer.view != ViewId::NONE
            && self.view.as_ref().is_none_or(|view| view.id != peer.view)
            && members.get(&peer.id) != peer.incarnation.as_ref()
    }

    /// The links of whoever accepted the view that is about to be installed.
    pub(super) fn note_beside_at_install(&mut self, beside: bool) {
        self.beside.at_install = beside && self.votes.is_none();
    }

    /// Until when a view in which this peer is counts: one of the two has yielded by then, and said so.
    fn minded_until(&self, view: &InstalledView, peer: Option<&Peer>) -> Instant {
        let linked = peer.and_then(|peer| peer.two_way_since);
        let since = linked.map_or(view.at, |at| at.max(view.at));
        since + self.timing.failure_timeout * 2 + self.timing.heartbeat
    }

    /// What this node tells of its own links: that it is linked to another view; or, in none, to one that does not take it in.
    pub(super) fn is_linked_beside(&self, now: Instant) -> bool {
        if self.votes.is_some() {
            return false;
        }
        let Some(view) = &self.view else {
            let with_us = |peer: &Peer| peer.row.get(&self.me).is_some_and(|entry| entry.in_view);
            let serves = |peer: &Peer| peer.view != ViewId::NONE && !with_us(peer);
            return self.peers.values().any(|p| p.link_state == LinkState::TwoWay && serves(p));
        };
        self.peers.values().any(|peer| {
            self.is_elsewhere(peer, &view.members) && now < self.minded_until(view, Some(peer))
        })
    }

    /// Whether some member of our view is linked to another one.
    fn is_beside(&self, now: Instant) -> bool {
        let Some(view) = self.view.as_ref().filter(|_| self.votes.is_none()) else { return false };
        let at_install = self.beside.at_install && now < self.minded_until(view, None);
        let says = |id: &NodeId| {
            self.peers.get(id).is_some_and(|peer| match peer.view == view.id {
                true => peer.beside,
                false => at_install,
            })
        };
        self.is_linked_beside(now) || view.members.keys().any(says)
    }

    /// Tells the agent and the peers, if that changed.
    pub(super) fn tell_beside(&mut self, now: Instant) {
        let linked = self.is_linked_beside(now);
        if core::mem::replace(&mut self.beside.linked, linked) != linked {
            self.hasten_heartbeat(now);
        }
        let beside = self.is_beside(now);
        if core::mem::replace(&mut self.beside.told, beside) != beside {
            self.outputs.push_back(GroupOutput::Beside(beside));
        }
    }

    /// Whoever is alone in a view that it once shared, and is in contact with one that has left it for another view, at least as
    /// large, has that one beside it, though it knows nothing else of it.
    pub(super) fn is_left_for_another_view(&self, now: Instant) -> bool {
        let Some(view) = self.view.as_ref().filter(|_| self.votes.is_none()) else { return false };
        let members = || view.members.keys().filter_map(|id| self.peers.get(id));
        let stays = |peer: &Peer| peer.link_state != LinkState::Silent && peer.view == view.id;
        let gone = |peer: &Peer| self.deferred_at(peer).is_some_and(|at| now >= at);
        members().any(gone) && !members().any(stays)
    }

    /// When a peer has deferred to another view for so long that ours does so, too.
    pub(super) fn deferred_at(&self, peer: &Peer) -> Option<Instant> {
        let linked = peer.link_state == LinkState::TwoWay;
        let since = peer.defers_since.filter(|_| linked)?;
        // Before that it may have deferred to the view from which ours has come.
        let view = self.view.as_ref()?;
        Some(since.max(view.at) + self.timing.failure_timeout)
    }

    /// When the view in which this peer is does not count any more, unless something changes; if there is such a view at all.
    pub(super) fn besides_until(&self, peer: &Peer) -> Option<Instant> {
        let view = self.view.as_ref().filter(|_| self.beside.told)?;
        let stranger = self.is_elsewhere(peer, &view.members).then_some(peer);
        (stranger.is_some() || self.beside.at_install).then(|| self.minded_until(view, stranger))
    }
}
