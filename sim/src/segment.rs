//! The L2 segment with everything on it: wires, kernels, fences, clients, and which daemons run. This is the truth that
//! the checkers look at; what a daemon believes is found nowhere in here.
//!
//! It never reacts to a `Drop`: turmoil's `crash` runs destructors, and a killed daemon does not tidy up.

mod mail;
mod one_way;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use wackamole::env::Lease;
use wackamole_protocol::time::Duration;

use crate::air::{Air, Heard, Wires};
use crate::bell::Bell;
use crate::chronicle::{Chronicle, Scene};
use crate::clients::Clients;
use crate::fences::{Fences, Order};
use crate::journal::{Journal, KernelChange, What};
use crate::kernels::Kernels;
use crate::links::{Links, Station};
use crate::netem::{Fate, Impairment, Netem};
use crate::rng::Rng;
use crate::signs::{Said, Signs, has_neighbour};
pub use mail::Mail;
pub use one_way::OneWay;

/// The segment as the parts of one world share it.
pub type SharedSegment = Rc<RefCell<Segment>>;

/// What a machine's daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// The machine is off, or its daemon was never started.
    Off,
    /// Running since then.
    Running(Duration),
    /// Stopped with SIGSTOP; running since then, apart from that.
    Paused(Duration),
    /// Stopped by the hypervisor together with its machine; running since then, apart from that.
    Frozen(Duration),
    /// Gone without a word; the kernel keeps the addresses.
    Killed,
    /// Left gracefully.
    Ended,
}

impl Daemon {
    /// The daemon runs and is not paused.
    pub fn attends(self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// A word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Frozen(_) => "frozen",
            Self::Killed => "killed",
            Self::Ended => "stopped",
        }
    }
}

/// How address work goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SabotageKind {
    /// It is refused.
    Fail,
    /// It does not return until the sabotage ends.
    Hang,
}

/// Address work on one VIP of one node goes wrong for a while.
#[derive(Clone, Copy, Debug)]
pub struct Sabotage {
    /// The node.
    pub node: usize,
    /// The VIP.
    pub vip: usize,
    /// How.
    pub kind: SabotageKind,
    /// Until when; `None` for ever.
    pub until: Option<Duration>,
}

/// Which wires a fault concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// Those of the daemons and those of the VIPs, which are the same.
    Both,
    /// Those that the daemons talk over.
    Heartbeats,
    /// Those that VIPs, probes, announcements and clients are on.
    Segment,
}

/// What a machine has to tell its daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Addresses are gone that the daemon did not remove.
    Vanished(usize),
    /// Somebody else uses or wants a VIP.
    Heard(Heard),
    /// Why no VIP can be served from here; nothing if they can be served again.
    Servable(Option<&'static str>),
    /// A carrier came or went.
    InterfacesChanged,
}

/// The segment.
#[derive(Debug)]
pub struct Segment {
    /// Who reaches whom between daemons.
    pub links: Links,
    /// Who reaches whom on the segment of VIPs and clients.
    pub lan: Links,
    /// What the wires do to frames.
    pub netem: Netem,
    /// Who answers for what.
    pub kernels: Kernels,
    /// What stands behind the daemons.
    pub fences: Fences,
    /// Whether ports show signs of life; nobody watches where nothing is said about it.
    pub signs: Option<Signs>,
    /// By node and VIP: whether somebody answered the node on the segment when it probed last.
    alive_when_probed: BTreeMap<(usize, usize), bool>,
    /// Frames between machines.
    pub air: Air,
    /// What clients see.
    pub clients: Clients,
    /// What happened.
    pub journal: Journal,
    /// What the world looked like meanwhile.
    pub chronicle: Chronicle,
    /// What each daemon is doing.
    pub daemons: Vec<Daemon>,
    /// Whether each machine has links that work in one direction only, and had when its daemon was started.
    pub one_way: Vec<OneWay>,
    /// When each machine went on that its hypervisor had stopped.
    pub thawed: Vec<Option<Duration>>,
    /// When each machine lost what its daemon had stored.
    pub disk_lost: Vec<Option<Duration>>,
    /// Daemons that have been told to leave.
    pub leaving: Vec<bool>,
    /// Which address work goes wrong.
    pub sabotage: Vec<Sabotage>,
    /// How long a frame takes at least.
    pub hop: Duration,
    /// Nodes that a fence command has switched off, and the world has to.
    pub fenced: Vec<usize>,
    machines: Vec<Machine>,
    posted: VecDeque<(Duration, usize, Mail)>,
    loss_runs: Vec<LossRun>,
    daemons_version: u64,
}

