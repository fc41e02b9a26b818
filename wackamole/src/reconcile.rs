//! Desired × actual → address work, in order. Pure: the driver carries its work to the `Addresses` of the environment and
//! brings the outcomes back.
//!
//! One piece of work at a time per VIP; only a release does not wait for an acquire that is under way. What is gone is put back
//! with back-off, what fails is tried again with back-off. Whether an address is really there is the worker's knowledge, never
//! assumed here.

mod announcing;
mod clearance;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use wackamole_protocol::config::NodeConfig;
use wackamole_protocol::node::{AddressOutcome, Wanted};
use wackamole_protocol::time::{Deadline, Duration, Instant};
use wackamole_protocol::vip::{Vip, VipId};

use crate::env::{Action, AddressError, AddressEvent, Work};
use clearance::{Candidate, Clearance};

/// Pause before the first new try; doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long an address that somebody else removes again and again stays away each time. To put it back costs a third of a
/// millisecond; not to costs its clients all of that.
pub const PUT_BACK_MAX: Duration = Duration::from_millis(320);
/// After this many failures in a row the VIP is offered to others.
const FAILURES_MAX: u32 = 3;
/// For so long a failure counts, though the VIP was not wanted meanwhile.
const FAILURES_COUNT: Duration = RETRY_MAX.saturating_mul(2);
/// Held for so long, an address that vanishes is put back as fast as the first time.
const STABLE: Duration = Duration::from_secs(60);
/// An acquire that takes longer is reported: the call may yet complete, so nobody else may have the VIP.
const STUCK: Duration = Duration::from_secs(2);
/// Whoever notices that later than this was stopped itself: the kernel's answer may be waiting to be read.
const STUCK_LATE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actual {
    Unknown,
    Absent,
    Present,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Acquire,
    Release,
}

#[derive(Debug)]
struct Entry {
    vip: Arc<Vip>,
    desired: bool,
    /// The generation in which `desired` changed last.
    generation: u64,
    /// The outcome for that generation has been told.
    told: bool,
    actual: Actual,
    in_flight: Option<(u64, Operation)>,
    /// An acquire that was in flight when the release that is now was submitted. The worker keeps the order, so the release tells
    /// what has become of both.
    superseded: Option<u64>,
    in_flight_since: Instant,
    stuck_told: bool,
    failures: u32,
    failed_at: Option<Instant>,
    retry_at: Option<Instant>,
    present_since: Instant,
    announce_at: Option<Instant>,
    announced: usize,
    /// An announcement that the worker has yet to send. However often it is called for again meanwhile, a second one waits for its
    /// end: where the kernel is slow they would pile up, and it would be busy with repetitions.
    announcing: Option<u64>,
    /// When it was last defended against somebody else.
    defended_at: Option<Instant>,
    /// When somebody else's use was last told.
    contested_at: Option<Instant>,
    /// Under which deadline the entry is indexed.
    indexed: Option<Deadline>,
}

impl Entry {
    /// When something is due for this VIP.
    fn deadline(&self) -> Option<Deadline> {
        let stuck = (self.in_flight.is_some() && !self.stuck_told)
            .then_some(Deadline::new(self.in_flight_since + STUCK, "address work is stuck"));
        let retry = self.retry_at.map(|at| Deadline::new(at, "address work again"));
        let announce = (self.announce_at.filter(|_| self.announcing.is_none()))
            .map(|at| Deadline::new(at, "an announcement"));
        [stuck, retry, announce].into_iter().flatten().min()
    }
}

/// When an address that somebody has removed is put back, if that has been done so often in the last minute.
pub fn put_back_after(times: u32) -> Duration {
    (RETRY_FIRST * 2u32.saturating_pow(times.min(16))).min(PUT_BACK_MAX)
}

/// Steps from what is to what shall be.
#[derive(Debug)]
pub struct Reconciler {
    entries: BTreeMap<VipId, Entry>,
    clearance: Clearance,
    /// Every entry with a deadline, so that thousands of VIPs are not looked through for the few that are due.
    deadlines: BTreeSet<(Deadline, VipId)>,
    tickets: BTreeMap<u64, VipId>,
    next_ticket: u64,
    work: VecDeque<Work>,
    outcomes: VecDeque<AddressOutcome>,
}

