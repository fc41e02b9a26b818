//! An idle cluster at the shortest timing: every change of view is a false alarm.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use netns_tests::cluster::Cluster;
use netns_tests::plan::Plan;
use netns_tests::status::View;
use netns_tests::time::Moment;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How many machines.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=20))]
    machines: u8,
    /// Pause between two heartbeats, in milliseconds.
    #[arg(long, default_value_t = 10)]
    heartbeat: u64,
    /// Silence after which a machine counts as down, in milliseconds.
    #[arg(long, default_value_t = 40)]
    timeout: u64,
}

/// Waits and counts.
pub(crate) fn run(options: &Options) -> Result<()> {
    let timing = [options.heartbeat, options.timeout].map(Duration::from_millis);
    let plan = Plan::new(options.machines).ipv4_vips(10).timing(timing[0], timing[1]);
    let cluster = Cluster::start(plan)?;
    let machines = options.machines;
    println!("{machines} idle daemons, heartbeat {:?}, failure timeout {:?}", timing[0], timing[1]);
    let started = Moment::now();
    let length = Duration::from_secs_f64(options.minutes.max(0.0) * 60.0);
    let first = view(&cluster)?.context("there is no view")?;
    let mut last = first.clone();
    while started.elapsed() < length {
        thread::sleep(Duration::from_secs(1).min(length.saturating_sub(started.elapsed())));
        let Some(now) = view(&cluster)? else { continue };
        if now != last {
            let time = started.elapsed().as_secs_f64();
            println!("{time:7.1} s  view {} of {:?}", now.epoch, now.members);
            last = now;
        }
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let changes = last.epoch - first.epoch;
    println!("{changes} view changes in {minutes:.1} minutes");
    cluster.wait_served(&cluster.names())
}

fn view(cluster: &Cluster) -> Result<Option<View>> {
    let first = cluster.names()[0];
    Ok(cluster.status(first)?.view)
}
