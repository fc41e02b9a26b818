//! Telling the segment who answers: what is held is announced at once, again at growing spacing, and then at a low rate; and it is
//! defended against somebody else's use.

use std::collections::BTreeSet;

use wackamole_protocol::mac::{Claim, MacAddress};
use wackamole_protocol::node::AddressOutcome;
use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::vip::VipId;

use super::{Actual, Reconciler};
use crate::env::{Action, Work};

/// Pauses between announcements. At least 1.1 s: older kernels ignore a second one that comes sooner (locktime).
pub(super) const ANNOUNCE_AGAIN: [Duration; 4] = [
    Duration::from_millis(1_100),
    Duration::from_millis(2_200),
    Duration::from_millis(4_400),
    Duration::from_millis(8_800),
];
/// Then at a low rate, because switches forget a MAC sooner (300 s) than gateways an ARP entry (20 min or more).
const REFRESH_MIN: Duration = Duration::from_secs(60);
/// Spread of the low rate, so that the VIPs of a machine do not speak all at once.
const REFRESH_SPREAD_MS: u64 = 40_000;
/// An address is defended against somebody else's use once in so long (RFC 5227 §2.4, DEFEND_INTERVAL).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Use by somebody else is told no more often than that for one VIP.
const CONTEST_PAUSE: Duration = Duration::from_secs(1);

impl Reconciler {
    /// Somebody else uses or wants a VIP. What we hold is defended once in a while by announcing it.
    pub(super) fn handle_claim(
        &mut self,
        vip: VipId,
        by: MacAddress,
        ours: MacAddress,
        claim: Claim,
        now: Instant,
    ) {
        if self.clearance.handle_claim(vip, by, ours, claim, now) {
            self.outcomes.push_back(AddressOutcome::Occupied { vip, by });
        }
        let Some(entry) = self.entries.get_mut(&vip) else { return };
        // The kernel itself answers those who probe.
        if claim == Claim::Wants || !entry.desired || entry.actual != Actual::Present {
            return;
        }
        let again = entry.defended_at.is_some_and(|at| now < at + DEFEND_INTERVAL);
        if !again {
            entry.defended_at = Some(now);
            entry.announced = 0;
            entry.announce_at = Some(now);
        }
        if !again || entry.contested_at.is_none_or(|at| now >= at + CONTEST_PAUSE) {
            // The first answer to our defence decides who yields, and comes within a round trip.
            entry.contested_at = again.then_some(now);
            self.outcomes.push_back(AddressOutcome::Contested { vip, by, ours, again });
        }
        self.announce_if_due(vip, now);
    }

    /// Announces VIPs once more from the beginning, if they are there.
    pub fn announce_again(&mut self, vips: &BTreeSet<VipId>, now: Instant) {
        for vip in vips {
            if let Some(entry) = self.entries.get_mut(vip)
                && entry.actual == Actual::Present
            {
                entry.announced = 0;
                entry.announce_at = Some(now);
            }
        }
        for &vip in vips {
            self.announce_if_due(vip, now);
        }
    }

    pub(super) fn announce_if_due(&mut self, vip: VipId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&vip)
            && entry.announcing.is_none()
            && entry.announce_at.take_if(|at| now >= *at).is_some()
            && entry.actual == Actual::Present
            && entry.desired
        {
            let pause = ANNOUNCE_AGAIN.get(entry.announced).copied().unwrap_or_else(|| {
                REFRESH_MIN + Duration::from_millis((vip.0 ^ now_millis(now)) % REFRESH_SPREAD_MS)
            });
            entry.announced += 1;
            entry.announce_at = Some(now + pause);
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            entry.announcing = Some(ticket);
            self.tickets.insert(ticket, vip);
            self.work.push_back(Work { ticket, action: Action::Announce(entry.vip.clone()) });
        }
        self.index(vip);
    }
}

fn now_millis(now: Instant) -> u64 {
    u64::try_from(now.since_origin().as_millis()).unwrap_or(0)
}
