//! The thread that does address work: takes submitted work, reads the kernel's notifications, does a batch, and again.

mod announce;
mod change;
mod fences;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use tokio::sync::mpsc::UnboundedSender;
use wackamole_protocol::vip::{Vip, VipId};

use super::announcer::Announcer;
use super::lifetimes::{LeaseCell, Lifetimes, Permission};
use super::mirror::{Consequences, Mirror, Notice};
use super::netlink::{Heard, Monitor, Requests};
use super::releases::Releases;
use super::{AddressesConfig, MARK, StartError};
use crate::env::{Action, AddressError, AddressEvent, Work};
use crate::io::clock::boot_time;
use crate::io::gate::Doors;
use crate::queue::{BATCH, Batch, Queue};
use announce::Progress;

/// Pause when a device takes no more frames, or the kernel's tables could not be read.
const PAUSE_MS: u8 = 1;

/// Work, and what permits it if it is an acquire.
pub(super) type Submitted = (Work, Permission);

/// Owns the sockets.
#[derive(Debug)]
pub(super) struct Worker {
    may_clean_up: BTreeSet<IpAddr>,
    submitted: Receiver<Submitted>,
    wake: Arc<EventFd>,
    report: UnboundedSender<AddressEvent>,
    requests: Requests,
    monitor: Monitor,
    announcer: Announcer,
    mirror: Mirror,
    queue: Queue,
    /// Notifications were lost and everything must be read again.
    stale: bool,
    progress: Progress,
    /// Interfaces, by index, that have been told to keep the other addresses of a subnet when its first one goes.
    secondaries_kept: BTreeSet<u32>,
    /// The gate, if there is one.
    doors: Option<Doors>,
    /// What is open there at our request.
    open: BTreeMap<VipId, Arc<Vip>>,
    lifetimes: Lifetimes,
    /// It has been told that there are too many addresses for all to have a lifetime.
    lifetimes_told: bool,
    lease: Arc<LeaseCell>,
    /// Of acquires that wait, by ticket.
    permissions: BTreeMap<u64, Permission>,
    releases: Arc<Releases>,
    /// Releases taken so far.
    releases_taken: u64,
    /// It is settled whether this kernel stores our mark.
    marks_checked: bool,
}

/// The owner has gone.
struct Dropped;

impl Worker {
    pub(super) fn open(
        config: AddressesConfig,
        submitted: Receiver<Submitted>,
        wake: Arc<EventFd>,
        lease: Arc<LeaseCell>,
        releases: Arc<Releases>,
        report: UnboundedSender<AddressEvent>,
    ) -> Result<Self, StartError> {
        // Listens before it reads, so that nothing falls between.
        let monitor = Monitor::open(config.monitor_buffer_bytes)
            .map_err(StartError::new("listen to the kernel's address changes"))?;
        let requests = Requests::open().map_err(StartError::new("open a netlink socket"))?;
        let announcer = Announcer::open().map_err(StartError::new("open a packet socket"))?;
        let doors = config.gate.map(|gate| gate.doors()).transpose();
        let doors = doors.map_err(StartError::new("open a netlink socket"))?;
        let mut worker = Self {
            may_clean_up: config.may_clean_up,
            submitted,
            wake,
            report,
            requests,
            monitor,
            announcer,
            mirror: Mirror::default(),
            queue: Queue::default(),
            stale: false,
            progress: Progress::default(),
            secondaries_kept: BTreeSet::new(),
            doors,
            open: BTreeMap::new(),
            lifetimes: Lifetimes::new(config.lifetime_seconds),
            lifetimes_told: false,
            lease,
            permissions: BTreeMap::new(),
            releases,
            releases_taken: 0,
            marks_checked: false,
        };
        let reading = worker.requests.dump().map_err(StartError::new("read the addresses"))?;
        worker.expect_marks_by_kernel_version(&reading);
        worker.mirror.replace(reading, &mut Consequences::default());
        Ok(worker)
    }

    /// Works until the owner has gone.
    pub(super) fn run(mut self) {
        while self.turn().is_ok() {}
    }

    fn turn(&mut self) -> Result<(), Dropped> {
        self.take_submitted()?;
        self.shut_what_will_be_released();
        self.releases.are_shut(self.releases_taken);
        self.read_notifications();
        self.renew_lifetimes();
        if self.stale || (self.progress.is_interrupted() && self.queue.only_announcements()) {
            self.wait(PollTimeout::from(PAUSE_MS));
            self.take_submitted()?;
            self.shut_what_will_be_released();
            self.read_notifications();
        }
        match self.queue.take(BATCH) {
            Some(Batch::CleanUp { ticket }) => self.clean_up(ticket),
            Some(Batch::Release(jobs)) => self.release(jobs),
            Some(Batch::Acquire(jobs)) => self.acquire(jobs),
            Some(Batch::Announce(jobs)) => self.announce(jobs),
            Some(Batch::Pointless(tickets)) => {
                for ticket in tickets {
                    self.permissions.remove(&ticket);
                    self.done(ticket, Ok(()));
                }
            }
            None if self.stale => {}
            None => self.wait(self.until_next_renewal()),
        }
        Ok(())
    }

