//! Who answers for an address on its segment: a machine that asks everybody, all the time, and hears all answers.
//!
//! Kernels say what addresses they have; a gate may keep them from answering, and then they hold nothing as far as anybody
//! can tell. So what counts is answers. Each address is asked about every millisecond by broadcast or multicast (ARP,
//! neighbour solicitation), so that a second one who answers is heard beside the first, whatever any cache says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::capture::Capture;
use crate::frame::{self, Seen};
use crate::host::Host;
use crate::lan::Machine;
use crate::mac::Mac;
use crate::time::Moment;

/// Pause between two rounds of questions.
const INTERVAL: Duration = Duration::from_millis(1);
/// Answers of one machine that are no further apart belong together: some questions may get lost on a busy machine.
const APART: Duration = Duration::from_millis(20);

/// The asking machine; it stops when dropped.
pub struct Witness {
    seen: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
    machine: Machine,
}

/// Two machines answered for an address at once: one answered both before and after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The address.
    pub address: IpAddr,
    /// The two.
    pub machines: [Mac; 2],
    /// When both had been heard.
    pub start: Moment,
    /// From then to the last answer of the first of them that fell silent.
    pub length: Duration,
}

/// Answers of one machine without a pause.
#[derive(Clone, Copy, Debug)]
struct Run {
    mac: Mac,
    first: Moment,
    last: Moment,
}

#[derive(Default)]
struct Record {
    /// What was heard about each address, in the order in which the runs began.
    runs: BTreeMap<IpAddr, Vec<Run>>,
    /// Pauses between two rounds of questions that were longer than [`APART`], and when they ended.
    pauses: Vec<(Moment, Duration)>,
}

/// A question, ready to be sent.
struct Question {
    to: LinkAddr,
    frame: Vec<u8>,
}

impl Witness {
    /// Starts asking from `machine` about addresses, each on the interface named with it.
    ///
    /// # Errors
    /// The kernel refuses packet sockets, or the machine has no such interface.
    pub fn start(
        machine: Machine,
        addresses: impl IntoIterator<Item = (IpAddr, String)>,
    ) -> Result<Self> {
        let addresses: Vec<_> = addresses.into_iter().collect();
        let seen = Record {
            runs: addresses.iter().map(|&(address, _)| (address, Vec::new())).collect(),
            pauses: Vec::new(),
        };
        let (seen, stop) = (Arc::new(Mutex::new(seen)), Arc::new(AtomicBool::new(false)));
        let questions: Vec<_> = addresses
            .iter()
            .map(|(address, interface)| question(&machine, interface, *address))
            .collect::<Result<_>>()?;
        let host = machine.host();
        let captures = [Capture::start(host, frame::ARP)?, Capture::start(host, frame::IPV6)?];
        let sender = FrameSender::open(host)?;

        let (shared, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let receiver =
            host.spawn_thread("answers", move || receive(captures, &shared, &stopped))?;
        let (shared, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let asker = host.spawn_thread("questions", move || {
            ask(&sender, &questions, &shared, &stopped);
            Ok(())
        })?;
        Ok(Self { seen, stop, threads: vec![receiver, asker], machine })
    }

    /// Its own place.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// All times since a moment in which two machines answered for an address.
    pub fn overlaps(&self, since: Moment) -> Vec<Overlap> {
        let seen = lock(&self.seen);
        seen.runs.iter().flat_map(|(&address, runs)| overlaps(address, runs, since)).collect()
    }

    /// The longest time since a moment in which two machines answered for an address.
    pub fn longest_overlap(&self, since: Moment) -> Duration {
        self.overlaps(since).iter().map(|found| found.length).max().unwrap_or_default()
    }

    /// When a machine answered for any address for the last time, if it did since a moment.
    pub fn last_answer(&self, machine: &Machine, since: Moment) -> Option<Moment> {
        let seen = lock(&self.seen);
        let runs = seen.runs.values().flatten().filter(|run| machine.has(run.mac));
        runs.map(|run| run.last).filter(|&last| last >= since).max()
    }

    /// Who answers for an address now.
    pub fn answered_by(&self, address: IpAddr) -> BTreeSet<Mac> {
        let now = Moment::now();
        let seen = lock(&self.seen);
        let runs = seen.runs.get(&address).into_iter().flatten();
        runs.filter(|run| now.since(run.last) <= APART).map(|run| run.mac).collect()
    }

    /// The longest pause between two rounds of questions since a moment that was so long that an overlap may have been
    /// missed: this machine was not scheduled.
    pub fn blind(&self, since: Moment) -> Duration {
        let seen = lock(&self.seen);
        let pauses = seen.pauses.iter().filter(|(end, _)| *end >= since);
        pauses.map(|&(_, length)| length).max().unwrap_or_default()
    }

    /// Who answered from when to when since a moment, a line for each address: for the message of a failed case.
    pub fn account(&self, since: Moment) -> String {
        let seen = lock(&self.seen);
        let lines = seen.runs.iter().map(|(address, runs)| {
            let runs = runs.iter().filter(|run| run.last >= since).map(|run| {
                let (first, last) = (run.first.since(since), run.last.since(since));
                format!(" {} from {first:.1?} to {last:.1?};", run.mac)
            });
            format!("{address}:{}", runs.collect::<String>())
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that failed has told so by hearing nothing.
            let _ = thread.join();
        }
    }
}

/// Sends whole frames from a machine.
pub struct FrameSender {
    socket: OwnedFd,
}

impl FrameSender {
    /// Opens a packet socket (packet(7)) that receives nothing.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open(host: &Host) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = host
            .run(move || socket(AddressFamily::Packet, SockType::Raw, flags, None))
            .with_context(|| format!("opening a packet socket on {}", host.name()))?;
        Ok(Self { socket })
    }

    /// Sends a frame. If the device takes no more it is lost, like any frame.
    ///
    /// # Errors
    /// There is no such interface any more.
    pub fn send(&self, to: &LinkAddr, frame: &[u8]) -> Result<()> {
        match sendto(self.socket.as_raw_fd(), frame, to, MsgFlags::empty()) {
            Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENETDOWN) => Ok(()),
            Err(error) => Err(error).context("sending a frame"),
        }
    }
}

/// An interface as packet sockets name it.
///
/// # Errors
/// There is no such interface.
pub fn link(host: &Host, interface: &str) -> Result<LinkAddr> {
    let name = interface.to_owned();
    let found = host.run(move || {
        let mut all = getifaddrs().ok()?.filter(|found| found.interface_name == name);
        all.find_map(|found| found.address?.as_link_addr().copied())
    });
    found.with_context(|| format!("there is no {interface} on {}", host.name()))
}

fn question(machine: &Machine, interface: &str, address: IpAddr) -> Result<Question> {
    let to = link(machine.host(), interface)?;
    let own = machine.interfaces().iter().find(|own| own.name == interface);
    let own = own.with_context(|| format!("{} has no {interface}", machine.name()))?;
    let mut from = own.addresses.iter().map(|&(address, _)| address);
    let frame = from.find_map(|from| match (from, address) {
        (IpAddr::V4(from), IpAddr::V4(address)) => Some(frame::arp_request(own.mac, from, address)),
        (IpAddr::V6(from), IpAddr::V6(address)) => {
            Some(frame::neighbour_solicitation(own.mac, from, address))
        }
        _ => None,
    });
    let frame = frame.with_context(|| format!("no address to ask for {address} from"))?;
    Ok(Question { to, frame })
}

fn ask(sender: &FrameSender, questions: &[Question], seen: &Mutex<Record>, stop: &AtomicBool) {
    let mut next = Moment::now();
    let mut last = next;
    while !stop.load(Ordering::Relaxed) {
        let now = Moment::now();
        if now.since(last) > APART {
            lock(seen).pauses.push((now, now.since(last)));
        }
        last = now;
        for Question { to, frame } in questions {
            // Its own interface lasts as long as it does.
            let _ = sender.send(to, frame);
        }
        next = (next + INTERVAL).max(Moment::now());
        thread::sleep(next.since(Moment::now()));
    }
}

fn receive(mut captures: [Capture; 2], seen: &Mutex<Record>, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let [arp, ipv6] = &captures;
        let mut ready = [arp, ipv6].map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN));
        poll(&mut ready, PollTimeout::from(50u8))?;
        for capture in &mut captures {
            while let Some((at, heard)) = capture.arrived()? {
                if let Seen::Claim { mac, address, unasked: false } = heard {
                    lock(seen).note(address, mac, at);
                }
            }
        }
    }
    Ok(())
}

