//! P1: no two kernels answer for one VIP. Who is compared with whom depends on the partition policy:
//!
//! - `component`: machines whose daemons are joined by links of the heartbeat path. Two that are not, and still share a
//!   broadcast domain, are a *split*: what the policy is for, measured and never held against it;
//! - `lan`: machines in one broadcast domain of the VIPs' segment, whatever becomes of the heartbeats;
//! - `quorum`: all machines, wherever they are.
//!
//! What is allowed for a while, and always reported (docs/simulation.md, "What is checked"):
//! - *uneven*: under `component` and `lan`, links that work in one direction only keep views of one component from becoming one; until the
//!   smaller one has yielded;
//! - *merge*: two parts that both served come together, or a daemon starts or resumes on a machine that still answers; until
//!   the merge window has passed. Never under `quorum`; under `lan` not if one of them was alone on its segment;
//! - *unattended*: beside a kernel whose daemon is dead or paused, as long as the fences that are left there need;
//! - *outside* the assumptions: after a machine was stopped by its hypervisor, or with clocks that differ by more than the
//!   configured drift.

use std::collections::BTreeMap;

use wackamole_protocol::config::Partition;
use wackamole_protocol::time::Duration;

use super::fenced::unattended_max;
use super::overlap::{Bond, Domain, Interrupted, Key, Kind, Overlap, Verdict};
use super::thaws::Thaws;
use super::uneven::Uneven;
use super::{Check, Findings, Glance, Measurements};
use crate::engine::TICK;
use crate::journal::{KernelChange, What};
use crate::netem::Knob;
use crate::signs::has_neighbour;
use crate::world::release_margin;

/// The checker.
pub struct Exclusivity {
    nodes: usize,
    bonds: Vec<Bond>,
    domains: Vec<Domain>,
    /// Who is alone on the segment, and since when.
    alone: Vec<Option<Duration>>,
    /// When frames were lost last, or could be.
    lossy_until: Option<Duration>,
    /// By component: when two parts of it met last.
    met: BTreeMap<usize, Duration>,
    /// By node and VIP: when the daemon acquired it last.
    acquired: BTreeMap<(usize, usize), Duration>,
    /// Since when each daemon has run without a stop.
    awake: Vec<Option<Duration>>,
    /// When each was stopped or gone last, before that.
    asleep: Vec<Duration>,
    thaws: Thaws,
    uneven: Uneven,
    overlaps: BTreeMap<Key, Overlap>,
    interrupted: Interrupted,
    measurements: Measurements,
    look_again: bool,
}

impl Exclusivity {
    /// A checker for so many nodes.
    pub fn new(nodes: usize) -> Self {
        let domain = Domain { joined: true, since: Duration::ZERO, alone: [None; 2] };
        Self {
            nodes,
            bonds: vec![Bond { connected: true, wired: true, ..Bond::default() }; nodes * nodes],
            domains: vec![domain; nodes * nodes],
            alone: vec![None; nodes],
            lossy_until: None,
            met: BTreeMap::new(),
            acquired: BTreeMap::new(),
            awake: vec![None; nodes],
            asleep: vec![Duration::ZERO; nodes],
            thaws: Thaws::new(nodes),
            uneven: Uneven::new(nodes),
            overlaps: BTreeMap::new(),
            interrupted: Interrupted::default(),
            measurements: Measurements::default(),
            look_again: false,
        }
    }

    /// What was measured; without the moves.
    pub fn measurements(&self) -> Measurements {
        self.measurements.clone()
    }

