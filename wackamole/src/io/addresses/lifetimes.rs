//! The kernel's own limit to how long it keeps our addresses: `valid_lft` (ip-address(8)), renewed while the lease runs. If
//! nobody is left to remove them, they end. Pure.
//!
//! The kernel counts in seconds and looks once a second: addresses of 1 s end 1.0 to 1.9 s after they were renewed last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use wackamole_protocol::time::{Duration, Instant};

use super::mirror::KernelAddress;
use crate::env::Lease;

/// The least there is, because without a gate this is what silences a machine whose daemon and guardian are both gone:
/// at most two seconds after.
pub const SECONDS_ALONE: u32 = 1;

/// With a gate the machine is silent already, and what remains is to tidy up; a fifth of the renewals do.
pub const SECONDS_BEHIND_GATE: u32 = 5;

/// So often in each lifetime an address is renewed.
const RENEWALS: u32 = 3;

/// Those that are due within this part of the pause between renewals are renewed together.
const TOGETHER: u32 = 4;

/// So many IPv4 addresses have a lifetime. Each renewal takes the kernel some 5 µs and has it look through all of them.
const IPV4_MAX: usize = 2_000;

/// So many IPv6 addresses have a lifetime. Whenever one is added, renewed or removed the kernel looks through all that have
/// one before it answers (addrconf_verify_rtnl() in net/ipv6/addrconf.c): of a hundred each renewal takes 40 µs, of a
/// thousand 200 µs, and to remove a thousand takes 1.4 s, without lifetimes 0.2 s.
const IPV6_MAX: usize = 250;

/// When which address is renewed.
#[derive(Debug)]
pub(super) struct Lifetimes {
    seconds: Option<u32>,
    ipv6: usize,
    order: BTreeSet<(Instant, KernelAddress)>,
    due: BTreeMap<KernelAddress, Instant>,
}

impl Lifetimes {
    /// Addresses live for so many seconds, or for ever.
    pub(super) fn new(seconds: Option<u32>) -> Self {
        Self { seconds, ipv6: 0, order: BTreeSet::new(), due: BTreeMap::new() }
    }

    /// For how many seconds the kernel shall keep `key`, which is about to be added at `now`; nothing stands for ever.
    pub(super) fn admit(&mut self, key: KernelAddress, now: Instant) -> Option<u32> {
        let seconds = self.seconds.filter(|_| self.has_room_for(&key))?;
        self.renewed(key, now);
        Some(seconds)
    }

    /// For how many seconds the kernel shall keep an address that was taken to be renewed.
    pub(super) fn seconds(&self) -> Option<u32> {
        self.seconds
    }

    /// Whether `key` has a lifetime or can be given one; beyond a number it would cost too much.
    pub(super) fn has_room_for(&self, key: &KernelAddress) -> bool {
        let room = match key.address.is_ipv6() {
            true => self.ipv6 < IPV6_MAX,
            false => self.due.len() - self.ipv6 < IPV4_MAX,
        };
        room || self.due.contains_key(key)
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or_default().into()) / RENEWALS
    }

    /// The kernel was given `key` anew at `now`.
    pub(super) fn renewed(&mut self, key: KernelAddress, now: Instant) {
        self.put(key, now + self.pause());
    }

    /// It is not known how long `key`, which was there before, will live.
    pub(super) fn inherited(&mut self, key: KernelAddress, now: Instant) {
        if self.has_room_for(&key) {
            self.put(key, now);
        }
    }

    fn put(&mut self, key: KernelAddress, at: Instant) {
        if self.seconds.is_some() {
            self.forget(&key);
            self.due.insert(key, at);
            self.ipv6 += usize::from(key.address.is_ipv6());
            self.order.insert((at, key));
        }
    }

    /// `key` is not to be renewed.
    pub(super) fn forget(&mut self, key: &KernelAddress) {
        if let Some(at) = self.due.remove(key) {
            self.order.remove(&(at, *key));
            self.ipv6 -= usize::from(key.address.is_ipv6());
        }
    }

    /// Takes what is due at `now`, at most `limit`.
    pub(super) fn take(&mut self, now: Instant, limit: usize) -> Vec<KernelAddress> {
        if self.order.first().is_none_or(|&(at, _)| at > now) {
            return vec![];
        }
        let soon = now + self.pause() / TOGETHER;
        let due = self.order.iter().take_while(|&&(at, _)| at <= soon).take(limit);
        let keys: Vec<_> = due.map(|&(_, key)| key).collect();
        for key in &keys {
            self.forget(key);
        }
        keys
    }

    /// How long to wait for the next renewal; `None` if there is nothing to renew. Without a lease nothing is renewed,
    /// and it is looked again whether there is one.
    pub(super) fn wait(&self, now: Instant, lease_runs: bool) -> Option<Duration> {
        let &(at, _) = self.order.first()?;
        Some(if lease_runs { at.since(now) } else { self.pause() })
    }
}

