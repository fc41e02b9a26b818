//! The thread that does address work: takes submitted work, reads the kernel's notifications, does a batch, and again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use tokio::sync::mpsc::UnboundedSender;
use wackamole_protocol::vip::Vip;

use super::announcer::{Announcer, SendError};
use super::mirror::{AcquirePlan, Consequences, KernelAddress, Mirror, Notice};
use super::netlink::{Change, Heard, Monitor, Requests};
use super::queue::{Batch, Job, Queue};
use super::{AddressesConfig, MARK, StartError};
use crate::env::{AddressError, AddressEvent, Work};
use crate::io::arp::{ArpForm, gratuitous_arp};
use crate::io::ndp::neighbour_advertisement;

/// VIPs in one batch. New work is looked at after each, so that a release waits for no more than this; larger batches
/// save nothing that can be measured.
const BATCH: usize = 16;

/// Pause when a device takes no more frames, or the kernel's tables could not be read.
const PAUSE_MS: u8 = 1;

/// So many pauses, and an announcement fails.
const BUSY_PAUSES_MAX: u32 = 200;

/// Owns the sockets.
#[derive(Debug)]
pub(super) struct Worker {
    may_clean_up: BTreeSet<IpAddr>,
    submitted: Receiver<Work>,
    wake: Arc<EventFd>,
    report: UnboundedSender<AddressEvent>,
    requests: Requests,
    monitor: Monitor,
    announcer: Announcer,
    mirror: Mirror,
    queue: Queue,
    /// Notifications were lost and everything must be read again.
    stale: bool,
    /// Pauses since a frame last went out while a device was busy.
    busy_pauses: u32,
    /// It is settled whether this kernel stores our mark.
    marks_checked: bool,
}

/// The owner has gone.
struct Dropped;

impl Worker {
    pub(super) fn open(
        config: AddressesConfig,
        submitted: Receiver<Work>,
        wake: Arc<EventFd>,
        report: UnboundedSender<AddressEvent>,
    ) -> Result<Self, StartError> {
        // Listens before it reads, so that nothing falls between.
        let monitor = Monitor::open(config.monitor_buffer_bytes)
            .map_err(StartError::new("listen to the kernel's address changes"))?;
        let requests = Requests::open().map_err(StartError::new("open a netlink socket"))?;
        let announcer = Announcer::open().map_err(StartError::new("open a packet socket"))?;
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
            busy_pauses: 0,
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
        self.read_notifications();
        if self.stale || (self.busy_pauses > 0 && self.queue.only_announcements()) {
            self.wait(PollTimeout::from(PAUSE_MS));
            self.take_submitted()?;
            self.read_notifications();
        }
        match self.queue.take(BATCH) {
            Some(Batch::CleanUp { ticket }) => self.clean_up(ticket),
            Some(Batch::Release(jobs)) => self.release(jobs),
            Some(Batch::Acquire(jobs)) => self.acquire(jobs),
            Some(Batch::Announce(jobs)) => self.announce(jobs),
            Some(Batch::Pointless(tickets)) => {
                for ticket in tickets {
                    self.done(ticket, Ok(()));
                }
            }
            None if self.stale => {}
            None => self.wait(PollTimeout::NONE),
        }
        Ok(())
    }

