//! The guardian itself: one thread that waits for the daemon's end, for a lease that is over, or for being dismissed.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};
use tracing::{error, info, warn};
use wackamole_protocol::time::{Duration, Instant};

use super::board::Board;
use super::lock::GuardianLock;
use super::orders::{Orders, Word};
use super::watch::{Verdict, Watch};
use super::{fences, protection};
use crate::env::Lease;
use crate::io::addresses::look_for_leftovers;
use crate::io::clock;
use crate::io::gate::Shut;

/// First pause after a removal that failed; doubled each time, up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// After so long the removal is given up: what the kernel refuses for so long it goes on refusing.
const REMOVAL_MAX: Duration = Duration::from_secs(20);
/// A daemon that was killed and has not ended after so long is worth a line in the log.
const KILL_TELL: Duration = Duration::from_secs(2);

/// How long a daemon may be on its way out of the kernel.
const LAST_BREATH_MAX: Duration = Duration::from_secs(5);

/// Why there is no guardian, or how it failed.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Nobody gave it its orders.
    #[error("a guardian is started by `wackamole run`, and by nothing else ({0})")]
    NoOrders(#[source] io::Error),
    /// The system refuses.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Addresses are left.
    #[error("ADDRESSES MAY BE LEFT on this machine, see `ip addr`; the peers have not been told")]
    Left,
}

fn system(doing: &'static str) -> impl FnOnce(io::Error) -> GuardError {
    move |source| GuardError::System { doing, source }
}

/// Prepares the process, before it has a second thread.
pub fn prepare() {
    protection::ignore_signals();
}

/// Stands behind a daemon until it has ended. Standard input is the channel to it and standard output the memory shared with
/// it. Call [`prepare`] first.
///
/// # Errors
/// Nobody gave orders, the guardian cannot stand, or addresses are left.
pub fn run() -> Result<(), GuardError> {
    let own = |fd: io::Result<OwnedFd>| fd.map_err(system("take over the daemon's channel"));
    let mut channel = UnixStream::from(own(io::stdin().as_fd().try_clone_to_owned())?);
    let board = Board::of(own(io::stdout().as_fd().try_clone_to_owned())?);
    let orders = Orders::read(&mut channel).map_err(GuardError::NoOrders)?;
    match Guard::stand(orders, channel, board) {
        Ok(guard) => guard.watch(),
        Err((mut channel, error)) => {
            // If the daemon is gone there is nobody to tell.
            let _ = Word::Failed.say(&mut channel).and_then(|()| write!(channel, "{error}"));
            Err(error)
        }
    }
}

struct Guard {
    orders: Orders,
    channel: UnixStream,
    /// The daemon closed its end, but may live.
    channel_closed: bool,
    board: Board,
    /// `None`: it had ended before we could look.
    daemon: Option<OwnedFd>,
    timer: TimerFd,
    /// As last read.
    lease: Lease,
    watch: Watch,
    killed_at: Option<Instant>,
    told_at: Option<Instant>,
    /// The gate was shut when the daemon was killed.
    shut: Option<Shut>,
    _lock: GuardianLock,
}

/// Why the watch has ended.
enum Ended {
    Dismissed,
    DaemonGone,
}

