//! Putting addresses on and taking them away.

use std::io;

use nix::errno::Errno;
use wackamole_protocol::vip::{Vip, VipId};

use super::super::lifetimes::Permission;
use super::super::mirror::{AcquirePlan, Consequences, KernelAddress};
use super::super::netlink::Change;
use super::super::secondaries;
use super::Worker;
use crate::env::AddressError;
use crate::io::clock::boot_time;
use crate::queue::Job;

impl Worker {
    pub(super) fn clean_up(&mut self, ticket: u64) {
        self.shut_everything();
        let mut consequences = Consequences::default();
        let result = match self.requests.dump() {
            Ok(reading) => {
                self.mirror.replace(reading, &mut consequences);
                let leftovers = self.mirror.leftovers(&self.may_clean_up);
                for key in &leftovers {
                    self.let_go(key);
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

    pub(super) fn release(&mut self, jobs: Vec<Job>) {
        let plans: Vec<_> = jobs.iter().map(|job| self.mirror.plan_release(&job.vip)).collect();
        let keys: Vec<_> = plans.iter().flat_map(|(keys, _)| keys).copied().collect();
        // Before it is asked for, so that its going is no news.
        let holders: Vec<_> = keys.iter().map(|key| self.let_go(key)).collect();
        let answers = self.change(keys.iter().map(|&key| Change::Remove(key)).collect());
        let mut answers = holders.into_iter().zip(answers);
        for (job, (keys, conflict)) in jobs.into_iter().zip(plans) {
            let mut result = conflict.or_else(|error| self.excuse_if_shut(&job.vip, error));
            for (key, (holder, answer)) in keys.iter().zip(answers.by_ref()) {
                if let Err(error) = self.removed(key, answer) {
                    result = Err(error);
                    // Still there: if it goes by itself later, that is for the caller to know.
                    if let Some(vip) = holder {
                        self.mirror.hold(*key, vip);
                    }
                }
            }
            self.done(job.ticket, result);
        }
    }

    pub(super) fn acquire(&mut self, jobs: Vec<Job>) {
        let permissions: Vec<_> =
            jobs.iter().map(|job| self.permissions.remove(&job.ticket)).collect();
        // This thread may have been stopped since it was asked to. Where no gate is shut that address would answer.
        let plans = jobs.iter().zip(&permissions).map(|(job, &permission)| {
            self.within_lease(permission).and_then(|()| self.mirror.plan_acquire(&job.vip))
        });
        let plans = plans.collect();
        let mut results = self.add(&jobs, plans);
        // The kernel, or this thread, may have hung. What was asked for under one lease is not for the next one to have.
        self.end_with_lease(&permissions, &mut results);
        self.open_acquired(&jobs, &mut results);
        self.end_with_lease(&permissions, &mut results);
        self.undo_failed(&jobs, &mut results);
        for (job, result) in jobs.into_iter().zip(results) {
            self.done(job.ticket, result);
        }
    }

    fn within_lease(&self, permission: Option<Permission>) -> Result<(), AddressError> {
        let now = boot_time();
        match permission.is_some_and(|permission| self.lease.permits(permission, now)) {
            true => Ok(()),
            false => Err(AddressError::Other("the lease is over".into())),
        }
    }

    /// What the lease was too short for is not acquired.
    fn end_with_lease(
        &self,
        permissions: &[Option<Permission>],
        results: &mut [Result<(), AddressError>],
    ) {
        for (&permission, result) in permissions.iter().zip(results) {
            if result.is_ok() {
                *result = self.within_lease(permission);
            }
        }
    }

    /// Behind a gate that is shut for it the kernel does not answer for somebody else's copy of a VIP either.
    fn excuse_if_shut(&self, vip: &Vip, foreign: AddressError) -> Result<(), AddressError> {
        if !self.is_shut(vip) {
            return Err(foreign);
        }
        tracing::warn!(%vip, "released, and the gate keeps it silent, but {foreign}");
        Ok(())
    }

    /// Puts all addresses of these VIPs on, as far as that goes.
    fn add(
        &mut self,
        jobs: &[Job],
        mut plans: Vec<Result<AcquirePlan, AddressError>>,
    ) -> Vec<Result<(), AddressError>> {
        self.make_room(&mut plans);
        let adds: Vec<_> = plans.iter().flatten().flat_map(|plan| &plan.add).copied().collect();
        self.keep_secondaries(&adds);
        let adds = adds.into_iter().map(|key| Change::Add(key, self.lifetime_of(key))).collect();
        let answers = self.change(adds);
        let mut answers = answers.into_iter();
        let mut results = Vec::with_capacity(jobs.len());
        for (job, plan) in jobs.iter().zip(plans) {
            let answers = answers.by_ref();
            results.push(plan.and_then(|plan| self.hold_added(&job.vip, plan, answers)));
        }
        results
    }

    /// Removes whatever of ours there is of the VIPs that could not be acquired whole, also what was there before: none of them
    /// stays in part.
    fn undo_failed(&mut self, jobs: &[Job], results: &mut [Result<(), AddressError>]) {
        let failed = || jobs.iter().zip(results.iter()).filter(|(_, result)| result.is_err());
        let vips: Vec<_> = failed().map(|(job, _)| job.vip.clone()).collect();
        self.shut(&vips);
        for (job, result) in jobs.iter().zip(results) {
            let Err(error) = result else { continue };
            let (keys, _) = self.mirror.plan_release(&job.vip);
            for key in &keys {
                self.let_go(key);
            }
            if let Err(left) = self.remove(&keys) {
                tracing::error!(vip = %job.vip, error = %left, "cannot undo half of an acquire");
                *error = AddressError::Other(format!("{error}, and half of it is left: {left}"));
            }
        }
    }

    /// We are about to remove `key`. Says to which VIP it belonged.
    pub(super) fn let_go(&mut self, key: &KernelAddress) -> Option<VipId> {
        self.lifetimes.forget(key);
        self.mirror.let_go(key)
    }

    /// Before one of these becomes the first of its subnet: when it goes, the others shall stay.
    fn keep_secondaries(&mut self, adds: &[KernelAddress]) {
        for key in adds.iter().filter(|key| key.address.is_ipv4() && key.prefix < 32) {
            if !self.secondaries_kept.insert(key.interface) {
                continue;
            }
            let interface = self.mirror.link_name(key.interface);
            match secondaries::keep_on(&interface) {
                Ok(false) => {}
                Ok(true) => tracing::info!(%interface, "promote_secondaries is set"),
                Err(error) => tracing::warn!(
                    %interface, %error,
                    "promote_secondaries cannot be set: when {key} goes, others of its subnet may go with it"
                ),
            }
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
                self.let_go(key);
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

    /// Whatever of the VIP may be there now is held. An error unless that is all of it.
    fn hold_added(
        &mut self,
        vip: &Vip,
        plan: AcquirePlan,
        answers: &mut impl Iterator<Item = io::Result<()>>,
    ) -> Result<(), AddressError> {
        let now = boot_time();
        for key in plan.keep {
            self.mirror.hold(key, vip.id());
            self.lifetimes.inherited(key, now);
        }
        let mut result = Ok(());
        for (key, answer) in plan.add.into_iter().zip(answers) {
            if answer.as_ref().is_err_and(is_refusal) {
                self.lifetimes.forget(&key);
            } else {
                self.mirror.hold(key, vip.id());
            }
            if let Err(error) = answer {
                result = result.and(Err(self.refused("add", &key, &error)));
            }
        }
        result
    }

    /// Removes addresses that we do not hold, or no longer count as held. Absent is fine.
    pub(super) fn remove(&mut self, keys: &[KernelAddress]) -> Result<(), AddressError> {
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

    /// Makes the changes; one answer for each. If it is not known what was done, the answers are no refusals of the
    /// kernel ([`is_refusal`]) and everything is read again.
    pub(super) fn change(&mut self, changes: Vec<Change>) -> Vec<io::Result<()>> {
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

/// The kernel has said no, so it has done nothing.
fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}

fn is_one_of(error: &io::Error, errors: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| errors.contains(&Errno::from_raw(code)))
}
