//! What binds an engine to those whom a proposal leaves out, and from when on a view has a lease.

use std::collections::BTreeSet;

use super::*;
use crate::config::Partition;
use crate::vote::{Claim, Formed, Proxy};

fn cut_both_ways(lan: &mut Lan, pairs: &[(usize, usize)]) {
    lan.cut.extend(pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]));
}

fn debt(lan: &Lan, node: usize, to: usize) -> Duration {
    let group = &lan.groups[node];
    group.peer(name(to)).expect("a peer").debt(&group.timing, lan.now)
}

#[test]
fn a_proposer_waits_for_the_end_of_its_own_promises() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(250));
    lan.keep_quiet = true;
    // The first hears both of two that do not hear each other. It drops one of them.
    cut_both_ways(&mut lan, &[(1, 2)]);
    let mark = lan.messages.len();
    let proposed = |lan: &Lan| {
        let mut messages = lan.messages[mark..].iter();
        messages.any(|(from, _, what)| *from == 0 && matches!(what, GroupMessage::Propose { .. }))
    };
    lan.run_until(proposed);

    let dropped: Vec<usize> =
        (1..3).filter(|&peer| debt(&lan, 0, peer) == Duration::ZERO).collect();
    assert_eq!(dropped, [2]);
}

#[test]
fn whoever_refuses_for_a_promise_lets_it_end() {
    let mut lan = Lan::new(4);
    // Two pairs; those of the one do not hear the last of the other, who hears nobody else.
    cut_both_ways(&mut lan, &[(0, 1), (1, 3), (0, 2), (2, 3)]);
    lan.run(ms(2_000));
    let members = |lan: &Lan, i: usize| lan.groups[i].view().map(|view| view.members.len());
    assert_eq!((members(&lan, 0), members(&lan, 1)), (Some(2), Some(2)));

    let epoch = lan.groups[0].epoch.max(lan.groups[1].epoch) + 1;
    for (a, b) in [(0, 1), (1, 0), (1, 3), (3, 1)] {
        lan.cut.remove(&(a, b));
    }
    lan.keep_quiet = true;
    lan.run(ms(150));
    let message = propose(&lan, epoch, 0, &[0, 1, 3]);
    lan.tell(0, 1, message);
    assert!(matches!(refusals(&lan, 1).last(), Some(Refusal::Debt { .. })));
    assert!(debt(&lan, 1, 2) > ms(250));

    lan.run(ms(400));
    assert_eq!(debt(&lan, 1, 2), Duration::ZERO, "it goes on hearing it all the time");
}

#[test]
fn whoever_is_given_a_vote_keeps_the_promises_of_who_gave_it() {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    lan.run(ms(250));
    lan.keep_quiet = true;
    cut_both_ways(&mut lan, &[(0, 1)]);
    lan.run(ms(1_000));
    let without_the_first = keys(&lan, &[1, 2]).into_iter().collect();
    let owed = |lan: &Lan| lan.groups[1].largest_debt(&without_the_first, lan.now);
    assert_eq!(owed(&lan), Duration::ZERO, "it has not heard it for long");

    let mut record = lan.groups[2].told_record().expect("a record");
    let up_to = lan.groups[2].highest_accepted();
    record.proxies.insert(name(2), Proxy { to: name(1), up_to });
    lan.tell(2, 1, GroupMessage::Vote { record });

    assert_eq!(owed(&lan), ms(400), "the leaver may have promised it something a moment ago");
    lan.run(ms(400));
    assert_eq!(owed(&lan), Duration::ZERO);
}

#[test]
fn nobody_holds_by_the_vote_of_one_who_knew_of_something_later() {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    let view = lan.groups[1].view().cloned().expect("a view");
    let heir_and_leaver = BTreeSet::from([name(1), name(2)]);
    assert!(lan.groups[1].decides_for(&view, &heir_and_leaver));

    for (later, decides) in [(0, true), (1, false)] {
        let mut record = lan.groups[2].told_record().expect("a record");
        let up_to = ViewId { epoch: view.id.epoch + later, ..view.id };
        record.proxies.insert(name(2), Proxy { to: name(1), up_to });
        lan.tell(2, 1, GroupMessage::Vote { record });

        assert_eq!(lan.groups[1].decides_for(&view, &heir_and_leaver), decides);
    }
}

#[test]
fn a_view_has_its_lease_from_the_moment_it_is_installed() {
    for partition in [Partition::Component, Partition::Quorum] {
        let mut lan = Lan::under(partition, 3);
        lan.run_until(|lan| lan.views.len() == 3);

        let shortest = lan.leases.iter().min().expect("three").expect("a lease");
        assert!(shortest > lan.now + ms(250), "{partition:?}: {:?}", lan.leases);
    }
}

/// The second of three is the primary view alone, and has accepted one with the first; returns the ballot of that.
fn alone_after_a_vote() -> (Lan, ViewId) {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    cut_both_ways(&mut lan, &[(0, 1), (0, 2)]);
    lan.run(ms(2_000));
    cut_both_ways(&mut lan, &[(1, 2)]);
    lan.run(ms(2_000));
    let view = lan.groups[1].view().expect("a view");
    assert!(view.primary && view.members.len() == 1, "{view:?}");

    lan.keep_quiet = true;
    lan.cut.remove(&(0, 1));
    lan.cut.remove(&(1, 0));
    lan.run(ms(250));
    let epoch = lan.groups[0].epoch.max(lan.groups[1].epoch) + 1;
    let GroupMessage::Propose { ballot, members, digest, .. } = propose(&lan, epoch, 0, &[0, 1])
    else {
        unreachable!()
    };
    let record = lan.groups[1].told_record().expect("a record");
    let claim = Some(Claim { record, mute: BTreeSet::new() });
    lan.tell(0, 1, GroupMessage::Propose { ballot, members, digest, claim });
    assert!(lan.groups[1].may_be_formed(ballot), "it has voted for it");
    (lan, ballot)
}

#[test]
fn a_primary_view_that_was_accepted_binds_the_lease_whatever_is_accepted_after_it() {
    for and_another in [false, true] {
        let (mut lan, voted) = alone_after_a_vote();
        if and_another {
            let later = propose(&lan, voted.epoch + 1, 0, &[0, 1]);
            lan.tell(0, 1, later);
            assert!(lan.groups[1].highest_accepted() > voted);
        }
        cut_both_ways(&mut lan, &[(0, 1)]);
        let cut_at = lan.now;
        lan.run(ms(150));

        let lease = lan.groups[1].lease().expect("not over yet");
        assert!(lease <= cut_at + ms(400), "as if it decided alone, another: {and_another}");
    }
}

#[test]
fn a_later_primary_view_of_others_is_the_end_of_the_lease() {
    let (mut lan, voted) = alone_after_a_vote();
    let mut record = lan.groups[1].told_record().expect("a record");
    record.attempts.clear();
    record.primary =
        Some(Formed { ballot: ViewId { epoch: voted.epoch + 1, ..voted }, voters: vec![name(0)] });
    assert!(lan.groups[1].view().is_some_and(|view| view.primary));

    lan.tell(0, 1, GroupMessage::Vote { record });
    lan.run(ms(100));

    assert!(lan.groups[1].view().is_none_or(|view| !view.primary));
}
