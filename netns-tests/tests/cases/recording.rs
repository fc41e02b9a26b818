//! Daemons that record what they are told, and the same done again from the records alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use netns_tests::cluster::{Cluster, RECORDS, SOON};
use netns_tests::daemon::log_file;
use netns_tests::plan::Plan;
use netns_tests::wait;
use nix::mount::{MsFlags, mount};
use sim::journal::{KernelChange, What};
use sim::replay::account::Account;
use sim::replay::clocks::Clocks;
use sim::replay::{Happening, Replayed, load, replay, show};
use wackamole::record::{End, Finish};
use wackamole_protocol::event::Event;
use wackamole_protocol::id::NodeId;

pub(crate) fn what_daemons_recorded_is_done_again_and_shows_the_failover() -> Result<()> {
    let plan = Plan { record: true, ..Plan::new(3) };
    let mut cluster = Cluster::start(plan.ipv4_vips(6).ipv6_vips(3))?;
    let victims = cluster.holdings(&["b"])?;
    // A daemon that is killed takes the last milliseconds of its record with it.
    wait::until("b has recorded what it holds", SOON, || {
        replay_all(&cluster, &["b"]).is_ok_and(|so_far| acquired(&so_far[0]) == victims["b"].len())
    })?;

    cluster.kill_daemon("b")?;
    cluster.wait_served(&["a", "c"])?;
    cluster.start_daemon("b")?;
    cluster.wait_settled(&["a", "b", "c"])?;
    for name in ["a", "b", "c"] {
        cluster.stop_daemon(name)?;
    }

    let replayed = replay_all(&cluster, &["a", "b", "c"])?;
    let clocks = Clocks::compare(&replayed);
    let account = Account::merge(&replayed, &clocks).map_err(|error| anyhow!(error))?;
    let text = show::text(&replayed, &clocks, &account, true);
    ensure!(replayed.len() == 4, "{text}");
    for record in &replayed {
        ensure!(record.is_same() && record.steps > 20, "{text}");
    }
    let cut_off = |record: &&Replayed| matches!(record.finish, Finish::CutOff { .. });
    let cut_off: Vec<_> = replayed.iter().filter(cut_off).collect();
    ensure!(cut_off.len() == 1 && cut_off[0].header.node == "b", "{text}");
    let left = replayed.iter().filter(|record| record.finish == Finish::Marked(End::Left));
    ensure!(left.count() == 3, "{text}");
    // What b held went to the others, who agreed on it.
    let without_b: BTreeSet<_> = ["a", "c"].map(NodeId::from_name).into();
    let agreed = account.entries.iter().any(|entry| {
        matches!(&entry.what, What::Daemon { event: Event::ViewInstalled { members, .. }, .. } if *members == without_b)
    });
    ensure!(agreed, "no view without b: {text}");
    let lost: Vec<_> = account.holdings.iter().filter(|holding| !holding.ended).collect();
    ensure!(lost.len() == victims["b"].len() && !lost.is_empty(), "{victims:?}: {text}");
    for holding in lost {
        ensure!(holding.node == 1, "{text}");
        let next = account.holdings.iter().find(|next| {
            next.vip == holding.vip && next.from >= holding.to && next.node != holding.node
        });
        let next = next.with_context(|| format!("nobody took over: {text}"))?;
        ensure!(next.from - holding.to < Duration::from_secs(2), "{text}");
    }
    Ok(())
}

pub(crate) fn a_full_disk_ends_a_record_and_nothing_else() -> Result<()> {
    let plan = Plan { record: true, ..Plan::new(2) };
    let mut cluster = Cluster::build(plan.ipv4_vips(4))?;
    cluster.machine("b").host().run(|| -> Result<()> {
        std::fs::create_dir(RECORDS)?;
        let size = Some("size=32k");
        Ok(mount(Some("tmpfs"), RECORDS, Some("tmpfs"), MsFlags::empty(), size)?)
    })?;

    for name in ["a", "b"] {
        cluster.start_daemon(name)?;
    }
    let told = || {
        let log = std::fs::read_to_string(log_file("b")).unwrap_or_default();
        log.matches("recording stops here").count()
    };
    wait::until("the record of b ends", SOON, || told() == 1)?;

    cluster.wait_settled(&["a", "b"])?;
    for name in ["a", "b"] {
        cluster.stop_daemon(name)?;
    }
    ensure!(told() == 1, "it is told once");
    for record in replay_all(&cluster, &["a", "b"])? {
        ensure!(record.is_same() && record.steps > 20, "{record:?}");
        let full = matches!(&record.finish, Finish::Marked(End::Refused(error)) if error.contains("No space"));
        ensure!(full == (record.header.node == "b"), "{:?}", record.finish);
    }
    Ok(())
}

/// How many times a machine's kernel acquired a VIP.
fn acquired(record: &Replayed) -> usize {
    let acquired = |happening: &&(_, Happening)| {
        matches!(happening.1, Happening::Kernel(_, KernelChange::Acquired))
    };
    record.happenings.iter().filter(acquired).count()
}

/// Fetches the records of some machines and feeds them through the machines again.
fn replay_all(cluster: &Cluster, names: &[&str]) -> Result<Vec<Replayed>> {
    let directory = PathBuf::from(netns_tests::sandbox::SCRATCH).join("fetched");
    std::fs::create_dir_all(&directory)?;
    for name in names {
        for (file, bytes) in cluster.records(name)? {
            let file = Path::new(&file).file_name().context("a record without a name")?;
            std::fs::write(directory.join(file), bytes)?;
        }
    }
    let key = directory.join(load::KEY_FILE);
    std::fs::write(&key, cluster.key()?)?;
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let (records, key) = load::load(&[directory], None)?;
    Ok(records.iter().map(|record| replay(record, &key)).collect())
}
