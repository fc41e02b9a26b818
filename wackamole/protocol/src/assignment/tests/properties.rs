//! Properties, most of them against brute force over every possible assignment of a small cluster.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::notation::{Cluster, node};
use crate::assignment::{Candidate, Member, MemberSet, Move, Ownership, assign, balance};
use crate::event::Reason;
use crate::vip::VipId;

type Assignment = BTreeMap<VipId, Ownership>;

/// Anything at all, with up to four members and seven VIPs.
fn any_cluster() -> impl Strategy<Value = Cluster> {
    cluster_of(4, 7)
}

fn cluster_of(members_max: usize, vips_max: usize) -> impl Strategy<Value = Cluster> {
    (1..=members_max).prop_flat_map(move |count| {
        let candidates = prop::collection::vec(any_candidate(count), 0..=vips_max);
        (members(count, 0..4, true), candidates).prop_map(with_ids)
    })
}

/// Members that may own, of the given weights; VIPs that all know, each held by one or by nobody.
fn open_cluster(weights: core::ops::Range<u32>) -> impl Strategy<Value = Cluster> {
    (1..=3_usize).prop_flat_map(move |count| {
        let candidate = held_by_one(count).prop_map(move |held_by| Candidate {
            known_by: MemberSet::all(count),
            held_by,
            ..blank()
        });
        let candidates = prop::collection::vec(candidate, 0..=7);
        (members(count, weights.clone(), false), candidates).prop_map(with_ids)
    })
}

/// Members that may own, of equal weight; VIPs with any sets and holders, without preferences and locks.
fn restricted_cluster() -> impl Strategy<Value = Cluster> {
    (1..=3_usize).prop_flat_map(|count| {
        let candidate = any_candidate(count).prop_map(|candidate| Candidate {
            preferred: Vec::new(),
            locked: None,
            ..candidate
        });
        let candidates = prop::collection::vec(candidate, 0..=7);
        (members(count, 1..2, false), candidates).prop_map(with_ids)
    })
}

/// Members that may own; VIPs that only neighbours and the holder know, most of them with the first members, so that many
/// have to be passed along.
fn chain_cluster(members_max: usize, vips_max: usize) -> impl Strategy<Value = Cluster> {
    (2..=members_max).prop_flat_map(move |count| {
        let candidate = (0..count - 1, 1..5_usize).prop_map(|(link, concentration)| {
            let holder = link / concentration;
            Candidate {
                known_by: [holder, link, link + 1].into_iter().collect(),
                held_by: [holder].into_iter().collect(),
                ..blank()
            }
        });
        let candidates = prop::collection::vec(candidate, 0..=vips_max);
        (members(count, 1..5, false), candidates).prop_map(with_ids)
    })
}

fn members(
    count: usize,
    weights: core::ops::Range<u32>,
    any_state: bool,
) -> impl Strategy<Value = Vec<Member>> {
    let state = move |often| prop::bool::weighted(if any_state { often } else { 0.0 });
    prop::collection::vec((weights, state(0.2), state(0.2)), count).prop_map(|states| {
        let member = |(letter, (weight, immature, draining)): (_, (_, bool, _))| Member {
            id: node(letter),
            weight,
            mature: !immature,
            draining,
        };
        ('a'..).zip(states).map(member).collect()
    })
}

fn any_candidate(members: usize) -> impl Strategy<Value = Candidate> {
    let set = move |often| {
        prop::collection::vec(prop::bool::weighted(often), members)
            .prop_map(|bits| (0..).zip(bits).filter(|(_, bit)| *bit).map(|(i, _)| i).collect())
    };
    // Letters beyond the members': nodes that are configured and not there.
    let letter = move || (0..=members as u8).prop_map(|i| node((b'a' + i) as char));
    let preferred = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(letter(), 1..3),
    ];
    let locked = prop_oneof![6 => Just(None), 1 => letter().prop_map(Some)];
    (set(0.8), prop_oneof![held_by_one(members), set(0.4)], preferred, set(0.2), locked).prop_map(
        |(known_by, held_by, preferred, unable, locked)| Candidate {
            vip: VipId(0),
            known_by,
            held_by,
            preferred,
            unable,
            locked,
        },
    )
}

