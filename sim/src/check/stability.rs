//! P4: no VIP moves without a cause that the log names, and none at all once everything has settled.

use wackamole_protocol::event::{Event, Reason};
use wackamole_protocol::time::Duration;

use super::{Check, Findings, Glance};
use crate::journal::{KernelChange, What};

/// The checker.
pub struct Stability {
    last_holder: Vec<Option<usize>>,
    moved_at: Vec<Option<Duration>>,
    moves: usize,
}

impl Stability {
    /// A checker for so many VIPs.
    pub fn new(vips: usize) -> Self {
        Self { last_holder: vec![None; vips], moved_at: vec![None; vips], moves: 0 }
    }

    /// How often VIPs changed machines.
    pub fn moves(&self) -> usize {
        self.moves
    }

    fn changed(
        &mut self,
        node: usize,
        vip: usize,
        change: KernelChange,
        glance: &Glance<'_>,
        findings: &mut Findings,
    ) {
        let settled = glance.calm_for() > glance.bounds.settle && !glance.sabotaged_lately();
        if settled && matches!(change, KernelChange::Acquired | KernelChange::Released) {
            let text = format!(
                "{} was {} on {} though nothing has happened for {} ms",
                glance.vip(vip),
                if change == KernelChange::Acquired { "acquired" } else { "released" },
                glance.node(node),
                glance.calm_for().as_millis(),
            );
            findings.violation("stability", text);
        }
        if change == KernelChange::Acquired {
            self.moved_at[vip] = None;
            if self.last_holder[vip].is_some_and(|last| last != node) {
                self.moves += 1;
                self.moved_at[vip] = Some(glance.now);
            }
            self.last_holder[vip] = Some(node);
        }
    }
}

impl Check for Stability {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        for entry in glance.fresh {
            match &entry.what {
                What::Kernel { node, vip, change } => {
                    self.changed(*node, *vip, *change, glance, findings);
                }
                What::Daemon { node, event: Event::Acquired { vip, reason: Reason::Kept } } => {
                    let index = glance.scenario.vips.iter().position(|spec| spec.vip.id() == *vip);
                    if let Some(index) = index.filter(|&i| self.moved_at[i] == Some(glance.now)) {
                        let text = format!(
                            "{} moved to {} for no other reason than that its holder keeps it",
                            glance.vip(index),
                            glance.node(*node),
                        );
                        findings.violation("stability", text);
                    }
                }
                _ => {}
            }
        }
    }
}
