//! What stands behind the daemons: gate, guardian and kernel address lifetimes of each machine (design.md §6).
//!
//! Everything here runs on the machine's own clock, as the kernel's timers do: it drifts with it and stops with it. The
//! fences know the lease that the daemon told them last and nothing of what it decides; what they want done is an
//! [`Order`], which the world carries out.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::rc::Rc;

use wackamole::env::Lease;
use wackamole_protocol::time::{Duration, Instant};

use crate::clock::Oscillator;
use crate::kernels::Kernels;
use crate::rng::{Rng, Span};
use crate::segment::Daemon;

/// How long a guardian takes from a death or a missed deadline until it acts: a pidfd or a timer wakes it.
const GUARDIAN_WAKES: Span = Span { min: Duration::from_millis(1), max: Duration::from_millis(10) };
/// What removing one VIP costs it (seen: 13 ms for a thousand).
const REMOVAL: Duration = Duration::from_micros(13);
/// Behind a gate a guardian leaves a living daemon the time to release by itself: nothing answers meanwhile.
const PATIENCE_BEHIND_GATE: Duration = Duration::from_millis(20);
/// Kernel address lifetime where nothing else ends the answering, and behind a gate.
const LIFETIME: Duration = Duration::from_secs(1);
const LIFETIME_BEHIND_GATE: Duration = Duration::from_secs(5);
/// The kernel sweeps at most once a second: by so much more than its lifetime an address lives.
const SWEEP: Span = Span { min: Duration::ZERO, max: Duration::from_millis(900) };
/// How often in a lifetime the daemon renews it.
const RENEWALS: u32 = 3;

/// Which fences a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceSpec {
    /// The kernel drops what comes for a VIP when the lease has run out.
    pub gate: bool,
    /// A process of its own that removes the addresses when the daemon dies or misses its lease.
    pub guardian: bool,
    /// Addresses that are not renewed vanish.
    pub lifetime: bool,
}

impl FenceSpec {
    /// None at all.
    pub const NONE: Self = Self { gate: false, guardian: false, lifetime: false };
    /// All of them.
    pub const ALL: Self = Self { gate: true, guardian: true, lifetime: true };

    /// After how long at the latest, counted from the end of the lease, the guardian of a machine with so many VIPs has
    /// removed them.
    pub fn guardian_max(self, vips: usize) -> Duration {
        let patience = if self.gate { PATIENCE_BEHIND_GATE } else { Duration::ZERO };
        patience + GUARDIAN_WAKES.max + REMOVAL * vips as u32
    }

    /// For how long at most an address lives that is not renewed.
    pub fn lifetime_max(self) -> Duration {
        self.lifetime() + SWEEP.max
    }

    fn lifetime(self) -> Duration {
        if self.gate { LIFETIME_BEHIND_GATE } else { LIFETIME }
    }
}

/// What a fence wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The kernel's sweep removes all addresses of ours.
    Expire(usize),
    /// The guardian kills the daemon if it is still there, removes all addresses and tells the peers.
    Guard(usize),
    /// The daemon notices that it has lost its guardian and cannot get another.
    Unguarded(usize),
}

/// What a machine's guardian is doing, for whoever tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// There is none.
    Absent,
    /// It watches the daemon.
    Watching,
    /// It is about to kill its daemon and to remove everything.
    Acting,
    /// SIGSTOP.
    Paused,
    /// Killed, and perhaps replaced soon.
    Dead,
    /// Killed, and not to be replaced.
    Lost,
}

impl Watch {
    /// A few words for people.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Absent => "none",
            Self::Watching => "watching",
            Self::Acting => "about to act",
            Self::Paused => "paused",
            Self::Dead => "dead",
            Self::Lost => "dead, not replaced",
        }
    }
}

/// What a machine's guardian is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardianState {
    /// There is none.
    Absent,
    /// It watches the daemon.
    Watching,
    /// It has seen that it must act, and does so at this time of its machine's clock.
    Acting(Duration),
    /// SIGSTOP.
    Paused,
    /// Killed; the daemon replaces it at this time of the clock, once it has noticed.
    Dead(Option<Duration>),
    /// Killed, and not to be replaced.
    Lost,
}

