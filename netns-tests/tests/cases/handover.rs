//! Planned moves: release, confirmed, then acquire.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::plan::Plan;
use netns_tests::prober::Prober;
use netns_tests::time::Moment;
use netns_tests::wait;

/// A handover takes a millisecond or two; this is for a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_millis(150);

pub(crate) fn a_graceful_stop_hands_over_without_a_gap() -> Result<()> {
    let mut cluster = Cluster::start(Plan::new(3).ipv4_vips(9).ipv6_vips(3))?;
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let stopped = Moment::now();

    cluster.stop_daemon("b")?;

    let left_behind = &cluster.holdings(&["b"])?["b"];
    ensure!(left_behind.is_empty(), "b left {left_behind:?} behind");
    cluster.wait_served(&["a", "c"])?;
    moved_cleanly(&cluster, &prober, stopped)
}

pub(crate) fn a_machine_that_returns_gets_its_share() -> Result<()> {
    let mut cluster = Cluster::start(Plan::new(3).ipv4_vips(9).ipv6_vips(3))?;
    cluster.stop_daemon("c")?;
    cluster.wait_served(&["a", "b"])?;
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let returned = Moment::now();

    cluster.start_daemon("c")?;
    cluster.wait_settled(&["a", "b", "c"])?;

    ensure!(cluster.loads(&["c"])?["c"] == 4, "c did not get its share");
    moved_cleanly(&cluster, &prober, returned)
}

/// Since `start` no address was held twice, and no client missed one for long.
fn moved_cleanly(cluster: &Cluster, prober: &Prober, start: Moment) -> Result<()> {
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let overlaps = cluster.holders.overlaps(&cluster.plan.addresses(), start);
    ensure!(overlaps.is_empty(), "two machines held an address at once: {overlaps:?}");
    for (vip, gone) in prober.interrupted(start) {
        let account = || prober.account(start);
        ensure!(gone <= LIMIT, "{vip} was gone for more than {LIMIT:?}. {}", account());
    }
    Ok(())
}
