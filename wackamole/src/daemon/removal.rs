//! Taking our addresses off the machine when the driver cannot release them.

use std::time::Duration;

use tokio::time::timeout;
use tracing::error;

use super::caught;
use super::fenced::FencedAddresses;
use crate::env::{Action, AddressEvent, Addresses, Work};
use crate::io::addresses::{AddressesConfig, NetlinkAddresses};

/// How long the removal of addresses may take when the driver is gone. 10 000 of them need some 3 s.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The ticket of that removal; the driver uses neither this number nor anything near it.
const REMOVAL: u64 = u64::MAX - 1;

/// What became of our addresses when the driver could not release them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// None is left.
    Complete,
    /// Some may still be on the machine.
    Failed,
}

impl std::fmt::Display for Removal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Complete => "its addresses are removed",
            Self::Failed => "ADDRESSES MAY BE LEFT on this machine, see `ip addr`",
        })
    }
}

/// Removes what our VIPs may have left on the machine. The worker at hand does it, after what it has begun; if it is
/// the one that is broken, a new one does.
pub(super) async fn remove_addresses(
    addresses: FencedAddresses,
    config: AddressesConfig,
) -> Removal {
    if removed_by(&addresses).await {
        return Removal::Complete;
    }
    drop(addresses);
    match NetlinkAddresses::start(config) {
        Ok(fresh) if removed_by(&fresh).await => Removal::Complete,
        Ok(_) => Removal::Failed,
        Err(error) => {
            error!(%error, "cannot remove our addresses");
            Removal::Failed
        }
    }
}

async fn removed_by(addresses: &impl Addresses) -> bool {
    let removal = async {
        addresses.submit(Work { ticket: REMOVAL, action: Action::CleanUp });
        loop {
            if let AddressEvent::Done { ticket: REMOVAL, result } = addresses.next().await {
                return result;
            }
        }
    };
    match timeout(REMOVAL_TIMEOUT, caught(removal)).await {
        Ok(Ok(Ok(()))) => true,
        Ok(Ok(Err(error))) => {
            error!(%error, "cannot remove our addresses");
            false
        }
        Ok(Err(message)) => {
            error!(message, "the address worker is broken");
            false
        }
        Err(_) => {
            error!("the removal of our addresses takes too long");
            false
        }
    }
}
