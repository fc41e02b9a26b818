//! What was measured, as tables for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use super::{Fault, Outcome, Policy, Timing};
use crate::statistics::Spread;
use crate::tables::table;

/// What stands before and after the figures in the document.
const BEGIN: &str = "<!-- what follows is written by `cargo xtask bench safety` -->";
const END: &str = "<!-- end of what is written by `cargo xtask bench safety` -->";

/// Heartbeat and failure timeout; sorts as the settings are listed, slowest first.
type Setting = (std::cmp::Reverse<Duration>, Duration);

/// All outcomes.
pub(super) struct Results {
    rounds: u32,
    outcomes: BTreeMap<(Fault, Setting, Policy), Vec<Outcome>>,
    failures: usize,
}

impl Results {
    pub(super) fn new(rounds: u32) -> Self {
        Self { rounds, outcomes: BTreeMap::new(), failures: 0 }
    }

    pub(super) fn add(&mut self, fault: Fault, policy: Policy, timing: Timing, outcome: Outcome) {
        let setting = (std::cmp::Reverse(timing.heartbeat), timing.failure_timeout);
        self.outcomes.entry((fault, setting, policy)).or_default().push(outcome);
    }

    /// A cluster did not get over a fault. Returns how often that has happened.
    pub(super) fn fail(&mut self) -> usize {
        self.failures += 1;
        self.failures
    }

    pub(super) fn as_table(&self) -> Table {
        let [first, rows @ ..] = &self.lines()[..] else { return Table::new() };
        table(first, rows, 1..=first.len() - 1, CellAlignment::Right)
    }

    /// The table in Markdown, its columns aligned, and the notes.
    pub(super) fn as_markdown(&self) -> String {
        let lines = self.lines();
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(3))
            .collect();
        let mut text = String::new();
        for (index, line) in lines.iter().enumerate() {
            for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                let _ = match column {
                    0 => write!(text, "| {cell:<width$} "),
                    _ => write!(text, "| {cell:>width$} "),
                };
            }
            text += "|\n";
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let end = if column == 0 { "-" } else { ":" };
                    let _ = write!(text, "|-{}{end}", "-".repeat(*width));
                }
                text += "|\n";
            }
        }
        for note in self.notes() {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }

    /// A header, and a line for each fault at each setting.
    fn lines(&self) -> Vec<Vec<String>> {
        let policies: Vec<_> =
            Policy::ALL.into_iter().filter(|p| self.outcomes.keys().any(|k| k.2 == *p)).collect();
        let mut header =
            ["fault", "heartbeat / timeout", "last answer"].map(str::to_owned).to_vec();
        for policy in &policies {
            header.push(format!("{}: two answer", policy.name()));
            header.push("in the dark".to_owned());
        }
        let mut lines = vec![header];
        let mut rows: Vec<_> = self.outcomes.keys().map(|&(fault, s, _)| (fault, s)).collect();
        rows.dedup();
        for (fault, setting) in rows {
            let of = |policy| self.outcomes.get(&(fault, setting, policy)).map_or(&[][..], |o| o);
            let silent = policies.iter().flat_map(|&policy| of(policy)).filter_map(|o| o.silent);
            let mut line = vec![
                fault.name().to_owned(),
                format!("{} / {}", setting.0.0.as_millis(), setting.1.as_millis()),
                silent.max().map_or_else(String::new, ms),
            ];
            for &policy in &policies {
                let outcomes = of(policy);
                line.push(overlap(outcomes));
                let dark = Spread::of(outcomes.iter().map(|outcome| outcome.dark));
                line.push(dark.map_or_else(String::new, |dark| {
                    format!("{} / {}", ms(dark.median), ms(dark.max))
                }));
            }
            lines.push(line);
        }
        lines
    }

    /// What is to be known to read the table.
    pub(super) fn notes(&self) -> Vec<String> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let blind = self.outcomes.values().flatten().map(|o| o.blind).max().unwrap_or_default();
        let rounds = match self.rounds {
            1 => "One round".to_owned(),
            rounds => format!("{rounds} rounds"),
        };
        let mut notes = vec![format!(
            "All in milliseconds. {rounds} of each, three machines, four IPv4 and two IPv6 VIPs; {cores} cores, Linux {}. \
             Two answer: the longest time in all rounds. In the dark: the VIP that was away longest in a round, median / \
             longest of the rounds; the client was itself not scheduled for up to {} of that. Last answer: of the machine \
             with the fault, after it, longest of all rounds.",
            kernel.trim(),
            ms(blind),
        )];
        if self.failures > 0 {
            notes.push(format!("{} rounds failed and are not in the table.", self.failures));
        }
        notes
    }

    pub(super) fn as_json(&self) -> Value {
        let number = |duration: Duration| (duration.as_secs_f64() * 1e5).round() / 100.0;
        let round = |outcome: &Outcome| {
            json!({
                "two_answer": number(outcome.overlap),
                "two_answer_after_mending": number(outcome.overlap_mended),
                "dark": number(outcome.dark),
                "client_blind": number(outcome.blind),
                "last_answer": outcome.silent.map(number),
                "broken": number(outcome.broken),
            })
        };
        let measured = self.outcomes.iter().map(|((fault, setting, policy), outcomes)| {
            json!({
                "fault": fault.name(),
                "policy": policy.name(),
                "heartbeat": number(setting.0.0),
                "failure_timeout": number(setting.1),
                "rounds": outcomes.iter().map(round).collect::<Vec<_>>(),
            })
        });
        json!({ "failures": self.failures, "measured": measured.collect::<Vec<_>>() })
    }
}

/// The longest time in which two answered; where they did so while the network was broken, the time after that.
fn overlap(outcomes: &[Outcome]) -> String {
    let Some(longest) = outcomes.iter().map(|outcome| outcome.overlap).max() else {
        return String::new();
    };
    let after = outcomes.iter().map(|outcome| outcome.overlap_mended).max().unwrap_or_default();
    let while_broken = outcomes
        .iter()
        .any(|outcome| !outcome.broken.is_zero() && outcome.overlap > outcome.overlap_mended);
    if while_broken {
        format!("while cut + {}", ms(after))
    } else if longest.is_zero() {
        "0".to_owned()
    } else {
        ms(longest)
    }
}

/// Milliseconds, with a decimal where it matters.
fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// Puts new figures where the old ones are.
pub(super) fn splice(document: &str, figures: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{figures}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn results() -> Results {
        let mut results = Results::new(2);
        let timing = Timing { heartbeat: 100 * MS, failure_timeout: 400 * MS };
        for (dark, overlap) in [(30, 0), (40, 2)] {
            let outcome = Outcome { dark: dark * MS, overlap: overlap * MS, ..Outcome::default() };
            results.add(Fault::DaemonKilled, Policy::Lan, timing, outcome);
        }
        let cut = Outcome {
            overlap: 900 * MS,
            overlap_mended: 3 * MS,
            broken: 900 * MS,
            ..Outcome::default()
        };
        results.add(Fault::HeartbeatPathCut, Policy::Lan, timing, cut);
        results
    }

    #[test]
    fn a_line_has_the_longest_overlap_and_the_spread_of_darkness() {
        let lines = results().lines();

        assert_eq!(lines[1], ["daemon killed", "100 / 400", "", "2.0", "40 / 40"]);
        assert_eq!(lines[2][3], "while cut + 3.0");
    }

    #[test]
    fn new_figures_replace_the_old_ones_and_nothing_else() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");

        let spliced = splice(&document, "new").expect("there are both marks");

        assert_eq!(spliced, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert!(splice("no marks", "new").is_err());
    }
}
