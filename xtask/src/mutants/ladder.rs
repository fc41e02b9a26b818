//! The checks, from cheap to dear. The first that fails has caught the mutant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use netns_tests::time::Moment;
use serde::{Deserialize, Serialize};

use super::catalogue::Mutant;
use super::copy::Copy;
use super::switched::{CHOICE, Switched};
use super::watch::{Ended, watch};

/// The random storms are run with so many seeds; their cases and the committed regressions come with each.
const STORM_SEEDS: u64 = 4;
/// Every scenario is run with so many seeds.
const SCENARIO_SEEDS: &str = "2";
/// A check hangs when it takes so many times as long as it took with the unbroken copy, and at least [`LIMIT_MIN`].
const PATIENCE: u32 = 10;
const LIMIT_MIN: Duration = Duration::from_secs(60);
/// The unbroken copy's own limit.
const LIMIT_MAX: Duration = Duration::from_secs(1_800);
const STORMS: [&str; 2] = ["node::tests::storm::", "node::tests::gale::"];

/// A kind of check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Rung {
    /// Tables, stories and properties of the protocol's parts.
    Unit,
    /// Whole nodes under random faults.
    Storms,
    /// Every interleaving of votes.
    Votes,
    /// Tables and properties of the reconciler and what else is in the daemon.
    Daemon,
    /// The scenarios.
    Simulator,
}

/// What became of a mutant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fate {
    /// A check failed.
    Caught {
        /// What kind of check.
        by: Rung,
        /// Which: the test, or the scenario.
        check: String,
    },
    /// None did.
    Survived,
    /// It could not be tried: it does not fit, or does not compile.
    Untried(String),
}

/// What is run for a rung: one after the other until one fails.
struct Check {
    label: String,
    command: Command,
}

/// How a check ended.
enum Outcome {
    Passed,
    Failed(String),
}

/// What is known of the unbroken copy.
#[derive(Serialize, Deserialize)]
struct Baseline {
    fingerprint: String,
    /// What it has passed.
    passed: BTreeSet<Rung>,
    /// Seconds that each check took.
    seconds: BTreeMap<String, u64>,
}

/// All checks over a copy.
pub(super) struct Ladder<'a> {
    copy: &'a Copy,
    switched: &'a Switched,
    /// The last rung.
    top: Rung,
    baseline: Baseline,
    /// What each rung runs, with a switch for the mutants in it.
    programs: BTreeMap<Rung, PathBuf>,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "unit",
            Self::Storms => "storms",
            Self::Votes => "votes",
            Self::Daemon => "daemon",
            Self::Simulator => "simulator",
        })
    }
}

impl Rung {
    const ALL: [Self; 5] = [Self::Unit, Self::Storms, Self::Votes, Self::Daemon, Self::Simulator];

    /// Whether the checks of this rung run the code of a file.
    fn reads(self, file: &str) -> bool {
        match self {
            Self::Unit | Self::Storms => file.starts_with("wackamole/protocol/"),
            Self::Votes => file.starts_with("wackamole/protocol/src/vote/"),
            Self::Daemon => file.starts_with("wackamole/src/"),
            Self::Simulator => true,
        }
    }
}

impl<'a> Ladder<'a> {
    pub(super) fn new(copy: &'a Copy, switched: &'a Switched, top: Rung) -> Self {
        let fingerprint = copy.fingerprint();
        let baseline = Baseline { fingerprint, passed: BTreeSet::new(), seconds: BTreeMap::new() };
        Self { copy, switched, top, baseline, programs: BTreeMap::new() }
    }

    fn rungs(&self) -> impl Iterator<Item = Rung> {
        let top = self.top;
        Rung::ALL.into_iter().filter(move |rung| *rung <= top)
    }

