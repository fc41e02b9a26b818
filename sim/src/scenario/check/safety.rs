//! The partition policy, the leases and what stands behind them.

use toml::Spanned;
use wackamole_protocol::config::{Partition, QuorumKind, Safety, Timing};
use wackamole_protocol::time::Duration;

use super::super::schema::{self, File, Policy, Start};
use super::super::{FencesSpec, ScenarioError};
use super::{Known, Source, ratio};
use crate::fences::FenceSpec;
use crate::links::Station;
use crate::rng::Span;

/// As in the daemon's configuration: a tenth.
const DRIFT_PPM_MAX: i64 = 100_000;
const RESPAWN: Span = Span { min: Duration::from_millis(2), max: Duration::from_millis(5) };
const SUPERVISOR: Span = Span { min: Duration::from_millis(100), max: Duration::from_millis(300) };

impl From<Policy> for Partition {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Component => Self::Component,
            Policy::Lan => Self::Lan,
            Policy::Quorum => Self::Quorum,
        }
    }
}

/// The section `[safety]`; a node's own release margin follows from its fences.
pub(super) fn safety(
    source: &Source<'_>,
    written: &File,
    timing: &Timing,
) -> Result<Safety, ScenarioError> {
    let section = &written.safety;
    let first = written.policies.first().map(|policy| *policy.get_ref());
    let policy = section.partition.or(first).map_or(Partition::Component, Partition::from);
    let mut safety = Safety::new(policy, timing);
    if let Some(kind) = section.quorum {
        safety.quorum = match kind {
            schema::QuorumKind::Dynamic => QuorumKind::Dynamic,
            schema::QuorumKind::Static => QuorumKind::Static,
        };
    }
    if let Some(min) = &section.min_quorum {
        safety.min_quorum = *min.get_ref();
        if safety.min_quorum == 0 {
            return Err(source.wrong(min.span(), "found 0, expected at least one member"));
        }
    }
    safety.lan_wait_max = section.lan_wait_max.map(|wait| wait.0);
    if let Some(drift) = &section.drift {
        let ppm = drift.get_ref().0.0;
        safety.drift_ppm =
            u32::try_from(ppm).ok().filter(|_| ppm <= DRIFT_PPM_MAX).ok_or_else(|| {
                let message = format!("expected a drift from `0ppm` to `{DRIFT_PPM_MAX}ppm`");
                source.wrong(drift.span(), message)
            })?;
    }
    Ok(safety)
}

/// The witness that has to answer: the first client.
pub(super) fn must_reach(
    source: &Source<'_>,
    written: &File,
    known: &Known,
) -> Result<Option<Station>, ScenarioError> {
    let Some(wanted) = written.safety.must_reach.as_ref().filter(|wanted| *wanted.get_ref()) else {
        return Ok(None);
    };
    let named = written.policies.iter().map(|policy| *policy.get_ref());
    let elsewhere = match (written.policies.is_empty(), written.safety.partition) {
        (true, partition) => partition != Some(Policy::Quorum),
        (false, partition) => named.chain(partition).any(|policy| policy != Policy::Quorum),
    };
    if elsewhere {
        let message = "found `true`, expected it only under `partition = \"quorum\"`";
        return Err(source.wrong(wanted.span(), message));
    }
    if known.clients.is_empty() {
        return Err(source.wrong(wanted.span(), "found no client, expected one to be the witness"));
    }
    Ok(Some(known.nodes.len()))
}

/// What all machines have unless they say otherwise.
pub(super) fn fences_of(written: &schema::Fences) -> FenceSpec {
    FenceSpec {
        gate: written.gate.unwrap_or(true),
        guardian: written.guardian.unwrap_or(true),
        lifetime: written.lifetime.unwrap_or(true),
    }
}

/// How the fences behave.
pub(super) fn fences(source: &Source<'_>, written: &File) -> Result<FencesSpec, ScenarioError> {
    let section = &written.fences;
    let within = |given: &Option<Start>, default| match given {
        None => Some(default),
        Some(Start::At(span)) => Some(*span),
        Some(Start::Never) => None,
    };
    let fails = match &section.command_fails {
        Some(fails) => ratio(source, Spanned::span(fails), *fails.get_ref())?,
        None => 0.0,
    };
    Ok(FencesSpec {
        respawn: within(&section.respawn, RESPAWN),
        supervisor: within(&section.supervisor, SUPERVISOR),
        command: section.command.map(|takes| (takes.0, fails)),
    })
}
