//! What the scenario itself expects, each thing from an anchor on: the start, the last fault, or each step of a name.
//!
//! What lasts until the end of an anchor's *window* is judged there: whatever is done next to the world ends it, or the run.
//! Everything else is judged as it happens. Clients and kernels are looked at, never what daemons believe; but the size
//! of a view is what a daemon says.

mod facts;

use wackamole_protocol::time::Duration;

use super::balance::uneven;
use super::{Check, Findings, Glance};
use crate::bounds::Bounds;
use crate::engine::TICK;
use crate::journal::{Entry, What};
use crate::scenario::plan::course;
use crate::scenario::{Anchor, Expectation, MovesMax, Promise, Scenario, ViewSize};
use facts::Facts;

/// The checker.
pub struct Expectations {
    watches: Vec<Watch>,
    facts: Facts,
}

/// An expectation in one of its windows.
struct Watch {
    /// Which expectation.
    index: usize,
    from: Duration,
    to: Duration,
    /// Its length of time, if it is about one.
    length: Duration,
    /// How often VIPs have moved in the window: each, or all together.
    moves: Vec<usize>,
    /// What must be true by some time was looked at.
    judged: bool,
    /// The window has ended.
    over: bool,
    /// It was violated, which is said once.
    told: bool,
}

impl Expectations {
    /// The checker of one run.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let bounds = Bounds::of(scenario);
        let windows = windows(scenario, seed);
        let mut watches = Vec::new();
        for (index, expectation) in scenario.expect.iter().enumerate() {
            if !expectation.applies(scenario) {
                continue;
            }
            let length = expectation.length(scenario, &bounds);
            let counters = match expectation.promise {
                Promise::MovesMax(MovesMax::PerVip(_)) => scenario.vips.len(),
                _ => 1,
            };
            watches.extend(windows(&expectation.after).into_iter().map(|(from, to)| Watch {
                index,
                from,
                to,
                length,
                moves: vec![0; counters],
                judged: false,
                over: false,
                told: false,
            }));
        }
        Self { watches, facts: Facts::new(scenario) }
    }
}

/// From when to when expectations of an anchor are looked at.
fn windows(scenario: &Scenario, seed: u64) -> impl Fn(&Anchor) -> Vec<(Duration, Duration)> {
    let course = course(scenario, seed);
    let end = scenario.duration;
    move |anchor| match anchor {
        Anchor::Start => vec![(Duration::ZERO, end)],
        Anchor::LastFault => {
            vec![(course.last().map_or(Duration::ZERO, |last| applied(last.at)), end)]
        }
        Anchor::Step(name) => {
            let named = course.iter().filter(|happening| happening.name.as_ref() == Some(name));
            let mut begins: Vec<Duration> = named.map(|happening| applied(happening.at)).collect();
            begins.dedup();
            let next = |from: Duration| course.iter().map(|h| applied(h.at)).find(|&at| at > from);
            begins.into_iter().map(|from| (from, next(from).unwrap_or(end))).collect()
        }
    }
}

/// Things are done between two ticks.
fn applied(at: Duration) -> Duration {
    Duration::from_millis(at.as_micros().div_ceil(1000) as u64)
}

impl Check for Expectations {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        if self.watches.is_empty() {
            return;
        }
        for entry in glance.fresh {
            self.happened(entry, glance, findings);
        }
        self.overlaps_that_ended(glance, findings);
        for watch in &mut self.watches {
            if !watch.over && glance.now >= watch.from {
                watch.look(&self.facts, glance, findings);
                if glance.now >= watch.to {
                    watch.end(&self.facts, glance, findings);
                }
            }
        }
    }

    fn next_look(&self, glance: &Glance<'_>) -> Option<Duration> {
        let open = self.watches.iter().filter(|watch| !watch.over);
        open.filter_map(|watch| watch.next_look(&self.facts, glance)).min()
    }

    fn finish(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        for (client, vip, since) in self.facts.still_dark() {
            self.was_dark(client, vip, since, glance.now, glance, findings);
        }
        self.overlaps_that_ended(glance, findings);
        for watch in &mut self.watches {
            if !watch.over {
                watch.end(&self.facts, glance, findings);
            }
        }
        for index in 0..glance.scenario.expect.len() {
            let mut own = self.watches.iter().filter(|watch| watch.index == index).peekable();
            if let Some(first) = own.peek().copied()
                && first.has_a_deadline(glance)
                && own.all(|watch| !watch.judged)
            {
                let text = format!(
                    "{}: it could not be judged, because something else was done {} ms later",
                    first.heading(glance),
                    (first.to - first.from).as_millis(),
                );
                findings.violation("unjudged", text);
            }
        }
    }
}

