//! Nodes that vote, over a network that loses, reorders and duplicates, as a state space. The decisions are made by
//! `wackamole_protocol::vote`; this file only moves records and messages about. To keep the space small, what can have no
//! effect, or the same effect at another time, is not a step of its own:
//!
//! - A proposal that was sent may arrive at any later time, or never. A restart ends those to the node that restarts, because
//!   a link is to one incarnation; those from it still arrive.
//! - An accept counts when it is sent, but the step that forms the view comes at any later time, or never: this is the last
//!   accept being late or lost. An Install is the fact that the view was formed, which its members learn at any time.
//! - A node that is down is one that does nothing for a while, so a crash is a restart: memory is lost. What was written
//!   without waiting for it is on the disk or not.
//! - Refusals, accepts, heartbeats and leaves carry records: whoever proposes or leaves has heard any of the others before,
//!   or none.
//! - A witness that merely answers (`Rules::witness_ok`) may cease to, or begin to, at any time and for each node apart. It is asked
//!   when a proposal is begun, and nowhere else, and can only keep it from being begun. Whatever nodes do with it is
//!   therefore one of the behaviours in this space, where every proposal is a step that need not be taken.

use std::collections::BTreeSet;

use stateright::{Model, Property};
use wackamole_protocol::config::QuorumKind;
use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::vote::{self, Attempt, Claim, Formed, Record, Rules, Verdict};

use crate::breakage::Breakage;
use crate::promise;
use crate::state::{Heard, Machine, Proposal, State};

/// What is explored.
#[derive(Clone, Debug)]
pub(crate) struct Votes {
    pub(crate) rules: Rules,
    /// No disk knows anything: the first start of all.
    pub(crate) blank: bool,
    /// What waits for the disk waits for a while.
    pub(crate) slow_disk: bool,
    /// What a node says may arrive when it is old, and everybody hears it, not only who proposes.
    pub(crate) gossip: bool,
    pub(crate) budget: Budget,
    pub(crate) broken: Option<Breakage>,
}

/// How often a thing may happen in the whole cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) proposals: u8,
    pub(crate) crashes: u8,
    pub(crate) leaves: u8,
    pub(crate) lost_disks: u8,
    pub(crate) forced: u8,
    /// Views that are not primary, and whose accept overtakes what a node has only heard of.
    pub(crate) overtaken: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Who, whom, and what it has heard before.
    Propose(NodeId, BTreeSet<NodeId>, Heard),
    Abandon(NodeId),
    Deliver(Proposal),
    Form(NodeId),
    Install(NodeId, u64, Formed),
    Hear(NodeId, Heard),
    WriteIsDone(NodeId),
    /// And whether what was written without waiting is on the disk.
    Restart(NodeId, bool),
    /// Who, to whom it gives its vote, and what it has heard before.
    Leave(NodeId, NodeId, Heard),
    LoseDisk(NodeId),
    ForcePrimary(NodeId),
    /// Accepts a view that is not primary, with a higher ballot than any.
    Overtake(NodeId),
}

impl Action {
    /// How often a random walk chooses this kind of step. No two kinds have the same weight.
    pub(crate) fn weight(&self) -> u32 {
        match self {
            Self::Deliver(_) => 80,
            Self::WriteIsDone(_) => 60,
            Self::Form(_) => 50,
            Self::Install(..) => 40,
            Self::Propose(..) => 20,
            Self::Hear(..) => 10,
            Self::Overtake(_) => 6,
            Self::Abandon(_) => 5,
            Self::Restart(..) => 4,
            Self::Leave(..) => 3,
            Self::LoseDisk(_) => 2,
            Self::ForcePrimary(_) => 1,
        }
    }
}

pub(crate) const EXCLUSIVE: &str = "of all views formed only the last can hold anything";
pub(crate) const REMEMBERED: &str = "no voter forgets what was formed, or believes what was not";

impl Votes {
    /// Nodes 1 to `nodes`, all members of a primary view.
    pub(crate) fn new(nodes: u32, budget: Budget) -> Self {
        let nodes = (1..=nodes).map(NodeId).collect();
        Self {
            rules: Rules { kind: QuorumKind::Dynamic, min_quorum: 1, nodes, witness_ok: true },
            blank: false,
            slow_disk: false,
            gossip: false,
            budget,
            broken: None,
        }
    }

    fn breaks(&self, breakage: Breakage) -> bool {
        self.broken == Some(breakage)
    }

