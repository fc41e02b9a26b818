//! How long two machines answer for one address, and how long nobody does: every fault, policy and setting.
//!
//! The result replaces the marked block of `docs/safety.md`, unless only a part was measured.

mod report;

use std::collections::BTreeMap;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use netns_tests::fault::{Fault, Ground, Outcome, Policy, Range, Timing};

use crate::cargo;
use report::Results;

const MS: Duration = Duration::from_millis(1);
/// Heartbeat and failure timeout, in milliseconds.
const SETTINGS: [(u32, u32); 3] = [(100, 400), (50, 200), (10, 40)];
/// Who fails, in turn: the coordinator is among them.
const VICTIMS: [&str; 3] = ["b", "a", "c"];
/// A cluster that does not get over a fault is built anew; so many times, then the bench gives up.
const FAILURES_MAX: usize = 20;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each fault happens at each setting with each policy.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only this policy.
    #[arg(long, value_parser = policy)]
    policy: Option<Policy>,
    /// Only this failure timeout, in milliseconds: 400, 200 or 40.
    #[arg(long)]
    timeout: Option<u32>,
    /// Only faults whose name contains this.
    #[arg(long)]
    fault: Option<String>,
    /// Decides at what moments faults happen and how long they last.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop at the first round in which two machines answered for longer than this, in milliseconds, and tell all about it.
    #[arg(long)]
    stop_beyond: Option<f64>,
    /// Print JSON, durations in milliseconds, and leave the document alone.
    #[arg(long)]
    json: bool,
}

fn policy(text: &str) -> Result<Policy, String> {
    let found = Policy::ALL.into_iter().find(|policy| policy.name() == text);
    found.ok_or_else(|| "accepted are component, lan and quorum".to_owned())
}

/// Measures, prints, and writes the document.
pub(crate) fn run(options: &Options) -> Result<()> {
    let results = measure(options)?;
    if options.json {
        println!("{:#}", results.as_json());
        return Ok(());
    }
    println!("{}", results.as_table());
    for line in results.notes() {
        println!("{line}");
    }
    let whole = options.policy.is_none() && options.timeout.is_none() && options.fault.is_none();
    if whole {
        let file = cargo::root().join("docs/safety.md");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let text = report::splice(&text, &results.as_markdown())?;
        fs::write(&file, text).with_context(|| file.display().to_string())?;
        println!("docs/safety.md has these figures now.");
    }
    Ok(())
}

fn measure(options: &Options) -> Result<Results> {
    let mut plan = Vec::new();
    for policy in Policy::ALL.into_iter().filter(|p| options.policy.is_none_or(|only| only == *p)) {
        for (heartbeat, timeout) in SETTINGS {
            if options.timeout.is_some_and(|only| only != timeout) {
                continue;
            }
            let timing = Timing { heartbeat: heartbeat * MS, failure_timeout: timeout * MS };
            let mut grounds = BTreeMap::<Ground, Vec<Fault>>::new();
            let wanted = |fault: &Fault| {
                options.fault.as_ref().is_none_or(|only| fault.name().contains(only.as_str()))
            };
            for fault in Fault::ALL.into_iter().filter(wanted) {
                grounds.entry(fault.ground()).or_default().push(fault);
            }
            plan.extend(
                grounds.into_iter().map(|(ground, faults)| (policy, timing, ground, faults)),
            );
        }
    }
    let rounds: u64 = plan.iter().map(|(.., faults)| faults.len() as u64).sum();
    let progress = ProgressBar::new(rounds * u64::from(options.rounds));
    let style = "{bar:40} {pos}/{len} rounds  {elapsed} (left {eta})  {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        progress.set_style(style);
    }
    let mut chance = Chance(options.seed);
    let mut results = Results::new(options.rounds);
    for (policy, timing, ground, faults) in plan {
        let mut range = None;
        for round in 0..options.rounds as usize {
            for &fault in &faults {
                let [beat, timeout] = [timing.heartbeat, timing.failure_timeout];
                let what =
                    format!("{}, {} ms: {}", policy.name(), timeout.as_millis(), fault.name());
                if progress.is_hidden() && round == 0 {
                    eprintln!("{what} …");
                }
                progress.set_message(what.clone());
                let ready = match &mut range {
                    Some(range) => range,
                    none => none.insert(Range::start(ground, policy, timing)?),
                };
                let broken = chance.broken(fault, timing);
                thread::sleep(chance.between(Duration::ZERO, beat));
                match ready.round(fault, VICTIMS[round % VICTIMS.len()], broken) {
                    Ok(outcome) => {
                        let beyond = |limit| outcome.overlap.as_secs_f64() * 1000.0 > limit;
                        anyhow::ensure!(
                            !options.stop_beyond.is_some_and(beyond),
                            "{what}, {outcome:.1?}\n{}",
                            ready.account()
                        );
                        results.add(fault, policy, timing, outcome);
                    }
                    Err(error) => {
                        progress.suspend(|| eprintln!("{what}: {error:#}"));
                        anyhow::ensure!(results.fail() < FAILURES_MAX, "too many failures");
                        range = None;
                    }
                }
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(results)
}

/// Chance that repeats itself: splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_micros().max(1);
        let micros = u128::from(self.next()) % span;
        least + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
    }

    /// How long a network stays broken. The moments around a takeover are the interesting ones, so half of the ports come
    /// back then.
    fn broken(&mut self, fault: Fault, timing: Timing) -> Duration {
        let Timing { heartbeat, failure_timeout: timeout } = timing;
        match fault {
            Fault::SilentPort if self.next().is_multiple_of(2) => {
                self.between(timeout / 2, timeout * 3 / 2)
            }
            Fault::SilentPort => self.between(heartbeat, timeout * 5),
            Fault::HeartbeatPathCut => self.between(timeout * 2, timeout * 5),
            _ => Duration::ZERO,
        }
    }
}