impl Reconciler {
    /// Nothing is desired, and nothing is there: the machine has been cleaned up.
    pub fn new(config: &NodeConfig) -> Self {
        let vips = config.vips.iter().map(|definition| definition.vip.clone());
        let entry = |vip: Arc<Vip>| Entry {
            vip,
            desired: false,
            generation: 0,
            told: true,
            actual: Actual::Absent,
            in_flight: None,
            superseded: None,
            in_flight_since: Instant::ORIGIN,
            stuck_told: false,
            failures: 0,
            failed_at: None,
            retry_at: None,
            present_since: Instant::ORIGIN,
            announce_at: None,
            announced: 0,
            announcing: None,
            defended_at: None,
            contested_at: None,
            indexed: None,
        };
        Self {
            clearance: Clearance::new(config),
            entries: vips.map(|vip| (vip.id(), entry(vip))).collect(),
            deadlines: BTreeSet::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            work: VecDeque::new(),
            outcomes: VecDeque::new(),
        }
    }

    /// These VIPs and no others shall be on this machine. Releases come before acquires.
    pub fn handle_desired(&mut self, generation: u64, desired: &BTreeSet<VipId>, now: Instant) {
        let changed: Vec<VipId> = self
            .entries
            .iter()
            .filter(|(vip, entry)| entry.desired != desired.contains(vip))
            .map(|(&vip, _)| vip)
            .collect();
        for vip in &changed {
            if let Some(entry) = self.entries.get_mut(vip) {
                entry.desired = !entry.desired;
                entry.generation = generation;
                entry.told = false;
                // Let go of only to ask about it, it is no easier to hold than before.
                if entry.failed_at.is_none_or(|at| now >= at + FAILURES_COUNT) {
                    entry.failures = 0;
                }
                entry.retry_at = None;
                if !entry.desired {
                    entry.announce_at = None;
                    self.clearance.settled(*vip);
                }
            }
        }
        for release in [true, false] {
            for &vip in &changed {
                if self.entries.get(&vip).is_some_and(|entry| entry.desired != release) {
                    self.advance(vip, now);
                }
            }
        }
    }

    /// Nothing of ours is on this machine, on its way there, or on its way from there.
    pub fn is_empty(&self) -> bool {
        self.entries.values().all(|entry| {
            !entry.desired && entry.actual == Actual::Absent && entry.in_flight.is_none()
        })
    }

    /// These VIPs shall be asked about on their segments, and no others; see [`wackamole_protocol::node::Output::Clear`].
    pub fn handle_clearing(
        &mut self,
        suspected: &BTreeMap<VipId, bool>,
        wanted: &BTreeMap<VipId, Wanted>,
        now: Instant,
    ) {
        self.clearance.handle_sets(suspected, wanted, now);
        self.advance_clearance(now);
    }

    fn advance_clearance(&mut self, now: Instant) {
        let entries = &self.entries;
        let candidate = |entry: &Entry| Candidate {
            vip: entry.vip.clone(),
            desired: entry.desired,
            busy: entry.in_flight.is_some(),
        };
        self.clearance.advance(
            &|vip| entries.get(&vip).map(candidate),
            &mut self.next_ticket,
            &mut self.work,
            &mut self.outcomes,
            now,
        );
    }

