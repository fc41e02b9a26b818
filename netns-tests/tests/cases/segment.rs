//! Others on the same segment who do not belong to the cluster.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::plan::Plan;
use netns_tests::wait;

/// Several failure timeouts: long enough for a view to change, if anything made it.
const A_WHILE: Duration = Duration::from_secs(1);

pub(crate) fn a_wrong_key_is_counted_and_kept_out() -> Result<()> {
    let mut cluster = Cluster::build(Plan::new(3).ipv4_vips(4))?;
    cluster.replace_key("c")?;

    for name in ["a", "b", "c"] {
        cluster.start_daemon(name)?;
    }

    cluster.wait_served(&["a", "b"])?;
    for name in ["a", "b"] {
        wait::until(&format!("{name} counts wrong keys"), SOON, || {
            cluster.status(name).is_ok_and(|status| status.rejected("wrong-key") > 0)
        })?;
    }
    wait::always("c stays out", A_WHILE, || {
        cluster.status("a").is_ok_and(|status| status.members() == ["a", "b"])
    })
}

pub(crate) fn another_cluster_is_counted_and_undisturbed() -> Result<()> {
    // Only multicast heartbeats reach machines that they are not meant for.
    let plan = Plan { multicast: true, ..Plan::new(4) };
    let mut web = Plan { machines: vec!["a".into(), "b".into()], ..plan.clone() };
    let mut mail =
        Plan { machines: vec!["c".into(), "d".into()], first_number: 13, ..plan.clone() };
    mail.name = "mail".into();
    web = web.vip(&[("10.77.2.1".parse()?, "eth0")], &["a"]);
    mail = mail.vip(&[("10.77.2.2".parse()?, "eth0")], &["c"]);
    let mut cluster = Cluster::build(plan)?;
    for (name, plan) in [("a", &web), ("b", &web), ("c", &mail), ("d", &mail)] {
        cluster.reconfigure(name, plan)?;
        cluster.start_daemon(name)?;
    }

    for (members, vip, holder) in [(["a", "b"], "10.77.2.1", "a"), (["c", "d"], "10.77.2.2", "c")] {
        cluster.wait_served(&members)?;
        let vip = vip.parse()?;
        wait::until(&format!("{holder} holds {vip}"), SOON, || {
            cluster.holders_of(vip, &cluster.names()).is_ok_and(|holders| holders == [holder])
        })?;
        for name in members {
            wait::until(&format!("{name} counts the other cluster"), SOON, || {
                cluster.status(name).is_ok_and(|status| status.rejected("other-cluster") > 0)
            })?;
        }
    }
    let views = |cluster: &Cluster| -> Result<Vec<_>> {
        cluster.names().into_iter().map(|name| Ok(cluster.status(name)?.view)).collect()
    };
    let before = views(&cluster)?;
    wait::always("no view changes", A_WHILE, || views(&cluster).is_ok_and(|now| now == before))?;
    ensure!(before.iter().all(Option::is_some), "somebody is in no view: {before:?}");
    Ok(())
}
