//! One VIP as this node sees it: who owns it, who may hold it, what our own kernel does.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::Reason;
use crate::id::NodeId;
use crate::mac::MacAddress;
use crate::time::{Duration, Instant};
use crate::vip::Vip;

/// Pause before a VIP that could not be held is offered to this node again; doubles with each failure.
const UNABLE_FIRST: Duration = Duration::from_secs(4);
const UNABLE_MAX: Duration = Duration::from_secs(300);

/// What our kernel does about a VIP, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// Confirmed: it does not answer.
    Absent,
    /// An acquire is asked for and not confirmed: it may answer.
    Wanted,
    /// Confirmed: it answers.
    Held,
    /// A release is asked for and not confirmed: it may still answer.
    Leaving,
}

/// The permission to hold a VIP. In a view it is in one place, or in one message between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Somebody else's business.
    None,
    /// Ours as soon as these have confirmed their releases.
    Awaiting(BTreeSet<NodeId>),
    /// Ours.
    Here,
    /// To be handed to the owner once our kernel has let go.
    Owed,
}

/// What keeps a node from acquiring, whatever it owns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restraint {
    /// Between accept and install what is held is kept and nothing is acquired.
    pub(crate) frozen: bool,
    /// Another view is linked to ours: what nobody of ours holds may be held there.
    pub(crate) beside: bool,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) vip: Arc<Vip>,
    pub(crate) preferred: Vec<NodeId>,
    pub(crate) owner: Option<NodeId>,
    pub(crate) reason: Reason,
    pub(crate) owned_since: Instant,
    pub(crate) permission: Permission,
    /// A release for us came before the update that makes us the owner.
    pub(crate) early_permission: bool,
    /// And whoever sent it held it, or knew that nobody did.
    pub(crate) early_clear: bool,
    pub(crate) local: Local,
    /// The generation of the desired set in which the VIP came in or went out last; older outcomes are stale.
    pub(crate) changed_in: u64,
    /// Other members whose kernels answer for it, as far as they have told.
    pub(crate) other_holders: BTreeSet<NodeId>,
    /// It may be acquired as far as the segment is concerned: its last holder has confirmed the release, or nobody has
    /// answered a probe.
    pub(crate) cleared: bool,
    /// The last that we know of it is a confirmed release in our view.
    pub(crate) free: bool,
    /// We have held it and confirmed the release in this view, so whoever gets the permission from us need not ask.
    pub(crate) let_go: bool,
    /// We own it because its last holder has released it, or is about to: nobody else may have found it free.
    pub(crate) handed_over: bool,
    /// We have the permission and have said that we cannot use it.
    pub(crate) declined: bool,
    /// The nodes that held it, or may have, and vanished; until somebody else holds it or they are back. Whoever takes it over does
    /// so from them.
    pub(crate) clear_from: BTreeSet<NodeId>,
    /// Somebody has taken it from our kernel by hand, and it has yet to be put back.
    pub(crate) vanished: bool,
    /// Somebody else answers for it on its segment.
    pub(crate) occupied_by: Option<MacAddress>,
    /// Who else used it while we held it, and when last.
    pub(crate) contested_by: Option<(MacAddress, Instant)>,
    /// To be let go of once, whoever owns it.
    pub(crate) yielded: bool,
    /// Whom it belonged to before its owner.
    pub(crate) previous_owner: Option<NodeId>,
    /// Why it cannot be served from this machine.
    pub(crate) unservable: Option<String>,
    pub(crate) unable_until: Option<Instant>,
    /// It cannot be held because somebody else used it, and we gave way.
    gave_way: bool,
    unable_for: Duration,
    pub(crate) error: Option<String>,
}

impl Slot {
    pub(crate) fn new(vip: Arc<Vip>, preferred: Vec<NodeId>, now: Instant) -> Self {
        Self {
            vip,
            preferred,
            owner: None,
            reason: Reason::Kept,
            owned_since: now,
            permission: Permission::None,
            early_permission: false,
            early_clear: false,
            local: Local::Absent,
            changed_in: 0,
            other_holders: BTreeSet::new(),
            cleared: false,
            free: false,
            let_go: false,
            handed_over: false,
            declined: false,
            clear_from: BTreeSet::new(),
            vanished: false,
            occupied_by: None,
            contested_by: None,
            yielded: false,
            previous_owner: None,
            unservable: None,
            unable_until: None,
            gave_way: false,
            unable_for: UNABLE_FIRST,
            error: None,
        }
    }

    /// Our kernel answers for it, or may.
    pub(crate) fn may_answer(&self) -> bool {
        self.local != Local::Absent
    }

    /// Our kernel answers for it now.
    pub(crate) fn is_there(&self) -> bool {
        self.local == Local::Held && !self.vanished
    }

    /// Whether the address should be on this machine.
    pub(crate) fn is_desired(&self, me: NodeId, restraint: Restraint) -> bool {
        if self.unservable.is_some() || self.yielded {
            return false;
        }
        let kept = matches!(self.local, Local::Wanted | Local::Held);
        if restraint.frozen {
            return kept && self.permission != Permission::Owed;
        }
        self.owner == Some(me)
            && match self.permission {
                Permission::Here => kept || self.cleared && !self.is_left_alone(restraint),
                // Several held it when two halves met, and we keep it while the others let go. What our kernel has yet to
                // acquire, or to put back, waits for them.
                Permission::Awaiting(_) => self.is_there(),
                Permission::None | Permission::Owed => false,
            }
    }

    /// It may be held in another view, and is not handed over by a member of ours: then ours held it anyway.
    fn is_left_alone(&self, restraint: Restraint) -> bool {
        restraint.beside && !self.handed_over
    }

    /// Whether the segment must be asked before it is acquired.
    pub(crate) fn wants_clearing(&self, me: NodeId, restraint: Restraint) -> bool {
        !restraint.frozen
            && !self.is_left_alone(restraint)
            && self.owner == Some(me)
            && self.permission == Permission::Here
            && self.local == Local::Absent
            && !self.cleared
            && self.unservable.is_none()
    }

    /// This node could not hold it if it were its owner.
    pub(crate) fn is_unable(&self) -> bool {
        self.unable_until.is_some() || self.unservable.is_some()
    }

    /// Notes that this node cannot hold the VIP for now. Returns whether that is news.
    pub(crate) fn mark_unable(&mut self, now: Instant) -> bool {
        if self.unable_until.is_some() {
            return false;
        }
        self.gave_way = false;
        self.unable_until = Some(now + self.unable_for);
        self.unable_for = (self.unable_for * 2).min(UNABLE_MAX);
        true
    }

    /// Lets somebody have it who uses it as well.
    pub(crate) fn give_way(&mut self, now: Instant) {
        self.gave_way = self.mark_unable(now);
        self.cleared = false;
    }

    /// Whoever has joined may be the one that we gave way to, and will tell now what it holds. A stranger is found by asking.
    pub(crate) fn forget_who_went_first(&mut self) {
        if core::mem::take(&mut self.gave_way) {
            self.unable_until = None;
            self.unable_for = UNABLE_FIRST;
        }
    }

    /// The VIP is held after all.
    pub(crate) fn mark_able(&mut self) -> bool {
        self.gave_way = false;
        self.unable_for = UNABLE_FIRST;
        self.error = None;
        self.unable_until.take().is_some()
    }
}