impl Record {
    fn note(&mut self, address: IpAddr, mac: Mac, at: Moment) {
        let Some(runs) = self.runs.get_mut(&address) else { return };
        match runs.iter_mut().rev().find(|run| run.mac == mac) {
            Some(run) if at.since(run.last) <= APART => run.last = run.last.max(at),
            _ => runs.push(Run { mac, first: at, last: at }),
        }
    }
}

fn lock(seen: &Mutex<Record>) -> MutexGuard<'_, Record> {
    seen.lock().expect("nobody panics while holding the lock")
}

fn overlaps(address: IpAddr, runs: &[Run], since: Moment) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (index, one) in runs.iter().enumerate() {
        for other in &runs[..index] {
            let start = one.first.max(other.first).max(since);
            let end = one.last.min(other.last);
            if one.mac != other.mac && end > start {
                let (machines, length) = ([other.mac, one.mac], end.since(start));
                found.push(Overlap { address, machines, start, length });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 1, 1));

    /// Lengths of overlaps, in milliseconds, of answers at such milliseconds.
    fn found(answers: &[(u64, u8)]) -> Vec<u128> {
        let start = Moment::now();
        let mut record = Record::default();
        record.runs.insert(VIP, Vec::new());
        for &(at, machine) in answers {
            record.note(VIP, Mac([machine; 6]), start + Duration::from_millis(at));
        }
        let overlaps = overlaps(VIP, &record.runs[&VIP], start);
        overlaps.into_iter().map(|overlap| overlap.length.as_millis()).collect()
    }

    #[test]
    fn one_after_the_other_is_no_overlap() {
        assert!(found(&[(0, 1), (5, 1), (6, 2), (7, 2)]).is_empty());
        assert!(found(&[(0, 1), (5, 2), (40, 1)]).is_empty(), "back after a while");
    }

    #[test]
    fn who_answers_before_and_after_another_overlaps_it() {
        assert_eq!(found(&[(0, 1), (5, 2), (9, 1), (12, 2)]), [4]);
        assert_eq!(found(&[(0, 1), (2, 2), (3, 2), (9, 1)]), [1]);
    }
}
