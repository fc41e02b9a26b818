//! Which claims on VIPs are worth reporting. Pure.
//!
//! Somebody else's use of a VIP is news only while the VIP is held here or was probed lately; at other times it is what
//! its rightful holder does. And a flood of claims must not become a flood of reports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use wackamole_protocol::mac::Claim;
use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::vip::{Vip, VipId};

/// Reports about one VIP, of one kind, within a heartbeat, and after each probe.
pub(super) const REPORTS_PER_HEARTBEAT: u32 = 3;

/// A probe is of interest for so long, or for two heartbeats if that is longer: whoever asked may probe again.
const PROBE_INTEREST: Duration = Duration::from_secs(3);

/// All VIPs that are known, and what is of interest about each.
#[derive(Debug)]
pub(super) struct Claims {
    heartbeat: Duration,
    /// Each address.
    addresses: BTreeMap<IpAddr, Place>,
    concerns: BTreeMap<VipId, Concern>,
}

/// Where an address belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    vip: VipId,
    interface: String,
    /// The VIP's first address is on this interface.
    first: bool,
}

/// That somebody was seen with an address of a VIP is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) vip: VipId,
    /// Whose hardware address is lower there says who goes first. Where a VIP has addresses on several interfaces only that of the first
    /// one decides: elsewhere it may be the other way round.
    pub(super) decides: bool,
}

#[derive(Debug, Default)]
struct Concern {
    held: bool,
    probed_until: Instant,
    uses: Reports,
    wants: Reports,
}

/// How much was reported since when.
#[derive(Debug, Default)]
struct Reports {
    since: Instant,
    count: u32,
}

impl Claims {
    pub(super) fn new(heartbeat: Duration) -> Self {
        Self { heartbeat, addresses: BTreeMap::new(), concerns: BTreeMap::new() }
    }

    /// Makes a VIP known. Returns whether it was not.
    pub(super) fn learn(&mut self, vip: &Arc<Vip>) -> bool {
        let mut new = false;
        let first = vip.addresses().first().map(|address| &address.interface);
        for address in vip.addresses() {
            let interface = address.interface.clone();
            let is = Place { vip: vip.id(), first: first == Some(&interface), interface };
            new |= self.addresses.get(&address.address) != Some(&is);
            self.addresses.insert(address.address, is);
        }
        self.concerns.entry(vip.id()).or_default();
        new
    }

    /// The addresses of all known VIPs.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().copied()
    }

    /// Whether it is an address of a known VIP.
    pub(super) fn is_vip(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    /// Addresses of VIPs on `interface` that are not held here.
    pub(super) fn not_held_on(&self, interface: &str) -> impl Iterator<Item = IpAddr> {
        let held = |vip| self.concerns.get(vip).is_some_and(|concern| concern.held);
        self.addresses
            .iter()
            .filter(move |(_, place)| place.interface == interface && !held(&place.vip))
            .map(|(&address, _)| address)
    }

    /// From now on a VIP is held here, or not any more.
    pub(super) fn hold(&mut self, vip: VipId, held: bool) {
        self.concerns.entry(vip).or_default().held = held;
    }

    /// A VIP is being probed. Whatever was reported before, answers are reported.
    pub(super) fn probed(&mut self, vip: VipId, now: Instant) {
        let until = now + PROBE_INTEREST.max(2 * self.heartbeat);
        let concern = self.concerns.entry(vip).or_default();
        concern.probed_until = until;
        concern.uses = Reports::default();
        concern.wants = Reports::default();
    }

    /// Somebody else was seen on `interface` with an address. Returns the VIP if that is to be reported.
    pub(super) fn seen(
        &mut self,
        address: IpAddr,
        interface: &str,
        claim: Claim,
        now: Instant,
    ) -> Option<Seen> {
        let place = self.addresses.get(&address)?;
        let concern = self.concerns.get_mut(&place.vip)?;
        if place.interface != interface || !(concern.held || now < concern.probed_until) {
            return None;
        }
        let reports = match claim {
            Claim::Uses => &mut concern.uses,
            Claim::Wants => &mut concern.wants,
        };
        if reports.count == 0 || now.since(reports.since) >= self.heartbeat {
            *reports = Reports { since: now, count: 0 };
        }
        reports.count += 1;
        (reports.count <= REPORTS_PER_HEARTBEAT)
            .then_some(Seen { vip: place.vip, decides: place.first })
    }
}