#[derive(Debug)]
struct Machine {
    spec: FenceSpec,
    oscillator: Rc<Cell<Oscillator>>,
    lease: Lease,
    /// When the lease was told, and what it was before that tick.
    before: (Duration, Lease),
    renewed: Option<Duration>,
    expires: Option<Duration>,
    guardian: GuardianState,
    /// When its clock has an effect next, in the world's time; to be looked at before if something is otherwise.
    due: Option<Duration>,
    stale: bool,
}

/// The fences of all machines.
#[derive(Debug)]
pub struct Fences {
    machines: Vec<Machine>,
    respawn: Option<Span>,
    rng: Rng,
    /// The address tables as they were when the fences were looked at last.
    seen_version: u64,
    version: u64,
}

impl Fences {
    /// Machines without fences, whose clocks go right.
    pub fn none(nodes: usize) -> Self {
        let machine = || (FenceSpec::NONE, Rc::default());
        Self::new((0..nodes).map(|_| machine()).collect(), None, 0)
    }

    /// The fences of machines with these clocks. A daemon replaces a dead guardian within `respawn`, or cannot.
    pub fn new(
        machines: Vec<(FenceSpec, Rc<Cell<Oscillator>>)>,
        respawn: Option<Span>,
        seed: u64,
    ) -> Self {
        let machine = |(spec, oscillator)| Machine {
            spec,
            oscillator,
            lease: Lease::None,
            before: (Duration::ZERO, Lease::None),
            renewed: None,
            expires: None,
            guardian: GuardianState::Absent,
            due: None,
            stale: true,
        };
        let machines = machines.into_iter().map(machine).collect();
        let rng = Rng::new(seed, "fences");
        Self { machines, respawn, rng, seen_version: u64::MAX, version: 0 }
    }

    /// Grows whenever a guardian begins to do something else by itself.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Which fences a machine has.
    pub fn spec(&self, node: usize) -> FenceSpec {
        self.machines[node].spec
    }

    /// Whether a lease that the daemon told is over on the machine's own clock.
    pub fn lease_is_over(&self, now: Duration, node: usize) -> bool {
        let machine = &self.machines[node];
        matches!(machine.lease, Lease::Until(_))
            && !machine.leased(machine.oscillator.get().shown(now))
    }

    /// A lease that the daemon told runs on the machine's own clock.
    pub fn leased(&self, now: Duration, node: usize) -> bool {
        let machine = &self.machines[node];
        machine.leased(machine.oscillator.get().shown(now))
    }

    /// When a lease is over in the world's time, as the machine's clock goes now.
    pub fn over_at(&self, node: usize, lease: Lease) -> Option<Duration> {
        let Lease::Until(until) = lease else { return None };
        Some(self.machines[node].oscillator.get().true_time(until.since_origin()))
    }

    /// When the lease that the daemon told last is over, or was.
    pub fn lease_end(&self, node: usize) -> Option<Duration> {
        self.over_at(node, self.machines[node].lease)
    }

    /// The same for the lease that it had told before the tick that began at `tick`.
    pub fn lease_end_before(&self, tick: Duration, node: usize) -> Option<Duration> {
        let machine = &self.machines[node];
        let (told, before) = machine.before;
        self.over_at(node, if told == tick { before } else { machine.lease })
    }

    /// What the guardian is doing.
    pub fn watch(&self, node: usize) -> Watch {
        match self.machines[node].guardian {
            GuardianState::Absent => Watch::Absent,
            GuardianState::Watching => Watch::Watching,
            GuardianState::Acting(_) => Watch::Acting,
            GuardianState::Paused => Watch::Paused,
            GuardianState::Dead(_) => Watch::Dead,
            GuardianState::Lost => Watch::Lost,
        }
    }

    /// The daemon tells its lease, in the tick that begins now.
    pub fn renew(&mut self, now: Duration, node: usize, lease: Lease) {
        let machine = &mut self.machines[node];
        if machine.before.0 != now {
            machine.before = (now, machine.lease);
        }
        machine.lease = lease;
        machine.stale = true;
    }

    /// Nothing answers on the machine, because its gate is shut.
    pub fn shut(&self, now: Duration, node: usize) -> bool {
        let machine = &self.machines[node];
        machine.spec.gate && !machine.leased(machine.oscillator.get().shown(now))
    }

