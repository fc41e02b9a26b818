//! Steps and chaos: what happens, with names resolved.

use std::ops::Range;

use wackamole_protocol::time::Duration;

use super::super::schema::{ErrorKind, File, OneOrMany, SegmentKind, Step};
use super::super::{ChaosSpec, ScenarioError, StepSpec};
use super::{Known, Source, expect, ratio, whole_milliseconds};
use crate::fault::Fault;
use crate::links::Station;
use crate::netem::Knob;
use crate::rng::Span;
use crate::segment::{Net, SabotageKind};

pub(super) fn steps(
    source: &Source<'_>,
    written: &File,
    known: &Known,
    duration: Duration,
) -> Result<Vec<StepSpec>, ScenarioError> {
    let own = written.network.segment == SegmentKind::Own;
    let mut steps = Vec::new();
    for step in &written.step {
        let at = step.span();
        let step = step.get_ref();
        let mut faults = faults(source, &at, step, known, own)?;
        let Some(fault) = faults.pop().filter(|_| faults.is_empty()) else {
            return Err(source.wrong(
                at,
                "expected exactly one of power_loss, kill, restart, stop, pause, resume, kill_guardian, \
                 pause_guardian, resume_guardian, pause_machine, resume_machine, disk_lost, force_primary, port_dead, carrier_lost, \
                 port_back, partition, cut, heal, partition_segment, cut_segment, heal_segment, loss, duplicate, \
                 reorder, corrupt, latency, drift, address_error, flush_address in a step",
            ));
        };
        let (every, times) = match (step.every, step.times) {
            (Some(every), Some(times)) => (every.0, times),
            (None, None) => (Span::exactly(Duration::ZERO), 1),
            _ => return Err(source.wrong(at, "`every` and `times` belong together")),
        };
        let last = step.at.0.max + every.max * times.saturating_sub(1);
        if last >= duration {
            return Err(
                source.wrong(at, "this step happens after the scenario's duration has ended")
            );
        }
        let name = match &step.name {
            Some(name) => Some(expect::step_name(source, name)?),
            None => None,
        };
        steps.push(StepSpec { name, at: step.at.0, every, times, fault });
    }
    Ok(steps)
}

fn faults(
    source: &Source<'_>,
    at: &Range<usize>,
    step: &Step,
    known: &Known,
    own: bool,
) -> Result<Vec<Fault>, ScenarioError> {
    let mut faults = of_nodes(source, at, step, known, own)?;
    let daemons = if own { Net::Heartbeats } else { Net::Both };
    let wires = [
        (daemons, &step.partition, &step.cut, &step.heal),
        (Net::Segment, &step.partition_segment, &step.cut_segment, &step.heal_segment),
    ];
    for (net, partition, cut, heal) in wires {
        let written = partition.is_some() || cut.is_some() || heal.is_some();
        if written && net == Net::Segment && !own {
            let message =
                "expected `segment = \"own\"` in `[network]`: there is one network for all";
            return Err(source.wrong(at.clone(), message));
        }
        if let Some(groups) = partition {
            faults.push(Fault::Partition(net, groups_of(source, at, groups, known)?));
        }
        if let Some(pair) = cut {
            let from = known.station(source, at, &pair.from)?;
            faults.push(Fault::Cut { net, from, to: known.station(source, at, &pair.to)? });
        }
        if let Some(names) = heal {
            faults.push(healing(source, at, names, known, net)?);
        }
    }
    let knobs = [
        (&step.loss, Knob::Loss),
        (&step.duplicate, Knob::Duplicate),
        (&step.reorder, Knob::Reorder),
        (&step.corrupt, Knob::Corrupt),
    ];
    for (written, knob) in knobs {
        if let Some(written) = written {
            let link = match &written.link {
                Some((from, to)) => {
                    Some((known.station(source, at, from)?, known.station(source, at, to)?))
                }
                None => None,
            };
            faults.push(Fault::Impair {
                link,
                knob,
                ratio: ratio(source, at.clone(), written.ratio)?,
            });
        }
    }
    if let Some(latency) = &step.latency {
        faults.push(Fault::Latency(whole_milliseconds(source, at.clone(), latency.0)?));
    }
    if let Some(drift) = &step.drift {
        faults.push(Fault::Drift { node: known.node(source, at, &drift.node)?, ppm: drift.ppm });
    }
    if let Some(error) = &step.address_error {
        faults.push(Fault::AddressError {
            node: known.node(source, at, &error.node)?,
            vip: known.vip(source, at, &error.vip)?,
            kind: match error.kind {
                ErrorKind::Fail => SabotageKind::Fail,
                ErrorKind::Hang => SabotageKind::Hang,
            },
            lasts: error.lasts.map(|lasts| lasts.0),
        });
    }
    if let Some(flush) = &step.flush_address {
        let node = match &flush.node {
            Some(node) => Some(known.node(source, at, node)?),
            None => None,
        };
        faults.push(Fault::FlushAddress { node, vip: known.vip(source, at, &flush.vip)? });
    }
    Ok(faults)
}

