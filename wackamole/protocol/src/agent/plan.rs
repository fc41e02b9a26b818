//! The coordinator's book: who is a member, who has what, which moves are under way.
//!
//! Exists only on the coordinator of a view and is thrown away with the view. A VIP is moved again only after its owner
//! has said that it holds it, or that it has the permission and cannot use it: so there is at most one hand-over of a VIP at
//! a time, and the permission to hold it is in one place or in one message. Whatever somebody said as an earlier owner does
//! not count, however late it comes: each says which update it had followed by then.

use std::collections::{BTreeMap, BTreeSet};

use crate::assignment::{Candidate, Member, MemberSet, Move, Ownership, assign, balance};
use crate::event::Reason;
use crate::id::NodeId;
use crate::vip::VipId;

use super::message::{
    Change, Decision, Holding, MemberInfo, MemberState, Report, Update, Verdict, VipList,
};

pub(crate) struct Plan {
    members: Vec<MemberInfo>,
    /// Sorted by VIP.
    candidates: Vec<Candidate>,
    owners: BTreeMap<VipId, Ownership>,
    /// The update that made the owner, if it was not the decision.
    owned_by: BTreeMap<VipId, u64>,
    /// The owner has not said yet that it holds the VIP.
    moving: BTreeSet<VipId>,
    /// Under way when something changed about the members: to be judged again on arrival.
    judge_again: BTreeSet<VipId>,
    number: u64,
    /// Only a primary view has owners.
    primary: bool,
    /// All members define the same VIPs.
    uniform: Option<u64>,
}

impl Plan {
    /// Makes the book from the members' states, given in rank order. `own_vips` are the VIPs of the configuration with
    /// fingerprint `own_fingerprint`, in the order of their ids.
    pub(crate) fn new(
        states: &[(NodeId, MemberState)],
        own_vips: &[VipId],
        own_fingerprint: u64,
        primary: bool,
    ) -> Self {
        let mature_by_itself = states.iter().any(|(_, state)| state.mature);
        // Nobody is mature, but the cluster has been in service: whoever is left must not wait.
        let in_service = states.iter().any(|(_, state)| state.saw_mature);
        let members: Vec<MemberInfo> = states
            .iter()
            .map(|(id, state)| MemberInfo {
                id: *id,
                weight: state.weight,
                mature: state.mature || !mature_by_itself && in_service,
                draining: state.draining,
                fingerprint: state.fingerprint,
            })
            .collect();
        let mut candidates: BTreeMap<VipId, Candidate> = BTreeMap::new();
        for (member, (_, state)) in states.iter().enumerate() {
            let vips = match &state.vips {
                VipList::Listed(vips) => vips.as_slice(),
                VipList::Fingerprint(fingerprint) if *fingerprint == own_fingerprint => own_vips,
                VipList::Fingerprint(_) => &[],
            };
            for (position, &vip) in vips.iter().enumerate() {
                let candidate = candidates.entry(vip).or_insert_with(|| Candidate {
                    vip,
                    known_by: MemberSet::default(),
                    held_by: MemberSet::default(),
                    preferred: Vec::new(),
                    unable: MemberSet::default(),
                    locked: None,
                });
                candidate.known_by.insert(member);
                if state.held.contains(position) {
                    candidate.held_by.insert(member);
                }
                if state.unable.contains(position) {
                    candidate.unable.insert(member);
                }
            }
            for (position, preferred) in &state.preferred {
                let vip = usize::try_from(*position).ok().and_then(|p| vips.get(p));
                if let Some(candidate) = vip.and_then(|vip| candidates.get_mut(vip)) {
                    for node in preferred {
                        if !candidate.preferred.contains(node) {
                            candidate.preferred.push(*node);
                        }
                    }
                }
            }
        }
        let candidates: Vec<Candidate> = candidates.into_values().collect();
        let uniform = states
            .iter()
            .all(|(_, state)| state.fingerprint == own_fingerprint)
            .then_some(own_fingerprint);
        let mut plan = Self {
            members,
            candidates,
            owners: BTreeMap::new(),
            owned_by: BTreeMap::new(),
            moving: BTreeSet::new(),
            judge_again: BTreeSet::new(),
            number: 0,
            primary,
            uniform,
        };
        plan.owners = plan.assign();
        for candidate in &plan.candidates {
            let settled = plan
                .owner_position(candidate.vip)
                .is_none_or(|owner| candidate.held_by == only(owner));
            if !settled {
                plan.moving.insert(candidate.vip);
            }
        }
        plan
    }

    /// What to tell the members with the install.
    pub(crate) fn decision(&self) -> Decision {
        let vips = match self.uniform {
            Some(fingerprint) => VipList::Fingerprint(fingerprint),
            None => VipList::Listed(self.candidates.iter().map(|c| c.vip).collect()),
        };
        let verdicts = self
            .candidates
            .iter()
            .map(|candidate| Verdict {
                owner: self.owner_position(candidate.vip).map(narrow),
                reason: self.owners.get(&candidate.vip).map_or(Reason::Kept, |o| o.reason),
                holders: candidate.held_by.iter().map(narrow).collect(),
            })
            .collect();
        Decision { vips, members: self.members.clone(), verdicts }
    }

