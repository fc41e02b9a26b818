//! The whole seam between the program and the world: network, clock, addresses with their fences, storage,
//! and who answers.
//!
//! Production implements these in `crate::io`, the simulator in its own package. Nothing else may differ between the two.
//! No trait wants `Send`: a node is one task on a current-thread runtime.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wackamole_protocol::mac::{Claim, MacAddress};
use wackamole_protocol::time::Instant;
use wackamole_protocol::vip::{Vip, VipId};

/// Datagrams between daemons. Delivery is best effort; an error means a local fault, never a lost packet.
#[allow(async_fn_in_trait)] // single-threaded by design: no Send bound wanted
pub trait Network {
    /// Sends to one address of a peer. Never waits: a full socket buffer is a lost datagram.
    ///
    /// # Errors
    /// A local fault, such as no route or no permission. The caller logs it and goes on.
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()>;

    /// Sends once to everybody in the configured multicast group. Never waits.
    ///
    /// # Errors
    /// A local fault, or no group is configured.
    fn send_group(&self, datagram: &[u8]) -> io::Result<()>;

    /// Waits for a datagram. Cancel-safe: it is either returned or still queued.
    ///
    /// # Errors
    /// A local fault; the caller logs it and calls again.
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;

    /// Takes a datagram that is already there, or `WouldBlock`. A node that was stopped for a while reads what came in
    /// meanwhile before it judges its peers.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is queued, otherwise a local fault.
    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
}

/// Monotonic time that counts suspension. It never decreases; it may jump (pause, suspend).
#[allow(async_fn_in_trait)]
pub trait Clock {
    /// The present.
    fn now(&self) -> Instant;
    /// Cancel-safe; returns at once when `at` has passed.
    async fn sleep_until(&self, at: Instant);
}

/// This machine's addresses. Work is handed over and its outcome awaited separately, because the kernel may take its
/// time and heartbeats never wait for address work.
#[allow(async_fn_in_trait)]
pub trait Addresses {
    /// Hands over a piece of work; never waits. Work on one VIP is done in the order in which it was handed over, and
    /// each piece is answered by exactly one [`AddressEvent::Done`] with its ticket.
    fn submit(&self, work: Work);

    /// Waits for what happens next. Cancel-safe.
    async fn next(&self) -> AddressEvent;

    /// Tells the fences (gate, guardian, kernel lifetimes) until when this machine may answer for VIPs. At that instant they
    /// see to it that it does not, whatever this process is doing then. Called in every loop turn in which it changed,
    /// before the work that it permits is handed over; never waits. [`Lease::None`] before anything is acquired and after
    /// everything is released.
    fn renew(&self, lease: Lease);
}

/// Until when this machine may answer for VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It may not, and does not.
    None,
    /// Until then, unless it is renewed. An instant in the past shuts the fences at once.
    Until(Instant),
}

/// What must survive a crash in mid-write: the record of votes (`partition = "quorum"`).
#[allow(async_fn_in_trait)]
pub trait Storage {
    /// Hands over a new record, which replaces the one before as a whole; never waits. Several may be under way; they are
    /// written in this order, and one that a later one overtakes may be skipped.
    fn save(&self, ticket: u64, record: Vec<u8>);

    /// Waits until a record, and every one before it, is surely on the disk, or could not be written: then it, or a later one, is tried
    /// again by itself, and what came of that is told as well. Cancel-safe.
    async fn saved(&self) -> (u64, io::Result<()>);
}

/// The addresses of `must_reach` (`partition = "quorum"`).
#[allow(async_fn_in_trait)]
pub trait Reach {
    /// Waits until other addresses answer than were told last, and returns all that do; none do at first. Never ready if
    /// none is to be asked. Cancel-safe: a change is told as long as nobody has been.
    async fn changed(&self) -> BTreeSet<IpAddr>;
}

/// A piece of address work.
#[derive(Clone, Debug)]
pub struct Work {
    /// Chosen by the caller, returned in the outcome.
    pub ticket: u64,
    /// What to do.
    pub action: Action,
}

/// What to do. Every verb is idempotent: acquiring a held address or releasing an absent one succeeds.
#[derive(Clone, Debug)]
pub enum Action {
    /// Remove the addresses that an earlier daemon of ours left behind, and nothing else.
    CleanUp,
    /// Put all addresses of the VIP on their interfaces. All or nothing: if one fails, none stays, nor one that was there
    /// before.
    Acquire(Arc<Vip>),
    /// Take all addresses of the VIP away.
    Release(Arc<Vip>),
    /// Tell the segment who answers: gratuitous ARP in request and reply form, unsolicited NA. The worker looks again
    /// whether the addresses are there before each frame, and sends nothing for those that are not.
    Announce(Arc<Vip>),
    /// Ask the segment, on the VIP's own interfaces, whether anybody answers for its addresses: an ARP probe (RFC 5227
    /// §2.1.1) or a neighbour solicitation from `::` (RFC 4862 §5.4.2) for each. Done when they are sent; answers come as
    /// [`AddressEvent::Claimed`], also a while later. Fails with [`AddressError::NothingHeard`] if it was sent and nothing at
    /// all has been heard on an interface since the VIP was probed there last: that nobody answered then says nothing.
    Probe(Arc<Vip>),
    /// Run the operator's fence command against a node that vanished, by name, and wait for it. Succeeds at once if none is
    /// configured.
    FenceNode(String),
}

/// What the worker reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressEvent {
    /// A piece of work has ended.
    Done {
        /// Its ticket.
        ticket: u64,
        /// How it ended.
        result: Result<(), AddressError>,
    },
    /// An address of a VIP that we had acquired is gone, and we did not remove it.
    Vanished(VipId),
    /// Something about the interfaces changed (carrier, up, re-created) that may let failed work succeed now.
    InterfacesChanged,
    /// Somebody else on the segment uses an address of a VIP that is held here or was probed lately. Repeated at most a
    /// few times in a heartbeat for each VIP.
    Claimed {
        /// The VIP.
        vip: VipId,
        /// Who.
        by: MacAddress,
        /// The hardware address with which we use it ourselves: of two that want the same the lower one wins. As `by` where
        /// something else decides.
        ours: MacAddress,
        /// How it is known.
        claim: Claim,
    },
    /// These VIPs cannot be served from this machine now, or can be served again: their segment shows no sign of life, or
    /// no fence stands behind this daemon. All configured VIPs can be served until something else is said.
    Servable {
        /// Which.
        vips: Vec<VipId>,
        /// Why not, for people; nothing if they can be served again.
        why_not: Option<String>,
    },
}

/// Why address work failed. After a failed acquire nothing of ours of the VIP is left on the machine, unless removing it has
/// failed as well, which [`AddressError::Other`] says. With [`AddressError::Conflict`] somebody else's address was there
/// before and stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AddressError {
    /// There is no such interface.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The address is there, but not by us.
    #[error("{0} is already on this machine and was not put there by wackamole")]
    Conflict(String),
    /// The kernel refuses.
    #[error("not permitted to change addresses; CAP_NET_ADMIN is needed")]
    NotPermitted,
    /// A probe is out, but no frame of anybody has come in since the one before.
    #[error("nothing was heard since the last probe")]
    NothingHeard,
    /// Anything else that the kernel says.
    #[error("{0}")]
    Other(String),
}
