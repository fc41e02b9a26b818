//! What is asked about on its segment before it is acquired, and what is given up there.

use crate::mac::MacAddress;

use super::*;

const LOW: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const HIGH: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

/// As [`agent`], with these safeguards.
fn agent_under(partition: Partition, fences_nodes: bool) -> (Agent, Vec<VipId>) {
    let mut config = config();
    config.safety.partition = partition;
    config.safety.fences_nodes = fences_nodes;
    let agent = Agent::new(&config, now());
    let vips = agent.slots.keys().copied().collect();
    (agent, vips)
}

/// Installs a view of the first two of the three: the first VIP is ours, and nobody is told to hold it.
fn inherit(agent: &mut Agent, epoch: u64, left: &[usize]) {
    agent.state(agent.fingerprint());
    let ours = Verdict { owner: Some(1), reason: Reason::Uncovered, holders: vec![] };
    let nobody_s = Verdict { owner: None, reason: Reason::Uncovered, holders: vec![] };
    let mut members = members(agent);
    members.truncate(2);
    let vips = VipList::Fingerprint(agent.fingerprint());
    let decision = Decision { vips, members, verdicts: vec![ours, nobody_s.clone(), nobody_s] };
    let left = left.iter().map(|&i| node(i)).collect();
    agent.handle_view(view(epoch), &wire::encode(&decision), true, &left, now());
}

fn acquired_by(agent: &mut Agent, from: usize, vip: VipId) {
    let holding = AgentMessage::Holding(Holding { acquired: vec![vip], ..Holding::default() });
    agent.handle_message(node(from), &wire::encode(&holding), now());
}

/// Nobody answers for it; what follows is told with the next output.
fn cleared(agent: &mut Agent, vip: VipId) {
    agent.handle_addresses(AddressOutcome::Cleared { vip }, now());
    told(agent, 0);
}

fn contested(agent: &mut Agent, vip: VipId, by: MacAddress, again: bool) {
    let ours = MacAddress([2, 0, 0, 0, 0, 5]);
    agent.handle_addresses(AddressOutcome::Contested { vip, by, ours, again }, now());
}

#[test]
fn what_a_vanished_member_held_is_acquired_when_it_is_clear() {
    let both = [(Partition::Lan, false), (Partition::Lan, true), (Partition::Component, true)];
    for (partition, fences_nodes) in both {
        let (mut agent, vips) = agent_under(partition, fences_nodes);
        install(&mut agent, 1, &[(Some(2), &[2]), (None, &[]), (None, &[])]);
        inherit(&mut agent, 2, &[]);
        assert!(desires(&agent).is_empty(), "{partition:?} {fences_nodes}");
        let from_c = Wanted { from: BTreeSet::from([node(2)]) };
        assert_eq!(agent.to_clear.1, BTreeMap::from([(vips[0], from_c)]));
        cleared(&mut agent, vips[0]);
        assert_eq!(desires(&agent), BTreeSet::from([vips[0]]));
    }
}

#[test]
fn without_precautions_or_after_a_leave_it_is_acquired_at_once() {
    let cases =
        [(Partition::Component, &[][..]), (Partition::Quorum, &[]), (Partition::Lan, &[2][..])];
    for (partition, left) in cases {
        let (mut agent, vips) = agent_under(partition, false);
        install(&mut agent, 1, &[(Some(2), &[2]), (None, &[]), (None, &[])]);
        inherit(&mut agent, 2, left);
        assert_eq!(desires(&agent), BTreeSet::from([vips[0]]), "{partition:?} {left:?}");
    }
}

#[test]
fn a_release_that_was_told_is_good_in_this_view_until_somebody_acquires_the_vip() {
    let released_by_c = |agent: &mut Agent, vip| {
        install(agent, 1, &[(Some(2), &[2]), (None, &[]), (None, &[])]);
        release_of(agent, 2, vip, 0);
    };
    let (mut agent, vips) = agent_under(Partition::Lan, false);
    released_by_c(&mut agent, vips[0]);
    update(&mut agent, 1, vips[0], ME, ME);
    assert_eq!(desires(&agent), BTreeSet::from([vips[0]]), "it is free");

    let (mut agent, vips) = agent_under(Partition::Lan, false);
    released_by_c(&mut agent, vips[0]);
    acquired_by(&mut agent, 0, vips[0]);
    update(&mut agent, 1, vips[0], ME, ME);
    assert!(desires(&agent).is_empty(), "the first has it");

    let (mut agent, vips) = agent_under(Partition::Lan, false);
    released_by_c(&mut agent, vips[0]);
    agent.handle_view_lost(now());
    install(&mut agent, 2, &[(Some(1), &[]), (None, &[]), (None, &[])]);
    assert!(desires(&agent).is_empty(), "anything may have happened meanwhile");
}

