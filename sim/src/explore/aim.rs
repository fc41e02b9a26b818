//! Faults that strike while the daemons are agreeing.
//!
//! Faults at random moments seldom hit the few milliseconds between an accept and its install, or those in which an address
//! changes hands, and what goes wrong there matters most. So each world lives several times: once as it was drawn, and then with
//! a few more faults at moments that the first life has shown. Up to the first of them a later life is the first one over again,
//! so it hits what it aims at. What comes of it is a plain list of steps, as any other world's, to be shown and shrunk.

use std::collections::BTreeMap;

use wackamole_protocol::config::Partition;
use wackamole_protocol::event::{Event, LinkState};
use wackamole_protocol::time::Duration;

use crate::fault::Fault;
use crate::journal::{Entry, What};
use crate::rng::{Rng, Span};
use crate::scenario::plan::spell_out;
use crate::scenario::{ChaosFault, Scenario, StepSpec};
use crate::segment::Net;

/// Something that a daemon did in the world's first life.
#[derive(Clone, Copy)]
struct Moment {
    at: Duration,
    node: usize,
}

/// How the world is struck; all of it is over after a while.
#[derive(Clone, Copy)]
enum Strike {
    PowerLoss,
    Kill,
    Stop,
    /// The daemon is started anew at once.
    Restart,
    Pause,
    /// Daemon and guardian.
    PauseBoth,
    PauseMachine,
    /// One machine reaches nobody.
    Isolate,
    /// One link is cut both ways.
    Part,
    /// One link is cut one way.
    Deafen,
    PortDead,
}

const OF_DAEMONS: [Strike; 4] = [Strike::PowerLoss, Strike::Kill, Strike::Stop, Strike::Restart];
const OTHERS: [Strike; 5] =
    [Strike::Pause, Strike::PauseBoth, Strike::PauseMachine, Strike::Isolate, Strike::PortDead];
/// Where some reach others that do not reach each other, an overlap is bounded and not zero (docs/protocol.md), but under quorum.
const OF_LINKS: [Strike; 2] = [Strike::Part, Strike::Deafen];

/// How long a strike lasts, in failure timeouts.
const LASTS: [f64; 6] = [0.1, 0.4, 0.8, 1.1, 1.6, 3.0];
/// How long after a strike the next one comes, in failure timeouts: within the same agreement, or in what follows from it.
const NEXT: [f64; 4] = [0.02, 0.1, 0.4, 1.2];
const STRIKES_MAX: u64 = 3;
/// What a moment leads to takes a few ticks.
const AFTER_MAX_MS: u64 = 3;

/// What daemons did in a world's first life that others wait for, by its kind.
pub(super) struct Moments(Vec<Vec<Moment>>);

impl Moments {
    /// Those while anything may happen.
    pub(super) fn of(world: &Scenario, first_life: &[Entry]) -> Self {
        let mut moments: BTreeMap<_, Vec<Moment>> = BTreeMap::new();
        let chaos = world.chaos.as_ref().map(|chaos| chaos.from..chaos.until).unwrap_or_default();
        for Entry { at, what } in first_life {
            if let What::Daemon { node, event } = what
                && chaos.contains(at)
                && let Some(kind) = kind(event)
            {
                moments.entry(kind).or_default().push(Moment { at: whole(*at), node: *node });
            }
        }
        Self(moments.into_values().collect())
    }
}

/// One of the world's later lives, struck at a moment of its first one. Nothing if there is none to aim at, or if the world must not
/// be disturbed further.
pub(super) fn aim(world: &Scenario, seed: u64, life: u64, moments: &Moments) -> Option<Scenario> {
    let chaos = world.chaos.as_ref()?;
    // An operator who forces a primary view has looked at what runs, and nothing may change behind his back.
    if chaos.faults.contains(&ChaosFault::ForcePrimary) {
        return None;
    }
    let mut rng = Rng::new(seed, &format!("life {life}"));
    // What happens seldom is aimed at as often as what happens all the time.
    let alike = rng.pick(&moments.0)?;
    let moment = *rng.pick(alike)?;
    let mut possible = OTHERS.to_vec();
    // A disk that is lost is that of a machine which is off by then.
    if !chaos.faults.contains(&ChaosFault::DiskLost) {
        possible.extend(OF_DAEMONS);
    }
    if world.safety.partition == Partition::Quorum {
        possible.extend(OF_LINKS);
    }
    let mut aimed = spell_out(world, seed);
    aimed.title = format!("{}, life {life}", world.title);
    let timeout = world.timing.failure_timeout;
    let mut at = moment.at + Duration::from_millis(rng.below(AFTER_MAX_MS));
    for _ in 0..=rng.below(STRIKES_MAX) {
        let victim = if rng.chance(0.6) {
            moment.node
        } else {
            rng.below(world.nodes.len() as u64) as usize
        };
        let over = whole(at + timeout.mul_f64(*rng.pick(&LASTS)?)).min(chaos.until);
        let strike = *rng.pick(&possible)?;
        let steps = faults(strike, world, victim, &mut rng).into_iter();
        aimed.steps.extend(steps.map(|(mends, fault)| step(if mends { over } else { at }, fault)));
        at = whole(at + timeout.mul_f64(*rng.pick(&NEXT)?));
        if at >= chaos.until {
            break;
        }
    }
    aimed.steps.sort_by_key(|step| step.at.min);
    Some(aimed)
}

