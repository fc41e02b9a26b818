//! When a verdict is come to: as soon as what it waits for is known, and not before the clock has a reason to look.

use super::*;
use crate::time::Instant;

#[test]
fn nothing_but_heartbeats_wakes_a_cluster_that_is_whole() {
    for partition in [Partition::Component, Partition::Lan, Partition::Quorum] {
        // Their heartbeats are not due at the same time.
        let mut lan = Lan::agreed_under(partition, 3);
        lan.run(ms(1_000));
        let mut reasons = BTreeMap::new();
        for _ in 0..400 {
            for group in &lan.groups {
                *reasons.entry(group.poll_timeout().reason).or_insert(0) += 1;
            }
            lan.run(ms(5));
        }
        assert_eq!(
            reasons.keys().collect::<Vec<_>>(),
            [&"heartbeat"],
            "{partition:?}: {reasons:?}"
        );
    }
}

#[test]
fn whoever_is_denied_and_lives_is_dropped_as_soon_as_it_is_heard() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(350));
    lan.cut_both_ways(&[(1, 2)]);
    let frozen_at = |lan: &Lan| lan.groups[0].peer(name(2)).expect("a peer").frozen_at;
    lan.run_until(|lan| frozen_at(lan).is_some());

    let denied_since: Instant = lan.groups[0].peer(name(1)).expect("a peer").row[&name(2)].since;
    let waited = frozen_at(&lan).expect("frozen").since(denied_since);
    // Somebody who has just died is denied like that, too: so that long it is waited, and then for its next heartbeat.
    assert!((ms(150)..=ms(250)).contains(&waited), "{waited:?}");
}
