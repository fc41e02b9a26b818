//! What happens to the VIPs of a machine that fails, and to the machine when it returns.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::plan::Plan;
use netns_tests::time::Moment;
use netns_tests::wait;

/// What a failover may take beyond the failure timeout and a heartbeat, on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_millis(400);

pub(crate) fn vips_of_a_lost_machine_move() -> Result<()> {
    a_lost_machine_is_covered("b")
}

pub(crate) fn vips_of_a_lost_coordinator_move() -> Result<()> {
    a_lost_machine_is_covered("a")
}

fn a_lost_machine_is_covered(lost: &str) -> Result<()> {
    let mut cluster = Cluster::start(Plan::new(3).ipv4_vips(9).ipv6_vips(3))?;
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let (victims, bystanders) = held_by(&cluster, lost)?;
    ensure!(victims.len() == 4, "{lost} holds {victims:?}");
    let cut = Moment::now();

    cluster.power_off(lost)?;

    cluster.wait_served(&cluster.others(lost))?;
    wait::until("every VIP answers again", SOON, || prober.all_answer())?;
    let limit = cluster.plan.failure_timeout + cluster.plan.heartbeat + SLACK;
    for vip in victims {
        let gone = prober.longest(vip, cut).map(|found| found.length);
        let gone = gone.with_context(|| format!("{vip} of {lost} was never interrupted"))?;
        let account = || prober.account(cut);
        ensure!(gone <= limit, "{vip} was gone for more than {limit:?}. {}", account());
    }
    for vip in bystanders {
        let gone = prober.longest(vip, cut);
        let short = gone.is_none_or(|found| found.length <= SLACK);
        ensure!(short, "{vip}, not held by {lost}, was gone. {}", prober.account(cut));
    }
    cluster.power_on(lost)?;
    cluster.wait_settled(&cluster.names())
}

pub(crate) fn vips_of_a_killed_daemon_move_at_once() -> Result<()> {
    // So long that only the guardian's word can be the reason.
    let plan = Plan { failure_timeout: Duration::from_secs(3), ..Plan::new(3) };
    let mut cluster = Cluster::start(plan.ipv4_vips(9).ipv6_vips(3))?;
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let (victims, _) = held_by(&cluster, "b")?;
    let killed = Moment::now();

    cluster.kill_daemon("b")?;

    cluster.wait_served(&["a", "c"])?;
    wait::until("every VIP answers again", SOON, || prober.all_answer())?;
    for vip in victims {
        let gone = prober.longest(vip, killed).map_or(Duration::ZERO, |found| found.length);
        println!("{vip} of a killed daemon was gone for {gone:.1?}");
        let account = || prober.account(killed);
        ensure!(gone <= SLACK, "{vip} was gone for more than {SLACK:?}. {}", account());
    }
    let (left, _) = held_by(&cluster, "b")?;
    ensure!(left.is_empty(), "b's kernel still has {left:?}");
    cluster.start_daemon("b")?;
    cluster.wait_settled(&["a", "b", "c"])
}

pub(crate) fn leftovers_of_a_daemon_killed_with_its_guardian_go_at_its_next_start() -> Result<()> {
    let mut cluster = Cluster::start(Plan::new(3).ipv4_vips(9).ipv6_vips(3))?;
    let (leftovers, _) = held_by(&cluster, "b")?;

    cluster.kill_daemon_with_guardian("b")?;
    let (still_there, _) = held_by(&cluster, "b")?;
    ensure!(still_there == leftovers, "b's kernel should have kept {leftovers:?}: {still_there:?}");
    cluster.start_daemon("b")?;

    cluster.wait_settled(&["a", "b", "c"])
}

pub(crate) fn vips_move_off_a_dead_link() -> Result<()> {
    let cluster = Cluster::start(Plan::new(3).ipv4_vips(6).ipv6_vips(3))?;

    cluster.machine("b").link_down("eth0")?;
    cluster.wait_served(&["a", "c"])?;
    cluster.machine("b").link_up("eth0")?;

    cluster.wait_settled(&["a", "b", "c"])
}

pub(crate) fn vips_move_off_a_dead_switch_port() -> Result<()> {
    let cluster = Cluster::start(Plan::new(3).ipv4_vips(6))?;

    cluster.lan.kill_ports(cluster.machine("c"))?;
    cluster.wait_served(&["a", "b"])?;
    cluster.lan.revive_ports(cluster.machine("c"))?;

    cluster.wait_settled(&["a", "b", "c"])
}

pub(crate) fn a_set_over_two_interfaces_moves_whole() -> Result<()> {
    let set = [
        ("10.77.2.1".parse()?, "eth0"),
        ("fd00:77::2:1".parse()?, "eth0"),
        ("10.78.2.1".parse()?, "eth1"),
        ("fd00:78::2:1".parse()?, "eth1"),
    ];
    let plan = Plan { segments: 2, ..Plan::new(3).ipv4_vips(2).vip(&set, &[]) };
    let mut cluster = Cluster::start(plan)?;
    let prober = cluster.probe()?;
    wait::until("every VIP answers", SOON, || prober.all_answer())?;

    // Both ways of leaving: whoever holds the set loses power, then whoever holds it stops.
    let first = holder(&cluster, set[0].0, &cluster.names())?;
    cluster.power_off(&first)?;
    let left: Vec<_> = cluster.others(&first).into_iter().map(str::to_owned).collect();
    let left: Vec<_> = left.iter().map(String::as_str).collect();
    cluster.wait_served(&left)?;
    let second = holder(&cluster, set[0].0, &left)?;
    cluster.stop_daemon(&second)?;
    let last: Vec<_> = left.iter().copied().filter(|&name| name != second).collect();

    cluster.wait_served(&last)?;
    wait::until("every VIP answers again", SOON, || prober.all_answer())?;
    for (address, _) in set {
        let answers = prober.answered_by(address).and_then(|mac| cluster.machine_with(mac));
        ensure!(answers == last.first().copied(), "{answers:?} answers for {address}");
    }
    Ok(())
}

fn holder(cluster: &Cluster, address: IpAddr, among: &[&str]) -> Result<String> {
    let holders = cluster.holders_of(address, among)?;
    ensure!(holders.len() == 1, "{address} is held by {holders:?}");
    Ok(holders[0].clone())
}

/// The VIP addresses that a machine's kernel holds, and those that it does not.
fn held_by(cluster: &Cluster, name: &str) -> Result<(Vec<IpAddr>, Vec<IpAddr>)> {
    let held = cluster.machine(name).held()?;
    Ok(cluster.plan.addresses().into_iter().partition(|address| held.contains(address)))
}
