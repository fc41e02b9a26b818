//! ARP and neighbour discovery between the machines: probes, answers and announcements under way on the clients' segment,
//! and what a daemon's watch makes of them.
//!
//! Frames take the wires' time and may be lost. A kernel answers a probe if it answers for the VIP when the frame arrives,
//! whatever its daemon is doing; a watch reports what concerns a VIP that is on its machine or was probed lately.

use std::collections::BTreeMap;

use wackamole_protocol::mac::{Claim, MacAddress};
use wackamole_protocol::time::Duration;

use crate::kernels::Kernels;
use crate::links::Links;
use crate::netem::Netem;

/// Answers to a probe are waited for as long as that.
const LATELY: Duration = Duration::from_secs(2);

/// The hardware address of a node's port.
pub fn mac(node: usize) -> MacAddress {
    MacAddress([0x02, 0x77, 0, 0, 0, 11 + node as u8])
}

/// The hardware address of a router that answers for everything.
pub const PROXY: MacAddress = MacAddress([0x02, 0x77, 0, 0, 0xff, 0xff]);

/// Somebody else uses or wants a VIP: what the watch of `node` tells its daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Whose watch.
    pub node: usize,
    /// Which VIP.
    pub vip: usize,
    /// Who.
    pub by: MacAddress,
    /// How.
    pub claim: Claim,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    to: usize,
    vip: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Probe { from: usize },
    Answer { by: MacAddress, from: Option<usize> },
    Announcement { from: usize },
}

/// The frames under way.
#[derive(Debug)]
pub struct Air {
    vips: usize,
    frames: BTreeMap<(Duration, u64), Frame>,
    count: u64,
    /// By node and VIP: when it was probed last.
    probed: Vec<Option<Duration>>,
    /// A router answers every probe.
    pub proxy: bool,
}

/// What frames travel on.
pub struct Wires<'a> {
    /// Who reaches whom.
    pub links: &'a Links,
    /// What becomes of a frame.
    pub netem: &'a mut Netem,
    /// How long it takes at least.
    pub hop: Duration,
}

impl Air {
    /// No frames.
    pub fn new(nodes: usize, vips: usize) -> Self {
        Self {
            vips,
            frames: BTreeMap::new(),
            count: 0,
            probed: vec![None; nodes * vips],
            proxy: false,
        }
    }

    /// A machine asks the segment who answers for a VIP.
    pub fn probe(&mut self, now: Duration, node: usize, vip: usize, mut wires: Wires<'_>) {
        self.probed[node * self.vips + vip] = Some(now);
        self.broadcast(now, node, vip, Kind::Probe { from: node }, &mut wires);
        if self.proxy && wires.links.port(node) {
            let answer = Kind::Answer { by: PROXY, from: None };
            self.push(now + 2 * wires.hop, Frame { to: node, vip, kind: answer });
        }
    }

    /// A machine tells the others that it answers for a VIP.
    pub fn announce(&mut self, now: Duration, node: usize, vip: usize, mut wires: Wires<'_>) {
        self.broadcast(now, node, vip, Kind::Announcement { from: node }, &mut wires);
    }

    /// A new daemon has probed nothing yet.
    pub fn forget(&mut self, node: usize) {
        self.probed[node * self.vips..(node + 1) * self.vips].fill(None);
    }

