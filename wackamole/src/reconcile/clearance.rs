//! Asks the segment before something is acquired whose release nobody has confirmed. Pure, like the rest of the
//! reconciler.
//!
//! A prospective heir probes from the moment of suspicion; when the VIP becomes its own, and no probe was answered, it costs
//! no time at all. While somebody answers the VIP stays where it is.

mod inquiry;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use wackamole_protocol::config::{NodeConfig, Partition};
use wackamole_protocol::id::NodeId;
use wackamole_protocol::mac::{Claim, MacAddress};
use wackamole_protocol::node::{AddressOutcome, Wanted};
use wackamole_protocol::time::{Deadline, Duration, Instant};
use wackamole_protocol::vip::{Vip, VipId};

use crate::env::{Action, AddressError, Work};
use inquiry::{Inquiry, Waits};

/// For how long an answer is waited for at most: many times a round trip on a LAN, and a kernel needs no more.
const ANSWER_MAX: Duration = Duration::from_millis(20);
/// How often questions about one VIP follow each other at least, for each VIP that is asked about: what a machine and its
/// segment bear without noticing.
const PAUSE_PER_VIP: Duration = Duration::from_micros(50);
/// Pause before a fence command that failed is run again.
const FENCE_AGAIN: Duration = Duration::from_secs(1);

/// A VIP that was free and is being acquired. Whoever waits until we ask no more would take it too while the kernel
/// is busy with others; and whoever takes it all the same is heard of.
#[derive(Clone, Copy, Debug)]
struct Taking {
    since: Instant,
    probe_at: Instant,
    probing: Option<u64>,
    /// When the last probe was out; at first, the last of those that found it free.
    probed_at: Instant,
    /// The kernel has refused for so long that it is not asked about all the time any more.
    lapsed: bool,
}

/// What a VIP looks like to whoever asks about it.
pub(super) struct Candidate {
    pub(super) vip: Arc<Vip>,
    /// It shall be on this machine.
    pub(super) desired: bool,
    /// The kernel is at it.
    pub(super) busy: bool,
}

/// How far the fencing of a node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fencing {
    Running(u64),
    Again(Instant),
    Done,
}

/// All inquiries under way.
#[derive(Debug)]
pub(super) struct Clearance {
    fences: bool,
    waits: Waits,
    names: BTreeMap<NodeId, String>,
    inquiries: BTreeMap<VipId, Inquiry>,
    takings: BTreeMap<VipId, Taking>,
    /// The probes under way.
    tickets: BTreeMap<u64, VipId>,
    /// With when each was called for last.
    fencings: BTreeMap<NodeId, (Fencing, Instant)>,
    /// When something came in; what follows from it has yet to be done, together with what comes at the same time.
    due: Option<Instant>,
}

impl Clearance {
    pub(super) fn new(config: &NodeConfig) -> Self {
        let heartbeat = config.timing.heartbeat;
        Self {
            fences: config.safety.fences_nodes,
            waits: Waits {
                probes: config.safety.partition == Partition::Lan,
                pace: heartbeat,
                answer: (heartbeat / 2).min(ANSWER_MAX),
                patience: config.timing.failure_timeout,
                all: config.safety.lan_wait_max,
            },
            names: config.nodes.iter().map(|node| (node.id(), node.name.clone())).collect(),
            inquiries: BTreeMap::new(),
            takings: BTreeMap::new(),
            tickets: BTreeMap::new(),
            fencings: BTreeMap::new(),
            due: None,
        }
    }

    /// These shall be asked about, and no others.
    pub(super) fn handle_sets(
        &mut self,
        suspected: &BTreeMap<VipId, bool>,
        wanted: &BTreeMap<VipId, Wanted>,
        now: Instant,
    ) {
        self.call_for_fencings(now);
        self.inquiries.retain(|vip, _| suspected.contains_key(vip) || wanted.contains_key(vip));
        for &vip in suspected.keys().chain(wanted.keys()) {
            let inquiry = self.inquiries.entry(vip).or_insert_with(|| Inquiry::new(now));
            inquiry.rivals =
                wanted.contains_key(&vip) || suspected.get(&vip).is_some_and(|&rivals| rivals);
            match wanted.get(&vip) {
                Some(Wanted { from }) => {
                    if inquiry.wanted_since.is_none() {
                        inquiry.wanted_since = Some(now);
                        // Only from now on an answer says that somebody lives there.
                        inquiry.answered_by = None;
                        // Whoever has come since the last probe is heard of at once.
                        inquiry.probe_at = now;
                    }
                    inquiry.from.clone_from(from);
                }
                None => {
                    inquiry.wanted_since = None;
                    inquiry.used_at = None;
                }
            }
        }
        // Between an accept and its install nothing is wanted: what was done before counts after it.
        let patience = self.waits.patience;
        self.fencings.retain(|_, (fencing, called_for)| {
            now < *called_for + patience || matches!(fencing, Fencing::Running(_))
        });
        self.call_for_fencings(now);
        self.due = Some(now);
    }