impl Guard {
    /// Gets everything ready and says so.
    fn stand(
        orders: Orders,
        mut channel: UnixStream,
        board: Board,
    ) -> Result<Self, (UnixStream, GuardError)> {
        let ready = || {
            protection::stand_apart();
            let lock = GuardianLock::take(&orders.state_dir).map_err(system("lock"))?;
            // The directory that the daemon was started in may be on a disk that goes.
            let _ = std::env::set_current_dir("/");
            let daemon = open_parent(orders.daemon).map_err(system("watch the daemon"))?;
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)
                .map_err(|error| system("open a timer")(error.into()))?;
            // A rehearsal: what the work will need is then in memory, and what does not work is known now.
            look_for_leftovers(&orders.may_clean_up)
                .map_err(|error| system("look at the addresses")(io::Error::other(error)))?;
            protection::stay_in_memory();
            board.show_guard(clock::boot_time()).map_err(system("write the shared memory"))?;
            Ok((lock, daemon, timer))
        };
        let (lock, daemon, timer) = match ready() {
            Ok(ready) => ready,
            Err(error) => return Err((channel, error)),
        };
        if let Err(error) = Word::Ready.say(&mut channel) {
            // It has ended meanwhile, as the watch will find out.
            info!(%error, "the daemon does not listen");
        }
        let watch = Watch::new(orders.patience);
        Ok(Self {
            orders,
            channel,
            channel_closed: false,
            board,
            daemon,
            timer,
            lease: Lease::None,
            watch,
            killed_at: None,
            told_at: None,
            shut: None,
            _lock: lock,
        })
    }

    fn watch(mut self) -> Result<(), GuardError> {
        match self.await_end()? {
            Ended::Dismissed => Ok(()),
            Ended::DaemonGone => self.take_over(),
        }
    }

    fn await_end(&mut self) -> Result<Ended, GuardError> {
        loop {
            let now = clock::boot_time();
            // Fails only if the kernel has no memory for a page that is there; then we are replaced, which is right.
            let _ = self.board.show_guard(now);
            let next = self.look_at_lease(now).min(now + self.orders.pulse);
            let alarm = TimeSpec::from_duration(clock::longest_settable(next));
            self.timer
                .set(Expiration::OneShot(alarm), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
                .map_err(|error| system("set the timer")(error.into()))?;
            let (said, ended) = self.wait().map_err(system("wait for the daemon"))?;
            // What it said before it ended counts.
            if said && let Some(ended) = self.hear() {
                return Ok(ended);
            }
            if ended {
                return Ok(Ended::DaemonGone);
            }
        }
    }

    /// Kills the daemon if it must be killed. Returns when to look again.
    fn look_at_lease(&mut self, now: Instant) -> Instant {
        if let Some(killed_at) = self.killed_at {
            if now >= self.told_at.unwrap_or(killed_at) + KILL_TELL {
                self.told_at = Some(now);
                error!("the daemon is killed but does not end: it hangs in the kernel");
            }
            return Instant::FAR_FUTURE;
        }
        self.lease = self.board.lease().unwrap_or(self.lease);
        match (self.watch.judge(now, self.lease, self.board.life()), &self.daemon) {
            (Verdict::Wait(until), _) => until,
            (Verdict::Kill(_), None) => Instant::FAR_FUTURE,
            (Verdict::Kill(why), Some(daemon)) => {
                let pid = self.orders.daemon;
                error!(node = self.orders.node, pid, "killing the daemon: {why}");
                if let Err(error) = pidfd_send_signal(daemon, Signal::KILL) {
                    // It has just ended by itself, which is what we wait for.
                    info!(%error, "it cannot be killed");
                }
                self.killed_at = Some(now);
                // It runs no more, but what it began in the kernel may go on; then the gate is shut again.
                self.shut = fences::shut(self.orders.gate.as_deref());
                Instant::FAR_FUTURE
            }
        }
    }

    /// Whether something came through the channel, and whether the daemon has ended.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let Some(daemon) = &self.daemon else { return Ok((true, true)) };
        let mut sources = vec![
            PollFd::new(daemon.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        if !self.channel_closed {
            sources.push(PollFd::new(self.channel.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok((false, false)),
            Err(error) => return Err(error.into()),
        }
        let spoke = |source: Option<&PollFd<'_>>| {
            source.and_then(PollFd::revents).is_some_and(|events| !events.is_empty())
        };
        Ok((spoke(sources.get(2)), spoke(sources.first())))
    }

    /// Reads the channel, which has something or is closed.
    fn hear(&mut self) -> Option<Ended> {
        let mut word = [0];
        // There may be nothing to read if the daemon was gone from the start.
        let read = self.channel.set_nonblocking(true).and_then(|()| self.channel.read(&mut word));
        match read {
            Ok(1) if word[0] == Word::Done as u8 => Some(Ended::Dismissed),
            Ok(0) => {
                self.channel_closed = true;
                self.is_exiting().then_some(Ended::DaemonGone)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            // It died in mid-sentence: its end is what counts.
            Ok(_) | Err(_) => {
                self.channel_closed = true;
                None
            }
        }
    }

    /// The daemon has closed its end of the channel. A living one never does, and a dying one when the last of its threads lets go
    /// of the common descriptors: none of them begins a system call any more. The pidfd comes later, because the kernel
    /// waits some 10 ms (RCU) for each packet socket that it closes meanwhile.
    fn is_exiting(&self) -> bool {
        const PF_EXITING: u64 = 4; // linux/sched.h
        let flags = || {
            let pidfd = self.daemon.as_ref()?.as_raw_fd();
            // Its number as this /proc counts.
            let about = fs::read_to_string(format!("/proc/self/fdinfo/{pidfd}")).ok()?;
            let pid = about.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim();
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // proc_pid_stat(5): the name in brackets may hold anything; then from state, the third, to flags, the ninth.
            stat.rsplit_once(')')?.1.split_whitespace().nth(6)?.parse::<u64>().ok()
        };
        let exiting = flags().is_some_and(|flags| flags & PF_EXITING != 0);
        if !exiting {
            info!("the daemon has closed its channel; waiting for its end");
        }
        exiting
    }

    /// Waits until the daemon is wholly gone. Returns whether it is.
    fn await_last_breath(&self) -> bool {
        let Some(daemon) = &self.daemon else { return true };
        let until = clock::boot_time() + LAST_BREATH_MAX;
        loop {
            let left = until.since(clock::boot_time());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(daemon.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(Errno::EINTR) if clock::boot_time() < until => {}
                Ok(number) => return number > 0,
                Err(_) => return false,
            }
        }
    }

    /// The daemon is gone, and no thread of it does anything more: removes its addresses and tells the peers.
    fn take_over(self) -> Result<(), GuardError> {
        let began = clock::boot_time();
        let Orders { node, daemon, gate, may_clean_up, farewell, .. } = &self.orders;
        let gate = gate.as_deref();
        let mut pause = RETRY_FIRST;
        let removed = loop {
            match fences::release(gate, may_clean_up) {
                Ok(removed) => break removed,
                Err(error) if clock::boot_time().since(began) < REMOVAL_MAX => {
                    warn!(%error, "the daemon is gone, but not its addresses: trying again");
                    thread::sleep(pause);
                    pause = (pause * 2).min(RETRY_LONGEST);
                }
                Err(error) => {
                    error!(node, pid = daemon, %error, "the daemon is gone, but not its addresses");
                    return Err(GuardError::Left);
                }
            }
        };
        let took = clock::boot_time().since(began);
        farewell.send();
        // The lock is kept as long as there is anything of the daemon.
        let gone = self.await_last_breath();
        farewell.send_last();
        match fences::release(gate, may_clean_up) {
            Ok(late) if late.addresses.is_empty() && gone => fences::clear_away(gate),
            Ok(late) => {
                error!(late = ?late.addresses, gone, "something of the daemon was there after its end")
            }
            Err(error) => error!(%error, "cannot look again at the addresses"),
        }
        let killed = self.killed_at.is_some();
        warn!(
            node,
            pid = daemon,
            killed,
            removed = removed.addresses.len(),
            ?took,
            "the daemon is gone: its addresses are removed and the peers are told"
        );
        Ok(())
    }
}

/// A descriptor of the process that started us. `None` if it has ended: then another one is our parent.
fn open_parent(expected: u32) -> io::Result<Option<OwnedFd>> {
    let pid = i32::try_from(expected).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other(format!("{expected} is no process number")))?;
    let opened = pidfd_open(pid, PidfdFlags::empty());
    // Looked at afterwards: if it is our parent still, the number was its own when the descriptor was opened.
    if getppid() != Some(pid) {
        return Ok(None);
    }
    Ok(Some(opened?))
}
