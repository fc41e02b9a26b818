//! Votes for a primary view, carried by the agreement. docs/protocol.md, "Votes". What a vote may be given for is
//! `crate::vote`'s business; here it is asked for, put on the disk before it is told, and remembered.

mod leaving;

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::config::{NodeConfig, Partition, QuorumKind};
use crate::event::Event;
use crate::id::{Incarnation, NodeId, ViewId};
use crate::time::{Duration, Instant};
use crate::vote::{self, Attempt, Claim, Damaged, Formed, Record, Rules, Verdict, WhyNot};

use super::message::GroupMessage;
use super::{Group, GroupOutput, InstalledView};
use leaving::Giving;

/// What a node knows of votes, its own and those of others. Exists only under [`Partition::Quorum`].
pub(super) struct Votes {
    rules: Rules,
    record: Record,
    /// `accepted` of the last record that is surely on the disk.
    stored: ViewId,
    /// Records on their way to the disk: their tickets, and what they accepted.
    saving: VecDeque<(u64, ViewId)>,
    last_ticket: u64,
    /// What the others said last.
    said: BTreeMap<NodeId, Record>,
    /// This node's own attempt.
    attempt: Option<Attempt>,
    /// What was accepted last as a primary view, with its lineage.
    accepted: Option<(u64, Formed)>,
    /// The agent's state for the ballot that was accepted, which waits for the disk.
    unsent: Option<(ViewId, Vec<u8>)>,
    /// Our vote is about to be given away.
    giving: Option<Giving>,
    /// That is done, or there was nothing to give.
    given: bool,
    /// Somebody has been told that our vote is somebody else's.
    told_heir: bool,
    /// A vote that came to us brought its former owner's promises with it, until then.
    inherited_until: Instant,
    /// One of these has to answer before a primary view is proposed that loses anybody; none if nothing is asked.
    must_reach: Vec<IpAddr>,
    /// Those that do.
    answering: BTreeSet<IpAddr>,
}

impl Votes {
    pub(super) fn new(config: &NodeConfig) -> Option<Self> {
        (config.safety.partition == Partition::Quorum).then(|| Self {
            rules: Rules {
                kind: config.safety.quorum,
                min_quorum: config.safety.min_quorum,
                nodes: config.nodes.iter().map(|node| node.id()).collect(),
                witness_ok: config.must_reach.is_empty(),
            },
            record: Record::default(),
            stored: ViewId::NONE,
            saving: VecDeque::new(),
            last_ticket: 0,
            said: BTreeMap::new(),
            attempt: None,
            accepted: None,
            unsent: None,
            giving: None,
            given: false,
            told_heir: false,
            inherited_until: Instant::ORIGIN,
            must_reach: config.must_reach.clone(),
            answering: BTreeSet::new(),
        })
    }

    /// Until when promises bind that came with a vote.
    pub(super) fn inherited_until(&self) -> Instant {
        self.inherited_until
    }

    /// What may be told to others. Not that our vote is somebody else's while a restart would not know of it.
    fn said(&self, me: NodeId) -> Record {
        let mut record = self.record.said(self.stored);
        if let Some(giving) = &self.giving {
            record.proxies.remove(&me);
            record.proxies.extend(giving.before.map(|before| (me, before)));
        }
        record
    }

    fn claim(&self, members: &BTreeSet<NodeId>, me: NodeId) -> Claim {
        let lineage = self.record.lineage;
        let mute: BTreeSet<NodeId> = members
            .iter()
            .filter(|&&id| {
                let said = if id == me { Some(&self.record) } else { self.said.get(&id) };
                said.is_some_and(|record| record.is_mute(lineage))
            })
            .copied()
            .collect();
        // What a member lists and we know to have failed, by what a third one told us, the member cannot know from us: it
        // refuses a claim that lacks it. Listed, it asks for more votes, never for fewer. What it can conclude from this very claim
        // is not listed: it would conclude nothing then.
        let said = self.said(me);
        let mut record = said.clone();
        let formed = record.primary.as_ref().map_or(ViewId::NONE, |primary| primary.ballot);
        let listed = members.iter().filter_map(|id| self.said.get(id));
        for attempt in listed.filter(|said| said.lineage == lineage).flat_map(|said| &said.attempts)
        {
            if attempt.ballot > formed
                && !said.rules_out(me, attempt)
                && let Err(at) = record.attempts.binary_search(attempt)
            {
                record.attempts.insert(at, attempt.clone());
            }
        }
        Claim { record, mute }
    }

    fn save(&mut self) -> (u64, Vec<u8>) {
        self.last_ticket += 1;
        self.saving.push_back((self.last_ticket, self.record.accepted));
        (self.last_ticket, self.record.to_bytes())
    }
}

