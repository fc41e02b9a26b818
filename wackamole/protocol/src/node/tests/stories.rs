//! One behaviour each, with three or so nodes.

use core::net::{IpAddr, Ipv4Addr};

use super::world::{Bait, Strike, World, ms};
use crate::config::{Partition, QuorumKind};
use crate::event::{Event, Reason};

fn serving(nodes: usize, vips: u8) -> World {
    let mut world = World::new(nodes, vips, 1);
    world.start_all();
    world.run(ms(3_000));
    world.assert_covered();
    world
}

fn views_since(world: &World, mark: usize) -> usize {
    world.log[mark..].iter().filter(|(_, _, e)| matches!(e, Event::ViewInstalled { .. })).count()
}

#[test]
fn a_cluster_that_starts_covers_everything_evenly_in_one_view() {
    let world = serving(3, 10);
    world.assert_balanced();
    assert_eq!(views_since(&world, 0), 3, "{}", world.story(100));
}

#[test]
fn a_lone_node_covers_everything() {
    serving(1, 10);
}

#[test]
fn when_a_machine_dies_its_vips_are_elsewhere_right_after_the_failure_timeout() {
    let mut world = serving(3, 9);
    world.power_loss(1);
    world.run(ms(400 + 6));
    world.assert_covered();
    world.assert_balanced();
}

#[test]
fn when_the_coordinator_dies_the_next_rank_takes_over_at_once() {
    let mut world = serving(3, 9);
    world.power_loss(0);
    world.run(ms(400 + 6));
    world.assert_covered();
}

#[test]
fn two_machines_lost_at_once_cost_one_timeout() {
    let mut world = serving(5, 20);
    world.power_loss(0);
    world.power_loss(3);
    world.run(ms(400 + 10));
    world.assert_covered();
}

#[test]
fn a_graceful_departure_hands_over_within_milliseconds() {
    for leaver in 0..3 {
        let mut world = serving(3, 9);
        world.leave(leaver);
        world.run(ms(8));
        assert!(!world.is_running(leaver), "{}", world.story(100));
        world.assert_covered();
    }
}

#[test]
fn the_last_one_to_leave_releases_everything() {
    let mut world = serving(1, 4);
    world.leave(0);
    world.run(ms(10));
    assert_eq!(world.holds(0), 0);
    assert!(!world.is_running(0));
}

#[test]
fn whoever_goes_with_something_still_there_does_not_say_that_it_has_left() {
    let mut world = serving(3, 9);
    world.operation_us = (20_000_000, 20_000_000);
    world.leave(1);
    world.run(ms(8_500));
    assert!(!world.is_running(1), "it does not wait for ever");
    let left = world.log.iter().any(|(_, _, event)| matches!(event, Event::PeerLeft { .. }));
    assert!(!left, "{}", world.story(40));
}

#[test]
fn a_joiner_gets_its_share_when_it_is_mature_and_the_interval_is_over() {
    let mut world = serving(3, 9);
    world.power_loss(2);
    world.run(ms(2_000));
    world.start(2);
    world.run(ms(400));
    assert_eq!(world.holds(2), 0);
    world.run(ms(2_500));
    world.assert_covered();
    world.assert_balanced();
    let moved = |e: &Event| matches!(e, Event::Acquired { reason: Reason::Balance, .. });
    assert_eq!(world.log.iter().filter(|(_, _, e)| moved(e)).count(), 3);
}

#[test]
fn a_restart_within_the_failure_timeout_is_noticed_at_once() {
    let mut world = serving(3, 9);
    world.start(1);
    world.run(ms(200));
    world.assert_covered();
}

#[test]
fn both_halves_cover_everything_and_agree_after_they_met() {
    let mut world = serving(4, 12);
    world.partition(&[&[0, 1], &[2, 3]]);
    world.run(ms(1_500));
    world.assert_covered();
    world.heal();
    world.run(ms(3_000));
    world.assert_covered();
    world.assert_balanced();
}

#[test]
fn two_halves_meet_within_a_heartbeat_and_a_few_round_trips() {
    let mut world = serving(4, 12);
    world.partition(&[&[0, 1], &[2, 3]]);
    world.run(ms(1_537));
    world.heal();
    world.run(ms(100 + 12));
    world.assert_covered();
}

