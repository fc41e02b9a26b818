//! Checkers: one promise each, looked at after every tick in which anything happened or a checker wants to look.
//!
//! Safety is judged by the truth of the [`Segment`], never by what daemons believe. A checker looks only when something
//! changed or when a time has come that it waits for, so that a quiet world costs nothing.

pub mod agreement;
pub mod balance;
pub mod caches;
pub mod coverage;
pub mod exclusivity;
pub mod expectations;
mod fenced;
pub mod lease;
pub mod leftovers;
pub mod oddities;
mod overlap;
pub mod primary;
pub mod stability;
mod thaws;
pub mod told;
mod uneven;

#[cfg(test)]
mod tests;

use wackamole_protocol::config::Partition;
use wackamole_protocol::status::Status;
use wackamole_protocol::time::Duration;

use crate::bounds::Bounds;
use crate::connectivity::Connectivity;
use crate::coverage::record::{Counts, Transitions};
use crate::journal::{Entry, What};
use crate::netem::Knob;
use crate::scenario::Scenario;
use crate::segment::{Daemon, Segment};
use crate::signs::has_neighbour;

/// What a checker sees of the world after a tick.
pub struct Glance<'a> {
    /// The time.
    pub now: Duration,
    /// The scenario.
    pub scenario: &'a Scenario,
    /// How long things may take in it.
    pub bounds: &'a Bounds,
    /// The truth.
    pub segment: &'a Segment,
    /// Who can talk to whom.
    pub connectivity: &'a Connectivity,
    /// What happened in this tick.
    pub fresh: &'a [Entry],
    /// A link, an address table or a daemon's state changed in this tick.
    pub changed: bool,
    /// When something was done to the world, or a burst of loss began or ended; in order.
    pub disturbances: &'a [Duration],
    /// No link changed since then.
    pub wires_calm_since: Duration,
    /// From when until when more was lost than any bound reckons with, the last time.
    pub storm: Option<(Duration, Duration)>,
}

impl Glance<'_> {
    /// Nothing was done to the world since then.
    pub fn calm_since(&self) -> Duration {
        if self.storms() { self.now } else { self.disturbances.last().copied().unwrap_or_default() }
    }

    /// More is lost than any bound reckons with.
    pub fn storms(&self) -> bool {
        self.segment.netem.max(Knob::Loss) > self.bounds.loss
    }

    /// For how long the world has been left alone.
    pub fn calm_for(&self) -> Duration {
        self.now.saturating_sub(self.calm_since())
    }

    /// By when something is over that takes `bound` when left alone. Whatever else happens shortly before or meanwhile
    /// may have to be detected first, because no view is agreed with the dead.
    pub fn deadline(&self, since: Duration, bound: Duration) -> Duration {
        let mut deadline = since + bound;
        if self.storms() {
            deadline = deadline.max(self.now + self.bounds.cover);
        }
        if let Some((began, ended)) = self.storm
            && began <= deadline
            && ended > since
        {
            deadline = deadline.max(ended + self.bounds.cover);
        }
        // In a world that lives for hours most of them are long ago.
        let old = self.disturbances.partition_point(|&at| at + self.bounds.cover <= since);
        for &disturbance in &self.disturbances[old..] {
            if disturbance != since && disturbance <= deadline {
                deadline = deadline.max(disturbance + self.bounds.cover);
            }
        }
        deadline
    }

    /// The daemon runs, is not paused or leaving, and has run long enough to own VIPs.
    pub fn is_mature(&self, node: usize) -> bool {
        let Daemon::Running(since) = self.segment.daemons[node] else { return false };
        // While its machine was stopped the daemon's clock stood still.
        let since = self.segment.thawed[node].map_or(since, |thawed| thawed.max(since));
        // Whoever was started while it had such a link may have been in no view until that was over.
        let one_way = self.segment.one_way[node];
        if one_way.since_start {
            return false;
        }
        let since = one_way.over_at.map_or(since, |at| at.max(since));
        !self.segment.leaving[node]
            && !self.scenario.nodes[node].witness
            && self.now >= self.deadline(since, self.bounds.cover) + self.scenario.timing.mature
    }

    /// The daemon runs and is not paused.
    pub fn attends(&self, node: usize) -> bool {
        self.segment.daemons[node].attends()
    }

    /// The name of a node.
    pub fn node(&self, node: usize) -> &str {
        &self.scenario.nodes[node].name
    }

    /// The name of a VIP.
    pub fn vip(&self, vip: usize) -> &str {
        self.scenario.vips[vip].vip.name()
    }

    /// The machine has what it takes to serve: a guardian if it is meant to have one, and under `lan` somebody who answers
    /// it on the segment.
    pub fn can_serve(&self, node: usize) -> bool {
        let (lan, kernels) = (&self.segment.lan, &self.segment.kernels);
        !self.segment.fences.lost(node)
            && (self.scenario.safety.partition != Partition::Lan
                || has_neighbour(node, lan, kernels))
    }

    /// Address work on this VIP goes wrong for a while, or did so recently: it is tried again after pauses that have grown.
    pub fn troubled_lately(&self, vip: usize) -> bool {
        let lately = Duration::from_secs(5);
        let recent = |until: Duration| self.now < until + lately;
        self.segment.sabotage.iter().any(|s| s.vip == vip && s.until.is_some_and(recent))
    }

    /// Address work of a VIP goes wrong, or did so recently: its VIPs are where they can be, not where they should be.
    pub fn sabotaged_lately(&self) -> bool {
        // A daemon that could not hold a VIP is not given it again for a growing time, a minute at most.
        let lately = Duration::from_secs(60);
        self.segment.sabotage.iter().any(|s| s.until.is_none_or(|until| self.now < until + lately))
    }
}