    /// Rounded up: woken too early it would turn in vain.
    fn until_next_renewal(&self) -> PollTimeout {
        let now = boot_time();
        let Some(pause) = self.lifetimes.wait(now, self.lease.runs(now)) else {
            return PollTimeout::NONE;
        };
        let milliseconds = pause.as_nanos().div_ceil(1_000_000);
        PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
    }

    fn take_submitted(&mut self) -> Result<(), Dropped> {
        loop {
            match self.submitted.try_recv() {
                Ok((work, permission)) => {
                    self.releases_taken += u64::from(matches!(work.action, Action::Release(_)));
                    if matches!(work.action, Action::Acquire(_)) {
                        self.permissions.insert(work.ticket, permission);
                    }
                    self.queue.push(work);
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Dropped),
            }
        }
    }

    /// Waits for new work or a notification.
    fn wait(&mut self, timeout: PollTimeout) {
        let mut sources = [
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
        ];
        if let Err(error) = poll(&mut sources, timeout)
            && error != Errno::EINTR
        {
            tracing::error!(%error, "cannot wait for address work");
        }
        // Empty if it was not this that woke us.
        let _ = self.wake.read();
    }

    fn emit(&self, event: AddressEvent) {
        // Without a listener the owner has gone, which the next turn finds out.
        let _ = self.report.send(event);
    }

    fn done(&self, ticket: u64, result: Result<(), AddressError>) {
        self.emit(AddressEvent::Done { ticket, result });
    }
}

/// Following the kernel.
impl Worker {
    /// Reads everything that the kernel has said so far. What our own requests caused is among it as soon as they have
    /// been answered.
    fn read_notifications(&mut self) {
        let mut consequences = Consequences::default();
        loop {
            match self.monitor.next() {
                Ok(Heard::Nothing) => break,
                // Once some were lost the rest is history: everything is read again below.
                Ok(Heard::Notices(_)) if self.stale => {}
                Ok(Heard::Notices(notices)) => {
                    for notice in notices {
                        self.check_mark(&notice);
                        self.mirror.apply(notice, &mut consequences);
                    }
                }
                Ok(Heard::Overrun) => self.stale = true,
                Err(error) => {
                    tracing::error!(%error, "cannot read the kernel's notifications");
                    self.stale = true;
                    break;
                }
            }
        }
        if self.stale {
            self.read_all_again(&mut consequences);
        }
        self.follow(consequences);
    }

    fn read_all_again(&mut self, consequences: &mut Consequences) {
        match self.requests.dump() {
            Ok(reading) => {
                tracing::warn!("the kernel's notifications overran; all addresses are read again");
                self.mirror.replace(reading, consequences);
                self.stale = false;
            }
            Err(error) => tracing::error!(%error, "cannot read the addresses"),
        }
    }

    fn follow(&mut self, consequences: Consequences) {
        for key in consequences.duplicates {
            let address = self.mirror.describe(&key);
            tracing::warn!(%address, "another machine answers for an address that we hold");
            if let Err(error) = self.remove(&[key]) {
                tracing::warn!(%address, %error, "and it cannot be removed");
            }
        }
        for vip in consequences.vanished {
            self.emit(AddressEvent::Vanished(vip));
        }
        if consequences.interfaces_changed {
            self.emit(AddressEvent::InterfacesChanged);
        }
    }

    /// A first guess: if any address has a mark the kernel stores them, and it does from 5.18 on.
    fn expect_marks_by_kernel_version(&mut self, reading: &[Notice]) {
        self.marks_checked = any_is_marked(reading);
        if !self.marks_checked && kernel_is_too_old_for_marks() {
            self.marks_are_lost();
        }
    }

    /// The proof: the first of our own additions, read back.
    fn check_mark(&mut self, notice: &Notice) {
        if let Notice::Address(key, state) = notice
            && !self.marks_checked
            && self.mirror.is_held(key)
        {
            self.marks_checked = true;
            if state.mark != Some(MARK) {
                self.marks_are_lost();
            }
        }
    }

    fn marks_are_lost(&mut self) {
        tracing::warn!(
            "this kernel does not mark addresses (IFA_PROTO, Linux 5.18): leftovers are told by their flags"
        );
        self.mirror.marks_are_lost();
    }
}

pub(super) fn any_is_marked(reading: &[Notice]) -> bool {
    reading.iter().any(|notice| matches!(notice, Notice::Address(_, s) if s.mark.is_some()))
}

/// `IFA_PROTO` came with Linux 5.18.
pub(super) fn kernel_is_too_old_for_marks() -> bool {
    let release = nix::sys::utsname::uname().ok();
    let version = release.as_ref().and_then(|uname| uname.release().to_str());
    version.and_then(major_and_minor).is_some_and(|version| version < (5, 18))
}

fn major_and_minor(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read_as_distributions_write_them() {
        assert_eq!(major_and_minor("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(major_and_minor("5.14.0-427.el9.x86_64"), Some((5, 14)));
        assert_eq!(major_and_minor("5.4"), Some((5, 4)));
        assert_eq!(major_and_minor("unknown"), None);
    }
}
