//! Who hears whom, and the largest set of nodes that all hear each other both ways.
//!
//! Knows nothing of time: the caller says which pairs are usable. The result prefers, in this order: more members, more
//! members of the present view, lower ranks. So the present view is kept unless a strictly larger one is possible.

use std::collections::BTreeSet;

use crate::id::NodeId;

/// Steps after which the exact search gives way to the greedy one. Reached only with dozens of broken links at once.
const SEARCH_STEPS_MAX: usize = 4096;

/// Nodes in rank order and the pairs among them that cannot be in one view.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    nodes: Vec<NodeId>,
    present: Vec<bool>,
    broken: Vec<BTreeSet<usize>>,
}

impl Matrix {
    /// `nodes` in rank order, each with whether it is a member of the present view.
    pub(crate) fn new(nodes: impl IntoIterator<Item = (NodeId, bool)>) -> Self {
        let (nodes, present): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
        let broken = vec![BTreeSet::new(); nodes.len()];
        Self { nodes, present, broken }
    }

    /// Declares that two nodes do not hear each other both ways.
    pub(crate) fn break_pair(&mut self, a: usize, b: usize) {
        self.broken[a].insert(b);
        self.broken[b].insert(a);
    }

    /// The node at a position.
    #[cfg(test)]
    fn index(&self, node: NodeId) -> usize {
        self.nodes.iter().position(|&n| n == node).expect("a node of this matrix")
    }

    /// The best set that contains the node at position `must`.
    pub(crate) fn best_with(&self, must: usize) -> BTreeSet<NodeId> {
        let mut candidates: BTreeSet<usize> = (0..self.nodes.len()).collect();
        for &other in &self.broken[must] {
            candidates.remove(&other);
        }
        let mut search = Search { matrix: self, must, best: None, steps: 0 };
        search.descend(candidates);
        let (_, best) = search.best.expect("the set of `must` alone is always possible");
        best.into_iter().map(|i| self.nodes[i]).collect()
    }

    /// Greater is better. Ranks enter last and negated, so that of two equal sets the one with the lower ranks wins.
    fn score(&self, set: &BTreeSet<usize>) -> Score {
        let present = set.iter().filter(|&&i| self.present[i]).count();
        Score {
            size: set.len(),
            present,
            ranks: set.iter().map(|&i| core::cmp::Reverse(i)).collect(),
        }
    }

    fn first_conflict(&self, set: &BTreeSet<usize>) -> Option<(usize, usize)> {
        set.iter().find_map(|&a| self.broken[a].iter().find(|b| set.contains(b)).map(|&b| (a, b)))
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    size: usize,
    present: usize,
    ranks: Vec<core::cmp::Reverse<usize>>,
}

struct Search<'a> {
    matrix: &'a Matrix,
    must: usize,
    best: Option<(Score, BTreeSet<usize>)>,
    steps: usize,
}

impl Search<'_> {
    /// Branches on one conflicting pair: one of the two has to go. Past the step limit only the one with more conflicts
    /// is tried, which still ends in a set without conflicts.
    fn descend(&mut self, set: BTreeSet<usize>) {
        self.steps += 1;
        if self.best.as_ref().is_some_and(|(score, _)| set.len() < score.size) {
            return;
        }
        let Some((a, b)) = self.matrix.first_conflict(&set) else {
            let score = self.matrix.score(&set);
            if self.best.as_ref().is_none_or(|(best, _)| score > *best) {
                self.best = Some((score, set));
            }
            return;
        };
        let conflicts =
            |i: usize| self.matrix.broken[i].iter().filter(|other| set.contains(other)).count();
        let drop_first =
            if b != self.must && conflicts(b) >= conflicts(a) || a == self.must { b } else { a };
        let drop_second = if drop_first == a { b } else { a };
        for gone in [drop_first, drop_second] {
            if gone == self.must {
                continue;
            }
            let mut smaller = set.clone();
            smaller.remove(&gone);
            self.descend(smaller);
            if self.steps > SEARCH_STEPS_MAX {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: char) -> NodeId {
        NodeId(name as u32)
    }

    /// `nodes` in rank order, capitals are in the present view; `broken` lists pairs.
    fn check(nodes: &str, broken: &str, me: char, expected: &str) {
        let mut matrix = Matrix::new(
            nodes.chars().map(|c| (node(c.to_ascii_lowercase()), c.is_ascii_uppercase())),
        );
        for pair in broken.split_whitespace() {
            let mut pair = pair.chars().map(|c| matrix.index(node(c)));
            let (a, b) = (pair.next().expect("first"), pair.next().expect("second"));
            matrix.break_pair(a, b);
        }
        let best = matrix.best_with(matrix.index(node(me)));
        let mut found: Vec<char> =
            best.iter().map(|n| char::from_u32(n.0).expect("a letter")).collect();
        found.sort_unstable();
        assert_eq!(found.into_iter().collect::<String>(), expected, "{nodes} without {broken}");
    }

    #[test]
    fn the_largest_set_wins_then_the_present_view_then_the_lower_rank() {
        check("abc", "", 'a', "abc");
        check("abc", "ab", 'c', "ac");
        check("aBC", "ab", 'c', "bc");
        check("abcd", "ab ac", 'd', "bcd");
        check("abcd", "ab ac", 'a', "ad");
        check("ABCd", "cd", 'a', "abc");
        check("abCd", "ab cd", 'a', "ac");
        check("a", "", 'a', "a");
    }

    proptest! {
        #[test]
        fn the_result_has_no_broken_pair_and_no_larger_one_exists(
            size in 1usize..8,
            pairs in proptest::collection::vec((0usize..8, 0usize..8), 0..14),
            present in proptest::collection::vec(any::<bool>(), 8),
        ) {
            let mut matrix = Matrix::new(
                (0..size).map(|i| (NodeId(i as u32 + 1), present[i])));
            for (a, b) in pairs {
                if a != b && a < size && b < size {
                    matrix.break_pair(a, b);
                }
            }
            let found: BTreeSet<usize> =
                matrix.best_with(0).iter().map(|n| n.0 as usize - 1).collect();
            prop_assert!(found.contains(&0));
            prop_assert_eq!(matrix.first_conflict(&found), None);
            let best = (0u32..1 << size)
                .map(|mask| (0..size).filter(|i| mask & 1 << i != 0).collect::<BTreeSet<usize>>())
                .filter(|set| set.contains(&0) && matrix.first_conflict(set).is_none())
                .max_by(|a, b| matrix.score(a).cmp(&matrix.score(b)))
                .expect("the node alone");
            prop_assert_eq!(found, best);
        }
    }
}
