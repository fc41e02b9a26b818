//! Who reaches whom: the wiring of one network, a switch for each ordered pair of stations and a port for each station.
//!
//! Stations are the nodes (first) and the clients (after them). The daemons' datagrams follow one table; announcements,
//! probes and the clients' traffic another, which is the same wherever a scenario does not give them a segment of their own.

/// A machine on the segment: node `i` is station `i`, client `j` is station `nodes + j`.
pub type Station = usize;

/// The state of every directed link.
#[derive(Clone, Debug)]
pub struct Links {
    nodes: usize,
    stations: usize,
    up: Vec<bool>,
    port: Vec<bool>,
    component: Vec<usize>,
    version: u64,
}

impl Links {
    /// All links up.
    pub fn new(nodes: usize, clients: usize) -> Self {
        let stations = nodes + clients;
        Self {
            nodes,
            stations,
            up: vec![true; stations * stations],
            port: vec![true; stations],
            component: vec![0; nodes],
            version: 0,
        }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// How many stations there are.
    pub fn stations(&self) -> usize {
        self.stations
    }

    /// Grows with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What `from` sends arrives at `to`.
    pub fn reaches(&self, from: Station, to: Station) -> bool {
        self.up[from * self.stations + to] && (self.port[from] && self.port[to] || from == to)
    }

    /// The station's switch port forwards.
    pub fn port(&self, station: Station) -> bool {
        self.port[station]
    }

    /// A switch port forwards from now on, or no longer.
    pub fn set_port(&mut self, station: Station, forwards: bool) {
        self.port[station] = forwards;
        self.changed();
    }

    /// Both directions work.
    pub fn two_way(&self, a: Station, b: Station) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    /// Both nodes are in one component: a chain of nodes with links in both directions joins them. Clients forward
    /// nothing.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        self.component[a] == self.component[b]
    }

    /// A number for each node, equal for the nodes of one component.
    pub fn components(&self) -> &[usize] {
        &self.component
    }

    /// Stations of different groups do not reach each other. Links inside a group are left as they are.
    pub fn partition(&mut self, groups: &[Vec<Station>]) {
        for (i, group) in groups.iter().enumerate() {
            for other in &groups[i + 1..] {
                for &a in group {
                    for &b in other {
                        self.set(a, b, false);
                        self.set(b, a, false);
                    }
                }
            }
        }
        self.changed();
    }

    /// What `from` sends no longer arrives at `to`.
    pub fn cut(&mut self, from: Station, to: Station) {
        self.set(from, to, false);
        self.changed();
    }

    /// Both directions between two stations work again.
    pub fn heal(&mut self, a: Station, b: Station) {
        self.set(a, b, true);
        self.set(b, a, true);
        self.changed();
    }

    /// Every link works again; what a dead port keeps apart stays apart.
    pub fn heal_all(&mut self) {
        self.up.fill(true);
        self.changed();
    }

    fn set(&mut self, from: Station, to: Station, up: bool) {
        self.up[from * self.stations + to] = up || from == to;
    }

    fn changed(&mut self) {
        self.version += 1;
        self.component = components(self.nodes, |a, b| self.two_way(a, b));
    }
}

/// Numbers the connected components of a symmetric relation: each node gets the lowest index in its component.
pub fn components(nodes: usize, joined: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut component: Vec<usize> = (0..nodes).collect();
    for start in 0..nodes {
        if component[start] != start {
            continue;
        }
        let mut frontier = vec![start];
        while let Some(a) = frontier.pop() {
            #[allow(clippy::needless_range_loop)] // b is a node, and looked up in two places
            for b in start + 1..nodes {
                if component[b] == b && joined(a, b) {
                    component[b] = start;
                    frontier.push(b);
                }
            }
        }
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_separates_the_groups_and_only_them() {
        let mut links = Links::new(4, 1);

        links.partition(&[vec![0, 1, 4], vec![2, 3]]);

        assert_eq!(links.components(), [0, 0, 2, 2]);
        assert!(links.two_way(0, 4) && !links.reaches(2, 4) && !links.reaches(4, 2));
        links.heal_all();
        assert_eq!(links.components(), [0, 0, 0, 0]);
        assert!(links.two_way(2, 4));
    }

    #[test]
    fn a_one_way_cut_leaves_a_component_that_a_third_node_joins() {
        let mut three = Links::new(3, 0);
        three.cut(0, 1);
        assert!(!three.reaches(0, 1) && three.reaches(1, 0));
        assert!(three.connected(0, 1), "through the third node");

        let mut two = Links::new(2, 0);
        two.cut(0, 1);
        assert!(!two.connected(0, 1));
        two.heal(1, 0);
        assert!(two.connected(0, 1));
    }

    #[test]
    fn a_dead_port_cuts_everything_and_brings_nothing_back_that_was_cut_elsewhere() {
        let mut links = Links::new(3, 1);
        links.cut(0, 1);
        links.set_port(2, false);
        assert!(!links.reaches(2, 0) && !links.reaches(3, 2) && links.reaches(2, 2));
        links.heal_all();
        assert_eq!(links.components(), [0, 0, 2], "a port is not a link");
        links.cut(1, 0);
        links.set_port(2, true);
        assert!(links.two_way(2, 3) && !links.reaches(1, 0));
    }

    #[test]
    fn clients_forward_nothing() {
        let mut links = Links::new(2, 1);
        links.partition(&[vec![0], vec![1]]);
        assert!(links.two_way(0, 2) && links.two_way(1, 2));
        assert!(!links.connected(0, 1));
    }
}
