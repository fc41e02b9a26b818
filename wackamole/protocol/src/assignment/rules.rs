//! The rules of assignment for one VIP: who owns it, or among whom the load decides.
//!
//! The rules themselves are listed in the [parent module](super). Nothing here knows how many VIPs anybody has.

use std::collections::BTreeMap;

use super::members::MemberSet;
use super::{Candidate, Member};
use crate::event::Reason;
use crate::id::NodeId;

/// What the rules say of one VIP.
pub(super) enum Verdict {
    Owner(usize, Reason),
    /// Any of these, as the load decides; at least one.
    OneOf(MemberSet, Reason),
    Nobody,
}

/// The members, looked up by id and by what they may do.
pub(super) struct Roster {
    everybody: MemberSet,
    indices: BTreeMap<NodeId, usize>,
    /// Mature and not draining.
    pub(super) may_own: MemberSet,
    draining: MemberSet,
    weightless: MemberSet,
    /// None of those that may own has a weight, so all have the same.
    pub(super) nobody_weighs: bool,
}

impl Roster {
    pub(super) fn new(members: &[Member]) -> Self {
        let those = |wanted: fn(&Member) -> bool| -> MemberSet {
            members.iter().enumerate().filter(|(_, m)| wanted(m)).map(|(index, _)| index).collect()
        };
        let may_own = those(|m| m.mature && !m.draining);
        let weightless = those(|m| m.weight == 0);
        let nobody_weighs = may_own.difference(&weightless).is_empty();
        Self {
            everybody: MemberSet::all(members.len()),
            indices: members.iter().enumerate().map(|(index, m)| (m.id, index)).collect(),
            may_own,
            draining: those(|m| m.draining),
            weightless: if nobody_weighs { MemberSet::new() } else { weightless },
            nobody_weighs,
        }
    }

    /// Applies the rules of the parent module to one VIP.
    pub(super) fn judge(&self, candidate: &Candidate) -> Verdict {
        let known_by = candidate.known_by.intersection(&self.everybody);
        let held = candidate.held_by.intersection(&known_by);
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
            return self.one_of(candidate, self.fittest(candidate, fine), kept);
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
            return self.one_of(candidate, self.fittest(candidate, held), kept);
        }
        let last_resort = known_by.intersection(&self.may_own);
        self.one_of(candidate, self.weighty(last_resort), Reason::Uncovered)
    }

    /// One of `set`: the preferred, or the only one, or as the load decides.
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

    /// The members that may come to own the VIP.
    pub(super) fn eligible(&self, candidate: &Candidate) -> MemberSet {
        candidate.known_by.intersection(&self.may_own).difference(&candidate.unable)
    }

    /// The owner that stays because a move is under way, if it is still a member.
    pub(super) fn locked(&self, candidate: &Candidate) -> Option<usize> {
        candidate.locked.and_then(|id| self.index(id))
    }

    /// Those of the holders that are best suited to keep the VIP: eligible ones with a weight first, then the weightless,
    /// the immature, the draining, the unable.
    fn fittest(&self, candidate: &Candidate, holders: MemberSet) -> MemberSet {
        let able = holders.difference(&candidate.unable);
        let fine = able.difference(&self.draining);
        let eligible = fine.intersection(&self.may_own);
        let weighty = eligible.difference(&self.weightless);
        [weighty, eligible, fine, able]
            .into_iter()
            .find(|suited| !suited.is_empty())
            .unwrap_or(holders)
    }

    /// Those that have a weight; all, if nobody has.
    fn weighty(&self, set: MemberSet) -> MemberSet {
        let weighty = set.difference(&self.weightless);
        if weighty.is_empty() { set } else { weighty }
    }

    /// Where the node is in the member list, if it is a member.
    pub(super) fn index(&self, id: NodeId) -> Option<usize> {
        self.indices.get(&id).copied()
    }
}
