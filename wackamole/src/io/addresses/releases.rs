//! Releases that have been asked for and not been shut at the gate yet.
//!
//! A node that has lost its view lets go of everything and may be in another view, with a lease of its own, before the address
//! worker has come to it. That lease must not open once more what is about to go: so the gate gets no new lease until
//! everything that is to be released is shut.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by the driver's thread, which asks, and the worker's, which shuts.
#[derive(Debug, Default)]
pub(super) struct Releases {
    asked: AtomicU64,
    shut: AtomicU64,
}

impl Releases {
    /// One more is asked for. To be called before the worker can see it.
    pub(super) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    /// The first so many are shut.
    pub(super) fn are_shut(&self, count: u64) {
        self.shut.store(count, Ordering::SeqCst);
    }

    /// Whether some are not shut yet.
    pub(super) fn wait(&self) -> bool {
        self.shut.load(Ordering::SeqCst) < self.asked.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_waits_until_as_many_are_shut() {
        let releases = Releases::default();
        assert!(!releases.wait());
        releases.ask();
        releases.ask();
        releases.are_shut(1);
        assert!(releases.wait());
        releases.are_shut(2);
        assert!(!releases.wait());
    }
}
