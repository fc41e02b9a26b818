//! Clients: stations that use every VIP all the time, each through its own neighbour cache.
//!
//! What a client sees is worked out piece by piece, whenever something relevant changed, as if it sent a probe each
//! millisecond. An entry of its cache is overwritten by an announcement. A client without an entry asks by broadcast and
//! believes one of those who answer. An entry whose machine no longer answers is believed until `neighbour_timeout` has
//! passed (Linux: `man 7 arp`, `delay_first_probe_time` and `retrans_time`), so that a missing announcement shows.

use wackamole_protocol::time::Duration;

use crate::journal::{Journal, What};
use crate::kernels::Kernels;
use crate::links::Links;
use crate::rng::Rng;

/// For some time a client had no answer from a VIP that had answered before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// Which client.
    pub client: usize,
    /// Which VIP.
    pub vip: usize,
    /// From when.
    pub from: Duration,
    /// Until when: the end of the run if it was dark then.
    pub to: Duration,
    /// It was dark when the run ended.
    pub open: bool,
}

impl Interruption {
    /// How long it took.
    pub fn length(&self) -> Duration {
        self.to - self.from
    }
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    vips: usize,
    neighbour_timeout: Duration,
    views: Vec<View>,
    in_flight: Vec<Announcement>,
    interruptions: Vec<Interruption>,
    wake_at: Option<Duration>,
    rng: Rng,
}

