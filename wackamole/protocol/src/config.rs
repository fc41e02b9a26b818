//! What a node is told at its start. Checked by whoever makes it (the configuration file's parser, a scenario); the
//! machines take it as it is.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::id::NodeId;
use crate::time::Duration;
use crate::vip::Vip;

/// The secret that all daemons of a cluster share.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey(pub [u8; 32]);

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}

/// Everything that the machines of one node need to know.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The cluster's name; daemons of another cluster on the same segment are told apart by it.
    pub cluster: String,
    /// The shared secret.
    pub key: ClusterKey,
    /// Which of `nodes` this one is.
    pub me: NodeId,
    /// All nodes, this one included, in rank order: the first live one coordinates.
    pub nodes: Vec<NodeDefinition>,
    /// All VIPs, in configuration order.
    pub vips: Vec<VipDefinition>,
    /// Heartbeats and waits.
    pub timing: Timing,
    /// How the load is evened out.
    pub balance: Balance,
    /// Heartbeats and leaves go to the multicast group once, not to each peer's addresses.
    pub multicast: bool,
    /// What a part of the cluster may do that does not hear the rest, and how leases are reckoned.
    pub safety: Safety,
    /// Under [`Partition::Quorum`]: one of these must answer this machine before it may propose a primary view that loses
    /// anybody. Empty: nothing is asked. Asking is the daemon's business, see `Node::handle_reach`.
    pub must_reach: Vec<IpAddr>,
}

/// What a part of the cluster may do that cannot tell whether the rest has crashed or is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partition {
    /// Each connected component covers all VIPs.
    Component,
    /// As component, but what nobody has confirmed to have released is probed on its own segment before it is acquired.
    Lan,
    /// Only the primary view holds VIPs.
    Quorum,
}

/// How the primary view is told from the others, under [`Partition::Quorum`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QuorumKind {
    /// More than half of the last primary view, or half with its lowest rank.
    Dynamic,
    /// More than half of all configured nodes.
    Static,
}

/// What a part of the cluster may do alone, and how leases are reckoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Safety {
    /// The partition policy. Default [`Partition::Lan`].
    pub partition: Partition,
    /// By how much two clocks' rates may differ, in parts per million. Default 1000.
    pub drift_ppm: u32,
    /// How long releasing everything may take: a lease ends earlier by that. Zero when a gate can be shut at once.
    pub release_margin: Duration,
    /// How the primary view is found. Default dynamic.
    pub quorum: QuorumKind,
    /// A primary view has at least so many members. Default 1.
    pub min_quorum: usize,
    /// Under [`Partition::Lan`]: after so long a VIP that somebody else seems to answer for is acquired all the same;
    /// `None` waits for ever. Default `None`.
    pub lan_wait_max: Option<Duration>,
    /// A node that vanished is fenced by the operator's command before anything is taken over from it.
    pub fences_nodes: bool,
    /// The longest promise that an earlier start of this node may have made: nothing is accepted before it is over.
    pub promised_before: Duration,
}

impl Safety {
    /// The defaults for a failure timeout, with no gate: releasing may take an eighth of it, at most 15 ms.
    pub fn new(partition: Partition, timing: &Timing) -> Self {
        Self {
            partition,
            drift_ppm: 1_000,
            release_margin: (timing.failure_timeout / 8).min(Duration::from_millis(15)),
            quorum: QuorumKind::Dynamic,
            min_quorum: 1,
            lan_wait_max: None,
            fences_nodes: false,
            promised_before: timing.failure_timeout,
        }
    }
}

/// One configured machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDefinition {
    /// Its name; its identity is the hash of it.
    pub name: String,
    /// Where its daemon listens, one address for each network that it shares with the others. The n-th addresses of
    /// all nodes are on one network.
    pub addresses: Vec<SocketAddr>,
    /// Its share of the load relative to the others; 1 unless configured.
    pub weight: u32,
    /// It votes and holds nothing: the third voice of two machines.
    pub witness: bool,
}

impl NodeDefinition {
    /// Its identity.
    pub fn id(&self) -> NodeId {
        NodeId::from_name(&self.name)
    }
}

/// One configured VIP.
#[derive(Clone, Debug)]
pub struct VipDefinition {
    /// Its addresses.
    pub vip: Arc<Vip>,
    /// The machines that shall have it while they live, best first; usually empty.
    pub prefer: Vec<NodeId>,
}

/// Heartbeats and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Pause between two heartbeats. Default 100 ms.
    pub heartbeat: Duration,
    /// Silence after which a peer is down. At least three heartbeats, or one lost datagram becomes a failover.
    /// Default 400 ms.
    pub failure_timeout: Duration,
    /// For how long a joiner waits before it may own VIPs. Default 2 s.
    pub mature: Duration,
}

impl Timing {
    /// After so long without a sign of life on a VIP's segment a machine takes and keeps nothing there.
    ///
    /// The others take over no sooner than a heartbeat before the failure timeout after the last frame that reached both;
    /// looking every half heartbeat, a machine that nobody reaches has let go by then.
    pub fn silence(&self) -> Duration {
        self.failure_timeout.saturating_sub(self.heartbeat * 3 / 2)
    }
}

/// How the load is evened out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// How many VIPs move in one round; `None` means as many as it takes. Default `None`.
    pub moves_per_round: Option<usize>,
    /// Pause after a view change, and between two rounds. Default 4 s.
    pub interval: Duration,
}
