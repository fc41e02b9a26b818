//! An account as lines for a terminal.

use std::fmt::Write as _;

use super::time;
use crate::story::{Sentence, Story};

/// The account of a story, as the page has it.
pub fn text(story: &Story) -> String {
    let account = &story.account;
    let mut text = format!("{}\n", account.headline);
    for chapter in &account.chapters {
        let _ = writeln!(text, "\n{}:", chapter.title);
        for Sentence { at, text: line } in &chapter.lines {
            let at = at.map_or(String::new(), time);
            let _ = writeln!(text, "  {at:>10}  {line}");
        }
    }
    if let (Some(at), false) = (account.at, account.standings.is_empty()) {
        let _ = writeln!(text, "\nAt {}:", time(at));
        for standing in &account.standings {
            let name = &story.nodes[standing.node].name;
            let _ = writeln!(
                text,
                "  {name:<8} {}; view {}; lease {}; guardian {}; gate {}; answers for {}",
                standing.daemon,
                standing.view,
                standing.lease,
                standing.guardian,
                standing.gate,
                standing.answers
            );
        }
    }
    text
}
