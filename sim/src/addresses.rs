//! `env::Addresses` on the simulated kernels: one worker per machine that takes its time, may fail and may hang. Only the
//! gate is shut at once, before what is released is removed.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use wackamole::env::{Action, AddressError, AddressEvent, Addresses, Lease, Work};
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::VipId;

use crate::air::mac;
use crate::bell::Bell;
use crate::engine::WorldTime;
use crate::journal::{KernelChange, What};
use crate::rng::{Rng, Span};
use crate::segment::{News, SabotageKind, SharedSegment};

/// One daemon's address worker.
///
/// Work is done in order, each piece taking a drawn time. A piece that hangs blocks later work on its own VIP only: the
/// production worker may stand still altogether, but what a hung call does to the other VIPs is its business, not the
/// protocol's.
pub struct SimAddresses {
    time: WorldTime,
    node: usize,
    segment: SharedSegment,
    vips: Rc<Vec<VipId>>,
    pace: Pace,
    worker: RefCell<Worker>,
    bell: Rc<Bell>,
}

/// How long a machine's address work takes.
#[derive(Clone, Debug)]
pub struct Pace {
    /// One piece of work on one VIP.
    pub operation: Span,
    /// The operator's fence command, if there is one.
    pub fence: Option<FenceCommand>,
}

/// An operator's fence command.
#[derive(Clone, Debug)]
pub struct FenceCommand {
    /// What it takes.
    pub takes: Span,
    /// The probability that it fails.
    pub fails: f64,
    /// The nodes that it can switch off, by index.
    pub names: Rc<Vec<String>>,
}

struct Worker {
    jobs: VecDeque<Job>,
    busy_until: Duration,
    rng: Rng,
    hung_until: BTreeMap<usize, Option<Duration>>,
}

struct Job {
    ticket: u64,
    action: Action,
    vip: Option<usize>,
    due: Duration,
    /// A release has overtaken it.
    pointless: bool,
}

/// What the worker can do now.
enum Next {
    Event(AddressEvent),
    At(Duration),
    Idle,
}

impl SimAddresses {
    /// The worker of a daemon on machine `node`; `vips` gives the identities by index.
    pub fn new(
        time: WorldTime,
        node: usize,
        segment: SharedSegment,
        vips: Rc<Vec<VipId>>,
        pace: Pace,
        rng: Rng,
    ) -> Self {
        let bell = segment.borrow().bell(node);
        let worker = Worker {
            jobs: VecDeque::new(),
            busy_until: Duration::ZERO,
            rng,
            hung_until: BTreeMap::new(),
        };
        Self { time, node, segment, vips, pace, worker: RefCell::new(worker), bell }
    }

    fn index(&self, vip: VipId) -> usize {
        self.vips.iter().position(|&id| id == vip).expect("daemons know the scenario's VIPs only")
    }

    /// Does the next piece of work if it is due.
    fn advance(&self, now: Duration) -> Next {
        if let Some(news) = self.segment.borrow_mut().next_news(self.node) {
            return Next::Event(self.event(news));
        }
        let mut worker = self.worker.borrow_mut();
        let Worker { jobs, hung_until, .. } = &mut *worker;
        let mut wake: Option<Duration> = None;
        let mut position = 0;
        while position < jobs.len() {
            let job = &jobs[position];
            let at = match job.vip.and_then(|vip| hung_until.get(&vip)) {
                Some(None) => {
                    position += 1;
                    continue;
                }
                Some(Some(until)) => job.due.max(*until),
                None => job.due,
            };
            if at > now {
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
                position += 1;
                continue;
            }
            if let Some(vip) = job.vip
                && matches!(job.action, Action::Acquire(_) | Action::Release(_))
                && let Some(sabotage) = self.segment.borrow().sabotage(now, self.node, vip)
                && sabotage.kind == SabotageKind::Hang
            {
                hung_until.insert(vip, sabotage.until);
                continue;
            }
            let job = jobs.remove(position).expect("the position was just looked at");
            if let Some(vip) = job.vip {
                hung_until.remove(&vip);
            }
            let result = self.execute(now, &job, &mut worker.rng);
            return Next::Event(AddressEvent::Done { ticket: job.ticket, result });
        }
        wake.map_or(Next::Idle, Next::At)
    }

