//! The coordinator's book.

use super::*;

/// What three members tell that are mature and hold nothing.
fn states(agent: &Agent) -> Vec<(NodeId, MemberState)> {
    let state = MemberState {
        fingerprint: agent.fingerprint(),
        vips: VipList::Fingerprint(agent.fingerprint()),
        weight: 1,
        mature: true,
        saw_mature: true,
        draining: false,
        held: Bits::default(),
        unable: Bits::default(),
        preferred: vec![],
    };
    (0..3).map(|i| (node(i), state.clone())).collect()
}

fn owner(plan: &Plan, position: usize) -> Option<NodeId> {
    plan.decision().verdicts[position].owner.map(|member| node(usize::from(member)))
}

#[test]
fn what_is_on_its_way_is_moved_on_when_it_has_arrived_and_not_before() {
    let (agent, vips) = agent();
    let mut plan = Plan::new(&states(&agent), &vips, agent.fingerprint(), true);
    let first = owner(&plan, 0).expect("an owner");
    assert!(plan.is_moving());

    let leaves = Report { mature: true, draining: true, unable: BTreeSet::new() };
    let update = plan.handle_report(first, &leaves).expect("the members have changed");
    assert_eq!(update.changes, [], "it has not said that it holds the VIP");

    let arrived = Holding { acquired: vec![vips[0]], released: vec![] };
    let update = plan.handle_holding(first, &arrived).expect("now it is moved on");
    let [change] = &update.changes[..] else { panic!("{:?}", update.changes) };
    assert_eq!((change.vip, change.from), (vips[0], Some(first)));
    assert_ne!(change.to, first);
}

#[test]
fn a_view_that_is_not_primary_has_no_owners() {
    let (agent, vips) = agent();
    for primary in [true, false] {
        let plan = Plan::new(&states(&agent), &vips, agent.fingerprint(), primary);
        assert!((0..3).all(|position| owner(&plan, position).is_some() == primary));
    }
}
