//! Records: what a daemon was told, when, and what it did about it, so that it can be done again ([`crate::driver::Machines`]
//! gets the same inputs at the same instants, and does the same). `docs/recording.md` is for users.
//!
//! A record is one file for each start of a daemon:
//!
//! ```text
//! "wackamole record 1\n"
//! frame: length of the content, u32 · CRC-32 of length and content, u32 · content      both little-endian
//! frame: …
//! ```
//!
//! The content of the first frame is a [`Header`] as JSON; that of the others is a series of [`Timed`] entries in postcard's
//! encoding. A frame holds what happened between two sleeps of the driver, so whoever reads up to the last whole frame has read
//! whole turns. The cluster's key is not in a record.

mod entry;
mod header;
mod reader;
mod recorder;
mod writer;

#[cfg(test)]
mod tests;

pub use entry::{End, Entry, Errand, Timed};
pub use header::Header;
pub use reader::{Entries, Finish, ReadError, Record};
pub use recorder::{Recorder, Sink};
pub use writer::{FileSink, RecordError, create};

/// How a record begins, without the version.
const MAGIC: &str = "wackamole record ";
/// Of the format. Any change of the entries or of what they lead to in older records is another version.
const VERSION: u32 = 1;
/// How the names of records end.
pub const EXTENSION: &str = "wackrec";
/// Length and check sum.
const FRAME_HEAD: usize = 8;
/// No frame is longer: a turn in which 10 000 VIPs move has less than a tenth of it.
const FRAME_MAX: usize = 64 << 20;

/// A frame around a content.
fn frame(content: &[u8]) -> Vec<u8> {
    let length =
        u32::try_from(content.len()).expect("a frame is shorter than 64 MiB").to_le_bytes();
    let mut framed = Vec::with_capacity(FRAME_HEAD + content.len());
    framed.extend_from_slice(&length);
    framed.extend_from_slice(&checksum(length, content).to_le_bytes());
    framed.extend_from_slice(content);
    framed
}

fn checksum(length: [u8; 4], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(content);
    hasher.finalize()
}
