//! A client that asks every VIP for a sign of life each millisecond, and remembers each answer.
//!
//! It measures what a client experiences, whatever the daemons believe: it goes by its kernel's ARP and neighbour
//! caches like any other program, and sees by the hardware address of an answer which machine gave it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::capture::{Capture, EchoSender};
use crate::frame::{self, Seen};
use crate::host::Host;
use crate::mac::Mac;
use crate::time::Moment;

/// An answer that takes longer counts as lost: on an idle LAN it takes a tenth of a millisecond.
const LATE: Duration = Duration::from_millis(20);
/// An answer within this time was not waiting for an ARP reply.
const PROMPT: Duration = Duration::from_millis(1);
/// Marks our echo requests.
const IDENTIFIER: u16 = 0x7761;

/// The probing client; it stops when dropped.
pub struct Prober {
    tracks: Arc<Mutex<Tracks>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// A time during which a VIP did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// When the first request was sent that got no answer.
    pub start: Moment,
    /// How long it took from then until the first request was sent that got one.
    pub length: Duration,
    /// It is not over.
    pub ongoing: bool,
    /// The longest pause between two requests meanwhile. The interruption may be shorter by this, because the client
    /// itself was not scheduled.
    pub blind: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    sent: Moment,
    answer: Option<(Moment, Mac)>,
}

#[derive(Default)]
struct Tracks {
    targets: BTreeMap<IpAddr, Vec<Probe>>,
}

