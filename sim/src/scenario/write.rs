//! A scenario as the text of a file. What is as it is by default is left out.

use core::fmt::{Display, Write as _};

use wackamole_protocol::config::QuorumKind;
use wackamole_protocol::time::Duration;

use super::schema::ChaosFault;
use super::text::duration_text;
use super::{Anchor, Expectation, MovesMax, Promise, Scenario, StepSpec, ViewSize, policy_word};
use crate::fault::Fault;
use crate::fences::FenceSpec;
use crate::links::Station;
use crate::netem::{Impairment, Knob};
use crate::rng::Span;
use crate::segment::{Net, SabotageKind};

/// Writes it.
pub(super) fn write(scenario: &Scenario) -> String {
    let mut text = Text { scenario, out: String::new(), section: None };
    text.head();
    text.sections();
    text.nodes_and_vips();
    for step in &scenario.steps {
        text.step(step);
    }
    text.chaos();
    text.expect();
    text.out
}

struct Text<'a> {
    scenario: &'a Scenario,
    out: String,
    /// The section that is written next, until it has an entry.
    section: Option<String>,
}

impl Text<'_> {
    /// Begins a section, which appears with its first entry.
    fn section(&mut self, header: impl Into<String>) {
        self.section = Some(header.into());
    }

    fn entry(&mut self, key: &str, value: impl Display) {
        if let Some(header) = self.section.take() {
            let _ = writeln!(self.out, "\n{header}");
        }
        let _ = writeln!(self.out, "{key} = {value}");
    }

    fn entry_if(&mut self, condition: bool, key: &str, value: impl Display) {
        if condition {
            self.entry(key, value);
        }
    }

    fn head(&mut self) {
        let scenario = self.scenario;
        self.entry("title", quoted(&scenario.title));
        self.entry_if(!scenario.story.is_empty(), "story", quoted(&scenario.story));
        self.entry("nodes", list(scenario.nodes.iter().map(|node| &node.name)));
        self.entry("vips", list(scenario.vips.iter().map(|vip| vip.vip.name())));
        self.entry("clients", list(&scenario.clients));
        self.entry("duration", time(scenario.duration));
        match scenario.seed {
            Some(seed) => self.entry("seed", seed),
            None => self.entry("seeds", scenario.seeds),
        }
        let policies = scenario.policies.iter().map(|&policy| policy_word(policy));
        self.entry_if(!scenario.policies.is_empty(), "policies", list(policies));
    }

    fn sections(&mut self) {
        let scenario = self.scenario;
        let default = Impairment::default();
        self.section("[network]");
        self.entry("latency", span(scenario.latency));
        let wires = &scenario.wires;
        for (key, ratio) in [
            ("loss", wires.loss),
            ("duplicate", wires.duplicate),
            ("reorder", wires.reorder),
            ("corrupt", wires.corrupt),
        ] {
            self.entry_if(ratio > 0.0, key, ratio);
        }
        let delay = wires.reorder_delay;
        self.entry_if(delay != default.reorder_delay, "reorder_delay", span(delay));
        self.entry_if(scenario.spells_of_loss, "spells_of_loss", true);
        self.entry("neighbour_timeout", time(scenario.neighbour_timeout));
        self.entry_if(scenario.multicast, "multicast", true);
        self.entry_if(scenario.own_segment, "segment", "\"own\"");
        self.entry_if(scenario.proxy_arp, "proxy_arp", true);

        self.section("[addresses]");
        self.entry("operation", span(scenario.operation));
        self.entry("sync", span(scenario.sync));

        self.section("[timing]");
        self.entry("heartbeat", time(scenario.timing.heartbeat));
        self.entry("failure_timeout", time(scenario.timing.failure_timeout));
        self.entry("mature", time(scenario.timing.mature));

        let safety = &scenario.safety;
        self.section("[safety]");
        self.entry("partition", quoted(policy_word(safety.partition)));
        self.entry_if(safety.quorum == QuorumKind::Static, "quorum", "\"static\"");
        self.entry_if(safety.min_quorum != 1, "min_quorum", safety.min_quorum);
        self.entry_if(scenario.must_reach.is_some(), "must_reach", true);
        if let Some(wait) = safety.lan_wait_max {
            self.entry("lan_wait_max", time(wait));
        }
        self.entry("drift", format!("\"{}ppm\"", safety.drift_ppm));
        if let Some(margin) = scenario.release_margin {
            self.entry("release_margin", time(margin));
        }

        self.section("[fences]");
        self.entry("respawn", scenario.fences.respawn.map_or_else(never, span));
        self.entry("supervisor", scenario.fences.supervisor.map_or_else(never, span));
        if let Some((takes, fails)) = scenario.fences.command {
            self.entry("command", span(takes));
            self.entry_if(fails > 0.0, "command_fails", fails);
        }

        self.section("[balance]");
        if let Some(moves) = scenario.balance.moves_per_round {
            self.entry("moves_per_round", moves);
        }
        self.entry("interval", time(scenario.balance.interval));
    }

    fn nodes_and_vips(&mut self) {
        let scenario = self.scenario;
        for node in &scenario.nodes {
            self.section(format!("[node.{}]", key(&node.name)));
            self.entry_if(node.weight != 1, "weight", node.weight);
            self.entry_if(node.witness, "witness", true);
            self.entry_if(node.drift_ppm != 0, "drift", format!("\"{:+}ppm\"", node.drift_ppm));
            self.entry("start", node.start.map_or_else(never, span));
            let FenceSpec { gate, guardian, lifetime } = node.fences;
            for (key, has) in [("gate", gate), ("guardian", guardian), ("lifetime", lifetime)] {
                self.entry_if(!has, key, false);
            }
        }
        for vip in &scenario.vips {
            self.section(format!("[vip.{}]", key(vip.vip.name())));
            let addresses = vip.vip.addresses().iter();
            let addresses =
                addresses.map(|a| format!("{}/{}@{}", a.address, a.prefix, a.interface));
            self.entry("addresses", list(addresses));
            let prefer = vip.prefer.iter().map(|&node| &scenario.nodes[node].name);
            self.entry_if(!vip.prefer.is_empty(), "prefer", list(prefer));
        }
    }

    fn step(&mut self, step: &StepSpec) {
        self.section("[[step]]");
        if let Some(name) = &step.name {
            self.entry("name", quoted(name));
        }
        self.entry("at", span(step.at));
        if step.times > 1 {
            self.entry("every", span(step.every));
            self.entry("times", step.times);
        }
        let (key, value) = self.fault(&step.fault);
        self.entry(key, value);
    }

    /// The key of a step and its value.
    fn fault(&self, fault: &Fault) -> (&'static str, String) {
        let names = self.scenario.station_names();
        let name = |station: Station| quoted(&names[station]);
        let vip = |vip: usize| quoted(self.scenario.vips[vip].vip.name());
        let those = |stations: &[Station]| list(stations.iter().map(|&station| &names[station]));
        let here = |net: Net, daemons, segment| if net == Net::Segment { segment } else { daemons };
        match fault {
            Fault::PowerLoss(nodes) => ("power_loss", those(nodes)),
            Fault::Kill(nodes) => ("kill", those(nodes)),
            Fault::Restart(nodes) => ("restart", those(nodes)),
            Fault::Stop(nodes) => ("stop", those(nodes)),
            Fault::Pause(nodes) => ("pause", those(nodes)),
            Fault::Resume(nodes) => ("resume", those(nodes)),
            Fault::KillGuardian(nodes) => ("kill_guardian", those(nodes)),
            Fault::PauseGuardian(nodes) => ("pause_guardian", those(nodes)),
            Fault::ResumeGuardian(nodes) => ("resume_guardian", those(nodes)),
            Fault::PauseMachine(nodes) => ("pause_machine", those(nodes)),
            Fault::ResumeMachine(nodes) => ("resume_machine", those(nodes)),
            Fault::DiskLost(nodes) => ("disk_lost", those(nodes)),
            Fault::ForcePrimary(nodes) => ("force_primary", those(nodes)),
            Fault::PortDead(_, nodes) => ("port_dead", those(nodes)),
            Fault::CarrierLost(_, nodes) => ("carrier_lost", those(nodes)),
            Fault::PortBack(_, nodes) => ("port_back", those(nodes)),
            Fault::Partition(net, groups) => {
                let groups: Vec<String> = groups.iter().map(|group| those(group)).collect();
                let groups = format!("[{}]", groups.join(", "));
                (here(*net, "partition", "partition_segment"), groups)
            }
            Fault::Cut { net, from, to } => {
                let pair = format!("{{ from = {}, to = {} }}", name(*from), name(*to));
                (here(*net, "cut", "cut_segment"), pair)
            }
            Fault::HealAll(net) => (here(*net, "heal", "heal_segment"), quoted("all")),
            Fault::Heal(net, stations) => (here(*net, "heal", "heal_segment"), those(stations)),
            Fault::Impair { link, knob, ratio } => {
                let key = match knob {
                    Knob::Loss => "loss",
                    Knob::Duplicate => "duplicate",
                    Knob::Reorder => "reorder",
                    Knob::Corrupt => "corrupt",
                };
                let value = match link {
                    None => ratio.to_string(),
                    Some((from, to)) => {
                        let (from, to) = (name(*from), name(*to));
                        format!("{{ ratio = {ratio}, from = {from}, to = {to} }}")
                    }
                };
                (key, value)
            }
            Fault::Latency(latency) => ("latency", span(*latency)),
            Fault::Drift { node, ppm } => {
                ("drift", format!("{{ node = {}, ppm = {ppm} }}", name(*node)))
            }
            Fault::AddressError { node, vip: of, kind, lasts } => {
                let kind = match kind {
                    SabotageKind::Fail => "fail",
                    SabotageKind::Hang => "hang",
                };
                let lasts = lasts.map_or_else(String::new, |d| format!(", for = {}", time(d)));
                let (node, of) = (name(*node), vip(*of));
                let value = format!("{{ node = {node}, vip = {of}, kind = \"{kind}\"{lasts} }}");
                ("address_error", value)
            }
            Fault::FlushAddress { node, vip: of } => {
                let node = node.map_or_else(String::new, |n| format!("node = {}, ", name(n)));
                ("flush_address", format!("{{ {node}vip = {} }}", vip(*of)))
            }
        }
    }

    fn chaos(&mut self) {
        let Some(chaos) = &self.scenario.chaos else { return };
        self.section("[chaos]");
        self.entry("from", time(chaos.from));
        self.entry("until", time(chaos.until));
        self.entry("every", span(chaos.every));
        self.entry("faults", list(chaos.faults.iter().map(|&kind| chaos_word(kind))));
    }

    /// Expectations of the same anchor, policies and clients share a section, until a key would come twice.
    fn expect(&mut self) {
        let mut before: Option<(&Expectation, Vec<&str>)> = None;
        for expectation in &self.scenario.expect {
            let Expectation { after, policies, clients, promise } = expectation;
            let joins = before.as_ref().is_some_and(|(last, keys)| {
                let same =
                    (&last.after, &last.policies, &last.clients) == (after, policies, clients);
                same && !keys.contains(&promise.key())
            });
            if !joins {
                self.section("[[expect]]");
                self.entry_if(*after != Anchor::LastFault, "after", quoted(after.text()));
                let words = policies.iter().map(|&policy| policy_word(policy));
                self.entry_if(!policies.is_empty(), "policies", list(words));
                let names = clients.iter().map(|&client| &self.scenario.clients[client]);
                self.entry_if(!clients.is_empty(), "clients", list(names));
            }
            self.entry(promise.key(), self::promise(promise, self.scenario));
            let mut keys = before.filter(|_| joins).map_or_else(Vec::new, |(_, keys)| keys);
            keys.push(promise.key());
            before = Some((expectation, keys));
        }
        let allow = &self.scenario.allow;
        self.section("[allow]");
        let overlap = allow.unattended_overlap;
        self.entry_if(!overlap.is_zero(), "unattended_overlap", time(overlap));
        let uncovered = allow.uncovered.iter().map(|&vip| self.scenario.vips[vip].vip.name());
        self.entry_if(!allow.uncovered.is_empty(), "uncovered", list(uncovered));
    }
}

