//! Under `partition = "quorum"` whoever has accepted a primary view that was formed keeps it on its disk, until it knows of a later
//! one (docs/protocol.md, "Votes"): whose vote counts for two views has remembered the first when it gave it to the second.

use std::collections::{BTreeMap, BTreeSet};

use wackamole_protocol::event::Event;
use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::vote::Record;

use super::Breach;

/// So many views are remembered.
const VIEWS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Memory {
    on: bool,
    /// An operator has decided who is primary: from then on what others have formed binds nobody who knows of it.
    forced: bool,
    /// Primary views that somebody has installed.
    formed: BTreeSet<ViewId>,
    /// What each machine has accepted.
    accepted: BTreeMap<NodeId, BTreeSet<ViewId>>,
    /// What each machine has put on its disk last.
    records: BTreeMap<NodeId, Record>,
}

impl Memory {
    pub(super) fn watch(&mut self, on: bool) {
        self.on = on;
    }

    pub(super) fn lost(&mut self, node: NodeId) {
        self.accepted.remove(&node);
        self.records.remove(&node);
    }

    pub(super) fn event(&mut self, me: NodeId, event: &Event) -> Option<Breach> {
        match event {
            Event::Accepted { ballot } => {
                let accepted = self.accepted.entry(me).or_default();
                accepted.insert(*ballot);
                if accepted.len() > VIEWS_MAX {
                    accepted.pop_first();
                }
            }
            Event::ViewInstalled { view, primary: true, .. } if self.on && !self.forced => {
                self.formed.insert(*view);
                if self.formed.len() > VIEWS_MAX {
                    self.formed.pop_first();
                }
                return self.records.keys().find_map(|&node| self.forgotten(node));
            }
            Event::ForcedPrimary => {
                self.forced = true;
                self.formed.clear();
            }
            _ => {}
        }
        None
    }

    /// A daemon starts, and this is on its disk: of all that it had saved, some may have been on the way there.
    pub(super) fn recalled(&mut self, me: NodeId, record: Option<&[u8]>) -> Option<Breach> {
        let read = |bytes| Record::from_bytes(bytes).unwrap_or_default();
        self.records.insert(me, record.map(read).unwrap_or_default());
        self.forgotten(me)
    }

    pub(super) fn saved(&mut self, me: NodeId, record: &[u8]) -> Option<Breach> {
        self.records.insert(me, Record::from_bytes(record).ok()?);
        self.forgotten(me)
    }

    /// A view that was formed, that a machine has accepted, and of which its disk knows nothing.
    fn forgotten(&self, node: NodeId) -> Option<Breach> {
        let (record, accepted) = (self.records.get(&node)?, self.accepted.get(&node)?);
        let known = |view: &ViewId| {
            record.primary.as_ref().is_some_and(|primary| primary.ballot >= *view)
                || record.attempts.iter().any(|attempt| attempt.ballot == *view)
        };
        let view = self.formed.intersection(accepted).find(|view| !known(view))?;
        Some(Breach::PrimaryForgotten { node, view: *view })
    }
}
