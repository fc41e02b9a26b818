//! Transitions that no journal tells: of daemons, guardians and gates, and what statuses say. It watches as a checker does,
//! and finds nothing wrong.

use std::collections::BTreeMap;

use wackamole_protocol::status::Status;

use super::points;
use crate::check::{Check, Findings, Glance};

/// How often each transition was seen, by its group and name.
pub type Counts = BTreeMap<(&'static str, String), u64>;

/// The watcher.
#[derive(Default)]
pub struct Transitions {
    states: Vec<Option<[&'static str; 3]>>,
    counts: Counts,
}

/// The groups of what is watched, in the order of the states of a machine.
pub(super) const MACHINES: [&str; 3] = ["daemon", "guardian", "gate"];
/// The group of reasons against a primary view.
pub(super) const NOT_PRIMARY: &str = "not primary because";

impl Transitions {
    /// What was seen.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }
}

impl Check for Transitions {
    fn step(&mut self, glance: &Glance<'_>, _: &mut Findings) {
        let nodes = glance.scenario.nodes.len();
        self.states.resize(nodes, None);
        for node in 0..nodes {
            let fences = &glance.segment.fences;
            let shut = usize::from(fences.shut(glance.now, node));
            let now = [
                points::daemon(&glance.segment.daemons[node]),
                points::guardian(&fences.guardian(node)),
                points::GATES[shut],
            ];
            let Some(before) = self.states[node].replace(now) else { continue };
            for machine in 0..now.len() {
                // Names are literals of one list: the same name is the same place.
                if before[machine] != now[machine] {
                    let name = format!("{} -> {}", before[machine], now[machine]);
                    *self.counts.entry((MACHINES[machine], name)).or_default() += 1;
                }
            }
        }
    }

    fn status(&mut self, _: usize, status: &Status, _: &mut Findings) {
        if let Some(why_not) = &status.safety.why_not {
            let known = points::WHY_NOT.iter().find(|(words, _)| why_not.contains(words));
            let name = known.map_or(why_not.as_str(), |(_, name)| name).to_owned();
            *self.counts.entry((NOT_PRIMARY, name)).or_default() += 1;
        }
    }
}