    fn said(&self, machine: &Machine) -> Record {
        if self.breaks(Breakage::UnwrittenSaid) {
            return machine.memory.clone();
        }
        machine.memory.said(machine.disk.accepted)
    }

    /// `vote::judge`, but that the question of numbers may be answered by a broken rule.
    fn judge(&self, mine: &Record, proposal: &Proposal) -> Verdict {
        let Proposal { to, ballot, members, claim, .. } = proposal;
        match self.broken {
            Some(broken) => broken.judge(mine, claim, *ballot, members, *to, &self.rules),
            None => vote::judge(mine, claim, *ballot, members, *to, &self.rules),
        }
    }

    fn eligible(&self, claim: &Claim, members: &BTreeSet<NodeId>) -> bool {
        match self.broken {
            Some(broken) => broken.eligible(claim, members, &self.rules).is_ok(),
            None => vote::eligible(claim, members, &self.rules).is_ok(),
        }
    }

    /// Everything that a node may have heard, each distinct outcome once.
    fn hearings(&self, state: &State, me: NodeId) -> Vec<(Heard, Machine)> {
        let nodes = self.rules.nodes.iter().filter(|&&node| node != me);
        let mut sayings: Heard = nodes.map(|&node| (node, self.said(state.at(node)))).collect();
        let notes =
            state.notes.iter().filter(|(from, to, _)| *from != me && to.is_none_or(|to| to == me));
        sayings.extend(notes.map(|(from, _, record)| (*from, record.clone())));
        sayings.sort();
        sayings.dedup();
        let mut outcomes: Vec<(Heard, Machine, Claim)> = Vec::new();
        for bits in 0u32..1 << sayings.len() {
            let heard = (0..).zip(&sayings).filter(|(i, _)| bits & (1 << i) != 0);
            let heard: Heard = heard.map(|(_, said)| said.clone()).collect();
            let mut machine = state.at(me).clone();
            machine.hear(me, &heard, self.breaks(Breakage::BlankDiskTestifies));
            let claim = self.claim(&machine, me, &heard);
            if !outcomes.iter().any(|(_, m, c)| *m == machine && *c == claim) {
                outcomes.push((heard, machine, claim));
            }
        }
        outcomes.into_iter().map(|(heard, machine, _)| (heard, machine)).collect()
    }

    fn claim(&self, machine: &Machine, me: NodeId, heard: &Heard) -> Claim {
        let record = self.said(machine);
        let own = Some(me).filter(|_| !record.voice);
        let is_mute = |said: &Record| said.is_mute(record.lineage);
        let mute = heard.iter().filter(|(_, said)| is_mute(said)).map(|&(from, _)| from);
        Claim { mute: mute.chain(own).collect(), record }
    }

    fn propose(
        &self,
        state: &mut State,
        me: NodeId,
        members: &BTreeSet<NodeId>,
        heard: &Heard,
    ) -> Option<()> {
        state.left.proposals -= 1;
        let used = state.ballots_of(me).filter(|_| state.at(me).lost.is_some()).max();
        let machine = state.at_mut(me);
        machine.give_up();
        machine.hear(me, heard, self.breaks(Breakage::BlankDiskTestifies));
        let known = heard.iter().map(|(_, said)| said.highest().epoch).chain(used);
        let epoch = known.fold(machine.memory.highest().epoch, u64::max) + 1;
        let ballot = ViewId { epoch, coordinator: me };
        let claim = self.claim(machine, me, heard);
        let attempt = match self.broken {
            None => {
                Attempt::begin(&mut machine.memory, &claim, ballot, members, &self.rules).ok()?
            }
            Some(broken) => {
                broken.begin(&mut machine.memory, &claim, ballot, members, &self.rules)?
            }
        };
        machine.attempt = Some(attempt);
        machine.writing.insert(ballot);
        let after_loss = state.nodes.iter().any(|node| node.lost.is_some());
        for &to in members.iter().filter(|&&to| to != me) {
            let (members, claim) = (members.clone(), claim.clone());
            state.proposals.insert(Proposal { to, ballot, members, claim, after_loss });
        }
        if after_loss {
            state.end_replaced(me, members);
        }
        if self.breaks(Breakage::OwnAcceptBeforeWrite) {
            state.at_mut(me).writing.clear();
            state.accept(me, ballot);
        }
        self.write(state, me);
        Some(())
    }

    /// Waits for the disk, if that is not a step of its own.
    fn write(&self, state: &mut State, node: NodeId) {
        if !self.slow_disk {
            state.write_is_done(node);
        }
    }

