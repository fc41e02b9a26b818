//! What one run reached.

use std::collections::BTreeMap;

use wackamole_protocol::config::ClusterKey;
use wackamole_protocol::event::{Event, LinkState};
use wackamole_protocol::id::NodeId;
use wackamole_protocol::vip::VipId;
use wackamole_protocol::wire::Codec;

use super::points::{self, Phase};
use super::record::Counts;
use crate::fault::Fault;
use crate::journal::{Entry, What};
use crate::scenario::Scenario;
use crate::scenario::plan::plan;
use crate::world::{CLUSTER, KEY, Outcome};

/// What a run reached, and how often; it must have recorded its datagrams.
pub(super) fn reached(scenario: &Scenario, seed: u64, outcome: &Outcome) -> Counts {
    let mut walk = Walk {
        counts: outcome.measurements.transitions.clone(),
        phases: vec![None; scenario.nodes.len()],
        links: BTreeMap::new(),
        asked: BTreeMap::new(),
        codec: Codec::new(&ClusterKey(KEY), CLUSTER),
        vips: scenario.vips.iter().map(|spec| spec.vip.id()).collect(),
    };
    for (_, fault) in plan(scenario, seed) {
        walk.count("fault", points::fault(&fault));
    }
    for entry in &outcome.entries {
        if let What::Fault { text, nodes } = &entry.what {
            walk.fault(text, nodes);
        }
        walk.take(entry);
    }
    walk.counts
}

/// How far a machine has come with asking the segment for a VIP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Asking,
    Occupied,
}

struct Walk {
    counts: Counts,
    phases: Vec<Option<Phase>>,
    links: BTreeMap<(usize, NodeId), LinkState>,
    asked: BTreeMap<(usize, VipId), Asked>,
    codec: Codec,
    vips: Vec<VipId>,
}

impl Walk {
    fn count(&mut self, group: &'static str, name: impl Into<String>) {
        *self.counts.entry((group, name.into())).or_default() += 1;
    }

    fn enters(&mut self, node: usize, phase: Phase) {
        match self.phases[node] {
            // Whoever leaves takes part in views to its end.
            Some(Phase::Leaving) if phase != Phase::Ended => {}
            Some(Phase::Ended) => {}
            Some(before) if before != phase => {
                self.phases[node] = Some(phase);
                let name = format!("{} -> {}", points::phase(&before), points::phase(&phase));
                self.count("phase", name);
            }
            Some(_) | None => {}
        }
    }

    /// A daemon is told to leave, or is gone without a word.
    fn fault(&mut self, text: &str, nodes: &[usize]) {
        // The guardian's faults begin with the same words.
        let is = |fault: Fault| text.starts_with(&format!("{}:", fault.kind()));
        let stopped = is(Fault::Stop(Vec::new()));
        let gone = is(Fault::Kill(Vec::new())) || is(Fault::PowerLoss(Vec::new()));
        for &node in nodes {
            if stopped {
                self.enters(node, Phase::Leaving);
            } else if gone {
                self.phases[node] = None;
            }
        }
    }

    fn take(&mut self, entry: &Entry) {
        if let Some(deed) = points::deed(&entry.what) {
            self.count("segment and fences", deed);
        }
        match &entry.what {
            What::Started { node } => {
                self.phases[*node] = Some(Phase::Joining);
                self.links.retain(|(of, _), _| of != node);
                self.asked.retain(|(of, _), _| of != node);
            }
            What::Probed { node, vip } => {
                let vip = self.vips[*vip];
                self.asked.entry((*node, vip)).or_insert(Asked::Asking);
            }
            What::Ended { node } => self.enters(*node, Phase::Ended),
            What::Guarded { node, .. } => self.phases[*node] = None,
            What::Kernel { change, .. } => self.count("address table", points::kernel(change)),
            What::Daemon { node, event } => self.event(*node, event),
            What::Datagram { to, bytes, fate, .. } if *fate != "lost" && *fate != "corrupted" => {
                let phase = self.phases.get(*to).copied().flatten();
                if let (Some(phase), Ok((_, body))) = (phase, self.codec.open(bytes)) {
                    let name =
                        format!("{} while {}", points::message(&body), points::phase(&phase));
                    self.count("message", name);
                }
            }
            _ => {}
        }
    }

    fn event(&mut self, node: usize, event: &Event) {
        self.count("event", points::event(event));
        match event {
            Event::Link { peer, state, .. } => {
                let before = self.links.insert((node, *peer), *state).unwrap_or(LinkState::Silent);
                if before != *state {
                    let name = format!("{} -> {}", points::link(&before), points::link(state));
                    self.count("link", name);
                }
            }
            Event::Accepted { .. } => self.enters(node, Phase::Agreeing),
            Event::ViewInstalled { primary: true, .. } => self.enters(node, Phase::Serving),
            Event::ViewInstalled { primary: false, .. } => self.enters(node, Phase::Waiting),
            Event::ViewLost { why } => {
                self.count("view lost because", *why);
                self.enters(node, Phase::Joining);
            }
            Event::Refused { why, .. } => self.count("refused because", *why),
            Event::Rejected { rejection, .. } => {
                self.count("datagram refused as", points::rejection(rejection));
            }
            Event::Assigned { reason, .. } => {
                self.count("assigned because", points::reason(reason));
            }
            Event::Acquired { vip, reason } => {
                self.count("acquired because", points::reason(reason));
                match self.asked.remove(&(node, *vip)) {
                    Some(Asked::Asking) => self.count("inquiry", points::INQUIRIES[0]),
                    Some(Asked::Occupied) => self.count("inquiry", points::INQUIRIES[2]),
                    None => {}
                }
            }
            Event::Released { reason, .. } => {
                self.count("released because", points::reason(reason));
            }
            Event::Occupied { vip, .. } => {
                self.asked.insert((node, *vip), Asked::Occupied);
                self.count("inquiry", points::INQUIRIES[1]);
            }
            _ => {}
        }
    }
}
