//! What the stories are told with: a cluster whose records and proposals travel by hand, and names of one letter.

use std::collections::BTreeSet;

use crate::config::QuorumKind;
use crate::id::{NodeId, ViewId};
use crate::vote::*;

/// Records of nodes, and proposals that travel by hand.
pub(super) struct Cluster {
    pub(super) rules: Rules,
    pub(super) records: std::collections::BTreeMap<NodeId, Record>,
    pub(super) mute: BTreeSet<NodeId>,
}

pub(super) struct Proposed {
    pub(super) ballot: ViewId,
    pub(super) members: BTreeSet<NodeId>,
    pub(super) claim: Claim,
    pub(super) attempt: Attempt,
}

impl Cluster {
    /// All are members of view 1, which the first of them formed.
    pub(super) fn of(nodes: &str) -> Self {
        let first = view(1, nodes);
        let record = Record {
            accepted: first.ballot,
            primary: Some(first),
            voice: true,
            ..Record::default()
        };
        let records = nodes.chars().map(|c| (node(c), record.clone())).collect();
        Self { rules: rules(nodes), records, mute: BTreeSet::new() }
    }

    pub(super) fn record(&self, name: &str) -> &Record {
        &self.records[&only(name)]
    }

    pub(super) fn record_mut(&mut self, name: &str) -> &mut Record {
        self.records.get_mut(&only(name)).expect("a configured node")
    }

    pub(super) fn claim(&self, name: &str) -> Claim {
        Claim { record: self.record(name).clone(), mute: self.mute.clone() }
    }

    pub(super) fn eligible(&self, name: &str, members: &str) -> Result<(), WhyNot> {
        eligible(&self.claim(name), &set(members), &self.rules)
    }

    pub(super) fn propose(
        &mut self,
        name: &str,
        members: &str,
        epoch: u64,
    ) -> Result<Proposed, Refusal> {
        let (ballot, members) = (ViewId { epoch, coordinator: only(name) }, set(members));
        let (claim, rules) = (self.claim(name), self.rules.clone());
        let record = self.record_mut(name);
        let mut attempt = Attempt::begin(record, &claim, ballot, &members, &rules)?;
        attempt.accepted_by(ballot.coordinator, record);
        Ok(Proposed { ballot, members, claim, attempt })
    }

    pub(super) fn accept(&mut self, proposed: &Proposed, name: &str) -> Result<(), Refusal> {
        let Proposed { ballot, members, claim, .. } = proposed;
        match judge(self.record(name), claim, *ballot, members, only(name), &self.rules) {
            Verdict::Accept(record) => *self.record_mut(name) = record,
            Verdict::Refuse(refusal) => return Err(refusal),
        }
        Ok(())
    }

    pub(super) fn install(&mut self, proposed: &Proposed, name: &str) {
        let (lineage, formed) = (proposed.attempt.lineage(), proposed.attempt.formed());
        self.record_mut(name).install(only(name), lineage, formed);
    }

    pub(super) fn tell(&mut self, from: &str, to: &str) {
        let record = self.record(from).clone();
        self.record_mut(to).learn(only(to), &[(only(from), &record)]);
    }
}

pub(super) fn awaited(refusal: &Refusal) -> BTreeSet<NodeId> {
    match refusal {
        Refusal::Ineligible(why_not) => why_not.awaited(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn node(letter: char) -> NodeId {
    NodeId(letter.into())
}

pub(super) fn only(name: &str) -> NodeId {
    node(name.chars().next().expect("a name"))
}

pub(super) fn set(letters: &str) -> BTreeSet<NodeId> {
    letters.chars().map(node).collect()
}

pub(super) fn letters(nodes: &BTreeSet<NodeId>) -> String {
    nodes.iter().filter_map(|node| char::from_u32(node.0)).collect()
}

pub(super) fn ballot(epoch: u64, coordinator: u32) -> ViewId {
    ViewId { epoch, coordinator: NodeId(coordinator) }
}

/// A view of these, by the first of them.
pub(super) fn view(epoch: u64, voters: &str) -> Formed {
    view_by(epoch, voters, voters)
}

pub(super) fn view_by(epoch: u64, coordinator: &str, voters: &str) -> Formed {
    let ballot = ViewId { epoch, coordinator: only(coordinator) };
    Formed { ballot, voters: voters.chars().map(node).collect() }
}

/// Pairs of leaver and heir.
pub(super) fn proxies(pairs: &str, up_to: u64) -> Proxies {
    let letters: Vec<char> = pairs.chars().collect();
    let up_to = ViewId { epoch: up_to, coordinator: node('a') };
    letters.chunks_exact(2).map(|p| (node(p[0]), Proxy { to: node(p[1]), up_to })).collect()
}

pub(super) fn rules(nodes: &str) -> Rules {
    let nodes = nodes.chars().map(node).collect();
    Rules { kind: QuorumKind::Dynamic, min_quorum: 1, nodes, witness_ok: true }
}
