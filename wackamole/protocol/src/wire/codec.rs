//! One datagram ↔ its bytes. `docs/protocol.md`, section "Datagram", is the normative layout.
//!
//! The tag is verified before anything behind the clear prefix is looked at, so an unauthenticated sender reaches four
//! comparisons and one HMAC and no more.

#[cfg(test)]
mod tests;

use core::fmt;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::message::{Body, Header};
use super::{DATAGRAM_MAX, ECHOES_MAX, FRAGMENT_BYTES_MAX, MESSAGE_MAX, VERSION};
use crate::config::ClusterKey;
use crate::event::Rejection;

const MAGIC: [u8; 2] = *b"wk";
const PREFIX_LENGTH: usize = 8;
const TAG_LENGTH: usize = 16;

/// Seals and opens the datagrams of one cluster.
#[derive(Clone)]
pub struct Codec {
    /// Keyed once; each datagram works on a copy, which spares two of its compressions.
    mac: Hmac<Sha256>,
    prefix: [u8; PREFIX_LENGTH],
}

impl Codec {
    /// The codec of the cluster that is called `cluster` and shares `key`. Its authentication key is derived from both, so
    /// that a key file copied to another cluster authenticates nothing there.
    pub fn new(key: &ClusterKey, cluster: &str) -> Self {
        let derived = keyed(&key.0)
            .chain_update(b"wackamole wire v1")
            .chain_update(cluster.as_bytes())
            .finalize()
            .into_bytes();
        let hash = Sha256::new()
            .chain_update(b"wackamole cluster")
            .chain_update(cluster.as_bytes())
            .finalize();
        let prefix = [MAGIC[0], MAGIC[1], VERSION, 0, hash[0], hash[1], hash[2], hash[3]];
        Self { mac: keyed(&derived), prefix }
    }

    /// Makes a datagram. It is no longer than [`DATAGRAM_MAX`] as long as the body has at most [`ECHOES_MAX`] echoes or
    /// [`FRAGMENT_BYTES_MAX`] bytes of a fragment.
    pub fn seal(&self, header: &Header, body: &Body) -> Vec<u8> {
        debug_assert!(within_bounds(body), "a body of ours keeps the bounds");
        let mut datagram = Vec::with_capacity(room_for(body));
        datagram.extend_from_slice(&self.prefix);
        let mut datagram = postcard::to_extend(&(header, body), datagram)
            .expect("derived encodings into a vector cannot fail");
        let tag = self.mac.clone().chain_update(&datagram).finalize().into_bytes();
        datagram.extend_from_slice(&tag[..TAG_LENGTH]);
        debug_assert!(datagram.len() <= DATAGRAM_MAX, "{} bytes: {body:?}", datagram.len());
        datagram
    }

    /// Takes a datagram apart.
    ///
    /// # Errors
    /// [`Rejection::Malformed`], [`Rejection::Version`], [`Rejection::OtherCluster`] or [`Rejection::WrongKey`]. The first
    /// three may come from anybody; `Malformed` behind a good tag means a daemon of ours with a fault.
    pub fn open(&self, datagram: &[u8]) -> Result<(Header, Body), Rejection> {
        if datagram.len() > DATAGRAM_MAX {
            return Err(Rejection::Malformed);
        }
        let (prefix, _) = datagram.split_first_chunk().ok_or(Rejection::Malformed)?;
        let &[m0, m1, version, reserved, ref cluster @ ..]: &[u8; PREFIX_LENGTH] = prefix;
        if [m0, m1] != MAGIC {
            return Err(Rejection::Malformed);
        }
        if version != VERSION {
            return Err(Rejection::Version);
        }
        if cluster != &self.prefix[4..] {
            return Err(Rejection::OtherCluster);
        }
        let (sealed, tag) =
            datagram.split_last_chunk::<TAG_LENGTH>().ok_or(Rejection::Malformed)?;
        let content = sealed.get(PREFIX_LENGTH..).ok_or(Rejection::Malformed)?;
        let mac = self.mac.clone().chain_update(sealed);
        mac.verify_truncated_left(tag).map_err(|_| Rejection::WrongKey)?;
        if reserved != 0 {
            return Err(Rejection::Malformed);
        }
        let (header, body) = decode_whole(content)?;
        if within_bounds(&body) { Ok((header, body)) } else { Err(Rejection::Malformed) }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec(…)")
    }
}

/// Encodes a message for a [`crate::link::Link`], which refuses one longer than [`MESSAGE_MAX`].
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_allocvec(message).expect("derived encodings into a vector cannot fail")
}

/// Decodes a message that came over a [`crate::link::Link`].
///
/// # Errors
/// [`Rejection::Malformed`] if it is longer than [`MESSAGE_MAX`], ends too early, has trailing bytes, or names a variant
/// that does not exist.
pub fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, Rejection> {
    if message.len() > MESSAGE_MAX {
        return Err(Rejection::Malformed);
    }
    decode_whole(message)
}

fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Rejection> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Rejection::Malformed),
    }
}

/// Room for a datagram with such a body. Most are short, and a short buffer costs an allocator less than one of [`DATAGRAM_MAX`].
fn room_for(body: &Body) -> usize {
    const AROUND: usize = DATAGRAM_MAX - FRAGMENT_BYTES_MAX;
    AROUND
        + match body {
            Body::Heartbeat(heartbeat) => heartbeat.echoes.len() * 24,
            Body::Fragment(fragment) => fragment.bytes.len(),
            Body::Echo(_) | Body::Leave(_) | Body::FragmentAck(_) => 0,
        }
}

fn within_bounds(body: &Body) -> bool {
    match body {
        Body::Heartbeat(heartbeat) => heartbeat.echoes.len() <= ECHOES_MAX,
        Body::Fragment(fragment) => fragment.bytes.len() <= FRAGMENT_BYTES_MAX,
        Body::Echo(_) | Body::Leave(_) | Body::FragmentAck(_) => true,
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}
