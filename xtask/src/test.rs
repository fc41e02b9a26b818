//! `cargo xtask test`: one stage after the other, quickest first, stopping at the first that fails.

use std::io::{BufRead, BufReader, Write, pipe};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use console::{Term, style, truncate_str};
use netns_tests::time::Moment;

use crate::cargo;

/// The integration test that has a stage of its own.
const NAMESPACES: &str = "namespaces";
/// How many seeds of each scenario a test run tries; `cargo xtask simulate` tries more.
const SWEEP: &[&str] = &["simulate", "scenarios", "--seeds", "4"];

/// A step of the test run: a command, and how to repeat it.
struct Stage {
    name: &'static str,
    command: Command,
    repeat: String,
}

/// Tests counted in cargo's result lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs all stages and prints a line for each.
pub(crate) fn run() -> Result<ExitCode> {
    let started = Moment::now();
    let mut total = Count::default();
    for stage in stages()? {
        let outcome = stage.run()?;
        total = total.plus(outcome.count);
        if !outcome.success {
            println!("\n{}", outcome.output.trim_end());
            println!("\n{} failed. To repeat it alone: {}", stage.name, stage.repeat);
            println!("{} passed, {} failed", total.passed, total.failed.max(1));
            return Ok(ExitCode::FAILURE);
        }
    }
    println!("{:<12} {:>16}", "all", seconds(started.elapsed()));
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(ExitCode::SUCCESS)
}

fn stages() -> Result<Vec<Stage>> {
    let xtask = std::env::current_exe().context("finding this program's own file")?;
    let own = |name, arguments: &[&str]| {
        let mut command = Command::new(&xtask);
        command.args(arguments).current_dir(cargo::root());
        Stage { name, command, repeat: format!("cargo xtask {}", arguments.join(" ")) }
    };
    let cargo = |name, arguments: &[&str]| Stage {
        name,
        command: cargo::command(arguments),
        repeat: format!("cargo {}", arguments.join(" ")),
    };
    let integration = cargo::integration_tests()?;
    let mut tests = vec!["test", "--release", "--workspace", "--lib", "--bins"];
    for name in integration.iter().filter(|name| *name != NAMESPACES) {
        tests.extend(["--test", name]);
    }
    let mut docs = cargo("docs", &["doc", "--workspace", "--no-deps"]);
    docs.command.env("RUSTDOCFLAGS", "-D warnings");
    docs.repeat.insert_str(0, "RUSTDOCFLAGS='-D warnings' ");
    Ok(vec![
        cargo("format", &["fmt", "--all", "--check"]),
        own("tidy", &["tidy"]),
        cargo("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        docs,
        cargo("tests", &tests),
        cargo("doc tests", &["test", "--release", "--workspace", "--doc"]),
        own("simulation", SWEEP),
        cargo("namespaces", &["test", "--release", "--workspace", "--test", NAMESPACES]),
    ])
}

struct Outcome {
    success: bool,
    output: String,
    count: Count,
}

impl Stage {
    /// Runs the command and prints the stage's line. On a terminal the line shows what goes on meanwhile.
    fn run(&self) -> Result<Outcome> {
        let term = Term::stdout();
        let started = Moment::now();
        let (reader, writer) = pipe().context("making a pipe")?;
        let mut command = Command::new(self.command.get_program());
        command.args(self.command.get_args()).stdout(writer.try_clone()?).stderr(writer);
        command.envs(self.command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.current_dir(cargo::root());
        let mut child =
            command.spawn().with_context(|| format!("starting the stage {}", self.name))?;
        drop(command); // It holds the writing end, and the reader waits for the last one to close.
        let mut output = String::new();
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.context("reading a stage's output")?;
            let line = String::from_utf8_lossy(&line);
            if term.is_term() {
                self.show_progress(&term, &line)?;
            }
            output += &line;
            output.push('\n');
        }
        let success = child.wait().context("waiting for a stage")?.success();
        let count = Count::of(&output);
        if term.is_term() {
            term.clear_line()?;
        }
        let verdict = if success { style("ok").green() } else { style("FAILED").red() };
        let details = [count.describe(), skipped(&output)].concat();
        println!("{:<12} {verdict:<6} {:>9} {details}", self.name, seconds(started.elapsed()));
        Ok(Outcome { success, output, count })
    }

    fn show_progress(&self, mut term: &Term, line: &str) -> Result<()> {
        let width = usize::from(term.size().1).saturating_sub(14);
        let shown = truncate_str(line.trim(), width, "…").into_owned();
        term.clear_line()?;
        write!(term, "{:<12} {}", self.name, style(shown).dim())?;
        term.flush()?;
        Ok(())
    }
}

impl Count {
    /// Sums up cargo's lines: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of(output: &str) -> Self {
        output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("test result: "))
            .map(|results| {
                let number = |what: &str| {
                    let part = results.split(['.', ';']).find(|part| part.ends_with(what));
                    part.and_then(|p| p.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
                };
                Self {
                    passed: number(" passed"),
                    failed: number(" failed"),
                    ignored: number(" ignored"),
                }
            })
            .fold(Self::default(), Self::plus)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }

    fn describe(self) -> String {
        let part = |number, what| match number {
            0 => String::new(),
            number => format!(" {number:>4} {what}"),
        };
        part(self.passed, "passed") + &part(self.failed, "failed") + &part(self.ignored, "ignored")
    }
}

/// Why tests were left out, in their own words.
fn skipped(output: &str) -> String {
    let reasons = output.lines().filter(|line| line.starts_with("skipped: "));
    reasons.map(|line| format!("\n{:12} {line}", "")).collect()
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_up() {
        let output = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            noise\n\
            test result: FAILED. 10 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out\n";

        assert_eq!(Count::of(output), Count { passed: 12, failed: 3, ignored: 1 });
        assert_eq!(Count::of("nothing"), Count::default());
    }
}
