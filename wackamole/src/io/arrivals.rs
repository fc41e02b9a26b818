//! When datagrams of peers last came in, for whoever watches whether an interface is alive: what the driver's thread hears
//! anyway need not be looked for.

use std::sync::atomic::{AtomicU64, Ordering};

use wackamole_protocol::time::{Duration, Instant};

/// One instant for each of this node's networks, in the order of its addresses. Shared by threads.
#[derive(Debug)]
pub struct Arrivals(Vec<AtomicU64>);

impl Arrivals {
    /// Nothing has come in on any of so many networks.
    pub fn new(networks: usize) -> Self {
        Self((0..networks).map(|_| AtomicU64::new(0)).collect())
    }

    /// A peer's datagram has come in.
    pub fn note(&self, network: usize, now: Instant) {
        if let Some(latest) = self.0.get(network) {
            let nanos = u64::try_from(now.since_origin().as_nanos()).unwrap_or(u64::MAX);
            latest.store(nanos, Ordering::Relaxed);
        }
    }

    /// When the last one came in; the origin if none did.
    pub fn latest(&self, network: usize) -> Instant {
        let nanos = self.0.get(network).map_or(0, |latest| latest.load(Ordering::Relaxed));
        Instant::after_origin(Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_own_latest() {
        let arrivals = Arrivals::new(2);
        let now = Instant::after_origin(Duration::from_secs(7));

        arrivals.note(1, now);
        arrivals.note(2, now); // there is none

        assert_eq!([0, 1, 2].map(|n| arrivals.latest(n)), [Instant::ORIGIN, now, Instant::ORIGIN]);
    }
}
