//! The lease, where it is made and not where it is used: under `partition = "quorum"` nobody is in a primary view without a machine
//! whose lease runs (docs/protocol.md, "The lease", rows 9 and 10); elsewhere nobody is in a view without a machine whose lease runs, that
//! counts on it and that it hears and is heard by (rows 7 and 8). Two machines that answer for one VIP take that, and a VIP
//! that moves just then; this looks at each install, whoever holds what.

use std::collections::BTreeSet;

use wackamole_protocol::config::Partition;
use wackamole_protocol::event::Event;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::time::Duration;

use super::{Check, Findings, Glance};
use crate::engine::TICK;
use crate::journal::What;
use crate::scenario::Scenario;
use crate::segment::Daemon;

/// The checker.
pub struct Leases {
    ids: Vec<NodeId>,
    /// An operator has decided who is primary, whatever others may be doing.
    forced: bool,
    /// The members of the view that each is in.
    views: Vec<BTreeSet<NodeId>>,
}

impl Leases {
    /// A checker that knows the scenario's names.
    pub fn new(scenario: &Scenario) -> Self {
        let ids = scenario.nodes.iter().map(|node| NodeId::from_name(&node.name)).collect();
        let views = vec![BTreeSet::new(); scenario.nodes.len()];
        Self { ids, forced: false, views }
    }

    /// Nodes without which `installer` has installed a view, although their leases went on for longer than a tick.
    fn left_out(
        &self,
        installer: usize,
        members: &BTreeSet<NodeId>,
        glance: &Glance<'_>,
    ) -> Option<(usize, Duration)> {
        let concerns = |node: usize| {
            glance.scenario.safety.partition == Partition::Quorum
                || self.views[node].contains(&self.ids[installer])
                    && are_in_contact(installer, node, glance)
        };
        let left_out = |node: &usize| !members.contains(&self.ids[*node]) && concerns(*node);
        (0..self.ids.len()).filter(left_out).find_map(|node| {
            let before_this_tick =
                glance.segment.fences.lease_end_before(glance.now.saturating_sub(TICK), node);
            let end = before_this_tick.filter(|&end| end > glance.now + TICK)?;
            // Whoever has just let go or left has said so, or its guardian has.
            let holds = glance.segment.fences.leased(glance.now, node);
            (holds && self.has_long_lived(node, glance)).then_some((node, end))
        })
    }
}

impl Leases {
    /// The lease is that of this start of the daemon, and it is not about to leave.
    fn has_long_lived(&self, node: usize, glance: &Glance<'_>) -> bool {
        let (Daemon::Running(since) | Daemon::Paused(since)) = glance.segment.daemons[node] else {
            return false;
        };
        let long = glance.now >= since + glance.scenario.timing.failure_timeout;
        long && !glance.segment.leaving[node]
    }
}

/// They hear each other, and have for as long as a promise lasts; and the installer knows what it has promised.
fn are_in_contact(installer: usize, node: usize, glance: &Glance<'_>) -> bool {
    let long = glance.scenario.timing.failure_timeout * 2;
    glance.segment.links.two_way(installer, node)
        && glance.now >= glance.wires_calm_since + long
        && !glance.storms()
        && glance.segment.disk_lost[installer].is_none()
}

impl Check for Leases {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        let quorum = glance.scenario.safety.partition == Partition::Quorum;
        // A hypervisor's stop and clocks beyond the bound are outside the assumptions.
        let outside = glance.segment.thawed.iter().any(Option::is_some)
            || glance.bounds.drift_overlap > Duration::ZERO;
        for entry in glance.fresh {
            let What::Daemon { node, event } = &entry.what else { continue };
            match event {
                Event::ForcedPrimary => self.forced = true,
                // Whoever is started anew is not the one that others are in a view with.
                Event::PeerRestarted { peer, .. } => {
                    self.views[*node].remove(peer);
                }
                Event::ViewLost { .. } => self.views[*node].clear(),
                Event::ViewInstalled { members, primary, .. } => {
                    let counts = !outside && !self.forced && (*primary || !quorum);
                    let left_out = self.left_out(*node, members, glance).filter(|_| counts);
                    if let Some((other, end)) = left_out {
                        let text = format!(
                            "{} is in a {}view without {}, whose lease runs for another {} ms",
                            glance.node(*node),
                            if quorum { "primary " } else { "" },
                            glance.node(other),
                            (end - glance.now).as_millis(),
                        );
                        findings.violation("lease", text);
                    }
                    self.views[*node].clone_from(members);
                }
                _ => {}
            }
        }
    }
}
