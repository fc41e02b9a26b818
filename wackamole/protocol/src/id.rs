//! Names of things: nodes, incarnations, views. Newtypes so that they cannot be mixed up.

use core::fmt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A configured machine: a 32-bit hash of its configured name, so that two machines agree on it even while their
/// configuration files list different nodes or list them in another order.
///
/// Zero means "everybody" on the wire; no name hashes to it. The configuration refuses two names with one hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The addressee of a datagram that is meant for every peer.
    pub const EVERYBODY: Self = Self(0);

    /// The identity of the node that is called `name`.
    pub fn from_name(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Self(hash.max(1))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{:08x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which start of a node this is. Grows with each start: the high half is a stored counter, the low half a nonce that
/// tells two starts apart should the counter ever be lost and repeat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Combines a stored counter with a random nonce.
    pub fn new(counter: u32, nonce: u32) -> Self {
        Self(u64::from(counter) << 32 | u64::from(nonce))
    }

    /// The stored counter.
    pub fn counter(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08x}", self.counter(), self.0 as u32)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names a view, and, before it is agreed, the ballot that proposes it. Ordered by epoch, then by coordinator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewId {
    /// Grows with every attempt to agree on a view.
    pub epoch: u64,
    /// The node that proposed it.
    pub coordinator: NodeId,
}

impl ViewId {
    /// Lower than every view that is ever agreed.
    pub const NONE: Self = Self { epoch: 0, coordinator: NodeId(0) };
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.coordinator)
    }
}

impl fmt::Debug for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
