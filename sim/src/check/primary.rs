//! Which component is primary under `partition = "quorum"`, as far as an observer can know who does not believe the daemons.
//!
//! It follows dynamic linear voting over what could have happened: beside the last primary component that was surely
//! installed, every component since then that had a deciding part of one of the candidates may have become primary, or
//! may have tried to. A component has to serve if it has a deciding part of *each* candidate; wherever that is not so,
//! nothing is demanded (and exclusivity is checked all the same). Whoever has lost its disk has no vote until it was in
//! a settled primary again. Whoever would lose somebody must reach the witness, if there is one. The first candidate is the whole cluster, when all of it has been connected for a while.

use std::collections::BTreeSet;

use wackamole_protocol::config::QuorumKind;
use wackamole_protocol::time::Duration;

use super::Glance;
use crate::journal::What;

/// More candidates than that are not followed: nothing is demanded until the cluster is whole again.
const CANDIDATES_MAX: usize = 32;

type Set = BTreeSet<usize>;

/// The observer.
#[derive(Debug, Default)]
pub struct Primary {
    candidates: Vec<Set>,
    seen: Vec<Set>,
    /// Who reaches the witness.
    reaching: Set,
    /// As the candidates, but without those that the witness has surely vetoed. Empty if nothing is known.
    unvetoed: Vec<Set>,
    /// When each node was in a settled primary last.
    settled: Vec<Option<Duration>>,
}

impl Primary {
    /// Looks; returns the members of the component that must serve once the world has been calm for long enough.
    pub fn look(&mut self, glance: &Glance<'_>) -> Option<Set> {
        let all: Set = (0..glance.scenario.nodes.len()).collect();
        self.settled.resize(all.len(), None);
        let components = components(glance);
        let calm = glance.calm_for() > glance.bounds.cover;
        let enough = |set: &&Set| set.len() >= glance.scenario.safety.min_quorum;
        // Where some hear each other in one direction only, any part of the component may become primary: also one that is larger and
        // must not, as members agree on the largest view that they can have before they ask who was in the last primary.
        let links = &glance.segment.links;
        let clique = |set: &Set| set.iter().all(|&a| set.iter().all(|&b| links.two_way(a, b)));
        if glance.scenario.safety.quorum == QuorumKind::Static {
            let most = |set: &&Set| set.len() * 2 > all.len() && clique(set);
            let allowed = |set: &&Set| set.len() == all.len() || proposes(set, glance);
            return components.iter().filter(most).filter(allowed).find(enough).cloned();
        }
        for entry in glance.fresh {
            if let What::Ended { node } = entry.what {
                self.leave(node);
            }
        }
        let reaching: Set = all.iter().copied().filter(|&node| reaches(node, glance)).collect();
        if components != self.seen || reaching != self.reaching {
            self.reaching = reaching;
            self.spread(&components);
            self.seen.clone_from(&components);
        }
        let two_way = components.iter().all(clique);
        if !two_way {
            self.candidates.clear();
            self.unvetoed.clear();
        }
        if !calm {
            return None;
        }
        if self.candidates.is_empty() && two_way && components == [all.clone()] {
            self.candidates.push(all);
        }
        let decides = |set: &&Set| {
            !self.candidates.is_empty()
                && self.candidates.iter().all(|of| self.decides(set, of, glance))
        };
        let allowed = |set: &&Set| {
            self.candidates.iter().all(|of| of.is_subset(set)) || proposes(set, glance)
        };
        let primary = components.iter().filter(decides).filter(allowed).find(enough).cloned()?;
        for &node in &primary {
            self.settled[node] = Some(glance.now);
        }
        self.candidates = vec![primary.clone()];
        self.unvetoed = self.candidates.clone();
        Some(primary)
    }

    /// An operator has decided who is primary: until the cluster is whole again nothing follows from who was before.
    pub fn forced(&mut self) {
        self.candidates.clear();
        self.unvetoed.clear();
    }

    /// The witness has vetoed every view of this component, long ago: it must hold nothing.
    pub fn is_vetoed(&self, component: &Set) -> bool {
        !self.unvetoed.is_empty() && !self.unvetoed.iter().any(|set| set.is_subset(component))
    }

    /// Each component that could have decided for one of the candidates may be one, too; so may whatever is left of it
    /// when an attempt was accepted by some and heard by few.
    fn spread(&mut self, components: &[Set]) {
        for set in components {
            let new = !self.candidates.contains(set)
                && self.candidates.iter().any(|of| decides_with(set, of, |_| true));
            if new {
                self.candidates.push(set.clone());
            }
        }
        // Whoever loses nobody is not asked about the witness.
        for set in components {
            let may = |of: &Set| {
                decides_with(set, of, |_| true)
                    && (of.is_subset(set) || !set.is_disjoint(&self.reaching))
            };
            if !self.unvetoed.contains(set) && self.unvetoed.iter().any(may) {
                self.unvetoed.push(set.clone());
            }
        }
        if self.candidates.len() > CANDIDATES_MAX || self.unvetoed.len() > CANDIDATES_MAX {
            self.candidates.clear();
            self.unvetoed.clear();
        }
    }

    /// Whoever leaves votes for its own removal: each candidate may go on without it.
    fn leave(&mut self, node: usize) {
        for sets in [&mut self.candidates, &mut self.unvetoed] {
            let without = sets
                .iter()
                .filter(|set| set.contains(&node))
                .map(|set| set.iter().copied().filter(|&member| member != node).collect::<Set>());
            let without: Vec<Set> = without.filter(|set| !set.is_empty()).collect();
            sets.extend(without);
            sets.sort();
            sets.dedup();
        }
    }

    /// Whether they must be able to decide. A node that has lost its disk may have no vote before it was in a primary again; it
    /// may have one all the same, as long as its daemon runs and writes anew what it knows.
    fn decides(&self, set: &Set, of: &Set, glance: &Glance<'_>) -> bool {
        decides_with(set, of, |node| {
            let lost = glance.segment.disk_lost[node];
            lost.is_none_or(|lost| self.settled[node].is_some_and(|settled| settled > lost))
        })
    }
}

/// More than half of the voters, or half with the lowest rank.
fn decides_with(set: &Set, of: &Set, votes: impl Fn(usize) -> bool) -> bool {
    let with = of.intersection(set).filter(|&&node| votes(node)).count();
    let lowest = of.first().is_some_and(|&lowest| set.contains(&lowest) && votes(lowest));
    with * 2 > of.len() || with * 2 == of.len() && lowest
}

/// No witness is configured, or it answers the node.
fn reaches(node: usize, glance: &Glance<'_>) -> bool {
    let links = &glance.segment.links;
    glance.scenario.must_reach.is_none_or(|witness| links.two_way(node, witness))
}

/// A member that the witness answers has had the time to propose: each that it does not answer, of a lower rank, goes first, and
/// the next one waits a failure timeout for it.
fn proposes(set: &Set, glance: &Glance<'_>) -> bool {
    let first = set.iter().position(|&node| reaches(node, glance));
    first.is_some_and(|rank| {
        let patience = glance.scenario.timing.failure_timeout * rank as u32;
        glance.calm_for() > glance.bounds.cover + patience
    })
}

fn components(glance: &Glance<'_>) -> Vec<Set> {
    let component = glance.connectivity.components();
    let members = |root: usize| -> Set {
        (0..component.len()).filter(|&n| component[n] == root && glance.attends(n)).collect()
    };
    (0..component.len()).map(members).filter(|set| !set.is_empty()).collect()
}
