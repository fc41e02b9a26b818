//! What a story says about a moment.

use super::{length, sentence, time};
use crate::story::{Event, HeldSpan, Mark, Micros, NodeLane, Sentence, Standing, Story, ViewSpan};

/// A fault further back is not named as what came before.
const FAULTS_WITHIN: Micros = 15_000_000;
/// How many faults are named.
const FAULTS_MAX: usize = 5;
/// Events further back did not lead to it.
const EVENTS_WITHIN: Micros = 3_000_000;
/// Kernels are looked at once a millisecond.
pub(super) const TICK: Micros = 1_000;

/// A story that is asked.
pub(super) struct Facts<'a> {
    pub(super) story: &'a Story,
}

/// A VIP changed machines.
pub(super) struct Move {
    pub(super) at: Micros,
    pub(super) cause: String,
}

/// A lease as it was at a moment.
pub(super) enum Lease {
    /// It ran, and would have ended then.
    Runs(Micros),
    /// It was over since then.
    Over(Micros),
    /// It was given back then, or went with the power or the daemon.
    Given(Micros),
    /// Nothing of the kind was ever told.
    Never,
}

impl Facts<'_> {
    pub(super) fn name(&self, node: usize) -> &str {
        &self.story.nodes[node].name
    }

    pub(super) fn vip(&self, vip: usize) -> &str {
        &self.story.vips[vip].name
    }

    /// What machine and daemon were doing, and since when.
    pub(super) fn state(&self, node: usize, at: Micros) -> (&str, &str, Micros) {
        let spans = &self.story.nodes[node].states;
        let span = spans.iter().rev().find(|span| span.from <= at);
        span.map_or(("unknown", "unknown", 0), |s| (s.state.as_str(), s.text.as_str(), s.from))
    }

    pub(super) fn guardian(&self, node: usize, at: Micros) -> Option<(&str, &str, Micros)> {
        let spans = &self.story.nodes[node].guardian;
        let span = spans.iter().rev().find(|span| span.from <= at)?;
        Some((&span.state, &span.text, span.from))
    }

    pub(super) fn view(&self, node: usize, at: Micros) -> Option<&ViewSpan> {
        self.story.nodes[node].views.iter().rev().find(|view| view.from <= at && at < view.to)
    }

    pub(super) fn lease(&self, node: usize, at: Micros) -> Lease {
        let spans = &self.story.nodes[node].leases;
        let Some(span) = spans.iter().rev().find(|span| span.from <= at) else {
            return Lease::Never;
        };
        if span.to <= at {
            return if span.ended { Lease::Given(span.to) } else { Lease::Over(span.to) };
        }
        // What came of a lease is known better afterwards than when it was told.
        let told = span.told.iter().rev().find(|[told, _]| *told <= at);
        match (told, span.told.last()) {
            (Some(told), Some(last)) if told != last => Lease::Runs(told[1]),
            _ if span.to < self.story.end => Lease::Runs(span.to),
            (Some(told), _) => Lease::Runs(told[1]),
            (None, _) => Lease::Never,
        }
    }

    /// What a node thought of its link to a peer, and since when.
    pub(super) fn link(&self, node: usize, peer: usize, at: Micros) -> Option<(&str, Micros)> {
        let spans = &self.story.nodes[node].links;
        let span = spans.iter().rev().find(|l| l.peer == peer && l.from <= at && at < l.to)?;
        Some((&span.state, span.from))
    }

    /// Whose kernels answered for a VIP.
    pub(super) fn answering(&self, vip: usize, at: Micros) -> Vec<&HeldSpan> {
        let spans = self.story.vips[vip].held.iter();
        spans.filter(|span| span.answers && span.from <= at && at < span.to).collect()
    }

    /// The span in which a machine had a VIP and answered, around a moment or just before it.
    pub(super) fn held(&self, vip: usize, node: usize, at: Micros) -> Option<&HeldSpan> {
        let spans = self.story.vips[vip].held.iter().rev();
        spans.into_iter().find(|span| span.answers && span.node == node && span.from <= at + TICK)
    }

    /// Nodes that a text names.
    pub(super) fn named(&self, text: &str) -> Vec<usize> {
        let nodes = self.story.nodes.iter().enumerate();
        nodes.filter(|(_, node)| mentions(text, &node.name)).map(|(index, _)| index).collect()
    }

    fn concerns(mark: &Mark, nodes: &[usize]) -> bool {
        nodes.is_empty() || mark.nodes.is_empty() || mark.nodes.iter().any(|n| nodes.contains(n))
    }

    /// The faults, without the first start of each machine.
    pub(super) fn faults(&self) -> Vec<&Mark> {
        let ran = |node: usize, at: Micros| {
            let states = &self.story.nodes[node].states;
            states.iter().any(|span| span.from < at && span.state != "off")
        };
        let first = |mark: &Mark| {
            mark.text.starts_with("start: ") && !mark.nodes.iter().any(|&node| ran(node, mark.at))
        };
        self.story.marks.iter().filter(|mark| !mark.broken && !first(mark)).collect()
    }

    /// The last fault that concerned a node, or the network, within some time before a moment.
    pub(super) fn last_fault(&self, nodes: &[usize], at: Micros, within: Micros) -> Option<&Mark> {
        let marks = self.story.marks.iter().rev().filter(|mark| !mark.broken);
        let mut marks = marks.filter(|mark| mark.at <= at + TICK && mark.at + within >= at);
        marks.find(|mark| Self::concerns(mark, nodes))
    }

    /// The last faults that touched these nodes or the network.
    pub(super) fn faults_before(&self, at: Micros, nodes: &[usize]) -> Vec<Sentence> {
        let marks = self.faults().into_iter().rev().filter(|mark| mark.at <= at);
        let near = marks.filter(|m| m.at + FAULTS_WITHIN >= at && Self::concerns(m, nodes));
        let mut lines: Vec<Sentence> = near
            .take(FAULTS_MAX)
            .map(|mark| {
                let before = length(at - mark.at);
                sentence(mark.at, format!("{} ({before} before)", mark.text))
            })
            .collect();
        lines.reverse();
        if lines.is_empty() {
            let text = format!(
                "no fault touched those concerned in the {} before",
                length(FAULTS_WITHIN.min(at))
            );
            lines.push(Sentence { at: None, text });
        }
        lines
    }

    /// What is known where no rule finds a cause.
    pub(super) fn nothing_known(&self, at: Micros, nodes: &[usize]) -> Vec<Sentence> {
        let text = match self.last_fault(nodes, at, FAULTS_WITHIN) {
            Some(fault) => format!("the last fault before it was: {}", fault.text),
            None => "the record shows no fault before it that would explain it".to_owned(),
        };
        vec![Sentence { at: Some(at), text }]
    }

    /// What those concerned did and saw last.
    pub(super) fn events_before(
        &self,
        at: Micros,
        nodes: &[usize],
        vip: Option<usize>,
        most: usize,
    ) -> Vec<Sentence> {
        let relevant = |event: &&Event| {
            let concerned = nodes.is_empty() || event.node.is_none_or(|node| nodes.contains(&node));
            let ours = event.vip.is_none() || event.vip == vip;
            let telling =
                ["view", "link", "fence", "daemon", "owner", "address", "trouble", "overlap"];
            concerned && ours && telling.contains(&event.kind.as_str())
        };
        let end = self.story.events.partition_point(|event| event.at <= at);
        let recent = self.story.events[..end].iter().rev();
        let recent = recent.take_while(|event| event.at + EVENTS_WITHIN >= at);
        let mut lines: Vec<Sentence> = recent
            .filter(relevant)
            .take(most)
            .map(|event| {
                let who = event.node.map_or(String::new(), |node| format!("{}: ", self.name(node)));
                sentence(event.at, format!("{who}{}", event.text))
            })
            .collect();
        lines.reverse();
        lines
    }

    /// How all machines stood.
    pub(super) fn standings(&self, at: Micros) -> Vec<Standing> {
        let nodes = self.story.nodes.iter().enumerate();
        nodes.map(|(node, lane)| self.standing(node, lane, at)).collect()
    }

    fn standing(&self, node: usize, lane: &NodeLane, at: Micros) -> Standing {
        let (_, doing, since) = self.state(node, at);
        let view = self.view(node, at).map_or("none".to_owned(), |view| self.view_text(view));
        let lease = match self.lease(node, at) {
            Lease::Runs(until) => format!("until {}", time(until)),
            Lease::Over(since) => format!("over since {}", time(since)),
            Lease::Given(since) => format!("given back at {}", time(since)),
            Lease::Never => "none".to_owned(),
        };
        let shut = lane.shut.iter().any(|[from, to]| *from <= at && at < *to);
        let gate = match lane.gate {
            Some(false) => "has none",
            _ if shut => "shut",
            Some(true) => "open",
            None => "unknown",
        };
        let vips = (0..self.story.vips.len())
            .filter(|&vip| self.answering(vip, at).iter().any(|span| span.node == node));
        let vips: Vec<&str> = vips.map(|vip| self.vip(vip)).collect();
        let answers = match vips.len() {
            0 => "nothing".to_owned(),
            all if all == self.story.vips.len() && all > 2 => format!("all {all} VIPs"),
            1..=6 => vips.join(", "),
            many => format!("{}, … ({many})", vips[..5].join(", ")),
        };
        Standing {
            node,
            daemon: format!("{doing} since {}", time(since)),
            view,
            lease,
            guardian: self.guardian(node, at).map_or("has none", |(_, text, _)| text).to_owned(),
            gate: gate.to_owned(),
            answers,
        }
    }

    pub(super) fn view_text(&self, view: &ViewSpan) -> String {
        let members: Vec<&str> = view.members.iter().map(|&node| self.name(node)).collect();
        let not = if view.primary { "" } else { ", not primary" };
        format!("{} {{{}}}{not}", view.view, members.join(", "))
    }

    /// Each time that a VIP was answered by another machine than before, the first time not counted.
    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        for lane in &self.story.vips {
            let mut last = None;
            for span in lane.held.iter().filter(|span| span.answers) {
                if last.replace(span.node).is_some_and(|last| last != span.node) {
                    moves.push(Move { at: span.from, cause: cause(span) });
                }
            }
        }
        moves.sort_by_key(|found| found.at);
        moves
    }
}

