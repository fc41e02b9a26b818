//! Stories told with single letters: `a` is the first in rank.

mod cluster;

use std::collections::BTreeSet;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::config::QuorumKind;
use crate::id::{NodeId, ViewId};

use super::*;
use cluster::*;

#[test]
fn a_deciding_set_is_more_than_half_or_half_with_the_first() {
    for (voters, present, given, expected) in [
        ("abc", "ab", "", true),
        ("abc", "c", "", false),
        ("abc", "bcx", "", true),
        ("ab", "a", "", true),
        ("ab", "b", "", false),
        ("abcd", "ad", "", true),
        ("abcd", "bcd", "", true),
        ("abcd", "bc", "", false),
        ("a", "a", "", true),
        ("a", "b", "", false),
        ("abcde", "ab", "ea", true),   // e left and gave its vote to a
        ("abcde", "cd", "ea", false),  // which is on the other side
        ("abcde", "cde", "ea", false), // e came back: its vote is still with a
        ("abcde", "ae", "daea", true),
        ("abcde", "b", "daabea", true), // d and e gave to a, and a gave all to b
        ("abcd", "b", "ab", true),      // half, and the vote of the first
        ("abc", "a", "bccb", false),    // b and c gave to each other: nobody has these
        ("abc", "abc", "bccb", false),
    ] {
        let proxies = proxies(given, 1);
        let decides = deciding(&view(1, voters), &set(present), &proxies);
        assert_eq!(decides, expected, "{present} of {voters}, given {given}");
    }
}

#[test]
fn a_vote_given_away_upholds_a_view_only_if_the_leaver_knew_of_nothing_later() {
    for (up_to, decides, upholds) in [(1, false, false), (2, true, true), (3, true, false)] {
        let (view, heir) = (view(2, "abc"), set("b"));
        let proxies = proxies("cb", up_to);
        assert_eq!(deciding(&view, &heir, &proxies), decides, "up to {up_to}");
        let heir: Vec<_> = heir.into_iter().collect();
        assert_eq!(upholding(&view, &heir, &proxies), upholds, "up to {up_to}");
    }
}

#[test]
fn half_an_attempt_is_remembered() {
    // a and b agree to drop c. a installs {a, b}; b never hears of it.
    let mut cluster = Cluster::of("abc");
    let attempt = cluster.propose("a", "ab", 2).expect("two of three");
    cluster.accept(&attempt, "b").expect("b agrees");
    cluster.install(&attempt, "a");

    // b alone with c would be two of {a, b, c}, but it cannot know that {a, b} was not formed.
    let refused = cluster.propose("b", "bc", 3).map(|_| ()).expect_err("a may be primary alone");
    assert_eq!(awaited(&refused), set("a"));
    // c does not know of the attempt, but it needs b.
    let proposal = cluster.propose("c", "bc", 3).expect("c believes that two of three are enough");
    assert_eq!(cluster.accept(&proposal, "b"), Err(Refusal::Unaware));
    // a decides for {a, b} alone, being its first.
    cluster.propose("a", "a", 4).expect("half with the first");
}

#[test]
fn an_attempt_that_its_coordinator_gave_up_binds_nobody() {
    let mut cluster = Cluster::of("abc");
    let proposal = cluster.propose("a", "ab", 2).expect("two of three");
    cluster.accept(&proposal, "b").expect("b agrees");
    assert!(cluster.eligible("b", "bc").is_err());

    proposal.attempt.abandon(cluster.record_mut("a"));
    cluster.tell("a", "b");

    assert_eq!(cluster.eligible("b", "bc"), Ok(()));
}

