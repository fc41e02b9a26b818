//! Where a fence command is configured nothing is taken over from a node that vanished before the command has worked against it
//! (docs/protocol.md, "Clearing").

use std::collections::{BTreeMap, BTreeSet};

use wackamole::env::{Action, AddressEvent, Work};
use wackamole_protocol::event::Event;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::vip::VipId;

use super::Breach;

/// What one start of a daemon owes.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    on: bool,
    /// The members of the view.
    members: BTreeSet<NodeId>,
    /// Those starts of peers that have said that nothing of them is left.
    left: BTreeSet<NodeId>,
    /// Who has left or was fenced since it was a member last.
    harmless: BTreeSet<NodeId>,
    /// From whom a VIP of ours is taken over.
    from: BTreeMap<VipId, NodeId>,
    /// Commands under way.
    running: BTreeMap<u64, NodeId>,
}

impl Fencing {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    pub(super) fn event(&mut self, me: NodeId, event: &Event) {
        match event {
            Event::PeerLeft { peer } => {
                self.left.insert(*peer);
                self.harmless.insert(*peer);
            }
            Event::PeerRestarted { peer, .. } => {
                self.left.remove(peer);
            }
            Event::ViewInstalled { members, .. } => {
                self.members.clone_from(members);
                self.harmless.retain(|node| !members.contains(node));
                self.from.retain(|_, former| !members.contains(former));
            }
            Event::ViewLost { .. } => self.from.clear(),
            Event::Assigned { vip, owner, previous, .. } => {
                let vanished = previous
                    .filter(|former| *former != me && !self.members.contains(former))
                    .filter(|_| *owner == Some(me));
                match vanished {
                    Some(former) => self.from.insert(*vip, former),
                    None => self.from.remove(vip),
                };
            }
            _ => {}
        }
    }

    pub(super) fn submitted(&mut self, work: &Work) -> Option<Breach> {
        match &work.action {
            Action::FenceNode(name) => {
                self.running.insert(work.ticket, NodeId::from_name(name));
                None
            }
            Action::Acquire(vip) if self.on => {
                let former = self.from.remove(&vip.id())?;
                let breach = Breach::TakenFromTheUnfenced { vip: vip.id(), former };
                let harmless = self.left.contains(&former) || self.harmless.contains(&former);
                (!harmless).then_some(breach)
            }
            _ => None,
        }
    }

    pub(super) fn reported(&mut self, event: &AddressEvent) {
        if let AddressEvent::Done { ticket, result } = event
            && let Some(node) = self.running.remove(ticket)
            && result.is_ok()
            && !self.members.contains(&node)
        {
            self.harmless.insert(node);
        }
    }
}
