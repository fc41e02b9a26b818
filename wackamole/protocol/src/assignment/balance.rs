//! Evens out the load among live members: which VIPs move, in which order.

use core::cmp::Reverse;
use std::collections::BTreeMap;

use super::leveller::Leveller;
use super::members::MemberSet;
use super::rules::Roster;
use super::shares::{Grain, Shares, Tally};
use super::{Candidate, Member, Ownership, in_id_order};
use crate::id::NodeId;
use crate::vip::VipId;

/// A VIP that goes from one live member to another to even out the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The VIP.
    pub vip: VipId,
    /// Its owner.
    pub from: NodeId,
    /// Its next owner.
    pub to: NodeId,
}

/// Finds the fewest moves after which every member that may own has its share of the VIPs that no preference pins:
/// their number by weight, rounded down or up. Where VIPs are not known to all, or members are unable, the result is as
/// even as that allows, again with the fewest moves.
///
/// `current` is what [`super::assign`] says of the same members and candidates, with earlier moves applied. VIPs of
/// owners that are not mature or are draining do not take part; VIPs that are locked count and stay; VIPs with their
/// preferred member neither count nor move.
///
/// With `moves_max` only that many are returned, those off the most loaded members first. The rest comes with the next
/// calls: as long as nothing else changes, rounds need as many moves as one call without a limit, and move no VIP
/// twice.
pub fn balance(
    members: &[Member],
    candidates: &[Candidate],
    current: &BTreeMap<VipId, Ownership>,
    moves_max: Option<usize>,
) -> Vec<Move> {
    let roster = Roster::new(members);
    let load = Load::new(members, &roster, candidates, current);
    let fine = Shares::new(members, &roster, load.total, Grain::Fine);
    let coarse = Shares::new(members, &roster, load.total, Grain::Coarse);

    let levelled = load.level_out(&coarse);
    let everybody_has_its_share =
        roster.may_own.iter().all(|member| levelled.tally().is_fair(member));
    let levelled = if everybody_has_its_share { levelled } else { load.level_out(&fine) };

    let mut plan = Plan::new(&fine, load.counts());
    for (movable, owner) in load.movable.iter().zip(levelled.owners()) {
        if owner != movable.owner {
            plan.add(movable.vip, movable.owner, owner);
        }
    }
    let id = |index: usize| members[index].id;
    plan.take(moves_max.unwrap_or(usize::MAX))
        .map(|(vip, from, to)| Move { vip, from: id(from), to: id(to) })
        .collect()
}

/// The VIPs that take part.
struct Load {
    total: usize,
    /// For each member the VIPs that count and stay.
    fixed: Vec<usize>,
    movable: Vec<Movable>,
}

struct Movable {
    vip: VipId,
    owner: usize,
    allowed: MemberSet,
}

impl Load {
    fn new(
        members: &[Member],
        roster: &Roster,
        candidates: &[Candidate],
        current: &BTreeMap<VipId, Ownership>,
    ) -> Self {
        let mut load = Self { total: 0, fixed: vec![0; members.len()], movable: Vec::new() };
        for candidate in in_id_order(candidates) {
            let Some(ownership) = current.get(&candidate.vip) else { continue };
            let Some(owner) = roster.index(ownership.owner) else { continue };
            let allowed = roster.eligible(candidate);
            // One that has yet to go to its preferred member is as good as there.
            let pinned = candidate.preferred.iter().any(|&preferred| {
                preferred == ownership.owner
                    || roster.index(preferred).is_some_and(|index| allowed.contains(index))
            });
            if pinned || !roster.may_own.contains(owner) {
                continue;
            }
            load.total += 1;
            let locked = roster.locked(candidate).is_some();
            if locked || allowed.iter().all(|member| member == owner) {
                load.fixed[owner] += 1;
            } else {
                load.movable.push(Movable { vip: candidate.vip, owner, allowed });
            }
        }
        load
    }

    fn level_out<'a>(&self, shares: &'a Shares) -> Leveller<'a> {
        let mut leveller = Leveller::new(shares, self.fixed.clone());
        for movable in &self.movable {
            leveller.add_at_home(movable.owner, movable.allowed.clone());
        }
        leveller.level_out();
        leveller
    }

    fn counts(&self) -> Vec<usize> {
        let mut counts = self.fixed.clone();
        for movable in &self.movable {
            counts[movable.owner] += 1;
        }
        counts
    }
}

/// Moves that are decided, to be put in order.
struct Plan<'a> {
    tally: Tally<'a>,
    /// By their present and their next owner.
    moves: BTreeMap<usize, BTreeMap<usize, Vec<VipId>>>,
}

impl<'a> Plan<'a> {
    fn new(shares: &'a Shares, counts: Vec<usize>) -> Self {
        Self { tally: Tally::new(shares, counts), moves: BTreeMap::new() }
    }

    fn add(&mut self, vip: VipId, from: usize, to: usize) {
        self.moves.entry(from).or_default().entry(to).or_default().push(vip);
    }

    fn take(mut self, moves_max: usize) -> impl Iterator<Item = (VipId, usize, usize)> {
        core::iter::from_fn(move || self.next()).take(moves_max)
    }

    /// The most useful one: from the most to the least loaded.
    fn next(&mut self) -> Option<(VipId, usize, usize)> {
        let sources = self.moves.keys().copied();
        let from = sources.max_by_key(|&member| (self.tally.last(member), Reverse(member)))?;
        let targets = self.moves.get_mut(&from)?;
        let to = targets.keys().copied().min_by_key(|&member| self.tally.next(member))?;
        let vips = targets.get_mut(&to)?;
        let vip = vips.pop()?;
        if vips.is_empty() {
            targets.remove(&to);
        }
        if targets.is_empty() {
            self.moves.remove(&from);
        }
        self.tally.shift(from, to, 1);
        Some((vip, from, to))
    }
}
