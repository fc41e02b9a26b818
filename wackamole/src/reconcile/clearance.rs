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
use wackamole_protocol::node::{AddressOutcome, Wanted};
use wackamole_protocol::time::{Deadline, Duration, Instant};
use wackamole_protocol::vip::{Vip, VipId};

use crate::env::{Action, AddressError, Work};

/// For how long an answer is waited for at most: many times a round trip on a LAN, and a kernel needs no more.
const ANSWER_MAX: Duration = Duration::from_millis(20);
/// How often questions about one VIP follow each other at least, for each VIP that is asked about: what a machine and its
/// segment bear without noticing.
const PAUSE_PER_VIP: Duration = Duration::from_micros(50);
/// Pause before a fence command that failed is run again.
const FENCE_AGAIN: Duration = Duration::from_secs(1);

/// What is known of the segment about one VIP.
#[derive(Debug)]
struct Inquiry {
    /// Since when it is to be acquired; nothing while it is only suspected that it will be.
    wanted_since: Option<Instant>,
    /// The node that held it and vanished.
    from: Option<NodeId>,
    /// Nodes that are away may want it too, and may find it free as soon as we do.
    rivals: bool,
    probe_at: Instant,
    /// The probe that is about to go out.
    probing: Option<u64>,
    /// When the first probe was out that nobody has answered yet.
    unanswered_since: Option<Instant>,
    /// When the last probe was out. Whoever sends it hears first, and reports in order: answers that had come in by
    /// then are known.
    heard_until: Option<Instant>,
    /// When it became certain that nobody had answered.
    silent_at: Option<Instant>,
    /// Nothing had come in when the last probe was out; there is no use in asking faster.
    deaf: bool,
    /// When somebody used it last, of those who did since it is to be acquired.
    used_at: Option<Instant>,
    /// When somebody with a lower address asked about it last.
    rivalled_at: Option<Instant>,
    /// Who answered last.
    answered_by: Option<MacAddress>,
    /// Who that was, as told.
    told: Option<MacAddress>,
}

/// A VIP that was free and is being acquired. Whoever waits until we ask no more would take it too while the kernel
/// is busy with others.
#[derive(Clone, Copy, Debug)]
struct Taking {
    since: Instant,
    probe_at: Instant,
}

/// How far the fencing of a node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fencing {
    Running(u64),
    Again(Instant),
    Done,
}

/// For how long is waited for what.
#[derive(Clone, Copy, Debug)]
struct Waits {
    /// Whether segments are probed at all.
    probes: bool,
    /// Between two probes for a VIP that is answered, and after one when nothing was heard.
    pace: Duration,
    /// For an answer to a probe.
    answer: Duration,
    /// For whoever has answered before, since its last answer.
    patience: Duration,
    /// For everything, if it is answered or not.
    all: Option<Duration>,
}

