//! What this node owes to members that a proposal leaves out: promises that are not over. docs/protocol.md, "Promises".

use std::collections::BTreeMap;

use crate::id::{Incarnation, NodeId};
use crate::time::{Duration, Instant};

use super::Group;

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

    /// Stops renewing the promises to those who would be dropped, so that the debt ends.
    pub(super) fn freeze_promises(
        &mut self,
        members: &BTreeMap<NodeId, Incarnation>,
        now: Instant,
    ) {
        for (id, incarnation) in self.creditors() {
            if members.get(&id) != Some(&incarnation)
                && let Some(peer) = self.peers.get_mut(&id)
            {
                peer.freeze(now);
                peer.given_up_at = Some(now);
            }
        }
        self.hasten_heartbeat(now);
    }
}
