//! Who holds what when nothing is wrong.

use anyhow::{Result, ensure};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::plan::Plan;
use netns_tests::time::Moment;
use netns_tests::wait;

pub(crate) fn vips_are_spread_evenly_and_answer() -> Result<()> {
    let start = Moment::now();

    let cluster = Cluster::start(Plan::new(3).ipv4_vips(10))?;

    let mut loads: Vec<_> = cluster.loads(&cluster.names())?.into_values().collect();
    loads.sort_unstable();
    ensure!(loads == [3, 3, 4], "the load is {loads:?}");
    everything_answers_from_its_holder(&cluster)?;
    let overlaps = cluster.holders.overlaps(&cluster.plan.addresses(), start);
    ensure!(overlaps.is_empty(), "two machines held an address at once: {overlaps:?}");
    Ok(())
}

pub(crate) fn ipv6_vips_over_an_ipv6_cluster() -> Result<()> {
    let plan = Plan { ipv6: true, ..Plan::new(3).ipv6_vips(6) };

    let cluster = Cluster::start(plan)?;

    everything_answers_from_its_holder(&cluster)
}

pub(crate) fn heartbeats_by_multicast() -> Result<()> {
    let plan = Plan { multicast: true, ..Plan::new(3).ipv4_vips(3) };

    let mut cluster = Cluster::start(plan)?;
    cluster.power_off("b")?;

    cluster.wait_settled(&["a", "c"])
}

pub(crate) fn a_preferred_machine_has_its_vip() -> Result<()> {
    let vip = "10.77.2.1".parse()?;
    let plan = Plan::new(3).ipv4_vips(2).vip(&[(vip, "eth0")], &["b"]);

    let mut cluster = Cluster::start(plan)?;
    ensure!(cluster.holders_of(vip, &cluster.names())? == ["b"], "b does not have its VIP");
    cluster.power_off("b")?;
    cluster.wait_served(&["a", "c"])?;
    cluster.power_on("b")?;

    cluster.wait_served(&["a", "b", "c"])?;
    wait::until("b has its VIP again", SOON, || {
        cluster.holders_of(vip, &cluster.names()).is_ok_and(|holders| holders == ["b"])
    })
}

fn everything_answers_from_its_holder(cluster: &Cluster) -> Result<()> {
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    for vip in cluster.plan.addresses() {
        let holders = cluster.holders_of(vip, &cluster.names())?;
        let answers = prober.answered_by(vip).and_then(|mac| cluster.machine_with(mac));
        ensure!(
            holders.len() == 1 && answers == Some(&holders[0]),
            "{vip} is held by {holders:?}, but {answers:?} answers"
        );
    }
    Ok(())
}
