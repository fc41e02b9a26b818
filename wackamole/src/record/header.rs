//! What a daemon knew when it started.

use std::net::IpAddr;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use wackamole_protocol::config::{
    Balance, ClusterKey, NodeConfig, NodeDefinition, Safety, Timing, VipDefinition,
};
use wackamole_protocol::id::{Incarnation, NodeId};
use wackamole_protocol::node::Node;
use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::vip::{Vip, VipAddress};

/// Everything that determines a node at its start, but the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the program.
    pub program: String,
    /// The name of the node.
    pub node: String,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// When the node was made, in nanoseconds on the machine's own clock.
    pub started: u64,
    /// What the wall clock showed then, in microseconds since 1970.
    pub wall_clock: u64,
    /// By which it is told whether a key is the one: a HMAC, cut off, that says nothing about the key.
    pub key_check: String,
    /// The record of votes that an earlier start had stored.
    pub votes: Option<Vec<u8>>,
    cluster: String,
    nodes: Vec<NodeDefinition>,
    vips: Vec<RecordedVip>,
    timing: Timing,
    balance: Balance,
    multicast: bool,
    safety: Safety,
    must_reach: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedVip {
    name: String,
    addresses: Vec<VipAddress>,
    prefer: Vec<NodeId>,
}

impl Header {
    /// The header of a node that is made now. `wall_clock` is the time since 1970.
    pub fn new(
        config: &NodeConfig,
        incarnation: Incarnation,
        votes: Option<Vec<u8>>,
        now: Instant,
        wall_clock: Duration,
    ) -> Self {
        let me = config.nodes.iter().find(|node| node.id() == config.me);
        let vip = |definition: &VipDefinition| RecordedVip {
            name: definition.vip.name().to_owned(),
            addresses: definition.vip.addresses().to_vec(),
            prefer: definition.prefer.clone(),
        };
        Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            node: me.map(|me| me.name.clone()).unwrap_or_default(),
            incarnation,
            started: u64::try_from(now.since_origin().as_nanos()).unwrap_or(u64::MAX),
            wall_clock: u64::try_from(wall_clock.as_micros()).unwrap_or(u64::MAX),
            key_check: key_check(&config.key),
            votes,
            cluster: config.cluster.clone(),
            nodes: config.nodes.clone(),
            vips: config.vips.iter().map(vip).collect(),
            timing: config.timing,
            balance: config.balance,
            multicast: config.multicast,
            safety: config.safety,
            must_reach: config.must_reach.clone(),
        }
    }

    /// When the node was made.
    pub fn started(&self) -> Instant {
        Instant::after_origin(Duration::from_nanos(self.started))
    }

    /// Whether this is the cluster's key.
    pub fn is_key(&self, key: &ClusterKey) -> bool {
        key_check(key) == self.key_check
    }

    /// What the node was told at its start, with the key that the record does not have.
    pub fn config(&self, key: ClusterKey) -> NodeConfig {
        let vip = |vip: &RecordedVip| VipDefinition {
            vip: Arc::new(Vip::new(vip.name.clone(), vip.addresses.clone())),
            prefer: vip.prefer.clone(),
        };
        NodeConfig {
            cluster: self.cluster.clone(),
            key,
            me: NodeId::from_name(&self.node),
            nodes: self.nodes.clone(),
            vips: self.vips.iter().map(vip).collect(),
            timing: self.timing,
            balance: self.balance,
            multicast: self.multicast,
            safety: self.safety,
            must_reach: self.must_reach.clone(),
        }
    }

    /// The node as it was made.
    pub fn node(&self, key: ClusterKey) -> Node {
        let mut node = Node::new(self.config(key), self.incarnation, self.started());
        if let Some(votes) = &self.votes {
            // A damaged record means no vote, here as there.
            let _ = node.recall(votes);
        }
        node
    }
}

fn key_check(key: &ClusterKey) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes a key of any length");
    let check = mac.chain_update(b"wackamole record").finalize().into_bytes();
    check[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
