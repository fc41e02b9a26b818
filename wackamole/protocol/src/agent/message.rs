//! What agents tell each other: states with an accept, the coordinator's decision with an install, and messages within a
//! view.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use crate::event::Reason;
use crate::id::NodeId;
use crate::vip::VipId;

/// A set of small numbers as a bitmap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bits(Vec<u8>);

impl Bits {
    pub(crate) fn insert(&mut self, index: usize) {
        if self.0.len() <= index / 8 {
            self.0.resize(index / 8 + 1, 0);
        }
        self.0[index / 8] |= 1 << (index % 8);
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        self.0.get(index / 8).is_some_and(|byte| byte & 1 << (index % 8) != 0)
    }
}

/// Which VIPs the positions of a list mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VipList {
    /// All configured VIPs in the order of their ids, for whoever has a configuration with this fingerprint.
    Fingerprint(u64),
    /// These, in ascending order.
    Listed(Vec<VipId>),
}

/// What a member tells with its accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberState {
    pub(crate) fingerprint: u64,
    /// Fingerprint only if it is the proposer's too.
    pub(crate) vips: VipList,
    pub(crate) weight: u32,
    pub(crate) mature: bool,
    /// Has been in a view with a mature member: the cluster was in service before.
    pub(crate) saw_mature: bool,
    pub(crate) draining: bool,
    /// Our kernel answers for it, or may.
    pub(crate) held: Bits,
    /// We could not hold it recently.
    pub(crate) unable: Bits,
    /// Positions with a list of preferred machines.
    pub(crate) preferred: Vec<(u32, Vec<NodeId>)>,
}

/// A member as the coordinator knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberInfo {
    pub(crate) id: NodeId,
    pub(crate) weight: u32,
    pub(crate) mature: bool,
    pub(crate) draining: bool,
    pub(crate) fingerprint: u64,
}

/// The fate of one VIP at an install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Position of the owner among the decision's members.
    pub(crate) owner: Option<u8>,
    pub(crate) reason: Reason,
    /// Positions of those whose kernels answered for it, or might have, when they accepted.
    pub(crate) holders: Vec<u8>,
}

/// What the coordinator decides when a view is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub(crate) vips: VipList,
    pub(crate) members: Vec<MemberInfo>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// A message within a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AgentMessage {
    /// To the coordinator: something about the sender changed.
    Report(Report),
    /// From the coordinator: a later assignment in the same view.
    Update(Update),
    /// To everybody: what the sender's kernel answers for.
    Holding(Holding),
}

/// What may change about a member within a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) mature: bool,
    pub(crate) draining: bool,
    pub(crate) unable: BTreeSet<VipId>,
}

/// Moves decided within a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Update {
    /// Grows by one with each update of a view.
    pub(crate) number: u64,
    pub(crate) members: Vec<MemberInfo>,
    pub(crate) changes: Vec<Change>,
}

/// One VIP gets another owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) vip: VipId,
    /// Who has it and will hand it over.
    pub(crate) from: Option<NodeId>,
    pub(crate) to: NodeId,
    pub(crate) reason: Reason,
}

/// What happened to the sender's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// The last update that the sender had followed by then.
    pub(crate) number: u64,
    pub(crate) acquired: Vec<VipId>,
    pub(crate) released: Vec<HandedOver>,
    /// The sender owns them and has the permission, and cannot use it: somebody else may be given it.
    pub(crate) declined: Vec<VipId>,
}

/// A confirmed release. It is the permission to acquire, for exactly one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandedOver {
    pub(crate) vip: VipId,
    /// Who may acquire now, as far as the sender's release is concerned.
    pub(crate) next: Option<NodeId>,
    /// The sender held it, or knew that nobody did. If not, it only passes on that it was to acquire it, and somebody that it
    /// has not heard of may answer for it still.
    pub(crate) clear: bool,
}
