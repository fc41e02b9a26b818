//! What two machines owe each other, and what is known of an address that both answer for.

use std::collections::BTreeMap;

use wackamole_protocol::time::Duration;

use super::Glance;
use crate::journal::{KernelChange, What};

/// A daemon puts back what somebody has deleted by hand after that time at most, but for the work itself.
const PUT_BACK_MAX: Duration = Duration::from_millis(400);

/// VIP and two nodes in order.
pub(super) type Key = (usize, usize, usize);

/// What two nodes owe each other over the heartbeat path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bond {
    pub(super) connected: bool,
    /// Both daemons run and reach each other since then.
    pub(super) since: Option<Duration>,
    /// They were apart by the network before, not by one of them being down.
    pub(super) met: bool,
    /// The wires between them work both ways.
    pub(super) wired: bool,
    /// When they came back last, if they were ever broken.
    pub(super) rewired: Option<Duration>,
    /// Both daemons run since then, one hears the other, is not heard by it, and has nobody else.
    pub(super) deaf_since: Option<Duration>,
}

impl Bond {
    /// Whether the wires between them work both ways.
    pub(super) fn wire(&mut self, wired: bool, now: Duration) {
        if wired && !self.wired {
            self.rewired = Some(now);
        }
        self.wired = wired;
    }

    /// Whether they are in one component, and both run. Whose wires come together while one of them is stopped meet when that goes on.
    pub(super) fn meet(&mut self, connected: bool, both_attend: bool, now: Duration) {
        self.met = connected && (self.met || !self.connected);
        self.connected = connected;
        if connected && both_attend {
            self.since.get_or_insert(now);
        } else if self.since.take().is_some() {
            self.met = false;
        }
    }
}

/// What two nodes owe each other on the segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Domain {
    pub(super) joined: bool,
    /// They are joined, or not, since then.
    pub(super) since: Duration,
    /// Since when each of them had been alone when they were joined, if it was.
    pub(super) alone: [Option<Duration>; 2],
}

/// What an overlap is held to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Split,
    Merge,
    Unattended,
    Outside,
    Forbidden,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Overlap {
    pub(super) began: Duration,
    pub(super) kind: Kind,
    /// It has been of this kind since then.
    pub(super) since: Duration,
    /// Two parts served when it began, or met.
    pub(super) excused: bool,
    /// What is left of the fences of a dead or paused daemon needs so long, and ends it by then.
    pub(super) fenced: Option<(Duration, Duration)>,
    pub(super) told: bool,
}

/// A kind, until when it is allowed (for ever if there is no end), and why.
pub(super) struct Verdict {
    pub(super) kind: Kind,
    pub(super) until: Option<Duration>,
    pub(super) why: &'static str,
    /// For how long, by what is left of the fences.
    pub(super) fences: Option<Duration>,
}

/// Overlaps that somebody has ended by deleting the address by hand. They go on when the daemons put it back: neither of them has
/// taken anything since, and both are as far with becoming one as they are.
#[derive(Debug, Default)]
pub(super) struct Interrupted(BTreeMap<Key, (Overlap, Duration)>);

impl Interrupted {
    /// An overlap has ended now, by a deletion or otherwise.
    pub(super) fn note(&mut self, key: Key, overlap: Overlap, glance: &Glance<'_>) {
        let (vip, x, y) = key;
        let deleted = glance.fresh.iter().any(|entry| match entry.what {
            What::Kernel { node, vip: of, change: KernelChange::Deleted } => {
                of == vip && (node == x || node == y)
            }
            _ => false,
        });
        if deleted {
            self.0.insert(key, (overlap, glance.now));
        }
    }

    /// The overlap that goes on, if one does.
    pub(super) fn goes_on(&mut self, key: Key, now: Duration) -> Option<Overlap> {
        let (overlap, at) = self.0.remove(&key)?;
        (now <= at + PUT_BACK_MAX).then_some(overlap)
    }
}
