//! In which order a worker does address work. Pure: production's worker goes by it, and the simulator's.
//!
//! Releases first: another machine waits for them. Then the first announcement of what was just acquired, because until
//! then nobody sends to us. Then acquires, then repeated announcements. Work on one VIP keeps its order, and what stands
//! before a release is as urgent as the release; an acquire or announcement that a release overtakes is pointless and dropped, and so is
//! an announcement before an acquire. A clean-up waits for everything before it and holds up everything after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use wackamole_protocol::vip::{Vip, VipId};

use crate::env::{Action, Work};

/// So many pieces of one kind are done together. New work is looked at after each batch, so that a release waits for no more than this;
/// larger batches save nothing that can be measured.
pub const BATCH: usize = 16;

/// Work on one VIP.
#[derive(Clone, Debug)]
pub struct Job {
    /// The caller's number for it.
    pub ticket: u64,
    /// The VIP.
    pub vip: Arc<Vip>,
    /// It is the first announcement of what was just acquired.
    first: bool,
}

/// What to do next. No VIP occurs twice.
#[derive(Debug)]
pub enum Batch {
    /// Remove leftovers.
    CleanUp {
        /// The caller's number for it.
        ticket: u64,
    },
    /// Take these away.
    Release(Vec<Job>),
    /// Put these on.
    Acquire(Vec<Job>),
    /// Tell the segment about these.
    Announce(Vec<Job>),
    /// Acquires and announcements that a release has made pointless, by their tickets.
    Pointless(Vec<u64>),
}

/// Smaller is sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Release,
    FirstAnnouncement,
    Acquire,
    RepeatedAnnouncement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Release,
    Acquire,
    Announce,
}

#[derive(Debug)]
struct Waiting {
    arrival: i64,
    verb: Verb,
    job: Job,
}

/// What is to be done to one VIP, in order. Never empty while it is in the queue.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// Where the line stands in the order of all lines.
    place: Option<(Urgency, i64)>,
}

impl Line {
    /// What waits to be released.
    fn release(&self) -> Option<&Arc<Vip>> {
        let release = self.waiting.iter().find(|waiting| waiting.verb == Verb::Release);
        release.map(|waiting| &waiting.job.vip)
    }

    fn release_waits(&self) -> bool {
        self.release().is_some()
    }
}

/// Work that waits.
#[derive(Debug, Default)]
pub struct Queue {
    lines: BTreeMap<VipId, Line>,
    /// The lines by urgency and arrival of their heads.
    order: BTreeSet<(Urgency, i64, VipId)>,
    /// Acquired and not announced since.
    unannounced: BTreeSet<VipId>,
    pointless: Vec<u64>,
    /// A clean-up that waits for the lines to empty, by its ticket, and what came after it.
    clean_up: Option<u64>,
    behind: VecDeque<Work>,
    arrivals: i64,
}

impl Queue {
    /// Takes in work. Probes and fence commands are nobody's turn, and are not taken.
    pub fn push(&mut self, work: Work) {
        if self.clean_up.is_some() {
            self.behind.push_back(work);
            return;
        }
        let (verb, vip) = match work.action {
            Action::CleanUp => {
                self.clean_up = Some(work.ticket);
                return;
            }
            Action::Release(vip) => (Verb::Release, vip),
            Action::Acquire(vip) => (Verb::Acquire, vip),
            Action::Announce(vip) => (Verb::Announce, vip),
            Action::Probe(_) | Action::FenceNode(_) => return,
        };
        let id = vip.id();
        self.arrivals += 1;
        let line = self.lines.entry(id).or_default();
        line.waiting.retain(|waiting| {
            let pointless = match verb {
                Verb::Release => waiting.verb != Verb::Release,
                // It is announced when it is there again; and would wait for as long as the announcement does.
                Verb::Acquire => waiting.verb == Verb::Announce,
                Verb::Announce => false,
            };
            if pointless {
                self.pointless.push(waiting.job.ticket);
            }
            !pointless
        });
        let job = Job { ticket: work.ticket, vip, first: false };
        line.waiting.push_back(Waiting { arrival: self.arrivals, verb, job });
        self.find_place(id);
    }