fn held_by_one(members: usize) -> impl Strategy<Value = MemberSet> {
    (0..=members).prop_map(move |holder| (holder..members).take(1).collect())
}

fn with_ids((members, mut candidates): (Vec<Member>, Vec<Candidate>)) -> Cluster {
    for (candidate, id) in candidates.iter_mut().zip(1..) {
        candidate.vip = VipId(id);
    }
    Cluster { members, candidates }
}

fn blank() -> Candidate {
    Candidate {
        vip: VipId(0),
        known_by: MemberSet::new(),
        held_by: MemberSet::new(),
        preferred: Vec::new(),
        unable: MemberSet::new(),
        locked: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_vip_is_owned_if_and_only_if_somebody_can(cluster in any_cluster()) {
        let assignment = cluster.assign();
        for (candidate, (_, ownership)) in cluster.candidates.iter().zip(&assignment) {
            let somebody = (0..cluster.members.len()).any(|m| {
                let member = &cluster.members[m];
                let may_own = member.mature && !member.draining;
                candidate.locked == Some(member.id)
                    || candidate.known_by.contains(m)
                        && (may_own || candidate.held_by.contains(m))
            });
            prop_assert_eq!(ownership.is_some(), somebody, "{:?}", candidate);
        }
    }

    #[test]
    fn nobody_owns_what_it_should_not(cluster in any_cluster()) {
        let assignment = assign(&cluster.members, &cluster.candidates);
        for candidate in &cluster.candidates {
            let Some(&Ownership { owner, .. }) = assignment.get(&candidate.vip) else { continue };
            if candidate.locked == Some(owner) {
                continue;
            }
            let index = position(&cluster, owner);
            let better_exists =
                (0..cluster.members.len()).any(|m| fine_holder(&cluster, candidate, m) || eligible(&cluster, candidate, m));
            prop_assert!(candidate.known_by.contains(index));
            prop_assert!(may_own(&cluster, index) || candidate.held_by.contains(index));
            if better_exists {
                prop_assert!(
                    fine_holder(&cluster, candidate, index) || eligible(&cluster, candidate, index),
                    "{:?} owns {:?}", owner, candidate
                );
            }
        }
    }

    #[test]
    fn the_order_of_the_vips_does_not_matter(
        (cluster, shuffled) in any_cluster().prop_flat_map(|cluster| {
            let shuffled = Just(cluster.candidates.clone()).prop_shuffle();
            (Just(cluster), shuffled)
        }),
        limit in prop::option::of(0..4_usize),
    ) {
        let assignment = assign(&cluster.members, &cluster.candidates);
        prop_assert_eq!(&assignment, &assign(&cluster.members, &shuffled));
        prop_assert_eq!(
            balance(&cluster.members, &cluster.candidates, &assignment, limit),
            balance(&cluster.members, &shuffled, &assignment, limit)
        );
    }

    #[test]
    fn a_vip_leaves_a_single_fine_holder_only_for_a_preferred_member(cluster in any_cluster()) {
        let assignment = assign(&cluster.members, &cluster.candidates);
        for candidate in cluster.candidates.iter().filter(|c| c.held_by.len() == 1) {
            let holder = candidate.held_by.iter().next().unwrap();
            let locked = candidate.locked.is_some_and(|id| cluster.members.iter().any(|m| m.id == id));
            if !fine_holder(&cluster, candidate, holder) || locked {
                continue;
            }
            let Ownership { owner, reason } = assignment[&candidate.vip];
            if owner == cluster.members[holder].id {
                prop_assert_eq!(reason, Reason::Kept);
            } else {
                prop_assert_eq!(reason, Reason::Preferred);
                prop_assert!(candidate.preferred.contains(&owner));
            }
        }
    }

    #[test]
    fn a_settled_assignment_stays(mut cluster in any_cluster()) {
        let first = assign(&cluster.members, &cluster.candidates);
        cluster.settle(&first);
        let second = assign(&cluster.members, &cluster.candidates);
        prop_assert_eq!(owners(&first), owners(&second));

        let (balanced, _) = in_rounds(&cluster, &second, None);
        cluster.settle(&balanced);
        let third = assign(&cluster.members, &cluster.candidates);
        prop_assert_eq!(owners(&balanced), owners(&third));
        prop_assert_eq!(balance(&cluster.members, &cluster.candidates, &third, None), vec![]);
    }

    /// With equal weights the least sum of squares is the most even of all that the rules leave open.
    #[test]
    fn whatever_is_open_is_assigned_as_evenly_as_possible(cluster in restricted_cluster()) {
        let assignment = assign(&cluster.members, &cluster.candidates);
        let choices: Vec<_> = cluster.candidates.iter().map(|c| open_choices(&cluster, c)).collect();
        let best = every_choice(&choices).map(|owners| squares(&cluster, owners.into_iter().flatten())).min();
        let found = squares(&cluster, assignment.values().map(|o| position(&cluster, o.owner)));
        prop_assert_eq!(Some(found), best, "{:?}", assignment);
    }

    /// Every member has its share by weight rounded down or up, and no assignment that does so is nearer.
    #[test]
    fn balance_gives_everybody_its_share_with_the_fewest_moves(cluster in open_cluster(1..5)) {
        let before = assign(&cluster.members, &cluster.candidates);
        let (after, moves) = in_rounds(&cluster, &before, None);

        prop_assert!(is_fair(&cluster, after.values().map(|o| position(&cluster, o.owner))));
        let everybody: Vec<_> = (0..cluster.members.len()).map(Some).collect();
        let choices = vec![everybody; cluster.candidates.len()];
        let fewest = every_choice(&choices)
            .filter(|owners| is_fair(&cluster, owners.iter().flatten().copied()))
            .map(|owners| distance(&cluster, &before, &owners))
            .min();
        prop_assert_eq!(Some(moves.len()), fewest, "{:?}", moves);
    }

    /// The same where sets are restricted: as even as possible, then the fewest moves.
    #[test]
    fn balance_does_its_best_where_sets_are_restricted(
        cluster in prop_oneof![restricted_cluster(), chain_cluster(5, 7)],
    ) {
        let before = assign(&cluster.members, &cluster.candidates);
        let (after, moves) = in_rounds(&cluster, &before, None);

        let choices: Vec<_> = cluster
            .candidates
            .iter()
            .map(|candidate| {
                let Some(ownership) = before.get(&candidate.vip) else { return vec![None] };
                let owner = position(&cluster, ownership.owner);
                let may_go = |&m: &usize| m == owner || eligible(&cluster, candidate, m);
                (0..cluster.members.len()).filter(may_go).map(Some).collect()
            })
            .collect();
        let best = every_choice(&choices)
            .map(|owners| {
                let moves = distance(&cluster, &before, &owners);
                (unevenness(&cluster, owners.into_iter().flatten()), moves)
            })
            .min();
        let found = unevenness(&cluster, after.values().map(|o| position(&cluster, o.owner)));
        prop_assert_eq!(Some((found, moves.len())), best, "{:?}", moves);
    }

    #[test]
    fn a_balance_in_rounds_moves_the_same_number_and_none_twice(
        cluster in prop_oneof![any_cluster(), cluster_of(9, 60), chain_cluster(9, 60)],
        limit in 1..6_usize,
    ) {
        let before = assign(&cluster.members, &cluster.candidates);
        let (at_once, all) = in_rounds(&cluster, &before, None);
        let (in_steps, moves) = in_rounds(&cluster, &before, Some(limit));

        prop_assert_eq!(moves.len(), all.len());
        prop_assert_eq!(moves.iter().map(|m| m.vip).collect::<BTreeSet<_>>().len(), moves.len());
        prop_assert_eq!(balance(&cluster.members, &cluster.candidates, &at_once, None), vec![]);
        prop_assert_eq!(balance(&cluster.members, &cluster.candidates, &in_steps, None), vec![]);
    }

    #[test]
    fn an_assignment_between_the_rounds_changes_nothing(
        mut cluster in prop_oneof![any_cluster(), cluster_of(9, 60), chain_cluster(9, 60)],
        limit in 1..6_usize,
    ) {
        let mut assignment = assign(&cluster.members, &cluster.candidates);
        let (_, all) = in_rounds(&cluster, &assignment, None);

        let mut moved = 0;
        while moved < all.len() {
            let moves = balance(&cluster.members, &cluster.candidates, &assignment, Some(limit));
            prop_assert!(!moves.is_empty());
            moved += moves.len();
            for Move { vip, to, .. } in moves {
                assignment.insert(vip, Ownership { owner: to, reason: Reason::Balance });
            }
            cluster.settle(&assignment);
            let again = assign(&cluster.members, &cluster.candidates);
            prop_assert_eq!(owners(&again), owners(&assignment));
            assignment = again;
        }
        prop_assert_eq!(moved, all.len());
        prop_assert_eq!(balance(&cluster.members, &cluster.candidates, &assignment, None), vec![]);
    }

    #[test]
    fn balance_moves_nothing_that_must_stay(cluster in any_cluster()) {
        let before = assign(&cluster.members, &cluster.candidates);
        for Move { vip, from, to } in balance(&cluster.members, &cluster.candidates, &before, None) {
            let candidate = cluster.candidates.iter().find(|c| c.vip == vip).unwrap();
            prop_assert_eq!(before[&vip].owner, from);
            prop_assert_ne!(from, to);
            prop_assert!(!candidate.preferred.contains(&from));
            prop_assert!(candidate.locked.is_none_or(|id| cluster.members.iter().all(|m| m.id != id)));
            prop_assert!(eligible(&cluster, candidate, position(&cluster, to)));
        }
    }

    /// Counts divided by weights differ by at most one (P3).
    #[test]
    fn weighted_counts_differ_by_at_most_one(
        weights in prop::collection::vec(1..6_u32, 1..12),
        vips in 0..120_u64,
        holders in any::<u64>(),
    ) {
        let count = weights.len();
        let members: Vec<_> = ('a'..)
            .zip(&weights)
            .map(|(letter, &weight)| Member { id: node(letter), weight, mature: true, draining: false })
            .collect();
        let candidates = (0..vips)
            .map(|vip| Candidate {
                vip: VipId(vip),
                known_by: MemberSet::all(count),
                held_by: [(holders.rotate_left(7 * vip as u32) % count as u64) as usize].into_iter().collect(),
                ..blank()
            })
            .collect();
        let cluster = Cluster { members, candidates };
        let before = assign(&cluster.members, &cluster.candidates);
        let (after, _) = in_rounds(&cluster, &before, None);

        let counts = counts(&cluster, after.values().map(|o| position(&cluster, o.owner)));
        for (&more, &heavy) in counts.iter().zip(&weights) {
            for (&less, &light) in counts.iter().zip(&weights) {
                let (heavy, light) = (heavy as usize, light as usize);
                prop_assert!(more * light <= less * heavy + heavy * light, "{:?} by {:?}", counts, weights);
            }
        }
    }
}

/// Applies rounds until nothing moves.
fn in_rounds(
    cluster: &Cluster,
    before: &Assignment,
    limit: Option<usize>,
) -> (Assignment, Vec<Move>) {
    let (mut assignment, mut all) = (before.clone(), Vec::new());
    loop {
        let moves = balance(&cluster.members, &cluster.candidates, &assignment, limit);
        assert!(limit.is_none_or(|limit| moves.len() <= limit));
        if moves.is_empty() || limit.is_none() && !all.is_empty() {
            assert_eq!(moves, vec![], "one call without a limit is enough");
            return (assignment, all);
        }
        for &Move { vip, from, to } in &moves {
            let ownership = Ownership { owner: to, reason: Reason::Balance };
            assert_eq!(assignment.insert(vip, ownership).unwrap().owner, from);
        }
        all.extend(moves);
        assert!(all.len() <= cluster.candidates.len(), "it ends");
    }
}

/// Every way to choose one of each.
fn every_choice<T: Copy>(choices: &[Vec<T>]) -> impl Iterator<Item = Vec<T>> + '_ {
    let ways: usize = choices.iter().map(Vec::len).product();
    (0..ways).map(move |mut way| {
        let pick = |of: &Vec<T>| {
            let picked = of[way % of.len()];
            way /= of.len();
            picked
        };
        choices.iter().map(pick).collect()
    })
}

