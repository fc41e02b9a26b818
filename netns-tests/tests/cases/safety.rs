//! Nobody answers twice, whatever becomes of a daemon on a machine that lives. What counts is answers on the segment.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::fault::{Fault, Outcome, Policy, Range, Timing};

const TIMING: Timing =
    Timing { heartbeat: Duration::from_millis(100), failure_timeout: Duration::from_millis(400) };
/// For a machine that is busy with other tests. The measured figures are in docs/safety.md.
const SLACK: Duration = Duration::from_millis(250);
/// Without a gate the kernel lets go of an address of a second's lifetime at its next look, a second later at most.
const LIFETIME: Duration = Duration::from_secs(2);

pub(crate) fn a_killed_daemon_is_followed_at_once() -> Result<()> {
    for policy in Policy::ALL {
        let [outcome] = rounds(policy, [Fault::DaemonKilled])?;
        outcome.was_exclusive()?;
        // Only the guardian's word can be the reason for so little.
        let limit = Duration::from_millis(50) + SLACK;
        ensure!(outcome.dark <= limit, "{policy:?}: clients were in the dark: {outcome:?}");
    }
    Ok(())
}

pub(crate) fn a_stopped_daemon_is_silent_at_the_end_of_its_lease() -> Result<()> {
    for policy in Policy::ALL {
        let [outcome] = rounds(policy, [Fault::DaemonStopped])?;
        outcome.was_exclusive()?;
        silent_within_the_lease(policy, outcome, Duration::ZERO)?;
        follows_in_time(policy, outcome)?;
    }
    Ok(())
}

pub(crate) fn without_daemon_and_guardian_the_gate_shuts() -> Result<()> {
    for policy in Policy::ALL {
        for outcome in rounds(policy, [Fault::BothKilled, Fault::BothStopped])? {
            outcome.was_exclusive()?;
            silent_within_the_lease(policy, outcome, Duration::ZERO)?;
            follows_in_time(policy, outcome)?;
        }
    }
    Ok(())
}

pub(crate) fn without_daemon_guardian_and_gate_lifetimes_end() -> Result<()> {
    for policy in Policy::ALL {
        for outcome in rounds(policy, [Fault::BothKilledNoGate, Fault::BothStoppedNoGate])? {
            silent_within_the_lease(policy, outcome, LIFETIME)?;
            // An address that is answered is not taken over.
            if policy == Policy::Lan {
                outcome.was_exclusive()?;
            }
            ensure!(outcome.overlap <= LIFETIME + SLACK, "{policy:?}: {outcome:?}");
        }
    }
    Ok(())
}

pub(crate) fn a_lost_machine_costs_no_more_with_leases_and_probes() -> Result<()> {
    for policy in Policy::ALL {
        let [outcome] = rounds(policy, [Fault::MachineLost])?;
        outcome.was_exclusive()?;
        follows_in_time(policy, outcome)?;
    }
    Ok(())
}

fn rounds<const N: usize>(policy: Policy, faults: [Fault; N]) -> Result<[Outcome; N]> {
    let mut range = Range::start(faults[0].ground(), policy, TIMING)?;
    let mut outcomes = [Outcome::default(); N];
    for (fault, outcome) in faults.into_iter().zip(&mut outcomes) {
        let round = range.round(fault, "b", Duration::ZERO);
        *outcome = round.with_context(|| format!("with partition = {:?}", policy.name()))?;
        println!("{}, {}: {outcome:.1?}", policy.name(), fault.name());
    }
    Ok(outcomes)
}

fn silent_within_the_lease(policy: Policy, outcome: Outcome, longer: Duration) -> Result<()> {
    let limit = TIMING.failure_timeout + longer + SLACK;
    let silent = outcome.silent.is_none_or(|silent| silent <= limit);
    ensure!(silent, "{policy:?}: the machine went on answering: {outcome:?}");
    Ok(())
}

fn follows_in_time(policy: Policy, outcome: Outcome) -> Result<()> {
    let limit = TIMING.failure_timeout + TIMING.heartbeat + SLACK;
    ensure!(outcome.dark <= limit, "{policy:?}: clients were in the dark: {outcome:?}");
    Ok(())
}
