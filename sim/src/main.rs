//! The simulator as a program: runs what its command line asks for, and prints what came of it.

mod bench;
mod cli;

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};

use sim::determinism::{differing, fingerprints};
use sim::engine::Scheduler;
use sim::explore::{self, Course, Pace};
use sim::narrate::Narrator;
use sim::replay::account::Account;
use sim::replay::clocks::Clocks;
use sim::scenario::Scenario;
use sim::shrink::{self, Failing};
use sim::stopwatch::Stopwatch;
use sim::story::build;
use sim::sweep::{Seeds, Summary, sweep};
use sim::{account, coverage, page, pages, replay, report, world};
use wackamole_protocol::config::Partition;

use cli::{
    Bench, Cli, CoverageOptions, Determinism, Explore, Replay, Run, SHRINK_RUNS, Shrink, Verb,
};

/// More failures of one exploration than that are not shrunk: they are likely to be the same few.
const SHRUNK_MAX: usize = 5;

/// The given policies, or all.
fn policies(given: &[Partition]) -> Vec<Partition> {
    if given.is_empty() {
        vec![Partition::Component, Partition::Lan, Partition::Quorum]
    } else {
        given.to_vec()
    }
}

fn main() -> ExitCode {
    let verdict = match Cli::parse().command {
        Verb::Run(options) => run(&options),
        Verb::Explore(options) => explore(&options),
        Verb::Coverage(options) => coverage(&options),
        Verb::Shrink(options) => shrink(&options),
        Verb::Determinism(options) => determinism(&options),
        Verb::Replay(options) => replay(&options),
        Verb::Bench(options) => measure(&options),
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
    if let (Some(seed), Some(directory)) = (options.seed, &options.record) {
        let [scenario] = &scenarios[..] else {
            bail!("--record takes one scenario, and {} were given", scenarios.len());
        };
        return record(scenario, seed, directory);
    }
    if let Some(seed) = options.seed
        && options.trace
    {
        return show(&scenarios, seed, options);
    }
    let page = options.report.as_deref().filter(|report| pages::is_page(report));
    if let Some(page) = page.filter(|_| scenarios.len() != 1) {
        bail!(
            "{} can hold one run, and there are {}: name one scenario and, with --policies, one policy; or give a folder, \
             which is a path that does not end in .html",
            page.display(),
            scenarios.len()
        );
    }
    let seeds = match (options.seed, &options.seeds) {
        (Some(seed), _) => Seeds::Range(seed..=seed),
        (None, Some(range)) => Seeds::Range(range.clone()),
        (None, None) => Seeds::Default,
    };
    let stopwatch = Stopwatch::start();
    let summaries = sweep(options.engine, &scenarios, &seeds, jobs(options.jobs));
    let rows = report::rows(&scenarios, &summaries);
    if let Some(report) = &options.report {
        pages::write(report, &scenarios, &summaries, &rows, options.datagrams, jobs(options.jobs))?;
    }
    let good = summaries.iter().all(|summary| summary.violations.is_empty());
    let text = if options.json {
        serde_json::to_string_pretty(&rows)?
    } else {
        let failures = report::failures(&scenarios, &summaries);
        let closing = report::closing(&summaries, stopwatch.elapsed());
        let timeline = if options.seed.is_some() && good {
            told(options.engine, &scenarios, &summaries)
        } else {
            String::new()
        };
        format!("{timeline}{failures}\n{}\n\n{closing}", report::table(&rows))
    };
    print(&text)?;
    Ok(good)
}

/// One run whose daemons record what they are told.
fn record(scenario: &Scenario, seed: u64, directory: &Path) -> anyhow::Result<bool> {
    let (outcome, records) = world::run_recorded(scenario, seed);
    replay::load::save(directory, &records)?;
    print(&format!(
        "{}\n{}\n{} records in {}\nreplay: cargo xtask simulate replay {}",
        scenario.title,
        Narrator::new(scenario).timeline(&outcome.entries),
        records.len(),
        directory.display(),
        directory.display()
    ))?;
    Ok(outcome.is_good())
}

/// The timelines of single runs in which nothing was broken.
fn told(scheduler: Scheduler, scenarios: &[Scenario], summaries: &[Summary]) -> String {
    let tell = |summary: &Summary| {
        let scenario = &scenarios[summary.scenario];
        let outcome = world::run_on(scheduler, scenario, summary.seed, false);
        format!("\n{}\n{}", scenario.title, Narrator::new(scenario).timeline(&outcome.entries))
    };
    summaries.iter().map(tell).collect()
}

/// One run of each scenario in full, and what it comes down to.
fn show(scenarios: &[Scenario], seed: u64, options: &Run) -> anyhow::Result<bool> {
    let mut good = true;
    for scenario in scenarios {
        let outcome = world::run_on(options.engine, scenario, seed, options.datagrams);
        let narrator = Narrator::new(scenario);
        print(&narrator.trace(&outcome.entries, &outcome.chronicle))?;
        print(&format!("{}\n{}", scenario.title, narrator.timeline(&outcome.entries)))?;
        print(&format!("\n{}", account::text(&build::story(scenario, &outcome))))?;
        if let Some(report) = &options.report {
            pages::write_one(report, scenario, seed)?;
        }
        good &= outcome.is_good();
    }
    Ok(good)
}

fn replay(options: &Replay) -> anyhow::Result<bool> {
    let (records, key) = replay::load::load(&options.records, options.key_file.as_deref())?;
    let replayed: Vec<_> = records.iter().map(|record| replay::replay(record, &key)).collect();
    drop(records);
    let clocks = Clocks::compare(&replayed);
    let account = Account::merge(&replayed, &clocks).map_err(anyhow::Error::msg)?;
    print(&if options.json {
        serde_json::to_string_pretty(&replay::show::json(&replayed, &clocks, &account))?
    } else {
        replay::show::text(&replayed, &clocks, &account, options.trace)
    })?;
    if let Some(file) = &options.report {
        let story = replay::page::story(&replayed, &clocks, &account, &key);
        std::fs::write(file, page::html(&story))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(replayed.iter().all(replay::Replayed::is_same))
}

fn explore(options: &Explore) -> anyhow::Result<bool> {
    let policies = policies(&options.policies);
    let pace = if options.hours { Pace::Hours } else { Pace::Dense };
    if let Some(seed) = options.show {
        let Some(world) = explore::life(options.engine, seed, &policies, pace, options.life) else {
            bail!(
                "the world of seed {seed} has no moment to strike at, or an operator forces a primary view in it"
            );
        };
        print(&world.text())?;
        return Ok(true);
    }
    let seeds = options.seeds.clone().or(options.time.is_none().then_some(1..=1_000));
    let course = Course {
        first: seeds.as_ref().map_or(1, |seeds| *seeds.start()),
        count: seeds.map(|seeds| seeds.end() - seeds.start() + 1),
        time: options.time,
        until_found: options.until_found,
        jobs: jobs(options.jobs),
        scheduler: options.engine,
        policies,
        pace,
    };
    let tally = explore::explore(&course);
    print(&if options.json { tally.json()? } else { tally.text() })?;
    if !options.json {
        for failing in &tally.failures {
            let Failing { seed, check, at, sentence, .. } = failing;
            print(&format!("seed {seed}: {:.3}s {check}: {sentence}", at.as_secs_f64()))?;
        }
        if tally.failures.is_empty() {
            print("all promises kept")?;
        }
    }
    if !options.no_shrink {
        for failing in tally.failures.iter().take(SHRUNK_MAX) {
            let file =
                options.keep.join(format!("explore-{}-{}.toml", failing.seed, failing.check));
            std::fs::create_dir_all(&options.keep)
                .with_context(|| format!("cannot make {}", options.keep.display()))?;
            let found_by = format!("exploration, seed {}", failing.seed);
            keep(options.engine, failing.clone(), SHRINK_RUNS, &found_by, Some(&file))?;
        }
    }
    Ok(tally.failures.is_empty())
}

fn coverage(options: &CoverageOptions) -> anyhow::Result<bool> {
    let coverage = coverage::measure(&coverage::Course {
        scenarios: Scenario::load_all(&options.scenarios)?,
        story_seeds: options.story_seeds,
        // Until the time is over there are always more.
        explored: match options.time {
            Some(_) => *options.seeds.start()..=(*options.seeds.end()).max(10_000_000),
            None => options.seeds.clone(),
        },
        time: options.time,
        jobs: jobs(options.jobs),
    });
    print(&if options.json { coverage.json()? } else { coverage.text() })?;
    if let Some(file) = &options.write {
        let (first, last) = (options.seeds.start(), options.seeds.end());
        let extent = match options.time {
            Some(time) => format!("--for {}s", time.as_secs()),
            None => format!("--seeds {first}..{last}"),
        };
        let stories = options.story_seeds;
        let command =
            format!("cargo xtask simulate coverage --story-seeds {stories} {extent} --write");
        std::fs::write(file, coverage.document(&command))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let contradictions = coverage.contradictions();
    for complaint in contradictions.iter().chain(&coverage.broken) {
        eprintln!("error: {complaint}");
    }
    Ok(contradictions.is_empty() && coverage.broken.is_empty())
}

fn shrink(options: &Shrink) -> anyhow::Result<bool> {
    let mut scenario = Scenario::load(&options.scenario)?;
    if let Some(policy) = options.policy {
        scenario = scenario.under(policy);
    }
    let Some(failing) = Failing::find(options.engine, &scenario, options.seed, None) else {
        bail!("{} keeps every promise with seed {}", options.scenario.display(), options.seed);
    };
    let found_by = format!("{}, seed {}", scenario.name, options.seed);
    keep(options.engine, failing, options.runs, &found_by, options.output.as_ref())?;
    Ok(true)
}

/// Shrinks a failure and writes it where it can be committed.
fn keep(
    scheduler: Scheduler,
    failing: Failing,
    runs: usize,
    found_by: &str,
    file: Option<&PathBuf>,
) -> anyhow::Result<()> {
    let bar = ProgressBar::new(runs as u64);
    if let Ok(style) = ProgressStyle::with_template("shrinking: {pos} runs, at most {len}  {msg}") {
        bar.set_style(style);
    }
    let small = shrink::shrink(scheduler, failing, runs, &mut |runs, best| {
        bar.set_position(runs as u64);
        let Scenario { nodes, vips, .. } = &best.scenario;
        bar.set_message(format!(
            "{} faults, {} nodes, {} VIPs",
            best.faults(),
            nodes.len(),
            vips.len()
        ));
    });
    bar.finish_and_clear();
    let again = Failing::find(Scheduler::Turmoil, &small.scenario, small.seed, Some(&small.check));
    if again.is_none_or(|again| (again.at, &again.sentence) != (small.at, &small.sentence)) {
        bail!(
            "what was shrunk does not fail in the same way under turmoil:\n{}",
            small.text(found_by)
        );
    }
    let text = small.text(found_by);
    let Some(file) = file else { return print(&text) };
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let Scenario { nodes, vips, .. } = &small.scenario;
    print(&format!(
        "shrunk to {} faults, {} nodes and {} VIPs: {}\nreproduce: cargo xtask simulate {file} --seed {seed} --trace\n\
         look at it: cargo xtask simulate {file} --seed {seed} --report {name}.html",
        small.faults(),
        nodes.len(),
        vips.len(),
        small.sentence,
        file = file.display(),
        seed = small.seed,
        name = file.file_stem().unwrap_or_default().display(),
    ))
}

fn jobs(given: Option<NonZeroUsize>) -> NonZeroUsize {
    given.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

fn determinism(options: &Determinism) -> anyhow::Result<bool> {
    let two = NonZeroUsize::MIN.saturating_add(1);
    let mut courses = vec![(options.engine, NonZeroUsize::MIN), (options.engine, two)];
    if options.all_engines {
        let others = Scheduler::ALL.into_iter().filter(|other| *other != options.engine);
        courses.extend(others.map(|other| (other, two)));
    }
    let seeds = options.seeds.clone().count();
    let bar = ProgressBar::new((seeds * courses.len()) as u64);
    let policies = policies(&options.policies);
    let mut first = None;
    let mut good = true;
    for (scheduler, threads) in courses {
        let traces = fingerprints(scheduler, &options.seeds, &policies, threads, &|| bar.inc(1));
        let first = first.get_or_insert_with(|| traces.clone());
        let differing = differing(first, &traces);
        good &= differing.is_empty();
        let verdict = match differing.as_slice() {
            [] => "all the same".to_owned(),
            [seed, ..] => format!("{} differ, the first is seed {seed}", differing.len()),
        };
        bar.suspend(|| {
            let (count, engine) = (traces.len(), scheduler.word());
            print(&format!("{count} traces, engine {engine}, threads {threads}: {verdict}"))
        })?;
    }
    bar.finish_and_clear();
    Ok(good)
}

fn measure(options: &Bench) -> anyhow::Result<bool> {
    let bar = ProgressBar::new(bench::rows() as u64);
    let rows = bench::measure(|| bar.inc(1))?;
    bar.finish_and_clear();
    print(&if options.json { serde_json::to_string_pretty(&rows)? } else { bench::table(&rows) })?;
    Ok(true)
}

/// Writes to standard output; whoever closes the pipe has read enough.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.context("cannot write to standard output"),
    }
}