/// What a look is for, besides entries in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    disturbances: usize,
    storm: Option<(Duration, Duration)>,
    fences: u64,
}

impl Seen {
    fn of(glance: &Glance<'_>) -> Self {
        let (disturbances, fences) = (glance.disturbances.len(), glance.segment.fences.version());
        Self { disturbances, storm: glance.storm, fences }
    }
}

/// What checkers have to say after a tick.
#[derive(Debug, Default)]
pub struct Findings {
    /// For the journal.
    pub entries: Vec<What>,
}

impl Findings {
    /// A promise is broken.
    pub fn violation(&mut self, check: &'static str, text: String) {
        self.entries.push(What::Violation { check, text });
    }
}

/// A checker.
pub trait Check {
    /// Looks at the world after a tick.
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings);

    /// When it must look next, though nothing may have changed until then; to be asked after each look.
    fn next_look(&self, _glance: &Glance<'_>) -> Option<Duration> {
        None
    }

    /// Takes a status that a daemon gave.
    fn status(&mut self, _node: usize, _status: &Status, _findings: &mut Findings) {}

    /// Looks at the world for the last time.
    fn finish(&mut self, _glance: &Glance<'_>, _findings: &mut Findings) {}
}

/// What the checkers measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurements {
    /// How often VIPs changed machines, the first acquire of each not counted.
    pub moves: usize,
    /// The longest overlap of two attended kernels after components met, and how many there were.
    pub merge_overlap_max: Duration,
    /// How many such overlaps there were.
    pub merge_overlaps: usize,
    /// The longest overlap with a kernel whose daemon was dead or paused.
    pub unattended_overlap_max: Duration,
    /// The longest overlap of two parts that the policy lets serve side by side.
    pub split_overlap_max: Duration,
    /// The longest overlap outside the assumptions: after a machine was stopped, or with clocks beyond the drift.
    pub outside_overlap_max: Duration,
    /// The longest overlap that nothing allows.
    pub forbidden_overlap_max: Duration,
    /// How often each transition of a daemon, a guardian or a gate was seen, and each reason against a primary view.
    pub transitions: Counts,
}

