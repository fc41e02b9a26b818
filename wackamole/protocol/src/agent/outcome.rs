//! What the operating system made of what was wanted: held, released, failed, or seen in other hands.

use crate::event::{Event, Reason};
use crate::time::Instant;
use crate::vip::VipId;

use super::message::HandedOver;
use super::{AddressOutcome, Agent, AgentOutput, Local, Permission};

impl Agent {
    /// An address operation ended.
    pub fn handle_addresses(&mut self, outcome: AddressOutcome, now: Instant) {
        match outcome {
            AddressOutcome::Held { vip, generation } => self.handle_held(vip, generation, now),
            AddressOutcome::Released { vip, generation } => self.handle_released(vip, generation),
            AddressOutcome::Failed { vip, generation, error, given_up } => {
                let Some(slot) = self.slots.get_mut(&vip) else { return };
                if generation < slot.changed_in {
                    return;
                }
                slot.error = Some(error.clone());
                let wanted = matches!(slot.local, Local::Wanted | Local::Held);
                // Until the permission is here there is nothing to hand on to somebody else.
                let may_hold = slot.permission == Permission::Here;
                let given_up = given_up && wanted && may_hold && slot.mark_unable(now);
                self.able_at = self.able_at.into_iter().chain(slot.unable_until).min();
                self.outputs.push_back(AgentOutput::Event(Event::AddressFailed {
                    vip,
                    error,
                    given_up,
                }));
                if given_up {
                    self.report(now);
                    self.decline();
                }
            }
            AddressOutcome::Cleared { vip } => self.handle_cleared(vip),
            AddressOutcome::Occupied { vip, by } => self.handle_occupied(vip, by),
            AddressOutcome::Stale { vip } => self.ask_again([vip]),
            AddressOutcome::Contested { vip, by, ours, again } => {
                self.handle_contested(vip, by, ours, again, now);
            }
            AddressOutcome::Servable { vips, why_not } => self.handle_servable(vips, why_not, now),
            AddressOutcome::Vanished { vip, retry_in } => {
                self.event(Event::AddressVanished { vip, retry_in });
                if let Some(slot) = self.slots.get_mut(&vip) {
                    slot.vanished = true;
                }
                // Others may have it still, and we have yet to put it back.
                self.restate_due = true;
                // While it is gone nobody answers for it, so whoever is away, and waits for us to die, may find it free.
                if !self.nobody_is_away() {
                    self.ask_again([vip]);
                }
            }
        }
    }

    fn handle_held(&mut self, vip: VipId, generation: u64, now: Instant) {
        let Some(slot) = self.slots.get_mut(&vip) else { return };
        if generation < slot.changed_in || !matches!(slot.local, Local::Wanted | Local::Held) {
            return;
        }
        let newly = slot.local == Local::Wanted;
        slot.local = Local::Held;
        slot.vanished = false;
        slot.clear_from.clear();
        let reason = slot.reason;
        // While others have yet to let go the hand-over is not over: it is told when the last of them has.
        let arrived = newly && slot.permission == Permission::Here;
        let able_again = slot.mark_able();
        if arrived {
            self.holding.acquired.push(vip);
        }
        if newly {
            self.event(Event::Acquired { vip, reason });
        }
        if able_again {
            self.report(now);
        }
    }

    fn handle_released(&mut self, vip: VipId, generation: u64) {
        let (has_view, nobody_is_away) = (self.view.is_some(), self.nobody_is_away());
        let Some(slot) = self.slots.get_mut(&vip) else { return };
        if generation < slot.changed_in || slot.local != Local::Leaving {
            return;
        }
        slot.local = Local::Absent;
        slot.error = None;
        // Whoever does not hear its segment does not know who takes what it lets go.
        slot.let_go = has_view && slot.other_holders.is_empty() && slot.unservable.is_none();
        slot.free = slot.let_go && nobody_is_away;
        let next = slot.owner.filter(|&owner| owner != self.me);
        // Still its owner, it lets go because it cannot serve: how it once got the VIP is not why.
        let unable = slot.owner == Some(self.me) && slot.is_unable();
        let reason = match (self.draining, unable) {
            (true, _) => Reason::Drain,
            (false, true) => Reason::Unable,
            (false, false) => slot.reason,
        };
        self.event(Event::Released { vip, next, reason });
        self.hand_over(vip);
        self.restate_due = true;
    }

    /// Passes the permission to the owner if we owe it and our kernel has let go.
    pub(super) fn hand_over(&mut self, vip: VipId) {
        let Some(slot) = self.slots.get_mut(&vip) else { return };
        let owed = slot.permission == Permission::Owed;
        if owed && slot.local == Local::Absent {
            slot.permission = Permission::None;
            let clear = slot.cleared || slot.free || slot.let_go;
            self.holding.released.push(HandedOver { vip, next: slot.owner, clear });
        } else if !owed && slot.local == Local::Absent {
            let clear = slot.cleared || slot.free || slot.let_go;
            self.holding.released.push(HandedOver { vip, next: None, clear });
        }
    }
}
