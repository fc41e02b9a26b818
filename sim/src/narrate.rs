//! The journal in words: a *timeline* of what matters, several things of one instant on one line, and a *trace* of
//! everything.

use std::fmt::Write as _;

use wackamole_protocol::event::{Event, LinkState, Reason};
use wackamole_protocol::id::NodeId;
use wackamole_protocol::names::Names;
use wackamole_protocol::time::Duration;

use crate::chronicle::{Change, Chronicle, State};
use crate::journal::{Entry, KernelChange, What};
use crate::scenario::Scenario;

/// Tells a scenario's runs in words.
pub struct Narrator<'a> {
    scenario: &'a Scenario,
    names: Names,
    stations: Vec<String>,
}

/// Who did what, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// A machine, a client, or a kind such as `fault`.
    pub who: String,
    /// What it did.
    pub what: String,
}

/// One line of a timeline before things of one instant are joined.
struct Line {
    at: Duration,
    kind: &'static str,
    before: String,
    items: Vec<String>,
    after: String,
}

impl<'a> Narrator<'a> {
    /// A narrator who knows the scenario's names.
    pub fn new(scenario: &'a Scenario) -> Self {
        let names = Names::new(
            scenario.nodes.iter().map(|node| node.name.as_str()),
            scenario.vips.iter().map(|vip| &*vip.vip),
        );
        Self { scenario, names, stations: scenario.station_names() }
    }

    /// What matters: faults, views, VIPs that move, interruptions, overlaps, broken promises.
    pub fn timeline(&self, entries: &[Entry]) -> String {
        let mut lines: Vec<Line> = Vec::new();
        let mut views = std::collections::BTreeSet::new();
        let mut holder: Vec<Option<usize>> = vec![None; self.scenario.vips.len()];
        for (position, entry) in entries.iter().enumerate() {
            let line = match &entry.what {
                What::Daemon { event: Event::ViewInstalled { view, members, primary }, .. } => {
                    if !views.insert(*view) {
                        continue;
                    }
                    let not = if *primary { "" } else { " not primary" };
                    let text =
                        format!("{} {}{not}", self.names.view(*view), self.names.set(members));
                    Some(("view", text, None, String::new()))
                }
                What::Kernel { node, vip, change: KernelChange::Acquired } => {
                    let from = match holder[*vip].replace(*node) {
                        Some(last) if last != *node => format!(" from {}", self.node(last)),
                        Some(_) => " again".to_owned(),
                        None => String::new(),
                    };
                    let reason = self.reason(&entries[position..], *node, *vip);
                    let after =
                        format!("{from}{}", reason.map_or(String::new(), |r| format!(": {r}")));
                    Some(("move", format!("{} acquires ", self.node(*node)), Some(*vip), after))
                }
                What::Kernel { node, vip, change } => {
                    let verb = match change {
                        KernelChange::Released => "releases",
                        KernelChange::CleanedUp => "cleans up",
                        KernelChange::Guarded => "is relieved by its guardian of",
                        KernelChange::Expired => "loses, by the end of their lifetime,",
                        KernelChange::Acquired
                        | KernelChange::Deleted
                        | KernelChange::PowerLost => continue,
                    };
                    Some((
                        "move",
                        format!("{} {verb} ", self.node(*node)),
                        Some(*vip),
                        String::new(),
                    ))
                }
                What::Lit { client, vip, dark_for: Some(dark), .. } => {
                    let after = format!(" for {} ms", dark.as_millis());
                    Some((
                        "dark",
                        format!("{} had no answer from ", self.client(*client)),
                        Some(*vip),
                        after,
                    ))
                }
                What::OverlapEnded { vip, nodes: [x, y], lasted } => {
                    let before =
                        format!("{} and {} both answered for ", self.node(*x), self.node(*y));
                    Some(("overlap", before, Some(*vip), format!(" for {} ms", lasted.as_millis())))
                }
                other => self.plain(other).map(|(kind, text)| (kind, text, None, String::new())),
            };
            let Some((kind, before, vip, after)) = line else { continue };
            let item = vip.map(|vip| self.vip(vip).to_owned());
            let joins = |line: &&mut Line| {
                item.is_some()
                    && line.at == entry.at
                    && (line.kind, &line.before, &line.after) == (kind, &before, &after)
            };
            match lines.iter_mut().rev().take(8).find(joins) {
                Some(line) => line.items.extend(item),
                None => lines.push(Line {
                    at: entry.at,
                    kind,
                    before,
                    items: item.into_iter().collect(),
                    after,
                }),
            }
        }
        let mut text = String::new();
        for Line { at, kind, before, items, after } in lines {
            let items = self.shorten(&items);
            let _ = writeln!(text, "{}  {kind:<8} {before}{items}{after}", time(at));
        }
        text
    }

