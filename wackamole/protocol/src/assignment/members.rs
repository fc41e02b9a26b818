//! Sets of members, small and fast: a set of indices into the member list, one bit each.
//!
//! Ten thousand VIPs carry three such sets each, so up to 64 members take no allocation; more are possible.

use core::fmt;

use super::Member;
use crate::id::NodeId;

const WORD_BITS: usize = u64::BITS as usize;

/// Some of the members of a view, by their index in the member list (their rank).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberSet {
    low: u64,
    /// Never ends in a zero word, so that equal sets compare equal.
    high: Vec<u64>,
}

impl MemberSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { low: 0, high: Vec::new() }
    }

    /// The first `count` members.
    pub fn all(count: usize) -> Self {
        (0..count).collect()
    }

    /// Those of `members` whose ids are among `ids`; ids of others are ignored.
    pub fn of(members: &[Member], ids: impl IntoIterator<Item = NodeId>) -> Self {
        ids.into_iter().filter_map(|id| members.iter().position(|m| m.id == id)).collect()
    }

    /// Adds a member.
    pub fn insert(&mut self, index: usize) {
        let (word, bit) = (index / WORD_BITS, 1 << (index % WORD_BITS));
        if word == 0 {
            self.low |= bit;
        } else {
            if self.high.len() < word {
                self.high.resize(word, 0);
            }
            self.high[word - 1] |= bit;
        }
    }

    /// Removes a member, if it is there.
    pub fn remove(&mut self, index: usize) {
        let (word, bit) = (index / WORD_BITS, 1 << (index % WORD_BITS));
        if word == 0 {
            self.low &= !bit;
        } else if let Some(high) = self.high.get_mut(word - 1) {
            *high &= !bit;
            self.trim();
        }
    }

    /// Whether the member is in the set.
    pub fn contains(&self, index: usize) -> bool {
        self.word(index / WORD_BITS) & 1 << (index % WORD_BITS) != 0
    }

    /// How many members are in the set.
    pub fn len(&self) -> usize {
        self.words().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether nobody is in the set.
    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.high.is_empty()
    }

    /// Those that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine & theirs)
    }

    /// Those that are in this set and not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine & !theirs)
    }

    /// The indices in rank order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words().enumerate().flat_map(|(position, word)| {
            let mut left = word;
            core::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(position * WORD_BITS + bit)
            })
        })
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        core::iter::once(self.low).chain(self.high.iter().copied())
    }

    fn word(&self, position: usize) -> u64 {
        if position == 0 { self.low } else { self.high.get(position - 1).copied().unwrap_or(0) }
    }

    /// Word by word; `with` must give zero wherever this set has zero.
    fn combine(&self, other: &Self, with: impl Fn(u64, u64) -> u64) -> Self {
        let high = self.high.iter().enumerate();
        let mut combined = Self {
            low: with(self.low, other.low),
            high: high.map(|(i, &mine)| with(mine, other.word(i + 1))).collect(),
        };
        combined.trim();
        combined
    }

    fn trim(&mut self) {
        while self.high.last() == Some(&0) {
            self.high.pop();
        }
    }
}

impl FromIterator<usize> for MemberSet {
    fn from_iter<T: IntoIterator<Item = usize>>(indices: T) -> Self {
        let mut set = Self::new();
        for index in indices {
            set.insert(index);
        }
        set
    }
}

impl fmt::Debug for MemberSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn indices() -> impl Strategy<Value = BTreeSet<usize>> {
        prop::collection::btree_set(0..200_usize, 0..20)
    }

    proptest! {
        #[test]
        fn a_member_set_is_a_set(a in indices(), b in indices(), removed in 0..200_usize) {
            let set = |s: &BTreeSet<usize>| s.iter().copied().collect::<MemberSet>();
            prop_assert_eq!(set(&a).iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(set(&a).len(), a.len());
            prop_assert_eq!(set(&a).is_empty(), a.is_empty());
            prop_assert_eq!(set(&a).intersection(&set(&b)), set(&(&a & &b)));
            prop_assert_eq!(set(&a).difference(&set(&b)), set(&(&a - &b)));
            prop_assert_eq!(set(&a).contains(removed), a.contains(&removed));

            let (mut with, mut without) = (set(&a), a.clone());
            with.insert(removed);
            prop_assert!(with.contains(removed));
            with.remove(removed);
            without.remove(&removed);
            prop_assert_eq!(with, set(&without));
        }
    }
}