    fn refresh(&mut self, glance: &Glance<'_>) {
        for (node, awake) in self.awake.iter_mut().enumerate() {
            let attends = glance.attends(node);
            if awake.is_some() && !attends {
                self.asleep[node] = glance.now;
            }
            *awake = attends.then(|| awake.unwrap_or(glance.now));
        }
        self.uneven.refresh(glance);
        let (lan, kernels) = (&glance.segment.lan, &glance.segment.kernels);
        for x in 0..self.nodes {
            for y in x + 1..self.nodes {
                let connected = glance.connectivity.connected(glance.segment, x, y);
                let both_attend = glance.attends(x) && glance.attends(y);
                let bond = &mut self.bonds[x * self.nodes + y];
                bond.wire(glance.segment.links.two_way(x, y), glance.now);
                let deaf = both_attend && glance.connectivity.hears_alone(glance.segment, x, y);
                bond.deaf_since = deaf.then(|| {
                    let awake = self.awake[x].max(self.awake[y]).unwrap_or(glance.now);
                    bond.deaf_since.unwrap_or(glance.now).max(awake)
                });
                bond.meet(connected, both_attend, glance.now);
                let clients = lan.nodes()..lan.stations();
                let joined = lan.two_way(x, y)
                    || clients.into_iter().any(|c| lan.two_way(x, c) && lan.two_way(y, c));
                let domain = &mut self.domains[x * self.nodes + y];
                if domain.joined != joined {
                    let alone = [self.alone[x], self.alone[y]];
                    *domain = Domain { joined, since: glance.now, alone };
                }
            }
        }
        self.met.clear();
        let component = glance.connectivity.components();
        for (&of, bonds) in component.iter().zip(self.bonds.chunks(self.nodes)) {
            for bond in bonds {
                if let Some(since) = bond.since.filter(|_| bond.met) {
                    let met = self.met.entry(of).or_default();
                    *met = (*met).max(since);
                }
            }
        }
        for node in 0..self.nodes {
            let since = self.alone[node].unwrap_or(glance.now);
            self.alone[node] = (!has_neighbour(node, lan, kernels)).then_some(since);
        }
    }

    /// Pairs of kernels that answer for one VIP and are compared with each other.
    fn present(&self, glance: &Glance<'_>) -> Vec<Key> {
        let kernels = &glance.segment.kernels;
        let everywhere = glance.scenario.safety.partition == Partition::Quorum;
        let mut present = Vec::new();
        for vip in 0..kernels.vips() {
            if kernels.holders(vip).nth(1).is_none() {
                continue;
            }
            let holders: Vec<usize> = kernels.holders(vip).collect();
            for (i, &x) in holders.iter().enumerate() {
                for &y in &holders[i + 1..] {
                    let pair = x * self.nodes + y;
                    if everywhere || self.bonds[pair].connected || self.domains[pair].joined {
                        present.push((vip, x, y));
                    }
                }
            }
        }
        present
    }

    fn end(&mut self, key: Key, overlap: Overlap, now: Duration, findings: &mut Findings) {
        self.measure(&overlap, now);
        let (vip, x, y) = key;
        let lasted = now - overlap.began;
        findings.entries.push(What::OverlapEnded { vip, nodes: [x, y], lasted });
    }

    fn measure(&mut self, overlap: &Overlap, now: Duration) {
        let measurements = &mut self.measurements;
        let longest = match overlap.kind {
            Kind::Split => &mut measurements.split_overlap_max,
            Kind::Merge => {
                measurements.merge_overlaps += 1;
                &mut measurements.merge_overlap_max
            }
            Kind::Unattended => &mut measurements.unattended_overlap_max,
            Kind::Outside => &mut measurements.outside_overlap_max,
            Kind::Forbidden => &mut measurements.forbidden_overlap_max,
        };
        *longest = (*longest).max(now - overlap.since);
    }
}

impl Check for Exclusivity {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        if glance.segment.netem.max(Knob::Loss) > 0.0 {
            self.lossy_until = Some(glance.now);
        }
        for entry in glance.fresh {
            if let What::Kernel { node, vip, change: KernelChange::Acquired } = entry.what {
                self.acquired.insert((node, vip), entry.at);
            }
        }
        self.thaws.note(glance);
        if !glance.changed && !self.look_again {
            return;
        }
        if glance.changed {
            self.refresh(glance);
        }
        let present = self.present(glance);
        let ended: Vec<Key> =
            self.overlaps.keys().filter(|key| !present.contains(key)).copied().collect();
        for key in ended {
            if let Some(overlap) = self.overlaps.remove(&key) {
                self.interrupted.note(key, overlap, glance);
                self.end(key, overlap, glance.now, findings);
            }
        }
        // What is allowed without an end is judged anew when something changes.
        self.look_again = false;
        for key in present {
            self.look_again |= self.judge(key, glance, findings);
        }
    }

    fn next_look(&self, glance: &Glance<'_>) -> Option<Duration> {
        self.look_again.then_some(glance.now + TICK)
    }

    fn finish(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        for (key, overlap) in std::mem::take(&mut self.overlaps) {
            self.end(key, overlap, glance.now, findings);
        }
    }
}

