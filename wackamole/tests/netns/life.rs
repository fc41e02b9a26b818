//! Signs of life of a segment. Times are those of the standard configuration: a heartbeat of 100 ms, a failure timeout of
//! 400 ms; bounds leave room for a busy machine.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use wackamole::io::addresses::{AddressesConfig, Heartbeats, LifeConfig, SegmentConfig};
use wackamole::io::arp::arp_question;
use wackamole::io::arrivals::Arrivals;
use wackamole::io::clock;
use wackamole::io::ethernet::MacAddress;
use wackamole_protocol::vip::Vip;

use crate::capture::Forger;
use crate::kernel::{Kernel, switch, sysctl};
use crate::namespace::Namespace;
use crate::standstill::Standstill;
use crate::worker::{Worker, vip};

const HEARTBEAT: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(400);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(300);

fn watching(vips: &[&Arc<Vip>], peers: &[&str]) -> Worker {
    hearing(vips, peers, vec![])
}

fn hearing(vips: &[&Arc<Vip>], peers: &[&str], heartbeats: Vec<Heartbeats>) -> Worker {
    let peers: Vec<IpAddr> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    let mut config = AddressesConfig::new([].into());
    config.segment = SegmentConfig {
        heartbeat: HEARTBEAT,
        vips: vips.iter().map(|&vip| vip.clone()).collect(),
        life: Some(LifeConfig { silence: TIMEOUT, peers, heartbeats }),
    };
    Worker::with(config)
}

fn silent() -> Option<String> {
    Some("eth0 shows no sign of life".into())
}

/// IPv6 says something now and then by itself.
fn no_ipv6(machine: &Namespace) {
    machine.enter(|| sysctl("ipv6/conf/all/disable_ipv6", "1"));
}

pub(crate) fn is_gone_when_a_port_goes_silent_and_comes_back() {
    for peer in ["10.0.0.2", "fd00::2"] {
        let (switch, [left, right]) = switch();
        right.enter(|| {
            Kernel::here().add_address("eth0", "10.0.0.2/24");
            Kernel::here().add_address("eth0", "fd00::2/64");
        });
        left.enter(|| {
            Kernel::here().add_address("eth0", "10.0.0.1/24");
            Kernel::here().add_address("eth0", "fd00::1/64");
            let (a, b) = (vip(&["10.0.0.100/32@eth0"]), vip(&["fd00::100/128@eth0"]));
            let mut worker = watching(&[&a, &b], &[peer]);
            let standstill = Standstill::watch();
            for round in 0..3 {
                worker.watch_for(Duration::from_millis(700 + 37 * round));
                assert_eq!(worker.segment_reports(), 0, "the peer answers");

                switch.enter(|| Kernel::here().set_plugged("port0", false));
                let cut = clock::boot_time();
                assert_eq!(worker.next_servable(), (2, silent()));
                let gone = clock::boot_time().since(cut);
                let limit = TIMEOUT + HEARTBEAT / 2 + SLACK;
                assert!(standstill.is_within(gone, limit), "{gone:?}");
                assert!(gone > TIMEOUT / 4, "{gone:?}: somebody had answered shortly before");

                worker.watch_for(Duration::from_millis(500));
                assert_eq!(worker.segment_reports(), 0, "said once");
                switch.enter(|| Kernel::here().set_plugged("port0", true));
                let mended = clock::boot_time();
                assert_eq!(worker.next_servable(), (2, None));
                let back = clock::boot_time().since(mended);
                assert!(standstill.is_within(back, 3 * HEARTBEAT + SLACK), "{back:?}");
                eprintln!(
                    "silent port, asking {peer}: noticed after {gone:.0?}, back after {back:.0?}"
                );
            }
        });
    }
}

