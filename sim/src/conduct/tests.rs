//! Each rule, broken and kept.

use std::net::SocketAddr;
use std::sync::Arc;

use wackamole::env::{Action, AddressError, AddressEvent, Lease, Work};
use wackamole_protocol::config::{
    Balance, ClusterKey, NodeDefinition, Safety, Timing, VipDefinition,
};
use wackamole_protocol::event::{Reason, Rejection};
use wackamole_protocol::id::Incarnation;
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::{Vip, VipAddress};
use wackamole_protocol::vote::{Formed, Record};
use wackamole_protocol::wire::Codec;
use wackamole_protocol::wire::message::{Heartbeat, Leave, PeerEcho};

use super::*;

const T_MS: u64 = 400;

fn at(milliseconds: u64) -> Instant {
    Instant::after_origin(Duration::from_millis(milliseconds))
}

fn name(index: usize) -> NodeId {
    NodeId::from_name(["a", "b", "c"][index])
}

fn view(epoch: u64) -> ViewId {
    ViewId { epoch, coordinator: name(0) }
}

fn vip() -> Arc<Vip> {
    let address =
        VipAddress { address: [10, 0, 0, 1].into(), prefix: 32, interface: "eth0".into() };
    Arc::new(Vip::new("v1", vec![address]))
}

/// A daemon, the first of three, that has just started.
struct Watched {
    conduct: Conduct,
    config: NodeConfig,
    codec: Codec,
}

impl Watched {
    fn new(partition: Partition) -> Self {
        let timing = Timing {
            heartbeat: Duration::from_millis(100),
            failure_timeout: Duration::from_millis(T_MS),
            mature: Duration::ZERO,
        };
        let node = |name: &str| NodeDefinition {
            name: name.into(),
            addresses: vec![],
            weight: 1,
            witness: false,
        };
        let config = NodeConfig {
            cluster: "test".into(),
            key: ClusterKey([0; 32]),
            me: name(0),
            nodes: ["a", "b", "c"].map(node).into(),
            vips: vec![VipDefinition { vip: vip(), prefer: vec![] }],
            timing,
            balance: Balance { moves_per_round: None, interval: Duration::from_secs(1) },
            multicast: false,
            safety: Safety::new(partition, &timing),
            must_reach: vec![],
        };
        let watched = Self {
            conduct: Conduct::default(),
            codec: Codec::new(&config.key, &config.cluster),
            config,
        };
        watched.starts(0);
        watched
    }

    fn starts(&self, now: u64) {
        assert_eq!(self.conduct.started(0, &self.config, None, at(now)), None);
    }

    fn does(&self, now: u64, effect: Effect) -> Option<Breach> {
        self.conduct.observe(0, at(now), &Observation::Effect(&effect))
    }

    fn says(&self, now: u64, event: Event) -> Option<Breach> {
        self.conduct.observe(0, at(now), &Observation::Event(&event))
    }

    fn hears(&self, now: u64, input: Input<'_>) {
        assert_eq!(self.conduct.observe(0, at(now), &Observation::Input(&input)), None);
    }

    fn turns(&self, now: u64) {
        assert_eq!(self.conduct.observe(0, at(now), &Observation::Turn), None);
    }

    fn rests(&self, now: u64) -> Option<Breach> {
        self.conduct.observe(0, at(now), &Observation::Rest)
    }

    fn datagram(&self, from: usize, sequence: u64, echoes: Vec<PeerEcho>) -> Vec<u8> {
        let incarnation = Incarnation(1);
        let header = Header { from: name(from), to: NodeId::EVERYBODY, incarnation, sequence };
        let (view, accepted) = (ViewId::NONE, ViewId::NONE);
        let body = Body::Heartbeat(Heartbeat {
            view,
            accepted,
            beside: false,
            interval_us: 100_000,
            echoes,
        });
        self.codec.seal(&header, &body)
    }

