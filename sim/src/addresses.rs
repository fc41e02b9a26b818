//! `env::Addresses` on the simulated kernels: one worker per machine that takes its time, may fail and may hang. Only the
//! gate is shut at once, before what is released is removed.

use std::cell::RefCell;
use std::rc::Rc;

use wackamole::env::{Action, AddressError, AddressEvent, Addresses, Lease, Work};
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::VipId;

use crate::air::mac;
use crate::bell::Bell;
use crate::engine::WorldTime;
use crate::journal::{KernelChange, What};
use crate::rng::{Rng, Span};
use crate::segment::{News, SabotageKind, Segment, SharedSegment};
use worker::{Next, Worker};

mod worker;

/// What is to be told now, or when to look again.
enum Step {
    Event(AddressEvent),
    At(Duration),
    Idle,
}

/// One daemon's address worker.
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
        let worker = Worker::new(pace.operation, rng);
        Self { time, node, segment, vips, pace, worker: RefCell::new(worker), bell }
    }

    fn index(&self, vip: VipId) -> usize {
        self.vips.iter().position(|&id| id == vip).expect("daemons know the scenario's VIPs only")
    }

    /// Does the next piece of work if it is due.
    fn advance(&self, now: Duration) -> Step {
        if let Some(news) = self.segment.borrow_mut().next_news(self.node) {
            return Step::Event(self.event(news));
        }
        let mut worker = self.worker.borrow_mut();
        loop {
            let work = match worker.next(now) {
                Next::Do(work) => work,
                Next::Pointless(ticket) => {
                    return Step::Event(AddressEvent::Done { ticket, result: Ok(()) });
                }
                Next::At(at) => return Step::At(at),
                Next::Idle => return Step::Idle,
            };
            if let Action::Acquire(vip) | Action::Release(vip) = &work.action
                && let vip = self.index(vip.id())
                && let Some(sabotage) = self.segment.borrow().sabotage(now, self.node, vip)
                && sabotage.kind == SabotageKind::Hang
            {
                worker.hang(work, sabotage.until);
                continue;
            }
            let result = self.execute(now, &work.action, &mut worker);
            return Step::Event(AddressEvent::Done { ticket: work.ticket, result });
        }
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

    fn execute(
        &self,
        now: Duration,
        action: &Action,
        worker: &mut Worker,
    ) -> Result<(), AddressError> {
        let mut segment = self.segment.borrow_mut();
        let node = self.node;
        let refused = |segment: &Segment, vip| segment.sabotage(now, node, vip).is_some();
        match action {
            Action::FenceNode(target) => {
                let Some(command) = &self.pace.fence else { return Ok(()) };
                let worked = !worker.rng().chance(command.fails);
                let index = command.names.iter().position(|name| name == target);
                segment.fenced.extend(index.filter(|_| worked));
                let target = target.clone();
                segment.journal.push(now, What::FenceCommand { node, target, worked });
                if !worked {
                    return Err(AddressError::Other("the fence command failed".to_owned()));
                }
            }
            Action::CleanUp => segment.clear(now, node, KernelChange::CleanedUp),
            Action::Release(vip) => {
                let vip = self.index(vip.id());
                // Whatever a kernel refuses, an address that is not there is released.
                if segment.kernels.has(node, vip) {
                    if refused(&segment, vip) {
                        return Err(refusal());
                    }
                    segment.release(now, node, vip);
                }
            }
            Action::Acquire(vip) => {
                let index = self.index(vip.id());
                if refused(&segment, index) {
                    return Err(refusal());
                }
                if segment.fences.lease_is_over(now, node) {
                    return Err(AddressError::Other("the lease is over".to_owned()));
                }
                segment.acquire(now, node, index);
                if worker.will_be_released(vip.id()) {
                    // It opened the gate, and the next that the worker does is to shut it.
                    segment.bar(node, index);
                }
            }
            Action::Announce(vip) => segment.announce(now, node, self.index(vip.id())),
            Action::Probe(vip) => {
                if !segment.probe(now, node, self.index(vip.id())) {
                    return Err(AddressError::NothingHeard);
                }
            }
        }
        Ok(())
    }
}

fn refusal() -> AddressError {
    AddressError::Other("refused by the scenario".to_owned())
}

impl Addresses for SimAddresses {
    fn submit(&self, work: Work) {
        if let Action::Release(vip) = &work.action {
            self.segment.borrow_mut().bar(self.node, self.index(vip.id()));
        }
        let fence = self.pace.fence.as_ref().map(|command| command.takes);
        self.worker.borrow_mut().submit(self.time.now(), work, fence);
        self.bell.ring();
    }

    fn renew(&self, lease: Lease) {
        self.segment.borrow_mut().renew(self.time.now(), self.node, lease);
    }

    async fn next(&self) -> AddressEvent {
        loop {
            let now = self.time.now();
            match self.advance(now) {
                Step::Event(event) => return event,
                Step::At(at) => tokio::select! { biased;
                    () = self.bell.heard() => {}
                    () = self.time.sleep(at.saturating_sub(now)) => {}
                },
                Step::Idle => self.bell.heard().await,
            }
        }
    }
}
