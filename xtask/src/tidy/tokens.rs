//! What code must not say, and where.

use super::{Problem, SourceFile};

/// A piece of text that a part of the source must do without.
struct Forbidden {
    tokens: &'static [&'static str],
    below: &'static [&'static str],
    except: &'static [&'static str],
    why: &'static str,
}

const EVERYWHERE: &[&str] = &[""];
const PROTOCOL: &[&str] = &["wackamole/protocol/src/"];

const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        tokens: &["Instant::now"],
        below: EVERYWHERE,
        except: &["wackamole/src/io/"],
        why: "time enters through the Clock trait (wackamole/src/env.rs)",
    },
    Forbidden {
        tokens: &["SystemTime::now"],
        below: EVERYWHERE,
        except: &[],
        why: "a jump of the wall clock must change nothing",
    },
    Forbidden {
        tokens: &["thread_rng", "rand::rng"],
        below: EVERYWHERE,
        except: &[],
        why: "randomness is a seed that is passed in, or a run cannot be repeated",
    },
    Forbidden {
        tokens: &["tokio::spawn"],
        below: EVERYWHERE,
        except: &[],
        why: "the driver is one task, and whatever is dropped must end",
    },
    Forbidden {
        tokens: &["HashMap", "HashSet"],
        below: EVERYWHERE,
        except: &[],
        why: "their order differs from run to run; use a BTreeMap or a BTreeSet",
    },
    Forbidden {
        tokens: &["tokio", "UdpSocket", "TcpStream", "UnixStream", "std::thread", "std::fs"],
        below: PROTOCOL,
        except: &[],
        why: "the protocol is pure: time and bytes come in as arguments",
    },
    Forbidden {
        tokens: &["std::env", "std::process", "std::time::"],
        below: PROTOCOL,
        except: &[],
        why: "the protocol is pure: it asks the system for nothing",
    },
];

/// These rules have to spell what they forbid.
const RULES_THEMSELVES: &str = "xtask/src/tidy/";

pub(super) fn no_forbidden_tokens(files: &[SourceFile]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in checked(files) {
        let here = |prefixes: &[&str]| prefixes.iter().any(|prefix| file.path.starts_with(prefix));
        let rules = FORBIDDEN.iter().filter(|rule| here(rule.below) && !here(rule.except));
        for Forbidden { tokens, why, .. } in rules {
            for (line, text) in file.code().filter(|&(line, _)| !is_excused(file, line)) {
                let found = tokens.iter().filter(|token| has_word(text, token));
                problems.extend(found.map(|token| file.problem(line, format!("{token}: {why}"))));
            }
        }
    }
    problems
}

/// Without `biased;` a select tries its branches in random order, and a run cannot be repeated.
pub(super) fn every_select_is_biased(files: &[SourceFile]) -> Vec<Problem> {
    const SELECT: &str = "select! {";
    let mut problems = Vec::new();
    for file in checked(files) {
        let mut code = file.code().peekable();
        while let Some((line, text)) = code.next() {
            let Some((_, rest)) = text.split_once(SELECT) else { continue };
            let rest = rest.trim();
            let first = match rest {
                "" => code.by_ref().map(|(_, text)| text.trim()).find(|text| !text.is_empty()),
                rest => Some(rest),
            };
            if !first.is_some_and(|first| first.starts_with("biased;")) {
                problems.push(file.problem(line, "a select! that does not start with `biased;`"));
            }
        }
    }
    problems
}

fn checked(files: &[SourceFile]) -> impl Iterator<Item = &SourceFile> {
    files.iter().filter(|file| file.is_rust() && !file.path.starts_with(RULES_THEMSELVES))
}

/// Clippy knows some of these tokens as disallowed methods. Where it was told to let one pass, and why, so do we.
fn is_excused(file: &SourceFile, line: usize) -> bool {
    const EXCUSE: &str = "clippy::disallowed_methods";
    const LINES_BEFORE: usize = 4;
    let near = file.text.lines().skip(line.saturating_sub(LINES_BEFORE + 1)).take(LINES_BEFORE);
    let mut near = near.filter(|text| text.contains(EXCUSE));
    let whole_file = |text: &str| text.starts_with("#![") && text.contains(EXCUSE);
    near.next().is_some() || file.text.lines().any(whole_file)
}

/// `text` contains `token`, and not as part of a longer word.
fn has_word(text: &str, token: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(token).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + token.len()..].chars().next();
        let open_ended = token.ends_with(':');
        !before.is_some_and(part_of_word) && (open_ended || !after.is_some_and(part_of_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_forbidden_where_its_rule_says_and_only_as_a_word() {
        let found = |path, text| !no_forbidden_tokens(&[SourceFile::new(path, text)]).is_empty();

        assert!(found("wackamole/src/driver.rs", "let now = Instant::now();"));
        assert!(!found("wackamole/src/io/clock.rs", "let now = Instant::now();"));
        assert!(!found("wackamole/src/driver.rs", "// Instant::now is not used"));
        let excused =
            "#[expect(clippy::disallowed_methods, reason = \"x\")]\nlet now = Instant::now();";
        assert!(!found("wackamole/src/driver.rs", excused));
        assert!(!found("wackamole/src/driver.rs", "let now = MyInstant::nowhere();"));
        assert!(found("wackamole/protocol/src/node.rs", "use tokio::net;"));
        assert!(!found("wackamole/src/driver.rs", "use tokio::net;"));
        assert!(found("sim/src/lan.rs", "use std::collections::{BTreeMap, HashMap};"));
    }

    #[test]
    fn a_select_starts_with_biased() {
        const NONE: [usize; 0] = [];
        let found = |text: &str| {
            let problems = every_select_is_biased(&[SourceFile::new("a.rs", text)]);
            problems.into_iter().map(|problem| problem.line).collect::<Vec<_>>()
        };

        assert_eq!(found("tokio::select! {\n    // why\n    biased;\n    x = y => {}\n}"), NONE);
        assert_eq!(found("tokio::select! { biased; x = y => {} }"), NONE);
        assert_eq!(found("\ntokio::select! {\n    x = y => {}\n}"), [2]);
        assert_eq!(found("select! { x = y => {} }"), [1]);
    }
}
