//! What binds an engine to those whom a proposal leaves out, and from when on a view has a lease.

use std::collections::BTreeSet;

use super::super::agreement::Accepting;
use super::*;
use crate::config::Partition;
use crate::vote::{Formed, Proxy};

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

/// A proposal of a primary view, founded on what `witness` knows.
fn claims(lan: &Lan, ballot: ViewId, members: &[usize], witness: usize) -> GroupMessage {
    let record = lan.groups[witness].told_record().expect("a record");
    let claim = Claim { record, mute: BTreeSet::new() };
    asks(lan, ballot, keys(lan, members), Some(claim))
}

/// The second of three is the primary view alone, and hears the first again.
fn alone() -> Lan {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    cut_both_ways(&mut lan, &[(0, 1), (0, 2)]);
    lan.run(ms(2_000));
    cut_both_ways(&mut lan, &[(1, 2)]);
    lan.run(ms(2_000));
    let view = lan.groups[1].view().expect("a view");
    assert!(view.primary && view.members.len() == 1, "{view:?}");

    lan.cut.remove(&(0, 1));
    lan.cut.remove(&(1, 0));
    lan
}

/// It has accepted a primary view with the first; returns the ballot of that.
fn alone_after_a_vote() -> (Lan, ViewId) {
    let mut lan = alone();
    lan.keep_quiet = true;
    lan.run(ms(250));
    let epoch = lan.groups[0].epoch.max(lan.groups[1].epoch) + 1;
    let ballot = ballot(epoch, 0);
    let offer = claims(&lan, ballot, &[0, 1], 1);
    lan.tell(0, 1, offer);
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

/// A claim by the first, who hears nothing of the second and has promised it nothing; as if it had heard this of it.
fn claim_of_a_stranger(lan: &mut Lan, heard_of_the_second: impl Fn(&Group) -> u64) -> GroupMessage {
    lan.cut.insert((1, 0));
    lan.keep_quiet = true;
    lan.run(ms(250));
    let epoch = lan.groups[0].epoch.max(lan.groups[1].epoch) + 1;
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
fn whoever_leaves_in_mid_agreement_tells_that_nothing_will_come_of_its_proposal() {
    let mut lan = alone();
    lan.hold_back =
        Some(|_, to, message| to == 0 && matches!(message, GroupMessage::Accept { .. }));
    lan.run_until(|lan| !lan.held_back.is_empty());
    let asked = lan.groups[0].highest_accepted();
    assert!(lan.groups[1].may_be_formed(asked));

    assert!(!give_vote(&mut lan, 0), "that is on its way to the disk");
    lan.run(ms(5));

    assert!(give_vote(&mut lan, 0));
    assert!(!lan.groups[1].may_be_formed(asked), "or it would be bound until the other is back");
    lan.run(ms(300));
    assert_eq!(lan.groups[0].highest_accepted(), asked, "nor does it propose another");
}

#[test]
fn our_own_proposal_does_not_bind_our_own_lease() {
    let mut lan = alone();
    cut_both_ways(&mut lan, &[(0, 1)]);
    lan.cut.remove(&(1, 2));
    lan.cut.remove(&(2, 1));
    lan.keep_quiet = true;
    lan.run_until(|lan| lan.groups[1].proposal.is_some());
    lan.run(ms(5));

    assert!(lan.groups[1].lease().is_some_and(|lease| lease > lan.now + ms(350)));
    assert!(lan.groups[1].voted.is_empty());
}

#[test]
fn nobody_lets_go_because_a_member_that_gave_its_vote_away_promises_nothing() {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    lan.run(ms(250));
    give_vote(&mut lan, 2);
    // Its leave does not come: something that it said has not been acknowledged.
    lan.run(ms(1_500));

    assert_eq!(promises(&lan, 2, 1), 0);
    assert_eq!(lan.views.len(), 3, "{:?}", lan.views);
    assert!(lan.groups[..2].iter().all(|group| group.view().is_some()));
}

#[test]
fn nobody_hears_of_a_vote_given_away_before_a_restart_would_know_of_it() {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    give_vote(&mut lan, 2);
    let told = |lan: &Lan| lan.groups[2].told_record().expect("a record").proxies;
    assert!(told(&lan).is_empty());
    lan.run(ms(1));
    assert_eq!(told(&lan)[&name(2)].to, name(0));
}

#[test]
fn nobody_hears_of_an_accept_before_a_restart_would_know_of_it_and_a_restart_does() {
    let mut lan = Lan::under(Partition::Quorum, 2);
    lan.run_until(|lan| lan.views.len() == 2);
    let before = lan.groups[1].highest_accepted();
    let epoch = lan.groups[0].epoch + 1;
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
fn whoever_is_in_a_new_primary_view_after_it_gave_its_vote_away_gives_it_again() {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    give_vote(&mut lan, 2);
    lan.run(ms(1));
    assert!(give_vote(&mut lan, 2));
    cut_both_ways(&mut lan, &[(0, 1), (1, 2)]);
    lan.run_until(|lan| lan.groups[2].view().is_some_and(|view| view.members.len() == 2));

    assert!(!give_vote(&mut lan, 2), "the vote that it has in this one");
    lan.run(ms(1));
    assert!(give_vote(&mut lan, 2));
    let given = lan.groups[0].told_record().expect("a record").proxies[&name(2)];
    assert!(given.up_to >= lan.groups[2].view().expect("a view").id);
}

#[test]
fn whoever_has_voted_for_a_view_waits_for_it_before_it_gives_its_vote_away() {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    lan.run(ms(250));
    lan.keep_quiet = true;
    let ballot = ballot(lan.groups[0].epoch + 1, 0);
    let offer = claims(&lan, ballot, &[0, 1, 2], 1);
    lan.tell(0, 2, offer);
    assert_eq!(lan.groups[2].highest_accepted(), ballot);

    assert!(!give_vote(&mut lan, 2));
    lan.run(ms(290));
    assert!(!give_vote(&mut lan, 2));
    assert!(lan.groups[2].told_record().expect("a record").proxies.is_empty());
    lan.run(ms(20));
    give_vote(&mut lan, 2);
    lan.run(ms(1));
    assert_eq!(lan.groups[2].told_record().expect("a record").proxies[&name(2)].up_to, ballot);

    // It comes after all, and with it no vote that could be given once more.
    let claimed = lan.groups[2].note_formed(ballot);
    assert!(claimed && give_vote(&mut lan, 2));
    assert_eq!(promises(&lan, 2, 1), 0);
}

#[test]
fn whoever_gives_its_vote_away_promises_nothing_any_more() {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    lan.run(ms(250));
    assert_eq!(promises(&lan, 2, 1), 400_000);

    give_vote(&mut lan, 2);
    lan.run(ms(1));

    assert_eq!(promises(&lan, 2, 1), 0, "its heir is bound for one more timeout only");
}

fn give_vote(lan: &mut Lan, node: usize) -> bool {
    let now = lan.now;
    lan.groups[node].give_vote(now)
}

/// What an echo of one would promise to another now, in microseconds.
fn promises(lan: &Lan, node: usize, to: usize) -> u32 {
    let group = &lan.groups[node];
    group.echo_for(group.peer(name(to)).expect("a peer"), lan.now).expect("heard").promise_us
}

#[test]
fn nobody_is_promised_anything_while_a_view_without_it_may_come_of_an_earlier_accept() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(250));
    lan.keep_quiet = true;
    cut_both_ways(&mut lan, &[(1, 2)]);
    lan.run(ms(450));
    let epoch = lan.groups[0].epoch.max(lan.groups[2].epoch) + 1;
    let without = propose(&lan, epoch, 0, &[0, 2]);
    lan.tell(0, 2, without);
    assert_eq!(lan.groups[2].highest_accepted(), ballot(epoch, 0));
    lan.cut.clear();
    lan.run(ms(150));
    let with = propose(&lan, epoch + 1, 1, &[0, 1, 2]);
    lan.tell(1, 2, with);
    assert_eq!(lan.groups[2].highest_accepted(), ballot(epoch + 1, 1));

    assert_eq!(promises(&lan, 2, 1), 0, "another member may be waiting for the end of its promise");
    assert_eq!(promises(&lan, 2, 0), 400_000);
    lan.run(ms(240));
    assert_eq!(promises(&lan, 2, 1), 0);
    lan.run(ms(20));
    assert_eq!(promises(&lan, 2, 1), 400_000, "by now nobody installs that view any more");
}

#[test]
fn only_a_view_with_its_proposer_settles_what_came_of_an_earlier_proposal() {
    for proposer_joins in [true, false] {
        let mut lan = Lan::agreed(4);
        lan.run(ms(250));
        lan.keep_quiet = true;
        cut_both_ways(&mut lan, &[(1, 2)]);
        lan.run(ms(250));
        if !proposer_joins {
            let without = keys(&lan, &[0, 1, 2]).into_iter().collect();
            lan.groups[2].freeze_promises(&without, true, lan.now);
        }
        lan.run(ms(190));
        let epoch = lan.groups.iter().map(|group| group.epoch).max().expect("four") + 1;
        let without = propose(&lan, epoch, 3, &[0, 2, 3]);
        lan.tell(3, 2, without);
        assert_eq!(lan.groups[2].highest_accepted(), ballot(epoch, 3));
        lan.cut.clear();
        lan.run(ms(215));
        let members: &[usize] = if proposer_joins { &[0, 1, 2, 3] } else { &[0, 1, 2] };
        let with = propose(&lan, epoch + 1, 0, members);
        lan.tell(0, 2, with);
        assert_eq!(lan.groups[2].highest_accepted(), ballot(epoch + 1, 0));
        assert_eq!(promises(&lan, 2, 1), 0);

        let (view, members) = (ballot(epoch + 1, 0), keys(&lan, members));
        let (promise_us, heard, primary, decision) = (400_000, vec![], true, vec![]);
        let install = GroupMessage::Install { view, members, promise_us, heard, primary, decision };
        lan.tell(0, 2, install);

        assert_eq!(promises(&lan, 2, 1), if proposer_joins { 400_000 } else { 0 });
    }
}

#[test]
fn of_two_proposals_by_one_node_the_later_says_that_the_earlier_is_over() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(250));
    lan.keep_quiet = true;
    cut_both_ways(&mut lan, &[(1, 2)]);
    lan.run(ms(450));
    let epoch = lan.groups[0].epoch.max(lan.groups[2].epoch) + 1;
    let without = propose(&lan, epoch, 0, &[0, 2]);
    lan.tell(0, 2, without);
    lan.cut.clear();
    lan.run(ms(150));
    let with = propose(&lan, epoch + 1, 0, &[0, 1, 2]);
    lan.tell(0, 2, with);

    assert_eq!(promises(&lan, 2, 1), 400_000);
}

