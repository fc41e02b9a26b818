//! The lanes of the VIPs of a simulated run: on which machines each was, who answered, and whom the clients reached.

use wackamole_protocol::event::{Event, Reason};

use super::build::{Source, micros};
use super::lanes::TICK;
use super::{HeldSpan, Micros, OverlapSpan, SeenSpan, VipLane};
use crate::chronicle::State;
use crate::journal::{KernelChange, What};
use crate::scenario::VipSpec;

/// The VIPs' lanes.
pub(super) fn vips(source: &Source<'_>) -> Vec<VipLane> {
    let lane = |(vip, spec): (usize, &VipSpec)| {
        let addresses: Vec<_> =
            spec.vip.addresses().iter().map(|address| address.address.to_string()).collect();
        let preferred: Vec<_> =
            spec.prefer.iter().map(|&node| source.scenario.nodes[node].name.as_str()).collect();
        let mut detail = addresses.join(", ");
        if !preferred.is_empty() {
            detail = format!("{detail}; prefers {}", preferred.join(", "));
        }
        VipLane {
            name: spec.vip.name().to_owned(),
            detail,
            held: held(source, vip),
            overlaps: overlaps(source, vip),
            seen: seen(source, vip),
        }
    };
    source.scenario.vips.iter().enumerate().map(lane).collect()
}

/// When each machine had a VIP, answering or not.
pub(super) fn held(source: &Source<'_>, vip: usize) -> Vec<HeldSpan> {
    let end = source.end();
    let mut spans = Vec::new();
    for node in 0..source.scenario.nodes.len() {
        let answering = answering(source, node, vip);
        for (from, to, text) in had(source, node, vip) {
            // What it had without answering lies between the stretches in which it answered.
            let mut silent_from = from;
            for &[begins, ends] in &answering {
                if ends <= from || begins >= to.max(from + TICK) {
                    continue;
                }
                // The looks are a tick apart; the journal knows better.
                let begins = if begins.abs_diff(from) <= TICK { from } else { begins };
                let ends = if ends.abs_diff(to) <= TICK { to } else { ends };
                if begins >= ends {
                    continue;
                }
                let span = |from: Micros, to: Micros, answers| HeldSpan {
                    from,
                    to,
                    node,
                    answers,
                    text: text.clone(),
                };
                if begins > silent_from + TICK {
                    spans.push(span(silent_from, begins, false));
                }
                spans.push(span(begins, ends, true));
                silent_from = ends;
            }
            if to.min(end) > silent_from + TICK {
                spans.push(HeldSpan { from: silent_from, to, node, answers: false, text });
            }
        }
    }
    spans.sort_by_key(|span| (span.from, span.node));
    spans
}

/// When a kernel answered for a VIP, as the checkers saw it.
fn answering(source: &Source<'_>, node: usize, vip: usize) -> Vec<[Micros; 2]> {
    let mut spans: Vec<[Micros; 2]> = Vec::new();
    for change in &source.changes {
        let State::Answers { node: who, vip: which, yes } = change.to else { continue };
        if (who, which) != (node, vip) {
            continue;
        }
        let at = micros(change.at);
        if yes {
            spans.push([at, source.end()]);
        } else if let Some(last) = spans.last_mut() {
            last[1] = at;
        }
    }
    spans
}

/// When a VIP was in a machine's table, and how that came and went.
fn had(source: &Source<'_>, node: usize, vip: usize) -> Vec<(Micros, Micros, String)> {
    let id = source.scenario.vips[vip].vip.id();
    let mut spans: Vec<(Micros, Micros, String)> = Vec::new();
    let mut open = false;
    for entry in &source.entries {
        let at = micros(entry.at);
        match &entry.what {
            What::Kernel { node: who, vip: which, change } if (*who, *which) == (node, vip) => {
                if *change == KernelChange::Acquired {
                    spans.push((at, source.end(), String::new()));
                    open = true;
                } else if let Some(last) = spans.last_mut().filter(|_| open) {
                    last.1 = at;
                    open = false;
                    join(&mut last.2, change.phrase());
                }
            }
            What::Daemon { node: who, event: Event::Acquired { vip, reason } }
                if *who == node && *vip == id && open && *reason != Reason::Kept =>
            {
                if let Some(last) = spans.last_mut().filter(|last| last.2.is_empty()) {
                    join(&mut last.2, &format!("taken because {}", reason.phrase()));
                }
            }
            What::Daemon { node: who, event: Event::Released { vip, reason, next } }
                if *who == node && *vip == id =>
            {
                if let Some(last) = spans.last_mut().filter(|last| last.1 + 2 * TICK >= at) {
                    let to = next.and_then(|next| source.node(next));
                    let to = to.map_or(String::new(), |next| {
                        format!(" to {}", source.scenario.nodes[next].name)
                    });
                    join(&mut last.2, &format!("let go{to} because {}", reason.phrase()));
                }
            }
            _ => {}
        }
    }
    spans
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push_str("; ");
    }
    text.push_str(more);
}

fn overlaps(source: &Source<'_>, vip: usize) -> Vec<OverlapSpan> {
    let mut spans: Vec<OverlapSpan> = Vec::new();
    for entry in &source.entries {
        let at = micros(entry.at);
        match &entry.what {
            What::OverlapBegan { vip: which, nodes, excuse } if *which == vip => {
                let excuse = excuse.map(str::to_owned);
                spans.push(OverlapSpan { from: at, to: source.end(), nodes: *nodes, excuse });
            }
            What::OverlapEnded { vip: which, nodes, .. } if *which == vip => {
                if let Some(span) = spans.iter_mut().rev().find(|span| span.nodes == *nodes) {
                    span.to = at;
                }
            }
            _ => {}
        }
    }
    spans
}

fn seen(source: &Source<'_>, vip: usize) -> Vec<SeenSpan> {
    let end = source.end();
    let mut spans: Vec<SeenSpan> = Vec::new();
    let mut open: Vec<Option<usize>> = vec![None; source.scenario.clients.len()];
    for change in &source.changes {
        let State::Seen { client, vip: which, by } = change.to else { continue };
        if which != vip {
            continue;
        }
        let at = micros(change.at);
        if let Some(position) = open[client] {
            spans[position].to = at;
        }
        open[client] = Some(spans.len());
        spans.push(SeenSpan { from: at, to: end, client, by });
    }
    spans
}