impl Exclusivity {
    /// Returns whether the verdict has an end.
    fn judge(&mut self, key: Key, glance: &Glance<'_>, findings: &mut Findings) -> bool {
        let now = glance.now;
        let seen = self.overlaps.get(&key).copied();
        let known = seen.or_else(|| self.interrupted.goes_on(key, now));
        let began = known.map_or(now, |overlap| overlap.began);
        let Verdict { kind, until, why, fences } = self.verdict(key, began, known, glance);
        let mut overlap = known.unwrap_or(Overlap {
            began,
            kind,
            since: now,
            excused: false,
            fenced: None,
            told: false,
        });
        if overlap.kind != kind {
            self.measure(&overlap, now);
            (overlap.kind, overlap.since) = (kind, now);
        }
        overlap.excused |= matches!(kind, Kind::Split | Kind::Merge);
        overlap.fenced = fences.zip(until);
        let forbidden = until.is_some_and(|until| now > until) || kind == Kind::Forbidden;
        if forbidden && !overlap.told {
            overlap.told = true;
            let (vip, x, y) = key;
            let state = |node: usize| {
                format!("{} ({})", glance.node(node), glance.segment.daemons[node].word())
            };
            let allowed = until.map_or(Duration::ZERO, |until| until.saturating_sub(overlap.since));
            let text = format!(
                "{} is answered by {} and {} for {} ms, allowed are {} ms: {why}",
                glance.vip(vip),
                state(x),
                state(y),
                (now - overlap.since).as_millis(),
                allowed.as_millis(),
            );
            findings.violation("exclusivity", text);
        }
        if seen.is_none() {
            let (vip, x, y) = key;
            let excuse = (!forbidden).then_some(why);
            findings.entries.push(What::OverlapBegan { vip, nodes: [x, y], excuse });
        }
        self.overlaps.insert(key, overlap);
        until.is_some()
    }

    /// What it is held to be. A machine that its hypervisor had stopped may take longer than everybody else.
    fn verdict(
        &self,
        key: Key,
        began: Duration,
        known: Option<Overlap>,
        glance: &Glance<'_>,
    ) -> Verdict {
        let (_, x, y) = key;
        let verdict = self.verdict_inside(key, began, known, glance);
        let verdict = self.uneven.excuse(verdict, (x, y), began, glance);
        match (verdict.until, self.thaws.bound(x, y, began, glance)) {
            (Some(until), Some(thawed)) if until < thawed || verdict.kind == Kind::Merge => {
                let why = "a machine goes on that its hypervisor had stopped";
                let until = Some(until.max(thawed));
                Verdict { kind: Kind::Outside, until, why, fences: verdict.fences }
            }
            _ => verdict,
        }
    }

