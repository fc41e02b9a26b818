//! Two or three engines by hand: what a datagram or a message does to one of them.

mod beside;
mod lan;
mod lease;
mod leaving;
mod promises;
mod refusals;
mod verdicts;
mod votes;

use std::collections::{BTreeMap, BTreeSet};

use super::message::{GroupMessage, Refusal};
use super::*;
use crate::config::Partition;
use crate::vote::Claim;
use crate::wire::Codec;
use crate::wire::message::{Body, Fragment, Header, Heartbeat, Leave};
use lan::{Lan, config, ms, name};

fn ballot(epoch: u64, coordinator: usize) -> ViewId {
    ViewId { epoch, coordinator: name(coordinator) }
}

fn keys(lan: &Lan, members: &[usize]) -> Vec<(NodeId, Incarnation)> {
    members.iter().map(|&i| (name(i), lan.groups[i].incarnation)).collect()
}

fn propose(lan: &Lan, epoch: u64, coordinator: usize, members: &[usize]) -> GroupMessage {
    asks(lan, ballot(epoch, coordinator), keys(lan, members), None)
}

/// What its coordinator says when it proposes that now.
fn asks(
    lan: &Lan,
    ballot: ViewId,
    members: Vec<(NodeId, Incarnation)>,
    claim: Option<Claim>,
) -> GroupMessage {
    let proposer = lan.groups.iter().find(|group| group.me == ballot.coordinator).expect("one");
    let heard = proposer.heard_of(&members.iter().copied().collect()).into_iter().collect();
    let promise_us = 400_000;
    GroupMessage::Propose { ballot, members, digest: 0, promise_us, heard, claim }
}

/// A proposal of a primary view, founded on what `witness` knows.
fn claims(lan: &Lan, ballot: ViewId, members: &[usize], witness: usize) -> GroupMessage {
    let record = lan.groups[witness].told_record().expect("a record");
    let claim = Claim { record, mute: BTreeSet::new() };
    asks(lan, ballot, keys(lan, members), Some(claim))
}

/// The refusals that `node` has sent since the start.
fn refusals(lan: &Lan, node: usize) -> Vec<Refusal> {
    lan.messages
        .iter()
        .filter(|(from, _, _)| *from == node)
        .filter_map(|(_, _, message)| match message {
            GroupMessage::Refuse { why, .. } => Some(*why),
            _ => None,
        })
        .collect()
}

/// What an echo of one would promise to another now, in microseconds.
fn promises(lan: &Lan, node: usize, to: usize) -> u32 {
    let group = &lan.groups[node];
    group.echo_for(group.peer(name(to)).expect("a peer"), lan.now).expect("heard").promise_us
}

/// The second of three is the primary view alone, and hears the first again.
fn alone() -> Lan {
    let mut lan = Lan::agreed_under(Partition::Quorum, 3);
    lan.cut_both_ways(&[(0, 1), (0, 2)]);
    lan.run(ms(2_000));
    lan.cut_both_ways(&[(1, 2)]);
    lan.run(ms(2_000));
    let view = lan.groups[1].view().expect("a view");
    assert!(view.primary && view.members.len() == 1, "{view:?}");

    lan.cut.remove(&(0, 1));
    lan.cut.remove(&(1, 0));
    lan
}

