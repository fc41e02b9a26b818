//! The lanes of the machines of a simulated run: the journal says why, the chronicle says what was.

use wackamole_protocol::event::{Event, LinkState};
use wackamole_protocol::names::Names;

use super::build::{Source, micros};
use super::holdings;
use super::{HeldSpan, LeaseSpan, LinkSpan, Micros, NodeLane, StateSpan, ViewSpan};
use crate::chronicle::{Doing, State};
use crate::fences::{FenceSpec, Watch};
use crate::journal::What;

/// A kernel that begins or ends to answer is noticed at the end of a tick; shorter differences mean nothing.
pub(super) const TICK: Micros = 1_000;

/// The machines' lanes.
pub(super) fn nodes(source: &Source<'_>) -> Vec<NodeLane> {
    let silent: Vec<HeldSpan> = (0..source.scenario.vips.len())
        .flat_map(|vip| holdings::held(source, vip))
        .filter(|span| !span.answers)
        .collect();
    let lane = |(node, spec): (usize, &crate::scenario::NodeSpec)| {
        let states = states(source, node);
        let lives = lives(&states);
        let frozen =
            |at: Micros| states.iter().any(|s| s.state == "frozen" && s.from <= at && at < s.to);
        let shut: Vec<[Micros; 2]> = silent
            .iter()
            .filter(|span| span.node == node && !frozen(span.from))
            .map(|span| [span.from, span.to])
            .collect();
        NodeLane {
            name: spec.name.clone(),
            detail: detail(spec),
            clock_ppm: spec.drift_ppm,
            gate: Some(spec.fences.gate),
            views: views(source, node, &lives),
            links: links(source, node, &lives),
            mature: mature(source, node, &lives),
            leases: leases(source, node),
            guardian: guardian(source, node, spec.fences),
            shut: joined(shut),
            states,
        }
    };
    source.scenario.nodes.iter().enumerate().map(lane).collect()
}

fn detail(spec: &crate::scenario::NodeSpec) -> String {
    let fences = spec.fences;
    let mut parts = Vec::new();
    let standing = [
        ("gate", fences.gate),
        ("guardian", fences.guardian),
        ("address lifetime", fences.lifetime),
    ];
    let (there, missing): (Vec<_>, Vec<_>) = standing.iter().partition(|(_, there)| *there);
    let names = |list: Vec<&(&'static str, bool)>| {
        list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    };
    if !there.is_empty() {
        parts.push(format!("has {}", names(there)));
    }
    if !missing.is_empty() {
        parts.push(format!("has no {}", names(missing)));
    }
    if spec.weight != 1 {
        parts.push(format!("weight {}", spec.weight));
    }
    if spec.witness {
        parts.push("witness".to_owned());
    }
    if spec.drift_ppm != 0 {
        parts.push(format!("clock {:+} ppm", spec.drift_ppm));
    }
    parts.join("; ")
}

fn states(source: &Source<'_>, node: usize) -> Vec<StateSpan> {
    let touches = |what: &What| matches!(what, What::Fault { nodes, .. } if nodes.contains(&node));
    let faults = source.entries.iter().filter(|entry| touches(&entry.what));
    let faults: Vec<Micros> = faults.map(|entry| micros(entry.at)).collect();
    let mut spans = Spans::new(Doing::Off);
    for change in &source.changes {
        if let State::Doing { node: who, doing } = change.to
            && who == node
        {
            // What a fault did is noticed at the end of its tick.
            let at = micros(change.at);
            let fault = faults.iter().rev().find(|fault| **fault <= at && at <= **fault + TICK);
            spans.turn(*fault.unwrap_or(&at), doing);
        }
    }
    spans.finish(source.end(), |doing| (word(doing), doing.phrase()))
}

fn word(doing: Doing) -> &'static str {
    match doing {
        Doing::Off => "off",
        Doing::Running => "running",
        Doing::Leaving => "leaving",
        Doing::Paused => "paused",
        Doing::Frozen => "frozen",
        Doing::Killed => "killed",
        Doing::Ended => "ended",
    }
}

