//! Nothing is acquired but under a lease that runs (docs/protocol.md, "The lease", rows 12 and 14).

use wackamole::env::{Action, Lease, Work};
use wackamole_protocol::time::Instant;

use super::Breach;

#[derive(Debug, Default)]
pub(super) struct Leased {
    until: Option<Instant>,
}

impl Leased {
    pub(super) fn renewed(&mut self, lease: Lease) {
        self.until = match lease {
            Lease::None => None,
            Lease::Until(until) => Some(until),
        };
    }

    pub(super) fn submitted(&self, work: &Work, now: Instant) -> Option<Breach> {
        let Action::Acquire(vip) = &work.action else { return None };
        let runs = self.until.is_some_and(|until| now < until);
        (!runs).then_some(Breach::AcquiredUnderNoLease { vip: vip.id() })
    }
}