impl Expectations {
    fn happened(&mut self, entry: &Entry, glance: &Glance<'_>, findings: &mut Findings) {
        if let What::Lit { client, vip, dark_for: Some(lasted), .. } = &entry.what {
            let since = entry.at.saturating_sub(*lasted);
            self.was_dark(*client, *vip, since, entry.at, glance, findings);
        }
        if let Some((vip, last, node)) = self.facts.take(entry, glance.scenario) {
            for watch in &mut self.watches {
                watch.moved(entry.at, vip, [last, node], glance, findings);
            }
        }
    }

    fn was_dark(
        &mut self,
        client: usize,
        vip: usize,
        since: Duration,
        until: Duration,
        glance: &Glance<'_>,
        findings: &mut Findings,
    ) {
        let lasted = until - since;
        for watch in self.watches.iter_mut().filter(|watch| watch.contains(since)) {
            let expectation = watch.expectation(glance);
            let about = matches!(expectation.promise, Promise::InterruptionMax(_));
            if about && counts(expectation, client) && lasted > watch.length {
                let text = format!(
                    "{} had no answer from {} for {} ms, from {} on",
                    glance.scenario.clients[client],
                    glance.vip(vip),
                    lasted.as_millis(),
                    seconds(since),
                );
                watch.violated(&text, glance, findings);
            }
        }
    }

    /// The checker of exclusivity has looked before, and says which overlaps have just ended.
    fn overlaps_that_ended(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        let ended = findings.entries.iter().filter_map(|what| match what {
            What::OverlapEnded { vip, nodes, lasted } => Some((*vip, *nodes, *lasted)),
            _ => None,
        });
        let ended: Vec<_> = ended.collect();
        for (vip, nodes, lasted) in ended {
            self.overlapped(vip, nodes, lasted, glance, findings);
        }
    }

    fn overlapped(
        &mut self,
        vip: usize,
        [x, y]: [usize; 2],
        lasted: Duration,
        glance: &Glance<'_>,
        findings: &mut Findings,
    ) {
        let since = glance.now - lasted;
        for watch in self.watches.iter_mut().filter(|watch| watch.contains(since)) {
            let about = matches!(watch.expectation(glance).promise, Promise::OverlapMax(_));
            if about && lasted > watch.length {
                let text = format!(
                    "{} and {} both answered for {} for {} ms, from {} on",
                    glance.node(x),
                    glance.node(y),
                    glance.vip(vip),
                    lasted.as_millis(),
                    seconds(since),
                );
                watch.violated(&text, glance, findings);
            }
        }
    }
}

/// The expectation is about what this client sees.
fn counts(expectation: &Expectation, client: usize) -> bool {
    expectation.clients.is_empty() || expectation.clients.contains(&client)
}

