//! Assignment: who owns which VIP, as a pure function of the members' states.
//!
//! [`assign`] decides at a view change, with as little motion as the rules allow; [`balance()`] evens out afterwards.
//! Neither knows of time, messages or addresses, and both give the same answer for the same states, whatever the order
//! of the VIPs. The coordinator's result is the one that counts (design: from view to addresses).
//!
//! A member is *eligible* for a VIP if it is mature, not draining, knows the VIP and was not found unable to hold it. A
//! *fine holder* holds the VIP, knows it, is able and not draining, mature or not. The rules, first match wins:
//! 1. a move of the VIP is under way (*locked*) → its owner stays;
//! 2. preferred → the first on the list who is eligible or a fine holder;
//! 3. one fine holder → it keeps the VIP;
//! 4. several → one of them keeps it, mature ones first, chosen so that the load ends up as even as possible;
//! 5. somebody is eligible → the least loaded;
//! 6. held → a holder keeps it though it drains (first choice) or was unable: better than nobody;
//! 7. known to a mature, not draining member → the least loaded of them, though all were unable;
//! 8. nobody owns it.
//!
//! Load is counted in VIPs that no preference pins, that is, whose owner is not on their list of preferred members. A
//! member of weight 0 has no share of it: it owns what prefers it, what it already holds until the next balance, and
//! what nobody else can own. If no member that may own has a weight, all weigh the same.

mod balance;
mod leveller;
mod members;
mod rules;
mod shares;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Reason;
use crate::id::NodeId;
use crate::vip::VipId;
use leveller::Leveller;
use rules::{Roster, Verdict};
use shares::{Grain, Shares};

pub use balance::{Move, balance};
pub use members::MemberSet;

/// A member of the view. A slice of members is in rank order, and sets of members are sets of indices into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub id: NodeId,
    /// Its share of the load relative to the others; with 0 it owns only what nobody else can.
    pub weight: u32,
    /// It has waited long enough to own VIPs.
    pub mature: bool,
    /// It gives its VIPs away, and gets none.
    pub draining: bool,
}

/// A VIP to be assigned, and what the members say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which VIP.
    pub vip: VipId,
    /// The members whose configuration defines it so.
    pub known_by: MemberSet,
    /// The members whose kernels answer for it, or may.
    pub held_by: MemberSet,
    /// Who shall have it, best first; nodes that are not members are passed over.
    pub preferred: Vec<NodeId>,
    /// The members that could not hold it recently.
    pub unable: MemberSet,
    /// The owner to whom a move in this view is under way: it stays.
    pub locked: Option<NodeId>,
}

/// Who owns a VIP, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// The owner.
    pub owner: NodeId,
    /// Why this one.
    pub reason: Reason,
}

/// Decides who owns each VIP; see the [module](self) for the rules. VIPs that nobody can own are absent.
///
/// Whoever keeps a VIP that it alone holds does so as [`Reason::Kept`], so the caller remembers why it came to own it.
pub fn assign(members: &[Member], candidates: &[Candidate]) -> BTreeMap<VipId, Ownership> {
    let roster = Roster::new(members);
    let candidates = in_id_order(candidates);
    let verdicts: Vec<_> = candidates.iter().map(|candidate| roster.judge(candidate)).collect();

    let mut total = 0;
    let mut fixed = vec![0; members.len()];
    for (candidate, verdict) in candidates.iter().zip(&verdicts) {
        match verdict {
            Verdict::Owner(owner, _) => {
                if !candidate.preferred.contains(&members[*owner].id) {
                    fixed[*owner] += 1;
                    total += usize::from(roster.may_own.contains(*owner));
                }
            }
            Verdict::OneOf(set, _) => {
                total += usize::from(!set.intersection(&roster.may_own).is_empty());
            }
            Verdict::Nobody => {}
        }
    }

    let shares = Shares::new(members, &roster, total, Grain::Fine);
    let mut leveller = Leveller::new(&shares, fixed);
    for verdict in &verdicts {
        if let Verdict::OneOf(set, _) = verdict {
            leveller.add_anywhere(set.clone());
        }
    }
    leveller.level_out();

    let mut levelled = leveller.owners();
    let mut assignment = BTreeMap::new();
    for (candidate, verdict) in candidates.iter().zip(verdicts) {
        let (owner, reason) = match verdict {
            Verdict::Owner(owner, reason) => (owner, reason),
            Verdict::OneOf(_, reason) => {
                (levelled.next().expect("every open VIP was levelled"), reason)
            }
            Verdict::Nobody => continue,
        };
        assignment.insert(candidate.vip, Ownership { owner: members[owner].id, reason });
    }
    assignment
}

fn in_id_order(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut sorted: Vec<_> = candidates.iter().collect();
    sorted.sort_by_key(|candidate| candidate.vip);
    sorted
}
