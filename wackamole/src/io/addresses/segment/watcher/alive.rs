//! Signs of life of the interfaces that carry VIPs: sampling, asking, telling.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use wackamole_protocol::mac::MacAddress;
use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::vip::{Vip, VipId};

use super::super::super::mirror::Link;
use super::super::claims::Claims;
use super::super::life::{Ask, Life};
use super::super::links::Links;
use super::super::queries::Queries;
use super::super::questions::{Question, Route, Segment, Stations};
use super::super::{Heartbeats, LifeConfig};
use super::Watcher;
use super::probes::able_to_ask;
use crate::env::AddressEvent;
use crate::io::{arp, ndp};

/// All interfaces that carry VIPs.
#[derive(Debug)]
pub(super) struct Alive {
    heartbeat: Duration,
    config: LifeConfig,
    interfaces: BTreeMap<String, Interface>,
    vips: BTreeMap<VipId, Arc<Vip>>,
    /// Why VIPs cannot be served, as it was told.
    told: BTreeMap<VipId, String>,
    /// Something may have to be told.
    changed: bool,
}

#[derive(Debug)]
struct Interface {
    life: Life,
    stations: Stations,
}

impl Alive {
    pub(super) fn new(heartbeat: Duration, config: LifeConfig) -> Self {
        Self {
            heartbeat,
            config,
            interfaces: BTreeMap::new(),
            vips: BTreeMap::new(),
            told: BTreeMap::new(),
            changed: true,
        }
    }

    /// Watches the interfaces of a VIP as well.
    pub(super) fn learn(&mut self, vip: &Arc<Vip>, links: &Links, now: Instant) {
        for address in vip.addresses() {
            let name = &address.interface;
            if !self.interfaces.contains_key(name) {
                let link = links.called(name).map(|(_, link)| link);
                let life = Life::new(self.heartbeat, self.config.silence, link, now);
                let interface = Interface { life, stations: Stations::default() };
                self.interfaces.insert(name.clone(), interface);
            }
        }
        self.vips.insert(vip.id(), Arc::clone(vip));
        self.changed = true;
    }

    /// Takes changes of the interfaces.
    pub(super) fn links_are(&mut self, links: &Links, now: Instant) {
        for (name, interface) in &mut self.interfaces {
            let before = interface.life.death();
            interface.life.link_is(links.called(name).map(|(_, link)| link), now);
            self.changed |= interface.life.death() != before;
        }
    }

    /// A frame of somebody else came in, and perhaps it showed where an address is.
    pub(super) fn heard(
        &mut self,
        interface: &str,
        station: Option<IpAddr>,
        mac: MacAddress,
        now: Instant,
    ) {
        if let Some(interface) = self.interfaces.get_mut(interface) {
            interface.life.seen(now);
            if let Some(address) = station {
                interface.stations.heard(address, mac);
            }
        }
    }

    /// Heartbeats on an interface have stopped.
    pub(super) fn quiet(&mut self, name: &str, links: &Links, queries: &mut Queries, now: Instant) {
        let latest = latest_heartbeat(&self.config.heartbeats, name);
        if let Some(Interface { life, .. }) = self.interfaces.get_mut(name)
            && let Some((index, _)) = links.called(name)
            && life.quiet(latest, now)
        {
            life.sample(queries.frames_received(index), now);
        }
    }

    pub(super) fn is_curious(&self) -> bool {
        self.interfaces.values().any(|interface| interface.life.is_curious())
    }

    pub(super) fn due(&self) -> Instant {
        let due = self.interfaces.values().map(|interface| interface.life.due()).min();
        due.unwrap_or(Instant::FAR_FUTURE)
    }

    /// Samples the interfaces that want it; returns what to ask on which.
    fn sample(
        &mut self,
        links: &Links,
        claims: &Claims,
        queries: &mut Queries,
        now: Instant,
    ) -> Vec<(u32, MacAddress, Vec<Question>)> {
        let mut questions = Vec::new();
        for (name, Interface { life, stations }) in &mut self.interfaces {
            if life.due() > now {
                continue;
            }
            let Some((index, link)) = links.called(name) else { continue };
            if life.heartbeat(latest_heartbeat(&self.config.heartbeats, name), now) {
                continue;
            }
            let before = life.death();
            life.sample(queries.frames_received(index), now);
            self.changed |= life.death() != before;
            let (Some(ask), Ok(mac)) = (life.ask(now), able_to_ask(link)) else { continue };
            let mut segment = On { interface: index, claims, queries };
            let asked = match ask {
                Ask::One => stations.ask_one(&mut segment).map_or_else(Vec::new, |one| vec![one]),
                Ask::All => Vec::new(),
            };
            let asked = if asked.is_empty() {
                let not_held: Vec<_> = claims.not_held_on(name).collect();
                stations.ask_all(&self.config.peers, &not_held, &mut segment)
            } else {
                asked
            };
            questions.push((index, mac, asked));
        }
        questions
    }

