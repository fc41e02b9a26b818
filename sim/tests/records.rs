//! What a daemon did follows from its record alone; and a record that was tampered with leads elsewhere, at a place that is named.

use std::path::Path;

use sim::journal::{Entry, KernelChange, What};
use sim::replay::account::Account;
use sim::replay::clocks::Clocks;
use sim::replay::{Happening, Replayed, replay};
use sim::scenario::Scenario;
use sim::world;
use wackamole::record::{self, Finish, Record};
use wackamole_protocol::config::{ClusterKey, Partition};
use wackamole_protocol::time::Duration;

const STORIES: [(&str, &str); 6] = [
    ("020-power-loss", include_str!("../../scenarios/020-power-loss.toml")),
    ("041-rolling-restart", include_str!("../../scenarios/041-rolling-restart.toml")),
    ("160-clock-drift", include_str!("../../scenarios/160-clock-drift.toml")),
    ("210-multicast", include_str!("../../scenarios/210-multicast.toml")),
    ("351-must-reach", include_str!("../../scenarios/351-must-reach.toml")),
    ("300-chaos", include_str!("../../scenarios/300-chaos.toml")),
];

fn story(name: &str, text: &str) -> Scenario {
    Scenario::parse(name, text).unwrap_or_else(|error| panic!("{error}"))
}

fn parse(bytes: Vec<u8>) -> Record {
    Record::parse(Path::new("simulated"), bytes).unwrap_or_else(|error| panic!("{error}"))
}

fn replays(records: Vec<Vec<u8>>) -> Vec<Replayed> {
    records.into_iter().map(|bytes| replay(&parse(bytes), &ClusterKey(world::KEY))).collect()
}

/// What the daemons of one machine said, in order.
fn said(entries: &[Entry], node: usize) -> Vec<String> {
    let of_node = entries.iter().filter_map(|entry| match &entry.what {
        What::Daemon { node: who, event } if *who == node => Some(format!("{event:?}")),
        _ => None,
    });
    of_node.collect()
}

#[test]
fn every_daemon_does_again_what_it_did_in_every_story_under_every_policy() {
    for (name, text) in STORIES {
        let story = story(name, text);
        for policy in [Partition::Component, Partition::Lan, Partition::Quorum] {
            // The witness of this one has a meaning under one policy only.
            if story.must_reach.is_some() && policy != Partition::Quorum {
                continue;
            }
            let story = story.under(policy);
            let seed = 7;
            let (outcome, records) = world::run_recorded(&story, seed);
            let replayed = replays(records);
            for record in &replayed {
                let (node, start) = (&record.header.node, record.header.incarnation);
                assert!(record.steps > 0, "{name}: {node} {start}");
                assert_eq!(record.difference, None, "{name} {policy:?}: {node} {start}");
                assert!(record.damage.is_none(), "{name}: {:?}", record.damage);
            }
            for (index, node) in story.nodes.iter().enumerate() {
                let again = replayed.iter().filter(|record| record.header.node == node.name);
                let again = again.flat_map(|record| &record.happenings);
                let again = again.filter_map(|(_, happening)| match happening {
                    Happening::Event(event) => Some(format!("{event:?}")),
                    _ => None,
                });
                assert_eq!(again.collect::<Vec<_>>(), said(&outcome.entries, index), "{name}");
            }
            if policy != Partition::Lan {
                continue;
            }
            let alone = world::run(&story, seed, false);
            assert_eq!(
                format!("{:?}", alone.entries),
                format!("{:?}", outcome.entries),
                "{name}: recording changes nothing"
            );
        }
    }
}

/// Corrects the check sums of a record that was changed.
fn seal_again(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut offset = bytes.iter().position(|byte| *byte == b'\n').expect("a first line") + 1;
    while offset < bytes.len() {
        let length: [u8; 4] = bytes[offset..offset + 4].try_into().expect("four bytes");
        let end = offset + 8 + u32::from_le_bytes(length) as usize;
        let sum = crc32fast::hash(&[&length[..], &bytes[offset + 8..end]].concat());
        bytes[offset + 4..offset + 8].copy_from_slice(&sum.to_le_bytes());
        offset = end;
    }
    bytes
}

