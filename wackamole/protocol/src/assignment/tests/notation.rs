//! The notation of the table tests, and a cluster that follows its assignments.

use std::collections::BTreeMap;

use crate::assignment::{Candidate, Member, MemberSet, Move, Ownership, assign, balance};
use crate::id::NodeId;
use crate::vip::VipId;

#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) members: Vec<Member>,
    pub(super) candidates: Vec<Candidate>,
}

impl Cluster {
    pub(super) fn parse(members: &str, vips: &str) -> Self {
        let members: Vec<_> = members.split_whitespace().map(parse_member).collect();
        let candidates = vips.split_whitespace().map(|word| parse_vip(&members, word)).collect();
        Self { members, candidates }
    }

    /// The owner of every VIP, none where nobody can own it.
    pub(super) fn assign(&self) -> BTreeMap<VipId, Option<Ownership>> {
        let assignment = assign(&self.members, &self.candidates);
        self.candidates.iter().map(|c| (c.vip, assignment.get(&c.vip).copied())).collect()
    }

    /// Lets the holders be whom an assignment names.
    pub(super) fn settle(&mut self, assignment: &BTreeMap<VipId, Ownership>) {
        for candidate in &mut self.candidates {
            let owner = assignment.get(&candidate.vip).map(|ownership| ownership.owner);
            candidate.held_by = MemberSet::of(&self.members, owner);
        }
    }
}

pub(super) fn balanced(cluster: &Cluster) -> String {
    balanced_with(cluster, None)
}

pub(super) fn balanced_with(cluster: &Cluster, moves_max: Option<usize>) -> String {
    let assignment = assign(&cluster.members, &cluster.candidates);
    let moves = balance(&cluster.members, &cluster.candidates, &assignment, moves_max);
    let show = |m: Move| format!("{}:{}>{}", vip(m.vip), letter(m.from), letter(m.to));
    moves.into_iter().map(show).collect::<Vec<_>>().join(" ")
}

pub(super) fn owners(assignment: &BTreeMap<VipId, Option<Ownership>>) -> String {
    let mut by_owner: Vec<(String, Vec<String>)> = Vec::new();
    // In the order in which the VIPs name them would be hard to read: by letter, the unowned last.
    let mut letters: Vec<_> =
        assignment.values().map(|o| o.map_or('-', |o| letter(o.owner))).collect();
    letters.sort_by_key(|&letter| (letter == '-', letter));
    letters.dedup();
    for wanted in letters {
        let vips = assignment
            .iter()
            .filter(|(_, o)| o.map_or('-', |o| letter(o.owner)) == wanted)
            .map(|(&id, _)| vip(id));
        by_owner.push((wanted.to_string(), vips.collect()));
    }
    let show = |(owner, vips): (String, Vec<String>)| format!("{owner}:{}", vips.join(","));
    by_owner.into_iter().map(show).collect::<Vec<_>>().join(" ")
}

pub(super) fn reasons(assignment: &BTreeMap<VipId, Option<Ownership>>) -> String {
    let show = |(&id, ownership): (&VipId, &Option<Ownership>)| match ownership {
        Some(Ownership { owner, reason }) => {
            format!("{}:{} {}", vip(id), letter(*owner), format!("{reason:?}").to_lowercase())
        }
        None => format!("{}:-", vip(id)),
    };
    assignment.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn parse_member(word: &str) -> Member {
    let (name, rest) = word.split_at(1);
    let (rest, draining) = strip(rest, "!");
    let (rest, immature) = strip(rest, "~");
    let weight = rest.strip_prefix('*').map_or(1, |weight| weight.parse().unwrap());
    Member { id: node(name.chars().next().unwrap()), weight, mature: !immature, draining }
}

fn strip<'a>(word: &'a str, suffix: &str) -> (&'a str, bool) {
    word.strip_suffix(suffix).map_or((word, false), |rest| (rest, true))
}

fn parse_vip(members: &[Member], word: &str) -> Candidate {
    let mut parts: BTreeMap<char, Vec<NodeId>> = BTreeMap::new();
    let start = word.find(|c| "@>-?=".contains(c)).unwrap_or(word.len());
    let (name, rest) = word.split_at(start);
    let mut part = None;
    for c in rest.chars() {
        if "@>-?=".contains(c) {
            part = Some(parts.entry(c).or_default());
        } else {
            part.as_mut().unwrap().push(node(c));
        }
    }
    let set = |c| MemberSet::of(members, parts.get(&c).cloned().unwrap_or_default());
    Candidate {
        vip: VipId(name.strip_prefix('v').unwrap().parse().unwrap()),
        known_by: if parts.contains_key(&'?') { set('?') } else { MemberSet::all(members.len()) },
        held_by: set('@'),
        preferred: parts.get(&'>').cloned().unwrap_or_default(),
        unable: set('-'),
        locked: parts.get(&'=').map(|ids| ids[0]),
    }
}

pub(super) fn node(letter: char) -> NodeId {
    NodeId(letter as u32)
}

fn letter(id: NodeId) -> char {
    char::from_u32(id.0).unwrap()
}

fn vip(id: VipId) -> String {
    format!("v{}", id.0)
}