    /// Builds everything, once for all mutants that fit into one program. Without one the copy is unbroken, and must pass
    /// everything; how long that takes tells what a hang is. Not done again while nothing changes.
    ///
    /// # Errors
    /// It does not pass, or does not compile.
    pub(super) fn try_unbroken(&mut self, tell: &dyn Fn(&str)) -> Result<()> {
        let path = self.copy.target.join("baseline.json");
        let before = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(before) =
            before.filter(|before: &Baseline| before.fingerprint == self.baseline.fingerprint)
        {
            self.baseline = before;
        }
        self.copy.switch(self.switched)?;
        for rung in self.rungs().collect::<Vec<_>>() {
            tell("building");
            let program = self.build(rung).context("building the unbroken copy")?;
            self.programs.insert(rung, program.clone());
            if self.baseline.passed.contains(&rung) {
                continue;
            }
            for mut check in self.checks(rung, &program) {
                tell(&check.label);
                let started = Moment::now();
                if let Outcome::Failed(what) = run(&mut check, LIMIT_MAX)? {
                    bail!("the unbroken copy fails: {rung}: {what}");
                }
                self.baseline.seconds.insert(check.label, started.elapsed().as_secs() + 1);
            }
            self.baseline.passed.insert(rung);
            fs::write(&path, serde_json::to_vec(&self.baseline)?)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// Runs what may notice. A mutant that is in no program is built by itself, and what was built for the others is gone then.
    ///
    /// # Errors
    /// The copy cannot be written or its programs not started.
    pub(super) fn try_mutant(&self, mutant: &Mutant, tell: &dyn Fn(&str)) -> Result<Fate> {
        let number = self.switched.number(&mutant.name);
        if number.is_none()
            && let Err(misfit) = self.copy.break_with(mutant)
        {
            return Ok(Fate::Untried(format!("{misfit:#}")));
        }
        for by in self.rungs().filter(|rung| rung.reads(&mutant.file)) {
            let program = match self.programs.get(&by).filter(|_| number.is_some()) {
                Some(program) => program.clone(),
                None => {
                    tell("building");
                    match self.build(by) {
                        Ok(program) => program,
                        Err(error) => return Ok(Fate::Untried(format!("{error:#}"))),
                    }
                }
            };
            for mut check in self.checks(by, &program) {
                tell(&check.label);
                if let Some(number) = number {
                    check.command.env(CHOICE, number.to_string());
                }
                let usual = self.baseline.seconds.get(&check.label).copied().unwrap_or(0);
                let limit = (Duration::from_secs(usual) * PATIENCE).max(LIMIT_MIN);
                if let Outcome::Failed(check) = run(&mut check, limit)? {
                    return Ok(Fate::Caught { by, check });
                }
            }
        }
        Ok(Fate::Survived)
    }

    /// Builds what a rung runs.
    fn build(&self, rung: Rung) -> Result<PathBuf> {
        match rung {
            Rung::Unit | Rung::Storms => {
                self.copy.build(&["test", "-p", "wackamole-protocol", "--lib"])
            }
            Rung::Votes => {
                self.copy.build(&["test", "-p", "wackamole-protocol", "--test", "votes"])
            }
            Rung::Daemon => self.copy.build(&["test", "-p", "wackamole", "--lib"]),
            Rung::Simulator => self.copy.build_simulator(),
        }
    }

    /// What a rung does with what was built for it.
    fn checks(&self, rung: Rung, program: &Path) -> Vec<Check> {
        match rung {
            Rung::Unit => {
                let skipped = STORMS.iter().flat_map(|name| ["--skip", name]);
                let command = self.copy.program(program, "wackamole/protocol", skipped, 1);
                vec![Check { label: "unit".into(), command }]
            }
            Rung::Storms => {
                let check = |seed| Check {
                    label: format!("storms, seed {seed}"),
                    command: self.copy.program(program, "wackamole/protocol", STORMS, seed),
                };
                (1..=STORM_SEEDS).map(check).collect()
            }
            Rung::Votes => {
                let command = self.copy.program(program, "wackamole/protocol", [], 1);
                vec![Check { label: "votes".into(), command }]
            }
            Rung::Daemon => {
                let command = self.copy.program(program, "wackamole", [], 1);
                vec![Check { label: "daemon".into(), command }]
            }
            Rung::Simulator => {
                let check = |scenario: &PathBuf| {
                    let name = scenario.file_stem().unwrap_or_default().to_string_lossy();
                    let scenario = scenario.to_string_lossy();
                    let arguments =
                        ["run", &*scenario, "--seeds", SCENARIO_SEEDS, "--engine", "fast"];
                    let command = self.copy.program(program, ".", arguments, 1);
                    Check { label: name.into_owned(), command }
                };
                self.copy.scenarios().iter().map(check).collect()
            }
        }
    }
}

fn run(check: &mut Check, limit: Duration) -> Result<Outcome> {
    let label = &check.label;
    Ok(match watch(&mut check.command, limit, failed_test)? {
        Ended::Exited(status, _) if status.success() => Outcome::Passed,
        Ended::Exited(status, printed) if status.code() == Some(2) => {
            bail!("{label} could not be run: {}", printed.join("\n"))
        }
        Ended::Exited(status, _) if status.code() == Some(1) => Outcome::Failed(label.clone()),
        Ended::Exited(status, _) => Outcome::Failed(format!("{label} ({status})")),
        Ended::Enough(test) => Outcome::Failed(test),
        Ended::TooLong => Outcome::Failed(format!("{label} (hung)")),
    })
}

/// The test that a line of the test harness says has failed.
fn failed_test(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    // `should panic` and the like stand behind the name.
    Some(name.split(' ').next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_is_found_in_the_harness_s_output() {
        let failed = "test group::tests::a_name ... FAILED";

        assert_eq!(failed_test(failed), Some("group::tests::a_name".to_owned()));
        assert_eq!(failed_test("test group::tests::a_name ... ok"), None);
        assert_eq!(failed_test("---- group::tests::a_name stdout ----"), None);
        assert_eq!(failed_test("test result: FAILED. 1 passed; 1 failed"), None);
    }

    #[test]
    fn only_checks_that_run_a_file_are_tried() {
        let rungs = |file: &str| -> Vec<Rung> {
            Rung::ALL.into_iter().filter(|rung| rung.reads(file)).collect()
        };

        assert_eq!(rungs("wackamole/src/driver.rs"), [Rung::Daemon, Rung::Simulator]);
        assert_eq!(
            rungs("wackamole/protocol/src/group/mod.rs"),
            [Rung::Unit, Rung::Storms, Rung::Simulator]
        );
        assert!(rungs("wackamole/protocol/src/vote/rules.rs").contains(&Rung::Votes));
    }
}
