//! Whom to ask for a sign of life. Pure.
//!
//! Those who should be there: the other nodes, the default gateways, and whoever holds the VIPs that are not held here;
//! and those who were heard. A question never names a VIP as its sender: that would announce it. And it never takes the
//! form of a probe for a VIP: its holder would think that somebody wants it.

use std::net::IpAddr;

use crate::io::ethernet::MacAddress;

/// Stations remembered on one interface, and VIPs asked for in one round.
const STATIONS_MAX: usize = 8;
/// Questions in one round.
const QUESTIONS_MAX: usize = 32;

/// How the kernel would reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Index of the interface.
    pub(super) interface: u32,
    /// The router on the way; nothing if it is on the link.
    pub(super) gateway: Option<IpAddr>,
    /// The address that the kernel would send from.
    pub(super) source: Option<IpAddr>,
}

/// Something to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) address: IpAddr,
    /// Where it was heard before; everybody is asked otherwise.
    pub(super) believed_at: Option<MacAddress>,
    /// In whose name; nobody's if nothing.
    pub(super) source: Option<IpAddr>,
}

/// Who was heard on one interface, the latest first.
#[derive(Debug, Default)]
pub(super) struct Stations {
    heard: Vec<(IpAddr, MacAddress)>,
    /// Where to go on among the VIPs, which may be many.
    vips_asked: usize,
}

impl Stations {
    /// Somebody was heard.
    pub(super) fn heard(&mut self, address: IpAddr, mac: MacAddress) {
        if address.is_unspecified() || address.is_multicast() {
            return;
        }
        self.heard.retain(|&(other, _)| other != address);
        self.heard.insert(0, (address, mac));
        self.heard.truncate(STATIONS_MAX);
    }

    /// Asks the one that was heard last.
    pub(super) fn ask_one(&self, segment: &mut impl Segment) -> Option<Question> {
        let &(address, mac) = self.heard.first()?;
        Some(Question { believed_at: Some(mac), ..on_link(address, segment)? })
    }

    /// Asks everybody who should be there: `peers` as far as they are on this link, the gateways, some of the VIPs
    /// that are `not_held`, and those who were heard.
    pub(super) fn ask_all(
        &mut self,
        peers: &[IpAddr],
        not_held: &[IpAddr],
        segment: &mut impl Segment,
    ) -> Vec<Question> {
        let mut questions: Vec<Question> = Vec::new();
        let mut add = |question: Question| {
            if questions.len() < QUESTIONS_MAX
                && questions.iter().all(|other| other.address != question.address)
            {
                questions.push(question);
            }
        };
        segment.gateways().into_iter().for_each(&mut add);
        for &(address, mac) in &self.heard {
            let question = on_link(address, segment).or_else(|| {
                // A stranger with an address that is not ours to route to lives as well.
                let stranger = !segment.is_vip(address);
                stranger.then_some(Question { address, believed_at: None, source: None })
            });
            // Those who should be there are asked as if they had not been heard: they may have moved.
            let moved = peers.contains(&address) || segment.is_vip(address);
            question
                .into_iter()
                .map(|q| Question { believed_at: (!moved).then_some(mac), ..q })
                .for_each(&mut add);
        }
        let vips = not_held.iter().cycle().skip(self.vips_asked).take(not_held.len());
        let should_be_there = peers.iter().chain(vips.take(STATIONS_MAX));
        should_be_there.filter_map(|&address| on_link(address, segment)).for_each(&mut add);
        self.vips_asked = (self.vips_asked + STATIONS_MAX) % not_held.len().max(1);
        questions
    }
}

/// What must be known about the segment and this machine.
pub(super) trait Segment {
    /// Index of the interface.
    fn interface(&self) -> u32;
    /// How the kernel would reach an address.
    fn route(&mut self, to: IpAddr) -> Option<Route>;
    /// Whether it is an address of a VIP.
    fn is_vip(&self, address: IpAddr) -> bool;

    /// The routers to the rest of the world that are on this interface.
    fn gateways(&mut self) -> Vec<Question> {
        let interface = self.interface();
        let mut gateways = Vec::new();
        for destination in OUTSIDE {
            let Some(route) = self.route(destination) else { continue };
            if let Some(address) = route.gateway.filter(|_| route.interface == interface) {
                let source =
                    route.source.filter(|&source| fits(source, address) && !self.is_vip(source));
                gateways.push(Question { address, believed_at: None, source });
            }
        }
        gateways
    }
}

/// Addresses that are nowhere (RFC 5737, RFC 3849): the way there is the default route.
const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

fn fits(source: IpAddr, address: IpAddr) -> bool {
    source.is_ipv4() == address.is_ipv4()
}

