//! Faults that could leave two machines answering for one address, and what each did: for the cases and for measurements.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cluster::{Cluster, PROBE_INTERVAL, SOON};
use crate::plan::Plan;
use crate::prober::Prober;
use crate::suite::logs;
use crate::time::Moment;
use crate::wait;
use crate::witness::Witness;

/// A partition policy, as the configuration calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Each component covers everything.
    Component,
    /// The same, and an address that is answered stays where it is.
    Lan,
    /// Only one part of the cluster holds anything.
    Quorum,
}

/// What happens to one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Its power is cut.
    MachineLost,
    /// Its daemon is killed (`SIGKILL`).
    DaemonKilled,
    /// Its daemon is stopped (`SIGSTOP`).
    DaemonStopped,
    /// Daemon and guardian are killed together.
    BothKilled,
    /// Daemon and guardian are stopped.
    BothStopped,
    /// Daemon and guardian are killed together, and there is no gate.
    BothKilledNoGate,
    /// Daemon and guardian are stopped, and there is no gate.
    BothStoppedNoGate,
    /// Its switch port drops everything for a while, its carrier stays.
    SilentPort,
    /// Heartbeats have a network of their own, and its port there drops everything for a while.
    HeartbeatPathCut,
}

/// Heartbeat interval and failure timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Pause between two heartbeats.
    pub heartbeat: Duration,
    /// Silence after which a machine counts as down.
    pub failure_timeout: Duration,
}

/// What one fault did, from its first moment until all was well again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The longest time in which two machines answered for one address.
    pub overlap: Duration,
    /// The same, of the time after the network was mended; zero where it was not broken.
    pub overlap_mended: Duration,
    /// The longest time in which an address did not answer a client.
    pub dark: Duration,
    /// How much of that may be due to the client, which was not scheduled.
    pub blind: Duration,
    /// The machine's last answer, after the fault; of one that lives and is reached, nothing is said.
    pub silent: Option<Duration>,
    /// For how long the network was broken.
    pub broken: Duration,
}

/// A cluster of three on which faults of one kind can be made again and again, with two who watch.
pub struct Range {
    /// The cluster.
    pub cluster: Cluster,
    /// Who answers for what.
    pub witness: Witness,
    timing: Timing,
    /// When the last round began.
    since: Moment,
}

/// What a cluster must be like for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// One segment, with the gate.
    Usual,
    /// One segment, without the gate.
    NoGate,
    /// Heartbeats on one segment, VIPs on another.
    TwoNetworks,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Component, Self::Lan, Self::Quorum];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Lan => "lan",
            Self::Quorum => "quorum",
        }
    }
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::MachineLost,
        Self::DaemonKilled,
        Self::DaemonStopped,
        Self::BothKilled,
        Self::BothStopped,
        Self::BothKilledNoGate,
        Self::BothStoppedNoGate,
        Self::SilentPort,
        Self::HeartbeatPathCut,
    ];

    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::MachineLost => "machine loses its power",
            Self::DaemonKilled => "daemon killed",
            Self::DaemonStopped => "daemon stopped",
            Self::BothKilled => "daemon and guardian killed",
            Self::BothStopped => "daemon and guardian stopped",
            Self::BothKilledNoGate => "both killed, no gate",
            Self::BothStoppedNoGate => "both stopped, no gate",
            Self::SilentPort => "switch port silent for a while",
            Self::HeartbeatPathCut => "heartbeat path cut for a while",
        }
    }

    /// What it needs.
    pub fn ground(self) -> Ground {
        match self {
            Self::BothKilledNoGate | Self::BothStoppedNoGate => Ground::NoGate,
            Self::HeartbeatPathCut => Ground::TwoNetworks,
            _ => Ground::Usual,
        }
    }

    /// The network is broken, and mended after a while.
    pub fn is_mended(self) -> bool {
        matches!(self, Self::SilentPort | Self::HeartbeatPathCut)
    }
}

impl Range {
    /// Builds a cluster of three machines with four IPv4 and two IPv6 VIPs, and starts it.
    ///
    /// # Errors
    /// The kernel refuses something, or the cluster does not come up.
    pub fn start(ground: Ground, policy: Policy, timing: Timing) -> Result<Self> {
        let plan = Plan::new(3).timing(timing.heartbeat, timing.failure_timeout);
        let plan = plan.safety("partition", policy.name());
        let plan = match ground {
            Ground::Usual => plan.ipv4_vips(4).ipv6_vips(2),
            Ground::NoGate => plan.ipv4_vips(4).ipv6_vips(2).safety("fence", "none"),
            Ground::TwoNetworks => {
                let plan = Plan { segments: 2, heartbeats_on: vec![0], ..plan };
                let addresses = ["10.78.1.1", "10.78.1.2", "10.78.1.3", "10.78.1.4"];
                let ipv6 = ["fd00:78::1:1", "fd00:78::1:2"];
                addresses.iter().chain(&ipv6).try_fold(plan, |plan, address| {
                    anyhow::Ok(plan.vip(&[(address.parse()?, "eth1")], &[]))
                })?
            }
        };
        let cluster = Cluster::start(plan)?;
        let witness = cluster.witness()?;
        Ok(Self { cluster, witness, timing, since: Moment::now() })
    }

