//! Others on the same segment who do not belong to the cluster.

use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::daemon::log_file;
use netns_tests::frame;
use netns_tests::mac::Mac;
use netns_tests::plan::Plan;
use netns_tests::time::Moment;
use netns_tests::wait;
use netns_tests::witness::{FrameSender, link};

/// Several failure timeouts: long enough for a view to change, if anything made it.
const A_WHILE: Duration = Duration::from_secs(1);
/// Somebody else's claim is answered by an announcement at once; this is for a machine that is busy with other tests.
const DEFENDED: Duration = Duration::from_millis(150);

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

pub(crate) fn a_stranger_that_claims_a_vip_is_named_and_the_holder_defends_it() -> Result<()> {
    let cluster = Cluster::start(Plan::new(3).ipv4_vips(3))?;
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let before = cluster.holdings(&cluster.names())?;
    let vip @ IpAddr::V4(address) = cluster.plan.addresses()[0] else { bail!("an IPv4 VIP") };
    let holder = cluster.holders_of(vip, &cluster.names())?.remove(0);
    // Lower than any of the machines' own: a fellow of ours would yield to it.
    let stranger = Mac([0x02, 0x01, 0, 0, 0, 9]);
    let host = cluster.far_client.host();
    let (sender, to) = (FrameSender::open(host)?, link(host, "eth0")?);
    let claimed = Moment::now();

    sender.send(&to, &frame::gratuitous_arp(stranger, address))?;
    thread::sleep(A_WHILE / 2);
    let gone = prober.longest(vip, claimed).map_or(Duration::ZERO, |found| found.length);
    ensure!(gone <= DEFENDED, "defended only after {gone:?}. {}", prober.account(claimed));
    // It is not defended again for 10 s, so that two that both defend do not fill the segment; but it is told.
    for _ in 0..2 {
        thread::sleep(A_WHILE);
        sender.send(&to, &frame::gratuitous_arp(stranger, address))?;
    }
    thread::sleep(A_WHILE / 2);

    let is_named =
        |text: &str| text.contains(&vip.to_string()) && text.contains(&stranger.to_string());
    let status = cluster.status(&holder)?;
    ensure!(status.warnings.iter().any(|w| is_named(w)), "{holder} warns of {:?}", status.warnings);
    let log = fs::read_to_string(log_file(&holder))?;
    let told =
        |line: &str| is_named(line) && line.contains("another machine uses a VIP that we hold");
    ensure!(log.lines().any(told), "{holder} does not name {stranger} in its log:\n{log}");
    ensure!(cluster.holdings(&cluster.names())? == before, "VIPs have moved");
    wait::until("the VIP answers", SOON, || prober.answered_by(vip).is_some())
}
