//! Machines of one component that cannot all be in one view, because links work in one direction only, or between some of them not at all.

use wackamole_protocol::config::Partition;
use wackamole_protocol::time::Duration;

use super::Glance;
use super::overlap::{Kind, Verdict};

/// By node: until when its component had such a link last.
#[derive(Debug)]
pub(super) struct Uneven {
    until: Vec<Option<Duration>>,
}

impl Uneven {
    pub(super) fn new(nodes: usize) -> Self {
        Self { until: vec![None; nodes] }
    }

    /// To be called when the wires or the daemons have changed.
    pub(super) fn refresh(&mut self, glance: &Glance<'_>) {
        for until in self.until.iter_mut().flatten() {
            *until = (*until).min(glance.now);
        }
        if glance.scenario.safety.partition == Partition::Quorum {
            return;
        }
        let component = glance.connectivity.components();
        let (links, lan) = (&glance.segment.links, &glance.segment.lan);
        let joined = |a: usize, b: usize| {
            (lan.nodes()..lan.stations()).any(|c| lan.two_way(a, c) && lan.two_way(b, c))
        };
        let uneven = |a: usize, b: usize| {
            links.reaches(a, b) != links.reaches(b, a)
                || component[a] == component[b] && !links.two_way(a, b)
                || joined(a, b) && !lan.two_way(a, b)
        };
        let attending = || (0..component.len()).filter(|&node| glance.attends(node));
        for from in attending() {
            for to in attending() {
                if from >= to || !uneven(from, to) {
                    continue;
                }
                for (until, &of) in self.until.iter_mut().zip(component) {
                    if of == component[from] || of == component[to] {
                        *until = Some(Duration::MAX);
                    }
                }
            }
        }
    }

    /// Their views cannot become one, or could not until lately: what nothing else allows lasts until the smaller one has yielded.
    pub(super) fn excuse(
        &self,
        verdict: Verdict,
        (x, y): (usize, usize),
        began: Duration,
        glance: &Glance<'_>,
    ) -> Verdict {
        let over = verdict.kind == Kind::Forbidden
            || verdict.kind == Kind::Merge && verdict.until.is_some_and(|until| glance.now > until);
        let lately = |node: usize| {
            self.until[node].is_some_and(|until| began <= until.saturating_add(glance.bounds.merge))
        };
        let attended = glance.attends(x) && glance.attends(y);
        let excused = over && attended && (lately(x) || lately(y));
        if !excused {
            return verdict;
        }
        Verdict {
            kind: Kind::Split,
            until: Some(glance.deadline(began, glance.bounds.uneven)),
            why: "links that work one way keep their views from becoming one",
            fences: None,
        }
    }
}
