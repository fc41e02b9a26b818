//! Records that are written through the real thread onto a real file system, and read back; and what is told of bad ones.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use wackamole_protocol::config::{
    Balance, ClusterKey, NodeConfig, NodeDefinition, Partition, Safety, Timing, VipDefinition,
};
use wackamole_protocol::id::Incarnation;
use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::vip::{Vip, VipAddress};

use super::*;
use crate::driver::{Input, Observation};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn at(milliseconds: u64) -> Instant {
    Instant::after_origin(ms(milliseconds))
}

fn config() -> NodeConfig {
    let timing = Timing { heartbeat: ms(100), failure_timeout: ms(400), mature: ms(0) };
    let node = NodeDefinition {
        name: "a/left".into(),
        addresses: vec![([10, 0, 0, 1], 4803).into()],
        weight: 1,
        witness: false,
    };
    let address =
        VipAddress { address: [10, 0, 1, 1].into(), prefix: 32, interface: "eth0".into() };
    NodeConfig {
        cluster: "test".into(),
        key: ClusterKey([9; 32]),
        me: node.id(),
        nodes: vec![node],
        vips: vec![VipDefinition { vip: Arc::new(Vip::new("v", vec![address])), prefer: vec![] }],
        timing,
        balance: Balance { moves_per_round: None, interval: ms(1_000) },
        multicast: false,
        safety: Safety::new(Partition::Quorum, &timing),
        must_reach: vec![[10, 0, 0, 254].into()],
    }
}

fn header() -> Header {
    let votes = Some(vec![1, 2, 3]);
    Header::new(&config(), Incarnation::new(3, 7), votes, at(5_000), ms(1_700_000_000_000))
}

/// Notes a datagram and a turn for each of so many bytes.
fn note<S: Sink>(recorder: &mut Recorder<S>, turns: u64, bytes: &[u8]) {
    for turn in 0..turns {
        let from = ([10, 0, 0, 2], 4803).into();
        let input = Input::Datagram { from, bytes };
        recorder.observe(at(5_001 + turn), &Observation::Input(&input));
        recorder.observe(at(5_002 + turn), &Observation::Turn);
        recorder.observe(at(5_002 + turn), &Observation::Rest);
    }
}

/// A record as it would be on the disk.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Vec<u8>>>);

impl Sink for Memory {
    fn put(&mut self, frame: Vec<u8>) -> bool {
        self.0.borrow_mut().extend(frame);
        true
    }
}

/// A whole record of three turns.
fn whole() -> Vec<u8> {
    let memory = Memory::default();
    let mut recorder = Recorder::start(&header(), || ms(1_700_000_000_000), memory.clone());
    note(&mut recorder, 3, b"hello");
    recorder.finish();
    memory.0.take()
}

fn parse(bytes: Vec<u8>) -> Result<Record, ReadError> {
    Record::parse(Path::new("some.wackrec"), bytes)
}

/// How many entries can be read, and how that ends.
fn read(record: &Record) -> (usize, Result<Finish, String>) {
    let mut entries = record.entries();
    let mut count = 0;
    for entry in &mut entries {
        match entry {
            Ok(_) => count += 1,
            Err(error) => return (count, Err(error.to_string())),
        }
    }
    (count, Ok(entries.finish().expect("it is read to its end").clone()))
}

#[test]
fn what_is_recorded_is_read_with_its_times() {
    let record = parse(whole()).unwrap();

    assert_eq!(record.header, header());
    let entries: Vec<_> = record.entries().map(Result::unwrap).collect();
    let from = ([10, 0, 0, 2], 4803).into();
    assert_eq!(entries[0], (at(5_001), Entry::Datagram { from, bytes: b"hello" }));
    assert_eq!(entries[1], (at(5_002), Entry::Turn));
    assert_eq!(entries[4].0, at(5_003));
    assert_eq!(entries[6], (at(5_004), Entry::End(End::Left)));
    assert_eq!(entries.len(), 7);
}