#[test]
fn what_was_heard_after_an_accept_is_not_owed_by_it() {
    let mut lan = Lan::agreed(2);
    lan.run(ms(350));
    lan.keep_quiet = true;
    let epoch = lan.groups[1].highest_accepted().epoch + 1;
    let offer = propose(&lan, epoch, 0, &[0, 1]);
    lan.tell(0, 1, offer);
    let (sequence, sent_at) = lan.groups[1].sent[1];
    assert!(lan.groups[1].peer(name(0)).expect("a peer").echoed_at > Some(sent_at + ms(100)));

    let members = keys(&lan, &[0, 1]);
    let (promise_us, heard) = (400_000, vec![(name(0), sequence)]);
    let (view, primary, decision) = (ballot(epoch, 0), true, vec![]);
    let install = GroupMessage::Install { view, members, promise_us, heard, primary, decision };
    lan.tell(0, 1, install);

    let owed = &lan.groups[1].view().expect("a view").owed_until;
    assert_eq!(owed.get(&name(0)), Some(&(sent_at + Duration::from_micros(399_600))));
}

#[test]
fn an_accept_tells_what_had_been_heard_when_it_was_given() {
    let mut lan = Lan::new(2);
    lan.run_until(|lan| lan.views.len() == 2);
    let told = lan.messages.iter().find_map(|(_, _, message)| match message {
        GroupMessage::Accept { heard, .. } => Some(heard.clone()),
        _ => None,
    });
    let owed = &lan.groups[1].view().expect("a view").owed_until;

    let [(proposer, sequence)] = told.expect("an accept")[..] else { panic!("two members") };
    assert_eq!(proposer, name(0));
    assert!(sequence > 0 && sequence <= lan.groups[0].sequence);
    assert!(owed.contains_key(&name(0)), "{owed:?}");
}

