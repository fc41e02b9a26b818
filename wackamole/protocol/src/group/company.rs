//! Whom a view could contain, by what everybody says: who is in contact with us, and who of those hear each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::LinkState;
use crate::id::{Incarnation, NodeId};
use crate::time::Instant;

use super::Group;
use super::matrix::Matrix;
use super::peer::{Peer, RowEntry};

/// One of two that are looked at as a pair.
struct Side<'a> {
    id: NodeId,
    peer: Option<&'a Peer>,
    /// It is a member of the present view.
    present: bool,
}

impl Group {
    /// The best set of nodes that this node could be in a view with, by what everybody says.
    ///
    /// Members of the present view who still hear each other stay together: newcomers that one of them does not hear
    /// have to wait, were they ever so many. Otherwise two components that meet would tear each other apart while only
    /// half of the links are known.
    pub(super) fn best_set(&self, now: Instant) -> BTreeMap<NodeId, Incarnation> {
        if let Some(whole) = self.whole_view() {
            return whole.clone();
        }
        let (present, others): (Vec<NodeId>, Vec<NodeId>) = self
            .ranks
            .iter()
            .copied()
            .filter(|id| {
                *id == self.me
                    || self.peers.get(id).is_some_and(|p| p.link_state == LinkState::TwoWay)
            })
            .partition(|&id| id == self.me || self.is_present(id));
        let mut best = self.best_of(&present, now);
        let mut newcomers: Vec<NodeId> = others
            .into_iter()
            .filter(|id| best.iter().all(|&member| self.pair_is_usable(*id, member, now)))
            .collect();
        while !newcomers.is_empty() {
            let wider = |id: &NodeId| best.contains(id) || newcomers.contains(id);
            let candidates: Vec<NodeId> = self.ranks.iter().copied().filter(wider).collect();
            let widest = self.best_of(&candidates, now);
            let asked = newcomers.len();
            newcomers.retain(|id| {
                !self.refuses_still(*id, &widest, now)
                    // A view that may hold nothing is no reason to wait for one of its members: whoever is, or can be, primary
                    // goes on without it (`scenarios/365-the-primary-hears-one-of-a-larger-view.toml`).
                    && (self.votes.is_none() || !self.keeps_to_its_view(*id, &widest))
            });
            if newcomers.len() == asked {
                best = widest;
                break;
            }
        }
        best.into_iter().filter_map(|id| Some((id, self.incarnation_of(id)?))).collect()
    }

    /// The members of the present view, if they are all nodes that are configured, each in contact with us, and none of them says
    /// that it does not hear another one: as nearly always.
    fn whole_view(&self) -> Option<&BTreeMap<NodeId, Incarnation>> {
        let members = self.view.as_ref().map(|view| &view.members)?;
        let in_contact = |peer: &Peer| {
            peer.link_state == LinkState::TwoWay
                && members.get(&peer.id).is_some_and(|start| peer.incarnation == Some(*start))
        };
        let whole = members.len() == self.ranks.len() && self.peers.values().all(in_contact);
        (whole && !self.is_disputed()).then_some(members)
    }

    /// Whether `newcomer` has lately refused to be in a view with these, or with more than these. That it is bound to somebody
    /// else tells nothing about a view in which somebody is whom it was not asked about: it may be bound to that one. Nor does
    /// it once it has agreed with others on a view, as it was free then, or hears nobody else any more.
    fn refuses_still(&self, newcomer: NodeId, nodes: &BTreeSet<NodeId>, now: Instant) -> bool {
        self.not_yet.get(&newcomer).is_some_and(|refusal| {
            let was_asked =
                |id: &NodeId| refusal.members.get(id).copied() == self.incarnation_of(*id);
            now < refusal.until
                && self.peers.get(&newcomer).is_some_and(|peer| peer.view == refusal.view)
                && (!refusal.hears_more || self.hears_others(newcomer, &refusal.members))
                && nodes.iter().all(was_asked)
        })
    }

    /// The best set among `nodes`, which are in rank order and contain this one.
    fn best_of(&self, nodes: &[NodeId], now: Instant) -> BTreeSet<NodeId> {
        let mut broken = Vec::new();
        let sides: Vec<_> = nodes.iter().map(|&id| self.side(id)).collect();
        for (a, first) in sides.iter().enumerate() {
            for (b, second) in sides.iter().enumerate().skip(a + 1) {
                if !self.can_pair(first, second, now) {
                    broken.push((a, b));
                }
            }
        }
        if broken.is_empty() {
            return nodes.iter().copied().collect();
        }
        let mut matrix = Matrix::new(nodes.iter().map(|&id| (id, self.is_present(id))));
        for (a, b) in broken {
            matrix.break_pair(a, b);
        }
        matrix.best_with(nodes.iter().position(|&id| id == self.me).unwrap_or(0))
    }

    /// A member of the present view in its present incarnation.
    pub(super) fn is_present(&self, id: NodeId) -> bool {
        self.view.as_ref().is_some_and(|view| {
            view.members.get(&id).is_some_and(|&i| self.incarnation_of(id) == Some(i))
        })
    }

    /// Whether two peers hear each other, by what they say. To be taken into a view together they must both say so. To
    /// be separated one must have said that it does not hear the other, and the other must have been alive since then:
    /// somebody who has just died is missed by one peer a moment before the next.
    fn pair_is_usable(&self, a: NodeId, b: NodeId, now: Instant) -> bool {
        self.can_pair(&self.side(a), &self.side(b), now)
    }

    fn side(&self, id: NodeId) -> Side<'_> {
        Side { id, peer: self.peers.get(&id), present: self.is_present(id) }
    }

    fn can_pair(&self, a: &Side<'_>, b: &Side<'_>, now: Instant) -> bool {
        if a.id == self.me || b.id == self.me {
            return true; // only those whose link to us is two-way are asked about
        }
        let (Some(peer_a), Some(peer_b)) = (a.peer, b.peer) else { return false };
        let says = |peer: &Peer, other: NodeId| peer.row.get(&other).copied();
        if a.present && b.present {
            let grace = self.timing.settled_after;
            let denied = |peer: &Peer, other: &Peer| {
                says(peer, other.id).is_some_and(|entry| {
                    !entry.heard
                        && now >= entry.since + grace
                        && other.heard_at.is_some_and(|at| at >= entry.since + grace)
                })
            };
            !denied(peer_a, peer_b) && !denied(peer_b, peer_a)
        } else {
            says(peer_a, b.id).is_some_and(|entry| entry.heard)
                && says(peer_b, a.id).is_some_and(|entry| entry.heard)
        }
    }

    /// Whether a member of the present view has said for long enough that it does not hear this one, which lives.
    pub(super) fn is_denied(&self, id: NodeId, now: Instant) -> bool {
        let denies = |peer: &Peer| {
            peer.row
                .get(&id)
                .is_some_and(|entry| !entry.heard && now >= entry.since + self.timing.settled_after)
        };
        self.peers.values().any(|peer| denies(peer) && self.is_present(peer.id))
    }

    /// Whether a member of the present view says that it does not hear another one.
    pub(super) fn is_disputed(&self) -> bool {
        self.peers.values().any(|peer| {
            let denied = |(id, entry): (&NodeId, &RowEntry)| {
                !entry.heard && *id != self.me && self.is_present(*id)
            };
            peer.row.iter().any(denied) && self.is_present(peer.id)
        })
    }
}
