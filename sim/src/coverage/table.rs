//! Coverage as a table: for people, for machines, and as a document.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::points::{
    DAEMONS, DEEDS, EVENTS, FAULTS, GATES, GUARDIANS, INQUIRIES, KERNEL, LINKS, LOSSES, MESSAGES,
    PHASES, REASONS, REFUSALS, REJECTIONS, WHY_NOT,
};
use super::record::{MACHINES, NOT_PRIMARY};
use super::{Coverage, Reached, unreachable};

/// Everything that there is to be reached, by group.
pub(super) fn catalogue() -> Vec<(&'static str, Vec<String>)> {
    let plain = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let pairs = |states: &[&str]| {
        let of = |from: &str| {
            let to = states.iter().filter(|to| **to != from);
            to.map(|to| format!("{from} -> {to}")).collect::<Vec<_>>()
        };
        states.iter().flat_map(|from| of(from)).collect()
    };
    let received = MESSAGES.iter().flat_map(|message| {
        // Whoever has ended receives nothing.
        let phases = PHASES.iter().filter(|phase| **phase != "ended");
        phases.map(move |phase| format!("{message} while {phase}"))
    });
    vec![
        ("fault", plain(FAULTS)),
        ("event", plain(EVENTS)),
        ("assigned because", plain(REASONS)),
        ("acquired because", plain(REASONS)),
        ("released because", plain(REASONS)),
        ("refused because", plain(REFUSALS)),
        ("view lost because", plain(LOSSES)),
        (NOT_PRIMARY, WHY_NOT.iter().map(|(_, name)| (*name).to_owned()).collect()),
        ("datagram refused as", plain(REJECTIONS)),
        ("phase", pairs(PHASES)),
        ("link", pairs(LINKS)),
        (MACHINES[0], pairs(DAEMONS)),
        (MACHINES[1], pairs(GUARDIANS)),
        (MACHINES[2], pairs(GATES)),
        ("address table", plain(KERNEL)),
        ("inquiry", plain(INQUIRIES)),
        ("segment and fences", plain(DEEDS)),
        ("message", received.collect()),
    ]
}

/// One thing that can be reached.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What kind of thing.
    pub group: &'static str,
    /// What.
    pub name: String,
    /// How often stories reached it.
    pub by_stories: u64,
    /// The first run of a story that did.
    pub first_story: Option<String>,
    /// How often exploration reached it.
    pub by_exploration: u64,
    /// The first seed that did.
    pub first_explored: Option<String>,
    /// Why it cannot be reached.
    pub unreachable: Option<&'static str>,
}

impl Row {
    fn new(group: &'static str, name: String, reached: Option<&[Reached; 2]>) -> Self {
        let of = |kind: usize| {
            let reached = reached.map(|both| both[kind].clone()).unwrap_or_default();
            (reached.times, reached.first.map(|(_, run)| run))
        };
        let ((by_stories, first_story), (by_exploration, first_explored)) = (of(0), of(1));
        let unreachable = unreachable::why(group, &name);
        Self { group, name, by_stories, first_story, by_exploration, first_explored, unreachable }
    }

    /// Somebody has reached it.
    pub fn is_reached(&self) -> bool {
        self.by_stories + self.by_exploration > 0
    }

    fn remark(&self) -> String {
        match (self.is_reached(), self.unreachable) {
            (true, Some(why)) => format!("REACHED, though: {why}"),
            (true, None) => String::new(),
            (false, Some(why)) => why.to_owned(),
            (false, None) => "not reached".to_owned(),
        }
    }
}

impl Coverage {
    /// A row for everything that there is to be reached, and for whatever was reached beside.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for (group, names) in catalogue() {
            let row = |name: String| {
                let reached = self.reached.get(&(group, name.clone()));
                Row::new(group, name, reached)
            };
            rows.extend(names.into_iter().map(row));
        }
        rows
    }

    /// What contradicts the lists: reached though listed as out of reach, or reached and in no list.
    pub fn contradictions(&self) -> Vec<String> {
        let rows = self.rows();
        let wrong = rows.iter().filter(|row| row.is_reached() && row.unreachable.is_some());
        let wrong = wrong.map(|row| {
            let (group, name) = (row.group, &row.name);
            format!(
                "{group}: `{name}` is reached, though it is said to be out of reach: {}",
                row.remark()
            )
        });
        let known =
            |group: &str, name: &str| rows.iter().any(|r| r.group == group && r.name == name);
        let unlisted = self.reached.keys().filter(|(group, name)| !known(group, name));
        let unlisted = unlisted.map(|(group, name)| {
            format!("{group}: `{name}` is reached and in no list of sim/src/coverage/points.rs")
        });
        wrong.chain(unlisted).collect()
    }

    /// How many runs, and how much of what can be reached they reached.
    pub fn summary(&self) -> String {
        let rows = self.rows();
        let count = |of: fn(&Row) -> bool| rows.iter().filter(|row| of(row)).count();
        let cannot = count(|row| row.unreachable.is_some());
        format!(
            "{} runs of stories and {} explored worlds: of {} things that can be reached, stories reached {}, exploration {}, \
             both together {}; {} more are known to be out of reach",
            self.runs[0],
            self.runs[1],
            rows.len() - cannot,
            count(|row| row.by_stories > 0),
            count(|row| row.by_exploration > 0),
            count(Row::is_reached),
            cannot,
        )
    }

    /// The table, for people.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["", "", "stories", "first", "explored", "first", ""]);
        let mut group = "";
        for row in self.rows() {
            let shown = if row.group == group { "" } else { row.group };
            group = row.group;
            let remark = row.remark();
            table.add_row([
                shown.to_owned(),
                row.name,
                row.by_stories.to_string(),
                row.first_story.unwrap_or_default(),
                row.by_exploration.to_string(),
                row.first_explored.unwrap_or_default(),
                remark,
            ]);
        }
        for column in [2, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{table}\n\n{}", self.summary())
    }

    /// The same for machines.
    ///
    /// # Errors
    /// Never; the serialiser has the last word.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(&self.rows())
    }

    /// The same as a document; `command` says how it was made.
    pub fn document(&self, command: &str) -> String {
        let mut text = format!(
            "# Coverage of the search\n\n\
             What the scenarios and the exploration reach in the simulator, and what they do not. Made by `{command}`; what is counted \
             is in `sim/src/coverage/points.rs`, why something cannot be reached in `sim/src/coverage/unreachable.rs`.\n\n{}.\n",
            self.summary()
        );
        let rows = self.rows();
        let open: Vec<&Row> =
            rows.iter().filter(|row| !row.is_reached() && row.unreachable.is_none()).collect();
        if !open.is_empty() {
            let _ = writeln!(text, "\n## Not reached\n");
            for row in open {
                let _ = writeln!(text, "- {}: {}", row.group, row.name);
            }
        }
        let mut group = "";
        for row in &rows {
            if row.group != group {
                group = row.group;
                let _ =
                    writeln!(text, "\n## {group}\n\n| | stories | first | explored | first | |");
                let _ = writeln!(text, "|---|---:|---|---:|---|---|");
            }
            let first = |run: &Option<String>| run.clone().unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} |",
                row.name,
                row.by_stories,
                first(&row.first_story),
                row.by_exploration,
                first(&row.first_explored),
                row.remark()
            );
        }
        text
    }
}
