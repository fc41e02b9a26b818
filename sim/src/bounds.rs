//! How long things may take, worked out from a scenario's configuration, so that tuning it breaks no file.
//!
//! Every bound is the promise of design.md §2 plus what the simulated world adds: address operations take their time, and
//! nothing is timed more finely than one tick. Loss adds what the repetitions of a lost message take.

use wackamole_protocol::config::Partition;
use wackamole_protocol::time::Duration;

use crate::fault::Fault;
use crate::netem::Knob;
use crate::scenario::{ChaosFault, Scenario};

const TICK: Duration = Duration::from_millis(1);
/// A chain of losses rarer than that is taken for impossible.
const IMPROBABLE: f64 = 1e-7;

/// The bounds of one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// P1: for how long an overlap may last when two components that both served come together, or a machine comes back
    /// that still answers: one heartbeat + 1.5 round trips + releasing.
    pub merge: Duration,
    /// P2: how long after the last disturbance every VIP has its holder: detection + 2 round trips + kernel work.
    pub cover: Duration,
    /// How long a VIP may be without a holder while it moves between two live members: one release, one message, one
    /// acquire, of all VIPs at once if it must be.
    pub handover: Duration,
    /// How much longer under `lan` while a node is away that may have taken it meanwhile: the heir asks the segment first
    /// (docs/protocol.md, "Clearing").
    pub inquiry: Duration,
    /// *lan*: how long after somebody was cut off from its segment it may still take a VIP that it had asked about before, if it is
    /// back by then: it notices nothing between two questions.
    pub unnoticed: Duration,
    /// *lan*: how much longer than an inquiry if a node of another part asks about it too: that one goes first, and waits for a failure
    /// timeout after whoever held it.
    pub dispute: Duration,
    /// *component, lan*: how long whoever has nobody else serves beside somebody whom it hears and who does not hear it: two failure
    /// timeouts, until its echoes are too old and until it gives way, and letting go.
    pub deaf: Duration,
    /// *component, lan*: how long two views that cannot become one may hold the same: until the smaller one yields, and, a failure timeout
    /// later, whoever it leaves alone.
    pub uneven: Duration,
    /// P5: how long after an acquire every client that can be reached sends to the new holder.
    pub notice: Duration,
    /// P3: how long after the last disturbance the load is even.
    pub settle: Duration,
    /// How long a datagram or its consequences may still be under way after a disturbance.
    pub aftermath: Duration,
    /// P1, outside the assumptions: for how long two may answer because their clocks differ by more than the configured
    /// drift; zero if they do not.
    pub drift_overlap: Duration,
    /// What the repetitions of one message and its answer take on wires that lose some; zero on others.
    pub repetitions: Duration,
    /// The ratio of loss that these bounds reckon with. While more is lost, nothing is bounded.
    pub loss: f64,
}

