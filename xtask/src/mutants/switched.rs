//! Many mutants in one program, one of which is chosen when it is started.
//!
//! Building a program for each mutant takes longer than most checks. So the body of each function with mutants becomes a
//! `match` over its variants, the unbroken one among them, and everything is built once (mutant schemata: Untch, Offutt and
//! Harrold, *Mutation analysis using mutant schemata*, ISSTA 1993). What runs is in the copy alone; the workspace's code knows nothing of it.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use syn::visit::{self, Visit};

use super::catalogue::Mutant;

/// Which one a program is, by its number; none of them if it is not set.
pub(super) const CHOICE: &str = "WACKAMOLE_MUTANT";

/// The root of the crate that every file with mutants sees, itself included.
const ROOT: &str = "wackamole/protocol/src/lib.rs";
const ROOT_FOLDER: &str = "wackamole/protocol/src/";

/// What is appended to [`ROOT`].
const CHOOSER: &str = r#"
#[allow(missing_docs)]
pub mod chosen_mutant {
    pub fn number() -> usize {
        static NUMBER: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        *NUMBER.get_or_init(|| {
            std::env::var("WACKAMOLE_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
        })
    }
}
"#;

/// The workspace with a switch in it.
#[derive(Default)]
pub(super) struct Switched {
    /// What the changed files say, by their paths from the root.
    pub(super) files: BTreeMap<String, String>,
    numbers: BTreeMap<String, usize>,
}

impl Switched {
    /// Puts as many mutants into one text as fit: those within the body of a function that runs, not of one that is evaluated
    /// by the compiler, and that names its return type.
    ///
    /// # Errors
    /// A mutant does not fit the code, or a file cannot be understood.
    pub(super) fn new<'m>(
        mutants: impl IntoIterator<Item = &'m Mutant>,
        read: impl Fn(&str) -> Result<String>,
    ) -> Result<Self> {
        let mut by_file: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
        for mutant in mutants {
            by_file.entry(&mutant.file).or_default().push(mutant);
        }
        let mut switched = Self::default();
        for (file, mutants) in by_file {
            let text = switched.add(file, read(file)?, &mutants)?;
            switched.files.insert(file.to_owned(), text);
        }
        let root = match switched.files.remove(ROOT) {
            Some(text) => text,
            None => read(ROOT)?,
        };
        ensure!(CHOOSER.contains(CHOICE), "the chooser reads another variable");
        switched.files.insert(ROOT.to_owned(), root + CHOOSER);
        Ok(switched)
    }

    /// The number of a mutant, if it is among them.
    pub(super) fn number(&self, mutant: &str) -> Option<usize> {
        self.numbers.get(mutant).copied()
    }

    fn add(&mut self, file: &str, text: String, mutants: &[&Mutant]) -> Result<String> {
        let bodies = bodies(&text).with_context(|| format!("reading {file}"))?;
        let mut variants: BTreeMap<usize, Vec<(usize, String)>> = BTreeMap::new();
        for mutant in mutants {
            let place = mutant.place(&text)?;
            let around = |body: &Range<usize>| body.start < place.start && place.end < body.end;
            let Some(index) = bodies.iter().position(around) else { continue };
            let number = self.numbers.len() + 1;
            self.numbers.insert(mutant.name.clone(), number);
            let body = mutant.applied_to(&text)?;
            let end = bodies[index].end + body.len() - text.len();
            let variant = body[bodies[index].start..end].to_owned();
            variants.entry(index).or_default().push((number, variant));
        }
        let chooser = if file.starts_with(ROOT_FOLDER) { "crate" } else { "::wackamole_protocol" };
        let mut switched = text.clone();
        // From the end, so that what is before stays where it is.
        for (index, variants) in variants.into_iter().rev() {
            let body = &bodies[index];
            let arms: String =
                variants.iter().map(|(number, body)| format!("{number} => {body}\n")).collect();
            let unbroken = &text[body.clone()];
            let choice = format!(
                "{{ match {chooser}::chosen_mutant::number() {{\n{arms}_ => {unbroken}\n}} }}"
            );
            switched.replace_range(body.clone(), &choice);
        }
        Ok(switched)
    }
}

