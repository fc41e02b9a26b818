//! A machine's clock: the world's time, scaled by a drift that may change.
//!
//! The clock counts from the start of the world and goes on while its daemon is paused, dead or not yet started, like
//! `CLOCK_BOOTTIME`.

use std::cell::Cell;
use std::rc::Rc;

use wackamole::env::Clock;
use wackamole_protocol::time::{Duration, Instant};

use crate::engine::WorldTime;

/// How fast a machine's clock goes, and what it showed when that was last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oscillator {
    true_base: Duration,
    shown_base: Duration,
    drift_ppm: i64,
    stopped: bool,
}

impl Oscillator {
    /// Changes the drift from now on; a fast clock has a positive one.
    pub fn set_drift(&mut self, now: Duration, drift_ppm: i64) {
        *self = Self { true_base: now, shown_base: self.shown(now), drift_ppm, ..*self };
    }

    /// The hypervisor stops the machine and its clock with it, or lets both go on.
    pub fn set_stopped(&mut self, now: Duration, stopped: bool) {
        *self = Self { true_base: now, shown_base: self.shown(now), stopped, ..*self };
    }

    /// What the clock shows at a true time.
    pub fn shown(&self, now: Duration) -> Duration {
        if self.stopped {
            return self.shown_base;
        }
        let elapsed = now.saturating_sub(self.true_base);
        self.shown_base + scale(elapsed, 1_000_000 + self.drift_ppm, 1_000_000)
    }

    /// The first true time at which the clock shows at least this.
    pub fn true_time(&self, shown: Duration) -> Duration {
        let ahead = shown.saturating_sub(self.shown_base);
        let nanosecond = Duration::from_nanos(u64::from(self.drift_ppm != 0));
        self.true_base + scale(ahead, 1_000_000, 1_000_000 + self.drift_ppm) + nanosecond
    }
}

fn scale(duration: Duration, numerator: i64, denominator: i64) -> Duration {
    if numerator == denominator {
        return duration;
    }
    // Whole and rest apart, so that nothing is wider than 64 bits: a world asks for the time more often than for anything else.
    let (numerator, denominator) = (numerator.max(0) as u64, denominator.max(1) as u64);
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let (whole, rest) = (nanos / denominator, nanos % denominator);
    Duration::from_nanos(whole.saturating_mul(numerator) + rest * numerator / denominator)
}

/// The clock as one start of a daemon uses it.
#[derive(Debug)]
pub struct SimClock {
    time: WorldTime,
    oscillator: Rc<Cell<Oscillator>>,
}

impl SimClock {
    /// A clock that shows the world's time as `oscillator` bends it.
    pub fn new(time: WorldTime, oscillator: Rc<Cell<Oscillator>>) -> Self {
        Self { time, oscillator }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant::after_origin(self.oscillator.get().shown(self.time.now()))
    }

    async fn sleep_until(&self, at: Instant) {
        if at == Instant::FAR_FUTURE {
            return std::future::pending().await;
        }
        // A change of the drift meanwhile makes the sleep end early or late by the drift; the driver looks again.
        let wake = self.oscillator.get().true_time(at.since_origin());
        let ahead = wake.saturating_sub(self.time.now());
        if ahead > Duration::ZERO {
            self.time.sleep(ahead).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_without_drift_shows_the_truth() {
        let oscillator = Oscillator::default();
        assert_eq!(oscillator.shown(s(100)), s(100));
        assert_eq!(oscillator.true_time(s(100)), s(100));
    }

    #[test]
    fn a_fast_clock_gains_and_never_jumps_when_the_drift_changes() {
        let mut oscillator = Oscillator::default();
        oscillator.set_drift(s(10), 1_000);
        assert_eq!(oscillator.shown(s(10)), s(10));
        assert_eq!(oscillator.shown(s(20)), s(20) + Duration::from_millis(10));
        oscillator.set_drift(s(20), -1_000);
        assert_eq!(oscillator.shown(s(20)), s(20) + Duration::from_millis(10));
        assert_eq!(oscillator.shown(s(30)), s(30));
    }

    #[test]
    fn a_stopped_clock_goes_on_where_it_stood() {
        let mut oscillator = Oscillator::default();
        oscillator.set_drift(s(0), 500_000);
        oscillator.set_stopped(s(10), true);
        assert_eq!(oscillator.shown(s(10)), s(15));
        assert_eq!(oscillator.shown(s(40)), s(15));
        oscillator.set_stopped(s(40), false);
        assert_eq!(oscillator.shown(s(42)), s(18));
    }

    #[test]
    fn sleeping_until_a_shown_time_never_wakes_before_it() {
        for drift in [-200_000, -333, 0, 7, 500, 123_457] {
            let mut oscillator = Oscillator::default();
            oscillator.set_drift(s(1), drift);
            for shown in
                [Duration::from_micros(1_000_001), Duration::from_nanos(5_123_456_789), s(77)]
            {
                assert!(
                    oscillator.shown(oscillator.true_time(shown)) >= shown,
                    "{drift} {shown:?}"
                );
            }
        }
    }
}
