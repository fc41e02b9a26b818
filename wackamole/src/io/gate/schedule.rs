//! When the kernel's copy of the lease is renewed. Pure.
//!
//! A renewal costs a transaction of nf_tables, which a program that reads the ruleset meanwhile has to start over for; so
//! a longer lease is passed on only when half of the one in the kernel is over. One that ends earlier is passed on at once.

use std::io;

use wackamole_protocol::time::{Duration, Instant};

use crate::env::Lease;

/// Nothing shorter is given to the kernel: it counts in jiffies of up to 10 ms, and older ones take what rounds down to
/// none of them for "no timeout".
const SHORTEST: Duration = Duration::from_millis(10);

/// The kernel is told that the lease ends by so much earlier, for the time from reading the clock until the kernel reads its
/// own. What takes longer is corrected.
const ALLOWANCE: Duration = Duration::from_millis(2);

/// Far longer than any lease, and well below what the kernel takes.
const LONGEST_MS: u64 = 3_600_000;

/// The lease that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Installed {
    /// When it ends.
    until: Instant,
    /// When half of it was over.
    half: Instant,
}

impl Installed {
    /// It was given at `now`.
    pub(super) fn new(until: Instant, now: Instant) -> Self {
        Self { until, half: now + until.since(now) / 2 }
    }

    /// It ends later than what is wanted.
    fn outlives(&self, wanted: Lease) -> bool {
        match wanted {
            Lease::None => true,
            Lease::Until(until) => until < self.until,
        }
    }