    fn verdict_inside(
        &self,
        key: Key,
        began: Duration,
        known: Option<Overlap>,
        glance: &Glance<'_>,
    ) -> Verdict {
        let (vip, x, y) = key;
        let bond = self.bonds[x * self.nodes + y];
        let domain = self.domains[x * self.nodes + y];
        let attended = glance.attends(x) && glance.attends(y);
        if let Some(since) = bond.deaf_since.filter(|_| self.lets_the_deaf_one_serve(glance)) {
            return Verdict {
                kind: Kind::Split,
                until: Some(glance.deadline(since.max(domain.since), glance.bounds.deaf)),
                why: "one hears the other, is not heard, and has yet to find out",
                fences: None,
            };
        }
        if let Some(why) = self.split(key, began, glance) {
            return Verdict { kind: Kind::Split, until: None, why, fences: None };
        }
        let merges = glance.scenario.safety.partition != Partition::Quorum;
        if !attended {
            let since =
                known.filter(|o| o.kind == Kind::Unattended).map_or(glance.now, |o| o.since);
            let mut allowed = unattended_max(x, glance).max(unattended_max(y, glance));
            // Two parts that both served have met, and one of them holds what is left of a lease.
            let met = began <= domain.since && domain.since > Duration::ZERO;
            // Whoever is stopped before its part and the other that it has met are one holds what is left of a lease that nobody in
            // the other part knows of; and somebody may take over there from whoever died or gave up meanwhile.
            let timeout = glance.scenario.timing.failure_timeout;
            // Who has asked the segment before that finds nobody.
            let shortly = match glance.scenario.safety.partition {
                Partition::Component => glance.bounds.merge + timeout,
                Partition::Lan => glance.bounds.unnoticed,
                Partition::Quorum => Duration::ZERO,
            };
            let met = met || bond.rewired.is_some_and(|at| began <= at + shortly);
            let excused = known.is_some_and(|overlap| overlap.excused);
            let unheard =
                glance.scenario.safety.partition == Partition::Lan && self.lossy(began, glance);
            if merges && (met || excused || unheard || !bond.connected) {
                allowed = allowed.max(timeout);
            }
            let fenced = known.and_then(|overlap| overlap.fenced);
            if allowed == Duration::ZERO && fenced.is_none() {
                return forbidden(began, glance);
            }
            let until = match fenced {
                None => since + allowed,
                // A better fence has come back, such as a guardian that goes on: it needs its time from now, all of it, as the lease
                // is over.
                Some((before, until)) if allowed < before => {
                    let margin =
                        release_margin(glance.scenario, x).max(release_margin(glance.scenario, y));
                    until.min(glance.now + allowed + margin)
                }
                Some((before, until)) if allowed == before => until,
                Some((_, until)) => until.max(since + allowed),
            };
            return Verdict {
                kind: Kind::Unattended,
                until: Some(until),
                why: "a daemon is dead or paused",
                fences: Some(allowed),
            };
        }
        // Whoever joins one of the parts while they become one has part in what follows.
        let parts_met =
            self.met.get(&glance.connectivity.components()[x]).copied().filter(|&met| {
                let until = glance.deadline(met, glance.bounds.merge);
                bond.met || began <= until && bond.since.is_some_and(|since| since <= until)
            });
        let since = match (glance.scenario.safety.partition, bond.since) {
            (Partition::Component, Some(since)) => since.max(parts_met.unwrap_or_default()),
            (_, since) => since.unwrap_or(glance.now).max(domain.since),
        };
        let met = match glance.scenario.safety.partition {
            Partition::Component => {
                parts_met.is_some() || self.came_back_with_others(x, y, began, glance)
            }
            // Also where their segment is in parts: they serve both, and hear it now.
            Partition::Lan => {
                let waited_out = glance.scenario.safety.lan_wait_max.is_some()
                    && bond.since.is_some_and(|met| began <= met + glance.bounds.merge);
                self.joining(key, began, glance)
                    || waited_out
                    || self.lossy(began, glance)
                    || !domain.joined && parts_met.is_some()
            }
            Partition::Quorum => false,
        };
        // A daemon that starts or resumes may find an overlap, but may not make one.
        let awoke = [x, y].iter().any(|&node| self.awoke_with_it(node, vip, began, glance));
        let found = since > Duration::ZERO
            && match known {
                Some(overlap) => (began <= since || awoke) && overlap.kind != Kind::Forbidden,
                // Somebody has taken over while it lets go of what it had when it resumed.
                None => awoke,
            };
        if met || found {
            let lan = glance.scenario.safety.partition == Partition::Lan;
            let from = if lan { since.max(began) } else { since };
            return Verdict {
                kind: Kind::Merge,
                until: Some(glance.deadline(from, glance.bounds.merge)),
                why: if met { "two parts met" } else { "a daemon found its machine answering" },
                fences: None,
            };
        }
        forbidden(began, glance)
    }

    /// The daemon has just begun to run, or to run on, and its machine answered before that; it may have to release all of it first.
    fn awoke_with_it(&self, node: usize, vip: usize, began: Duration, glance: &Glance<'_>) -> bool {
        let releasing = TICK + release_margin(glance.scenario, node);
        self.awake[node].is_some_and(|at| {
            let acquired = self.acquired.get(&(node, vip));
            at > Duration::ZERO && began <= at + releasing && acquired.is_some_and(|&had| had < at)
        })
    }

