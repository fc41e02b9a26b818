//! Scenarios: one story each, told in a TOML file.
//!
//! `schema` is the file as it is written, `check` turns names into numbers and complains with file, line and what would
//! be accepted, `plan` draws one seed's course of events. Nothing random happens before `plan`.

mod check;
pub mod expect;
pub mod measure;
pub mod plan;
pub mod schema;
pub mod text;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wackamole_protocol::config::{Balance, Partition, Safety, Timing};
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::Vip;

use crate::fault::Fault;
use crate::fences::FenceSpec;
use crate::links::Station;
use crate::netem::Impairment;
use crate::rng::Span;
pub use expect::{Allow, Anchor, Expectation, MovesMax, Promise, ViewSize};
pub use schema::ChaosFault;

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file as the user named it; for the command that reproduces a run.
    pub file: String,
    /// The file's name without its ending.
    pub name: String,
    /// One line: what happens and what is promised.
    pub title: String,
    /// The story at more length; may be empty.
    pub story: String,
    /// The machines in rank order.
    pub nodes: Vec<NodeSpec>,
    /// The VIPs in configuration order.
    pub vips: Vec<VipSpec>,
    /// Names of the stations that use the VIPs.
    pub clients: Vec<String>,
    /// How long the world is simulated.
    pub duration: Duration,
    /// With how many seeds it is run unless told otherwise.
    pub seeds: u64,
    /// With this seed, and only with it, unless told otherwise.
    pub seed: Option<u64>,
    /// One-way latency in whole milliseconds.
    pub latency: Span,
    /// What the wires do to datagrams; its extra delay comes from `latency`.
    pub wires: Impairment,
    /// Losses that steps cause are spells: bounds do not reckon with them, and nothing is bounded meanwhile.
    pub spells_of_loss: bool,
    /// After how long a client gives up a neighbour.
    pub neighbour_timeout: Duration,
    /// Heartbeats go to a multicast group.
    pub multicast: bool,
    /// What one address operation takes.
    pub operation: Span,
    /// The daemons' timing.
    pub timing: Timing,
    /// The daemons' balancing.
    pub balance: Balance,
    /// The partition policy and the leases.
    pub safety: Safety,
    /// The station of which one answer is asked before a primary view that loses anybody.
    pub must_reach: Option<Station>,
    /// How long releasing may take; what follows from a node's fences unless given.
    pub release_margin: Option<Duration>,
    /// Under which policies it is run; under that of `safety` if this is empty.
    pub policies: Vec<Partition>,
    /// VIPs and clients are on a segment apart from the daemons' network.
    pub own_segment: bool,
    /// A router answers every probe.
    pub proxy_arp: bool,
    /// What it takes to make a record safe on a disk.
    pub sync: Span,
    /// How the fences behave.
    pub fences: FencesSpec,
    /// What happens.
    pub steps: Vec<StepSpec>,
    /// Random faults.
    pub chaos: Option<ChaosSpec>,
    /// What must be true.
    pub expect: Vec<Expectation>,
    /// What is let pass.
    pub allow: Allow,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its share of the load.
    pub weight: u32,
    /// It votes and holds nothing.
    pub witness: bool,
    /// Its clock's drift in parts per million.
    pub drift_ppm: i64,
    /// When it is switched on; never without a step.
    pub start: Option<Span>,
    /// What stands behind its daemon.
    pub fences: FenceSpec,
}

/// How the fences behave, and what does not belong to one machine.
#[derive(Clone, Copy, Debug)]
pub struct FencesSpec {
    /// How fast a dead guardian is replaced; not at all if there is nothing.
    pub respawn: Option<Span>,
    /// After how long a daemon is started again that its guardian has killed.
    pub supervisor: Option<Span>,
    /// What the fence command takes, and with which probability it fails; nothing if there is none.
    pub command: Option<(Span, f64)>,
}

/// One VIP.
#[derive(Clone, Debug)]
pub struct VipSpec {
    /// Its definition.
    pub vip: Arc<Vip>,
    /// The machines that shall have it, best first.
    pub prefer: Vec<usize>,
}

