//! The marks and the table of events of a simulated run.

use wackamole_protocol::event::Event as Said;

use super::build::{Source, micros};
use super::{Event, Mark};
use crate::chronicle::State;
use crate::journal::What;
use crate::narrate::Narrator;

/// Faults and broken promises.
pub(super) fn marks(source: &Source<'_>) -> Vec<Mark> {
    let mark = |entry: &&crate::journal::Entry| {
        let at = micros(entry.at);
        match &entry.what {
            What::Fault { text, nodes } => {
                Some(Mark { at, broken: false, text: text.clone(), nodes: nodes.clone() })
            }
            What::Violation { check, text } => {
                Some(Mark { at, broken: true, text: format!("{check}: {text}"), nodes: Vec::new() })
            }
            _ => None,
        }
    };
    source.entries.iter().filter_map(mark).collect()
}

/// Everything but datagrams, each in the words of the trace.
pub(super) fn events(source: &Source<'_>) -> Vec<Event> {
    let narrator = Narrator::new(source.scenario);
    let mut events = Vec::new();
    for entry in &source.entries {
        let Some(told) = narrator.entry(&entry.what) else { continue };
        let (kind, node, vip) = sort(source, &entry.what);
        events.push(Event {
            at: micros(entry.at),
            kind: kind.to_owned(),
            node,
            vip,
            text: told.what,
        });
    }
    for (at, told) in narrator.changes(&source.outcome.chronicle) {
        let node = source.scenario.nodes.iter().position(|node| node.name == told.who);
        let kind = if node.is_some() { "fence" } else { "client" };
        // Which client it is stands in front of what the others say of theirs.
        let text = if node.is_some() { told.what } else { format!("{} {}", told.who, told.what) };
        events.push(Event { at: micros(at), kind: kind.to_owned(), node, vip: None, text });
    }
    for change in &source.changes {
        if let State::Answers { node, vip, yes } = change.to {
            let text = if yes { "answers for it" } else { "does not answer for it any more" };
            events.push(Event {
                at: micros(change.at),
                kind: "answer".to_owned(),
                node: Some(node),
                vip: Some(vip),
                text: text.to_owned(),
            });
        }
    }
    events.sort_by_key(|event| event.at);
    events
}

/// Kind, machine and VIP.
fn sort(source: &Source<'_>, what: &What) -> (&'static str, Option<usize>, Option<usize>) {
    match what {
        What::Fault { nodes, .. } => {
            let one = if let [node] = nodes.as_slice() { Some(*node) } else { None };
            ("fault", one, None)
        }
        What::Violation { .. } => ("broken", None, None),
        What::Started { node } | What::Ended { node } => ("daemon", Some(*node), None),
        What::NetworkFault { node, .. } => ("trouble", Some(*node), None),
        What::Kernel { node, vip, .. } => ("address", Some(*node), Some(*vip)),
        What::Announced { node, vip } | What::Probed { node, vip } => {
            ("announce", Some(*node), Some(*vip))
        }
        What::Servable { node, .. }
        | What::Unguarded { node }
        | What::Guarded { node, .. }
        | What::FenceCommand { node, .. } => ("fence", Some(*node), None),
        What::Dark { vip, .. } => ("client", None, Some(*vip)),
        What::Lit { vip, node, .. } => ("client", Some(*node), Some(*vip)),
        What::OverlapBegan { vip, .. } | What::OverlapEnded { vip, .. } => {
            ("overlap", None, Some(*vip))
        }
        What::Datagram { .. } => ("message", None, None),
        What::Daemon { node, event } => {
            let (kind, vip) = said(event);
            (kind, Some(*node), vip.and_then(|id| source.vip(id)))
        }
    }
}

fn said(event: &Said) -> (&'static str, Option<wackamole_protocol::vip::VipId>) {
    match event {
        Said::ViewInstalled { .. }
        | Said::ViewLost { .. }
        | Said::ForcedPrimary
        | Said::Proposed { .. }
        | Said::Accepted { .. }
        | Said::Refused { .. }
        | Said::Beside { .. } => ("view", None),
        Said::Link { .. }
        | Said::PeerRestarted { .. }
        | Said::PeerLeft { .. }
        | Said::Reach { .. } => ("link", None),
        Said::Matured { .. } | Said::Left => ("daemon", None),
        Said::Assigned { vip, .. } => ("owner", Some(*vip)),
        Said::BalanceRound { .. } => ("owner", None),
        Said::Acquired { vip, .. } | Said::Released { vip, .. } => ("address", Some(*vip)),
        Said::AddressFailed { vip, .. }
        | Said::AddressVanished { vip, .. }
        | Said::Occupied { vip, .. }
        | Said::Contested { vip, .. } => ("trouble", Some(*vip)),
        Said::Servable { .. }
        | Said::Rejected { .. }
        | Said::RanLate { .. }
        | Said::ConfigurationDiffers { .. } => ("trouble", None),
    }
}
