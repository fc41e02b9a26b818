//! The simulator's command line: its commands, their options, and how their values are read.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sim::engine::Scheduler;
use sim::scenario::policy_word;
use wackamole_protocol::config::Partition;

/// Enough for a run of some hundred faults.
pub(crate) const SHRINK_RUNS: usize = 600;

/// Simulates clusters of daemons on a LAN, with faults.
#[derive(Parser)]
#[command(name = "sim", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run scenarios and report in a table what clients saw and which promises were broken.
    Run(Run),
    /// Draw worlds from numbers, one after the other, and look for one in which a promise is broken; shrink what is found.
    Explore(Explore),
    /// Count what scenarios and exploration reach: faults, events and their causes, transitions, messages; name the rest.
    Coverage(CoverageOptions),
    /// Shrink a run that breaks a promise to the smallest scenario that still does.
    Shrink(Shrink),
    /// Run worlds of the exploration on one thread and again on two, and compare their traces byte for byte.
    Determinism(Determinism),
    /// Feed what real daemons recorded through the same machines again, compare what they do, and tell it as one course of
    /// events.
    Replay(Replay),
    /// Measure how many seconds are simulated per second of one core, with five nodes at several timings.
    Bench(Bench),
}

#[derive(Args)]
pub(crate) struct Run {
    /// Scenario files, or folders of them.
    #[arg(required = true)]
    pub(crate) scenarios: Vec<PathBuf>,
    /// Run this seed only.
    #[arg(long, conflicts_with = "seeds")]
    pub(crate) seed: Option<u64>,
    /// Run these seeds, `A..B` with both ends, or the first `N`; otherwise each scenario says how many.
    #[arg(long, value_parser = seeds)]
    pub(crate) seeds: Option<RangeInclusive<u64>>,
    /// Run every story under these partition policies, separated by commas, instead of the ones that it names.
    #[arg(long, value_delimiter = ',', value_parser = policy)]
    pub(crate) policies: Vec<Partition>,
    /// How many runs at a time; one per core unless given.
    #[arg(long)]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Tell everything that happened, one line each; needs --seed.
    #[arg(long, requires = "seed")]
    pub(crate) trace: bool,
    /// With --trace or a folder of --report: every datagram too. The page of a single run has them anyway.
    #[arg(long)]
    pub(crate) datagrams: bool,
    /// Which engine runs them: turmoil, fast or every-tick. The outcome is the same.
    #[arg(long, value_parser = engine, default_value = "turmoil")]
    pub(crate) engine: Scheduler,
    /// Write a page for one run into a file that ends in `.html`: of the given seed, or of the first that breaks a promise,
    /// or of the first. Otherwise a folder: a table of all scenarios that links to a page for each.
    #[arg(long, value_name = "FILE.html|DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Have every daemon record what it is told, into this folder, for `replay`; needs --seed and one scenario.
    #[arg(long, requires = "seed", conflicts_with = "report", value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Explore {
    /// These seeds, `A..B` with both ends, or the first `N`; 1000 unless --for is given.
    #[arg(long, value_parser = seeds)]
    pub(crate) seeds: Option<RangeInclusive<u64>>,
    /// Until so much time has passed, such as `90s` or `10m`.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub(crate) time: Option<Duration>,
    /// Only under these partition policies.
    #[arg(long, value_delimiter = ',', value_parser = policy)]
    pub(crate) policies: Vec<Partition>,
    /// Worlds that live for hours, with a heartbeat a second and a fault every few minutes, instead of seconds full of them.
    #[arg(long)]
    pub(crate) hours: bool,
    /// How many worlds at a time; one per core unless given.
    #[arg(long)]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Where the shrunk scenarios of at most five failures are written.
    #[arg(long, value_name = "DIR", default_value = "scenarios/regressions")]
    pub(crate) keep: PathBuf,
    /// Stop at the first world in which a promise is broken.
    #[arg(long)]
    pub(crate) until_found: bool,
    /// Do not shrink.
    #[arg(long)]
    pub(crate) no_shrink: bool,
    /// Which engine runs them: turmoil, fast or every-tick. The outcome is the same.
    #[arg(long, value_parser = engine, default_value = "fast")]
    pub(crate) engine: Scheduler,
    /// Write the scenario of this seed to standard output.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "time"])]
    pub(crate) show: Option<u64>,
    /// With --show: which of its lives. The first is as it was drawn; in the others it is struck at moments of the first, which is
    /// lived for them.
    #[arg(long, value_name = "NUMBER", default_value = "1", requires = "show",
          value_parser = clap::value_parser!(u64).range(1..=sim::explore::LIVES))]
    pub(crate) life: u64,
    /// Report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct CoverageOptions {
    /// Scenario files, or folders of them.
    #[arg(default_value = "scenarios")]
    pub(crate) scenarios: Vec<PathBuf>,
    /// With so many seeds each.
    #[arg(long, default_value_t = 4)]
    pub(crate) story_seeds: u64,
    /// Explore these seeds, `A..B` with both ends, or the first `N`.
    #[arg(long, value_parser = seeds, default_value = "1000")]
    pub(crate) seeds: RangeInclusive<u64>,
    /// Stop exploring after so much time, such as `90s` or `10m`.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub(crate) time: Option<Duration>,
    /// How many runs at a time; one per core unless given.
    #[arg(long)]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Write the table into this file as a document too.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/search-coverage.md")]
    pub(crate) write: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Shrink {
    /// The scenario file.
    pub(crate) scenario: PathBuf,
    /// The seed with which it fails.
    #[arg(long)]
    pub(crate) seed: u64,
    /// Under this partition policy instead of the one that it names.
    #[arg(long, value_parser = policy)]
    pub(crate) policy: Option<Partition>,
    /// Where to write it; to standard output unless given.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// At most so many runs.
    #[arg(long, default_value_t = SHRINK_RUNS)]
    pub(crate) runs: usize,
    /// Which engine runs them: turmoil, fast or every-tick. The result is run under turmoil all the same.
    #[arg(long, value_parser = engine, default_value = "fast")]
    pub(crate) engine: Scheduler,
}

#[derive(Args)]
pub(crate) struct Determinism {
    /// These seeds, `A..B` with both ends, or the first `N`.
    #[arg(long, value_parser = seeds, default_value = "1000")]
    pub(crate) seeds: RangeInclusive<u64>,
    /// Only under these partition policies.
    #[arg(long, value_delimiter = ',', value_parser = policy)]
    pub(crate) policies: Vec<Partition>,
    /// Which engine runs them: turmoil, fast or every-tick.
    #[arg(long, value_parser = engine, default_value = "fast")]
    pub(crate) engine: Scheduler,
    /// Run them under the other engines too, and compare.
    #[arg(long)]
    pub(crate) all_engines: bool,
}

#[derive(Args)]
pub(crate) struct Replay {
    /// Records, or folders of them, of one cluster.
    #[arg(required = true)]
    pub(crate) records: Vec<PathBuf>,
    /// The key of the cluster; otherwise `cluster.key` in one of the folders.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Tell everything that happened, one line each.
    #[arg(long)]
    pub(crate) trace: bool,
    /// Report as JSON.
    #[arg(long, conflicts_with = "trace")]
    pub(crate) json: bool,
    /// Draw the page of it: the one that simulated runs have.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Bench {
    /// Report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    sim::scenario::text::parse_duration(text)
        .map(|time| Duration::from_micros(time.as_micros() as u64))
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

fn engine(text: &str) -> Result<Scheduler, String> {
    Scheduler::named(text)
        .ok_or_else(|| format!("found `{text}`, expected turmoil, fast or every-tick"))
}