#[test]
fn nodes_that_hear_each_other_install_one_view_with_one_decision() {
    let lan = Lan::agreed(3);

    let ids: Vec<ViewId> =
        lan.groups.iter().map(|group| group.view().expect("a view").id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(ids[0].coordinator, name(0));
    assert!(lan.views.iter().all(|(_, _, decision)| decision == b"decision"));
    assert_eq!(lan.views.len(), 3);
}

#[test]
fn no_two_starts_of_a_node_name_a_view_alike() {
    let ballots: Vec<ViewId> = [5, 6, 7]
        .map(|start| {
            let lan = Lan::new(2);
            let mut group = Group::new(&config(2, 0), 0, Incarnation::new(start, 0), lan.now);
            // The others have been started more often.
            group.handle_message(name(1), propose(&lan, 8_000_001, 1, &[0, 1]), lan.now);
            let end = lan.now + ms(2_000);
            while group.poll_timeout().at <= end {
                group.handle_timeout(group.poll_timeout().at);
            }
            group.highest_accepted()
        })
        .into_iter()
        .collect();

    assert!(ballots.iter().all(|ballot| ballot.epoch > 8_000_001), "{ballots:?}");
    assert!(ballots[0] != ballots[1] && ballots[1] != ballots[2] && ballots[0] != ballots[2]);
}

#[test]
fn what_was_lost_while_a_peer_was_unheard_is_sent_again_as_soon_as_it_is_heard() {
    let mut lan = Lan::agreed(2);
    lan.run(ms(250));
    lan.run_until(|lan| lan.groups[0].is_idle());
    lan.cut.extend([(0, 1), (1, 0)]);
    lan.run(ms(20));
    lan.groups[0].send(name(1), b"word".to_vec(), lan.now);
    // By now the pauses between two tries have doubled several times.
    lan.run(ms(200));
    assert!(!lan.groups[0].is_idle());
    lan.cut.clear();
    let heard = |lan: &Lan| lan.groups[0].peer(name(1)).expect("a peer").heard_at;
    let before = heard(&lan);
    lan.run_until(|lan| heard(lan) > before);
    lan.run(ms(1));

    assert!(lan.groups[0].is_idle(), "it is acknowledged");
}

#[test]
fn a_ballot_that_is_not_higher_is_refused_and_one_by_somebody_else_ignored() {
    let mut lan = Lan::agreed(3);
    let highest = lan.groups[1].highest_accepted();

    for epoch in [highest.epoch - 1, highest.epoch] {
        let message = propose(&lan, epoch, 0, &[0, 1, 2]);
        lan.tell(0, 1, message);
    }
    assert_eq!(refusals(&lan, 1), [Refusal::Outbid, Refusal::Outbid]);
    let forged = propose(&lan, highest.epoch + 9, 2, &[0, 1, 2]);
    lan.tell(0, 1, forged);

    assert_eq!(lan.groups[1].highest_accepted(), highest);
    assert_eq!(refusals(&lan, 1).len(), 2);
}

#[test]
fn only_what_was_accepted_is_installed_and_only_once() {
    let mut lan = Lan::agreed(3);
    let accepted = lan.groups[1].highest_accepted();
    let members = keys(&lan, &[0, 1, 2]);
    let mark = lan.views.len();

    for epoch in [accepted.epoch - 1, accepted.epoch, accepted.epoch + 1] {
        let view = ballot(epoch, 0);
        let decision = b"another".to_vec();
        let install = GroupMessage::Install {
            view,
            members: members.clone(),
            promise_us: 400_000,
            heard: vec![],
            primary: true,
            beside: false,
            decision,
        };
        lan.tell(0, 1, install);
    }

    assert_eq!(lan.views.len(), mark);
    assert_eq!(lan.groups[1].view().expect("a view").id, accepted);
}

#[test]
fn an_accept_or_an_install_of_another_ballot_does_not_count() {
    let mut lan = Lan::new(2);
    lan.hold_back = Some(|_, _, message| {
        matches!(message, GroupMessage::Accept { .. } | GroupMessage::Install { .. })
    });
    lan.run_until(|lan| !lan.held_back.is_empty());
    let asked = lan.groups[0].highest_accepted();

    for epoch in [asked.epoch - 1, asked.epoch + 1] {
        let other = ballot(epoch, 0);
        let (promise_us, state) = (400_000, vec![]);
        let (heard, record) = (vec![], None);
        let (ballot, beside) = (other, false);
        let accept = GroupMessage::Accept { ballot, promise_us, heard, record, beside, state };
        lan.tell(1, 0, accept);
        assert!(lan.groups[0].view().is_none());
        let members = keys(&lan, &[0, 1]);
        let (primary, decision, heard) = (true, vec![], vec![]);
        let view = other;
        let install =
            GroupMessage::Install { view, members, promise_us, heard, primary, beside, decision };
        lan.tell(0, 1, install);
        assert!(lan.groups[1].view().is_none());
    }

    for _ in 0..2 {
        for (from, to, datagram) in core::mem::take(&mut lan.held_back) {
            lan.deliver(from, to, &datagram);
        }
    }
    for group in &lan.groups {
        assert_eq!(group.view().map(|view| view.id), Some(asked));
    }
}

#[test]
fn only_what_members_say_in_the_installed_view_is_passed_on() {
    let mut lan = Lan::agreed(2);
    let view = lan.groups[1].view().expect("a view").id;
    let passed_on = |lan: &mut Lan, view| {
        let message = GroupMessage::Agent { view, bytes: b"permission".to_vec() };
        lan.groups[1].handle_message(name(0), message, lan.now);
        let outputs: Vec<GroupOutput> =
            core::iter::from_fn(|| lan.groups[1].poll_output()).collect();
        outputs.iter().any(|output| matches!(output, GroupOutput::Message { .. }))
    };

    assert!(passed_on(&mut lan, view));
    for epoch in [view.epoch - 1, view.epoch + 1] {
        assert!(!passed_on(&mut lan, ViewId { epoch, ..view }));
    }
    let restarted = lan.groups[1].peers.get_mut(&name(0)).expect("a peer");
    restarted.restarted(Incarnation::new(9, 9));
    assert!(!passed_on(&mut lan, view), "it is not the member that it was");
}

#[test]
fn an_install_that_comes_after_the_others_may_have_gone_on_is_ignored() {
    let mut lan = Lan::new(3);
    lan.hold_back =
        Some(|_, to, message| to == 2 && matches!(message, GroupMessage::Install { .. }));
    lan.run_until(|lan| !lan.held_back.is_empty());
    let held_back = core::mem::take(&mut lan.held_back);
    lan.now = lan.now + ms(1_000);

    lan.groups[2].handle_timeout(lan.now);
    for (from, to, datagram) in held_back {
        lan.deliver(from, to, &datagram);
    }

    assert!(lan.groups[2].view().is_none(), "a second after it was accepted");
    assert!(lan.views.iter().all(|(node, _, _)| *node != 2));
}

#[test]
fn a_coordinator_whose_members_answer_too_late_asks_anew() {
    let mut lan = Lan::new(2);
    lan.hold_back =
        Some(|_, to, message| to == 0 && matches!(message, GroupMessage::Accept { .. }));
    lan.run_until(|lan| !lan.held_back.is_empty());
    let first = lan.groups[0].highest_accepted();
    lan.run(ms(320));
    lan.hold_back = None;
    for (from, to, datagram) in core::mem::take(&mut lan.held_back) {
        lan.deliver(from, to, &datagram);
    }
    lan.run(ms(800));

    let view = lan.groups[0].view().expect("a view").id;
    assert!(view > first, "{view} after {first}");
    assert_eq!(lan.groups[1].view().expect("a view").id, view);
}

#[test]
fn an_earlier_start_and_an_unheard_member_are_refused() {
    let mut lan = Lan::agreed(2);
    let epoch = lan.groups[1].highest_accepted().epoch + 1;

    let mut members = keys(&lan, &[0, 1]);
    members[1].1 = Incarnation(1);
    lan.tell(0, 1, asks(&lan, ballot(epoch, 0), members, None));
    let mut members = keys(&lan, &[0, 1]);
    members.push((NodeId::from_name("nobody"), Incarnation(5)));
    lan.tell(0, 1, asks(&lan, ballot(epoch, 0), members, None));

    assert_eq!(refusals(&lan, 1), [Refusal::NotMe, Refusal::Unheard]);
}

#[test]
fn whoever_has_left_is_dropped_as_soon_as_all_have_read_it() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(250));
    let mark = lan.views.len();

    // One of them has not got its turn yet when the other asks it for a view.
    lan.cut.insert((2, 1));
    lan.groups[2].leave();
    lan.run(ms(1));
    assert_eq!(refusals(&lan, 1), [Refusal::Better]);
    let incarnation = lan.groups[2].incarnation;
    let header = Header { from: name(2), to: NodeId::EVERYBODY, incarnation, sequence: 1 << 62 };
    let leave = Codec::new(&crate::config::ClusterKey([7; 32]), "test")
        .seal(&header, &Body::Leave(Leave { incarnation }));
    lan.deliver(2, 1, &leave);
    lan.run(ms(10));

    assert_eq!(lan.views.len(), mark + 2, "far less than a heartbeat later");
}

