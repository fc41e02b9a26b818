//! Drives a real address worker as the driver does, and waits for what it reports.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use wackamole::env::{Action, AddressError, AddressEvent, Addresses, Work};
use wackamole::io::addresses::{AddressesConfig, NetlinkAddresses};
use wackamole_protocol::mac::Claim;
use wackamole_protocol::vip::{Vip, VipAddress, VipId};

/// Nothing that is waited for takes as long.
const LIMIT: Duration = Duration::from_secs(10);

/// A VIP, whose MAC, ours, and what was seen.
pub(crate) type Claimed = (VipId, [u8; 6], [u8; 6], Claim);

/// A worker in the namespace of the thread that made it.
pub(crate) struct Worker {
    runtime: Runtime,
    addresses: NetlinkAddresses,
    tickets: u64,
    /// Reported while something else was waited for.
    reported: Vec<AddressEvent>,
}

impl Worker {
    pub(crate) fn here() -> Self {
        Self::with(AddressesConfig::new(BTreeSet::new()))
    }

    pub(crate) fn that_may_clean_up(addresses: &[&str]) -> Self {
        let addresses: BTreeSet<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Self::with(AddressesConfig::new(addresses))
    }

    pub(crate) fn with(config: AddressesConfig) -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            addresses: NetlinkAddresses::start(config).unwrap(),
            tickets: 0,
            reported: vec![],
        }
    }

    /// As the driver has it.
    pub(crate) fn addresses(&self) -> &NetlinkAddresses {
        &self.addresses
    }

    /// Waits until a piece of work has succeeded.
    pub(crate) fn wait_until_done(&mut self, wanted: u64) {
        self.wait_for(|event| {
            matches!(event, AddressEvent::Done { ticket, result: Ok(()) } if *ticket == wanted)
        });
    }

    /// Hands over work and returns its ticket.
    pub(crate) fn submit(&mut self, action: Action) -> u64 {
        self.tickets += 1;
        self.addresses.submit(Work { ticket: self.tickets, action });
        self.tickets
    }

    /// What is reported next; panics if it takes too long.
    pub(crate) fn next(&self) -> AddressEvent {
        let next = async { tokio::time::timeout(LIMIT, self.addresses.next()).await };
        self.runtime.block_on(next).expect("the worker reports something in time")
    }

    /// Does one piece of work.
    pub(crate) fn perform(&mut self, action: Action) -> Result<(), AddressError> {
        let ticket = self.submit(action);
        self.result_of(ticket)
    }

    /// Waits for the end of a piece of work.
    pub(crate) fn result_of(&mut self, wanted: u64) -> Result<(), AddressError> {
        loop {
            match self.next() {
                AddressEvent::Done { ticket, result } if ticket == wanted => return result,
                other => self.reported.push(other),
            }
        }
    }

    pub(crate) fn acquire(&mut self, vip: &Arc<Vip>) -> Result<(), AddressError> {
        self.perform(Action::Acquire(vip.clone()))
    }

    pub(crate) fn release(&mut self, vip: &Arc<Vip>) -> Result<(), AddressError> {
        self.perform(Action::Release(vip.clone()))
    }

    pub(crate) fn probe(&mut self, vip: &Arc<Vip>) -> Result<(), AddressError> {
        self.perform(Action::Probe(vip.clone()))
    }

    pub(crate) fn announce(&mut self, vip: &Arc<Vip>) -> Result<(), AddressError> {
        self.perform(Action::Announce(vip.clone()))
    }

    /// Waits until something like `wanted` has been reported, and takes it.
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&AddressEvent) -> bool) {
        loop {
            if let Some(position) = self.reported.iter().position(&wanted) {
                self.reported.remove(position);
                return;
            }
            let event = self.next();
            self.reported.push(event);
        }
    }

    /// The next claim, and what it is about.
    pub(crate) fn next_claim(&mut self) -> Claimed {
        self.next_such(|event| match *event {
            AddressEvent::Claimed { vip, by, ours, claim } => Some((vip, by.0, ours.0, claim)),
            _ => None,
        })
    }

    /// Probes until somebody has claimed each address of a VIP, and forgets that: IPv6 does not answer at once on an
    /// interface that has just come up.
    pub(crate) fn find(&mut self, vip: &Arc<Vip>) {
        for _ in 0..100 {
            assert_eq!(self.probe(vip), Ok(()));
            self.watch_for(Duration::from_millis(50));
            let claims = self.segment_reports();
            self.reported.clear();
            if claims == vip.addresses().len() {
                return;
            }
        }
        panic!("nobody has {vip}");
    }

    /// The next news of VIPs that can or cannot be served: how many, and why not.
    pub(crate) fn next_servable(&mut self) -> (usize, Option<String>) {
        self.next_such(|event| match event {
            AddressEvent::Servable { vips, why_not } => Some((vips.len(), why_not.clone())),
            _ => None,
        })
    }

    fn next_such<T>(&mut self, such: impl Fn(&AddressEvent) -> Option<T>) -> T {
        let mut reported = self.reported.iter().enumerate();
        if let Some((position, found)) = reported.find_map(|(at, event)| Some((at, such(event)?))) {
            self.reported.remove(position);
            return found;
        }
        loop {
            let event = self.next();
            match such(&event) {
                Some(found) => return found,
                None => self.reported.push(event),
            }
        }
    }

    /// How many claims and news of VIPs have been reported and not waited for.
    pub(crate) fn segment_reports(&self) -> usize {
        let of_segment = |event: &&AddressEvent| {
            matches!(event, AddressEvent::Claimed { .. } | AddressEvent::Servable { .. })
        };
        self.reported.iter().filter(of_segment).count()
    }

    /// Lets a time pass and keeps what is reported meanwhile; for what must not happen.
    pub(crate) fn watch_for(&mut self, time: Duration) {
        self.runtime.block_on(async {
            let everything = async {
                loop {
                    self.reported.push(self.addresses.next().await);
                }
            };
            let _: Result<(), _> = tokio::time::timeout(time, everything).await;
        });
    }

    pub(crate) fn wait_until_vanished(&mut self, vip: &Vip) {
        self.wait_for(|event| matches!(event, AddressEvent::Vanished(id) if *id == vip.id()));
    }

    pub(crate) fn wait_until_interfaces_changed(&mut self) {
        self.wait_for(|event| matches!(event, AddressEvent::InterfacesChanged));
    }

    /// Drops what follows from anything that the kernel has said until now.
    pub(crate) fn forget_reports(&mut self) {
        // A piece of work is done after everything that the kernel had said before has been read.
        assert_eq!(self.release(&vip(&["192.0.2.1/32@eth0"])), Ok(()));
        self.reported.clear();
    }

    /// How many VIPs have been reported vanished and not waited for. All that the kernel had said before the last piece
    /// of work was done is included.
    pub(crate) fn vanished(&self) -> usize {
        let vanished = |event: &&AddressEvent| matches!(event, AddressEvent::Vanished(_));
        self.reported.iter().filter(vanished).count()
    }
}

/// A VIP of addresses like `10.0.0.1/32@eth0`.
pub(crate) fn vip(addresses: &[&str]) -> Arc<Vip> {
    let parse = |text: &&str| {
        let (address, rest) = text.split_once('/').unwrap();
        let (prefix, interface) = rest.split_once('@').unwrap();
        VipAddress {
            address: address.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
            interface: interface.into(),
        }
    };
    Arc::new(Vip::new(addresses.join("+"), addresses.iter().map(parse).collect()))
}
