//! P2: once the world is quiet every VIP has a holder in each component where a mature member lives. That there is only
//! one is the exclusivity checker's business.
//!
//! Under `lan` a holder outside the component counts as long as it answers somebody in it, and a member whose segment shows
//! no sign of life need not serve. Under `quorum` only the primary component must ([`super::primary`]), and one that the witness
//! has disqualified must not.
//!
//! A component that hears a daemon of another one, which does not hear it, may defer to that one: it knows that somebody
//! lives there, and what it would acquire would be answered twice on the segment.

use std::collections::BTreeSet;

use wackamole::reconcile::put_back_after;
use wackamole_protocol::config::Partition;
use wackamole_protocol::event::Event;
use wackamole_protocol::time::Duration;

use super::primary::Primary;
use super::{Check, Findings, Glance};
use crate::journal::{KernelChange, What};

/// Nodes mature by themselves: that makes no change.
const NOW_AND_THEN: Duration = Duration::from_millis(100);
/// In a world that has been left alone for so long that all are mature: what excuses a gap may end.
const AT_REST: Duration = Duration::from_secs(1);
/// Nothing excuses one any more either.
const AT_PEACE: Duration = Duration::from_secs(10);

/// The bounds are no whole ticks.
const INSTANT: Duration = Duration::from_nanos(1);

/// Held for so long, an address that is deleted is put back as fast as the first time.
const STABLE: Duration = Duration::from_secs(60);

/// The checker.
pub struct Coverage {
    vips: usize,
    /// By component (the lowest node in it) and VIP: without a holder since then.
    gaps: Vec<Option<Gap>>,
    primary: Primary,
    /// When the first gap that has not been told of will be too long, should nothing change until then.
    overdue_at: Option<Duration>,
    /// By VIP: when its addresses were deleted by hand. They are put back more and more slowly.
    deleted: Vec<Vec<Duration>>,
    /// It was told that a component serves which the witness has vetoed.
    told_of_veto: bool,
}

#[derive(Clone, Copy)]
struct Gap {
    since: Duration,
    told: bool,
}

impl Coverage {
    /// A checker for so many nodes and VIPs.
    pub fn new(nodes: usize, vips: usize) -> Self {
        Self {
            vips,
            gaps: vec![None; nodes * vips],
            primary: Primary::default(),
            overdue_at: None,
            deleted: vec![Vec::new(); vips],
            told_of_veto: false,
        }
    }

    /// How long whoever deletes a VIP's addresses by hand again and again may keep them away.
    fn put_back_within(&self, vip: usize, now: Duration) -> Duration {
        let lately = self.deleted[vip].iter().filter(|&&at| now <= at + STABLE).count();
        lately.checked_sub(1).map_or(Duration::ZERO, |before| put_back_after(before as u32))
    }

    /// A witness that disqualifies a component empties it.
    fn look_for_vetoed(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        let component = glance.connectivity.components();
        for root in 0..component.len() {
            let members: BTreeSet<usize> = (0..component.len())
                .filter(|&node| component[node] == root && glance.attends(node))
                .collect();
            if members.is_empty() || !self.primary.is_vetoed(&members) {
                continue;
            }
            let holds = |vip: usize| {
                members.iter().copied().find(|&node| glance.segment.kernels.answers(node, vip))
            };
            if let Some((vip, node)) = (0..self.vips).find_map(|vip| Some((vip, holds(vip)?))) {
                self.told_of_veto = true;
                let (node, vip) = (glance.node(node), glance.vip(vip));
                let text = format!("{node} holds {vip}, cut off from others and from the witness");
                findings.violation("coverage", text);
            }
        }
    }
}