    fn deliver(&self, state: &mut State, proposal: &Proposal) -> Option<()> {
        let mut machine = state.at(proposal.to).clone();
        machine.give_up(); // A proposer that accepts another's proposal abandons its own.
        let Verdict::Accept(mut record) = self.judge(&machine.memory, proposal) else {
            return None;
        };
        if self.breaks(Breakage::AttemptForgotten) {
            record.attempts.retain(|attempt| attempt.ballot != proposal.ballot);
        }
        machine.memory = record;
        let early = self.breaks(Breakage::AcceptBeforeWrite);
        if !early {
            machine.writing.insert(proposal.ballot);
        }
        *state.at_mut(proposal.to) = machine;
        if proposal.after_loss {
            state.end_replaced(proposal.to, &proposal.members);
        }
        if early {
            state.accept(proposal.to, proposal.ballot);
        }
        self.write(state, proposal.to);
        Some(())
    }

    fn form(&self, state: &mut State, me: NodeId) -> Option<()> {
        let machine = state.at_mut(me);
        let attempt = machine.attempt.take()?;
        let (lineage, before) = (attempt.lineage(), machine.memory.clone());
        let formed = attempt.form(&mut machine.memory).ok()?;
        if self.breaks(Breakage::AbandonedAfterInstall) {
            machine.memory = before;
            machine.memory.attempts.retain(|attempt| *attempt != formed);
        }
        state.formed.insert((lineage, formed));
        Some(())
    }

    fn leave(&self, state: &mut State, me: NodeId, heir: NodeId, heard: &Heard) -> Option<()> {
        state.left.leaves -= 1;
        let machine = state.at_mut(me);
        machine.give_up();
        machine.hear(me, heard, false);
        let mut record = vote::leave(&machine.memory, me, &BTreeSet::from([heir]))?;
        machine.disk = record.clone();
        if self.breaks(Breakage::LeaverForgets) {
            machine.disk.proxies.remove(&me);
        }
        state.restart(me);
        if self.breaks(Breakage::AttemptsNotHandedOn) {
            record.attempts.clear();
            record.voice = false; // or this would testify against them
        }
        if self.breaks(Breakage::EverybodyInherits) {
            for &to in &self.rules.nodes {
                if let Some(proxy) = record.proxies.get_mut(&me) {
                    proxy.to = to;
                }
                state.notes.insert((me, Some(to), record.clone()));
            }
        } else {
            state.notes.insert((me, None, record));
        }
        Some(())
    }

    fn crash(&self, state: &mut State, node: NodeId, written: bool) {
        state.left.crashes -= 1;
        let machine = state.at_mut(node);
        if written {
            machine.disk = machine.memory.clone();
        }
        if self.breaks(Breakage::RestartAbandons) {
            machine.disk.attempts.retain(|attempt| attempt.ballot.coordinator != node);
        }
        state.restart(node);
    }

    fn lose_disk(&self, state: &mut State, node: NodeId) {
        state.left.lost_disks -= 1;
        let formed = state.formed.clone();
        let machine = state.at_mut(node);
        machine.disk = Record { voice: self.breaks(Breakage::BlankDiskVotes), ..Record::default() };
        machine.lost = Some(formed);
        state.restart(node);
    }

    fn force(&self, state: &mut State, node: NodeId) {
        state.left.forced -= 1;
        let machine = state.at_mut(node);
        let lineage = machine.disk.lineage;
        machine.disk = machine.memory.force(node);
        if self.breaks(Breakage::LineageKept) {
            machine.disk.lineage = lineage;
        }
        let forced = machine.disk.clone();
        state.restart(node);
        state.formed.extend(forced.primary.map(|primary| (forced.lineage, primary)));
    }

    fn overtake(&self, state: &mut State, node: NodeId) {
        state.left.overtaken -= 1;
        let end = ViewId { epoch: u64::MAX, coordinator: node };
        let machine = state.at_mut(node);
        if self.breaks(Breakage::OvertakesItsOwn) {
            machine.memory.attempts.clear();
        }
        machine.memory.overtake(node, end);
        self.write(state, node);
    }

    fn sets_with(&self, node: NodeId) -> impl Iterator<Item = BTreeSet<NodeId>> {
        let nodes = &self.rules.nodes;
        (0u32..1 << nodes.len())
            .map(move |bits| {
                let of = (0..).zip(nodes).filter(move |(i, _)| bits & (1 << i) != 0);
                of.map(|(_, &node)| node).collect::<BTreeSet<_>>()
            })
            .filter(move |set| set.contains(&node))
    }
}

