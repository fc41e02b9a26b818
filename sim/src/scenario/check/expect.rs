//! Expectations: what must be true after what, with names resolved.

use toml::Spanned;
use wackamole_protocol::time::Duration;

use super::super::expect::{LAST_FAULT, START};
use super::super::measure::Measure;
use super::super::schema::{self, File};
use super::super::text::{Written, duration_text};
use super::super::{
    Allow, Anchor, Expectation, MovesMax, Promise, Scenario, ScenarioError, ViewSize,
};
use super::{Known, Source};
use crate::bounds::Bounds;

/// Everything that is expected, one thing each, in the order of the file and of the keys in `schema`.
pub(super) fn expectations(
    source: &Source<'_>,
    written: &File,
    known: &Known,
) -> Result<Vec<Expectation>, ScenarioError> {
    let mut all = Vec::new();
    for expect in &written.expect.0 {
        let after = anchor(source, written, expect.get_ref())?;
        let policies: Vec<_> =
            expect.get_ref().policies.iter().map(|policy| (*policy.get_ref()).into()).collect();
        let mut clients = Vec::new();
        for client in &expect.get_ref().clients {
            clients.push(known.client(source, &client.span(), client.get_ref())?);
        }
        let promises = promises(source, expect.get_ref(), known)?;
        if promises.is_empty() {
            return Err(source.wrong(
                expect.span(),
                "found nothing that is expected, expected at least one of covered_within, balanced_within, \
                 interruption_max, overlap_max, moves_max, view_size, holder, quiet_for",
            ));
        }
        all.extend(promises.into_iter().map(|promise| Expectation {
            after: after.clone(),
            policies: policies.clone(),
            clients: clients.clone(),
            promise,
        }));
    }
    Ok(all)
}

fn anchor(
    source: &Source<'_>,
    written: &File,
    expect: &schema::Expect,
) -> Result<Anchor, ScenarioError> {
    let Some(after) = &expect.after else { return Ok(Anchor::LastFault) };
    let names = || written.step.iter().filter_map(|step| step.get_ref().name.as_ref());
    match after.get_ref().as_str() {
        START => Ok(Anchor::Start),
        LAST_FAULT => Ok(Anchor::LastFault),
        name if names().any(|step| step.get_ref() == name) => Ok(Anchor::Step(name.to_owned())),
        name => {
            let mut steps: Vec<String> = Vec::new();
            for step in names().map(|step| format!("`{}`", step.get_ref())) {
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
            let steps =
                if steps.is_empty() { "no step has one".to_owned() } else { steps.join(", ") };
            let message = format!(
                "found `{name}`, expected `{LAST_FAULT}`, `{START}` or the name of a step: {steps}"
            );
            Err(source.wrong(after.span(), message))
        }
    }
}

fn promises(
    source: &Source<'_>,
    expect: &schema::Expect,
    known: &Known,
) -> Result<Vec<Promise>, ScenarioError> {
    let mut promises = Vec::new();
    type About = fn(Measure) -> Promise;
    let mut about = |written: &Option<Spanned<Written<Measure>>>, promise: About| {
        promises.extend(written.as_ref().map(|measure| promise(measure.get_ref().0.clone())));
    };
    about(&expect.covered_within, Promise::CoveredWithin);
    about(&expect.balanced_within, Promise::BalancedWithin);
    about(&expect.interruption_max, Promise::InterruptionMax);
    about(&expect.overlap_max, Promise::OverlapMax);
    promises.extend(expect.moves_max.as_ref().map(|max| {
        Promise::MovesMax(match *max.get_ref() {
            schema::MovesMax::Total(count) => MovesMax::Total(count),
            schema::MovesMax::PerVip(count) => MovesMax::PerVip(count),
        })
    }));
    match expect.view_size.as_ref().map(Spanned::get_ref) {
        None => {}
        Some(schema::ViewSize::Every(size)) => {
            promises.push(Promise::ViewSize(ViewSize::Every(*size)));
        }
        Some(schema::ViewSize::Of(sizes)) => {
            let mut of = Vec::new();
            for (name, size) in sizes {
                of.push((known.node(source, &name.span(), name.get_ref())?, *size));
            }
            promises.push(Promise::ViewSize(ViewSize::Of(of)));
        }
    }
    let mut holders = Vec::new();
    for (vip, node) in &expect.holder {
        let vip = known.vip(source, &vip.span(), vip.get_ref())?;
        holders.push((vip, known.node(source, &node.span(), node.get_ref())?));
    }
    if !holders.is_empty() {
        promises.push(Promise::Holder(holders));
    }
    let quiet = expect.quiet_for.as_ref();
    promises.extend(quiet.map(|measure| Promise::QuietFor(measure.get_ref().0.clone())));
    Ok(promises)
}

/// What is let pass.
pub(super) fn allowances(
    source: &Source<'_>,
    written: &File,
    known: &Known,
) -> Result<Allow, ScenarioError> {
    let allow = &written.allow;
    let mut uncovered = Vec::new();
    for vip in &allow.uncovered {
        uncovered.push(known.vip(source, &vip.span(), vip.get_ref())?);
    }
    let overlap = allow.unattended_overlap.map_or(Duration::ZERO, |overlap| overlap.0);
    Ok(Allow { unattended_overlap: overlap, uncovered })
}

/// A step's name is not one of the words that an anchor may be.
pub(super) fn step_name(
    source: &Source<'_>,
    name: &Spanned<String>,
) -> Result<String, ScenarioError> {
    let trimmed = name.get_ref().trim();
    if trimmed.is_empty() || trimmed == START || trimmed == LAST_FAULT {
        let message = format!(
            "found `{}`, expected a name for the step that is neither empty nor `{LAST_FAULT}` nor `{START}`",
            name.get_ref()
        );
        return Err(source.wrong(name.span(), message));
    }
    Ok(name.get_ref().clone())
}

/// What takes longer than the story goes on can never be seen.
pub(super) fn can_be_judged(
    source: &Source<'_>,
    written: &File,
    scenario: &Scenario,
) -> Result<(), ScenarioError> {
    let last_step =
        scenario.steps.iter().map(|step| step.at.max + step.every.max * (step.times - 1));
    let last_start = scenario.nodes.iter().filter_map(|node| Some(node.start?.max));
    let last_chaos = scenario.chaos.iter().map(|chaos| chaos.until);
    let last = last_step.chain(last_start).chain(last_chaos).fold(Duration::ZERO, Duration::max);
    for expect in &written.expect.0 {
        let expect = expect.get_ref();
        let begins = match expect.after.as_ref().map(|after| after.get_ref().as_str()) {
            None | Some(LAST_FAULT) => last,
            Some(START) => Duration::ZERO,
            Some(_) => continue,
        };
        for measure in [&expect.covered_within, &expect.balanced_within, &expect.quiet_for]
            .into_iter()
            .flatten()
        {
            // Under the policy that asks for most.
            let policies = if scenario.policies.is_empty() {
                vec![scenario.safety.partition]
            } else {
                scenario.policies.clone()
            };
            let under = policies.into_iter().map(|policy| scenario.under(policy));
            let length = under
                .map(|story| measure.get_ref().0.of(&story, &Bounds::of(&story)))
                .fold(Duration::ZERO, Duration::max);
            let left = scenario.duration.saturating_sub(begins);
            if length >= left {
                let message = format!(
                    "found `{}`, which is {}; expected less than {}, which is all that is left of the scenario's duration",
                    measure.get_ref().0,
                    duration_text(length),
                    duration_text(left)
                );
                return Err(source.wrong(measure.span(), message));
            }
        }
    }
    Ok(())
}
