//! From the file as written to a scenario that makes sense: names are resolved, numbers are in range.

mod expect;
mod safety;
mod steps;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use wackamole_protocol::config::{Balance, Timing};
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::{Vip, VipAddress};

use super::schema::{File, Names, OneOrMany, SegmentKind, Start};
use super::{NodeSpec, Scenario, ScenarioError, VipSpec};
use crate::links::Station;
use crate::netem::Impairment;
use crate::rng::Span;

/// More machines than that make turmoil's tick, which looks at every link for every machine, too slow.
const NODES_MAX: usize = 16;
const VIPS_MAX: usize = 2_000;

/// Where the text is, for complaints.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn wrong(&self, span: Range<usize>, message: impl Into<String>) -> ScenarioError {
        let start = span.start.min(self.text.len());
        let before = &self.text[..start];
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = self.text[line_start..start].chars().count() + 1;
        let whole = self.text[line_start..].lines().next().unwrap_or_default();
        let excerpt = format!("{line:>5} | {whole}\n      | {:>column$}", "^");
        ScenarioError::Wrong {
            file: self.file.to_owned(),
            line,
            column,
            message: message.into(),
            excerpt,
        }
    }

    /// A complaint about a name somewhere inside a table; of a table in an array, the span is its header alone.
    fn wrong_name(&self, table: &Range<usize>, name: &str, message: String) -> ScenarioError {
        let quoted = format!("\"{name}\"");
        let offset = self.text.get(table.start..).and_then(|text| text.find(&quoted)).unwrap_or(0);
        self.wrong(table.start + offset..table.end, message)
    }
}

/// The names that the rest of the file uses.
struct Known {
    nodes: Vec<String>,
    clients: Vec<String>,
    vips: Vec<String>,
}

impl Known {
    fn node(
        &self,
        source: &Source<'_>,
        at: &Range<usize>,
        name: &str,
    ) -> Result<usize, ScenarioError> {
        find(source, at, "node", &self.nodes, name)
    }

    fn vip(
        &self,
        source: &Source<'_>,
        at: &Range<usize>,
        name: &str,
    ) -> Result<usize, ScenarioError> {
        find(source, at, "VIP", &self.vips, name)
    }

    fn client(
        &self,
        source: &Source<'_>,
        at: &Range<usize>,
        name: &str,
    ) -> Result<usize, ScenarioError> {
        find(source, at, "client", &self.clients, name)
    }

    fn station(
        &self,
        source: &Source<'_>,
        at: &Range<usize>,
        name: &str,
    ) -> Result<Station, ScenarioError> {
        let all: Vec<String> = self.nodes.iter().chain(&self.clients).cloned().collect();
        find(source, at, "node or client", &all, name)
    }

    fn some_nodes(
        &self,
        source: &Source<'_>,
        at: &Range<usize>,
        names: &OneOrMany,
    ) -> Result<Vec<usize>, ScenarioError> {
        if names.0 == ["all"] {
            return Ok((0..self.nodes.len()).collect());
        }
        names.0.iter().map(|name| self.node(source, at, name)).collect()
    }
}

fn find(
    source: &Source<'_>,
    at: &Range<usize>,
    what: &str,
    known: &[String],
    name: &str,
) -> Result<usize, ScenarioError> {
    known.iter().position(|other| other == name).ok_or_else(|| {
        let list = known.join(", ");
        source.wrong_name(at, name, format!("there is no {what} `{name}`; there are {list}"))
    })
}

