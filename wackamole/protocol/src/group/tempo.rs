//! The lengths of time that follow from those which are configured. They are reckoned once, because some are asked for with each
//! datagram and for each peer.

use crate::config::{Safety, Timing};
use crate::time::Duration;

/// How long what takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tempo {
    /// As configured.
    pub(crate) heartbeat: Duration,
    /// As configured.
    pub(crate) failure_timeout: Duration,
    /// A member that is unheard for so long is suspected.
    pub(crate) suspected_after: Duration,
    /// More than that between two things that should come together, with one lost in between, is no accident.
    pub(crate) settled_after: Duration,
    /// A member owes a sign of life so long after the last one.
    pub(crate) overdue_after: Duration,
    /// And an echo so long after we sent what it echoed last.
    pub(crate) unechoed_after: Duration,
    /// Whoever has not echoed us for so long does not seem to hear us.
    pub(crate) one_way_after: Duration,
    /// A failure timeout, less what passes until somebody's silence can be noticed.
    pub(crate) patience: Duration,
    /// For how long a promise made just now lasts on our clock, if ours is slower by the drift.
    pub(crate) whole_promise: Duration,
    /// What is configured as the most by which two clocks differ, in parts per million.
    drift_ppm: u32,
}

impl Tempo {
    pub(crate) fn of(timing: &Timing, safety: &Safety) -> Self {
        let Timing { heartbeat, failure_timeout, .. } = *timing;
        let drift_ppm = safety.drift_ppm;
        Self {
            heartbeat,
            failure_timeout,
            suspected_after: failure_timeout / 2,
            settled_after: heartbeat * 3 / 2,
            overdue_after: heartbeat * 5 / 4,
            unechoed_after: heartbeat * 7 / 4,
            one_way_after: failure_timeout + heartbeat,
            patience: failure_timeout.saturating_sub(heartbeat),
            whole_promise: shortened(failure_timeout, drift_ppm),
            drift_ppm,
        }
    }

    /// What is left of a length on another clock if ours is slower by the drift.
    pub(crate) fn shortened(&self, length: Duration) -> Duration {
        // Nearly all promise what we do.
        if length == self.failure_timeout {
            self.whole_promise
        } else {
            shortened(length, self.drift_ppm)
        }
    }
}

fn shortened(length: Duration, drift_ppm: u32) -> Duration {
    length.saturating_sub(length / 1_000_000 * drift_ppm)
}
