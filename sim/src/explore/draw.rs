//! One number draws a whole world: the cluster and its configuration, the network, what goes wrong and when it is put right.
//!
//! Swarm testing (Groce et al., *Swarm testing*, ISSTA 2012): a seed leaves most kinds of faults out, because what many
//! kinds together never reach a few, often repeated, do.

use wackamole_protocol::config::{Balance, Partition, QuorumKind, Safety, Timing};
use wackamole_protocol::time::Duration;

use crate::bounds::Bounds;
use crate::fences::FenceSpec;
use crate::rng::{Rng, Span};
use crate::scenario::{ChaosFault, ChaosSpec, Scenario, policy_word};

/// Heartbeat, failure timeout and the longest latency, in milliseconds.
const PROFILES: [(u64, u64, u64); 3] = [(100, 400, 5), (50, 200, 3), (10, 40, 1)];
/// The same where worlds live for hours.
const SLOW: (u64, u64, u64) = (1_000, 4_000, 5);

/// Kinds that need another one to be of interest again: after them comes a restart, or a heal.
const BREAKS_DAEMONS: [ChaosFault; 4] =
    [ChaosFault::PowerLoss, ChaosFault::Kill, ChaosFault::KillBoth, ChaosFault::Stop];
const BREAKS_LINKS: [ChaosFault; 3] =
    [ChaosFault::Partition, ChaosFault::PartitionSegment, ChaosFault::Cut];
const OTHERS: [ChaosFault; 12] = [
    ChaosFault::Pause,
    ChaosFault::PauseBoth,
    ChaosFault::PauseMachine,
    ChaosFault::KillGuardian,
    ChaosFault::PauseGuardian,
    ChaosFault::PortDead,
    ChaosFault::Loss,
    ChaosFault::FlushAddress,
    ChaosFault::CarrierLost,
    ChaosFault::AddressTrouble,
    ChaosFault::DiskLost,
    ChaosFault::RollingRestart,
];
/// What may go on beside an operator who makes a machine primary that is left alone. He knows that the others are off, so
/// nothing here hides them from him.
const BESIDE_FORCING: [ChaosFault; 6] = [
    ChaosFault::PowerLoss,
    ChaosFault::Kill,
    ChaosFault::Stop,
    ChaosFault::Pause,
    ChaosFault::KillGuardian,
    ChaosFault::RollingRestart,
];

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// How fast things go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Several times in a second, for some seconds; heartbeats are 10 to 100 ms apart. Most of what can go wrong at all goes
    /// wrong when much does at once.
    Dense,
    /// Every few minutes, for hours; heartbeats are a second apart. It shows what grows, wraps or wears out, and
    /// simulates the most time in an hour.
    Hours,
}

/// Draws the world of a seed, under one of these policies.
pub fn draw(seed: u64, policies: &[Partition], pace: Pace) -> Scenario {
    let mut rng = Rng::new(seed, "explore");
    let partition = rng.pick(policies).copied().unwrap_or(Partition::Lan);
    let (nodes, vips) = (2 + rng.below(5), 1 + rng.below(12));
    let text = format!(
        "title = \"exploration, seed {seed}, {}\"\nnodes = {nodes}\nvips = {vips}\nduration = \"1s\"",
        policy_word(partition)
    );
    #[allow(clippy::expect_used)] // a text of our own
    let mut world = Scenario::parse(&format!("seed {seed}"), &text).expect("a scenario");
    world.seed = Some(seed);
    world.policies = vec![partition];
    configuration(&mut world, partition, pace, &mut rng);
    network(&mut world, &mut rng);
    machines(&mut world, &mut rng);
    oddities(&mut world, partition, &mut rng);
    late_copies(&mut world, &mut Rng::new(seed, "late copies"));
    slow_kernels(&mut world, &mut Rng::new(seed, "slow kernels"));
    fence_commands(&mut world, &mut Rng::new(seed, "fence commands"));
    faults(&mut world, pace, &mut rng);
    one_way_links(&mut world, &mut Rng::new(seed, "one-way links"));
    world
}