/// The lease, as the driver's thread tells it and the worker's reads it.
#[derive(Debug, Default)]
pub(super) struct LeaseCell {
    until: AtomicU64,
    /// How many have ended before another one, or none, was told.
    ended: AtomicU64,
}

/// What a piece of work was asked for under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permission {
    ended: u64,
}

impl LeaseCell {
    /// There is none.
    const NONE: u64 = 0;

    /// From `now` on it is this one. One that goes on where the last one has not ended is the same one, only longer.
    pub(super) fn put(&self, lease: Lease, now: Instant) {
        let nanoseconds = match lease {
            Lease::None => Self::NONE,
            Lease::Until(until) => {
                u64::try_from(until.since_origin().as_nanos()).map_or(u64::MAX, |n| n.max(1))
            }
        };
        if lease == Lease::None || self.is_over(now) {
            // First, so that whoever sees the new lease sees that the old one has ended.
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
        self.until.store(nanoseconds, Ordering::SeqCst);
    }

    fn get(&self) -> Option<Instant> {
        let nanoseconds = self.until.load(Ordering::SeqCst);
        let until = Instant::after_origin(Duration::from_nanos(nanoseconds));
        (nanoseconds != Self::NONE).then_some(until)
    }

    /// There is one, and `now` it has not ended.
    pub(super) fn runs(&self, now: Instant) -> bool {
        self.get().is_some_and(|until| now < until)
    }

    /// There was one, and `now` it has ended.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.get().is_some_and(|until| now >= until)
    }

    /// What permits the work that is handed over at present.
    pub(super) fn permission(&self) -> Permission {
        Permission { ended: self.ended.load(Ordering::SeqCst) }
    }

    /// The lease that `permission` was given under goes on still: it has not ended `now`, and no other one has begun.
    pub(super) fn permits(&self, permission: Permission, now: Instant) -> bool {
        !self.is_over(now) && self.ended.load(Ordering::SeqCst) == permission.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::after_origin(Duration::from_millis(ms))
    }

    fn key(number: u8) -> KernelAddress {
        KernelAddress { address: [10, 0, 0, number].into(), prefix: 32, interface: 1 }
    }

    #[test]
    fn each_address_is_renewed_three_times_in_its_life_and_neighbours_together() {
        let mut lifetimes = Lifetimes::new(Some(3));
        lifetimes.renewed(key(1), at(0));
        lifetimes.renewed(key(2), at(200));
        lifetimes.renewed(key(3), at(300));

        assert_eq!(lifetimes.wait(at(100), true), Some(Duration::from_millis(900)));
        assert_eq!(lifetimes.take(at(999), 64), []);
        assert_eq!(lifetimes.take(at(1_000), 64), [key(1), key(2)]);
        assert_eq!(lifetimes.wait(at(1_000), true), Some(Duration::from_millis(300)));
        assert_eq!(lifetimes.take(at(5_000), 64), [key(3)]);
        assert_eq!(lifetimes.wait(at(5_000), true), None);
    }

