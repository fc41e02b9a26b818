//! The agent alone: single rules, then anything in any order with its invariants after every step.

mod anything;
mod clearing;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::message::{Change, Decision, HandedOver, Update, Verdict};
use super::*;
use crate::config::{ClusterKey, NodeDefinition, Partition, Safety, Timing, VipDefinition};
use crate::vip::{Vip, VipAddress};

const ME: usize = 1;

fn node(i: usize) -> NodeId {
    NodeId::from_name(["a", "b", "c"][i])
}

fn now() -> Instant {
    Instant::ORIGIN + Duration::from_secs(1)
}

fn view(epoch: u64) -> ViewId {
    ViewId { epoch, coordinator: node(0) }
}

/// The configuration of the second of three nodes.
fn config() -> NodeConfig {
    let vips: Vec<VipDefinition> = (0..3u8)
        .map(|i| {
            let address =
                VipAddress { address: [10, 0, 0, i].into(), prefix: 32, interface: "eth0".into() };
            VipDefinition {
                vip: Arc::new(Vip::new(format!("v{i}"), vec![address])),
                prefer: vec![],
            }
        })
        .collect();
    let timing = Timing {
        heartbeat: Duration::from_millis(100),
        failure_timeout: Duration::from_millis(400),
        mature: Duration::from_millis(500),
    };
    NodeConfig {
        cluster: "test".into(),
        key: ClusterKey([0; 32]),
        me: node(ME),
        nodes: ["a", "b", "c"]
            .map(|name| NodeDefinition {
                name: name.into(),
                addresses: vec![],
                weight: 1,
                witness: false,
            })
            .into(),
        vips,
        timing,
        balance: Balance { moves_per_round: None, interval: Duration::from_secs(4) },
        multicast: false,
        safety: Safety::new(Partition::Component, &timing),
        must_reach: Vec::new(),
    }
}

/// The agent of the second of three nodes, and its VIPs in the order of their ids.
fn agent() -> (Agent, Vec<VipId>) {
    let agent = Agent::new(&config(), now());
    let vips = agent.slots.keys().copied().collect();
    (agent, vips)
}

fn members(agent: &Agent) -> Vec<MemberInfo> {
    (0..3)
        .map(|i| MemberInfo {
            id: node(i),
            weight: 1,
            mature: true,
            draining: false,
            fingerprint: agent.fingerprint(),
        })
        .collect()
}

/// Installs a view: for each VIP its owner and its holders.
fn install(agent: &mut Agent, epoch: u64, fates: &[(Option<u8>, &[u8])]) {
    install_as(agent, epoch, fates, true);
}

fn install_as(agent: &mut Agent, epoch: u64, fates: &[(Option<u8>, &[u8])], primary: bool) {
    agent.state(agent.fingerprint());
    let verdicts = fates
        .iter()
        .map(|(owner, holders)| Verdict {
            owner: *owner,
            reason: Reason::Uncovered,
            holders: holders.to_vec(),
        })
        .collect();
    let vips = VipList::Fingerprint(agent.fingerprint());
    let decision = Decision { vips, members: members(agent), verdicts };
    agent.handle_view(view(epoch), &wire::encode(&decision), primary, &BTreeSet::new(), now());
}

fn update(agent: &mut Agent, number: u64, vip: VipId, from: usize, to: usize) {
    let change = Change { vip, from: Some(node(from)), to: node(to), reason: Reason::Balance };
    let update = Update { number, members: members(agent), changes: vec![change] };
    agent.handle_message(node(0), &wire::encode(&AgentMessage::Update(update)), now());
}

fn release_of(agent: &mut Agent, from: usize, vip: VipId, next: usize) {
    let released = vec![HandedOver { vip, next: Some(node(next)), clear: true }];
    let holding = AgentMessage::Holding(Holding { released, ..Holding::default() });
    agent.handle_message(node(from), &wire::encode(&holding), now());
}

fn held(agent: &mut Agent, vip: VipId) {
    let generation = agent.generation;
    agent.handle_addresses(AddressOutcome::Held { vip, generation }, now());
}

fn released(agent: &mut Agent, vip: VipId) {
    let generation = agent.generation;
    agent.handle_addresses(AddressOutcome::Released { vip, generation }, now());
}

