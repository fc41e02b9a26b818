//! Random faults, invariants after every step; then calm, and everything must be well again.

use proptest::prelude::*;

use super::world::{World, ms};
use crate::config::Partition;

#[derive(Clone, Debug)]
enum Fault {
    PowerLoss(usize),
    Kill(usize),
    Start(usize),
    Leave(usize),
    Pause(usize, u64),
    Partition(u32),
    /// One way only.
    Cut(usize, usize),
    Heal,
    Loss(u64),
    Slow(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => (0usize..5).prop_map(Fault::PowerLoss),
        1 => (0usize..5).prop_map(Fault::Kill),
        4 => (0usize..5).prop_map(Fault::Start),
        1 => (0usize..5).prop_map(Fault::Leave),
        1 => (0usize..5, 1u64..2_000).prop_map(|(i, ms)| Fault::Pause(i, ms)),
        2 => any::<u32>().prop_map(Fault::Partition),
        1 => (0usize..5, 0usize..5).prop_map(|(from, to)| Fault::Cut(from, to)),
        3 => Just(Fault::Heal),
        1 => (0u64..20).prop_map(Fault::Loss),
        1 => (1u64..20).prop_map(Fault::Slow),
    ]
}

fn apply(world: &mut World, fault: &Fault) {
    let size = world.size();
    match *fault {
        Fault::PowerLoss(i) => world.power_loss(i % size),
        Fault::Kill(i) => world.stop_daemon(i % size),
        Fault::Start(i) => world.start(i % size),
        Fault::Leave(i) => world.leave(i % size),
        Fault::Pause(i, length) => world.pause(i % size, world.now + ms(length)),
        Fault::Partition(mask) => {
            let (left, right): (Vec<usize>, Vec<usize>) =
                (0..size).partition(|i| mask >> i & 1 == 0);
            world.partition(&[&left, &right]);
        }
        Fault::Cut(from, to) => world.cut_one_way(from % size, to % size),
        Fault::Heal => world.heal(),
        Fault::Loss(percent) => world.lose(percent),
        Fault::Slow(milliseconds) => world.latency_us = (100, milliseconds * 1_000),
    }
}

pub(super) fn policy() -> impl Strategy<Value = Partition> {
    prop_oneof![Just(Partition::Component), Just(Partition::Lan), Just(Partition::Quorum)]
}

fn weather(partition: Partition, size: usize, seed: u64, faults: &[(Fault, u64)]) {
    let mut world = World::new(size, 8, seed).under(partition);
    world.start_all();
    world.run(ms(1_500));
    for (fault, pause) in faults {
        apply(&mut world, fault);
        world.run(ms(*pause));
    }
    world.loss_percent = 0;
    world.latency_us = (100, 900);
    world.heal();
    world.run(ms(2_500));
    for i in 0..size {
        if !world.is_running(i) {
            world.start(i);
        }
    }
    world.run(ms(5_000));
    world.assert_covered();
    world.assert_balanced();
}

#[test]
fn a_proposal_that_its_proposer_has_given_up_delays_no_merge() {
    let faults = [
        (Fault::Leave(2), 1),
        (Fault::PowerLoss(1), 401),
        (Fault::Start(1), 11),
        (Fault::Pause(0, 500), 1),
    ];
    weather(Partition::Component, 3, 0, &faults);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_vip_is_twice_in_a_component_and_calm_restores_everything(
        partition in policy(),
        size in 2usize..6,
        seed in any::<u64>(),
        faults in proptest::collection::vec((fault(), 1u64..1_500), 1..12),
    ) {
        weather(partition, size, seed, &faults);
    }
}
