//! What a daemon says of its own kernel is true: others act on it.

use std::collections::BTreeSet;

use wackamole_protocol::event::Event;
use wackamole_protocol::vip::VipId;

use super::{Check, Findings, Glance};
use crate::journal::{KernelChange, What};

/// The checker.
#[derive(Default)]
pub struct Told {
    /// Node and VIP: the kernel answers.
    there: BTreeSet<(usize, usize)>,
}

impl Check for Told {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        let index = |vip: &VipId| glance.scenario.vips.iter().position(|s| s.vip.id() == *vip);
        for entry in glance.fresh {
            match &entry.what {
                What::Kernel { node, vip, change: KernelChange::Acquired } => {
                    self.there.insert((*node, *vip));
                }
                What::Kernel { node, vip, .. } => {
                    self.there.remove(&(*node, *vip));
                }
                What::Daemon { node, event: Event::Released { vip, .. } } => {
                    if let Some(vip) = index(vip).filter(|&vip| self.there.contains(&(*node, vip)))
                    {
                        let (node, vip) = (glance.node(*node), glance.vip(vip));
                        let text = format!("{node} says that it has released {vip}, and answers");
                        findings.violation("told", text);
                    }
                }
                _ => {}
            }
        }
    }
}