/// Something that happens, perhaps several times.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    /// What expectations call it.
    pub name: Option<String>,
    /// When it happens first.
    pub at: Span,
    /// The spacing of the repetitions.
    pub every: Span,
    /// How often it happens.
    pub times: u32,
    /// What happens.
    pub fault: Fault,
}

/// Random faults.
#[derive(Clone, Debug)]
pub struct ChaosSpec {
    /// When they begin.
    pub from: Duration,
    /// When everything is put right.
    pub until: Duration,
    /// The pause between two.
    pub every: Span,
    /// Which kinds, each as likely as it is often named.
    pub faults: Vec<ChaosFault>,
}

/// A file that is not a scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file or folder cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder without scenarios.
    #[error("{path} contains no file that ends in .toml")]
    NoScenarios {
        /// Which.
        path: PathBuf,
    },
    /// The file says something wrong.
    #[error("{file}:{line}:{column}: {message}\n{excerpt}")]
    Wrong {
        /// Which file.
        file: String,
        /// Where.
        line: usize,
        /// Where.
        column: usize,
        /// What was found, and what would be accepted.
        message: String,
        /// The line with a mark.
        excerpt: String,
    },
}

impl Scenario {
    /// Reads one file.
    ///
    /// # Errors
    /// It cannot be read, or says something wrong.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads files, and all files that end in `.toml` of folders and the folders in them, in the order of their names. A file
    /// that names several policies becomes as many scenarios.
    ///
    /// # Errors
    /// As [`Scenario::load`]; or a folder has no scenario.
    pub fn load_all(paths: &[PathBuf]) -> Result<Vec<Self>, ScenarioError> {
        let mut scenarios = Vec::new();
        for path in paths {
            if !path.is_dir() {
                scenarios.extend(Self::load(path)?.under_its_policies());
                continue;
            }
            let mut files = Vec::new();
            files_of(path, &mut files)?;
            if files.is_empty() {
                return Err(ScenarioError::NoScenarios { path: path.clone() });
            }
            files.sort();
            for file in files {
                scenarios.extend(Self::load(&file)?.under_its_policies());
            }
        }
        Ok(scenarios)
    }

    /// Reads a file's text; `file` names it in complaints.
    ///
    /// # Errors
    /// It says something wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        check::check(file, text)
    }

    /// The text of a file that says the same.
    pub fn text(&self) -> String {
        write::write(self)
    }

    /// The same story under another policy, which its name then says.
    pub fn under(&self, partition: Partition) -> Self {
        let mut scenario = self.clone();
        scenario.safety.partition = partition;
        scenario.policies = vec![partition];
        let story = Path::new(&self.file).file_stem().map(|stem| stem.to_string_lossy());
        let story = story.as_deref().unwrap_or(&self.name);
        scenario.name = format!("{story}.{}", policy_word(partition));
        scenario
    }

    /// The story under each of the policies that it names.
    pub fn under_its_policies(self) -> Vec<Self> {
        match self.policies.as_slice() {
            [] | [_] => vec![self],
            many => many.iter().map(|&partition| self.under(partition)).collect(),
        }
    }

    /// What the options of the command that runs this story must say, apart from file and seed.
    pub fn policy_option(&self) -> String {
        match self.policies.as_slice() {
            [partition] => format!(" --policies {}", policy_word(*partition)),
            _ => String::new(),
        }
    }

    /// The names of the stations: nodes, then clients.
    pub fn station_names(&self) -> Vec<String> {
        let nodes = self.nodes.iter().map(|node| node.name.clone());
        nodes.chain(self.clients.iter().cloned()).collect()
    }

    /// The names of the VIPs.
    pub fn vip_names(&self) -> Vec<String> {
        self.vips.iter().map(|vip| vip.vip.name().to_owned()).collect()
    }
}

/// All scenario files in a folder, and in the folders in it.
fn files_of(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), ScenarioError> {
    let unreadable = |source| ScenarioError::Unreadable { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            files_of(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    Ok(())
}

/// A policy as it is written.
pub fn policy_word(partition: Partition) -> &'static str {
    match partition {
        Partition::Component => "component",
        Partition::Lan => "lan",
        Partition::Quorum => "quorum",
    }
}