/// Where the bodies of functions are that may have variants, in order, none within another.
fn bodies(text: &str) -> Result<Vec<Range<usize>>> {
    let mut found = Bodies(Vec::new());
    found.visit_file(&syn::parse_file(text)?);
    found.0.sort_by_key(|body| body.start);
    Ok(found.0)
}

struct Bodies(Vec<Range<usize>>);

impl Bodies {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        // Variants of what is returned as `impl Trait` would have to be of one type.
        let unnamed =
            matches!(&signature.output, syn::ReturnType::Type(_, of) if Unnamed::is_in(of));
        if signature.constness.is_none() && !unnamed {
            let braces = block.brace_token.span;
            self.0.push(braces.open().byte_range().start..braces.close().byte_range().end);
        }
    }
}

impl<'a> Visit<'a> for Bodies {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.add(&function.sig, &function.block);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
    }

    fn visit_trait_item_fn(&mut self, function: &'a syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
    }
}

/// Whether there is an `impl Trait` in a type.
struct Unnamed(bool);

impl Unnamed {
    fn is_in(of: &syn::Type) -> bool {
        let mut unnamed = Self(false);
        unnamed.visit_type(of);
        unnamed.0
    }
}

impl<'a> Visit<'a> for Unnamed {
    fn visit_type_impl_trait(&mut self, of: &'a syn::TypeImplTrait) {
        self.0 = true;
        visit::visit_type_impl_trait(self, of);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::catalogue;
    use super::*;
    use crate::cargo;

    #[test]
    fn every_file_with_its_mutants_in_it_is_still_a_program() {
        let root = cargo::root();
        let mutants = catalogue::load(&root).expect("the list");
        let read = |file: &str| Ok(fs::read_to_string(root.join(file))?);

        let switched = Switched::new(&mutants, read).expect("they fit");

        for (file, text) in &switched.files {
            syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        let fitting = mutants.iter().filter(|mutant| switched.number(&mutant.name).is_some());
        assert!(fitting.count() * 10 > mutants.len() * 9, "nearly all fit");
    }

    #[test]
    fn a_function_has_a_variant_for_each_of_its_mutants() {
        let mutant = |name: &str, find: &str, replace: &str| {
            let text = format!(
                "[[mutant]]\nname = '{name}'\nbreaks = 'b'\nfile = 'src/größe.rs'\nfind = '{find}'\nreplace = '{replace}'\ncaught_by = 'unit'"
            );
            catalogue::parse(&text).expect("a list").remove(0)
        };
        let text =
            "//! Größe.\nconst A: u8 = 1;\nconst fn c() -> u8 { 2 }\nfn f() -> u8 { A + 3 }\n";
        let mutants =
            [mutant("a", "A + 3", "A"), mutant("b", "3", "4"), mutant("c", "{ 2 }", "{ 5 }")];
        let read = |file: &str| Ok(if file == ROOT { String::new() } else { text.to_owned() });

        let switched = Switched::new(&mutants, read).expect("they fit");

        let head = "//! Größe.\nconst A: u8 = 1;\nconst fn c() -> u8 { 2 }\n";
        let body = "{ match ::wackamole_protocol::chosen_mutant::number() {\n1 => { A }\n2 => { A + 4 }\n_ => { A + 3 }\n} }";
        assert_eq!(switched.files["src/größe.rs"], format!("{head}fn f() -> u8 {body}\n"));
        let numbers = ["a", "b", "c"].map(|name| switched.number(name));
        assert_eq!(numbers, [Some(1), Some(2), None], "a constant is not chosen at run time");
    }
}
