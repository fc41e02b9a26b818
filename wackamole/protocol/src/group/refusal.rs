//! What a proposer does about a refusal. docs/protocol.md, "Agreement".

use std::collections::BTreeMap;

use crate::event::Event;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};

use super::Group;
use super::message::Refusal;

/// How often a proposal that was refused for a better set is tried again at the pace of heartbeats: those who see a
/// machine die a moment later than we do agree with us by then.
const BETTER_RETRIES: u32 = GONE_RETRIES + 4;

/// Pauses after refusals for a vote double this many times, up to two heartbeats.
const VOTES_DOUBLINGS: u32 = 4;

/// How often one that drops nobody but those who have left is tried again at once before that.
const GONE_RETRIES: u32 = 4;

/// Members whose view was refused.
#[derive(Clone, Debug)]
pub(super) struct HeldOff {
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    /// When they may be proposed again in any case.
    pub(super) until: Instant,
    /// What leaves nothing to wait for before that.
    pub(super) unless: Unless,
}

/// What ends a refusal before its time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unless {
    /// Nothing that is told.
    Nothing,
    /// The refuser heard somebody else, and says that it does not any more.
    HearsNobodyElse(NodeId),
    /// The refuser did not hear one of the members, as we could have known, and says that it hears all of them.
    HearsAll(NodeId),
}

/// A newcomer that has refused to be in a view with us.
#[derive(Clone, Debug)]
pub(super) struct NotYet {
    /// When it may be asked again in any case.
    pub(super) until: Instant,
    /// Those whom it refused.
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    /// The view that it was in then.
    pub(super) view: ViewId,
    /// It heard somebody else then, and that is why.
    pub(super) hears_more: bool,
}

impl Group {
    pub(super) fn handle_refuse(
        &mut self,
        from: NodeId,
        ballot: ViewId,
        highest: ViewId,
        why: Refusal,
        now: Instant,
    ) {
        self.epoch = self.epoch.max(highest.epoch);
        if self.proposal.as_ref().is_none_or(|proposal| proposal.ballot != ballot) {
            return;
        }
        self.event(Event::Refused { ballot, by: from, why: why.phrase() });
        let heartbeat = self.timing.heartbeat;
        let pause = match why {
            // Whoever outbid us is at work; the lower rank tries again first.
            Refusal::Outbid => heartbeat / 4 * (1 + self.rank()),
            Refusal::NotMe | Refusal::Unheard => heartbeat / 2,
            // It has told what it knows; with that the next attempt is another one. Those who accepted this one tell what they know
            // when it is on their disks: whoever does not wait for that is refused by them the next time, and so on for ever.
            Refusal::Votes => heartbeat / 8 * (1 << self.refusals.min(VOTES_DOUBLINGS)),
            // Whoever has left told everybody. The refuser has not got its turn to read it yet.
            Refusal::Better if self.refusals < GONE_RETRIES && self.drops_only_the_gone() => {
                heartbeat / 16
            }
            // The refuser may learn within a heartbeat what we know; if it then still refuses it knows more than we do.
            Refusal::Better if self.refusals < BETTER_RETRIES => heartbeat,
            Refusal::Better => self.timing.failure_timeout,
            Refusal::Debt { remaining_us } => Duration::from_micros(remaining_us.into()),
        };
        // The attempt is over; those who accepted it wait for a higher ballot.
        if let Some(proposal) = self.proposal.clone() {
            self.drop_proposal();
            self.refusals += 1;
            let bound_elsewhere = matches!(why, Refusal::Better | Refusal::Debt { .. });
            let better = matches!(why, Refusal::Better);
            let hears_more = better && self.hears_others(from, &proposal.members);
            if bound_elsewhere && !self.is_present(from) {
                // A newcomer that is not free yet keeps nobody waiting.
                let view = self.peers.get(&from).map_or(ViewId::NONE, |peer| peer.view);
                let members = proposal.members;
                self.not_yet.insert(from, NotYet { until: now + pause, members, view, hears_more });
            } else {
                let unless = match why {
                    // If it does not say so it refuses for something that its heartbeats do not tell.
                    Refusal::Unheard if !self.hears_all(from, &proposal.members) => {
                        Unless::HearsAll(from)
                    }
                    _ if hears_more => Unless::HearsNobodyElse(from),
                    _ => Unless::Nothing,
                };
                self.hold_off(proposal.members, pause, unless, now);
            }
        }
        self.dirty = true;
    }

    /// Whether everybody whom our proposal takes out of the view has left, or has been started anew.
    fn drops_only_the_gone(&self) -> bool {
        let (Some(view), Some(proposal)) = (&self.view, &self.proposal) else { return false };
        let dropped = view.members.iter().filter(|&(id, i)| proposal.members.get(id) != Some(i));
        dropped.into_iter().all(|(id, incarnation)| {
            self.peers
                .get(id)
                .is_some_and(|peer| peer.has_left() || peer.incarnation != Some(*incarnation))
        })
    }

    /// Does not propose these members again for a while. Other members may be proposed at any time.
    pub(super) fn hold_off(
        &mut self,
        members: BTreeMap<NodeId, Incarnation>,
        pause: Duration,
        unless: Unless,
        now: Instant,
    ) {
        self.held_off = Some(HeldOff { members, until: now + pause, unless });
    }

    /// Until when these members may not be proposed, by what a refuser said and has said since.
    pub(super) fn held_off_until(
        &self,
        members: &BTreeMap<NodeId, Incarnation>,
    ) -> Option<Instant> {
        let held = self.held_off.as_ref().filter(|held| held.members == *members)?;
        let over = match held.unless {
            Unless::Nothing => false,
            Unless::HearsNobodyElse(id) => !self.hears_others(id, members),
            Unless::HearsAll(id) => self.hears_all(id, members),
        };
        (!over).then_some(held.until)
    }

    /// Whether this peer says that it hears all of these.
    fn hears_all(&self, id: NodeId, members: &BTreeMap<NodeId, Incarnation>) -> bool {
        self.peers.get(&id).is_some_and(|peer| {
            let hears = |other: &NodeId| peer.row.get(other).is_some_and(|entry| entry.heard);
            members.keys().all(|other| *other == id || hears(other))
        })
    }

    /// Whether this peer says that it hears anybody but these.
    pub(super) fn hears_others(&self, id: NodeId, members: &BTreeMap<NodeId, Incarnation>) -> bool {
        self.peers.get(&id).is_some_and(|peer| {
            peer.row.iter().any(|(other, entry)| {
                *other != self.me && entry.heard && !members.contains_key(other)
            })
        })
    }

    fn rank(&self) -> u32 {
        let rank = self.ranks.iter().position(|&id| id == self.me).unwrap_or(0);
        u32::try_from(rank).unwrap_or(u32::MAX)
    }
}