/// All inquiries under way.
#[derive(Debug)]
pub(super) struct Clearance {
    fences: bool,
    waits: Waits,
    names: BTreeMap<NodeId, String>,
    inquiries: BTreeMap<VipId, Inquiry>,
    takings: BTreeMap<VipId, Taking>,
    fencings: BTreeMap<NodeId, Fencing>,
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
            fencings: BTreeMap::new(),
        }
    }

    /// These shall be asked about, and no others.
    pub(super) fn handle_sets(
        &mut self,
        suspected: &BTreeMap<VipId, bool>,
        wanted: &BTreeMap<VipId, Wanted>,
        now: Instant,
    ) {
        self.inquiries.retain(|vip, _| suspected.contains_key(vip) || wanted.contains_key(vip));
        for &vip in suspected.keys().chain(wanted.keys()) {
            let inquiry = self.inquiries.entry(vip).or_insert(Inquiry {
                wanted_since: None,
                from: None,
                rivals: false,
                probe_at: now,
                probing: None,
                unanswered_since: None,
                heard_until: None,
                silent_at: None,
                deaf: false,
                used_at: None,
                rivalled_at: None,
                answered_by: None,
                told: None,
            });
            inquiry.rivals =
                wanted.contains_key(&vip) || suspected.get(&vip).is_some_and(|&rivals| rivals);
            match wanted.get(&vip) {
                Some(&Wanted { from, .. }) => {
                    if inquiry.wanted_since.is_none() {
                        inquiry.wanted_since = Some(now);
                        // Only from now on an answer says that somebody lives there.
                        inquiry.answered_by = None;
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

    /// A VIP is held, or shall not be any more.
    pub(super) fn settled(&mut self, vip: VipId) {
        self.takings.remove(&vip);
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
    }

    /// A probe is out, or a fence command has ended. Returns whether it was one of them.
    pub(super) fn handle_done(
        &mut self,
        ticket: u64,
        result: &Result<(), AddressError>,
        now: Instant,
    ) -> bool {
        let Waits { answer: within, patience, .. } = self.waits;
        let in_a_row = 2 * self.pause();
        let inquiry = self.inquiries.values_mut().find(|i| i.probing == Some(ticket));
        if let Some(inquiry) = inquiry {
            inquiry.probing = None;
            inquiry.deaf = matches!(result, Err(AddressError::NothingHeard));
            match result {
                Ok(()) => {
                    // What came in long after one says nothing of whether that was heard: the port may have been dead, and have
                    // come back in between. This one is the first, then.
                    let late = inquiry.heard_until.is_some_and(|at| now > at + in_a_row);
                    if late && !inquiry.is_waited_for_no_longer(patience, now) {
                        inquiry.begin_anew();
                    }
                    inquiry.unanswered_since.get_or_insert(now);
                    inquiry.heard_until = Some(now);
                    if inquiry.silent_since(within).is_some() {
                        inquiry.silent_at.get_or_insert(now);
                    }
                }
                // Whoever would have answered those before was not heard either, and this one may have gone the same way. Where
                // frames are always far apart it must do that some came before a probe and some after it; by then a port
                // that is dead has been noticed.
                Err(AddressError::NothingHeard) => {
                    if !inquiry.is_waited_for_no_longer(patience, now) {
                        inquiry.begin_anew();
                        inquiry.heard_until = None;
                    }
                }
                // One that could not be sent says nothing about who is there.
                Err(_) => {}
            }
            return true;
        }
        let fencing = self.fencings.values_mut().find(|f| **f == Fencing::Running(ticket));
        let Some(fencing) = fencing else { return false };
        *fencing = if result.is_ok() { Fencing::Done } else { Fencing::Again(now + FENCE_AGAIN) };
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
        let pause = self.pause();
        for (&vip, inquiry) in &mut self.inquiries {
            if self.waits.probes && inquiry.probe_due(pause).is_some_and(|at| now >= at) {
                let Some(vip) = vips(vip) else { continue };
                inquiry.probing = Some(submit(Action::Probe(vip)));
                inquiry.probe_at = now + self.waits.pace;
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
        let waits = self.waits;
        let fencings = &self.fencings;
        let clear = self.inquiries.iter().filter(|(_, inquiry)| {
            inquiry.clear_at(&waits).is_some_and(|at| now >= at)
                && inquiry
                    .from
                    .is_none_or(|node| !self.fences || fencings.get(&node) == Some(&Fencing::Done))
        });
        let clear: Vec<VipId> = clear.map(|(&vip, _)| vip).collect();
        for vip in clear {
            let rivals = self.inquiries.remove(&vip).is_some_and(|inquiry| inquiry.rivals);
            if rivals && self.waits.probes {
                self.takings.insert(vip, Taking { since: now, probe_at: now });
            }
            outcomes.push_back(AddressOutcome::Cleared { vip });
        }
        let patience = self.waits.patience;
        self.takings.retain(|_, taking| now < taking.since + patience);
        for (&vip, taking) in &mut self.takings {
            if now >= taking.probe_at
                && let Some(vip) = vips(vip)
            {
                submit(Action::Probe(vip));
                taking.probe_at = now + pause;
            }
        }
    }

    /// Between two probes for a VIP that nobody answers.
    fn pause(&self) -> Duration {
        let asked = self.inquiries.len() + self.takings.len();
        let bearable = PAUSE_PER_VIP * u32::try_from(asked).unwrap_or(u32::MAX);
        self.waits.answer.max(bearable).min(self.waits.pace)
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
        let pause = self.pause();
        let inquiries = self.inquiries.values().flat_map(|inquiry| {
            let probe = inquiry.probe_due(pause).filter(|_| self.waits.probes);
            let fenced = inquiry.from.is_none_or(|node| {
                !self.fences || self.fencings.get(&node) == Some(&Fencing::Done)
            });
            let clear = inquiry.clear_at(&self.waits).filter(|_| fenced);
            [probe, clear]
        });
        let takings = self.takings.values().map(|taking| Some(taking.probe_at));
        let fencings = self.fencings.values().map(|fencing| match fencing {
            Fencing::Again(at) => Some(*at),
            Fencing::Running(_) | Fencing::Done => None,
        });
        inquiries
            .chain(takings)
            .chain(fencings)
            .flatten()
            .min()
            .map_or(Deadline::NEVER, |at| Deadline::new(at, "clearing a VIP"))
    }
}

impl Inquiry {
    /// What was not answered says nothing.
    fn begin_anew(&mut self) {
        self.unanswered_since = None;
        self.silent_at = None;
    }

    /// It has been wanted for so long that a port that is dead has been noticed.
    fn is_waited_for_no_longer(&self, patience: Duration, now: Instant) -> bool {
        self.wanted_since.is_some_and(|at| now >= at + patience)
    }

    /// When the next probe is to be submitted; nothing while one is about to go out. What nobody answers is asked about
    /// again as soon as an answer would have been here: that shows whether it could have been heard. And so whoever begins to ask
    /// hears of us before it takes the VIP.
    fn probe_due(&self, pause: Duration) -> Option<Instant> {
        if self.probing.is_some() {
            return None;
        }
        let in_a_row = self.unanswered_since.and(self.heard_until).filter(|_| !self.deaf);
        Some(in_a_row.map_or(self.probe_at, |at| self.probe_at.min(at + pause)))
    }

    /// Since when it is certain that nobody has answered a probe in time. That none was reported is not enough: whoever hears
    /// the segment may not have got its turn yet.
    fn silent_since(&self, within: Duration) -> Option<Instant> {
        let due = self.unanswered_since? + within;
        self.heard_until.is_some_and(|heard| heard >= due).then_some(due)
    }

    /// When the segment counts as free, if no answer comes before. Whoever answered when its lease was over for sure is a
    /// machine that lives: it is given up like any other, after a failure timeout. One lost frame must not be enough.
    fn clear_at(&self, waits: &Waits) -> Option<Instant> {
        let wanted_since = self.wanted_since?;
        if !waits.probes {
            return Some(wanted_since);
        }
        let given_up = self.used_at.map_or(wanted_since, |at| at + waits.patience);
        // A rival that asks and asks, and takes nothing although it could, is not waited for for ever.
        let undisputed = self.rivalled_at.map_or(wanted_since, |at| {
            (at + waits.pace + waits.answer).min(given_up + 2 * waits.patience)
        });
        // A rival that began to ask a moment before us, so that we did not hear it, asks once more before it takes the VIP,
        // as we have just done: by now its question is here, or ours is answered by it. And if our port came back just after
        // our first question, whoever uses the VIP has heard the second one.
        let crossing = match self.silent_at {
            Some(at) if self.rivals => at + waits.answer / 2,
            _ => wanted_since,
        };
        // The probe that went out when it became ours has not shown that nothing was heard since the one before: a port that has
        // died meanwhile would be as silent as one behind which nobody is. One that went out just before does as well: nothing
        // may have been said since.
        let just_before = waits.pace / 8;
        let heard_by_now = self.heard_until.is_some_and(|at| at + just_before >= wanted_since);
        let unanswered = self
            .silent_since(waits.answer)
            .filter(|_| heard_by_now)
            .map(|at| at.max(given_up).max(undisputed).max(crossing));
        let enough = waits.all.map(|wait| wanted_since + wait);
        [unanswered, enough].into_iter().flatten().min()
    }
}
