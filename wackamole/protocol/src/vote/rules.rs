//! Which sets of members may be a primary view.

use core::fmt;
use std::collections::BTreeSet;

use crate::config::QuorumKind;
use crate::id::{NodeId, ViewId};

use super::judge::Claim;
use super::record::{Formed, Proxies};

/// What the configuration, and the caller's own observation, say about primary views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Of the last primary view, or of all configured nodes.
    pub kind: QuorumKind,
    /// A primary view has at least so many members.
    pub min_quorum: usize,
    /// All configured nodes in rank order.
    pub nodes: Vec<NodeId>,
    /// A witness that merely answers does so, or none is configured. It can veto, never qualify; see [`may_propose`].
    pub witness_ok: bool,
}

impl Rules {
    /// Members in rank order; those that are not configured here come last.
    pub fn ranked<'a>(&self, members: impl Iterator<Item = &'a NodeId> + Clone) -> Vec<NodeId> {
        let is_member = |node: &&NodeId| members.clone().any(|member| member == *node);
        let strangers = members.clone().filter(|member| !self.nodes.contains(member)).copied();
        self.nodes.iter().filter(is_member).copied().chain(strangers).collect()
    }
}

/// Why a set of members may not be a primary view, and who is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// Nothing else is against it, but no witness answers this node, and somebody would be lost.
    Witness {
        /// Who would be lost. With all of them no witness is needed.
        awaited: BTreeSet<NodeId>,
    },
    /// Fewer members than `min_quorum`.
    TooFew {
        /// How many there are.
        members: usize,
        /// How many it takes.
        min_quorum: usize,
        /// The other configured nodes.
        awaited: BTreeSet<NodeId>,
    },
    /// Not more than half of all configured nodes.
    Minority {
        /// The other configured nodes.
        awaited: BTreeSet<NodeId>,
    },
    /// Nobody knows of any primary view: the first start, or all disks were lost. It takes all configured nodes.
    Blank {
        /// The other configured nodes.
        awaited: BTreeSet<NodeId>,
    },
    /// Others may have, or may yet get, a deciding set of this view.
    Undecided {
        /// The last primary view, or a later attempt that may have been formed.
        view: Formed,
        /// Who could bring missing votes in this or in another such view.
        awaited: BTreeSet<NodeId>,
    },
}

impl WhyNot {
    /// The nodes of which some, not necessarily all, are missing.
    pub fn awaited(&self) -> BTreeSet<NodeId> {
        match self {
            Self::Witness { awaited }
            | Self::TooFew { awaited, .. }
            | Self::Minority { awaited }
            | Self::Blank { awaited }
            | Self::Undecided { awaited, .. } => awaited.clone(),
        }
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Witness { .. } => f.write_str("none of must_reach answers"),
            Self::TooFew { members, min_quorum, .. } => {
                write!(f, "{members} members are fewer than min_quorum = {min_quorum}")
            }
            Self::Minority { .. } => f.write_str("not more than half of all configured nodes"),
            Self::Blank { .. } => {
                f.write_str("no primary view is known; the first one takes all configured nodes")
            }
            Self::Undecided { view, .. } => {
                write!(f, "not enough of the last primary view {}", view.ballot.epoch)
            }
        }
    }
}

/// Whether `members` may be a primary view, given all that is known and who has no vote.
///
/// # Errors
/// Why not, and who is awaited.
pub fn eligible(claim: &Claim, members: &BTreeSet<NodeId>, rules: &Rules) -> Result<(), WhyNot> {
    let absent = || {
        rules.nodes.iter().copied().filter(|node| !members.contains(node)).collect::<BTreeSet<_>>()
    };
    if members.len() < rules.min_quorum {
        let (members, min_quorum) = (members.len(), rules.min_quorum);
        return Err(WhyNot::TooFew { members, min_quorum, awaited: absent() });
    }
    if rules.kind == QuorumKind::Static {
        let present = rules.nodes.len() - absent().len();
        return if 2 * present > rules.nodes.len() {
            Ok(())
        } else {
            Err(WhyNot::Minority { awaited: absent() })
        };
    }
    let record = &claim.record;
    let everybody = rules.nodes.iter().chain(record.views().flat_map(|view| &view.voters));
    if everybody.into_iter().all(|node| members.contains(node)) {
        return Ok(()); // Nobody is left who could be in another primary view, whatever was forgotten.
    }
    if record.primary.is_none() {
        return Err(WhyNot::Blank { awaited: absent() });
    }
    let present: BTreeSet<NodeId> = members.difference(&claim.mute).copied().collect();
    let mut undecided =
        record.views().filter(|view| !deciding(view, &present, &record.proxies)).peekable();
    let Some(view) = undecided.peek().map(|view| (*view).clone()) else { return Ok(()) };
    let holders = undecided
        .flat_map(|view| view.voters.iter().map(move |&voter| (voter, view)))
        .map(|(voter, view)| holder(voter, view, &record.proxies).unwrap_or(voter));
    let awaited: BTreeSet<NodeId> = holders.filter(|node| !members.contains(node)).collect();
    // If all who could help are here and have no vote, only everybody together can go on.
    let awaited = if awaited.is_empty() { absent() } else { awaited };
    Err(WhyNot::Undecided { view, awaited })
}

