//! Time as the machines see it: a count of nanoseconds that only the caller can advance.
//!
//! The origin is the caller's business (boot in production, the start of the simulated world in tests); two machines'
//! instants are never compared. `std::time::Instant` is not used because a test could not construct one.

use core::fmt;
use core::ops::{Add, Sub};
pub use core::time::Duration;

/// A point on one machine's own clock, in nanoseconds since an origin fixed for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the clock.
    pub const ORIGIN: Self = Self(0);
    /// Later than anything that will happen.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The instant that lies `elapsed` after the origin.
    pub fn after_origin(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Time since the origin.
    pub fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::FAR_FUTURE`].
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Saturates at the origin.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

/// When a machine wants to be woken, and what for. The reason appears in traces when the deadline fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// When to call `handle_timeout`.
    pub at: Instant,
    /// What will be done then.
    pub reason: &'static str,
}

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self { at: Instant::FAR_FUTURE, reason: "never" };

    /// A deadline at `at` because of `reason`.
    pub fn new(at: Instant, reason: &'static str) -> Self {
        Self { at, reason }
    }
}