    /// Notes which are called for.
    fn call_for_fencings(&mut self, now: Instant) {
        for node in self.inquiries.values().flat_map(|inquiry| &inquiry.from) {
            if let Some((_, called_for)) = self.fencings.get_mut(node) {
                *called_for = now;
            }
        }
    }

    /// A VIP is held, or shall not be any more.
    pub(super) fn settled(&mut self, vip: VipId) {
        self.takings.remove(&vip);
    }

    /// It is being acquired because it was free, and that is too long ago.
    pub(super) fn is_stale(&self, vip: VipId, now: Instant) -> bool {
        let in_a_row = 2 * self.pause();
        self.takings.get(&vip).is_some_and(|taking| now > taking.probed_at + in_a_row)
    }

    /// Somebody else uses or wants a VIP. Returns whether it is not free any more, as it was when its acquire was begun.
    pub(super) fn handle_claim(
        &mut self,
        vip: VipId,
        by: MacAddress,
        ours: MacAddress,
        claim: Claim,
        now: Instant,
    ) -> bool {
        let goes_first = claim == Claim::Uses || by < ours;
        if goes_first && self.takings.remove(&vip).is_some() {
            return true;
        }
        let Some(inquiry) = self.inquiries.get_mut(&vip) else { return false };
        self.due = Some(now);
        // Of two that want it and find nobody the one with the lower address takes it. The other asks again, and waits
        // until a heartbeat has passed without a question: whoever wants it asks in each. That it was handed over to us makes
        // no difference: the rival may have heard nothing of whoever did so for as long as it waits.
        let rivalled = claim == Claim::Wants && by < ours && inquiry.rivals;
        if rivalled {
            inquiry.rivalled_at = Some(now);
        }
        if claim == Claim::Uses || rivalled {
            inquiry.begin_anew();
            inquiry.answered_by = Some(by);
        }
        if claim == Claim::Uses && inquiry.wanted_since.is_some() {
            inquiry.used_at = Some(now);
        }
        false
    }

    /// A probe is out, or a fence command has ended. Returns whether it was one of them.
    pub(super) fn handle_done(
        &mut self,
        ticket: u64,
        result: &Result<(), AddressError>,
        now: Instant,
    ) -> bool {
        if let Some(vip) = self.tickets.remove(&ticket) {
            self.due = Some(now);
            let (in_a_row, waits) = (2 * self.pause(), self.waits);
            let is_its = |inquiry: &&mut Inquiry| inquiry.probing.is_some_and(|(t, _)| t == ticket);
            if let Some(inquiry) = self.inquiries.get_mut(&vip).filter(is_its) {
                inquiry.handle_probed(result, in_a_row, &waits, now);
            }
            if let Some(taking) = self.takings.get_mut(&vip).filter(|t| t.probing == Some(ticket)) {
                taking.probing = None;
                if result.is_ok() {
                    taking.probed_at = now;
                }
            }
            return true;
        }
        let mut fencings = self.fencings.values_mut().map(|(fencing, _)| fencing);
        let Some(fencing) = fencings.find(|f| **f == Fencing::Running(ticket)) else {
            return false;
        };
        self.due = Some(now);
        *fencing = if result.is_ok() { Fencing::Done } else { Fencing::Again(now + FENCE_AGAIN) };
        true
    }

    /// Takes every step that is due: probes and commands to be submitted, and what is to be told.
    pub(super) fn advance(
        &mut self,
        candidates: &dyn Fn(VipId) -> Option<Candidate>,
        next_ticket: &mut u64,
        work: &mut VecDeque<Work>,
        outcomes: &mut VecDeque<AddressOutcome>,
        now: Instant,
    ) {
        let mut submit = |action| {
            let ticket = *next_ticket;
            *next_ticket += 1;
            work.push_back(Work { ticket, action });
            ticket
        };
        self.due = None;
        let (pause, waits) = (self.pause(), self.waits);
        let (fences, fencings) = (self.fences, &self.fencings);
        let fenced = |inquiry: &Inquiry| !fences || are_done(&inquiry.from, fencings);
        let mut clear = Vec::new();
        for (&vip, inquiry) in &mut self.inquiries {
            let free = inquiry.clear_at(&waits).is_some_and(|at| now >= at) && fenced(inquiry);
            if free && inquiry.is_fresh(2 * pause, &waits, now) {
                clear.push(vip);
                continue;
            }
            if free {
                inquiry.once_more = true;
                inquiry.probe_at = inquiry.probe_at.min(now);
            }
            if waits.probes && inquiry.probe_due(pause).is_some_and(|at| now >= at) {
                let Some(candidate) = candidates(vip) else { continue };
                let ticket = submit(Action::Probe(candidate.vip));
                self.tickets.insert(ticket, vip);
                inquiry.probing = Some((ticket, now));
                inquiry.probe_at = now + waits.pace;
            }
            if let (Some(_), Some(by)) = (inquiry.wanted_since, inquiry.answered_by)
                && inquiry.unanswered_since.is_none()
                && inquiry.told != Some(by)
            {
                inquiry.told = Some(by);
                outcomes.push_back(AddressOutcome::Occupied { vip, by });
            }
        }
        self.fence(&mut submit, now);
        for vip in clear {
            // Whoever answers when that has been waited out answers for everybody.
            let is_free =
                |inquiry: Inquiry| inquiry.rivals && !inquiry.is_past_waiting(&waits, now);
            if self.inquiries.remove(&vip).is_some_and(is_free) && waits.probes {
                let (since, probe_at, probed_at) = (now, now, now);
                let taking = Taking { since, probe_at, probing: None, probed_at, lapsed: false };
                self.takings.insert(vip, taking);
            }
            outcomes.push_back(AddressOutcome::Cleared { vip });
        }
        self.ask_about_takings(candidates, &mut submit, pause, now);
    }

