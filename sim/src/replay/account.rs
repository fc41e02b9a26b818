//! The records of several machines as one course of events: who held which VIP when, where two did and where nobody did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wackamole::record::{End, Finish};
use wackamole_protocol::config::{ClusterKey, NodeConfig};
use wackamole_protocol::id::NodeId;
use wackamole_protocol::vip::VipId;

use super::clocks::Clocks;
use super::{Happening, Replayed};
use crate::journal::{Entry, KernelChange, What};
use crate::scenario::Scenario;
use crate::world::KEY;

/// Several records on one clock. Times count from the first record's start.
#[derive(Debug)]
pub struct Account {
    /// The cluster as far as names go.
    pub scenario: Scenario,
    /// Everything that happened, by time.
    pub entries: Vec<Entry>,
    /// Who held what.
    pub holdings: Vec<Holding>,
    /// Times in which two recorded machines held a VIP.
    pub overlaps: Vec<Overlap>,
    /// Times in which no recorded machine held a VIP that one had held before.
    pub gaps: Vec<Gap>,
    /// Configured machines of which there is no record.
    pub unrecorded: Vec<String>,
    /// When the account begins, since 1970.
    pub begins: Duration,
    /// How long it is.
    pub end: Duration,
}

/// A machine's kernel had a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which VIP.
    pub vip: usize,
    /// Which machine.
    pub node: usize,
    /// From when.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
    /// The record says that it ended then; otherwise it is the record that ended.
    pub ended: bool,
}

/// Two machines had a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Which VIP.
    pub vip: usize,
    /// Which machines.
    pub nodes: [usize; 2],
    /// From when.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
}

/// No recorded machine had a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which VIP.
    pub vip: usize,
    /// Who had it last.
    pub after: usize,
    /// From when.
    pub from: Duration,
    /// Until when; to the end of the account if nobody took over.
    pub to: Duration,
    /// Somebody took over then.
    pub ended: bool,
}

impl Account {
    /// Merges records, of which there must be at least one.
    ///
    /// # Errors
    /// They are of different clusters.
    pub fn merge(records: &[Replayed], clocks: &Clocks) -> Result<Self, String> {
        let configs: Vec<NodeConfig> =
            records.iter().map(|record| record.header.config(ClusterKey(KEY))).collect();
        if let Some(other) = configs.iter().position(|c| c.cluster != configs[0].cluster) {
            return Err(format!(
                "{} is of the cluster {}, {} of {}; expected are records of one cluster",
                records[0].file.display(),
                configs[0].cluster,
                records[other].file.display(),
                configs[other].cluster
            ));
        }
        let cast = Cast::of(&configs);
        let begins = (0..records.len())
            .map(|record| clocks.common(record, records[record].header.started()))
            .min()
            .unwrap_or_default();
        let (mut entries, mut holdings) = (Vec::new(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            let at = |instant| clocks.common(index, instant).saturating_sub(begins);
            let Some(&node) = cast.nodes.get(&configs[index].me) else { continue };
            let first = entries.len();
            let mut push = |instant, what| entries.push(Entry { at: at(instant), what });
            push(record.header.started(), What::Started { node });
            for (instant, happening) in &record.happenings {
                let what = match happening {
                    Happening::Event(event) => What::Daemon { node, event: event.clone() },
                    Happening::Kernel(vip, change) => {
                        What::Kernel { node, vip: cast.vips[vip], change: *change }
                    }
                    Happening::Announced(vip) => What::Announced { node, vip: cast.vips[vip] },
                    Happening::Probed(vip) => What::Probed { node, vip: cast.vips[vip] },
                    Happening::Lease(_) => continue,
                    Happening::NetworkFault(text) => {
                        What::NetworkFault { node, text: text.clone() }
                    }
                };
                push(*instant, what);
            }
            if record.finish == Finish::Marked(End::Left) {
                push(record.last, What::Ended { node });
            } else {
                let name = &record.header.node;
                let text = format!("the record of {name} ends: {}", super::show::finish(record));
                push(record.last, What::Fault { text, nodes: vec![node] });
            }
            held(node, &entries[first..], at(record.last), &mut holdings);
        }
        holdings.sort_by_key(|holding| (holding.vip, holding.from, holding.node));
        let overlaps = overlaps(&holdings);
        for &Overlap { vip, nodes, from, to } in &overlaps {
            let lasted = to.saturating_sub(from);
            entries.push(Entry { at: from, what: What::OverlapBegan { vip, nodes, excuse: None } });
            entries.push(Entry { at: to, what: What::OverlapEnded { vip, nodes, lasted } });
        }
        // Stable: what happened on one machine stays in its order.
        entries.sort_by_key(|entry| entry.at);
        let end = entries.last().map(|entry| entry.at).unwrap_or_default();
        let recorded: BTreeSet<NodeId> = configs.iter().map(|config| config.me).collect();
        let names = configs[0].nodes.iter().filter(|node| !node.witness);
        let unrecorded = names.filter(|node| !recorded.contains(&node.id()));
        Ok(Self {
            unrecorded: unrecorded.map(|node| node.name.clone()).collect(),
            overlaps,
            gaps: gaps(&holdings, end),
            scenario: cast.scenario(&configs),
            entries,
            holdings,
            begins,
            end,
        })
    }
}

/// Positions of nodes and VIPs: those of the first record, then what only others know.
struct Cast {
    nodes: BTreeMap<NodeId, usize>,
    vips: BTreeMap<VipId, usize>,
}

impl Cast {
    fn of(configs: &[NodeConfig]) -> Self {
        let (mut nodes, mut vips) = (BTreeMap::new(), BTreeMap::new());
        for config in configs {
            for node in &config.nodes {
                let next = nodes.len();
                nodes.entry(node.id()).or_insert(next);
            }
            for definition in &config.vips {
                let next = vips.len();
                vips.entry(definition.vip.id()).or_insert(next);
            }
        }
        Self { nodes, vips }
    }