    /// The worker reports.
    pub fn handle_event(&mut self, event: AddressEvent, now: Instant) {
        match event {
            AddressEvent::Done { ticket, result } => {
                if self.clearance.handle_done(ticket, &result, now) {
                    // What else has come in at the same time is taken into account first.
                } else if let Some(vip) = self.tickets.remove(&ticket) {
                    self.handle_done(vip, ticket, result, now);
                }
            }
            AddressEvent::Vanished(vip) => self.handle_vanished(vip, now),
            AddressEvent::Claimed { vip, by, ours, claim } => {
                self.handle_claim(vip, by, ours, claim, now);
            }
            AddressEvent::Servable { vips, why_not } => {
                self.outcomes.push_back(AddressOutcome::Servable { vips, why_not });
            }
            AddressEvent::InterfacesChanged => {
                for vip in self.entries.keys().copied().collect::<Vec<_>>() {
                    if let Some(entry) = self.entries.get_mut(&vip) {
                        entry.retry_at = entry.retry_at.map(|at| at.min(now + RETRY_FIRST));
                        if entry.desired && entry.actual == Actual::Present {
                            // After a link flap the segment may have forgotten us, or may never have heard us.
                            entry.announced = 0;
                            entry.announce_at = Some(now);
                        }
                    }
                    self.announce_if_due(vip, now);
                }
            }
        }
    }

    fn handle_done(
        &mut self,
        vip: VipId,
        ticket: u64,
        result: Result<(), AddressError>,
        now: Instant,
    ) {
        let Some(entry) = self.entries.get_mut(&vip) else { return };
        if entry.superseded.take_if(|superseded| *superseded == ticket).is_some() {
            return;
        }
        if entry.announcing.take_if(|announcing| *announcing == ticket).is_some() {
            // Its failure is repaired by the next one.
            self.announce_if_due(vip, now);
            return;
        }
        let Some((_, operation)) = entry.in_flight.take_if(|(t, _)| *t == ticket) else { return };
        match (operation, result) {
            (Operation::Acquire, Ok(())) => {
                entry.actual = Actual::Present;
                entry.present_since = now;
                self.clearance.settled(vip);
                // Put back, or there at last: the agent may believe otherwise.
                entry.told &= entry.failures == 0;
                if entry.desired {
                    entry.announced = 0;
                    entry.announce_at = Some(now);
                }
            }
            (Operation::Release, Ok(())) => entry.actual = Actual::Absent,
            (operation, Err(error)) => {
                // What a failed acquire has put on is removed again, unless that fails as well; and what was there before it may
                // be there still, as after a failed release. It counts as released only when a release has succeeded, but where somebody
                // else's address is in the way: then all of ours is gone, and that one is not ours to take away.
                entry.actual = match (operation, &error) {
                    (Operation::Acquire, AddressError::Conflict(_)) => Actual::Absent,
                    _ => Actual::Unknown,
                };
                entry.failures += 1;
                entry.failed_at = Some(now);
                let wanted = (operation == Operation::Acquire) == entry.desired;
                if wanted {
                    let pause = RETRY_FIRST * 2u32.saturating_pow(entry.failures - 1);
                    entry.retry_at = Some(now + pause.min(RETRY_MAX));
                    let hopeless = !matches!(error, AddressError::Other(_));
                    self.outcomes.push_back(AddressOutcome::Failed {
                        vip,
                        generation: entry.generation,
                        error: error.to_string(),
                        given_up: operation == Operation::Acquire
                            && (hopeless || entry.failures >= FAILURES_MAX),
                    });
                }
            }
        }
        self.advance(vip, now);
    }