fn on_link(address: IpAddr, segment: &mut impl Segment) -> Option<Question> {
    let route = segment.route(address)?;
    if route.interface != segment.interface() || route.gateway.is_some() {
        return None;
    }
    let source = route.source.filter(|&source| fits(source, address) && !segment.is_vip(source));
    if source.is_none() && segment.is_vip(address) {
        return None;
    }
    Some(Question { address, believed_at: None, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    /// `10.0.0.0/24` and `fd00::/64` are on interface 3, whose own addresses end with 2; VIPs end with 100 and more.
    struct Lan {
        own: bool,
        router: Option<&'static str>,
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    impl Segment for Lan {
        fn interface(&self) -> u32 {
            3
        }

        fn route(&mut self, to: IpAddr) -> Option<Route> {
            let source = |text| Some(ip(if self.own { text } else { "10.0.0.101" }));
            match to.to_string() {
                text if text.starts_with("10.0.0.") => {
                    Some(Route { interface: 3, gateway: None, source: source("10.0.0.2") })
                }
                text if text.starts_with("fd00::") => {
                    Some(Route { interface: 3, gateway: None, source: source("fd00::2") })
                }
                text if text.starts_with("10.1.") => {
                    Some(Route { interface: 4, gateway: None, source: source("10.1.0.2") })
                }
                _ => Some(Route {
                    interface: 3,
                    gateway: Some(ip(self.router?)),
                    source: source("10.0.0.2"),
                }),
            }
        }

        fn is_vip(&self, address: IpAddr) -> bool {
            matches!(address, IpAddr::V4(v4) if v4.octets()[3] >= 100)
        }
    }

    fn addresses(questions: &[Question]) -> Vec<String> {
        questions.iter().map(|question| question.address.to_string()).collect()
    }

    #[test]
    fn everybody_who_should_be_there_is_asked() {
        let mut lan = Lan { own: true, router: Some("10.0.0.1") };
        let mut stations = Stations::default();
        stations.heard(ip("10.0.0.7"), MAC);
        stations.heard(ip("172.16.0.7"), MAC);
        let peers = ["10.0.0.3", "10.1.0.3", "fd00::3"].map(ip);

        let questions = stations.ask_all(&peers, &[ip("10.0.0.100")], &mut lan);

        assert_eq!(
            addresses(&questions),
            ["10.0.0.1", "172.16.0.7", "10.0.0.7", "10.0.0.3", "fd00::3", "10.0.0.100"]
        );
        let sources: Vec<_> = questions.iter().map(|question| question.source).collect();
        let (v4, v6) = (Some(ip("10.0.0.2")), Some(ip("fd00::2")));
        assert_eq!(sources, [v4, None, v4, v4, v6, v4], "strangers are asked in nobody's name");
    }

    #[test]
    fn no_vip_is_named_as_sender_and_none_is_asked_for_in_nobodys_name() {
        let mut lan = Lan { own: false, router: None };
        let mut stations = Stations::default();
        stations.heard(ip("10.0.0.102"), MAC);

        let questions = stations.ask_all(&[ip("10.0.0.3")], &[ip("10.0.0.100")], &mut lan);

        let question = Question { address: ip("10.0.0.3"), believed_at: None, source: None };
        assert_eq!(questions, [question]);
        assert_eq!(stations.ask_one(&mut lan), None);
    }

    #[test]
    fn the_one_heard_last_is_asked_where_it_is() {
        let mut lan = Lan { own: true, router: None };
        let mut stations = Stations::default();
        assert_eq!(stations.ask_one(&mut lan), None);
        stations.heard(ip("10.0.0.7"), MacAddress::BROADCAST);
        stations.heard(ip("10.0.0.8"), MAC);
        stations.heard(ip("10.0.0.7"), MAC);
        stations.heard(ip("0.0.0.0"), MAC);

        let question = stations.ask_one(&mut lan).unwrap();

        assert_eq!((question.address, question.believed_at), (ip("10.0.0.7"), Some(MAC)));
    }

    #[test]
    fn of_many_vips_some_are_asked_for_in_each_round_in_turn() {
        let mut lan = Lan { own: true, router: None };
        let vips: Vec<_> = (100..120).map(|last| ip(&format!("10.0.0.{last}"))).collect();
        let mut stations = Stations::default();

        let mut asked: Vec<_> =
            (0..3).flat_map(|_| addresses(&stations.ask_all(&[], &vips, &mut lan))).collect();
        assert_eq!(asked.len(), 24);
        asked.sort();
        asked.dedup();
        assert_eq!(asked.len(), 20, "all of them");
        assert_eq!(stations.ask_all(&[], &[], &mut lan), []);
    }
}