#[test]
fn a_one_way_cut_drops_one_of_the_two_and_leaves_the_rest_alone() {
    let mut world = serving(3, 9);
    world.cut.insert((0, 1));
    world.run(ms(3_000));
    let held: Vec<usize> = (0..3).map(|i| world.holds(i)).collect();
    assert_eq!(held.iter().sum::<usize>(), 9, "{held:?}\n{}", world.story(200));
    assert!(held[0] == 0 || held[1] == 0, "{held:?}");
    world.heal();
    world.run(ms(3_000));
    world.assert_covered();
    world.assert_balanced();
}

#[test]
fn a_node_that_nobody_hears_lets_go() {
    let mut world = serving(3, 9);
    world.cut.insert((0, 1));
    world.cut.insert((0, 2));
    world.run(ms(3_000));
    assert_eq!(world.holds(0), 0, "{}", world.story(100));
    assert_eq!(world.holds(1) + world.holds(2), 9);
}

#[test]
fn a_node_that_was_stopped_lets_go_before_anything_else() {
    let mut world = serving(3, 9);
    world.pause(2, world.now + ms(2_000));
    world.run(ms(1_999));
    let (held, mark) = (world.holds(2), world.log.len());
    world.run(ms(5));
    let own: Vec<&Event> =
        world.log[mark..].iter().filter(|(_, i, _)| *i == 2).map(|(_, _, event)| event).collect();
    let position = |wanted: fn(&Event) -> bool| own.iter().position(|event| wanted(event));
    let lost = position(|event| matches!(event, Event::ViewLost { .. }));
    let accepted = position(|event| matches!(event, Event::Accepted { .. }));
    assert!(lost.is_some() && (accepted.is_none() || lost < accepted), "{}", world.story(60));
    // It is back in the view as soon as it has echoed the others, and has been given some of them back.
    let installed = position(|event| matches!(event, Event::ViewInstalled { .. }));
    assert!(installed.is_some(), "{}", world.story(60));
    let let_go = |event: &&&Event| matches!(event, Event::Released { reason: Reason::NoView, .. });
    assert_eq!(own.iter().filter(let_go).count(), held, "{}", world.story(60));
    world.run(ms(3_000));
    world.assert_covered();
    world.assert_balanced();
}

#[test]
fn a_lone_node_that_was_stopped_listens_before_it_takes_everything() {
    let mut world = serving(2, 6);
    world.power_loss(1);
    world.run(ms(1_000));
    world.pause(0, world.now + ms(3_000));
    world.run(ms(1_000));
    world.start(1);
    world.run(ms(2_100));
    let mark = world.log.len();
    world.run(ms(1_000));
    let alone = |e: &Event| matches!(e, Event::Proposed { members, .. } if members.len() == 1);
    assert!(!world.log[mark..].iter().any(|(_, i, e)| *i == 0 && alone(e)), "{}", world.story(60));
}

#[test]
fn a_quiet_cluster_stays_in_its_view() {
    let mut world = serving(5, 20);
    let mark = world.log.len();
    world.run(ms(60_000));
    assert_eq!(world.log.len(), mark, "{}", world.story(20));
}

#[test]
fn ten_per_cent_loss_changes_no_view() {
    let mut world = serving(5, 20);
    let mark = world.log.len();
    world.loss_percent = 10;
    world.run(ms(120_000));
    assert_eq!(views_since(&world, mark), 0, "{}", world.story(60));
}

#[test]
fn a_thousand_vips_fit() {
    let mut world = World::new(3, 250, 1);
    world.start_all();
    world.run(ms(3_000));
    world.assert_covered();
    world.power_loss(0);
    world.run(ms(420));
    world.assert_covered();
}

#[test]
fn a_permission_that_meets_a_broken_link_arrives_when_the_link_is_whole_again() {
    for length in (360..600).step_by(10) {
        let mut world = serving(3, 9);
        world.power_loss(2);
        world.run(ms(2_000));
        world.start(2);
        world.set_trap(Bait::Balance, Strike::Cut(1, 2));
        world.set_trap(Bait::Balance, Strike::Cut(2, 1));
        while world.cut.is_empty() {
            world.run(ms(1));
        }
        world.run(ms(length));
        world.heal();
        world.run(ms(5_000));
        world.assert_covered();
        world.assert_balanced();
    }
}

fn quorate(nodes: usize, vips: u8) -> World {
    let mut world = World::new(nodes, vips, 1).under(Partition::Quorum);
    world.start_all();
    world.run(ms(3_000));
    world.assert_covered();
    world
}

