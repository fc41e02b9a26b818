//! Something goes wrong in the very moment in which something else happens.

use super::{World, ms};
use crate::event::Event;

/// What springs a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node::tests) enum Bait {
    Proposed,
    Accepted,
    Installed,
    Released,
    Acquired,
    Balance,
}

impl Bait {
    pub(super) fn is_taken_by(self, event: &Event) -> bool {
        match self {
            Self::Proposed => matches!(event, Event::Proposed { .. }),
            Self::Accepted => matches!(event, Event::Accepted { .. }),
            Self::Installed => matches!(event, Event::ViewInstalled { .. }),
            Self::Released => matches!(event, Event::Released { .. }),
            Self::Acquired => matches!(event, Event::Acquired { .. }),
            Self::Balance => matches!(event, Event::BalanceRound { .. }),
        }
    }
}

/// What a trap does.
#[derive(Clone, Copy, Debug)]
pub(in crate::node::tests) enum Strike {
    PowerLoss(usize),
    Pause(usize, u64),
    /// Nothing of what the first sends reaches the second any more.
    Cut(usize, usize),
    Leave(usize),
}

impl World {
    /// When one of these happens anywhere, strike before anything else does.
    pub(in crate::node::tests) fn set_trap(&mut self, bait: Bait, strike: Strike) {
        self.traps.push((bait, strike));
    }

    pub(in crate::node::tests) fn disarm(&mut self) {
        self.traps.clear();
    }

    pub(super) fn spring_traps(&mut self) {
        for strike in core::mem::take(&mut self.sprung) {
            match strike {
                Strike::PowerLoss(i) => self.power_loss(i),
                Strike::Pause(i, length) => self.pause(i, self.now + ms(length)),
                Strike::Cut(from, to) => self.cut_one_way(from, to),
                Strike::Leave(i) if self.is_running(i) => self.leave(i),
                Strike::Leave(_) => {}
            }
        }
    }
}