/// Reads and checks a file.
pub(super) fn check(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let source = Source { file, text };
    let written: File = toml::from_str(text).map_err(|error| {
        source.wrong(error.span().unwrap_or(0..0), error.message().replace('\n', "; "))
    })?;
    let known = names(&source, &written)?;
    let timing = timing(&source, &written)?;
    let latency = latency(&source, &written)?;
    let duration = written.duration.get_ref().0;
    if duration > Duration::from_secs(24 * 3600) || duration.is_zero() {
        return Err(source.wrong(written.duration.span(), "expected a duration of at most `24h`"));
    }
    let steps = steps::steps(&source, &written, &known, duration)?;
    let seeds = written.seeds.as_ref().map_or(20, |seeds| *seeds.get_ref());
    if seeds == 0 {
        let span = written.seeds.as_ref().map_or(0..0, Spanned::span);
        return Err(source.wrong(span, "found 0, expected at least one seed"));
    }
    if written.title.get_ref().trim().is_empty() {
        return Err(source.wrong(written.title.span(), "a title says in one line what happens"));
    }
    let name = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let scenario = Scenario {
        file: file.to_owned(),
        name: name.unwrap_or_else(|| file.to_owned()),
        title: written.title.get_ref().trim().to_owned(),
        story: written.story.trim().to_owned(),
        nodes: nodes(&source, &written, &known, timing.heartbeat)?,
        vips: vips(&source, &written, &known)?,
        duration,
        seeds,
        seed: written.seed,
        latency,
        wires: wires(&source, &written, latency)?,
        spells_of_loss: written.network.spells_of_loss,
        neighbour_timeout: written
            .network
            .neighbour_timeout
            .map_or(Duration::from_secs(3), |timeout| timeout.0),
        multicast: written.network.multicast,
        operation: written
            .addresses
            .operation
            .as_ref()
            .map_or(Span::exactly(Duration::from_micros(300)), |span| span.0),
        timing,
        safety: safety::safety(&source, &written, &timing)?,
        must_reach: safety::must_reach(&source, &written, &known)?,
        release_margin: written.safety.release_margin.map(|margin| margin.0),
        policies: written.policies.iter().map(|policy| (*policy.get_ref()).into()).collect(),
        own_segment: written.network.segment == SegmentKind::Own,
        proxy_arp: written.network.proxy_arp,
        sync: written
            .addresses
            .sync
            .as_ref()
            .map_or(Span::exactly(Duration::from_millis(2)), |span| span.0),
        fences: safety::fences(&source, &written)?,
        balance: Balance {
            moves_per_round: written
                .balance
                .moves_per_round
                .as_ref()
                .and_then(|moves| moves.get_ref().0),
            interval: written.balance.interval.map_or(Duration::from_secs(4), |i| i.0),
        },
        steps,
        chaos: steps::chaos(&source, &written, duration)?,
        expect: expect::expectations(&source, &written, &known)?,
        allow: expect::allowances(&source, &written, &known)?,
        clients: known.clients,
    };
    expect::can_be_judged(&source, &written, &scenario)?;
    Ok(scenario)
}

fn names(source: &Source<'_>, written: &File) -> Result<Known, ScenarioError> {
    let letter = |i: usize| char::from(b'a' + i as u8).to_string();
    let nodes = list(source, &written.nodes, "nodes", NODES_MAX, letter)?;
    let vips = list(source, &written.vips, "VIPs", VIPS_MAX, |i| format!("v{}", i + 1))?;
    let clients = match &written.clients {
        Some(names) => list(source, names, "clients", 16, |i| format!("client{}", i + 1))?,
        None => vec!["client".to_owned()],
    };
    for client in &clients {
        if nodes.contains(client) {
            let span = written.clients.as_ref().map_or(0..0, Spanned::span);
            return Err(source.wrong(span, format!("`{client}` is a node's name already")));
        }
    }
    Ok(Known { nodes, clients, vips })
}

fn list(
    source: &Source<'_>,
    written: &Spanned<Names>,
    what: &str,
    max: usize,
    name: impl Fn(usize) -> String,
) -> Result<Vec<String>, ScenarioError> {
    let names: Vec<String> = match written.get_ref() {
        Names::Count(count) => (0..(*count).min(max as u64 + 1) as usize).map(name).collect(),
        Names::List(list) => {
            let mut names = Vec::new();
            for entry in list {
                let name = entry.get_ref().clone();
                let odd = name.is_empty() || name == "all" || names.contains(&name);
                if odd || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
                    return Err(source.wrong(
                        entry.span(),
                        format!(
                            "found `{name}`, expected a new name of letters, digits, `-`, `_`, `.`"
                        ),
                    ));
                }
                names.push(name);
            }
            names
        }
    };
    if names.is_empty() || names.len() > max {
        return Err(source.wrong(written.span(), format!("expected between 1 and {max} {what}")));
    }
    Ok(names)
}

fn timing(source: &Source<'_>, written: &File) -> Result<Timing, ScenarioError> {
    let value = |given: &Option<Spanned<super::text::Written<Duration>>>, default| {
        given.as_ref().map_or(Duration::from_millis(default), |given| given.get_ref().0)
    };
    let timing = Timing {
        heartbeat: value(&written.timing.heartbeat, 100),
        failure_timeout: value(&written.timing.failure_timeout, 400),
        mature: written.timing.mature.map_or(Duration::from_secs(2), |mature| mature.0),
    };
    if timing.heartbeat < Duration::from_millis(1) {
        let span = written.timing.heartbeat.as_ref().map_or(0..0, Spanned::span);
        return Err(source.wrong(span, "expected a heartbeat of at least `1ms`"));
    }
    if timing.failure_timeout < 3 * timing.heartbeat {
        let span = written.timing.failure_timeout.as_ref().or(written.timing.heartbeat.as_ref());
        return Err(source.wrong(
            span.map_or(0..0, Spanned::span),
            "expected a failure_timeout of at least three heartbeats",
        ));
    }
    Ok(timing)
}

fn latency(source: &Source<'_>, written: &File) -> Result<Span, ScenarioError> {
    let Some(latency) = &written.network.latency else {
        return Ok(Span::exactly(Duration::from_millis(1)));
    };
    whole_milliseconds(source, latency.span(), latency.get_ref().0)
}

