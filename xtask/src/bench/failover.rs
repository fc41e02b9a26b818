//! What a client misses of the VIPs that move.
//!
//! A run is one loss of a machine, its return, a graceful stop and a rejoin; machines take turns, so the coordinator
//! is among the lost ones. Each figure is the VIP that was away longest in that run.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{CellAlignment, Table};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::plan::Plan;
use netns_tests::prober::Prober;
use netns_tests::time::Moment;
use netns_tests::wait;
use serde_json::{Value, json};

use crate::statistics::{Spread, milliseconds};
use crate::tables::table;

const MS: Duration = Duration::from_millis(1);
/// Heartbeat and failure timeout, in milliseconds.
const SETTINGS: &[(u32, u32)] = &[(100, 400), (50, 200), (10, 40)];
/// What a lost machine may cost beyond failure timeout and heartbeat: what it must reach, and what it should.
const BUDGETS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(5)];
/// What a planned move may cost each VIP.
const HANDOVER_BUDGETS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(5)];

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often to repeat each measurement.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How many machines.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=20))]
    machines: u8,
    /// How many VIPs.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=250))]
    vips: u8,
    /// Print JSON, durations in milliseconds.
    #[arg(long)]
    json: bool,
}

/// The VIP that was away longest in a run.
#[derive(Clone, Copy, Default)]
struct Sample {
    length: Duration,
    /// How much of that may be due to the client, which was not scheduled.
    blind: Duration,
}

/// All figures of one setting.
#[derive(Default)]
struct Figures {
    lost: Vec<Sample>,
    stopped: Vec<Sample>,
    rejoined: Vec<Sample>,
    /// Times in which two machines that could talk to each other held one address.
    overlaps: usize,
}

/// Measures all settings and prints them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut results = Vec::new();
    for &(heartbeat, timeout) in SETTINGS {
        if !options.json {
            eprintln!(
                "heartbeat {heartbeat} ms, failure timeout {timeout} ms: {} runs …",
                options.runs
            );
        }
        results.push((
            heartbeat * MS,
            timeout * MS,
            measure(heartbeat * MS, timeout * MS, options)?,
        ));
    }
    if options.json {
        let settings: Vec<_> =
            results.iter().map(|(h, t, figures)| as_json(*h, *t, figures)).collect();
        println!("{:#}", json!({ "runs": options.runs, "settings": settings }));
    } else {
        println!("{}", as_table(&results));
        let overlaps: usize = results.iter().map(|(_, _, figures)| figures.overlaps).sum();
        println!(
            "Two machines held one VIP: {overlaps} times. The client asks each VIP every millisecond, so 0.0 ms means \
             that no request was lost."
        );
    }
    Ok(())
}

fn measure(heartbeat: Duration, timeout: Duration, options: &Options) -> Result<Figures> {
    let plan = Plan::new(options.machines).ipv4_vips(options.vips).timing(heartbeat, timeout);
    let mut cluster = Cluster::start(plan)?;
    let mut figures = Figures::default();
    let names: Vec<_> = cluster.names().into_iter().map(str::to_owned).collect();
    for run in 0..options.runs {
        let name = &names[run % names.len()];
        let prober = cluster.probe()?;
        wait::until("every VIP answers", SOON, || prober.all_answer())?;
        let start = Moment::now();

        let victims = held(&cluster, name)?;
        cluster.power_off(name)?;
        cluster.wait_served(&cluster.others(name))?;
        figures.lost.push(longest(&prober, &victims, start)?);

        cluster.power_on(name)?;
        cluster.wait_settled(&cluster.names())?;
        wait::until("every VIP answers", SOON, || prober.all_answer())?;

        let (victims, stop) = (held(&cluster, name)?, Moment::now());
        cluster.stop_daemon(name)?;
        cluster.wait_served(&cluster.others(name))?;
        figures.stopped.push(longest(&prober, &victims, stop)?);

        let rejoin = Moment::now();
        cluster.start_daemon(name)?;
        cluster.wait_settled(&cluster.names())?;
        figures.rejoined.push(longest(&prober, &held(&cluster, name)?, rejoin)?);

        figures.overlaps += cluster.holders.overlaps(&cluster.plan.addresses(), start).len();
    }
    Ok(figures)
}