    fn event(&self, news: News) -> AddressEvent {
        match news {
            News::Vanished(vip) => AddressEvent::Vanished(self.vips[vip]),
            News::Heard(heard) => AddressEvent::Claimed {
                vip: self.vips[heard.vip],
                by: heard.by,
                ours: mac(self.node),
                claim: heard.claim,
            },
            News::Servable(why) => {
                AddressEvent::Servable { vips: self.vips.to_vec(), why_not: why.map(str::to_owned) }
            }
            News::InterfacesChanged => AddressEvent::InterfacesChanged,
        }
    }

    fn execute(&self, now: Duration, job: &Job, rng: &mut Rng) -> Result<(), AddressError> {
        if job.pointless {
            return Ok(());
        }
        let mut segment = self.segment.borrow_mut();
        if let Action::FenceNode(target) = &job.action {
            let Some(command) = &self.pace.fence else { return Ok(()) };
            let worked = !rng.chance(command.fails);
            let (node, target) = (self.node, target.clone());
            let index = command.names.iter().position(|name| *name == target);
            segment.fenced.extend(index.filter(|_| worked));
            segment.journal.push(now, What::FenceCommand { node, target, worked });
            return if worked {
                Ok(())
            } else {
                Err(AddressError::Other("the fence command failed".to_owned()))
            };
        }
        let Some(vip) = job.vip else {
            segment.clear(now, self.node, KernelChange::CleanedUp);
            return Ok(());
        };
        let refused = segment.sabotage(now, self.node, vip).is_some();
        let present = segment.kernels.has(self.node, vip);
        match &job.action {
            // Whatever a kernel refuses, an address that is not there is released.
            Action::Release(_) if !present => {}
            Action::Acquire(_) | Action::Release(_) if refused => {
                return Err(AddressError::Other("refused by the scenario".to_owned()));
            }
            Action::Acquire(_) if segment.fences.lease_is_over(now, self.node) => {
                return Err(AddressError::Other("the lease is over".to_owned()));
            }
            Action::Acquire(_) => segment.acquire(now, self.node, vip),
            Action::Release(_) => segment.release(now, self.node, vip),
            Action::Announce(_) => segment.announce(now, self.node, vip),
            Action::Probe(_) if segment.probe(now, self.node, vip) => {}
            Action::Probe(_) => return Err(AddressError::NothingHeard),
            Action::FenceNode(_) | Action::CleanUp => {}
        }
        Ok(())
    }
}

/// What sending a probe takes.
const PROBE: Duration = Duration::from_micros(20);

impl Addresses for SimAddresses {
    fn submit(&self, work: Work) {
        let vip = match &work.action {
            Action::CleanUp | Action::FenceNode(_) => None,
            Action::Acquire(vip)
            | Action::Release(vip)
            | Action::Announce(vip)
            | Action::Probe(vip) => Some(self.index(vip.id())),
        };
        if let (Action::Release(_), Some(vip)) = (&work.action, vip) {
            self.segment.borrow_mut().bar(self.node, vip);
        }
        let mut worker = self.worker.borrow_mut();
        if let (Action::Release(_), Some(vip)) = (&work.action, vip) {
            let Worker { jobs, hung_until, .. } = &mut *worker;
            // What hangs is within the kernel.
            let waiting = jobs.iter_mut().filter(|job| {
                let waits = job.due > self.time.now() && !hung_until.contains_key(&vip);
                job.vip == Some(vip) && matches!(job.action, Action::Acquire(_)) && waits
            });
            waiting.for_each(|job| job.pointless = true);
        }
        let due = if let Action::FenceNode(_) = &work.action {
            // A process of its own, which nothing else waits for.
            let takes = self.pace.fence.as_ref().map(|c| c.takes.draw(&mut worker.rng));
            self.time.now() + takes.unwrap_or_default()
        } else if let Action::Probe(_) = &work.action {
            // A thread of its own sends many in the time of one address operation.
            self.time.now() + PROBE
        } else {
            let started = worker.busy_until.max(self.time.now());
            worker.busy_until = started + self.pace.operation.draw(&mut worker.rng);
            worker.busy_until
        };
        let Work { ticket, action } = work;
        worker.jobs.push_back(Job { ticket, action, vip, due, pointless: false });
        self.bell.ring();
    }

    fn renew(&self, lease: Lease) {
        self.segment.borrow_mut().renew(self.time.now(), self.node, lease);
    }

    async fn next(&self) -> AddressEvent {
        loop {
            let now = self.time.now();
            match self.advance(now) {
                Next::Event(event) => return event,
                Next::At(at) => tokio::select! { biased;
                    () = self.bell.heard() => {}
                    () = self.time.sleep(at.saturating_sub(now)) => {}
                },
                Next::Idle => self.bell.heard().await,
            }
        }
    }
}
