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

    let arrived = Holding { acquired: vec![vips[0]], ..Holding::default() };
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

#[test]
fn an_owner_that_never_could_is_relieved_as_soon_as_somebody_can() {
    let (agent, vips) = agent();
    let mut states = states(&agent);
    for (i, (_, state)) in states.iter_mut().enumerate() {
        state.mature = i == 0;
    }
    (0..vips.len()).for_each(|position| states[0].1.unable.insert(position));
    let mut plan = Plan::new(&states, &vips, agent.fingerprint(), true);
    assert!((0..vips.len()).all(|vip| owner(&plan, vip) == Some(node(0))), "nobody else may");

    let declined = Holding { declined: vips.clone(), ..Holding::default() };
    assert_eq!(plan.handle_holding(node(0), &declined), None, "nobody else may");
    let matured = Report { mature: true, draining: false, unable: BTreeSet::new() };
    let update = plan.handle_report(node(1), &matured).expect("the members have changed");

    assert_eq!(update.changes.len(), vips.len());
    assert!(update.changes.iter().all(|c| (c.from, c.to) == (Some(node(0)), node(1))));
}

#[test]
fn what_an_earlier_owner_said_does_not_count() {
    let (agent, vips) = agent();
    let mut plan = Plan::new(&states(&agent), &vips, agent.fingerprint(), true);
    let owner = owner(&plan, 0).expect("an owner");
    let acquired = |number| Holding { number, acquired: vec![vips[0]], ..Holding::default() };
    let unable = |vips: &[VipId]| Report {
        mature: true,
        draining: false,
        unable: vips.iter().copied().collect(),
    };
    let is_moved = |update: Option<Update>| update.is_some_and(|update| !update.changes.is_empty());
    assert!(!is_moved(plan.handle_holding(owner, &acquired(0))));
    assert!(is_moved(plan.handle_report(owner, &unable(&vips[..1]))));
    plan.handle_report(owner, &unable(&[]));
    for heir in (0..3).map(node).filter(|&id| id != owner) {
        plan.handle_report(heir, &unable(&vips[..1]));
    }
    let heirs = (0..3).map(node).filter(|&id| id != owner);
    let declined = Holding { number: 1, declined: vec![vips[0]], ..Holding::default() };
    let back = heirs.map(|heir| plan.handle_holding(heir, &declined)).filter(Option::is_some);
    assert_eq!(back.count(), 1, "it comes back to the first");

    plan.handle_report(owner, &unable(&vips[..1]));
    plan.handle_report((0..3).map(node).find(|&id| id != owner).unwrap(), &unable(&[]));

    assert!(!is_moved(plan.handle_holding(owner, &acquired(1))), "it said so long ago");
    assert!(is_moved(plan.handle_holding(owner, &acquired(u64::MAX))), "now it is there");
}
