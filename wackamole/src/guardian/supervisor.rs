//! The daemon's side: seeing to it that a guardian stands. A thread of its own, because starting a process takes its time.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{error, info, warn};
use wackamole_protocol::time::{Duration, Instant};

use super::board::Board;
use super::orders::Orders;
use super::start::{Guardian, Program, Recipe, StartError, system};
use crate::env::Lease;
use crate::io::clock;

/// How long the first guardian may take to stand; there is nothing to lose yet.
const FIRST_MAX: Duration = Duration::from_secs(5);
/// How long a later one may take before the daemon is told that none stands.
const NEXT_LEAST: Duration = Duration::from_millis(250);
/// How long a dismissed one may take to end.
const DISMISSAL_MAX: Duration = Duration::from_secs(1);
/// Pause after a start that failed; doubled each time, up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// Looks without a sign of life after which a guardian is replaced. Counted in looks, not in time, so that a machine that
/// slept does not blame its guardian.
const LOOKS: u32 = 2;

/// What the owner wants of the thread.
const GO_ON: u8 = 0;
/// End, and dismiss the guardian.
const DISMISS: u8 = 1;
/// End, and leave the guardian to watch over the process's end.
const ABANDON: u8 = 2;

/// Whether a guardian stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none, and none could be started: why.
    Fallen(String),
    /// There is one again.
    Restored,
}

/// A guardian that is replaced when it ends or stops. If this is dropped without [`Guarded::dismiss`], the guardian stays until
/// the process has ended, and then does its work.
#[derive(Debug)]
pub struct Guarded {
    board: Board,
    standing: UnboundedReceiver<Standing>,
    wish: Arc<Wish>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Wish {
    what: AtomicU8,
    wake: EventFd,
}

impl Wish {
    fn now(&self, what: u8) {
        self.what.store(what, Ordering::Release);
        // Fails only if the counter is at its maximum, and then the thread is awake.
        let _ = self.wake.write(1);
    }

    fn is(&self, what: u8) -> bool {
        self.what.load(Ordering::Acquire) == what
    }
}

impl Guarded {
    /// Starts a guardian, waits until it stands, and sees to it that one stands from now on.
    ///
    /// # Errors
    /// No guardian can be started.
    pub fn start(program: Program, orders: &Orders) -> Result<Self, StartError> {
        let board = Board::create().map_err(system("share memory"))?;
        let recipe = Recipe::new(program, orders)?;
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = EventFd::from_flags(flags)
            .map_err(io::Error::from)
            .map_err(system("open an eventfd"))?;
        let wish = Arc::new(Wish { what: AtomicU8::new(GO_ON), wake });
        let (report, standing) = unbounded_channel();
        let shared = board.share().map_err(system("share memory"))?;
        let guardian = recipe.start(&board, FIRST_MAX)?;
        info!(pid = guardian.pid(), "a guardian stands behind this daemon");
        let look = 2 * orders.pulse;
        let supervisor = Supervisor { recipe, board: shared, wish: wish.clone(), report, look };
        let thread = std::thread::Builder::new()
            .name("supervisor".into())
            .spawn(move || supervisor.run(guardian))
            .map_err(system("start a thread"))?;
        Ok(Self { board, standing, wish, thread: Some(thread) })
    }

    /// Tells the guardian until when this machine may answer. From then on it wants signs of life, and a release.
    pub fn renew(&self, lease: Lease) {
        if let Err(error) = self.board.set_lease(lease) {
            error!(%error, "cannot tell the guardian of the lease");
        }
    }

    /// Shows that the daemon's loop runs.
    pub fn show_life(&self, now: Instant) {
        if let Err(error) = self.board.show_life(now) {
            error!(%error, "cannot show a sign of life to the guardian");
        }
    }

