//! The harness itself, on bare kernels: what the other cases rely on to notice a fault.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::capture::who_answers;
use netns_tests::holders::Holders;
use netns_tests::lan::{Lan, Machine, Side, own_ipv4, own_ipv6};
use netns_tests::prober::Prober;
use netns_tests::time::Moment;
use netns_tests::wait;

const MS: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_secs(5);

struct Bench {
    lan: Lan,
    a: Machine,
    b: Machine,
    client: Machine,
}

fn bench() -> Result<Bench> {
    let lan = Lan::new(1)?;
    let a = lan.machine("a", 11, Side::Near)?;
    let b = lan.machine("b", 12, Side::Near)?;
    let client = lan.machine("client", 100, Side::Near)?;
    Ok(Bench { lan, a, b, client })
}

fn vips() -> [IpAddr; 2] {
    ["10.77.1.1", "fd00:77::1:1"].map(|text| text.parse().expect("an address"))
}

fn add(machine: &Machine, vip: IpAddr) -> Result<()> {
    let prefix = if vip.is_ipv4() { 32 } else { 128 };
    machine.host().netlink(|netlink| netlink.add_address("eth0", vip, prefix))
}

fn delete(machine: &Machine, vip: IpAddr) -> Result<()> {
    let prefix = if vip.is_ipv4() { 32 } else { 128 };
    machine.host().netlink(|netlink| netlink.delete_address("eth0", vip, prefix))
}

pub(crate) fn an_address_that_moves_is_seen_to_move() -> Result<()> {
    let Bench { a, b, client, .. } = bench()?;
    for vip in vips() {
        add(&a, vip)?;
    }
    let prober = Prober::start(client.host(), &vips(), MS)?;
    wait::until("both addresses answer", SOON, || prober.all_answer())?;
    let moved = Moment::now();

    for vip in vips() {
        delete(&a, vip)?;
        wait::until("the address is silent", SOON, || prober.answered_by(vip).is_none())?;
        add(&b, vip)?;
        client.host().netlink(|netlink| netlink.forget_neighbour("eth0", vip))?;
    }
    wait::until("both addresses answer", SOON, || prober.all_answer())?;

    for vip in vips() {
        let answered_by = prober.answered_by(vip);
        ensure!(answered_by.is_some_and(|mac| b.has(mac)), "{vip} answers from {answered_by:?}");
        let longest = prober.longest(vip, moved).map_or(Duration::ZERO, |found| found.length);
        ensure!(longest > 20 * MS && longest < SOON, "{vip} was silent for {longest:?}");
    }
    Ok(())
}

pub(crate) fn a_partition_parts_and_heals() -> Result<()> {
    let Bench { lan, a, b, client } = bench()?;
    let targets = [own_ipv4(0, 11), own_ipv4(0, 12), own_ipv6(0, 12)];
    let prober = Prober::start(client.host(), &targets, MS)?;
    wait::until("all answer", SOON, || prober.all_answer())?;

    let before_move = Moment::now();
    lan.move_to(&b, Side::Far)?;
    wait::until("all answer", SOON, || prober.all_answer())?;
    let disturbed = prober.longest(targets[0], before_move);
    ensure!(disturbed.is_none_or(|found| found.length < 100 * MS), "moving b disturbed a");
    lan.part()?;
    wait::until("b is silent", SOON, || prober.answered_by(targets[1]).is_none())?;
    ensure!(prober.answered_by(targets[0]).is_some_and(|mac| a.has(mac)), "a is silent too");
    lan.heal()?;

    wait::until("all answer again", SOON, || prober.all_answer())
}

pub(crate) fn two_holders_are_noticed() -> Result<()> {
    let Bench { a, b, client, .. } = bench()?;
    let holders = Holders::watch([&a, &b])?;
    let start = Moment::now();
    for vip in vips() {
        add(&a, vip)?;
        delete(&a, vip)?;
        add(&b, vip)?;
    }
    for vip in vips() {
        let answers = who_answers(client.host(), "eth0", vip, 300 * MS)?;
        ensure!(answers.len() == 1 && answers.iter().all(|&mac| b.has(mac)), "{answers:?} answer");
    }
    ensure!(holders.overlaps(&vips(), start).is_empty(), "an overlap where there was none");

    for vip in vips() {
        add(&a, vip)?;
    }

    for vip in vips() {
        let answers = who_answers(client.host(), "eth0", vip, 300 * MS)?;
        ensure!(answers.len() == 2, "only {answers:?} answer for {vip}");
    }
    let overlaps = holders.overlaps(&vips(), start);
    ensure!(overlaps.len() == 2, "expected two overlaps: {overlaps:?}");
    Ok(())
}

pub(crate) fn a_power_cut_is_silent() -> Result<()> {
    let Bench { lan, a, client, .. } = bench()?;
    let own = own_ipv4(0, 11);
    let prober = Prober::start(client.host(), &[own], MS)?;
    wait::until("a answers", SOON, || prober.all_answer())?;
    let cut = Moment::now();

    lan.kill_ports(&a)?;
    wait::until("a is silent", SOON, || !prober.all_answer())?;
    lan.clear_away(&a)?;
    ensure!(!a.held()?.contains(&own), "a still has its address");
    lan.connect(&a, Side::Near)?;

    wait::until("a answers again", SOON, || prober.all_answer())?;
    let missed = prober.longest(own, cut);
    ensure!(missed.is_some_and(|found| found.length >= 20 * MS), "the client saw no interruption");
    Ok(())
}
