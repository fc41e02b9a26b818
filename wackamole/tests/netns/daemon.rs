//! The built daemon on a real kernel: how it starts, is asked, and ends. What several of them do together is tested in
//! `netns-tests`.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wackamole::control::{Client as ControlClient, ClientError};
use wackamole::io::clock::boot_time;
use wackamole_protocol::status::{Phase, Status};

use crate::client::{Client, answer_every_datagram};
use crate::guardian::{guardian_of, kill_with_guardian, wait_for_end};
use crate::kernel::{Kernel, Seen, cable, foreign, ours};
use crate::namespace::Namespace;

/// Looks at something that shall come, 5 ms apart: together longer than anything takes here, even on a busy machine.
const LOOKS: usize = 4_000;
const PAUSE: Duration = Duration::from_millis(5);

const A: &str = "10.0.9.1";
const B: &str = "10.0.9.2";

pub(crate) fn holds_its_vips_until_it_is_asked_to_leave() {
    alone(|kernel, place| {
        let mut daemon = place.start("a");
        let status = daemon.status_when(|status| held_by(status, "a") == 4);

        assert_eq!((status.phase, status.node.as_str()), (Phase::Serving, "a"));
        assert_eq!(vips(kernel), held());

        daemon.signal(Signal::SIGTERM);

        assert!(daemon.end().success(), "{}", daemon.log());
        assert_eq!(vips(kernel), []);
        assert!(!place.path("a/control.sock").exists());
        let log = daemon.log();
        for line in [
            " INFO wackamole starts version=",
            " INFO acquired vip=10.0.0.1 because=\"nobody held it\" view=",
            " INFO leaving; a second signal stops at once signal=\"SIGTERM\"",
            " INFO wackamole stops\n",
        ] {
            assert!(log.contains(line), "{line:?} in {log}");
        }
    });
}

pub(crate) fn refuses_to_reload_and_goes_on() {
    alone(|kernel, place| {
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 4);

        daemon.signal(Signal::SIGHUP);

        daemon.log_when("SIGHUP: reload is not implemented yet, the configuration is unchanged");
        daemon.status_when(|status| held_by(status, "a") == 4);
        assert_eq!(vips(kernel), held());
        daemon.signal(Signal::SIGINT);
        assert!(daemon.end().success(), "{}", daemon.log());
    });
}

pub(crate) fn asks_what_must_be_reached_and_keeps_its_vips_when_that_is_silent() {
    let (left, right) = cable();
    right.enter(|| Kernel::here().add_address("eth0", "10.0.9.9/24"));
    left.enter(|| {
        let kernel = Kernel::here();
        kernel.add_address("eth0", &format!("{A}/24"));
        let place = Place::new();
        fs::create_dir(place.path("a")).unwrap();
        let alone = format!("[[nodes]]\nname = \"b\"\naddresses = [\"{B}\"]\n");
        let configuration = configuration()
            .replace(&alone, "")
            .replace("\"component\"", "\"quorum\"\nmust_reach = [\"10.0.9.8\", \"10.0.9.9\"]");
        place.write("a", &configuration);
        let mut daemon = place.start("a");
        let answers = |status: &Status| {
            let reach = &status.safety.must_reach;
            reach.iter().map(|reach| (reach.address.clone(), reach.answers)).collect::<Vec<_>>()
        };
        let of = |answering| [("10.0.9.8".to_owned(), false), ("10.0.9.9".to_owned(), answering)];
        daemon.status_when(|s| answers(s) == of(true) && held_by(s, "a") == 4);

        right.enter(|| Kernel::here().delete_address("eth0", "10.0.9.9/24"));
        let status = daemon.status_when(|status| answers(status) == of(false));

        assert!(status.safety.primary && held_by(&status, "a") == 4, "{status:?}");
        assert!(status.warnings[0].starts_with("none of must_reach answers"), "{status:?}");
        right.enter(|| Kernel::here().add_address("eth0", "10.0.9.9/24"));
        daemon.status_when(|status| answers(status) == of(true));
        assert_eq!(vips(&kernel), held());
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success(), "{}", daemon.log());
        let log = daemon.log();
        assert_eq!(
            log.matches(" INFO must_reach answers answering=\"10.0.9.9\"").count(),
            2,
            "{log}"
        );
        assert_eq!(log.matches(" WARN none of must_reach answers").count(), 1, "{log}");
    });
}

