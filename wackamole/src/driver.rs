//! The one loop: feeds the machines, executes their outputs. The same in production and in the simulator.
//!
//! Everything is polled here, nothing spawned: dropping the future cancels all of it, and a panic cannot be swallowed.
//! Deadlines come first in each turn, so a flood of datagrams cannot starve them, and a node that was stopped looks at its
//! own clock before it believes or sends anything.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use tokio::sync::{mpsc, oneshot};
use wackamole_protocol::event::Event;
use wackamole_protocol::node::{Destination, Node, Output};
use wackamole_protocol::status::Status;
use wackamole_protocol::time::{Deadline, Instant};

use crate::env::{
    Action, AddressError, AddressEvent, Addresses, Clock, Lease, Network, Reach, Storage, Work,
};
use crate::reconcile::Reconciler;

/// Datagrams taken in one turn before deadlines are looked at again.
const DATAGRAMS_PER_TURN: usize = 64;
/// Address outcomes taken in one turn, so that many of them are told to the peers in one message.
const OUTCOMES_PER_TURN: usize = 256;
/// Larger than any datagram that a daemon sends; the rest of a longer one is cut off, which its tag then shows.
const BUFFER: usize = 2_048;
/// The ticket of the clean-up at the start; the reconciler counts from zero.
const CLEAN_UP: u64 = u64::MAX;

/// What the control socket may ask of a running node.
#[derive(Debug)]
pub enum Command {
    /// A snapshot of what the node knows.
    Status(oneshot::Sender<Status>),
    /// This node alone shall be the primary view. Answered with whether the partition policy knows of such.
    ForcePrimary(oneshot::Sender<bool>),
}

/// Runs a node until it has left gracefully, which starts when `shutdown` is ready.
///
/// Leftovers of an earlier daemon are removed before the first heartbeat is sent. `observe` is called for every event,
/// in order. A local fault of the network is told there once per kind of error and does not end the run.
///
/// # Errors
/// The clean-up at the start failed: nothing has been sent, and nothing is held.
#[allow(clippy::too_many_arguments)] // the whole environment of a node, each part by its trait
pub async fn run(
    mut node: Node,
    network: &impl Network,
    clock: &impl Clock,
    addresses: &impl Addresses,
    storage: &impl Storage,
    reach: &impl Reach,
    commands: &mut mpsc::Receiver<Command>,
    observe: &mut impl FnMut(Instant, Observation<'_>),
    shutdown: impl Future<Output = ()>,
) -> Result<(), AddressError> {
    let meanwhile = clean_up(addresses).await?;
    let mut reconciler = Reconciler::new(node.config());
    for event in meanwhile {
        reconciler.handle_event(event, clock.now());
    }
    let mut shutdown = pin!(shutdown);
    let mut leaving = false;
    let mut commands_open = true;
    let mut buffer = [0; BUFFER];
    let mut faults = BTreeMap::new();
    let mut lease = Lease::None;
    loop {
        let now = clock.now();
        if node.poll_timeout().at <= now {
            node.handle_timeout(now);
        }
        if reconciler.poll_timeout().at <= now {
            reconciler.handle_timeout(now);
        }
        // The fences stand before anything is acquired under them.
        renew(&node, &reconciler, addresses, &mut lease);
        if execute(
            &mut node,
            &mut reconciler,
            network,
            addresses,
            storage,
            observe,
            &mut faults,
            clock,
        ) {
            addresses.renew(Lease::None);
            return Ok(());
        }
        renew(&node, &reconciler, addresses, &mut lease);
        let deadline: Deadline = node.poll_timeout().min(reconciler.poll_timeout());
        tokio::select! {
            biased;
            () = clock.sleep_until(deadline.at) => {}
            () = &mut shutdown, if !leaving => {
                leaving = true;
                node.leave(clock.now());
            }
            command = commands.recv(), if commands_open => match command {
                Some(Command::Status(reply)) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(node.status(clock.now()));
                }
                Some(Command::ForcePrimary(reply)) => {
                    let _ = reply.send(node.force_primary(clock.now()));
                }
                None => commands_open = false,
            },
            answering = reach.changed() => node.handle_reach(answering, clock.now()),
            event = addresses.next() => {
                let now = clock.now();
                reconciler.handle_event(event, now);
                for _ in 1..OUTCOMES_PER_TURN {
                    tokio::select! {
                        biased;
                        event = addresses.next() => reconciler.handle_event(event, now),
                        () = std::future::ready(()) => break,
                    }
                }
            }
            (ticket, result) = storage.saved() => match result {
                Ok(()) => node.handle_saved(ticket, clock.now()),
                Err(error) => tell_fault(
                    "store the record of votes",
                    Err(error),
                    clock.now(),
                    observe,
                    &mut faults,
                ),
            },
            received = network.recv(&mut buffer) => {
                receive(&mut node, network, clock, &mut buffer, received, observe, &mut faults);
            }
        }
    }
}