impl Model for Votes {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let first = Formed {
            ballot: ViewId { epoch: 1, coordinator: self.rules.nodes[0] },
            voters: self.rules.nodes.clone(),
        };
        let disk = if self.blank {
            Record::default()
        } else {
            let accepted = first.ballot;
            Record { primary: Some(first.clone()), accepted, voice: true, ..Record::default() }
        };
        vec![State {
            nodes: vec![Machine::new(disk); self.rules.nodes.len()],
            proposals: BTreeSet::new(),
            notes: BTreeSet::new(),
            left: self.budget,
            formed: if self.blank { BTreeSet::new() } else { BTreeSet::from([(0, first)]) },
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(state.proposals.iter().cloned().map(Action::Deliver));
        for &node in &self.rules.nodes {
            let machine = state.at(node);
            let acts = state.left.proposals > 0 || state.left.leaves > 0 || self.gossip;
            for (heard, after) in if acts { self.hearings(state, node) } else { Vec::new() } {
                if self.gossip && after != *machine {
                    actions.push(Action::Hear(node, heard.clone()));
                }
                if state.left.proposals > 0 {
                    let mut after = after;
                    after.give_up();
                    let claim = self.claim(&after, node, &heard);
                    let sets = self.sets_with(node).filter(|set| self.eligible(&claim, set));
                    actions.extend(sets.map(|set| Action::Propose(node, set, heard.clone())));
                }
                if state.left.leaves > 0 {
                    let heirs = self.rules.nodes.iter().filter(|&&heir| heir != node);
                    actions.extend(heirs.map(|&heir| Action::Leave(node, heir, heard.clone())));
                }
            }
            if machine.attempt.is_some() {
                actions.extend([Action::Abandon(node), Action::Form(node)]);
            }
            for attempt in &machine.memory.attempts {
                if state.formed.contains(&(machine.memory.lineage, attempt.clone())) {
                    actions.push(Action::Install(node, machine.memory.lineage, attempt.clone()));
                }
            }
            let unwritten = machine.memory != machine.disk;
            if self.slow_disk && unwritten {
                actions.push(Action::WriteIsDone(node));
            }
            if state.left.crashes > 0 && (unwritten || machine.attempt.is_some()) {
                actions.push(Action::Restart(node, false));
                if unwritten && machine.writing.is_empty() {
                    actions.push(Action::Restart(node, true));
                }
            }
            if state.left.lost_disks > 0 {
                actions.push(Action::LoseDisk(node));
            }
            if state.left.forced > 0 {
                actions.push(Action::ForcePrimary(node));
            }
            if state.left.overtaken > 0 && !machine.memory.attempts.is_empty() {
                actions.push(Action::Overtake(node));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Propose(node, members, heard) => {
                self.propose(&mut next, node, &members, &heard)?;
            }
            Action::Abandon(node) => next.at_mut(node).give_up(),
            Action::Deliver(proposal) => self.deliver(&mut next, &proposal)?,
            Action::Form(node) => self.form(&mut next, node)?,
            Action::Install(node, lineage, formed) => {
                next.at_mut(node).memory.install(node, lineage, &formed);
            }
            Action::Hear(node, heard) => {
                let believe_blank = self.breaks(Breakage::BlankDiskTestifies);
                next.at_mut(node).hear(node, &heard, believe_blank);
            }
            Action::WriteIsDone(node) => next.write_is_done(node),
            Action::Restart(node, written) => self.crash(&mut next, node, written),
            Action::Leave(node, heir, heard) => self.leave(&mut next, node, heir, &heard)?,
            Action::LoseDisk(node) => self.lose_disk(&mut next, node),
            Action::ForcePrimary(node) => self.force(&mut next, node),
            Action::Overtake(node) => self.overtake(&mut next, node),
        }
        if self.gossip {
            for &node in &self.rules.nodes {
                let (before, after) = (self.said(state.at(node)), self.said(next.at(node)));
                if before != after {
                    next.notes.insert((node, None, before));
                }
            }
        }
        next.forget_useless(self.breaks(Breakage::LowerAccepted));
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        match self.broken.map(Breakage::promise) {
            Some(EXCLUSIVE) => vec![Property::always(EXCLUSIVE, promise::exclusive)],
            Some(_) => vec![Property::always(REMEMBERED, promise::remembered)],
            None => {
                let mut properties = promise::reachable(self);
                properties.push(Property::always(EXCLUSIVE, promise::exclusive));
                properties.push(Property::always(REMEMBERED, promise::remembered));
                properties
            }
        }
    }
}
