//! The netlink socket to nf_tables: sends a batch, and waits for what the kernel says to it as a whole.

use std::io;

use netlink_packet_core::{ErrorBuffer, NLMSG_ERROR, NetlinkBuffer};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::message::{Attributes, Batch, Family, question};

/// A batch is one datagram, and the kernel takes none that exceeds the socket's buffer: so much for some 50 000 VIPs.
const SEND_BUFFER_BYTES: usize = 8 << 20;
/// An answer is far shorter: one error for each request of a batch that is refused.
const RECEIVE_BYTES: usize = 32 << 10;
/// struct nfgenmsg, between a message's header and its attributes.
const GENERIC_HEADER: usize = 4;

/// One conversation with nf_tables. The kernel does the work inside the call that sends, so an answer is there when it
/// returns.
#[derive(Debug)]
pub(super) struct GateSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl GateSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_cap_ack(true)?;
        // Beyond the machine's limit only with CAP_NET_ADMIN; without it nothing here succeeds anyway.
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER_BYTES)?;
        }
        // To wait means that an answer was lost.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
        Ok(Self { socket, sequence: 1, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// Has the kernel carry out a batch, all of it or nothing. The error is the first that the kernel found.
    pub(super) fn commit(&mut self, build: impl FnOnce(&mut Batch)) -> io::Result<()> {
        let begin = self.sequence;
        let mut batch = Batch::new(begin);
        build(&mut batch);
        let (bytes, last, next) = batch.finish();
        self.sequence = next;
        self.send(&bytes)?;
        let mut result = Ok(());
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                let (number, error) = (message.sequence_number(), answer(&message));
                // Older ones belong to a batch that was refused as a whole before its acknowledgement was read.
                if number.wrapping_sub(begin) > last.wrapping_sub(begin) {
                    continue;
                }
                if let Some(error) = error {
                    result = result.and(Err(error));
                }
                // An error of the batch itself is told about its beginning.
                if number == last || (number == begin && result.is_err()) {
                    return result;
                }
            }
        }
    }

    /// Asks for one thing, and returns the attributes of the answer.
    pub(super) fn ask(
        &mut self,
        kind: libc::c_int,
        family: Family,
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) -> io::Result<Vec<u8>> {
        let number = self.sequence;
        self.sequence = number.wrapping_add(1);
        self.send(&question(number, kind, family, attributes))?;
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                if message.sequence_number() != number {
                    continue;
                }
                if let Some(error) = answer(&message) {
                    return Err(error);
                }
                if message.message_type() != NLMSG_ERROR {
                    let payload = message.payload();
                    return Ok(payload.get(GENERIC_HEADER..).unwrap_or_default().to_vec());
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let kernel = SocketAddr::new(0, 0);
        let sent = self.socket.send_to(bytes, &kernel, 0)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// One datagram from the kernel; what other processes send is skipped.
    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv_from(&mut self.buffer, 0) {
                Ok((_, from)) if from.port_number() == 0 => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The error in a message, if it is one and tells of one.
fn answer(message: &NetlinkBuffer<&[u8]>) -> Option<io::Error> {
    if message.message_type() != NLMSG_ERROR {
        return None;
    }
    match ErrorBuffer::new_checked(message.payload()) {
        Ok(error) => error.code().map(|c| io::Error::from_raw_os_error(c.get().saturating_neg())),
        Err(error) => Some(io::Error::other(error)),
    }
}

/// The messages of a datagram.
fn messages(datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = (message.length() as usize).next_multiple_of(4).min(rest.len());
        rest = &rest[length..];
        Some(message)
    })
}
