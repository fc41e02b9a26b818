//! A proposer's own attempt, from the proposal to its end.

use std::collections::BTreeSet;

use crate::config::QuorumKind;
use crate::id::{NodeId, ViewId};

use super::judge::{Claim, Refusal, Verdict, review};
use super::record::{Formed, Record};
use super::rules::{Rules, may_propose};

/// An attempt under way. Lives in memory only, so that it ends with the process: only who surely has not sent an Install
/// may say that an attempt has failed, and after a restart nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    kind: QuorumKind,
    lineage: u64,
    formed: Formed,
    missing: BTreeSet<NodeId>,
}

impl Attempt {
    /// Begins one: `mine` becomes the record that must be on the disk before the proposer's own accept counts. The
    /// proposal may be sent at once.
    ///
    /// # Errors
    /// Why the proposer itself refuses.
    pub fn begin(
        mine: &mut Record,
        claim: &Claim,
        ballot: ViewId,
        members: &BTreeSet<NodeId>,
        rules: &Rules,
    ) -> Result<Self, Refusal> {
        may_propose(claim, members, rules).map_err(Refusal::Ineligible)?;
        match review(mine, claim, ballot, members, ballot.coordinator, rules) {
            Verdict::Accept(record) => *mine = record,
            Verdict::Refuse(refusal) => return Err(refusal),
        }
        let formed = Formed { ballot, voters: rules.ranked(members.iter()) };
        Ok(Self { kind: rules.kind, lineage: mine.lineage, formed, missing: members.clone() })
    }

    /// The view that it would be.
    pub fn formed(&self) -> &Formed {
        &self.formed
    }

    /// The lineage that it is in.
    pub fn lineage(&self) -> u64 {
        self.lineage
    }

    /// Whose accepts are missing.
    pub fn awaited(&self) -> &BTreeSet<NodeId> {
        &self.missing
    }

    /// Counts a member's accept, which carries the record that it wrote for it; the proposer's own when that is on the
    /// disk. Returns whether all have accepted: then, and not before, the view is formed and Install may be sent.
    ///
    /// The record is looked at because a ballot may come twice: a proposer that crashes before its record is written
    /// chooses it again, and an accept of the earlier proposal must not count for the other.
    pub fn accepted_by(&mut self, member: NodeId, record: &Record) -> bool {
        let noted = match self.kind {
            QuorumKind::Dynamic => record.attempts.contains(&self.formed),
            QuorumKind::Static => record.accepted == self.formed.ballot,
        };
        if noted && record.lineage == self.lineage {
            self.missing.remove(&member);
        }
        self.missing.is_empty()
    }

    /// The view is formed. That must be noted before Install is sent, in memory: see [`Record::install`].
    ///
    /// # Errors
    /// Gives the attempt back if accepts are missing.
    pub fn form(self, mine: &mut Record) -> Result<Formed, Self> {
        if !self.missing.is_empty() {
            return Err(self);
        }
        mine.install(self.formed.ballot.coordinator, self.lineage, &self.formed);
        Ok(self.formed)
    }

    /// Gives it up: it is known to have failed, and the record says so from here on. In memory is enough: a restart may
    /// find it unresolved on the disk again, but nobody will ever send its Install.
    pub fn abandon(self, mine: &mut Record) {
        if mine.lineage == self.lineage {
            mine.attempts.retain(|attempt| *attempt != self.formed);
        }
    }
}
