//! A story from a simulated run.

use std::collections::BTreeMap;

use wackamole_protocol::config::ClusterKey;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::VipId;
use wackamole_protocol::wire::Codec;

use super::{Account, Fact, Micros, Story, events, holdings, lanes, messages};
use crate::account;
use crate::chronicle::{Change, State};
use crate::journal::{Entry, What};
use crate::report;
use crate::scenario::text::duration_text;
use crate::scenario::{Scenario, policy_word};
use crate::world::{CLUSTER, KEY, Outcome};

/// A run and what its ids stand for.
pub(super) struct Source<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) outcome: &'a Outcome,
    /// The journal without datagrams.
    pub(super) entries: Vec<&'a Entry>,
    /// With whose key its datagrams are sealed.
    pub(super) codec: &'a Codec,
    /// The chronicle without leases.
    pub(super) changes: Vec<&'a Change>,
    nodes: BTreeMap<NodeId, usize>,
    vips: BTreeMap<VipId, usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(scenario: &'a Scenario, outcome: &'a Outcome, codec: &'a Codec) -> Self {
        let nodes = scenario.nodes.iter().enumerate();
        let vips = scenario.vips.iter().enumerate();
        let entries = outcome.entries.iter();
        let changes = outcome.chronicle.changes().iter();
        Self {
            scenario,
            outcome,
            codec,
            entries: entries.filter(|e| !matches!(e.what, What::Datagram { .. })).collect(),
            changes: changes.filter(|c| !matches!(c.to, State::Lease { .. })).collect(),
            nodes: nodes.map(|(index, node)| (NodeId::from_name(&node.name), index)).collect(),
            vips: vips.map(|(index, spec)| (spec.vip.id(), index)).collect(),
        }
    }

    pub(super) fn node(&self, id: NodeId) -> Option<usize> {
        self.nodes.get(&id).copied()
    }

    pub(super) fn vip(&self, id: VipId) -> Option<usize> {
        self.vips.get(&id).copied()
    }

    pub(super) fn end(&self) -> Micros {
        micros(self.outcome.simulated)
    }
}

/// A time as stories count it.
pub fn micros(time: Duration) -> Micros {
    u64::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}

/// Tells a simulated run.
pub fn story(scenario: &Scenario, outcome: &Outcome) -> Story {
    sealed_with(scenario, outcome, &Codec::new(&ClusterKey(KEY), CLUSTER))
}

/// Tells a run whose datagrams were sealed by whoever else.
pub fn sealed_with(scenario: &Scenario, outcome: &Outcome, codec: &Codec) -> Story {
    let source = Source::new(scenario, outcome, codec);
    let mut story = Story {
        title: scenario.title.clone(),
        about: scenario.story.trim().to_owned(),
        facts: facts(scenario, outcome),
        verdict: None,
        reproduce: Some(report::reproduce(scenario, outcome.seed)),
        end: source.end(),
        drift_allowed_ppm: scenario.safety.drift_ppm,
        account: Account::default(),
        nodes: lanes::nodes(&source),
        vips: holdings::vips(&source),
        clients: scenario.clients.clone(),
        marks: events::marks(&source),
        events: events::events(&source),
        messages: messages::messages(&source),
    };
    story.account = account::account(&story);
    story
}

fn facts(scenario: &Scenario, outcome: &Outcome) -> Vec<Fact> {
    let timing = &scenario.timing;
    let latency = match (scenario.latency.min, scenario.latency.max) {
        (min, max) if min == max => duration_text(min),
        (min, max) => format!("{}..{}", duration_text(min), duration_text(max)),
    };
    let percent = |ratio: f64| format!("{} %", ratio * 100.0);
    let facts = [
        ("scenario", scenario.file.clone()),
        ("seed", outcome.seed.to_string()),
        ("policy", policy_word(scenario.safety.partition).to_owned()),
        ("heartbeat", duration_text(timing.heartbeat)),
        ("failure timeout", duration_text(timing.failure_timeout)),
        ("mature", duration_text(timing.mature)),
        ("latency", latency),
        ("loss", percent(scenario.wires.loss)),
        ("clock drift allowed", format!("{} ppm", scenario.safety.drift_ppm)),
        ("lasts", duration_text(outcome.simulated)),
    ];
    facts.into_iter().map(|(name, value)| Fact { name: name.to_owned(), value }).collect()
}