    /// When a frame arrives next.
    pub fn next_arrival(&self) -> Option<Duration> {
        self.frames.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Lets frames arrive; tells what the watches heard.
    pub fn deliver(
        &mut self,
        now: Duration,
        kernels: &Kernels,
        wires: Wires<'_>,
        heard: &mut Vec<Heard>,
    ) {
        while let Some(first) = self.frames.first_entry() {
            let at = first.key().0;
            if at > now {
                return;
            }
            let Frame { to, vip, kind } = first.remove();
            if !kernels.runs(to) {
                continue;
            }
            let lately = self.probed[to * self.vips + vip].is_some_and(|p| now <= p + LATELY);
            let concerned = kernels.has(to, vip) || lately;
            match kind {
                Kind::Probe { from } if wires.links.reaches(from, to) => {
                    if kernels.answers(to, vip)
                        && wires.links.reaches(to, from)
                        && let Some(delay) = wires.netem.frame(to, from)
                    {
                        let kind = Kind::Answer { by: mac(to), from: Some(to) };
                        self.push(at + wires.hop + delay, Frame { to: from, vip, kind });
                    }
                    if concerned {
                        heard.push(Heard { node: to, vip, by: mac(from), claim: Claim::Wants });
                    }
                }
                Kind::Announcement { from } if wires.links.reaches(from, to) && concerned => {
                    heard.push(Heard { node: to, vip, by: mac(from), claim: Claim::Uses });
                }
                Kind::Answer { by, from }
                    if lately && from.is_none_or(|from| wires.links.reaches(from, to)) =>
                {
                    heard.push(Heard { node: to, vip, by, claim: Claim::Uses });
                }
                Kind::Probe { .. } | Kind::Announcement { .. } | Kind::Answer { .. } => {}
            }
        }
    }

    fn broadcast(
        &mut self,
        now: Duration,
        node: usize,
        vip: usize,
        kind: Kind,
        wires: &mut Wires<'_>,
    ) {
        for to in (0..wires.links.nodes()).filter(|&to| to != node) {
            if wires.links.reaches(node, to)
                && let Some(delay) = wires.netem.frame(node, to)
            {
                self.push(now + wires.hop + delay, Frame { to, vip, kind });
            }
        }
    }

    fn push(&mut self, arrives: Duration, frame: Frame) {
        self.count += 1;
        self.frames.insert((arrives, self.count), frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netem::Impairment;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Three machines that are on; the second answers for the only VIP.
    struct Scene {
        air: Air,
        kernels: Kernels,
        links: Links,
        netem: Netem,
    }

    impl Scene {
        fn new() -> Self {
            let mut kernels = Kernels::new(3, 1);
            (0..3).for_each(|node| kernels.power_on(node));
            kernels.set(1, 0, true);
            Self {
                air: Air::new(3, 1),
                kernels,
                links: Links::new(3, 0),
                netem: Netem::new(3, 1, Impairment::default()),
            }
        }

        fn probe(&mut self, now: u64, node: usize) {
            let Self { air, links, netem, .. } = self;
            air.probe(ms(now), node, 0, Wires { links, netem, hop: ms(1) });
        }

        fn announce(&mut self, now: u64, node: usize) {
            let Self { air, links, netem, .. } = self;
            air.announce(ms(now), node, 0, Wires { links, netem, hop: ms(1) });
        }

        fn heard(&mut self, now: u64) -> Vec<Heard> {
            let mut heard = Vec::new();
            let Self { air, kernels, links, netem } = self;
            air.deliver(ms(now), kernels, Wires { links, netem, hop: ms(1) }, &mut heard);
            heard
        }
    }

    fn uses(node: usize, by: usize) -> Heard {
        Heard { node, vip: 0, by: mac(by), claim: Claim::Uses }
    }

    fn wants(node: usize, by: usize) -> Heard {
        Heard { claim: Claim::Wants, ..uses(node, by) }
    }

    #[test]
    fn a_kernel_answers_a_probe_after_a_round_trip_and_its_daemon_hears_of_it() {
        let mut scene = Scene::new();
        scene.probe(0, 0);
        assert_eq!(scene.heard(0), []);
        assert_eq!(scene.heard(1), [wants(1, 0)]);
        assert_eq!(scene.heard(2), [uses(0, 1)]);
        assert_eq!(scene.heard(900), []);
    }

    #[test]
    fn nobody_answers_behind_a_shut_gate_or_on_a_stopped_machine_or_over_a_cut_wire() {
        let spoil: [fn(&mut Scene); 4] = [
            |scene| assert!(scene.kernels.set_shut(1, true)),
            |scene| scene.kernels.set_frozen(1, true),
            |scene| scene.links.cut(1, 0),
            |scene| scene.links.set_port(0, false),
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let mut scene = Scene::new();
            spoil(&mut scene);
            scene.probe(0, 0);
            let heard: Vec<Heard> = (0..10).flat_map(|now| scene.heard(now)).collect();
            assert!(!heard.contains(&uses(0, 1)), "{number}: {heard:?}");
        }
    }

    #[test]
    fn two_that_probe_hear_of_each_other_and_a_third_of_nobody() {
        let mut scene = Scene::new();
        scene.kernels.set(1, 0, false);
        scene.probe(0, 0);
        scene.probe(0, 2);
        let heard: Vec<Heard> = (0..10).flat_map(|now| scene.heard(now)).collect();
        assert_eq!(heard, [wants(2, 0), wants(0, 2)]);
    }

    #[test]
    fn an_announcement_is_heard_by_whoever_holds_the_vip_or_probed_it_lately() {
        let mut scene = Scene::new();
        scene.announce(0, 2);
        assert_eq!(scene.heard(5), [uses(1, 2)]);
        scene.probe(10, 0);
        scene.heard(20);
        scene.announce(100, 2);
        assert_eq!(scene.heard(101), [uses(0, 2), uses(1, 2)]);
        scene.air.forget(0);
        scene.announce(200, 2);
        assert_eq!(scene.heard(201), [uses(1, 2)]);
    }

    #[test]
    fn a_proxy_answers_for_what_nobody_has() {
        let mut scene = Scene::new();
        scene.air.proxy = true;
        scene.kernels.set(1, 0, false);
        scene.probe(0, 0);
        assert_eq!(scene.heard(2), [Heard { by: PROXY, ..uses(0, 0) }]);
    }
}