/// What is said where nothing was taken.
pub(super) const ANSWERS_AGAIN: &str = "its holder answers again";

/// Why a machine took a VIP, in the words of its daemon.
pub(super) fn cause(span: &HeldSpan) -> String {
    let reason = span.text.split("; ").find_map(|part| part.strip_prefix("taken because "));
    reason.unwrap_or(ANSWERS_AGAIN).to_owned()
}

/// How a machine lost a VIP; empty if it did not.
pub(super) fn loss(span: &HeldSpan) -> String {
    let parts = span.text.split("; ").filter(|part| !part.starts_with("taken because "));
    parts.collect::<Vec<_>>().join("; ")
}

/// Whether a text names something, not merely as a part of a longer name.
pub(super) fn mentions(text: &str, name: &str) -> bool {
    let within = |c: char| c.is_alphanumeric() || "_-:".contains(c);
    !name.is_empty()
        && text.match_indices(name).any(|(start, _)| {
            let before = text[..start].chars().next_back();
            let mut after = text[start + name.len()..].chars();
            // A full stop ends a sentence unless the name goes on behind it, as an address would.
            let next = match after.next() {
                Some('.') => after.next(),
                next => next,
            };
            !before.is_some_and(|c| within(c) || c == '.')
                && !next.is_some_and(|c| within(c) && c != ':')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_words() {
        assert!(mentions("v1 is answered by a (running) and b", "v1"));
        assert!(!mentions("v10 is answered by a", "v1"));
        assert!(!mentions("x10.0.0.1 moved", "10.0.0.1"));
        assert!(mentions("coverage: nobody among a, b holds 10.0.0.1 since 3 ms", "10.0.0.1"));
        assert!(!mentions("nobody holds 10.0.0.11", "10.0.0.1"));
        assert!(mentions("it was a.", "a"));
        assert!(!mentions("it was a.b", "a"));
        assert!(!mentions("anything", ""));
    }
}
