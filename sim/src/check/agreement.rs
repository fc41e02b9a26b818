//! Agreement: daemons that name the same view mean the same members, and daemons that name the same assignment of it mean
//! the same owners.

use std::collections::{BTreeMap, BTreeSet};

use wackamole_protocol::event::Event;
use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::names::Names;
use wackamole_protocol::status::Status;

use super::{Check, Findings, Glance};
use crate::journal::What;
use crate::scenario::Scenario;

/// Epoch and coordinator of the view, number within it.
type AssignmentName = (u64, String, u64);

/// Who said so first, and the owners by VIP.
type Assignment = (String, Vec<Option<String>>);

/// The checker.
pub struct Agreement {
    names: Names,
    views: BTreeMap<ViewId, (usize, BTreeSet<NodeId>)>,
    assignments: BTreeMap<AssignmentName, Assignment>,
}

impl Agreement {
    /// A checker that knows the scenario's names.
    pub fn new(scenario: &Scenario) -> Self {
        let names = Names::new(
            scenario.nodes.iter().map(|node| node.name.as_str()),
            scenario.vips.iter().map(|vip| &*vip.vip),
        );
        Self { names, views: BTreeMap::new(), assignments: BTreeMap::new() }
    }
}

impl Check for Agreement {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        for entry in glance.fresh {
            let What::Daemon { node, event: Event::ViewInstalled { view, members, .. } } =
                &entry.what
            else {
                continue;
            };
            let (first, agreed) =
                self.views.entry(*view).or_insert_with(|| (*node, members.clone()));
            if agreed != members {
                let text = format!(
                    "view {} has members {} for {} and {} for {}",
                    self.names.view(*view),
                    self.names.set(agreed),
                    glance.node(*first),
                    self.names.set(members),
                    glance.node(*node),
                );
                findings.violation("agreement", text);
            }
        }
    }

    fn status(&mut self, _node: usize, status: &Status, findings: &mut Findings) {
        // Where a view is not primary it has no owners, and an operator may have made it so for one member.
        let Some(view) = status.view.as_ref().filter(|_| status.safety.primary) else { return };
        let key = (view.epoch, view.coordinator.clone(), view.assignment);
        let owners: Vec<_> = status.vips.iter().map(|vip| vip.owner.clone()).collect();
        let (first, agreed) =
            self.assignments.entry(key).or_insert_with(|| (status.node.clone(), owners.clone()));
        if *agreed != owners {
            let pairs = status.vips.iter().zip(agreed.iter().zip(&owners));
            let name =
                |owner: &Option<String>| owner.clone().unwrap_or_else(|| "nobody".to_owned());
            let differing: Vec<String> = pairs
                .filter(|(_, (one, other))| one != other)
                .map(|(vip, (one, other))| {
                    format!("{} to {} or to {}", vip.name, name(one), name(other))
                })
                .collect();
            let text = format!(
                "assignment {} of view {}/{} according to {first} or to {} gives {}",
                view.assignment,
                view.epoch,
                view.coordinator,
                status.node,
                differing.join(", "),
            );
            findings.violation("agreement", text);
        }
    }
}