    /// Everything, one line each, what the chronicle adds among it.
    pub fn trace(&self, entries: &[Entry], chronicle: &Chronicle) -> String {
        let mut text = String::new();
        let mut changes = self.changes(chronicle).peekable();
        for entry in entries {
            while let Some((at, Told { who, what })) = changes.next_if(|(at, _)| *at < entry.at) {
                let _ = writeln!(text, "{}  {who:<8} {what}", time(at));
            }
            if let Some(Told { who, what }) = self.entry(&entry.what) {
                let _ = writeln!(text, "{}  {who:<8} {what}", time(entry.at));
            }
        }
        for (at, Told { who, what }) in changes {
            let _ = writeln!(text, "{}  {who:<8} {what}", time(at));
        }
        text
    }

    /// One thing that happened.
    pub fn entry(&self, what: &What) -> Option<Told> {
        let told = |who: &str, what: String| Some(Told { who: who.to_owned(), what });
        match what {
            What::Daemon { node, event } => told(self.node(*node), self.event(event)),
            What::Kernel { node, vip, change } => {
                told(self.node(*node), format!("kernel: {} {}", self.vip(*vip), change.phrase()))
            }
            What::Announced { node, vip } => {
                told(self.node(*node), format!("announces {}", self.vip(*vip)))
            }
            What::Probed { node, vip } => {
                told(self.node(*node), format!("probes for {}", self.vip(*vip)))
            }
            What::Dark { client, vip } => {
                told(self.client(*client), format!("gets no answer from {}", self.vip(*vip)))
            }
            What::Lit { client, vip, node, dark_for } => {
                let dark =
                    dark_for.map_or(String::new(), |d| format!(" after {} ms", d.as_millis()));
                let (vip, node) = (self.vip(*vip), self.node(*node));
                told(self.client(*client), format!("is answered for {vip} by {node}{dark}"))
            }
            What::OverlapBegan { vip, nodes: [x, y], excuse } => {
                let why = excuse.map_or(String::new(), |why| format!(": {why}"));
                let (x, y) = (self.node(*x), self.node(*y));
                told("overlap", format!("{x} and {y} both answer for {}{why}", self.vip(*vip)))
            }
            What::OverlapEnded { vip, nodes: [x, y], lasted } => {
                let (x, y, vip) = (self.node(*x), self.node(*y), self.vip(*vip));
                let ms = lasted.as_millis();
                told(
                    "overlap",
                    format!("{x} and {y} no longer both answer for {vip}, after {ms} ms"),
                )
            }
            What::Datagram { from, to, bytes, fate, .. } => {
                let mut hash = 0xcbf2_9ce4_8422_2325u64; // FNV-1a, enough to tell two datagrams apart
                for byte in bytes {
                    hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                }
                let (from, to) = (&self.stations[*from], &self.stations[*to]);
                told("wire", format!("{from} -> {to} {} bytes {hash:016x} {fate}", bytes.len()))
            }
            What::Started { node } => told(self.node(*node), "daemon starts".to_owned()),
            What::Fault { .. }
            | What::Ended { .. }
            | What::NetworkFault { .. }
            | What::Servable { .. }
            | What::Unguarded { .. }
            | What::Guarded { .. }
            | What::FenceCommand { .. }
            | What::Violation { .. } => self.plain(what).and_then(|(kind, line)| told(kind, line)),
        }
    }

    /// What a chronicle adds to the journal: when leases began and ended, what became of guardians, gates that keep
    /// addresses from answering, and clients that change from one machine to another.
    pub fn changes(&self, chronicle: &Chronicle) -> impl Iterator<Item = (Duration, Told)> {
        let mut leased = vec![None; self.scenario.nodes.len()];
        let mut seen = std::collections::BTreeMap::new();
        let tell = move |change: &Change| {
            let told =
                |who: &str, what: String| Some((change.at, Told { who: who.to_owned(), what }));
            match change.to {
                State::Lease { node, until: Some(until) } => {
                    let first = leased[node].replace(until).is_none();
                    let text = format!("lease runs until {} unless renewed", seconds(until));
                    first.then(|| told(self.node(node), text)).flatten()
                }
                State::Lease { node, until: None } => {
                    leased[node] = None;
                    told(self.node(node), "lease given back".to_owned())
                }
                State::LeaseOver { node } => {
                    leased[node] = None;
                    told(self.node(node), "lease is over".to_owned())
                }
                State::Guardian { node, watch } => {
                    told(self.node(node), format!("guardian: {}", watch.phrase()))
                }
                State::Seen { client, vip, by } => {
                    let before = seen.insert((client, vip), by).flatten();
                    let (before, by) = (before?, by?);
                    let (vip, by, before) = (self.vip(vip), self.node(by), self.node(before));
                    told(
                        self.client(client),
                        format!("is answered for {vip} by {by}, not {before}"),
                    )
                }
                // The journal tells these, with their causes.
                State::Answers { .. } | State::Doing { .. } => None,
            }
        };
        chronicle.changes().iter().filter_map(tell)
    }

