//! Links of the heartbeat path that work in one direction only, or not at all between two that somebody else joins: whoever has some
//! may be in no view because of them.

use wackamole_protocol::time::Duration;

use super::Segment;

/// Those of one machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneWay {
    /// It has some.
    pub now: bool,
    /// It has had some all the time since its daemon was started.
    pub since_start: bool,
    /// When that was over.
    pub over_at: Option<Duration>,
}

impl OneWay {
    pub(super) fn daemon_starts(&mut self) {
        *self = Self { since_start: self.now, over_at: None, ..*self };
    }

    fn look(&mut self, odd: bool, now: Duration) {
        self.now = odd;
        if !odd && std::mem::take(&mut self.since_start) {
            self.over_at = Some(now);
        }
    }
}

impl Segment {
    /// Takes note of who has such links; to be called when the wires have changed.
    pub fn note_one_way(&mut self, now: Duration) {
        for node in 0..self.links.nodes() {
            let links = &self.links;
            let joined = |other: usize| {
                (0..links.nodes()).any(|z| links.two_way(node, z) && links.two_way(z, other))
            };
            let odd = |other: usize| {
                links.reaches(node, other) != links.reaches(other, node)
                    || !links.two_way(node, other) && joined(other)
            };
            let odd = (0..links.nodes()).filter(|&other| other != node).any(odd);
            self.one_way[node].look(odd, now);
        }
    }
}
