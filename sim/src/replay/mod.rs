//! What real daemons recorded (`wackamole run --record`), done again: the same inputs at the same instants to the same
//! machines ([`wackamole::driver::Machines`]), whose effects must be the recorded ones. Then the records of several machines
//! are put on one clock and told as one course of events.

pub mod account;
pub mod clocks;
pub mod load;
pub mod page;
pub mod show;
mod wires;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use wackamole::driver::{Effect, Machines};
use wackamole::env::{Action, AddressEvent, Lease};
use wackamole::record::{Entries, Entry, Finish, Header, ReadError, Record};
use wackamole_protocol::config::ClusterKey;
use wackamole_protocol::event::Event;
use wackamole_protocol::group::Destination;
use wackamole_protocol::time::Instant;
use wackamole_protocol::vip::VipId;

use crate::journal::KernelChange;

/// Something that happened on one machine, on its own clock.
#[derive(Clone, Debug)]
pub enum Happening {
    /// Its daemon said something.
    Event(Event),
    /// Its kernel's address table changed, as its daemon was told.
    Kernel(VipId, KernelChange),
    /// It was to announce a VIP.
    Announced(VipId),
    /// It was to ask the segment about a VIP.
    Probed(VipId),
    /// Its fences were told until when it may answer, on its own clock.
    Lease(Lease),
    /// Its network did not do what it should.
    NetworkFault(String),
}

/// A datagram as one of both ends knows it: length and check sum tell which one it is.
pub type Fingerprint = (u32, u32);

/// A datagram that a daemon sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When, on its machine's clock.
    pub at: Instant,
    /// Where to.
    pub to: Destination,
    /// The bytes.
    pub bytes: Box<[u8]>,
}

/// What came of a record.
#[derive(Debug)]
pub struct Replayed {
    /// Where it was read from.
    pub file: PathBuf,
    /// What the daemon knew when it started.
    pub header: Header,
    /// How many inputs and turns it took.
    pub steps: usize,
    /// The first effect that was another one.
    pub difference: Option<Difference>,
    /// Why it could not be read to its end.
    pub damage: Option<ReadError>,
    /// How it ends.
    pub finish: Finish,
    /// The instant of its last entry.
    pub last: Instant,
    /// What happened, in order.
    pub happenings: Vec<(Instant, Happening)>,
    /// What the wall clock showed, in microseconds since 1970.
    pub wall_clock: Vec<(Instant, u64)>,
    /// Datagrams that left.
    pub sent: Vec<Sent>,
    /// Datagrams that came.
    pub received: Vec<(Instant, Fingerprint)>,
}

/// The first effect of a replay that is not the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The input or turn behind which it stands, from one.
    pub step: usize,
    /// What that was.
    pub input: String,
    /// When, in nanoseconds on the machine's clock.
    pub at: u64,
    /// What is recorded.
    pub expected: String,
    /// What the machines wanted now.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Instant::after_origin(std::time::Duration::from_nanos(self.at));
        let Self { step, input, expected, got, .. } = self;
        write!(f, "step {step} at {at} ({input}): expected {expected}, got {got}")
    }
}

impl Replayed {
    /// It was read to its end, and every effect was the recorded one.
    pub fn is_same(&self) -> bool {
        self.difference.is_none() && self.damage.is_none()
    }
}

/// Feeds a record through the machines. Stops at the first difference, behind which the machines are in another state than
/// the recorded ones were.
pub fn replay(record: &Record, key: &ClusterKey) -> Replayed {
    let header = record.header.clone();
    let mut feed = Feed {
        machines: Machines::new(header.node(key.clone())),
        now: header.started(),
        wanted: VecDeque::new(),
        errands: BTreeMap::new(),
        input: "the start".to_owned(),
        replayed: Replayed {
            file: record.file().to_owned(),
            steps: 0,
            difference: None,
            damage: None,
            finish: Finish::CutOff { rest: 0 },
            last: header.started(),
            happenings: Vec::new(),
            wall_clock: vec![(header.started(), header.wall_clock)],
            sent: Vec::new(),
            received: Vec::new(),
            header,
        },
    };
    let mut entries = record.entries();
    feed.run(&mut entries);
    let mut replayed = feed.replayed;
    if let Some(finish) = entries.finish() {
        replayed.finish = finish.clone();
    }
    replayed
}

struct Feed {
    machines: Machines,
    now: Instant,
    /// Effects of the last turn that the record has not named yet.
    wanted: VecDeque<Effect>,
    /// Work under way.
    errands: BTreeMap<u64, Action>,
    /// The last input or turn.
    input: String,
    replayed: Replayed,
}

