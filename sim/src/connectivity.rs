//! Which nodes can talk to each other: the wiring, who is there to pass anything on, and losses in a row.
//!
//! A burst of loss as long as the failure timeout is a partition (design.md §2). It is measured on the wires, where
//! something was sent and lost: a daemon that falls silent by itself partitions nothing.

use wackamole_protocol::time::Duration;

use crate::links::components;
use crate::netem::Knob;
use crate::segment::Segment;

/// The connected components of the nodes.
#[derive(Debug)]
pub struct Connectivity {
    component: Vec<usize>,
    deaf: Vec<bool>,
    any_deaf: bool,
    seen_version: u64,
    patience: Duration,
}

impl Connectivity {
    /// Everybody is connected. Whatever is lost for `patience` counts as cut.
    pub fn new(nodes: usize, patience: Duration) -> Self {
        Self {
            component: vec![0; nodes],
            deaf: vec![false; nodes * nodes],
            any_deaf: false,
            seen_version: u64::MAX,
            patience,
        }
    }

    /// A number for each node, equal for the nodes of one component. Whoever does not attend is alone.
    pub fn components(&self) -> &[usize] {
        &self.component
    }

    /// Both nodes are in one component; or, if one of them has no running daemon, a link joins their machines.
    pub fn connected(&self, segment: &Segment, a: usize, b: usize) -> bool {
        if segment.daemons[a].attends() && segment.daemons[b].attends() {
            self.component[a] == self.component[b]
        } else {
            segment.links.two_way(a, b)
        }
    }

    /// One of two daemons hears the other, is not heard by it, and is connected with nobody else.
    pub fn hears_alone(&self, segment: &Segment, a: usize, b: usize) -> bool {
        let alone = |node: usize| {
            let own = self.component[node];
            self.component.iter().filter(|&&component| component == own).count() == 1
        };
        match (segment.links.reaches(a, b), segment.links.reaches(b, a)) {
            (true, false) => alone(b),
            (false, true) => alone(a),
            (true, true) | (false, false) => false,
        }
    }

    /// When a burst of loss may begin to count, if no datagram arrives before.
    pub fn next_burst(&self, now: Duration, segment: &Segment) -> Option<Duration> {
        if !self.any_deaf && segment.netem.max(Knob::Loss) == 0.0 {
            return None;
        }
        let nodes = self.component.len();
        let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        pairs
            .filter_map(|(from, to)| segment.losing_since(from, to))
            .map(|since| since + self.patience)
            .filter(|&at| at > now)
            .min()
    }

    /// Looks again; returns whether a burst of loss began or ended.
    pub fn refresh(&mut self, now: Duration, segment: &Segment) -> bool {
        let nodes = self.component.len();
        let mut burst = false;
        if self.any_deaf || segment.netem.max(Knob::Loss) > 0.0 {
            self.any_deaf = false;
            for from in 0..nodes {
                for to in (0..nodes).filter(|&to| to != from) {
                    let talk = segment.daemons[from].attends() && segment.daemons[to].attends();
                    let deaf = talk && segment.lost_for(now, from, to) >= self.patience;
                    burst |= std::mem::replace(&mut self.deaf[from * nodes + to], deaf) != deaf;
                    self.any_deaf |= deaf;
                }
            }
        }
        if burst || self.seen_version != segment.wiring_version() {
            self.seen_version = segment.wiring_version();
            let attends = |node: usize| segment.daemons[node].attends();
            let deaf = |a: usize, b: usize| self.deaf[a * nodes + b] || self.deaf[b * nodes + a];
            self.component = components(nodes, |a, b| {
                attends(a) && attends(b) && segment.links.two_way(a, b) && !deaf(a, b)
            });
        }
        burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Clients;
    use crate::netem::Impairment;
    use crate::segment::Daemon;

    #[test]
    fn a_long_burst_of_loss_is_a_partition_and_silence_is_not() {
        let ms = Duration::from_millis;
        let clients = Clients::new(0, 1, ms(3000), 1);
        let mut segment = Segment::new(2, 1, clients, Impairment::default(), ms(1), 1);
        let mut connectivity = Connectivity::new(2, ms(300));
        for node in 0..2 {
            segment.set_daemon(node, Daemon::Running(ms(0)));
        }
        segment.datagram(ms(0), 0, 1, b"x");
        assert!(!connectivity.refresh(ms(900), &segment), "nothing was lost");

        segment.netem.set(None, Knob::Loss, 1.0);
        segment.datagram(ms(1000), 0, 1, b"x");
        assert!(connectivity.refresh(ms(1000), &segment), "nothing has arrived for a second");
        assert!(!connectivity.connected(&segment, 0, 1));

        segment.netem.set(None, Knob::Loss, 0.0);
        segment.datagram(ms(1001), 0, 1, b"x");
        assert!(connectivity.refresh(ms(1001), &segment));
        assert!(connectivity.connected(&segment, 0, 1));
    }

    #[test]
    fn the_dead_and_the_paused_pass_nothing_on() {
        let ms = Duration::from_millis;
        let clients = Clients::new(0, 1, ms(3000), 1);
        let mut segment = Segment::new(3, 1, clients, Impairment::default(), ms(1), 1);
        let mut connectivity = Connectivity::new(3, ms(300));
        for node in 0..3 {
            segment.set_daemon(node, Daemon::Running(ms(0)));
        }
        segment.links.cut(0, 1);
        connectivity.refresh(ms(0), &segment);
        assert!(connectivity.connected(&segment, 0, 1), "through the third");

        segment.set_daemon(2, Daemon::Paused(ms(0)));
        connectivity.refresh(ms(1), &segment);

        assert!(!connectivity.connected(&segment, 0, 1));
        assert!(connectivity.connected(&segment, 0, 2), "its kernel still answers there");
    }
}
