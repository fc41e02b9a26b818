//! Network namespaces, entered by threads.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

/// Leaves the machine's user and network namespaces for ever. Only a process with one thread can.
pub(crate) fn leave_the_machine() -> Result<(), String> {
    let (user, group) = (geteuid(), getegid());
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        Ok(()) => {
            let map = |file: &str, text: String| {
                fs::write(format!("/proc/self/{file}"), text).map_err(|e| format!("{file}: {e}"))
            };
            map("setgroups", "deny".into())?;
            map("gid_map", format!("0 {group} 1"))?;
            map("uid_map", format!("0 {user} 1"))
        }
        // Root needs no user namespace.
        Err(Errno::EPERM | Errno::EINVAL | Errno::ENOSPC) if user.is_root() => {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A network namespace; gone when this and everything in it is.
pub(crate) struct Namespace(File);

impl Namespace {
    pub(crate) fn new() -> Self {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Self(File::open("/proc/thread-self/ns/net").unwrap())
        })
    }

    /// Runs `work` inside, on a thread of its own; threads that it starts are inside as well.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
