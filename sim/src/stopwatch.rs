//! Real time, for the one thing that it matters for: how fast the simulator is.

use std::time::{Duration, Instant};

/// Measures how long something takes.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[allow(clippy::disallowed_methods)] // measures the simulator itself; nothing that is simulated sees it
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
