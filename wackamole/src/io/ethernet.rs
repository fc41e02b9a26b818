//! The Ethernet header that ARP and NDP frames share. Pure: bytes only.

use core::fmt;

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Everybody on the segment.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// Where IPv6 all-nodes multicast (ff02::1) goes: RFC 2464 §7.
    pub const ALL_NODES: Self = Self([0x33, 0x33, 0, 0, 0, 1]);
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Length of the header: two hardware addresses and the type of what follows.
pub(crate) const HEADER_BYTES: usize = 14;

/// The header for a frame from `source` to `destination` that carries `ethertype`.
pub(crate) fn header(
    destination: MacAddress,
    source: MacAddress,
    ethertype: u16,
) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..6].copy_from_slice(&destination.0);
    header[6..12].copy_from_slice(&source.0);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    header
}
