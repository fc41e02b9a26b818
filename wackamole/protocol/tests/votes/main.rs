//! Explores every interleaving of proposals, losses, restarts and leaves over the voting code, within bounds.
//!
//! `model.rs` says what is a step, `promise.rs` what must hold after each, `breakage.rs` how the code can be broken. The
//! deep explorations run with `cargo test --release -p wackamole-protocol --test votes -- --ignored`.

mod breakage;
mod model;
mod promise;
mod state;

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use stateright::{Checker, HasDiscoveries, Model};
use wackamole_protocol::config::QuorumKind;

use breakage::Breakage;
use model::{Action, Budget, Votes};
use state::State;

/// No proposals, no faults.
const CALM: Budget =
    Budget { proposals: 0, crashes: 0, leaves: 0, lost_disks: 0, forced: 0, overtaken: 0 };

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
fn three_nodes_of_which_one_overtakes_what_it_has_heard_of() {
    let model = Votes::new(3, Budget { proposals: 2, overtaken: 1, crashes: 1, ..CALM });
    holds(Votes { gossip: true, ..Votes::new(2, model.budget) });
    holds(model);
    holds(Votes::new(3, Budget { proposals: 2, overtaken: 1, leaves: 1, ..CALM }));
    holds(Votes::new(3, Budget { proposals: 2, overtaken: 1, lost_disks: 1, ..CALM }));
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
#[ignore = "minutes and gigabytes"]
fn deep() {
    holds(Votes::new(3, Budget { proposals: 3, lost_disks: 1, ..CALM }));
    holds(Votes::new(3, Budget { proposals: 3, forced: 1, ..CALM }));
    let model = Votes::new(3, Budget { proposals: 2, crashes: 1, leaves: 1, ..CALM });
    holds(Votes { slow_disk: true, ..model });
    holds(Votes::new(4, Budget { proposals: 2, leaves: 1, ..CALM }));
}

#[test]
#[ignore = "a minute"]
fn the_most_hidden_breakage_is_found() {
    let model = Votes::new(3, Budget { proposals: 3, crashes: 1, ..CALM });
    let broken = Breakage::UnwrittenSaid;
    is_noticed(all_or_none(Votes { slow_disk: true, broken: Some(broken), ..model }), broken);
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
        (Breakage::LowerAccepted, three(Budget { proposals: 3, ..CALM })),
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
        (Breakage::OvertakesItsOwn, three(Budget { overtaken: 1, ..two_proposals })),
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

/// Random walks where there are too many states to see all of them.
#[test]
fn five_nodes_at_random() {
    let budget =
        Budget { proposals: 6, crashes: 3, leaves: 2, lost_disks: 1, forced: 0, overtaken: 2 };
    let model = Votes { slow_disk: true, ..Votes::new(5, budget) };
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let formed = Cell::new(0);
    let walks = prop::collection::vec(any::<(u32, prop::sample::Index)>(), 100);
    let outcome = runner.run(&walks, |choices| {
        let mut state = model.init_states().remove(0);
        for (kind, which) in choices {
            let Some(next) = step(&model, &state, kind, which) else { continue };
            state = next;
            prop_assert!(promise::exclusive(&model, &state), "{state:#?}");
            prop_assert!(promise::remembered(&model, &state), "{state:#?}");
        }
        formed.set(formed.get() + state.formed.len() - 1);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("5 nodes at random: {} views formed", formed.get());
    assert!(formed.get() > 50, "only {} views were formed", formed.get());
}

/// One step: first what kind of step, most often one that helps, then which.
fn step(model: &Votes, state: &State, kind: u32, which: prop::sample::Index) -> Option<State> {
    let mut actions = Vec::new();
    model.actions(state, &mut actions);
    let mut kinds: BTreeMap<u32, Vec<Action>> = BTreeMap::new();
    for action in actions {
        kinds.entry(action.weight()).or_default().push(action);
    }
    let mut at = kind % kinds.keys().sum::<u32>().max(1);
    let (_, mut alike) = kinds.into_iter().find(|(weight, _)| {
        let found = at < *weight;
        at = at.saturating_sub(*weight);
        found
    })?;
    model.next_state(state, alike.swap_remove(which.index(alike.len())))
}

fn holds(model: Votes) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let budget = model.budget;
    let checker = model.checker().spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}, {budget:?}: {states} states, depth {depth}");
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
