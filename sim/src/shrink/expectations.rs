//! Expectations of a story that becomes smaller: the one that failed stays, and what it is about goes with its nodes,
//! VIPs and steps.

use crate::scenario::{Anchor, Promise, Scenario, ViewSize};

/// Keeps only the expectation that a violation is about, if it is about one.
pub(super) fn keep_the_violated(scenario: &mut Scenario, sentence: &str) {
    let told: Vec<bool> = scenario
        .expect
        .iter()
        .map(|expectation| expectation.is_told_by(sentence, scenario))
        .collect();
    let mut told = told.into_iter();
    scenario.expect.retain(|_| told.next().unwrap_or(false));
}

/// Without the step that it is about, an expectation is about nothing.
pub(super) fn drop_dangling(scenario: &mut Scenario) {
    let steps = &scenario.steps;
    scenario.expect.retain(|expectation| match &expectation.after {
        Anchor::Step(name) => steps.iter().any(|step| step.name.as_ref() == Some(name)),
        Anchor::Start | Anchor::LastFault => true,
    });
}

/// A node goes, and what is expected of it.
pub(super) fn without_node(scenario: &mut Scenario, node: usize) {
    let nodes = scenario.nodes.len();
    scenario.expect.retain_mut(|expectation| match &mut expectation.promise {
        Promise::Holder(pairs) => {
            pairs.retain_mut(|(_, of)| stays(of, node));
            !pairs.is_empty()
        }
        Promise::ViewSize(ViewSize::Of(pairs)) => {
            pairs.retain_mut(|(of, _)| stays(of, node));
            pairs.iter_mut().for_each(|(_, size)| *size = (*size).min(nodes));
            !pairs.is_empty()
        }
        Promise::ViewSize(ViewSize::Every(size)) => {
            *size = (*size).min(nodes);
            true
        }
        _ => true,
    });
}

fn stays(of: &mut usize, gone: usize) -> bool {
    let stays = *of != gone;
    *of -= usize::from(*of > gone);
    stays
}

/// VIPs go, and what is expected of them.
pub(super) fn without_vips(scenario: &mut Scenario, stays: impl Fn(&mut usize) -> bool) {
    scenario.expect.retain_mut(|expectation| match &mut expectation.promise {
        Promise::Holder(pairs) => {
            pairs.retain_mut(|(vip, _)| stays(vip));
            !pairs.is_empty()
        }
        _ => true,
    });
    scenario.allow.uncovered.retain_mut(stays);
}