pub(crate) fn does_not_do_late_what_an_operator_was_told_has_failed() {
    alone(|kernel, place| {
        place.write("a", &configuration().replace("\"component\"", "\"quorum\""));
        let mut daemon = place.start("a");
        daemon.status_when(|status| !status.safety.primary);
        let force = || {
            ControlClient::connect(&place.path("a/control.sock"))
                .and_then(|mut client| client.force_primary())
        };
        daemon.signal(Signal::SIGSTOP);
        let late = force();
        assert!(matches!(late, Err(ClientError::NotDone { .. })), "{late:?}");

        daemon.signal(Signal::SIGCONT);

        daemon.log_when("force-primary comes too late, and is not carried out");
        daemon.status_when(|status| !status.safety.primary);
        assert_eq!(vips(kernel), []);
        force().unwrap();
        daemon.status_when(|status| status.safety.primary && held_by(status, "a") == 4);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success(), "{}", daemon.log());
    });
}

pub(crate) fn removes_what_a_killed_one_left_even_if_its_vips_have_changed() {
    alone(|kernel, place| {
        let mut killed = place.start("a");
        killed.status_when(|status| held_by(status, "a") == 4);
        kill_with_guardian(&mut killed);
        assert_eq!(vips(kernel), held(), "the kernel keeps them");

        place.write("a", &configuration().replace("10.0.0.1-10.0.0.3", "10.0.0.3-10.0.0.4"));
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 3);

        let changed = ["10.0.0.3/32", "10.0.0.4/32", "10.0.1.1/24", "fd00::1/128"].map(ours);
        assert_eq!(vips(kernel), changed);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success(), "{}", daemon.log());
        assert_eq!(vips(kernel), []);
    });
}

pub(crate) fn keeps_a_second_one_out() {
    alone(|kernel, place| {
        let mut first = place.start("a");
        first.status_when(|status| held_by(status, "a") == 4);

        let same_state = place.start("a").end_with_log();
        fs::create_dir(place.path("b")).unwrap();
        let socket = place.path("a/control.sock");
        let same_socket = configuration().replace("control.sock", socket.to_str().unwrap());
        place.write("b", &same_socket);
        let same_socket = place.start_as("b", "a").end_with_log();
        place.write("b", &configuration());
        let same_port = place.start_as("b", "a").end_with_log();

        for (log, said) in [
            (same_state, "another wackamole runs with this state directory"),
            (same_socket, "a wackamole daemon is running already: it answers on"),
            (same_port, "cannot listen on 10.0.9.1:4815"),
        ] {
            assert!(log.contains(said), "{said:?} in {log}");
        }
        first.status_when(|status| held_by(status, "a") == 4);
        assert_eq!(vips(kernel), held());
        first.signal(Signal::SIGTERM);
        assert!(first.end().success(), "{}", first.log());
    });
}

pub(crate) fn removes_its_addresses_at_once_at_a_second_signal() {
    let (left, right) = cable();
    let place = Place::new();
    for node in ["a", "b"] {
        fs::create_dir(place.path(node)).unwrap();
        // A peer that is stopped is waited for, up to some seconds.
        place.write(node, &configuration().replace("400ms", "60s"));
    }
    let mut a = left.enter(|| {
        Kernel::here().add_address("eth0", &format!("{A}/24"));
        place.start("a")
    });
    let b = right.enter(|| {
        Kernel::here().add_address("eth0", &format!("{B}/24"));
        place.start("b")
    });
    a.status_when(|status| held_by(status, "a") > 0 && held_by(status, "b") > 0);
    b.signal(Signal::SIGSTOP);

    a.signal(Signal::SIGTERM);
    a.log_when("leaving; a second signal stops at once");
    a.status_when(|status| status.phase == Phase::Leaving);
    a.signal(Signal::SIGTERM);

    assert_eq!(a.end().code(), Some(1), "{}", a.log());
    assert_eq!(left.enter(|| vips(&Kernel::here())), []);
    let log = a.log();
    let said =
        "stopped by a second signal before having left the cluster; its addresses are removed";
    assert!(log.contains(said), "{log}");
}

