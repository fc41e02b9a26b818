//! Quorum: how a vote binds the lease of who gives it, and when it is not given.

use super::*;
use crate::vote::Formed;

#[test]
fn a_view_has_its_lease_from_the_moment_it_is_installed() {
    for partition in [Partition::Component, Partition::Quorum] {
        let lan = Lan::agreed_under(partition, 3);

        let shortest = lan.leases.iter().min().expect("three").expect("a lease");
        assert!(shortest > lan.now + ms(250), "{partition:?}: {:?}", lan.leases);
    }
}

/// It has accepted a primary view with the first; returns the ballot of that.
fn alone_after_a_vote() -> (Lan, ViewId) {
    let mut lan = alone();
    lan.keep_quiet = true;
    lan.run(ms(250));
    let epoch = lan.next_epoch();
    let ballot = ballot(epoch, 0);
    let offer = claims(&lan, ballot, &[0, 1], 1);
    lan.tell(0, 1, offer);
    assert!(lan.groups[1].may_be_formed(ballot), "it has voted for it");
    (lan, ballot)
}

#[test]
fn a_primary_view_that_was_accepted_binds_the_lease() {
    let (mut lan, _) = alone_after_a_vote();
    lan.cut_both_ways(&[(0, 1)]);
    let cut_at = lan.now;
    lan.run(ms(150));

    let lease = lan.groups[1].lease().expect("not over yet");
    assert!(lease <= cut_at + ms(400), "as if it decided alone");
}

/// The first may have installed the view of the two of them, and goes on alone by that; those who would be enough for what was
/// accepted after it are not asked.
#[test]
fn a_primary_view_that_was_accepted_binds_the_lease_whatever_is_accepted_after_it() {
    let (mut lan, voted) = alone_after_a_vote();
    lan.cut.clear();
    lan.run(ms(250));
    let later = claims(&lan, ballot(voted.epoch + 1, 0), &[0, 1, 2], 1);
    for member in [1, 2] {
        lan.tell(0, member, later.clone());
        assert!(lan.groups[member].highest_accepted() > voted);
    }
    assert!(lan.groups[1].may_be_formed(voted));
    lan.cut_both_ways(&[(0, 1), (0, 2)]);
    let cut_at = lan.now;
    lan.run(ms(150));

    assert!(promises(&lan, 2, 1) > 0, "the third goes on promising");
    let lease = lan.groups[1].lease().expect("not over yet");
    assert!(lease <= cut_at + ms(400), "{lease}, cut at {cut_at}");
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

/// A claim by the first, who hears nothing of the second and has promised it nothing; as if it had heard this of it.
fn claim_of_a_stranger(lan: &mut Lan, heard_of_the_second: impl Fn(&Group) -> u64) -> GroupMessage {
    lan.cut.insert((1, 0));
    lan.keep_quiet = true;
    lan.run(ms(250));
    let epoch = lan.next_epoch();
    let mut offer = claims(lan, ballot(epoch, 0), &[0, 1], 1);
    if let GroupMessage::Propose { heard, .. } = &mut offer {
        *heard = vec![(name(1), heard_of_the_second(&lan.groups[1]))];
    }
    offer
}

#[test]
fn a_vote_counts_on_no_more_than_its_proposer_promises() {
    let mut lan = alone();
    let mut offer =
        claim_of_a_stranger(&mut lan, |group| group.sent.back().expect("a heartbeat").0);
    if let GroupMessage::Propose { promise_us, .. } = &mut offer {
        *promise_us = 300_000;
    }
    let (_, sent_at) = *lan.groups[1].sent.back().expect("a heartbeat");
    lan.tell(0, 1, offer);
    let now = lan.now;
    lan.groups[1].renew_lease(now);

    let lease = lan.groups[1].lease().expect("not over yet");
    assert_eq!(lease, sent_at + Duration::from_micros(299_700) - ms(15), "ours is longer");
}

#[test]
fn a_vote_that_would_cost_the_lease_at_once_is_not_given_until_it_would_not() {
    let mut lan = alone();
    let offer = claim_of_a_stranger(&mut lan, |group| group.sent[2].0);
    lan.tell(0, 1, offer);
    lan.run(ms(30));

    assert_eq!(refusals(&lan, 1).last(), Some(&Refusal::Unheard));
    assert!(lan.groups[1].lease().is_some_and(|lease| lease > lan.now + ms(300)));

    lan.keep_quiet = false;
    lan.cut.remove(&(1, 0));
    lan.run_until(|lan| lan.groups[1].view().is_some_and(|view| view.members.len() == 2));
}

#[test]
fn our_own_proposal_does_not_bind_our_own_lease() {
    let mut lan = alone();
    lan.cut_both_ways(&[(0, 1)]);
    lan.cut.remove(&(1, 2));
    lan.cut.remove(&(2, 1));
    lan.keep_quiet = true;
    lan.run_until(|lan| lan.groups[1].proposal.is_some());
    lan.run(ms(5));

    assert!(lan.groups[1].lease().is_some_and(|lease| lease > lan.now + ms(350)));
    assert!(lan.groups[1].voted.is_empty());
}

#[test]
fn nobody_hears_of_an_accept_before_a_restart_would_know_of_it_and_a_restart_does() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 2);
    let before = lan.groups[1].highest_accepted();
    let epoch = lan.next_epoch();
    let offer = claims(&lan, ballot(epoch, 0), &[0, 1], 1);
    lan.groups[1].handle_message(name(0), offer, lan.now);
    let told = |group: &Group| group.told_record().expect("a record").accepted;
    assert_eq!(lan.groups[1].highest_accepted(), ballot(epoch, 0));
    assert_eq!(told(&lan.groups[1]), before);
    let mut disk = Vec::new();
    while let Some(output) = lan.groups[1].poll_output() {
        if let GroupOutput::Save { ticket, record } = output {
            disk = record;
            lan.groups[1].handle_saved(ticket, lan.now);
        }
    }
    assert_eq!(told(&lan.groups[1]), ballot(epoch, 0));

    let mut config = config(2, 1);
    config.safety = Safety::new(Partition::Quorum, &config.timing);
    let mut again = Group::new(&config, 0, Incarnation::new(3, 1), lan.now);
    again.recall(&disk).expect("a record");

    assert_eq!(told(&again), ballot(epoch, 0));
    let known = again.told_record().expect("a record");
    assert_eq!(Some(known.attempts), lan.groups[1].told_record().map(|record| record.attempts));
}

