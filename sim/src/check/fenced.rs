//! What the fences of a machine are good for whose daemon is dead or stopped.

use wackamole_protocol::time::Duration;

use super::Glance;
use crate::world::release_margin;

/// For how long a kernel may answer beside another without its daemon, by what is left of its fences.
pub(super) fn unattended_max(node: usize, glance: &Glance<'_>) -> Duration {
    if glance.attends(node) {
        return Duration::ZERO;
    }
    let fences = &glance.segment.fences;
    let spec = fences.spec(node);
    let margin = release_margin(glance.scenario, node);
    if spec.gate {
        Duration::ZERO
    } else if fences.watched(node) {
        spec.guardian_max(glance.scenario.vips.len()).saturating_sub(margin)
    } else if spec.lifetime {
        spec.lifetime_max()
    } else {
        glance.scenario.allow.unattended_overlap
    }
}
