//! What a member answers to a proposal that wants to be a primary view.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::config::QuorumKind;
use crate::id::{NodeId, ViewId};

use super::record::{ATTEMPTS_MAX, Formed, Record};
use super::rules::{Rules, WhyNot, eligible};

/// On what a proposer founds its right to a primary view. Travels with the proposal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The proposer's record, after it learnt what the members know; see [`Record::said`].
    pub record: Record,
    /// Members whose vote is not counted because their disk is blank; see [`Record::is_mute`].
    pub mute: BTreeSet<NodeId>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted, as soon as this record is on the disk.
    Accept(Record),
    /// Refused. The refusal carries the refuser's record ([`Record::said`]), so that the proposer learns.
    Refuse(Refusal),
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The ballot is not higher than every one that the refuser has accepted or knows of.
    Outbid,
    /// The refuser knows of a later primary view, a higher lineage, an attempt or a vote given away that the claim lacks.
    Unaware,
    /// The claim counts the vote of the refuser, which has none.
    Mute,
    /// The refuser has [`ATTEMPTS_MAX`] unresolved attempts.
    Full,
    /// By the refuser's rules these members may not be a primary view.
    Ineligible(WhyNot),
}

/// Judges a proposal by `ballot.coordinator`. The proposer's own answer to itself is found in the same way, but that it also
/// asks whether the witness vetoes it (`may_propose`): nobody else does.
pub fn judge(
    mine: &Record,
    claim: &Claim,
    ballot: ViewId,
    members: &BTreeSet<NodeId>,
    me: NodeId,
    rules: &Rules,
) -> Verdict {
    if let Err(why_not) = eligible(claim, members, rules) {
        return Verdict::Refuse(Refusal::Ineligible(why_not));
    }
    review(mine, claim, ballot, members, me, rules)
}

/// [`judge`] but for the question whether the members are enough, given the claim.
pub fn review(
    mine: &Record,
    claim: &Claim,
    ballot: ViewId,
    members: &BTreeSet<NodeId>,
    me: NodeId,
    rules: &Rules,
) -> Verdict {
    if ballot <= mine.accepted {
        return Verdict::Refuse(Refusal::Outbid);
    }
    if rules.kind == QuorumKind::Static {
        // Two majorities of all nodes share a member, and that one accepts growing ballots: nothing else to remember.
        // What dynamic voting would need is not kept up, so it must not be believed after a change of the setting.
        let lineage = mine.lineage.max(claim.record.lineage);
        return Verdict::Accept(Record { lineage, accepted: ballot, ..Record::default() });
    }
    let mut next = mine.clone();
    next.learn(me, &[(ballot.coordinator, &claim.record)]);
    if !knows_all(&claim.record, &next) {
        return Verdict::Refuse(Refusal::Unaware);
    }
    if !next.voice && !claim.mute.contains(&me) {
        return Verdict::Refuse(Refusal::Mute);
    }
    if ballot <= claim.record.highest() {
        return Verdict::Refuse(Refusal::Outbid);
    }
    if next.attempts.len() >= ATTEMPTS_MAX {
        return Verdict::Refuse(Refusal::Full);
    }
    next.attempts.push(Formed { ballot, voters: rules.ranked(members.iter()) });
    next.accepted = ballot;
    Verdict::Accept(next)
}

/// Whether a claim lacks nothing of what is known when a member has added what it knows.
fn knows_all(claim: &Record, together: &Record) -> bool {
    claim.lineage == together.lineage
        && claim.primary == together.primary
        && together.attempts.iter().all(|attempt| claim.attempts.contains(attempt))
        && together.proxies.iter().all(|(leaver, proxy)| claim.proxies.get(leaver) == Some(proxy))
}
