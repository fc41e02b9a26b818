//! How fast the simulator is: a table of what is simulated, under which engine.

use std::time::Duration;

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use wackamole_protocol::config::{Safety, Timing};

use sim::engine::Scheduler;
use sim::scenario::Scenario;
use sim::stopwatch::Stopwatch;
use sim::world;

const IDLE: &str = include_str!("../../scenarios/010-idle.toml");
const CHAOS: &str = include_str!("../../scenarios/300-chaos.toml");
/// What runs: its name, the scenario, and heartbeat and failure timeout in milliseconds. The first is the daemon's own default.
const COURSES: [(&str, &str, u64, u64); 5] = [
    ("idle", IDLE, 100, 400),
    ("in chaos", CHAOS, 100, 400),
    ("idle", IDLE, 50, 200),
    ("idle", IDLE, 10, 40),
    ("idle", IDLE, 1_000, 4_000),
];
/// Each so often, with seeds from one.
const RUNS: u64 = 5;
/// What is told for both cores of the machine that the figures are asked for.
const CORES: f64 = 2.0;

/// What was measured of one course under one engine.
#[derive(Serialize)]
pub(crate) struct Row {
    course: &'static str,
    nodes: usize,
    heartbeat_ms: u64,
    failure_timeout_ms: u64,
    engine: &'static str,
    /// Simulated seconds for each second of one core's work, in the middle of the runs.
    speed_median: f64,
    /// The same in the fastest run.
    speed_max: f64,
    /// Node-hours for each hour of two cores' work.
    node_hours_per_hour: f64,
}

/// Measures everything.
///
/// # Errors
/// A scenario that is built in is wrong.
pub(crate) fn measure(done: impl Fn()) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (course, text, heartbeat_ms, failure_timeout_ms) in COURSES {
        let mut scenario = Scenario::parse(course, text)?;
        let ms = Duration::from_millis;
        let (heartbeat, failure_timeout) = (ms(heartbeat_ms), ms(failure_timeout_ms));
        scenario.timing = Timing { heartbeat, failure_timeout, ..scenario.timing };
        scenario.safety = Safety::new(scenario.safety.partition, &scenario.timing);
        // What is slower is looked at for longer, so that its beginning does not count for more.
        scenario.duration *= u32::try_from(heartbeat_ms.div_ceil(100))?;
        for engine in Scheduler::ALL {
            let mut speeds: Vec<f64> =
                (1..=RUNS).map(|seed| speed(engine, &scenario, seed)).collect();
            speeds.sort_by(f64::total_cmp);
            let median = speeds[speeds.len() / 2];
            rows.push(Row {
                course,
                nodes: scenario.nodes.len(),
                heartbeat_ms,
                failure_timeout_ms,
                engine: engine.word(),
                speed_median: median,
                speed_max: speeds[speeds.len() - 1],
                node_hours_per_hour: median * scenario.nodes.len() as f64 * CORES,
            });
            done();
        }
    }
    Ok(rows)
}

/// How many rows there will be.
pub(crate) fn rows() -> usize {
    COURSES.len() * Scheduler::ALL.len()
}

fn speed(engine: Scheduler, scenario: &Scenario, seed: u64) -> f64 {
    let stopwatch = Stopwatch::start();
    let outcome = world::run_on(engine, scenario, seed, false);
    outcome.simulated.as_secs_f64() / stopwatch.worked().as_secs_f64().max(1e-9)
}

/// The table for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "course",
        "nodes",
        "heartbeat / timeout",
        "engine",
        "median",
        "best",
        "node-hours an hour",
    ]);
    for row in rows {
        table.add_row([
            row.course.to_owned(),
            row.nodes.to_string(),
            format!("{} / {} ms", row.heartbeat_ms, row.failure_timeout_ms),
            row.engine.to_owned(),
            format!("{:.0}x", row.speed_median),
            format!("{:.0}x", row.speed_max),
            format!("{:.0}", row.node_hours_per_hour),
        ]);
    }
    for column in [1, 2, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!(
        "{table}\n\nSimulated seconds for each second of one core's work, of {RUNS} runs each; node-hours for each hour of two cores."
    )
}
