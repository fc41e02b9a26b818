//! What guardian and `wackamole release` do to a machine whose daemon is gone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::io::addresses::{LeftoversError, remove_leftovers};
use crate::io::gate::{self, Shut};

/// What was released.
#[derive(Debug)]
pub struct Released {
    /// What was there, for people: `10.0.0.1/32 on eth0`.
    pub addresses: Vec<String>,
    /// Kept until there is time.
    _shut: Option<Shut>,
}

/// Shuts the gate of this name: the kernel answers for none of our addresses any more. One that cannot be shut
/// is logged: it shuts with the lease, and the removal makes up for it.
pub(super) fn shut(name: Option<&str>) -> Option<Shut> {
    gate::shut(name?).inspect_err(|error| tracing::warn!(%error, "cannot shut the gate")).ok()
}

/// Shuts the gate, if one stands, then removes what is left of ours.
///
/// # Errors
/// Addresses are left, or may be.
pub fn release(
    name: Option<&str>,
    may_clean_up: &BTreeSet<IpAddr>,
) -> Result<Released, LeftoversError> {
    let shut = shut(name);
    remove_leftovers(may_clean_up).map(|addresses| Released { addresses, _shut: shut })
}

/// Removes the gate, when there is nothing left behind it.
pub fn clear_away(name: Option<&str>) {
    if let Some(name) = name
        && let Err(error) = gate::remove(name)
    {
        tracing::warn!(%error, "cannot remove the gate");
    }
}