    /// Lets a fault happen to a machine, waits until all VIPs are served again as the policy wants it, undoes it, and waits
    /// until the cluster has settled. A network stays broken for `broken`.
    ///
    /// # Errors
    /// The cluster does not get over it.
    pub fn round(&mut self, fault: Fault, victim: &str, broken: Duration) -> Result<Outcome> {
        self.since = Moment::now();
        let outcome = self.ready().and_then(|prober| self.inflict(fault, victim, broken, &prober));
        outcome.map_err(|error| error.context(format!("{}\n{}", fault.name(), self.account())))
    }

    /// Who answered in the last round, and what the daemons said.
    pub fn account(&self) -> String {
        let now = Moment::now().since(self.since);
        format!(
            "it began {now:.1?} ago; answers since:\n{}\n{}",
            self.witness.account(self.since),
            logs()
        )
    }

    fn inflict(
        &mut self,
        fault: Fault,
        victim: &str,
        broken: Duration,
        prober: &Prober,
    ) -> Result<Outcome> {
        let start = Moment::now();
        let mut outcome = Outcome::default();
        let others: Vec<_> = self.cluster.others(victim).into_iter().map(str::to_owned).collect();
        let others: Vec<_> = others.iter().map(String::as_str).collect();
        match fault {
            Fault::SilentPort | Fault::HeartbeatPathCut => {
                self.break_network(victim)?;
                std::thread::sleep(broken);
                let mended = self.mend_network(victim)?;
                outcome.broken = mended.since(start);
                self.cluster.wait_settled(&self.cluster.names())?;
                self.wait_answers(prober)?;
                outcome.overlap_mended = self.witness.longest_overlap(mended);
                return Ok(self.seen(outcome, prober, start));
            }
            Fault::MachineLost => self.cluster.power_off(victim)?,
            Fault::DaemonKilled => self.cluster.kill_daemon(victim)?,
            Fault::DaemonStopped => self.cluster.freeze(victim)?,
            Fault::BothKilled | Fault::BothKilledNoGate => {
                self.cluster.kill_daemon_with_guardian(victim)?;
            }
            Fault::BothStopped | Fault::BothStoppedNoGate => {
                self.cluster.freeze_with_guardian(victim)?;
            }
        }
        self.cluster.wait_served(&others)?;
        self.wait_silent(victim)?;
        self.wait_answers(prober)?;
        let last = self.witness.last_answer(self.cluster.machine(victim), start);
        outcome.silent = last.map(|last| last.since(start));
        let outcome = self.seen(outcome, prober, start);
        match fault {
            Fault::MachineLost => self.cluster.power_on(victim)?,
            Fault::DaemonStopped => {
                // The guardian has killed it.
                self.cluster.daemon(victim)?.wait(SOON)?;
                self.cluster.start_daemon(victim)?;
            }
            Fault::BothStopped | Fault::BothStoppedNoGate => {
                self.cluster.kill_daemon_with_guardian(victim)?;
                self.cluster.start_daemon(victim)?;
            }
            _ => self.cluster.start_daemon(victim)?,
        }
        self.cluster.wait_settled(&self.cluster.names())?;
        Ok(outcome)
    }

    /// A client that every VIP answers.
    fn ready(&self) -> Result<Prober> {
        let client = self.cluster.client.host();
        let prober = Prober::start(client, &self.cluster.plan.addresses(), PROBE_INTERVAL)?;
        self.wait_answers(&prober)?;
        Ok(prober)
    }

    fn wait_answers(&self, prober: &Prober) -> Result<()> {
        wait::until("every VIP answers", SOON, || prober.all_answer())
            .map_err(|error| error.context(prober.account(self.since)))
    }

    /// Waits until nobody has heard a machine's answers for several heartbeats.
    fn wait_silent(&self, victim: &str) -> Result<()> {
        let quiet = self.timing.heartbeat.max(Duration::from_millis(50));
        wait::until(&format!("{victim} is silent"), SOON, || {
            let now = Moment::now();
            let machine = self.cluster.machine(victim);
            // An answer since then: not silent.
            let last = self.witness.last_answer(machine, Moment::default());
            last.is_none_or(|last| now.since(last) > quiet)
        })
    }

    /// Cuts a machine off: from the network of the heartbeats where that is another one, else from everything.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn break_network(&self, victim: &str) -> Result<()> {
        self.cluster.lan.kill_port(self.cluster.machine(victim), 0)
    }

    /// Undoes [`Range::break_network`], and says when.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mend_network(&self, victim: &str) -> Result<Moment> {
        let mended = Moment::now();
        self.cluster.lan.revive_port(self.cluster.machine(victim), 0)?;
        Ok(mended)
    }

    fn seen(&self, outcome: Outcome, prober: &Prober, start: Moment) -> Outcome {
        let addresses = self.cluster.plan.addresses();
        let found = addresses.iter().filter_map(|&vip| prober.longest(vip, start));
        let longest = found.max_by_key(|found| found.length);
        Outcome {
            overlap: self.witness.longest_overlap(start),
            dark: longest.map_or(Duration::ZERO, |found| found.length),
            blind: longest
                .map_or(Duration::ZERO, |found| found.blind)
                .max(self.witness.blind(start)),
            ..outcome
        }
    }
}

impl Outcome {
    /// At no instant did two machines answer.
    ///
    /// # Errors
    /// They did; the error says for how long.
    pub fn was_exclusive(&self) -> Result<()> {
        let Self { overlap, .. } = self;
        ensure!(overlap.is_zero(), "two machines answered for one address, for {overlap:.1?}");
        Ok(())
    }
}