#[test]
fn an_attempt_that_a_member_never_accepted_binds_nobody_once_it_accepted_a_higher_one() {
    let mut cluster = Cluster::of("abc");
    let lost = cluster.propose("a", "abc", 2).expect("all");
    cluster.accept(&lost, "b").expect("b agrees"); // c never hears of it, a is gone for good
    let proposal = cluster.propose("c", "bc", 3).expect("two of three");
    assert_eq!(cluster.accept(&proposal, "b"), Err(Refusal::Unaware));

    cluster.tell("c", "b"); // c has accepted ballot 3, which is its own

    assert_eq!(cluster.record("b").attempts, [view_by(3, "c", "bc")]);
    assert_eq!(cluster.eligible("b", "bc"), Ok(()));
}

#[test]
fn a_leaver_takes_part_through_its_heir_alone() {
    let mut cluster = Cluster::of("abcde");
    let record = leave(cluster.record("e"), node('e'), &set("abcd")).expect("a vote to give");
    *cluster.record_mut("e") = record;
    cluster.tell("e", "a");

    assert_eq!(cluster.eligible("a", "ab"), Ok(()));
    assert!(cluster.eligible("c", "cd").is_err());
    // The leave reached one side only: c counts e itself, which refuses.
    let proposal = cluster.propose("c", "cde", 2).expect("c has heard nothing of a leave");
    assert_eq!(cluster.accept(&proposal, "e"), Err(Refusal::Unaware));
    cluster.tell("e", "c");
    let why_not = cluster.eligible("c", "cde").expect_err("a has the third vote");
    assert_eq!(why_not.awaited(), set("ab"));
}

#[test]
fn two_leavers_hand_on_what_they_were_given() {
    let mut cluster = Cluster::of("abcde");
    let record = leave(cluster.record("b"), node('b'), &set("acde")).expect("b gives to a");
    *cluster.record_mut("b") = record;
    cluster.tell("b", "a");
    let record = leave(cluster.record("a"), node('a'), &set("cde")).expect("a gives both to c");
    *cluster.record_mut("a") = record;
    cluster.tell("a", "c");

    assert_eq!(cluster.eligible("c", "c"), Ok(()));
    assert!(cluster.eligible("d", "de").is_err());
}

#[test]
fn nobody_gives_a_vote_that_it_has_not_or_to_nobody() {
    let cluster = Cluster::of("ab");
    assert_eq!(leave(cluster.record("a"), node('a'), &set("")), None);
    assert_eq!(leave(cluster.record("a"), node('a'), &set("ax")), None);
    assert_eq!(leave(&Record::default(), node('a'), &set("b")), None);
    // Its vote is with a; leaving again it can follow only there.
    let gone = leave(cluster.record("b"), node('b'), &set("a")).expect("a vote to give");
    assert_eq!(leave(&gone, node('b'), &set("c")), None);
    assert_eq!(leave(&gone, node('b'), &set("a")).map(|record| record.proxies), Some(gone.proxies));
}

#[test]
fn whoever_gives_its_vote_away_accepts_nothing_that_it_knew_of_then() {
    let mut cluster = Cluster::of("abc");
    let known = view(5, "abc");
    cluster.record_mut("c").attempts.push(known.clone());

    let gone = leave(cluster.record("c"), node('c'), &set("ab")).expect("a vote to give");

    assert_eq!((gone.accepted, gone.proxies[&node('c')].up_to), (known.ballot, known.ballot));
}

#[test]
fn what_a_blank_disk_does_not_know_of_is_not_said_to_have_failed() {
    let cluster = Cluster::of("abc");
    let attempt = view(5, "abc");
    let mut said = cluster.record("b").clone();
    said.accepted = ballot(6, 1);
    assert!(said.rules_out(node('b'), &attempt));
    said.voice = false;
    assert!(!said.rules_out(node('b'), &attempt));
}