    /// A scenario with these names and otherwise the first record's configuration, for whoever tells it in words.
    fn scenario(&self, configs: &[NodeConfig]) -> Scenario {
        let text = format!(
            "title = \"recorded\"\nnodes = {}\nvips = {}\nduration = \"1s\"\n",
            self.nodes.len(),
            self.vips.len()
        );
        let mut scenario =
            Scenario::parse("recorded", &text).expect("numbers of nodes and VIPs make a scenario");
        for config in configs {
            for node in &config.nodes {
                scenario.nodes[self.nodes[&node.id()]].name.clone_from(&node.name);
            }
            for definition in &config.vips {
                scenario.vips[self.vips[&definition.vip.id()]].vip = definition.vip.clone();
            }
        }
        scenario
    }
}

/// What one start of a daemon held, by the entries of its record, of which the last one was then.
fn held(node: usize, entries: &[Entry], last: Duration, done: &mut Vec<Holding>) {
    let mut open = BTreeMap::new();
    for entry in entries {
        let What::Kernel { vip, change, .. } = entry.what else { continue };
        if change == KernelChange::Acquired {
            open.entry(vip).or_insert(entry.at);
        } else if let Some(from) = open.remove(&vip) {
            done.push(Holding { vip, node, from, to: entry.at, ended: true });
        }
    }
    let open = open.into_iter();
    done.extend(open.map(|(vip, from)| Holding { vip, node, from, to: last, ended: false }));
}

fn overlaps(holdings: &[Holding]) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (index, one) in holdings.iter().enumerate() {
        let later = holdings[index + 1..].iter().take_while(|other| other.vip == one.vip);
        for other in later.filter(|other| other.from < one.to && other.node != one.node) {
            let to = one.to.min(other.to);
            found.push(Overlap {
                vip: one.vip,
                nodes: [one.node, other.node],
                from: other.from,
                to,
            });
        }
    }
    found
}

fn gaps(holdings: &[Holding], end: Duration) -> Vec<Gap> {
    let mut found = Vec::new();
    for of_vip in holdings.chunk_by(|one, other| one.vip == other.vip) {
        let mut last = of_vip[0];
        for holding in &of_vip[1..] {
            if holding.from > last.to {
                found.push(Gap {
                    vip: last.vip,
                    after: last.node,
                    from: last.to,
                    to: holding.from,
                    ended: true,
                });
            }
            if holding.to >= last.to {
                last = *holding;
            }
        }
        // What was held when a record ended may be held still.
        if last.ended && last.to < end {
            found.push(Gap {
                vip: last.vip,
                after: last.node,
                from: last.to,
                to: end,
                ended: false,
            });
        }
    }
    found
}
