//! Evens out counts at the least cost: a minimum-cost flow over the members, found by augmenting paths.
//!
//! A *piece* is a VIP whose owner is still open within a set of members. It may have a *home*: leaving home costs one
//! move, going home earns it back, anything else is free. Between two members runs an edge wherever a piece of one may
//! go to the other; a path of such edges takes one VIP off its first member and adds one to its last, and leaves
//! everybody between as loaded as before. A path *improves* if it leads from a high level (`shares`) to a lower one.
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
use std::collections::BTreeMap;

use super::members::MemberSet;
use super::shares::{Shares, Tally};

pub(super) struct Leveller<'a> {
    tally: Tally<'a>,
    kinds: Vec<Kind>,
    /// The index of each kind.
    kind_indices: BTreeMap<Kind, usize>,
    /// The owner of each piece.
    owners: Vec<usize>,
    /// The pieces that are with each member, by kind; no list is empty.
    stock: Vec<BTreeMap<usize, Vec<usize>>>,
    edges: Edges,
}

/// Pieces with equal possibilities.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    home: Option<usize>,
    allowed: MemberSet,
}

/// What a step from one member to another does to the number of pieces away from home.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    GoesHome,
    Wanders,
    LeavesHome,
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
            tally: Tally::new(shares, fixed),
            kinds: Vec::new(),
            kind_indices: BTreeMap::new(),
            owners: Vec::new(),
            stock: vec![BTreeMap::new(); members],
            edges: Edges::new(members),
        }
    }

    /// Adds a piece that is at home with a member and may go to any of `allowed`.
    pub(super) fn add_at_home(&mut self, home: usize, mut allowed: MemberSet) {
        allowed.insert(home);
        self.add(Kind { home: Some(home), allowed }, home);
    }

    /// Adds a piece without a home, for now with the least loaded of `allowed`.
    ///
    /// # Panics
    /// If `allowed` is empty.
    pub(super) fn add_anywhere(&mut self, allowed: MemberSet) {
        let owner = allowed
            .iter()
            .min_by_key(|&member| (self.tally.next(member), member))
            .expect("an open VIP has somebody to go to");
        self.add(Kind { home: None, allowed }, owner);
    }

    /// Takes improving paths until there are none. Called once, after all pieces are there.
    pub(super) fn level_out(&mut self) {
        for (member, stock) in self.stock.iter().enumerate() {
            for (&kind, pieces) in stock {
                self.edges.add(&self.kinds[kind], member, pieces.len());
            }
        }
        let mut settled = vec![false; self.stock.len()];
        loop {
            let open = || (0..settled.len()).filter(|&m| !settled[m] && !self.stock[m].is_empty());
            let Some(top) = open().map(|member| self.tally.last(member)).max() else { break };
            let sources: Vec<_> = open().filter(|&member| self.tally.last(member) == top).collect();

            let reached = self.cheapest_paths(&sources);
            let improving = reached.iter().enumerate().filter_map(|(member, reach)| {
                let level = self.tally.next(member);
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
        self.owners.iter().copied()
    }

    /// How many VIPs each member has.
    pub(super) fn tally(&self) -> &Tally<'a> {
        &self.tally
    }

    fn add(&mut self, kind: Kind, owner: usize) {
        let kind = *self.kind_indices.entry(kind).or_insert_with_key(|kind| {
            self.kinds.push(kind.clone());
            self.kinds.len() - 1
        });
        self.stock[owner].entry(kind).or_default().push(self.owners.len());
        self.owners.push(owner);
        self.tally.add(owner, 1);
    }

    /// Bellman and Ford: costs may be negative. Among paths of equal cost the one from the lowest-ranking source wins,
    /// because whoever ranks higher keeps what rounding leaves over.
    fn cheapest_paths(&self, sources: &[usize]) -> Vec<Option<Reach>> {
        let members = self.tally.members();
        let mut reached: Vec<Option<Reach>> = vec![None; members];
        for &source in sources {
            reached[source] = Some(Reach { cost: 0, source, last: None });
        }
        for _ in 0..members {
            let mut changed = false;
            for from in 0..members {
                let Some(Reach { cost, source, .. }) = reached[from] else { continue };
                for (known, step) in reached.iter_mut().zip(self.edges.from(from)) {
                    let Some(step) = *step else { continue };
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

    /// Moves pieces along the path to `sink`, as many as go before a level or an edge on the path changes.
    fn shift(&mut self, reached: &[Option<Reach>], sink: usize) {
        let mut path = Vec::new();
        let mut source = sink;
        while let Some((from, step)) = reached[source].and_then(|reach| reach.last) {
            path.push((from, step, source));
            source = from;
            assert!(path.len() < self.tally.members(), "no cycle has a negative cost");
        }

        let capacity = path.iter().map(|&(from, step, to)| self.edges.count(from, step, to));
        let amount = self.tally.steady(source, sink, capacity.min().unwrap_or(0));
        // From the sink backwards, so that no piece is passed on that has only just come.
        for (from, step, to) in path {
            self.pass(from, step, to, amount);
        }
        self.tally.shift(source, sink, amount);
    }

    fn pass(&mut self, from: usize, step: Step, to: usize, amount: usize) {
        let mut missing = amount;
        let mut passed = Vec::new();
        for (&kind, pieces) in &mut self.stock[from] {
            if missing == 0 {
                break;
            }
            if self.kinds[kind].step(from, to) == Some(step) {
                let kept = pieces.len().saturating_sub(missing);
                missing -= pieces.len() - kept;
                passed.push((kind, pieces.split_off(kept)));
            }
        }
        for (kind, pieces) in passed {
            if self.stock[from].get(&kind).is_some_and(Vec::is_empty) {
                self.stock[from].remove(&kind);
            }
            self.edges.remove(&self.kinds[kind], from, pieces.len());
            self.edges.add(&self.kinds[kind], to, pieces.len());
            for &piece in &pieces {
                self.owners[piece] = to;
            }
            self.stock[to].entry(kind).or_default().extend(pieces);
        }
    }
}

impl Kind {
    /// What a step does, if the piece may take it.
    fn step(&self, from: usize, to: usize) -> Option<Step> {
        (from != to && self.allowed.contains(to)).then_some(match self.home {
            Some(home) if home == from => Step::LeavesHome,
            Some(home) if home == to => Step::GoesHome,
            _ => Step::Wanders,
        })
    }
}

impl Step {
    const CHEAPEST_FIRST: [Self; 3] = [Self::GoesHome, Self::Wanders, Self::LeavesHome];

    fn cost(self) -> isize {
        match self {
            Self::GoesHome => -1,
            Self::Wanders => 0,
            Self::LeavesHome => 1,
        }
    }
}

/// How many pieces could go from one member to another.
struct Edges {
    members: usize,
    /// By step: `[from × members + to]`.
    counts: Vec<[usize; 3]>,
    /// The cheapest step of those that a piece could take.
    cheapest: Vec<Option<Step>>,
}

impl Edges {
    fn new(members: usize) -> Self {
        let pairs = members * members;
        Self { members, counts: vec![[0; 3]; pairs], cheapest: vec![None; pairs] }
    }

    fn count(&self, from: usize, step: Step, to: usize) -> usize {
        self.counts[from * self.members + to][step as usize]
    }

    /// The cheapest step to each member.
    fn from(&self, from: usize) -> &[Option<Step>] {
        &self.cheapest[from * self.members..][..self.members]
    }

    fn add(&mut self, kind: &Kind, owner: usize, pieces: usize) {
        self.change(kind, owner, |count| *count += pieces);
    }

    fn remove(&mut self, kind: &Kind, owner: usize, pieces: usize) {
        self.change(kind, owner, |count| *count -= pieces);
    }

    fn change(&mut self, kind: &Kind, owner: usize, change: impl Fn(&mut usize)) {
        for to in kind.allowed.iter() {
            let Some(step) = kind.step(owner, to) else { continue };
            let pair = owner * self.members + to;
            change(&mut self.counts[pair][step as usize]);
            let possible = |step: &Step| self.counts[pair][*step as usize] > 0;
            self.cheapest[pair] = Step::CHEAPEST_FIRST.into_iter().find(possible);
        }
    }
}
