//! `env::Storage` on simulated disks: what is not synced when the power goes is lost.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;
use wackamole::env::Storage;
use wackamole_protocol::time::Duration;

use crate::clock::world_time;

/// What is on a machine's disk; survives the daemon and the power.
pub type Platter = Rc<RefCell<Option<Vec<u8>>>>;

/// A daemon's way to its machine's disk.
pub struct SimDisk {
    platter: Platter,
    sync: Duration,
    under_way: RefCell<VecDeque<(Duration, u64, Vec<u8>)>>,
    busy_until: Cell<Duration>,
    bell: Notify,
}

impl SimDisk {
    /// A disk that takes `sync` for each record.
    pub fn new(platter: Platter, sync: Duration) -> Self {
        Self {
            platter,
            sync,
            under_way: RefCell::default(),
            busy_until: Cell::new(Duration::ZERO),
            bell: Notify::new(),
        }
    }
}

impl Storage for SimDisk {
    fn save(&self, ticket: u64, record: Vec<u8>) {
        let due = self.busy_until.get().max(world_time()) + self.sync;
        self.busy_until.set(due);
        self.under_way.borrow_mut().push_back((due, ticket, record));
        self.bell.notify_one();
    }

    async fn saved(&self) -> (u64, io::Result<()>) {
        loop {
            let due = self.under_way.borrow().front().map(|(due, ..)| *due);
            let now = world_time();
            match due {
                Some(due) if now >= due => {
                    let next = self.under_way.borrow_mut().pop_front();
                    if let Some((_, ticket, record)) = next {
                        *self.platter.borrow_mut() = Some(record);
                        return (ticket, Ok(()));
                    }
                }
                Some(due) => tokio::time::sleep(due - now).await,
                None => self.bell.notified().await,
            }
        }
    }
}
