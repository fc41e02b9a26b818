//! Addresses that others add and remove.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::plan::Plan;
use netns_tests::wait;

pub(crate) fn an_address_deleted_by_hand_is_put_back() -> Result<()> {
    let cluster = Cluster::start(Plan::new(2).ipv4_vips(4).ipv6_vips(2))?;
    for vip in cluster.plan.addresses() {
        let holder = cluster.holders_of(vip, &["a", "b"])?.pop().context("nobody holds it")?;
        let prefix = if vip.is_ipv4() { 32 } else { 128 };

        cluster
            .machine(&holder)
            .host()
            .netlink(|netlink| netlink.delete_address("eth0", vip, prefix))?;

        wait::until(&format!("{vip} is back on {holder}"), SOON, || {
            cluster.holders_of(vip, &["a", "b"]).is_ok_and(|holders| holders == [holder.as_str()])
        })?;
    }
    cluster.served(&["a", "b"])
}

pub(crate) fn foreign_addresses_are_left_alone() -> Result<()> {
    let foreign: [IpAddr; 3] =
        ["10.77.9.1".parse()?, "10.77.9.2".parse()?, "fd00:77::9:1".parse()?];
    let mut cluster = Cluster::build(Plan::new(1).ipv4_vips(2).ipv6_vips(1))?;
    cluster.machine("a").host().netlink(|netlink| {
        netlink.add_address("eth0", foreign[0], 32)?;
        netlink.add_address("eth0", foreign[1], 16)?;
        netlink.add_address("eth0", foreign[2], 128)
    })?;
    let before = cluster.machine("a").held()?;
    let kept = |cluster: &Cluster| -> Result<()> {
        let held = cluster.machine("a").held()?;
        for address in &before {
            ensure!(held.contains(address), "{address} is gone from {held:?}");
        }
        Ok(())
    };

    cluster.start_daemon("a")?;
    cluster.wait_served(&["a"])?;
    kept(&cluster)?;
    cluster.kill_daemon("a")?;
    cluster.start_daemon("a")?;
    cluster.wait_served(&["a"])?;
    kept(&cluster)?;
    cluster.stop_daemon("a")?;

    kept(&cluster)?;
    let vips = &cluster.holdings(&["a"])?["a"];
    ensure!(vips.is_empty(), "the daemon left {vips:?} behind");
    wait::always("nothing else goes", Duration::from_millis(200), || kept(&cluster).is_ok())
}
