//! P3: when the world has been quiet for long enough, the counts of VIPs that no preference pins, each divided by its
//! member's weight, differ by at most one, and a member without a weight has none.

use wackamole_protocol::config::Partition;
use wackamole_protocol::time::Duration;

use super::{Check, Findings, Glance};

/// The checker.
#[derive(Default)]
pub struct Balanced {
    /// For which calm the load was judged already.
    judged: Option<Duration>,
}

impl Check for Balanced {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        if glance.calm_for() < glance.bounds.settle || self.judged == Some(glance.calm_since()) {
            return;
        }
        self.judged = Some(glance.calm_since());
        if glance.sabotaged_lately() {
            return;
        }
        let component = glance.connectivity.components();
        for root in 0..component.len() {
            let members: Vec<usize> = (0..component.len())
                .filter(|&node| component[node] == root && glance.is_mature(node))
                .filter(|&node| glance.can_serve(node))
                .collect();
            // What somebody holds outside is assigned inside and not acquired.
            let outside = (0..component.len())
                .any(|node| component[node] != root && glance.segment.kernels.count(node) > 0);
            if outside && glance.scenario.safety.partition == Partition::Lan {
                continue;
            }
            // Where not everybody hears everybody, no view can contain all.
            let links = &glance.segment.links;
            let whole = members.iter().all(|&a| members.iter().all(|&b| links.two_way(a, b)));
            if whole {
                judge(&members, glance, findings);
            }
        }
    }

    fn next_look(&self, glance: &Glance<'_>) -> Option<Duration> {
        let judged = glance.storms() || self.judged == Some(glance.calm_since());
        (!judged).then(|| glance.calm_since() + glance.bounds.settle)
    }
}

fn judge(members: &[usize], glance: &Glance<'_>, findings: &mut Findings) {
    let weight = |node: usize| u64::from(glance.scenario.nodes[node].weight);
    let all_zero = members.iter().all(|&node| weight(node) == 0);
    let weight = |node: usize| if all_zero { 1 } else { weight(node) };
    let load = |node: usize| {
        let pinned = |&vip: &usize| glance.scenario.vips[vip].prefer.contains(&node);
        glance.segment.kernels.held_by(node).filter(|vip| !pinned(vip)).count() as u64
    };
    for &from in members {
        for &to in members {
            let (from_load, to_load) = (load(from), load(to));
            // Cross-multiplied: from_load / weight(from) > to_load / weight(to) + 1.
            let uneven = from_load * weight(to) > (to_load + weight(to)) * weight(from);
            if from_load > 0 && uneven {
                let text = format!(
                    "{} has {from_load} VIPs (weight {}) and {} has {to_load} (weight {}), {} ms after the last disturbance",
                    glance.node(from),
                    weight(from),
                    glance.node(to),
                    weight(to),
                    glance.calm_for().as_millis(),
                );
                findings.violation("balance", text);
                return;
            }
        }
    }
}
