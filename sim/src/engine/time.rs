//! The world's time, counted by an engine, and the alarm of a machine that waits for it.
//!
//! A machine is one future. Whenever it is polled, each of its timers is, because the driver spawns nothing and waits in one
//! `select!`; so all that an engine has to know of its timers is the earliest. Whoever polls a machine cancels its alarm first.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use wackamole_protocol::time::Duration;

/// A time in ticks since the start of the world.
pub(super) type Tick = u64;

/// Later than any world lasts.
pub(super) const NEVER: Tick = Tick::MAX;

/// Whole ticks, rounded up, as tokio's timers are.
pub(super) fn ticks(duration: Duration) -> Tick {
    duration.as_secs().saturating_mul(1_000)
        + u64::from(duration.subsec_nanos().div_ceil(1_000_000))
}

/// The world's time as a machine sees it.
#[derive(Clone)]
pub struct AlarmTime {
    now: Rc<Cell<Tick>>,
    alarm: Rc<Cell<Tick>>,
}

impl fmt::Debug for AlarmTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlarmTime({} ms)", self.now.get())
    }
}

impl AlarmTime {
    /// The time `now`, for the machine whose alarm this is.
    pub(super) fn new(now: &Rc<Cell<Tick>>, alarm: &Rc<Cell<Tick>>) -> Self {
        Self { now: Rc::clone(now), alarm: Rc::clone(alarm) }
    }

    /// The time since the start of the world.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.now.get())
    }

    /// Waits, until the tick that is not before the end of `duration`.
    pub async fn sleep(&self, duration: Duration) {
        let end = ticks(self.now().saturating_add(duration));
        poll_fn(|_| {
            if self.now.get() >= end {
                return Poll::Ready(());
            }
            self.alarm.set(self.alarm.get().min(end));
            Poll::Pending
        })
        .await;
    }
}
