//! Table tests, in a notation of one line for the members and one for the VIPs.
//!
//! Members in rank order, by one letter each: `a` mature with weight 1, `b*3` with weight 3, `c~` not yet mature, `d!`
//! draining. VIPs by number: `v1` held by nobody, `v1@ab` held by a and b; then, in any order, `>ba` preferred by b, else
//! a; `-c` c is unable; `?ab` known by a and b only; `=a` a move to a is under way. The outcome is `a:v1,v2 b:v3`,
//! unowned VIPs at the end as `-:v4`; with reasons one VIP each, `v1:a kept`.

mod notation;
mod properties;

use super::{Candidate, Member, MemberSet, assign, balance};
use crate::id::NodeId;
use crate::vip::VipId;
use notation::{Cluster, balanced, balanced_with, owners, reasons};

#[track_caller]
fn check(members: &str, vips: &str, expected: &str) {
    assert_eq!(owners(&Cluster::parse(members, vips).assign()), expected, "{members} | {vips}");
}

#[track_caller]
fn check_reason(members: &str, vip: &str, expected: &str) {
    assert_eq!(reasons(&Cluster::parse(members, vip).assign()), expected, "{members} | {vip}");
}

/// Assigns, then balances without a limit: the expectation names each move as `v1:a>b`.
#[track_caller]
fn check_moves(members: &str, vips: &str, expected: &str) {
    assert_eq!(balanced(&Cluster::parse(members, vips)), expected, "{members} | {vips}");
}

#[test]
fn a_fresh_cluster_is_even() {
    check("a b c", "v1 v2 v3", "a:v1 b:v2 c:v3");
    check("a b c", "v1 v2 v3 v4", "a:v1,v4 b:v2 c:v3");
    check("c b a", "v1 v2 v3 v4", "a:v3 b:v2 c:v1,v4");
    check("a", "v1 v2", "a:v1,v2");
    check("a b", "", "");
    check("", "v1", "-:v1");
}

#[test]
fn what_a_lost_member_held_goes_to_the_least_loaded() {
    check("a b", "v1@a v2@b v3", "a:v1,v3 b:v2");
    check("a b", "v1@a v2@a v3@b v4 v5", "a:v1,v2,v5 b:v3,v4");
    check("a b c", "v1@a v2@a v3@a v4 v5", "a:v1,v2,v3 b:v4 c:v5");
}

#[test]
fn a_single_holder_keeps_it_however_uneven() {
    check("a b", "v1@a v2@a v3@a v4@a", "a:v1,v2,v3,v4");
    check("a~ b", "v1@a", "a:v1");
    check("a*0 b", "v1@a", "a:v1");
    check_reason("a b", "v1@b", "v1:b kept");
}

#[test]
fn nobody_gets_what_it_does_not_know_or_is_not_ready_for() {
    check("a~ b", "v1 v2", "b:v1,v2");
    check("a! b", "v1 v2", "b:v1,v2");
    check("a b", "v1-a v2-a", "b:v1,v2");
    check("a b", "v1?b v2?b v3", "a:v3 b:v1,v2");
    check("a b", "v1?", "-:v1");
    check("a~ b!", "v1", "-:v1");
    check("a~ b", "v1?a", "-:v1");
}

#[test]
fn the_preferred_member_has_it_while_it_is_up() {
    check_reason("a b", "v1@a>b", "v1:b preferred");
    check_reason("a b", "v1@b>b", "v1:b kept");
    check_reason("a b", "v1>b", "v1:b preferred");
    check_reason("a b c", "v1@b>cb", "v1:c preferred");
    check_reason("a b c!", "v1@a>cb", "v1:b preferred");
    check_reason("a b c~", "v1@a>c", "v1:a kept");
    check_reason("a b c", "v1@a>c-c", "v1:a kept");
    check_reason("a b c", "v1@a>c?ab", "v1:a kept");
    check_reason("a b", "v1@a>x", "v1:a kept");
}

#[test]
fn a_preferred_holder_keeps_it_before_it_is_mature() {
    check_reason("a~ b", "v1@a>ab", "v1:a kept");
    check_reason("a~ b", "v1@b>ab", "v1:b kept");
    check_reason("a~ b", "v1@ab>a", "v1:a conflict");
}

