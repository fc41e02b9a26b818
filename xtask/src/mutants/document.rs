//! The generated tables of docs/mutants.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::catalogue::Mutant;

const DOCUMENT: &str = "docs/mutants.md";

/// One of them. A row begins with the mutant's name in code style.
pub(super) struct Section {
    /// The line before it, with its end.
    pub(super) begin: &'static str,
    /// The line after it.
    pub(super) end: &'static str,
    /// Header and rule, with their ends.
    pub(super) header: &'static str,
}

impl Section {
    /// Puts a row in its place; those of other mutants that are still listed stay. Done for each mutant by itself, so that a long run
    /// that is interrupted has not been for nothing.
    ///
    /// # Errors
    /// The document cannot be read or written, or has no place for it.
    pub(super) fn put(
        &self,
        root: &Path,
        catalogue: &[Mutant],
        mutant: &str,
        row: String,
    ) -> Result<()> {
        let path = root.join(DOCUMENT);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {DOCUMENT}"))?;
        let names = catalogue.iter().map(|listed| listed.name.as_str());
        let text = self.merged(&text, names, mutant, row).with_context(|| {
            format!("{DOCUMENT} lacks the marks `{}` and `{}`", self.begin.trim(), self.end)
        })?;
        fs::write(&path, text).with_context(|| format!("writing {DOCUMENT}"))
    }

    fn merged<'a>(
        &self,
        text: &str,
        names: impl Iterator<Item = &'a str>,
        mutant: &str,
        row: String,
    ) -> Option<String> {
        let (head, rest) = text.split_once(self.begin)?;
        let (before, tail) = rest.split_once(self.end)?;
        let mut rows: BTreeMap<&str, String> = before
            .lines()
            .filter_map(|line| {
                Some((line.strip_prefix("| `")?.split('`').next()?, line.to_owned()))
            })
            .collect();
        rows.insert(mutant, row);
        let listed = names.filter_map(|name| rows.get(name));
        let table: String = listed.map(|row| format!("{row}\n")).collect();
        Some(format!("{head}{}\n{}{table}\n{}{tail}", self.begin, self.header, self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: Section =
        Section { begin: "<!-- b -->\n", end: "<!-- e -->", header: "| m |\n|---|\n" };

    #[test]
    fn a_row_stands_in_the_order_of_the_list_and_those_of_the_unlisted_go() {
        let names = || ["first", "second", "third"].into_iter();
        let text = "before\n<!-- b -->\n\n| m |\n|---|\n| `gone` | 1 |\n| `third` | 2 |\n\n<!-- e -->\nafter\n";
        let merged = SECTION.merged(text, names(), "first", "| `first` | 3 |".to_owned());
        let expected = "before\n<!-- b -->\n\n| m |\n|---|\n| `first` | 3 |\n| `third` | 2 |\n\n<!-- e -->\nafter\n";
        assert_eq!(merged.as_deref(), Some(expected));

        let again = SECTION.merged(expected, names(), "third", "| `third` | 4 |".to_owned());
        assert_eq!(again, Some(expected.replace("| 2 |", "| 4 |")));
        assert_eq!(SECTION.merged("no marks", names(), "first", String::new()), None);
    }
}
