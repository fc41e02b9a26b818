//! The agent: views, members' states and local outcomes in, the desired set of VIPs out.
//!
//! Knows nothing of heartbeats: any engine that installs views with the members' states can feed it.
//!
//! Invariants: without a view nothing is desired; between accept and install nothing is added to the desired set; a VIP
//! enters it only with the permission to hold it, which is given away only after the release is confirmed.

mod clearing;
mod interface;
mod message;
mod outcome;
mod plan;
mod slot;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::config::{Balance, NodeConfig};
use crate::event::{Event, Reason};
use crate::id::{NodeId, ViewId};
use crate::time::{Deadline, Duration, Instant};
use crate::vip::VipId;
use crate::wire;

use clearing::Precautions;
pub use interface::{AddressOutcome, AgentOutput, Wanted};
use message::{AgentMessage, Bits, Holding, MemberInfo, MemberState, Report, VipList};
use plan::Plan;
pub(crate) use slot::{Local, Permission, Restraint, Slot};

/// The view that the agent acts in.
struct AgentView {
    id: ViewId,
    members: Vec<MemberInfo>,
    number: u64,
    /// It may hold VIPs, by what this node knows. If not it has no owners here, whatever the coordinator decided.
    primary: bool,
    /// Only on the coordinator.
    plan: Option<Plan>,
    /// When the next balance round is due; only on the coordinator.
    balance_at: Option<Instant>,
}

/// The agent of one node.
pub struct Agent {
    me: NodeId,
    ranks: Vec<NodeId>,
    /// All nodes of the configuration that may hold VIPs.
    holders: BTreeSet<NodeId>,
    weight: u32,
    /// It votes and holds nothing.
    witness: bool,
    mature_after: Duration,
    balance: Balance,
    fingerprint: u64,
    slots: BTreeMap<VipId, Slot>,
    view: Option<AgentView>,
    /// A plan whose decision waits to be installed.
    prepared: Option<(ViewId, Plan)>,
    frozen: bool,
    /// Another view is linked to ours.
    beside: bool,
    /// What was told of us with the last accept; whatever changes after that is reported once the view stands.
    stated: Option<Report>,
    mature: bool,
    mature_at: Option<Instant>,
    saw_mature: bool,
    /// When the next VIP that could not be held may be tried again.
    able_at: Option<Instant>,
    draining: bool,
    /// Draining is over, whoever may be left without an owner.
    gave_up: bool,
    generation: u64,
    desired: BTreeSet<VipId>,
    /// VIPs have been cleared that are not in the desired set yet.
    restate_due: bool,
    announce: BTreeSet<VipId>,
    /// Which segment-side precautions this cluster takes.
    precautions: Precautions,
    suspects: BTreeSet<NodeId>,
    suspected: BTreeMap<VipId, bool>,
    to_clear: (BTreeMap<VipId, bool>, BTreeMap<VipId, Wanted>),
    holding: Holding,
    outputs: VecDeque<AgentOutput>,
}

