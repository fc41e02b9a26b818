//! Real time, for the one thing that it matters for: how fast the simulator is.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Measures how long something takes.
pub struct Stopwatch {
    started: Instant,
    worked: Duration,
}

impl Stopwatch {
    /// Starts.
    #[allow(clippy::disallowed_methods)] // measures the simulator itself; nothing that is simulated sees it
    pub fn start() -> Self {
        Self { started: Instant::now(), worked: thread_time() }
    }

    /// The time since the start, on the wall.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The time that this thread has worked since the start: what a run costs, whatever else the machine does.
    pub fn worked(&self) -> Duration {
        thread_time().saturating_sub(self.worked)
    }
}

/// CPU time of this thread (`man 2 clock_gettime`); zero where the kernel does not count it.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
