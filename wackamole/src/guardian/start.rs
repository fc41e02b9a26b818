//! The daemon's side: starting a guardian, and its end.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use wackamole_protocol::time::Duration;

use super::board::Board;
use super::orders::{Orders, Word};
use crate::io::clock;

/// Pause between two looks whether a guardian that must end has ended.
const PAUSE: Duration = Duration::from_micros(500);
/// What a guardian says of its failure.
const REASON_BYTES_MAX: u64 = 4096;

/// How guardians are started.
#[derive(Clone, Debug)]
pub struct Program {
    /// This program.
    pub path: PathBuf,
    /// Its arguments: the hidden command `guardian`, and how it logs.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// The running program, also if its file was replaced meanwhile: an update must not keep a guardian from being
    /// replaced by one that understands the same orders.
    pub fn this(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let guardian = OsString::from("guardian");
        let arguments = std::iter::once(guardian).chain(arguments).collect();
        Self { path: "/proc/self/exe".into(), arguments }
    }
}

/// Why a guardian does not stand.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system refuses.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It says so itself.
    #[error("{0}")]
    Refused(String),
    /// It says nothing.
    #[error("the guardian was not ready within {0:?}")]
    Late(Duration),
}

pub(super) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { doing, source }
}

/// What every guardian of a daemon gets.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    program: Program,
    orders: Arc<[u8]>,
}

impl Recipe {
    pub(super) fn new(program: Program, orders: &Orders) -> Result<Self, StartError> {
        let orders = orders.to_bytes().map_err(system("write the guardian's orders"))?;
        Ok(Self { program, orders: orders.into() })
    }

    /// Starts a guardian and waits until it stands. What cannot stand within `limit` is killed.
    pub(super) fn start(&self, board: &Board, limit: Duration) -> Result<Guardian, StartError> {
        let (ours, theirs) = UnixStream::pair().map_err(system("make a channel"))?;
        let memory = board.share().map_err(system("share memory"))?.into_memory();
        let child = Command::new(&self.program.path)
            .arg0("wackamole-guardian")
            .args(&self.program.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(memory))
            .spawn()
            .map_err(system("start the guardian"))?;
        let mut guardian = Guardian { child, channel: first_to_close(ours) };
        let ready = guardian.brief(&self.orders, limit);
        if ready.is_err() {
            guardian.bury(limit);
        }
        ready.map(|()| guardian)
    }
}

/// Gives a descriptor a high number. A process that ends lets go of its files from the highest to the lowest (task_work_run in
/// linux/kernel/task_work.c), and the guardian learns of that end when its channel closes: before packet sockets, please,
/// for each of which the kernel waits some 10 ms.
fn first_to_close(channel: UnixStream) -> UnixStream {
    // The usual limit is 1024; below a lower one the channel stays where it is.
    match rustix::io::fcntl_dupfd_cloexec(&channel, 1_000) {
        Ok(high) => UnixStream::from(high),
        Err(_) => channel,
    }
}

/// A guardian that stands, or is to end.
#[derive(Debug)]
pub(super) struct Guardian {
    child: Child,
    channel: UnixStream,
}

impl Guardian {
    fn brief(&mut self, orders: &[u8], limit: Duration) -> Result<(), StartError> {
        let channel = &mut self.channel;
        let late = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => StartError::Late(limit),
            _ => system("talk to the guardian")(error),
        };
        channel.set_write_timeout(Some(limit)).map_err(late)?;
        channel.set_read_timeout(Some(limit)).map_err(late)?;
        // One that fails at once says why before it reads.
        let written = channel.write_all(orders);
        let mut word = [0];
        match channel.read(&mut word) {
            Ok(1) if word[0] == Word::Ready as u8 => written.map_err(late),
            Ok(1) => {
                let mut reason = String::new();
                // As much as there is.
                let _ = channel.take(REASON_BYTES_MAX).read_to_string(&mut reason);
                Err(StartError::Refused(reason))
            }
            Ok(_) => Err(StartError::Refused("the guardian ended at its start".into())),
            Err(error) => Err(late(error)),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Readable when it has ended: it says nothing more.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Sends it away: the daemon holds nothing and ends. Returns whether it has gone.
    pub(super) fn dismiss(&mut self, limit: Duration) -> bool {
        // If it does not listen it has ended, or is about to be killed.
        let _ = Word::Done.say(&mut self.channel);
        self.has_ended_within(limit)
    }

    /// Kills it, whatever state it is in. Returns whether it has gone.
    pub(super) fn bury(&mut self, limit: Duration) -> bool {
        // Fails only if it has ended.
        let _ = self.child.kill();
        self.has_ended_within(limit)
    }

    /// Leaves it to watch over this process to its end. Its channel stays open as long as the process lives, because the
    /// guardian takes its closing for that end.
    pub(super) fn leave_alone(self) {
        std::mem::forget(self);
    }

    fn has_ended_within(&mut self, limit: Duration) -> bool {
        let until = clock::boot_time() + limit;
        loop {
            match self.child.try_wait() {
                // Not our child any more: somebody else has waited for it.
                Ok(Some(_)) | Err(_) => return true,
                Ok(None) if clock::boot_time() >= until => return false,
                Ok(None) => thread::sleep(PAUSE),
            }
        }
    }
}
