//! What a member answers to a proposal. docs/protocol.md, "Agreement".

use std::collections::BTreeMap;

use crate::event::Event;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};

use super::Group;
use super::agreement::Accepting;
use super::message::{GroupMessage, Refusal};
use crate::vote::Claim;

/// Somebody's proposal.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) from: NodeId,
    pub(super) ballot: ViewId,
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    pub(super) digest: u64,
    pub(super) promise: Duration,
    /// The latest datagram of ours that the proposer had heard.
    pub(super) heard: Option<u64>,
    pub(super) claim: Option<Claim>,
    /// How often it has waited for its members to be heard again.
    pub(super) waits: u32,
}

/// A proposal that will be looked at again when a promise ends.
#[derive(Clone, Debug)]
pub(super) struct Deferred {
    pub(super) offer: Offer,
    pub(super) until: Instant,
}

/// What to do with a proposal.
enum Answer {
    Accept,
    /// A promise that ends soon is waited out.
    Wait(Duration),
    /// Nobody can count on what we promise until we have heard somebody again.
    WaitToHear,
    Refuse(Refusal),
}

/// So often an eighth of a heartbeat is waited for a member to be heard again: whoever hears us again says so at once.
const WAITS_MAX: u32 = 2;

impl Group {
    pub(super) fn handle_propose(&mut self, mut offer: Offer, now: Instant) {
        let ballot = offer.ballot;
        let proposed_since = offer.heard.and_then(|sequence| self.sent_at(sequence));
        let accepting = Accepting {
            ballot,
            members: offer.members.clone(),
            promise: offer.promise,
            proposed_since,
        };
        let mut answer = self.answer(ballot, &offer.members, offer.claim.is_some(), now);
        if let (Answer::Accept, Some(claim)) = (&answer, &offer.claim) {
            if self.would_cost_the_lease(&accepting, now) {
                answer = Answer::WaitToHear;
            } else if !self.vote_for(ballot, &offer.members, claim) {
                answer = Answer::Refuse(Refusal::Votes);
            }
        }
        match answer {
            Answer::Accept => {
                self.deferred.take_if(|deferred| deferred.offer.ballot <= ballot);
                self.accept(accepting, offer.digest, now);
            }
            Answer::WaitToHear if offer.waits < WAITS_MAX => {
                offer.waits += 1;
                self.defer(offer, self.timing.heartbeat / 8, now);
            }
            Answer::WaitToHear => self.refuse(&offer, Refusal::Unheard, now),
            Answer::Wait(debt) => self.defer(offer, debt, now),
            Answer::Refuse(why) => self.refuse(&offer, why, now),
        }
    }

    /// Of several the highest waits. The others get no answer: their proposers would bid higher at once, and one after the other would
    /// displace the one that waits.
    fn defer(&mut self, offer: Offer, pause: Duration, now: Instant) {
        if self.deferred.as_ref().is_none_or(|deferred| deferred.offer.ballot < offer.ballot) {
            self.deferred = Some(Deferred { offer, until: now + pause });
        }
    }

    fn refuse(&mut self, offer: &Offer, why: Refusal, now: Instant) {
        if let Refusal::Debt { .. } = why {
            self.freeze_promises(&offer.members, Some(offer.ballot), now);
        }
        let ballot = offer.ballot;
        self.event(Event::Refused { ballot, by: self.me, why: why.phrase() });
        let highest = self.highest_accepted();
        let record = self.told_record();
        let refuse = GroupMessage::Refuse { ballot, highest, why, record };
        self.send_message(offer.from, &refuse, now);
    }

    fn answer(
        &self,
        ballot: ViewId,
        members: &BTreeMap<NodeId, Incarnation>,
        as_a_vote: bool,
        now: Instant,
    ) -> Answer {
        if ballot <= self.highest_accepted() {
            return Answer::Refuse(Refusal::Outbid);
        }
        if members.get(&self.me) != Some(&self.incarnation) {
            return Answer::Refuse(Refusal::NotMe);
        }
        if !as_a_vote && self.would_cost_a_primary_view(members) {
            return Answer::Refuse(Refusal::Votes);
        }
        let heard = |id: &NodeId, incarnation: &Incarnation| {
            self.peers.get(id).is_some_and(|peer| {
                peer.incarnation == Some(*incarnation) && peer.is_heard(&self.timing, now)
            })
        };
        if members.iter().any(|(id, i)| *id != self.me && !heard(id, i)) {
            return Answer::Refuse(Refusal::Unheard);
        }
        // Whatever our own loop missed: what a member is promised with this counts from when it was heard, or from when we ceased to
        // renew it.
        let peers = members.keys().filter_map(|id| self.peers.get(id));
        if peers.into_iter().any(|peer| !self.can_promise(peer, as_a_vote, now)) {
            return Answer::WaitToHear;
        }
        if self.would_rival_a_view(members) {
            return Answer::Refuse(Refusal::Better);
        }
        let debt = self.largest_debt(members, now);
        if debt == Duration::ZERO {
            return Answer::Accept;
        }
        // docs/protocol.md, "Promises": a debt that is nearly over is waited out. It is the rule when a machine dies,
        // because every member has heard it last at another moment.
        if debt <= self.timing.overdue_after {
            return Answer::Wait(debt);
        }
        if !self.is_worth_a_member(ballot.coordinator, members, now) {
            return Answer::Refuse(Refusal::Better);
        }
        let remaining_us = u32::try_from(debt.as_micros()).unwrap_or(u32::MAX);
        Answer::Refuse(Refusal::Debt { remaining_us })
    }

    /// Whether a view of `members` justifies that a live member of ours is dropped. Within our view one of two who do not
    /// hear each other has to go. To join others the result must be strictly larger than what we have, and no worse than
    /// the best that we know; of two that are equally large the one with the lower ranks wins everywhere.
    fn is_worth_a_member(
        &self,
        proposer: NodeId,
        members: &BTreeMap<NodeId, Incarnation>,
        now: Instant,
    ) -> bool {
        let best = self.best_set(now);
        let is_ours = self.view.as_ref().is_some_and(|view| view.members.contains_key(&proposer));
        let survivors = best.keys().filter(|&&id| id == self.me || self.is_present(id)).count();
        let ranks = |set: &BTreeMap<NodeId, Incarnation>| -> Vec<bool> {
            self.ranks.iter().map(|id| !set.contains_key(id)).collect()
        };
        (is_ours || members.len() > survivors)
            && (members.len() > best.len()
                || members.len() == best.len() && ranks(members) <= ranks(&best))
    }

    /// Looks again at a proposal whose obstacle may be gone.
    pub(super) fn revisit_deferred(&mut self, now: Instant) {
        if let Some(deferred) = self.deferred.take_if(|deferred| now >= deferred.until) {
            self.handle_propose(deferred.offer, now);
        }
    }
}
