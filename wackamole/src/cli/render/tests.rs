//! What a person sees.

use std::collections::BTreeMap;

use wackamole_protocol::event::Reason;
use wackamole_protocol::status::{ReachStatus, SafetyStatus, ViewStatus};

use super::*;

#[test]
fn a_healthy_cluster_is_quiet() {
    let shown = status(&healthy(), false);

    assert!(!shown.contains('!') && !shown.contains('~'), "{shown}");
    insta::assert_snapshot!("healthy", shown);
}

#[test]
fn what_is_broken_jumps_to_the_eye() {
    insta::assert_snapshot!("broken", status(&broken(), false));
}

#[test]
fn a_node_without_a_view_says_so() {
    let mut lonely = healthy();
    lonely.phase = Phase::Joining;
    lonely.view = None;
    for node in &mut lonely.nodes {
        (node.member, node.owns, node.holds) = (false, 0, 0);
    }
    for vip in &mut lonely.vips {
        (vip.owner, vip.reason, vip.owned_for_ms) = (None, None, None);
        vip.holders.clear();
    }

    insta::assert_snapshot!("without_a_view", status(&lonely, false));
}

#[test]
fn colours_change_nothing_but_colours() {
    let (plain, coloured) = (status(&broken(), false), status(&broken(), true));

    assert!(!plain.contains('\x1b'));
    assert_eq!(without_codes(&coloured), plain);
    // Red and bold: SGR 31 and 1.
    assert!(coloured.contains("\x1b[31m\x1b[1mNOBODY\x1b[0m"), "{coloured:?}");
}

#[test]
fn text_from_elsewhere_cannot_move_the_cursor() {
    let mut forged = healthy();
    forged.warnings.push("one\x1b[2J\ntwo".into());
    forged.vips[0].error = Some("a\rb".into());

    let shown = status(&forged, false);

    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
}

#[test]
fn an_age_has_two_units_at_most() {
    let shown: Vec<_> =
        [0, 80, 999, 1_000, 12_345, 59_999, 60_000, 250_000, 3_600_000, 300_000_000]
            .map(age)
            .into();

    assert_eq!(
        shown,
        ["0ms", "80ms", "999ms", "1.0s", "12.3s", "59.9s", "1m 00s", "4m 10s", "1h 00m", "3d 11h"]
    );
}

/// Takes out every SGR sequence: escape, bracket, numbers, `m`.
fn without_codes(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.split_once('m').unwrap().1)
}

fn healthy() -> Status {
    Status {
        cluster: "web".into(),
        node: "a".into(),
        incarnation: "3.1f2e00aa".into(),
        phase: Phase::Serving,
        view: Some(ViewStatus {
            epoch: 12,
            coordinator: "a".into(),
            members: vec!["a".into(), "b".into(), "charlie".into()],
            age_ms: 250_000,
            assignment: 3,
        }),
        safety: SafetyStatus {
            partition: "lan".into(),
            primary: true,
            lease_ms: Some(390),
            ..SafetyStatus::default()
        },
        nodes: vec![
            node("a", 2, |node| {
                node.me = true;
                node.heard_ms_ago = Some(0);
            }),
            node("b", 1, |_| {}),
            node("charlie", 1, |node| node.weight = 10),
        ],
        vips: vec![
            vip("10.77.1.1", "a", &["a"], Reason::Kept),
            vip("10.77.1.2", "b", &["b"], Reason::Uncovered),
            vip("10.77.1.3", "charlie", &["charlie"], Reason::Balance),
            vip("gateway", "a", &["a"], Reason::Preferred),
        ],
        rejected: BTreeMap::new(),
        warnings: Vec::new(),
    }
}

fn broken() -> Status {
    let mut broken = healthy();
    if let Some(view) = &mut broken.view {
        view.members.pop();
        view.age_ms = 1_700;
    }
    broken.safety.must_reach = [("192.0.2.1", false), ("fd00::1", true)]
        .map(|(address, answers)| ReachStatus { address: address.into(), answers })
        .to_vec();
    broken.nodes[1].mature = false;
    broken.nodes[1].draining = true;
    broken.nodes[1].holds = 2;
    broken.nodes[1].same_configuration = false;
    broken.nodes[1].paths = vec![
        PathStatus { address: "10.77.0.12:4815".into(), heard_ms_ago: Some(12) },
        PathStatus { address: "10.78.0.12:4815".into(), heard_ms_ago: None },
    ];
    broken.nodes[2] = node("charlie", 0, |node| {
        node.link = LinkState::Silent;
        node.heard_ms_ago = Some(2_100);
        (node.member, node.mature) = (false, false);
    });
    broken.nodes.push(node("dora", 0, |node| {
        node.link = LinkState::OneWay;
        (node.member, node.mature) = (false, false);
    }));
    broken.nodes.push(node("emil", 0, |node| {
        node.link = LinkState::Silent;
        node.heard_ms_ago = None;
        (node.member, node.mature) = (false, false);
    }));
    broken.vips[0].holders.push("b".into());
    broken.vips[1].holders.clear();
    broken.vips[2].holders = vec!["b".into()];
    broken.vips[2].owner = Some("a".into());
    broken.vips[3].error = Some("there is no interface eth1".into());
    broken.vips.push(VipStatus {
        owner: None,
        reason: None,
        owned_for_ms: None,
        ..vip("mail", "a", &[], Reason::Unable)
    });
    broken.rejected = BTreeMap::from([
        (Rejection::WrongKey, 120),
        (Rejection::OtherCluster, 3),
        (Rejection::Replayed, 0),
    ]);
    broken.warnings = vec!["b defines its VIPs otherwise than this node".into()];
    broken
}

fn node(name: &str, owns: usize, change: impl FnOnce(&mut NodeStatus)) -> NodeStatus {
    let mut node = NodeStatus {
        name: name.into(),
        me: false,
        link: LinkState::TwoWay,
        heard_ms_ago: Some(43),
        member: true,
        mature: true,
        draining: false,
        weight: 1,
        owns,
        holds: owns,
        same_configuration: true,
        paths: Vec::new(),
    };
    change(&mut node);
    node
}

fn vip(name: &str, owner: &str, holders: &[&str], reason: Reason) -> VipStatus {
    VipStatus {
        name: name.into(),
        addresses: vec![format!("{name}/32@eth0")],
        owner: Some(owner.into()),
        holders: holders.iter().map(|holder| (*holder).into()).collect(),
        reason: Some(reason),
        owned_for_ms: Some(250_000),
        waiting: None,
        error: None,
    }
}
