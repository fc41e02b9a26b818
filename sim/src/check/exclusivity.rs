//! P1: within one connected component no two kernels answer for one VIP.
//!
//! Two overlaps are allowed for a while, and always reported:
//! - when two components that both served come together, or a daemon starts or resumes on a machine that still answers,
//!   until the *merge window* has passed;
//! - beside a kernel whose daemon was killed or is paused (*unattended*), as long as the scenario says.

use std::collections::BTreeMap;

use wackamole_protocol::time::Duration;

use super::{Check, Findings, Glance, Measurements};
use crate::journal::What;

/// The checker.
pub struct Exclusivity {
    nodes: usize,
    bonds: Vec<Bond>,
    overlaps: BTreeMap<(usize, usize, usize), Overlap>,
    measurements: Measurements,
    look_again: bool,
}

/// What two nodes owe each other.
#[derive(Clone, Copy, Debug, Default)]
struct Bond {
    connected: bool,
    /// Both daemons run and reach each other since then.
    since: Option<Duration>,
    /// They were apart by the network before, not by one of them being down.
    met: bool,
}

#[derive(Clone, Copy, Debug)]
struct Overlap {
    began: Duration,
    unattended_since: Option<Duration>,
    attended_since: Option<Duration>,
    told: bool,
}

impl Exclusivity {
    /// A checker for so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes,
            bonds: vec![Bond { connected: true, ..Bond::default() }; nodes * nodes],
            overlaps: BTreeMap::new(),
            measurements: Measurements::default(),
            look_again: false,
        }
    }

    /// What was measured; without the moves.
    pub fn measurements(&self) -> Measurements {
        self.measurements.clone()
    }

    fn refresh_bonds(&mut self, glance: &Glance<'_>) {
        for x in 0..self.nodes {
            for y in x + 1..self.nodes {
                let connected = glance.connectivity.connected(glance.segment, x, y);
                let both_attend = glance.attends(x) && glance.attends(y);
                let bond = &mut self.bonds[x * self.nodes + y];
                let met = !bond.connected && connected;
                bond.connected = connected;
                if !(connected && both_attend) {
                    bond.since = None;
                } else if bond.since.is_none() {
                    *bond = Bond { connected, since: Some(glance.now), met };
                }
            }
        }
    }

    fn end(
        &mut self,
        key: (usize, usize, usize),
        overlap: Overlap,
        now: Duration,
        findings: &mut Findings,
    ) {
        self.measure(&overlap, now);
        let (vip, x, y) = key;
        let lasted = now - overlap.began;
        findings.entries.push(What::OverlapEnded { vip, nodes: [x, y], lasted });
    }

    fn measure(&mut self, overlap: &Overlap, now: Duration) {
        let max = |measure: &mut Duration, since: Option<Duration>| {
            *measure = (*measure).max(since.map_or(Duration::ZERO, |since| now - since));
        };
        max(&mut self.measurements.merge_overlap_max, overlap.attended_since);
        max(&mut self.measurements.unattended_overlap_max, overlap.unattended_since);
        self.measurements.merge_overlaps += usize::from(overlap.attended_since.is_some());
    }
}

impl Check for Exclusivity {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        if !glance.changed && !self.look_again {
            return;
        }
        if glance.changed {
            self.refresh_bonds(glance);
        }
        let kernels = &glance.segment.kernels;
        let mut present = BTreeMap::new();
        for vip in 0..kernels.vips() {
            if kernels.holders(vip).nth(1).is_none() {
                continue;
            }
            let holders: Vec<usize> = kernels.holders(vip).collect();
            for (i, &x) in holders.iter().enumerate() {
                for &y in &holders[i + 1..] {
                    let bond = self.bonds[x * self.nodes + y];
                    if bond.connected {
                        present.insert((vip, x, y), bond);
                    }
                }
            }
        }
        let ended: Vec<_> =
            self.overlaps.keys().filter(|key| !present.contains_key(key)).copied().collect();
        for key in ended {
            if let Some(overlap) = self.overlaps.remove(&key) {
                self.end(key, overlap, glance.now, findings);
            }
        }
        self.look_again = !present.is_empty();
        for (key, bond) in present {
            self.judge(key, bond, glance, findings);
        }
    }

    fn finish(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        for (key, overlap) in std::mem::take(&mut self.overlaps) {
            self.end(key, overlap, glance.now, findings);
        }
    }
}

impl Exclusivity {
    fn judge(
        &mut self,
        key: (usize, usize, usize),
        bond: Bond,
        glance: &Glance<'_>,
        findings: &mut Findings,
    ) {
        let (vip, x, y) = key;
        let now = glance.now;
        let new = !self.overlaps.contains_key(&key);
        let fresh =
            Overlap { began: now, unattended_since: None, attended_since: None, told: false };
        let mut overlap = *self.overlaps.entry(key).or_insert(fresh);
        let states = || {
            let state = |node: usize| {
                format!("{} ({})", glance.node(node), glance.segment.daemons[node].word())
            };
            format!("{} and {}", state(x), state(y))
        };
        let excuse;
        match bond.since {
            None => {
                overlap.attended_since = None;
                let since = *overlap.unattended_since.get_or_insert(now);
                let max = glance.scenario.expect.unattended_overlap_max;
                excuse = (max > Duration::ZERO).then_some("a daemon is dead or paused");
                if now - since > max && !overlap.told {
                    overlap.told = true;
                    let text = format!(
                        "{} is answered by {} for {} ms, allowed are {} ms",
                        glance.vip(vip),
                        states(),
                        (now - since).as_millis(),
                        max.as_millis()
                    );
                    findings.violation("exclusivity", text);
                }
            }
            Some(since) => {
                if let Some(unattended) = overlap.unattended_since.take() {
                    let max = &mut self.measurements.unattended_overlap_max;
                    *max = (*max).max(now - unattended);
                }
                overlap.attended_since.get_or_insert(now);
                // A daemon that starts or resumes may find an overlap, but may not make one.
                let excused = bond.met || overlap.began <= since && since > Duration::ZERO;
                let deadline =
                    if excused { glance.deadline(since, glance.bounds.merge) } else { since };
                excuse = match (excused, bond.met) {
                    (true, true) => Some("two components met"),
                    (true, false) => Some("a daemon found its machine answering"),
                    (false, _) => None,
                };
                if (!excused || now > deadline) && !overlap.told {
                    overlap.told = true;
                    let why = if excused {
                        format!(
                            "still, {} ms after they met, allowed are {} ms",
                            (now - since).as_millis(),
                            (deadline - since).as_millis()
                        )
                    } else {
                        format!(
                            "though they have reached each other for {} ms",
                            (now - since).as_millis()
                        )
                    };
                    findings.violation(
                        "exclusivity",
                        format!("{} is answered by {} {why}", glance.vip(vip), states()),
                    );
                }
            }
        }
        if new {
            findings.entries.push(What::OverlapBegan { vip, nodes: [x, y], excuse });
        }
        self.overlaps.insert(key, overlap);
    }
}
