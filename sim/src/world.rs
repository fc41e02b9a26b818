//! One run: a scenario with one seed, from the first tick to the last.
//!
//! The world owns turmoil's simulation and the schedule. Its loop applies the faults that are due, lets every machine run
//! for one tick, and has the checkers look. `World::apply` is the only place where anything is done to the world, so
//! turmoil and the segment are always told together.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::SystemTime;

use wackamole_protocol::config::{
    ClusterKey, NodeConfig, NodeDefinition, Partition, Safety, VipDefinition,
};
use wackamole_protocol::event::Event;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::time::Duration;

use crate::addresses::{FenceCommand, Pace};
use crate::bounds::Bounds;
use crate::check::{Checks, Findings, Glance, Measurements};
use crate::clients::{Clients, Interruption};
use crate::connectivity::Connectivity;
use crate::fault::Fault;
use crate::fences::{Fences, Order};
use crate::journal::{Entry, KernelChange, What};
use crate::machine::{Machine, Parts};
use crate::network::{PORT, node_address};
use crate::panics;
use crate::rng::{Rng, Span};
use crate::scenario::Scenario;
use crate::scenario::plan::plan;
use crate::segment::{Daemon, Mail, News, Sabotage, Segment, SharedSegment, machine_rng};
use crate::signs::Signs;

/// turmoil's grain; must be whole milliseconds, because tokio's timers are.
const TICK: Duration = Duration::from_millis(1);

/// Enough for everything that comes in while a daemon is paused; turmoil drops what exceeds it without a word.
const UDP_CAPACITY: usize = 65_536;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Everything that happened, by time.
    pub entries: Vec<Entry>,
    /// Every time that a client was without an answer.
    pub interruptions: Vec<Interruption>,
    /// What the checkers measured.
    pub measurements: Measurements,
    /// How long the world was simulated.
    pub simulated: Duration,
}

impl Outcome {
    /// The broken promises: checker and sentence.
    pub fn violations(&self) -> impl Iterator<Item = (Duration, &'static str, &str)> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            What::Violation { check, text } => Some((entry.at, *check, text.as_str())),
            _ => None,
        })
    }

    /// No promise was broken.
    pub fn is_good(&self) -> bool {
        self.violations().next().is_none()
    }
}

/// Runs a scenario with a seed. With `datagrams` the journal records every one of them.
pub fn run(scenario: &Scenario, seed: u64, datagrams: bool) -> Outcome {
    let mut world = World::new(scenario, seed);
    world.segment.borrow_mut().journal.with_datagrams = datagrams;
    world.run();
    let outcome = world.finish();
    panics::unwatch();
    outcome
}