impl Prober {
    /// Starts asking all `targets` from `client` every `interval`.
    ///
    /// # Errors
    /// The kernel refuses packet or raw sockets.
    pub fn start(client: &Host, targets: &[IpAddr], interval: Duration) -> Result<Self> {
        let tracks = Arc::new(Mutex::new(Tracks {
            targets: targets.iter().map(|&target| (target, Vec::new())).collect(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let captures = [Capture::start(client, frame::IPV4)?, Capture::start(client, frame::IPV6)?];
        let sender = EchoSender::open(client)?;

        let (receiver_tracks, receiver_stop) = (Arc::clone(&tracks), Arc::clone(&stop));
        let receiver = client
            .spawn_thread("answers", move || receive(captures, &receiver_tracks, &receiver_stop))?;
        let (sender_tracks, sender_stop) = (Arc::clone(&tracks), Arc::clone(&stop));
        let sender = client.spawn_thread("probes", move || {
            send(&sender, interval, &sender_tracks, &sender_stop);
            Ok(())
        })?;
        Ok(Self { tracks, stop, threads: vec![receiver, sender] })
    }

    /// Who answers for `target` now: the sender of the latest answer, unless it is overdue.
    pub fn answered_by(&self, target: IpAddr) -> Option<Mac> {
        let tracks = lock(&self.tracks);
        let overdue = Moment::now();
        let latest = tracks.targets.get(&target)?.iter().rev().find_map(|probe| probe.answer)?;
        (overdue.since(latest.0) < LATE * 2).then_some(latest.1)
    }

    /// Everybody that answered for `target` at or after `since`.
    pub fn all_that_answered(&self, target: IpAddr, since: Moment) -> Vec<Mac> {
        let tracks = lock(&self.tracks);
        let probes = tracks.targets.get(&target).map_or(&[][..], |probes| after(probes, since));
        let mut macs: Vec<_> = probes.iter().filter_map(|p| p.answer).map(|a| a.1).collect();
        macs.sort();
        macs.dedup();
        macs
    }

    /// When `target` did not answer, of the requests sent at or after `since`.
    pub fn interruptions(&self, target: IpAddr, since: Moment) -> Vec<Interruption> {
        let tracks = lock(&self.tracks);
        let probes = tracks.targets.get(&target).map_or(&[][..], |probes| after(probes, since));
        interruptions(probes, Moment::now())
    }

    /// The longest interruption of `target` since a moment.
    pub fn longest(&self, target: IpAddr, since: Moment) -> Option<Interruption> {
        self.interruptions(target, since).into_iter().max_by_key(|found| found.length)
    }

    /// The longest interruption of each target since a moment, without those that had none.
    pub fn interrupted(&self, since: Moment) -> BTreeMap<IpAddr, Duration> {
        let targets: Vec<_> = lock(&self.tracks).targets.keys().copied().collect();
        let longest = targets.into_iter().map(|target| (target, self.longest(target, since)));
        longest.filter_map(|(target, found)| Some((target, found?.length))).collect()
    }

    /// All interruptions since a moment, a line for each target that had any: for the message of a failed case.
    pub fn account(&self, since: Moment) -> String {
        let targets: Vec<_> = lock(&self.tracks).targets.keys().copied().collect();
        let mut text = format!("longest pause between requests: {:.1?}", self.resolution(since));
        for target in targets {
            let found = self.interruptions(target, since);
            if found.is_empty() {
                continue;
            }
            let _ = write!(text, "\n{target}:");
            for Interruption { start, length, ongoing, blind } in found {
                let end = if ongoing { "…" } else { "" };
                let start = start.since(since);
                let _ =
                    write!(text, " {length:.1?}{end} from {start:.1?} (blind for {blind:.1?});");
            }
        }
        text
    }

    /// All targets answer.
    pub fn all_answer(&self) -> bool {
        let targets: Vec<_> = lock(&self.tracks).targets.keys().copied().collect();
        targets.into_iter().all(|target| self.answered_by(target).is_some())
    }

    /// The longest pause between two requests to the same target since a moment: how far off a measured interruption
    /// may be, because this client was not scheduled.
    pub fn resolution(&self, since: Moment) -> Duration {
        let tracks = lock(&self.tracks);
        let pauses = tracks.targets.values().flat_map(|probes| {
            after(probes, since).windows(2).map(|pair| pair[1].sent.since(pair[0].sent))
        });
        pauses.max().unwrap_or_default()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that failed has told so by leaving requests unanswered.
            let _ = thread.join();
        }
    }
}

fn send(sender: &EchoSender, interval: Duration, tracks: &Mutex<Tracks>, stop: &AtomicBool) {
    let targets: Vec<_> = lock(tracks).targets.keys().copied().collect();
    let mut next = Moment::now();
    while !stop.load(Ordering::Relaxed) {
        for &target in &targets {
            let sequence = lock(tracks).record_request(target);
            sender.send(target, IDENTIFIER, sequence);
        }
        next = (next + interval).max(Moment::now());
        thread::sleep(next.since(Moment::now()));
    }
}

fn receive(mut captures: [Capture; 2], tracks: &Mutex<Tracks>, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let [ipv4, ipv6] = &captures;
        let mut ready = [ipv4, ipv6].map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN));
        poll(&mut ready, PollTimeout::from(50u8))?;
        for capture in &mut captures {
            while let Some((at, seen)) = capture.arrived()? {
                if let Seen::EchoReply { mac, address, identifier: IDENTIFIER, sequence } = seen {
                    lock(tracks).record_answer(address, sequence, mac, at);
                }
            }
        }
    }
    Ok(())
}

impl Tracks {
    /// Notes that a request is about to be sent and numbers it.
    fn record_request(&mut self, target: IpAddr) -> u64 {
        let probes = self.targets.entry(target).or_default();
        probes.push(Probe { sent: Moment::now(), answer: None });
        probes.len() as u64 - 1
    }

    /// Notes an answer; the first one counts.
    fn record_answer(&mut self, target: IpAddr, sequence: u64, mac: Mac, at: Moment) {
        let Some(probes) = self.targets.get_mut(&target) else { return };
        let Some(probe) = usize::try_from(sequence).ok().and_then(|index| probes.get_mut(index))
        else {
            return;
        };
        probe.answer.get_or_insert((at, mac));
    }
}

fn lock(tracks: &Mutex<Tracks>) -> MutexGuard<'_, Tracks> {
    tracks.lock().expect("nobody panics while holding the lock")
}