#[test]
fn what_is_clear_is_acquired_by_its_owner_only() {
    let (mut agent, vips) = agent_under(Partition::Lan, false);
    install(&mut agent, 1, &[(Some(0), &[]), (Some(1), &[]), (None, &[])]);
    for &vip in &vips {
        cleared(&mut agent, vip);
    }
    assert_eq!(desires(&agent), BTreeSet::from([vips[1]]));

    // What was clear then is not clear when it comes back.
    install(&mut agent, 2, &[(Some(1), &[]), (Some(1), &[1]), (None, &[])]);
    assert_eq!(desires(&agent), BTreeSet::from([vips[1]]));
}

#[test]
fn of_two_components_the_higher_address_yields_and_to_a_stranger_nobody() {
    let holding = || {
        let (mut agent, vips) = agent_under(Partition::Lan, false);
        install(&mut agent, 1, &[(Some(1), &[1]), (None, &[]), (None, &[])]);
        cleared(&mut agent, vips[0]);
        held(&mut agent, vips[0]);
        (agent, vips[0])
    };
    let kept = |agent: &Agent, vip| desires(agent).contains(&vip);

    let (mut agent, vip) = holding();
    contested(&mut agent, vip, LOW, true);
    assert!(kept(&agent, vip), "all configured nodes are members: it is a stranger");
    inherit(&mut agent, 2, &[]);
    contested(&mut agent, vip, HIGH, true);
    assert!(kept(&agent, vip), "the other one yields");
    contested(&mut agent, vip, LOW, false);
    assert!(kept(&agent, vip), "it is defended first");
    contested(&mut agent, vip, LOW, true);
    assert!(!kept(&agent, vip));
}

#[test]
fn whoever_gave_way_may_hold_again_once_somebody_has_joined() {
    let (mut agent, vips) = agent_under(Partition::Lan, false);
    inherit(&mut agent, 1, &[]);
    cleared(&mut agent, vips[0]);
    held(&mut agent, vips[0]);
    contested(&mut agent, vips[0], LOW, true);
    let unable = |agent: &Agent| agent.slots[&vips[0]].is_unable();
    assert!(unable(&agent));

    inherit(&mut agent, 2, &[]);
    assert!(unable(&agent), "nobody has joined");
    install(&mut agent, 3, &[(Some(0), &[0]), (None, &[]), (None, &[])]);
    assert!(!unable(&agent));
}

#[test]
fn whoever_could_not_hold_is_not_able_because_somebody_has_joined() {
    let (mut agent, vips) = agent_under(Partition::Lan, false);
    inherit(&mut agent, 1, &[]);
    cleared(&mut agent, vips[0]);
    failed(&mut agent, vips[0]);
    assert!(agent.slots[&vips[0]].is_unable());

    install(&mut agent, 2, &[(Some(0), &[0]), (None, &[]), (None, &[])]);
    assert!(agent.slots[&vips[0]].is_unable());
}

#[test]
fn what_was_taken_away_by_hand_is_asked_about_while_somebody_is_away() {
    let (mut agent, vips) = agent_under(Partition::Lan, false);
    install(&mut agent, 1, &[(Some(1), &[1]), (None, &[]), (None, &[])]);
    cleared(&mut agent, vips[0]);
    held(&mut agent, vips[0]);
    let vanished = |agent: &mut Agent| {
        let outcome =
            AddressOutcome::Vanished { vip: vips[0], retry_in: Duration::from_millis(10) };
        agent.handle_addresses(outcome, now());
    };
    vanished(&mut agent);
    assert_eq!(desires(&agent), BTreeSet::from([vips[0]]), "put back at once");

    inherit(&mut agent, 2, &[]);
    vanished(&mut agent);
    assert_eq!(desires(&agent), BTreeSet::new());
    released(&mut agent, vips[0]);
    assert_eq!(desires(&agent), BTreeSet::new());
    cleared(&mut agent, vips[0]);
    assert_eq!(desires(&agent), BTreeSet::from([vips[0]]));
}

#[test]
fn what_cannot_be_served_from_here_is_let_go_of() {
    let (mut agent, vips) = agent_under(Partition::Lan, false);
    install(&mut agent, 1, &[(Some(1), &[1]), (None, &[]), (None, &[])]);
    cleared(&mut agent, vips[0]);
    held(&mut agent, vips[0]);
    let why_not = Some("no sign of life".to_owned());
    agent.handle_addresses(AddressOutcome::Servable { vips: vec![vips[0]], why_not }, now());
    assert!(desires(&agent).is_empty());
}

