//! Within a view nothing is acquired for which another member's kernel answers or may: whoever hands an address on has let go of it before
//! (docs/protocol.md, "The permission to hold a VIP"). Two kernels that answer show that only if the one is faster than the other.

use std::collections::{BTreeMap, BTreeSet};

use wackamole::env::{Action, AddressEvent, Work};
use wackamole_protocol::event::Event;
use wackamole_protocol::id::ViewId;
use wackamole_protocol::vip::VipId;

/// What one start of a daemon has had its kernel do.
#[derive(Debug, Default)]
pub(super) struct Holder {
    view: Option<ViewId>,
    /// Acquired, or being acquired, and no release since has ended well.
    may_answer: BTreeSet<VipId>,
    releasing: BTreeMap<u64, VipId>,
}

impl Holder {
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::ViewInstalled { view, primary, .. } => {
                self.view = Some(*view).filter(|_| *primary);
            }
            Event::ViewLost { .. } => self.view = None,
            _ => {}
        }
    }

    /// Returns what is acquired that was not there before, and in which view.
    pub(super) fn submitted(&mut self, work: &Work) -> Option<(VipId, ViewId)> {
        match &work.action {
            Action::Acquire(vip) => {
                // A release that ends later than this one begins says nothing of it.
                self.releasing.retain(|_, releasing| *releasing != vip.id());
                let new = self.may_answer.insert(vip.id());
                self.view.filter(|_| new).map(|view| (vip.id(), view))
            }
            Action::Release(vip) => {
                self.releasing.insert(work.ticket, vip.id());
                None
            }
            _ => None,
        }
    }

    pub(super) fn reported(&mut self, event: &AddressEvent) {
        match event {
            AddressEvent::Done { ticket, result } => {
                if let Some(vip) = self.releasing.remove(ticket)
                    && result.is_ok()
                {
                    self.may_answer.remove(&vip);
                }
            }
            // Put back, it is acquired anew. A simulated VIP has one address: nothing of it is left.
            AddressEvent::Vanished(vip) => {
                self.may_answer.remove(vip);
            }
            _ => {}
        }
    }

    /// It may answer for this, and is in this view.
    pub(super) fn may_answer_in(&self, vip: VipId, view: ViewId) -> bool {
        self.view == Some(view) && self.may_answer.contains(&vip)
    }
}
