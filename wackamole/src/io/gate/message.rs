//! Bytes of nf_tables requests: nested attributes, messages, batches that the kernel carries out as a whole or not at all.
//!
//! Sources: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h. Attributes of nf_tables are big
//! endian, headers are not.

use nix::libc;

/// Requests that are carried out together. Built by [`Batch::message`], sent by [`super::socket::GateSocket::commit`].
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// The sequence number of the next message.
    sequence: u32,
    /// Where the last message starts.
    last: usize,
}

/// Which table: nf_tables keeps one name space for each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// ARP, as this machine sends it.
    Arp,
    /// IPv4 and IPv6.
    Inet,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Arp => libc::NFPROTO_ARP as u8,
            Self::Inet => libc::NFPROTO_INET as u8,
        }
    }
}

/// Sequence number, flags and type of an nlmsghdr (netlink(7)).
const HEADER: usize = 16;
const FLAGS_AT: usize = 6;

impl Batch {
    /// An empty batch whose messages are numbered from `first`.
    pub(super) fn new(first: u32) -> Self {
        let mut batch = Self { bytes: Vec::new(), sequence: first, last: 0 };
        batch.boundary(libc::NFNL_MSG_BATCH_BEGIN as u16);
        batch
    }

    /// Adds a request: `kind` is an `NFT_MSG_*`, `flags` go beside `NLM_F_REQUEST`.
    pub(super) fn message(
        &mut self,
        kind: libc::c_int,
        family: Family,
        flags: libc::c_int,
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        let kind = ((libc::NFNL_SUBSYS_NFTABLES << 8) | kind) as u16;
        self.last = self.bytes.len();
        append(&mut self.bytes, kind, flags as u16, self.sequence, family.number(), 0, attributes);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// The bytes, with an acknowledgement asked for the last request; its sequence number, and the one for the next batch.
    pub(super) fn finish(mut self) -> (Vec<u8>, u32, u32) {
        let flags = &mut self.bytes[self.last + FLAGS_AT..self.last + FLAGS_AT + 2];
        let with_ack = u16::from_ne_bytes([flags[0], flags[1]]) | libc::NLM_F_ACK as u16;
        flags.copy_from_slice(&with_ack.to_ne_bytes());
        let last = self.sequence.wrapping_sub(1);
        self.boundary(libc::NFNL_MSG_BATCH_END as u16);
        (self.bytes, last, self.sequence)
    }

    fn boundary(&mut self, kind: u16) {
        let subsystem = libc::NFNL_SUBSYS_NFTABLES as u16;
        let unspecified = libc::AF_UNSPEC as u8;
        append(&mut self.bytes, kind, 0, self.sequence, unspecified, subsystem, |_| {});
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// A request outside a batch, as questions are.
pub(super) fn question(
    sequence: u32,
    kind: libc::c_int,
    family: Family,
    attributes: impl FnOnce(&mut Attributes<'_>),
) -> Vec<u8> {
    let kind = ((libc::NFNL_SUBSYS_NFTABLES << 8) | kind) as u16;
    let mut bytes = Vec::new();
    append(&mut bytes, kind, 0, sequence, family.number(), 0, attributes);
    bytes
}

/// struct nlmsghdr, struct nfgenmsg (family, version 0, resource in network order), attributes.
fn append(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    attributes: impl FnOnce(&mut Attributes<'_>),
) {
    let start = bytes.len();
    bytes.extend([0; 4]);
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    debug_assert_eq!(bytes.len(), start + HEADER);
    bytes.extend([family, libc::NFNETLINK_V0 as u8]);
    bytes.extend(resource.to_be_bytes());
    attributes(&mut Attributes(bytes));
    let length =
        u32::try_from(bytes.len() - start).expect("a batch is bounded by its socket's buffer");
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Attributes under construction: length, type, value, padded to four bytes.
#[derive(Debug)]
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("values are short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.pad();
    }

    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A string with its terminating zero.
    pub(super) fn string(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// An attribute made of attributes, less than 64 KiB of them.
    pub(super) fn nest(&mut self, kind: u16, content: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend((kind | libc::NLA_F_NESTED as u16).to_ne_bytes());
        content(&mut Attributes(self.0));
        let length = u16::try_from(self.0.len() - start).expect("lists are cut into pieces");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// The value of the first attribute of a kind; nothing if there is none or the bytes are no attributes.
pub(super) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    while let Some(&[a, b, c, d]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([c, d]) & libc::NLA_TYPE_MASK as u16 == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by hand from the headers.
    #[test]
    fn a_batch_is_framed_numbered_and_acknowledged_once() {
        let mut batch = Batch::new(7);
        batch
            .message(libc::NFT_MSG_DELTABLE, Family::Inet, 0, |table| table.string(1, "wackamole"));

        let (bytes, last, next) = batch.finish();

        assert_eq!((last, next), (8, 10));
        let expected: [&[u8]; 3] = [
            &[20, 0, 0, 0, 0x10, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
            &[
                36, 0, 0, 0, 2, 10, 5, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, // acknowledged
                14, 0, 1, 0, b'w', b'a', b'c', b'k', b'a', b'm', b'o', b'l', b'e', 0, 0, 0,
            ],
            &[20, 0, 0, 0, 0x11, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn attributes_are_found_at_any_place_and_in_no_garbage() {
        let mut bytes = Vec::new();
        Attributes(&mut bytes).bytes(3, &[1, 2, 3]);
        Attributes(&mut bytes).nest(5, |inner| inner.u64(1, 0x0102_0304_0506_0708));

        assert_eq!(find(&bytes, 3), Some(&[1, 2, 3][..]));
        let inner = find(&bytes, 5).unwrap();
        assert_eq!(find(inner, 1), Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]));
        assert_eq!(find(&bytes, 1), None);
        assert_eq!(find(&bytes[..9], 5), None, "cut off");
        assert_eq!(find(&[0; 32], 5), None, "a length of zero");
    }
}