/// What the rules leave open for a VIP where all members may own and there are no preferences.
fn open_choices(cluster: &Cluster, candidate: &Candidate) -> Vec<Option<usize>> {
    let those = |wanted: &dyn Fn(usize) -> bool| -> Vec<_> {
        (0..cluster.members.len()).filter(|&m| wanted(m)).map(Some).collect()
    };
    let known_by = |m| candidate.known_by.contains(m);
    let by_rule = [
        those(&|m| fine_holder(cluster, candidate, m)),
        those(&|m| eligible(cluster, candidate, m)),
        those(&|m| known_by(m) && candidate.held_by.contains(m)),
        those(&known_by),
    ];
    by_rule.into_iter().find(|choice| !choice.is_empty()).unwrap_or(vec![None])
}

fn may_own(cluster: &Cluster, member: usize) -> bool {
    cluster.members[member].mature && !cluster.members[member].draining
}

fn eligible(cluster: &Cluster, candidate: &Candidate, member: usize) -> bool {
    may_own(cluster, member)
        && candidate.known_by.contains(member)
        && !candidate.unable.contains(member)
}

fn fine_holder(cluster: &Cluster, candidate: &Candidate, member: usize) -> bool {
    candidate.held_by.contains(member)
        && candidate.known_by.contains(member)
        && !candidate.unable.contains(member)
        && !cluster.members[member].draining
}

