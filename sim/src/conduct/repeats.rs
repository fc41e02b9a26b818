//! A datagram that comes a second time is refused, and one of a start of a peer that is known to be over (docs/protocol.md, "Datagram").

use std::collections::BTreeMap;

use wackamole_protocol::event::Event;
use wackamole_protocol::id::{Incarnation, NodeId};
use wackamole_protocol::wire::message::Header;

use super::Breach;

/// So many are remembered, roughly the last ones.
const REMEMBERED: usize = 4_096;

#[derive(Debug)]
pub(super) struct Repeats {
    /// Beginnings of the tags of those that came, each in the place that it names itself, instead of the one that was there before.
    /// Two datagrams with one tag are the same one.
    seen: Vec<u64>,
    /// The present start of each peer that was started anew.
    starts: BTreeMap<NodeId, Incarnation>,
    /// How many have come again since the loop last slept, and how many were refused, for whatever reason.
    again: usize,
    refused: usize,
}

impl Default for Repeats {
    fn default() -> Self {
        let starts = BTreeMap::new();
        Self { seen: vec![0; REMEMBERED], starts, again: 0, refused: 0 }
    }
}

impl Repeats {
    pub(super) fn came(&mut self, tag: u64, header: Option<&Header>) {
        let place = &mut self.seen[tag as usize % REMEMBERED];
        let over = |header: &Header| {
            self.starts.get(&header.from).is_some_and(|&present| header.incarnation < present)
        };
        self.again += usize::from(*place == tag || header.is_some_and(over));
        *place = tag;
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Rejected { .. } => self.refused += 1,
            Event::PeerRestarted { peer, incarnation } => {
                self.starts.insert(*peer, *incarnation);
            }
            _ => {}
        }
    }

    pub(super) fn rest(&mut self) -> Option<Breach> {
        let (again, refused) = (std::mem::take(&mut self.again), std::mem::take(&mut self.refused));
        (refused < again).then_some(Breach::Repeated { again, refused })
    }
}
