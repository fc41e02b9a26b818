//! For how long whom a refusal keeps out of the next proposal.

use super::super::refusal::{HeldOff, NotYet, Unless};
use super::*;

/// The first of three is in a view of its own and hears the two others again, who share one. Nobody proposes yet.
fn alone_beside_two() -> Lan {
    let mut lan = Lan::new(3);
    let pairs = [(0, 1), (1, 0), (0, 2), (2, 0)];
    lan.cut.extend(pairs);
    lan.run(ms(2_000));
    let members = |i: usize| lan.groups[i].view().map(|view| view.members.len());
    assert_eq!((members(0), members(1)), (Some(1), Some(2)));
    lan.keep_quiet = true;
    for pair in pairs {
        lan.cut.remove(&pair);
    }
    lan.run(ms(150));
    lan
}

fn refused(lan: &Lan, members: &[usize]) -> NotYet {
    let members = keys(lan, members).into_iter().collect();
    let view = lan.groups[0].peer(name(1)).expect("a peer").view;
    NotYet { until: lan.now + ms(1_000), members, view, hears_more: false }
}

fn best(lan: &Lan) -> Vec<usize> {
    let best = lan.groups[0].best_set(lan.now);
    (0..3).filter(|&i| best.contains_key(&name(i))).collect()
}

#[test]
fn a_refusal_keeps_a_newcomer_out_of_what_it_refused_and_of_less() {
    let mut lan = alone_beside_two();
    assert_eq!(best(&lan), [0, 1, 2]);

    let refusal = refused(&lan, &[0, 1, 2]);
    lan.groups[0].not_yet.insert(name(1), refusal);
    assert_eq!(best(&lan), [0, 2]);

    // The one to whom it is bound may be the one whom it was not asked about.
    let refusal = refused(&lan, &[0, 1]);
    lan.groups[0].not_yet.insert(name(1), refusal);
    assert_eq!(best(&lan), [0, 1, 2]);
}

#[test]
fn a_refusal_is_over_with_its_time_a_new_view_and_the_end_of_its_reason() {
    let mut lan = alone_beside_two();
    let all = &[0, 1, 2];
    let early = NotYet { until: lan.now, ..refused(&lan, all) };
    let elsewhere = NotYet { view: ballot(1, 2), ..refused(&lan, all) };
    let heard_somebody = NotYet { hears_more: true, ..refused(&lan, all) };
    for over in [early, elsewhere, heard_somebody] {
        lan.groups[0].not_yet.insert(name(1), over.clone());
        assert_eq!(best(&lan), [0, 1, 2], "{over:?}");
    }
}

#[test]
fn who_was_refused_for_somebody_is_asked_anew_when_nobody_hears_that_one() {
    let mut lan = alone_beside_two();
    let target: BTreeMap<_, _> = keys(&lan, &[0, 1, 2]).into_iter().collect();
    let until = lan.now + ms(1_000);
    let mut due = |unless| {
        let members = target.clone();
        lan.groups[0].held_off = Some(HeldOff { members, until, unless });
        lan.groups[0].proposal_due(&target, lan.now, lan.now)
    };

    assert_eq!(due(Unless::Nothing), Some(until));
    assert!(due(Unless::HearsNobodyElse(name(1))) < Some(until), "it hears nobody else");
}

#[test]
fn who_was_refused_for_somebody_unheard_is_asked_anew_as_soon_as_the_refuser_hears_that_one() {
    for heard_before in [false, true] {
        let mut lan = alone_beside_two();
        let members: BTreeMap<_, _> = keys(&lan, &[0, 1, 2]).into_iter().collect();
        lan.groups[0].drop_proposal();
        lan.groups[0].held_off = None;
        lan.groups[0].propose(members.clone(), lan.now);
        let ballot = lan.groups[0].proposal.as_ref().expect("a proposal").ballot;
        let hears = |lan: &mut Lan, heard| {
            let peer = lan.groups[0].peers.get_mut(&name(1)).expect("a peer");
            peer.row.get_mut(&name(2)).expect("an entry").heard = heard;
        };
        hears(&mut lan, heard_before);
        lan.groups[0].handle_refuse(name(1), ballot, ballot, Refusal::Unheard, lan.now);

        let until = lan.now + ms(50);
        assert_eq!(lan.groups[0].held_off_until(&members), Some(until), "half a heartbeat");
        hears(&mut lan, true);
        // If it said so before, that was not why it refused.
        let expected = heard_before.then_some(until);
        assert_eq!(lan.groups[0].held_off_until(&members), expected, "{heard_before}");
    }
}

#[test]
fn nobody_is_proposed_who_has_echoed_nothing_for_long() {
    let mut lan = alone_beside_two();
    let target: BTreeMap<_, _> = keys(&lan, &[0, 1, 2]).into_iter().collect();
    assert!(lan.groups[0].proposal_due(&target, lan.now, lan.now).is_some());

    lan.now = lan.now + ms(350);
    assert_eq!(lan.groups[0].proposal_due(&target, lan.now, lan.now), None);
}

#[test]
fn a_view_without_those_who_have_left_is_asked_for_again_at_once() {
    for has_left in [true, false] {
        let mut lan = Lan::agreed(3);
        lan.hush();
        if has_left {
            let now = lan.now;
            let incarnation = lan.groups[2].incarnation;
            let group = &mut lan.groups[0];
            group.peers.get_mut(&name(2)).expect("a peer").left = Some(incarnation);
            let members = keys(&lan, &[0, 1]).into_iter().collect();
            lan.groups[0].propose(members, now);
        } else {
            lan.cut.extend([(2, 0), (2, 1)]);
            lan.run_until(|lan| lan.groups[0].proposal.is_some());
        }
        let ballot = lan.groups[0].highest_accepted();
        let (highest, why, record) = (ViewId::NONE, Refusal::Better, None);
        let refusal = GroupMessage::Refuse { ballot, highest, why, record };
        lan.groups[0].handle_message(name(1), refusal, lan.now);

        let pause = lan.groups[0].held_off.as_ref().expect("a refusal").until.since(lan.now);
        assert_eq!(pause < ms(10), has_left, "{pause:?}");
    }
}