impl Measurements {
    /// The longest overlap of all.
    pub fn longest_overlap(&self) -> Duration {
        [
            self.merge_overlap_max,
            self.unattended_overlap_max,
            self.split_overlap_max,
            self.outside_overlap_max,
            self.forbidden_overlap_max,
        ]
        .into_iter()
        .fold(Duration::ZERO, Duration::max)
    }
}

/// All checkers, in the order in which they look.
pub struct Checks {
    /// When one of them must look next, though nothing may have changed until then.
    next_look: Option<Duration>,
    /// What was different at the last look.
    seen: Seen,
    exclusivity: exclusivity::Exclusivity,
    stability: stability::Stability,
    transitions: Transitions,
    others: Vec<Box<dyn Check>>,
}

impl Checks {
    /// The checkers of a scenario's run with a seed.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let (nodes, vips, clients) =
            (scenario.nodes.len(), scenario.vips.len(), scenario.clients.len());
        Self {
            next_look: Some(Duration::ZERO),
            seen: Seen::default(),
            exclusivity: exclusivity::Exclusivity::new(nodes),
            stability: stability::Stability::new(vips),
            transitions: Transitions::default(),
            others: vec![
                Box::new(coverage::Coverage::new(nodes, vips)),
                Box::new(agreement::Agreement::new(scenario)),
                Box::new(balance::Balanced::default()),
                Box::new(caches::Caches::new(clients, vips)),
                Box::new(lease::Leases::new(scenario)),
                Box::new(leftovers::Leftovers),
                Box::new(oddities::Oddities::default()),
                Box::new(told::Told::default()),
                Box::new(expectations::Expectations::new(scenario, seed)),
            ],
        }
    }

    /// All look, if anything has happened since the last look or one of them has waited for this time.
    pub fn step(&mut self, glance: &Glance<'_>) -> Findings {
        let seen = Seen::of(glance);
        let otherwise = std::mem::replace(&mut self.seen, seen) != seen;
        let waited = self.next_look.is_some_and(|at| at <= glance.now);
        // While datagrams may be lost, whatever is lost counts in each tick.
        let lossy = glance.segment.netem.max(Knob::Loss) > 0.0;
        if glance.fresh.is_empty() && !glance.changed && !otherwise && !waited && !lossy {
            return Findings::default();
        }
        self.look(glance)
    }

    /// All look.
    pub fn look(&mut self, glance: &Glance<'_>) -> Findings {
        let mut findings = Findings::default();
        let mut next: Option<Duration> = None;
        self.each(|check| {
            check.step(glance, &mut findings);
            next = next.into_iter().chain(check.next_look(glance)).min();
        });
        self.next_look = next;
        findings
    }

    /// When one of them must look next, though nothing may have changed until then.
    pub fn next_look(&self) -> Option<Duration> {
        self.next_look
    }

    /// All take a status.
    pub fn status(&mut self, node: usize, status: &Status) -> Findings {
        self.next_look = Some(Duration::ZERO);
        let mut findings = Findings::default();
        self.each(|check| check.status(node, status, &mut findings));
        findings
    }

    /// All look for the last time.
    pub fn finish(&mut self, glance: &Glance<'_>) -> Findings {
        let mut findings = Findings::default();
        self.each(|check| check.finish(glance, &mut findings));
        findings
    }

    /// What was measured.
    pub fn measurements(&self) -> Measurements {
        Measurements {
            moves: self.stability.moves(),
            transitions: self.transitions.counts(),
            ..self.exclusivity.measurements()
        }
    }

    fn each(&mut self, mut look: impl FnMut(&mut dyn Check)) {
        look(&mut self.exclusivity);
        look(&mut self.stability);
        look(&mut self.transitions);
        for check in &mut self.others {
            look(check.as_mut());
        }
    }
}