    /// It hears the second at `now`.
    fn hears_b(&self, now: u64, sequence: u64) {
        let from = SocketAddr::from(([10, 0, 0, 2], 7700));
        let bytes = self.datagram(1, sequence, vec![]);
        self.hears(now, Input::Datagram { from, bytes: &bytes });
    }

    /// It tells the second that it has heard this, and promises it something.
    fn promises_b(&self, now: u64, sequence: u64) -> Option<Breach> {
        let echo = PeerEcho {
            peer: name(1),
            incarnation: Incarnation(1),
            sequence,
            promise_us: 1_000 * T_MS as u32,
            heard: true,
            in_view: true,
        };
        let datagram = self.datagram(0, 1, vec![echo]);
        self.does(
            now,
            Effect::Transmit { to: wackamole_protocol::node::Destination::Group, datagram },
        )
    }

    /// It agrees to a view of these.
    fn agrees(&self, now: u64, epoch: u64, members: &[usize]) -> Option<Breach> {
        let members = members.iter().map(|&index| name(index)).collect();
        self.says(now, Event::Proposed { ballot: view(epoch), members });
        self.says(now, Event::Accepted { ballot: view(epoch) })
    }

    fn installs(&self, now: u64, epoch: u64, primary: bool) -> Option<Breach> {
        self.says(
            now,
            Event::ViewInstalled { view: view(epoch), members: [name(0)].into(), primary },
        )
    }

    fn submits(&self, now: u64, ticket: u64, action: Action) -> Option<Breach> {
        self.does(now, Effect::Submit(Work { ticket, action }))
    }

    fn leases(&self, until: u64) {
        assert_eq!(self.does(0, Effect::Renew(Lease::Until(at(until)))), None);
    }
}

#[test]
fn a_ballot_is_higher_than_the_last() {
    let a = Watched::new(Partition::Lan);
    assert_eq!(a.agrees(1, 7, &[0, 1]), None);
    let breach = Breach::BallotNotHigher { ballot: view(7), earlier: view(7) };
    assert_eq!(a.agrees(2, 7, &[0, 1]), Some(breach));
    assert_eq!(a.agrees(3, 8, &[0, 1]), None);
    a.starts(4);
    assert_eq!(a.agrees(5, 3, &[0, 1]), None, "another start is another member");
}

#[test]
fn what_has_come_before_is_refused() {
    let a = Watched::new(Partition::Lan);
    a.hears_b(1, 1);
    a.hears_b(2, 2);
    assert_eq!(a.rests(2), None);
    a.hears_b(3, 1);
    assert_eq!(a.rests(3), Some(Breach::Repeated { again: 1, refused: 0 }));

    a.hears_b(4, 2);
    let from = SocketAddr::from(([10, 0, 0, 2], 7700));
    a.says(4, Event::Rejected { from, rejection: Rejection::Replayed });
    assert_eq!(a.rests(4), None);

    a.says(5, Event::PeerRestarted { peer: name(1), incarnation: Incarnation(2) });
    a.hears_b(5, 3);
    let over = Some(Breach::Repeated { again: 1, refused: 0 });
    assert_eq!(a.rests(5), over, "of a start that is over");
}

