//! Assignment: who owns which VIP, as a pure function of the members' states.
//!
//! [`assign`] decides at a view change, with as little motion as the rules allow; [`balance`] evens out afterwards. Neither
//! knows of time, messages or addresses, and both give the same answer for the same states, whatever the order of the
//! VIPs. The coordinator's result is the one that counts (design: from view to addresses).
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
mod shares;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Reason;
use crate::id::NodeId;
use crate::vip::VipId;
use leveller::Leveller;
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

/// What the rules say of one VIP.
enum Verdict {
    Owner(usize, Reason),
    /// Any of these, as the load decides; at least one.
    OneOf(MemberSet, Reason),
    Nobody,
}

/// How good it is that a holder keeps a VIP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    Eligible,
    Weightless,
    Immature,
    Draining,
    Unable,
}

/// The members, looked up by id and by what they may do.
struct Roster {
    members: usize,
    indices: BTreeMap<NodeId, usize>,
    /// Mature and not draining.
    may_own: MemberSet,
    draining: MemberSet,
    weightless: MemberSet,
    /// None of those that may own has a weight, so all have the same.
    nobody_weighs: bool,
}

impl Roster {
    fn new(members: &[Member]) -> Self {
        let those = |wanted: fn(&Member) -> bool| -> MemberSet {
            members.iter().enumerate().filter(|(_, m)| wanted(m)).map(|(index, _)| index).collect()
        };
        let may_own = those(|m| m.mature && !m.draining);
        let weightless = those(|m| m.weight == 0);
        let nobody_weighs = may_own.difference(&weightless).is_empty();
        Self {
            members: members.len(),
            indices: members.iter().enumerate().map(|(index, m)| (m.id, index)).collect(),
            may_own,
            draining: those(|m| m.draining),
            weightless: if nobody_weighs { MemberSet::new() } else { weightless },
            nobody_weighs,
        }
    }

    fn judge(&self, candidate: &Candidate) -> Verdict {
        let held = candidate.held_by.intersection(&candidate.known_by);
        let kept = if candidate.held_by.len() > 1 { Reason::Conflict } else { Reason::Kept };
        let eligible = self.eligible(candidate);

        if let Some(owner) = self.locked(candidate) {
            return Verdict::Owner(owner, Reason::Kept);
        }
        let fine = held.difference(&candidate.unable).difference(&self.draining);
        if let Some(owner) =
            self.preferred(candidate, |member| eligible.contains(member) || fine.contains(member))
        {
            let reason = if fine.contains(owner) { kept } else { Reason::Preferred };
            return Verdict::Owner(owner, reason);
        }
        if !fine.is_empty() {
            return self.one_of(candidate, self.fittest(candidate, &fine), kept);
        }
        if !eligible.is_empty() {
            let reason = match () {
                () if held.is_empty() => Reason::Uncovered,
                () if held.difference(&candidate.unable).is_empty() => Reason::Unable,
                () => Reason::Drain,
            };
            return self.one_of(candidate, self.weighty(eligible), reason);
        }
        if !held.is_empty() {
            return self.one_of(candidate, self.fittest(candidate, &held), kept);
        }
        let last_resort = candidate.known_by.intersection(&self.may_own);
        self.one_of(candidate, self.weighty(last_resort), Reason::Uncovered)
    }

    fn one_of(&self, candidate: &Candidate, set: MemberSet, reason: Reason) -> Verdict {
        if let Some(owner) = self.preferred(candidate, |member| set.contains(member)) {
            return Verdict::Owner(owner, reason);
        }
        let mut members = set.iter();
        match (members.next(), members.next()) {
            (None, _) => Verdict::Nobody,
            (Some(only), None) => Verdict::Owner(only, reason),
            (Some(_), Some(_)) => {
                drop(members);
                Verdict::OneOf(set, reason)
            }
        }
    }

    /// The best on the list of preferred members that is `acceptable`.
    fn preferred(
        &self,
        candidate: &Candidate,
        acceptable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        candidate
            .preferred
            .iter()
            .filter_map(|&id| self.index(id))
            .find(|&member| acceptable(member))
    }

    fn eligible(&self, candidate: &Candidate) -> MemberSet {
        candidate.known_by.intersection(&self.may_own).difference(&candidate.unable)
    }

    /// The owner that stays because a move is under way, if it is still a member.
    fn locked(&self, candidate: &Candidate) -> Option<usize> {
        candidate.locked.and_then(|id| self.index(id))
    }

    /// Those of the holders that are best suited to keep the VIP.
    fn fittest(&self, candidate: &Candidate, holders: &MemberSet) -> MemberSet {
        let fitness = |member: usize| match () {
            () if candidate.unable.contains(member) => Fitness::Unable,
            () if self.draining.contains(member) => Fitness::Draining,
            () if !self.may_own.contains(member) => Fitness::Immature,
            () if self.weightless.contains(member) => Fitness::Weightless,
            () => Fitness::Eligible,
        };
        let best = holders.iter().map(fitness).min();
        holders.iter().filter(|&member| Some(fitness(member)) == best).collect()
    }

    /// Those that have a weight; all, if nobody has.
    fn weighty(&self, set: MemberSet) -> MemberSet {
        let weighty = set.difference(&self.weightless);
        if weighty.is_empty() { set } else { weighty }
    }

    fn index(&self, id: NodeId) -> Option<usize> {
        self.indices.get(&id).copied()
    }
}

fn in_id_order(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut sorted: Vec<_> = candidates.iter().collect();
    sorted.sort_by_key(|candidate| candidate.vip);
    sorted
}