/// The value of an expectation's key.
pub(super) fn promise(promise: &Promise, scenario: &Scenario) -> String {
    let node = |node: usize| &scenario.nodes[node].name;
    let table = |entries: Vec<String>| format!("{{ {} }}", entries.join(", "));
    match promise {
        Promise::CoveredWithin(measure)
        | Promise::BalancedWithin(measure)
        | Promise::InterruptionMax(measure)
        | Promise::OverlapMax(measure)
        | Promise::QuietFor(measure) => quoted(&measure.to_string()),
        Promise::MovesMax(MovesMax::Total(count)) => count.to_string(),
        Promise::MovesMax(MovesMax::PerVip(count)) => quoted(&format!("{count} per vip")),
        Promise::ViewSize(ViewSize::Every(size)) => size.to_string(),
        Promise::ViewSize(ViewSize::Of(sizes)) => {
            table(sizes.iter().map(|&(of, size)| format!("{} = {size}", key(node(of)))).collect())
        }
        Promise::Holder(holders) => {
            let vip = |vip: usize| key(scenario.vips[vip].vip.name());
            let pair =
                |&(of, holder): &(usize, usize)| format!("{} = {}", vip(of), quoted(node(holder)));
            table(holders.iter().map(pair).collect())
        }
    }
}

/// A kind of random fault as it is written.
pub(crate) fn chaos_word(kind: ChaosFault) -> &'static str {
    match kind {
        ChaosFault::PowerLoss => "power-loss",
        ChaosFault::Kill => "kill",
        ChaosFault::Stop => "stop",
        ChaosFault::Restart => "restart",
        ChaosFault::Pause => "pause",
        ChaosFault::Partition => "partition",
        ChaosFault::Cut => "cut",
        ChaosFault::Heal => "heal",
        ChaosFault::FlushAddress => "flush-address",
        ChaosFault::PortDead => "port-dead",
        ChaosFault::PartitionSegment => "partition-segment",
        ChaosFault::KillGuardian => "kill-guardian",
        ChaosFault::PauseGuardian => "pause-guardian",
        ChaosFault::KillBoth => "kill-both",
        ChaosFault::PauseBoth => "pause-both",
        ChaosFault::PauseMachine => "pause-machine",
        ChaosFault::Loss => "loss",
        ChaosFault::CarrierLost => "carrier-lost",
        ChaosFault::AddressTrouble => "address-trouble",
        ChaosFault::DiskLost => "disk-lost",
        ChaosFault::RollingRestart => "rolling-restart",
        ChaosFault::ForcePrimary => "force-primary",
    }
}

