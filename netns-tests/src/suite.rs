//! The test runner: each case is a process of its own in namespaces of its own.
//!
//! It understands what users of `cargo test` and nextest expect (filters, `--list`, `--exact`, `--test-threads`) and
//! prints the usual result line.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, pipe};
use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::sandbox::{self, Role, SCRATCH};
use crate::{binary, daemon};

/// A test case.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it shows, as a path of names.
    pub name: &'static str,
    /// Runs inside. An error or a panic is a failure.
    pub run: fn() -> Result<()>,
    /// It measures how long something takes, so it runs alone: all machines of all cases share one kernel, and making
    /// and removing interfaces holds a lock that adding an address waits for.
    pub alone: bool,
}

/// Names functions as cases, each by its module and its own name: first those that may run beside others, then those
/// that run alone.
#[macro_export]
macro_rules! cases {
    (
        beside_others { $($module:ident: $($function:ident),+ $(,)?;)+ }
        alone { $($lone_module:ident: $($lone_function:ident),+ $(,)?;)+ }
    ) => {
        &[
            $($($crate::suite::Case {
                name: concat!(stringify!($module), "::", stringify!($function)),
                run: $module::$function,
                alone: false,
            }),+),+,
            $($($crate::suite::Case {
                name: concat!(stringify!($lone_module), "::", stringify!($lone_function)),
                run: $lone_module::$lone_function,
                alone: true,
            }),+),+
        ]
    };
}

/// The word before a case's name on the command line of the process that runs it.
const RUN: &str = "run-case";
/// Cases spend most of their time waiting.
const AT_ONCE: usize = 2;
/// A case that takes longer is stuck.
const LIMIT: Duration = Duration::from_secs(120);
/// How much of each daemon's log a failure shows.
const LOG_LINES: usize = 60;

/// The `main` of a test program.
pub fn main(cases: &'static [Case]) -> ExitCode {
    match sandbox::role() {
        Role::Inside => run_named(cases),
        Role::Outside => run_all(cases),
    }
}

fn run_all(cases: &'static [Case]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let mut possible = Ok(());
    if !arguments.list {
        possible = sandbox::available();
        if let Err(reason) = &possible {
            eprintln!("skipped: {reason:#}");
        }
    }
    let mut program = None;
    if !arguments.list && possible.is_ok() {
        match binary::build() {
            Ok(path) => program = Some(path),
            Err(error) => {
                eprintln!("error: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    let trial = |case: &'static Case| {
        let program = program.clone();
        Trial::test(case.name, move || run_in_sandbox(case, program.as_deref()))
            .with_ignored_flag(possible.is_err())
    };
    libtest_mimic::run(&arguments, cases.iter().map(trial).collect()).exit_code()
}

fn run_in_sandbox(case: &Case, program: Option<&Path>) -> Result<(), Failed> {
    let outcome = || -> Result<(bool, String)> {
        let _turn = take_turn(case.alone)?;
        let (mut reader, writer) = pipe()?;
        let mut command = sandbox::inside([RUN, case.name])?;
        command.stdout(writer.try_clone()?).stderr(writer);
        if let Some(program) = program {
            command.env(binary::VARIABLE, program);
        }
        let mut child = command.spawn()?;
        drop(command); // It holds the writing end, and the reader waits for the last one to close.
        let mut output = Vec::new();
        reader.read_to_end(&mut output)?;
        Ok((child.wait()?.success(), String::from_utf8_lossy(&output).into_owned()))
    };
    match outcome() {
        Ok((true, _)) => Ok(()),
        Ok((false, output)) => Err(output.into()),
        Err(error) => Err(format!("{error:#}").into()),
    }
}

/// Waits until nobody runs that minds. The lock is on this program's own file, so that it also holds between the
/// processes that nextest starts; closing the file ends it.
fn take_turn(alone: bool) -> Result<File> {
    let file = File::open(std::env::current_exe().context("finding this program's own file")?)?;
    if alone { file.lock() } else { file.lock_shared() }.context("flock(2)")?;
    Ok(file)
}

fn run_named(cases: &[Case]) -> ExitCode {
    let name = std::env::args().nth(2).unwrap_or_default();
    let Some(case) = cases.iter().find(|case| case.name == name) else {
        eprintln!("there is no case {name:?}");
        return ExitCode::FAILURE;
    };
    thread::spawn(|| {
        thread::sleep(LIMIT);
        eprintln!("still not done after {LIMIT:?}\n{}", logs());
        std::process::exit(1);
    });
    let result = catch_unwind(case.run).unwrap_or_else(|_| Err(anyhow!("the case panicked")));
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("{error:#}\n{}", logs());
    ExitCode::FAILURE
}

/// How the daemons saw it: the last lines of their logs.
pub fn logs() -> String {
    let mut shown = String::new();
    let Ok(entries) = fs::read_dir(Path::new(SCRATCH).join(daemon::LOGS)) else { return shown };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let name = file.file_stem().unwrap_or_default().display();
        let _ = writeln!(shown, "--- log of {name}, last {LOG_LINES} of {} lines", lines.len());
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            let _ = writeln!(shown, "{line}");
        }
    }
    shown
}
