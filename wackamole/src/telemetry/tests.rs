//! What the log says about each event.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use wackamole_protocol::event::Reason;
use wackamole_protocol::id::Incarnation;
use wackamole_protocol::mac::MacAddress;
use wackamole_protocol::vip::{Vip, VipAddress};

use super::*;

#[test]
fn every_event_is_one_line() {
    let vip = Vip::new(
        "gateway",
        vec![VipAddress { address: [10, 77, 2, 1].into(), prefix: 32, interface: "eth0".into() }],
    );
    let [a, b] = ["a", "b"].map(NodeId::from_name);
    let view = ViewId { epoch: 7, coordinator: a };
    let members = BTreeSet::from([a, b]);
    let from = "10.77.0.99:4815".parse().unwrap();
    let seconds = Duration::from_secs;
    let events = [
        Event::Link { peer: b, state: LinkState::TwoWay, silent_for: seconds(0) },
        Event::Link { peer: b, state: LinkState::OneWay, silent_for: seconds(0) },
        Event::Link { peer: b, state: LinkState::Silent, silent_for: Duration::from_millis(403) },
        Event::PeerRestarted { peer: b, incarnation: Incarnation::new(3, 0xbeef) },
        Event::PeerLeft { peer: b },
        Event::Proposed { ballot: view, members: members.clone() },
        Event::Accepted { ballot: view },
        Event::Refused { ballot: view, by: b, why: "it has a higher one" },
        Event::Acquired { vip: vip.id(), reason: Reason::Uncovered },
        Event::ViewInstalled { view, members, primary: true },
        Event::Matured { node: a },
        Event::Matured { node: b },
        Event::Assigned {
            vip: vip.id(),
            owner: Some(b),
            previous: None,
            reason: Reason::Uncovered,
        },
        Event::Assigned { vip: vip.id(), owner: None, previous: Some(a), reason: Reason::Unable },
        Event::Acquired { vip: vip.id(), reason: Reason::Preferred },
        Event::Released { vip: vip.id(), next: Some(b), reason: Reason::Balance },
        Event::Released { vip: vip.id(), next: None, reason: Reason::Drain },
        Event::AddressFailed { vip: vip.id(), error: "no eth0".into(), given_up: false },
        Event::AddressFailed { vip: vip.id(), error: "no eth0".into(), given_up: true },
        Event::AddressVanished { vip: vip.id(), retry_in: Duration::from_millis(200) },
        Event::Occupied { vip: vip.id(), by: MacAddress([2, 0, 0, 0, 0, 7]) },
        Event::Contested { vip: vip.id(), by: MacAddress([2, 0, 0, 0, 0, 7]), yields: false },
        Event::Contested { vip: vip.id(), by: MacAddress([2, 0, 0, 0, 0, 7]), yields: true },
        Event::Servable { vips: vec![vip.id()], why_not: Some("no carrier on eth0".into()) },
        Event::Servable { vips: vec![vip.id()], why_not: None },
        Event::Reach { answering: vec![[192, 0, 2, 1].into()] },
        Event::Reach { answering: Vec::new() },
        Event::RanLate { late: Duration::from_millis(140) },
        Event::RanLate { late: Duration::from_millis(150) },
        Event::ConfigurationDiffers { node: b },
        Event::BalanceRound { moves: 3 },
        Event::ForcedPrimary,
        Event::ViewLost { why: "not echoed" },
        Event::Beside { beside: true },
        Event::Beside { beside: false },
        Event::Left,
        Event::Rejected { from, rejection: Rejection::Malformed },
        Event::Rejected { from, rejection: Rejection::Version },
        Event::Rejected { from, rejection: Rejection::OtherCluster },
        Event::Rejected { from, rejection: Rejection::WrongKey },
        Event::Rejected { from, rejection: Rejection::WrongKey },
        Event::Rejected { from, rejection: Rejection::Replayed },
        Event::Rejected { from, rejection: Rejection::UnknownNode },
        Event::Rejected { from, rejection: Rejection::OwnName },
        Event::Rejected { from, rejection: Rejection::NotForUs },
    ];
    let mut telemetry = Telemetry::new(Names::new(["a", "b"], [&vip]), a);

    let log = logged(|| {
        for event in &events {
            telemetry.observe(Instant::ORIGIN, &Observation::Event(event));
        }
        let error = &io::ErrorKind::NetworkUnreachable.into();
        telemetry.observe(Instant::ORIGIN, &Observation::NetworkFault { action: "send", error });
    });

    // The second RanLate and the second WrongKey are within the pause.
    assert_eq!(log.lines().count(), events.len() - 2 + 1);
    insta::assert_snapshot!(log);
}

#[test]
fn a_flood_of_refused_datagrams_makes_one_line_each_ten_seconds() {
    let mut telemetry = Telemetry::new(Names::default(), NodeId::from_name("a"));

    let log = logged(|| {
        for tenth in 0..250_u64 {
            let now = Instant::after_origin(Duration::from_millis(tenth * 100));
            let from = format!("10.77.0.99:{}", 10_000 + tenth).parse().unwrap();
            let event = Event::Rejected { from, rejection: Rejection::WrongKey };
            telemetry.observe(now, &Observation::Event(&event));
        }
    });

    let unsaid: Vec<_> = log.lines().map(|line| line.rsplit_once("unsaid=").unwrap().1).collect();
    assert_eq!(unsaid, ["0", "99", "99"], "{log}");
}

#[test]
fn a_level_is_for_this_program_and_directives_are_taken_as_they_are() {
    let info = filter("info").unwrap();
    let mixed = filter("warn,wackamole::driver=trace").unwrap();

    assert!(info.would_enable("wackamole::telemetry", &tracing::Level::INFO));
    assert!(!info.would_enable("wackamole::telemetry", &tracing::Level::DEBUG));
    assert!(!info.would_enable("netlink_proto", &tracing::Level::INFO));
    assert!(mixed.would_enable("wackamole::driver", &tracing::Level::TRACE));
    assert!(!mixed.would_enable("wackamole::telemetry", &tracing::Level::INFO));
    assert!(filter("loud").is_err());
    assert!(filter("wackamole=loud").is_err());
}

/// What is logged at DEBUG and above while `run` runs.
fn logged(run: impl FnOnce()) -> String {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_writer(log.clone())
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
