//! The thread that keeps the kernel's copy of the lease. It has a socket of its own, so it waits neither for address
//! work nor for the opening and shutting of VIPs.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wackamole_protocol::time::Instant;

use super::schedule::{self, Installed, Step};
use super::socket::GateSocket;
use super::{Table, ruleset};
use crate::env::Lease;
use crate::io::clock::boot_time;

/// Pause after the kernel has refused.
const RETRY: Duration = Duration::from_millis(10);

/// What the driver's thread and the keeper's share.
#[derive(Debug)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    wanted: Lease,
    installed: Option<Installed>,
    closed: bool,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        let state = State { wanted: Lease::None, installed: None, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The lease is this one from now on. Never waits for the kernel.
    pub(super) fn put(&self, lease: Lease) {
        let mut state = self.lock();
        state.wanted = lease;
        if state.installed.is_none_or(|installed| installed.is_due(lease, boot_time())) {
            self.changed.notify_one();
        }
    }

    /// The kernel has no lease any more.
    pub(super) fn lost(&self) {
        self.lock().installed = None;
        self.changed.notify_one();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// What is in there is a few plain values: whoever panicked has left them whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Keeper {
    pub(super) table: Arc<Table>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) socket: GateSocket,
}

impl Keeper {
    /// Works until the mailbox is closed. The lease is left to its end.
    pub(super) fn run(mut self) {
        let mailbox = Arc::clone(&self.mailbox);
        let mut failing = false;
        let mut state = mailbox.lock();
        while !state.closed {
            let now = boot_time();
            let step = schedule::next(state.wanted, state.installed, now);
            let pause = match step {
                Step::Wait => None,
                Step::WaitUntil(at) => Some(at.since(now)),
                Step::Renew(..) | Step::End => {
                    drop(state);
                    let result = self.perform(step, now);
                    state = mailbox.lock();
                    match result {
                        Ok(installed) => {
                            failing = false;
                            state.installed = installed;
                            continue;
                        }
                        Err(error) => {
                            if !failing {
                                tracing::error!(%error, "the gate's lease cannot be changed; it ends by itself");
                            }
                            failing = true;
                            Some(RETRY)
                        }
                    }
                }
            };
            state = match pause {
                None => mailbox.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(pause) => {
                    let waited = mailbox.changed.wait_timeout(state, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Changes the lease, as it was found to be due at `now`, and returns what the kernel has from then on.
    fn perform(&mut self, step: Step, now: Instant) -> io::Result<Option<Installed>> {
        let result = match step {
            Step::Renew(until, milliseconds) => {
                schedule::give(until, milliseconds, now, boot_time, |left| {
                    self.stand_and_commit(left)
                })
            }
            _ => self.stand_and_commit(None).map(|()| None),
        };
        // Removed at our own request.
        if result.is_err() && self.table.lock().removed { Ok(None) } else { result }
    }

    /// If the tables are not there, or others than ours, they are made again first.
    fn stand_and_commit(&mut self, milliseconds: Option<u64>) -> io::Result<()> {
        let result = self.commit(milliseconds);
        if result.is_ok() {
            return result;
        }
        let content = self.table.lock();
        self.table.restored(result, &mut self.socket, &content).1?;
        drop(content);
        self.commit(milliseconds)
    }

    fn commit(&mut self, milliseconds: Option<u64>) -> io::Result<()> {
        let Table { name, in_place, renewal, .. } = &*self.table;
        let before = renewal.load(Ordering::Relaxed);
        self.socket.commit(|batch| {
            ruleset::count_renewal(batch, name, before);
            match milliseconds {
                Some(milliseconds) => ruleset::lease(batch, name, milliseconds, *in_place),
                None => ruleset::end_lease(batch, name),
            }
        })?;
        renewal.store(before.wrapping_add(1), Ordering::Relaxed);
        Ok(())
    }
}