fn guardian(source: &Source<'_>, node: usize, spec: FenceSpec) -> Vec<StateSpan> {
    if !spec.guardian {
        return Vec::new();
    }
    let mut spans = Spans::new(Watch::Absent);
    for change in &source.changes {
        if let State::Guardian { node: who, watch } = change.to
            && who == node
        {
            spans.turn(micros(change.at), watch);
        }
    }
    let word = |watch| match watch {
        Watch::Absent => "absent",
        Watch::Watching => "watching",
        Watch::Acting => "acting",
        Watch::Paused => "paused",
        Watch::Dead => "dead",
        Watch::Lost => "lost",
    };
    spans.finish(source.end(), |watch| (word(watch), watch.phrase()))
}

/// What follows each other without a gap.
struct Spans<T> {
    now: T,
    since: Micros,
    done: Vec<(Micros, Micros, T)>,
}

impl<T: Copy + PartialEq> Spans<T> {
    fn new(now: T) -> Self {
        Self { now, since: 0, done: Vec::new() }
    }

    fn turn(&mut self, at: Micros, to: T) {
        if at > self.since {
            self.done.push((self.since, at, self.now));
        }
        (self.now, self.since) = (to, at);
    }

    fn finish(
        mut self,
        end: Micros,
        tell: impl Fn(T) -> (&'static str, &'static str),
    ) -> Vec<StateSpan> {
        self.turn(end, self.now);
        let span = |(from, to, what)| {
            let (state, text) = tell(what);
            StateSpan { from, to, state: state.to_owned(), text: text.to_owned() }
        };
        self.done.into_iter().map(span).collect()
    }
}

/// From when to when a daemon lived, stopped or not.
fn lives(states: &[StateSpan]) -> Vec<[Micros; 2]> {
    let alive = ["running", "leaving", "paused", "frozen"];
    let spans: Vec<[Micros; 2]> = states
        .iter()
        .filter(|span| alive.contains(&span.state.as_str()))
        .map(|span| [span.from, span.to])
        .collect();
    joined(spans)
}

/// Stretches that touch become one.
fn joined(mut spans: Vec<[Micros; 2]>) -> Vec<[Micros; 2]> {
    spans.sort_unstable();
    let mut joined: Vec<[Micros; 2]> = Vec::new();
    for [from, to] in spans {
        match joined.last_mut() {
            Some(last) if last[1] >= from => last[1] = last[1].max(to),
            _ => joined.push([from, to]),
        }
    }
    joined
}

fn life_end(lives: &[[Micros; 2]], at: Micros, end: Micros) -> Micros {
    // What a daemon says in its first tick comes before the look that finds it running.
    let life = lives.iter().find(|[from, to]| *from <= at + TICK && at < *to);
    life.map_or(end.min(at + TICK), |[_, to]| *to)
}

