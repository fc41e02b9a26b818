//! The list of mutants: `xtask/mutants/*.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::ladder::Rung;

/// One way to break the code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mutant {
    pub(super) name: String,
    /// What is wrong then, in one sentence.
    pub(super) breaks: String,
    /// Relative to the root.
    pub(super) file: String,
    /// Occurs exactly once in the file.
    find: String,
    replace: String,
    /// The dearest check that is expected to be needed.
    pub(super) caught_by: Rung,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    mutant: Vec<Mutant>,
}

/// Reads the list, in the order of the files' names.
///
/// # Errors
/// A file cannot be read or understood, or two mutants have the same name.
pub(super) fn load(root: &Path) -> Result<Vec<Mutant>> {
    let folder = root.join("xtask/mutants");
    let mut files = fs::read_dir(&folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("reading {}", folder.display()))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut mutants = Vec::new();
    for path in files {
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        mutants.extend(parse(&text).with_context(|| format!("in {}", path.display()))?);
    }
    let mut names = BTreeMap::new();
    for mutant in &mutants {
        *names.entry(&mutant.name).or_insert(0) += 1;
    }
    let twice = names.iter().find(|(_, count)| **count > 1);
    ensure!(twice.is_none(), "two mutants are called {}", twice.map_or("", |(name, _)| name));
    Ok(mutants)
}

/// Reads one of the files.
///
/// # Errors
/// As `toml` tells them.
pub(super) fn parse(text: &str) -> Result<Vec<Mutant>> {
    let listing: Listing = toml::from_str(text)?;
    Ok(listing.mutant)
}

impl Mutant {
    /// What it replaces in the file's text.
    ///
    /// # Errors
    /// That is not there exactly once: the code has moved on, and the mutant has to follow.
    pub(super) fn place(&self, text: &str) -> Result<Range<usize>> {
        let Self { name, file, find, .. } = self;
        let mut places = text.match_indices(find.as_str()).map(|(at, _)| at);
        match (places.next(), places.count()) {
            (Some(at), 0) => Ok(at..at + find.len()),
            (None, _) => bail!("mutant {name}: its text is not in {file} any more: {find}"),
            (_, more) => bail!("mutant {name}: its text is {} times in {file}: {find}", more + 1),
        }
    }

    /// The file's text, broken.
    ///
    /// # Errors
    /// As [`Mutant::place`].
    pub(super) fn applied_to(&self, text: &str) -> Result<String> {
        let mut broken = text.to_owned();
        broken.replace_range(self.place(text)?, &self.replace);
        Ok(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo;

    #[test]
    fn every_mutant_fits_the_code() {
        let root = cargo::root();
        let mutants = load(&root).expect("the list");

        let misfits: Vec<String> = mutants
            .iter()
            .filter_map(|mutant| {
                let text = fs::read_to_string(root.join(&mutant.file));
                let text = text.unwrap_or_default();
                match mutant.applied_to(&text) {
                    Ok(broken) if broken == text => {
                        Some(format!("{} changes nothing", mutant.name))
                    }
                    Ok(_) => None,
                    Err(error) => Some(error.to_string()),
                }
            })
            .collect();

        assert!(misfits.is_empty(), "{}", misfits.join("\n"));
        assert!(mutants.len() >= 30);
    }
}