    /// Asks about what is being acquired.
    fn ask_about_takings(
        &mut self,
        candidates: &dyn Fn(VipId) -> Option<Candidate>,
        submit: &mut impl FnMut(Action) -> u64,
        pause: Duration,
        now: Instant,
    ) {
        let patience = self.waits.patience;
        self.takings.retain(|&vip, taking| {
            let Some(candidate) = candidates(vip) else { return false };
            let fresh = now < taking.since + patience;
            taking.lapsed = !fresh && !candidate.busy;
            if !taking.lapsed && taking.probing.is_none() && now >= taking.probe_at {
                let ticket = submit(Action::Probe(candidate.vip));
                self.tickets.insert(ticket, vip);
                taking.probing = Some(ticket);
                taking.probe_at = now + pause;
            }
            fresh || candidate.desired
        });
    }

    /// Between two probes for a VIP that nobody answers.
    fn pause(&self) -> Duration {
        let asked = self.inquiries.len() + self.takings.values().filter(|t| !t.lapsed).count();
        let bearable = PAUSE_PER_VIP * u32::try_from(asked).unwrap_or(u32::MAX);
        self.waits.answer.max(bearable).min(self.waits.pace)
    }

    /// The nodes that something is wanted of.
    fn to_be_fenced(&self) -> BTreeSet<NodeId> {
        let wanted = self.inquiries.values().filter(|inquiry| inquiry.wanted_since.is_some());
        wanted.flat_map(|inquiry| inquiry.from.iter().copied()).collect()
    }

    fn fence(&mut self, submit: &mut impl FnMut(Action) -> u64, now: Instant) {
        if !self.fences {
            return;
        }
        for node in self.to_be_fenced() {
            let due = match self.fencings.get(&node).map(|(fencing, _)| fencing) {
                None => true,
                Some(Fencing::Again(at)) => now >= *at,
                Some(Fencing::Running(_) | Fencing::Done) => false,
            };
            if let Some(name) = self.names.get(&node).filter(|_| due) {
                let ticket = submit(Action::FenceNode(name.clone()));
                self.fencings.insert(node, (Fencing::Running(ticket), now));
            }
        }
    }

    /// When something is due.
    pub(super) fn poll_timeout(&self) -> Deadline {
        if let Some(at) = self.due {
            return Deadline::new(at, "what the segment says");
        }
        let pause = self.pause();
        let inquiries = self.inquiries.values().flat_map(|inquiry| {
            let probe = inquiry.probe_due(pause).filter(|_| self.waits.probes);
            let fenced = !self.fences || are_done(&inquiry.from, &self.fencings);
            let clear = inquiry.clear_at(&self.waits).filter(|_| fenced);
            [probe, clear]
        });
        let waiting = self.takings.values().filter(|t| !t.lapsed && t.probing.is_none());
        let takings = waiting.map(|taking| Some(taking.probe_at));
        // Not those that failed and that nobody waits for any more.
        let to_be_fenced =
            if self.fencings.is_empty() { BTreeSet::new() } else { self.to_be_fenced() };
        let fencings = to_be_fenced.iter().map(|node| match self.fencings.get(node) {
            Some((Fencing::Again(at), _)) => Some(*at),
            Some((Fencing::Running(_) | Fencing::Done, _)) | None => None,
        });
        inquiries
            .chain(takings)
            .chain(fencings)
            .flatten()
            .min()
            .map_or(Deadline::NEVER, |at| Deadline::new(at, "clearing a VIP"))
    }
}

/// Whether the fence command has succeeded for all of them.
fn are_done(nodes: &BTreeSet<NodeId>, fencings: &BTreeMap<NodeId, (Fencing, Instant)>) -> bool {
    nodes.iter().all(|node| fencings.get(node).is_some_and(|(f, _)| *f == Fencing::Done))
}
