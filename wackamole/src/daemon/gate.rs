//! The gate at the start of a daemon: one of its own stands, or none does.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tracing::warn;

use super::DaemonError;
use crate::config::Config;
use crate::io::gate::{self, Gate, table_name};
use crate::io::store::{StateDirectory, stored_gate};

/// Makes the gate, if it is configured and this kernel can. One that an earlier start has left and nobody would open again, under
/// this name or another one, is removed.
pub(super) fn stand(
    config: &Config,
    store: &StateDirectory,
    vips: &BTreeSet<IpAddr>,
) -> Result<Option<Gate>, DaemonError> {
    let name = table_name(config.cluster());
    if let Some(former) = stored_gate(store.path())?.filter(|former| *former != name) {
        gate::remove(&former).map_err(DaemonError::FormerGate)?;
    }
    if config.fence().gate {
        store.gate_may_stand(&name)?;
        match Gate::install(&name, vips.clone()) {
            Ok(gate) => return Ok(Some(gate)),
            Err(error) => {
                let margin = config.safety().release_margin;
                warn!(
                    %error,
                    "no gate (fence = \"nftables\"): that no two machines answer for a VIP rests on this kernel removing all \
                     addresses within release_margin, {margin:?}, when the lease ends"
                );
            }
        }
    }
    gate::remove(&name).map_err(DaemonError::FormerGate)?;
    Ok(None)
}
