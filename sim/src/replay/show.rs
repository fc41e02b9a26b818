//! What a replay says, to people and to programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use wackamole::record::Finish;

use super::account::Account;
use super::clocks::{Clocks, Reading};
use super::{Difference, Replayed};
use crate::chronicle::Chronicle;
use crate::narrate::Narrator;

/// How a record ends, in words.
pub fn finish(record: &Replayed) -> String {
    if let Some(damage) = &record.damage {
        return damage.to_string();
    }
    match &record.finish {
        Finish::Marked(end) => end.to_string(),
        Finish::CutOff { rest: 0 } => {
            "it is cut off: its daemon was killed, or still ran when the record was copied"
                .to_owned()
        }
        Finish::CutOff { rest } => {
            format!("it is cut off in the middle of an entry, of which {rest} bytes are there")
        }
    }
}

/// The whole account; with `trace` everything that happened, otherwise what matters.
pub fn text(records: &[Replayed], clocks: &Clocks, account: &Account, trace: bool) -> String {
    let narrator = Narrator::new(&account.scenario);
    let mut text = if trace {
        narrator.trace(&account.entries, &Chronicle::default())
    } else {
        narrator.timeline(&account.entries)
    };
    text.push('\n');
    for (index, record) in records.iter().enumerate() {
        let header = &record.header;
        let lasts = record.last.since(header.started());
        let verdict = match (&record.difference, &record.damage) {
            (Some(_), _) => "ANOTHER COURSE",
            (None, Some(_)) => "DAMAGED",
            (None, None) => "the same outputs",
        };
        let _ = writeln!(
            text,
            "{}, start {}: {} steps in {:.3} s, {verdict}; {}; {}",
            header.node,
            header.incarnation,
            record.steps,
            lasts.as_secs_f64(),
            clock(index, clocks.reading(index)),
            finish(record),
        );
        if let Some(difference) = &record.difference {
            let _ = writeln!(text, "  first difference: {difference}");
        }
        if header.program != env!("CARGO_PKG_VERSION") {
            let (theirs, ours) = (&header.program, env!("CARGO_PKG_VERSION"));
            let _ = writeln!(text, "  recorded by version {theirs}, replayed by {ours}");
        }
    }
    let node = |node: usize| account.scenario.nodes[node].name.as_str();
    let vip = |vip: usize| account.scenario.vips[vip].vip.name();
    let _ = writeln!(text, "\nwho held what, by the kernels' word");
    for holding in &account.holdings {
        let end = if holding.ended { "" } else { ", the end of its record" };
        let (vip, node) = (vip(holding.vip), node(holding.node));
        let (from, to) = (time(holding.from), time(holding.to));
        let _ = writeln!(text, "  {vip:<16} {node:<8} {from} to {to}{end}");
    }
    for overlap in &account.overlaps {
        let [one, other] = overlap.nodes.map(node);
        let lasted = overlap.to.saturating_sub(overlap.from);
        let (vip, from) = (vip(overlap.vip), time(overlap.from));
        let _ = writeln!(
            text,
            "OVERLAP: {one} and {other} both had {vip} for {} from {from} on",
            millis(lasted)
        );
    }
    for gap in &account.gaps {
        let (vip, after, from) = (vip(gap.vip), node(gap.after), time(gap.from));
        let lasted = millis(gap.to.saturating_sub(gap.from));
        let until = if gap.ended { "" } else { ", until the end" };
        let _ = writeln!(
            text,
            "gap: after {after} no recorded machine had {vip} for {lasted} from {from} on{until}"
        );
    }
    if !account.unrecorded.is_empty() {
        let _ = writeln!(text, "not recorded: {}", account.unrecorded.join(", "));
    }
    text
}

fn clock(index: usize, Reading { ahead, within }: Reading) -> String {
    let ahead = ahead as f64 / 1e6;
    match within {
        _ if index == 0 => "its wall clock counts".to_owned(),
        Some(within) => format!(
            "its wall clock is {ahead:.3} ms ahead by the datagrams, within {:.3} ms",
            within.as_secs_f64() * 1e3
        ),
        None => "compared by its wall clock only".to_owned(),
    }
}

fn time(at: Duration) -> String {
    format!("{:.3}s", at.as_secs_f64())
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// The same for programs. Times are in microseconds since the account begins.
#[derive(Debug, Serialize)]
pub struct Json {
    /// When the account begins, in microseconds since 1970.
    begins: u64,
    /// Every record.
    records: Vec<JsonRecord>,
    /// Who held what.
    holdings: Vec<JsonSpan>,
    /// Where two did.
    overlaps: Vec<JsonSpan>,
    /// Where nobody did.
    gaps: Vec<JsonSpan>,
    /// Configured machines without a record.
    unrecorded: Vec<String>,
}

#[derive(Debug, Serialize)]
struct JsonRecord {
    file: String,
    node: String,
    incarnation: String,
    program: String,
    steps: usize,
    same: bool,
    difference: Option<Difference>,
    finish: String,
    clock_ahead_ns: i64,
    clock_within_ns: Option<u64>,
}

#[derive(Debug, Serialize)]
struct JsonSpan {
    vip: String,
    nodes: Vec<String>,
    from: u64,
    to: u64,
    /// The records say that it ended then.
    ended: bool,
}

/// The account for programs.
pub fn json(records: &[Replayed], clocks: &Clocks, account: &Account) -> Json {
    let micros = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    let record = |(index, record): (usize, &Replayed)| {
        let reading = clocks.reading(index);
        JsonRecord {
            file: record.file.display().to_string(),
            node: record.header.node.clone(),
            incarnation: record.header.incarnation.to_string(),
            program: record.header.program.clone(),
            steps: record.steps,
            same: record.is_same(),
            difference: record.difference.clone(),
            finish: finish(record),
            clock_ahead_ns: reading.ahead,
            clock_within_ns: reading
                .within
                .map(|within| u64::try_from(within.as_nanos()).unwrap_or(u64::MAX)),
        }
    };
    let span = |vip: usize, nodes: &[usize], from, to, ended| JsonSpan {
        vip: account.scenario.vips[vip].vip.name().to_owned(),
        nodes: nodes.iter().map(|&node| account.scenario.nodes[node].name.clone()).collect(),
        from: micros(from),
        to: micros(to),
        ended,
    };
    let holdings = account.holdings.iter();
    let overlaps = account.overlaps.iter();
    let gaps = account.gaps.iter();
    Json {
        begins: micros(account.begins),
        records: records.iter().enumerate().map(record).collect(),
        holdings: holdings.map(|h| span(h.vip, &[h.node], h.from, h.to, h.ended)).collect(),
        overlaps: overlaps.map(|o| span(o.vip, &o.nodes, o.from, o.to, true)).collect(),
        gaps: gaps.map(|g| span(g.vip, &[g.after], g.from, g.to, g.ended)).collect(),
        unrecorded: account.unrecorded.clone(),
    }
}
