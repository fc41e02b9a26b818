//! Recorded machines on the page of a simulated run: their account as an [`Outcome`], with what can be known of it.
//!
//! A record does not tell what clients saw, what guardians and gates did, nor what became of a daemon that wrote nothing more.

use std::time::Duration;

use wackamole::env::Lease;
use wackamole::record::{End, Finish};
use wackamole_protocol::config::ClusterKey;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::time::Instant;

use super::account::Account;
use super::clocks::Clocks;
use super::{Happening, Replayed, show};
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
pub fn story(records: &[Replayed], clocks: &Clocks, account: &Account) -> Story {
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
    let outcome = Outcome {
        seed: 0,
        entries,
        chronicle: chronicle(records, clocks, account),
        interruptions: Vec::new(),
        measurements: Measurements::default(),
        simulated: account.end,
    };
    let mut story = build::story(&scenario, &outcome);
    story.title = format!("what {} records tell", records.len());
    story.about = "Recorded by real daemons and done again. What clients saw, and what guardians and gates did, is not in \
        records; a VIP counts as held until its daemon released it or its record ends."
        .to_owned();
    story.facts = facts(records, account);
    story.reproduce = None;
    story
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