fn failed(agent: &mut Agent, vip: VipId) {
    let generation = agent.generation;
    let error = "no".to_owned();
    agent
        .handle_addresses(AddressOutcome::Failed { vip, generation, error, given_up: true }, now());
}

/// What the agent tells one member from here on: every message once.
fn told(agent: &mut Agent, to: usize) -> Vec<AgentMessage> {
    core::iter::from_fn(|| agent.poll_output(now()))
        .filter_map(|output| match output {
            AgentOutput::Send { to: node_id, bytes } if node_id == node(to) => {
                Some(wire::decode(&bytes).expect("our own message"))
            }
            _ => None,
        })
        .collect()
}

/// The permissions among what is told: which VIP, to whom.
fn permissions(messages: &[AgentMessage]) -> Vec<(VipId, NodeId)> {
    messages
        .iter()
        .filter_map(|message| match message {
            AgentMessage::Holding(holding) => Some(&holding.released),
            _ => None,
        })
        .flatten()
        .filter_map(|handed| Some((handed.vip, handed.next?)))
        .collect()
}

fn acquired(messages: &[AgentMessage]) -> Vec<VipId> {
    messages
        .iter()
        .filter_map(|message| match message {
            AgentMessage::Holding(holding) => Some(holding.acquired.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

fn desires(agent: &Agent) -> BTreeSet<VipId> {
    agent.desired.clone()
}

#[test]
fn nothing_is_desired_without_a_view() {
    let (mut agent, vips) = agent();
    assert!(desires(&agent).is_empty());
    install(&mut agent, 1, &[(Some(1), &[]), (Some(1), &[]), (None, &[])]);
    assert_eq!(desires(&agent), BTreeSet::from([vips[0], vips[1]]));
    agent.handle_view_lost(now());
    assert!(desires(&agent).is_empty());
}

#[test]
fn what_somebody_else_holds_is_acquired_when_its_release_is_told_and_only_then() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[0, 2]), (None, &[]), (None, &[])]);
    assert!(desires(&agent).is_empty());
    release_of(&mut agent, 0, vips[0], ME);
    assert!(desires(&agent).is_empty(), "the third has not let go");
    release_of(&mut agent, 2, vips[0], ME);
    assert_eq!(desires(&agent), BTreeSet::from([vips[0]]));
}

#[test]
fn a_permission_that_overtakes_the_update_counts_when_the_update_comes() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(2), &[2]), (None, &[]), (None, &[])]);
    release_of(&mut agent, 2, vips[0], ME);
    assert!(desires(&agent).is_empty());
    update(&mut agent, 1, vips[0], 2, ME);
    assert_eq!(desires(&agent), BTreeSet::from([vips[0]]));
}

#[test]
fn a_permission_that_overtook_its_update_is_good_for_that_one_only() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(2), &[2]), (None, &[]), (None, &[])]);
    release_of(&mut agent, 2, vips[0], ME);
    update(&mut agent, 1, vips[0], 2, ME);
    held(&mut agent, vips[0]);
    update(&mut agent, 2, vips[0], ME, 0);
    released(&mut agent, vips[0]);
    update(&mut agent, 3, vips[0], 0, ME);
    assert!(desires(&agent).is_empty(), "the first holds it by now");

    install(&mut agent, 2, &[(Some(2), &[2]), (None, &[]), (None, &[])]);
    release_of(&mut agent, 2, vips[0], ME);
    install(&mut agent, 3, &[(Some(2), &[2]), (None, &[]), (None, &[])]);
    update(&mut agent, 1, vips[0], 2, ME);
    assert!(desires(&agent).is_empty(), "it was given in another view");
}

#[test]
fn the_permission_is_given_away_once_and_after_the_release() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[1]), (None, &[]), (None, &[])]);
    held(&mut agent, vips[0]);
    told(&mut agent, 2);
    update(&mut agent, 1, vips[0], ME, 2);
    assert!(desires(&agent).is_empty());
    assert_eq!(permissions(&told(&mut agent, 2)), []);

    released(&mut agent, vips[0]);
    assert_eq!(permissions(&told(&mut agent, 2)), [(vips[0], node(2))]);
    released(&mut agent, vips[0]);
    assert_eq!(permissions(&told(&mut agent, 2)), []);
}

