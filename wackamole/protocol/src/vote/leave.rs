//! What a node does with its vote when it leaves.

use std::collections::BTreeSet;

use crate::id::NodeId;

use super::record::{Proxy, Record};

/// The record of a node that leaves and gives its vote, and those that it was given, to the first of its primary view
/// among those who remain, as far as the caller knows: what is given to the dead is lost until they are back. It must be on the disk before anybody is told; who is told [learns](Record::learn) it whole.
///
/// `None` if there is no vote to give, or nobody to give it to. Then the leave says nothing of votes.
///
/// The receiver inherits more than the vote: the leaver's promises. For as long as the leaver might have promised not to
/// accept a view without some node, the receiver must not either.
pub fn leave(mine: &Record, me: NodeId, remaining: &BTreeSet<NodeId>) -> Option<Record> {
    let primary = mine.primary.as_ref().filter(|_| mine.voice)?;
    let may_have = |node: &NodeId| *node != me && remaining.contains(node);
    let to = match mine.proxies.get(&me) {
        // What was given away stays where it is; what came since can only follow it.
        Some(earlier) => Some(earlier.to).filter(may_have),
        None => {
            let mut heirs = primary.voters.iter().copied().filter(may_have);
            heirs.find(|node| !mine.proxies.contains_key(node))
        }
    }?;
    let mut record = mine.clone();
    // What it has not accepted by then it never will, or its vote would be in two places.
    record.accepted = mine.highest();
    record.proxies.insert(me, Proxy { to, up_to: record.accepted });
    Some(record)
}