    fn handle_vanished(&mut self, vip: VipId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&vip) else { return };
        if !entry.desired || entry.actual != Actual::Present {
            return;
        }
        if now.since(entry.present_since) >= STABLE {
            entry.failures = 0;
        }
        let retry_in = put_back_after(entry.failures);
        entry.actual = Actual::Unknown; // one of its addresses is gone, the others may be there
        entry.announce_at = None;
        entry.failures += 1;
        entry.retry_at = Some(now + retry_in);
        self.outcomes.push_back(AddressOutcome::Vanished { vip, retry_in });
        self.index(vip);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.clearance.poll_timeout().at <= now {
            self.advance_clearance(now);
        }
        let due: Vec<VipId> = self
            .deadlines
            .iter()
            .take_while(|(deadline, _)| deadline.at <= now)
            .map(|&(_, vip)| vip)
            .collect();
        for vip in due {
            let Some(entry) = self.entries.get_mut(&vip) else { continue };
            let waited = entry.in_flight.is_some() && !entry.stuck_told;
            if waited && now >= entry.in_flight_since + STUCK + STUCK_LATE {
                entry.in_flight_since = now;
            } else if waited && now >= entry.in_flight_since + STUCK {
                entry.stuck_told = true;
                self.outcomes.push_back(AddressOutcome::Failed {
                    vip,
                    generation: entry.generation,
                    error: format!("the kernel has not answered for {STUCK:?}"),
                    given_up: false,
                });
            }
            if entry.retry_at.take_if(|at| now >= *at).is_some() {
                if entry.desired && self.clearance.is_stale(vip, now) {
                    self.outcomes.push_back(AddressOutcome::Stale { vip });
                } else {
                    self.advance(vip, now);
                }
            }
            self.announce_if_due(vip, now);
        }
    }

    /// When to call [`Reconciler::handle_timeout`].
    pub fn poll_timeout(&self) -> Deadline {
        let entries = self.deadlines.first().map_or(Deadline::NEVER, |&(deadline, _)| deadline);
        entries.min(self.clearance.poll_timeout())
    }

    /// Files the entry under its deadline.
    fn index(&mut self, vip: VipId) {
        let Some(entry) = self.entries.get_mut(&vip) else { return };
        let deadline = entry.deadline();
        if deadline == entry.indexed {
            return;
        }
        if let Some(before) = entry.indexed {
            self.deadlines.remove(&(before, vip));
        }
        entry.indexed = deadline;
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, vip));
        }
    }

    /// Work to hand to the worker, in order. An acquire that nobody wants any more is not begun: the lease that it was to happen under
    /// may be over, without the fences' ever having known of it.
    pub fn poll_work(&mut self) -> Option<Work> {
        loop {
            let work = self.work.pop_front()?;
            let Action::Acquire(vip) = &work.action else { return Some(work) };
            let entry = self.entries.get_mut(&vip.id());
            let superseded =
                entry.and_then(|entry| entry.superseded.take_if(|t| *t == work.ticket));
            if superseded.is_none() {
                return Some(work);
            }
            self.tickets.remove(&work.ticket);
        }
    }

    /// What to tell the agent.
    pub fn poll_outcome(&mut self) -> Option<AddressOutcome> {
        self.outcomes.pop_front()
    }

    /// Takes the next step for one VIP: tells that all is as desired, or submits work, unless some is in flight.
    fn advance(&mut self, vip: VipId, now: Instant) {
        self.take_step(vip, now);
        self.announce_if_due(vip, now);
    }

    fn take_step(&mut self, vip: VipId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&vip) else { return };
        let acquire = match entry.in_flight {
            Some((ticket, Operation::Acquire)) if !entry.desired => Some(ticket),
            Some(_) => return,
            None if entry.retry_at.is_some() => return,
            None => None,
        };
        let wanted = if entry.desired { Actual::Present } else { Actual::Absent };
        if entry.actual == wanted {
            entry.retry_at = None;
            if !entry.told {
                entry.told = true;
                let generation = entry.generation;
                self.outcomes.push_back(if entry.desired {
                    AddressOutcome::Held { vip, generation }
                } else {
                    AddressOutcome::Released { vip, generation }
                });
                if entry.desired && entry.announce_at.is_none() {
                    entry.announced = 0;
                    entry.announce_at = Some(now);
                }
            }
            return;
        }
        let (operation, action) = if entry.desired {
            (Operation::Acquire, Action::Acquire(entry.vip.clone()))
        } else {
            (Operation::Release, Action::Release(entry.vip.clone()))
        };
        entry.superseded = acquire.or(entry.superseded);
        entry.actual = Actual::Unknown; // under way; what is about to go is not announced
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        entry.in_flight = Some((ticket, operation));
        entry.in_flight_since = now;
        entry.stuck_told = false;
        self.tickets.insert(ticket, vip);
        self.work.push_back(Work { ticket, action });
    }
}
