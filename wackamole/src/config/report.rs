//! What is wrong with a configuration file, and how it is told to a person.
//!
//! A problem names the place (file, line, column), what was found there, and what would be accepted. All problems of
//! one reading are shown together, in the order of the file, each with its source line and a caret.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shown at once; what comes after them is counted. A misplaced header makes many.
const SHOWN_MAX: usize = 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error("cannot read the configuration {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file was read, and something in it is wrong.
    #[error("{0}")]
    Invalid(Report),
}

/// Bytes of the file that a problem is about.
pub(super) type Span = Range<usize>;

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    span: Option<Span>,
    message: String,
    notes: Vec<Note>,
}

#[derive(Clone, Debug)]
enum Note {
    Help(String),
    See(Span, String),
}

impl Problem {
    /// A problem at a place of the file. The message says what was found.
    pub(super) fn at(span: Span, message: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into(), notes: Vec::new() }
    }

    /// A problem with the file as a whole: something is missing.
    pub(super) fn of_file(message: impl Into<String>) -> Self {
        Self { span: None, message: message.into(), notes: Vec::new() }
    }

    /// Adds what would be accepted, or what to do.
    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.notes.push(Note::Help(text.into()));
        self
    }

    /// Points to a second place; its line number stands before `what`.
    pub(super) fn see(mut self, span: Span, what: impl Into<String>) -> Self {
        self.notes.push(Note::See(span, what.into()));
        self
    }
}

/// A file's name and text: what problems are shown in.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: PathBuf,
    text: Arc<str>,
}

impl Source {
    pub(super) fn new(file: &Path, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.into() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Makes the error that shows `problems`.
    pub(super) fn error(&self, mut problems: Vec<Problem>) -> ConfigError {
        problems.sort_by_key(|p| p.span.as_ref().map_or(usize::MAX, |span| span.start));
        ConfigError::Invalid(Report { source: self.clone(), problems })
    }

    /// Line and column of a byte, both from one, and the text of the line.
    fn locate(&self, byte: usize) -> (usize, usize, &str) {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &self.text[..byte];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[start..].chars().count() + 1;
        (line, column, self.text[start..].lines().next().unwrap_or_default())
    }
}

/// Everything that is wrong with one file.
#[derive(Clone, Debug)]
pub struct Report {
    source: Source,
    problems: Vec<Problem>,
}

impl Report {
    /// How many problems there are; at least one.
    pub fn count(&self) -> usize {
        self.problems.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(SHOWN_MAX).enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            self.show(problem, f)?;
        }
        match self.problems.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n\n… and {more} more"),
        }
    }
}

impl Report {
    fn show(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.source.file.display();
        let mut margin = 0;
        if let Some(span) = &problem.span {
            let (line, column, text) = self.source.locate(span.start);
            margin = line.to_string().len();
            // Terminals differ in the width of a tab, carets do not.
            let text = text.replace('\t', " ");
            let marked = self.source.text.get(span.clone()).unwrap_or_default();
            let marked = marked.lines().next().unwrap_or_default().chars().count();
            let carets = "^".repeat(marked.clamp(1, text.chars().count().max(column) + 1 - column));
            writeln!(f, "{file}:{line}:{column}: {}", problem.message)?;
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{line} | {text}")?;
            write!(f, "{:margin$} | {:indent$}{carets}", "", "", indent = column - 1)?;
        } else {
            write!(f, "{file}: {}", problem.message)?;
        }
        for note in &problem.notes {
            match note {
                Note::Help(text) => write!(f, "\n{:margin$} = {text}", "")?,
                Note::See(span, text) => {
                    let (line, ..) = self.source.locate(span.start);
                    write!(f, "\n{:margin$} = line {line}: {text}", "")?;
                }
            }
        }
        Ok(())
    }
}
