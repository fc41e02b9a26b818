//! What is told: the list, the table at the end, and the one in docs/mutants.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::CellAlignment;
use serde::Serialize;

use super::catalogue::Mutant;
use super::ladder::{Fate, Rung};
use crate::tables;

const DOCUMENT: &str = "docs/mutants.md";
/// The generated table stands between these.
const BEGIN: &str = "<!-- begin: written by `cargo xtask mutants --write` -->\n";
const END: &str = "<!-- end -->";

/// A mutant that was tried.
#[derive(Serialize)]
pub(super) struct Row {
    mutant: String,
    breaks: String,
    expected: Rung,
    pub(super) fate: Fate,
    seconds: u64,
}

impl Row {
    pub(super) fn new(mutant: &Mutant, fate: Fate, took: Duration) -> Self {
        Self {
            mutant: mutant.name.clone(),
            breaks: mutant.breaks.clone(),
            expected: mutant.caught_by,
            fate,
            seconds: took.as_secs(),
        }
    }

    /// All in one line.
    pub(super) fn line(&self) -> String {
        let [mutant, by, check, seconds] = self.cells();
        format!("{mutant:<40} {by:<10} {seconds:>5} s  {check}")
    }

    fn cells(&self) -> [String; 4] {
        let (by, check) = match &self.fate {
            Fate::Caught { by, check } if *by > self.expected => {
                (by.to_string(), format!("{check} (expected: {})", self.expected))
            }
            Fate::Caught { by, check } => (by.to_string(), check.clone()),
            Fate::Survived => ("SURVIVED".into(), self.breaks.clone()),
            Fate::Untried(why) => ("ERROR".into(), why.clone()),
        };
        [self.mutant.clone(), by, check, self.seconds.to_string()]
    }

    fn markdown(&self) -> String {
        let (by, check) = match &self.fate {
            Fate::Caught { by, check } => (by.to_string(), format!("`{check}`")),
            Fate::Survived => ("**survives**".into(), String::new()),
            Fate::Untried(_) => ("**error**".into(), String::new()),
        };
        format!("| `{}` | {} | {by} | {check} |", self.mutant, self.breaks)
    }
}

/// All mutants, and what each breaks.
pub(super) fn list(mutants: &[Mutant]) -> String {
    let row = |m: &Mutant| {
        vec![m.name.clone(), m.caught_by.to_string(), m.file.clone(), m.breaks.clone()]
    };
    let header = ["mutant", "expected", "file", "what is wrong then"];
    tables::table(header, mutants.iter().map(row), 0..=0, CellAlignment::Left).to_string()
}

/// What became of those that were tried, and how many there are of each kind.
pub(super) fn table(rows: &[Row]) -> String {
    let header = ["mutant", "caught by", "check", "seconds"];
    let table = tables::table(header, rows.iter().map(Row::cells), 3..=3, CellAlignment::Right);
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.cells()[1].clone()).or_insert(0) += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    format!("{table}\n{} mutants: {}", rows.len(), counts.join(", "))
}

/// The same for programs.
pub(super) fn json(rows: &[Row]) -> Result<String> {
    serde_json::to_string_pretty(rows).context("writing JSON")
}

/// Puts the rows into the document's table.
///
/// # Errors
/// The document cannot be read or written, or has no place for it.
pub(super) fn write(root: &Path, catalogue: &[Mutant], rows: &[Row]) -> Result<()> {
    let path = root.join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {DOCUMENT}"))?;
    let text = merged(&text, catalogue, rows)
        .with_context(|| format!("{DOCUMENT} lacks the marks `{}` and `{END}`", BEGIN.trim()))?;
    fs::write(&path, text).with_context(|| format!("writing {DOCUMENT}"))
}

/// The document with these rows, and those that it had of other mutants that are still listed.
fn merged(text: &str, catalogue: &[Mutant], rows: &[Row]) -> Option<String> {
    let (head, rest) = text.split_once(BEGIN)?;
    let (before, tail) = rest.split_once(END)?;
    let mut lines: BTreeMap<&str, String> = BTreeMap::new();
    for line in before.lines() {
        if let Some(name) = line.strip_prefix("| `").and_then(|line| line.split('`').next()) {
            lines.insert(name, line.to_owned());
        }
    }
    lines.extend(rows.iter().map(|row| (row.mutant.as_str(), row.markdown())));
    let table: String =
        catalogue.iter().filter_map(|m| Some(lines.get(m.name.as_str())?.clone() + "\n")).collect();
    let header =
        "| mutant | what is wrong then | caught by | first check that fails |\n|---|---|---|---|\n";
    Some(format!("{head}{BEGIN}\n{header}{table}\n{END}{tail}"))
}