    /// Puts back an announcement that could not be sent, to be the first of its kind.
    pub fn put_back_announcement(&mut self, job: Job) {
        let (id, first) = (job.vip.id(), job.first);
        let line = self.lines.entry(id).or_default();
        if line.release_waits() {
            self.pointless.push(job.ticket);
            return;
        }
        line.waiting.push_front(Waiting { arrival: i64::MIN, verb: Verb::Announce, job });
        if first {
            self.unannounced.insert(id);
        }
        self.find_place(id);
    }

    /// Is the most urgent work an announcement?
    pub fn only_announcements(&self) -> bool {
        self.order.first().is_some_and(|&(_, _, id)| self.head_verb(id) == Some(Verb::Announce))
    }

    /// Does a release wait?
    pub fn has_releases(&self) -> bool {
        self.order.first().is_some_and(|&(urgency, ..)| urgency == Urgency::Release)
    }

    /// All VIPs that wait to be released, whatever stands before it.
    pub fn releases(&self) -> impl Iterator<Item = &Arc<Vip>> {
        let first = self.order.iter().take_while(|&&(urgency, ..)| urgency == Urgency::Release);
        first.filter_map(|(_, _, id)| self.lines.get(id)?.release())
    }

    /// Takes the most urgent work, at most `limit` pieces of one kind.
    pub fn take(&mut self, limit: usize) -> Option<Batch> {
        if !self.pointless.is_empty() {
            return Some(Batch::Pointless(std::mem::take(&mut self.pointless)));
        }
        let Some(&(urgency, _, first)) = self.order.first() else {
            return self.take_clean_up();
        };
        let verb = self.head_verb(first);
        let ids: Vec<_> = self
            .order
            .iter()
            .take_while(|&&(other, _, id)| other == urgency && self.head_verb(id) == verb)
            .take(limit)
            .map(|&(_, _, id)| id)
            .collect();
        let jobs: Vec<_> = ids.into_iter().filter_map(|id| self.take_head(id)).collect();
        match verb? {
            Verb::Release => Some(Batch::Release(jobs)),
            Verb::Acquire => Some(Batch::Acquire(jobs)),
            Verb::Announce => Some(Batch::Announce(jobs)),
        }
    }

    fn take_clean_up(&mut self) -> Option<Batch> {
        let ticket = self.clean_up.take()?;
        for work in std::mem::take(&mut self.behind) {
            self.push(work);
        }
        Some(Batch::CleanUp { ticket })
    }

    fn take_head(&mut self, id: VipId) -> Option<Job> {
        let Waiting { verb, mut job, .. } = self.lines.get_mut(&id)?.waiting.pop_front()?;
        match verb {
            Verb::Acquire => {
                self.unannounced.insert(id);
            }
            Verb::Release => {
                self.unannounced.remove(&id);
            }
            Verb::Announce => job.first = self.unannounced.remove(&id),
        }
        self.find_place(id);
        Some(job)
    }

    fn head_verb(&self, id: VipId) -> Option<Verb> {
        Some(self.lines.get(&id)?.waiting.front()?.verb)
    }

    /// Puts the line of `id` where it belongs after a change.
    fn find_place(&mut self, id: VipId) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        if let Some((urgency, arrival)) = line.place.take() {
            self.order.remove(&(urgency, arrival, id));
        }
        let Some(head) = line.waiting.front() else {
            self.lines.remove(&id);
            return;
        };
        let urgency = match head.verb {
            _ if line.release_waits() => Urgency::Release,
            Verb::Release => Urgency::Release,
            Verb::Acquire => Urgency::Acquire,
            Verb::Announce if self.unannounced.contains(&id) => Urgency::FirstAnnouncement,
            Verb::Announce => Urgency::RepeatedAnnouncement,
        };
        let place = (urgency, head.arrival);
        line.place = Some(place);
        self.order.insert((place.0, place.1, id));
    }
}

#[cfg(test)]
mod tests;
