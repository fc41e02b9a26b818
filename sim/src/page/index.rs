//! The table of many runs, with a link to the page of one of each scenario.

use super::markup::{Page, escape};
use super::{STYLE, verdict};
use crate::report::Row;

const TEMPLATE: &str = include_str!("index.html");
/// What only this table needs.
const TABLE_STYLE: &str = ".runs td, .runs th { padding-right: 18px; } .runs .n { text-align: right; white-space: nowrap; } \
    .runs tbody tr:hover td { background: var(--track); } .runs td.bad { color: var(--red); font-weight: 650; } \
    .runs td.ok { color: var(--good); } .runs td:first-child { white-space: nowrap; }";

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Listed<'a> {
    /// What the scenario came to over all seeds.
    pub row: &'a Row,
    /// The seed whose page is linked.
    pub seed: u64,
    /// The page's file, in the folder of the table.
    pub file: String,
}

/// Draws the table.
pub fn index(listed: &[Listed<'_>]) -> String {
    let failed = listed.iter().filter(|listed| !listed.row.failures.is_empty()).count();
    let runs: usize = listed.iter().map(|listed| listed.row.seeds).sum();
    let title = match listed.len() {
        1 => format!("one scenario, {runs} runs"),
        many => format!("{many} scenarios, {runs} runs"),
    };
    let summary = if failed == 0 {
        verdict(0)
    } else {
        format!("<span class=\"verdict bad\">{failed} of {} broke a promise</span>", listed.len())
    };
    Page::new(TEMPLATE)
        .text("title", &title)
        .markup("style", &format!("{STYLE}{TABLE_STYLE}"))
        .markup("verdict", &summary)
        .markup("rows", &listed.iter().map(row).collect::<String>())
        .finish()
}

fn row(Listed { row, seed, file }: &Listed<'_>) -> String {
    let ms = |value: u64| if value == 0 { String::new() } else { format!("{value} ms") };
    let verdict = match row.failures.as_slice() {
        [] => "<td class=\"ok\">kept</td>".to_owned(),
        [first, ..] => {
            let what = first.violations.first().map_or("", String::as_str);
            let many = row.failures.len();
            format!(
                "<td class=\"bad\" title=\"{}\">{many} of {} seeds broken</td>",
                escape(what),
                row.seeds
            )
        }
    };
    let cells = [
        row.seeds.to_string(),
        row.interruption_ms_median.map_or_else(String::new, ms),
        row.interruption_ms_max.map_or_else(String::new, ms),
        row.moves_median.to_string(),
        row.moves_max.to_string(),
        ms(row.merge_overlap_ms_max),
        ms(row.unattended_overlap_ms_max),
        ms(row.split_overlap_ms_max),
        ms(row.outside_overlap_ms_max),
        ms(row.forbidden_overlap_ms_max),
    ];
    let cells: String = cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect();
    format!(
        "<tr><td><a href=\"{}\" title=\"seed {seed}\">{}</a></td><td>{}</td>{verdict}{cells}</tr>",
        address(file),
        escape(&row.scenario),
        escape(&row.title)
    )
}

/// A file name as a relative link.
fn address(file: &str) -> String {
    let mut link = String::from("./");
    for byte in file.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                link.push(char::from(byte));
            }
            other => link.push_str(&format!("%{other:02X}")),
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_file_beside_the_table() {
        assert_eq!(address("010-idle.lan.html"), "./010-idle.lan.html");
        assert_eq!(address("a b\"ö.html"), "./a%20b%22%C3%B6.html");
    }
}
