//! For how long the machine has not run us: a virtual machine whose host is busy stands still for up to a second now and then, and
//! what a test measures on it is longer by that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wackamole::io::clock::boot_time;

const NAP: Duration = Duration::from_millis(2);
/// A nap that takes longer by no more than this is an ordinary one.
const ORDINARY: Duration = Duration::from_millis(10);

/// Watches from its making on.
pub(crate) struct Standstill {
    lost: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Standstill {
    pub(crate) fn watch() -> Self {
        let (lost, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (losses, end) = (Arc::clone(&lost), Arc::clone(&over));
        let watcher = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let start = boot_time();
                thread::sleep(NAP);
                let late = boot_time().since(start).saturating_sub(NAP);
                if late > ORDINARY {
                    losses.fetch_add(late.as_nanos() as u64, Ordering::Relaxed);
                }
            }
        });
        Self { lost, over, watcher: Some(watcher) }
    }

    /// Whether something that took so long would have taken less than `limit`, had the machine not stood still.
    pub(crate) fn is_within(&self, taken: Duration, limit: Duration) -> bool {
        taken < limit || taken < limit + self.lost()
    }

    fn lost(&self) -> Duration {
        // A nap that is too long by now is counted when it is over.
        thread::sleep(NAP + ORDINARY);
        let lost = Duration::from_nanos(self.lost.load(Ordering::Relaxed));
        eprintln!("the machine stood still for {lost:.0?}");
        lost
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.take().map(JoinHandle::join);
    }
}