/// Without a gate the kernel answers for somebody else's copy of a VIP, so it does not count as released. The lease is longer than
/// a daemon hands over and waits for its kernel, 8 s: otherwise its guardian kills it before.
pub(crate) fn leaves_the_rest_to_its_guardian_when_it_cannot_release() {
    alone(|kernel, place| {
        let configuration = configuration().replace("400ms", "12s");
        place.write("a", &configuration.replace("[safety]", "[safety]\nfence = \"none\""));
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 4);
        kernel.add_address("eth0", "10.0.0.1/24");
        let guardian = guardian_of(&daemon.process).unwrap();

        daemon.signal(Signal::SIGTERM);

        assert_eq!(daemon.end().code(), Some(1), "{}", daemon.log());
        wait_for_end(guardian);
        assert_eq!(vips(kernel), [foreign("10.0.0.1/24")]);
        let log = daemon.log();
        assert!(log.contains("stopped before every release was confirmed"), "{log}");
        let said = "the daemon is gone: its addresses are removed and the peers are told";
        assert!(log.contains(said) && !log.contains("wackamole stops"), "{log}");
    });
}

/// Stopped together with its guardian, with its addresses on the interface, it can do nothing: the gate does.
pub(crate) fn falls_silent_when_it_is_stopped() {
    let (left, right) = cable();
    let place = Place::new();
    fs::create_dir(place.path("a")).unwrap();
    place.write("a", &configuration());
    let (mut daemon, mac) = left.enter(|| {
        answer_every_datagram();
        let kernel = Kernel::here();
        kernel.add_address("eth0", &format!("{A}/16"));
        (place.start("a"), kernel.mac("eth0"))
    });
    daemon.status_when(|status| held_by(status, "a") == 4);
    let client = right.enter(Client::here);
    let answered = || right.enter(|| !client.answers("10.0.0.1", mac).is_empty());
    assert!((0..50).any(|_| answered()));

    let guardian = guardian_of(&daemon.process).unwrap();
    kill(guardian, Signal::SIGSTOP).unwrap();
    daemon.signal(Signal::SIGSTOP);

    let stopped = boot_time();
    while answered() {
        let lasted = boot_time().since(stopped);
        // The lease is one failure timeout, 400 ms; the rest is for this machine, which may be busy.
        assert!(lasted < Duration::from_millis(600), "answered {lasted:?} after it was stopped");
    }
    assert_eq!(left.enter(|| vips(&Kernel::here())), held(), "though they are all there");

    daemon.signal(Signal::SIGCONT);
    kill(guardian, Signal::SIGCONT).unwrap();

    assert!((0..200).any(|_| answered()), "and it goes on when it can");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success(), "{}", daemon.log());
    left.enter(|| {
        // Nothing of the gate is left either: an address that somebody puts there is answered for.
        Kernel::here().add_address("eth0", "10.0.0.1/32");
    });
    assert!((0..50).any(|_| answered()));
}

/// One that was killed with its guardian leaves a gate that is shut, under its cluster's name.
pub(crate) fn is_not_silenced_by_the_gate_of_an_earlier_one() {
    let (left, right) = cable();
    let place = Place::new();
    fs::create_dir(place.path("a")).unwrap();
    let mac = left.enter(|| {
        answer_every_datagram();
        let kernel = Kernel::here();
        kernel.add_address("eth0", &format!("{A}/16"));
        kernel.mac("eth0")
    });
    let client = right.enter(Client::here);
    // Its announcements pass any gate, and look like answers.
    let answered =
        || (0..100).any(|_| right.enter(|| client.answers("10.0.0.1", mac).contains("datagrams")));
    let without_gate = configuration().replace("[safety]", "[safety]\nfence = \"none\"");
    let renamed = configuration().replace("\"netns\"", "\"renamed\"");
    for next in [without_gate, renamed] {
        place.write("a", &configuration());
        let mut killed = left.enter(|| place.start("a"));
        killed.status_when(|status| held_by(status, "a") == 4);
        left.enter(|| kill_with_guardian(&mut killed));

        place.write("a", &next);
        let mut daemon = left.enter(|| place.start("a"));
        daemon.status_when(|status| held_by(status, "a") == 4);

        assert!(answered(), "{}", daemon.log());
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success(), "{}", daemon.log());
    }
}