/// Whatever happens to nodes by name and needs nothing else.
fn of_nodes(
    source: &Source<'_>,
    at: &Range<usize>,
    step: &Step,
    known: &Known,
    own: bool,
) -> Result<Vec<Fault>, ScenarioError> {
    let ports = if own { Net::Segment } else { Net::Both };
    type OfNodes = fn(Net, Vec<usize>) -> Fault;
    let of_nodes: [(&Option<OneOrMany>, OfNodes); 16] = [
        (&step.power_loss, |_, nodes| Fault::PowerLoss(nodes)),
        (&step.kill, |_, nodes| Fault::Kill(nodes)),
        (&step.restart, |_, nodes| Fault::Restart(nodes)),
        (&step.stop, |_, nodes| Fault::Stop(nodes)),
        (&step.pause, |_, nodes| Fault::Pause(nodes)),
        (&step.resume, |_, nodes| Fault::Resume(nodes)),
        (&step.kill_guardian, |_, nodes| Fault::KillGuardian(nodes)),
        (&step.pause_guardian, |_, nodes| Fault::PauseGuardian(nodes)),
        (&step.resume_guardian, |_, nodes| Fault::ResumeGuardian(nodes)),
        (&step.pause_machine, |_, nodes| Fault::PauseMachine(nodes)),
        (&step.resume_machine, |_, nodes| Fault::ResumeMachine(nodes)),
        (&step.disk_lost, |_, nodes| Fault::DiskLost(nodes)),
        (&step.force_primary, |_, nodes| Fault::ForcePrimary(nodes)),
        (&step.port_dead, Fault::PortDead),
        (&step.carrier_lost, Fault::CarrierLost),
        (&step.port_back, Fault::PortBack),
    ];
    let mut faults = Vec::new();
    for (names, fault) in of_nodes {
        if let Some(names) = names {
            faults.push(fault(ports, known.some_nodes(source, at, names)?));
        }
    }
    Ok(faults)
}

fn healing(
    source: &Source<'_>,
    at: &Range<usize>,
    names: &OneOrMany,
    known: &Known,
    net: Net,
) -> Result<Fault, ScenarioError> {
    match names.0.as_slice() {
        [all] if all == "all" => Ok(Fault::HealAll(net)),
        [_, _, ..] => {
            let stations: Result<Vec<_>, _> =
                names.0.iter().map(|name| known.station(source, at, name)).collect();
            Ok(Fault::Heal(net, stations?))
        }
        _ => Err(source.wrong(at.clone(), "expected heal = \"all\" or heal = [\"a\", \"b\"]")),
    }
}

fn groups_of(
    source: &Source<'_>,
    at: &Range<usize>,
    groups: &[Vec<String>],
    known: &Known,
) -> Result<Vec<Vec<Station>>, ScenarioError> {
    let mut seen = vec![false; known.nodes.len() + known.clients.len()];
    let mut stations: Vec<Vec<Station>> = Vec::new();
    for group in groups {
        let mut members = Vec::new();
        for name in group {
            let station = known.station(source, at, name)?;
            if std::mem::replace(&mut seen[station], true) {
                return Err(source.wrong_name(at, name, format!("`{name}` is in two groups")));
            }
            members.push(station);
        }
        stations.push(members);
    }
    if let Some(missing) = (0..known.nodes.len()).find(|&node| !seen[node]) {
        let message =
            format!("node `{}` is in no group; each node belongs to one", known.nodes[missing]);
        return Err(source.wrong(at.clone(), message));
    }
    let unnamed = (known.nodes.len()..seen.len()).filter(|&client| !seen[client]);
    stations[0].extend(unnamed);
    Ok(stations)
}

pub(super) fn chaos(
    source: &Source<'_>,
    written: &File,
    duration: Duration,
) -> Result<Option<ChaosSpec>, ScenarioError> {
    let Some(written) = &written.chaos else { return Ok(None) };
    let (span, chaos) = (written.span(), written.get_ref());
    let chaos = ChaosSpec {
        from: chaos.from.0,
        until: chaos.until.0,
        every: chaos.every.0,
        faults: chaos.faults.iter().map(|fault| *fault.get_ref()).collect(),
    };
    if chaos.from >= chaos.until || chaos.until >= duration {
        return Err(source.wrong(span, "expected from < until < duration"));
    }
    if chaos.every.min < Duration::from_millis(1) || chaos.faults.is_empty() {
        return Err(source.wrong(span, "expected `every` of at least `1ms` and at least one fault"));
    }
    Ok(Some(chaos))
}
