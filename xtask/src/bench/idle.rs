//! What a daemon costs that has nothing to do.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::CellAlignment;
use netns_tests::cluster::Cluster;
use netns_tests::plan::Plan;

use crate::statistics::Spread;
use crate::tables::table;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// For how long.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// How many machines.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=20))]
    machines: u8,
    /// Pause between two heartbeats, in milliseconds; the failure timeout is four of them.
    #[arg(long, default_value_t = 100)]
    heartbeat: u64,
    /// Every daemon records what it is told.
    #[arg(long)]
    record: bool,
}

/// Samples each second and prints a row for each daemon.
pub(crate) fn run(options: &Options) -> Result<()> {
    let heartbeat = Duration::from_millis(options.heartbeat);
    let plan = Plan::new(options.machines).ipv4_vips(10).timing(heartbeat, heartbeat * 4);
    let mut cluster = Cluster::start(Plan { record: options.record, ..plan })?;
    let names: Vec<_> = cluster.names().into_iter().map(str::to_owned).collect();
    let mut daemons = Vec::new();
    for name in &names {
        daemons.push((name, cluster.daemon(name)?.pid(), Vec::new()));
    }
    let recorded_before = recorded(&cluster, &names)?;
    let mut before = read_all(&daemons)?;
    for _ in 0..options.seconds {
        thread::sleep(Duration::from_secs(1));
        let now = read_all(&daemons)?;
        for ((_, _, used), (now, before)) in daemons.iter_mut().zip(now.iter().zip(&before)) {
            used.push(now.saturating_sub(*before));
        }
        before = now;
    }
    let recorded = recorded(&cluster, &names)?;
    let mut recorded = recorded.iter().zip(recorded_before).map(|(now, before)| now - before);
    let mut rows = Vec::new();
    for (name, process, used) in daemons {
        let spread = Spread::of(used).context("no second was measured")?;
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
        let resident = format!("{:.1} MB", resident_kilobytes(process)? as f64 / 1024.0);
        let bytes = recorded.next().unwrap_or_default() as f64 / f64::from(options.seconds);
        let bytes = if options.record { format!("{:.1} kB", bytes / 1000.0) } else { "-".into() };
        rows.push([
            name.clone(),
            ms(spread.min),
            ms(spread.median),
            ms(spread.max),
            resident,
            bytes,
        ]);
    }
    let header =
        ["daemon", "CPU each second: min", "median", "max", "resident", "recorded each second"];
    let table = table(header, rows, 1..=5, CellAlignment::Right);
    println!(
        "{} idle daemons, heartbeat {heartbeat:?}, {} s\n{table}",
        names.len(),
        options.seconds
    );
    Ok(())
}

/// How many bytes each machine has recorded so far.
fn recorded(cluster: &Cluster, names: &[String]) -> Result<Vec<usize>> {
    if !cluster.plan.record {
        return Ok(vec![0; names.len()]);
    }
    let bytes = |name: &String| -> Result<usize> {
        Ok(cluster.records(name)?.iter().map(|(_, bytes)| bytes.len()).sum())
    };
    names.iter().map(bytes).collect()
}

fn read_all<T, U>(daemons: &[(T, u32, U)]) -> Result<Vec<Duration>> {
    daemons.iter().map(|&(_, process, _)| processor_time(process)).collect()
}

/// Processor time that all threads of a process have used so far, to the nanosecond: the first field of
/// `/proc/<pid>/task/<tid>/schedstat`. `/proc/<pid>/stat` counts in hundredths of a second, too coarse here.
fn processor_time(process: u32) -> Result<Duration> {
    let mut total = 0;
    let tasks = format!("/proc/{process}/task");
    for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
        let file = task?.path().join("schedstat");
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let first = text.split_whitespace().next().unwrap_or_default();
        total += first.parse::<u64>().with_context(|| file.display().to_string())?;
    }
    Ok(Duration::from_nanos(total))
}

/// Resident memory, `VmRSS` in proc_pid_status(5).
fn resident_kilobytes(process: u32) -> Result<u64> {
    let file = format!("/proc/{process}/status");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    let line =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS line")?;
    let number = line.split_whitespace().next().unwrap_or_default();
    number.parse().with_context(|| file.clone())
}
