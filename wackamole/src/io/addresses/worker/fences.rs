//! The fences that the worker keeps: which VIPs are open at the gate, and how long the kernel keeps an address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use wackamole_protocol::vip::Vip;

use super::super::mirror::KernelAddress;
use super::super::netlink::{CHANGES_AT_ONCE, Change};
use super::Worker;
use crate::env::AddressError;
use crate::io::clock::boot_time;
use crate::queue::Job;

/// The gate.
impl Worker {
    /// Shuts every VIP that waits to be released, before anything else is done: all of them in one message. Deleting
    /// their addresses follows.
    pub(super) fn shut_what_will_be_released(&mut self) {
        if self.doors.is_none() || self.open.is_empty() || !self.queue.has_releases() {
            return;
        }
        let releases: Vec<_> = self.queue.releases().cloned().collect();
        self.shut(&releases);
    }

    /// Shuts whatever is open.
    pub(super) fn shut_everything(&mut self) {
        let open: Vec<_> = self.open.values().cloned().collect();
        self.shut(&open);
    }

    /// Shuts those of `vips` that are open.
    pub(super) fn shut(&mut self, vips: &[Arc<Vip>]) {
        let Some(doors) = &mut self.doors else { return };
        let is_open = |vip: &&Arc<Vip>| self.open.contains_key(&vip.id());
        let vips: Vec<_> = vips.iter().filter(is_open).cloned().collect();
        if vips.is_empty() {
            return;
        }
        match doors.shut(&addresses_of(&vips)) {
            Ok(()) => {
                for vip in &vips {
                    self.open.remove(&vip.id());
                }
            }
            // The addresses are deleted all the same, and that silences them too.
            Err(error) => tracing::error!(%error, "cannot shut the gate for VIPs to be released"),
        }
    }

    /// There is a gate, and it drops what concerns this VIP, whoever has put its addresses here.
    pub(super) fn is_shut(&self, vip: &Vip) -> bool {
        let addresses: BTreeSet<_> = vip.addresses().iter().map(|at| at.address).collect();
        self.doors.as_ref().is_some_and(|doors| doors.are_shut(&addresses))
    }

    /// Lets the kernel answer for the VIPs whose addresses are all there, those of a batch at the same instant. It is the
    /// last step of an acquire, so a VIP of several addresses appears as a whole, and a call that hung in the kernel makes
    /// none appear when it comes back late. What cannot be opened is not acquired.
    pub(super) fn open_acquired(&mut self, jobs: &[Job], results: &mut [Result<(), AddressError>]) {
        let Some(doors) = &mut self.doors else { return };
        let outcomes = jobs.iter().zip(results.iter());
        let acquired: Vec<_> =
            outcomes.filter(|(_, result)| result.is_ok()).map(|(job, _)| job.vip.clone()).collect();
        if acquired.is_empty() {
            return;
        }
        match doors.open(&addresses_of(&acquired)) {
            Ok(()) => self.open.extend(acquired.into_iter().map(|vip| (vip.id(), vip))),
            Err(error) => {
                let error = AddressError::Other(format!("cannot open the gate: {error}"));
                results.iter_mut().filter(|result| result.is_ok()).for_each(|result| {
                    *result = Err(error.clone());
                });
            }
        }
    }
}

/// The kernel's lifetimes.
impl Worker {
    /// How long the kernel shall keep an address that is about to be added.
    pub(super) fn lifetime_of(&mut self, key: KernelAddress) -> Option<u32> {
        let seconds = self.lifetimes.admit(key, boot_time());
        if seconds.is_none() && self.lifetimes.seconds().is_some() && !self.lifetimes_told {
            self.lifetimes_told = true;
            let address = self.mirror.describe(&key);
            tracing::warn!(
                %address,
                "so many addresses are held that this and further ones get no lifetime in the kernel: if daemon and guardian \
                 are killed together, they stay on this machine"
            );
        }
        seconds
    }

    /// Renews the addresses that are due, some at a time, as long as the lease runs: what is not renewed ends.
    pub(super) fn renew_lifetimes(&mut self) {
        let now = boot_time();
        if !self.lease.runs(now) {
            return;
        }
        let mut keys = self.lifetimes.take(now, CHANGES_AT_ONCE);
        keys.retain(|key| self.mirror.is_held(key));
        if keys.is_empty() {
            return;
        }
        let changes = keys.iter().map(|&key| Change::Renew(key, self.lifetimes.seconds()));
        let answers = self.change(changes.collect());
        for (key, answer) in keys.into_iter().zip(answers) {
            if let Err(error) = answer {
                // If it is gone the notification says so; otherwise the next renewal may succeed.
                let address = self.mirror.describe(&key);
                tracing::warn!(%address, %error, "the lifetime of an address cannot be renewed");
            }
            self.lifetimes.renewed(key, now);
        }
    }
}

fn addresses_of(vips: &[Arc<Vip>]) -> BTreeSet<IpAddr> {
    vips.iter().flat_map(|vip| vip.addresses()).map(|address| address.address).collect()
}
