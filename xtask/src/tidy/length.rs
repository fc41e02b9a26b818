//! A file holds one concept.

use super::{Problem, SourceFile};

/// Past this many lines a file is reported.
pub(super) const SOFT: usize = 500;
/// Past this many lines it is refused.
const HARD: usize = 900;

pub(super) fn files_are_short_enough(files: &[SourceFile]) -> Vec<Problem> {
    let lengths = files.iter().filter(|file| file.is_rust()).map(|f| (f, f.text.lines().count()));
    lengths
        .filter(|&(_, lines)| lines > HARD)
        .map(|(file, lines)| {
            file.problem(
                0,
                format!("{lines} lines; {HARD} are allowed. There is a second concept in it"),
            )
        })
        .collect()
}

/// Files that are allowed, but only just.
pub(super) fn long_files(files: &[SourceFile]) -> Vec<(&str, usize)> {
    let lengths = files.iter().filter(|file| file.is_rust()).map(|f| (f, f.text.lines().count()));
    let long = lengths.filter(|&(_, lines)| lines > SOFT && lines <= HARD);
    long.map(|(file, lines)| (file.path.as_str(), lines)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_past_the_hard_limit_is_refused_and_past_the_soft_one_reported() {
        let files = [HARD + 1, HARD, SOFT].map(|n| SourceFile::new("a.rs", &"\n".repeat(n)));

        assert_eq!(files_are_short_enough(&files).len(), 1);
        assert_eq!(long_files(&files), [("a.rs", HARD)]);
    }
}
