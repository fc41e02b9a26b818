//! A client got no answer, or nobody held a VIP: who answered before, what ended that, and who took over when.

use super::facts::{ANSWERS_AGAIN, Facts, Lease, TICK, cause, loss, mentions};
use super::{Matter, length, sentence, time};
use crate::story::{Mark, Micros, SeenSpan, Sentence};

/// A fault so long before is taken for the cause.
const CAUSED_WITHIN: Micros = 3_000_000;

/// A time without an answer, between two in which there was one.
struct Dark<'a> {
    vip: usize,
    span: &'a SeenSpan,
    before: usize,
    after: Option<usize>,
}

/// All of them.
fn all<'a>(facts: &'a Facts<'_>) -> Vec<Dark<'a>> {
    let mut found = Vec::new();
    for (vip, lane) in facts.story.vips.iter().enumerate() {
        for client in 0..facts.story.clients.len() {
            let spans: Vec<&SeenSpan> = lane.seen.iter().filter(|s| s.client == client).collect();
            for (position, span) in spans.iter().enumerate() {
                let before = position.checked_sub(1).and_then(|p| spans[p].by);
                if let (None, Some(before)) = (span.by, before) {
                    let after = spans.get(position + 1).and_then(|span| span.by);
                    found.push(Dark { vip, span, before, after });
                }
            }
        }
    }
    found
}

fn longest<'a>(dark: impl IntoIterator<Item = Dark<'a>>) -> Option<Dark<'a>> {
    dark.into_iter()
        .max_by_key(|d| (d.span.to - d.span.from, std::cmp::Reverse((d.span.from, d.vip))))
}

/// The one that a broken promise is about.
pub(super) fn named(facts: &Facts<'_>, mark: &Mark, vip: Option<usize>) -> Option<Matter> {
    let ours = |dark: &Dark<'_>| {
        vip.is_none_or(|vip| vip == dark.vip)
            && mentions(&mark.text, &facts.story.clients[dark.span.client])
    };
    longest(all(facts).into_iter().filter(ours)).map(|dark| matter(facts, &dark))
}

/// The longest of the run.
pub(super) fn worst(facts: &Facts<'_>) -> Option<Matter> {
    longest(all(facts)).map(|dark| matter(facts, &dark))
}

fn matter(facts: &Facts<'_>, dark: &Dark<'_>) -> Matter {
    let (from, to) = (dark.span.from, dark.span.to);
    let client = &facts.story.clients[dark.span.client];
    let vip = facts.vip(dark.vip);
    let mut why = vec![lost(facts, dark.vip, dark.before, from)];
    why.extend(regained(facts, dark));
    let mut nodes = vec![dark.before];
    nodes.extend(dark.after.filter(|after| *after != dark.before));
    let because: Vec<&str> = why.iter().map(|line| line.text.as_str()).collect();
    let headline = format!(
        "{client} got no answer from {vip} for {}, from {} on, because {}.",
        length(to - from),
        time(from),
        because.join(", and ")
    );
    Matter { at: from, lasted: to - from, headline, nodes, vip: Some(dark.vip), why }
}

/// How a machine came to answer no more.
fn lost(facts: &Facts<'_>, vip: usize, node: usize, at: Micros) -> Sentence {
    let name = facts.name(node);
    let (state, phrase, since) = facts.state(node, at + TICK);
    let fault = facts.last_fault(&[node], at, CAUSED_WITHIN);
    let held = facts.held(vip, node, at);
    let ended = held.filter(|span| span.to.abs_diff(at) <= 2 * TICK);
    let text = match (ended, state) {
        (Some(_), "off" | "frozen") if since.abs_diff(at) <= 2 * TICK => {
            format!("{name}, which had answered, was {phrase} at {}", time(since))
        }
        (Some(span), _) => {
            let how = match (loss(span), facts.lease(node, at + TICK)) {
                (_, Lease::Over(over))
                    if over.abs_diff(at) <= 2 * TICK
                        && facts.story.nodes[node].gate == Some(true) =>
                {
                    "its gate shut when its lease was over".to_owned()
                }
                (how, _) if how.is_empty() => "its kernel no longer answered".to_owned(),
                (how, _) => how,
            };
            let state = if ["running", "off"].contains(&state) {
                String::new()
            } else {
                format!(", {phrase} since {},", time(since))
            };
            // What stopped a daemon is told with the state.
            let after = fault.filter(|_| state.is_empty());
            let after = after
                .map_or(String::new(), |fault| format!(" ({} at {})", fault.text, time(fault.at)));
            format!("{name}{state} no longer answered: {how}{after}")
        }
        (None, _) => match fault {
            Some(fault) => {
                format!("the client no longer reached {name}: {} at {}", fault.text, time(fault.at))
            }
            None => format!("the client no longer reached {name}"),
        },
    };
    sentence(at, text)
}