impl Check for Coverage {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        let forced = |what: &What| matches!(what, What::Daemon { event: Event::ForcedPrimary, .. });
        if glance.fresh.iter().any(|entry| forced(&entry.what)) {
            self.primary.forced();
        }
        for entry in glance.fresh {
            if let What::Kernel { vip, change: KernelChange::Deleted, .. } = entry.what {
                self.deleted[vip].push(entry.at);
            }
        }
        let now_and_then = millis(glance.now).is_multiple_of(millis(pace(glance)));
        let overdue = self.overdue_at.is_some_and(|at| at <= glance.now);
        if !glance.changed && !overdue && !now_and_then {
            return;
        }
        self.overdue_at = None;
        let put_back: Vec<Duration> =
            (0..self.vips).map(|vip| self.put_back_within(vip, glance.now)).collect();
        let component = glance.connectivity.components();
        let (kernels, lan) = (&glance.segment.kernels, &glance.segment.lan);
        let policy = glance.scenario.safety.partition;
        let primary = (policy == Partition::Quorum).then(|| self.primary.look(glance));
        if primary.is_some() && glance.calm_for() > glance.bounds.cover && !self.told_of_veto {
            self.look_for_vetoed(glance, findings);
        }
        let proxied = policy == Partition::Lan
            && glance.scenario.proxy_arp
            && glance.scenario.safety.lan_wait_max.is_none();
        for root in 0..component.len() {
            let members = || (0..component.len()).filter(move |&node| component[node] == root);
            let links = &glance.segment.links;
            let hears_others = members().any(|node| {
                (0..component.len()).any(|other| {
                    component[other] != root && glance.attends(other) && links.reaches(other, node)
                })
            });
            // Of views that cannot become one the larger one stays, whether its members are mature or not.
            let all_mature =
                members().filter(|&node| glance.attends(node)).all(|node| glance.is_mature(node));
            let may_yield = |node: usize| {
                policy != Partition::Quorum && !all_mature && glance.segment.one_way[node].now
            };
            let serves =
                |node: usize| glance.is_mature(node) && glance.can_serve(node) && !may_yield(node);
            let is_primary = match &primary {
                // Until the world has been calm for long enough gaps are only timed.
                _ if glance.calm_for() <= glance.bounds.cover => true,
                None => true,
                Some(None) => false,
                Some(Some(set)) => set.contains(&root),
            };
            let served = !hears_others && !proxied && is_primary && members().any(serves);
            // Where several pairs do not hear each other several sets are about equally good, and they take more than one attempt.
            let pairs = members().flat_map(|a| members().map(move |b| (a, b)));
            let uneven = pairs.filter(|&(a, b)| a < b && !links.two_way(a, b)).count();
            let settling = glance.bounds.cover
                + glance.scenario.timing.failure_timeout
                    * 2
                    * uneven.min(glance.scenario.nodes.len()) as u32;
            let somebody_is_away = members().count() < component.len() || uneven > 0;
            let inquiry = if somebody_is_away { glance.bounds.inquiry } else { Duration::ZERO };
            let disputed =
                (0..component.len()).any(|other| component[other] != root && glance.attends(other));
            let inquiry = inquiry + if disputed { glance.bounds.dispute } else { Duration::ZERO };
            for vip in 0..self.vips {
                let cell = &mut self.gaps[root * self.vips + vip];
                let held = members().any(|node| glance.attends(node) && kernels.answers(node, vip))
                    || policy == Partition::Lan
                        && kernels
                            .holders(vip)
                            .any(|holder| members().any(|node| lan.two_way(holder, node)));
                if held
                    || !served
                    || glance.scenario.allow.uncovered.contains(&vip)
                    || glance.troubled_lately(vip)
                {
                    *cell = None;
                    continue;
                }
                let gap = cell.get_or_insert(Gap { since: glance.now, told: false });
                let put_back = put_back[vip];
                let overdue_at = (gap.since + glance.bounds.handover + inquiry + put_back)
                    .max(glance.calm_since() + settling + put_back)
                    + INSTANT;
                if glance.now < overdue_at {
                    let first = self.overdue_at.unwrap_or(overdue_at);
                    self.overdue_at = Some(first.min(overdue_at));
                } else if !gap.told {
                    gap.told = true;
                    let names: Vec<_> = members().map(|node| glance.node(node)).collect();
                    let text = format!(
                        "nobody among {} holds {} since {} ms, and nothing has happened for {} ms (allowed {} ms)",
                        names.join(", "),
                        glance.vip(vip),
                        (glance.now - gap.since).as_millis(),
                        glance.calm_for().as_millis(),
                        settling.as_millis(),
                    );
                    findings.violation("coverage", text);
                }
            }
        }
    }

    fn next_look(&self, glance: &Glance<'_>) -> Option<Duration> {
        let pace = pace(glance);
        let periods = millis(glance.now) / millis(pace) + 1;
        Some(self.overdue_at.into_iter().fold(pace * periods as u32, Duration::min))
    }
}

/// How often it looks although nothing has changed.
fn pace(glance: &Glance<'_>) -> Duration {
    if glance.calm_for() <= glance.bounds.settle {
        NOW_AND_THEN
    } else if glance.sabotaged_lately()
        || glance.calm_for() <= STABLE
        || glance.scenario.must_reach.is_some()
    {
        AT_REST
    } else {
        AT_PEACE
    }
}

/// Not `as_millis`: its 128 bits are divided by a function.
fn millis(duration: Duration) -> u64 {
    duration.as_secs() * 1_000 + u64::from(duration.subsec_millis())
}