    /// Whether frames on an interface are a sign that others are there.
    pub(super) fn can_tell(&self, name: &str) -> bool {
        self.interfaces.get(name).is_some_and(|interface| interface.life.is_sampled())
    }

    /// Whoever should be there is asked no more often than that while VIPs are probed: often enough for two probes in a row.
    pub(super) fn pace_of_probes(&self) -> Duration {
        self.heartbeat / 8
    }

    /// Frames that ask everybody who should be there.
    pub(super) fn ask_everybody(
        &mut self,
        index: u32,
        link: &Link,
        claims: &Claims,
        queries: &mut Queries,
    ) -> Vec<Vec<u8>> {
        let Some(Interface { stations, .. }) = self.interfaces.get_mut(&link.name) else {
            return Vec::new();
        };
        let Ok(mac) = able_to_ask(link) else { return Vec::new() };
        let not_held: Vec<_> = claims.not_held_on(&link.name).collect();
        let mut segment = On { interface: index, claims, queries };
        let questions = stations.ask_all(&self.config.peers, &not_held, &mut segment);
        questions.iter().map(|question| frame(question, mac)).collect()
    }

    /// What has changed, each reason with its VIPs.
    fn news(&mut self) -> BTreeMap<Option<String>, Vec<VipId>> {
        let mut news: BTreeMap<_, Vec<_>> = BTreeMap::new();
        if !std::mem::take(&mut self.changed) {
            return news;
        }
        let reasons: BTreeMap<&str, String> = self
            .interfaces
            .iter()
            .filter_map(|(name, interface)| Some((name.as_str(), interface.life.death()?.on(name))))
            .collect();
        for (&id, vip) in &self.vips {
            let mut interfaces = vip.addresses().iter().map(|address| address.interface.as_str());
            let why_not = interfaces.find_map(|name| reasons.get(name)).cloned();
            if self.told.get(&id) != why_not.as_ref() {
                match &why_not {
                    Some(reason) => self.told.insert(id, reason.clone()),
                    None => self.told.remove(&id),
                };
                news.entry(why_not).or_default().push(id);
            }
        }
        news
    }
}

fn latest_heartbeat(heartbeats: &[Heartbeats], interface: &str) -> Instant {
    let here = heartbeats.iter().filter(|heartbeats| heartbeats.interface == interface);
    here.map(Heartbeats::latest).max().unwrap_or(Instant::ORIGIN)
}

impl Watcher {
    /// Looks whether the interfaces are alive, asks where that is in doubt, and reports what has changed.
    pub(super) fn watch_for_life(&mut self, now: Instant) {
        let Some(alive) = &mut self.alive else { return };
        if alive.due() <= now {
            let asked = alive.sample(&self.links, &self.claims, &mut self.queries, now);
            for (interface, mac, questions) in asked {
                for question in questions {
                    // A full device is as good as a lost frame: it is asked again soon.
                    let _ = self.announcer.send(interface, &frame(&question, mac));
                }
            }
        }
        for (why_not, vips) in alive.news() {
            let _ = self.report.send(AddressEvent::Servable { vips, why_not });
        }
    }
}

fn frame(question: &Question, mac: MacAddress) -> Vec<u8> {
    let &Question { address, believed_at, source } = question;
    match (address, source) {
        (IpAddr::V4(to), Some(IpAddr::V4(from))) => {
            arp::arp_question(to, believed_at, mac, from).to_vec()
        }
        (IpAddr::V4(to), _) => {
            let nobody = std::net::Ipv4Addr::UNSPECIFIED;
            arp::arp_question(to, believed_at, mac, nobody).to_vec()
        }
        (IpAddr::V6(to), Some(IpAddr::V6(from))) => {
            ndp::question(to, believed_at, mac, from).to_vec()
        }
        (IpAddr::V6(to), _) => ndp::probe(to, mac, ndp::Nonce::default()).to_vec(),
    }
}

/// What the kernel says about one segment.
struct On<'a> {
    interface: u32,
    claims: &'a Claims,
    queries: &'a mut Queries,
}

impl Segment for On<'_> {
    fn interface(&self) -> u32 {
        self.interface
    }

    fn route(&mut self, to: IpAddr) -> Option<Route> {
        self.queries.route(to)
    }

    fn is_vip(&self, address: IpAddr) -> bool {
        self.claims.is_vip(address)
    }
}
