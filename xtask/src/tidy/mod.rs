//! `cargo xtask tidy`: the repository's own rules, which no compiler checks.
//!
//! To add a rule, write a function from the files to the problems it finds, and name it in [`RULES`].

mod layout;
mod length;
mod tokens;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::cargo;

type Rule = fn(&[SourceFile]) -> Vec<Problem>;

const RULES: &[Rule] = &[
    length::files_are_short_enough,
    tokens::no_forbidden_tokens,
    tokens::every_select_is_biased,
    layout::only_known_entries_at_the_top,
    layout::paths_in_the_architecture_exist,
    layout::scenarios_have_titles,
    layout::no_paths_of_one_machine,
];

/// A text file of the repository.
struct SourceFile {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    path: String,
    /// From 1; 0 means the whole file.
    line: usize,
    what: String,
}

/// Prints all problems; fails if there is any.
pub(crate) fn run() -> Result<ExitCode> {
    let files = collect(&cargo::root())?;
    let problems: Vec<_> = RULES.iter().flat_map(|rule| rule(&files)).collect();
    for Problem { path, line, what } in &problems {
        match line {
            0 => eprintln!("{path}: {what}"),
            line => eprintln!("{path}:{line}: {what}"),
        }
    }
    for (path, lines) in length::long_files(&files) {
        println!("{path}: {lines} lines; past {}, look for the second concept", length::SOFT);
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The text files that git tracks, or would if they were added.
fn collect(root: &Path) -> Result<Vec<SourceFile>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("starting git")?;
    ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let paths = output.stdout.split(|&byte| byte == 0).filter(|path| !path.is_empty());
    let mut files = Vec::new();
    for path in paths {
        let path = String::from_utf8_lossy(path).into_owned();
        // What is not UTF-8 is not source, and what was deleted is still tracked.
        if let Ok(text) = fs::read_to_string(root.join(&path)) {
            files.push(SourceFile { path, text });
        }
    }
    Ok(files)
}

impl SourceFile {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn problem(&self, line: usize, what: impl Into<String>) -> Problem {
        Problem { path: self.path.clone(), line, what: what.into() }
    }

    /// Lines with their numbers, from 1, without those that are only a comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

#[cfg(test)]
impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}
