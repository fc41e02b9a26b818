//! What a node is told at its start. Checked by whoever makes it (the configuration file's parser, a scenario); the
//! machines take it as it is.

use core::fmt;
use core::net::SocketAddr;
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
}

/// One configured machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDefinition {
    /// Its name; its identity is the hash of it.
    pub name: String,
    /// Where its daemon listens, one address for each network that it shares with the others. The n-th addresses of
    /// all nodes are on one network.
    pub addresses: Vec<SocketAddr>,
    /// Its share of the load relative to the others; 1 unless configured.
    pub weight: u32,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Pause between two heartbeats. Default 100 ms.
    pub heartbeat: Duration,
    /// Silence after which a peer is down. At least three heartbeats, or one lost datagram becomes a failover.
    /// Default 400 ms.
    pub failure_timeout: Duration,
    /// For how long a joiner waits before it may own VIPs. Default 2 s.
    pub mature: Duration,
}

/// How the load is evened out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// How many VIPs move in one round; `None` means as many as it takes. Default `None`.
    pub moves_per_round: Option<usize>,
    /// Pause after a view change, and between two rounds. Default 4 s.
    pub interval: Duration,
}
