//! What is a fair share: the quotas by weight, and the order in which members take and give up VIPs.
//!
//! A member's share of `total` VIPs is `total × weight ÷ sum of weights`, rounded down or up. When every count is one
//! of these two roundings, counts divided by weights differ by at most one: with `x = total ÷ sum of weights` every such
//! quotient lies between `x` rounded down and `x` rounded up.

use super::Member;
use super::rules::Roster;

/// How urgent it is that a member gives a VIP up, or how unwelcome that it takes one more: VIPs go from high to low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level {
    zone: Zone,
    /// Count by weight, in units of 2⁻³²: exact for weights below 2¹⁶.
    ratio: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Zone {
    /// Within the share rounded down.
    Due,
    /// The one that rounding up adds. Nobody has a better claim to it than another, so all of these are equal.
    Rounding,
    /// Beyond the share.
    Excess,
    /// On a member that shall have none.
    Unweighted,
}

/// How finely levels tell members apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// By zone only: enough where every member can reach its share, and many VIPs move in one step.
    Coarse,
    /// By count and weight too: where known sets keep members from their shares, the rest is as even as it can be.
    Fine,
}

/// Everybody's share.
#[derive(Debug)]
pub(super) struct Shares {
    shares: Vec<Share>,
    grain: Grain,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    weight: u64,
    /// The share rounded down.
    least: usize,
    /// The share rounded up.
    most: usize,
}

impl Shares {
    /// Divides `total` VIPs among the members that may own; the others' share is nothing.
    pub(super) fn new(members: &[Member], roster: &Roster, total: usize, grain: Grain) -> Self {
        let weight =
            |index: usize| u64::from(if roster.nobody_weighs { 1 } else { members[index].weight });
        let sum: u64 = roster.may_own.iter().map(weight).sum();
        let share = |index: usize| {
            if sum == 0 || !roster.may_own.contains(index) {
                return Share { weight: weight(index), least: 0, most: 0 };
            }
            let product = total as u128 * u128::from(weight(index));
            let (least, most) = (product / u128::from(sum), product.div_ceil(u128::from(sum)));
            // No larger than `total`, which is a usize.
            Share { weight: weight(index), least: least as usize, most: most as usize }
        };
        Self { shares: (0..members.len()).map(share).collect(), grain }
    }

    /// The level of a member's `nth` VIP, counted from one.
    fn level(&self, member: usize, nth: usize) -> Level {
        let Share { weight, least, most } = self.shares[member];
        let zone = match () {
            () if weight == 0 => Zone::Unweighted,
            () if nth <= least => Zone::Due,
            () if nth <= most => Zone::Rounding,
            () => Zone::Excess,
        };
        let ratio = match (self.grain, zone) {
            (Grain::Coarse, _) | (_, Zone::Rounding) => 0,
            (Grain::Fine, Zone::Unweighted) => nth as u64,
            (Grain::Fine, Zone::Due | Zone::Excess) => ((nth as u64) << 32) / weight,
        };
        Level { zone, ratio }
    }

    /// The levels of the last VIP of `count` and of the next one.
    fn levels_around(&self, member: usize, count: usize) -> (Level, Level) {
        (self.level(member, count), self.level(member, count + 1))
    }
}

/// How many VIPs each member has, and the levels that follow from it.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    shares: &'a Shares,
    counts: Vec<usize>,
    /// The levels of the last VIP that each member has and of the one that it would get next. Kept, because they are
    /// looked at far more often than they change.
    levels: Vec<(Level, Level)>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(shares: &'a Shares, counts: Vec<usize>) -> Self {
        let around = |(member, &count)| shares.levels_around(member, count);
        let levels = counts.iter().enumerate().map(around).collect();
        Self { shares, counts, levels }
    }

    pub(super) fn add(&mut self, member: usize, count: usize) {
        self.counts[member] += count;
        self.levels[member] = self.shares.levels_around(member, self.counts[member]);
    }

    pub(super) fn shift(&mut self, from: usize, to: usize, count: usize) {
        self.counts[from] -= count;
        self.levels[from] = self.shares.levels_around(from, self.counts[from]);
        self.add(to, count);
    }

    pub(super) fn members(&self) -> usize {
        self.counts.len()
    }

    /// The level of the VIP that the member would give.
    pub(super) fn last(&self, member: usize) -> Level {
        self.levels[member].0
    }

    /// The level of the VIP that the member would get.
    pub(super) fn next(&self, member: usize) -> Level {
        self.levels[member].1
    }

    /// Whether a member's count is one of the two roundings of its share.
    pub(super) fn is_fair(&self, member: usize) -> bool {
        let Share { least, most, .. } = self.shares.shares[member];
        (least..=most).contains(&self.counts[member])
    }

    /// How many VIPs, up to `most`, can go from one member to another before either of the levels changes.
    pub(super) fn steady(&self, from: usize, to: usize, most: usize) -> usize {
        let (last, next) = (self.counts[from], self.counts[to] + 1);
        (0..most.min(last))
            .take_while(|n| self.shares.level(from, last - n) == self.last(from))
            .take_while(|n| self.shares.level(to, next + n) == self.next(to))
            .count()
    }
}
