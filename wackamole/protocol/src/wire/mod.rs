//! Messages ↔ bytes: versioned, authenticated, bounded.

pub mod message;

/// The version of the wire format. Another version is refused and counted.
pub const VERSION: u8 = 1;
