//! Heartbeats have a network of their own. It breaks, and the clients' segment is whole.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::cluster::SOON;
use netns_tests::fault::{Fault, Ground, Policy, Range, Timing};
use netns_tests::time::Moment;
use netns_tests::wait;

const TIMING: Timing =
    Timing { heartbeat: Duration::from_millis(100), failure_timeout: Duration::from_millis(400) };
/// For a machine that is busy with other tests. The measured figures are in docs/safety.md.
const SLACK: Duration = Duration::from_millis(250);
/// Several failure timeouts.
const A_WHILE: Duration = Duration::from_secs(2);

pub(crate) fn with_lan_nobody_takes_over_what_is_answered() -> Result<()> {
    let range = Range::start(Ground::TwoNetworks, Policy::Lan, TIMING)?;
    let cluster = &range.cluster;
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let before = cluster.holdings(&cluster.names())?;
    let start = Moment::now();

    range.break_network("c")?;
    for (name, alone) in [("a", &["a", "b"][..]), ("c", &["c"])] {
        wait::until(&format!("{name} is in a view of {alone:?}"), SOON, || {
            cluster.status(name).is_ok_and(|status| status.members() == alone)
        })?;
    }
    let of_c = cluster.machine("c").interfaces()[1].mac.to_string();
    wait::until("a status says that c answers", SOON, || {
        ["a", "b"].iter().filter_map(|name| cluster.status(name).ok()).any(|status| {
            let mut waiting = status.vips.iter().filter_map(|vip| vip.waiting.as_deref());
            waiting.any(|why| why.contains(&of_c) && why.contains("answers for it"))
        })
    })?;
    wait::always("nobody takes anything over", A_WHILE, || {
        cluster.holdings(&cluster.names()).is_ok_and(|now| now == before)
    })?;
    range.mend_network("c")?;
    cluster.wait_settled(&cluster.names())?;

    let overlap = range.witness.longest_overlap(start);
    ensure!(overlap.is_zero(), "two machines answered: {}", range.witness.account(start));
    ensure!(cluster.holdings(&cluster.names())? == before, "VIPs have moved");
    for (vip, gone) in prober.interrupted(start) {
        ensure!(gone <= SLACK, "{vip} was gone for {gone:?}. {}", prober.account(start));
    }
    Ok(())
}

pub(crate) fn with_quorum_the_minority_releases() -> Result<()> {
    let range = Range::start(Ground::TwoNetworks, Policy::Quorum, TIMING)?;
    let cluster = &range.cluster;
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let start = Moment::now();

    range.break_network("c")?;
    cluster.wait_served(&["a", "b"])?;
    let held = &cluster.holdings(&["c"])?["c"];
    ensure!(held.is_empty(), "c still holds {held:?}");
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    range.mend_network("c")?;
    cluster.wait_settled(&cluster.names())?;

    let overlap = range.witness.longest_overlap(start);
    ensure!(overlap.is_zero(), "two machines answered: {}", range.witness.account(start));
    let limit = TIMING.failure_timeout + TIMING.heartbeat + SLACK;
    for (vip, gone) in prober.interrupted(start) {
        ensure!(gone <= limit, "{vip} was gone for {gone:?}. {}", prober.account(start));
    }
    Ok(())
}

pub(crate) fn with_component_both_serve_until_they_meet() -> Result<()> {
    let mut range = Range::start(Ground::TwoNetworks, Policy::Component, TIMING)?;

    let outcome = range.round(Fault::HeartbeatPathCut, "c", A_WHILE)?;

    println!("{outcome:.1?}");
    // That is what this policy means where heartbeats and clients do not share their fate.
    ensure!(outcome.overlap >= A_WHILE / 2, "both sides should have served: {outcome:?}");
    let limit = TIMING.heartbeat + SLACK;
    ensure!(outcome.overlap_mended <= limit, "two holders for too long: {outcome:?}");
    Ok(())
}
