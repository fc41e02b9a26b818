//! Telling the segment who answers for an address.

use std::collections::BTreeMap;
use std::iter;
use std::net::IpAddr;

use wackamole_protocol::vip::Vip;

use super::super::announcer::SendError;
use super::super::mirror::{KernelAddress, Link};
use super::Worker;
use crate::env::AddressError;
use crate::io::arp::{ArpForm, gratuitous_arp};
use crate::io::clock::boot_time;
use crate::io::ethernet::MacAddress;
use crate::io::ndp::neighbour_advertisement;
use crate::queue::Job;

/// So many pauses without a frame going out, and an announcement fails.
const BUSY_PAUSES_MAX: u32 = 200;

/// How far the announcement has come that a busy device has interrupted. It must go on from there: a device that takes
/// one frame at a time would never take the second, if each time the first were sent again.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What is announced.
    ticket: Option<u64>,
    /// Frames sent, by address and number.
    sent: Vec<(KernelAddress, usize)>,
    /// Pauses since a frame last went out.
    pauses: u32,
}

impl Progress {
    /// A device is busy: there is no use in going on at once.
    pub(super) fn is_interrupted(&self) -> bool {
        self.pauses > 0
    }

    fn begin(&mut self, ticket: u64) {
        if self.ticket != Some(ticket) {
            *self = Self { ticket: Some(ticket), ..Self::default() };
        }
    }

    fn is_sent(&self, frame: (KernelAddress, usize)) -> bool {
        self.sent.contains(&frame)
    }

    fn sent(&mut self, frame: (KernelAddress, usize)) {
        self.sent.push(frame);
        self.pauses = 0;
    }
}

enum AnnounceError {
    Busy,
    Failed(AddressError),
}

impl Worker {
    pub(super) fn announce(&mut self, jobs: Vec<Job>) {
        // Looked up once in a batch: it changes rarely, and a repeated announcement mends it.
        let mut routers = BTreeMap::new();
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            // What went away meanwhile must not be announced.
            self.read_notifications();
            if self.lease.is_over(boot_time()) {
                // This thread may have been stopped since it was asked to: a VIP is no longer ours to announce.
                self.progress = Progress::default();
                self.done(job.ticket, Ok(()));
                continue;
            }
            self.progress.begin(job.ticket);
            let result = match self.announce_vip(&job.vip, &mut routers) {
                Ok(()) => Ok(()),
                Err(AnnounceError::Failed(error)) => Err(error),
                Err(AnnounceError::Busy) if self.progress.pauses < BUSY_PAUSES_MAX => {
                    self.progress.pauses += 1;
                    for later in iter::once(job).chain(jobs) {
                        self.queue.put_back_announcement(later);
                    }
                    return;
                }
                Err(AnnounceError::Busy) => {
                    Err(AddressError::Other("the device takes no frames".into()))
                }
            };
            self.progress = Progress::default();
            self.done(job.ticket, result);
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
        let failed = |why: &str| {
            let error = format!("cannot announce {key} on {}: {why}", link.name);
            AnnounceError::Failed(AddressError::Other(error))
        };
        let mac = able_to_announce(link).map_err(failed)?;
        let frames: Vec<Vec<u8>> = match key.address {
            IpAddr::V4(address) => [ArpForm::Request, ArpForm::Reply]
                .map(|form| gratuitous_arp(form, address, mac).to_vec())
                .into(),
            IpAddr::V6(address) => {
                let lookup = || forwards_ipv6(&link.name);
                let router = *routers.entry(key.interface).or_insert_with(lookup);
                vec![neighbour_advertisement(address, mac, router).to_vec()]
            }
        };
        for (number, frame) in frames.iter().enumerate() {
            if self.progress.is_sent((*key, number)) {
                continue;
            }
            match self.announcer.send(key.interface, frame) {
                Ok(()) => self.progress.sent((*key, number)),
                Err(SendError::Busy) => return Err(AnnounceError::Busy),
                Err(SendError::Failed(error)) => return Err(failed(&error.to_string())),
            }
        }
        Ok(())
    }
}

/// The hardware address to announce, or why the interface cannot.
fn able_to_announce(link: &Link) -> Result<MacAddress, &'static str> {
    let mac = link.mac.ok_or("it is not Ethernet")?;
    if !link.up {
        return Err("it is down");
    }
    if !link.running {
        return Err("it has no carrier");
    }
    Ok(mac)
}

/// Whether the kernel calls itself a router in its own advertisements on this interface: net.ipv6.conf.*.forwarding.
fn forwards_ipv6(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}