impl Watch {
    fn expectation<'g>(&self, glance: &Glance<'g>) -> &'g Expectation {
        &glance.scenario.expect[self.index]
    }

    /// What began at that time belongs to the window: what is done at its end shows after it.
    fn contains(&self, began: Duration) -> bool {
        self.from < began && began <= self.to
    }

    /// Something must be true so long after the anchor or before the end; a window may be too short for it.
    fn has_a_deadline(&self, glance: &Glance<'_>) -> bool {
        matches!(
            self.expectation(glance).promise,
            Promise::CoveredWithin(_) | Promise::BalancedWithin(_) | Promise::QuietFor(_)
        )
    }

    fn heading(&self, glance: &Glance<'_>) -> String {
        self.expectation(glance).heading(glance.scenario, self.length, self.from)
    }

    /// One violation for each window.
    fn violated(&mut self, seen: &str, glance: &Glance<'_>, findings: &mut Findings) {
        if !std::mem::replace(&mut self.told, true) {
            let text = format!("{}: {seen}", self.heading(glance));
            findings.violation(self.expectation(glance).promise.key(), text);
        }
    }

    fn moved(
        &mut self,
        at: Duration,
        vip: usize,
        [last, node]: [usize; 2],
        glance: &Glance<'_>,
        findings: &mut Findings,
    ) {
        if !self.contains(at) {
            return;
        }
        let (counter, max) = match self.expectation(glance).promise {
            Promise::MovesMax(MovesMax::Total(max)) => (0, max),
            Promise::MovesMax(MovesMax::PerVip(max)) => (vip, max),
            _ => return,
        };
        self.moves[counter] += 1;
        let count = self.moves[counter];
        if count > max {
            let vip = glance.vip(vip);
            let of = if self.moves.len() > 1 { format!(" of {vip}") } else { String::new() };
            let text = format!(
                "{vip} goes from {} to {} at {}, which makes {count} moves{of}",
                glance.node(last),
                glance.node(node),
                seconds(at),
            );
            self.violated(&text, glance, findings);
        }
    }

    /// What must be true from some time on.
    fn look(&mut self, facts: &Facts, glance: &Glance<'_>, findings: &mut Findings) {
        let deadline = self.from + self.length;
        // What is done at the deadline itself shows after it.
        if glance.now <= deadline || glance.now > self.to || self.told {
            return;
        }
        let expectation = self.expectation(glance);
        match expectation.promise {
            Promise::CoveredWithin(_) => {
                self.judged = true;
                let dark = facts.dark_for_longer_than(patience(glance), glance);
                let dark = dark.into_iter().find(|&(client, vip, _)| {
                    counts(expectation, client) && !glance.scenario.allow.uncovered.contains(&vip)
                });
                if let Some((client, vip, since)) = dark {
                    let (client, vip) = (&glance.scenario.clients[client], glance.vip(vip));
                    let text = match since {
                        Some(since) => format!(
                            "at {} {client} has no answer from {vip}, since {}",
                            seconds(glance.now),
                            seconds(since)
                        ),
                        None => format!(
                            "at {} {client} has had no answer from {vip} so far",
                            seconds(glance.now)
                        ),
                    };
                    self.violated(&text, glance, findings);
                }
            }
            Promise::BalancedWithin(_) if !self.judged => {
                self.judged = true;
                self.look_at_the_load(glance, findings);
            }
            _ => {}
        }
    }

    /// When it is to be looked at though nothing may have happened until then.
    fn next_look(&self, facts: &Facts, glance: &Glance<'_>) -> Option<Duration> {
        let deadline = self.from + self.length + TICK;
        let too_long = match self.expectation(glance).promise {
            Promise::CoveredWithin(_) if !self.told && glance.now >= deadline => {
                facts.dark_longest().map(|since| since + patience(glance) + TICK)
            }
            _ => None,
        };
        let times = [Some(self.from), Some(deadline), Some(self.to), too_long];
        times.into_iter().flatten().filter(|&at| at > glance.now).min()
    }

    fn look_at_the_load(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        if let Some(uneven) = uneven(glance) {
            let text = format!("at {} {uneven}", seconds(glance.now));
            self.violated(&text, glance, findings);
        }
    }

    /// The window ends.
    fn end(&mut self, facts: &Facts, glance: &Glance<'_>, findings: &mut Findings) {
        let at = seconds(glance.now);
        match &self.expectation(glance).promise {
            Promise::BalancedWithin(_) if self.judged => {
                self.look_at_the_load(glance, findings);
            }
            Promise::Holder(holders) => {
                for &(vip, node) in holders {
                    let found: Vec<usize> = glance.segment.kernels.holders(vip).collect();
                    if found != [node] {
                        let names: Vec<_> = found.iter().map(|&n| glance.node(n)).collect();
                        let names = if names.is_empty() {
                            "nobody".to_owned()
                        } else {
                            names.join(" and ")
                        };
                        let text = format!("at {at} {} is held by {names}", glance.vip(vip));
                        self.violated(&text, glance, findings);
                        break;
                    }
                }
            }
            Promise::ViewSize(sizes) => {
                let expected: Vec<(usize, usize)> = match sizes {
                    ViewSize::Every(size) => {
                        let running =
                            (0..glance.scenario.nodes.len()).filter(|&n| glance.attends(n));
                        running.map(|node| (node, *size)).collect()
                    }
                    ViewSize::Of(sizes) => sizes.clone(),
                };
                let wrong = expected.into_iter().find(|&(node, size)| facts.members(node) != size);
                if let Some((node, _)) = wrong {
                    let text = match facts.members(node) {
                        0 => format!("at {at} {} is in no view", glance.node(node)),
                        found => format!("at {at} {} is in a view of {found}", glance.node(node)),
                    };
                    self.violated(&text, glance, findings);
                }
            }
            Promise::QuietFor(_) if self.length <= self.to - self.from => {
                self.judged = true;
                let stir = facts.stir_between(self.to.saturating_sub(self.length), self.to);
                if let Some((stirred, what)) = stir {
                    let text = format!("at {} {what}", seconds(stirred));
                    self.violated(&text, glance, findings);
                }
            }
            _ => {}
        }
        self.over = true;
    }
}

/// How long a VIP that is covered may be dark: while it is handed over.
fn patience(glance: &Glance<'_>) -> Duration {
    glance.bounds.handover + glance.bounds.inquiry
}

fn seconds(at: Duration) -> String {
    format!("{}.{:03} s", at.as_secs(), at.subsec_millis())
}
