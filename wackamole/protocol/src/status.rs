//! A snapshot of what a node knows: the answer of the control socket, and what the simulator's checkers look at.
//!
//! Serialised as JSON it is an interface for other programs: fields are added, never renamed. Durations are milliseconds.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::event::{LinkState, Reason, Rejection};

/// What one node knows of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// This node's name.
    pub node: String,
    /// This start of it, as `counter.nonce`.
    pub incarnation: String,
    /// What the node is doing.
    pub phase: Phase,
    /// The installed view, if there is one.
    pub view: Option<ViewStatus>,
    /// What decides whether this node may hold VIPs, and until when.
    #[serde(default)]
    pub safety: SafetyStatus,
    /// All configured nodes in rank order, this one included.
    pub nodes: Vec<NodeStatus>,
    /// All configured VIPs in configuration order.
    pub vips: Vec<VipStatus>,
    /// Datagrams refused since the start, by cause.
    pub rejected: BTreeMap<Rejection, u64>,
    /// Things that an operator should look at, each a sentence.
    pub warnings: Vec<String>,
}

/// What decides whether a node may hold VIPs, and until when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafetyStatus {
    /// The partition policy: `component`, `lan` or `quorum`.
    pub partition: String,
    /// The installed view may hold VIPs; always so but under `quorum`.
    pub primary: bool,
    /// Why this node and those that it hears could not be a primary view; only under `quorum`, and only if so.
    pub why_not: Option<String>,
    /// Nodes of which some must come before there is a primary view.
    pub awaited: Vec<String>,
    /// The number of the lineage of primary views, which grows when an operator forces one; only under `quorum`.
    pub lineage: Option<u64>,
    /// For how many more milliseconds this machine may answer for VIPs unless it hears of its peers again; nothing while it
    /// holds none.
    pub lease_ms: Option<u64>,
    /// The addresses of `must_reach`: one has to answer before this node may propose a primary view that loses anybody.
    #[serde(default)]
    pub must_reach: Vec<ReachStatus>,
}

/// An address that is asked whether it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachStatus {
    /// The address.
    pub address: String,
    /// It has answered lately.
    pub answers: bool,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// In no view: looking for peers, or excluded by them.
    Joining,
    /// Has accepted a proposal and waits for the view.
    Agreeing,
    /// In a view.
    Serving,
    /// Handing over its VIPs before it leaves.
    Leaving,
}

/// An installed view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewStatus {
    /// Its epoch.
    pub epoch: u64,
    /// The name of the node that proposed it.
    pub coordinator: String,
    /// The members' names in rank order.
    pub members: Vec<String>,
    /// For how long it has been installed.
    pub age_ms: u64,
    /// How often the coordinator has changed the assignment since then.
    #[serde(default)]
    pub assignment: u64,
}

/// A configured node as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// It is this node.
    pub me: bool,
    /// The link to it; two-way for this node itself.
    pub link: LinkState,
    /// Milliseconds since it was last heard; absent if never, zero for this node.
    pub heard_ms_ago: Option<u64>,
    /// It is a member of the installed view.
    pub member: bool,
    /// It may own VIPs.
    pub mature: bool,
    /// It is handing over its VIPs.
    pub draining: bool,
    /// Its share of the load.
    pub weight: u32,
    /// How many VIPs the assignment gives it.
    pub owns: usize,
    /// How many VIPs its kernel answers for, as far as it has told us.
    pub holds: usize,
    /// It defines its VIPs as we do.
    pub same_configuration: bool,
    /// Its configured addresses, and milliseconds since a datagram last came from each.
    pub paths: Vec<PathStatus>,
}

/// One address of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// The address.
    pub address: String,
    /// Milliseconds since a datagram came from it; absent if never.
    pub heard_ms_ago: Option<u64>,
}

/// A configured VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipStatus {
    /// Its name.
    pub name: String,
    /// Its addresses as `address/prefix@interface`.
    pub addresses: Vec<String>,
    /// Whom the assignment names.
    pub owner: Option<String>,
    /// Whose kernels answer for it, as far as they have told us.
    pub holders: Vec<String>,
    /// Why the owner owns it.
    pub reason: Option<Reason>,
    /// Milliseconds since the owner came to own it.
    pub owned_for_ms: Option<u64>,
    /// Why this node, its owner, does not acquire it yet, or cannot serve it.
    #[serde(default)]
    pub waiting: Option<String>,
    /// The last error with it on this node.
    pub error: Option<String>,
}