#[test]
fn a_member_that_everybody_hears_is_not_dropped() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(250));
    let epoch = lan.groups[1].highest_accepted().epoch + 1;

    let message = propose(&lan, epoch, 0, &[0, 1]);
    lan.tell(0, 1, message);

    assert_eq!(refusals(&lan, 1), [Refusal::Better]);
    assert_eq!(lan.groups[1].peer(name(2)).expect("a peer").frozen_at, None);
}

#[test]
fn the_promise_to_one_of_two_who_do_not_hear_each_other_is_frozen_until_they_do() {
    let mut lan = Lan::agreed(3);
    lan.hush();
    lan.cut.extend([(0, 2), (2, 0)]);
    let frozen = |lan: &Lan| lan.groups[1].peer(name(2)).expect("a peer").frozen_at;
    lan.run_until(|lan| frozen(lan).is_some());
    let epoch = lan.groups[1].highest_accepted().epoch + 1;

    let message = propose(&lan, epoch, 0, &[0, 1]);
    lan.tell(0, 1, message);
    assert!(matches!(refusals(&lan, 1)[..], [Refusal::Debt { remaining_us: 125_001.. }]));

    lan.keep_quiet = false;
    lan.cut.clear();
    lan.run(ms(1_500));
    assert_eq!(frozen(&lan), None);
    let members = |i: usize| lan.groups[i].view().map(|view| view.members.len());
    assert_eq!((members(0), members(1), members(2)), (Some(3), Some(3), Some(3)));
}

