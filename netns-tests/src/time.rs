//! Time as the observers stamp it: the boot clock, which one machine's namespaces share.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// A point on the boot clock of this machine (`CLOCK_BOOTTIME`, clock_gettime(2)); by default, when it booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The present.
    ///
    /// # Panics
    /// If the kernel has no boot clock (Linux before 2.6.39).
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has a boot clock");
        Self(Duration::from(time))
    }

    /// The moment at which the kernel's wall clock showed `time`, provided that it has not been set since: the kernel
    /// stamps packets with that clock only.
    pub(crate) fn at_wall_time(time: TimeSpec) -> Self {
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from);
        let ago = wall.saturating_sub(Duration::from(time));
        Self(Self::now().0.saturating_sub(ago))
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Time since this moment.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}