    fn plain(&self, what: &What) -> Option<(&'static str, String)> {
        Some(match what {
            What::Fault { text, .. } => ("fault", text.clone()),
            What::Servable { node, why: Some(why) } => {
                ("fence", format!("{} can serve nothing: {why}", self.node(*node)))
            }
            What::Servable { node, why: None } => {
                ("fence", format!("{} can serve again", self.node(*node)))
            }
            What::Unguarded { node } => {
                ("fence", format!("{} cannot replace its guardian", self.node(*node)))
            }
            What::Guarded { node, killed: true } => {
                ("fence", format!("the guardian of {} kills its daemon", self.node(*node)))
            }
            What::Guarded { node, killed: false } => {
                ("fence", format!("the guardian of {} finds its daemon dead", self.node(*node)))
            }
            What::FenceCommand { node, target, worked } => {
                let end = if *worked { "has worked" } else { "has failed" };
                ("fence", format!("{}: the fence command for {target} {end}", self.node(*node)))
            }
            What::Ended { node } => ("left", format!("{} has left", self.node(*node))),
            What::Violation { check, text } => ("BROKEN", format!("{check}: {text}")),
            What::NetworkFault { node, text } => {
                ("socket", format!("{}: {text}", self.node(*node)))
            }
            What::OverlapBegan { vip, nodes: [x, y], excuse: None } => {
                let text = format!(
                    "{} and {} both answer for {}",
                    self.node(*x),
                    self.node(*y),
                    self.vip(*vip)
                );
                ("OVERLAP", text)
            }
            What::Daemon { node, event } => match event {
                Event::ViewLost { why } => {
                    ("view", format!("{} is in no view: {why}", self.node(*node)))
                }
                Event::ForcedPrimary => {
                    ("view", format!("{} is forced to be primary", self.node(*node)))
                }
                Event::Reach { answering } => {
                    ("reach", format!("{} {}", self.node(*node), reach(answering.is_empty())))
                }
                Event::BalanceRound { moves } => {
                    ("balance", format!("{} moves {moves} VIPs", self.node(*node)))
                }
                Event::Matured { node: who } if self.is(*node, *who) => {
                    ("mature", format!("{} may own VIPs", self.node(*node)))
                }
                Event::AddressFailed { vip, error, given_up } => {
                    let end = if *given_up { ", gives it up" } else { "" };
                    (
                        "address",
                        format!("{}: {}: {error}{end}", self.node(*node), self.names.vip(*vip)),
                    )
                }
                Event::Occupied { vip, by } => (
                    "address",
                    format!(
                        "{}: {} is answered by {by}, stays there",
                        self.node(*node),
                        self.names.vip(*vip)
                    ),
                ),
                Event::Contested { vip, by, yields } => {
                    let end = if *yields { ", yields" } else { "" };
                    (
                        "address",
                        format!(
                            "{}: {} is used by {by} too{end}",
                            self.node(*node),
                            self.names.vip(*vip)
                        ),
                    )
                }
                Event::Servable { vips, why_not } => {
                    let how = why_not.as_deref().unwrap_or("can be served again");
                    ("address", format!("{}: {} VIPs: {how}", self.node(*node), vips.len()))
                }
                Event::AddressVanished { vip, retry_in } => {
                    let text = format!(
                        "{}: {} vanished, is put back in {} ms",
                        self.node(*node),
                        self.names.vip(*vip),
                        retry_in.as_millis()
                    );
                    ("address", text)
                }
                _ => return None,
            },
            _ => return None,
        })
    }

