//! Signals that are not the end.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::plan::Plan;
use netns_tests::wait;
use nix::sys::signal::Signal;

pub(crate) fn a_frozen_daemon_is_killed_at_the_end_of_its_lease() -> Result<()> {
    let mut cluster = Cluster::start(Plan::new(3).ipv4_vips(6))?;

    cluster.freeze("b")?;
    let ended = cluster.daemon("b")?.wait(SOON)?;
    ensure!(ended.to_string() == "signal: 9 (SIGKILL)", "{ended}");
    cluster.wait_served(&["a", "c"])?;
    cluster.power_off("b")?;
    cluster.power_on("b")?;

    cluster.wait_settled(&["a", "b", "c"])
}

pub(crate) fn a_daemon_that_is_frozen_for_less_than_its_lease_goes_on() -> Result<()> {
    let plan = Plan { failure_timeout: Duration::from_secs(3), ..Plan::new(3) };
    let mut cluster = Cluster::start(plan.ipv4_vips(6))?;

    let before = cluster.holdings(&["a", "b", "c"])?;
    cluster.freeze("b")?;
    wait::always("nobody takes anything over", Duration::from_millis(300), || {
        cluster.holdings(&["a", "b", "c"]).is_ok_and(|now| now == before)
    })?;
    cluster.thaw("b")?;

    cluster.wait_settled(&["a", "b", "c"])
}

pub(crate) fn a_hangup_is_survived() -> Result<()> {
    let mut cluster = Cluster::start(Plan::new(2).ipv4_vips(2))?;
    let before = cluster.status("a")?.view;

    cluster.daemon("a")?.signal(Signal::SIGHUP)?;

    // The daemon answers for its status in the same loop in which it hears the signal.
    wait::always("the daemon lives", Duration::from_millis(500), || {
        cluster.status("a").is_ok_and(|status| status.view == before)
    })?;
    ensure!(cluster.daemon("a")?.ended()?.is_none(), "the daemon ended");
    wait::until("both serve", SOON, || cluster.served(&["a", "b"]).is_ok())
}