    #[test]
    fn what_was_there_before_is_due_at_once_and_what_is_gone_never() {
        let mut lifetimes = Lifetimes::new(Some(1));
        for number in 1..=4 {
            lifetimes.inherited(key(number), at(7));
        }
        lifetimes.forget(&key(2));
        lifetimes.renewed(key(3), at(8));

        assert_eq!(lifetimes.take(at(8), 1), [key(1)]);
        assert_eq!(lifetimes.take(at(8), 64), [key(4)]);
    }

    #[test]
    fn beyond_a_number_addresses_live_for_ever() {
        let ipv6 = |number: u16| {
            let address = [0xfd00, 0, 0, 0, 0, 0, 0, number].into();
            KernelAddress { address, prefix: 128, interface: 1 }
        };
        let mut lifetimes = Lifetimes::new(Some(1));
        let admitted = (0..1_000).filter(|&n| lifetimes.admit(ipv6(n), at(0)).is_some()).count();
        assert_eq!(admitted, IPV6_MAX);
        assert_eq!(lifetimes.admit(key(1), at(0)), Some(1), "IPv4 is counted apart");
        assert_eq!(lifetimes.admit(ipv6(3), at(0)), Some(1), "it has one");

        lifetimes.forget(&ipv6(3));
        lifetimes.inherited(ipv6(900), at(0));
        assert_eq!(lifetimes.admit(ipv6(901), at(0)), None);
        assert_eq!(lifetimes.take(at(0), 64).first(), Some(&ipv6(900)));
    }

    #[test]
    fn nothing_is_renewed_that_lives_for_ever() {
        let mut lifetimes = Lifetimes::new(None);
        lifetimes.renewed(key(1), at(0));
        lifetimes.inherited(key(2), at(0));
        assert_eq!(lifetimes.take(at(1_000_000), 64), []);
        assert_eq!(lifetimes.wait(at(0), false), None);
    }

    #[test]
    fn without_a_lease_it_is_looked_again_instead_of_at_once() {
        let mut lifetimes = Lifetimes::new(Some(3));
        lifetimes.inherited(key(1), at(0));
        assert_eq!(lifetimes.wait(at(10), true), Some(Duration::ZERO));
        assert_eq!(lifetimes.wait(at(10), false), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_lease_runs_until_its_end_and_one_never_given_is_not_over() {
        let cell = LeaseCell::default();
        assert_eq!((cell.runs(at(1)), cell.is_over(at(1))), (false, false));
        cell.put(Lease::Until(at(5)), at(2));
        assert_eq!((cell.runs(at(4)), cell.is_over(at(4))), (true, false));
        assert_eq!((cell.runs(at(5)), cell.is_over(at(5))), (false, true));
        cell.put(Lease::Until(at(0)), at(6));
        assert_eq!(
            (cell.runs(at(1)), cell.is_over(at(1))),
            (false, true),
            "the origin is no `none`"
        );
        cell.put(Lease::None, at(7));
        assert_eq!((cell.runs(at(1)), cell.is_over(at(1))), (false, false));
    }

    #[test]
    fn work_is_permitted_by_the_lease_that_it_was_asked_for_under_and_by_no_later_one() {
        let cell = LeaseCell::default();
        let before_any = cell.permission();
        assert!(cell.permits(before_any, at(2)));

        cell.put(Lease::Until(at(5)), at(2));
        let permission = cell.permission();
        cell.put(Lease::Until(at(10)), at(4));
        assert!(cell.permits(permission, at(9)), "it was renewed in time");
        assert!(!cell.permits(permission, at(10)));

        cell.put(Lease::Until(at(20)), at(11));
        assert!(!cell.permits(permission, at(12)), "that is another one");
        let permission = cell.permission();
        assert!(cell.permits(permission, at(12)));
        cell.put(Lease::None, at(13));
        cell.put(Lease::Until(at(30)), at(14));
        assert!(!cell.permits(permission, at(15)), "there was none in between");
    }
}
