//! What the agent is told of addresses, and what it wants done.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Event;
use crate::id::NodeId;
use crate::mac::MacAddress;
use crate::time::Duration;
use crate::vip::VipId;

/// How an address operation ended, as the reconciler reports it.
///
/// For each VIP that came into or went out of the desired set of generation *g*, exactly one `Held` or `Released` with
/// a generation of at least *g* follows sooner or later, unless it changes again; `Failed` may come in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressOutcome {
    /// The kernel answers for it.
    Held {
        /// The VIP.
        vip: VipId,
        /// The generation of the desired set for which it was acquired.
        generation: u64,
    },
    /// The kernel does not answer for it.
    Released {
        /// The VIP.
        vip: VipId,
        /// The generation of the desired set for which it was released.
        generation: u64,
    },
    /// It could not be acquired or released; it is tried again.
    Failed {
        /// The VIP.
        vip: VipId,
        /// The generation of the desired set.
        generation: u64,
        /// What the kernel said.
        error: String,
        /// Nothing of it is on this machine, and trying again is not likely to help soon: somebody else should have it.
        given_up: bool,
    },
    /// Nobody answers for it on its segment, and the node that vanished is fenced: it may be acquired.
    Cleared {
        /// The VIP.
        vip: VipId,
    },
    /// It may not be acquired: somebody answers for it, or goes first.
    Occupied {
        /// The VIP.
        vip: VipId,
        /// Who.
        by: MacAddress,
    },
    /// It is not held although it was free, and that was too long ago for another try.
    Stale {
        /// The VIP.
        vip: VipId,
    },
    /// We hold it, and somebody else uses it too, again, after we have defended it.
    Contested {
        /// The VIP.
        vip: VipId,
        /// Who.
        by: MacAddress,
        /// With which hardware address we use it.
        ours: MacAddress,
        /// We have defended it lately, to no avail.
        again: bool,
    },
    /// VIPs cannot be served from this machine, or can again.
    Servable {
        /// Which.
        vips: Vec<VipId>,
        /// Why not; nothing if they can.
        why_not: Option<String>,
    },
    /// It vanished underneath us and is put back.
    Vanished {
        /// The VIP.
        vip: VipId,
        /// When.
        retry_in: Duration,
    },
}

/// Why a VIP is not known to be free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The nodes that held it, or may have, and vanished.
    pub from: BTreeSet<NodeId>,
}

/// What the agent wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentOutput {
    /// These VIPs and no others shall be on this machine.
    Hold {
        /// Grows with each change.
        generation: u64,
        /// The whole set.
        vips: BTreeSet<VipId>,
    },
    /// Ask the segment about these; see [`crate::node::Output::Clear`].
    Clear {
        /// A prospective heir's, and whether it has rivals.
        suspected: BTreeMap<VipId, bool>,
        /// To be acquired as soon as they are clear.
        wanted: BTreeMap<VipId, Wanted>,
    },
    /// Announce these VIPs once more: an overlap was possible.
    Announce {
        /// VIPs that are held.
        vips: BTreeSet<VipId>,
    },
    /// Send to one member of the view, reliably and in order.
    Send {
        /// The member.
        to: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Something worth logging.
    Event(Event),
}