fn configuration(world: &mut Scenario, partition: Partition, pace: Pace, rng: &mut Rng) {
    let dense = *rng.pick(&PROFILES).unwrap_or(&PROFILES[0]);
    let (heartbeat, failure_timeout, latency) = if pace == Pace::Hours { SLOW } else { dense };
    let mature = ms(200 + rng.below(1_800));
    world.timing =
        Timing { heartbeat: ms(heartbeat), failure_timeout: ms(failure_timeout), mature };
    world.latency = Span { min: ms(1), max: ms(1 + rng.below(latency)) };
    world.wires.extra_delay = Span { min: Duration::ZERO, max: world.latency.max - ms(1) };
    world.safety = Safety::new(partition, &world.timing);
    if partition == Partition::Quorum && rng.chance(0.2) {
        world.safety.quorum = QuorumKind::Static;
    }
    if partition == Partition::Quorum && rng.chance(0.2) {
        world.must_reach = Some(world.nodes.len()); // the client
    }
    let moves_per_round = rng.chance(0.3).then(|| 1 + rng.below(3) as usize);
    world.balance = Balance { moves_per_round, interval: ms(300 + rng.below(1_700)) };
    let operation = Duration::from_micros(100 + rng.below(1_900));
    world.operation = Span { min: operation / 2, max: operation };
    world.sync = Span { min: ms(1), max: ms(1 + rng.below(10)) };
}

fn network(world: &mut Scenario, rng: &mut Rng) {
    world.own_segment = rng.chance(0.4);
    world.multicast = rng.chance(0.1);
    let (wires, small) = (&mut world.wires, 0.02);
    for ratio in [&mut wires.duplicate, &mut wires.reorder, &mut wires.corrupt] {
        if rng.chance(0.15) {
            *ratio = small;
        }
    }
}

/// Now and then copies of datagrams arrive when their sender is in another view already, or has been started anew.
fn late_copies(world: &mut Scenario, rng: &mut Rng) {
    if rng.chance(0.15) {
        world.wires.duplicate = 0.02;
        world.wires.reorder = 0.0;
        world.wires.reorder_delay = Span { min: ms(2), max: ms(6_000) };
    }
}

/// Now and then kernels take as long for a few addresses as they do for hundreds.
fn slow_kernels(world: &mut Scenario, rng: &mut Rng) {
    // Without a gate releases have to be over in time.
    if rng.chance(0.15) && world.nodes.iter().all(|node| node.fences.gate) {
        let operation = ms(4 + rng.below(12));
        world.operation = Span { min: operation / 2, max: operation };
    }
}

/// Now and then an operator has given a command that switches off whoever vanished. It fails now and then.
fn fence_commands(world: &mut Scenario, rng: &mut Rng) {
    if rng.chance(0.1) {
        let takes = Span { min: ms(20), max: ms(20 + rng.below(400)) };
        world.fences.command = Some((takes, if rng.chance(0.5) { 0.2 } else { 0.0 }));
    }
}

fn machines(world: &mut Scenario, rng: &mut Rng) {
    let drift = i64::from(world.safety.drift_ppm) / 2;
    let drifts = rng.chance(0.3);
    let weights = rng.chance(0.2);
    for node in &mut world.nodes {
        if drifts {
            node.drift_ppm = rng.below(2 * drift as u64 + 1) as i64 - drift;
        }
        if weights {
            node.weight = rng.below(4) as u32;
        }
    }
    let nodes = world.nodes.len() as u64;
    if rng.chance(0.3) {
        for vip in &mut world.vips {
            if rng.chance(0.5) {
                vip.prefer = vec![rng.below(nodes) as usize];
            }
        }
    }
    let fences = match rng.below(10) {
        0 | 1 => FenceSpec { gate: false, ..FenceSpec::ALL },
        2 => FenceSpec { lifetime: false, ..FenceSpec::ALL },
        _ => FenceSpec::ALL,
    };
    world.nodes.iter_mut().for_each(|node| node.fences = fences);
}

/// What few clusters have.
fn oddities(world: &mut Scenario, partition: Partition, rng: &mut Rng) {
    let last = world.nodes.len() - 1;
    if rng.chance(0.1) {
        world.nodes[last].start = Some(Span { min: ms(500), max: ms(4_000) });
    }
    let preferred = world.vips.iter().any(|vip| vip.prefer.contains(&last));
    if partition == Partition::Quorum && last >= 2 && !preferred && rng.chance(0.15) {
        world.nodes[last].witness = true;
    }
    if partition == Partition::Quorum && rng.chance(0.1) {
        world.safety.min_quorum = 2;
    }
    if partition == Partition::Lan && rng.chance(0.15) {
        world.safety.lan_wait_max = Some(ms(300 + rng.below(1_500)));
        world.proxy_arp = rng.chance(0.5);
    }
}

