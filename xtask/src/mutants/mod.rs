//! `cargo xtask mutants`: breaks the protocol on purpose, and shows which check notices. docs/mutants.md.
//!
//! Everything happens in a copy of the workspace with a target directory of its own, both under `target/mutants`.

mod catalogue;
mod copy;
mod document;
mod exploration;
mod ladder;
mod report;
mod switched;
mod watch;

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use netns_tests::time::Moment;

use crate::cargo;
use catalogue::Mutant;
use copy::Copy;
use ladder::{Fate, Ladder, Rung};
use report::Row;
use switched::Switched;

/// What to do.
#[derive(Args)]
pub(crate) struct Options {
    /// Try only these mutants, by name.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Leave out the dearer checks.
    #[arg(long, value_name = "CHECK", default_value = "simulator", conflicts_with = "write")]
    up_to: Rung,
    /// Explore with each until a promise is broken, instead of running the checks.
    #[arg(long, conflicts_with = "up_to")]
    by_exploration: bool,
    /// For so many seconds at most.
    #[arg(
        long = "for",
        value_name = "SECONDS",
        default_value = "600",
        requires = "by_exploration"
    )]
    seconds: NonZeroU32,
    /// Show the list, and do nothing.
    #[arg(long, conflicts_with_all = ["json", "write"])]
    list: bool,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
    /// Put each result into the table of docs/mutants.md as soon as it is known; rows of mutants that were not tried stay.
    #[arg(long)]
    write: bool,
}

/// Tries the mutants. Fails if one survives, or cannot be tried.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let root = cargo::root();
    let catalogue = catalogue::load(&root)?;
    if options.list {
        println!("{}", report::list(&catalogue));
        return Ok(ExitCode::SUCCESS);
    }
    let mut chosen = choose(&catalogue, &options.only)?;
    let copy = Copy::new(&root)?;
    let switched = Switched::new(&catalogue, |file| copy.text(file))?;
    // Those that are built by themselves take the place of the others.
    chosen.sort_by_key(|mutant| switched.number(&mutant.name).is_none());
    let progress = ProgressBar::new(chosen.len() as u64);
    let template = "{bar:30} {pos}/{len}  {elapsed} (left {eta})  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        progress.set_style(style);
    }
    if options.by_exploration {
        return explore(options, &catalogue, &chosen, &copy, &switched, &progress);
    }
    let mut ladder = Ladder::new(&copy, &switched, options.up_to);
    ladder.try_unbroken(&|what| progress.set_message(format!("the unbroken copy: {what}")))?;
    let mut rows = Vec::new();
    for mutant in chosen {
        let started = Moment::now();
        let tell = |what: &str| progress.set_message(format!("{}: {what}", mutant.name));
        let fate = ladder.try_mutant(mutant, &tell)?;
        let row = Row::new(mutant, fate, started.elapsed());
        if progress.is_hidden() {
            eprintln!("{}", row.line());
        } else if !matches!(row.fate, Fate::Caught { .. }) {
            progress.println(style(row.line()).red().to_string());
        }
        if options.write {
            row.write(&root, &catalogue)?;
        }
        rows.push(row);
        progress.inc(1);
    }
    progress.finish_and_clear();
    println!("{}", if options.json { report::json(&rows)? } else { report::table(&rows) });
    let all_caught = rows.iter().all(|row| matches!(row.fate, Fate::Caught { .. }));
    Ok(if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether worlds drawn from numbers are enough to find each of them.
fn explore(
    options: &Options,
    catalogue: &[Mutant],
    chosen: &[&Mutant],
    copy: &Copy,
    switched: &Switched,
    progress: &ProgressBar,
) -> Result<ExitCode> {
    progress.set_message("the unbroken copy");
    let sim = exploration::build(copy, switched)?;
    exploration::try_unbroken(copy, &sim)?;
    let time = Duration::from_secs(options.seconds.get().into());
    let mut hunts = Vec::new();
    for mutant in chosen {
        progress.set_message(mutant.name.clone());
        let hunt = exploration::hunt(copy, switched, &sim, mutant, time)?;
        if progress.is_hidden() {
            eprintln!("{}", hunt.line());
        } else if !hunt.is_found() {
            progress.println(style(hunt.line()).red().to_string());
        }
        if options.write {
            hunt.write(&cargo::root(), catalogue)?;
        }
        hunts.push(hunt);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let text = if options.json {
        serde_json::to_string_pretty(&hunts).context("writing JSON")?
    } else {
        exploration::table(&hunts)
    };
    println!("{text}");
    let all_found = hunts.iter().all(exploration::Hunt::is_found);
    Ok(if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose<'a>(catalogue: &'a [Mutant], only: &[String]) -> Result<Vec<&'a Mutant>> {
    if only.is_empty() {
        return Ok(catalogue.iter().collect());
    }
    let find = |name: &String| {
        let found = catalogue.iter().find(|mutant| mutant.name == *name);
        found.with_context(|| format!("there is no mutant `{name}`; `--list` shows all"))
    };
    let chosen: Vec<_> = only.iter().map(find).collect::<Result<_>>()?;
    if chosen.is_empty() {
        bail!("no mutants");
    }
    Ok(chosen)
}