    /// Waits until a guardian stands no more, or again. Cancel-safe.
    ///
    /// # Panics
    /// If the supervising thread has panicked: a daemon that may have no guardian must not go on.
    pub fn poll_standing(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Standing> {
        self.standing
            .poll_recv(context)
            .map(|standing| standing.expect("the supervisor lives as long as its owner"))
    }

    /// Sends the guardian away: this daemon holds nothing, the peers know, and it ends. Waits until it has gone, up to a
    /// second.
    pub fn dismiss(mut self) {
        self.end(DISMISS);
    }

    fn end(&mut self, wish: u8) {
        self.wish.now(wish);
        if let Some(thread) = self.thread.take() {
            // Its panic has been told already.
            let _ = thread.join();
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.wish.now(ABANDON);
        }
    }
}

struct Supervisor {
    recipe: Recipe,
    board: Board,
    wish: Arc<Wish>,
    report: UnboundedSender<Standing>,
    /// Pause between two looks at the guardian's signs of life.
    look: Duration,
}

/// Why a guardian is watched no more.
enum Ended {
    ByWish,
    Itself,
    Stopped,
}

impl Supervisor {
    fn run(self, first: Guardian) {
        let mut guardian = first;
        loop {
            let why = match self.watch(&guardian) {
                Ended::ByWish if self.wish.is(DISMISS) => {
                    if !guardian.dismiss(DISMISSAL_MAX) {
                        warn!(pid = guardian.pid(), "the guardian does not end: killing it");
                        guardian.bury(DISMISSAL_MAX);
                    }
                    return;
                }
                Ended::ByWish => return guardian.leave_alone(),
                Ended::Itself => "it has ended",
                Ended::Stopped => "it shows no sign of life",
            };
            warn!(pid = guardian.pid(), "the guardian is replaced: {why}");
            match self.replace(guardian, why) {
                Some(next) => guardian = next,
                None => return,
            }
        }
    }

    /// Watches a guardian until something has happened to it.
    fn watch(&self, guardian: &Guardian) -> Ended {
        let (mut last, mut unchanged) = (self.board.guard(), 0);
        loop {
            let began = clock::boot_time();
            let mut sources = [
                PollFd::new(self.wish.wake.as_fd(), PollFlags::POLLIN),
                PollFd::new(guardian.as_fd(), PollFlags::POLLIN),
            ];
            let timeout = PollTimeout::try_from(self.look).unwrap_or(PollTimeout::MAX);
            match poll(&mut sources, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => error!(%error, "cannot wait for the guardian"),
            }
            if !self.wish.is(GO_ON) {
                return Ended::ByWish;
            }
            if sources[1].revents().is_some_and(|events| !events.is_empty()) {
                return Ended::Itself;
            }
            if clock::boot_time().since(began) < self.look {
                continue;
            }
            let shown = self.board.guard();
            unchanged = if shown == last { unchanged + 1 } else { 0 };
            last = shown;
            if unchanged >= LOOKS {
                return Ended::Stopped;
            }
        }
    }

    /// Ends what is left of one guardian and starts the next. `None` if the owner wants no more.
    fn replace(&self, mut old: Guardian, why: &str) -> Option<Guardian> {
        let limit = NEXT_LEAST.max(2 * self.look);
        let mut fallen = false;
        let mut tell = |why: String| {
            error!("no guardian stands behind this daemon: {why}");
            if !std::mem::replace(&mut fallen, true) {
                // Without a listener the owner has gone, which the wish says.
                let _ = self.report.send(Standing::Fallen(why));
            }
        };
        let mut pause = RETRY_FIRST;
        // Its lock is free, and it touches nothing more, only when it has ended.
        while !old.bury(limit) {
            tell(format!("process {} cannot be killed", old.pid()));
            if self.wishes_end_within(pause) {
                old.leave_alone();
                return None;
            }
            pause = (pause * 2).min(RETRY_LONGEST);
        }
        pause = RETRY_FIRST;
        loop {
            match self.recipe.start(&self.board, limit) {
                Ok(next) => {
                    info!(pid = next.pid(), "another guardian stands behind this daemon");
                    if fallen {
                        let _ = self.report.send(Standing::Restored);
                    }
                    return Some(next);
                }
                Err(error) => tell(format!("{why}, and another cannot be started: {error}")),
            }
            if self.wishes_end_within(pause) {
                return None;
            }
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }

    fn wishes_end_within(&self, pause: Duration) -> bool {
        let mut wake = [PollFd::new(self.wish.wake.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        // An error is as good as the end of the pause: the wish is looked at all the same.
        let _ = poll(&mut wake, timeout);
        !self.wish.is(GO_ON)
    }
}