    /// A guardian runs, stopped or not.
    pub fn guarded(&self, node: usize) -> bool {
        let guardian = self.machines[node].guardian;
        matches!(
            guardian,
            GuardianState::Watching | GuardianState::Acting(_) | GuardianState::Paused
        )
    }

    /// A guardian runs that is able to act.
    pub fn watched(&self, node: usize) -> bool {
        matches!(self.machines[node].guardian, GuardianState::Watching | GuardianState::Acting(_))
    }

    /// What the guardian is doing.
    pub fn guardian(&self, node: usize) -> GuardianState {
        self.machines[node].guardian
    }

    /// The guardian is gone for good: the daemon may hold nothing.
    pub fn lost(&self, node: usize) -> bool {
        self.machines[node].guardian == GuardianState::Lost
    }

    /// A daemon starts and brings its guardian with it.
    pub fn daemon_starts(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        machine.guardian =
            if machine.spec.guardian { GuardianState::Watching } else { GuardianState::Absent };
        machine.stale = true;
    }

    /// The daemon has left gracefully, or the machine is off: the guardian is gone, and no lease runs.
    pub fn daemon_gone(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        machine.guardian = GuardianState::Absent;
        machine.lease = Lease::None;
        machine.stale = true;
    }

    /// SIGKILL for the guardian.
    pub fn kill_guardian(&mut self, node: usize) {
        if self.guarded(node) {
            self.machines[node].guardian = GuardianState::Dead(None);
        }
    }

    /// SIGSTOP for the guardian.
    pub fn pause_guardian(&mut self, node: usize) {
        if self.guarded(node) {
            self.machines[node].guardian = GuardianState::Paused;
        }
    }

    /// SIGCONT for the guardian: it looks again.
    pub fn resume_guardian(&mut self, node: usize) {
        let guardian = &mut self.machines[node].guardian;
        if *guardian == GuardianState::Paused {
            *guardian = GuardianState::Watching;
        }
    }

    /// When a clock has an effect next, if nothing else happens before; to be asked after [`Fences::step`].
    pub fn next_step(&self) -> Option<Duration> {
        self.machines.iter().filter_map(|machine| machine.due).min()
    }

    /// Lets all clocks have their effect: gates shut, sweeps and guardians' orders are returned. Only those machines are looked at that
    /// have waited for this time, or whose lease or addresses have changed; all of them if anything was done to the world
    /// (`touched`): to a clock, a guardian or a daemon.
    pub fn step(
        &mut self,
        now: Duration,
        daemons: &[Daemon],
        kernels: &mut Kernels,
        touched: bool,
        orders: &mut Vec<Order>,
    ) {
        let touched = touched || kernels.version() != self.seen_version;
        let Self { machines, respawn, rng, version, .. } = self;
        for (node, machine) in machines.iter_mut().enumerate() {
            if !(touched || machine.stale || machine.due.is_some_and(|due| due <= now)) {
                continue;
            }
            machine.stale = false;
            if machine.spec == FenceSpec::NONE || !kernels.runs(node) {
                machine.due = None;
                continue;
            }
            let oscillator = machine.oscillator.get();
            let shown = oscillator.shown(now);
            if machine.spec.gate {
                kernels.set_shut(node, !machine.leased(shown));
            }
            let held = kernels.count(node);
            if machine.spec.lifetime && machine.sweeps(shown, daemons[node], held, rng) {
                orders.push(Order::Expire(node));
            }
            let before = machine.guardian;
            match machine.guard(shown, daemons[node], held, *respawn, rng) {
                Some(Guarding::Act) => orders.push(Order::Guard(node)),
                Some(Guarding::GiveUp) => orders.push(Order::Unguarded(node)),
                None => {}
            }
            let next = machine.next_effect(shown, daemons[node], held);
            // Rounded up by a nanosecond, which may be a whole tick.
            let true_time = |at| oscillator.true_time(at).saturating_sub(Duration::from_nanos(1));
            machine.due = next.map(true_time);
            if machine.guardian != before {
                *version += 1;
                // What it does now may be due already.
                (machine.due, machine.stale) = (Some(now), true);
            }
        }
        self.seen_version = kernels.version();
    }
}

enum Guarding {
    Act,
    GiveUp,
}