#[cfg(test)]
mod tests {
    use wackamole_protocol::vip::VipAddress;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn at(n: u64) -> Instant {
        Instant::ORIGIN + ms(n)
    }

    const ADDRESS: &str = "10.0.0.1";

    fn address() -> IpAddr {
        ADDRESS.parse().unwrap()
    }

    fn claims() -> (Claims, VipId) {
        let on = VipAddress { address: address(), prefix: 32, interface: "eth0".into() };
        let vip = Arc::new(Vip::new(ADDRESS, vec![on]));
        let mut claims = Claims::new(ms(100));
        assert!(claims.learn(&vip));
        assert!(!claims.learn(&vip));
        (claims, vip.id())
    }

    fn first(vip: VipId) -> Seen {
        Seen { vip, decides: true }
    }

    #[test]
    fn of_several_addresses_the_first_decides_who_goes_first() {
        let on = |address: &str, interface: &str| VipAddress {
            address: address.parse().unwrap(),
            prefix: 32,
            interface: interface.into(),
        };
        let vip = Arc::new(Vip::new("v", vec![on("10.0.0.9", "eth1"), on("10.0.0.2", "eth0")]));
        let mut claims = Claims::new(ms(100));
        claims.learn(&vip);
        claims.hold(vip.id(), true);
        let decide = ["10.0.0.9", "10.0.0.2"].map(|address| {
            let interface = if address == "10.0.0.9" { "eth1" } else { "eth0" };
            claims.seen(address.parse().unwrap(), interface, Claim::Uses, at(0)).unwrap().decides
        });
        assert_eq!(decide.iter().filter(|decides| **decides).count(), 1);
        assert_eq!(decide[0], vip.addresses()[0].interface == "eth1");
    }

    #[test]
    fn what_is_neither_held_nor_probed_belongs_to_somebody_else() {
        let (mut claims, vip) = claims();
        let seen = |claims: &mut Claims, now| claims.seen(address(), "eth0", Claim::Uses, now);
        assert_eq!(seen(&mut claims, at(0)), None);

        claims.hold(vip, true);
        assert_eq!(seen(&mut claims, at(1_000)), Some(first(vip)));
        claims.hold(vip, false);
        assert_eq!(seen(&mut claims, at(2_000)), None);

        claims.probed(vip, at(3_000));
        assert_eq!(seen(&mut claims, at(5_999)), Some(first(vip)));
        assert_eq!(seen(&mut claims, at(6_000)), None);
    }

    #[test]
    fn only_its_own_interface_counts() {
        let (mut claims, vip) = claims();
        claims.hold(vip, true);

        assert_eq!(claims.seen(address(), "eth1", Claim::Uses, at(0)), None);
        assert_eq!(claims.seen("10.0.0.2".parse().unwrap(), "eth0", Claim::Uses, at(0)), None);
        assert_eq!(claims.seen(address(), "eth0", Claim::Uses, at(0)), Some(first(vip)));
    }

    #[test]
    fn a_flood_becomes_a_few_reports_in_each_heartbeat_and_hides_no_other_kind() {
        let (mut claims, vip) = claims();
        claims.hold(vip, true);
        let reports = |claims: &mut Claims, from: u64| {
            (from..from + 100)
                .filter(|&now| claims.seen(address(), "eth0", Claim::Wants, at(now)).is_some())
                .count()
        };

        assert_eq!(reports(&mut claims, 0), 3);
        assert_eq!(claims.seen(address(), "eth0", Claim::Uses, at(99)), Some(first(vip)));
        assert_eq!(reports(&mut claims, 100), 3);
    }

    #[test]
    fn an_answer_to_a_probe_is_reported_whatever_came_before() {
        let (mut claims, vip) = claims();
        claims.probed(vip, at(0));
        for now in [1, 90, 91, 92] {
            claims.seen(address(), "eth0", Claim::Uses, at(now));
        }

        claims.probed(vip, at(95));

        assert_eq!(claims.seen(address(), "eth0", Claim::Uses, at(96)), Some(first(vip)));
    }

    #[test]
    fn vips_elsewhere_are_those_not_held() {
        let (mut claims, vip) = claims();
        assert_eq!(claims.not_held_on("eth0").collect::<Vec<_>>(), [address()]);
        assert_eq!(claims.not_held_on("eth1").count(), 0);
        claims.hold(vip, true);
        assert_eq!(claims.not_held_on("eth0").count(), 0);
    }
}