fn held_by(world: &World, nodes: &[usize]) -> usize {
    nodes.iter().map(|&i| world.holds(i)).sum()
}

#[test]
fn of_two_parts_only_the_primary_one_serves_and_it_does_so_within_the_failover_time() {
    let mut world = quorate(5, 10);
    world.partition(&[&[0, 1], &[2, 3, 4]]);
    world.run(ms(400 + 30));
    assert_eq!((held_by(&world, &[0, 1]), held_by(&world, &[2, 3, 4])), (0, 10));
    world.heal();
    world.run(ms(6_000));
    world.assert_covered();
    world.assert_balanced();
}

#[test]
fn a_cluster_that_shrinks_one_by_one_keeps_serving_down_to_the_last_but_the_second_may_not_come_alone()
 {
    let mut world = quorate(5, 10);
    for i in [4, 3, 2, 1] {
        world.power_loss(i);
        world.run(ms(2_000));
        world.assert_covered();
    }
    assert_eq!(world.holds(0), 10);
    world.power_loss(0);
    world.start(1);
    world.start(2);
    world.start(3);
    world.start(4);
    world.run(ms(5_000));
    assert_eq!(held_by(&world, &[1, 2, 3, 4]), 0, "the last primary view was a alone");
    world.start(0);
    world.run(ms(5_000));
    world.assert_covered();
}

#[test]
fn of_two_nodes_the_lower_rank_decides_unless_it_leaves() {
    let mut world = quorate(2, 4);
    world.partition(&[&[0], &[1]]);
    world.run(ms(2_000));
    assert_eq!((world.holds(0), world.holds(1)), (4, 0));

    let mut world = quorate(2, 4);
    world.leave(0);
    world.run(ms(2_000));
    assert_eq!(world.holds(1), 4, "{}", world.story(60));
    world.partition(&[&[0], &[1]]);
    world.start(0);
    world.run(ms(3_000));
    assert_eq!((world.holds(0), world.holds(1)), (0, 4), "its vote is with b");
}

#[test]
fn the_first_primary_view_takes_all_nodes_or_an_operator() {
    let mut world = World::new(3, 6, 1).under(Partition::Quorum);
    world.start(0);
    world.start(1);
    world.run(ms(3_000));
    assert_eq!(held_by(&world, &[0, 1]), 0);
    assert!(world.force_primary(1));
    world.run(ms(6_000));
    assert_eq!(held_by(&world, &[0, 1]), 6, "{}", world.story(60));
    world.start(2);
    world.run(ms(6_000));
    world.assert_covered();
    world.assert_balanced();
}

#[test]
fn a_witness_votes_and_holds_nothing() {
    let mut world = World::new(3, 6, 1).under(Partition::Quorum);
    world.config.nodes[2].witness = true;
    world.start_all();
    world.run(ms(3_000));
    assert_eq!(world.holds(2), 0);
    world.power_loss(0);
    world.run(ms(430));
    assert_eq!((world.holds(1), world.holds(2)), (6, 0));
}

#[test]
fn the_first_failover_of_a_new_cluster_takes_one_agreement() {
    let mut world = World::new(3, 6, 1).under(Partition::Quorum);
    world.start_all();
    world.run(ms(3_000)); // a heard from b and c that they had no vote, before all three got one
    let proposals = |world: &World| world.story(100_000).matches("a Proposed").count();
    let before = proposals(&world);
    world.power_loss(2);
    world.run(ms(430));
    assert_eq!(held_by(&world, &[0, 1]), 6, "{}", world.story(60));
    assert_eq!(proposals(&world) - before, 1, "{}", world.story(60));
}

#[test]
fn a_lost_disk_has_no_vote() {
    let mut world = quorate(3, 6);
    world.power_loss(1);
    world.lose_disk(1);
    world.partition(&[&[0], &[1, 2]]);
    world.start(1);
    world.run(ms(3_000));
    assert_eq!(
        held_by(&world, &[0, 1, 2]),
        0,
        "a alone is no majority, and b does not know whether it left"
    );
    world.heal();
    world.run(ms(6_000));
    world.assert_covered();
}

