//! What is known of the segment about one VIP.

use std::collections::BTreeSet;

use wackamole_protocol::id::NodeId;
use wackamole_protocol::mac::MacAddress;
use wackamole_protocol::time::{Duration, Instant};

use crate::env::AddressError;

/// Since when it is asked about, and what has come of that.
#[derive(Debug)]
pub(super) struct Inquiry {
    /// Since when it is to be acquired; nothing while it is only suspected that it will be.
    pub(super) wanted_since: Option<Instant>,
    /// The nodes that held it, or may have, and vanished.
    pub(super) from: BTreeSet<NodeId>,
    /// Nodes that are away may want it too, and may find it free as soon as we do.
    pub(super) rivals: bool,
    pub(super) probe_at: Instant,
    /// The probe that is about to go out, and when it was asked for.
    pub(super) probing: Option<(u64, Instant)>,
    /// When the last one ended of which it is known what had come in.
    probed_at: Option<Instant>,
    /// The last one ended so late that what it says may be of long ago.
    late: bool,
    /// It was free by what we know, and that is too long ago: once more, before it is taken.
    pub(super) once_more: bool,
    /// When the first probe was out that nobody has answered yet.
    pub(super) unanswered_since: Option<Instant>,
    /// When the last probe was out. Whoever sends it hears first, and reports in order: answers that had come in by
    /// then are known.
    pub(super) heard_until: Option<Instant>,
    /// When it became certain that nobody had answered.
    pub(super) silent_at: Option<Instant>,
    /// Nothing had come in when the last probe was out; there is no use in asking faster.
    pub(super) deaf: bool,
    /// When somebody used it last, of those who did since it is to be acquired.
    pub(super) used_at: Option<Instant>,
    /// When somebody with a lower address asked about it last.
    pub(super) rivalled_at: Option<Instant>,
    /// Who answered last.
    pub(super) answered_by: Option<MacAddress>,
    /// Who that was, as told.
    pub(super) told: Option<MacAddress>,
}

/// For how long is waited for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// Whether segments are probed at all.
    pub(super) probes: bool,
    /// Between two probes for a VIP that is answered, and after one when nothing was heard.
    pub(super) pace: Duration,
    /// For an answer to a probe.
    pub(super) answer: Duration,
    /// For whoever has answered before, since its last answer.
    pub(super) patience: Duration,
    /// For everything, if it is answered or not.
    pub(super) all: Option<Duration>,
}

impl Inquiry {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            wanted_since: None,
            from: BTreeSet::new(),
            rivals: false,
            probe_at: now,
            probing: None,
            probed_at: None,
            late: false,
            once_more: false,
            unanswered_since: None,
            heard_until: None,
            silent_at: None,
            deaf: false,
            used_at: None,
            rivalled_at: None,
            answered_by: None,
            told: None,
        }
    }

    /// The probe that was about to go out is out, or is not. `in_a_row`: how far apart two may be of which the second shows whether
    /// the first could be heard.
    pub(super) fn handle_probed(
        &mut self,
        result: &Result<(), AddressError>,
        in_a_row: Duration,
        waits: &Waits,
        now: Instant,
    ) {
        // Whoever was stopped meanwhile reads this before what has been said since. Twice in a row it is merely slow.
        let late = self.probing.take().is_some_and(|(_, at)| now > at + in_a_row);
        if late && !core::mem::replace(&mut self.late, late) {
            self.probe_at = now;
            return;
        }
        self.late = late;
        self.deaf = matches!(result, Err(AddressError::NothingHeard));
        match result {
            Ok(()) => {
                // What came in long after one says nothing of whether that was heard: the port may have been dead, and have
                // come back in between. This one is the first, then.
                let gap = self.heard_until.is_some_and(|at| now > at + in_a_row);
                if gap && !self.is_waited_for_no_longer(waits.patience, now) {
                    self.begin_anew();
                }
                self.unanswered_since.get_or_insert(now);
                self.heard_until = Some(now);
                if self.silent_since(waits.answer).is_some() {
                    self.silent_at.get_or_insert(now);
                }
            }
            // Whoever would have answered those before was not heard either, and this one may have gone the same way. Where
            // frames are always far apart it must do that some came before a probe and some after it; by then a port
            // that is dead has been noticed.
            Err(AddressError::NothingHeard) => {
                if !self.is_waited_for_no_longer(waits.patience, now) {
                    self.begin_anew();
                    self.heard_until = None;
                }
            }
            // One that could not be sent says nothing about who is there.
            Err(_) => {
                self.probe_at = self.probe_at.min(now + waits.answer);
                return;
            }
        }
        self.probed_at = Some(now);
        self.once_more = false;
    }

    /// The last probe is so recent that whatever has been said since is known: we were not stopped meanwhile.
    pub(super) fn is_fresh(&self, in_a_row: Duration, waits: &Waits, now: Instant) -> bool {
        let within = if self.deaf { in_a_row.max(waits.pace + waits.answer) } else { in_a_row };
        !waits.probes
            || self.is_past_waiting(waits, now)
            || self.probed_at.is_some_and(|at| now <= at + within)
    }

    /// Whoever answers or not, it has been waited for long enough.
    pub(super) fn is_past_waiting(&self, waits: &Waits, now: Instant) -> bool {
        let since = self.wanted_since.zip(waits.all);
        since.is_some_and(|(at, wait)| now >= at + wait)
    }

    /// What was not answered says nothing.
    pub(super) fn begin_anew(&mut self) {
        self.unanswered_since = None;
        self.silent_at = None;
    }

    /// It has been wanted for so long that a port that is dead has been noticed.
    pub(super) fn is_waited_for_no_longer(&self, patience: Duration, now: Instant) -> bool {
        self.wanted_since.is_some_and(|at| now >= at + patience)
    }

    /// When the next probe is to be submitted; nothing while one is about to go out. What nobody answers is asked about
    /// again as soon as an answer would have been here: that shows whether it could have been heard. And so whoever begins to ask
    /// hears of us before it takes the VIP.
    pub(super) fn probe_due(&self, pause: Duration) -> Option<Instant> {
        if self.probing.is_some() {
            return None;
        }
        let in_a_row = self.unanswered_since.and(self.heard_until).filter(|_| !self.deaf);
        Some(in_a_row.map_or(self.probe_at, |at| self.probe_at.min(at + pause)))
    }

    /// Since when it is certain that nobody has answered a probe in time. That none was reported is not enough: whoever hears
    /// the segment may not have got its turn yet.
    pub(super) fn silent_since(&self, within: Duration) -> Option<Instant> {
        let due = self.unanswered_since? + within;
        self.heard_until.is_some_and(|heard| heard >= due).then_some(due)
    }

    /// When the segment counts as free, if no answer comes before. Whoever answered when its lease was over for sure is a
    /// machine that lives: it is given up like any other, after a failure timeout. One lost frame must not be enough.
    pub(super) fn clear_at(&self, waits: &Waits) -> Option<Instant> {
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
            .filter(|_| heard_by_now && !self.once_more)
            .map(|at| at.max(given_up).max(undisputed).max(crossing));
        let enough = waits.all.map(|wait| wanted_since + wait);
        [unanswered, enough].into_iter().flatten().min()
    }
}