/// What waits for a daemon.
#[derive(Debug, Default)]
struct Machine {
    news: VecDeque<News>,
    bell: Rc<Bell>,
    mail: VecDeque<Mail>,
    mail_bell: Rc<Bell>,
}

/// Losses in a row on one directed link.
#[derive(Clone, Copy, Debug, Default)]
struct LossRun {
    last_arrival: Duration,
    lost_since: bool,
}

impl Segment {
    /// A quiet segment of machines that are off.
    pub fn new(
        nodes: usize,
        vips: usize,
        clients: Clients,
        wires: Impairment,
        hop: Duration,
        seed: u64,
    ) -> Self {
        let links = Links::new(nodes, clients.count());
        let stations = links.stations();
        let chronicle = Chronicle::new(nodes, vips, clients.count());
        Self {
            lan: links.clone(),
            links,
            netem: Netem::new(stations, seed, wires),
            kernels: Kernels::new(nodes, vips),
            fences: Fences::none(nodes),
            signs: None,
            alive_when_probed: BTreeMap::new(),
            air: Air::new(nodes, vips),
            clients,
            journal: Journal::default(),
            chronicle,
            daemons: vec![Daemon::Off; nodes],
            one_way: vec![OneWay::default(); nodes],
            thawed: vec![None; nodes],
            disk_lost: vec![None; nodes],
            leaving: vec![false; nodes],
            sabotage: Vec::new(),
            hop,
            fenced: Vec::new(),
            machines: (0..nodes).map(|_| Machine::default()).collect(),
            posted: VecDeque::new(),
            loss_runs: vec![LossRun::default(); stations * stations],
            daemons_version: 0,
        }
    }

    /// Grows whenever a link, an address table or the state of a daemon changes.
    pub fn version(&self) -> u64 {
        self.wiring_version() + self.kernels.version()
    }

    /// Grows whenever a link or the state of a daemon changes.
    pub fn wiring_version(&self) -> u64 {
        self.links.version() + self.lan.version() + self.daemons_version
    }

    /// A daemon begins, ends, or is paused or resumed.
    pub fn set_daemon(&mut self, node: usize, state: Daemon) {
        self.daemons[node] = state;
        self.daemons_version += 1;
    }

    /// Changes wires.
    pub fn rewire(&mut self, net: Net, change: impl Fn(&mut Links)) {
        if net != Net::Segment {
            change(&mut self.links);
        }
        if net != Net::Heartbeats {
            change(&mut self.lan);
        }
    }

    /// A daemon starts. It is told nothing of what happened before.
    pub fn daemon_starts(&mut self, now: Duration, node: usize) {
        self.machines[node].news.clear();
        self.machines[node].mail.clear();
        self.air.forget(node);
        self.fences.daemon_starts(node);
        if let Some(signs) = &mut self.signs {
            signs.start(now, node);
        }
        self.one_way[node].daemon_starts();
        self.set_daemon(node, Daemon::Running(now));
        self.leaving[node] = false;
        self.journal.push(now, What::Started { node });
    }

    /// A daemon tells its fences until when it may answer.
    pub fn renew(&mut self, now: Duration, node: usize, lease: Lease) {
        self.chronicle.lease(now, node, self.fences.over_at(node, lease));
        self.fences.renew(now, node, lease);
        let shut = self.fences.shut(now, node);
        self.kernels.set_shut(node, shut);
    }

    /// What is about to be released is shut out first, where there is a gate.
    pub fn bar(&mut self, node: usize, vip: usize) {
        if self.fences.spec(node).gate {
            self.kernels.bar(node, vip);
        }
    }