#[test]
fn nothing_is_acquired_that_another_member_of_the_view_has_not_let_go_of() {
    let a = Watched::new(Partition::Lan);
    let config = NodeConfig { me: name(1), ..a.config.clone() };
    assert_eq!(a.conduct.started(1, &config, None, at(0)), None);
    a.leases(1_000);
    let tell = |what: Observation<'_>| a.conduct.observe(1, at(1), &what);
    let does = |effect: Effect| tell(Observation::Effect(&effect));
    let installed =
        Event::ViewInstalled { view: view(1), members: [name(0), name(1)].into(), primary: true };
    does(Effect::Renew(Lease::Until(at(1_000))));
    tell(Observation::Event(&installed));
    does(Effect::Submit(Work { ticket: 1, action: Action::Acquire(vip()) }));
    assert_eq!(a.submits(1, 1, Action::Acquire(vip())), None, "in another view");
    a.submits(1, 2, Action::Release(vip()));
    a.hears(1, Input::Address(AddressEvent::Done { ticket: 2, result: Ok(()) }));

    a.says(2, installed);
    let breach = Breach::AcquiredBesideAnother { vip: vip().id(), other: name(1) };
    assert_eq!(a.submits(2, 3, Action::Acquire(vip())), Some(breach));
    assert_eq!(a.submits(2, 4, Action::Acquire(vip())), None, "it is there already");
    a.submits(2, 5, Action::Release(vip()));
    a.hears(2, Input::Address(AddressEvent::Done { ticket: 5, result: Ok(()) }));

    does(Effect::Submit(Work { ticket: 2, action: Action::Release(vip()) }));
    assert_eq!(a.submits(3, 6, Action::Acquire(vip())), Some(breach), "not confirmed yet");
    a.submits(3, 7, Action::Release(vip()));
    a.hears(3, Input::Address(AddressEvent::Done { ticket: 7, result: Ok(()) }));
    let done = AddressEvent::Done { ticket: 2, result: Ok(()) };
    tell(Observation::Input(&Input::Address(done)));
    assert_eq!(a.submits(4, 8, Action::Acquire(vip())), None);
}

#[test]
fn a_promise_counts_from_what_was_heard_and_is_kept_across_a_restart() {
    for restarts in [false, true] {
        let a = Watched::new(Partition::Lan);
        a.hears_b(100, 1);
        a.hears_b(200, 2);
        assert_eq!(a.promises_b(250, 1), None);
        if restarts {
            a.starts(300);
        }
        let left = Duration::from_millis(1);
        let broken = Breach::PromiseBroken { peer: name(1), left };
        assert_eq!(a.agrees(499, 1, &[0, 2]), Some(broken), "restarts: {restarts}");
        assert_eq!(a.agrees(500, 2, &[0, 2]), None);
    }
}

#[test]
fn nobody_is_owed_anything_who_has_left_or_whose_start_is_over_or_by_a_machine_whose_disk_is_lost()
{
    let promised = || {
        let a = Watched::new(Partition::Lan);
        a.hears_b(100, 1);
        assert_eq!(a.promises_b(100, 1), None);
        a
    };
    assert!(promised().agrees(101, 1, &[0, 2]).is_some());
    assert_eq!(promised().agrees(101, 1, &[0, 1]), None);

    let a = promised();
    a.says(101, Event::PeerLeft { peer: name(1) });
    assert_eq!(a.agrees(101, 1, &[0, 2]), None);
    let a = promised();
    a.says(101, Event::PeerRestarted { peer: name(1), incarnation: Incarnation(2) });
    assert_eq!(a.agrees(101, 1, &[0, 2]), None);
    let a = promised();
    a.says(101, Event::ForcedPrimary);
    assert_eq!(a.agrees(101, 1, &[0, 2]), None);
    let a = promised();
    a.conduct.lost_its_disk(0);
    a.starts(101);
    assert_eq!(a.agrees(101, 1, &[0, 2]), None);
}

#[test]
fn a_promise_counts_from_what_was_heard_first_whatever_was_damaged_or_comes_late() {
    for damaged in [true, false] {
        let a = Watched::new(Partition::Lan);
        a.hears_b(100, 1);
        // It names another start: one that there is not, or an earlier one.
        let incarnation = Incarnation(if damaged { 2 } else { 0 });
        let header = Header { from: name(1), to: NodeId::EVERYBODY, incarnation, sequence: 7 };
        let mut bytes = a.codec.seal(&header, &Body::Leave(Leave { incarnation }));
        if damaged {
            *bytes.last_mut().expect("a tag") ^= 1;
        }
        a.hears(150, Input::Datagram { from: ([10, 0, 0, 2], 7700).into(), bytes: &bytes });
        a.hears_b(200, 1);
        assert_eq!(a.promises_b(200, 1), None);

        assert_eq!(a.agrees(100 + T_MS + 1, 1, &[0, 2]), None, "damaged: {damaged}");
    }
}

