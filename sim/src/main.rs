//! The simulator's command line: `run` scenarios over many seeds, or measure the simulator itself with `bench`.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};

use sim::narrate::Narrator;
use sim::scenario::{Scenario, policy_word};
use sim::stopwatch::Stopwatch;
use sim::sweep::{Seeds, Summary, sweep};
use sim::{picture, report, world};
use wackamole_protocol::config::Partition;

/// Simulates clusters of daemons on a LAN, with faults.
#[derive(Parser)]
#[command(name = "sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run scenarios and report in a table what clients saw and which promises were broken.
    Run(Run),
    /// Measure how many seconds are simulated per second of one core, with five nodes.
    Bench,
}

#[derive(Args)]
struct Run {
    /// Scenario files, or folders of them.
    #[arg(required = true)]
    scenarios: Vec<PathBuf>,
    /// Run this seed only.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run these seeds, `A..B` with both ends, or the first `N`; otherwise each scenario says how many.
    #[arg(long, value_parser = seeds)]
    seeds: Option<RangeInclusive<u64>>,
    /// Run every story under these partition policies, separated by commas, instead of the ones that it names.
    #[arg(long, value_delimiter = ',', value_parser = policy)]
    policies: Vec<Partition>,
    /// How many runs at a time; one per core unless given.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Tell everything that happened, one line each; needs --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With --trace: tell every datagram too.
    #[arg(long, requires = "trace")]
    datagrams: bool,
    /// Draw what happened into an HTML file; needs --seed and one scenario.
    #[arg(long, requires = "seed", value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let complaint =
        || format!("found `{text}`, expected a number such as `50` or a range such as `1..50`");
    let range = match text.split_once("..") {
        Some((first, last)) => {
            first.parse().map_err(|_| complaint())?..=last.parse().map_err(|_| complaint())?
        }
        None => 1..=text.parse().map_err(|_| complaint())?,
    };
    if range.is_empty() { Err(complaint()) } else { Ok(range) }
}

fn policy(text: &str) -> Result<Partition, String> {
    let all = [Partition::Component, Partition::Lan, Partition::Quorum];
    all.into_iter()
        .find(|policy| policy_word(*policy) == text)
        .ok_or_else(|| format!("found `{text}`, expected component, lan or quorum"))
}

fn main() -> ExitCode {
    let verdict = match Cli::parse().command {
        Verb::Run(options) => run(&options),
        Verb::Bench => bench(),
    };
    match verdict {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Run) -> anyhow::Result<bool> {
    let mut scenarios = Scenario::load_all(&options.scenarios)?;
    if !options.policies.is_empty() {
        scenarios.dedup_by(|one, other| one.file == other.file);
        let under = |story: Scenario| options.policies.iter().map(move |&p| story.under(p));
        scenarios = scenarios.into_iter().flat_map(under).collect();
    }
    if let Some(seed) = options.seed
        && (options.trace || options.timeline.is_some())
    {
        return show(&scenarios, seed, options);
    }
    let seeds = match (options.seed, &options.seeds) {
        (Some(seed), _) => Seeds::Range(seed..=seed),
        (None, Some(range)) => Seeds::Range(range.clone()),
        (None, None) => Seeds::Default,
    };
    let stopwatch = Stopwatch::start();
    let summaries = sweep(&scenarios, &seeds, jobs(options));
    let rows = report::rows(&scenarios, &summaries);
    let good = summaries.iter().all(|summary| summary.violations.is_empty());
    let text = if options.json {
        serde_json::to_string_pretty(&rows)?
    } else {
        let failures = report::failures(&scenarios, &summaries);
        let closing = report::closing(&summaries, stopwatch.elapsed());
        let timeline = if options.seed.is_some() && good {
            told(&scenarios, &summaries)
        } else {
            String::new()
        };
        format!("{timeline}{failures}\n{}\n\n{closing}", report::table(&rows))
    };
    print(&text)?;
    Ok(good)
}

/// The timelines of single runs in which nothing was broken.
fn told(scenarios: &[Scenario], summaries: &[Summary]) -> String {
    let tell = |summary: &Summary| {
        let scenario = &scenarios[summary.scenario];
        let outcome = world::run(scenario, summary.seed, false);
        format!("\n{}\n{}", scenario.title, Narrator::new(scenario).timeline(&outcome.entries))
    };
    summaries.iter().map(tell).collect()
}

/// One run of each scenario in full.
fn show(scenarios: &[Scenario], seed: u64, options: &Run) -> anyhow::Result<bool> {
    if options.timeline.is_some() && scenarios.len() != 1 {
        bail!("--timeline draws one scenario, and {} were given", scenarios.len());
    }
    let mut good = true;
    for scenario in scenarios {
        let outcome = world::run(scenario, seed, options.datagrams);
        let narrator = Narrator::new(scenario);
        if options.trace {
            print(&narrator.trace(&outcome.entries))?;
        }
        print(&format!("{}\n{}", scenario.title, narrator.timeline(&outcome.entries)))?;
        if let Some(file) = &options.timeline {
            std::fs::write(file, picture::html(scenario, &outcome))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        good &= outcome.is_good();
    }
    Ok(good)
}

fn jobs(options: &Run) -> NonZeroUsize {
    options.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

/// What `bench` runs: five nodes, idle and in chaos.
const BENCHES: [(&str, &str); 2] = [
    ("five nodes, idle", include_str!("../../scenarios/010-idle.toml")),
    ("five nodes, chaos", include_str!("../../scenarios/300-chaos.toml")),
];
const BENCH_RUNS: u64 = 5;

fn bench() -> anyhow::Result<bool> {
    for (name, text) in BENCHES {
        let scenario = Scenario::parse(name, text)?;
        let mut speeds: Vec<f64> = (1..=BENCH_RUNS)
            .map(|seed| {
                let stopwatch = Stopwatch::start();
                let outcome = world::run(&scenario, seed, false);
                outcome.simulated.as_secs_f64() / stopwatch.worked().as_secs_f64()
            })
            .collect();
        speeds.sort_by(f64::total_cmp);
        let (median, best) = (speeds[speeds.len() / 2], speeds[speeds.len() - 1]);
        print(&format!(
            "{name:<20} {median:>6.0} simulated seconds per second of one core (median of {BENCH_RUNS}; best {best:.0})"
        ))?;
    }
    Ok(true)
}

/// Writes to standard output; whoever closes the pipe has read enough.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.context("cannot write to standard output"),
    }
}
