//! What an engine owes to those whom a proposal leaves out, and what it promises to whom after an accept.

use super::super::agreement::Accepting;
use super::*;

fn debt(lan: &Lan, node: usize, to: usize) -> Duration {
    let group = &lan.groups[node];
    group.peer(name(to)).expect("a peer").debt(&group.timing, lan.now)
}

#[test]
fn a_proposer_waits_for_the_end_of_its_own_promises() {
    let mut lan = Lan::agreed(3);
    lan.hush();
    // The first hears both of two that do not hear each other. It drops one of them.
    lan.cut_both_ways(&[(1, 2)]);
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
    lan.cut_both_ways(&[(0, 1), (1, 3), (0, 2), (2, 3)]);
    lan.run(ms(2_000));
    let members = |lan: &Lan, i: usize| lan.groups[i].view().map(|view| view.members.len());
    assert_eq!((members(&lan, 0), members(&lan, 1)), (Some(2), Some(2)));

    let epoch = lan.next_epoch();
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
fn nobody_is_promised_anything_while_a_view_without_it_may_come_of_an_earlier_accept() {
    let mut lan = Lan::agreed(3);
    lan.hush();
    lan.cut_both_ways(&[(1, 2)]);
    lan.run(ms(450));
    let epoch = lan.next_epoch();
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
        lan.hush();
        lan.cut_both_ways(&[(1, 2)]);
        lan.run(ms(250));
        if !proposer_joins {
            let without = keys(&lan, &[0, 1, 2]).into_iter().collect();
            let told = Some(ballot(lan.next_epoch(), 0));
            lan.groups[2].freeze_promises(&without, told, lan.now);
        }
        lan.run(ms(190));
        let epoch = lan.next_epoch();
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
        let beside = false;
        let install =
            GroupMessage::Install { view, members, promise_us, heard, primary, beside, decision };
        lan.tell(0, 2, install);

        assert_eq!(promises(&lan, 2, 1), if proposer_joins { 400_000 } else { 0 });
    }
}

#[test]
fn of_two_proposals_by_one_node_the_later_says_that_the_earlier_is_over() {
    let mut lan = Lan::agreed(3);
    lan.hush();
    lan.cut_both_ways(&[(1, 2)]);
    lan.run(ms(450));
    let epoch = lan.next_epoch();
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
    let beside = false;
    let install =
        GroupMessage::Install { view, members, promise_us, heard, primary, beside, decision };
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
        let (now, ballot) = (lan.now, ballot(lan.next_epoch(), 0));
        lan.groups[1].freeze_promises(&without, told.then_some(ballot), now);
        assert_eq!(promises(&lan, 1, 2), 0);

        let (promise, proposed_since) = (ms(400), Some(now));
        let accepting = Accepting { ballot, members, promise, proposed_since };
        lan.groups[1].accept(accepting, 0, now);

        assert_eq!(promises(&lan, 1, 2), if told { 0 } else { 400_000 });
    }
}

#[test]
fn whoever_was_told_that_a_promise_would_end_and_is_in_a_later_view_awaits_it_no_more() {
    let agreed = Lan::agreed(3).groups[0].view().expect("a view").id;
    let (earlier, later) = (ballot(agreed.epoch - 1, 0), ballot(agreed.epoch + 1, 0));
    let by_another = ballot(agreed.epoch - 1, 2);
    for (refused, lapses) in [(earlier, true), (later, false), (by_another, false)] {
        let mut lan = Lan::agreed(3);
        lan.run(ms(250));
        lan.cut_both_ways(&[(1, 2)]);
        let without = keys(&lan, &[0, 1]).into_iter().collect();
        let now = lan.now;
        lan.groups[1].freeze_promises(&without, Some(refused), now);
        lan.run(ms(120));

        let told = lan.groups[1].peer(name(2)).expect("a peer").given_up;
        assert_eq!(told.is_none(), lapses, "{refused}");
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

    group.freeze_promises(&with_the_later, Some(ballot(9, 0)), now);

    let frozen = |i: usize| group.peer(name(i)).expect("a peer").frozen_at;
    assert_eq!((frozen(0), frozen(2)), (Some(now), None));
}

#[test]
fn what_is_heard_after_a_freeze_is_not_told_as_heard_with_an_accept() {
    let mut lan = Lan::agreed(3);
    lan.hush();
    let without = keys(&lan, &[0, 1]).into_iter().collect();
    let told = Some(ballot(lan.next_epoch(), 0));
    lan.groups[1].freeze_promises(&without, told, lan.now);
    let frozen = lan.groups[1].peer(name(2)).expect("a peer").sequence;
    lan.run(ms(150));
    assert!(lan.groups[1].peer(name(2)).expect("a peer").sequence > frozen);
    let epoch = lan.next_epoch();
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
    lan.hush();
    lan.cut_both_ways(&[(1, 2)]);
    lan.run_until(|lan| {
        lan.groups[1].peer(name(2)).is_some_and(|p| p.debt(&lan.groups[1].timing, lan.now) < ms(60))
    });
    let epoch = lan.next_epoch();
    let offer = propose(&lan, epoch, 0, &[0, 1, 2]);
    lan.tell(0, 1, offer);
    assert!(lan.groups[1].highest_accepted() < ballot(epoch, 0));

    lan.cut.clear();
    lan.run(ms(30));

    assert_eq!(lan.groups[1].highest_accepted(), ballot(epoch, 0));
    assert!(promises(&lan, 1, 2) > 0);
}
