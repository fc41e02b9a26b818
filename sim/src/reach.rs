//! `env::Reach` in the simulated world: the witness is the first client, and it answers on the daemons' network.
//!
//! It is asked once a heartbeat, out of step with the heartbeats, and answers at once where the way there and the way back both work.
//! Random loss does not touch it. How long an answer counts is as in production: with a whole failure timeout, half of the
//! seeds of scenario 351 fail.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use wackamole::env::{Clock, Reach};
use wackamole_protocol::config::Timing;
use wackamole_protocol::time::{Duration, Instant};

use crate::clock::SimClock;
use crate::links::Station;
use crate::segment::SharedSegment;

/// What the daemons know it by.
pub const WITNESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 254));

/// A daemon's questions.
pub struct SimReach {
    node: Station,
    /// Nobody is asked if there is none.
    witness: Option<Station>,
    segment: SharedSegment,
    clock: SimClock,
    heartbeat: Duration,
    patience: Duration,
    ask_at: Cell<Instant>,
    answered_at: Cell<Option<Instant>>,
    told: Cell<bool>,
}

impl SimReach {
    /// The daemon on `node` starts, and begins to ask after so long.
    pub fn new(
        node: Station,
        witness: Option<Station>,
        segment: SharedSegment,
        clock: SimClock,
        timing: &Timing,
        first_in: Duration,
    ) -> Self {
        Self {
            node,
            witness,
            segment,
            heartbeat: timing.heartbeat,
            patience: timing.silence(),
            ask_at: Cell::new(clock.now() + first_in),
            answered_at: Cell::default(),
            told: Cell::default(),
            clock,
        }
    }
}

impl Reach for SimReach {
    async fn changed(&self) -> BTreeSet<IpAddr> {
        let Some(witness) = self.witness else { return std::future::pending().await };
        loop {
            let now = self.clock.now();
            if now >= self.ask_at.get() {
                self.ask_at.set(now + self.heartbeat);
                if self.segment.borrow().links.two_way(self.node, witness) {
                    self.answered_at.set(Some(now));
                }
            }
            let end = self.answered_at.get().map(|at| at + self.patience).filter(|&end| now < end);
            if self.told.replace(end.is_some()) != end.is_some() {
                return end.map(|_| WITNESS).into_iter().collect();
            }
            let next = self.ask_at.get();
            self.clock.sleep_until(end.map_or(next, |end| end.min(next))).await;
        }
    }
}
