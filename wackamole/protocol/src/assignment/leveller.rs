//! Evens out counts at the least cost: a minimum-cost flow over the members, found by augmenting paths.
//!
//! A *piece* is a VIP whose owner is still open within a set of members. It may have a *home*: leaving home costs one
//! move, going home earns it back, anything else is free. Between two members runs an edge wherever a piece of one may
//! go to the other; a path of such edges takes one VIP off its first member and adds one to its last, and leaves
//! everybody between as loaded as before. A path *improves* if it leads from a high [`Level`] to a lower one.
//!
//! Always the highest level is served first, by the path with the fewest moves, and among those the one to the lowest
//! level. This is the order of least cost for gain in the parametric problem "moves + λ × unevenness" from λ = 0
//! (everybody at home) to λ = ∞, with an unevenness in which each level outweighs all lower ones. Hence:
//! * the end is as even as the sets allow, with the fewest possible pieces away from home (P3);
//! * there is never a cycle of negative cost, so shortest paths exist;
//! * a member without an improving path will never have one: all that it reaches is at least at its level, so a later
//!   path, which ends below that, cannot pass through what it reaches.
//!
//! The fewest moves also make rounds safe. The possible ends do not depend on where the pieces are now; so after any
//! part of a shortest plan, the shortest plan from there is exactly the rest long, and moves no piece that has moved.

use core::cmp::Reverse;

use super::members::MemberSet;
use super::shares::{Level, Shares};

pub(super) struct Leveller<'a> {
    shares: &'a Shares,
    counts: Vec<usize>,
    pieces: Vec<Piece>,
    /// The pieces that are with each member, in no meaningful but a reproducible order.
    with: Vec<Vec<usize>>,
    /// How many pieces could go from one member to another, by cost: `[from × members + to]`.
    edges: Vec<[usize; 3]>,
}

struct Piece {
    allowed: MemberSet,
    home: Option<usize>,
    owner: usize,
}

/// What a step does to the number of pieces away from home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    GoesHome,
    Wanders,
    LeavesHome,
}

impl Step {
    const CHEAPEST_FIRST: [Self; 3] = [Self::GoesHome, Self::Wanders, Self::LeavesHome];

    fn cost(self) -> isize {
        self as isize - 1
    }
}

/// How a member is reached by the cheapest path.
#[derive(Clone, Copy)]
struct Reach {
    cost: isize,
    source: usize,
    /// The last step of the path and the member before it; none at the source.
    last: Option<(usize, Step)>,
}

impl<'a> Leveller<'a> {
    /// Starts with counts that cannot be changed.
    pub(super) fn new(shares: &'a Shares, fixed: Vec<usize>) -> Self {
        let members = fixed.len();
        Self {
            shares,
            counts: fixed,
            pieces: Vec::new(),
            with: vec![Vec::new(); members],
            edges: vec![[0; 3]; members * members],
        }
    }

    /// Adds a piece that is at home with a member and may go to any of `allowed`.
    pub(super) fn add_at_home(&mut self, home: usize, mut allowed: MemberSet) {
        allowed.insert(home);
        self.add(Piece { allowed, home: Some(home), owner: home });
    }

    /// Adds a piece without a home, for now with the least loaded of `allowed`.
    ///
    /// # Panics
    /// If `allowed` is empty.
    pub(super) fn add_anywhere(&mut self, allowed: MemberSet) {
        let owner = allowed
            .iter()
            .min_by_key(|&member| (self.level_of_next(member), member))
            .expect("an open VIP has somebody to go to");
        self.add(Piece { allowed, home: None, owner });
    }

    /// Takes improving paths until there are none.
    pub(super) fn level_out(&mut self) {
        let mut settled = vec![false; self.counts.len()];
        loop {
            let unsettled =
                || (0..settled.len()).filter(|&m| !settled[m] && !self.with[m].is_empty());
            let Some(top) = unsettled().map(|m| self.level_of_last(m)).max() else { break };
            let sources: Vec<_> = unsettled().filter(|&m| self.level_of_last(m) == top).collect();

            let reached = self.cheapest_paths(&sources);
            let improving = reached.iter().enumerate().filter_map(|(member, reach)| {
                let level = self.level_of_next(member);
                reach.filter(|_| level < top).map(|reach| (reach.cost, level, member))
            });
            match improving.min() {
                Some((_, _, sink)) => self.shift(&reached, sink),
                None => sources.into_iter().for_each(|member| settled[member] = true),
            }
        }
    }

