//! Signs of life: what a machine's watch makes of the silence on its segment port (design.md §2, `lan`).
//!
//! Any live station that the port reaches in both directions gives a sign, because it answers what the watch sends. A
//! port without a sign for as long as `Timing::silence` says, or without a carrier, serves nothing; it serves again after two signs
//! in a row, half a heartbeat apart.

use wackamole_protocol::time::Duration;

use crate::kernels::Kernels;
use crate::links::Links;

/// After so many signs in a row the segment counts as alive again.
const SIGNS_TO_COME_BACK: u32 = 2;

/// What the watch of a node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Its VIPs cannot be served.
    Dead {
        /// Why.
        why: &'static str,
    },
    /// They can be served again.
    Alive,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    last_sign: Duration,
    look_at: Duration,
    signs: u32,
    dead: bool,
}

/// The watches of all machines.
#[derive(Debug)]
pub struct Signs {
    watches: Vec<Option<Watch>>,
    carrier: Vec<bool>,
    patience: Duration,
    spacing: Duration,
}

impl Signs {
    /// Watches that wait for a sign as long as `patience` and look every `spacing`.
    pub fn new(nodes: usize, patience: Duration, spacing: Duration) -> Self {
        Self { watches: vec![None; nodes], carrier: vec![true; nodes], patience, spacing }
    }

    /// A daemon starts, and takes its segment for alive.
    pub fn start(&mut self, now: Duration, node: usize) {
        self.watches[node] = Some(Watch { last_sign: now, look_at: now, signs: 0, dead: false });
    }

    /// The port has a carrier, or none.
    pub fn set_carrier(&mut self, node: usize, carrier: bool) {
        self.carrier[node] = carrier;
        if let Some(watch) = &mut self.watches[node] {
            watch.look_at = Duration::ZERO;
        }
    }

    /// The port has a carrier.
    pub fn carrier(&self, node: usize) -> bool {
        self.carrier[node]
    }

    /// When it is time to look again next; `watching` says whose daemons run.
    pub fn next_look(&self, watching: impl Fn(usize) -> bool) -> Option<Duration> {
        let watches = self.watches.iter().enumerate().filter(|&(node, _)| watching(node));
        watches.filter_map(|(_, watch)| watch.map(|watch| watch.look_at)).min()
    }

    /// Looks again where it is time to; `watching` says whose daemons run.
    pub fn step(
        &mut self,
        now: Duration,
        watching: impl Fn(usize) -> bool,
        links: &Links,
        kernels: &Kernels,
        said: &mut Vec<(usize, Said)>,
    ) {
        for node in 0..self.watches.len() {
            let Some(watch) = &mut self.watches[node] else { continue };
            if now < watch.look_at || !watching(node) {
                continue;
            }
            watch.look_at = now + self.spacing;
            let carrier = self.carrier[node];
            if carrier && has_neighbour(node, links, kernels) {
                watch.last_sign = now;
                watch.signs += 1;
                if watch.dead && watch.signs >= SIGNS_TO_COME_BACK {
                    watch.dead = false;
                    said.push((node, Said::Alive));
                }
                continue;
            }
            watch.signs = 0;
            let why = if carrier { "no sign of life on its segment" } else { "no carrier" };
            if !watch.dead && (!carrier || now >= watch.last_sign + self.patience) {
                watch.dead = true;
                said.push((node, Said::Dead { why }));
            }
        }
    }
}

/// Somebody answers the node on the segment.
pub fn has_neighbour(node: usize, links: &Links, kernels: &Kernels) -> bool {
    let alive = |station: usize| station >= kernels.nodes() || kernels.runs(station);
    (0..links.stations()).any(|other| other != node && alive(other) && links.two_way(node, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    struct Scene {
        signs: Signs,
        links: Links,
        kernels: Kernels,
    }

    impl Scene {
        /// Two machines and a client.
        fn new() -> Self {
            let mut kernels = Kernels::new(2, 1);
            kernels.power_on(0);
            kernels.power_on(1);
            let mut signs = Signs::new(2, ms(400), ms(50));
            signs.start(ms(0), 0);
            Self { signs, links: Links::new(2, 1), kernels }
        }

        /// What the first machine's watch says first.
        fn first(&mut self, from: u64, to: u64) -> Option<(u64, Said)> {
            (from..to).find_map(|now| {
                let mut said = Vec::new();
                self.signs.step(ms(now), |_| true, &self.links, &self.kernels, &mut said);
                said.first().map(|&(_, said)| (now, said))
            })
        }
    }

    #[test]
    fn a_silent_port_is_dead_after_the_timeout_and_alive_after_two_signs() {
        let mut scene = Scene::new();
        assert_eq!(scene.first(0, 1000), None);
        scene.links.set_port(0, false);
        let (at, said) = scene.first(1000, 2000).expect("silence is noticed");
        assert!(matches!(said, Said::Dead { .. }) && (1350..=1450).contains(&at), "{at}");
        scene.links.set_port(0, true);
        let (at, said) = scene.first(at + 1, 2000).expect("life is noticed");
        assert!(said == Said::Alive && at <= 1550, "{at}");
    }

    #[test]
    fn a_lost_carrier_is_noticed_at_once() {
        let mut scene = Scene::new();
        scene.first(0, 1000);
        scene.links.set_port(0, false);
        scene.signs.set_carrier(0, false);
        assert_eq!(scene.first(1001, 1100), Some((1001, Said::Dead { why: "no carrier" })));
    }

    #[test]
    fn any_live_station_will_do() {
        let mut scene = Scene::new();
        scene.kernels.power_off(1);
        assert_eq!(scene.first(0, 2000), None, "the client is there");
        scene.links.cut(2, 0);
        assert!(scene.first(2000, 3000).is_some(), "it is not heard");
        scene.kernels.power_on(1);
        assert!(matches!(scene.first(3000, 4000), Some((_, Said::Alive))), "a machine will do");
    }
}