fn after(probes: &[Probe], since: Moment) -> &[Probe] {
    &probes[probes.partition_point(|probe| probe.sent < since)..]
}

/// Runs of lost requests. A run ends where the first answered request was sent; if that one had to wait, where its
/// answer arrived.
fn interruptions(probes: &[Probe], now: Moment) -> Vec<Interruption> {
    let mut found = Vec::new();
    let mut open: Option<Interruption> = None;
    let mut late_answer = None;
    let mut previous = probes.first().map_or(now, |probe| probe.sent);
    for probe in probes {
        let pause = probe.sent.since(previous);
        previous = probe.sent;
        let waited = probe.answer.map(|(arrived, _)| arrived.since(probe.sent));
        let lost = match waited {
            Some(waited) => waited > LATE,
            // A request that was sent just now may still be answered.
            None => now.since(probe.sent) > LATE,
        };
        if lost {
            let start = probe.sent;
            let run = open.get_or_insert_with(|| {
                late_answer = None;
                Interruption { start, length: Duration::ZERO, ongoing: true, blind: Duration::ZERO }
            });
            run.blind = run.blind.max(pause);
            late_answer = earlier(late_answer, probe.answer.map(|(arrived, _)| arrived));
        } else if let Some((waited, mut run)) =
            waited.and_then(|waited| Some((waited, open.take()?)))
        {
            let answered = if waited <= PROMPT { probe.sent } else { probe.sent + waited };
            let end = late_answer.map_or(answered, |late| late.min(answered));
            run.blind = run.blind.max(pause);
            found.push(Interruption { length: end.since(run.start), ongoing: false, ..run });
        }
    }
    if let Some(run) = open {
        let length = late_answer.unwrap_or(now).since(run.start);
        found.push(Interruption { length, ongoing: late_answer.is_none(), ..run });
    }
    found
}

fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// One request each millisecond; `answers` says after how many microseconds each was answered.
    fn probes(start: Moment, answers: &[Option<u64>]) -> Vec<Probe> {
        let at = |index: usize| start + Duration::from_millis(index as u64);
        let probe = |(index, answer): (usize, &Option<u64>)| Probe {
            sent: at(index),
            answer: answer.map(|micros| (at(index) + Duration::from_micros(micros), MAC)),
        };
        answers.iter().enumerate().map(probe).collect()
    }

    fn lengths(answers: &[Option<u64>], now_ms: u64) -> Vec<(Duration, bool)> {
        let start = Moment::now();
        let found = interruptions(&probes(start, answers), start + Duration::from_millis(now_ms));
        found.into_iter().map(|i| (i.length, i.ongoing)).collect()
    }

    #[test]
    fn an_interruption_lasts_from_the_first_lost_request_to_the_first_answered_one() {
        let (ok, lost) = (Some(100), None);

        assert_eq!(lengths(&[ok, ok, ok], 100), []);
        assert_eq!(lengths(&[ok, lost, lost, lost, ok], 100), [(Duration::from_millis(3), false)]);
    }

    #[test]
    fn requests_that_waited_for_an_arp_reply_end_it_when_they_are_answered() {
        let (ok, lost) = (Some(100), None);
        let waited = Some(30_500);

        let found = lengths(&[ok, lost, waited, lost, lost, ok], 100);

        assert_eq!(found, [(Duration::from_millis(4), false)]);
        let mut long = vec![ok, lost, waited];
        long.resize(40, lost);
        long.push(ok);
        assert_eq!(lengths(&long, 100), [(Duration::from_micros(31_500), false)]);
    }

    #[test]
    fn what_was_sent_just_now_is_not_lost_yet_and_what_stays_silent_is_ongoing() {
        let (ok, lost) = (Some(100), None);

        assert_eq!(lengths(&[ok, lost, lost], 10), []);
        assert_eq!(lengths(&[ok, lost, lost], 40), [(Duration::from_millis(39), true)]);
    }
}
