//! P6: a daemon that has left gracefully leaves no address behind.

use super::{Check, Findings, Glance};
use crate::journal::What;

/// The checker.
pub struct Leftovers;

impl Check for Leftovers {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        for entry in glance.fresh {
            let What::Ended { node } = entry.what else { continue };
            for vip in glance.segment.kernels.table(node) {
                let text =
                    format!("{} has left and still has {}", glance.node(node), glance.vip(vip));
                findings.violation("leftovers", text);
            }
        }
    }
}
