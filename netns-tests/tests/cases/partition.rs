//! The LAN falls apart and comes together again.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::cluster::{Cluster, PROBE_INTERVAL, SOON};
use netns_tests::plan::Plan;
use netns_tests::prober::Prober;
use netns_tests::time::Moment;
use netns_tests::wait;

pub(crate) fn both_halves_serve_and_merge_to_one_holder() -> Result<()> {
    let cluster = Cluster::start(Plan::new(4).ipv4_vips(8).ipv6_vips(2))?;
    let vips = cluster.plan.addresses();
    let near = cluster.probe()?;
    let far = Prober::start(cluster.far_client.host(), &vips, PROBE_INTERVAL)?;
    wait::until("every VIP answers both clients", SOON, || near.all_answer() && far.all_answer())?;

    cluster.partition(&["c", "d"])?;
    cluster.wait_served(&["a", "b"])?;
    cluster.wait_served(&["c", "d"])?;
    wait::until("every VIP answers both clients", SOON, || near.all_answer() && far.all_answer())?;
    let healed = Moment::now();
    cluster.heal()?;

    cluster.wait_settled(&["a", "b", "c", "d"])?;
    for overlap in cluster.holders.overlaps(&vips, healed) {
        ensure!(overlap.length < Duration::from_secs(1), "the overlap lasted: {overlap:?}");
    }
    for vip in vips {
        let holder = cluster.holders_of(vip, &cluster.names())?;
        let answers_from_holder = |client: &Prober| {
            let answers = client.answered_by(vip).and_then(|mac| cluster.machine_with(mac));
            answers.is_some() && answers == holder.first().map(String::as_str)
        };
        wait::until("both clients reach the holder", SOON, || {
            answers_from_holder(&near) && answers_from_holder(&far)
        })?;
    }
    Ok(())
}