/// The other node is dead, and nobody else is there. Then a client wants the VIP.
pub(crate) fn comes_back_with_the_first_client() {
    let (_switch, [left, right]) = switch();
    no_ipv6(&left);
    no_ipv6(&right);
    let (forger, theirs) = right.enter(|| {
        Kernel::here().add_address("eth0", "10.0.0.9/24");
        (Forger::here(), MacAddress(Kernel::here().mac("eth0")))
    });
    left.enter(|| {
        Kernel::here().add_address("eth0", "10.0.0.1/24");
        let vip = vip(&["10.0.0.100/32@eth0"]);
        let mut worker = watching(&[&vip], &["10.0.0.2"]);
        let standstill = Standstill::watch();
        let start = clock::boot_time();
        assert_eq!(worker.next_servable(), (1, silent()));
        let gone = clock::boot_time().since(start);
        assert!(standstill.is_within(gone, TIMEOUT + HEARTBEAT + SLACK), "{gone:?}");
        worker.watch_for(Duration::from_secs(1));
        assert_eq!(worker.segment_reports(), 0);

        let [client, wanted] = [9, 100].map(|last| Ipv4Addr::new(10, 0, 0, last));
        forger.send(&arp_question(wanted, None, theirs, client));
        let asked = clock::boot_time();
        assert_eq!(worker.next_servable(), (1, None));
        let back = clock::boot_time().since(asked);
        eprintln!("first client: served again after {back:.0?}");
        assert!(standstill.is_within(back, HEARTBEAT + SLACK), "{back:?}");
    });
}

pub(crate) fn is_kept_by_answers_on_a_quiet_segment() {
    let (_switch, [left, right]) = switch();
    no_ipv6(&left);
    no_ipv6(&right);
    right.enter(|| Kernel::here().add_address("eth0", "10.0.0.2/24"));
    left.enter(|| {
        // Without an address of its own there is nobody in whose name to ask but nobody.
        for own in [None, Some("10.0.0.1/24")] {
            if let Some(own) = own {
                Kernel::here().add_address("eth0", own);
            } else {
                fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
                Kernel::here().add_address("eth0", "10.0.0.100/24");
            }
            let vip = vip(&["10.0.0.100/24@eth0"]);
            let mut worker = watching(&[&vip], &["10.0.0.2", "10.9.9.9"]);
            worker.watch_for(Duration::from_secs(2));
            assert_eq!(worker.segment_reports(), 0, "with {own:?}");
        }
    });
}

pub(crate) fn is_gone_at_once_without_carrier() {
    let (switch, [left, right]) = switch();
    right.enter(|| Kernel::here().add_address("eth0", "10.0.0.2/24"));
    left.enter(|| {
        let kernel = Kernel::here();
        kernel.add_address("eth0", "10.0.0.1/24");
        let vip = vip(&["10.0.0.100/32@eth0"]);
        let mut worker = watching(&[&vip], &["10.0.0.2"]);
        worker.watch_for(Duration::from_millis(700));
        assert_eq!(worker.segment_reports(), 0);

        let port = |up| switch.enter(|| Kernel::here().set_up("port0", up));
        port(false);
        assert_eq!(worker.next_servable(), (1, Some("eth0 has no carrier".into())));
        port(true);
        // Carrier is no life yet.
        assert_eq!(worker.next_servable(), (1, silent()));
        assert_eq!(worker.next_servable(), (1, None));

        kernel.set_up("eth0", false);
        assert_eq!(worker.next_servable(), (1, Some("eth0 is down".into())));
        kernel.delete_link("eth0");
        assert_eq!(worker.next_servable(), (1, Some("there is no interface eth0".into())));

        // Known from the start.
        let mut worker = watching(&[&vip], &[]);
        assert_eq!(worker.next_servable(), (1, Some("there is no interface eth0".into())));
        kernel.add_alone("eth0");
        until(&mut worker, &(1, None)); // another one of that name
    });
}

pub(crate) fn needs_no_neighbours_where_there_are_none() {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.set_up("lo", true);
        kernel.add_alone("alone0");
        let vip = vip(&["10.0.0.1/32@lo", "10.0.0.2/32@alone0"]);
        let mut worker = watching(&[&vip], &["10.0.0.3"]);
        worker.watch_for(2 * TIMEOUT);
        assert_eq!(worker.segment_reports(), 0);

        kernel.set_up("alone0", false);
        assert_eq!(worker.next_servable(), (1, Some("alone0 is down".into())));
        kernel.set_up("alone0", true);
        until(&mut worker, &(1, None));
    });
}

