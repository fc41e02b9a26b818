//! What is done to the world: the scenario's faults, the orders of fences, and starts that had to wait.

use wackamole_protocol::time::Duration;

use super::World;
use crate::fault::Fault;
use crate::fences::Order;
use crate::journal::{KernelChange, What};
use crate::rng::Span;
use crate::segment::{Daemon, Mail, News, Sabotage};

/// How long a daemon may take until it reads what somebody else's guardian says.
const READING: Span = Span { min: Duration::ZERO, max: Duration::from_millis(2) };

impl World<'_> {
    /// Does something to the world.
    pub(super) fn apply(&mut self, fault: &Fault) {
        let now = self.engine.elapsed();
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
            Fault::ForcePrimary(nodes) => {
                nodes.iter().for_each(|&node| self.machines[node].force_primary());
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
            self.engine.crash(node);
            self.machines[node].forget_daemon();
            self.segment.borrow_mut().set_daemon(node, Daemon::Killed);
        }
    }

    fn stop(&mut self, node: usize) {
        self.machines[node].stop();
        self.segment.borrow_mut().leaving[node] = true;
    }

    pub(super) fn power_loss(&mut self, node: usize) {
        let now = self.engine.elapsed();
        self.kill(node);
        self.starting[node] = None;
        self.set_clock_stopped(node, false);
        let mut segment = self.segment.borrow_mut();
        segment.power_off(now, node);
        segment.set_daemon(node, Daemon::Off);
    }

    fn restart(&mut self, node: usize) {
        self.kill(node);
        self.starting[node] = Some(self.engine.elapsed());
    }

    /// Whoever is to start does so once its time has come and the guardian of its predecessor is done.
    pub(super) fn start_whoever_may(&mut self) {
        let now = self.engine.elapsed();
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
            segment.daemon_starts(self.engine.elapsed(), node);
        }
        self.machines[node].forget_daemon();
        self.engine.start(node);
    }

    /// Does what a fence wants done.
    pub(super) fn carry_out(&mut self, order: Order) {
        let now = self.engine.elapsed();
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
        let now = self.engine.elapsed();
        let killed = self.segment.borrow().daemons[node] != Daemon::Killed;
        self.kill(node);
        let mut segment = self.segment.borrow_mut();
        segment.journal.push(now, What::Guarded { node, killed });
        segment.clear(now, node, KernelChange::Guarded);
        let leaves = self.machines[node].leaves();
        for peer in (0..self.machines.len()).filter(|&peer| peer != node) {
            // Some take a moment longer than others to read it: meanwhile those who did ask them for a view without the node.
            let sent = now + READING.draw_ticks(&mut self.rng);
            for bytes in &leaves {
                segment.post(sent, peer, Mail { from: node, bytes: bytes.clone() });
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
            self.paused[node] = self.engine.elapsed();
        }
    }

    fn resume(&mut self, node: usize) {
        let mut segment = self.segment.borrow_mut();
        if let Daemon::Paused(since) = segment.daemons[node] {
            if segment.kernels.runs(node) {
                self.machines[node].gate.open();
                let now = self.engine.elapsed();
                // Whoever was paused before its first view begins to mature only now.
                let young = self.paused[node] < since + self.scenario.timing.mature * 2;
                segment.set_daemon(node, Daemon::Running(if young { now } else { since }));
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
        segment.thawed[node] = Some(self.engine.elapsed());
        if let Daemon::Frozen(since) = segment.daemons[node] {
            self.machines[node].gate.open();
            segment.set_daemon(node, Daemon::Running(since));
        }
    }

    fn set_clock_stopped(&self, node: usize, stopped: bool) {
        let machine = &self.machines[node];
        let mut oscillator = machine.oscillator.get();
        oscillator.set_stopped(self.engine.elapsed(), stopped);
        machine.oscillator.set(oscillator);
    }

    /// Changes the wiring, ours and with it the engine's. Clients are none of its machines.
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
        segment.note_one_way(self.engine.elapsed());
        let nodes = self.machines.len();
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from) {
                let works = segment.links.reaches(from, to);
                if std::mem::replace(&mut self.wired[from * nodes + to], works) == works {
                    continue;
                }
                self.engine.set_wire(from, to, works);
            }
        }
    }

    /// The engine carries the shortest latency, netem what is drawn on top of it.
    fn set_latency(&mut self, latency: Span) {
        self.engine.set_latency(latency.min);
        let mut segment = self.segment.borrow_mut();
        segment.hop = latency.min;
        let extra = Span { min: Duration::ZERO, max: latency.max - latency.min };
        segment.netem.set_extra_delay(None, extra);
    }
}
