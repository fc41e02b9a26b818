//! What the kernel has: links and addresses, as far as its notifications have been read, and which of the addresses we
//! hold. Pure.
//!
//! An address is *held* from the kernel's yes to our request until we remove it or the kernel says that it is gone. An
//! address is *ours* if it is held or carries our mark.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use wackamole_protocol::vip::{Vip, VipAddress, VipId};

use super::MARK;
use crate::env::AddressError;
use crate::io::ethernet::MacAddress;

/// An address as the kernel tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KernelAddress {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
    /// Index of the interface.
    pub(super) interface: u32,
}

/// What else the kernel says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressState {
    /// `IFA_PROTO`; absent if zero or if the kernel is too old to store it.
    pub(super) mark: Option<u8>,
    /// It adds no route for its prefix, as ours never do.
    pub(super) no_prefix_route: bool,
    /// IPv6: another machine was found to have it.
    pub(super) duplicate: bool,
    /// IPv6: still being checked for duplicates, or failed: the kernel does not answer for it.
    pub(super) unusable: bool,
}

impl AddressState {
    /// What an address is after we have added it.
    pub(super) const ADDED: Self =
        Self { mark: Some(MARK), no_prefix_route: true, duplicate: false, unusable: false };
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    /// Administratively up.
    pub(super) up: bool,
    /// Has carrier and takes frames. With carrier alone (`IFF_LOWER_UP`) the kernel may still drop them silently: it
    /// readies the queue up to a second later.
    pub(super) running: bool,
    pub(super) loopback: bool,
    /// Has no neighbours to tell: loopback, point-to-point, tunnels.
    pub(super) no_arp: bool,
    /// Present on Ethernet and what looks like it.
    pub(super) mac: Option<MacAddress>,
}

/// A notification from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Address(KernelAddress, AddressState),
    AddressGone(KernelAddress),
    Link(u32, Link),
    LinkGone(u32),
}

/// What follows from notifications.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Consequences {
    /// VIPs of which an address that we held is gone.
    pub(super) vanished: BTreeSet<VipId>,
    /// Addresses that we held and that turned out to be another machine's too: to be removed.
    pub(super) duplicates: Vec<KernelAddress>,
    pub(super) interfaces_changed: bool,
}

/// What has to be done to acquire a VIP.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AcquirePlan {
    /// There, ours and good.
    pub(super) keep: Vec<KernelAddress>,
    /// There and ours, but the kernel does not answer for it: to be removed before it is added.
    pub(super) remove: Vec<KernelAddress>,
    pub(super) add: Vec<KernelAddress>,
}

/// What the kernel has.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<KernelAddress, AddressState>,
    held: BTreeMap<KernelAddress, VipId>,
    /// Set once the kernel has been seen to drop our mark.
    marks_are_lost: bool,
}

impl Mirror {
    /// Takes one notification.
    pub(super) fn apply(&mut self, notice: Notice, consequences: &mut Consequences) {
        match notice {
            Notice::Address(key, state) => {
                self.addresses.insert(key, state);
                if state.duplicate
                    && let Some(vip) = self.held.remove(&key)
                {
                    consequences.vanished.insert(vip);
                    consequences.duplicates.push(key);
                }
            }
            Notice::AddressGone(key) => {
                self.addresses.remove(&key);
                consequences.vanished.extend(self.held.remove(&key));
            }
            Notice::Link(index, link) => {
                let before = self.links.insert(index, link);
                consequences.interfaces_changed |= before.as_ref() != self.links.get(&index);
            }
            Notice::LinkGone(index) => {
                consequences.interfaces_changed |= self.links.remove(&index).is_some();
                self.addresses.retain(|key, _| key.interface != index);
                self.held.retain(|key, vip| {
                    let stays = key.interface != index;
                    if !stays {
                        consequences.vanished.insert(*vip);
                    }
                    stays
                });
            }
        }
    }

    /// Replaces everything by what a complete reading found, after notifications were lost.
    pub(super) fn replace(&mut self, reading: Vec<Notice>, consequences: &mut Consequences) {
        let old_links = std::mem::take(&mut self.links);
        self.addresses.clear();
        let mut ignored = Consequences::default();
        for notice in reading {
            self.apply(notice, &mut ignored);
        }
        consequences.vanished.append(&mut ignored.vanished);
        consequences.duplicates.append(&mut ignored.duplicates);
        consequences.interfaces_changed |= old_links != self.links;
        let addresses = &self.addresses;
        self.held.retain(|key, vip| {
            let stays = addresses.contains_key(key);
            if !stays {
                consequences.vanished.insert(*vip);
            }
            stays
        });
    }

    /// From now on marks prove nothing: this kernel does not store them.
    pub(super) fn marks_are_lost(&mut self) {
        self.marks_are_lost = true;
    }

    pub(super) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The interface's name, for people.
    pub(super) fn link_name(&self, index: u32) -> String {
        self.links.get(&index).map_or_else(|| format!("#{index}"), |link| link.name.clone())
    }

