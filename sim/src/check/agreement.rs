//! Agreement: daemons that name the same view mean the same members, and daemons that name the same assignment of it mean
//! the same owners.

use std::collections::{BTreeMap, BTreeSet};

use wackamole_protocol::event::Event;
use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::status::Status;

use super::{Check, Findings, Glance};
use crate::journal::What;

/// The checker.
#[derive(Default)]
pub struct Agreement {
    views: BTreeMap<ViewId, (usize, BTreeSet<NodeId>)>,
    assignments: BTreeMap<(u64, String, u64), (String, Vec<Option<String>>)>,
}

impl Check for Agreement {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        for entry in glance.fresh {
            let What::Daemon { node, event: Event::ViewInstalled { view, members } } = &entry.what
            else {
                continue;
            };
            let (first, agreed) =
                self.views.entry(*view).or_insert_with(|| (*node, members.clone()));
            if agreed != members {
                let text = format!(
                    "view {view} has members {agreed:?} for {} and {members:?} for {}",
                    glance.node(*first),
                    glance.node(*node),
                );
                findings.violation("agreement", text);
            }
        }
    }

    fn status(&mut self, _node: usize, status: &Status, findings: &mut Findings) {
        let Some(view) = &status.view else { return };
        let key = (view.epoch, view.coordinator.clone(), view.assignment);
        let owners: Vec<_> = status.vips.iter().map(|vip| vip.owner.clone()).collect();
        let (first, agreed) =
            self.assignments.entry(key).or_insert_with(|| (status.node.clone(), owners.clone()));
        if *agreed != owners {
            let differing =
                status.vips.iter().zip(agreed.iter()).find(|(vip, owner)| vip.owner != **owner);
            let (vip, theirs) =
                differing.map_or(("?", None), |(vip, owner)| (vip.name.as_str(), owner.clone()));
            let text = format!(
                "assignment {} of view {}/{}: {vip} belongs to {theirs:?} for {first}, to another for {}",
                view.assignment, view.epoch, view.coordinator, status.node,
            );
            findings.violation("agreement", text);
        }
    }
}
