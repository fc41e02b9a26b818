//! What guardian and `wackamole release` do to a machine whose daemon is gone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::io::addresses::{LeftoversError, remove_leftovers};
use crate::io::gate;

/// Shuts the gate of this name, if there is one: the kernel answers for none of our addresses any more. One that cannot be shut
/// is logged: it shuts with the lease, and the removal makes up for it.
pub(super) fn shut(name: &str) {
    if let Err(error) = gate::shut(name) {
        tracing::warn!(%error, "cannot shut the gate");
    }
}

/// Shuts the gate, then removes what is left of ours. Returns what was there.
///
/// # Errors
/// Addresses are left, or may be.
pub fn release(name: &str, may_clean_up: &BTreeSet<IpAddr>) -> Result<Vec<String>, LeftoversError> {
    shut(name);
    remove_leftovers(may_clean_up)
}

/// Removes the gate, when there is nothing left behind it.
pub fn clear_away(name: &str) {
    if let Err(error) = gate::remove(name) {
        tracing::warn!(%error, "cannot remove the gate");
    }
}