#[test]
fn a_blank_disk_has_no_vote_until_it_is_in_a_new_primary_view() {
    let mut cluster = Cluster::of("abc");
    *cluster.record_mut("b") = Record::default();

    let proposal = cluster.propose("a", "ab", 2).expect("a does not know");
    assert_eq!(cluster.accept(&proposal, "b"), Err(Refusal::Mute));
    cluster.mute.insert(node('b'));
    assert!(cluster.eligible("a", "ab").is_err());

    let proposal = cluster.propose("a", "abc", 3).expect("everybody");
    for other in ["b", "c"] {
        cluster.accept(&proposal, other).expect("nothing against it");
        cluster.install(&proposal, other);
    }
    assert!(cluster.record("b").voice);
}

#[test]
fn the_first_view_takes_all_configured_nodes() {
    let claim = Claim { record: Record::default(), mute: set("abc") };
    let why_not = eligible(&claim, &set("ac"), &rules("abc")).expect_err("b is missing");
    assert_eq!(why_not, WhyNot::Blank { awaited: set("b") });
    assert_eq!(eligible(&claim, &set("abc"), &rules("abc")), Ok(()));
}

#[test]
fn a_forced_view_is_obeyed_by_whoever_hears_of_it() {
    let mut cluster = Cluster::of("abc");
    assert!(cluster.eligible("c", "c").is_err());

    let forced = cluster.record("c").force(node('c'));
    *cluster.record_mut("c") = forced;

    assert_eq!(cluster.eligible("c", "c"), Ok(()));
    let old = cluster.propose("a", "abc", 9).expect("a knows nothing yet");
    assert_eq!(cluster.accept(&old, "c"), Err(Refusal::Unaware));
    cluster.tell("c", "a");
    assert_eq!(cluster.record("a").lineage, cluster.record("c").lineage);
    assert!(cluster.eligible("a", "ab").is_err());
    assert!(cluster.record("c").force(node('c')).lineage > cluster.record("c").lineage);
    assert_ne!(
        cluster.record("b").force(node('b')).lineage,
        Cluster::of("abc").record("a").force(node('a')).lineage
    );
}

#[test]
fn rules_beside_the_votes() {
    let claim = Claim { record: Cluster::of("abcd").record("a").clone(), mute: set("") };
    let plain = rules("abcd");
    let strict = Rules { min_quorum: 4, ..plain.clone() };
    let fixed = Rules { kind: QuorumKind::Static, ..plain.clone() };
    for (rules, members, expected) in [
        (&plain, "ab", "ok"),
        (&strict, "abc", "3 members are fewer than min_quorum = 4 {d}"),
        (&fixed, "ab", "not more than half of all configured nodes {cd}"),
        (&fixed, "bcd", "ok"),
        (&fixed, "abx", "not more than half of all configured nodes {cd}"),
        (&plain, "bd", "not enough of the last primary view 1 {ac}"),
    ] {
        let text = match eligible(&claim, &set(members), rules) {
            Ok(()) => "ok".to_owned(),
            Err(why_not) => format!("{why_not} {{{}}}", letters(&why_not.awaited())),
        };
        assert_eq!(text, expected, "{members}");
    }
}

#[test]
fn a_silent_witness_vetoes_what_would_lose_somebody_and_nothing_else() {
    let mut claim = Claim { record: Cluster::of("abc").record("a").clone(), mute: set("") };
    let dynamic = Rules { witness_ok: false, ..rules("abcd") };
    let fixed = Rules { kind: QuorumKind::Static, ..dynamic.clone() };
    let why_not = |claim: &Claim, members, rules| match may_propose(claim, &set(members), rules) {
        Ok(()) => "ok".to_owned(),
        Err(why_not) => format!("{why_not} {{{}}}", letters(&why_not.awaited())),
    };
    for (rules, members, expected) in [
        (&dynamic, "abc", "ok"), // d was in no primary view of late
        (&dynamic, "abcd", "ok"),
        (&dynamic, "ab", "none of must_reach answers {c}"),
        (&dynamic, "abd", "none of must_reach answers {c}"),
        // It is not for want of the witness.
        (&dynamic, "a", "not enough of the last primary view 1 {bc}"),
        (&fixed, "abcd", "ok"),
        (&fixed, "abc", "none of must_reach answers {d}"),
        (&fixed, "ab", "not more than half of all configured nodes {cd}"),
    ] {
        assert_eq!(why_not(&claim, members, rules), expected, "{members}");
        let asked = Rules { witness_ok: true, ..rules.clone() };
        let votes = eligible(&claim, &set(members), rules);
        assert_eq!(may_propose(&claim, &set(members), &asked), votes, "{members}");
    }

    // Whoever has left is not lost, as long as somebody has its vote.
    claim.record.proxies = proxies("cb", 1);
    assert_eq!(why_not(&claim, "ab", &dynamic), "ok");
    // An attempt that may have been formed has members to lose, too.
    claim.record.attempts.push(view(2, "abd"));
    assert_eq!(why_not(&claim, "ab", &dynamic), "none of must_reach answers {d}");
    assert_eq!(why_not(&claim, "abd", &dynamic), "ok");
    // A force is not vetoed: nobody else is left in that lineage.
    claim.record = claim.record.force(node('a'));
    assert_eq!(why_not(&claim, "a", &dynamic), "ok");
}