impl Group {
    /// Takes over the record that an earlier start of this node stored. To be called before anything else.
    ///
    /// # Errors
    /// It is damaged: then this node has no vote, as if it had lost its disk.
    pub fn recall(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let Some(votes) = &mut self.votes else { return Ok(()) };
        let record = Record::from_bytes(bytes)?;
        votes.stored = record.accepted;
        self.epoch = self.epoch.max(record.highest().epoch);
        votes.record = record;
        Ok(())
    }

    /// Records with this ticket and lower ones are on the disk.
    pub fn handle_saved(&mut self, ticket: u64, now: Instant) {
        let Some(votes) = &mut self.votes else { return };
        while let Some((_, accepted)) =
            votes.saving.front().copied().filter(|(saved, _)| *saved <= ticket)
        {
            votes.saving.pop_front();
            votes.stored = votes.stored.max(accepted);
        }
        // Whoever waited with a proposal may go on.
        self.dirty |= votes.saving.is_empty();
        let stored = votes.stored;
        if let Some(giving) = votes.giving.take_if(|giving| giving.ticket <= ticket) {
            votes.given = true;
            votes.told_heir = giving.gives;
            let message = GroupMessage::Vote { record: votes.said(self.me) };
            for id in giving.concerned {
                self.send_message(id, &message, now);
            }
        }
        let unsent = self
            .votes
            .as_mut()
            .and_then(|votes| votes.unsent.take_if(|(ballot, _)| *ballot <= stored));
        if let Some((ballot, state)) = unsent {
            self.provide_state(ballot, state, now);
        }
        if self.dirty {
            // A turn is due: if this one is late, that has to be noticed before anything is decided.
            self.attempt_at = Some(now.max(self.evaluated_at + Duration::from_nanos(1)));
        }
    }

    /// Whether the accept of a ballot has to wait for the disk; then the state waits with it.
    pub(super) fn keep_for_the_disk(&mut self, ballot: ViewId, state: &[u8]) -> bool {
        let Some(votes) = &mut self.votes else { return false };
        let waits = votes.accepted.as_ref().is_some_and(|(_, formed)| formed.ballot == ballot)
            && votes.stored < ballot;
        if waits {
            votes.unsent = Some((ballot, state.to_vec()));
        }
        waits
    }

    fn save_record(&mut self) {
        if let Some(votes) = &mut self.votes {
            let (ticket, record) = votes.save();
            self.outputs.push_back(GroupOutput::Save { ticket, record });
        }
    }

    /// This node's record, as it goes with what it answers.
    pub(super) fn told_record(&self) -> Option<Record> {
        self.votes.as_ref().map(|votes| votes.said(self.me))
    }

    /// Somebody told its record.
    pub(super) fn learn_record(&mut self, from: NodeId, record: Option<Record>, now: Instant) {
        let (Some(votes), Some(record)) = (&mut self.votes, record) else { return };
        self.epoch = self.epoch.max(record.highest().epoch);
        let (lineage, given) = (votes.record.lineage, votes.record.proxies.clone());
        votes.record.learn(self.me, &[(from, &record)]);
        // Whoever told it: a vote that can be counted from here on brings its former owner's promises with it.
        if votes.record.proxies.iter().any(|(leaver, proxy)| given.get(leaver) != Some(proxy)) {
            // Its timeout may be another one while the cluster's is being changed.
            let told = self.peers.values().map(|peer| peer.promise_max).max().unwrap_or_default();
            votes.inherited_until = now + told.max(self.timing.failure_timeout);
        }
        let forced = votes.record.lineage > lineage;
        votes.said.insert(from, record);
        self.dirty = true;
        self.overtake();
        if forced {
            self.drop_proposal();
            if self.view.as_ref().is_some_and(|view| view.primary) {
                self.lose_view("an operator has forced another primary view", now);
            }
        }
    }

    /// What this node has only heard of, and will not accept any more, binds nobody.
    pub(super) fn overtake(&mut self) {
        let (me, ballot) = (self.me, self.highest_accepted());
        if self.votes.as_mut().is_some_and(|votes| votes.record.overtake(me, ballot)) {
            self.save_record();
        }
    }

    /// Whether promises that came with a vote bind this node to somebody who is not among `members`.
    pub(super) fn is_bound_by_a_vote(&self, members: &BTreeMap<NodeId, Incarnation>) -> bool {
        let Some(votes) = &self.votes else { return false };
        let viewed = self.view.iter().flat_map(|view| view.members.keys());
        let voters = votes.record.views().flat_map(|view| &view.voters);
        viewed.chain(voters).any(|id| {
            !members.contains_key(id) && self.peers.get(id).is_some_and(|peer| !peer.has_left())
        })
    }

    /// A member that leaves gives its vote away, and what it promised.
    pub(super) fn handle_vote(&mut self, from: NodeId, record: Record, now: Instant) {
        self.learn_record(from, Some(record), now);
        self.save_record();
    }

