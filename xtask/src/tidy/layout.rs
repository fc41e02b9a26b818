//! Where things are, and that documents find them.

use std::collections::BTreeSet;

use super::{Problem, SourceFile};

/// What may be at the top; besides, anything that starts with a dot.
const TOP: &[&str] = &[
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "docs",
    "netns-tests",
    "scenarios",
    "sim",
    "wackamole",
    "xtask",
];

const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// The first parts of absolute paths that are the same on every machine.
const STANDARD: &[&str] =
    &["bin", "dev", "etc", "opt", "proc", "run", "sbin", "srv", "sys", "tmp", "usr", "var"];

/// First parts of paths that only stand for one.
const PLACEHOLDERS: &[&str] = &["DIRECTORY", "nonexistent", "path"];

pub(super) fn only_known_entries_at_the_top(files: &[SourceFile]) -> Vec<Problem> {
    let top = files.iter().filter_map(|file| file.path.split('/').next());
    let unknown: BTreeSet<_> =
        top.filter(|name| !name.starts_with('.') && !TOP.contains(name)).collect();
    unknown
        .into_iter()
        .map(|name| Problem {
            path: name.into(),
            line: 0,
            what: format!("does not belong at the top; only {} do, and dotfiles", TOP.join(", ")),
        })
        .collect()
}

/// A path is what stands between backquotes and starts with an entry of the top.
pub(super) fn paths_in_the_architecture_exist(files: &[SourceFile]) -> Vec<Problem> {
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        files.iter().any(|file| file.path == path || file.path.starts_with(&below))
    };
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.path == ARCHITECTURE) {
        for (index, line) in file.text.lines().enumerate() {
            let quoted = line.split('`').skip(1).step_by(2);
            let paths = quoted.filter(|text| {
                text.split_once('/')
                    .is_some_and(|(first, _)| TOP.contains(&first) || first == ".ci")
            });
            let missing = paths.filter(|path| !exists(path));
            problems
                .extend(missing.map(|path| file.problem(index + 1, format!("no {path} exists"))));
        }
    }
    problems
}

pub(super) fn scenarios_have_titles(files: &[SourceFile]) -> Vec<Problem> {
    let has_title = |file: &SourceFile| {
        let values =
            file.text.lines().filter_map(|line| line.strip_prefix("title")?.split_once('='));
        values.into_iter().any(|(_, value)| !value.trim().trim_matches('"').is_empty())
    };
    files
        .iter()
        .filter(|file| file.path.starts_with("scenarios/") && file.path.ends_with(".toml"))
        .filter(|file| !has_title(file))
        .map(|file| file.problem(0, "a scenario needs a line `title = \"…\"` that tells its story"))
        .collect()
}

/// Absolute paths outside the standard directories belong to somebody's machine.
pub(super) fn no_paths_of_one_machine(files: &[SourceFile]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.path != "Cargo.lock") {
        for (index, line) in file.text.lines().enumerate() {
            let known = |first: &&str| STANDARD.contains(first) || PLACEHOLDERS.contains(first);
            let foreign = absolute_paths(line).filter(|first| !known(first));
            problems.extend(foreign.map(|first| {
                file.problem(index + 1, format!("/{first}/… is a path of one machine"))
            }));
        }
    }
    problems
}

/// The first parts of all absolute paths of at least two parts in `line`.
fn absolute_paths(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices('/').filter_map(|(start, _)| {
        let before = line[..start].chars().next_back();
        let begins = before.is_none_or(|c| c.is_whitespace() || "\"'`(=<".contains(c));
        let rest = &line[start + 1..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))?;
        (begins && end > 0 && rest[end..].starts_with('/')).then(|| &rest[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_entries_are_allowed_at_the_top() {
        let files = ["Cargo.toml", ".ci/run", "sim/src/lib.rs", "notes/a.txt", "notes/b.txt"]
            .map(|path| SourceFile::new(path, ""));

        let problems = only_known_entries_at_the_top(&files);

        assert_eq!(problems.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["notes"]);
    }

    #[test]
    fn paths_of_the_architecture_are_looked_up() {
        let text = "see `sim/src/lib.rs`, `sim/src`,\n`sim/src/gone.rs` and `a/b`";
        let files = [SourceFile::new(ARCHITECTURE, text), SourceFile::new("sim/src/lib.rs", "")];

        let problems = paths_in_the_architecture_exist(&files);

        assert_eq!(problems, [files[0].problem(2, "no sim/src/gone.rs exists")]);
    }

    #[test]
    fn a_scenario_needs_a_title() {
        let files = [
            SourceFile::new("scenarios/good.toml", "title = \"a story\"\n"),
            SourceFile::new("scenarios/empty.toml", "title = \"\"\n"),
            SourceFile::new("scenarios/none.toml", "nodes = 3\n"),
        ];

        assert_eq!(scenarios_have_titles(&files).len(), 2);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let firsts = |line| absolute_paths(line).collect::<Vec<_>>();

        let home = format!("see /{}/me/x", "home");
        assert_eq!(firsts(&home), ["home"]);
        assert_eq!(firsts("open(\"/etc/x/y\")"), ["etc"]);
        assert_eq!(firsts("a/b/c // 1 / 2 and/or http://example.com/x/y /alone"), [""; 0]);
    }
}