/// A record of some seconds of three nodes.
fn a_record() -> Vec<u8> {
    let story = story("three", "title = \"three\"\nnodes = 3\nvips = 4\nduration = \"8s\"\n");
    let (_, records) = world::run_recorded(&story, 1);
    assert_eq!(records.len(), 3);
    records.into_iter().next().expect("three records")
}

fn find(bytes: &[u8], sought: &[u8]) -> usize {
    bytes.windows(sought.len()).position(|window| window == sought).expect("it is there")
}

#[test]
fn a_byte_of_a_datagram_a_time_or_a_setting_that_is_changed_leads_elsewhere_and_the_place_is_named()
{
    let bytes = a_record();
    let record = parse(bytes.clone());
    let datagrams = record.entries().filter_map(|entry| match entry.unwrap().1 {
        record::Entry::Datagram { bytes, .. } => Some(bytes.to_vec()),
        _ => None,
    });
    let datagram = datagrams.skip(20).step_by(10).next().unwrap();
    let in_a_datagram = find(&bytes, &datagram) + datagram.len() / 2;
    let header = find(&bytes, b"\n") + 1;
    let length: [u8; 4] = bytes[header..header + 4].try_into().unwrap();
    // The first entry behind the header begins with its time, the lowest bits first.
    let in_a_time = header + 8 + u32::from_le_bytes(length) as usize + 8;
    let in_a_setting = find(&bytes, b"\"heartbeat\":{\"secs\":0,\"nanos\":1") + 31;

    assert_eq!(replay(&record, &ClusterKey(world::KEY)).difference, None);
    for (place, bit) in [(in_a_datagram, 1), (in_a_time, 4), (in_a_setting, 2)] {
        let mut changed = bytes.clone();
        changed[place] ^= bit;
        let replayed = replay(&parse(seal_again(changed)), &ClusterKey(world::KEY));
        let difference = replayed.difference.expect("it goes elsewhere");
        assert!(difference.step > 0, "{difference}");
        assert_ne!(difference.expected, difference.got);
        let told = difference.to_string();
        assert!(told.starts_with(&format!("step {} at ", difference.step)), "{told}");
    }
    let wrong = replay(&record, &ClusterKey([6; 32])).difference.expect("another key");
    assert!(wrong.expected.starts_with("Sent"), "{wrong}");
}

