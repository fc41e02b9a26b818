//! Recorded machines on the page of a simulated run: their account as an [`Outcome`], with what can be known of it.
//!
//! A record does not tell what clients saw, what guardians and gates did, nor what became of a daemon that wrote nothing more.

use std::time::Duration;

use wackamole::env::Lease;
use wackamole::record::{End, Finish};
use wackamole_protocol::config::ClusterKey;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::time::Instant;
use wackamole_protocol::wire::Codec;

use super::account::Account;
use super::clocks::Clocks;
use super::{Happening, Replayed, show, wires};
use crate::check::Measurements;
use crate::chronicle::{Chronicle, Doing, State};
use crate::journal::{Entry, What};
use crate::scenario::policy_word;
use crate::scenario::text::duration_text;
use crate::story::{Fact, Story, build};
use crate::world::Outcome;

/// A record that is cut off so long before the last one ends is that of a daemon that was killed.
const SILENT: Duration = Duration::from_secs(2);

/// Tells the account as a story.
///
/// `key` is the one with which the recorded cluster sealed its datagrams.
pub fn story(records: &[Replayed], clocks: &Clocks, account: &Account, key: &ClusterKey) -> Story {
    let mut scenario = account.scenario.clone();
    scenario.clients.clear();
    for node in &mut scenario.nodes {
        node.fences.guardian = false;
    }
    let mut entries = account.entries.clone();
    for record in records.iter().filter(|record| !record.is_same()) {
        let text = match &record.difference {
            Some(difference) => format!("{}: {difference}", record.header.node),
            None => show::finish(record),
        };
        entries.push(Entry { at: account.end, what: What::Violation { check: "replay", text } });
    }
    for overlap in &account.overlaps {
        let lasted = overlap.to.saturating_sub(overlap.from);
        if lasted > disagreement(records, clocks, account, overlap.nodes) {
            let vip = scenario.vips[overlap.vip].vip.name();
            let [x, y] = overlap.nodes.map(|node| &scenario.nodes[node].name);
            let text = format!("{vip} was held by {x} and {y} for {}", duration_text(lasted));
            entries.push(Entry {
                at: overlap.from,
                what: What::Violation { check: "exclusivity", text },
            });
        }
    }
    entries.extend(wires::datagrams(records, clocks, account));
    entries.sort_by_key(|entry| entry.at);
    let outcome = Outcome {
        seed: 0,
        entries,
        chronicle: chronicle(records, clocks, account),
        interruptions: Vec::new(),
        measurements: Measurements::default(),
        simulated: account.end,
    };
    let codec = Codec::new(key, &records[0].header.config(key.clone()).cluster);
    let mut story = build::sealed_with(&scenario, &outcome, &codec);
    story.title = format!("what {} records tell", records.len());
    story.about = "Recorded by real daemons and done again. What clients saw, and what guardians and gates did, is not in \
        records; a VIP counts as held until its daemon released it or its record ends."
        .to_owned();
    for standing in &mut story.account.standings {
        for unknown in [&mut standing.guardian, &mut standing.gate] {
            "not recorded".clone_into(unknown);
        }
    }
    story.verdict = Some(match story.account.broken {
        0 => "no VIP held twice, as far as recorded".to_owned(),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    });
    story.facts = facts(records, account);
    story.reproduce = None;
    story
}

/// By how much the clocks of two machines may disagree about what was at the same time. What only their wall clocks say is
/// believed: nothing better is known.
fn disagreement(
    records: &[Replayed],
    clocks: &Clocks,
    account: &Account,
    nodes: [usize; 2],
) -> Duration {
    let of = |node: usize| {
        let name = &account.scenario.nodes[node].name;
        let theirs = (0..records.len()).filter(|&index| records[index].header.node == *name);
        theirs.filter_map(|index| clocks.reading(index).within).max().unwrap_or_default()
    };
    nodes.map(of).iter().sum()
}

fn chronicle(records: &[Replayed], clocks: &Clocks, account: &Account) -> Chronicle {
    let mut changes: Vec<(Duration, State)> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let at = |instant: Instant| clocks.common(index, instant).saturating_sub(account.begins);
        let node = account.scenario.nodes.iter().position(|node| node.name == record.header.node);
        let Some(node) = node else { continue };
        let (started, last) = (at(record.header.started()), at(record.last));
        changes.push((started, State::Doing { node, doing: Doing::Running }));
        let mut runs_until = None;
        for (instant, happening) in &record.happenings {
            if let Happening::Lease(lease) = happening {
                runs_until = match lease {
                    Lease::Until(until) => Some(at(*until)),
                    Lease::None => None,
                };
                changes.push((at(*instant), State::Lease { node, until: runs_until }));
            }
        }
        let doing = match &record.finish {
            Finish::Marked(End::Left) => Some(Doing::Ended),
            _ if last + SILENT < account.end => Some(Doing::Killed),
            _ => None,
        };
        if let Some(doing) = doing {
            changes.push((last, State::Doing { node, doing }));
            if let Some(until) = runs_until {
                changes.push((until, State::LeaseOver { node }));
            }
        }
    }
    for holding in &account.holdings {
        let answers = |yes| State::Answers { node: holding.node, vip: holding.vip, yes };
        changes.push((holding.from, answers(true)));
        if holding.ended || holding.to + SILENT < account.end {
            changes.push((holding.to, answers(false)));
        }
    }
    changes.sort_by_key(|(at, _)| *at);
    Chronicle::of(changes)
}

fn facts(records: &[Replayed], account: &Account) -> Vec<Fact> {
    let header = &records[0].header;
    let config = header.config(ClusterKey(crate::world::KEY));
    let me = |id: NodeId| config.nodes.iter().find(|node| node.id() == id).map(|n| n.name.as_str());
    let recorded: Vec<String> = records
        .iter()
        .map(|record| format!("{} ({})", record.header.node, record.header.incarnation))
        .collect();
    let mut facts = vec![
        ("cluster", config.cluster.clone()),
        ("recorded", recorded.join(", ")),
        ("policy", policy_word(config.safety.partition).to_owned()),
        ("heartbeat", duration_text(config.timing.heartbeat)),
        ("failure timeout", duration_text(config.timing.failure_timeout)),
        ("lasts", format!("{:.3} s", account.end.as_secs_f64())),
        ("its times are those of", me(config.me).unwrap_or_default().to_owned()),
    ];
    if !account.unrecorded.is_empty() {
        facts.push(("not recorded", account.unrecorded.join(", ")));
    }
    facts.into_iter().map(|(name, value)| Fact { name: name.to_owned(), value }).collect()
}
