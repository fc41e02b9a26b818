//! The second storm: kernels that fail, take long or lose addresses, datagrams that come again much later, clocks that
//! jump, configurations that differ, and strikes at the very moment at which something is decided.

use proptest::prelude::*;

use super::storm::policy;
use super::world::{Bait, Strike, World, ms};
use crate::config::Partition;
use crate::id::NodeId;

#[derive(Clone, Debug)]
enum Fault {
    PowerLoss(usize),
    Start(usize),
    Leave(usize),
    Pause(usize, u64),
    Partition(u32),
    Cut(usize, usize),
    Heal,
    Loss(u64),
    /// An acquire fails, of a hundred so many.
    Fail(u64),
    /// The kernel takes up to so many milliseconds.
    SlowKernel(u64),
    Vanish(usize, usize),
    /// So many old datagrams arrive again within so many milliseconds.
    Replay(u64, u64),
    Jump(usize, u64),
    Trap(Bait, Strike),
}

fn strike() -> impl Strategy<Value = Strike> {
    prop_oneof![
        2 => (0usize..5).prop_map(Strike::PowerLoss),
        2 => (0usize..5, 1u64..2_000).prop_map(|(i, ms)| Strike::Pause(i, ms)),
        2 => (0usize..5, 0usize..5).prop_map(|(from, to)| Strike::Cut(from, to)),
        1 => (0usize..5).prop_map(Strike::Leave),
    ]
}

fn bait() -> impl Strategy<Value = Bait> {
    use Bait::{Accepted, Acquired, Balance, Installed, Proposed, Released};
    prop_oneof![
        Just(Balance),
        Just(Proposed),
        Just(Accepted),
        Just(Installed),
        Just(Released),
        Just(Acquired)
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => (0usize..5).prop_map(Fault::PowerLoss),
        4 => (0usize..5).prop_map(Fault::Start),
        1 => (0usize..5).prop_map(Fault::Leave),
        1 => (0usize..5, 1u64..2_000).prop_map(|(i, ms)| Fault::Pause(i, ms)),
        1 => any::<u32>().prop_map(Fault::Partition),
        1 => (0usize..5, 0usize..5).prop_map(|(from, to)| Fault::Cut(from, to)),
        3 => Just(Fault::Heal),
        1 => (0u64..20).prop_map(Fault::Loss),
        2 => (0u64..80).prop_map(Fault::Fail),
        2 => (1u64..600).prop_map(Fault::SlowKernel),
        2 => (0usize..5, 0usize..8).prop_map(|(i, nth)| Fault::Vanish(i, nth)),
        2 => (1u64..400, 1u64..2_000).prop_map(|(count, ms)| Fault::Replay(count, ms)),
        1 => (0usize..5, 1u64..5_000).prop_map(|(i, ms)| Fault::Jump(i, ms)),
        3 => (bait(), strike()).prop_map(|(bait, strike)| Fault::Trap(bait, strike)),
    ]
}

fn within(size: usize, strike: Strike) -> Strike {
    match strike {
        Strike::PowerLoss(i) => Strike::PowerLoss(i % size),
        Strike::Pause(i, length) => Strike::Pause(i % size, length),
        Strike::Cut(from, to) => Strike::Cut(from % size, to % size),
        Strike::Leave(i) => Strike::Leave(i % size),
    }
}

fn apply(world: &mut World, fault: &Fault) {
    let size = world.size();
    match *fault {
        Fault::PowerLoss(i) => world.power_loss(i % size),
        Fault::Start(i) => world.start(i % size),
        Fault::Leave(i) if world.is_running(i % size) => world.leave(i % size),
        Fault::Leave(_) => {}
        Fault::Pause(i, length) => world.pause(i % size, world.now + ms(length)),
        Fault::Partition(mask) => {
            let (left, right): (Vec<usize>, Vec<usize>) =
                (0..size).partition(|i| mask >> i & 1 == 0);
            world.partition(&[&left, &right]);
        }
        Fault::Cut(from, to) => world.cut_one_way(from % size, to % size),
        Fault::Heal => world.heal(),
        Fault::Loss(percent) => world.lose(percent),
        Fault::Fail(percent) => world.fail_percent = percent,
        Fault::SlowKernel(most) => world.operation_us = (100, most * 1_000),
        Fault::Vanish(i, nth) => world.vanish(i % size, nth),
        Fault::Replay(count, length) => world.replay(count, ms(length)),
        // Leases rest on clocks whose rates agree: there a clock that shows so much more has not run meanwhile.
        Fault::Jump(i, by) if world.config.safety.partition == Partition::Quorum => {
            world.pause(i % size, world.now + ms(by));
        }
        Fault::Jump(i, by) => world.jump(i % size, ms(by)),
        Fault::Trap(bait, strike) => world.set_trap(bait, within(size, strike)),
    }
}

/// How the cluster is configured.
#[derive(Clone, Debug)]
struct Setting {
    partition: Partition,
    size: usize,
    weights: Vec<u32>,
    /// Which VIP prefers which node.
    preferred: Vec<Option<usize>>,
    /// Pairs of node and VIP that the node's configuration lacks; the first node has all.
    unknown: Vec<(usize, usize)>,
    moves_per_round: Option<usize>,
    multicast: bool,
}

fn setting() -> impl Strategy<Value = Setting> {
    (
        policy(),
        2usize..6,
        proptest::collection::vec(0u32..4, 5),
        proptest::collection::vec(proptest::option::weighted(0.3, 0usize..5), 8),
        prop_oneof![
            2 => Just(vec![]),
            1 => proptest::collection::vec((1usize..5, 0usize..8), 1..8)
        ],
        prop_oneof![Just(None), Just(Some(1))],
        any::<bool>(),
    )
        .prop_map(
            |(partition, size, weights, preferred, unknown, moves_per_round, multicast)| Setting {
                partition,
                size,
                weights,
                preferred,
                unknown,
                moves_per_round,
                multicast,
            },
        )
}

fn gale(setting: &Setting, seed: u64, faults: &[(Fault, u64)]) {
    let mut world = World::new(setting.size, 8, seed).under(setting.partition);
    for (node, &weight) in world.config.nodes.iter_mut().zip(&setting.weights) {
        node.weight = weight;
    }
    let ids: Vec<NodeId> = world.config.nodes.iter().map(|node| node.id()).collect();
    for (definition, preferred) in world.config.vips.iter_mut().zip(&setting.preferred) {
        definition.prefer = preferred.iter().filter_map(|&i| ids.get(i).copied()).collect();
    }
    world.unknown = setting.unknown.iter().copied().collect();
    world.config.balance.moves_per_round = setting.moves_per_round;
    world.config.multicast = setting.multicast;
    world.start_all();
    world.run(ms(1_500));
    for (fault, pause) in faults {
        apply(&mut world, fault);
        world.run(ms(*pause));
    }
    world.loss_percent = 0;
    world.fail_percent = 0;
    world.operation_us = (100, 900);
    world.disarm();
    world.heal();
    // Whoever leaves with a VIP that nobody else knows waits for an heir for a while.
    world.run(ms(4_000));
    for i in 0..setting.size {
        if !world.is_running(i) {
            world.start(i);
        }
    }
    world.run(ms(5_000));
    world.assert_covered();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn neither_kernels_nor_clocks_nor_old_datagrams_break_a_promise(
        setting in setting(),
        seed in any::<u64>(),
        faults in proptest::collection::vec((fault(), 1u64..1_500), 1..12),
    ) {
        gale(&setting, seed, &faults);
    }
}