#[test]
fn outcomes_for_an_earlier_desire_are_ignored() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[]), (None, &[]), (None, &[])]);
    let early = agent.generation;
    install(&mut agent, 2, &[(Some(2), &[1]), (None, &[]), (None, &[])]);
    told(&mut agent, 2);
    let stale = AddressOutcome::Released { vip: vips[0], generation: early };
    agent.handle_addresses(stale, now());
    assert_eq!(permissions(&told(&mut agent, 2)), [], "the acquire of then may yet be done");
}

#[test]
fn an_acquire_for_an_earlier_desire_is_not_told_as_done() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[]), (None, &[]), (None, &[])]);
    let early = agent.generation;
    install(&mut agent, 2, &[(Some(2), &[1]), (None, &[]), (None, &[])]);
    install(&mut agent, 3, &[(Some(1), &[1]), (None, &[]), (None, &[])]);
    told(&mut agent, 0);
    let stale = AddressOutcome::Held { vip: vips[0], generation: early };
    agent.handle_addresses(stale, now());
    assert_eq!(
        acquired(&told(&mut agent, 0)),
        [],
        "the release that came after it is yet to be done"
    );
    held(&mut agent, vips[0]);
    assert_eq!(acquired(&told(&mut agent, 0)), [vips[0]]);
}

#[test]
fn between_accept_and_install_nothing_is_added_and_nothing_thrown_away() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[]), (Some(1), &[2]), (None, &[])]);
    agent.state(agent.fingerprint());
    release_of(&mut agent, 2, vips[1], ME);
    update(&mut agent, 1, vips[2], 0, ME);
    assert_eq!(desires(&agent), BTreeSet::from([vips[0]]));
}

#[test]
fn who_keeps_a_vip_after_a_merge_tells_that_it_has_it_when_the_others_have_let_go() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[1]), (None, &[]), (None, &[])]);
    held(&mut agent, vips[0]);
    told(&mut agent, 0);
    install(&mut agent, 2, &[(Some(1), &[1, 2]), (None, &[]), (None, &[])]);
    assert_eq!(desires(&agent), BTreeSet::from([vips[0]]));
    assert_eq!(acquired(&told(&mut agent, 0)), [], "the coordinator would move it on");
    release_of(&mut agent, 2, vips[0], ME);
    assert!(agent.announce.contains(&vips[0]), "the segment may point at the other");
    assert_eq!(acquired(&told(&mut agent, 0)), [vips[0]]);
}

#[test]
fn what_is_not_there_yet_is_not_acquired_beside_others() {
    let wait = |agent: &mut Agent, vip: VipId, epoch: u64| {
        install(agent, epoch, &[(Some(1), &[1, 2]), (None, &[]), (None, &[])]);
        assert_eq!(desires(agent), BTreeSet::new(), "the third has it");
        released(agent, vip);
        release_of(agent, 2, vip, ME);
        assert_eq!(desires(agent), BTreeSet::from([vip]));
        held(agent, vip);
    };
    let (mut agent, vips) = agent();
    let (one, mine) = (vips[0], [(Some(1), &[1][..]), (None, &[]), (None, &[])]);
    install(&mut agent, 1, &mine);
    wait(&mut agent, one, 2); // its acquire was under way

    agent.handle_view_lost(now());
    install(&mut agent, 3, &mine);
    assert_eq!(desires(&agent), BTreeSet::from([one]), "its release has yet to be confirmed");
    wait(&mut agent, one, 4);

    let retry_in = Duration::from_millis(10);
    agent.handle_addresses(AddressOutcome::Vanished { vip: one, retry_in }, now());
    wait(&mut agent, one, 5); // it was to be put back

    install(&mut agent, 6, &[(Some(1), &[1, 2]), (None, &[]), (None, &[])]);
    agent.handle_addresses(AddressOutcome::Vanished { vip: one, retry_in }, now());
    told(&mut agent, 0);
    assert_eq!(desires(&agent), BTreeSet::new(), "it would be put back beside the third");
}

#[test]
fn who_cannot_hold_a_vip_says_so_when_it_has_the_permission_to_pass_on() {
    let reports = |messages: &[AgentMessage]| {
        messages.iter().filter(|message| matches!(message, AgentMessage::Report(_))).count()
    };
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[1]), (None, &[]), (None, &[])]);
    install(&mut agent, 2, &[(Some(1), &[1, 2]), (None, &[]), (None, &[])]);
    told(&mut agent, 0);
    failed(&mut agent, vips[0]);
    assert_eq!(reports(&told(&mut agent, 0)), 0, "another still holds it");
    release_of(&mut agent, 2, vips[0], ME);
    failed(&mut agent, vips[0]);
    assert_eq!(reports(&told(&mut agent, 0)), 1);
}