#[test]
fn a_debt_that_is_nearly_over_is_waited_out() {
    let mut lan = Lan::agreed(3);
    lan.run(ms(250));
    // The last sign of the third, by the second's clock, was a moment ago; it takes the failure timeout to run out.
    lan.cut.extend([(2, 0), (2, 1), (0, 2), (1, 2)]);
    lan.keep_quiet = true;
    let debt = |lan: &Lan| {
        let group = &lan.groups[1];
        group.peer(name(2)).expect("a peer").debt(&group.timing, lan.now)
    };
    while debt(&lan) > ms(60) {
        lan.run(ms(5));
    }
    let epoch = lan.groups[1].highest_accepted().epoch + 1;
    let message = propose(&lan, epoch, 0, &[0, 1]);
    lan.tell(0, 1, message);

    assert_eq!(refusals(&lan, 1), []);
    assert_ne!(lan.groups[1].highest_accepted().epoch, epoch, "not yet");
    lan.run(debt(&lan));
    assert!(lan.groups[1].highest_accepted().epoch >= epoch);
}

#[test]
fn what_is_under_way_to_a_silent_member_is_kept_and_to_an_outsider_dropped() {
    let mut lan = Lan::agreed(3);
    let all = [(0, 1), (1, 0), (2, 1), (1, 2)];
    lan.cut.extend(all);
    lan.groups[0].send(name(1), b"permission".to_vec(), lan.now);
    lan.run_until(|lan| {
        lan.groups[0].peer(name(1)).expect("a peer").link_state == LinkState::Silent
    });
    let idle = |lan: &Lan| lan.groups[0].peer(name(1)).expect("a peer").link.idle();
    assert!(!idle(&lan) || lan.groups[0].view().is_some_and(|view| view.members.len() == 2));

    lan.run(ms(1_000));
    assert_eq!(lan.groups[0].view().expect("a view").members.len(), 2);
    assert!(idle(&lan));
}

/// Seals a heartbeat as somebody would.
fn sealed(cluster: &str, key: u8, header: Header) -> Vec<u8> {
    let heartbeat = Heartbeat {
        view: ViewId::NONE,
        accepted: ViewId::NONE,
        beside: false,
        interval_us: 100_000,
        echoes: vec![],
    };
    let key = crate::config::ClusterKey([key; 32]);
    Codec::new(&key, cluster).seal(&header, &Body::Heartbeat(heartbeat))
}