#[test]
fn what_was_held_here_is_handed_on_as_clear_unless_the_segment_is_not_heard_any_more() {
    for heard in [true, false] {
        let (mut agent, vips) = agent_under(Partition::Lan, false);
        inherit(&mut agent, 1, &[]);
        cleared(&mut agent, vips[0]);
        held(&mut agent, vips[0]);
        update(&mut agent, 1, vips[0], ME, 0);
        told(&mut agent, 0);
        if !heard {
            let why_not = Some("no sign of life".to_owned());
            agent
                .handle_addresses(AddressOutcome::Servable { vips: vec![vips[0]], why_not }, now());
        }

        released(&mut agent, vips[0]);

        let clear: Vec<HandedOver> = told(&mut agent, 0)
            .into_iter()
            .flat_map(|message| match message {
                AgentMessage::Holding(holding) => holding.released,
                _ => vec![],
            })
            .collect();
        assert_eq!(clear, [HandedOver { vip: vips[0], next: Some(node(0)), clear: heard }]);
    }
}

#[test]
fn while_a_node_is_away_it_may_have_what_was_handed_over() {
    for away in [false, true] {
        let (mut agent, vips) = agent_under(Partition::Lan, false);
        install(&mut agent, 1, &[(Some(0), &[0]), (None, &[]), (None, &[])]);
        let members = &members(&agent)[..if away { 2 } else { 3 }];
        let from = Some(node(0));
        let change = Change { vip: vips[0], from, to: node(ME), reason: Reason::Balance };
        let update = Update { number: 1, members: members.to_vec(), changes: vec![change] };
        agent.handle_message(node(0), &wire::encode(&AgentMessage::Update(update)), now());

        release_of(&mut agent, 0, vips[0], ME);

        assert_eq!(desires(&agent).is_empty(), away);
        let asked = Wanted::default();
        let wanted = BTreeMap::from_iter(away.then_some((vips[0], asked)));
        assert_eq!(agent.to_clear.1, wanted);
    }
}

#[test]
fn a_prospective_heir_has_rivals_while_others_than_the_holder_are_away() {
    for (suspects, members, rivals) in [(&[0][..], 3, false), (&[0, 2], 3, true), (&[0], 2, true)] {
        let (mut agent, vips) = agent_under(Partition::Lan, false);
        let s_first = |owner| Verdict { owner, reason: Reason::Kept, holders: vec![0] };
        let verdicts = vips.iter().map(|_| s_first(Some(0))).collect();
        let members = members_of(&agent, members);
        let vips = VipList::Fingerprint(agent.fingerprint());
        let decision = wire::encode(&Decision { vips, members, verdicts });
        agent.handle_view(view(1), &decision, true, &BTreeSet::new(), now());

        agent.handle_suspects(suspects.iter().map(|&i| node(i)).collect());

        let prospects = &agent.to_clear.0;
        assert!(!prospects.is_empty() && prospects.values().all(|&has| has == rivals));
    }
}

fn members_of(agent: &Agent, count: usize) -> Vec<MemberInfo> {
    members(agent).into_iter().take(count).collect()
}

#[test]
fn whoever_has_the_permission_and_cannot_use_it_says_so_once() {
    let (mut agent, vips) = agent_under(Partition::Lan, false);
    install(&mut agent, 1, &[(Some(1), &[1]), (Some(0), &[0]), (None, &[])]);
    told(&mut agent, 0);
    let declined = |agent: &mut Agent, why_not: Option<&str>| -> Vec<VipId> {
        let (vips, why_not) = (agent.slots.keys().copied().collect(), why_not.map(str::to_owned));
        agent.handle_addresses(AddressOutcome::Servable { vips, why_not }, now());
        told(agent, 0)
            .into_iter()
            .flat_map(|message| match message {
                AgentMessage::Holding(holding) => holding.declined,
                _ => vec![],
            })
            .collect()
    };
    assert_eq!(declined(&mut agent, Some("no carrier")), [vips[0]], "the others are not ours");
    assert_eq!(declined(&mut agent, Some("no sign of life")), []);
    assert_eq!(declined(&mut agent, None), []);
    assert_eq!(declined(&mut agent, Some("no carrier")), [vips[0]]);
}

#[test]
fn whatever_we_hold_is_announced_when_a_node_of_another_view_is_gone() {
    let (mut agent, vips) = agent_under(Partition::Component, false);
    install(&mut agent, 1, &[(Some(1), &[1]), (None, &[]), (None, &[])]);
    held(&mut agent, vips[0]);
    let announced = |agent: &mut Agent| {
        let mut announced = Vec::new();
        while let Some(output) = agent.poll_output(now()) {
            if let AgentOutput::Announce { vips } = output {
                announced.extend(vips);
            }
        }
        announced
    };
    announced(&mut agent);

    agent.handle_gone(node(0));
    assert_eq!(announced(&mut agent), [], "a member that never had it");
    agent.handle_gone(NodeId::from_name("in another view"));
    assert_eq!(announced(&mut agent), [vips[0]], "it may have been believed last");
}

