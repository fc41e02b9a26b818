//! The parts of `wackamole status --json` that tests look at.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a daemon knows of the cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// What it is doing; `serving` in a view.
    pub phase: String,
    /// The installed view.
    pub view: Option<View>,
    /// All configured nodes.
    pub nodes: Vec<Node>,
    /// All configured VIPs.
    pub vips: Vec<Vip>,
    /// Datagrams refused, by cause.
    pub rejected: BTreeMap<String, u64>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}

/// An installed view.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct View {
    /// Grows with every view.
    pub epoch: u64,
    /// Who proposed it.
    pub coordinator: String,
    /// Who is in it.
    pub members: Vec<String>,
}

/// A configured node.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// It may own VIPs.
    pub mature: bool,
    /// How many VIPs the assignment gives it.
    pub owns: usize,
    /// What the link to it is; `two-way` when all is well.
    pub link: String,
}

/// A configured VIP.
#[derive(Clone, Debug, Deserialize)]
pub struct Vip {
    /// Its name.
    pub name: String,
    /// Whom the assignment names.
    pub owner: Option<String>,
    /// Whose kernels answer for it, as far as known.
    pub holders: Vec<String>,
    /// Why the daemon, its owner, does not acquire it.
    pub waiting: Option<String>,
}

impl Status {
    /// How many datagrams were refused for a reason.
    pub fn rejected(&self, reason: &str) -> u64 {
        self.rejected.get(reason).copied().unwrap_or_default()
    }

    /// The members of the view; empty without one.
    pub fn members(&self) -> Vec<&str> {
        self.view.iter().flat_map(|view| &view.members).map(String::as_str).collect()
    }
}
