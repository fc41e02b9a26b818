//! Between the accept of a view and its install nothing is acquired that was not being acquired or held before: whoever decides on the
//! owners knows what was told with the accept (docs/protocol.md, "Agreement").

use std::collections::{BTreeMap, BTreeSet};

use wackamole::env::{Action, AddressEvent, Work};
use wackamole_protocol::event::Event;
use wackamole_protocol::id::ViewId;
use wackamole_protocol::vip::VipId;

use super::Breach;

#[derive(Debug, Default)]
pub(super) struct Freeze {
    /// What was accepted and not installed.
    accepted: Option<ViewId>,
    /// Since when: in the turn of the accept what was wanted before it is still being handed over.
    begun: Begun,
    /// Acquired, or being acquired.
    up: BTreeSet<VipId>,
    /// Releases under way: what was wanted meanwhile is acquired when they end.
    releasing: BTreeMap<u64, VipId>,
    /// Those that were under way when the freeze began, or began in its turn.
    awaited: BTreeSet<VipId>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Begun {
    ThisTurn,
    #[default]
    Earlier,
}

impl Freeze {
    pub(super) fn turn(&mut self) {
        self.begun = Begun::Earlier;
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Accepted { ballot } => {
                self.begun = Begun::ThisTurn;
                self.accepted = Some(*ballot);
                self.awaited = self.releasing.values().copied().collect();
            }
            Event::ViewInstalled { .. } | Event::ViewLost { .. } | Event::ForcedPrimary => {
                self.accepted = None;
            }
            _ => {}
        }
    }

    pub(super) fn submitted(&mut self, work: &Work) -> Option<Breach> {
        match &work.action {
            Action::Acquire(vip) => {
                let new = self.up.insert(vip.id());
                let ballot = self.accepted.filter(|_| self.begun == Begun::Earlier)?;
                let breach = Breach::AcquiredWhileFrozen { vip: vip.id(), ballot };
                (new && !self.awaited.contains(&vip.id())).then_some(breach)
            }
            Action::Release(vip) => {
                self.up.remove(&vip.id());
                self.releasing.insert(work.ticket, vip.id());
                if self.begun == Begun::ThisTurn {
                    self.awaited.insert(vip.id());
                }
                None
            }
            _ => None,
        }
    }

    pub(super) fn reported(&mut self, event: &AddressEvent) {
        if let AddressEvent::Done { ticket, .. } = event {
            self.releasing.remove(ticket);
        }
    }
}
