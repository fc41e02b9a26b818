//! Explores every interleaving of proposals, losses, restarts and leaves over the voting code, within bounds.
//!
//! `model.rs` says what is a step, `promise.rs` what must hold after each, `breakage.rs` how the code can be broken. The
//! deep explorations run with `cargo test --release -p wackamole-protocol --test votes -- --ignored`.

mod breakage;
mod model;
mod promise;

use stateright::{Checker, HasDiscoveries, Model};
use wackamole_protocol::config::QuorumKind;

use breakage::Breakage;
use model::{Budget, Votes};

/// No proposals, no faults.
const CALM: Budget = Budget { proposals: 0, crashes: 0, leaves: 0, lost_disks: 0, forced: 0 };

#[test]
fn three_nodes_with_a_crash() {
    holds(Votes::new(3, Budget { proposals: 3, crashes: 1, ..CALM }));
}

#[test]
fn three_nodes_with_a_slow_disk() {
    let model = Votes::new(3, Budget { proposals: 2, crashes: 1, ..CALM });
    holds(Votes { slow_disk: true, ..model });
}

#[test]
fn three_nodes_of_which_one_leaves() {
    holds(Votes::new(3, Budget { proposals: 2, crashes: 1, leaves: 1, ..CALM }));
}

#[test]
fn three_nodes_of_which_two_leave() {
    holds(Votes::new(3, Budget { proposals: 1, leaves: 2, ..CALM }));
}

#[test]
fn three_nodes_of_which_one_loses_its_disk() {
    holds(Votes::new(3, Budget { proposals: 2, crashes: 1, lost_disks: 1, ..CALM }));
}

#[test]
fn three_nodes_of_which_one_is_forced() {
    holds(Votes::new(3, Budget { proposals: 2, forced: 1, ..CALM }));
}

#[test]
fn three_nodes_that_start_for_the_first_time() {
    let model = Votes::new(3, Budget { proposals: 2, crashes: 1, ..CALM });
    holds(Votes { blank: true, ..model });
}

#[test]
fn two_nodes_that_hear_old_news() {
    let model = Votes::new(2, Budget { proposals: 2, crashes: 1, ..CALM });
    holds(Votes { gossip: true, ..model });
}

#[test]
fn four_nodes() {
    holds(Votes::new(4, Budget { proposals: 2, crashes: 1, ..CALM }));
}

#[test]
fn four_nodes_of_which_one_leaves() {
    holds(Votes::new(4, Budget { proposals: 1, leaves: 1, ..CALM }));
}

#[test]
fn static_majority_of_four_nodes() {
    holds(fixed(Votes::new(4, Budget { proposals: 2, crashes: 1, ..CALM })));
}

#[test]
#[ignore = "ten minutes and ten gigabytes"]
fn deep() {
    holds(Votes::new(3, Budget { proposals: 3, lost_disks: 1, ..CALM }));
    let model = Votes::new(3, Budget { proposals: 2, crashes: 1, leaves: 1, ..CALM });
    holds(Votes { slow_disk: true, ..model });
    holds(Votes::new(4, Budget { proposals: 2, leaves: 1, ..CALM }));
}

#[test]
fn every_breakage_is_found() {
    let three = |budget| Votes::new(3, budget);
    let slow = |budget| Votes { slow_disk: true, ..three(budget) };
    let two_proposals = Budget { proposals: 2, ..CALM };
    let crash = Budget { crashes: 1, ..two_proposals };
    let leave = Budget { leaves: 1, ..two_proposals };
    let lost_disk = Budget { lost_disks: 1, ..two_proposals };
    for (broken, model) in [
        (Breakage::AttemptForgotten, three(two_proposals)),
        (Breakage::AttemptsIgnored, three(two_proposals)),
        (Breakage::AcceptBeforeWrite, slow(crash)),
        (Breakage::OwnAcceptBeforeWrite, slow(crash)),
        (Breakage::TieForBoth, Votes::new(4, two_proposals)),
        (Breakage::StaticHalf, fixed(Votes::new(4, two_proposals))),
        (Breakage::LeaverForgets, three(leave)),
        (Breakage::EverybodyInherits, three(leave)),
        (Breakage::AttemptsNotHandedOn, three(leave)),
        (Breakage::VoteGivenForEver, three(leave)),
        (Breakage::BlankDiskVotes, three(lost_disk)),
        (Breakage::BlankDiskTestifies, three(Budget { proposals: 3, ..lost_disk })),
        (Breakage::RestartAbandons, three(crash)),
        (Breakage::AbandonedAfterInstall, three(two_proposals)),
        (Breakage::UnwrittenSaid, all_or_none(slow(Budget { proposals: 3, ..crash }))),
        (Breakage::LineageKept, three(Budget { forced: 1, ..CALM })),
    ] {
        is_noticed(Votes { broken: Some(broken), ..model }, broken);
    }
}

fn all_or_none(mut model: Votes) -> Votes {
    model.rules.min_quorum = model.rules.nodes.len();
    model
}

fn fixed(mut model: Votes) -> Votes {
    model.rules.kind = QuorumKind::Static;
    model
}

fn holds(model: Votes) {
    let (nodes, budget) = (model.rules.nodes.len(), model.budget);
    let checker = model.checker().spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{nodes} nodes, {budget:?}: {states} states, depth {depth}");
    assert!(checker.is_done());
    checker.assert_properties();
}

fn is_noticed(model: Votes, broken: Breakage) {
    let checker = model.checker().finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let states = checker.unique_state_count();
    let Some(path) = checker.discovery(broken.promise()) else {
        panic!("{broken:?} is not noticed in {states} states");
    };
    println!("{broken:?}: {} steps, {states} states", path.into_actions().len());
}