    /// Lets clocks, frames and watches have their effect. Returns what fences want done. `touched`: something was done to the world
    /// since the last tick.
    pub fn step(&mut self, now: Duration, touched: bool) -> Vec<Order> {
        self.deliver_mail(now);
        let mut orders = Vec::new();
        self.fences.step(now, &self.daemons, &mut self.kernels, touched, &mut orders);
        let mut heard = Vec::new();
        let Self { air, kernels, lan, netem, hop, .. } = self;
        air.deliver(now, kernels, Wires { links: lan, netem, hop: *hop }, &mut heard);
        for heard in heard {
            self.tell(heard.node, News::Heard(heard));
        }
        if let Some(signs) = &mut self.signs {
            let mut said = Vec::new();
            let daemons = &self.daemons;
            signs.step(now, |n| daemons[n].attends(), &self.lan, &self.kernels, &mut said);
            for (node, said) in said {
                let why = match said {
                    Said::Dead { why } => Some(why),
                    Said::Alive => None,
                };
                self.journal.push(now, What::Servable { node, why });
                self.tell(node, News::Servable(why));
            }
        }
        orders
    }

    /// When [`Segment::step`] has something to do next, if nothing else happens before.
    pub fn next_step(&self) -> Option<Duration> {
        let mail = self.posted.front().map(|(arrives, ..)| *arrives);
        let fences = self.fences.next_step();
        let signs = self.signs.as_ref();
        let signs = signs.and_then(|signs| signs.next_look(|n| self.daemons[n].attends()));
        [mail, fences, self.air.next_arrival(), signs].into_iter().flatten().min()
    }

    /// A daemon's worker adds a VIP's addresses.
    pub fn acquire(&mut self, now: Duration, node: usize, vip: usize) {
        if self.kernels.set(node, vip, true) {
            self.changed(now, node, vip, KernelChange::Acquired);
        }
    }

    /// A daemon's worker removes a VIP's addresses.
    pub fn release(&mut self, now: Duration, node: usize, vip: usize) {
        if self.kernels.set(node, vip, false) {
            self.changed(now, node, vip, KernelChange::Released);
        }
    }

    /// Whatever of ours is on the machine is removed, by whomever.
    pub fn clear(&mut self, now: Duration, node: usize, change: KernelChange) {
        for vip in 0..self.kernels.vips() {
            if self.kernels.set(node, vip, false) {
                self.changed(now, node, vip, change);
                if change == KernelChange::Expired {
                    self.tell(node, News::Vanished(vip));
                }
            }
        }
    }

    /// An operator removes a VIP's addresses; the kernel tells the daemon.
    pub fn delete(&mut self, now: Duration, node: usize, vip: usize) {
        if self.kernels.set(node, vip, false) {
            self.changed(now, node, vip, KernelChange::Deleted);
            self.tell(node, News::Vanished(vip));
        }
    }

    /// A machine goes off, its address table with it.
    pub fn power_off(&mut self, now: Duration, node: usize) {
        for vip in self.kernels.power_off(node) {
            self.changed(now, node, vip, KernelChange::PowerLost);
        }
        self.fences.daemon_gone(node);
    }

    /// A switch port forwards or not; with a change of its carrier the machine notices.
    pub fn set_port(&mut self, net: Net, node: usize, forwards: bool, carrier: bool) {
        self.rewire(net, |links| links.set_port(node, forwards));
        if let Some(signs) = &mut self.signs
            && signs.carrier(node) != carrier
        {
            signs.set_carrier(node, carrier);
            self.tell(node, News::InterfacesChanged);
        }
    }

    /// Something is to be told to a daemon.
    pub fn tell(&mut self, node: usize, news: News) {
        let machine = &mut self.machines[node];
        machine.news.push_back(news);
        machine.bell.ring();
    }

    /// What is to be told to the daemon next.
    pub fn next_news(&mut self, node: usize) -> Option<News> {
        self.machines[node].news.pop_front()
    }

    /// Rings when there are news.
    pub fn bell(&self, node: usize) -> Rc<Bell> {
        Rc::clone(&self.machines[node].bell)
    }

    /// What goes wrong with address work at this time.
    pub fn sabotage(&self, now: Duration, node: usize, vip: usize) -> Option<Sabotage> {
        let hits = |s: &&Sabotage| {
            s.node == node && s.vip == vip && s.until.is_none_or(|until| now < until)
        };
        self.sabotage.iter().rev().find(hits).copied()
    }