/// How it got answers again.
fn regained(facts: &Facts<'_>, dark: &Dark<'_>) -> Vec<Sentence> {
    let to = dark.span.to;
    let Some(after) = dark.after else {
        let holders: Vec<&str> = facts
            .answering(dark.vip, to.saturating_sub(TICK))
            .iter()
            .map(|span| facts.name(span.node))
            .collect();
        let text = match holders.len() {
            0 => "nobody had taken over when the run ended".to_owned(),
            _ => format!("the client did not reach {} when the run ended", holders.join(", ")),
        };
        return vec![sentence(to, text)];
    };
    let name = facts.name(after);
    let Some(span) = facts.held(dark.vip, after, to) else {
        return vec![sentence(to, format!("{name} answered again only at {}", time(to)))];
    };
    if span.from <= dark.span.from {
        let text = format!(
            "the client reached {name}, which had answered all along, again only at {}",
            time(to)
        );
        return vec![sentence(to, text)];
    }
    let mut lines = Vec::new();
    let heard = facts.link(after, dark.before, span.from);
    if let Some(("silent", since)) = heard.filter(|(_, since)| *since > dark.span.from) {
        lines.push(sentence(
            since,
            format!(
                "{name} noticed that {} was silent at {}",
                facts.name(dark.before),
                time(since)
            ),
        ));
    }
    let again = after == dark.before;
    let verb = if again { "answered again" } else { "took over" };
    let cause = cause(span);
    let because = match again && cause == ANSWERS_AGAIN {
        true => String::new(),
        false => format!(" because {cause}"),
    };
    lines.push(sentence(span.from, format!("{name} {verb} at {}{because}", time(span.from))));
    if to > span.from + 5 * TICK {
        lines.push(sentence(to, format!("the client heard of it only at {}", time(to))));
    }
    lines
}

/// A VIP that nobody held though somebody should have.
pub(super) fn uncovered(facts: &Facts<'_>, at: Micros, vip: usize) -> Matter {
    let spans = facts.story.vips[vip].held.iter();
    let last = spans.filter(|span| span.answers && span.to <= at + TICK).max_by_key(|span| span.to);
    let mut why = Vec::new();
    let mut nodes = Vec::new();
    let name = facts.vip(vip);
    let answering = facts.answering(vip, at);
    let headline = match (answering.as_slice(), last) {
        ([], None) => format!("At {} nobody had answered for {name} yet.", time(at)),
        ([], Some(span)) => {
            let holder = facts.name(span.node);
            let text = lost(facts, vip, span.node, span.to);
            let headline = format!(
                "At {} nobody answered for {name}, which {holder} had until {}, because {}.",
                time(at),
                time(span.to),
                text.text
            );
            nodes.push(span.node);
            why.push(text);
            headline
        }
        (some, _) => {
            let names: Vec<&str> = some.iter().map(|span| facts.name(span.node)).collect();
            nodes.extend(some.iter().map(|span| span.node));
            format!(
                "At {} only {} answered for {name}, and a part of the network that should have a holder had none.",
                time(at),
                names.join(" and ")
            )
        }
    };
    let mut events = facts.story.events.iter().rev().filter(|event| event.at <= at);
    match events.find(|event| event.kind == "owner" && event.vip == Some(vip)) {
        Some(owner) => {
            let who = owner.node.map_or("somebody", |node| facts.name(node));
            nodes.extend(owner.node);
            why.push(sentence(
                owner.at,
                format!("the last that was said of its owner, by {who}: {}", owner.text),
            ));
        }
        None => why.push(sentence(at, "nobody was ever named its owner")),
    }
    let mut trouble = facts.story.events.iter().rev().filter(|event| event.at <= at);
    if let Some(trouble) = trouble.find(|event| event.kind == "trouble" && event.vip == Some(vip)) {
        let who = trouble.node.map_or("somebody", |node| facts.name(node));
        why.push(sentence(trouble.at, format!("{who} had trouble with it: {}", trouble.text)));
    }
    nodes.sort_unstable();
    nodes.dedup();
    Matter {
        at,
        lasted: 0,
        headline,
        nodes: if answering.is_empty() { Vec::new() } else { nodes },
        vip: Some(vip),
        why,
    }
}
