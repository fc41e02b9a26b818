//! Echo requests and the replies to them: RFC 792, RFC 4443 §4. Pure: bytes only.

use core::net::IpAddr;

/// What a request carries and its reply must bring back, so that somebody else's replies are not taken for ours.
pub type Nonce = [u8; 8];

/// Length of a request, and of its reply without an IP header.
pub const MESSAGE_BYTES: usize = 16;

const V4_REPLY: u8 = 0;
const V4_REQUEST: u8 = 8;
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;
const IPV4_HEADER_BYTES_MIN: usize = 20;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Who asks: one number for each socket.
    pub identifier: u16,
    /// Which request it is.
    pub sequence: u16,
    /// Comes back as it is.
    pub nonce: Nonce,
}

impl Echo {
    /// The message to send to `to`. The checksum of ICMPv6 is left to the kernel, which knows the source (RFC 3542 §3.1).
    pub fn request(&self, to: IpAddr) -> [u8; MESSAGE_BYTES] {
        let mut message = [0; MESSAGE_BYTES];
        message[0] = if to.is_ipv4() { V4_REQUEST } else { V6_REQUEST };
        message[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        message[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        message[8..].copy_from_slice(&self.nonce);
        if to.is_ipv4() {
            let checksum = checksum(&message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        message
    }

    /// What a raw socket received from `from`, if it is a whole echo reply. Over IPv4 it begins with the IP header and nobody
    /// has looked at the checksum (raw(7)); over IPv6 the kernel has (RFC 3542 §3).
    pub fn reply(from: IpAddr, packet: &[u8]) -> Option<Self> {
        let (message, reply) = if from.is_ipv4() {
            let header = usize::from(*packet.first()? & 0x0f) * 4;
            let message = packet.get(header.max(IPV4_HEADER_BYTES_MIN)..)?;
            if checksum(message) != 0 {
                return None;
            }
            (message, V4_REPLY)
        } else {
            (packet, V6_REPLY)
        };
        let [kind, 0, _, _, i0, i1, s0, s1, nonce @ ..] = message else { return None };
        Some(Self {
            identifier: u16::from_be_bytes([*i0, *i1]),
            sequence: u16::from_be_bytes([*s0, *s1]),
            nonce: Nonce::try_from(nonce).ok().filter(|_| *kind == reply)?,
        })
    }
}

/// The Internet checksum, RFC 1071; zero over a message that contains the right one.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u16::from_be_bytes([high, low]),
        [high, ..] => u16::from_be_bytes([high, 0]),
        [] => 0,
    });
    let mut sum = words.map(u32::from).fold(0_u32, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Echo = Echo { identifier: 0x1234, sequence: 7, nonce: *b"nonce-01" };

    fn v4() -> IpAddr {
        [192, 0, 2, 1].into()
    }

    fn v6() -> IpAddr {
        [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()
    }

    /// As the other end answers: the type changes, and the checksum with it.
    fn answered(to: IpAddr) -> Vec<u8> {
        let mut message = ECHO.request(to);
        if to.is_ipv6() {
            message[0] = 129;
            return message.to_vec();
        }
        message[0] = 0;
        message[2..4].fill(0);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0; 24]; // with an option of four bytes
        packet[0] = 0x46;
        packet.extend_from_slice(&message);
        packet
    }

    #[test]
    fn a_request_is_as_the_rfc_has_it() {
        let message = ECHO.request(v4());
        assert_eq!(message[..2], [8, 0]);
        assert_eq!(message[4..8], [0x12, 0x34, 0, 7]);
        assert_eq!(checksum(&message), 0);
        assert_eq!(ECHO.request(v6())[..4], [128, 0, 0, 0]);
        // RFC 1071 §3, the example: the sum is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn a_reply_brings_back_what_was_sent() {
        for address in [v4(), v6()] {
            assert_eq!(Echo::reply(address, &answered(address)), Some(ECHO));
        }
    }

    #[test]
    fn what_is_no_reply_is_not_taken_for_one() {
        for address in [v4(), v6()] {
            let packet = answered(address);
            for length in 0..packet.len() {
                assert_eq!(Echo::reply(address, &packet[..length]), None, "{length}");
            }
            let longer = [&packet[..], &[0, 0]].concat();
            assert_eq!(Echo::reply(address, &longer), None);
            let mut request = packet.clone();
            let at = packet.len() - MESSAGE_BYTES;
            request[at..].copy_from_slice(&ECHO.request(address));
            assert_eq!(Echo::reply(address, &request), None, "our own, over loopback");
        }
        let mut altered = answered(v4());
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(Echo::reply(v4(), &altered), None, "the checksum tells");
    }
}