/// On a machine with one interface and no peer.
pub(crate) fn alone(test: impl FnOnce(&Kernel, &Place) + Send) {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_interface("eth0");
        kernel.add_address("eth0", &format!("{A}/24"));
        let place = Place::new();
        fs::create_dir(place.path("a")).unwrap();
        place.write("a", &configuration());
        test(&kernel, &place);
    });
}

pub(crate) fn configuration() -> String {
    format!(
        r#"[cluster]
name = "netns"
key_file = "../cluster.key"
[timing]
failure_timeout = "400ms"
mature = "100ms"
[safety]
# Nobody else is on these segments, so they show no sign of life.
partition = "component"
[daemon]
state_dir = "state"
control_socket = "control.sock"
[[nodes]]
name = "a"
addresses = ["{A}"]
[[nodes]]
name = "b"
addresses = ["{B}"]
[[vips]]
range = "10.0.0.1-10.0.0.3"
interface = "eth0"
[[vips]]
name = "gateway"
addresses = ["10.0.1.1/24@eth0", "fd00::1@eth0"]
"#
    )
}

/// The VIPs' addresses that a node alone holds.
pub(crate) fn held() -> [Seen; 5] {
    ["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "10.0.1.1/24", "fd00::1/128"].map(ours)
}

/// What is on the machine beside its own address, sorted.
pub(crate) fn vips(kernel: &Kernel) -> Vec<Seen> {
    let mut vips = kernel.addresses("eth0");
    vips.retain(|seen| !seen.address.starts_with("10.0.9."));
    vips.sort();
    vips
}

pub(crate) fn held_by(status: &Status, node: &str) -> usize {
    status.vips.iter().filter(|vip| vip.holders == [node]).count()
}

/// A directory with a key, and within it one for each daemon.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let made = Command::new(env!("CARGO_BIN_EXE_wackamole"))
            .arg("genkey")
            .arg(place.path("cluster.key"))
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, directory: &str, configuration: &str) {
        fs::write(self.path(directory).join("w.toml"), configuration).unwrap();
    }

    pub(crate) fn start(&self, node: &str) -> Daemon {
        self.start_as(node, node)
    }

    /// Starts a daemon in the network namespace of the calling thread.
    pub(crate) fn start_as(&self, directory: &str, node: &str) -> Daemon {
        let directory = self.path(directory);
        let log = directory.join("log");
        let process = Command::new(env!("CARGO_BIN_EXE_wackamole"))
            .args(["run", "--config", "w.toml", "--node", node])
            .current_dir(&directory)
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Daemon { process, directory, log }
    }
}

pub(crate) struct Daemon {
    pub(crate) process: Child,
    directory: PathBuf,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the status is as wanted.
    pub(crate) fn status_when(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        let socket = self.directory.join("control.sock");
        let mut last = None;
        self.wait("the wanted status", || {
            let status =
                ControlClient::connect(&socket).and_then(|mut client| client.status()).ok()?;
            let found = wanted(&status);
            last = Some(status);
            found.then_some(())
        });
        last.unwrap()
    }

    pub(crate) fn log_when(&mut self, line: &str) {
        let log = self.log.clone();
        self.wait(line, || fs::read_to_string(&log).unwrap().contains(line).then_some(()));
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        for _ in 0..LOOKS {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            thread::sleep(PAUSE);
        }
        panic!("still running: {}", self.log());
    }

    /// What a daemon says that cannot start.
    pub(crate) fn end_with_log(mut self) -> String {
        assert_eq!(self.end().code(), Some(1), "{}", self.log());
        self.log()
    }

    pub(crate) fn wait(&mut self, what: &str, mut ready: impl FnMut() -> Option<()>) {
        for _ in 0..LOOKS {
            if ready().is_some() {
                return;
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "ended before {what}: {}", self.log());
            thread::sleep(PAUSE);
        }
        panic!("waited in vain for {what}: {}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ends a stopped one as well; it fails if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