#[test]
fn a_header_has_the_configuration_and_knows_its_key_but_does_not_have_it() {
    let header = header();

    assert_eq!(format!("{:?}", header.config(config().key)), format!("{:?}", config()));
    assert!(header.is_key(&ClusterKey([9; 32])));
    assert!(!header.is_key(&ClusterKey([8; 32])));
    let key = [9_u8; 32];
    assert!(!whole().windows(4).any(|window| window == &key[..4]), "the key is in the record");
    assert!(!serde_json::to_string(&header).unwrap().contains("9,9,9"));
}

#[test]
fn a_record_that_is_cut_off_anywhere_is_read_up_to_its_last_whole_entry() {
    let whole = whole();
    let behind_header = parse(whole.clone()).unwrap().start;
    let mut counts = Vec::new();
    for length in behind_header..whole.len() {
        let record = parse(whole[..length].to_vec()).unwrap();
        let (count, finish) = read(&record);
        let Ok(Finish::CutOff { .. }) = finish else { panic!("cut at {length}: {finish:?}") };
        counts.push(count);
    }
    counts.dedup();
    assert_eq!(counts, [0, 2, 4, 6], "whole turns");
    // Where the power went, blocks that were never written may be zeros.
    let zeros = [&whole[..whole.len() - 3], &[0; 5_000]].concat();
    let (count, finish) = read(&parse(zeros).unwrap());
    assert!(count == 6 && finish.is_ok(), "{count} {finish:?}");
}

#[test]
fn a_flipped_byte_is_found_and_its_place_is_named() {
    let whole = whole();
    let first = parse(whole.clone()).unwrap().start;
    for position in [first, first + 4, first + FRAME_HEAD, first + FRAME_HEAD + 3] {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x40;

        let (count, finish) = read(&parse(damaged).unwrap());

        assert_eq!(count, 0);
        let error = finish.unwrap_err();
        let place = format!("some.wackrec is damaged at byte {first}: ");
        assert!(error.starts_with(&place) && error.contains("expected"), "{position}: {error}");
    }
    for position in 0..first {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x40;
        assert!(parse(damaged).is_err(), "byte {position} of the beginning");
    }
}

#[test]
fn what_is_no_record_or_one_of_another_version_is_named() {
    let told = |bytes: &[u8]| parse(bytes.to_vec()).unwrap_err().to_string();
    let newer = String::from_utf8_lossy(&whole()).replacen("record 1\n", "record 27\n", 1);

    assert_eq!(
        told(newer.as_bytes()),
        "some.wackrec is a record of version 27; this program reads version 1"
    );
    assert_eq!(
        told(b"#!/bin/sh\nexit 1\n"),
        "some.wackrec is no record: it begins with \"#!/bin/sh\\nexit 1\\n\", a record with \"wackamole record \" and a version"
    );
    assert!(told(b"").contains("begins with \"\""));
    assert!(
        told(b"wackamole record 1\n").contains("damaged at byte 19: nothing, expected the header")
    );
}

#[test]
fn a_daemon_writes_a_file_for_its_owner_alone_and_says_that_it_is_complete() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("made/for/it");

    let mut recorder = create(&directory, 1 << 20, &header()).unwrap();
    note(&mut recorder, 100, b"hello");
    recorder.finish();

    let file = directory.join("a_left-3.00000007.wackrec");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(read(&Record::open(&file).unwrap()), (201, Ok(Finish::Marked(End::Left))));
    // Another start never writes over it.
    assert!(create(&directory, 1 << 20, &header()).is_err());
}

#[test]
fn a_record_ends_at_its_limit_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = create(directory.path(), 64 << 10, &header()).unwrap();
    for _ in 0..100 {
        note(&mut recorder, 10, &[7; 1_000]);
        std::thread::sleep(ms(1));
    }
    drop(recorder);

    let file = directory.path().join("a_left-3.00000007.wackrec");
    assert!(fs::metadata(&file).unwrap().len() <= 64 << 10);
    let (count, finish) = read(&Record::open(&file).unwrap());
    assert_eq!(finish, Ok(Finish::Marked(End::Limit(64 << 10))));
    assert!(count > 0);
}
