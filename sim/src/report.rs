//! What a sweep says in the end: a table, the first failure of each scenario explained, and how fast it was.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::scenario::Scenario;
use crate::sweep::Summary;

/// One scenario over all its seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// The scenario's title.
    pub title: String,
    /// How many seeds were run.
    pub seeds: usize,
    /// The seeds with a broken promise.
    pub failures: Vec<Failure>,
    /// The median over all interruptions of all clients and VIPs.
    pub interruption_ms_median: Option<u64>,
    /// The longest.
    pub interruption_ms_max: Option<u64>,
    /// The median over the seeds of how often VIPs changed machines.
    pub moves_median: usize,
    /// The most.
    pub moves_max: usize,
    /// The longest overlap of attended kernels after components met.
    pub merge_overlap_ms_max: u64,
    /// The longest overlap with a kernel whose daemon was dead or paused.
    pub unattended_overlap_ms_max: u64,
    /// The longest overlap of two parts that the policy lets serve side by side.
    pub split_overlap_ms_max: u64,
    /// The longest overlap outside the assumptions.
    pub outside_overlap_ms_max: u64,
    /// The longest overlap that nothing allows.
    pub forbidden_overlap_ms_max: u64,
    /// Simulated time over real time of one core.
    pub speed: f64,
}

/// A seed with which a promise was broken.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The command that shows the run again.
    pub reproduce: String,
    /// The command that writes a page about it.
    pub draw: String,
    /// The broken promises, each as `checker: sentence`.
    pub violations: Vec<String>,
}

/// Joins the summaries of each scenario.
pub fn rows(scenarios: &[Scenario], summaries: &[Summary]) -> Vec<Row> {
    scenarios
        .iter()
        .enumerate()
        .filter_map(|(index, scenario)| {
            let runs: Vec<&Summary> = summaries.iter().filter(|s| s.scenario == index).collect();
            (!runs.is_empty()).then(|| row(scenario, &runs))
        })
        .collect()
}

fn row(scenario: &Scenario, runs: &[&Summary]) -> Row {
    let mut dark: Vec<Duration> = runs.iter().flat_map(|run| run.interruptions.clone()).collect();
    dark.sort_unstable();
    let mut moves: Vec<usize> = runs.iter().map(|run| run.measurements.moves).collect();
    moves.sort_unstable();
    let longest =
        |of: fn(&Summary) -> Duration| runs.iter().map(|run| millis(of(run))).max().unwrap_or(0);
    Row {
        scenario: scenario.name.clone(),
        title: scenario.title.clone(),
        seeds: runs.len(),
        failures: runs
            .iter()
            .filter(|run| !run.violations.is_empty())
            .map(|run| Failure {
                seed: run.seed,
                reproduce: reproduce(scenario, run.seed),
                draw: draw(scenario, run.seed),
                violations: run.violations.clone(),
            })
            .collect(),
        interruption_ms_median: dark.get(dark.len() / 2).copied().map(millis),
        interruption_ms_max: dark.last().copied().map(millis),
        moves_median: moves[moves.len() / 2],
        moves_max: moves[moves.len() - 1],
        merge_overlap_ms_max: longest(|run| run.measurements.merge_overlap_max),
        unattended_overlap_ms_max: longest(|run| run.measurements.unattended_overlap_max),
        split_overlap_ms_max: longest(|run| run.measurements.split_overlap_max),
        outside_overlap_ms_max: longest(|run| run.measurements.outside_overlap_max),
        forbidden_overlap_ms_max: longest(|run| run.measurements.forbidden_overlap_max),
        speed: speed(runs.iter().copied()),
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

fn speed<'a>(runs: impl Iterator<Item = &'a Summary>) -> f64 {
    let (simulated, took) = runs
        .fold((Duration::ZERO, Duration::ZERO), |(s, t), run| (s + run.simulated, t + run.took));
    simulated.as_secs_f64() / took.as_secs_f64().max(1e-9)
}

/// The table, aligned.
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "scenario",
        "seeds",
        "verdict",
        "dark: median",
        "max",
        "moves",
        "max",
        "overlap: merge",
        "unattended",
        "split",
        "outside",
        "speed",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows {
        let verdict = match row.failures.len() {
            0 => "ok".to_owned(),
            failed => format!("{failed} FAILED"),
        };
        let ms = |value: u64| if value == 0 { "-".to_owned() } else { format!("{value} ms") };
        table.add_row([
            row.scenario.clone(),
            row.seeds.to_string(),
            verdict,
            row.interruption_ms_median.map_or("-".to_owned(), ms),
            row.interruption_ms_max.map_or("-".to_owned(), ms),
            row.moves_median.to_string(),
            row.moves_max.to_string(),
            ms(row.merge_overlap_ms_max),
            ms(row.unattended_overlap_ms_max),
            ms(row.split_overlap_ms_max),
            ms(row.outside_overlap_ms_max),
            format!("{:.0}x", row.speed),
        ]);
    }
    table.trim_fmt()
}