struct World<'a> {
    scenario: &'a Scenario,
    seed: u64,
    bounds: Bounds,
    sim: turmoil::Sim<'static>,
    segment: SharedSegment,
    machines: Vec<Rc<Machine>>,
    schedule: VecDeque<(Duration, Fault)>,
    /// Which node reaches which over turmoil's links, by sender and receiver.
    wired: Vec<bool>,
    /// Daemons that are to start: at this time, and not before their guardian is done.
    starting: Vec<Option<Duration>>,
    /// Draws what happens without the scenario's doing.
    rng: Rng,
    connectivity: Connectivity,
    checks: Checks,
    looked_at: usize,
    seen_version: u64,
    disturbances: Vec<Duration>,
    wires_calm_since: Duration,
    curious: Vec<bool>,
    broken: bool,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Self {
        panics::watch();
        let nodes = scenario.nodes.len();
        let mut sim = turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH)
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(scenario.duration)
            .min_message_latency(scenario.latency.min)
            .max_message_latency(scenario.latency.min)
            .udp_capacity(UDP_CAPACITY)
            .build();
        let clients = Clients::new(
            scenario.clients.len(),
            scenario.vips.len(),
            scenario.neighbour_timeout,
            seed,
        );
        let segment = Rc::new(RefCell::new(Segment::new(
            nodes,
            scenario.vips.len(),
            clients,
            scenario.wires,
            scenario.latency.min,
            seed,
        )));
        let names = Rc::new(scenario.nodes.iter().map(|node| node.name.clone()).collect());
        let fence = scenario.fences.command.map(|(takes, fails)| FenceCommand {
            takes,
            fails,
            names: Rc::clone(&names),
        });
        let parts =
            Parts { pace: Pace { operation: scenario.operation, fence }, sync: scenario.sync };
        let machines: Vec<Rc<Machine>> = (0..nodes)
            .map(|node| {
                let config = node_config(scenario, node);
                let rng = machine_rng(seed, node);
                Rc::new(Machine::new(node, config, parts.clone(), Rc::clone(&segment), rng))
            })
            .collect();
        {
            let mut segment = segment.borrow_mut();
            let fences = machines.iter().zip(&scenario.nodes);
            let fences = fences.map(|(m, spec)| (spec.fences, Rc::clone(&m.oscillator))).collect();
            segment.fences = Fences::new(fences, scenario.fences.respawn, seed);
            segment.air.proxy = scenario.proxy_arp;
            if scenario.safety.partition == Partition::Lan {
                let timing = scenario.timing;
                segment.signs = Some(Signs::new(nodes, timing.silence(), timing.heartbeat / 2));
            }
        }
        for (node, machine) in machines.iter().enumerate() {
            let mut oscillator = machine.oscillator.get();
            oscillator.set_drift(Duration::ZERO, scenario.nodes[node].drift_ppm);
            machine.oscillator.set(oscillator);
            let machine = Rc::clone(machine);
            sim.host(IpAddr::V4(node_address(node)), move || {
                let machine = Rc::clone(&machine);
                let gate = Rc::clone(&machine.gate);
                crate::gate::Gated::new(machine.daemon(), gate)
            });
            // turmoil starts every host at once; the plan says when a machine is switched on.
            sim.crash(IpAddr::V4(node_address(node)));
        }
        let bounds = Bounds::of(scenario);
        let patience = scenario.timing.failure_timeout.saturating_sub(scenario.timing.heartbeat);
        Self {
            scenario,
            seed,
            bounds,
            sim,
            segment,
            machines,
            schedule: plan(scenario, seed).into(),
            wired: vec![true; nodes * nodes],
            starting: vec![None; nodes],
            rng: Rng::new(seed, "world"),
            connectivity: Connectivity::new(nodes, patience),
            checks: Checks::new(scenario),
            looked_at: 0,
            seen_version: u64::MAX,
            disturbances: Vec::new(),
            wires_calm_since: Duration::ZERO,
            curious: vec![false; nodes],
            broken: false,
        }
    }

    fn run(&mut self) {
        while self.sim.elapsed() < self.scenario.duration && !self.broken {
            while self.schedule.front().is_some_and(|(at, _)| *at <= self.sim.elapsed()) {
                if let Some((_, fault)) = self.schedule.pop_front() {
                    self.apply(&fault);
                }
            }
            self.start_whoever_may();
            self.tick();
        }
    }

    /// Lets every machine run for one tick, then looks.
    fn tick(&mut self) {
        let result = self.sim.step();
        let now = self.sim.elapsed();
        let panicked = panics::take();
        if result.is_err() || panicked.is_some() {
            let error = result.err().map(|error| error.to_string());
            let text = panicked.or(error).unwrap_or_default();
            self.record(now, Findings { entries: vec![What::Violation { check: "panic", text }] });
            self.broken = true;
        }
        let orders = self.segment.borrow_mut().step(now);
        for order in orders {
            self.carry_out(order);
        }
        let fenced = std::mem::take(&mut self.segment.borrow_mut().fenced);
        for node in fenced {
            self.disturbances.push(now);
            self.power_loss(node);
        }
        let burst = self.connectivity.refresh(now, &self.segment.borrow());
        if burst {
            self.disturbances.push(now);
            self.wires_calm_since = now;
        }
        let version = self.segment.borrow().version();
        let changed = burst || version != self.seen_version;
        self.seen_version = version;
        self.segment.borrow_mut().refresh_clients(now, changed);
        self.ask_the_curious(now);
        self.look(now, changed);
    }

    fn look(&mut self, now: Duration, changed: bool) {
        let findings = {
            let segment = self.segment.borrow();
            let fresh = segment.journal.since(self.looked_at);
            for entry in fresh {
                if let What::Daemon {
                    node,
                    event: Event::ViewInstalled { .. } | Event::Assigned { .. },
                } = entry.what
                {
                    self.curious[node] = true;
                }
            }
            self.looked_at = segment.journal.len();
            let glance = glance(
                now,
                self.scenario,
                &self.bounds,
                &segment,
                &self.connectivity,
                fresh,
                changed,
                (&self.disturbances, self.wires_calm_since),
            );
            self.checks.step(&glance)
        };
        self.record(now, findings);
    }

    /// Daemons that have news are asked for their status, and answer a tick later.
    fn ask_the_curious(&mut self, now: Duration) {
        for node in 0..self.machines.len() {
            if let Some(status) = self.machines[node].answer() {
                let findings = self.checks.status(node, &status);
                self.record(now, findings);
            }
            if std::mem::take(&mut self.curious[node]) {
                self.machines[node].ask_status();
            }
        }
    }

    fn record(&mut self, now: Duration, findings: Findings) {
        let mut segment = self.segment.borrow_mut();
        for what in findings.entries {
            segment.journal.push(now, what);
        }
    }

    /// Does something to the world.
    fn apply(&mut self, fault: &Fault) {
        let now = self.sim.elapsed();
        let stations = self.scenario.station_names();
        let text = fault.describe(&stations, &self.scenario.vip_names());
        let entry = What::Fault { text, nodes: fault.nodes() };
        self.segment.borrow_mut().journal.push(now, entry);
        self.disturbances.push(now);
        match fault {
            Fault::PowerLoss(nodes) => nodes.iter().for_each(|&node| self.power_loss(node)),
            Fault::Kill(nodes) => nodes.iter().for_each(|&node| self.kill(node)),
            Fault::Restart(nodes) => nodes.iter().for_each(|&node| self.restart(node)),
            Fault::Stop(nodes) => nodes.iter().for_each(|&node| self.stop(node)),
            Fault::Pause(nodes) => nodes.iter().for_each(|&node| self.pause(node)),
            Fault::Resume(nodes) => nodes.iter().for_each(|&node| self.resume(node)),
            Fault::KillGuardian(nodes) => {
                let fences = &mut self.segment.borrow_mut().fences;
                nodes.iter().for_each(|&node| fences.kill_guardian(node));
            }
            Fault::PauseGuardian(nodes) => {
                let fences = &mut self.segment.borrow_mut().fences;
                nodes.iter().for_each(|&node| fences.pause_guardian(node));
            }
            Fault::ResumeGuardian(nodes) => {
                let fences = &mut self.segment.borrow_mut().fences;
                nodes.iter().for_each(|&node| fences.resume_guardian(node));
            }
            Fault::PauseMachine(nodes) => nodes.iter().for_each(|&node| self.freeze(node)),
            Fault::ResumeMachine(nodes) => nodes.iter().for_each(|&node| self.thaw(node)),
            Fault::DiskLost(nodes) => {
                for &node in nodes {
                    self.machines[node].lose_disk();
                    self.segment.borrow_mut().disk_lost[node] = Some(now);
                }
            }
            Fault::Partition(..)
            | Fault::Cut { .. }
            | Fault::HealAll(_)
            | Fault::Heal(..)
            | Fault::PortDead(..)
            | Fault::CarrierLost(..)
            | Fault::PortBack(..) => {
                self.wires_calm_since = now;
                self.rewire(fault);
            }
            Fault::Impair { link, knob, ratio } => {
                self.wires_calm_since = now;
                self.segment.borrow_mut().netem.set(*link, *knob, *ratio);
            }
            Fault::Latency(latency) => self.set_latency(*latency),
            Fault::Drift { node, ppm } => {
                let machine = &self.machines[*node];
                let mut oscillator = machine.oscillator.get();
                oscillator.set_drift(now, *ppm);
                machine.oscillator.set(oscillator);
            }
            Fault::AddressError { node, vip, kind, lasts } => {
                let until = lasts.map(|lasts| now + lasts);
                let sabotage = Sabotage { node: *node, vip: *vip, kind: *kind, until };
                self.segment.borrow_mut().sabotage.push(sabotage);
            }
            Fault::FlushAddress { node, vip } => {
                let mut segment = self.segment.borrow_mut();
                let places: Vec<usize> = match node {
                    Some(node) => vec![*node],
                    None => segment.kernels.holders(*vip).collect(),
                };
                for node in places {
                    segment.delete(now, node, *vip);
                }
            }
        }
    }

    fn kill(&mut self, node: usize) {
        let daemon = self.segment.borrow().daemons[node];
        if matches!(daemon, Daemon::Running(_) | Daemon::Paused(_) | Daemon::Frozen(_)) {
            self.sim.crash(IpAddr::V4(node_address(node)));
            self.machines[node].forget_daemon();
            self.segment.borrow_mut().set_daemon(node, Daemon::Killed);
        }
    }

    fn stop(&mut self, node: usize) {
        self.machines[node].stop();
        self.segment.borrow_mut().leaving[node] = true;
    }

    fn power_loss(&mut self, node: usize) {
        let now = self.sim.elapsed();
        self.kill(node);
        self.starting[node] = None;
        self.set_clock_stopped(node, false);
        let mut segment = self.segment.borrow_mut();
        segment.power_off(now, node);
        segment.set_daemon(node, Daemon::Off);
    }

    fn restart(&mut self, node: usize) {
        self.kill(node);
        self.starting[node] = Some(self.sim.elapsed());
    }

    /// Whoever is to start does so once its time has come and the guardian of its predecessor is done.
    fn start_whoever_may(&mut self) {
        let now = self.sim.elapsed();
        for node in 0..self.machines.len() {
            if self.starting[node].is_none_or(|at| at > now) {
                continue;
            }
            let waits = {
                let segment = self.segment.borrow();
                let frozen = segment.kernels.powered(node) && !segment.kernels.runs(node);
                frozen || segment.fences.guarded(node)
            };
            if !waits {
                self.starting[node] = None;
                self.disturbances.push(now);
                self.start(node);
            }
        }
    }

    fn start(&mut self, node: usize) {
        {
            let mut segment = self.segment.borrow_mut();
            if !segment.kernels.powered(node) {
                segment.kernels.power_on(node);
            }
            segment.daemon_starts(self.sim.elapsed(), node);
        }
        self.machines[node].forget_daemon();
        self.sim.bounce(IpAddr::V4(node_address(node)));
    }

    /// Does what a fence wants done.
    fn carry_out(&mut self, order: Order) {
        let now = self.sim.elapsed();
        match order {
            Order::Expire(node) => {
                self.segment.borrow_mut().clear(now, node, KernelChange::Expired);
            }
            Order::Unguarded(node) => {
                let mut segment = self.segment.borrow_mut();
                let why = Some("its guardian is gone and cannot be replaced");
                segment.journal.push(now, What::Unguarded { node });
                segment.tell(node, News::Servable(why));
            }
            Order::Guard(node) => self.guard(node),
        }
        self.disturbances.push(now);
    }

    /// What a guardian does: it makes sure that the daemon is dead, removes everything, and tells the peers.
    fn guard(&mut self, node: usize) {
        let now = self.sim.elapsed();
        let killed = self.segment.borrow().daemons[node] != Daemon::Killed;
        self.kill(node);
        let mut segment = self.segment.borrow_mut();
        segment.journal.push(now, What::Guarded { node, killed });
        segment.clear(now, node, KernelChange::Guarded);
        for bytes in self.machines[node].leaves() {
            for peer in (0..self.machines.len()).filter(|&peer| peer != node) {
                segment.post(now, peer, Mail { from: node, bytes: bytes.clone() });
            }
        }
        if let Some(supervisor) = self.scenario.fences.supervisor.filter(|_| killed) {
            self.starting[node].get_or_insert(now + supervisor.draw_ticks(&mut self.rng));
        }
    }

    fn pause(&mut self, node: usize) {
        let mut segment = self.segment.borrow_mut();
        if let Daemon::Running(since) | Daemon::Frozen(since) = segment.daemons[node] {
            self.machines[node].gate.close();
            segment.set_daemon(node, Daemon::Paused(since));
        }
    }

    fn resume(&mut self, node: usize) {
        let mut segment = self.segment.borrow_mut();
        if let Daemon::Paused(since) = segment.daemons[node] {
            if segment.kernels.runs(node) {
                self.machines[node].gate.open();
                segment.set_daemon(node, Daemon::Running(since));
            } else {
                segment.set_daemon(node, Daemon::Frozen(since));
            }
        }
    }

    /// The hypervisor stops a machine.
    fn freeze(&mut self, node: usize) {
        if !self.segment.borrow().kernels.runs(node) {
            return;
        }
        self.set_clock_stopped(node, true);
        let mut segment = self.segment.borrow_mut();
        segment.kernels.set_frozen(node, true);
        if let Daemon::Running(since) = segment.daemons[node] {
            self.machines[node].gate.close();
            segment.set_daemon(node, Daemon::Frozen(since));
        }
    }

    /// It lets the machine go on.
    fn thaw(&mut self, node: usize) {
        {
            let segment = self.segment.borrow();
            if !segment.kernels.powered(node) || segment.kernels.runs(node) {
                return;
            }
        }
        self.set_clock_stopped(node, false);
        let mut segment = self.segment.borrow_mut();
        segment.kernels.set_frozen(node, false);
        segment.thawed[node] = Some(self.sim.elapsed());
        if let Daemon::Frozen(since) = segment.daemons[node] {
            self.machines[node].gate.open();
            segment.set_daemon(node, Daemon::Running(since));
        }
    }

    fn set_clock_stopped(&self, node: usize, stopped: bool) {
        let machine = &self.machines[node];
        let mut oscillator = machine.oscillator.get();
        oscillator.set_stopped(self.sim.elapsed(), stopped);
        machine.oscillator.set(oscillator);
    }

    /// Changes the wiring, ours and with it turmoil's. Clients are not turmoil's hosts.
    fn rewire(&mut self, fault: &Fault) {
        let mut segment = self.segment.borrow_mut();
        match fault {
            Fault::Partition(net, groups) => segment.rewire(*net, |links| links.partition(groups)),
            Fault::Cut { net, from, to } => segment.rewire(*net, |links| links.cut(*from, *to)),
            Fault::HealAll(net) => segment.rewire(*net, |links| links.heal_all()),
            Fault::Heal(net, stations) => {
                for (i, &a) in stations.iter().enumerate() {
                    for &b in &stations[i + 1..] {
                        segment.rewire(*net, |links| links.heal(a, b));
                    }
                }
            }
            Fault::PortDead(net, nodes) => {
                nodes.iter().for_each(|&node| segment.set_port(*net, node, false, true));
            }
            Fault::CarrierLost(net, nodes) => {
                nodes.iter().for_each(|&node| segment.set_port(*net, node, false, false));
            }
            Fault::PortBack(net, nodes) => {
                nodes.iter().for_each(|&node| segment.set_port(*net, node, true, true));
            }
            _ => unreachable!("only faults of the wiring come here"),
        }
        let nodes = self.machines.len();
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from) {
                let works = segment.links.reaches(from, to);
                if std::mem::replace(&mut self.wired[from * nodes + to], works) == works {
                    continue;
                }
                let (from, to) = (IpAddr::V4(node_address(from)), IpAddr::V4(node_address(to)));
                if works {
                    self.sim.repair_oneway(from, to);
                } else {
                    self.sim.partition_oneway(from, to);
                }
            }
        }
    }

    /// turmoil carries the shortest latency, netem what is drawn on top of it.
    fn set_latency(&mut self, latency: Span) {
        let nodes = self.machines.len();
        for a in 0..nodes {
            for b in a + 1..nodes {
                let (a, b) = (IpAddr::V4(node_address(a)), IpAddr::V4(node_address(b)));
                self.sim.set_link_latency(a, b, latency.min);
            }
        }
        let mut segment = self.segment.borrow_mut();
        segment.hop = latency.min;
        let extra = Span { min: Duration::ZERO, max: latency.max - latency.min };
        segment.netem.set_extra_delay(None, extra);
    }

    fn finish(mut self) -> Outcome {
        let now = self.sim.elapsed();
        self.segment.borrow_mut().clients.finish(now);
        let findings = {
            let segment = self.segment.borrow();
            let glance = glance(
                now,
                self.scenario,
                &self.bounds,
                &segment,
                &self.connectivity,
                &[],
                true,
                (&self.disturbances, self.wires_calm_since),
            );
            let mut findings = self.checks.finish(&glance);
            expectations(&glance, &mut findings);
            findings
        };
        self.record(now, findings);
        let measurements = self.checks.measurements();
        // The hosts hold the segment too; their destructors must not see it half gone.
        drop(self.sim);
        let mut segment = self.segment.borrow_mut();
        Outcome {
            seed: self.seed,
            entries: std::mem::take(&mut segment.journal).into_sorted(),
            interruptions: segment.clients.interruptions().to_vec(),
            measurements,
            simulated: now,
        }
    }
}

