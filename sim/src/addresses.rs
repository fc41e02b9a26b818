//! `env::Addresses` on the simulated kernels: one worker per machine that takes its time, may fail and may hang.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tokio::sync::Notify;
use wackamole::env::{Action, AddressError, AddressEvent, Addresses, Lease, Work};
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::VipId;

use crate::clock::world_time;
use crate::rng::{Rng, Span};
use crate::segment::{SabotageKind, SharedSegment};

/// One daemon's address worker.
///
/// Work is done in order, each piece taking a drawn time. A piece that hangs blocks later work on its own VIP only: the
/// production worker may stand still altogether, but what a hung call does to the other VIPs is its business, not the
/// protocol's.
pub struct SimAddresses {
    node: usize,
    segment: SharedSegment,
    vips: Rc<Vec<VipId>>,
    operation: Span,
    worker: RefCell<Worker>,
    bell: Rc<Notify>,
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
        node: usize,
        segment: SharedSegment,
        vips: Rc<Vec<VipId>>,
        operation: Span,
        rng: Rng,
    ) -> Self {
        let bell = segment.borrow().bell(node);
        let worker = Worker {
            jobs: VecDeque::new(),
            busy_until: Duration::ZERO,
            rng,
            hung_until: BTreeMap::new(),
        };
        Self { node, segment, vips, operation, worker: RefCell::new(worker), bell }
    }

    fn index(&self, vip: VipId) -> usize {
        self.vips.iter().position(|&id| id == vip).expect("daemons know the scenario's VIPs only")
    }

    /// Does the next piece of work if it is due.
    fn advance(&self, now: Duration) -> Next {
        if let Some(vip) = self.segment.borrow_mut().next_deleted(self.node) {
            return Next::Event(AddressEvent::Vanished(self.vips[vip]));
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
            let result = self.execute(now, &job);
            return Next::Event(AddressEvent::Done { ticket: job.ticket, result });
        }
        wake.map_or(Next::Idle, Next::At)
    }

    fn execute(&self, now: Duration, job: &Job) -> Result<(), AddressError> {
        let mut segment = self.segment.borrow_mut();
        let Some(vip) = job.vip else {
            segment.clean_up(now, self.node);
            return Ok(());
        };
        let refused = segment.sabotage(now, self.node, vip).is_some();
        let present = segment.kernels.answers(self.node, vip);
        match &job.action {
            // Whatever a kernel refuses, an address that is not there is released.
            Action::Release(_) if !present => {}
            Action::Acquire(_) | Action::Release(_) if refused => {
                return Err(AddressError::Other("refused by the scenario".to_owned()));
            }
            Action::Acquire(_) => segment.acquire(now, self.node, vip),
            Action::Release(_) => segment.release(now, self.node, vip),
            Action::Announce(_) => segment.announce(now, self.node, vip),
            Action::Probe(_) => {}
            Action::FenceNode(_) | Action::CleanUp => segment.clean_up(now, self.node),
        }
        Ok(())
    }
}

impl Addresses for SimAddresses {
    fn submit(&self, work: Work) {
        let vip = match &work.action {
            Action::CleanUp => None,
            Action::FenceNode(_) => None,
            Action::Acquire(vip)
            | Action::Release(vip)
            | Action::Announce(vip)
            | Action::Probe(vip) => Some(self.index(vip.id())),
        };
        let mut worker = self.worker.borrow_mut();
        let started = worker.busy_until.max(world_time());
        let due = started + self.operation.draw(&mut worker.rng);
        worker.busy_until = due;
        worker.jobs.push_back(Job { ticket: work.ticket, action: work.action, vip, due });
        self.bell.notify_one();
    }

    fn renew(&self, _lease: Lease) {}

    async fn next(&self) -> AddressEvent {
        loop {
            let now = world_time();
            match self.advance(now) {
                Next::Event(event) => return event,
                Next::At(at) => tokio::select! { biased;
                    () = self.bell.notified() => {}
                    () = tokio::time::sleep(at.saturating_sub(now)) => {}
                },
                Next::Idle => self.bell.notified().await,
            }
        }
    }
}
