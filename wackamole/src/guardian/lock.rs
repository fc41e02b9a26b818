//! One guardian at a time for each state directory: whoever is behind the lock may remove addresses, and a new daemon waits
//! until nobody is.
//!
//! A record lock (fcntl(2), `F_SETLK`), because the kernel tells who has it: there is no file with a process number that
//! could be stale.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::thread;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{
    Flock, FlockType, Pid, PidfdFlags, Signal, fcntl_getlk, pidfd_open, pidfd_send_signal,
};
use wackamole_protocol::time::{Duration, Instant};

use crate::io::clock;

/// The file within the state directory.
const FILE: &str = "guardian";
/// Pause between two looks at the lock.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a former guardian may take to end: removing 10 000 addresses takes some 3 s.
pub const FORMER_MAX: Duration = Duration::from_secs(10);
/// How long one may take to end that was killed.
const KILLED_MAX: Duration = Duration::from_secs(2);

/// Why it is not known that no guardian is at work.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock cannot be looked at.
    #[error("cannot look at the guardian's lock in {}: {source}", directory.display())]
    Io {
        /// The state directory.
        directory: std::path::PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It does not go.
    #[error("a former guardian{} neither ends nor can be killed", of(*pid))]
    Stuck {
        /// Its process, if it can be seen from here.
        pid: Option<i32>,
    },
}

fn of(pid: Option<i32>) -> String {
    pid.map_or_else(|| " (of another PID namespace)".into(), |pid| format!(" (process {pid})"))
}

/// The lock, until this is dropped or the process ends. A process must not look at the lock while it has it: the kernel
/// drops a record lock as soon as its process closes any descriptor of the file.
#[derive(Debug)]
pub(super) struct GuardianLock {
    _file: File,
}

impl GuardianLock {
    /// Takes the lock, or says that somebody else has it.
    pub(super) fn take(directory: &Path) -> io::Result<Self> {
        let file = open(directory)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                Err(io::Error::other("another guardian is at work on this state directory"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits until no guardian is at work on a state directory. `told` is called once, if there is one to wait for.
///
/// One that is not done after `patience` is killed: it is stopped, or the kernel refuses what it wants to do. Nothing is
/// lost with it, because the caller is about to do the same work, and holds nothing before that.
///
/// # Errors
/// The lock cannot be looked at, or a guardian is there and cannot be killed.
pub fn await_former(
    directory: &Path,
    patience: Duration,
    mut told: impl FnMut(Option<i32>),
) -> Result<(), LockError> {
    let failed = |source| LockError::Io { directory: directory.to_owned(), source };
    let file = match open(directory) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let Some(first) = holder(&file).map_err(failed)? else { return Ok(()) };
    told(first.map(Pid::as_raw_pid));
    if is_free_before(&file, clock::boot_time() + patience).map_err(failed)? {
        return Ok(());
    }
    let Some(last) = holder(&file).map_err(failed)? else { return Ok(()) };
    let stuck = LockError::Stuck { pid: last.map(Pid::as_raw_pid) };
    let Some(pid) = last else { return Err(stuck) };
    if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        // It has the lock still, so the number was its own when the descriptor was opened.
        && holder(&file).map_err(failed)? == Some(Some(pid))
    {
        tracing::warn!(pid = pid.as_raw_pid(), "the former guardian does not end: killing it");
        // If that fails the lock stays, as the next line finds out.
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
    if is_free_before(&file, clock::boot_time() + KILLED_MAX).map_err(failed)? {
        Ok(())
    } else {
        Err(stuck)
    }
}

fn is_free_before(file: &File, limit: Instant) -> io::Result<bool> {
    while holder(file)?.is_some() {
        if clock::boot_time() >= limit {
            return Ok(false);
        }
        thread::sleep(PAUSE);
    }
    Ok(true)
}

/// Whether somebody else has the lock, and who, if the process can be seen from here.
fn holder(file: &File) -> io::Result<Option<Option<Pid>>> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(lock.map(|lock| lock.pid))
}

fn open(directory: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_lock_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let nobody = |pid| panic!("{pid:?} has it");
        await_former(&root.path().join("none"), Duration::ZERO, nobody).unwrap();
        await_former(root.path(), Duration::ZERO, nobody).unwrap();
        let lock = GuardianLock::take(root.path()).unwrap();
        drop(lock);
        await_former(root.path(), Duration::ZERO, nobody).unwrap();
    }
}
