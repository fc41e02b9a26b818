//! Whose kernel held which address, and from when to when: the truth against which exclusivity is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use netlink_packet_route::RouteNetlinkMessage;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lan::Machine;
use crate::netlink::{Netlink, local_address};
use crate::time::Moment;

/// Address changes, IPv4 and IPv6 (`RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`, rtnetlink(7)).
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// Records every address that any of the machines gains or loses; it stops when dropped.
pub struct Holders {
    changes: Arc<Mutex<Vec<Change>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Two machines held an address at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The address.
    pub address: IpAddr,
    /// Who held it.
    pub machines: BTreeSet<String>,
    /// For how long; until now if it is not over.
    pub length: Duration,
}

#[derive(Clone, Debug)]
struct Change {
    at: Moment,
    machine: String,
    address: IpAddr,
    held: bool,
}

impl Holders {
    /// Starts recording.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn watch<'a>(machines: impl IntoIterator<Item = &'a Machine>) -> Result<Self> {
        let mut sources = Vec::new();
        let mut changes = Vec::new();
        for machine in machines {
            let netlink = machine
                .host()
                .run(|| Netlink::subscribe(ADDRESS_GROUPS))
                .with_context(|| format!("watching the addresses of {}", machine.name()))?;
            let name = machine.name().to_owned();
            let at = Moment::now();
            let present = machine.held()?.into_iter();
            changes.extend(present.map(|a| Change {
                at,
                machine: name.clone(),
                address: a,
                held: true,
            }));
            sources.push((name, netlink));
        }
        let changes = Arc::new(Mutex::new(changes));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&changes), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("holders".into())
            .spawn(move || record(sources, &shared, &stopped))
            .context("starting the thread that watches addresses")?;
        Ok(Self { changes, stop, thread: Some(thread) })
    }

    /// Notes that a machine lost its power: its kernel answers for nothing any more.
    pub fn power_cut(&self, machine: &Machine) {
        let at = Moment::now();
        let mut changes = lock(&self.changes);
        let held: BTreeSet<_> =
            changes.iter().filter(|c| c.machine == machine.name()).map(|c| c.address).collect();
        let gone = held.into_iter().map(|address| Change {
            at,
            machine: machine.name().to_owned(),
            address,
            held: false,
        });
        changes.extend(gone);
    }

    /// All times since a moment in which two machines held one of `addresses`.
    pub fn overlaps(&self, addresses: &[IpAddr], since: Moment) -> Vec<Overlap> {
        let changes = lock(&self.changes).clone();
        addresses.iter().flat_map(|&address| overlaps(&changes, address, since)).collect()
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whatever stopped it, no more changes are recorded.
            let _ = thread.join();
        }
    }
}

/// Reads the kernels' messages as they come. Messages of two machines that are read in one go cannot be ordered, so
/// they get the same time.
fn record(
    mut sources: Vec<(String, Netlink)>,
    changes: &Mutex<Vec<Change>>,
    stop: &AtomicBool,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut ready: Vec<_> =
            sources.iter().map(|s| PollFd::new(s.1.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut ready, PollTimeout::from(50u8))?;
        let at = Moment::now();
        for (machine, netlink) in &mut sources {
            let arrived = netlink.arrived()?;
            lock(changes).extend(arrived.into_iter().filter_map(|message| {
                let (message, held) = match message {
                    RouteNetlinkMessage::NewAddress(message) => (message, true),
                    RouteNetlinkMessage::DelAddress(message) => (message, false),
                    _ => return None,
                };
                let address = local_address(&message)?;
                Some(Change { at, machine: machine.clone(), address, held })
            }));
        }
    }
    Ok(())
}

fn lock(changes: &Mutex<Vec<Change>>) -> MutexGuard<'_, Vec<Change>> {
    changes.lock().expect("nobody panics while holding the lock")
}

fn overlaps(changes: &[Change], address: IpAddr, since: Moment) -> Vec<Overlap> {
    let mut found = Vec::new();
    let mut holders = BTreeSet::new();
    let mut open: Option<(Moment, BTreeSet<String>)> = None;
    for (at, changed) in by_time(changes, address) {
        for (machine, held) in changed {
            if held {
                holders.insert(machine);
            } else {
                holders.remove(machine);
            }
        }
        if holders.len() > 1 {
            let names = holders.iter().map(|&name| name.to_owned());
            open.get_or_insert_with(|| (at, BTreeSet::new())).1.extend(names);
        } else if let Some((start, machines)) = open.take() {
            found.push((start, at, machines));
        }
    }
    found.extend(open.map(|(start, machines)| (start, Moment::now(), machines)));
    found.retain(|&(_, end, _)| end >= since);
    let overlap = |(start, end, machines): (Moment, Moment, _)| Overlap {
        address,
        machines,
        length: end.since(start.max(since)),
    };
    found.into_iter().map(overlap).collect()
}

/// What each machine's state was after each moment at which `address` changed somewhere.
fn by_time(changes: &[Change], address: IpAddr) -> BTreeMap<Moment, BTreeMap<&str, bool>> {
    let mut times = BTreeMap::<_, BTreeMap<_, _>>::new();
    for change in changes.iter().filter(|change| change.address == address) {
        times.entry(change.at).or_default().insert(change.machine.as_str(), change.held);
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 1, 1));

    fn history(changes: &[(u64, &str, bool)]) -> Vec<(Duration, usize)> {
        let start = Moment::now();
        let changes: Vec<_> = changes
            .iter()
            .map(|&(at, machine, held)| Change {
                at: start + Duration::from_millis(at),
                machine: machine.to_owned(),
                address: VIP,
                held,
            })
            .collect();
        let found = overlaps(&changes, VIP, start);
        found.into_iter().map(|o| (o.length, o.machines.len())).collect()
    }

    #[test]
    fn a_handover_is_no_overlap() {
        assert_eq!(history(&[(0, "a", true), (5, "a", false), (6, "b", true)]), []);
    }

    #[test]
    fn changes_that_were_read_in_one_go_are_no_overlap() {
        assert_eq!(history(&[(0, "a", true), (5, "b", true), (5, "a", false)]), []);
    }

    #[test]
    fn two_holders_overlap_until_one_lets_go() {
        let found = history(&[(0, "a", true), (5, "b", true), (12, "a", false)]);

        assert_eq!(found, [(Duration::from_millis(7), 2)]);
    }
}