fn held(cluster: &Cluster, name: &str) -> Result<BTreeSet<IpAddr>> {
    Ok(cluster.holdings(&[name])?.remove(name).unwrap_or_default())
}

/// The longest interruption of any of `vips` since a moment, once all of them answer again.
fn longest(prober: &Prober, vips: &BTreeSet<IpAddr>, since: Moment) -> Result<Sample> {
    wait::until("every VIP answers", SOON, || prober.all_answer())?;
    let found = vips.iter().filter_map(|&vip| prober.longest(vip, since));
    let longest = found.max_by_key(|found| found.length);
    Ok(longest
        .map_or_else(Sample::default, |found| Sample { length: found.length, blind: found.blind }))
}

fn as_table(results: &[(Duration, Duration, Figures)]) -> Table {
    let mut lines = Vec::new();
    for (heartbeat, timeout, figures) in results {
        for (event, samples, base, budgets) in rows(*heartbeat, *timeout, figures) {
            let Some(spread) = Spread::of(samples.iter().map(|s| s.length)) else { continue };
            let blind = samples.iter().map(|s| s.blind).max().unwrap_or_default();
            let beyond = if base.is_zero() { String::new() } else { beyond(spread.max, *timeout) };
            lines.push([
                format!("{} / {} ms", heartbeat.as_millis(), timeout.as_millis()),
                event.to_owned(),
                milliseconds(spread.min),
                milliseconds(spread.median),
                milliseconds(spread.max),
                beyond,
                milliseconds(base + budgets[0]),
                milliseconds(blind),
                verdict(samples, base, budgets),
            ]);
        }
    }
    let header = [
        "heartbeat / timeout",
        "event",
        "min",
        "median",
        "max",
        "max - timeout",
        "budget",
        "client blind",
        "verdict",
    ];
    table(header, lines, 2..=7, CellAlignment::Right)
}

fn verdict(samples: &[Sample], base: Duration, budgets: [Duration; 2]) -> String {
    let within = |length: Duration, budget: Duration| length <= base + budget;
    if samples.iter().all(|s| within(s.length, budgets[1])) {
        "on target".to_owned()
    } else if samples.iter().all(|s| within(s.length, budgets[0])) {
        "within the budget".to_owned()
    } else if samples.iter().all(|s| within(s.length.saturating_sub(s.blind), budgets[0])) {
        "over, or the client was blind".to_owned()
    } else {
        "over".to_owned()
    }
}

/// Each event with its figures, what the timing makes it cost in any case, and what it may cost beyond.
fn rows(
    heartbeat: Duration,
    timeout: Duration,
    figures: &Figures,
) -> [(&'static str, &[Sample], Duration, [Duration; 2]); 3] {
    [
        ("machine lost", &figures.lost, timeout + heartbeat, BUDGETS),
        ("graceful stop", &figures.stopped, Duration::ZERO, HANDOVER_BUDGETS),
        ("rejoin", &figures.rejoined, Duration::ZERO, HANDOVER_BUDGETS),
    ]
}

fn beyond(length: Duration, timeout: Duration) -> String {
    match length.checked_sub(timeout) {
        Some(excess) => milliseconds(excess),
        None => format!("-{}", milliseconds(timeout - length)),
    }
}

fn as_json(heartbeat: Duration, timeout: Duration, figures: &Figures) -> Value {
    let ms = |duration: Duration| (duration.as_secs_f64() * 1e5).round() / 100.0;
    let event = |(event, samples, base, budgets): (&str, &[Sample], Duration, [Duration; 2])| {
        let spread = Spread::of(samples.iter().map(|sample| sample.length));
        json!({
            "event": event,
            "runs": samples.iter().map(|sample| ms(sample.length)).collect::<Vec<_>>(),
            "client_blind": samples.iter().map(|sample| ms(sample.blind)).collect::<Vec<_>>(),
            "min": spread.map(|s| ms(s.min)),
            "median": spread.map(|s| ms(s.median)),
            "max": spread.map(|s| ms(s.max)),
            "budget": ms(base + budgets[0]),
            "target": ms(base + budgets[1]),
        })
    };
    json!({
        "heartbeat": ms(heartbeat),
        "failure_timeout": ms(timeout),
        "events": rows(heartbeat, timeout, figures).map(event),
        "two_holders": figures.overlaps,
    })
}