#[allow(clippy::too_many_arguments)] // borrows parts of the world that are borrowed apart
fn glance<'g>(
    now: Duration,
    scenario: &'g Scenario,
    bounds: &'g Bounds,
    segment: &'g Segment,
    connectivity: &'g Connectivity,
    fresh: &'g [Entry],
    changed: bool,
    (disturbances, wires_calm_since): (&'g [Duration], Duration),
) -> Glance<'g> {
    Glance {
        now,
        scenario,
        bounds,
        segment,
        connectivity,
        fresh,
        changed,
        disturbances,
        wires_calm_since,
    }
}

/// What the scenario itself expects.
fn expectations(glance: &Glance<'_>, findings: &mut Findings) {
    let expect = &glance.scenario.expect;
    if let Some(max) = expect.interruption_max {
        let all = glance.segment.clients.interruptions();
        if let Some(worst) = all.iter().max_by_key(|i| i.length()).filter(|i| i.length() > max) {
            let text = format!(
                "{} got no answer from {} for {} ms from {} ms on, allowed are {} ms",
                glance.scenario.clients[worst.client],
                glance.vip(worst.vip),
                worst.length().as_millis(),
                worst.from.as_millis(),
                max.as_millis(),
            );
            findings.violation("interruption", text);
        }
    }
    for &(vip, node) in &expect.holders {
        let holders: Vec<usize> = glance.segment.kernels.holders(vip).collect();
        if holders != [node] {
            let names: Vec<_> = holders.iter().map(|&holder| glance.node(holder)).collect();
            let text = format!(
                "{} is held by [{}] in the end, expected is {}",
                glance.vip(vip),
                names.join(", "),
                glance.node(node)
            );
            findings.violation("expectation", text);
        }
    }
}

