//! What an exploration has seen so far.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::shrink::Failing;

/// The sum over some worlds.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many worlds.
    pub seeds: u64,
    /// How often they lived.
    pub lives: u64,
    /// By policy.
    pub policies: BTreeMap<&'static str, u64>,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long the worlds lived.
    pub simulated: Duration,
    /// The same, times their nodes.
    pub node_time: Duration,
    /// Processor time that it took.
    pub worked: Duration,
    /// Real time that it took.
    pub took: Duration,
    /// What failed.
    pub failures: Vec<Failing>,
}

/// A tally for machines.
#[derive(Serialize)]
struct Report<'a> {
    seeds: u64,
    lives: u64,
    policies: &'a BTreeMap<&'static str, u64>,
    faults: &'a BTreeMap<&'static str, u64>,
    simulated_seconds: f64,
    node_hours_per_hour: f64,
    node_hours_per_core_hour: f64,
    seeds_per_second: f64,
    failures: Vec<Failure<'a>>,
}

#[derive(Serialize)]
struct Failure<'a> {
    seed: u64,
    check: &'a str,
    at_ms: u64,
    sentence: &'a str,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.lives += other.lives;
        self.simulated += other.simulated;
        self.node_time += other.node_time;
        self.worked += other.worked;
        for (policy, count) in other.policies {
            *self.policies.entry(policy).or_default() += count;
        }
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.failures.extend(other.failures);
    }

    /// A few words for a progress bar.
    pub fn progress(&self, elapsed: Duration) -> String {
        let mut text = self.speed(elapsed);
        let faults: u64 = self.faults.values().sum();
        let _ = write!(text, ", {faults} faults");
        if !self.failures.is_empty() {
            let _ = write!(text, ", {} FAILED", self.failures.len());
        }
        text
    }

    /// Node-hours for each hour of one core's work, whatever else the machine does.
    fn node_hours_per_core(&self) -> f64 {
        self.node_time.as_secs_f64() / self.worked.as_secs_f64().max(1e-9)
    }

    fn speed(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        format!(
            "{:.1} seeds/s, {:.0} × real time",
            self.seeds as f64 / seconds,
            self.simulated.as_secs_f64() / seconds
        )
    }

    /// What was explored, for people.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["fault", "times"]);
        for (kind, count) in &self.faults {
            table.add_row([(*kind).to_owned(), count.to_string()]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let policies: Vec<String> =
            self.policies.iter().map(|(policy, count)| format!("{policy} {count}")).collect();
        format!(
            "{table}\n\n{} worlds ({}), {} lives, {:.1} node-hours simulated in {:.0} s: {}, {:.0} node-hours an hour \
             ({:.0} for each hour of one core's work)",
            self.seeds,
            policies.join(", "),
            self.lives,
            self.node_time.as_secs_f64() / 3600.0,
            self.took.as_secs_f64(),
            self.speed(self.took),
            self.node_time.as_secs_f64() / self.took.as_secs_f64().max(1e-9),
            self.node_hours_per_core(),
        )
    }

    /// The same for machines.
    ///
    /// # Errors
    /// Never; the serialiser has the last word.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let seconds = self.took.as_secs_f64().max(1e-9);
        serde_json::to_string_pretty(&Report {
            seeds: self.seeds,
            lives: self.lives,
            policies: &self.policies,
            faults: &self.faults,
            simulated_seconds: self.simulated.as_secs_f64(),
            node_hours_per_hour: self.node_time.as_secs_f64() / seconds,
            node_hours_per_core_hour: self.node_hours_per_core(),
            seeds_per_second: self.seeds as f64 / seconds,
            failures: self
                .failures
                .iter()
                .map(|failing| Failure {
                    seed: failing.seed,
                    check: &failing.check,
                    at_ms: failing.at.as_millis() as u64,
                    sentence: &failing.sentence,
                })
                .collect(),
        })
    }
}
