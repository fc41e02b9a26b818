//! What this node owes to members that a proposal leaves out: promises that are not over. docs/protocol.md, "Promises".

use std::collections::BTreeMap;

use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};

use super::Group;
use super::peer::Peer;

/// A ballot that was accepted before the highest one, and not installed here.
#[derive(Clone, Debug)]
pub(super) struct EarlierAccept {
    members: BTreeMap<NodeId, Incarnation>,
    /// Nobody installs it from then on, if nobody has.
    until: Instant,
}

impl Group {
    /// Those to whom an earlier start of this node may have promised something: promises survive a restart.
    fn earlier_debt(&self, members: &BTreeMap<NodeId, Incarnation>, now: Instant) -> Duration {
        let promised = self.safety.promised_before.max(self.timing.failure_timeout);
        let over = self.started_at + promised;
        let owed_to_somebody =
            self.peers.values().any(|peer| !members.contains_key(&peer.id) && !peer.has_left());
        let earlier = if owed_to_somebody { over.since(now) } else { Duration::ZERO };
        // Whoever was given a vote was given the promises that its former owner made.
        let inherited = match &self.votes {
            Some(votes) if self.is_bound_by_a_vote(members) => votes.inherited_until().since(now),
            _ => Duration::ZERO,
        };
        earlier.max(inherited)
    }

    /// Those to whom this node has promised to accept no view without them.
    fn creditors(&self) -> BTreeMap<NodeId, Incarnation> {
        let mut creditors = BTreeMap::new();
        if let Some(view) = &self.view {
            creditors.extend(view.members.iter().map(|(&id, &i)| (id, i)));
        }
        if let Some(accepted) = &self.accepted {
            creditors.extend(accepted.members.iter().map(|(&id, &i)| (id, i)));
        }
        creditors.remove(&self.me);
        creditors
    }

    /// The longest promise to anybody who is not among `members`. A creditor that has left or restarted is owed nothing.
    pub(super) fn largest_debt(
        &self,
        members: &BTreeMap<NodeId, Incarnation>,
        now: Instant,
    ) -> Duration {
        self.creditors()
            .into_iter()
            .filter(|(id, incarnation)| members.get(id) != Some(incarnation))
            .filter_map(|(id, incarnation)| {
                let peer = self.peers.get(&id)?;
                (peer.incarnation == Some(incarnation)).then(|| peer.debt(&self.timing, now))
            })
            .max()
            .unwrap_or(Duration::ZERO)
            .max(self.earlier_debt(members, now))
    }

    /// Whether enough is left of our promise to a peer for a view with it, so that a lease can come of it which lasts until we promise more;
    /// for a vote more than half, because that much is counted on before we are heard again.
    pub(super) fn can_promise(&self, peer: &Peer, as_a_vote: bool, now: Instant) -> bool {
        let needed = if as_a_vote {
            self.timing.failure_timeout / 2
        } else {
            self.timing.heartbeat + self.safety.release_margin
        };
        let left = if peer.is_given_up(&self.timing, now) {
            peer.debt(&self.timing, now)
        } else {
            peer.debt_if_thawed(&self.timing, now)
        };
        left > needed
    }

    /// A view with these is about to be accepted: nobody has been told that we let our promise to any of them run out, or we keep to
    /// that.
    pub(super) fn thaw_promises(&mut self, members: &BTreeMap<NodeId, Incarnation>, now: Instant) {
        for id in members.keys() {
            if let Some(peer) = self.peers.get_mut(id)
                && !peer.is_given_up(&self.timing, now)
            {
                peer.frozen_at = None;
            }
        }
    }

    /// Stops renewing the promises to those who would be dropped, so that the debt ends. If a proposer is told so, we keep to it.
    pub(super) fn freeze_promises(
        &mut self,
        members: &BTreeMap<NodeId, Incarnation>,
        told: Option<ViewId>,
        now: Instant,
    ) {
        for (id, incarnation) in self.creditors() {
            if members.get(&id) != Some(&incarnation)
                && let Some(peer) = self.peers.get_mut(&id)
                // A later start of it is owed nothing, and may well be among them.
                && peer.incarnation == Some(incarnation)
            {
                peer.freeze(now);
                peer.given_up = told.map(|ballot| (now, ballot)).or(peer.given_up);
            }
        }
        self.hasten_heartbeat(now);
    }

    /// The ballot that was the highest until now may be installed by others yet, with our accept.
    /// But not if it was our own, or by whoever proposes now: that is given up, or it was installed before, and then no promise to anybody
    /// who is not in it ran at that time.
    pub(super) fn remember_earlier_accept(&mut self, proposes_now: NodeId, now: Instant) {
        self.earlier_accepts.retain(|_, earlier| now < earlier.until);
        if let Some(earlier) = self.accepted.take_if(|accepted| accepted.awaits_install) {
            let until = earlier.at + self.timing.failure_timeout.max(earlier.promise);
            let members = earlier.members;
            self.earlier_accepts
                .insert(earlier.ballot.coordinator, EarlierAccept { members, until });
        }
        self.earlier_accepts.remove(&self.me);
        self.earlier_accepts.remove(&proposes_now);
    }

    /// A view is installed: its members have accepted something higher than what they had proposed before.
    pub(super) fn forget_earlier_accepts(&mut self, members: &BTreeMap<NodeId, Incarnation>) {
        self.earlier_accepts.retain(|coordinator, _| !members.contains_key(coordinator));
    }

    /// Whether a view without this start of a peer may yet be installed with an accept of ours. As long as that is so an echo must
    /// promise the peer nothing: another member may be keeping a promise to it until then, and from then on ours would stand in
    /// for that one, although both of us have agreed to go on without it.
    pub(super) fn may_go_on_without(
        &self,
        id: NodeId,
        incarnation: Incarnation,
        now: Instant,
    ) -> bool {
        // A start of a proposer that is over installs nothing any more.
        let alive = |proposer: &NodeId, earlier: &EarlierAccept| {
            self.peers.get(proposer).is_some_and(|peer| {
                !peer.has_left() && earlier.members.get(proposer) == peer.incarnation.as_ref()
            })
        };
        self.earlier_accepts
            .iter()
            .filter(|(proposer, earlier)| now < earlier.until && alive(proposer, earlier))
            .any(|(_, earlier)| earlier.members.get(&id) != Some(&incarnation))
    }
}