fn node_config(scenario: &Scenario, node: usize) -> NodeConfig {
    let definition = |index: usize| NodeDefinition {
        name: scenario.nodes[index].name.clone(),
        addresses: vec![SocketAddr::new(IpAddr::V4(node_address(index)), PORT)],
        weight: scenario.nodes[index].weight,
        witness: scenario.nodes[index].witness,
    };
    let id = |index: usize| NodeId::from_name(&scenario.nodes[index].name);
    NodeConfig {
        cluster: "simulated".to_owned(),
        key: ClusterKey([7; 32]),
        me: id(node),
        nodes: (0..scenario.nodes.len()).map(definition).collect(),
        vips: scenario
            .vips
            .iter()
            .map(|spec| VipDefinition {
                vip: spec.vip.clone(),
                prefer: spec.prefer.iter().map(|&node| id(node)).collect(),
            })
            .collect(),
        timing: scenario.timing,
        balance: scenario.balance,
        multicast: scenario.multicast,
        safety: Safety {
            release_margin: release_margin(scenario, node),
            fences_nodes: scenario.fences.command.is_some(),
            ..scenario.safety
        },
    }
}

/// A gate is shut at once; without one releasing takes its time.
pub fn release_margin(scenario: &Scenario, node: usize) -> Duration {
    let margin = if scenario.nodes[node].fences.gate {
        Duration::ZERO
    } else {
        scenario.safety.release_margin
    };
    scenario.release_margin.unwrap_or(margin)
}
