//! Messages ↔ bytes: versioned, authenticated, bounded.
//!
//! [`Codec`] turns a header and a body into one datagram and back; `docs/protocol.md`, section "Datagram", gives the layout
//! byte by byte. [`encode`] and [`decode`] do the same for the messages that travel in fragments over a
//! [`crate::link::Link`]. [`ReplayWindow`] tells whether a datagram was seen before. Nothing here knows peers or time, and
//! nothing that arrives makes it panic or allocate more than the datagram's own size suggests.

mod codec;
mod echo;
pub mod message;
mod replay;

pub use codec::{Codec, decode, encode};
pub use replay::ReplayWindow;

/// The version of the wire format. Another version is refused and counted.
pub const VERSION: u8 = 4;

/// The longest datagram, in bytes of UDP payload: fits the smallest IPv6 path (RFC 8200 §5: 1280 bytes) without
/// fragmentation, with room for a tunnel.
pub const DATAGRAM_MAX: usize = 1200;

/// The longest reliable message, in bytes. About 10 000 VIPs with their owners are 200 KB.
pub const MESSAGE_MAX: usize = 512 * 1024;

/// The most echoes in one heartbeat, hence the most peers of a node: so many fit into [`DATAGRAM_MAX`].
pub const ECHOES_MAX: usize = 48;

/// The most bytes of a message in one fragment: what [`DATAGRAM_MAX`] leaves when each varint around them has its greatest
/// length (prefix 8, header 30, fragment 34, tag 16).
pub const FRAGMENT_BYTES_MAX: usize = DATAGRAM_MAX - 88;