#[test]
fn whoever_vanished_is_fenced_also_if_another_view_comes_before_that() {
    let (mut agent, vips) = agent_under(Partition::Quorum, true);
    install(&mut agent, 1, &[(Some(2), &[2]), (None, &[]), (None, &[])]);
    inherit(&mut agent, 2, &[]);
    install(&mut agent, 3, &[(Some(1), &[]), (None, &[]), (None, &[])]);
    assert_eq!(
        desires(&agent),
        BTreeSet::from([vips[0]]),
        "it is back, and has told what it holds"
    );

    let (mut agent, vips) = agent_under(Partition::Quorum, true);
    install(&mut agent, 1, &[(Some(2), &[2]), (None, &[]), (None, &[])]);
    inherit(&mut agent, 2, &[]);
    inherit(&mut agent, 3, &[]);
    assert_eq!(desires(&agent), BTreeSet::new());
    let from_c = Wanted { from: BTreeSet::from([node(2)]) };
    assert_eq!(agent.to_clear.1, BTreeMap::from([(vips[0], from_c)]));

    cleared(&mut agent, vips[0]);
    held(&mut agent, vips[0]);
    assert!(agent.slots[&vips[0]].clear_from.is_empty());
}

#[test]
fn what_is_not_there_yet_when_somebody_goes_is_asked_about_again() {
    // Being acquired, or deleted by hand and about to be put back.
    for deleted in [false, true] {
        let (mut agent, vips) = agent_under(Partition::Lan, false);
        install(&mut agent, 1, &[(Some(1), &[]), (None, &[]), (None, &[])]);
        cleared(&mut agent, vips[0]);
        if deleted {
            held(&mut agent, vips[0]);
            let outcome =
                AddressOutcome::Vanished { vip: vips[0], retry_in: Duration::from_millis(10) };
            agent.handle_addresses(outcome, now());
        }
        assert_eq!(desires(&agent), BTreeSet::from([vips[0]]));
        inherit(&mut agent, 2, &[]);

        assert_eq!(desires(&agent), BTreeSet::new(), "deleted: {deleted}");
        released(&mut agent, vips[0]);
        told(&mut agent, 0);
        assert_eq!(agent.to_clear.1, BTreeMap::from([(vips[0], Wanted::default())]));
    }
}

#[test]
fn what_somebody_takes_while_it_is_being_acquired_is_let_go_of() {
    let (mut agent, vips) = agent_under(Partition::Lan, false);
    install(&mut agent, 1, &[(Some(1), &[]), (None, &[]), (None, &[])]);
    cleared(&mut agent, vips[0]);
    assert_eq!(desires(&agent), BTreeSet::from([vips[0]]));
    let by = MacAddress([2, 0, 0, 0, 0, 1]);
    agent.handle_addresses(AddressOutcome::Occupied { vip: vips[0], by }, now());
    assert_eq!(desires(&agent), BTreeSet::new());
    released(&mut agent, vips[0]);
    told(&mut agent, 0);
    assert_eq!(agent.to_clear.1, BTreeMap::from([(vips[0], Wanted::default())]));
}

#[test]
fn beside_another_view_nothing_is_taken_but_what_a_member_hands_over() {
    for partition in [Partition::Component, Partition::Lan] {
        let (mut agent, vips) = agent_under(partition, false);
        agent.handle_beside(true);
        // The first VIP is ours and nobody's, the second one has just been given to us by the third node.
        install(&mut agent, 1, &[(Some(1), &[]), (Some(2), &[2]), (None, &[])]);
        assert!(desires(&agent).is_empty(), "{partition:?}");
        assert!(agent.to_clear.1.is_empty(), "{partition:?}: nor is it asked about");
        update(&mut agent, 1, vips[1], 2, ME);
        release_of(&mut agent, 2, vips[1], 1);
        cleared(&mut agent, vips[1]);
        assert_eq!(desires(&agent), BTreeSet::from([vips[1]]), "{partition:?}");

        agent.handle_beside(false);
        cleared(&mut agent, vips[0]);
        assert_eq!(desires(&agent), BTreeSet::from([vips[0], vips[1]]), "{partition:?}");
        agent.handle_beside(true);
        assert_eq!(desires(&agent).len(), 2, "{partition:?}: what is here stays");
    }
}