    fn event(&self, event: &Event) -> String {
        let node = |id: &NodeId| self.names.node(*id);
        match event {
            Event::Link { peer, state, silent_for } => match state {
                LinkState::Silent => {
                    format!("link to {}: silent for {} ms", node(peer), silent_for.as_millis())
                }
                LinkState::OneWay => format!("link to {}: it does not hear us", node(peer)),
                LinkState::TwoWay => format!("link to {}: two-way", node(peer)),
            },
            Event::PeerRestarted { peer, incarnation } => {
                format!("{} has restarted as {incarnation}", node(peer))
            }
            Event::PeerLeft { peer } => format!("{} has left", node(peer)),
            Event::ForcedPrimary => "is forced to be the primary view".to_owned(),
            Event::Reach { answering } => reach(answering.is_empty()).to_owned(),
            Event::Proposed { ballot, members } => {
                format!("proposes {} {}", self.names.view(*ballot), self.names.set(members))
            }
            Event::Accepted { ballot } => format!("accepts {}", self.names.view(*ballot)),
            Event::Refused { ballot, by, why } => {
                format!("{} refused by {}: {why}", self.names.view(*ballot), node(by))
            }
            Event::ViewInstalled { view, members, primary } => {
                let not = if *primary { "" } else { " not primary" };
                format!("view {} {}{not}", self.names.view(*view), self.names.set(members))
            }
            Event::ViewLost { why } => format!("in no view: {why}"),
            Event::Beside { beside: true } => "another view is linked to its own".to_owned(),
            Event::Beside { beside: false } => "no other view is linked to its own".to_owned(),
            Event::Matured { node: who } => format!("{} may own VIPs", node(who)),
            Event::Assigned { vip, owner, previous, reason } => {
                let name =
                    |id: &Option<NodeId>| id.map_or("nobody".to_owned(), |id| self.names.node(id));
                let (from, to) = (name(previous), name(owner));
                format!("{}: {from} -> {to} because {}", self.names.vip(*vip), reason.phrase())
            }
            Event::Acquired { vip, reason } => {
                format!("acquired {} because {}", self.names.vip(*vip), reason.phrase())
            }
            Event::Released { vip, next, reason } => {
                let next =
                    next.map_or(String::new(), |next| format!(" to {}", self.names.node(next)));
                format!("released {}{next} because {}", self.names.vip(*vip), reason.phrase())
            }
            Event::AddressFailed { vip, error, given_up } => {
                let end = if *given_up { ", given up" } else { "" };
                format!("{}: {error}{end}", self.names.vip(*vip))
            }
            Event::Occupied { vip, by } => {
                format!("{} is answered by {by}", self.names.vip(*vip))
            }
            Event::Contested { vip, by, yields } => {
                let end = if *yields { ", yields" } else { "" };
                format!("{} is used by {by} too{end}", self.names.vip(*vip))
            }
            Event::Servable { vips, why_not } => {
                let how = why_not.as_deref().unwrap_or("can be served again");
                format!("{} VIPs: {how}", vips.len())
            }
            Event::AddressVanished { vip, retry_in } => {
                format!(
                    "{} vanished, put back in {} ms",
                    self.names.vip(*vip),
                    retry_in.as_millis()
                )
            }
            Event::Rejected { from, rejection } => {
                format!("refuses a datagram from {from}: {rejection:?}")
            }
            Event::RanLate { late } => format!("ran {} ms late", late.as_millis()),
            Event::ConfigurationDiffers { node: who } => {
                format!("{} is configured otherwise", node(who))
            }
            Event::BalanceRound { moves } => format!("balance round of {moves} moves"),
            Event::Left => "left".to_owned(),
        }
    }

    /// Why a VIP was acquired: the daemon says so right after its kernel did it.
    fn reason(&self, from_here: &[Entry], node: usize, vip: usize) -> Option<&'static str> {
        let id = self.scenario.vips[vip].vip.id();
        let reason = from_here.iter().take(200).find_map(|entry| match &entry.what {
            What::Daemon { node: who, event: Event::Acquired { vip, reason } } => {
                (*who == node && *vip == id).then_some(*reason)
            }
            _ => None,
        })?;
        (reason != Reason::Kept).then(|| reason.phrase())
    }

    /// Many names in a row would hide the rest.
    fn shorten(&self, items: &[String]) -> String {
        let all = items.len() == self.scenario.vips.len() && items.len() > 2;
        match items.len() {
            _ if all => format!("all {} VIPs", items.len()),
            0..=10 => items.join(", "),
            many => format!("{}, … ({many} VIPs)", items[..8].join(", ")),
        }
    }

    fn is(&self, node: usize, id: NodeId) -> bool {
        NodeId::from_name(self.node(node)) == id
    }

    fn node(&self, node: usize) -> &str {
        &self.stations[node]
    }

    fn client(&self, client: usize) -> &str {
        &self.scenario.clients[client]
    }

    fn vip(&self, vip: usize) -> &str {
        self.scenario.vips[vip].vip.name()
    }
}

fn reach(nobody: bool) -> &'static str {
    if nobody { "does not reach the witness any more" } else { "reaches the witness" }
}

/// A time as people write it: `4.213 s`.
pub fn seconds(at: Duration) -> String {
    format!("{}.{:03} s", at.as_secs(), at.subsec_millis())
}

fn time(at: Duration) -> String {
    format!("{:>4}.{:03}s", at.as_secs(), at.subsec_millis())
}