/// turmoil's network has a grain of one tick, 1 ms.
fn whole_milliseconds(
    source: &Source<'_>,
    at: Range<usize>,
    span: Span,
) -> Result<Span, ScenarioError> {
    let fits = |d: Duration| d >= Duration::from_millis(1) && d.as_micros().is_multiple_of(1000);
    if fits(span.min) && fits(span.max) {
        return Ok(span);
    }
    Err(source.wrong(at, "expected a latency of whole milliseconds, at least `1ms`"))
}

fn ratio(source: &Source<'_>, at: Range<usize>, ratio: f64) -> Result<f64, ScenarioError> {
    if (0.0..=1.0).contains(&ratio) {
        return Ok(ratio);
    }
    Err(source.wrong(at, format!("found `{ratio}`, expected a number from 0 to 1")))
}

fn wires(source: &Source<'_>, written: &File, latency: Span) -> Result<Impairment, ScenarioError> {
    let network = &written.network;
    let probability = |given: &Option<Spanned<f64>>| match given {
        Some(given) => ratio(source, given.span(), *given.get_ref()),
        None => Ok(0.0),
    };
    let default = Impairment::default();
    Ok(Impairment {
        loss: probability(&network.loss)?,
        duplicate: probability(&network.duplicate)?,
        reorder: probability(&network.reorder)?,
        corrupt: probability(&network.corrupt)?,
        extra_delay: Span { min: Duration::ZERO, max: latency.max - latency.min },
        reorder_delay: network.reorder_delay.map_or(default.reorder_delay, |delay| delay.0),
    })
}

fn nodes(
    source: &Source<'_>,
    written: &File,
    known: &Known,
    heartbeat: Duration,
) -> Result<Vec<NodeSpec>, ScenarioError> {
    // Machines that start together still do not beat together.
    let at_once = Span { min: Duration::ZERO, max: heartbeat };
    let mut nodes: Vec<NodeSpec> = known
        .nodes
        .iter()
        .map(|name| NodeSpec {
            name: name.clone(),
            weight: 1,
            witness: false,
            drift_ppm: 0,
            start: Some(at_once),
            fences: safety::fences_of(&written.fences),
        })
        .collect();
    for (name, special) in &written.node {
        let node = &mut nodes[known.node(source, &name.span(), name.get_ref())?];
        if let Some(weight) = &special.weight {
            node.weight = *weight.get_ref();
        }
        node.witness = special.witness;
        let fences = &mut node.fences;
        fences.gate = special.gate.unwrap_or(fences.gate);
        fences.guardian = special.guardian.unwrap_or(fences.guardian);
        fences.lifetime = special.lifetime.unwrap_or(fences.lifetime);
        node.drift_ppm = special.drift.map_or(0, |drift| drift.0.0);
        node.start = match special.start.as_ref().map(Spanned::get_ref) {
            None => node.start,
            Some(Start::At(at)) => Some(*at),
            Some(Start::Never) => None,
        };
    }
    Ok(nodes)
}

fn vips(source: &Source<'_>, written: &File, known: &Known) -> Result<Vec<VipSpec>, ScenarioError> {
    let mut addresses: Vec<Option<Vec<VipAddress>>> = vec![None; known.vips.len()];
    let mut prefer = vec![Vec::new(); known.vips.len()];
    for (name, special) in &written.vip {
        let vip = known.vip(source, &name.span(), name.get_ref())?;
        for node in &special.prefer {
            prefer[vip].push(known.node(source, &node.span(), node.get_ref())?);
        }
        if let Some(list) = &special.addresses {
            let parsed: Result<Vec<_>, _> =
                list.iter().map(|text| vip_address(source, text)).collect();
            addresses[vip] = Some(parsed?).filter(|list| !list.is_empty());
        }
    }
    let default = |index: usize| VipAddress {
        address: IpAddr::V4(Ipv4Addr::new(
            10,
            77,
            1 + (index / 250) as u8,
            (index % 250 + 1) as u8,
        )),
        prefix: 32,
        interface: "eth0".to_owned(),
    };
    let all = known.vips.iter().zip(addresses).zip(prefer).enumerate();
    Ok(all
        .map(|(index, ((name, addresses), prefer))| {
            let addresses = addresses.unwrap_or_else(|| vec![default(index)]);
            VipSpec { vip: Arc::new(Vip::new(name.clone(), addresses)), prefer }
        })
        .collect())
}

fn vip_address(source: &Source<'_>, text: &Spanned<String>) -> Result<VipAddress, ScenarioError> {
    let parse = || {
        let (address, interface) = text.get_ref().split_once('@')?;
        let (address, prefix) = match address.split_once('/') {
            Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, prefix.parse().ok()?),
            None => {
                let address: IpAddr = address.parse().ok()?;
                (address, if address.is_ipv4() { 32 } else { 128 })
            }
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let fits = prefix <= longest && !interface.is_empty();
        fits.then(|| VipAddress { address, prefix, interface: interface.to_owned() })
    };
    parse().ok_or_else(|| {
        let message =
            format!("found `{}`, expected an address such as `10.77.2.1/24@eth0`", text.get_ref());
        source.wrong(text.span(), message)
    })
}