    fn link_called(&self, name: &str) -> Option<u32> {
        self.links.iter().find(|(_, link)| link.name == name).map(|(&index, _)| index)
    }

    pub(super) fn is_held(&self, key: &KernelAddress) -> bool {
        self.held.contains_key(key)
    }

    pub(super) fn is_ours(&self, key: &KernelAddress) -> bool {
        self.held.contains_key(key) || self.is_marked(key)
    }

    fn is_marked(&self, key: &KernelAddress) -> bool {
        self.addresses.get(key).is_some_and(|state| state.mark == Some(MARK))
    }

    /// Which addresses a clean-up removes, of those that it `may`.
    pub(super) fn leftovers(&self, may: &BTreeSet<IpAddr>) -> Vec<KernelAddress> {
        let left = |key: &KernelAddress, state: &AddressState| {
            let ours = self.is_ours(key) || (self.marks_are_lost && state.no_prefix_route);
            ours && may.contains(&key.address)
        };
        self.addresses.iter().filter(|(key, state)| left(key, state)).map(|(&key, _)| key).collect()
    }

    /// Where `address` is, on whichever interface.
    fn anywhere(&self, address: IpAddr) -> impl Iterator<Item = &KernelAddress> {
        let first = KernelAddress { address, prefix: 0, interface: 0 };
        self.addresses.range(first..).map(|(key, _)| key).take_while(move |k| k.address == address)
    }

    /// What has to be done so that we hold all of `vip`.
    pub(super) fn plan_acquire(&self, vip: &Vip) -> Result<AcquirePlan, AddressError> {
        let mut plan = AcquirePlan::default();
        for wanted in vip.addresses() {
            let interface = self
                .link_called(&wanted.interface)
                .ok_or_else(|| AddressError::NoInterface(wanted.interface.clone()))?;
            if let Some(foreign) = self.foreign(wanted, interface) {
                return Err(AddressError::Conflict(self.describe(&foreign)));
            }
            let key = KernelAddress { address: wanted.address, prefix: wanted.prefix, interface };
            match self.addresses.get(&key) {
                Some(state) if state.unusable => {
                    plan.remove.push(key);
                    plan.add.push(key);
                }
                Some(_) => plan.keep.push(key),
                None => plan.add.push(key),
            }
        }
        Ok(plan)
    }

    /// Somebody else's copy of a wanted address. On loopback it does no harm: real servers behind a load balancer
    /// keep the service's address there.
    fn foreign(&self, wanted: &VipAddress, interface: u32) -> Option<KernelAddress> {
        let harmful = |key: &&KernelAddress| {
            let loopback = self.links.get(&key.interface).is_some_and(|link| link.loopback);
            key.interface == interface || !loopback
        };
        self.anywhere(wanted.address).filter(harmful).find(|key| !self.is_ours(key)).copied()
    }

    /// What has to be removed so that the kernel no longer answers for `vip`: ours, on whichever interface. An error if
    /// it would still answer without a gate, because somebody else has put an address of the VIP on its interface.
    pub(super) fn plan_release(&self, vip: &Vip) -> (Vec<KernelAddress>, Result<(), AddressError>) {
        let mut remove = Vec::new();
        let mut result = Ok(());
        for wanted in vip.addresses() {
            let ours = self.anywhere(wanted.address).filter(|key| self.is_ours(key));
            remove.extend(ours);
            let interface = self.link_called(&wanted.interface);
            if let Some(foreign) = interface.and_then(|index| self.foreign(wanted, index)) {
                result = Err(AddressError::Conflict(self.describe(&foreign)));
            }
        }
        (remove, result)
    }

    /// What of `vip` the kernel answers for on our behalf.
    pub(super) fn held_of(&self, vip: &Vip) -> Vec<KernelAddress> {
        let usable = |key: &&KernelAddress| {
            self.held.contains_key(key) && self.addresses.get(key).is_some_and(|s| !s.unusable)
        };
        vip.addresses()
            .iter()
            .flat_map(|wanted| self.anywhere(wanted.address).filter(usable))
            .copied()
            .collect()
    }

    /// The kernel has `key` at our request.
    pub(super) fn hold(&mut self, key: KernelAddress, vip: VipId) {
        self.addresses.entry(key).or_insert(AddressState::ADDED);
        self.held.insert(key, vip);
    }

    /// We are about to remove `key`: that it goes is no surprise. Says to which VIP it belonged.
    pub(super) fn let_go(&mut self, key: &KernelAddress) -> Option<VipId> {
        self.held.remove(key)
    }

    /// The kernel has said that `key` is not there.
    pub(super) fn forget(&mut self, key: &KernelAddress) {
        self.addresses.remove(key);
    }

    /// For messages: `10.0.0.1/32 on eth0`.
    pub(super) fn describe(&self, key: &KernelAddress) -> String {
        format!("{key} on {}", self.link_name(key.interface))
    }
}

impl fmt::Display for KernelAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests;
