//! How a [`PeerEcho`] looks on the wire. A heartbeat carries one for each peer, so its size bounds the size of the cluster:
//! random bits (hash, nonce) are not spent as varints, and the two flags share a varint with the promise.

use serde::{Deserialize, Serialize};

use super::message::PeerEcho;
use crate::id::{Incarnation, NodeId};

#[derive(Serialize, Deserialize)]
pub(super) struct EchoOnWire {
    /// Big endian.
    peer: [u8; 4],
    counter: u32,
    /// Big endian.
    nonce: [u8; 4],
    sequence: u64,
    /// Promise × 4 + heard × 2 + in view.
    promise_and_flags: u64,
}

impl From<PeerEcho> for EchoOnWire {
    fn from(echo: PeerEcho) -> Self {
        Self {
            peer: echo.peer.0.to_be_bytes(),
            counter: echo.incarnation.counter(),
            nonce: (echo.incarnation.0 as u32).to_be_bytes(),
            sequence: echo.sequence,
            promise_and_flags: u64::from(echo.promise_us) << 2
                | u64::from(echo.heard) << 1
                | u64::from(echo.in_view),
        }
    }
}

impl TryFrom<EchoOnWire> for PeerEcho {
    type Error = core::num::TryFromIntError;

    fn try_from(wire: EchoOnWire) -> Result<Self, Self::Error> {
        Ok(Self {
            peer: NodeId(u32::from_be_bytes(wire.peer)),
            incarnation: Incarnation::new(wire.counter, u32::from_be_bytes(wire.nonce)),
            sequence: wire.sequence,
            promise_us: u32::try_from(wire.promise_and_flags >> 2)?,
            heard: wire.promise_and_flags & 2 != 0,
            in_view: wire.promise_and_flags & 1 != 0,
        })
    }
}