#[test]
fn nothing_is_promised_to_whoever_is_not_in_the_view_that_was_accepted() {
    let a = Watched::new(Partition::Lan);
    a.agrees(1, 1, &[0, 2]);
    a.hears_b(2, 1);
    assert_eq!(a.promises_b(2, 1), Some(Breach::PromisedAStranger { peer: name(1) }));
    a.agrees(3, 2, &[0, 1]);
    assert_eq!(a.promises_b(3, 1), None);
}

#[test]
fn a_view_is_installed_once_by_who_has_accepted_it_last_and_when_all_have() {
    let a = Watched::new(Partition::Lan);
    let unasked = Some(Breach::InstalledUnasked { view: view(1) });
    assert_eq!(a.installs(1, 1, true), unasked);
    a.agrees(1, 1, &[0]);
    assert_eq!(a.installs(1, 1, true), None);
    assert_eq!(a.installs(1, 1, true), unasked, "once more");
    a.agrees(2, 1, &[0]);
    a.agrees(2, 2, &[0]);
    assert_eq!(a.installs(2, 1, true), unasked, "it has accepted something since");

    a.agrees(3, 3, &[0, 1]);
    let members = [name(0), name(1)].into();
    let installed = Event::ViewInstalled { view: view(3), members, primary: true };
    let without = Breach::InstalledWithout { view: view(3), member: name(1) };
    assert_eq!(a.says(3, installed), Some(without));
}

#[test]
fn between_accept_and_install_nothing_new_is_acquired() {
    let a = Watched::new(Partition::Lan);
    a.leases(1_000);
    a.turns(1);
    a.agrees(1, 1, &[0, 1]);
    assert_eq!(a.submits(1, 1, Action::Acquire(vip())), None, "asked for just before");
    a.turns(2);
    assert_eq!(a.submits(2, 2, Action::Acquire(vip())), None, "once more");
    assert_eq!(a.submits(2, 3, Action::Release(vip())), None);
    let breach = Breach::AcquiredWhileFrozen { vip: vip().id(), ballot: view(1) };
    assert_eq!(a.submits(3, 4, Action::Acquire(vip())), Some(breach));

    a.submits(4, 5, Action::Release(vip()));
    assert_eq!(a.installs(5, 1, true), None);
    assert_eq!(a.submits(5, 6, Action::Acquire(vip())), None);
}

#[test]
fn what_waits_for_a_release_when_a_view_is_accepted_is_acquired_behind_it() {
    let a = Watched::new(Partition::Lan);
    a.leases(1_000);
    a.turns(1);
    a.submits(1, 1, Action::Release(vip()));
    a.agrees(1, 1, &[0, 1]);
    a.hears(3, Input::Address(AddressEvent::Done { ticket: 1, result: Ok(()) }));
    a.turns(3);
    assert_eq!(a.submits(3, 2, Action::Acquire(vip())), None);
}

#[test]
fn nothing_is_acquired_but_under_a_lease() {
    let a = Watched::new(Partition::Lan);
    let breach = Some(Breach::AcquiredUnderNoLease { vip: vip().id() });
    assert_eq!(a.submits(1, 1, Action::Acquire(vip())), breach);
    a.leases(10);
    assert_eq!(a.submits(9, 2, Action::Acquire(vip())), None);
    assert_eq!(a.submits(10, 3, Action::Acquire(vip())), breach);
    assert_eq!(a.submits(10, 4, Action::Release(vip())), None);
}

