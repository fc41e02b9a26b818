//! What the group engine says over its reliable links.

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, NodeId, ViewId};
use crate::vote::{Claim, Record};
use crate::wire::decode;

/// A member of a view: the node and which start of it.
pub(crate) type MemberKey = (NodeId, Incarnation);

/// One message of the agreement, or one of the agent's carried within a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GroupMessage {
    /// The coordinator asks for a view of these members.
    Propose {
        /// The ballot; the view's name if it is installed.
        ballot: ViewId,
        /// Whom the view would contain, the proposer included.
        members: Vec<MemberKey>,
        /// Fingerprint of the proposer's configuration, so that states can be told in its terms.
        digest: u64,
        /// For how long the proposer promises not to leave another member out, in microseconds: its failure timeout.
        promise_us: u32,
        /// The latest datagram that the proposer has heard of each other member, by its number.
        heard: Vec<(NodeId, u64)>,
        /// On what it founds its right to a primary view; nothing if the view would not be one.
        claim: Option<Claim>,
    },
    /// A member agrees, and tells its state. From here to the install it acquires nothing.
    Accept {
        /// The ballot.
        ballot: ViewId,
        /// For how long the member promises not to leave another one out, in microseconds: its failure timeout.
        promise_us: u32,
        /// The latest datagram that the member had heard of each other one when it accepted, by its number.
        heard: Vec<(NodeId, u64)>,
        /// The member's record of votes, under `partition = "quorum"`.
        record: Option<Record>,
        /// The member is in contact with somebody in another view, who would not be in this one.
        beside: bool,
        /// The agent's state, opaque here.
        state: Vec<u8>,
    },
    /// A member does not agree.
    Refuse {
        /// The ballot.
        ballot: ViewId,
        /// The highest ballot that the refuser accepted; a new attempt must be higher.
        highest: ViewId,
        /// Why.
        why: Refusal,
        /// The refuser's record of votes, so that the proposer learns.
        record: Option<Record>,
    },
    /// The view stands.
    Install {
        /// Its name.
        view: ViewId,
        /// Its members.
        members: Vec<MemberKey>,
        /// The shortest promise among them, in microseconds.
        promise_us: u32,
        /// The latest datagram of the receiver that each other member had heard when it accepted, by its number.
        heard: Vec<(NodeId, u64)>,
        /// It may hold VIPs.
        primary: bool,
        /// Some member is in contact with somebody in another view.
        beside: bool,
        /// What the coordinator's agent decided, opaque here.
        decision: Vec<u8>,
    },
    /// A member that is about to leave gives its vote away; its record says to whom.
    Vote {
        /// Its record.
        record: Record,
    },
    /// An agent's message within an installed view.
    Agent {
        /// The view; a message for another view is dropped.
        view: ViewId,
        /// The message, opaque here.
        bytes: Vec<u8>,
    },
}

/// What a whole message over a reliable link is, and which view it is about, for whoever shows what was on the wires.
/// Nothing if it is not one, or only a piece of one.
pub fn message_kind(message: &[u8]) -> Option<(&'static str, Option<ViewId>)> {
    Some(match decode(message).ok()? {
        GroupMessage::Propose { ballot, .. } => ("propose", Some(ballot)),
        GroupMessage::Accept { ballot, .. } => ("accept", Some(ballot)),
        GroupMessage::Refuse { ballot, .. } => ("refuse", Some(ballot)),
        GroupMessage::Install { view, .. } => ("install", Some(view)),
        GroupMessage::Vote { .. } => ("vote", None),
        GroupMessage::Agent { view, .. } => ("assignment and holdings in", Some(view)),
    })
}

/// Why a proposal was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// A ballot at least as high was accepted before.
    Outbid,
    /// It contains an earlier incarnation of the refuser.
    NotMe,
    /// The refuser does not hear one of the members.
    Unheard,
    /// The refuser hears a better set of members both ways.
    Better,
    /// As a primary view it cannot be voted for: the refuser's record says why.
    Votes,
    /// The refuser owes a member that would be dropped its promise for another while, and renews it no longer.
    Debt {
        /// For how long, in microseconds.
        remaining_us: u32,
    },
}

impl Refusal {
    /// For people.
    pub(crate) fn phrase(self) -> &'static str {
        match self {
            Self::Outbid => "a ballot at least as high was accepted before",
            Self::NotMe => "it names an earlier start of the refuser",
            Self::Unheard => "the refuser does not hear one of the members",
            Self::Better => "the refuser knows a better set",
            Self::Votes => "the refuser may not vote for it",
            Self::Debt { .. } => "the refuser still owes a dropped member its promise",
        }
    }
}
