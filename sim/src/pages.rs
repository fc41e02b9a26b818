//! Pages on disk: one for a run, or a folder with one for each scenario and a table that links to them.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::page::{self, Listed};
use crate::report::Row;
use crate::scenario::Scenario;
use crate::story::build;
use crate::sweep::Summary;
use crate::world;

const INDEX: &str = "index.html";

/// A page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct PageError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// Whether a path is meant as one page, and not as a folder of them.
pub fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("html"))
}

/// Writes the page of one run, with its datagrams: into this file, or into this folder.
///
/// # Errors
/// The file or the folder cannot be written.
pub fn write_one(path: &Path, scenario: &Scenario, seed: u64) -> Result<(), PageError> {
    if is_page(path) {
        return draw(path, scenario, seed, true);
    }
    make_folder(path)?;
    draw(&path.join(format!("{}.html", scenario.name)), scenario, seed, true)
}

/// Writes what a sweep came to: one page if the path is one, of the first seed that broke a promise or of the first; else
/// a folder with a page for each scenario, and a table of them in `index.html`.
///
/// # Errors
/// A file or the folder cannot be written.
pub fn write(
    path: &Path,
    scenarios: &[Scenario],
    summaries: &[Summary],
    rows: &[Row],
    datagrams: bool,
    jobs: NonZeroUsize,
) -> Result<(), PageError> {
    let chosen = chosen(scenarios.len(), summaries);
    if is_page(path) {
        return match chosen.first() {
            Some(&(scenario, seed)) => draw(path, &scenarios[scenario], seed, true),
            None => Ok(()),
        };
    }
    make_folder(path)?;
    let files = file_names(scenarios);
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..jobs.get().min(chosen.len()) {
            scope.spawn(|| {
                while let Some(&(index, seed)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let scenario = &scenarios[index];
                    let file = path.join(&files[index]);
                    if let Err(error) = draw(&file, scenario, seed, datagrams)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_default() {
        return Err(error);
    }
    let listed: Vec<Listed<'_>> = rows
        .iter()
        .zip(&chosen)
        .map(|(row, &(scenario, seed))| Listed { row, seed, file: files[scenario].clone() })
        .collect();
    put(&path.join(INDEX), &page::index(&listed))
}

/// For each scenario that was run: the first seed that broke a promise, or the first of all.
fn chosen(scenarios: usize, summaries: &[Summary]) -> Vec<(usize, u64)> {
    let choose = |scenario: usize| {
        let runs = || summaries.iter().filter(move |summary| summary.scenario == scenario);
        let broken = runs().find(|summary| !summary.violations.is_empty());
        Some((scenario, broken.or_else(|| runs().next())?.seed))
    };
    (0..scenarios).filter_map(choose).collect()
}

/// A file for each scenario; of two with one name, from different folders, the later one is numbered.
fn file_names(scenarios: &[Scenario]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (position, scenario) in scenarios.iter().enumerate() {
        let name = format!("{}.html", scenario.name);
        let taken = names.contains(&name) || name == INDEX;
        names.push(if taken { format!("{}-{position}.html", scenario.name) } else { name });
    }
    names
}

fn make_folder(path: &Path) -> Result<(), PageError> {
    std::fs::create_dir_all(path).map_err(|source| PageError { path: path.to_owned(), source })
}

fn draw(path: &Path, scenario: &Scenario, seed: u64, datagrams: bool) -> Result<(), PageError> {
    let outcome = world::run(scenario, seed, datagrams);
    put(path, &page::html(&build::story(scenario, &outcome)))
}

fn put(path: &Path, text: &str) -> Result<(), PageError> {
    std::fs::write(path, text).map_err(|source| PageError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_in_html_and_anything_else_is_a_folder() {
        assert!(is_page(Path::new("a/run.html")) && is_page(Path::new("RUN.HTML")));
        assert!(!is_page(Path::new("report")) && !is_page(Path::new("html")));
    }

    #[test]
    fn no_two_pages_share_a_file() {
        let text = "title = \"x\"\nnodes = 1\nvips = 1\nduration = \"1s\"\n";
        let files = ["a/x.toml", "b/x.toml", "index.toml"];
        let scenarios = files.map(|file| Scenario::parse(file, text).expect("a scenario"));
        assert_eq!(file_names(&scenarios), ["x.html", "x-1.html", "index-2.html"]);
    }

    #[test]
    fn the_first_seed_that_fails_is_drawn_or_else_the_first() {
        let summary = |scenario, seed, broken: bool| Summary {
            scenario,
            seed,
            violations: vec!["x: y".to_owned(); usize::from(broken)],
            interruptions: Vec::new(),
            measurements: Default::default(),
            simulated: Default::default(),
            took: Default::default(),
            timeline: None,
        };
        let summaries = [
            summary(0, 3, false),
            summary(0, 4, true),
            summary(0, 5, true),
            summary(2, 8, false),
            summary(2, 9, false),
        ];
        assert_eq!(chosen(3, &summaries), [(0, 4), (2, 8)]);
    }
}
