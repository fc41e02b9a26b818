//! What the rest of the segment believes.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::plan::Plan;
use netns_tests::wait;

pub(crate) fn caches_of_a_third_machine_point_to_the_new_holder() -> Result<()> {
    let mut cluster = Cluster::start(Plan::new(3).ipv4_vips(6).ipv6_vips(3))?;
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let moving: Vec<_> = cluster.holdings(&["b"])?.remove("b").into_iter().flatten().collect();
    for &vip in &moving {
        ensure!(cached(&cluster, vip)?.as_deref() == Some("b"), "the client has {vip} elsewhere");
    }
    // From here on the client says nothing, so that only announcements can change its mind.
    drop(prober);

    cluster.power_off("b")?;
    cluster.wait_served(&["a", "c"])?;

    for vip in moving {
        let holder = cluster.holders_of(vip, &["a", "c"])?;
        wait::until(&format!("the client's cache has {vip} at {holder:?}"), SOON, || {
            cached(&cluster, vip).is_ok_and(|name| name.as_deref() == holder.first().map(|h| &**h))
        })?;
    }
    Ok(())
}

/// Where the client's ARP or neighbour cache says that an address is.
fn cached(cluster: &Cluster, address: IpAddr) -> Result<Option<String>> {
    let neighbours = cluster.client.host().netlink(|netlink| netlink.neighbours())?;
    let entry = neighbours.into_iter().find(|entry| entry.address == address);
    let machine = entry.and_then(|entry| entry.mac).and_then(|mac| cluster.machine_with(mac));
    Ok(machine.map(str::to_owned))
}