fn position(cluster: &Cluster, id: crate::id::NodeId) -> usize {
    cluster.members.iter().position(|m| m.id == id).unwrap()
}

fn owners(assignment: &Assignment) -> BTreeMap<VipId, crate::id::NodeId> {
    assignment.iter().map(|(&vip, ownership)| (vip, ownership.owner)).collect()
}

fn counts(cluster: &Cluster, owners: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut counts = vec![0; cluster.members.len()];
    owners.for_each(|owner| counts[owner] += 1);
    counts
}

fn squares(cluster: &Cluster, owners: impl Iterator<Item = usize>) -> usize {
    counts(cluster, owners).into_iter().map(|count| count * count).sum()
}

/// With all weights from 1 to 4: everything beyond a fair share, by count and weight, the worst first; then whatever lacks.
fn unevenness(cluster: &Cluster, owners: impl Iterator<Item = usize>) -> Vec<(u8, usize)> {
    let counts = counts(cluster, owners);
    let sum: usize = cluster.members.iter().map(|m| m.weight as usize).sum();
    let total: usize = counts.iter().sum();
    let mut units = Vec::new();
    for (member, count) in cluster.members.iter().zip(counts) {
        let weight = member.weight as usize;
        units.extend((1..=count).map(|nth| {
            // The exact share is total × weight ÷ sum, and 12 is divisible by every weight.
            let by_weight = nth * 12 / weight;
            match () {
                () if nth * sum <= total * weight => (0, by_weight),
                () if (nth - 1) * sum < total * weight => (1, 0),
                () => (2, by_weight),
            }
        }));
    }
    units.sort_by_key(|&unit| core::cmp::Reverse(unit));
    units
}

fn is_fair(cluster: &Cluster, owners: impl Iterator<Item = usize>) -> bool {
    let counts = counts(cluster, owners);
    let sum: usize = cluster.members.iter().map(|m| m.weight as usize).sum();
    let total: usize = counts.iter().sum();
    cluster.members.iter().zip(counts).all(|(member, count)| {
        let product = total * member.weight as usize;
        // Less than one away from the exact share.
        (count * sum).abs_diff(product) < sum
    })
}

fn distance(cluster: &Cluster, before: &Assignment, owners: &[Option<usize>]) -> usize {
    let moved = |(candidate, owner): (&Candidate, &Option<usize>)| {
        let previous = before.get(&candidate.vip).map(|o| position(cluster, o.owner));
        previous != *owner
    };
    cluster.candidates.iter().zip(owners).filter(|&pair| moved(pair)).count()
}