fn kind(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Link { state: LinkState::Silent, .. } => "silent",
        Event::Link { state: LinkState::TwoWay, .. } => "heard again",
        Event::PeerRestarted { .. } => "restarted",
        Event::PeerLeft { .. } => "left",
        Event::Proposed { .. } => "proposed",
        Event::Accepted { .. } => "accepted",
        Event::Refused { .. } => "refused",
        Event::ViewInstalled { .. } => "installed",
        Event::ViewLost { .. } => "lost",
        Event::Matured { .. } => "matured",
        Event::Acquired { .. } => "acquired",
        Event::Released { .. } => "released",
        Event::Occupied { .. } => "occupied",
        Event::Contested { .. } => "contested",
        Event::Servable { .. } => "servable",
        _ => return None,
    })
}

/// The next whole tick.
fn whole(time: Duration) -> Duration {
    Duration::from_millis(time.as_micros().div_ceil(1_000) as u64)
}

fn step(at: Duration, fault: Fault) -> StepSpec {
    let (at, every) = (Span::exactly(at), Span::exactly(Duration::ZERO));
    StepSpec { name: None, at, every, times: 1, fault }
}

/// What is done, and what mends it.
fn faults(strike: Strike, world: &Scenario, node: usize, rng: &mut Rng) -> Vec<(bool, Fault)> {
    let ports = if world.own_segment { Net::Segment } else { Net::Both };
    let nets: &[Net] =
        if world.own_segment { &[Net::Heartbeats, Net::Segment, Net::Both] } else { &[Net::Both] };
    let net = *rng.pick(nets).unwrap_or(&Net::Both);
    let stations = world.nodes.len() + world.clients.len();
    let nodes = world.nodes.len();
    let other = (node + 1 + rng.below(nodes as u64 - 1) as usize) % nodes;
    let of = vec![node];
    let mends = |fault: fn(Vec<usize>) -> Fault| (true, fault(vec![node]));
    match strike {
        Strike::PowerLoss => vec![(false, Fault::PowerLoss(of)), mends(Fault::Restart)],
        Strike::Kill => vec![(false, Fault::Kill(of)), mends(Fault::Restart)],
        Strike::Stop => vec![(false, Fault::Stop(of)), mends(Fault::Restart)],
        Strike::Restart => vec![(false, Fault::Restart(of))],
        Strike::Pause => vec![(false, Fault::Pause(of)), mends(Fault::Resume)],
        Strike::PauseBoth => vec![
            (false, Fault::PauseGuardian(of.clone())),
            (false, Fault::Pause(of)),
            mends(Fault::ResumeGuardian),
            mends(Fault::Resume),
        ],
        Strike::PauseMachine => {
            vec![(false, Fault::PauseMachine(of)), mends(Fault::ResumeMachine)]
        }
        Strike::Isolate => {
            let others = (0..stations).filter(|&station| station != node).collect();
            let all = (0..stations).collect();
            vec![(false, Fault::Partition(net, vec![of, others])), (true, Fault::Heal(net, all))]
        }
        Strike::Part | Strike::Deafen => {
            let heal = Fault::Heal(net, vec![node, other]);
            let mut faults = vec![(false, Fault::Cut { net, from: node, to: other }), (true, heal)];
            if matches!(strike, Strike::Part) {
                faults.push((false, Fault::Cut { net, from: other, to: node }));
            }
            faults
        }
        Strike::PortDead => {
            vec![(false, Fault::PortDead(ports, of.clone())), (true, Fault::PortBack(ports, of))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Scheduler;
    use crate::explore::{LIVES, Pace, lives};
    use crate::narrate::Narrator;

    const ALL: [Partition; 3] = [Partition::Component, Partition::Lan, Partition::Quorum];

    #[test]
    fn a_later_life_is_the_first_one_until_it_is_struck_at_one_of_its_moments() {
        let (mut seen, mut hit) = (0, 0);
        for seed in 1..8 {
            let mut lives = lives(Scheduler::Fast, seed, &ALL, Pace::Dense, false);
            let (world, first) = lives.next().expect("the first life");
            let plain = spell_out(&world, seed);
            let moments = Moments::of(&world, &first.entries);
            for (scenario, outcome) in lives {
                let read = Scenario::parse("again", &scenario.text()).expect("a scenario");
                assert_eq!(read.text(), scenario.text());
                let added = scenario.steps.iter().filter(|step| !plain.steps.contains(step));
                let struck = added.map(|step| step.at.min).min().expect("a strike");
                let close = |moment: &Moment| {
                    (moment.at..moment.at + Duration::from_millis(AFTER_MAX_MS)).contains(&struck)
                };
                hit += u32::from(moments.0.iter().flatten().any(close));
                let before = |entries: &[Entry]| -> Vec<Entry> {
                    entries.iter().filter(|entry| entry.at < struck).cloned().collect()
                };
                let told = |entries: &[Entry], chronicle| {
                    Narrator::new(&world).trace(&before(entries), chronicle)
                };
                let nothing = crate::chronicle::Chronicle::default();
                assert_eq!(told(&first.entries, &nothing), told(&outcome.entries, &nothing));
                seen += 1;
            }
        }
        assert!(seen > LIVES, "{seen}");
        assert_eq!(hit, seen as u32);
    }
}
