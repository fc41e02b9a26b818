//! One run: a scenario with one seed, from the first tick to the last.
//!
//! The world owns the engine and the schedule. Its loop applies the faults that are due, lets every machine run for one tick,
//! and has the checkers look; `world/quiet.rs` says which ticks need none of that. `world/apply.rs` is the only place where
//! anything is done to the world, so the engine and the segment are always told together.

mod apply;
mod quiet;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use wackamole_protocol::config::{
    ClusterKey, NodeConfig, NodeDefinition, Partition, Safety, VipDefinition,
};
use wackamole_protocol::event::Event;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::time::Duration;

use crate::addresses::{FenceCommand, Pace};
use crate::bounds::Bounds;
use crate::check::{Checks, Findings, Glance, Measurements};
use crate::chronicle::Chronicle;
use crate::clients::{Clients, Interruption};
use crate::conduct::Conduct;
use crate::connectivity::Connectivity;
use crate::engine::{Engine, Scheduler, Software};
use crate::fault::Fault;
use crate::fences::Fences;
use crate::gate::Gated;
use crate::journal::{Entry, Records, What};
use crate::machine::{Machine, Parts};
use crate::netem::Knob;
use crate::network::{PORT, node_address};
use crate::panics;
use crate::reach::WITNESS;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::scenario::plan::plan;
use crate::segment::{Segment, SharedSegment, machine_rng};
use crate::signs::Signs;

/// What simulated clusters are called.
pub const CLUSTER: &str = "simulated";
/// The key that their daemons share.
pub const KEY: [u8; 32] = [7; 32];

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Everything that happened, by time.
    pub entries: Vec<Entry>,
    /// What the world looked like meanwhile.
    pub chronicle: Chronicle,
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

/// Runs a scenario with a seed under turmoil. With `datagrams` the journal records every one of them.
pub fn run(scenario: &Scenario, seed: u64, datagrams: bool) -> Outcome {
    run_on(Scheduler::Turmoil, scenario, seed, datagrams)
}

/// Runs a scenario with a seed under one of the engines; the outcome is the same under each.
pub fn run_on(scheduler: Scheduler, scenario: &Scenario, seed: u64, datagrams: bool) -> Outcome {
    let mut world = World::new(scheduler, scenario, seed);
    world.segment.borrow_mut().journal.with_datagrams = datagrams;
    world.run();
    let outcome = world.finish();
    panics::unwatch();
    outcome
}

/// Runs a scenario with a seed while every daemon records what it is told. Returns the records of all starts too.
pub fn run_recorded(scenario: &Scenario, seed: u64) -> (Outcome, Vec<Vec<u8>>) {
    let mut world = World::new(Scheduler::Turmoil, scenario, seed);
    let records = Records::default();
    world.segment.borrow_mut().journal.records = Some(records.clone());
    world.run();
    let outcome = world.finish();
    panics::unwatch();
    (outcome, records.take())
}

struct World<'a> {
    scenario: &'a Scenario,
    seed: u64,
    bounds: Bounds,
    engine: Engine,
    segment: SharedSegment,
    machines: Vec<Rc<Machine>>,
    schedule: VecDeque<(Duration, Fault)>,
    /// Which node reaches which over the engine's wires, by sender and receiver.
    wired: Vec<bool>,
    /// Daemons that are to start: at this time, and not before their guardian is done.
    starting: Vec<Option<Duration>>,
    /// When each daemon was stopped with SIGSTOP last.
    paused: Vec<Duration>,
    /// Draws what happens without the scenario's doing.
    rng: Rng,
    connectivity: Connectivity,
    checks: Checks,
    looked_at: usize,
    seen_version: u64,
    disturbances: Vec<Duration>,
    /// How many of them the fences have had their say about, and how often a fence had begun something by then.
    seen_disturbances: usize,
    seen_fences: u64,
    wires_calm_since: Duration,
    storm: Option<(Duration, Duration)>,
    storms: bool,
    curious: Vec<bool>,
    /// Somebody has been asked for its status and has not answered yet.
    asking: bool,
    /// Every checker looks in each tick, and every fence: the reference.
    every_tick: bool,
    /// Something was done after the machines had run, and they go on at once.
    restless: bool,
    broken: bool,
}