/// A string of TOML, which is written like one of Rust where nothing unusual is in it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A name as part of a section's header.
fn key(name: &str) -> String {
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { name.to_owned() } else { quoted(name) }
}

fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| quoted(name.as_ref())).collect();
    format!("[{}]", names.join(", "))
}

fn time(duration: Duration) -> String {
    format!("\"{}\"", duration_text(duration))
}

fn span(Span { min, max }: Span) -> String {
    if min == max {
        time(min)
    } else {
        format!("\"{}..{}\"", duration_text(min), duration_text(max))
    }
}

fn never() -> String {
    quoted("never")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::plan::{plan, spell_out};
    use super::*;

    fn all() -> Vec<Scenario> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        Scenario::load_all(&[folder]).expect("good scenarios")
    }

    fn reread(scenario: &Scenario) -> Scenario {
        let text = scenario.text();
        let mut read = Scenario::parse(&scenario.file, &text)
            .unwrap_or_else(|error| panic!("{}: {error}\n{text}", scenario.name));
        read.name.clone_from(&scenario.name);
        read
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        for scenario in all() {
            assert_eq!(format!("{:#?}", reread(&scenario)), format!("{scenario:#?}"));
        }
    }

    #[test]
    fn every_kind_of_expectation_is_written_as_it_is_read() {
        let text = r#"
            title = "everything that can be expected"
            nodes = 3
            vips = 2
            clients = ["left", "right"]
            duration = "20s"
            [[step]]
            name = "a \"good\" name"
            at = "5s"
            kill = "a"
            [[expect]]
            after = "start"
            policies = ["component", "lan"]
            clients = ["right"]
            covered_within = "maturity + 1.5 heartbeats + 20ms"
            balanced_within = "2 * balance_interval"
            interruption_max = "failover"
            overlap_max = "0s"
            moves_max = "2 per vip"
            view_size = { b = 2, c = 2 }
            holder = { v1 = "b", v2 = "c" }
            quiet_for = "1s"
            [[expect]]
            after = "a \"good\" name"
            moves_max = 3
            view_size = 2
            [[expect]]
            moves_max = 4
            [[expect]]
            moves_max = 5
            [allow]
            unattended_overlap = "1s"
            uncovered = ["v2"]
        "#;
        let scenario = Scenario::parse("everything.toml", text).expect("a good file");
        assert_eq!(scenario.expect.len(), 12);
        let reread = reread(&scenario);
        assert_eq!(format!("{reread:#?}"), format!("{scenario:#?}"));
        assert_eq!(reread.text(), scenario.text());
    }

    #[test]
    fn spelt_out_it_takes_the_same_course() {
        for scenario in all() {
            for seed in 1..=3 {
                let plain = reread(&spell_out(&scenario, seed));
                assert!(plain.chaos.is_none());
                assert_eq!(plan(&plain, seed), plan(&scenario, seed), "{}", scenario.name);
            }
        }
    }
}
