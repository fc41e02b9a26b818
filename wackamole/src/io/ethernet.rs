//! The Ethernet header that ARP and NDP frames share. Pure: bytes only.

pub use wackamole_protocol::mac::MacAddress;

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