/// What one client knows of one VIP.
#[derive(Clone, Debug, Default)]
struct View {
    entry: Option<Neighbour>,
    answered_by: Option<usize>,
    dark_since: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Neighbour {
    node: usize,
    silent_since: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Announcement {
    arrives: Duration,
    client: usize,
    vip: usize,
    node: usize,
}

impl Clients {
    /// Clients with empty caches.
    pub fn new(clients: usize, vips: usize, neighbour_timeout: Duration, seed: u64) -> Self {
        Self {
            vips,
            neighbour_timeout,
            views: vec![View::default(); clients * vips],
            in_flight: Vec::new(),
            interruptions: Vec::new(),
            wake_at: None,
            rng: Rng::new(seed, "clients"),
        }
    }

    /// How many clients there are.
    pub fn count(&self) -> usize {
        self.views.len().checked_div(self.vips).unwrap_or(0)
    }

    /// Whom the client's cache names for the VIP.
    pub fn believes(&self, client: usize, vip: usize) -> Option<usize> {
        self.views[client * self.vips + vip].entry.as_ref().map(|entry| entry.node)
    }

    /// Who answers the client when it uses the VIP.
    pub fn answered_by(&self, client: usize, vip: usize) -> Option<usize> {
        self.views[client * self.vips + vip].answered_by
    }

    /// All interruptions that have ended, and after [`Clients::finish`] the others too.
    pub fn interruptions(&self) -> &[Interruption] {
        &self.interruptions
    }

    /// Something happens by itself at this time: an announcement arrives or an entry is given up.
    pub fn wake_at(&self) -> Option<Duration> {
        self.wake_at
    }

    /// An announcement is on its way to a client.
    pub fn announcement(&mut self, arrives: Duration, client: usize, vip: usize, node: usize) {
        self.in_flight.push(Announcement { arrives, client, vip, node });
        self.wake_at = Some(self.wake_at.map_or(arrives, |wake| wake.min(arrives)));
    }

    /// Works out what every client sees from now on.
    pub fn refresh(
        &mut self,
        now: Duration,
        kernels: &Kernels,
        links: &Links,
        journal: &mut Journal,
    ) {
        self.receive(now, links);
        let mut wake_at = self.in_flight.iter().map(|frame| frame.arrives).min();
        for client in 0..self.count() {
            for vip in 0..self.vips {
                let give_up = self.look(now, client, vip, kernels, links, journal);
                wake_at = wake_at.into_iter().chain(give_up).min();
            }
        }
        self.wake_at = wake_at;
    }

    /// Closes the interruptions that last until the end of the run.
    pub fn finish(&mut self, now: Duration) {
        for (index, view) in self.views.iter().enumerate() {
            if let Some(from) = view.dark_since {
                let (client, vip) = (index / self.vips, index % self.vips);
                self.interruptions.push(Interruption { client, vip, from, to: now, open: true });
            }
        }
    }

    fn receive(&mut self, now: Duration, links: &Links) {
        let mut arrived: Vec<Announcement> = Vec::new();
        self.in_flight.retain(|frame| {
            let here = frame.arrives <= now;
            if here {
                arrived.push(frame.clone());
            }
            !here
        });
        arrived.sort_by_key(|frame| frame.arrives);
        for Announcement { client, vip, node, .. } in arrived {
            // Without an entry the announcement is ignored: Linux's arp_accept is off by default.
            if let Some(entry) = &mut self.views[client * self.vips + vip].entry
                && links.reaches(node, links.nodes() + client)
            {
                *entry = Neighbour { node, silent_since: None };
            }
        }
    }

    /// Works out one cell; returns when its entry will be given up.
    fn look(
        &mut self,
        now: Duration,
        client: usize,
        vip: usize,
        kernels: &Kernels,
        links: &Links,
        journal: &mut Journal,
    ) -> Option<Duration> {
        let station = links.nodes() + client;
        let answers = |node| kernels.answers(node, vip) && links.two_way(node, station);
        let view = &mut self.views[client * self.vips + vip];

        let mut give_up = None;
        if let Some(entry) = &mut view.entry {
            if answers(entry.node) {
                entry.silent_since = None;
            } else {
                let since = *entry.silent_since.get_or_insert(now);
                if now >= since + self.neighbour_timeout {
                    view.entry = None;
                } else {
                    give_up = Some(since + self.neighbour_timeout);
                }
            }
        }
        if view.entry.is_none() {
            let candidates: Vec<usize> = (0..kernels.nodes()).filter(|&n| answers(n)).collect();
            view.entry =
                self.rng.pick(&candidates).map(|&node| Neighbour { node, silent_since: None });
        }

        let answered_by = view
            .entry
            .as_ref()
            .filter(|entry| entry.silent_since.is_none())
            .map(|entry| entry.node);
        match (view.answered_by, answered_by) {
            (Some(_), None) => {
                view.dark_since = Some(now);
                journal.push(now, What::Dark { client, vip });
            }
            (None, Some(node)) => {
                let from = view.dark_since.take();
                let dark_for = from.map(|from| now - from);
                journal.push(now, What::Lit { client, vip, node, dark_for });
                if let Some(from) = from {
                    let interruption = Interruption { client, vip, from, to: now, open: false };
                    self.interruptions.push(interruption);
                }
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        view.answered_by = answered_by;
        give_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Two nodes that are on, one client, one VIP.
    struct Scene {
        kernels: Kernels,
        links: Links,
        clients: Clients,
        journal: Journal,
    }

    impl Scene {
        fn new() -> Self {
            let mut kernels = Kernels::new(2, 1);
            kernels.power_on(0);
            kernels.power_on(1);
            Self {
                kernels,
                links: Links::new(2, 1),
                clients: Clients::new(1, 1, TIMEOUT, 1),
                journal: Journal::default(),
            }
        }

        fn at(&mut self, now: Duration) -> Option<usize> {
            self.clients.refresh(now, &self.kernels, &self.links, &mut self.journal);
            self.clients.answered_by(0, 0)
        }

        fn lengths(&self) -> Vec<Duration> {
            self.clients.interruptions().iter().map(Interruption::length).collect()
        }
    }

    #[test]
    fn a_move_with_an_announcement_is_seen_when_the_announcement_arrives() {
        let mut scene = Scene::new();
        assert_eq!(scene.at(ms(0)), None);
        scene.kernels.set(0, 0, true);
        assert_eq!(scene.at(ms(10)), Some(0));

        scene.kernels.set(0, 0, false);
        assert_eq!(scene.at(ms(100)), None);
        scene.kernels.set(1, 0, true);
        assert_eq!(scene.at(ms(102)), None, "the cache still names the old holder");
        scene.clients.announcement(ms(104), 0, 0, 1);
        assert_eq!(scene.clients.wake_at(), Some(ms(104)));
        assert_eq!(scene.at(ms(104)), Some(1));

        assert_eq!(scene.lengths(), [ms(4)], "the time before the first answer does not count");
    }

    #[test]
    fn a_move_without_an_announcement_is_seen_after_the_neighbour_timeout() {
        let mut scene = Scene::new();
        scene.kernels.set(0, 0, true);
        scene.at(ms(0));
        scene.kernels.power_off(0);
        scene.kernels.set(1, 0, true);
        assert_eq!(scene.at(ms(100)), None);
        assert_eq!(scene.clients.wake_at(), Some(ms(3100)));

        assert_eq!(scene.at(ms(3100)), Some(1));

        assert_eq!(scene.lengths(), [TIMEOUT]);
    }

    #[test]
    fn a_holder_that_is_heard_but_does_not_hear_gives_no_answer() {
        let mut scene = Scene::new();
        scene.kernels.set(0, 0, true);
        assert_eq!(scene.at(ms(0)), Some(0));
        scene.links.cut(2, 0);
        assert_eq!(scene.at(ms(1)), None);
        scene.links.heal_all();
        assert_eq!(scene.at(ms(5)), Some(0));
        assert_eq!(scene.lengths(), [ms(4)]);
    }

    #[test]
    fn an_announcement_that_the_wires_hold_back_changes_nothing() {
        let mut scene = Scene::new();
        scene.kernels.set(0, 0, true);
        scene.at(ms(0));
        scene.kernels.set(1, 0, true);
        scene.clients.announcement(ms(2), 0, 0, 1);
        scene.links.partition(&[vec![0, 2], vec![1]]);
        assert_eq!(scene.at(ms(2)), Some(0));
        assert_eq!(scene.clients.believes(0, 0), Some(0));
    }

    #[test]
    fn what_is_dark_at_the_end_counts() {
        let mut scene = Scene::new();
        scene.kernels.set(0, 0, true);
        scene.at(ms(0));
        scene.kernels.set(0, 0, false);
        scene.at(ms(10));
        scene.clients.finish(ms(30));
        let all = scene.clients.interruptions();
        assert_eq!((all.len(), all[0].open, all[0].length()), (1, true, ms(20)));
    }
}