#[test]
fn preferred_vips_do_not_count_as_load() {
    check("a b", "v1>a v2>a v3>a v4 v5", "a:v1,v2,v3,v4 b:v5");
    check("a b", "v1@a>a v2@a>a v3@b v4", "a:v1,v2,v4 b:v3");
}

#[test]
fn after_a_merge_one_holder_keeps_each_so_that_all_is_even() {
    check_reason("a b", "v1@ab", "v1:a conflict");
    check_reason("a b", "v1@ab>b", "v1:b conflict");
    check("a b", "v1@ab v2@ab v3@ab v4@ab", "a:v1,v3 b:v2,v4");
    check("a b", "v1@a v2@a v3@ab v4@ab", "a:v1,v2 b:v3,v4");
    // One by one in their order, v1 would go to b, which is needed for the later ones.
    check("a b c", "v1@bc v2@bc v3@ab v4@ab v5@ab v6@ab", "a:v3,v4 b:v5,v6 c:v1,v2");
    check("a b", "v1@ab v2@a", "a:v2 b:v1");
    // The unheld one makes up for it.
    check("a b", "v1@ab v2", "a:v1 b:v2");
    check("a b c", "v1@ab v2@ab v3@ab v4", "a:v1,v3 b:v2 c:v4");
}

#[test]
fn after_a_merge_members_that_shall_not_own_give_way() {
    check_reason("a~ b", "v1@ab", "v1:b conflict");
    check_reason("a! b", "v1@ab", "v1:b conflict");
    check_reason("a b", "v1@ab-a", "v1:b conflict");
    check_reason("a*0 b", "v1@ab", "v1:b conflict");
    check_reason("a*0 b~", "v1@ab", "v1:a conflict");
    check("a~ b~ c", "v1@ab v2@ab", "a:v1 b:v2");
}

#[test]
fn a_draining_or_unable_holder_gives_way() {
    check_reason("a! b", "v1@a", "v1:b drain");
    check_reason("a b", "v1@a-a", "v1:b unable");
    check_reason("a! b", "v1@a-a", "v1:b unable");
    check_reason("a! b c", "v1@ab-b", "v1:c drain");
    check("a! b c", "v1@a v2@a v3@b v4@a", "b:v2,v3 c:v1,v4");
}

#[test]
fn the_last_holder_keeps_it_if_nobody_is_better() {
    check_reason("a! b~", "v1@a", "v1:a kept");
    check_reason("a b~", "v1@a-a", "v1:a kept");
    check_reason("a b", "v1@a-ab", "v1:a kept");
    check_reason("a! b", "v1@ab-b", "v1:a conflict");
    check_reason("a! b!", "v1@ab>b", "v1:b conflict");
    check("a! b! c~", "v1@ab v2@ab", "a:v1 b:v2");
}

#[test]
fn an_unable_member_is_better_than_none() {
    check_reason("a b~", "v1-a", "v1:a uncovered");
    check("a b", "v1-ab v2-ab", "a:v1 b:v2");
    check("a b", "v1-ab>b", "b:v1");
    check("a! b~", "v1-ab", "-:v1");
}

#[test]
fn a_move_under_way_is_not_disturbed() {
    check_reason("a b c", "v1@a=b", "v1:b kept");
    check_reason("a b c", "v1@a=b>c", "v1:b kept");
    check_reason("a b!", "v1@a=b", "v1:b kept");
    check_reason("a b", "v1@a=x", "v1:a kept");
    check("a b", "v1=b v2", "a:v2 b:v1");
}

#[test]
fn weights_share_the_load() {
    check("a b*2", "v1 v2 v3 v4 v5 v6", "a:v2,v5 b:v1,v3,v4,v6");
    check("a*2 b*2", "v1 v2 v3", "a:v1,v3 b:v2");
    check("a*0 b", "v1 v2", "b:v1,v2");
    check("a*0 b", "v1-b v2", "a:v1 b:v2");
    check("a*0 b", "v1>a v2", "a:v1 b:v2");
    check("a*0 b*0", "v1 v2", "a:v1 b:v2");
    check("a*0 b*3!", "v1 v2", "a:v1,v2");
    // Counts divided by weights alone would give the first ten of these to a, whose share is eight.
    check_moves("a*10 b c d e f", "v1 v2 v3 v4 v5 v6 v7 v8 v9 v10 v11 v12", "");
    check("a*4294967295 b", "v1 v2 v3", "a:v1,v2,v3");
}