impl Agent {
    /// Starts without a view.
    pub fn new(config: &NodeConfig, now: Instant) -> Self {
        let slots: BTreeMap<VipId, Slot> = config
            .vips
            .iter()
            .map(|definition| {
                let slot = Slot::new(definition.vip.clone(), definition.prefer.clone(), now);
                (definition.vip.id(), slot)
            })
            .collect();
        let mine = config.nodes.iter().find(|n| n.id() == config.me);
        let (weight, witness) = mine.map_or((1, false), |n| (n.weight, n.witness));
        Self {
            me: config.me,
            ranks: config.nodes.iter().map(|node| node.id()).collect(),
            holders: config.nodes.iter().filter(|n| !n.witness).map(|n| n.id()).collect(),
            weight,
            witness,
            mature_after: config.timing.mature,
            balance: config.balance,
            fingerprint: fingerprint(slots.keys()),
            slots,
            view: None,
            prepared: None,
            frozen: false,
            beside: false,
            stated: None,
            mature: config.timing.mature == Duration::ZERO && !witness,
            mature_at: None,
            saw_mature: false,
            able_at: None,
            draining: false,
            gave_up: false,
            generation: 0,
            desired: BTreeSet::new(),
            restate_due: false,
            announce: BTreeSet::new(),
            precautions: Precautions::new(config),
            suspects: BTreeSet::new(),
            suspected: BTreeMap::new(),
            to_clear: Default::default(),
            holding: Holding::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Fingerprint of the configured VIPs.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The state that goes with an accept. From here to the next view nothing is acquired, and what may be held counts
    /// as held. `digest` is the proposer's fingerprint.
    pub fn state(&mut self, digest: u64) -> Vec<u8> {
        self.frozen = true;
        self.stated = Some(self.current_report());
        self.restate_desired();
        let vips = if digest == self.fingerprint {
            VipList::Fingerprint(digest)
        } else {
            VipList::Listed(self.slots.keys().copied().collect())
        };
        let (mut held, mut unable, mut preferred) = (Bits::default(), Bits::default(), Vec::new());
        for (position, slot) in self.slots.values().enumerate() {
            if slot.may_answer() {
                held.insert(position);
            }
            if slot.is_unable() {
                unable.insert(position);
            }
            if !slot.preferred.is_empty()
                && let Ok(position) = u32::try_from(position)
            {
                preferred.push((position, slot.preferred.clone()));
            }
        }
        wire::encode(&MemberState {
            fingerprint: self.fingerprint,
            vips,
            weight: self.weight,
            mature: self.mature,
            saw_mature: self.saw_mature,
            draining: self.draining || self.witness,
            held,
            unable,
            preferred,
        })
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.mature_at.is_some_and(|at| now >= at) {
            self.mature_at = None;
            if !self.mature {
                self.mature = true;
                self.event(Event::Matured { node: self.me });
                self.report(now);
            }
        }
        if self.able_at.is_some_and(|at| now >= at) {
            for slot in self.slots.values_mut() {
                slot.unable_until.take_if(|until| now >= *until);
            }
            self.able_at = self.slots.values().filter_map(|slot| slot.unable_until).min();
            self.report(now);
        }
        self.balance_if_due(now);
    }

    /// When to call [`Agent::handle_timeout`].
    pub fn poll_timeout(&self) -> Deadline {
        let balance = self.view.as_ref().and_then(|view| view.balance_at);
        [
            (self.mature_at, "mature"),
            (self.able_at, "a VIP may be tried again"),
            (balance, "a balance round"),
        ]
        .into_iter()
        .filter_map(|(at, reason)| Some(Deadline::new(at?, reason)))
        .min()
        .unwrap_or(Deadline::NEVER)
    }

    /// What to do next; `None` when the caller may wait.
    pub fn poll_output(&mut self, now: Instant) -> Option<AgentOutput> {
        if core::mem::take(&mut self.restate_due) {
            self.restate_desired();
        }
        if self.outputs.is_empty() {
            if !self.announce.is_empty() {
                return Some(AgentOutput::Announce { vips: core::mem::take(&mut self.announce) });
            }
            self.tell_holding(now);
        }
        self.outputs.pop_front()
    }

    /// Gives everything away; from now on nothing is assigned to this node. Without anybody to take over everything is
    /// simply released.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        self.report(now);
        let heirs = self.view.as_ref().is_some_and(|view| {
            view.members.iter().any(|m| m.id != self.me && m.mature && !m.draining)
        });
        if !heirs {
            self.give_up();
        }
    }

    /// Ends draining: what is still here is released, whoever may be left without an owner.
    pub fn give_up(&mut self) {
        self.gave_up = true;
        self.restate_desired();
    }

    /// Number of the assignment within the view; grows with each change.
    pub(crate) fn assignment_number(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.number)
    }

    /// Nothing is on this machine or on its way to it, and nothing is owed to anybody.
    pub fn is_empty(&self) -> bool {
        let owes = |slot: &Slot| match slot.permission {
            Permission::Owed => true,
            Permission::Awaiting(_) => slot.owner != Some(self.me),
            Permission::None | Permission::Here => false,
        };
        self.slots.values().all(|slot| !slot.may_answer() && !owes(slot))
            && self.outputs.is_empty()
            && self.holding == Holding::default()
    }

    /// Something is on this machine, or on its way to it.
    pub(crate) fn may_answer(&self) -> bool {
        !self.desired.is_empty()
    }

    /// Draining, and nothing is assigned to this node any more.
    pub fn is_drained(&self) -> bool {
        self.is_empty()
            && (self.gave_up || self.slots.values().all(|slot| slot.owner != Some(self.me)))
    }

    /// Recomputes the desired set and tells it if it changed, and what follows from it.
    fn restate_desired(&mut self) {
        self.restate_held();
        self.restate_clearing();
        self.decline();
    }

