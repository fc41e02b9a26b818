//! Everything worth logging, counting or asserting: one vocabulary for logs, tests and metrics.
//!
//! Events name nodes and VIPs by id; whoever prints them knows the configured names ([`crate::names::Names`]).

use core::net::{IpAddr, SocketAddr};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use crate::id::{Incarnation, NodeId, ViewId};
use crate::mac::MacAddress;
use crate::time::Duration;
use crate::vip::VipId;

/// Why a VIP has the owner that it has. Travels with every assignment, so that each machine can log the cause (P4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Its holder keeps it.
    Kept,
    /// Nobody held it: the former holder left or failed, or the cluster has just started.
    Uncovered,
    /// A live mature member is configured to be preferred for it.
    Preferred,
    /// Several machines held it when two components met; one keeps it.
    Conflict,
    /// Moved to even out the load.
    Balance,
    /// Its holder is draining or leaving.
    Drain,
    /// Its former owner could not hold it.
    Unable,
    /// The machine that held it is in no view any more.
    NoView,
}

impl Reason {
    /// A phrase for people, to stand after "because".
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Kept => "its holder keeps it",
            Self::Uncovered => "nobody held it",
            Self::Preferred => "its preferred machine is up",
            Self::Conflict => "several machines held it when two halves met",
            Self::Balance => "the load is evened out",
            Self::Drain => "its holder is leaving",
            Self::Unable => "its owner could not hold it",
            Self::NoView => "this machine is in no view any more",
        }
    }
}

/// Why a datagram was refused. It is counted and shown, never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// Not ours: too short, no magic, or not decodable after authentication.
    Malformed,
    /// Another version of the wire format.
    Version,
    /// Another cluster on the same segment.
    OtherCluster,
    /// The authentication tag does not fit: another key, or forged.
    WrongKey,
    /// Seen before, or from an earlier incarnation.
    Replayed,
    /// A node that the configuration does not name.
    UnknownNode,
    /// Carries our own name: two machines believe they are the same node, or a loop in the network.
    OwnName,
    /// Meant for another node.
    NotForUs,
}

/// What we think of the link to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Nothing heard within the failure timeout.
    Silent,
    /// We hear the peer, it does not hear us.
    OneWay,
    /// Both ways.
    TwoWay,
}

/// Something happened that a person, a metric or a checker may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The link to a peer changed.
    Link {
        /// The peer.
        peer: NodeId,
        /// What the link is from this moment on.
        state: LinkState,
        /// For how long the peer had been silent; zero unless it fell silent.
        silent_for: Duration,
    },
    /// A peer is heard with another incarnation than before.
    PeerRestarted {
        /// The peer.
        peer: NodeId,
        /// Its new incarnation.
        incarnation: Incarnation,
    },
    /// A peer said that it has released everything and goes.
    PeerLeft {
        /// The peer.
        peer: NodeId,
    },
    /// This node proposes a view.
    Proposed {
        /// The ballot.
        ballot: ViewId,
        /// Whom it would contain.
        members: BTreeSet<NodeId>,
    },
    /// This node accepted a proposal: until the view is installed it acquires nothing.
    Accepted {
        /// The ballot.
        ballot: ViewId,
    },
    /// This node refused a proposal, or a peer refused ours.
    Refused {
        /// The ballot.
        ballot: ViewId,
        /// Who refused.
        by: NodeId,
        /// Why, for people.
        why: &'static str,
    },
    /// A view is installed.
    ViewInstalled {
        /// Its name.
        view: ViewId,
        /// Its members.
        members: BTreeSet<NodeId>,
        /// It may hold VIPs.
        primary: bool,
    },
    /// This node, by an operator's command, is the primary view, whatever others may be doing.
    ForcedPrimary,
    /// This node is in no view and holds nothing.
    ViewLost {
        /// Why, for people.
        why: &'static str,
    },
    /// Somebody in another view is in contact with a member of ours, and the two views are not one yet: what nobody of ours holds is left
    /// alone. Or that is over.
    Beside {
        /// It is so from now on.
        beside: bool,
    },
    /// A member may own VIPs from now on.
    Matured {
        /// The member.
        node: NodeId,
    },
    /// A VIP has a new owner.
    Assigned {
        /// The VIP.
        vip: VipId,
        /// Its owner, if anybody can own it.
        owner: Option<NodeId>,
        /// Whom it belonged to before.
        previous: Option<NodeId>,
        /// Why it moves.
        reason: Reason,
    },
    /// Our kernel answers for a VIP.
    Acquired {
        /// The VIP.
        vip: VipId,
        /// Why we own it.
        reason: Reason,
    },
    /// Our kernel no longer answers for a VIP.
    Released {
        /// The VIP.
        vip: VipId,
        /// To whom it goes, if we know.
        next: Option<NodeId>,
        /// Why.
        reason: Reason,
    },
    /// An address operation failed; it is tried again or given up.
    AddressFailed {
        /// The VIP.
        vip: VipId,
        /// What the kernel said.
        error: String,
        /// The VIP is given up and offered to others.
        given_up: bool,
    },
    /// An address that we hold vanished underneath us and is put back.
    AddressVanished {
        /// The VIP.
        vip: VipId,
        /// When it is put back.
        retry_in: Duration,
    },
    /// A VIP that is ours to acquire waits: somebody else answers for it on its segment.
    Occupied {
        /// The VIP.
        vip: VipId,
        /// Who.
        by: MacAddress,
    },
    /// Somebody else uses a VIP that we hold.
    Contested {
        /// The VIP.
        vip: VipId,
        /// Who.
        by: MacAddress,
        /// We let go of it: the other one's hardware address is the lower one, and it does not give way.
        yields: bool,
    },
    /// VIPs cannot be served from this machine, or can be again.
    Servable {
        /// Which.
        vips: Vec<VipId>,
        /// Why not; nothing if they can.
        why_not: Option<String>,
    },
    /// The first of the addresses that must be reached answers, or none does any more.
    Reach {
        /// Which answer.
        answering: Vec<IpAddr>,
    },
    /// A datagram was refused.
    Rejected {
        /// The sender's address as the network gives it.
        from: SocketAddr,
        /// Why.
        rejection: Rejection,
    },
    /// Our own loop ran late, so our verdicts about peers wait by as much.
    RanLate {
        /// By how much.
        late: Duration,
    },
    /// A member defines its VIPs otherwise than we do.
    ConfigurationDiffers {
        /// The member.
        node: NodeId,
    },
    /// A balance round begins.
    BalanceRound {
        /// How many VIPs move.
        moves: usize,
    },
    /// This node has handed over or released everything and told its peers.
    Left,
}