    /// Begins an attempt for a primary view of these members, if they may be one. What is put on the disk is on its way when
    /// this returns; the proposal need not wait for it.
    pub(super) fn attempt_primary(
        &mut self,
        ballot: ViewId,
        members: &BTreeMap<NodeId, Incarnation>,
    ) -> Option<Claim> {
        let ids: BTreeSet<NodeId> = members.keys().copied().collect();
        let me = self.me;
        let votes = self.votes.as_mut()?;
        let claim = votes.claim(&ids, me);
        // What was accepted and is not on the disk yet is not told, so the claim may lack it: then it is not yet time.
        let attempt = Attempt::begin(&mut votes.record, &claim, ballot, &ids, &votes.rules).ok()?;
        votes.accepted = Some((attempt.lineage(), attempt.formed().clone()));
        votes.attempt = Some(attempt);
        self.save_record();
        Some(claim)
    }

    /// Judges somebody's claim. If it is good, the vote is on its way to the disk when this returns.
    pub(super) fn vote_for(
        &mut self,
        ballot: ViewId,
        members: &BTreeMap<NodeId, Incarnation>,
        claim: &Claim,
    ) -> bool {
        let ids: BTreeSet<NodeId> = members.keys().copied().collect();
        let me = self.me;
        let Some(votes) = &mut self.votes else { return false };
        match vote::judge(&votes.record, claim, ballot, &ids, me, &votes.rules) {
            Verdict::Accept(record) => {
                votes.record = record;
                let formed = Formed { ballot, voters: votes.rules.ranked(ids.iter()) };
                votes.accepted = Some((votes.record.lineage, formed));
                self.save_record();
                true
            }
            Verdict::Refuse(_) => false,
        }
    }

    /// Counts an accept towards the attempt.
    pub(super) fn count_vote(&mut self, from: NodeId, record: Option<&Record>) {
        let Some(votes) = &mut self.votes else { return };
        let own = (from == self.me).then_some(&votes.record);
        if let (Some(attempt), Some(record)) = (&mut votes.attempt, own.or(record)) {
            attempt.accepted_by(from, record);
        }
    }

    /// The attempt has all votes: from here on it may have been formed. `false` if it is not so.
    pub(super) fn form_primary(&mut self, ballot: ViewId) -> bool {
        let Some(votes) = &mut self.votes else { return false };
        let Some(attempt) = votes.attempt.take_if(|attempt| attempt.formed().ballot == ballot)
        else {
            return false;
        };
        match attempt.form(&mut votes.record) {
            Ok(_) => true,
            Err(attempt) => {
                attempt.abandon(&mut votes.record);
                self.save_record();
                false
            }
        }
    }

    /// The proposal is given up, and an attempt with it: nobody will ever hear of its install. That is written at once: until
    /// it is on the disk those who accepted the attempt cannot know that it failed, and refuse the next one; and a restart
    /// would be bound by it until all of its voters are heard.
    pub(super) fn drop_proposal(&mut self) {
        self.proposal = None;
        if let Some(votes) = &mut self.votes
            && let Some(attempt) = votes.attempt.take()
        {
            attempt.abandon(&mut votes.record);
            self.save_record();
        }
    }

    /// Whether this node has accepted that ballot as a primary view.
    pub(super) fn is_vote(&self, ballot: ViewId) -> bool {
        let votes = self.votes.as_ref();
        votes.is_some_and(|v| v.accepted.as_ref().is_some_and(|(_, f)| f.ballot == ballot))
    }

    /// Whether a primary view that this node has accepted is, or may be, installed somewhere.
    pub(super) fn may_be_formed(&self, ballot: ViewId) -> bool {
        self.votes.as_ref().is_some_and(|v| v.record.views().any(|view| view.ballot == ballot))
    }

    /// A primary view later than this one is known of which this node is no member. Under static majority nobody keeps that up.
    pub(super) fn is_superseded(&self, view: ViewId) -> bool {
        let dynamic = self.votes.iter().filter(|votes| votes.rules.kind == QuorumKind::Dynamic);
        dynamic
            .filter_map(|votes| votes.record.primary.as_ref())
            .any(|later| later.ballot > view && !later.voters.contains(&self.me))
    }

    /// A record is on its way to the disk. Until it is there this node does not say all that it knows, and its claims lack
    /// it: whoever knows more would refuse, and a disk that is slower than the proposals would never catch up.
    pub(super) fn is_writing(&self) -> bool {
        self.votes.as_ref().is_some_and(|votes| !votes.saving.is_empty())
    }

