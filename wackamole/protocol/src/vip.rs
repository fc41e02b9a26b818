//! What a VIP is: the unit that moves, one address or an indivisible set of addresses.

use core::fmt;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Identifies a VIP by a hash of its definition, so that two machines with differing files never mean different things
/// by one VIP. Covers the addresses and prefix lengths, not the display name and not the interface names, which may
/// differ from machine to machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VipId(pub u64);

impl fmt::Display for VipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vip-{:016x}", self.0)
    }
}

impl fmt::Debug for VipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One address of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VipAddress {
    /// The address that clients use.
    pub address: IpAddr,
    /// Prefix length; 32 or 128 unless configured otherwise.
    pub prefix: u8,
    /// The interface that carries it on this machine.
    pub interface: String,
}

/// The unit that moves: all its addresses are on one machine or on none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    id: VipId,
    name: String,
    addresses: Vec<VipAddress>,
}

impl Vip {
    /// Makes a VIP; the order of `addresses` does not matter.
    ///
    /// # Panics
    /// If `addresses` is empty: the configuration never makes such a VIP.
    pub fn new(name: impl Into<String>, mut addresses: Vec<VipAddress>) -> Self {
        assert!(!addresses.is_empty(), "a VIP has at least one address");
        addresses.sort();
        let mut hasher = Sha256::new();
        for address in &addresses {
            hasher.update(format!("{}/{}\n", address.address, address.prefix).as_bytes());
        }
        let digest = hasher.finalize();
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        Self { id: VipId(u64::from_be_bytes(hash)), name: name.into(), addresses }
    }

    /// Its identity in the cluster.
    pub fn id(&self) -> VipId {
        self.id
    }

    /// What people call it: the configured name, or its address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses, sorted; never empty.
    pub fn addresses(&self) -> &[VipAddress] {
        &self.addresses
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
