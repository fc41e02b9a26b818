//! A record as bytes for the disk.

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::record::Record;

/// The first byte.
const VERSION: u8 = 1;
/// How many bytes of SHA-256 stand at the end.
const CHECK: usize = 8;

/// Bytes that are no record: cut off, altered, or written by another version. A node that finds such has lost its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damaged {
    /// The check at the end does not fit, or there is not even room for one.
    #[error("the record of votes is damaged")]
    Check,
    /// Whole, but of another version.
    #[error("the record of votes has version {found}, this program reads version {VERSION}")]
    Version {
        /// Its first byte.
        found: u8,
    },
}

impl Record {
    /// The record as bytes, with a version and a check.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = postcard::to_extend(self, vec![VERSION])
            .expect("a vector takes everything, and all lists here know their length");
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest[..CHECK]);
        bytes
    }

    /// Reads what [`Record::to_bytes`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        let (body, check) = bytes.split_last_chunk::<CHECK>().ok_or(Damaged::Check)?;
        if Sha256::digest(body)[..CHECK] != check[..] {
            return Err(Damaged::Check);
        }
        match body.split_first() {
            Some((&VERSION, record)) => postcard::from_bytes(record).map_err(|_| Damaged::Check),
            Some((&found, _)) => Err(Damaged::Version { found }),
            None => Err(Damaged::Check),
        }
    }
}
