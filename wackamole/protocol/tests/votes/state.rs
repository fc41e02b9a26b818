//! What there is at one moment: disks, memories, messages on their way, and the views that were ever formed.

use std::collections::BTreeSet;

use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::vote::{Attempt, Claim, Formed, Record};

use crate::model::Budget;

/// Who said what.
pub(crate) type Heard = Vec<(NodeId, Record)>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) nodes: Vec<Machine>,
    pub(crate) proposals: BTreeSet<Proposal>,
    /// What was said and may be heard late: by whom, and if not by everybody, to whom.
    pub(crate) notes: BTreeSet<(NodeId, Option<NodeId>, Record)>,
    pub(crate) left: Budget,
    /// Every primary view that was ever formed, with its lineage. No node knows this.
    pub(crate) formed: BTreeSet<(u64, Formed)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Machine {
    pub(crate) disk: Record,
    pub(crate) memory: Record,
    /// Accepts that wait for the disk; its own too.
    pub(crate) writing: BTreeSet<ViewId>,
    pub(crate) attempt: Option<Attempt>,
    /// Once its disk was lost: what had been formed by then. Its ballots start high after that, because the start counter is
    /// guarded by the calendar.
    pub(crate) lost: Option<BTreeSet<(u64, Formed)>>,
}

/// A proposal on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Proposal {
    pub(crate) to: NodeId,
    pub(crate) ballot: ViewId,
    pub(crate) members: BTreeSet<NodeId>,
    pub(crate) claim: Claim,
    /// Sent after a disk was lost, so that it names the new incarnation of that node.
    pub(crate) after_loss: bool,
}

impl State {
    pub(crate) fn at(&self, node: NodeId) -> &Machine {
        &self.nodes[node.0 as usize - 1]
    }

    pub(crate) fn at_mut(&mut self, node: NodeId) -> &mut Machine {
        &mut self.nodes[node.0 as usize - 1]
    }

    /// The epochs of a node's ballots that are known anywhere.
    pub(crate) fn ballots_of(&self, node: NodeId) -> impl Iterator<Item = u64> {
        let records = self.nodes.iter().flat_map(|n| [&n.disk, &n.memory]);
        let records = records.chain(self.notes.iter().map(|(_, _, record)| record));
        let records = records.chain(self.proposals.iter().map(|proposal| &proposal.claim.record));
        let ballots = records
            .flat_map(|record| record.views().map(|view| view.ballot).chain([record.accepted]))
            .chain(self.proposals.iter().map(|proposal| proposal.ballot))
            .chain(self.formed.iter().map(|(_, view)| view.ballot));
        ballots.filter(move |ballot| ballot.coordinator == node).map(|ballot| ballot.epoch)
    }

    pub(crate) fn write_is_done(&mut self, node: NodeId) {
        let machine = self.at_mut(node);
        machine.disk = machine.memory.clone();
        for ballot in std::mem::take(&mut machine.writing) {
            self.accept(node, ballot);
        }
    }

    /// An accept leaves. It is of use only while the attempt lasts.
    pub(crate) fn accept(&mut self, from: NodeId, ballot: ViewId) {
        let record = self.at(from).memory.clone();
        if let Some(attempt) = &mut self.at_mut(ballot.coordinator).attempt
            && attempt.formed().ballot == ballot
        {
            attempt.accepted_by(from, &record);
        }
    }

    pub(crate) fn restart(&mut self, node: NodeId) {
        let machine = self.at_mut(node);
        let lost = machine.lost.take();
        *machine = Machine { lost, ..Machine::new(machine.disk.clone()) };
        self.proposals.retain(|proposal| proposal.to != node);
    }

    /// Who accepts or proposes a view hears its members in the incarnations that it names, and nothing any more from earlier
    /// ones. That matters only where the earlier one remembered more.
    pub(crate) fn end_replaced(&mut self, node: NodeId, members: &BTreeSet<NodeId>) {
        let mut proposals = std::mem::take(&mut self.proposals);
        proposals.retain(|proposal| {
            let from = proposal.ballot.coordinator;
            let replaced = members.contains(&from) && self.at(from).lost.is_some();
            proposal.to != node || proposal.after_loss || !replaced
        });
        self.proposals = proposals;
    }

    /// Drops proposals that will never be accepted.
    pub(crate) fn forget_useless(&mut self, lower: bool) {
        let mut proposals = std::mem::take(&mut self.proposals);
        proposals.retain(|proposal| {
            let memory = &self.at(proposal.to).memory;
            (proposal.ballot > memory.accepted || lower)
                && proposal.claim.record.lineage >= memory.lineage
                && proposal.claim.record.primary.as_ref().map(|primary| primary.ballot)
                    >= memory.primary.as_ref().map(|primary| primary.ballot)
        });
        self.proposals = proposals;
    }
}

impl Machine {
    pub(crate) fn new(disk: Record) -> Self {
        let (memory, writing) = (disk.clone(), BTreeSet::new());
        Self { disk, memory, writing, attempt: None, lost: None }
    }

    pub(crate) fn give_up(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.abandon(&mut self.memory);
        }
    }

    pub(crate) fn hear(&mut self, me: NodeId, heard: &Heard, believe_blank: bool) {
        let mut heard = heard.clone();
        for (_, said) in &mut heard {
            said.voice |= believe_blank;
        }
        let said: Vec<_> = heard.iter().map(|(from, record)| (*from, record)).collect();
        self.memory.learn(me, &said);
        if self.attempt.as_ref().is_some_and(|attempt| attempt.lineage() < self.memory.lineage) {
            self.attempt = None;
        }
    }
}
