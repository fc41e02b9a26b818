//! Ways to get the votes wrong, each of which the exploration must notice.

use std::collections::BTreeSet;

use wackamole_protocol::config::QuorumKind;
use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::vote::{
    self, Attempt, Claim, Formed, Record, Refusal, Rules, Verdict, WhyNot,
};

use crate::model::{EXCLUSIVE, REMEMBERED};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// A member accepts and does not note the attempt.
    AttemptForgotten,
    /// A member accepts a ballot that is lower than what it accepted before.
    LowerAccepted,
    /// The accept is sent, the record is written later.
    AcceptBeforeWrite,
    /// The proposer counts itself before its record is written.
    OwnAcceptBeforeWrite,
    /// Exactly half is enough, whichever half.
    TieForBoth,
    /// Exactly half of all configured nodes is enough.
    StaticHalf,
    /// Only the last primary view counts, not the attempts after it.
    AttemptsIgnored,
    /// A leaver comes back and votes, as does its heir.
    LeaverForgets,
    /// Every receiver of a leave takes the vote.
    EverybodyInherits,
    /// The leave tells of the vote, not of the attempts that the leaver had accepted.
    AttemptsNotHandedOn,
    /// A vote given away is away in every later view too.
    VoteGivenForEver,
    /// A node with a blank disk votes.
    BlankDiskVotes,
    /// What a blank disk does not know is taken for not accepted.
    BlankDiskTestifies,
    /// A coordinator that restarts says that its attempt failed.
    RestartAbandons,
    /// A coordinator gives up after it has sent Install.
    AbandonedAfterInstall,
    /// Whoever accepts a view that is not primary drops the attempts that it has accepted, too.
    OvertakesItsOwn,
    /// What is not on the disk yet is told as if it were.
    UnwrittenSaid,
    /// A primary view is forced without a new lineage.
    LineageKept,
}

impl Breakage {
    /// Which promise it breaks first.
    pub(crate) fn promise(self) -> &'static str {
        match self {
            // With one lost disk it takes seven nodes to get from here to two holders.
            Self::BlankDiskTestifies
            // And from here, with three nodes, twelve steps and twelve million states.
            | Self::UnwrittenSaid
            // And from here more proposals than three.
            | Self::LowerAccepted => REMEMBERED,
            _ => EXCLUSIVE,
        }
    }

    /// `vote::eligible`, broken.
    pub(crate) fn eligible(
        self,
        claim: &Claim,
        members: &BTreeSet<NodeId>,
        rules: &Rules,
    ) -> Result<(), WhyNot> {
        match self {
            Self::TieForBoth => {
                let first = |view: &Formed| {
                    let mut view = view.clone();
                    view.voters.sort_by_key(|voter| !members.contains(voter));
                    view
                };
                let mut claim = claim.clone();
                claim.record.primary = claim.record.primary.as_ref().map(first);
                claim.record.attempts = claim.record.attempts.iter().map(first).collect();
                vote::eligible(&claim, members, rules)
            }
            Self::StaticHalf => {
                let awaited = BTreeSet::new();
                let half = rules.nodes.len() / 2;
                if members.len() >= half { Ok(()) } else { Err(WhyNot::Minority { awaited }) }
            }
            Self::VoteGivenForEver => {
                let mut claim = claim.clone();
                for proxy in claim.record.proxies.values_mut() {
                    proxy.up_to.epoch = u64::MAX;
                }
                vote::eligible(&claim, members, rules)
            }
            Self::AttemptsIgnored => {
                let mut claim = claim.clone();
                claim.record.attempts.clear();
                vote::eligible(&claim, members, rules)
            }
            _ => vote::eligible(claim, members, rules),
        }
    }

    /// `vote::judge`, with the broken rule.
    pub(crate) fn judge(
        self,
        mine: &Record,
        claim: &Claim,
        ballot: ViewId,
        members: &BTreeSet<NodeId>,
        me: NodeId,
        rules: &Rules,
    ) -> Verdict {
        let mut mine = mine.clone();
        if self == Self::LowerAccepted {
            mine.accepted = ViewId::NONE;
        }
        let mine = &mine;
        match self.eligible(claim, members, rules) {
            Ok(()) => vote::review(mine, claim, ballot, members, me, rules),
            Err(why_not) => Verdict::Refuse(Refusal::Ineligible(why_not)),
        }
    }

    /// `Attempt::begin`, with the broken rule.
    pub(crate) fn begin(
        self,
        mine: &mut Record,
        claim: &Claim,
        ballot: ViewId,
        members: &BTreeSet<NodeId>,
        rules: &Rules,
    ) -> Option<Attempt> {
        match self.judge(mine, claim, ballot, members, ballot.coordinator, rules) {
            Verdict::Accept(record) => *mine = record,
            Verdict::Refuse(_) => return None,
        }
        // Any rules that let an attempt begin will do: what was judged is in `mine`.
        let easy = Rules {
            kind: QuorumKind::Static,
            nodes: rules.ranked(members.iter()),
            ..rules.clone()
        };
        let mut scratch = Record { lineage: mine.lineage, ..Record::default() };
        Attempt::begin(&mut scratch, claim, ballot, members, &easy).ok()
    }
}