#[test]
fn only_the_proposer_asks_the_witness() {
    let mut cluster = Cluster::of("abc");
    let proposal = cluster.propose("b", "ab", 2).expect("b is answered");
    cluster.rules.witness_ok = false;

    assert_eq!(cluster.accept(&proposal, "a"), Ok(()), "a is not, and votes");
    let lost = set("c");
    let vetoed = Refusal::Ineligible(WhyNot::Witness { awaited: lost });
    assert_eq!(cluster.propose("a", "ab", 3).err(), Some(vetoed));
    assert!(cluster.propose("a", "abc", 3).is_ok());
}

#[test]
fn static_majority_keeps_nothing_that_dynamic_voting_would_believe() {
    let mut cluster = Cluster::of("abc");
    cluster.rules.kind = QuorumKind::Static;
    let proposal = cluster.propose("a", "ab", 2).expect("two of three");
    cluster.accept(&proposal, "b").expect("b agrees");
    assert_eq!(cluster.accept(&proposal, "b"), Err(Refusal::Outbid));
    cluster.install(&proposal, "b");

    let record = cluster.record("b");
    assert!(!record.voice && record.primary.is_none() && record.attempts.is_empty());
}

#[test]
fn an_accept_of_another_view_by_the_same_ballot_does_not_count() {
    let mut cluster = Cluster::of("abc");
    let before = cluster.record("a").clone();
    let lost = cluster.propose("a", "ab", 2).expect("two of three");
    cluster.accept(&lost, "b").expect("b agrees");
    *cluster.record_mut("a") = before; // a crashes before its record is written
    let mut again = cluster.propose("a", "abc", 2).expect("all");

    again.attempt.accepted_by(node('b'), &cluster.record("b").clone());

    assert!(again.attempt.awaited().contains(&node('b')));
}

#[test]
fn a_record_has_room_for_so_many_attempts() {
    let mut record = Cluster::of("ab").record("a").clone();
    record.attempts = (2..).take(ATTEMPTS_MAX).map(|epoch| view(epoch, "ab")).collect();
    let claim = Claim { record: record.clone(), mute: set("") };
    let ballot = ViewId { epoch: 1_000, coordinator: node('a') };
    let verdict = judge(&record, &claim, ballot, &set("ab"), node('a'), &rules("ab"));
    assert_eq!(verdict, Verdict::Refuse(Refusal::Full));
}

#[test]
fn a_record_of_another_version_is_told_from_a_damaged_one() {
    let mut bytes = Record::default().to_bytes();
    assert_eq!(Record::from_bytes(&bytes), Ok(Record::default()));
    bytes.truncate(bytes.len() - 8);
    bytes[0] = 9;
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest[..8]);
    assert_eq!(Record::from_bytes(&bytes), Err(Damaged::Version { found: 9 }));
    assert_eq!(Record::from_bytes(&[]), Err(Damaged::Check));
}