#[test]
fn a_promise_that_nobody_was_told_would_end_is_made_anew_with_an_accept() {
    for told in [false, true] {
        let mut lan = Lan::agreed(3);
        lan.run(ms(250));
        let without = keys(&lan, &[0, 1]).into_iter().collect();
        let members = keys(&lan, &[0, 1, 2]).into_iter().collect();
        let (now, ballot) = (lan.now, ballot(lan.groups[0].epoch + 1, 0));
        lan.groups[1].freeze_promises(&without, told, now);
        assert_eq!(promises(&lan, 1, 2), 0);

        let (promise, proposed_since) = (ms(400), Some(now));
        let accepting = Accepting { ballot, members, promise, proposed_since };
        lan.groups[1].accept(accepting, 0, now);

        assert_eq!(promises(&lan, 1, 2), if told { 0 } else { 400_000 });
    }
}

#[test]
fn what_is_frozen_for_an_earlier_start_of_a_peer_is_not_frozen_for_the_later_one() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(250));
    let now = lan.now;
    let later = Incarnation::new(9, 9);
    let group = &mut lan.groups[1];
    group.peers.get_mut(&name(2)).expect("a peer").restarted(later);
    let with_the_later = [(name(1), group.incarnation), (name(2), later)].into_iter().collect();

    group.freeze_promises(&with_the_later, true, now);

    let frozen = |i: usize| group.peer(name(i)).expect("a peer").frozen_at;
    assert_eq!((frozen(0), frozen(2)), (Some(now), None));
}