impl Feed {
    fn run(&mut self, entries: &mut Entries<'_>) {
        for entry in entries {
            let (at, entry) = match entry {
                Ok(entry) => entry,
                Err(damage) => return self.replayed.damage = Some(damage),
            };
            self.now = at;
            self.replayed.last = at;
            let agreed = if entry.is_effect() { self.expect(&entry) } else { self.next(&entry) };
            if let Err((expected, got)) = agreed {
                self.replayed.difference = Some(Difference {
                    step: self.replayed.steps,
                    input: std::mem::take(&mut self.input),
                    at: u64::try_from(at.since_origin().as_nanos()).unwrap_or(u64::MAX),
                    expected,
                    got,
                });
                return;
            }
        }
        // What the last turn wanted beyond the record's end was cut off with it.
    }

    /// The record says what the machines wanted next.
    fn expect(&mut self, recorded: &Entry<'_>) -> Result<(), (String, String)> {
        let Some(effect) = self.wanted.pop_front() else {
            return Err((format!("{recorded:?}"), "nothing more".to_owned()));
        };
        let same = Entry::from(&effect) == *recorded;
        let differing = (!same).then(|| (format!("{recorded:?}"), format!("{effect:?}")));
        self.note(effect);
        differing.map_or(Ok(()), Err)
    }

    /// The record says what came next. Before the next input or turn the machines must have got all that they wanted.
    fn next(&mut self, entry: &Entry<'_>) -> Result<(), (String, String)> {
        match entry {
            Entry::WallClock(micros) => {
                self.replayed.wall_clock.push((self.now, *micros));
                return Ok(());
            }
            Entry::NetworkFault(text) => {
                self.happened(Happening::NetworkFault(text.to_string()));
                return Ok(());
            }
            _ => {}
        }
        if let Some(effect) = self.wanted.pop_front() {
            return Err(("nothing more".to_owned(), format!("{effect:?}")));
        }
        if *entry == Entry::Turn {
            self.step("a turn".to_owned());
            let wanted = &mut self.wanted;
            self.machines.turn(self.now, &mut |effect| wanted.push_back(effect));
        } else if let Some(input) = entry.input() {
            self.step(describe(entry));
            self.hear(entry);
            self.machines.take(input, self.now);
        }
        Ok(())
    }

    fn step(&mut self, input: String) {
        self.replayed.steps += 1;
        self.input = input;
    }

    /// What an input says about the world.
    fn hear(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Datagram { bytes, .. } => {
                self.replayed.received.push((self.now, fingerprint(bytes)));
            }
            Entry::Address(AddressEvent::Done { ticket, result }) => {
                let errand = self.errands.remove(ticket);
                match errand {
                    Some(Action::Acquire(vip)) if result.is_ok() => {
                        self.happened(Happening::Kernel(vip.id(), KernelChange::Acquired));
                    }
                    Some(Action::Release(vip)) if result.is_ok() => {
                        self.happened(Happening::Kernel(vip.id(), KernelChange::Released));
                    }
                    _ => {}
                }
            }
            Entry::Address(AddressEvent::Vanished(vip)) => {
                self.happened(Happening::Kernel(*vip, KernelChange::Deleted));
            }
            _ => {}
        }
    }

    /// What an effect says about the world.
    fn note(&mut self, effect: Effect) {
        match effect {
            Effect::Event(event) => self.happened(Happening::Event(event)),
            Effect::Transmit { to, datagram } => {
                let bytes = datagram.into_boxed_slice();
                self.replayed.sent.push(Sent { at: self.now, to, bytes });
            }
            Effect::Submit(work) => {
                match &work.action {
                    Action::Announce(vip) => self.happened(Happening::Announced(vip.id())),
                    Action::Probe(vip) => self.happened(Happening::Probed(vip.id())),
                    _ => {}
                }
                self.errands.insert(work.ticket, work.action);
            }
            Effect::Renew(lease) => self.happened(Happening::Lease(lease)),
            Effect::Save { .. } => {}
        }
    }

    fn happened(&mut self, happening: Happening) {
        self.replayed.happenings.push((self.now, happening));
    }
}

pub(crate) fn fingerprint(datagram: &[u8]) -> Fingerprint {
    (u32::try_from(datagram.len()).unwrap_or(u32::MAX), crc32fast::hash(datagram))
}

fn describe(entry: &Entry<'_>) -> String {
    match entry {
        Entry::Datagram { from, bytes } => {
            format!("a datagram of {} bytes from {from}", bytes.len())
        }
        other => format!("{other:?}"),
    }
}