#[test]
fn bad_datagrams_are_counted_and_never_answered() {
    let now = Instant::ORIGIN + ms(1_000);
    let mut group = Group::new(&config(2, 0), 0, Incarnation::new(7, 7), now);
    let good = Header {
        from: name(1),
        to: NodeId::EVERYBODY,
        incarnation: Incarnation::new(3, 3),
        sequence: 50,
    };
    let from = config(2, 0).nodes[1].addresses[0];
    group.handle_datagram(from, &sealed("test", 7, good), now);
    while group.poll_output().is_some() {}

    let earlier = Incarnation::new(2, 9);
    let mut broken = sealed("test", 7, Header { sequence: 51, ..good });
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let cases: [(Vec<u8>, Rejection); 9] = [
        (sealed("test", 7, good), Rejection::Replayed),
        (sealed("test", 7, Header { incarnation: earlier, ..good }), Rejection::Replayed),
        (sealed("test", 8, Header { sequence: 51, ..good }), Rejection::WrongKey),
        (broken, Rejection::WrongKey),
        (sealed("prod", 7, Header { sequence: 51, ..good }), Rejection::OtherCluster),
        (sealed("test", 7, Header { from: NodeId(77), ..good }), Rejection::UnknownNode),
        (sealed("test", 7, Header { from: name(0), ..good }), Rejection::OwnName),
        (sealed("test", 7, Header { to: NodeId(77), sequence: 51, ..good }), Rejection::NotForUs),
        (b"garbage".to_vec(), Rejection::Malformed),
    ];
    let mut counted = BTreeMap::new();
    for (datagram, rejection) in cases {
        group.handle_datagram(from, &datagram, now);
        *counted.entry(rejection).or_insert(0) += 1;
        let outputs: Vec<GroupOutput> = core::iter::from_fn(|| group.poll_output()).collect();
        let told = GroupOutput::Event(Event::Rejected { from, rejection });
        assert_eq!(outputs, [told], "{rejection:?}");
        assert_eq!(group.rejected(), &counted);
    }
    assert_eq!(group.peer(name(1)).expect("a peer").sequence, 50, "nothing bad is taken over");
}

#[test]
fn a_message_that_cannot_be_decoded_is_counted() {
    let mut lan = Lan::agreed(2);
    let incarnation = lan.groups[0].incarnation;
    let fragment = Fragment {
        peer_incarnation: lan.groups[1].incarnation,
        stream: u64::MAX,
        number: 0,
        last: true,
        bytes: vec![0xff; 40],
    };
    let header = Header { from: name(0), to: name(1), incarnation, sequence: 100_000 };
    let codec = Codec::new(&crate::config::ClusterKey([7; 32]), "test");
    lan.deliver(0, 1, &codec.seal(&header, &Body::Fragment(fragment)));

    assert_eq!(lan.groups[1].rejected().get(&Rejection::Malformed), Some(&1));
}

#[test]
fn what_is_lost_for_a_member_for_good_is_told_anew_in_another_view() {
    let mut lan = Lan::agreed(2);
    lan.run(ms(350));
    let view = lan.groups[0].view().expect("a view").id;
    lan.groups[0].send(name(1), b"a permission".to_vec(), lan.now);
    lan.groups[0].send(name(1), vec![0; 600 * 1024], lan.now);
    let mark = lan.views.len();
    lan.run(ms(1_000));

    assert_eq!(lan.views.len(), mark + 2);
    assert!(lan.groups[1].view().expect("a view").id > view);
}

#[test]
fn two_parts_are_one_within_a_heartbeat_though_all_send_theirs_at_the_same_time() {
    for after in 0..10 {
        let mut lan = Lan::agreed(3);
        lan.run(ms(350));
        lan.cut_both_ways(&[(1, 0), (1, 2)]);
        lan.run(ms(1_000 + after * 10));
        lan.cut.clear();
        let healed = lan.now;
        let members = |group: &Group| group.view().map_or(0, |view| view.members.len());
        lan.run_until(|lan| lan.groups.iter().all(|group| members(group) == 3));

        assert!(lan.now <= healed + ms(101), "{:?}", lan.now.since(healed));
    }
}