    /// The owners of the pieces, in the order in which the pieces were added.
    pub(super) fn owners(&self) -> impl Iterator<Item = usize> + '_ {
        self.pieces.iter().map(|piece| piece.owner)
    }

    /// How many VIPs each member has.
    pub(super) fn counts(&self) -> &[usize] {
        &self.counts
    }

    fn level_of_last(&self, member: usize) -> Level {
        self.shares.level(member, self.counts[member])
    }

    fn level_of_next(&self, member: usize) -> Level {
        self.shares.level(member, self.counts[member] + 1)
    }

    /// Bellman and Ford: costs may be negative. Among paths of equal cost the one from the lowest-ranking source wins,
    /// because whoever ranks higher keeps what rounding leaves over.
    fn cheapest_paths(&self, sources: &[usize]) -> Vec<Option<Reach>> {
        let members = self.counts.len();
        let mut reached: Vec<Option<Reach>> = vec![None; members];
        for &source in sources {
            reached[source] = Some(Reach { cost: 0, source, last: None });
        }
        for _ in 0..members {
            let mut changed = false;
            for from in 0..members {
                let Some(Reach { cost, source, .. }) = reached[from] else { continue };
                for (to, known) in reached.iter_mut().enumerate() {
                    let Some(step) = self.cheapest_step(from, to) else { continue };
                    let cost = cost + step.cost();
                    let better = known.is_none_or(|known| {
                        (cost, Reverse(source)) < (known.cost, Reverse(known.source))
                    });
                    if better {
                        *known = Some(Reach { cost, source, last: Some((from, step)) });
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        reached
    }

    fn cheapest_step(&self, from: usize, to: usize) -> Option<Step> {
        let pieces = &self.edges[from * self.counts.len() + to];
        Step::CHEAPEST_FIRST.into_iter().find(|&step| pieces[step as usize] > 0)
    }

    /// Moves pieces along the path to `sink`, as many as go before a level or an edge on the path changes.
    fn shift(&mut self, reached: &[Option<Reach>], sink: usize) {
        let mut path = Vec::new();
        let mut source = sink;
        while let Some((from, step)) = reached[source].and_then(|reach| reach.last) {
            path.push((from, step, source));
            source = from;
            assert!(path.len() < self.counts.len(), "no cycle has a negative cost");
        }

        let members = self.counts.len();
        let capacity = |&(from, step, to): &(usize, Step, usize)| {
            self.edges[from * members + to][step as usize]
        };
        let capacity = path.iter().map(capacity).min().unwrap_or(0);
        let (high, low) = (self.level_of_last(source), self.level_of_next(sink));
        let as_high = |&n: &usize| self.shares.level(source, self.counts[source] - n) == high;
        let as_low = |&n: &usize| self.shares.level(sink, self.counts[sink] + 1 + n) == low;
        let amount =
            (0..capacity.min(self.counts[source])).take_while(|n| as_high(n) && as_low(n)).count();

        // From the sink backwards, so that no piece is passed on that has only just come.
        for (from, step, to) in path {
            for _ in 0..amount {
                self.move_one(from, step, to);
            }
        }
    }

    fn move_one(&mut self, from: usize, step: Step, to: usize) {
        let fits = |&index: &usize| {
            let piece = &self.pieces[index];
            piece.allowed.contains(to) && piece.step(to) == step
        };
        let position = self.with[from].iter().rposition(fits).expect("the edge counts it");
        let index = self.with[from].swap_remove(position);

        self.counts[from] -= 1;
        self.count_edges(index, |edge| *edge -= 1);
        self.pieces[index].owner = to;
        self.count_edges(index, |edge| *edge += 1);
        self.counts[to] += 1;
        self.with[to].push(index);
    }

    fn add(&mut self, piece: Piece) {
        let (index, owner) = (self.pieces.len(), piece.owner);
        self.pieces.push(piece);
        self.count_edges(index, |edge| *edge += 1);
        self.counts[owner] += 1;
        self.with[owner].push(index);
    }

    fn count_edges(&mut self, index: usize, count: impl Fn(&mut usize)) {
        let piece = &self.pieces[index];
        let from = piece.owner * self.counts.len();
        for to in piece.allowed.iter().filter(|&to| to != piece.owner) {
            count(&mut self.edges[from + to][piece.step(to) as usize]);
        }
    }
}

impl Piece {
    fn step(&self, to: usize) -> Step {
        match self.home {
            Some(home) if home == self.owner => Step::LeavesHome,
            Some(home) if home == to => Step::GoesHome,
            _ => Step::Wanders,
        }
    }
}