#[test]
fn a_frozen_node_is_silenced_at_the_end_of_its_lease_whatever_the_policy() {
    for partition in [Partition::Component, Partition::Lan, Partition::Quorum] {
        let mut world = World::new(3, 9, 1).under(partition);
        world.start_all();
        world.run(ms(3_000));
        world.pause(1, world.now + ms(10_000));
        world.run(ms(450));
        world.assert_covered();
        assert!(world.vips().into_iter().all(|vip| world.holders(vip).len() == 1));
        world.run(ms(12_000));
        world.assert_covered();
    }
}

#[test]
fn a_part_smaller_than_the_configured_minimum_serves_nothing() {
    let mut world = World::new(3, 6, 1).under(Partition::Quorum);
    world.config.safety.min_quorum = 2;
    world.start_all();
    world.run(ms(3_000));
    world.power_loss(2);
    world.run(ms(2_000));
    world.assert_covered();
    world.power_loss(1);
    world.run(ms(2_000));
    assert_eq!(world.holds(0), 0, "it could decide, were it not alone");
}

#[test]
fn whoever_is_given_a_vote_keeps_the_promises_that_came_with_it() {
    let mut world = quorate(3, 6);
    world.cut.extend([(0, 1), (1, 0)]);
    world.run(ms(350));
    // The third is still heard by the first only, and has just promised the second to stand by it.
    world.cut.insert((2, 1));
    world.leave(2);
    world.run(ms(2_000));
    assert_eq!((world.holds(0), world.holds(1)), (6, 0), "{}", world.story(60));
}

/// Everybody serves, and the witness has answered nobody yet.
fn with_a_witness(nodes: usize, quorum: QuorumKind) -> World {
    let mut world = World::new(nodes, 6, 1).under(Partition::Quorum);
    world.config.must_reach = vec![WITNESS];
    world.config.safety.quorum = quorum;
    world.start_all();
    world.run(ms(3_000));
    world.assert_covered(); // all of them need no witness
    world
}

const WITNESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

#[test]
fn whoever_loses_somebody_and_is_not_answered_by_the_witness_holds_nothing_until_it_is() {
    for quorum in [QuorumKind::Dynamic, QuorumKind::Static] {
        let mut world = with_a_witness(3, quorum);
        world.power_loss(2);
        world.run(ms(2_000));
        assert_eq!(held_by(&world, &[0, 1]), 0, "{}", world.story(60));
        let safety = world.status(0).safety;
        assert_eq!(safety.why_not.as_deref(), Some("none of must_reach answers: 192.0.2.1"));
        assert_eq!(safety.awaited, ["c"]);
        assert!(!safety.must_reach[0].answers);

        world.reach(0, true);
        world.run(ms(20));
        world.assert_covered();
        assert!(world.status(0).safety.must_reach[0].answers);
    }
}

#[test]
fn one_member_that_reaches_the_witness_is_enough() {
    for answered in 0..3 {
        let mut world = with_a_witness(4, QuorumKind::Dynamic);
        world.reach(answered, true);
        world.power_loss(3);
        // The lower ranks make a view that is not primary first.
        world.run(ms(400 + 10 + 400 * answered as u64));
        world.assert_covered();
    }
}

#[test]
fn a_witness_that_goes_takes_nothing_from_those_who_are_together() {
    let mut world = with_a_witness(3, QuorumKind::Dynamic);
    for i in 0..3 {
        world.reach(i, true);
    }
    world.power_loss(2);
    world.run(ms(1_000));
    world.assert_covered();
    let mark = world.log.len();
    for i in 0..2 {
        world.reach(i, false);
    }
    world.run(ms(3_000));
    world.assert_covered();
    assert_eq!(views_since(&world, mark), 0, "{}", world.story(60));

    // Nor from those who come back, nor from those who stay when somebody takes leave.
    world.start(2);
    world.run(ms(3_000));
    world.assert_covered();
    world.leave(1);
    world.run(ms(2_000));
    assert_eq!((held_by(&world, &[0, 2]), world.holds(1)), (6, 0), "{}", world.story(60));
}

#[test]
fn of_two_the_one_that_could_decide_is_disqualified_and_the_other_does_not_qualify() {
    let mut world = with_a_witness(2, QuorumKind::Dynamic);
    world.reach(1, true);
    world.partition(&[&[0], &[1]]);
    world.run(ms(2_000));
    assert_eq!(held_by(&world, &[0, 1]), 0, "{}", world.story(60));
    world.reach(0, true);
    world.run(ms(20));
    assert_eq!((world.holds(0), world.holds(1)), (6, 0));
}
