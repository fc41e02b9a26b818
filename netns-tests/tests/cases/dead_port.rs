//! A switch port that drops everything for a while, without a word: the machine behind it keeps its carrier.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::fault::{Fault, Ground, Policy, Range, Timing};

const TIMING: Timing =
    Timing { heartbeat: Duration::from_millis(100), failure_timeout: Duration::from_millis(400) };
/// For a machine that is busy with other tests. The measured figures are in docs/safety.md.
const SLACK: Duration = Duration::from_millis(250);
/// The port works again before anybody has noticed, when the others have just taken over, and long afterwards.
const BROKEN: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(420), Duration::from_millis(1300)];

pub(crate) fn two_holders_meet_for_a_moment_with_component() -> Result<()> {
    rounds(Policy::Component)
}

pub(crate) fn two_holders_never_meet_with_lan() -> Result<()> {
    rounds(Policy::Lan)
}

pub(crate) fn two_holders_never_meet_with_quorum() -> Result<()> {
    rounds(Policy::Quorum)
}

fn rounds(policy: Policy) -> Result<()> {
    let mut range = Range::start(Ground::Usual, policy, TIMING)?;
    for (broken, victim) in BROKEN.into_iter().zip(["b", "a", "c"]) {
        let outcome = range.round(Fault::SilentPort, victim, broken)?;
        println!("{}: {outcome:.1?}", policy.name());
        if policy == Policy::Component {
            let limit = TIMING.heartbeat + SLACK;
            ensure!(outcome.overlap <= limit, "two holders for too long: {outcome:?}");
        } else {
            outcome.was_exclusive()?;
        }
        let limit = TIMING.failure_timeout + TIMING.heartbeat + SLACK;
        ensure!(outcome.dark <= limit, "clients were in the dark: {outcome:?}");
    }
    Ok(())
}
