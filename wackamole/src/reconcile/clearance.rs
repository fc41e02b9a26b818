//! Asks the segment before something is acquired whose release nobody has confirmed. Pure, like the rest of the
//! reconciler.
//!
//! A prospective heir probes from the moment of suspicion; when the VIP becomes its own, and no probe was answered, it costs
//! no time at all. While somebody answers the VIP stays where it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use wackamole_protocol::config::{NodeConfig, Partition};
use wackamole_protocol::id::NodeId;
use wackamole_protocol::mac::{Claim, MacAddress};
use wackamole_protocol::node::AddressOutcome;
use wackamole_protocol::time::{Deadline, Duration, Instant};
use wackamole_protocol::vip::{Vip, VipId};

use crate::env::{Action, Work};

/// For how long an answer is waited for at most: many times a round trip on a LAN, and a kernel needs no more.
const ANSWER_MAX: Duration = Duration::from_millis(20);
/// Pause before a fence command that failed is run again.
const FENCE_AGAIN: Duration = Duration::from_secs(1);

/// What is known of the segment about one VIP.
#[derive(Debug)]
struct Inquiry {
    /// Since when it is to be acquired; nothing while it is only suspected that it will be.
    wanted_since: Option<Instant>,
    /// The node that held it and vanished.
    from: Option<NodeId>,
    probe_at: Instant,
    /// When the first probe was sent that nobody has answered yet.
    unanswered_since: Option<Instant>,
    /// When somebody used it last, of those who did since it is to be acquired.
    used_at: Option<Instant>,
    /// Who answered last.
    answered_by: Option<MacAddress>,
    /// Who that was, as told.
    told: Option<MacAddress>,
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
    probes: bool,
    fences: bool,
    wait_max: Option<Duration>,
    pace: Duration,
    answer_within: Duration,
    patience: Duration,
    names: BTreeMap<NodeId, String>,
    inquiries: BTreeMap<VipId, Inquiry>,
    fencings: BTreeMap<NodeId, Fencing>,
}

impl Clearance {
    pub(super) fn new(config: &NodeConfig) -> Self {
        let heartbeat = config.timing.heartbeat;
        Self {
            probes: config.safety.partition == Partition::Lan,
            fences: config.safety.fences_nodes,
            wait_max: config.safety.lan_wait_max,
            pace: heartbeat,
            answer_within: (heartbeat / 2).min(ANSWER_MAX),
            patience: config.timing.failure_timeout,
            names: config.nodes.iter().map(|node| (node.id(), node.name.clone())).collect(),
            inquiries: BTreeMap::new(),
            fencings: BTreeMap::new(),
        }
    }

    /// These shall be asked about, and no others.
    pub(super) fn handle_sets(
        &mut self,
        suspected: &BTreeSet<VipId>,
        wanted: &BTreeMap<VipId, Option<NodeId>>,
        now: Instant,
    ) {
        self.inquiries.retain(|vip, _| suspected.contains(vip) || wanted.contains_key(vip));
        for &vip in suspected.iter().chain(wanted.keys()) {
            let inquiry = self.inquiries.entry(vip).or_insert(Inquiry {
                wanted_since: None,
                from: None,
                probe_at: now,
                unanswered_since: None,
                used_at: None,
                answered_by: None,
                told: None,
            });
            match wanted.get(&vip) {
                Some(&from) => {
                    if inquiry.wanted_since.is_none() {
                        inquiry.wanted_since = Some(now);
                        // Whoever has come since the last probe is heard of at once.
                        inquiry.probe_at = now;
                    }
                    inquiry.from = from;
                }
                None => {
                    inquiry.wanted_since = None;
                    inquiry.used_at = None;
                }
            }
        }
        let inquiries = &self.inquiries;
        self.fencings
            .retain(|node, _| inquiries.values().any(|inquiry| inquiry.from == Some(*node)));
    }

    /// Somebody else uses or wants a VIP.
    pub(super) fn handle_claim(
        &mut self,
        vip: VipId,
        by: MacAddress,
        ours: MacAddress,
        claim: Claim,
        now: Instant,
    ) {
        let Some(inquiry) = self.inquiries.get_mut(&vip) else { return };
        // Of two that want it and find nobody the one with the lower address takes it; the other asks again.
        let gives_way = claim == Claim::Uses || by < ours && inquiry.wanted_since.is_some();
        if gives_way {
            inquiry.unanswered_since = None;
            inquiry.answered_by = Some(by);
        }
        if claim == Claim::Uses && inquiry.wanted_since.is_some() {
            inquiry.used_at = Some(now);
        }
    }

