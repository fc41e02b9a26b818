//! Keeps what the network can provoke at will from flooding the log.

use std::collections::BTreeMap;
use std::time::Duration;

use wackamole_protocol::time::Instant;

/// Causes remembered, and lines within one pause over all of them: whoever forges sender addresses gets no more.
const CAUSES_MAX: usize = 32;

/// At most one line per cause in each pause. The first is let through at once, the rest are counted.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    pause: Duration,
    causes: BTreeMap<K, Cause>,
    /// Of causes that there was no room to remember.
    unsaid_others: u64,
}

#[derive(Debug)]
struct Cause {
    said: Instant,
    unsaid: u64,
}

impl<K: Ord + Clone> Limiter<K> {
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, causes: BTreeMap::new(), unsaid_others: 0 }
    }

    /// If a line is due: how many were not written since the last one. Otherwise this one is counted.
    pub(super) fn admit(&mut self, key: K, now: Instant) -> Option<u64> {
        if let Some(cause) = self.causes.get_mut(&key) {
            if now.since(cause.said) < self.pause {
                cause.unsaid += 1;
                return None;
            }
            cause.said = now;
            return Some(std::mem::take(&mut cause.unsaid));
        }
        if self.causes.len() >= CAUSES_MAX {
            self.causes.retain(|_, cause| now.since(cause.said) < self.pause);
        }
        if self.causes.len() >= CAUSES_MAX {
            self.unsaid_others += 1;
            return None;
        }
        self.causes.insert(key, Cause { said: now, unsaid: 0 });
        Some(std::mem::take(&mut self.unsaid_others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::after_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn a_cause_is_told_at_once_and_then_counted() {
        let mut limiter = Limiter::new(Duration::from_secs(10));

        let admitted: Vec<_> =
            [0, 1, 9, 10, 11, 25].map(|second| limiter.admit("x", at(second))).into();

        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
        assert_eq!(limiter.admit("y", at(25)), Some(0));
    }

    #[test]
    fn a_thousand_causes_make_no_more_lines_than_the_limit() {
        let mut limiter = Limiter::new(Duration::from_secs(10));

        let told = (0..1000).filter(|cause| limiter.admit(*cause, at(1)).is_some()).count();

        assert_eq!(told, CAUSES_MAX);
        assert_eq!(limiter.admit(5000, at(12)), Some(1000 - CAUSES_MAX as u64));
    }
}