impl<'a> World<'a> {
    fn new(scheduler: Scheduler, scenario: &'a Scenario, seed: u64) -> Self {
        panics::watch();
        let nodes = scenario.nodes.len();
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
        let parts = Parts {
            pace: Pace { operation: scenario.operation, fence },
            sync: scenario.sync,
            witness: scenario.must_reach,
            conduct: Conduct::default(),
        };
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
            if scenario.safety.partition == Partition::Lan && nodes > 1 {
                let timing = scenario.timing;
                segment.signs = Some(Signs::new(nodes, timing.silence(), timing.heartbeat / 2));
            }
        }
        for (node, machine) in machines.iter().enumerate() {
            let mut oscillator = machine.oscillator.get();
            oscillator.set_drift(Duration::ZERO, scenario.nodes[node].drift_ppm);
            machine.oscillator.set(oscillator);
        }
        let software = |machine: &Rc<Machine>| -> Software {
            let machine = Rc::clone(machine);
            Rc::new(move |host| {
                let gate = Rc::clone(&machine.gate);
                Box::pin(Gated::new(Rc::clone(&machine).daemon(host), gate))
            })
        };
        let software = machines.iter().map(software).collect();
        let engine = Engine::new(scheduler, software, scenario.latency.min, seed);
        let bounds = Bounds::of(scenario);
        let patience = scenario.timing.failure_timeout.saturating_sub(scenario.timing.heartbeat);
        Self {
            scenario,
            seed,
            bounds,
            engine,
            segment,
            machines,
            schedule: plan(scenario, seed).into(),
            wired: vec![true; nodes * nodes],
            starting: vec![None; nodes],
            paused: vec![Duration::ZERO; nodes],
            rng: Rng::new(seed, "world"),
            connectivity: Connectivity::new(nodes, patience),
            checks: Checks::new(scenario, seed),
            looked_at: 0,
            seen_version: u64::MAX,
            disturbances: Vec::new(),
            seen_disturbances: 0,
            seen_fences: 0,
            wires_calm_since: Duration::ZERO,
            storm: None,
            storms: false,
            curious: vec![false; nodes],
            asking: false,
            every_tick: scheduler == Scheduler::EveryTick,
            restless: true,
            broken: false,
        }
    }

    fn run(&mut self) {
        while self.engine.elapsed() < self.scenario.duration && !self.broken {
            while self.schedule.front().is_some_and(|(at, _)| *at <= self.engine.elapsed()) {
                if let Some((_, fault)) = self.schedule.pop_front() {
                    self.apply(&fault);
                }
            }
            self.start_whoever_may();
            self.tick();
            self.pass_over_quiet();
        }
    }

    /// Lets every machine run for one tick, then looks.
    fn tick(&mut self) {
        let result = self.engine.step();
        let now = self.engine.elapsed();
        let panicked = panics::take();
        if result.is_err() || panicked.is_some() {
            let text = panicked.or(result.err()).unwrap_or_default();
            self.record(now, Findings { entries: vec![What::Violation { check: "panic", text }] });
            self.broken = true;
        }
        let touched = self.every_tick || self.disturbances.len() != self.seen_disturbances;
        self.seen_disturbances = self.disturbances.len();
        let orders = self.segment.borrow_mut().step(now, touched);
        self.restless = !orders.is_empty();
        for order in orders {
            self.carry_out(order);
        }
        let fenced = std::mem::take(&mut self.segment.borrow_mut().fenced);
        self.restless |= !fenced.is_empty();
        for node in fenced {
            self.disturbances.push(now);
            self.power_loss(node);
        }
        let burst = self.connectivity.refresh(now, &self.segment.borrow());
        if burst {
            self.disturbances.push(now);
            self.wires_calm_since = now;
        }
        let storms = self.segment.borrow().netem.max(Knob::Loss) > self.bounds.loss;
        if storms || self.storms {
            let began = self.storm.filter(|_| self.storms).map_or(now, |(began, _)| began);
            self.storm = Some((began, now));
        }
        self.storms = storms;
        let version = self.segment.borrow().version();
        let changed = burst || version != self.seen_version;
        self.seen_version = version;
        let fences = self.segment.borrow().fences.version();
        let touched = touched || std::mem::replace(&mut self.seen_fences, fences) != fences;
        self.segment.borrow_mut().refresh_clients(now, changed, touched);
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
                (&self.disturbances, self.wires_calm_since, self.storm),
            );
            if self.every_tick { self.checks.look(&glance) } else { self.checks.step(&glance) }
        };
        self.record(now, findings);
    }

    /// Daemons that have news are asked for their status, and answer a tick later.
    fn ask_the_curious(&mut self, now: Duration) {
        if !self.asking && !self.curious.contains(&true) {
            return;
        }
        self.asking = false;
        for node in 0..self.machines.len() {
            if let Some(status) = self.machines[node].answer() {
                let findings = self.checks.status(node, &status);
                self.record(now, findings);
            }
            if std::mem::take(&mut self.curious[node]) {
                self.machines[node].ask_status();
            }
            self.asking |= self.machines[node].is_asked();
        }
    }

    fn record(&mut self, now: Duration, findings: Findings) {
        let mut segment = self.segment.borrow_mut();
        for what in findings.entries {
            segment.journal.push(now, what);
        }
    }

    fn finish(mut self) -> Outcome {
        let now = self.engine.elapsed();
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
                (&self.disturbances, self.wires_calm_since, self.storm),
            );
            self.checks.finish(&glance)
        };
        self.record(now, findings);
        let measurements = self.checks.measurements();
        // The hosts hold the segment too; their destructors must not see it half gone.
        drop(self.engine);
        let mut segment = self.segment.borrow_mut();
        Outcome {
            seed: self.seed,
            entries: std::mem::take(&mut segment.journal).into_sorted(),
            chronicle: std::mem::take(&mut segment.chronicle).sorted(),
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
    (disturbances, wires_calm_since, storm): (
        &'g [Duration],
        Duration,
        Option<(Duration, Duration)>,
    ),
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
        storm,
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
        cluster: CLUSTER.to_owned(),
        key: ClusterKey(KEY),
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
        must_reach: scenario.must_reach.map(|_| WITNESS).into_iter().collect(),
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
