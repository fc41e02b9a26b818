//! The one loop: feeds the machines, executes their outputs. The same in production and in the simulator.
//!
//! Everything is polled here, nothing spawned: dropping the future cancels all of it, and a panic cannot be swallowed.
//! Deadlines come first in each turn, so a flood of datagrams cannot starve them, and a node that was stopped looks at its
//! own clock before it believes or sends anything.

mod machines;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use tokio::sync::{mpsc, oneshot};
use wackamole_protocol::event::Event;
use wackamole_protocol::node::{Destination, Node};
use wackamole_protocol::status::Status;
use wackamole_protocol::time::Instant;

use crate::env::{
    Action, AddressError, AddressEvent, Addresses, Clock, Network, Reach, Storage, Work,
};
pub use machines::{Effect, Input, Left, Machines};

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
    /// This node alone shall be the primary view.
    ForcePrimary {
        /// Not from this instant on: whoever asks has been told by then that it is not done.
        until: Instant,
        /// What has come of it.
        reply: oneshot::Sender<Forced>,
    },
}

/// What has come of [`Command::ForcePrimary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// It is done.
    Done,
    /// The partition policy knows of no primary view.
    Meaningless,
    /// It is too late.
    TooLate,
}

/// Runs a node until it has left gracefully, which starts when `shutdown` is ready. Says whether everything is released.
///
/// Leftovers of an earlier daemon are removed before the first heartbeat is sent. `observe` is told in order of every turn,
/// input, effect and event. A local fault of the network is told there once per kind of error and does not end the run.
///
/// # Errors
/// The clean-up at the start failed: nothing has been sent, and nothing is held.
#[allow(clippy::too_many_arguments)] // the whole environment of a node, each part by its trait
pub async fn run(
    node: Node,
    network: &impl Network,
    clock: &impl Clock,
    addresses: &impl Addresses,
    storage: &impl Storage,
    reach: &impl Reach,
    commands: &mut mpsc::Receiver<Command>,
    observe: &mut impl FnMut(Instant, Observation<'_>),
    shutdown: impl Future<Output = ()>,
) -> Result<Left, AddressError> {
    let meanwhile = clean_up(addresses).await?;
    let mut machines = Machines::new(node);
    for event in meanwhile {
        feed(&mut machines, Input::Address(event), clock.now(), observe);
    }
    let mut shutdown = pin!(shutdown);
    let mut leaving = false;
    let mut commands_open = true;
    let mut buffer = [0; BUFFER];
    let mut faults = BTreeMap::new();
    loop {
        let now = clock.now();
        observe(now, Observation::Turn);
        let left = machines.turn(now, &mut |effect| {
            carry_out(effect, now, network, addresses, storage, observe, &mut faults);
        });
        if let Some(left) = left {
            return Ok(left);
        }
        observe(now, Observation::Rest);
        let deadline = machines.poll_timeout();
        tokio::select! {
            biased;
            () = clock.sleep_until(deadline.at) => {}
            () = &mut shutdown, if !leaving => {
                leaving = true;
                feed(&mut machines, Input::Leave, clock.now(), observe);
            }
            command = commands.recv(), if commands_open => match command {
                Some(Command::Status(reply)) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(machines.status(clock.now()));
                }
                Some(Command::ForcePrimary { until, reply }) => {
                    let _ = reply.send(force_primary(&mut machines, until, clock.now(), observe));
                }
                None => commands_open = false,
            },
            answering = reach.changed() => {
                feed(&mut machines, Input::Reach(answering), clock.now(), observe);
            }
            event = addresses.next() => {
                let now = clock.now();
                feed(&mut machines, Input::Address(event), now, observe);
                for _ in 1..OUTCOMES_PER_TURN {
                    tokio::select! {
                        biased;
                        event = addresses.next() => {
                            feed(&mut machines, Input::Address(event), now, observe);
                        }
                        () = std::future::ready(()) => break,
                    }
                }
            }
            (ticket, result) = storage.saved() => {
                let now = clock.now();
                if result.is_ok() {
                    feed(&mut machines, Input::Saved(ticket), now, observe);
                }
                tell_fault("store the record of votes", result, now, observe, &mut faults);
            }
            received = network.recv(&mut buffer) => {
                receive(&mut machines, network, clock, &mut buffer, received, observe, &mut faults);
            }
        }
    }
}

fn force_primary(
    machines: &mut Machines,
    until: Instant,
    now: Instant,
    observe: &mut impl FnMut(Instant, Observation<'_>),
) -> Forced {
    if now >= until {
        return Forced::TooLate;
    }
    observe(now, Observation::Input(&Input::ForcePrimary));
    match machines.force_primary(now) {
        true => Forced::Done,
        false => Forced::Meaningless,
    }
}

/// What the observer is told. With the instants, the turns and the inputs make up the whole of what the machines are told.
#[derive(Debug)]
pub enum Observation<'a> {
    /// A turn begins: what is due is done, and the effects of all inputs since the last one follow.
    Turn,
    /// The machines are about to take an input.
    Input(&'a Input<'a>),
    /// An effect other than an event is about to be carried out.
    Effect(&'a Effect),
    /// The node says that something happened.
    Event(&'a Event),
    /// The turn has ended, and the loop sleeps until something comes.
    Rest,
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
    machines: &mut Machines,
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
            Ok((length, from)) => {
                let input = Input::Datagram { from, bytes: &buffer[..length] };
                feed(machines, input, clock.now(), observe);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                tell_fault("receive", Err(error), clock.now(), observe, faults);
                return;
            }
        }
        // A deadline that has come waits for no datagram.
        if machines.is_due(clock.now()) {
            return;
        }
        received = network.try_recv(buffer);
    }
}

fn feed(
    machines: &mut Machines,
    input: Input<'_>,
    now: Instant,
    observe: &mut impl FnMut(Instant, Observation<'_>),
) {
    observe(now, Observation::Input(&input));
    machines.take(input, now);
}

fn carry_out(
    effect: Effect,
    now: Instant,
    network: &impl Network,
    addresses: &impl Addresses,
    storage: &impl Storage,
    observe: &mut impl FnMut(Instant, Observation<'_>),
    faults: &mut Faults,
) {
    match &effect {
        Effect::Event(event) => observe(now, Observation::Event(event)),
        other => observe(now, Observation::Effect(other)),
    }
    match effect {
        Effect::Transmit { to: Destination::Peer(to), datagram } => {
            tell_fault("send", network.send(to, &datagram), now, observe, faults);
        }
        Effect::Transmit { to: Destination::Group, datagram } => {
            let sent = network.send_group(&datagram);
            tell_fault("send to the multicast group", sent, now, observe, faults);
        }
        Effect::Renew(lease) => addresses.renew(lease),
        Effect::Submit(work) => addresses.submit(work),
        Effect::Save { ticket, record } => storage.save(ticket, record),
        Effect::Event(_) => {}
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