/// Whether this node may propose `members` as a primary view: [`eligible`], and not vetoed by the witness.
///
/// The witness disqualifies who would go on without somebody and is not answered by it: then it is probably this node that is
/// cut off. A view that loses nobody is never vetoed, so a witness that is gone takes nothing from a cluster that is whole.
/// Only the proposer asks: one member's bad link to the witness does not count against another that reaches it. So the
/// veto keeps attempts from being begun and does nothing else, and two views that are both primary with it would be so without.
///
/// # Errors
/// Why not, and who is awaited.
pub fn may_propose(claim: &Claim, members: &BTreeSet<NodeId>, rules: &Rules) -> Result<(), WhyNot> {
    eligible(claim, members, rules)?;
    let awaited = if rules.witness_ok { BTreeSet::new() } else { lost(claim, members, rules) };
    if awaited.is_empty() { Ok(()) } else { Err(WhyNot::Witness { awaited }) }
}

/// Who would be lost with a view of these: voters of the last primary view, and of every later attempt that may have been
/// formed, whose votes are with nobody here. Whoever has left is not lost if a member has its vote.
fn lost(claim: &Claim, members: &BTreeSet<NodeId>, rules: &Rules) -> BTreeSet<NodeId> {
    if rules.kind == QuorumKind::Static {
        return rules.nodes.iter().copied().filter(|node| !members.contains(node)).collect();
    }
    let record = &claim.record;
    let voters = record.views().flat_map(|view| view.voters.iter().map(move |&v| (v, view)));
    voters
        .filter(|&(voter, view)| {
            !members.contains(&voter)
                && !holder(voter, view, &record.proxies).is_some_and(|at| members.contains(&at))
        })
        .map(|(voter, _)| voter)
        .collect()
}

/// Whether `present` has the votes of more than half of a view's voters, or of exactly half with the first.
///
/// Two sets that both do so for one view share a node, whatever was given away, as long as each knows to whom its own
/// members gave their votes.
pub fn deciding(view: &Formed, present: &BTreeSet<NodeId>, proxies: &Proxies) -> bool {
    has_the_votes(view, |voter| {
        holder(voter, view, proxies).is_some_and(|holder| present.contains(&holder))
    })
}

/// Whether nodes that have accepted nothing later keep a view from being succeeded: the rule for the lease.
///
/// As [`deciding`], but a vote given away does not count if the leaver knew of anything later than the view. It may have
/// helped to form that, and its heir would uphold what it has itself given up.
///
/// Asked with every datagram, of a few nodes: so nothing is built for it.
pub fn upholding(view: &Formed, present: &[NodeId], proxies: &Proxies) -> bool {
    let gone = |leaver: &NodeId| proxies.get(leaver).is_some_and(|proxy| proxy.up_to > view.ballot);
    has_the_votes(view, |voter| {
        let holder = follow(voter, proxies, |up_to| up_to == view.ballot);
        holder.is_some_and(|holder| present.contains(&holder) && !gone(&holder))
    })
}

/// More than half of the voters count, or exactly half with the first.
fn has_the_votes(view: &Formed, counts: impl Fn(NodeId) -> bool) -> bool {
    let votes = view.voters.iter().filter(|&&voter| counts(voter)).count();
    2 * votes > view.voters.len()
        || 2 * votes == view.voters.len() && view.voters.first().is_some_and(|&first| counts(first))
}

/// Who has a voter's vote in a view; nobody if two gave theirs to each other.
fn holder(voter: NodeId, view: &Formed, proxies: &Proxies) -> Option<NodeId> {
    follow(voter, proxies, |up_to| up_to >= view.ballot)
}

/// To whom a vote has gone through proxies that count, by the last view that each leaver knew of.
fn follow(voter: NodeId, proxies: &Proxies, counts: impl Fn(ViewId) -> bool) -> Option<NodeId> {
    let mut at = voter;
    for _ in 0..=proxies.len() {
        match proxies.get(&at) {
            Some(proxy) if counts(proxy.up_to) => at = proxy.to,
            _ => return Some(at),
        }
    }
    None
}
