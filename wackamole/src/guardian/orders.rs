//! What a guardian is told at its start: everything that it needs when the daemon is gone. After that only the lease
//! changes ([`super::board`]).

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wackamole_protocol::time::Duration;

use super::leave::Farewell;
use super::watch::Patience;

/// Far more than 10 000 VIPs need; a length beyond it is none.
const BYTES_MAX: usize = 64 << 20;

/// What the guardian of one daemon has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// The daemon's process.
    pub daemon: u32,
    /// The daemon's node, for people.
    pub node: String,
    /// The state directory, as an absolute path: the guardian's lock is there.
    pub state_dir: PathBuf,
    /// The name of the gate ([`crate::io::gate::table_name`]), if one stands. To find that there is none costs some 25 ms, which
    /// without a gate there are not.
    pub gate: Option<String>,
    /// What it may remove, if it carries our mark ([`crate::io::addresses::AddressesConfig::may_clean_up`]).
    pub may_clean_up: BTreeSet<IpAddr>,
    /// Past the end of a lease.
    pub patience: Patience,
    /// The guardian shows a sign of life so often.
    pub pulse: Duration,
    /// What it tells the peers.
    pub farewell: Farewell,
}

impl Orders {
    /// As they are handed over.
    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        let length = u32::try_from(text.len())
            .ok()
            .filter(|&length| length as usize <= BYTES_MAX)
            .ok_or_else(|| io::Error::other("too many VIPs for a guardian's orders"))?;
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(text);
        Ok(bytes)
    }

    /// Reads what [`Orders::to_bytes`] made.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > BYTES_MAX {
            return Err(io::Error::other("these are no orders"));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// What goes through the channel between the two, besides the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Word {
    /// The guardian stands.
    Ready = b'R',
    /// The guardian cannot stand; why follows.
    Failed = b'F',
    /// The daemon holds nothing and ends: the guardian shall go.
    Done = b'D',
}

impl Word {
    pub(super) fn say(self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&[self as u8])
    }
}