/// What the observer is told.
#[derive(Debug)]
pub enum Observation<'a> {
    /// The node says that something happened.
    Event(&'a Event),
    /// The network of this machine does not do what it should.
    NetworkFault {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        error: &'a io::Error,
    },
}

/// Faults that have been told, by action and kind, so that a dead interface does not fill the log.
type Faults = BTreeMap<&'static str, io::ErrorKind>;

/// Returns what was reported meanwhile, such as VIPs that cannot be served.
async fn clean_up(addresses: &impl Addresses) -> Result<Vec<AddressEvent>, AddressError> {
    addresses.submit(Work { ticket: CLEAN_UP, action: Action::CleanUp });
    let mut meanwhile = Vec::new();
    loop {
        match addresses.next().await {
            AddressEvent::Done { ticket: CLEAN_UP, result } => return result.map(|()| meanwhile),
            other => meanwhile.push(other),
        }
    }
}

/// Takes the datagram that woke us and those behind it, up to a bound.
fn receive(
    node: &mut Node,
    network: &impl Network,
    clock: &impl Clock,
    buffer: &mut [u8],
    first: io::Result<(usize, SocketAddr)>,
    observe: &mut impl FnMut(Instant, Observation<'_>),
    faults: &mut Faults,
) {
    let mut received = first;
    for _ in 0..DATAGRAMS_PER_TURN {
        match received {
            Ok((length, from)) => node.handle_datagram(from, &buffer[..length], clock.now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                tell_fault("receive", Err(error), clock.now(), observe, faults);
                return;
            }
        }
        // A deadline that has come waits for no datagram.
        if node.poll_timeout().at <= clock.now() {
            return;
        }
        received = network.try_recv(buffer);
    }
}

/// Tells the fences of a lease that changed. While anything of ours is on this machine and the node has no lease, they
/// keep the last one: it ends by itself.
fn renew(node: &Node, reconciler: &Reconciler, addresses: &impl Addresses, last: &mut Lease) {
    let lease = match node.lease() {
        Some(until) => Lease::Until(until),
        None if reconciler.is_empty() => Lease::None,
        None => return,
    };
    if lease != *last {
        *last = lease;
        addresses.renew(lease);
    }
}

/// Carries out what the machines want. Returns whether the node has left.
#[allow(clippy::too_many_arguments)] // see `run`
fn execute(
    node: &mut Node,
    reconciler: &mut Reconciler,
    network: &impl Network,
    addresses: &impl Addresses,
    storage: &impl Storage,
    observe: &mut impl FnMut(Instant, Observation<'_>),
    faults: &mut Faults,
    clock: &impl Clock,
) -> bool {
    let now = clock.now();
    loop {
        while let Some(output) = node.poll_output() {
            match output {
                Output::Transmit { to: Destination::Peer(to), datagram } => {
                    tell_fault("send", network.send(to, &datagram), now, observe, faults);
                }
                Output::Transmit { to: Destination::Group, datagram } => {
                    let sent = network.send_group(&datagram);
                    tell_fault("send to the multicast group", sent, now, observe, faults);
                }
                Output::Hold { generation, vips } => {
                    reconciler.handle_desired(generation, &vips, now);
                }
                Output::Clear { suspected, wanted } => {
                    reconciler.handle_clearing(&suspected, &wanted, now);
                }
                Output::Save { ticket, record } => storage.save(ticket, record),
                Output::Announce { vips } => reconciler.announce_again(&vips, now),
                Output::Event(event) => observe(now, Observation::Event(&event)),
                Output::Left => return true,
            }
        }
        while let Some(work) = reconciler.poll_work() {
            addresses.submit(work);
        }
        let mut outcomes = std::iter::from_fn(|| reconciler.poll_outcome()).peekable();
        if outcomes.peek().is_none() {
            return false;
        }
        node.handle_addresses(outcomes, now);
    }
}

fn tell_fault(
    action: &'static str,
    result: io::Result<()>,
    now: Instant,
    observe: &mut impl FnMut(Instant, Observation<'_>),
    faults: &mut Faults,
) {
    match result {
        Ok(()) => {
            faults.remove(action);
        }
        Err(error) => {
            if faults.insert(action, error.kind()) != Some(error.kind()) {
                observe(now, Observation::NetworkFault { action, error: &error });
            }
        }
    }
}