    /// What is wanted is for the kernel to know now.
    pub(super) fn is_due(&self, wanted: Lease, now: Instant) -> bool {
        self.outlives(wanted) || now >= self.half
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Give the kernel a lease until then, so many milliseconds from now.
    Renew(Instant, u64),
    /// Take it away.
    End,
    /// Look again then, or when a lease is wanted that ends earlier.
    WaitUntil(Instant),
    /// Look again when another lease is wanted.
    Wait,
}

/// What to do at `now`.
pub(super) fn next(wanted: Lease, installed: Option<Installed>, now: Instant) -> Step {
    let running = match wanted {
        Lease::None => None,
        Lease::Until(until) => milliseconds_left(until, now, ALLOWANCE).map(|left| (until, left)),
    };
    match (running, installed) {
        (None, None) => Step::Wait,
        // Its end is near and it ends by itself; after that it is taken away for good measure.
        (None, Some(old)) if now < old.until && !old.outlives(wanted) => Step::WaitUntil(old.until),
        (None, Some(_)) => Step::End,
        (Some((until, _)), Some(old)) if until > old.until && now < old.half => {
            Step::WaitUntil(old.half)
        }
        (Some((until, _)), Some(old)) if until == old.until => {
            Step::WaitUntil(if now < old.half { old.half } else { old.until })
        }
        (Some((until, left)), _) => Step::Renew(until, left),
    }
}

/// Gives the kernel, by `commit`, a lease of so many milliseconds as were left from `now` to `until`. If more time than is allowed for
/// passes until the kernel has it (this process was stopped, or another program's transaction held up ours) it may end too late: it
/// is given again, with twice as much allowed for each time, until it surely ends in time or is over. Returns what the kernel
/// has then.
pub(super) fn give(
    until: Instant,
    milliseconds: u64,
    now: Instant,
    clock: impl Fn() -> Instant,
    mut commit: impl FnMut(Option<u64>) -> io::Result<()>,
) -> io::Result<Option<Installed>> {
    let (mut left, mut read, mut allowance) = (Some(milliseconds), now, ALLOWANCE);
    loop {
        commit(left)?;
        let done = clock();
        if left.is_none() {
            return Ok(None);
        }
        if done.since(read) <= allowance {
            return Ok(Some(Installed::new(until, read)));
        }
        read = done;
        allowance *= 2;
        left = milliseconds_left(until, read, allowance);
    }
}

/// How long it is from `now` to `until`, less the allowance, in whole milliseconds rounded down; nothing if that is too
/// short for the kernel.
fn milliseconds_left(until: Instant, now: Instant, allowance: Duration) -> Option<u64> {
    let left = until.since(now).saturating_sub(allowance);
    (left >= SHORTEST).then(|| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).min(LONGEST_MS))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::after_origin(Duration::from_millis(ms))
    }

    fn until(ms: u64) -> Lease {
        Lease::Until(at(ms))
    }

    #[test]
    fn a_lease_is_given_at_once_and_renewed_when_half_of_it_is_over() {
        let installed = Some(Installed::new(at(400), at(0)));
        for (wanted, installed, now, expected) in [
            (Lease::None, None, 0, Step::Wait),
            (until(400), None, 0, Step::Renew(at(400), 398)),
            (until(400), installed, 100, Step::WaitUntil(at(200))),
            (until(500), installed, 100, Step::WaitUntil(at(200))),
            (until(600), installed, 200, Step::Renew(at(600), 398)),
            (until(400), installed, 200, Step::WaitUntil(at(400))),
            (until(650), installed, 250, Step::Renew(at(650), 398)),
        ] {
            assert_eq!(next(wanted, installed, at(now)), expected, "{wanted:?} at {now}");
        }
    }

    #[test]
    fn a_lease_that_ends_earlier_is_passed_on_at_once() {
        let installed = Installed::new(at(400), at(0));
        for (wanted, now, expected) in [
            (Lease::None, 10, Step::End),
            (until(10), 10, Step::End),
            (until(15), 10, Step::End),
            (until(300), 10, Step::Renew(at(300), 288)),
        ] {
            assert!(installed.is_due(wanted, at(now)));
            assert_eq!(next(wanted, Some(installed), at(now)), expected, "{wanted:?}");
        }
        assert!(!installed.is_due(until(400), at(10)));
        assert!(!installed.is_due(until(500), at(199)));
        assert!(installed.is_due(until(500), at(200)));
    }

    #[test]
    fn the_end_comes_by_itself_and_is_then_made_sure() {
        let installed = Some(Installed::new(at(400), at(0)));
        for wanted in [until(400), until(402)] {
            assert_eq!(next(wanted, installed, at(395)), Step::WaitUntil(at(400)));
            assert_eq!(next(wanted, installed, at(400)), Step::End);
        }
        assert_eq!(next(until(400), None, at(400)), Step::Wait);
        assert_eq!(next(until(400), None, at(395)), Step::Wait, "too short for the kernel");
    }

    #[test]
    fn what_is_left_is_rounded_down() {
        let lease = Lease::Until(Instant::after_origin(Duration::from_micros(402_999)));
        assert_eq!(
            next(lease, None, at(0)),
            Step::Renew(Instant::after_origin(Duration::from_micros(402_999)), 400)
        );
    }

    /// The kernel reads its own clock when it gets to it, and the time until then is lost as well.
    #[test]
    fn the_kernels_lease_ends_in_time_however_long_it_takes_to_give_it() {
        for (waits_us, takes_us, lease_ms) in [
            (0, 100, 400),
            (1_500, 1_500, 400), // together more than is allowed for
            (30_000, 0, 400),    // stopped between reading the clock and asking
            (0, 5_000, 400),     // each time
            (3_000, 30_000, 400),
            (0, 30_000, 50),
            (60_000, 0, 50),
        ] {
            let now = Cell::new(at(1_000));
            let pass = |us| now.set(now.get() + Duration::from_micros(us));
            let (until, read) = (at(1_000 + lease_ms), now.get());
            let Step::Renew(_, milliseconds) = next(Lease::Until(until), None, read) else {
                panic!("it is long enough");
            };
            let kernel = Cell::new(None);
            pass(waits_us);
            let commit = |left: Option<u64>| {
                pass(takes_us);
                kernel.set(left.map(|left| now.get() + Duration::from_millis(left)));
                Ok(())
            };
            let has = give(until, milliseconds, read, || now.get(), commit).unwrap();

            assert_eq!(has.is_some(), kernel.get().is_some());
            assert!(kernel.get().is_none_or(|end| end <= until), "{waits_us} {takes_us}");
            let long_enough = lease_ms > 50;
            assert_eq!(has.is_some(), long_enough, "what is left of it is given");
        }
    }
}