pub(crate) fn of_a_vip_needs_all_its_interfaces() {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_alone("eth0");
        kernel.add_alone("eth1");
        let both = vip(&["10.0.0.1/32@eth0", "10.0.1.1/32@eth1"]);
        let one = vip(&["10.0.0.2/32@eth0"]);
        let mut worker = watching(&[&both, &one], &[]);

        kernel.set_up("eth1", false);
        assert_eq!(worker.next_servable(), (1, Some("eth1 is down".into())));
        assert_eq!(worker.segment_reports(), 0);
        kernel.set_up("eth0", false);
        // The first reason in the order of its addresses.
        assert_eq!(worker.next_servable(), (2, Some("eth0 is down".into())));
        kernel.set_up("eth0", true);
        let mut both_news = Vec::new();
        while both_news.len() < 2 {
            both_news.push(worker.next_servable());
            // Up, and carrier comes a moment later.
            both_news.retain(|(_, why_not)| !why_not.as_deref().is_some_and(no_carrier));
        }
        both_news.sort();
        assert_eq!(both_news, [(1, None), (1, Some("eth1 is down".into()))]);
        kernel.set_up("eth1", true);
        until(&mut worker, &(1, None));
    });
}

fn no_carrier(why_not: &str) -> bool {
    why_not.ends_with("has no carrier")
}

/// Carrier comes a moment after an interface is set up: nothing else may be said before `expected`.
fn until(worker: &mut Worker, expected: &(usize, Option<String>)) {
    loop {
        let news = worker.next_servable();
        if news == *expected {
            return;
        }
        let why_not = news.1.as_deref().unwrap_or_default();
        assert!(no_carrier(why_not) || why_not.ends_with("is down"), "{news:?}");
    }
}

/// What peers say over the very interface is sign enough, and when it stops it is missed in time.
pub(crate) fn is_shown_by_heartbeats() {
    let (switch, [left, right]) = switch();
    no_ipv6(&left);
    no_ipv6(&right);
    right.enter(|| Kernel::here().add_address("eth0", "10.0.0.2/24"));
    left.enter(|| {
        Kernel::here().add_address("eth0", "10.0.0.1/24");
        let vip = vip(&["10.0.0.100/32@eth0"]);
        let (mut worker, arrivals) = hearing_heartbeats(&vip);
        let standstill = Standstill::watch();
        for _ in 0..3 {
            let end = clock::boot_time() + Duration::from_secs(1);
            while clock::boot_time() < end {
                arrivals.note(0, clock::boot_time());
                worker.watch_for(HEARTBEAT / 2);
            }
            assert_eq!(worker.segment_reports(), 0);

            switch.enter(|| Kernel::here().set_plugged("port0", false));
            let last = clock::boot_time();
            while worker.segment_reports() == 0 {
                worker.watch_for(HEARTBEAT / 20); // the driver is awake now and then
                let waited = clock::boot_time().since(last);
                let limit = TIMEOUT + HEARTBEAT / 2 + SLACK;
                assert!(standstill.is_within(waited, limit), "{waited:?}");
            }
            assert_eq!(worker.next_servable(), (1, silent()));
            let gone = clock::boot_time().since(last);
            assert!(gone > TIMEOUT / 2, "{gone:?}");
            eprintln!("heartbeats cease with the port: noticed after {gone:.0?}");

            switch.enter(|| Kernel::here().set_plugged("port0", true));
            assert_eq!(worker.next_servable(), (1, None));
            arrivals.note(0, clock::boot_time());
            worker.watch_for(HEARTBEAT);

            // They stop, and the peer still answers.
            worker.watch_for(3 * TIMEOUT);
            assert_eq!(worker.segment_reports(), 0);
        }
    });
}

