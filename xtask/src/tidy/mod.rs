//! `cargo xtask tidy`: the repository's own rules, which no compiler checks.
//!
//! To add a rule, write a function from the files to the problems it finds, and name it in [`RULES`].

mod layout;
mod length;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

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

/// Entries of the top that are not part of the source; in a linked work tree `.git` is a file.
const SKIPPED: &[&str] = &["target", ".git"];

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
    let mut files = Vec::new();
    collect(cargo::root(), Path::new(""), &mut files)?;
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

fn collect(root: &Path, directory: &Path, files: &mut Vec<SourceFile>) -> Result<()> {
    let absolute = root.join(directory);
    let entries = fs::read_dir(&absolute).with_context(|| absolute.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(directory.join(entry?.file_name())))
        .collect::<Result<_>>()
        .with_context(|| absolute.display().to_string())?;
    paths.sort();
    for path in paths {
        let name = path.to_string_lossy().into_owned();
        let absolute = root.join(&path);
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if absolute.is_dir() {
            collect(root, &path, files)?;
        } else if let Ok(text) = fs::read_to_string(&absolute) {
            // What is not UTF-8 is not source.
            files.push(SourceFile { path: name, text });
        }
    }
    Ok(())
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