    /// One of two has just gone on after a stop so long that it was in no view with the other any more, and so has a third one: parts of
    /// their own, which meet each other and the rest one after the other, and may be one and serve a moment before they are one with
    /// the rest (explore, seed 4329). By itself it knows nobody with whom it could.
    fn came_back_with_others(
        &self,
        x: usize,
        y: usize,
        began: Duration,
        glance: &Glance<'_>,
    ) -> bool {
        let Some(since) = self.bonds[x * self.nodes + y].since else { return false };
        let timeout = glance.scenario.timing.failure_timeout;
        let stranger = |node: usize| {
            let shortly = |awake: Duration| awake + glance.bounds.merge >= since;
            self.awake[node].is_some_and(|at| shortly(at) && at >= self.asleep[node] + timeout)
        };
        let component = glance.connectivity.components();
        let with_others = (0..self.nodes)
            .any(|z| z != x && z != y && component[z] == component[x] && stranger(z));
        since > Duration::ZERO
            && with_others
            && (stranger(x) || stranger(y))
            && began <= glance.deadline(since, glance.bounds.merge)
    }

    /// Under `lan`: an overlap that began then is due to two parts of the segment that have come together. Both served
    /// before, or one had asked the segment shortly before it was one. Whoever is alone has no right to anything new that it had not
    /// begun to ask about before.
    fn joining(&self, (vip, x, y): Key, began: Duration, glance: &Glance<'_>) -> bool {
        let domain = self.domains[x * self.nodes + y];
        let honest = |node: usize, alone: Option<Duration>| {
            let acquired = self.acquired.get(&(node, vip));
            // What it does not hear after its last frame counts as nobody, if it asked before (docs/protocol.md, "Clearing").
            let asked_before = |alone: Duration| alone + glance.bounds.unnoticed;
            alone.is_none_or(|alone| acquired.is_some_and(|&at| at <= asked_before(alone)))
        };
        let honest_both = honest(x, domain.alone[0]) && honest(y, domain.alone[1]);
        let shortly = began <= domain.since + glance.bounds.merge;
        domain.joined && domain.since > Duration::ZERO && shortly && honest_both
    }

    /// Frames were lost on the segment when an overlap began, or shortly before.
    fn lossy(&self, began: Duration, glance: &Glance<'_>) -> bool {
        self.lossy_until
            .is_some_and(|until| began <= until + glance.scenario.timing.failure_timeout)
    }

    /// Whoever hears somebody serve that does not hear it gives way, if nobody else is in its part. Lost datagrams may hide that.
    fn lets_the_deaf_one_serve(&self, glance: &Glance<'_>) -> bool {
        glance.scenario.safety.partition != Partition::Quorum && self.lossy_until.is_none()
    }

    /// Why the policy lets both parts serve, if it does.
    fn split(&self, key: Key, began: Duration, glance: &Glance<'_>) -> Option<&'static str> {
        let (_, x, y) = key;
        let connected = self.bonds[x * self.nodes + y].connected;
        let safety = &glance.scenario.safety;
        match safety.partition {
            Partition::Quorum => None,
            _ if connected => None,
            Partition::Component => Some("their daemons do not hear each other"),
            Partition::Lan if !glance.segment.lan.two_way(x, y) => {
                Some("the segment is in parts, and no probe joins them")
            }
            Partition::Lan if self.joining(key, began, glance) => {
                Some("both served before their segment was one")
            }
            Partition::Lan if self.lossy(began, glance) => Some("probes may have been lost"),
            Partition::Lan if safety.lan_wait_max.is_some() => {
                Some("an answer to a probe is waited out")
            }
            Partition::Lan => None,
        }
    }
}

/// Nothing allows it, unless clocks are outside the assumptions of P1; then it is bounded.
fn forbidden(began: Duration, glance: &Glance<'_>) -> Verdict {
    let drift = glance.bounds.drift_overlap;
    if drift > Duration::ZERO {
        let why = "clocks differ by more than the configured drift";
        return Verdict { kind: Kind::Outside, until: Some(began + drift), why, fences: None };
    }
    Verdict { kind: Kind::Forbidden, until: Some(began), why: "nothing allows it", fences: None }
}