    fn take_submitted(&mut self) -> Result<(), Dropped> {
        loop {
            match self.submitted.try_recv() {
                Ok(work) => self.queue.push(work),
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
        let marked = |notice: &Notice| matches!(notice, Notice::Address(_, s) if s.mark.is_some());
        let seen = reading.iter().any(marked);
        let release = nix::sys::utsname::uname().ok();
        let version = release.as_ref().and_then(|uname| uname.release().to_str());
        if !seen && version.and_then(major_and_minor).is_some_and(|version| version < (5, 18)) {
            self.marks_are_lost();
        }
        self.marks_checked = seen;
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

fn major_and_minor(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Changing addresses.
impl Worker {
    fn clean_up(&mut self, ticket: u64) {
        let mut consequences = Consequences::default();
        let result = match self.requests.dump() {
            Ok(reading) => {
                self.mirror.replace(reading, &mut consequences);
                let leftovers = self.mirror.leftovers(&self.may_clean_up);
                for key in &leftovers {
                    self.mirror.let_go(key);
                    let address = self.mirror.describe(key);
                    tracing::info!(%address, "removing an address that an earlier daemon left");
                }
                self.remove(&leftovers)
            }
            Err(error) => Err(AddressError::Other(format!("cannot read the addresses: {error}"))),
        };
        self.follow(consequences);
        self.done(ticket, result);
    }

    fn release(&mut self, jobs: Vec<Job>) {
        let plans: Vec<_> = jobs.iter().map(|job| self.mirror.plan_release(&job.vip)).collect();
        let keys: Vec<_> = plans.iter().flat_map(|(keys, _)| keys).copied().collect();
        // Before it is asked for, so that its going is no news.
        let holders: Vec<_> = keys.iter().map(|key| self.mirror.let_go(key)).collect();
        let answers = self.change(keys.iter().map(|&key| Change::Remove(key)).collect());
        let mut answers = holders.into_iter().zip(answers);
        for (job, (keys, conflict)) in jobs.into_iter().zip(plans) {
            let mut result = conflict;
            for (key, (holder, answer)) in keys.iter().zip(answers.by_ref()) {
                if let Err(error) = self.removed(key, answer) {
                    result = Err(error);
                    // Still there: if it goes by itself later, that is for the caller to know.
                    holder.inspect(|&vip| self.mirror.hold(*key, vip));
                }
            }
            self.done(job.ticket, result);
        }
    }

    fn acquire(&mut self, jobs: Vec<Job>) {
        let mut plans: Vec<_> = jobs.iter().map(|job| self.mirror.plan_acquire(&job.vip)).collect();
        self.make_room(&mut plans);
        let adds: Vec<_> = plans.iter().flatten().flat_map(|plan| &plan.add).copied().collect();
        let answers = self.change(adds.iter().map(|&key| Change::Add(key)).collect());
        let mut answers = answers.into_iter();
        for (job, plan) in jobs.into_iter().zip(plans) {
            let answers = answers.by_ref();
            let result = plan.and_then(|plan| self.hold_added(&job.vip, plan, answers));
            self.done(job.ticket, result);
        }
    }

    /// Removes ours that the kernel does not answer for, to be added anew; a VIP for which that fails is not acquired.
    fn make_room(&mut self, plans: &mut [Result<AcquirePlan, AddressError>]) {
        let mut removed_any = false;
        for entry in plans.iter_mut() {
            let Ok(plan) = entry else { continue };
            if plan.remove.is_empty() {
                continue;
            }
            removed_any = true;
            let keys = std::mem::take(&mut plan.remove);
            for key in &keys {
                self.mirror.let_go(key);
            }
            if let Err(error) = self.remove(&keys) {
                *entry = Err(error);
            }
        }
        if removed_any {
            // That they went must not be taken for news after they have been added again.
            self.read_notifications();
        }
    }

    /// All of the VIP is held, or what was added of it is removed again.
    fn hold_added(
        &mut self,
        vip: &Vip,
        plan: AcquirePlan,
        answers: &mut impl Iterator<Item = io::Result<()>>,
    ) -> Result<(), AddressError> {
        let mut failure = None;
        let mut fresh = Vec::new();
        for (key, answer) in plan.add.into_iter().zip(answers) {
            match answer {
                Ok(()) => fresh.push(key),
                Err(error) => failure = failure.or(Some((key, error))),
            }
        }
        if let Some((key, error)) = failure {
            if let Err(error) = self.remove(&fresh) {
                tracing::error!(%vip, %error, "cannot undo half of an acquire");
            }
            return Err(self.refused("add", &key, &error));
        }
        for key in plan.keep.into_iter().chain(fresh) {
            self.mirror.hold(key, vip.id());
        }
        Ok(())
    }

    /// Removes addresses that we do not hold, or no longer count as held. Absent is fine.
    fn remove(&mut self, keys: &[KernelAddress]) -> Result<(), AddressError> {
        let answers = self.change(keys.iter().map(|&key| Change::Remove(key)).collect());
        let mut result = Ok(());
        for (key, answer) in keys.iter().zip(answers) {
            result = result.and(self.removed(key, answer));
        }
        result
    }

    fn removed(&mut self, key: &KernelAddress, answer: io::Result<()>) -> Result<(), AddressError> {
        match answer {
            Ok(()) => {}
            Err(error) if is_one_of(&error, &[Errno::EADDRNOTAVAIL, Errno::ENODEV]) => {}
            Err(error) => return Err(self.refused("remove", key, &error)),
        }
        self.mirror.forget(key);
        Ok(())
    }

    /// Makes the changes; one answer for each. If it is not known what was done, everything is read again.
    fn change(&mut self, changes: Vec<Change>) -> Vec<io::Result<()>> {
        if changes.is_empty() {
            return vec![];
        }
        match self.requests.apply(&changes) {
            Ok(answers) => answers.into_iter().map(|answer| answer.map_err(Into::into)).collect(),
            Err(error) => {
                tracing::error!(%error, "the kernel did not answer all changes");
                self.stale = true;
                changes.iter().map(|_| Err(io::Error::other(error.to_string()))).collect()
            }
        }
    }

    fn refused(&self, verb: &str, key: &KernelAddress, error: &io::Error) -> AddressError {
        let address = self.mirror.describe(key);
        if is_one_of(error, &[Errno::EEXIST]) {
            return AddressError::Conflict(address);
        }
        if is_one_of(error, &[Errno::EPERM]) {
            return AddressError::NotPermitted;
        }
        if is_one_of(error, &[Errno::ENODEV]) {
            return AddressError::NoInterface(self.mirror.link_name(key.interface));
        }
        let preposition = if verb == "add" { "to" } else { "from" };
        let interface = self.mirror.link_name(key.interface);
        AddressError::Other(format!("cannot {verb} {key} {preposition} {interface}: {error}"))
    }
}

fn is_one_of(error: &io::Error, errors: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| errors.contains(&Errno::from_raw(code)))
}

/// Telling the segment.
impl Worker {
    fn announce(&mut self, jobs: Vec<Job>) {
        // Looked up once in a batch: it changes rarely, and a repeated announcement mends it.
        let mut routers = BTreeMap::new();
        for job in jobs {
            // What went away meanwhile must not be announced.
            self.read_notifications();
            match self.announce_vip(&job.vip, &mut routers) {
                Ok(()) => {
                    self.busy_pauses = 0;
                    self.done(job.ticket, Ok(()));
                }
                Err(AnnounceError::Busy) if self.busy_pauses < BUSY_PAUSES_MAX => {
                    self.busy_pauses += 1;
                    self.queue.put_back_announcement(job);
                }
                Err(AnnounceError::Busy) => {
                    self.busy_pauses = 0;
                    let error = "the device takes no frames".into();
                    self.done(job.ticket, Err(AddressError::Other(error)));
                }
                Err(AnnounceError::Failed(error)) => self.done(job.ticket, Err(error)),
            }
        }
    }

    fn announce_vip(
        &mut self,
        vip: &Vip,
        routers: &mut BTreeMap<u32, bool>,
    ) -> Result<(), AnnounceError> {
        let mut result = Ok(());
        for key in self.mirror.held_of(vip) {
            match self.announce_address(&key, routers) {
                Err(AnnounceError::Busy) => return Err(AnnounceError::Busy),
                // One dead interface does not silence the others.
                outcome => result = result.and(outcome),
            }
        }
        result
    }

    fn announce_address(
        &mut self,
        key: &KernelAddress,
        routers: &mut BTreeMap<u32, bool>,
    ) -> Result<(), AnnounceError> {
        let Some(link) = self.mirror.link(key.interface) else { return Ok(()) };
        if link.no_arp {
            return Ok(());
        }
        let cannot = |why: &str| {
            let error = format!("cannot announce {key} on {}: {why}", link.name);
            AnnounceError::Failed(AddressError::Other(error))
        };
        let mac = link.mac.ok_or_else(|| cannot("it is not Ethernet"))?;
        if !link.up {
            return Err(cannot("it is down"));
        }
        if !link.running {
            return Err(cannot("it has no carrier"));
        }
        let outcome = match key.address {
            IpAddr::V4(address) => {
                [ArpForm::Request, ArpForm::Reply].iter().try_for_each(|&form| {
                    self.announcer.send(key.interface, &gratuitous_arp(form, address, mac))
                })
            }
            IpAddr::V6(address) => {
                let name = &link.name;
                let router = *routers.entry(key.interface).or_insert_with(|| forwards_ipv6(name));
                let frame = neighbour_advertisement(address, mac, router);
                self.announcer.send(key.interface, &frame)
            }
        };
        outcome.map_err(|error| match error {
            SendError::Busy => AnnounceError::Busy,
            SendError::Failed(error) => cannot(&error.to_string()),
        })
    }
}

enum AnnounceError {
    Busy,
    Failed(AddressError),
}

/// Whether the kernel calls itself a router in its own advertisements on this interface: net.ipv6.conf.*.forwarding.
fn forwards_ipv6(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
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