    /// Tells of which VIPs we have the permission and cannot use it.
    fn decline(&mut self) {
        let frozen = self.frozen || self.view.is_none();
        for (&vip, slot) in &mut self.slots {
            let declines = !frozen
                && slot.owner == Some(self.me)
                && slot.permission == Permission::Here
                && slot.is_unable();
            if declines && !slot.declined {
                self.holding.declined.push(vip);
            }
            slot.declined = declines;
        }
    }

    /// Some member of our view is linked to another one from now on, or none is any more: what nobody of ours holds is left alone.
    pub fn handle_beside(&mut self, beside: bool) {
        if core::mem::replace(&mut self.beside, beside) != beside {
            self.event(Event::Beside { beside });
            self.restate_desired();
        }
    }

    fn restraint(&self) -> Restraint {
        Restraint { frozen: self.frozen || self.gave_up, beside: self.beside }
    }

    fn restate_held(&mut self) {
        let restraint = Restraint { frozen: self.frozen, ..self.restraint() };
        let desired: BTreeSet<VipId> = if self.gave_up {
            BTreeSet::new()
        } else {
            self.slots
                .iter()
                .filter(|(_, slot)| slot.is_desired(self.me, restraint))
                .map(|(&vip, _)| vip)
                .collect()
        };
        if desired == self.desired {
            return;
        }
        self.generation += 1;
        for (vip, slot) in &mut self.slots {
            match (self.desired.contains(vip), desired.contains(vip)) {
                (false, true) => {
                    slot.local = Local::Wanted;
                    slot.changed_in = self.generation;
                }
                (true, false) => {
                    slot.local = Local::Leaving;
                    slot.changed_in = self.generation;
                }
                (true, true) | (false, false) => {}
            }
        }
        self.desired.clone_from(&desired);
        self.outputs.push_back(AgentOutput::Hold { generation: self.generation, vips: desired });
    }

    /// Tells the coordinator what changed about this node.
    fn report(&mut self, now: Instant) {
        let report = self.current_report();
        let Some(view) = &self.view else { return };
        if view.id.coordinator == self.me {
            self.handle_report(self.me, &report, now);
        } else {
            let to = view.id.coordinator;
            self.send(to, &AgentMessage::Report(report));
        }
    }

    fn current_report(&self) -> Report {
        Report {
            mature: self.mature,
            draining: self.draining || self.witness,
            unable: self
                .slots
                .iter()
                .filter(|(_, slot)| slot.is_unable())
                .map(|(&vip, _)| vip)
                .collect(),
        }
    }

    /// Tells everybody in the view what our kernel answers for. The releases among it are permissions.
    fn tell_holding(&mut self, now: Instant) {
        let mut holding = core::mem::take(&mut self.holding);
        if holding == Holding::default() {
            return;
        }
        holding.number = self.assignment_number();
        if self.view.is_none() {
            return;
        }
        let me = self.me;
        let others: Vec<NodeId> =
            self.members().iter().map(|member| member.id).filter(|&id| id != me).collect();
        let message = AgentMessage::Holding(holding.clone());
        for to in others {
            self.send(to, &message);
        }
        self.book_holding(me, &holding, now);
    }

    fn send(&mut self, to: NodeId, message: &AgentMessage) {
        self.outputs.push_back(AgentOutput::Send { to, bytes: wire::encode(message) });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(AgentOutput::Event(event));
    }

    pub(crate) fn slots(&self) -> &BTreeMap<VipId, Slot> {
        &self.slots
    }

    pub(crate) fn members(&self) -> &[MemberInfo] {
        self.view.as_ref().map_or(&[], |view| &view.members)
    }

    /// Every node that may hold VIPs is in our view: none of them answers for what the others have let go of.
    fn nobody_is_away(&self) -> bool {
        let present = |id: &NodeId| self.members().iter().any(|member| member.id == *id);
        self.holders.iter().all(present)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(crate) fn is_mature(&self) -> bool {
        self.mature
    }
}

/// Hash over the ids, in their order (FNV-1a, 64 bit; not a secret, only a short name for a list).
fn fingerprint<'a>(vips: impl Iterator<Item = &'a VipId>) -> u64 {
    vips.flat_map(|vip| vip.0.to_be_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Why a VIP has its owner, when the owner stays the same: what was the reason when it came.
fn lasting(reason: Reason, before: Option<Reason>) -> Reason {
    match (reason, before) {
        (Reason::Kept, Some(before)) => before,
        (reason, _) => reason,
    }
}
