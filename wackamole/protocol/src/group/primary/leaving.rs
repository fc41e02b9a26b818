//! A vote is given away by whoever leaves: to whom, when that is told, and what is over from then on.

use std::collections::BTreeSet;

use crate::event::LinkState;
use crate::group::Group;
use crate::id::{NodeId, ViewId};
use crate::time::Instant;
use crate::vote;

/// What happens to our vote when we leave.
#[derive(Debug)]
pub(super) struct Giving {
    /// When this is on the disk.
    pub(super) ticket: u64,
    /// Then these are told.
    pub(super) concerned: BTreeSet<NodeId>,
    /// Where it had been given before.
    pub(super) before: Option<vote::Proxy>,
    /// There is a vote to give, not only an attempt that failed.
    pub(super) gives: bool,
}

impl Group {
    /// Our vote is somebody else's: who inherits it learns that later than now, and is bound from then on for no longer than a promise of
    /// now lasts.
    pub(in crate::group) fn has_given_its_vote(&self) -> bool {
        self.votes.as_ref().is_some_and(|votes| votes.told_heir)
    }

    /// Whoever leaves proposes nothing any more: it would be gone before that is installed, with the vote that it has in it.
    pub(in crate::group) fn is_past_proposing(&self) -> bool {
        self.votes.as_ref().is_some_and(|votes| votes.given || votes.giving.is_some())
    }

    /// This member of our view has given its vote away: it promises nothing because it leaves.
    pub(in crate::group) fn has_left_its_vote(&self, id: NodeId, view: ViewId) -> bool {
        let proxy = self.votes.as_ref().and_then(|votes| votes.record.proxies.get(&id));
        proxy.is_some_and(|proxy| proxy.up_to >= view)
    }

    /// Somebody else's proposal was voted for, and may yet be installed.
    fn is_awaiting_a_primary_view(&self, now: Instant) -> bool {
        let ballot = self.highest_accepted();
        self.is_agreeing()
            && ballot.coordinator != self.me
            && self.is_vote(ballot)
            && !self.is_acceptance_over(now)
    }

    /// Gives this node's vote away before it leaves, and tells whoever accepted an attempt of its own that nothing will come of that: it
    /// would bind them until this node is back. Returns whether that is done, or there is nothing to give.
    pub(crate) fn give_vote(&mut self, now: Instant) -> bool {
        let me = self.me;
        if self.is_awaiting_a_primary_view(now) {
            return false; // in which it would have a vote, and nobody to give it to yet
        }
        let members: BTreeSet<NodeId> =
            self.view.iter().flat_map(|view| view.members.keys().copied()).collect();
        // A vote that is given to the dead is lost until they are back.
        let is_alive = |id: &NodeId| {
            self.peers.get(id).is_some_and(|peer| {
                peer.link_state == LinkState::TwoWay && !peer.is_suspect(&self.timing, now)
            })
        };
        let alive: BTreeSet<NodeId> = members.iter().copied().filter(is_alive).collect();
        let Some(votes) = &self.votes else { return true };
        if votes.given {
            return true;
        }
        if votes.giving.is_some() {
            return false;
        }
        let attempt = votes.attempt.iter().flat_map(|attempt| &attempt.formed().voters);
        let asked: BTreeSet<NodeId> = attempt.copied().collect();
        self.drop_proposal();
        let Some(votes) = &mut self.votes else { return true };
        let heirs = votes.record.primary.as_ref().map_or(BTreeSet::new(), |primary| {
            let voters = primary.voters.iter().copied();
            voters.filter(|voter| alive.contains(voter)).collect()
        });
        let before = votes.record.proxies.get(&me).copied();
        let left = vote::leave(&votes.record, me, &heirs);
        if left.is_none() && asked.is_empty() {
            votes.given = true;
            return true;
        }
        let gives = left.is_some();
        votes.record = left.unwrap_or_else(|| votes.record.clone());
        let concerned = members.union(&asked).copied().filter(|&id| id != me).collect();
        votes.giving = Some(Giving { ticket: votes.last_ticket + 1, concerned, before, gives });
        self.save_record();
        false
    }
}
