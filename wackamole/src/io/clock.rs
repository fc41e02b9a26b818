//! Time in production: CLOCK_BOOTTIME, which counts suspension (design: a machine that slept wakes up with its lease
//! expired), and a timerfd on it (timerfd_create(2)), because tokio's own timers round up to a millisecond and stop
//! while the machine sleeps.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Poll, ready};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{self, Expiration, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wackamole_protocol::time::{Duration, Instant};

use crate::env::Clock;

/// The present as every thread and every process of this machine counts it: time since boot, suspension included.
pub fn boot_time() -> Instant {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .expect("CLOCK_BOOTTIME can be read on every Linux since 2.6.39");
    Instant::after_origin(since_boot.into())
}

/// The time since 1970 as this machine's wall clock shows it; it may be wrong, and jump. For people who compare machines, and
/// for nothing else.
pub fn wall_clock() -> Duration {
    let since_1970 = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from);
    since_1970.expect("CLOCK_REALTIME can be read everywhere")
}

/// The clock of a driver.
#[derive(Debug)]
pub struct BootClock {
    /// Timers that nobody sleeps on. One is the rule: a driver sleeps in one place.
    idle: RefCell<Vec<Timer>>,
}

impl BootClock {
    /// Opens the clock. Must be called on a tokio runtime with IO enabled, and used on that runtime only.
    ///
    /// # Errors
    /// No timer can be opened: the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self { idle: RefCell::new(vec![Timer::new()?]) })
    }
}

impl Clock for BootClock {
    fn now(&self) -> Instant {
        boot_time()
    }

    async fn sleep_until(&self, at: Instant) {
        if self.now() >= at {
            return;
        }
        let borrowed = self.idle.borrow_mut().pop().map_or_else(Timer::new, Ok);
        let mut sleep = match borrowed {
            Ok(timer) => Sleep { clock: self, timer: Some(timer) },
            Err(error) => {
                tracing::warn!(%error, "no timer can be opened; waiting without one");
                while self.now() < at {
                    tokio::task::yield_now().await;
                }
                return;
            }
        };
        while self.now() < at {
            sleep.timer().wait_until(at).await;
        }
    }
}

/// A timer in use; goes back to the clock when the sleep ends or is cancelled.
struct Sleep<'a> {
    clock: &'a BootClock,
    timer: Option<Timer>,
}

impl Sleep<'_> {
    fn timer(&mut self) -> &mut Timer {
        self.timer.as_mut().expect("taken in drop only")
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.clock.idle.borrow_mut().extend(self.timer.take());
    }
}

#[derive(Debug)]
struct Timer {
    descriptor: AsyncFd<Descriptor>,
    /// What the kernel is set to. A driver goes to sleep for the same instant again after each datagram; that costs
    /// no system call.
    armed: Option<Instant>,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = timerfd::TimerFd::new(timerfd::ClockId::CLOCK_BOOTTIME, flags)?;
        #[expect(
            deprecated,
            reason = "the replacement is unsafe only for types whose descriptor may change; this one's never does"
        )]
        let descriptor = AsyncFd::with_interest(Descriptor(timer), Interest::READABLE)?;
        Ok(Self { descriptor, armed: None })
    }

    /// Waits until the timer has fired, which may be a stale firing: the caller looks at the clock. Errors cannot
    /// happen with valid arguments; they end the wait, and the caller tries again.
    async fn wait_until(&mut self, at: Instant) {
        if self.armed != Some(at) {
            let alarm = Expiration::OneShot(TimeSpec::from_duration(longest_settable(at)));
            match self.descriptor.get_ref().0.set(alarm, TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
                Ok(()) => self.armed = Some(at),
                Err(error) => {
                    tracing::error!(%error, %at, "cannot set the timer");
                    return tokio::task::yield_now().await;
                }
            }
        }
        let fired = std::future::poll_fn(|context| {
            loop {
                let mut guard = ready!(self.descriptor.poll_read_ready(context))?;
                match guard.try_io(|timer| timer.get_ref().0.wait().map_err(Errno::into)) {
                    Ok(result) => return Poll::Ready(result),
                    Err(_would_block) => {}
                }
            }
        });
        if let Err(error) = fired.await {
            tracing::error!(%error, "cannot read the timer");
        }
        self.armed = None;
    }
}

/// The kernel's time is a signed 64-bit count of nanoseconds; anything later is as good as never.
pub(crate) fn longest_settable(at: Instant) -> Duration {
    at.since_origin().min(Duration::from_nanos(i64::MAX as u64))
}

/// Gives a timerfd the trait that [`AsyncFd`] asks for.
#[derive(Debug)]
struct Descriptor(timerfd::TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn on_a_runtime<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    fn is_pending(sleep: impl Future<Output = ()>) -> bool {
        pin!(sleep).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_sleep_is_never_short_and_usually_less_than_a_millisecond_late() {
        on_a_runtime(async {
            let clock = BootClock::new().unwrap();
            let mut lateness: Vec<_> = Vec::new();
            for round in 0..60 {
                let at = clock.now() + micros(1_100 + 37 * round);
                clock.sleep_until(at).await;
                assert!(clock.now() >= at, "woke before {at}");
                lateness.push(clock.now().since(at));
            }
            lateness.sort();
            assert!(lateness[20] < micros(1_000), "a third of the sleeps: {lateness:?}");
        });
    }

    #[test]
    fn a_cancelled_sleep_leaves_nothing_behind() {
        on_a_runtime(async {
            let clock = BootClock::new().unwrap();
            let start = clock.now();
            let short = start + micros(2_000);
            let long = start + micros(30_000);
            tokio::select! { biased;
                () = clock.sleep_until(long) => panic!("the later deadline came first"),
                () = clock.sleep_until(short) => {}
            }

            clock.sleep_until(long).await;

            assert!(clock.now() >= long);
            assert_eq!(clock.idle.borrow().len(), 2, "both timers are back");
        });
    }

    #[test]
    fn a_deadline_that_moves_earlier_fires_earlier() {
        on_a_runtime(async {
            let clock = BootClock::new().unwrap();
            let far = clock.now() + Duration::from_secs(3_600);
            assert!(is_pending(clock.sleep_until(far)));

            let near = clock.now() + micros(1_500);
            clock.sleep_until(near).await;

            assert!(clock.now() >= near && clock.now() < far);
        });
    }

    #[test]
    fn the_past_returns_at_once_and_never_does_not_return() {
        on_a_runtime(async {
            let clock = BootClock::new().unwrap();
            clock.sleep_until(Instant::ORIGIN).await;
            clock.sleep_until(clock.now()).await;
            assert!(is_pending(clock.sleep_until(Instant::FAR_FUTURE)));
        });
    }
}