#[test]
fn balance_moves_the_fewest() {
    check_moves("a b", "v1@a v2@a v3@b v4@b", "");
    check_moves("a b", "v1@a v2@a v3@b", "");
    check_moves("a b", "v1@a v2@b v3@b", "");
    check_moves("a b", "v1@a v2@a v3@a", "v3:a>b");
    check_moves("a b c", "v1@a v2@a v3@a v4@b v5@b v6@b", "v3:a>c v6:b>c");
    // Of seven somebody has three: one of those that have.
    check_moves("a b c", "v1@b v2@b v3@b v4@c v5@c v6@c v7@c", "v7:c>a v6:c>a");
    check_moves("a b c", "v1@a v2@a v3@a v4@a v5@a v6@a v7@a", "v7:a>b v5:a>c v6:a>b v4:a>c");
}

#[test]
fn balance_goes_by_weight() {
    check_moves("a*2 b", "v1@b v2@b v3@b", "v3:b>a v2:b>a");
    check_moves("a*0 b", "v1@a v2@a", "v2:a>b v1:a>b");
    check_moves("a*0 b", "v1@a v2@a-b", "v1:a>b");
    check_moves("a*0 b*0", "v1@a v2@a", "v2:a>b");
}

#[test]
fn balance_leaves_alone_what_is_pinned_or_locked_or_not_its_business() {
    check_moves("a b", "v1@a>a v2@a>a v3@a>a", "");
    check_moves("a b", "v1@a>ab v2@a v3@a", "v3:a>b");
    check_moves("a b", "v1@a=a v2@a=a v3@a", "v3:a>b");
    check_moves("a b", "v1@a=a v2@a=a", "");
    check_moves("a b", "v1@a-b v2@a-b v3@a?a", "");
    check_moves("a b~ c!", "v1@a v2@a v3@a", "");
    check_moves("a~ b c", "v1@a v2@a v3@a v4@b v5@b", "v5:b>c");
}

#[test]
fn balance_goes_round_corners_where_sets_are_restricted() {
    // c knows only what b has, and b can take from a.
    check_moves("a b c", "v1@a?ab v2@a?ab v3@b?bc", "v2:a>b v3:b>c");
    check_moves("a b c", "v1@a?ab v2@a?ab v3@a?ab v4@a?ab v5@c?c", "v4:a>b v3:a>b");
}

#[test]
fn a_round_takes_from_the_most_loaded_for_the_least_loaded() {
    let cluster = Cluster::parse("a b c d", "v1@a v2@a v3@a v4@b v5@b v6@b v7@b v8@b");
    assert_eq!(balanced_with(&cluster, Some(0)), "");
    assert_eq!(balanced_with(&cluster, Some(1)), "v8:b>c");
    assert_eq!(balanced_with(&cluster, Some(2)), "v8:b>c v6:b>d");
    assert_eq!(balanced_with(&cluster, None), "v8:b>c v6:b>d v3:a>d v7:b>c");
}

#[test]
fn more_members_than_a_word_has_bits_share_alike() {
    let member = |id| Member { id: NodeId(id), weight: 1, mature: true, draining: false };
    let members: Vec<_> = (1..=70).map(member).collect();
    let candidate = |vip| Candidate {
        vip: VipId(vip),
        known_by: MemberSet::all(70),
        held_by: [69].into_iter().collect(),
        preferred: Vec::new(),
        unable: MemberSet::new(),
        locked: None,
    };
    let candidates: Vec<_> = (1..=140).map(candidate).collect();

    let assignment = assign(&members, &candidates);
    assert!(assignment.values().all(|ownership| ownership.owner == NodeId(70)));
    let moves = balance(&members, &candidates, &assignment, None);

    let mut targets: Vec<_> = moves.iter().map(|m| m.to.0).collect();
    targets.sort_unstable();
    assert_eq!(targets, (1..=69).flat_map(|id| [id, id]).collect::<Vec<_>>());
}

#[test]
fn members_that_do_not_exist_are_passed_over() {
    let mut cluster = Cluster::parse("a b", "v1 v2@b");
    cluster.candidates[0].known_by = MemberSet::all(100);
    cluster.candidates[0].held_by = [2, 99].into_iter().collect();

    assert_eq!(owners(&cluster.assign()), "a:v1 b:v2");
    assert_eq!(balanced(&cluster), "");
}