impl Bounds {
    /// Works them out.
    pub fn of(scenario: &Scenario) -> Self {
        let timing = scenario.timing;
        let faults = || scenario.steps.iter().map(|step| &step.fault);
        let latency = faults()
            .filter_map(|fault| match fault {
                Fault::Latency(span) => Some(span.max),
                _ => None,
            })
            .fold(scenario.latency.max, Duration::max);
        let probability = |base: f64, wanted: Knob| {
            faults()
                .filter_map(|fault| match fault {
                    Fault::Impair { knob, ratio, .. } if *knob == wanted => Some(*ratio),
                    _ => None,
                })
                .fold(base, f64::max)
        };
        let lost = if scenario.spells_of_loss {
            scenario.wires.loss
        } else {
            probability(scenario.wires.loss, Knob::Loss)
        };
        let loss = lost.max(probability(scenario.wires.corrupt, Knob::Corrupt)).min(0.9);
        let late = if probability(scenario.wires.reorder, Knob::Reorder) > 0.0 {
            scenario.wires.reorder_delay.max
        } else {
            Duration::ZERO
        };
        let round_trip = 2 * (latency + late + TICK);
        let all_vips = scenario.operation.max * scenario.vips.len() as u32 + TICK;
        // A request and its answer arrive with probability (1-p)²; each failed try costs a retransmission.
        let tries = if loss > 0.0 {
            (IMPROBABLE.ln() / (1.0 - (1.0 - loss) * (1.0 - loss)).ln()).ceil() as u32
        } else {
            0
        };
        let repetitions = timing.heartbeat * tries;

        let merge = timing.heartbeat + round_trip * 3 / 2 + all_vips + 3 * TICK + repetitions;
        let cover = timing.failure_timeout
            + timing.heartbeat
            + 2 * round_trip
            + 2 * all_vips
            + 5 * TICK
            + repetitions * 3;
        // A link that works one way is believed when both ends have been alive for one and a half heartbeats since; whoever
        // hears both first refuses, then lets its promise to one of them run out (docs/protocol.md, "Promises").
        let one_way = faults().any(|fault| matches!(fault, Fault::Cut { .. }))
            || scenario.chaos.as_ref().is_some_and(|c| c.faults.contains(&ChaosFault::Cut));
        let promises = timing.failure_timeout + 4 * timing.heartbeat;
        // Two views that cannot become one both leave alone what neither of them holds, until one has yielded, and whoever it leaves alone.
        let yields = match scenario.safety.partition {
            Partition::Quorum => Duration::ZERO,
            Partition::Component | Partition::Lan => {
                3 * timing.failure_timeout + 4 * timing.heartbeat
            }
        };
        let debt = if one_way { promises + yields } else { Duration::ZERO };
        let cover = cover + debt;
        let safety = &scenario.safety;
        // Two signs of life half a heartbeat apart, noticed at one of them; probes once a heartbeat; whoever answered them
        // is given up after a failure timeout. Whoever had not probed before sends two probes.
        let hysteresis = if safety.partition == Partition::Lan {
            3 * timing.heartbeat + timing.failure_timeout + 2 * all_vips
        } else {
            Duration::ZERO
        };
        let waited_out = safety.lan_wait_max.filter(|_| safety.partition == Partition::Lan);
        // An accept and an install wait for a disk each, and there may be a second attempt; whoever starts waits first for
        // the promises of its predecessor.
        let votes = if safety.partition == Partition::Quorum {
            6 * scenario.sync.max + timing.failure_timeout + 2 * timing.heartbeat
        } else {
            Duration::ZERO
        };
        // A fence command that fails is run again after a second.
        let fenced = scenario.fences.command.map_or(Duration::ZERO, |(takes, fails)| {
            let runs =
                if fails > 0.0 { (IMPROBABLE.ln() / fails.min(0.9).ln()).ceil() } else { 1.0 };
            (takes.max + Duration::from_secs(1)) * runs as u32
        });
        let cover = cover + hysteresis + waited_out.unwrap_or_default() + votes + fenced;
        let handover = round_trip + 2 * all_vips + 3 * TICK + repetitions;
        let [inquiry, unnoticed, dispute] = if safety.partition == Partition::Lan {
            let answer = (timing.heartbeat / 2).min(Duration::from_millis(20));
            // Where something answers for everybody each inquiry lasts as long as it may, also that before a move for balance.
            let proxied = waited_out.filter(|_| scenario.proxy_arp).unwrap_or_default();
            [
                // And half as long again where somebody else might begin to ask at the same moment.
                answer + answer / 2 + round_trip + 3 * TICK + proxied,
                2 * answer + all_vips + round_trip + 3 * TICK,
                timing.failure_timeout + 2 * timing.heartbeat,
            ]
        } else {
            [Duration::ZERO; 3]
        };
        let spells = scenario.spells_of_loss
            || scenario.chaos.as_ref().is_some_and(|c| c.faults.contains(&ChaosFault::Loss));
        let announcements = if loss > 0.0 || spells {
            Duration::from_millis(1_100 + 2_200 + 4_400)
        } else {
            Duration::ZERO
        };
        // Whatever is acquired, and announced. That what is held is announced anew before that is not excused.
        let notice = all_vips * 2 + latency + 2 * TICK + announcements;
        let rounds = match scenario.balance.moves_per_round {
            Some(moves) => scenario.vips.len().div_ceil(moves) as u32 + 1,
            None => 1,
        };
        let mature = timing.mature + cover;
        let settle = mature + (scenario.balance.interval + handover + inquiry) * rounds + cover;
        let aftermath = timing.failure_timeout + round_trip + timing.heartbeat;
        let drift_overlap = drift_overlap(scenario);
        Self {
            merge,
            cover,
            handover,
            inquiry,
            unnoticed,
            dispute,
            deaf: timing.failure_timeout * 2 + merge,
            uneven: timing.failure_timeout * 3 + timing.heartbeat * 2 + merge,
            notice,
            settle,
            aftermath,
            drift_overlap,
            repetitions,
            loss: lost,
        }
    }
}

/// A lease on the slowest clock against a promise on the fastest one, if the two differ by more than is configured: the
/// first ends after `promise × (1 − drift) / slowest` of true time, the second after `promise / fastest`.
fn drift_overlap(scenario: &Scenario) -> Duration {
    let written = scenario.nodes.iter().map(|node| node.drift_ppm);
    let changed = scenario.steps.iter().filter_map(|step| match &step.fault {
        Fault::Drift { ppm, .. } => Some(*ppm),
        _ => None,
    });
    let rates = written.chain(changed).map(|ppm| 1.0 + ppm as f64 / 1e6);
    let (slowest, fastest) =
        rates.fold((1.0_f64, 1.0_f64), |(slow, fast), rate| (slow.min(rate), fast.max(rate)));
    let promise = scenario.timing.failure_timeout.as_secs_f64();
    let lease = promise * (1.0 - f64::from(scenario.safety.drift_ppm) / 1e6) / slowest;
    let beyond = lease - promise / fastest;
    if beyond <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(beyond) + 2 * TICK }
}