    /// A primary view is installed here. Returns whether it is primary by what this node knows: not if it has heard of a
    /// higher lineage since it accepted.
    pub(super) fn note_formed(&mut self, ballot: ViewId) -> bool {
        let me = self.me;
        let Some(votes) = &mut self.votes else { return true };
        let Some((lineage, formed)) = votes.accepted.take_if(|(_, f)| f.ballot == ballot) else {
            return false;
        };
        votes.record.install(me, lineage, &formed);
        // Whoever is leaving has a vote again in this one, to be given away like the one before; unless that was given away with it.
        if !votes.record.proxies.contains_key(&me) {
            (votes.giving, votes.given, votes.told_heir) = (None, false, false);
        }
        // All members have a vote again; what they said before they knew of the view would deny it.
        votes.said.clear();
        let primary = votes.record.lineage == lineage
            && (votes.rules.kind == QuorumKind::Static
                || votes.record.primary.as_ref() == Some(&formed));
        self.save_record();
        primary
    }

    /// The view at hand is not primary, and by what is known now it could be.
    pub(super) fn could_be_primary(&self, view: &InstalledView) -> bool {
        self.votes.is_some()
            && !view.primary
            && self.could_decide(&view.members.keys().copied().collect())
    }

    /// By what is known now these could be a primary view; where the policy knows of none anybody could.
    pub(super) fn could_decide(&self, ids: &BTreeSet<NodeId>) -> bool {
        self.votes
            .as_ref()
            .is_none_or(|v| vote::may_propose(&v.claim(ids, self.me), ids, &v.rules).is_ok())
    }

    /// A proposal by somebody who does not know what it would take to be primary (a blank disk, or one from long ago) would end the primary
    /// view that we are in, for want of a claim that the same members could make by what we know. Told our record, it can make it.
    pub(super) fn would_cost_a_primary_view(
        &self,
        members: &BTreeMap<NodeId, Incarnation>,
    ) -> bool {
        self.votes.is_some()
            && self.view.as_ref().is_some_and(|view| view.primary)
            && self.could_decide(&members.keys().copied().collect())
    }

    /// A primary view as one that could be succeeded.
    pub(super) fn formed(&self, view: &InstalledView) -> Formed {
        let rules = self.votes.iter().map(|votes| &votes.rules);
        let voters = rules.flat_map(|rules| rules.ranked(view.members.keys())).collect();
        Formed { ballot: view.id, voters }
    }

    /// Whether these members of a primary view, this node among them, could decide on the next one.
    pub(super) fn decides_for(&self, formed: &Formed, promising: &[NodeId]) -> bool {
        let Some(votes) = &self.votes else { return false };
        if votes.rules.kind == QuorumKind::Static {
            return 2 * promising.len() > votes.rules.nodes.len();
        }
        vote::upholding(formed, promising, &votes.record.proxies)
    }

    /// An operator declares this node alone to be the primary view, whatever others may be doing.
    pub fn force_primary(&mut self, now: Instant) -> bool {
        let me = self.me;
        self.drop_proposal();
        let Some(votes) = &mut self.votes else { return false };
        votes.record = votes.record.force(me);
        votes.accepted = None;
        self.epoch = self.epoch.max(votes.record.highest().epoch);
        self.event(Event::ForcedPrimary);
        self.save_record();
        if self.view.is_some() {
            self.lose_view("an operator has forced this node to be the primary view", now);
        }
        self.dirty = true;
        true
    }

    /// Why this node and those whom it hears could not be a primary view, as far as it knows.
    pub(crate) fn why_not_primary(&self, now: Instant) -> Option<WhyNot> {
        let votes = self.votes.as_ref()?;
        let ids: BTreeSet<NodeId> = self.best_set(now).into_keys().collect();
        vote::may_propose(&votes.claim(&ids, self.me), &ids, &votes.rules).err()
    }

    /// These of the addresses that must be reached answer. What may be proposed is looked at again if the first does or the
    /// last ceases to: whoever could not be primary for want of it proposes anew, and a view that is primary stays so.
    pub(crate) fn handle_reach(&mut self, answering: BTreeSet<IpAddr>, now: Instant) {
        let Some(votes) = self.votes.as_mut().filter(|votes| !votes.must_reach.is_empty()) else {
            return;
        };
        votes.answering = answering;
        votes.answering.retain(|address| votes.must_reach.contains(address));
        let reached = !votes.answering.is_empty();
        if votes.rules.witness_ok != reached {
            votes.rules.witness_ok = reached;
            let answering = votes.answering.iter().copied().collect();
            self.event(Event::Reach { answering });
            self.dirty = true;
            self.handle_timeout(now);
        }
    }

    /// Those of the addresses that must be reached that answer.
    pub(crate) fn answering(&self) -> BTreeSet<IpAddr> {
        self.votes.as_ref().map(|votes| votes.answering.clone()).unwrap_or_default()
    }

    /// The number of the lineage of primary views; it grows when an operator forces one.
    pub(crate) fn lineage(&self) -> Option<u64> {
        self.votes.as_ref().map(|votes| votes.record.lineage)
    }
}