fn hearing_heartbeats(vip: &Arc<Vip>) -> (Worker, Arc<Arrivals>) {
    let arrivals = Arc::new(Arrivals::new(1));
    let heartbeats =
        Heartbeats { interface: "eth0".into(), network: 0, arrivals: Arc::clone(&arrivals) };
    (hearing(&[vip], &["10.0.0.2"], vec![heartbeats]), arrivals)
}

/// Printed, not asserted: the processor time of the watcher's thread in a second.
pub(crate) fn costs_little_to_watch() {
    const TIME: Duration = Duration::from_secs(8);
    for what in ["heartbeats", "other frames", "silence but answers"] {
        let (_switch, [left, right]) = switch();
        no_ipv6(&left);
        no_ipv6(&right);
        let forger = right.enter(|| {
            Kernel::here().add_address("eth0", "10.0.0.2/24");
            Forger::here()
        });
        left.enter(|| {
            Kernel::here().add_address("eth0", "10.0.0.1/24");
            let mut frame = vec![0; 100];
            frame[..6].copy_from_slice(&Kernel::here().mac("eth0"));
            frame[12..14].copy_from_slice(&[0x88, 0xb5]); // IEEE 802, for experiments
            let vip = vip(&["10.0.0.100/32@eth0"]);
            let (mut worker, arrivals) = hearing_heartbeats(&vip);
            worker.watch_for(HEARTBEAT); // its thread has its name
            let (before, wake_ups) = processor_time();
            let end = clock::boot_time() + TIME;
            while clock::boot_time() < end {
                match what {
                    "heartbeats" => arrivals.note(0, clock::boot_time()),
                    "other frames" => forger.send(&frame),
                    _ => {}
                }
                worker.watch_for(HEARTBEAT / 4);
            }
            let (after, wake_ups_after) = processor_time();
            assert_eq!(worker.segment_reports(), 0);
            let seconds = TIME.as_secs() as f64;
            eprintln!(
                "watching one interface, {what}: {:.0} µs of processor time and {:.1} wake-ups in a second",
                (after - before).as_secs_f64() * 1e6 / seconds,
                (wake_ups_after - wake_ups) as f64 / seconds
            );
        });
    }
}

/// What the thread `segment` of this process has used, and how often it ran (proc_pid_schedstat(5)).
fn processor_time() -> (Duration, u64) {
    let mut latest = None;
    // Threads of earlier tests may still be about to end: the youngest is meant.
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "segment\n")
            && let Ok(text) = fs::read_to_string(path.join("schedstat"))
        {
            let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let fields: Vec<u64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
            latest = latest.max(Some((number, fields[0], fields[2])));
        }
    }
    let (_, used, runs) = latest.unwrap();
    (Duration::from_nanos(used), runs)
}

/// Silence says nothing where nothing is heard.
pub(crate) fn is_waited_for_before_an_unanswered_probe_counts() {
    let pause = Duration::from_millis(30);
    for (peer, wanted) in [("10.0.0.2", "10.0.0.100/32@eth0"), ("fd00::2", "fd00::100/128@eth0")] {
        let (switch, [left, right]) = switch();
        right.enter(|| {
            Kernel::here().add_address("eth0", "10.0.0.2/24");
            Kernel::here().add_address("eth0", "fd00::2/64");
        });
        left.enter(|| {
            Kernel::here().add_address("eth0", "10.0.0.1/24");
            Kernel::here().add_address("eth0", "fd00::1/64");
            let vip = vip(&[wanted]);
            let mut worker = watching(&[&vip], &[peer]);
            let mut probe = || {
                worker.watch_for(pause);
                worker.probe(&vip)
            };
            for _ in 0..4 {
                assert_eq!(probe(), Ok(()), "{peer} was asked too, and answered");
            }

            switch.enter(|| Kernel::here().set_plugged("port0", false));
            let _what_came_before = probe();
            for _ in 0..2 {
                let error = probe().expect_err("nobody can answer").to_string();
                assert_eq!(error, "nothing was heard since the last probe");
            }

            switch.enter(|| Kernel::here().set_plugged("port0", true));
            let _it_is_asked = probe();
            assert_eq!(probe(), Ok(()));
        });
    }
}