/// Anything may go wrong for a while; then all is put right, and there is time for what is promised after that.
fn faults(world: &mut Scenario, pace: Pace, rng: &mut Rng) {
    let mut kinds = Vec::new();
    let possible: Vec<ChaosFault> = BREAKS_DAEMONS
        .into_iter()
        .chain(BREAKS_LINKS)
        .chain(OTHERS)
        .filter(|kind| match kind {
            ChaosFault::PartitionSegment => world.own_segment,
            // Elsewhere now and then (`one_way_links`).
            ChaosFault::Cut => world.safety.partition == Partition::Quorum,
            // Without a gate a release that fails is outside the assumptions.
            ChaosFault::AddressTrouble => world.nodes[0].fences.gate,
            _ => true,
        })
        .collect();
    let how_many = if rng.chance(0.3) { 1 } else { 2 + rng.below(possible.len() as u64 / 2) };
    for _ in 0..how_many {
        kinds.extend(rng.pick(&possible).copied());
    }
    for (breaks, mends) in
        [(&BREAKS_DAEMONS[..], ChaosFault::Restart), (&BREAKS_LINKS, ChaosFault::Heal)]
    {
        let broken = kinds.iter().filter(|kind| breaks.contains(kind)).count();
        kinds.extend(std::iter::repeat_n(mends, broken));
    }
    if world.safety.partition == Partition::Quorum && rng.chance(0.08) {
        kinds = vec![ChaosFault::ForcePrimary, ChaosFault::Restart, ChaosFault::Restart];
        kinds.extend(rng.pick(&BESIDE_FORCING));
    }
    let from = world.timing.mature + world.timing.failure_timeout + ms(500);
    let (until, often) = match pace {
        Pace::Dense => (from + ms(2_000 + rng.below(8_000)), ms(20 + rng.below(400))),
        Pace::Hours => {
            (from + minutes(60 + rng.below(300)), Duration::from_secs(60 + rng.below(540)))
        }
    };
    world.chaos = Some(ChaosSpec {
        from,
        until,
        every: Span { min: often / 4, max: often * 2 },
        faults: kinds,
    });
    world.duration = until + ms(500);
    world.duration = until + Bounds::of(world).settle + ms(1_500);
}

/// Under `quorum` links that work in one direction only are a fault like any other. Elsewhere a world has them now and then.
fn one_way_links(world: &mut Scenario, rng: &mut Rng) {
    let Some(chaos) = &mut world.chaos else { return };
    if world.safety.partition != Partition::Quorum && rng.chance(0.15) {
        chaos.faults.extend([ChaosFault::Cut, ChaosFault::Heal]);
        world.duration = chaos.until + ms(500);
        world.duration += Bounds::of(world).settle + ms(1_500);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Partition; 3] = [Partition::Component, Partition::Lan, Partition::Quorum];

    #[test]
    fn every_world_is_one_that_a_file_can_say() {
        for seed in 0..200 {
            let pace = if seed % 4 == 0 { Pace::Hours } else { Pace::Dense };
            let world = draw(seed, &ALL, pace);
            let text = world.text();
            let read =
                Scenario::parse(&world.file, &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(read.text(), text);
        }
    }

    #[test]
    fn worlds_differ_in_every_respect() {
        let worlds: Vec<Scenario> = (0..300).map(|seed| draw(seed, &ALL, Pace::Dense)).collect();
        let some = |what: fn(&Scenario) -> bool| {
            let count = worlds.iter().filter(|world| what(world)).count();
            (10..290).contains(&count)
        };
        assert!(some(|w| w.own_segment));
        assert!(some(|w| w.safety.partition == Partition::Quorum));
        assert!(some(|w| w.safety.quorum == QuorumKind::Static));
        assert!(some(|w| w.timing.heartbeat == ms(10)));
        assert!(some(|w| w.nodes.len() == 2));
        assert!(some(|w| w.nodes.iter().any(|node| node.drift_ppm != 0)));
        assert!(some(|w| w.nodes.iter().any(|node| node.weight == 0)));
        assert!(some(|w| !w.nodes[0].fences.gate));
        assert!(some(|w| w.vips.iter().any(|vip| !vip.prefer.is_empty())));
        assert!(some(|w| w.wires.duplicate > 0.0));
        assert!(some(|w| w.wires.reorder_delay.max > ms(1_000)));
        assert!(some(|w| w.balance.moves_per_round.is_some()));
        assert!(some(|w| w.fences.command.is_some()));
        assert!(some(|w| w.nodes.iter().any(|node| node.witness)));
        assert!(some(|w| w.safety.min_quorum == 2));
        assert!(some(|w| w.safety.lan_wait_max.is_some()));
        let kinds = BREAKS_DAEMONS.into_iter().chain(BREAKS_LINKS).chain(OTHERS);
        for kind in kinds.chain([ChaosFault::ForcePrimary]) {
            let has = |world: &&Scenario| {
                world.chaos.as_ref().is_some_and(|chaos| chaos.faults.contains(&kind))
            };
            assert!(worlds.iter().filter(has).count() > 5, "{kind:?}");
        }
    }
}