proptest! {
    /// Two sides that share no node never both decide, whoever gave a vote to whom.
    #[test]
    fn disjoint_sets_do_not_both_decide(
        voters in 1..9u32,
        side in any::<u32>(),
        given in prop::collection::btree_map(1..12u32, (1..12u32, 0..3u64), 0..6),
    ) {
        let view = Formed { ballot: ballot(1, 1), voters: (1..=voters).map(NodeId).collect() };
        let proxies = given.into_iter().map(|(leaver, (to, epoch))| {
            (NodeId(leaver), Proxy { to: NodeId(to), up_to: ballot(epoch, 1) })
        }).collect();
        let (one, other): (BTreeSet<_>, BTreeSet<_>) =
            (1..12).map(NodeId).partition(|node| side & (1 << node.0) != 0);
        prop_assert!(!(deciding(&view, &one, &proxies) && deciding(&view, &other, &proxies)));
        for set in [one, other] {
            let nodes: Vec<_> = set.iter().copied().collect();
            prop_assert!(!upholding(&view, &nodes, &proxies) || deciding(&view, &set, &proxies));
        }
    }

    /// What is learnt does not depend on the order of those who tell, nor on how often.
    #[test]
    fn learning_is_a_union(mine in record(), one in record(), other in record()) {
        let me = NodeId(1);
        let mut forth = mine.clone();
        forth.learn(me, &[(NodeId(2), &one), (NodeId(3), &other)]);
        let mut back = mine;
        back.learn(me, &[(NodeId(3), &other), (NodeId(2), &one), (NodeId(3), &other)]);
        prop_assert_eq!(&forth.primary.as_ref().map(|p| p.ballot), &back.primary.as_ref().map(|p| p.ballot));
        prop_assert_eq!(&forth.attempts, &back.attempts);
        prop_assert_eq!(forth.lineage, back.lineage);
        let again = forth.clone();
        forth.learn(me, &[(NodeId(2), &one), (NodeId(3), &other)]);
        prop_assert_eq!(forth, again);
    }

    /// Whatever is cut off or altered is noticed; what is whole comes back.
    #[test]
    fn a_stored_record_comes_back_or_is_known_to_be_damaged(
        record in record(), at in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let bytes = record.to_bytes();
        prop_assert_eq!(Record::from_bytes(&bytes), Ok(record));
        let at = at.index(bytes.len());
        prop_assert!(Record::from_bytes(&bytes[..at]).is_err());
        let mut altered = bytes;
        altered[at] ^= flip;
        prop_assert!(Record::from_bytes(&altered).is_err());
    }
}

fn record() -> impl Strategy<Value = Record> {
    let formed = (1..6u64, 1..4u32, prop::collection::btree_set(1..5u32, 1..4)).prop_map(
        |(epoch, by, voters)| Formed {
            ballot: ballot(epoch, by),
            voters: voters.into_iter().map(NodeId).collect(),
        },
    );
    let attempts = prop::collection::btree_set(formed.clone(), 0..4);
    let proxies = prop::collection::btree_map((1..5u32).prop_map(NodeId), (1..5u32, 1..6u64), 0..3);
    let own = (0..2u64, 0..7u64, any::<bool>());
    (prop::option::of(formed), attempts, proxies, own).prop_map(
        |(primary, attempts, proxies, (lineage, accepted, voice))| {
            let given = |(to, epoch)| Proxy { to: NodeId(to), up_to: ballot(epoch, 1) };
            let mut record = Record {
                lineage,
                primary,
                attempts: attempts.into_iter().collect(),
                accepted: ballot(accepted, 1),
                voice,
                proxies: proxies
                    .into_iter()
                    .map(|(leaver, proxy)| (leaver, given(proxy)))
                    .collect(),
            };
            record.learn(NodeId(1), &[]); // as every record: without what its primary view settles
            record
        },
    )
}