#[test]
fn a_permission_that_is_still_awaited_is_passed_on_when_it_comes_and_not_before() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[0]), (None, &[]), (None, &[])]);
    update(&mut agent, 1, vips[0], ME, 2);
    assert_eq!(permissions(&told(&mut agent, 2)), [], "the first still holds it");
    assert!(!agent.is_empty(), "it is owed");
    release_of(&mut agent, 0, vips[0], ME);
    assert_eq!(permissions(&told(&mut agent, 2)), [(vips[0], node(2))]);
    assert!(desires(&agent).is_empty());
    // Nothing of it is left for the next time.
    update(&mut agent, 2, vips[0], 2, ME);
    assert!(desires(&agent).is_empty());
}

#[test]
fn what_was_told_as_held_and_was_let_go_of_before_the_install_is_handed_over_at_once() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[1]), (None, &[]), (None, &[])]);
    held(&mut agent, vips[0]);
    update(&mut agent, 1, vips[0], ME, 0);
    agent.state(agent.fingerprint());
    released(&mut agent, vips[0]);
    told(&mut agent, 2);
    install(&mut agent, 2, &[(Some(2), &[1]), (None, &[]), (None, &[])]);
    assert_eq!(permissions(&told(&mut agent, 2)), [(vips[0], node(2))]);
}

#[test]
fn the_state_counts_what_may_answer_as_held() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[]), (Some(1), &[]), (Some(1), &[])]);
    held(&mut agent, vips[1]);
    held(&mut agent, vips[2]);
    update(&mut agent, 1, vips[1], ME, 0);
    update(&mut agent, 2, vips[2], ME, 0);
    released(&mut agent, vips[2]);
    let state: MemberState =
        wire::decode(&agent.state(agent.fingerprint())).expect("our own state");
    let held: Vec<bool> = (0..3).map(|position| state.held.contains(position)).collect();
    assert_eq!(held, [true, true, false], "wanted, leaving, released");
}

#[test]
fn messages_that_cannot_be_decoded_and_foreign_updates_change_nothing() {
    let (mut agent, vips) = agent();
    install(&mut agent, 1, &[(Some(1), &[]), (None, &[]), (None, &[])]);
    let before = desires(&agent);
    agent.handle_message(node(0), b"\xff\xff\xff\xff", now());
    let change = Change { vip: vips[1], from: None, to: node(ME), reason: Reason::Balance };
    let update = Update { number: 1, members: members(&agent), changes: vec![change] };
    agent.handle_message(node(2), &wire::encode(&AgentMessage::Update(update)), now());
    assert_eq!(desires(&agent), before, "only the coordinator assigns");
}

#[test]
fn states_that_differ_in_their_vips_are_listed() {
    let (mut agent, vips) = agent();
    let state: MemberState = wire::decode(&agent.state(1)).expect("our own state");
    assert_eq!(state.vips, VipList::Listed(vips));
    let states: BTreeMap<NodeId, Vec<u8>> = BTreeMap::from([(node(ME), agent.state(1))]);
    let decision: Decision = wire::decode(&agent.decide(view(1), &states, true)).expect("our own");
    assert_eq!(decision.vips, VipList::Fingerprint(agent.fingerprint()));
}

#[test]
fn a_view_that_is_not_primary_here_has_no_owners_whatever_its_coordinator_says() {
    for primary in [true, false] {
        let (mut agent, vips) = agent();
        install_as(&mut agent, 1, &[(Some(1), &[]), (None, &[]), (Some(0), &[])], primary);
        assert_eq!(desires(&agent).contains(&vips[0]), primary);
        let change = Change { vip: vips[1], from: None, to: node(ME), reason: Reason::Balance };
        let update = Update { number: 1, members: members(&agent), changes: vec![change] };
        agent.handle_message(node(0), &wire::encode(&AgentMessage::Update(update)), now());
        assert_eq!(desires(&agent).contains(&vips[1]), primary);
    }
}