    /// A kernel tells every station that it answers for a VIP, if it does.
    pub fn announce(&mut self, now: Duration, node: usize, vip: usize) {
        if !self.kernels.answers(node, vip) {
            return;
        }
        self.journal.push(now, What::Announced { node, vip });
        let Self { air, lan, netem, hop, .. } = self;
        air.announce(now, node, vip, Wires { links: lan, netem, hop: *hop });
        for client in 0..self.clients.count() {
            let station = self.lan.nodes() + client;
            if !self.lan.reaches(node, station) {
                continue;
            }
            if let Some(delay) = self.netem.frame(node, station) {
                self.clients.announcement(now + self.hop + delay, client, vip, node);
            }
        }
    }

    /// A machine asks the segment who answers for a VIP. Returns whether it has heard anything since it asked last, where it
    /// goes by signs of life: somebody who should be there is asked with each probe.
    pub fn probe(&mut self, now: Duration, node: usize, vip: usize) -> bool {
        self.journal.push(now, What::Probed { node, vip });
        let Self { air, lan, netem, hop, .. } = self;
        air.probe(now, node, vip, Wires { links: lan, netem, hop: *hop });
        let alive = has_neighbour(node, &self.lan, &self.kernels);
        let before = self.alive_when_probed.insert((node, vip), alive);
        self.signs.is_none() || alive || before.is_none_or(|before| before)
    }

    /// Decides what becomes of a datagram that has come through the engine's wires.
    pub fn datagram(&mut self, now: Duration, from: Station, to: Station, bytes: &[u8]) -> Fate {
        let fate = self.netem.fate(from, to, bytes.len());
        let run = &mut self.loss_runs[from * self.links.stations() + to];
        match fate.first {
            Some(_) => *run = LossRun { last_arrival: now, lost_since: false },
            None => run.lost_since = true,
        }
        if self.journal.with_datagrams {
            let fate_first = fate.first;
            let fate = match (fate.first, fate.second, fate.flipped_bit) {
                (None, _, _) => "lost",
                (Some(_), _, Some(_)) => "corrupted",
                (Some(_), Some(_), None) => "duplicated",
                (Some(delay), None, None) if delay > Duration::ZERO => "delayed",
                (Some(_), None, None) => "delivered",
            };
            let arrives = now + fate_first.unwrap_or_default();
            let sent = now.saturating_sub(self.hop);
            let bytes = bytes.into();
            self.journal.push(now, What::Datagram { from, to, bytes, sent, arrives, fate });
        }
        fate
    }

    /// Since when the wires have lost everything that `from` sent to `to`, if they have.
    pub fn losing_since(&self, from: Station, to: Station) -> Option<Duration> {
        let run = self.loss_runs[from * self.links.stations() + to];
        run.lost_since.then_some(run.last_arrival)
    }

    /// For how long the wires have lost everything that `from` sent to `to`. Silence alone is not loss.
    pub fn lost_for(&self, now: Duration, from: Station, to: Station) -> Duration {
        self.losing_since(from, to).map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Lets announcements arrive and clients look again, if there is a reason to, and notes what has changed.
    /// `touched`: something was done to the world, or a fence does something else.
    pub fn refresh_clients(&mut self, now: Duration, changed: bool, touched: bool) {
        let looks = changed || self.clients.wake_at().is_some_and(|wake| wake <= now);
        if looks {
            let Self { clients, kernels, lan, journal, .. } = self;
            clients.refresh(now, kernels, lan, journal);
        }
        let Self { chronicle, kernels, fences, daemons, leaving, clients, .. } = self;
        let scene = Scene { kernels, fences, daemons, leaving, clients };
        if looks || touched {
            chronicle.look(now, looks, &scene);
        }
        chronicle.look_at_leases(now, &scene);
    }

    fn changed(&mut self, now: Duration, node: usize, vip: usize, change: KernelChange) {
        self.journal.push(now, What::Kernel { node, vip, change });
    }
}

/// A random number generator for one node's machine, by the world's seed.
pub fn machine_rng(seed: u64, node: usize) -> Rng {
    Rng::new(seed, &format!("machine {node}"))
}
