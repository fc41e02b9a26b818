//! `env::Storage` on simulated disks: what is not synced when the power goes is lost.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use wackamole::env::Storage;
use wackamole_protocol::time::Duration;

use crate::bell::Bell;
use crate::engine::WorldTime;
use crate::rng::{Rng, Span};

/// A machine's disk; survives the daemon and the power.
#[derive(Clone, Debug, Default)]
pub struct Platter {
    stored: Rc<RefCell<Option<Vec<u8>>>>,
    under_way: Rc<RefCell<VecDeque<Write>>>,
}

#[derive(Debug)]
struct Write {
    due: Duration,
    ticket: u64,
    record: Vec<u8>,
}

impl Platter {
    /// What a daemon that starts reads.
    pub fn read(&self) -> Option<Vec<u8>> {
        self.stored.borrow().clone()
    }

    /// The daemon or the power is gone. Of the records under way some may have reached the disk without anybody having
    /// been told: the first few in their order, each whole or not at all.
    pub fn crash(&self, rng: &mut Rng) {
        let mut under_way = self.under_way.borrow_mut();
        let written = rng.below(under_way.len() as u64 + 1) as usize;
        if let Some(last) = under_way.drain(..written).next_back() {
            *self.stored.borrow_mut() = Some(last.record);
        }
        under_way.clear();
    }

    /// The disk is replaced by a blank one.
    pub fn blank(&self) {
        *self.stored.borrow_mut() = None;
    }
}

/// A daemon's way to its machine's disk.
pub struct SimDisk {
    time: WorldTime,
    platter: Platter,
    sync: Span,
    rng: RefCell<Rng>,
    busy_until: Cell<Duration>,
    bell: Bell,
}

impl SimDisk {
    /// A disk that takes `sync` for each record.
    pub fn new(time: WorldTime, platter: Platter, sync: Span, rng: Rng) -> Self {
        Self {
            time,
            platter,
            sync,
            rng: RefCell::new(rng),
            busy_until: Cell::new(Duration::ZERO),
            bell: Bell::default(),
        }
    }
}

impl Storage for SimDisk {
    fn save(&self, ticket: u64, record: Vec<u8>) {
        let takes = self.sync.draw(&mut self.rng.borrow_mut());
        let due = self.busy_until.get().max(self.time.now()) + takes;
        self.busy_until.set(due);
        self.platter.under_way.borrow_mut().push_back(Write { due, ticket, record });
        self.bell.ring();
    }

    async fn saved(&self) -> (u64, io::Result<()>) {
        loop {
            let due = self.platter.under_way.borrow().front().map(|write| write.due);
            let now = self.time.now();
            match due {
                Some(due) if now >= due => {
                    let next = self.platter.under_way.borrow_mut().pop_front();
                    if let Some(Write { ticket, record, .. }) = next {
                        *self.platter.stored.borrow_mut() = Some(record);
                        return (ticket, Ok(()));
                    }
                }
                Some(due) => self.time.sleep(due - now).await,
                None => self.bell.heard().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platter(records: &[u8]) -> Platter {
        let platter = Platter::default();
        let write = |&record: &u8| Write { due: Duration::ZERO, ticket: 0, record: vec![record] };
        platter.under_way.borrow_mut().extend(records.iter().map(write));
        platter
    }

    #[test]
    fn a_crash_keeps_a_beginning_of_what_was_under_way_and_any_beginning_may_be_it() {
        let seen: std::collections::BTreeSet<Option<Vec<u8>>> = (0..50)
            .map(|seed| {
                let platter = platter(&[1, 2]);
                platter.crash(&mut Rng::new(seed, "crash"));
                assert!(platter.under_way.borrow().is_empty());
                platter.read()
            })
            .collect();
        assert_eq!(seen, [None, Some(vec![1]), Some(vec![2])].into());
    }

    #[test]
    fn a_blank_disk_holds_nothing() {
        let platter = platter(&[]);
        *platter.stored.borrow_mut() = Some(vec![7]);
        platter.crash(&mut Rng::new(1, "crash"));
        assert_eq!(platter.read(), Some(vec![7]), "what was synced stays");
        platter.blank();
        assert_eq!(platter.read(), None);
    }
}
