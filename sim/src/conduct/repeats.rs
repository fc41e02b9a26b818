//! A datagram that comes a second time is refused (docs/protocol.md, "Datagram").

use wackamole_protocol::event::Event;

use super::Breach;

/// So many are remembered, roughly the last ones.
const REMEMBERED: usize = 4_096;

#[derive(Debug)]
pub(super) struct Repeats {
    /// Beginnings of the tags of those that came, each in the place that it names itself, instead of the one that was there before.
    /// Two datagrams with one tag are the same one.
    seen: Vec<u64>,
    /// How many have come again since the loop last slept, and how many were refused, for whatever reason.
    again: usize,
    refused: usize,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { seen: vec![0; REMEMBERED], again: 0, refused: 0 }
    }
}

impl Repeats {
    pub(super) fn came(&mut self, tag: u64) {
        let place = &mut self.seen[tag as usize % REMEMBERED];
        self.again += usize::from(*place == tag);
        *place = tag;
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.refused += usize::from(matches!(event, Event::Rejected { .. }));
    }

    pub(super) fn rest(&mut self) -> Option<Breach> {
        let (again, refused) = (std::mem::take(&mut self.again), std::mem::take(&mut self.refused));
        (refused < again).then_some(Breach::Repeated { again, refused })
    }
}