impl Machine {
    fn leased(&self, shown: Duration) -> bool {
        match self.lease {
            Lease::None => false,
            Lease::Until(until) => Instant::after_origin(shown) < until,
        }
    }

    /// When the machine's clock shows something that [`Fences::step`] waits for. What it does not wait for any more needs
    /// something else to happen.
    fn next_effect(&self, shown: Duration, daemon: Daemon, held: usize) -> Option<Duration> {
        let lease = match self.lease {
            Lease::None => None,
            Lease::Until(until) => Some(until.since_origin()),
        };
        let gate = lease.filter(|_| self.spec.gate);
        let missed = lease.filter(|_| held > 0).map(|until| until + self.patience());
        let renewal = self.renewed.map(|at| at + self.spec.lifetime() / RENEWALS);
        let lifetime = self.spec.lifetime && held > 0;
        let renewal = renewal.filter(|_| lifetime && daemon.attends());
        let expiry = self.expires.filter(|_| lifetime);
        let guardian = match self.guardian {
            GuardianState::Acting(at) | GuardianState::Dead(Some(at)) => Some(at),
            GuardianState::Absent
            | GuardianState::Watching
            | GuardianState::Paused
            | GuardianState::Dead(None)
            | GuardianState::Lost => None,
        };
        let effects = [gate, missed, renewal, expiry, guardian].into_iter().flatten();
        effects.filter(|&at| at > shown).min()
    }

    /// Behind a gate a guardian is in no hurry.
    fn patience(&self) -> Duration {
        if self.spec.gate { PATIENCE_BEHIND_GATE } else { Duration::ZERO }
    }

    /// Renews the lifetimes if the daemon would; returns whether the addresses vanish.
    fn sweeps(&mut self, shown: Duration, daemon: Daemon, held: usize, rng: &mut Rng) -> bool {
        if held == 0 {
            (self.renewed, self.expires) = (None, None);
            return false;
        }
        let lifetime = self.spec.lifetime();
        let due = self.renewed.is_none_or(|at| shown >= at + lifetime / RENEWALS);
        if self.expires.is_none() || due && daemon.attends() && self.leased(shown) {
            self.renewed = Some(shown);
            self.expires = Some(shown + lifetime + SWEEP.draw(rng));
        }
        self.expires.is_some_and(|at| shown >= at)
    }

    fn guard(
        &mut self,
        shown: Duration,
        daemon: Daemon,
        held: usize,
        respawn: Option<Span>,
        rng: &mut Rng,
    ) -> Option<Guarding> {
        let needed = match daemon {
            Daemon::Killed => true,
            Daemon::Running(_) | Daemon::Paused(_) => held > 0 && self.missed(shown),
            Daemon::Off | Daemon::Ended | Daemon::Frozen(_) => false,
        };
        match self.guardian {
            GuardianState::Watching if needed => {
                let takes = GUARDIAN_WAKES.draw(rng) + REMOVAL * held as u32;
                self.guardian = GuardianState::Acting(shown + takes);
                None
            }
            GuardianState::Acting(_) if !needed => {
                self.guardian = GuardianState::Watching;
                None
            }
            GuardianState::Acting(at) if shown >= at => {
                self.guardian = GuardianState::Absent;
                self.lease = Lease::None;
                Some(Guarding::Act)
            }
            GuardianState::Dead(None) if daemon.attends() => match respawn {
                Some(within) => {
                    self.guardian = GuardianState::Dead(Some(shown + within.draw(rng)));
                    None
                }
                None => {
                    self.guardian = GuardianState::Lost;
                    Some(Guarding::GiveUp)
                }
            },
            GuardianState::Dead(Some(at)) if daemon.attends() && shown >= at => {
                self.guardian = GuardianState::Watching;
                None
            }
            GuardianState::Absent
            | GuardianState::Watching
            | GuardianState::Acting(_)
            | GuardianState::Paused
            | GuardianState::Dead(_)
            | GuardianState::Lost => None,
        }
    }

    /// The lease is over, and a living daemon has had its time to let go.
    fn missed(&self, shown: Duration) -> bool {
        match self.lease {
            // Nothing was ever promised: what is there belongs to an earlier daemon.
            Lease::None => false,
            Lease::Until(until) => Instant::after_origin(shown) >= until + self.patience(),
        }
    }
}
