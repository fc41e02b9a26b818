//! When a simulated machine does its address work: in production's order (`wackamole::queue`), each piece taking its time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use wackamole::env::{Action, Work};
use wackamole::queue::{BATCH, Batch, Job, Queue};
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::{Vip, VipId};

use crate::engine::TICK;
use crate::rng::{Rng, Span};

/// What sending a probe takes: a thread of its own sends many in the time of one address operation.
const PROBE: Duration = Duration::from_micros(20);

/// What an announcement takes: it is a frame, where an address operation is a conversation with the kernel.
fn announcement(operation: Duration) -> Duration {
    operation / 8
}

/// One machine's worker.
///
/// A piece that hangs blocks later work on its own VIP only: the production worker may stand still altogether, but what a hung
/// call does to the other VIPs is its business, not the protocol's.
#[derive(Debug)]
pub(super) struct Worker {
    operation: Span,
    rng: Rng,
    queue: Queue,
    pointless: VecDeque<u64>,
    /// What it is at, and when all of that ends.
    under_way: VecDeque<Work>,
    ends: Duration,
    /// Nothing waits.
    idle: bool,
    /// When it has ended what it was at last, or was given something to do.
    free_at: Duration,
    /// What the worker has no part in, each with when it ends: probes and fence commands.
    apart: VecDeque<(Duration, Work)>,
    hung: BTreeMap<VipId, Hung>,
}

/// The work on a VIP whose kernel hangs.
#[derive(Debug)]
struct Hung {
    until: Option<Duration>,
    /// The first is what hangs, the others wait for it.
    work: VecDeque<Work>,
}

/// What is done to a VIP.
type Verb = fn(Arc<Vip>) -> Action;

/// What the worker comes to.
pub(super) enum Next {
    /// This takes effect now.
    Do(Work),
    /// A release has overtaken what has this ticket.
    Pointless(u64),
    /// Nothing before then.
    At(Duration),
    /// Nothing.
    Idle,
}

impl Worker {
    /// A worker whose address operations take `operation` each.
    pub(super) fn new(operation: Span, rng: Rng) -> Self {
        Self {
            operation,
            rng,
            queue: Queue::default(),
            pointless: VecDeque::new(),
            under_way: VecDeque::new(),
            ends: Duration::ZERO,
            idle: true,
            free_at: Duration::ZERO,
            apart: VecDeque::new(),
            hung: BTreeMap::new(),
        }
    }

    /// What chance decides here.
    pub(super) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Takes in work. A fence command takes `fence`, as a process of its own that nothing else waits for.
    pub(super) fn submit(&mut self, now: Duration, work: Work, fence: Option<Span>) {
        match &work.action {
            Action::FenceNode(_) => {
                let takes = fence.map(|takes| takes.draw(&mut self.rng)).unwrap_or_default();
                self.apart.push_back((now + takes, work));
            }
            Action::Probe(_) => self.apart.push_back((now + PROBE, work)),
            Action::CleanUp | Action::Acquire(_) | Action::Release(_) | Action::Announce(_) => {
                self.queue.push(work);
                if self.idle {
                    self.idle = false;
                    self.free_at = self.free_at.max(now);
                }
            }
        }
    }

    /// What happens next, by `now`.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        self.begin();
        if let Some(ticket) = self.pointless.pop_front() {
            return Next::Pointless(ticket);
        }
        let worker = (!self.under_way.is_empty()).then_some(self.ends);
        let apart = self.apart.iter().enumerate().map(|(place, (ends, _))| (*ends, place)).min();
        let hung = self.hung.iter().filter_map(|(vip, hung)| Some((hung.until?, *vip))).min();
        let times = [worker, apart.map(|(at, _)| at), hung.map(|(at, _)| at)];
        let Some(first) = times.into_iter().flatten().min() else { return Next::Idle };
        if first > now {
            return Next::At(first);
        }
        let work = if worker == Some(first) {
            self.free_at = resumed_at(first, now);
            self.under_way.pop_front()
        } else if let Some((_, place)) = apart.filter(|&(at, _)| at == first) {
            self.apart.remove(place).map(|(_, work)| work)
        } else {
            hung.and_then(|(_, vip)| self.take_hung(resumed_at(first, now), vip))
        };
        work.map_or(Next::Idle, Next::Do)
    }

    /// The kernel hangs in what it has just come to.
    pub(super) fn hang(&mut self, work: Work, until: Option<Duration>) {
        let Some(vip) = vip_of(&work) else { return };
        let hung = self.hung.entry(vip).or_insert_with(|| Hung { until, work: VecDeque::new() });
        hung.until = until;
        hung.work.push_front(work);
    }

    /// A VIP is to be released as soon as its turn comes.
    pub(super) fn will_be_released(&self, vip: VipId) -> bool {
        let release =
            |work: &Work| matches!(&work.action, Action::Release(other) if other.id() == vip);
        self.hung.get(&vip).is_some_and(|hung| hung.work.iter().any(release))
            || self.queue.releases().any(|other| other.id() == vip)
    }

    /// Begins what is most urgent, if it is not at anything. What is done together is told together, as in production.
    fn begin(&mut self) {
        while self.under_way.is_empty() && self.pointless.is_empty() {
            let (jobs, action): (Vec<Job>, Verb) = match self.queue.take(BATCH) {
                None => {
                    self.idle = true;
                    return;
                }
                Some(Batch::Pointless(tickets)) => {
                    self.pointless.extend(tickets);
                    return;
                }
                Some(Batch::CleanUp { ticket }) => {
                    self.ends = self.free_at + self.operation.draw(&mut self.rng);
                    self.under_way.push_back(Work { ticket, action: Action::CleanUp });
                    return;
                }
                Some(Batch::Release(jobs)) => (jobs, Action::Release),
                Some(Batch::Acquire(jobs)) => (jobs, Action::Acquire),
                Some(Batch::Announce(jobs)) => (jobs, Action::Announce),
            };
            self.ends = self.free_at;
            for job in jobs {
                let (id, work) =
                    (job.vip.id(), Work { ticket: job.ticket, action: action(job.vip) });
                if let Some(hung) = self.hung.get_mut(&id) {
                    hung.work.push_back(work);
                    continue;
                }
                let operation = self.operation.draw(&mut self.rng);
                self.ends += match &work.action {
                    Action::Announce(_) => announcement(operation),
                    _ => operation,
                };
                self.under_way.push_back(work);
            }
        }
    }

    /// Takes what has hung until now. What has waited for it takes its time after it.
    fn take_hung(&mut self, now: Duration, vip: VipId) -> Option<Work> {
        let hung = self.hung.get_mut(&vip)?;
        let work = hung.work.pop_front();
        if hung.work.is_empty() {
            self.hung.remove(&vip);
        } else {
            hung.until = Some(now + self.operation.draw(&mut self.rng));
        }
        work
    }
}

/// When it can go on with something else that ended at `end` and is told `now`: if that is more than a tick later, the process was
/// stopped in between.
fn resumed_at(end: Duration, now: Duration) -> Duration {
    if now > end + TICK { now } else { end }
}

fn vip_of(work: &Work) -> Option<VipId> {
    match &work.action {
        Action::CleanUp | Action::FenceNode(_) => None,
        Action::Acquire(vip)
        | Action::Release(vip)
        | Action::Announce(vip)
        | Action::Probe(vip) => Some(vip.id()),
    }
}

#[cfg(test)]
mod tests;