#[test]
fn what_is_heard_after_a_freeze_is_not_told_as_heard_with_an_accept() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(250));
    lan.keep_quiet = true;
    let without = keys(&lan, &[0, 1]).into_iter().collect();
    lan.groups[1].freeze_promises(&without, true, lan.now);
    let frozen = lan.groups[1].peer(name(2)).expect("a peer").sequence;
    lan.run(ms(150));
    assert!(lan.groups[1].peer(name(2)).expect("a peer").sequence > frozen);
    let epoch = lan.groups[0].epoch + 1;
    let with = propose(&lan, epoch, 0, &[0, 1, 2]);
    lan.tell(0, 1, with);

    let told = lan.messages.iter().rev().find_map(|(from, _, message)| match message {
        GroupMessage::Accept { heard, .. } if *from == 1 => Some(heard.clone()),
        _ => None,
    });
    assert!(told.expect("an accept").contains(&(name(2), frozen)));

    lan.run(ms(140));
    let again = propose(&lan, epoch + 1, 0, &[0, 1, 2]);
    lan.tell(0, 1, again);
    lan.run(ms(30));
    assert_eq!(refusals(&lan, 1).last(), Some(&Refusal::Unheard), "hardly anything is left");
}

#[test]
fn a_member_that_has_just_come_back_is_heard_a_moment_before_the_proposal_is_refused() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(250));
    lan.keep_quiet = true;
    cut_both_ways(&mut lan, &[(1, 2)]);
    lan.run_until(|lan| {
        lan.groups[1].peer(name(2)).is_some_and(|p| p.debt(&lan.groups[1].timing, lan.now) < ms(60))
    });
    let epoch = lan.groups[0].epoch.max(lan.groups[1].epoch) + 1;
    let offer = propose(&lan, epoch, 0, &[0, 1, 2]);
    lan.tell(0, 1, offer);
    assert!(lan.groups[1].highest_accepted() < ballot(epoch, 0));

    lan.cut.clear();
    lan.run(ms(30));

    assert_eq!(lan.groups[1].highest_accepted(), ballot(epoch, 0));
    assert!(promises(&lan, 1, 2) > 0);
}

#[test]
fn a_vote_with_a_member_to_whom_less_than_half_is_left_is_not_given() {
    let mut lan = Lan::under(Partition::Quorum, 3);
    lan.run_until(|lan| lan.views.len() == 3);
    lan.run(ms(250));
    lan.keep_quiet = true;
    let without = keys(&lan, &[0, 1]).into_iter().collect();
    lan.groups[1].freeze_promises(&without, true, lan.now);
    lan.run(ms(150));
    for (wait, given) in [(0, true), (60, false)] {
        lan.run(ms(wait));
        let epoch = lan.groups.iter().map(|group| group.epoch).max().expect("three") + 1;
        let ballot = ballot(epoch, 0);
        let offer = claims(&lan, ballot, &[0, 1, 2], 1);
        lan.tell(0, 1, offer);
        assert_eq!(lan.groups[1].highest_accepted() == ballot, given, "{:?}", refusals(&lan, 1));
    }
}
