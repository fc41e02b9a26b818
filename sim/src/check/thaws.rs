//! Machines that go on after their hypervisor had stopped them, and their clocks with them: outside the assumptions of P1, and
//! bounded all the same.

use std::collections::BTreeSet;

use wackamole_protocol::event::Event;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::time::Duration;

use super::Glance;
use crate::engine::TICK;
use crate::journal::What;

/// What is held is announced again after so long at the latest.
const REPEATED: Duration = Duration::from_secs(100);

/// Who has gone on, and what it could not know then.
pub(super) struct Thaws {
    /// By node: the members of the view that it installed last.
    members: Vec<BTreeSet<NodeId>>,
    /// By node: its daemon ran at the last look, and so has run since.
    runs: Vec<bool>,
    /// By node: when its daemon ran last, if it does not.
    ran: Vec<Duration>,
    last: Vec<Option<Thaw>>,
}

#[derive(Clone, Copy, Debug)]
struct Thaw {
    at: Duration,
    /// A member was gone by then, or somebody else who had run until shortly before the stop, and the machine has yet to notice.
    missed: bool,
}

impl Thaws {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            members: vec![BTreeSet::new(); nodes],
            runs: vec![false; nodes],
            ran: vec![Duration::ZERO; nodes],
            last: vec![None; nodes],
        }
    }

    /// Takes note of what happened in this tick.
    pub(super) fn note(&mut self, glance: &Glance<'_>) {
        for entry in glance.fresh {
            if let What::Daemon { node, event: Event::ViewInstalled { members, .. } } = &entry.what
            {
                self.members[*node].clone_from(members);
            }
        }
        let before = glance.now.saturating_sub(TICK);
        for (ran, runs) in self.ran.iter_mut().zip(&self.runs) {
            *ran = if *runs { before } else { *ran };
        }
        for (node, last) in self.last.iter_mut().enumerate() {
            let Some(at) = glance.segment.thawed[node] else { continue };
            if last.is_some_and(|thaw| thaw.at == at) {
                continue;
            }
            let others = (0..glance.scenario.nodes.len()).filter(|&other| other != node);
            let timeout = glance.scenario.timing.failure_timeout;
            let missed = others
                .filter(|&other| {
                    let id = NodeId::from_name(&glance.scenario.nodes[other].name);
                    self.members[node].contains(&id) || self.ran[other] + timeout >= self.ran[node]
                })
                .any(|other| !glance.attends(other) || !glance.segment.links.two_way(node, other));
            *last = Some(Thaw { at, missed });
        }
        for (node, runs) in self.runs.iter_mut().enumerate() {
            *runs = glance.attends(node);
        }
    }

    /// Until when two may both answer since `began`, because the machine of one had been stopped.
    pub(super) fn bound(
        &self,
        x: usize,
        y: usize,
        began: Duration,
        glance: &Glance<'_>,
    ) -> Option<Duration> {
        let until = |node: usize| {
            let thaw = self.last[node].filter(|thaw| began >= thaw.at)?;
            // Two that cannot tell each other find out when one of them repeats its announcements. And no view is agreed with
            // the dead: for whoever was stopped nobody has been silent for long.
            let bound = match glance.attends(node) {
                true if !glance.segment.links.two_way(x, y) => REPEATED + glance.bounds.merge,
                true if thaw.missed => glance.bounds.cover,
                true => glance.bounds.merge,
                false => glance.scenario.timing.failure_timeout,
            };
            let until = glance.deadline(thaw.at, bound);
            (began <= until).then_some(until)
        };
        until(x).max(until(y))
    }
}
