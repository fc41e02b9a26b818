//! The machines of one daemon, joined: inputs in, effects out, at instants that the caller names. Pure: the loop feeds them
//! with the world, a replay with a record of it, and both get the same effects.
//!
//! Contract: any number of [`Machines::take`], then [`Machines::turn`], then wait until [`Machines::poll_timeout`] at most.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use wackamole_protocol::event::Event;
use wackamole_protocol::node::{Destination, Node, Output};
use wackamole_protocol::status::Status;
use wackamole_protocol::time::{Deadline, Instant};

use crate::env::{AddressEvent, Lease, Work};
use crate::reconcile::Reconciler;

/// What the world tells a daemon. With the instants at which it came and those of the turns, it determines every effect.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A datagram has come.
    Datagram {
        /// The sender's address as the network gives it.
        from: SocketAddr,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The worker reports.
    Address(AddressEvent),
    /// The record of votes with this ticket is safe.
    Saved(u64),
    /// These of the addresses that must be reached answer, and no others.
    Reach(BTreeSet<IpAddr>),
    /// An operator declares this node alone to be the primary view.
    ForcePrimary,
    /// The daemon shall leave.
    Leave,
}

/// What the machines want done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Tell the fences.
    Renew(Lease),
    /// Send a datagram.
    Transmit {
        /// Where to.
        to: Destination,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// Hand work to the worker.
    Submit(Work),
    /// Put a record of votes on the disk.
    Save {
        /// Comes back with [`Input::Saved`].
        ticket: u64,
        /// The record.
        record: Vec<u8>,
    },
    /// Something worth logging.
    Event(Event),
}

/// A node has left its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The kernel has confirmed every release, and the peers know. If not, addresses may be on this machine, and the fences must
    /// go on.
    pub released: bool,
}

/// A node and its reconciler.
pub struct Machines {
    node: Node,
    reconciler: Reconciler,
    /// What the fences were told last.
    lease: Lease,
}

impl Machines {
    /// Around a node that has just been made.
    pub fn new(node: Node) -> Self {
        let reconciler = Reconciler::new(node.config());
        Self { node, reconciler, lease: Lease::None }
    }

    /// Takes an input.
    pub fn take(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Datagram { from, bytes } => self.node.handle_datagram(from, bytes, now),
            Input::Address(event) => self.reconciler.handle_event(event, now),
            Input::Saved(ticket) => self.node.handle_saved(ticket, now),
            Input::Reach(answering) => self.node.handle_reach(answering, now),
            Input::ForcePrimary => drop(self.force_primary(now)),
            Input::Leave => self.node.leave(now),
        }
    }

    /// Takes [`Input::ForcePrimary`], and returns whether that means anything under this partition policy.
    pub fn force_primary(&mut self, now: Instant) -> bool {
        self.node.force_primary(now)
    }

    /// Does what is due, and has `act` carry out what all inputs since the last turn have led to. Once the node has left
    /// nothing may follow.
    pub fn turn(&mut self, now: Instant, act: &mut impl FnMut(Effect)) -> Option<Left> {
        if self.node.poll_timeout().at <= now {
            self.node.handle_timeout(now);
        }
        if self.reconciler.poll_timeout().at <= now {
            self.reconciler.handle_timeout(now);
        }
        // The fences stand before anything is acquired under them.
        self.renew(act);
        let left = self.execute(now, act);
        match left {
            Some(Left { released: true }) => act(Effect::Renew(Lease::None)),
            Some(Left { released: false }) => {}
            None => self.renew(act),
        }
        left
    }

    /// When the next turn is due.
    pub fn poll_timeout(&self) -> Deadline {
        self.node.poll_timeout().min(self.reconciler.poll_timeout())
    }

    /// Whether the node itself has something to do by now; it then waits for no further input.
    pub fn is_due(&self, now: Instant) -> bool {
        self.node.poll_timeout().at <= now
    }

    /// A snapshot of what the node knows.
    pub fn status(&self, now: Instant) -> Status {
        self.node.status(now)
    }

    /// Tells the fences of a lease that changed. While anything of ours is on this machine and the node has no lease, they
    /// keep the last one: it ends by itself.
    fn renew(&mut self, act: &mut impl FnMut(Effect)) {
        let lease = match self.node.lease() {
            Some(until) => Lease::Until(until),
            None if self.reconciler.is_empty() => Lease::None,
            None => return,
        };
        if lease != self.lease {
            self.lease = lease;
            act(Effect::Renew(lease));
        }
    }

    /// Carries out what the machines want, until the node has left.
    fn execute(&mut self, now: Instant, act: &mut impl FnMut(Effect)) -> Option<Left> {
        loop {
            let Self { node, reconciler, .. } = self;
            while let Some(output) = node.poll_output() {
                match output {
                    Output::Transmit { to, datagram } => act(Effect::Transmit { to, datagram }),
                    Output::Hold { generation, vips } => {
                        reconciler.handle_desired(generation, &vips, now);
                    }
                    Output::Clear { suspected, wanted } => {
                        reconciler.handle_clearing(&suspected, &wanted, now);
                    }
                    Output::Save { ticket, record } => act(Effect::Save { ticket, record }),
                    Output::Announce { vips } => reconciler.announce_again(&vips, now),
                    Output::Event(event) => act(Effect::Event(event)),
                    Output::Left { released } => return Some(Left { released }),
                }
            }
            // What has just become ours to acquire may be the first, and there was no lease to tell before.
            self.renew(act);
            let Self { node, reconciler, .. } = self;
            while let Some(work) = reconciler.poll_work() {
                act(Effect::Submit(work));
            }
            let mut outcomes = std::iter::from_fn(|| reconciler.poll_outcome()).peekable();
            outcomes.peek()?;
            node.handle_addresses(outcomes, now);
        }
    }
}