    /// A member tells what changed about it. Returns the moves that follow, if anything does.
    pub(crate) fn handle_report(&mut self, from: NodeId, report: &Report) -> Option<Update> {
        let position = self.position(from)?;
        let before = self.members.clone();
        let nobody_was_mature = self.members.iter().all(|member| !member.mature);
        let member = &mut self.members[position];
        member.mature |= report.mature;
        member.draining = report.draining;
        if report.mature && nobody_was_mature {
            // The cluster starts: when the first has waited long enough, all have.
            for member in &mut self.members {
                member.mature = true;
            }
        }
        let mut inability_changed = false;
        for candidate in &mut self.candidates {
            let unable = report.unable.contains(&candidate.vip);
            if unable == candidate.unable.contains(position) {
                continue;
            }
            inability_changed = true;
            if unable {
                candidate.unable.insert(position);
            } else {
                candidate.unable.remove(position);
            }
        }
        if before == self.members && !inability_changed {
            return None;
        }
        self.judge_again.clone_from(&self.moving);
        let changes = self.reassign();
        Some(self.update(changes))
    }

    /// A member tells what its kernel answers for. Moves that were wanted while the VIP was under way follow.
    pub(crate) fn handle_holding(&mut self, from: NodeId, holding: &Holding) -> Option<Update> {
        let position = self.position(from)?;
        let mut due = false;
        for released in &holding.released {
            if let Ok(index) = self.candidates.binary_search_by_key(&released.vip, |c| c.vip) {
                self.candidates[index].held_by.remove(position);
            }
        }
        let declined = holding.declined.iter().map(|vip| (vip, true));
        for (vip, declined) in holding.acquired.iter().map(|vip| (vip, false)).chain(declined) {
            let owns = self.owners.get(vip).is_some_and(|ownership| ownership.owner == from);
            if !owns || holding.number < self.owned_by.get(vip).copied().unwrap_or(0) {
                continue;
            }
            let moved = self.moving.remove(vip);
            due |= self.judge_again.remove(vip) || declined && moved;
            if let Ok(index) = self.candidates.binary_search_by_key(vip, |c| c.vip) {
                let held_by = if declined { MemberSet::default() } else { only(position) };
                self.candidates[index].held_by = held_by;
            }
        }
        if !due {
            return None;
        }
        let changes = self.reassign();
        (!changes.is_empty()).then(|| self.update(changes))
    }

    /// Evens out the load by at most `moves_max` moves.
    pub(crate) fn balance(&mut self, moves_max: Option<usize>) -> Option<Update> {
        let members = self.assignment_members();
        let mut candidates = self.current_candidates();
        // Whoever waits until it may acquire one would wait anew elsewhere.
        for candidate in &mut candidates {
            if !self.is_held(candidate) {
                candidate.locked = self.owners.get(&candidate.vip).map(|o| o.owner);
            }
        }
        let moves = balance(&members, &candidates, &self.owners, moves_max);
        if moves.is_empty() {
            return None;
        }
        let changes = moves
            .into_iter()
            .map(|Move { vip, from, to }| Change {
                vip,
                from: Some(from),
                to,
                reason: Reason::Balance,
            })
            .collect();
        Some(self.update(changes))
    }

    /// Hand-overs are still under way, or somebody has yet to acquire what it owns.
    pub(crate) fn is_moving(&self) -> bool {
        !self.moving.is_empty() || !self.candidates.iter().all(|c| self.is_held(c))
    }

    /// Its owner holds it, or it has none.
    fn is_held(&self, candidate: &Candidate) -> bool {
        let owner = self.owner_position(candidate.vip);
        owner.is_none_or(|owner| candidate.held_by.contains(owner))
    }

    fn assign(&self) -> BTreeMap<VipId, Ownership> {
        if !self.primary {
            return BTreeMap::new();
        }
        assign(&self.assignment_members(), &self.current_candidates())
    }

    /// What the rules want otherwise than it is.
    fn reassign(&self) -> Vec<Change> {
        self.assign()
            .into_iter()
            .filter_map(|(vip, wanted)| {
                let from = self.owners.get(&vip).map(|ownership| ownership.owner);
                (from != Some(wanted.owner)).then_some(Change {
                    vip,
                    from,
                    to: wanted.owner,
                    reason: wanted.reason,
                })
            })
            .collect()
    }

    fn update(&mut self, changes: Vec<Change>) -> Update {
        self.number += 1;
        for change in &changes {
            let ownership = Ownership { owner: change.to, reason: change.reason };
            self.owners.insert(change.vip, ownership);
            self.owned_by.insert(change.vip, self.number);
            self.moving.insert(change.vip);
        }
        Update { number: self.number, members: self.members.clone(), changes }
    }

    fn current_candidates(&self) -> Vec<Candidate> {
        self.candidates
            .iter()
            .cloned()
            .map(|mut candidate| {
                if self.moving.contains(&candidate.vip) {
                    candidate.locked = self.owners.get(&candidate.vip).map(|o| o.owner);
                }
                candidate
            })
            .collect()
    }

    fn assignment_members(&self) -> Vec<Member> {
        self.members
            .iter()
            .map(|member| Member {
                id: member.id,
                weight: member.weight,
                mature: member.mature,
                draining: member.draining,
            })
            .collect()
    }

    fn position(&self, id: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    fn owner_position(&self, vip: VipId) -> Option<usize> {
        self.position(self.owners.get(&vip)?.owner)
    }
}

fn only(position: usize) -> MemberSet {
    let mut set = MemberSet::default();
    set.insert(position);
    set
}

/// Positions of members fit a byte: the configuration allows fewer nodes.
fn narrow(position: usize) -> u8 {
    u8::try_from(position).unwrap_or(u8::MAX)
}