#[test]
fn records_of_machines_whose_clocks_differ_are_put_on_one_clock_by_their_datagrams() {
    let text = "title = \"a failover\"\nnodes = 3\nvips = 6\nduration = \"30s\"\n\
        [node.b]\ndrift = \"+400ppm\"\n[node.c]\ndrift = \"-300ppm\"\n\
        [[step]]\nat = \"20s\"\npower_loss = \"c\"\n";
    let this = story("failover", text);
    let (outcome, records) = world::run_recorded(&this, 3);
    let mut replayed = replays(records);
    // The clock of the first one counts; that of a is right.
    replayed.sort_by(|one, other| one.header.node.cmp(&other.header.node));
    // As if the wall clocks had been set badly.
    for (record, wrong_by) in replayed.iter_mut().zip([0, 3_000_000, 77_000_000]) {
        for (_, micros) in &mut record.wall_clock {
            *micros += wrong_by;
        }
    }

    let clocks = Clocks::compare(&replayed);
    let account = Account::merge(&replayed, &clocks).unwrap();

    let moments = |entries: &[Entry]| {
        let kernel = entries.iter().filter_map(|entry| match entry.what {
            What::Kernel { node, vip, change: KernelChange::Acquired } => {
                Some(((node, vip), entry.at))
            }
            _ => None,
        });
        kernel.collect::<std::collections::BTreeMap<_, _>>()
    };
    let (truth, told) = (moments(&outcome.entries), moments(&account.entries));
    assert_eq!(truth.keys().collect::<Vec<_>>(), told.keys().collect::<Vec<_>>());
    for (which, at) in &truth {
        let error = (account.begins + told[which]).abs_diff(*at);
        assert!(error <= Duration::from_millis(3), "{which:?} is told {error:?} off");
    }
    assert!(account.overlaps.is_empty(), "{:?}", account.overlaps);
    let after_c: Vec<_> = account.gaps.iter().filter(|gap| gap.after == 2 && gap.ended).collect();
    assert_eq!(after_c.len(), 2, "{:?}", account.gaps);
    for gap in after_c {
        let length = gap.to - gap.from;
        assert!(
            length > Duration::from_millis(350) && length < Duration::from_millis(520),
            "{length:?}"
        );
    }
    assert_eq!(replayed[2].finish, Finish::CutOff { rest: 0 });
    let text = sim::replay::show::text(&replayed, &clocks, &account, true);
    assert!(text.contains("the record of c ends: it is cut off"), "{text}");
    assert!(text.contains("c, start") && text.contains("the same outputs"), "{text}");

    let story = sim::replay::page::story(&replayed, &clocks, &account, &ClusterKey(world::KEY));
    let states: Vec<_> = story.nodes[2].states.iter().map(|span| span.state.as_str()).collect();
    assert_eq!(states.last(), Some(&"killed"), "{states:?}");
    let taken_over = story.vips.iter().filter(|vip| vip.held.iter().any(|span| span.node == 2));
    assert!(taken_over.clone().count() == 2);
    for vip in taken_over {
        let last = vip.held.last().expect("it is held");
        assert!(last.node != 2 && last.to == story.end, "{vip:?}");
    }
    let page = sim::page::html(&story);
    assert!(page.contains("what 3 records tell"));
    assert!(page.contains("no VIP held twice, as far as recorded"));

    let truth = world::run(&this, 3, true);
    let truth = sim::story::build::story(&this, &truth);
    assert_eq!(arrived(&story, account.begins), arrived(&truth, Duration::ZERO));
    let after = |m: &&sim::story::Message| m.5 == 1 || m.6.contains("nobody was running there");
    let in_vain: Vec<_> = story.messages.sent.iter().filter(after).collect();
    let loss_of_c = 20_000_000 - u64::try_from(account.begins.as_micros()).unwrap_or(0);
    assert!(in_vain.len() > 10, "{}", in_vain.len());
    // Or before the other one was started.
    let wrong = in_vain.iter().find(|m| m.0 > 100_000 && (m.3 != 2 || m.0 + 10_000 < loss_of_c));
    assert_eq!(wrong, None);
}

/// How many datagrams of each kind came from one machine to another, of those that were sent while all were there.
fn arrived(
    story: &sim::story::Story,
    begins: Duration,
) -> std::collections::BTreeMap<(usize, usize, &str), usize> {
    let mut counts = std::collections::BTreeMap::new();
    for message in &story.messages.sent {
        let (at, from, to) = (message.0, message.2, message.3);
        let at = begins + Duration::from_micros(at);
        let heard = message.5 == 0 && !message.6.contains("nobody was running there");
        // Clocks are told apart within a millisecond or so; nothing is sent then.
        if at < Duration::from_micros(19_050_500) && heard && from < 3 && to < 3 {
            *counts.entry((from, to, story.messages.kinds[message.4].as_str())).or_default() += 1;
        }
    }
    counts
}

#[test]
fn a_vip_that_two_recorded_machines_held_is_told_with_what_each_knew() {
    let text = "title = \"two parts\"\nnodes = 3\nvips = 6\nduration = \"20s\"\npolicies = [\"component\"]\n\
        [[step]]\nat = \"8s\"\npartition = [[\"a\"], [\"b\", \"c\"]]\n[[step]]\nat = \"12s\"\nheal = \"all\"\n";
    let story = story("two-parts", text).under(Partition::Component);
    let (_, records) = world::run_recorded(&story, 3);
    let replayed = replays(records);
    let clocks = Clocks::compare(&replayed);
    let account = Account::merge(&replayed, &clocks).unwrap();
    let key = ClusterKey(world::KEY);
    let told = sim::replay::page::story(&replayed, &clocks, &account, &key);

    assert!(!account.overlaps.is_empty());
    assert_eq!(told.account.broken, account.overlaps.len());
    let headline = &told.account.headline;
    assert!(headline.contains("lease") && headline.contains("because"), "{headline}");
    assert!(sim::page::html(&told).contains("findings</span>"), "{headline}");
}