fn views(source: &Source<'_>, node: usize, lives: &[[Micros; 2]]) -> Vec<ViewSpan> {
    let names = names(source);
    let mut spans: Vec<ViewSpan> = Vec::new();
    let mut starts = Vec::new();
    for entry in &source.entries {
        let at = micros(entry.at);
        match &entry.what {
            What::Started { node: who } if *who == node => starts.push(at),
            What::Daemon { node: who, event } if *who == node => match event {
                Event::ViewInstalled { view, members, primary } => {
                    if let Some(last) = spans.last_mut() {
                        last.to = last.to.min(at);
                    }
                    let mut members: Vec<usize> =
                        members.iter().filter_map(|&id| source.node(id)).collect();
                    members.sort_unstable();
                    spans.push(ViewSpan {
                        from: at,
                        to: life_end(lives, at, source.end()),
                        view: names.view(*view),
                        members,
                        primary: *primary,
                        ended: String::new(),
                    });
                }
                Event::ViewLost { why } => {
                    if let Some(last) = spans.last_mut().filter(|last| last.to > at) {
                        last.to = at;
                        last.ended = (*why).to_owned();
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
    // A daemon that is killed and started within one tick is never seen dead.
    for span in &mut spans {
        if let Some(&start) = starts.iter().find(|&&start| start > span.from && start < span.to) {
            span.to = start;
        }
    }
    spans
}

fn links(source: &Source<'_>, node: usize, lives: &[[Micros; 2]]) -> Vec<LinkSpan> {
    let mut spans: Vec<LinkSpan> = Vec::new();
    for entry in &source.entries {
        let What::Daemon { node: who, event: Event::Link { peer, state, .. } } = &entry.what else {
            continue;
        };
        let Some(peer) = source.node(*peer).filter(|_| *who == node) else { continue };
        let at = micros(entry.at);
        if let Some(last) = spans.iter_mut().rev().find(|span| span.peer == peer) {
            last.to = last.to.min(at);
        }
        let state = match state {
            LinkState::Silent => "silent",
            LinkState::OneWay => "one-way",
            LinkState::TwoWay => "two-way",
        };
        let to = life_end(lives, at, source.end());
        spans.push(LinkSpan { from: at, to, peer, state: state.to_owned() });
    }
    spans
}

fn mature(source: &Source<'_>, node: usize, lives: &[[Micros; 2]]) -> Vec<[Micros; 2]> {
    let mut spans: Vec<[Micros; 2]> = Vec::new();
    for entry in &source.entries {
        if let What::Daemon { node: who, event: Event::Matured { node: id } } = &entry.what
            && *who == node
            && source.node(*id) == Some(node)
        {
            let at = micros(entry.at);
            spans.push([at, life_end(lives, at, source.end())]);
        }
    }
    joined(spans)
}

fn leases(source: &Source<'_>, node: usize) -> Vec<LeaseSpan> {
    let end = source.end();
    let mut spans: Vec<LeaseSpan> = Vec::new();
    let mut open = false;
    for change in source.outcome.chronicle.changes() {
        let at = micros(change.at);
        match change.to {
            State::Lease { node: who, until: Some(until) } if who == node => {
                if !open {
                    spans.push(LeaseSpan { from: at, to: end, ..LeaseSpan::default() });
                    open = true;
                }
                if let Some(span) = spans.last_mut() {
                    span.told.push([at, micros(until)]);
                }
            }
            State::Lease { node: who, until: None } | State::LeaseOver { node: who }
                if who == node && open =>
            {
                open = false;
                if let Some(span) = spans.last_mut() {
                    let early = span.told.last().is_some_and(|[_, until]| at + TICK < *until);
                    span.ended = early || matches!(change.to, State::Lease { .. });
                    span.to = at;
                }
            }
            _ => {}
        }
    }
    spans
}

pub(super) fn names(source: &Source<'_>) -> Names {
    Names::new(
        source.scenario.nodes.iter().map(|node| node.name.as_str()),
        source.scenario.vips.iter().map(|spec| &*spec.vip),
    )
}

#[cfg(test)]
mod tests {
    use wackamole_protocol::time::Duration;

    use super::*;

    #[test]
    fn stretches_that_touch_become_one() {
        assert_eq!(joined(vec![[5, 7], [0, 2], [2, 3], [6, 9]]), [[0, 3], [5, 9]]);
    }

    #[test]
    fn states_follow_each_other_without_a_gap() {
        let mut spans = Spans::new(Doing::Off);
        spans.turn(0, Doing::Running);
        spans.turn(5, Doing::Killed);
        let spans = spans.finish(9, |doing| (word(doing), doing.phrase()));
        let told: Vec<_> = spans.iter().map(|s| (s.from, s.to, s.state.as_str())).collect();
        assert_eq!(told, [(0, 5, "running"), (5, 9, "killed")]);
    }

    #[test]
    fn every_word_has_a_look() {
        let all = [
            Doing::Off,
            Doing::Running,
            Doing::Leaving,
            Doing::Paused,
            Doing::Frozen,
            Doing::Killed,
            Doing::Ended,
        ];
        assert_eq!(all.map(word), crate::story::MACHINE_STATES);
    }

    #[test]
    fn a_reader_learns_what_stands_behind_a_daemon() {
        let text = "title = \"x\"\nnodes = 2\nvips = 1\nduration = \"1s\"\n\
                    [fences]\ngate = false\n[node.a]\ndrift = \"+5ppm\"\n";
        let scenario = crate::scenario::Scenario::parse("x.toml", text).expect("a scenario");
        assert_eq!(
            detail(&scenario.nodes[0]),
            "has guardian, address lifetime; has no gate; clock +5 ppm"
        );
    }

    #[test]
    fn milliseconds_are_a_thousand_micros() {
        assert_eq!(micros(Duration::from_millis(3)), 3 * TICK);
    }
}