/// The first failure of each scenario: what was broken, the command that reproduces it, and what happened.
pub fn failures(scenarios: &[Scenario], summaries: &[Summary]) -> String {
    let mut text = String::new();
    let mut told = None;
    for summary in summaries.iter().filter(|summary| !summary.violations.is_empty()) {
        if told.replace(summary.scenario) == Some(summary.scenario) {
            continue;
        }
        let scenario = &scenarios[summary.scenario];
        let _ = writeln!(text, "\n{}: {}", scenario.name, scenario.title);
        for violation in summary.violations.iter().take(5) {
            let _ = writeln!(text, "  {violation}");
        }
        if let Some(more) = summary.violations.len().checked_sub(5).filter(|more| *more > 0) {
            let _ = writeln!(text, "  … and {more} more");
        }
        let _ = writeln!(text, "reproduce: {}", reproduce(scenario, summary.seed));
        let _ = writeln!(text, "look at it: {}", draw(scenario, summary.seed));
        text.push_str(&excerpt(summary.timeline.as_deref().unwrap_or_default()));
    }
    text
}

/// What led to the first broken promise, and a little of what followed.
fn excerpt(timeline: &str) -> String {
    const BEFORE: usize = 30;
    const AFTER: usize = 12;
    let lines: Vec<&str> = timeline.lines().collect();
    let broken = lines.iter().position(|line| line.contains("  BROKEN ")).unwrap_or(0);
    let (first, last) = (broken.saturating_sub(BEFORE), lines.len().min(broken + AFTER));
    let mut text = String::new();
    if first > 0 {
        let _ = writeln!(text, "   …");
    }
    for line in &lines[first..last] {
        let _ = writeln!(text, "{line}");
    }
    if last < lines.len() {
        let _ = writeln!(text, "   …");
    }
    text
}

/// The one command that shows a run again.
pub fn reproduce(scenario: &Scenario, seed: u64) -> String {
    format!("{} --trace", command(scenario, seed))
}

/// The one command that writes a page about a run.
pub fn draw(scenario: &Scenario, seed: u64) -> String {
    format!("{} --report {}-{seed}.html", command(scenario, seed), scenario.name)
}

fn command(scenario: &Scenario, seed: u64) -> String {
    format!("cargo xtask simulate {} --seed {seed}{}", scenario.file, scenario.policy_option())
}

/// How much was simulated in what time.
pub fn closing(summaries: &[Summary], real: Duration) -> String {
    let simulated: Duration = summaries.iter().map(|summary| summary.simulated).sum();
    let failed = summaries.iter().filter(|summary| !summary.violations.is_empty()).count();
    let verdict = match failed {
        0 => "all promises kept".to_owned(),
        failed => format!("{failed} of them broke a promise"),
    };
    format!(
        "{} runs, {verdict}; {:.1} h simulated in {:.1} s, {:.0} times as fast as real time per core",
        summaries.len(),
        simulated.as_secs_f64() / 3600.0,
        real.as_secs_f64(),
        speed(summaries.iter()),
    )
}