    /// A fence command has ended. Returns whether it was one.
    pub(super) fn handle_done(&mut self, ticket: u64, succeeded: bool, now: Instant) -> bool {
        let fencing = self.fencings.values_mut().find(|f| **f == Fencing::Running(ticket));
        let Some(fencing) = fencing else { return false };
        *fencing = if succeeded { Fencing::Done } else { Fencing::Again(now + FENCE_AGAIN) };
        true
    }

    /// Takes every step that is due: probes and commands to be submitted, and what is to be told.
    pub(super) fn advance(
        &mut self,
        vips: &dyn Fn(VipId) -> Option<Arc<Vip>>,
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
        for (&vip, inquiry) in &mut self.inquiries {
            if self.probes && now >= inquiry.probe_at {
                let Some(vip) = vips(vip) else { continue };
                submit(Action::Probe(vip));
                inquiry.unanswered_since.get_or_insert(now);
                inquiry.probe_at = now + self.pace;
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
        let (probes, wait_max) = (self.probes, self.wait_max);
        let (within, patience) = (self.answer_within, self.patience);
        let fencings = &self.fencings;
        let clear = self.inquiries.iter().filter(|(_, inquiry)| {
            inquiry.clear_at(probes, within, patience, wait_max).is_some_and(|at| now >= at)
                && inquiry
                    .from
                    .is_none_or(|node| !self.fences || fencings.get(&node) == Some(&Fencing::Done))
        });
        let clear: Vec<VipId> = clear.map(|(&vip, _)| vip).collect();
        for vip in clear {
            self.inquiries.remove(&vip);
            outcomes.push_back(AddressOutcome::Cleared { vip });
        }
    }

    fn fence(&mut self, submit: &mut impl FnMut(Action) -> u64, now: Instant) {
        if !self.fences {
            return;
        }
        let vanished: BTreeSet<NodeId> = self
            .inquiries
            .values()
            .filter(|inquiry| inquiry.wanted_since.is_some())
            .filter_map(|inquiry| inquiry.from)
            .collect();
        for node in vanished {
            let due = match self.fencings.get(&node) {
                None => true,
                Some(Fencing::Again(at)) => now >= *at,
                Some(Fencing::Running(_) | Fencing::Done) => false,
            };
            if let Some(name) = self.names.get(&node).filter(|_| due) {
                let ticket = submit(Action::FenceNode(name.clone()));
                self.fencings.insert(node, Fencing::Running(ticket));
            }
        }
    }

    /// When something is due.
    pub(super) fn poll_timeout(&self) -> Deadline {
        let inquiries = self.inquiries.values().flat_map(|inquiry| {
            let probe = self.probes.then_some(inquiry.probe_at);
            let fenced = inquiry.from.is_none_or(|node| {
                !self.fences || self.fencings.get(&node) == Some(&Fencing::Done)
            });
            let clear = inquiry
                .clear_at(self.probes, self.answer_within, self.patience, self.wait_max)
                .filter(|_| fenced);
            [probe, clear]
        });
        let fencings = self.fencings.values().map(|fencing| match fencing {
            Fencing::Again(at) => Some(*at),
            Fencing::Running(_) | Fencing::Done => None,
        });
        inquiries
            .chain(fencings)
            .flatten()
            .min()
            .map_or(Deadline::NEVER, |at| Deadline::new(at, "clearing a VIP"))
    }
}

impl Inquiry {
    /// When the segment counts as free, if no answer comes before. Whoever answered when its lease was over for sure is a
    /// machine that lives: it is given up like any other, after a failure timeout. One lost frame must not be enough.
    fn clear_at(
        &self,
        probes: bool,
        within: Duration,
        patience: Duration,
        wait_max: Option<Duration>,
    ) -> Option<Instant> {
        let wanted_since = self.wanted_since?;
        if !probes {
            return Some(wanted_since);
        }
        let given_up = self.used_at.map_or(wanted_since, |at| at + patience);
        let unanswered = self.unanswered_since.map(|at| (at + within).max(given_up));
        let enough = wait_max.map(|wait| wanted_since + wait);
        [unanswered, enough].into_iter().flatten().min()
    }
}
