//! When the guardian kills. Pure.
//!
//! A lease that is over is no reason by itself: a daemon that was cut off lets its lease end and releases, and that is what it
//! should do. While it does, its loop shows signs of life ([`Patience::silence`] apart at most), and it has
//! [`Patience::release`] for the whole. A daemon that shows none is stopped or hangs.

use std::fmt;

use serde::{Deserialize, Serialize};
use wackamole_protocol::time::{Duration, Instant};

use crate::env::Lease;

/// How long the guardian waits past the end of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// For a sign of life. The daemon shows one at least three times in this time, from the end of its lease on.
    pub silence: Duration,
    /// For the release of everything, as long as there are signs of life.
    pub release: Duration,
}

/// Why the daemon is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It does nothing.
    Silent,
    /// It does something, but does not release.
    NotReleased,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "its lease is over and it shows no sign of life",
            Self::NotReleased => "its lease is over and it does not release",
        })
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again then, or when something happens.
    Wait(Instant),
    /// Kill the daemon.
    Kill(Why),
}

/// What has been seen of a lease that is over.
#[derive(Clone, Copy, Debug)]
struct Overdue {
    /// A sign of life is due until then.
    silent_at: Instant,
    /// Everything must be released until then.
    release_until: Instant,
    /// The last sign of life that was seen.
    life: Option<u64>,
}

/// Judges a daemon by what stands on the board.
#[derive(Debug)]
pub(super) struct Watch {
    patience: Patience,
    overdue: Option<Overdue>,
}

impl Watch {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, overdue: None }
    }

    /// Both counts start when the end of the lease is *noticed*: when a machine wakes up after the end, its daemon gets the
    /// chance to release, too. And when we are later than the daemon was to be, we may both have been stopped.
    pub(super) fn judge(&mut self, now: Instant, lease: Lease, life: Option<u64>) -> Verdict {
        let Lease::Until(until) = lease else {
            self.overdue = None;
            return Verdict::Wait(Instant::FAR_FUTURE);
        };
        if now < until {
            self.overdue = None;
            return Verdict::Wait(until);
        }
        let Patience { silence, release } = self.patience;
        let overdue = self.overdue.get_or_insert(Overdue {
            silent_at: now + silence,
            release_until: now + release,
            life,
        });
        if overdue.life != life {
            overdue.life = life;
            overdue.silent_at = now + silence;
        }
        let late = now.since(overdue.silent_at.min(overdue.release_until)) > silence;
        if late {
            overdue.silent_at = overdue.silent_at.max(now + silence);
            overdue.release_until = overdue.release_until.max(now + silence);
        }
        if now >= overdue.silent_at {
            return Verdict::Kill(Why::Silent);
        }
        if now >= overdue.release_until {
            return Verdict::Kill(Why::NotReleased);
        }
        Verdict::Wait(overdue.silent_at.min(overdue.release_until))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience =
        Patience { silence: Duration::from_millis(4), release: Duration::from_millis(50) };

    fn at(ms: u64) -> Instant {
        Instant::after_origin(Duration::from_millis(ms))
    }

    fn until(ms: u64) -> Lease {
        Lease::Until(at(ms))
    }

    #[test]
    fn without_a_lease_there_is_nothing_to_wait_for() {
        let mut watch = Watch::new(PATIENCE);
        assert_eq!(watch.judge(at(9), Lease::None, None), Verdict::Wait(Instant::FAR_FUTURE));
    }

    #[test]
    fn a_silent_daemon_is_killed_after_its_lease_and_the_grace_for_a_sign_of_life() {
        let mut watch = Watch::new(PATIENCE);
        assert_eq!(watch.judge(at(10), until(100), None), Verdict::Wait(at(100)));
        assert_eq!(watch.judge(at(100), until(100), None), Verdict::Wait(at(104)));
        assert_eq!(watch.judge(at(104), until(100), None), Verdict::Kill(Why::Silent));
    }

    #[test]
    fn one_that_renews_late_lives() {
        let mut watch = Watch::new(PATIENCE);
        assert_eq!(watch.judge(at(100), until(100), None), Verdict::Wait(at(104)));
        assert_eq!(watch.judge(at(104), until(400), None), Verdict::Wait(at(400)));
        assert_eq!(watch.judge(at(400), until(400), None), Verdict::Wait(at(404)), "a new count");
    }

    #[test]
    fn one_that_releases_is_given_time_but_not_for_ever() {
        let mut watch = Watch::new(PATIENCE);
        let mut now = 100;
        while now < 148 {
            let next = watch.judge(at(now), until(100), Some(now));
            assert_eq!(next, Verdict::Wait(at(now + 4)));
            now += 4;
        }
        assert_eq!(watch.judge(at(148), until(100), Some(148)), Verdict::Wait(at(150)));
        assert_eq!(watch.judge(at(150), until(100), Some(150)), Verdict::Kill(Why::NotReleased));
    }

    #[test]
    fn one_that_stops_while_it_releases_is_killed() {
        let mut watch = Watch::new(PATIENCE);
        watch.judge(at(100), until(100), Some(1));
        assert_eq!(watch.judge(at(104), until(100), Some(2)), Verdict::Wait(at(108)));
        assert_eq!(watch.judge(at(108), until(100), Some(2)), Verdict::Kill(Why::Silent));
    }

    #[test]
    fn a_machine_that_wakes_up_gives_its_daemon_the_chance_to_release() {
        let mut watch = Watch::new(PATIENCE);
        assert_eq!(watch.judge(at(9_000), until(100), None), Verdict::Wait(at(9_004)));
        // Asleep again between the two looks.
        assert_eq!(watch.judge(at(20_000), until(100), None), Verdict::Wait(at(20_004)));
        assert_eq!(watch.judge(at(20_004), until(100), None), Verdict::Kill(Why::Silent));
    }

    proptest! {
        /// Whatever the daemon does short of it: whoever renews before the end, or shows life and releases, is not killed.
        #[test]
        fn a_healthy_daemon_is_never_killed(
            steps in proptest::collection::vec((0_u64..300, 1_u64..400, any::<bool>()), 1..200)
        ) {
            let mut watch = Watch::new(PATIENCE);
            let (mut now, mut end) = (0, 100);
            for (slack, length, holds) in steps {
                // It renews before the end, and the guardian looks when it likes.
                now += slack.min(end - now - u64::from(end > now));
                end = now + length;
                let lease = if holds { until(end) } else { Lease::None };
                let verdict = watch.judge(at(now), lease, None);
                prop_assert!(matches!(verdict, Verdict::Wait(_)), "{verdict:?} at {now} before {end}");
            }
        }

        /// Whatever else is on the board: once signs of life and renewals end, so does the daemon, in bounded time.
        #[test]
        fn a_daemon_that_stops_is_killed(
            before in proptest::collection::vec((0_u64..20, 0_u64..50, any::<Option<u64>>()), 0..100)
        ) {
            let mut watch = Watch::new(PATIENCE);
            let (mut now, mut end) = (0, 0);
            let mut life = None;
            for (pause, lease, shown) in before {
                now += pause;
                end = end.max(now + lease);
                life = shown;
                if matches!(watch.judge(at(now), until(end), life), Verdict::Kill(_)) {
                    return Ok(());
                }
            }
            let stopped = now;
            loop {
                match watch.judge(at(now), until(end), life) {
                    Verdict::Kill(_) => break,
                    Verdict::Wait(next) => now = next.since(Instant::ORIGIN).as_millis() as u64,
                }
                prop_assert!(now <= stopped.max(end) + 8, "{now} after {stopped}, {end}");
            }
        }
    }
}
