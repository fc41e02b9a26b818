//! Everything that happened, in order: the one source of traces, timelines, pictures, snapshots and checkers.
//!
//! Times are those of the simulated world, not of any node's own clock.

use std::cell::RefCell;
use std::rc::Rc;

use wackamole::record::Sink;
use wackamole_protocol::event::Event;
use wackamole_protocol::time::Duration;

use crate::links::Station;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, since the start of the world.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// The world was changed by the scenario.
    Fault {
        /// In words.
        text: String,
        /// The nodes that it concerns, for the picture; empty if it concerns the network.
        nodes: Vec<usize>,
    },
    /// A daemon began to run.
    Started {
        /// Where.
        node: usize,
    },
    /// A daemon ended gracefully.
    Ended {
        /// Where.
        node: usize,
    },
    /// A daemon said something.
    Daemon {
        /// Which.
        node: usize,
        /// What.
        event: Event,
    },
    /// A daemon's socket did not do what it should.
    NetworkFault {
        /// Whose.
        node: usize,
        /// In words.
        text: String,
    },
    /// A kernel's address table changed.
    Kernel {
        /// Whose.
        node: usize,
        /// Which VIP.
        vip: usize,
        /// How.
        change: KernelChange,
    },
    /// A kernel told the segment that it answers for a VIP.
    Announced {
        /// Whose.
        node: usize,
        /// Which VIP.
        vip: usize,
    },
    /// A machine asked the segment who answers for a VIP.
    Probed {
        /// Whose.
        node: usize,
        /// Which VIP.
        vip: usize,
    },
    /// A machine finds that its VIPs cannot be served from there, or can again.
    Servable {
        /// Which.
        node: usize,
        /// Why not.
        why: Option<&'static str>,
    },
    /// A daemon finds that it has lost its guardian and cannot get another.
    Unguarded {
        /// Where.
        node: usize,
    },
    /// A guardian did its work.
    Guarded {
        /// Whose.
        node: usize,
        /// The daemon was still there, and was killed.
        killed: bool,
    },
    /// A fence command has ended.
    FenceCommand {
        /// Where it ran.
        node: usize,
        /// Against whom.
        target: String,
        /// It did what it should.
        worked: bool,
    },
    /// A client no longer gets an answer from a VIP.
    Dark {
        /// Which client.
        client: usize,
        /// Which VIP.
        vip: usize,
    },
    /// A client gets answers from a VIP again, or for the first time.
    Lit {
        /// Which client.
        client: usize,
        /// Which VIP.
        vip: usize,
        /// Who answers.
        node: usize,
        /// For how long it was dark; `None` the first time.
        dark_for: Option<Duration>,
    },
    /// Two kernels of one component began to answer for one VIP.
    OverlapBegan {
        /// Which VIP.
        vip: usize,
        /// Whose kernels.
        nodes: [usize; 2],
        /// Why it is allowed for a while; `None` if it is not.
        excuse: Option<&'static str>,
    },
    /// They no longer do.
    OverlapEnded {
        /// Which VIP.
        vip: usize,
        /// Whose kernels.
        nodes: [usize; 2],
        /// For how long they did.
        lasted: Duration,
    },
    /// A checker found a promise broken.
    Violation {
        /// Which checker.
        check: &'static str,
        /// In words.
        text: String,
    },
    /// The network took a datagram; recorded only if asked for.
    Datagram {
        /// Its sender.
        from: Station,
        /// Its receiver.
        to: Station,
        /// Its bytes.
        bytes: Box<[u8]>,
        /// When it was sent.
        sent: Duration,
        /// When it arrives first; when it would have if it was lost.
        arrives: Duration,
        /// What became of it.
        fate: &'static str,
    },
}

/// How a kernel's address table changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelChange {
    /// The daemon added the addresses.
    Acquired,
    /// The daemon removed them.
    Released,
    /// A starting daemon removed what its predecessor had left.
    CleanedUp,
    /// Somebody else removed them.
    Deleted,
    /// The guardian removed them.
    Guarded,
    /// Their lifetime ended and the kernel removed them.
    Expired,
    /// The machine lost power.
    PowerLost,
}

impl KernelChange {
    /// A few words for people.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Acquired => "added by the daemon",
            Self::Released => "removed by the daemon",
            Self::CleanedUp => "removed by a starting daemon",
            Self::Deleted => "deleted by hand",
            Self::Guarded => "removed by the guardian",
            Self::Expired => "gone at the end of its lifetime",
            Self::PowerLost => "gone with the power",
        }
    }
}

/// The list of everything that happened.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Vec<Entry>,
    /// Datagrams are recorded too.
    pub with_datagrams: bool,
    /// Where daemons record what they are told, if they do.
    pub records: Option<Records>,
}

/// The records of all starts of all daemons of a run, as their files would be.
#[derive(Clone, Debug, Default)]
pub struct Records(Rc<RefCell<Vec<Vec<u8>>>>);

impl Records {
    /// Another start of a daemon.
    pub fn begin(&self) -> OneRecord {
        let mut records = self.0.borrow_mut();
        records.push(Vec::new());
        OneRecord { records: self.clone(), index: records.len() - 1 }
    }

    /// What was recorded so far.
    pub fn take(&self) -> Vec<Vec<u8>> {
        self.0.take()
    }
}

/// Where one start of a daemon records.
#[derive(Debug)]
pub struct OneRecord {
    records: Records,
    index: usize,
}

impl Sink for OneRecord {
    fn put(&mut self, frame: Vec<u8>) -> bool {
        let mut records = self.records.0.borrow_mut();
        let record = records.get_mut(self.index);
        record.map(|record| record.extend(frame)).is_some()
    }
}

impl Journal {
    /// Appends.
    pub fn push(&mut self, at: Duration, what: What) {
        self.entries.push(Entry { at, what });
    }

    /// Everything from a position on. Within one millisecond the order is that of execution, so that the times of
    /// neighbours may step back by up to one tick.
    pub fn since(&self, position: usize) -> &[Entry] {
        &self.entries[position..]
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing happened yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries by time; those of one instant stay in the order of execution.
    pub fn into_sorted(mut self) -> Vec<Entry> {
        self.entries.sort_by_key(|entry| entry.at);
        self.entries
    }
}
