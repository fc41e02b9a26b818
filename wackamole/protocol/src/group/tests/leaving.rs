//! Quorum: giving the vote away, by whom it counts then, and what whoever leaves still promises.

use super::*;
use crate::vote::Proxy;

#[test]
fn whoever_is_given_a_vote_keeps_the_promises_of_who_gave_it() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
    lan.hush();
    lan.cut_both_ways(&[(0, 1)]);
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
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
    let view = lan.groups[1].view().cloned().expect("a view");
    let heir_and_leaver = [name(1), name(2)];
    let formed = lan.groups[1].formed(&view);
    assert!(lan.groups[1].decides_for(&formed, &heir_and_leaver));

    for (later, decides) in [(0, true), (1, false)] {
        let mut record = lan.groups[2].told_record().expect("a record");
        let up_to = ViewId { epoch: view.id.epoch + later, ..view.id };
        record.proxies.insert(name(2), Proxy { to: name(1), up_to });
        lan.tell(2, 1, GroupMessage::Vote { record });

        assert_eq!(lan.groups[1].decides_for(&formed, &heir_and_leaver), decides);
    }
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
fn nobody_lets_go_because_a_member_that_gave_its_vote_away_promises_nothing() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
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
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
    give_vote(&mut lan, 2);
    let told = |lan: &Lan| lan.groups[2].told_record().expect("a record").proxies;
    assert!(told(&lan).is_empty());
    lan.run(ms(1));
    assert_eq!(told(&lan)[&name(2)].to, name(0));
}

#[test]
fn whoever_is_in_a_new_primary_view_after_it_gave_its_vote_away_gives_it_again() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
    give_vote(&mut lan, 2);
    lan.run(ms(1));
    assert!(give_vote(&mut lan, 2));
    lan.cut_both_ways(&[(0, 1), (1, 2)]);
    lan.run_until(|lan| lan.groups[2].view().is_some_and(|view| view.members.len() == 2));

    assert!(!give_vote(&mut lan, 2), "the vote that it has in this one");
    lan.run(ms(1));
    assert!(give_vote(&mut lan, 2));
    let given = lan.groups[0].told_record().expect("a record").proxies[&name(2)];
    assert!(given.up_to >= lan.groups[2].view().expect("a view").id);
}

#[test]
fn whoever_has_voted_for_a_view_waits_for_it_before_it_gives_its_vote_away() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
    lan.hush();
    let ballot = ballot(lan.next_epoch(), 0);
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
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
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

#[test]
fn a_vote_is_given_to_nobody_who_may_be_dead() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
    lan.run(ms(300));
    lan.cut_both_ways(&[(0, 1), (0, 2)]);
    lan.run(ms(350));
    assert_eq!(lan.groups[2].view().expect("a view").members.len(), 3, "it is still a member");

    give_vote(&mut lan, 2);
    lan.run(ms(1));

    assert_eq!(lan.groups[2].told_record().expect("a record").proxies[&name(2)].to, name(1));
}

#[test]
fn a_vote_brings_the_longest_promise_that_its_owner_may_have_made() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
    for i in [1, 2] {
        // They have the new configuration already, the first has yet to be started with it.
        lan.groups[i].timing.failure_timeout = ms(800);
    }
    lan.run(ms(1_000));
    lan.cut_both_ways(&[(0, 1), (1, 2)]);
    lan.run(ms(5));
    give_vote(&mut lan, 2);
    lan.run(ms(1));
    assert!(give_vote(&mut lan, 2));
    lan.groups[2].leave();
    let mark = lan.views.len();
    lan.run_until(|lan| lan.views[mark..].iter().any(|(i, _, _)| *i == 0));

    assert!(lan.groups[0].view().is_some_and(|view| view.primary && view.members.len() == 1));
    assert_eq!(lan.groups[1].lease().filter(|lease| *lease > lan.now), None);
}