#[test]
fn a_vote_with_a_member_to_whom_less_than_half_is_left_is_not_given() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
    lan.hush();
    let without = keys(&lan, &[0, 1]).into_iter().collect();
    let told = Some(ballot(lan.next_epoch(), 0));
    lan.groups[1].freeze_promises(&without, told, lan.now);
    lan.run(ms(150));
    for (wait, given) in [(0, true), (60, false)] {
        lan.run(ms(wait));
        let epoch = lan.next_epoch();
        let ballot = ballot(epoch, 0);
        let offer = claims(&lan, ballot, &[0, 1, 2], 1);
        lan.tell(0, 1, offer);
        assert_eq!(lan.groups[1].highest_accepted() == ballot, given, "{:?}", refusals(&lan, 1));
    }
}

#[test]
fn whoever_knows_of_no_primary_view_takes_none_away() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 4);
    lan.run(ms(300));
    lan.cut_both_ways(&[(3, 0), (3, 1), (3, 2)]);
    lan.run(ms(2_000));
    lan.cut_both_ways(&[(0, 1), (0, 2)]);
    lan.run(ms(2_000));
    // The lowest rank comes back with a blank disk, to two of four.
    let mut blank = config(4, 0);
    blank.safety = Safety::new(Partition::Quorum, &blank.timing);
    lan.groups[0] = Group::new(&blank, 0, Incarnation::new(3, 0), lan.now);
    lan.run(ms(600));
    for (a, b) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
        lan.cut.remove(&(a, b));
    }

    let mark = lan.messages.len();
    lan.run(ms(2_000));

    let installed = lan.messages[mark..].iter().filter_map(|(_, _, message)| match message {
        GroupMessage::Install { primary, .. } => Some(*primary),
        _ => None,
    });
    assert_eq!(installed.collect::<Vec<_>>(), [true, true]);
    assert_eq!(lan.groups[0].view().expect("a view").members.len(), 3);
}
