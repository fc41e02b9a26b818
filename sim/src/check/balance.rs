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
        if let Some(uneven) = uneven(glance) {
            let calm = glance.calm_for().as_millis();
            let text = format!("{uneven}, {calm} ms after the last disturbance");
            findings.violation("balance", text);
        }
    }

    fn next_look(&self, glance: &Glance<'_>) -> Option<Duration> {
        let judged = glance.storms() || self.judged == Some(glance.calm_since());
        (!judged).then(|| glance.calm_since() + glance.bounds.settle)
    }
}

/// Two members of one component between which a move would even the load, in words.
pub fn uneven(glance: &Glance<'_>) -> Option<String> {
    let component = glance.connectivity.components();
    (0..component.len()).find_map(|root| {
        let members: Vec<usize> = (0..component.len())
            .filter(|&node| component[node] == root && glance.is_mature(node))
            .filter(|&node| glance.can_serve(node))
            .collect();
        // What somebody holds outside is assigned inside and not acquired.
        let outside = (0..component.len())
            .any(|node| component[node] != root && glance.segment.kernels.count(node) > 0);
        if outside && glance.scenario.safety.partition == Partition::Lan {
            return None;
        }
        // Where not everybody hears everybody, no view can contain all.
        let links = &glance.segment.links;
        let attend: Vec<usize> = (0..component.len())
            .filter(|&node| component[node] == root && glance.attends(node))
            .collect();
        let whole = attend.iter().all(|&a| attend.iter().all(|&b| links.two_way(a, b)));
        if whole { uneven_pair(&members, glance) } else { None }
    })
}

fn uneven_pair(members: &[usize], glance: &Glance<'_>) -> Option<String> {
    let weight = |node: usize| u64::from(glance.scenario.nodes[node].weight);
    let all_zero = members.iter().all(|&node| weight(node) == 0);
    let weight = |node: usize| if all_zero { 1 } else { weight(node) };
    let load = |node: usize| {
        let pinned = |&vip: &usize| glance.scenario.vips[vip].prefer.contains(&node);
        glance.segment.kernels.held_by(node).filter(|vip| !pinned(vip)).count() as u64
    };
    let pairs = members.iter().flat_map(|&from| members.iter().map(move |&to| (from, to)));
    let mut uneven = pairs.filter(|&(from, to)| {
        // Cross-multiplied: load(from) / weight(from) > load(to) / weight(to) + 1.
        load(from) > 0 && load(from) * weight(to) > (load(to) + weight(to)) * weight(from)
    });
    let (from, to) = uneven.next()?;
    Some(format!(
        "{} has {} VIPs (weight {}) and {} has {} (weight {})",
        glance.node(from),
        load(from),
        weight(from),
        glance.node(to),
        load(to),
        weight(to),
    ))
}
