//! Of one VIP one announcement is with the worker at a time (docs/protocol.md, "Addresses"): a slow kernel would be busy with
//! repetitions while what has just been acquired waits.

use std::collections::BTreeMap;

use wackamole::env::{Action, AddressEvent, Work};
use wackamole_protocol::vip::VipId;

use super::Breach;

/// The announcements that one start of a daemon has asked for and not been told of, by their tickets.
#[derive(Debug, Default)]
pub(super) struct Announcing(BTreeMap<u64, VipId>);

impl Announcing {
    pub(super) fn submitted(&mut self, work: &Work) -> Option<Breach> {
        let Action::Announce(vip) = &work.action else { return None };
        let vip = vip.id();
        let piled = self.0.values().any(|other| *other == vip);
        self.0.insert(work.ticket, vip);
        piled.then_some(Breach::AnnouncedTwiceAtOnce { vip })
    }

    pub(super) fn reported(&mut self, event: &AddressEvent) {
        if let AddressEvent::Done { ticket, .. } = event {
            self.0.remove(ticket);
        }
    }
}
