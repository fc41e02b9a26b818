//! What is told: the list, the table at the end, and the one in docs/mutants.md.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::CellAlignment;
use serde::Serialize;

use super::catalogue::Mutant;
use super::document::Section;
use super::ladder::{Fate, Rung};
use crate::tables;

const SECTION: Section = Section {
    begin: "<!-- begin: written by `cargo xtask mutants --write` -->\n",
    end: "<!-- end -->",
    header: "| mutant | what is wrong then | caught by | first check that fails |\n|---|---|---|---|\n",
};

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

    /// Puts it into the document.
    ///
    /// # Errors
    /// As [`Section::put`].
    pub(super) fn write(&self, root: &Path, catalogue: &[Mutant]) -> Result<()> {
        SECTION.put(root, catalogue, &self.mutant, self.markdown())
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
