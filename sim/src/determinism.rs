//! One seed, one trace: worlds of the exploration are run again and again, and their traces compared byte for byte, by hash.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use wackamole_protocol::config::Partition;

use crate::engine::Scheduler;
use crate::explore::{Pace, draw};
use crate::narrate::Narrator;
use crate::world;

/// SHA-256 of a trace.
pub type Fingerprint = [u8; 32];

/// The fingerprint of one world's whole trace, with every datagram.
pub fn fingerprint(scheduler: Scheduler, seed: u64, policies: &[Partition]) -> Fingerprint {
    let scenario = draw(seed, policies, Pace::Dense);
    let outcome = world::run_on(scheduler, &scenario, seed, true);
    Sha256::digest(Narrator::new(&scenario).trace(&outcome.entries, &outcome.chronicle)).into()
}

/// The fingerprints of many worlds, in the order of their seeds, worked out on so many threads.
pub fn fingerprints(
    scheduler: Scheduler,
    seeds: &RangeInclusive<u64>,
    policies: &[Partition],
    threads: NonZeroUsize,
    done: &(impl Fn() + Sync),
) -> Vec<(u64, Fingerprint)> {
    let next = AtomicU64::new(*seeds.start());
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        break;
                    }
                    let fingerprint = fingerprint(scheduler, seed, policies);
                    let Ok(mut all) = all.lock() else { break };
                    all.push((seed, fingerprint));
                    done();
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap_or_default();
    all.sort_unstable();
    all
}

/// The seeds whose fingerprints are not the same in both, or are in one of them only.
pub fn differing(one: &[(u64, Fingerprint)], other: &[(u64, Fingerprint)]) -> Vec<u64> {
    let in_one = one.iter().filter(|entry| !other.contains(entry));
    let mut seeds: Vec<u64> = in_one
        .chain(other.iter().filter(|entry| !one.contains(entry)))
        .map(|entry| entry.0)
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_whose_traces_do_or_that_are_missing() {
        let (x, y) = ([1; 32], [2; 32]);
        assert_eq!(differing(&[(1, x), (2, y)], &[(1, x), (2, y)]), Vec::<u64>::new());
        assert_eq!(differing(&[(1, x), (2, y)], &[(1, x), (2, x)]), [2]);
        assert_eq!(differing(&[(1, x)], &[(1, x), (2, x)]), [2]);
    }
}