#[test]
fn nothing_is_taken_over_from_the_vanished_before_they_are_fenced() {
    let vanished = || {
        let mut a = Watched::new(Partition::Component);
        a.config.safety.fences_nodes = true;
        a.starts(0);
        a.leases(1_000);
        a.installs(1, 1, true);
        let (owner, previous) = (Some(name(0)), Some(name(1)));
        a.says(1, Event::Assigned { vip: vip().id(), owner, previous, reason: Reason::Uncovered });
        a
    };
    let fenced = |result| {
        let a = vanished();
        a.submits(1, 1, Action::FenceNode("b".into()));
        a.hears(2, Input::Address(AddressEvent::Done { ticket: 1, result }));
        a.submits(2, 2, Action::Acquire(vip()))
    };
    let breach = Some(Breach::TakenFromTheUnfenced { vip: vip().id(), former: name(1) });
    assert_eq!(vanished().submits(1, 1, Action::Acquire(vip())), breach);
    assert_eq!(fenced(Ok(())), None);
    assert_eq!(fenced(Err(AddressError::Other("no".into()))), breach);

    let a = vanished();
    a.says(2, Event::PeerLeft { peer: name(1) });
    assert_eq!(a.submits(2, 1, Action::Acquire(vip())), None, "nothing is left of it");
}

#[test]
fn one_announcement_of_a_vip_is_asked_for_at_a_time() {
    let a = Watched::new(Partition::Component);
    assert_eq!(a.submits(1, 1, Action::Announce(vip())), None);
    let breach = Some(Breach::AnnouncedTwiceAtOnce { vip: vip().id() });
    assert_eq!(a.submits(2, 2, Action::Announce(vip())), breach);
    for ticket in [1, 2] {
        a.hears(3, Input::Address(AddressEvent::Done { ticket, result: Ok(()) }));
    }
    assert_eq!(a.submits(4, 3, Action::Announce(vip())), None);
}

#[test]
fn a_primary_view_that_was_accepted_and_formed_is_on_the_disk_until_a_later_one_is() {
    let formed = |epoch| Formed { ballot: view(epoch), voters: vec![name(0), name(1)] };
    let saves = |a: &Watched, primary: u64, attempts: &[u64]| {
        let record = Record {
            primary: Some(formed(primary)),
            attempts: attempts.iter().copied().map(formed).collect(),
            ..Record::default()
        };
        a.does(1, Effect::Save { ticket: 1, record: record.to_bytes() })
    };
    let forgotten = Some(Breach::PrimaryForgotten { node: name(0), view: view(5) });

    let a = Watched::new(Partition::Quorum);
    a.agrees(1, 5, &[0, 1]);
    assert_eq!(saves(&a, 3, &[5]), None);
    assert_eq!(saves(&a, 3, &[7]), None, "nobody has formed it");
    assert_eq!(a.installs(2, 5, true), forgotten);

    assert_eq!(saves(&a, 3, &[5, 7]), None);
    assert_eq!(saves(&a, 3, &[7]), forgotten);
    assert_eq!(saves(&a, 7, &[]), None);
    let disk = a.conduct.started(0, &a.config, None, at(3));
    assert_eq!(disk, forgotten, "it had said so, and it was not on the disk");
    a.conduct.lost_its_disk(0);
    assert_eq!(a.conduct.started(0, &a.config, None, at(4)), None, "that is another matter");

    let a = Watched::new(Partition::Quorum);
    a.agrees(1, 5, &[0, 1]);
    a.says(1, Event::ForcedPrimary);
    a.installs(2, 5, true);
    assert_eq!(saves(&a, 3, &[7]), None, "an operator has decided");
}

#[test]
fn a_breach_is_told_in_names() {
    let names = wackamole_protocol::names::Names::new(["a", "b", "c"], []);
    let breach = Breach::PromiseBroken { peer: name(2), left: Duration::from_millis(7) };
    assert_eq!(
        breach.text(name(0), &names),
        "a agrees to a view without c, which it has promised not to do for another 7 ms"
    );
}
