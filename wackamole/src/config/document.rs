//! Reads tables of a parsed TOML document key by key, and collects what is wrong instead of stopping at the first.
//!
//! Knows TOML, not the configuration: types, missing and unknown keys. What a value means is its reader's business.

use std::collections::BTreeSet;

use toml::de::{DeArray, DeTable, DeValue};

use super::report::{Problem, Span};

/// A value, where it stands, and what it is called.
#[derive(Clone, Copy)]
pub(super) struct Value<'d> {
    /// The key, for messages.
    pub(super) key: &'d str,
    /// It is one of several in an array.
    element: bool,
    spanned: &'d toml::Spanned<DeValue<'d>>,
}

/// Something read, and where it stood.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

impl<'d> Value<'d> {
    pub(super) fn span(self) -> Span {
        self.spanned.span()
    }

    /// The value as a string. `like` is an example of what would be accepted, as it would stand in the file.
    pub(super) fn text(self, like: &str) -> Result<&'d str, Problem> {
        self.spanned.get_ref().as_str().ok_or_else(|| self.wrong_type("a string", like))
    }

    /// The value as a whole number from `min` to `max`, both accepted.
    pub(super) fn integer(self, min: u64, max: u64, like: &str) -> Result<u64, Problem> {
        let Some(integer) = self.spanned.get_ref().as_integer() else {
            return Err(self.wrong_type("a whole number", like));
        };
        u64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| {
                Problem::at(self.span(), format!("`{}` is {integer}", self.key))
                    .help(format!("from {min} to {max} is accepted: write it like {like}"))
            })
    }

    /// The value as true or false.
    pub(super) fn boolean(self, like: &str) -> Result<bool, Problem> {
        self.spanned.get_ref().as_bool().ok_or_else(|| self.wrong_type("true or false", like))
    }

    /// The elements of the value, which must be an array.
    pub(super) fn array(self, like: &str) -> Result<impl Iterator<Item = Self>, Problem> {
        let key = self.key;
        let array: &DeArray<'_> =
            self.spanned.get_ref().as_array().ok_or_else(|| self.wrong_type("an array", like))?;
        Ok(array.iter().map(move |spanned| Value { key, element: true, spanned }))
    }

    /// It is a string; which decides between two ways to write something.
    pub(super) fn is_text(self) -> bool {
        self.spanned.get_ref().is_str()
    }

    fn wrong_type(self, expected: &str, like: &str) -> Problem {
        let found = article(self.spanned.get_ref());
        let is = if self.element { "contains" } else { "is" };
        Problem::at(self.span(), format!("`{}` {is} {found}, not {expected}", self.key))
            .help(format!("write it like {like}"))
    }
}

/// A table: what stands under one header.
pub(super) struct Section<'d> {
    /// The header as in the file, such as `[timing]`; of the table if it is written inline.
    header: String,
    span: Option<Span>,
    table: Option<&'d DeTable<'d>>,
}

impl<'d> Section<'d> {
    /// The whole document.
    pub(super) fn document(root: &'d DeTable<'d>) -> Self {
        Self { header: "the file".into(), span: None, table: Some(root) }
    }

    /// The table `name`; an empty one if it is absent.
    pub(super) fn table(&self, name: &'static str, problems: &mut Vec<Problem>) -> Self {
        let header = format!("[{name}]");
        let Some(value) = self.find(name) else {
            return Self { header, span: None, table: None };
        };
        let table = value.spanned.get_ref().as_table();
        if table.is_none() {
            problems.push(value.wrong_type("a table", &format!("a header of its own, {header}")));
        }
        Self { header, span: Some(value.span()), table }
    }

    /// The array of tables `name`; no element if it is absent.
    pub(super) fn tables(&self, name: &'static str, problems: &mut Vec<Problem>) -> Vec<Self> {
        let header = format!("[[{name}]]");
        let Some(value) = self.find(name) else { return Vec::new() };
        let like = format!("one header {header} for each");
        let elements = match value.array(&like) {
            Ok(elements) => elements,
            Err(problem) => {
                problems.push(problem);
                return Vec::new();
            }
        };
        let mut sections = Vec::new();
        for element in elements {
            match element.spanned.get_ref().as_table() {
                Some(table) => sections.push(Self {
                    header: header.clone(),
                    span: Some(element.span()),
                    table: Some(table),
                }),
                None => problems.push(element.wrong_type("a table", &like)),
            }
        }
        sections
    }

    /// Where the section begins, if it is in the file.
    pub(super) fn span(&self) -> Option<Span> {
        self.span.clone()
    }

    /// A problem with the section as a whole.
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        match self.span() {
            Some(span) => Problem::at(span, message),
            None => Problem::of_file(message),
        }
    }

    /// Complains about every key that is not one of `known`.
    pub(super) fn only(&self, known: &[&str], problems: &mut Vec<Problem>) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let problem =
                    Problem::at(key.span(), format!("unknown key `{name}` in {}", self.header));
                problems.push(match closest(name, known.iter().copied()) {
                    Some(meant) => problem.help(format!("did you mean `{meant}`?")),
                    None => problem.help(format!("accepted here: {}", known.join(", "))),
                });
            }
        }
    }

    /// The value of a key, if it is there.
    pub(super) fn find(&self, key: &'static str) -> Option<Value<'d>> {
        self.table?.get(key).map(|spanned| Value { key, element: false, spanned })
    }

    /// Where a key stands, if it is there.
    pub(super) fn key_span(&self, key: &str) -> Option<Span> {
        self.table?.get_key_value(key).map(|(key, _)| key.span())
    }

    /// Reads a key that may be absent; nothing as well if it is wrong, which is then among the problems.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        problems: &mut Vec<Problem>,
        read: impl FnOnce(Value<'d>) -> Result<T, Problem>,
    ) -> Option<Located<T>> {
        let value = self.find(key)?;
        match read(value) {
            Ok(read) => Some(Located { value: read, span: value.span() }),
            Err(problem) => {
                problems.push(problem);
                None
            }
        }
    }

    /// Reads a key that must be there. `like` shows how it could stand in the file.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        like: &str,
        problems: &mut Vec<Problem>,
        read: impl FnOnce(Value<'d>) -> Result<T, Problem>,
    ) -> Option<Located<T>> {
        if self.find(key).is_none() {
            let missing = self.problem(format!("{} has no `{key}`", self.header));
            problems.push(missing.help(format!("write it like {like}")));
        }
        self.optional(key, problems, read)
    }
}

/// The candidate that `name` is probably a misspelling of.
pub(super) fn closest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Several names for a message, at most a dozen of them.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 12;
    let names: BTreeSet<_> = names.into_iter().collect();
    let shown: Vec<_> = names.iter().copied().take(SHOWN_MAX).collect();
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
