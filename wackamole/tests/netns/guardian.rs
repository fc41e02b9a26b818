//! The guardian on a real kernel: what it does when its daemon is killed or stopped, and what becomes of it.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{FlockOperation, fcntl_lock};
use wackamole::config::Config;
use wackamole::guardian::await_former;
use wackamole::io::clock;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::status::Phase;
use wackamole_protocol::wire::message::{Body, Leave};
use wackamole_protocol::wire::{Codec, ReplayWindow};

use crate::daemon::{Daemon, Place, alone, configuration, held, held_by, vips};
use crate::kernel::{Kernel, cable, foreign, ours};
use crate::victim::{self, Role};

/// Looks at something that shall come, 1 ms apart.
const LOOKS: usize = 20_000;
const PAUSE: Duration = Duration::from_millis(1);

/// As configured: no lease is longer, and behind a gate the guardian waits an eighth of it for a sign of life.
const FAILURE_TIMEOUT: Duration = Duration::from_millis(400);

/// Where the peer listens.
const PEER: &str = "10.0.9.2:4815";

pub(crate) fn cleans_up_after_a_killed_daemon_and_tells_the_peers() {
    let (left, right) = cable();
    let place = Place::new();
    fs::create_dir(place.path("a")).unwrap();
    place.write("a", &configuration());
    let mut daemon = left.enter(|| {
        Kernel::here().add_address("eth0", "10.0.9.1/24");
        place.start("a")
    });
    let peer = right.enter(|| {
        Kernel::here().add_address("eth0", "10.0.9.2/24");
        UdpSocket::bind(PEER).unwrap()
    });
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    daemon.status_when(|status| held_by(status, "a") == 4);
    let guardian = guardian_of(&daemon.process).unwrap();

    let killed_at = clock::boot_time();
    daemon.signal(Signal::SIGKILL);
    let gone_after = left.enter(|| {
        let kernel = Kernel::here();
        wait(|| vips(&kernel).is_empty().then_some(()));
        clock::boot_time().since(killed_at)
    });

    let config = Config::load(&place.path("a/w.toml")).unwrap();
    let codec = Codec::new(&config.key().unwrap(), config.cluster());
    let mut window = ReplayWindow::default();
    let (mut incarnation, mut told_after, mut leaves) = (None, None, 0);
    let mut own_port = false;
    while leaves < 3 {
        let mut buffer = [0; 2_048];
        let (length, from) = peer.recv_from(&mut buffer).unwrap();
        let (header, body) = codec.open(&buffer[..length]).unwrap();
        assert_eq!(header.from, NodeId::from_name("a"));
        assert!(window.accept(header.sequence), "{header:?} is a replay");
        if let Body::Leave(Leave { incarnation: leaver }) = body {
            told_after.get_or_insert_with(|| clock::boot_time().since(killed_at));
            assert_eq!((leaver, header.incarnation), (incarnation.unwrap(), leaver));
            own_port |= from.port() == 4815;
            leaves += 1;
        } else {
            assert_eq!(leaves, 0, "{body:?} after the leave");
            incarnation = Some(header.incarnation);
        }
    }
    assert!(own_port, "the daemon's own port becomes free");
    let told_after = told_after.unwrap();
    println!("killed: addresses gone after {gone_after:?}, peer told within {told_after:?}");
    assert!(gone_after < Duration::from_millis(50), "{gone_after:?}");
    wait_for_end(guardian);
    daemon.end();
    let log = daemon.log();
    let said = "the daemon is gone: its addresses are removed and the peers are told node=\"a\"";
    assert!(log.contains(said) && log.contains("removed=5"), "{log}");
    assert!(!log.contains("after its end"), "{log}");
}

pub(crate) fn cleans_up_a_thousand_vips_in_time() {
    alone(|kernel, place| {
        let thousand = configuration().replace("10.0.0.1-10.0.0.3", "10.0.0.1-10.0.3.231");
        let thousand = thousand.replace("10.0.1.1/24@eth0", "10.1.1.1/24@eth0");
        place.write("a", &thousand);
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 1_000);
        let guardian = guardian_of(&daemon.process).unwrap();
        let [all, private] = ["VmRSS:", "RssAnon:"].map(|what| memory_kb(guardian, what));
        println!("guardian: {all} kB resident, {private} kB of it its own");
        assert!(private < 3 * 1024, "{private} kB");

        let killed_at = clock::boot_time();
        daemon.signal(Signal::SIGKILL);
        wait(|| vips(kernel).is_empty().then_some(()));
        let gone_after = clock::boot_time().since(killed_at);

        println!("killed: 1001 addresses gone after {gone_after:?}");
        assert!(gone_after < Duration::from_millis(500), "{gone_after:?}");
        wait_for_end(guardian);
        daemon.end();
    });
}

pub(crate) fn goes_with_a_daemon_that_leaves() {
    alone(|kernel, place| {
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 4);
        let guardian = guardian_of(&daemon.process).unwrap();

        daemon.signal(Signal::SIGTERM);

        assert!(daemon.end().success(), "{}", daemon.log());
        assert!(!is_running(guardian), "it has ended before its daemon");
        assert_eq!(vips(kernel), []);
        let log = daemon.log();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    });
}

pub(crate) fn lets_no_signal_stop_it() {
    alone(|kernel, place| {
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 4);
        let guardian = guardian_of(&daemon.process).unwrap();

        for signal in Signal::iterator() {
            if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
                kill(guardian, signal).unwrap();
            }
        }
        daemon.signal(Signal::SIGKILL);

        wait(|| vips(kernel).is_empty().then_some(()));
        wait_for_end(guardian);
        daemon.end();
    });
}

pub(crate) fn kills_a_stopped_daemon_at_the_end_of_its_lease() {
    alone(|kernel, place| {
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 4);
        let guardian = guardian_of(&daemon.process).unwrap();
        let stopped_at = clock::boot_time();
        daemon.signal(Signal::SIGSTOP);

        wait(|| vips(kernel).is_empty().then_some(()));

        let gone_after = clock::boot_time().since(stopped_at);
        println!("stopped: gone {gone_after:?} later, failure timeout {FAILURE_TIMEOUT:?}");
        let bound = FAILURE_TIMEOUT * 9 / 8 + Duration::from_millis(50);
        assert!(gone_after < bound, "{gone_after:?}");
        assert_eq!(daemon.end().to_string(), "signal: 9 (SIGKILL)");
        wait_for_end(guardian);
        let log = daemon.log();
        let said = "killing the daemon: its lease is over and it shows no sign of life node=\"a\"";
        assert!(log.contains(said) && log.contains("killed=true removed=5"), "{log}");
    });
}

pub(crate) fn kills_a_stopped_process_at_the_end_of_its_own_lease() {
    with_victim(Role::Renews, |kernel, victim, _| {
        let guardian = guardian_of(victim).unwrap();
        kill(pid_of(victim), Signal::SIGSTOP).unwrap();
        let stopped_at = clock::boot_time();

        wait(|| vips(kernel).is_empty().then_some(()));

        let gone_after = clock::boot_time().since(stopped_at);
        println!("stopped: gone {gone_after:?} later, lease {:?}", victim::LEASE);
        assert!(gone_after > victim::LEASE / 2, "not before its end: {gone_after:?}");
        let bound = victim::LEASE + victim::PATIENCE.silence + Duration::from_millis(100);
        assert!(gone_after < bound, "{gone_after:?}");
        assert_eq!(victim.wait().unwrap().to_string(), "signal: 9 (SIGKILL)");
        wait_for_end(guardian);
    });
}

pub(crate) fn kills_a_daemon_that_does_not_release() {
    with_victim(Role::DoesNotRelease, |kernel, victim, log| {
        let began = clock::boot_time();
        wait(|| vips(kernel).is_empty().then_some(()));
        let gone_after = clock::boot_time().since(began);
        assert!(gone_after > victim::PATIENCE.release / 2, "{gone_after:?}");
        assert_eq!(victim.wait().unwrap().to_string(), "signal: 9 (SIGKILL)");
        wait(|| log().contains("its lease is over and it does not release").then_some(()));
    });
}

pub(crate) fn leaves_a_daemon_alone_that_renews() {
    with_victim(Role::Renews, |kernel, victim, log| {
        let guardian = guardian_of(victim).unwrap();
        thread::sleep(10 * victim::LEASE);
        assert_eq!(vips(kernel), [ours("10.0.0.1/32")]);
        assert_eq!(victim.try_wait().unwrap(), None, "{}", log());
        assert_eq!(guardian_of(victim), Some(guardian));
    });
}

pub(crate) fn leaves_a_daemon_alone_that_releases_late() {
    with_victim(Role::ReleasesLate, |_, victim, log| {
        thread::sleep(victim::LEASE + 3 * victim::PATIENCE.release);
        assert_eq!(victim.try_wait().unwrap(), None, "{}", log());
    });
}

pub(crate) fn is_replaced_when_it_is_killed() {
    is_replaced_after(Signal::SIGKILL, "it has ended");
}

pub(crate) fn is_replaced_when_it_is_stopped() {
    is_replaced_after(Signal::SIGSTOP, "it shows no sign of life");
}

fn is_replaced_after(signal: Signal, why: &str) {
    alone(|kernel, place| {
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 4);
        let first = guardian_of(&daemon.process).unwrap();

        kill(first, signal).unwrap();
        let at = clock::boot_time();

        let second = wait(|| guardian_of(&daemon.process).filter(|&pid| pid != first));
        daemon.log_when("another guardian stands behind this daemon");
        println!("{signal}: another one stands after {:?}", clock::boot_time().since(at));
        wait_for_end(first);
        assert_eq!(vips(kernel), held(), "nothing was let go");
        assert!(daemon.log().contains(why), "{}", daemon.log());
        daemon.signal(Signal::SIGKILL);
        wait(|| vips(kernel).is_empty().then_some(()));
        wait_for_end(second);
        daemon.end();
    });
}

pub(crate) fn is_missed_when_it_cannot_be_replaced() {
    alone(|kernel, place| {
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 4);
        let guardian = guardian_of(&daemon.process).unwrap();
        // Somebody else is behind its lock before the next one can be.
        stop(&daemon);
        kill(guardian, Signal::SIGKILL).unwrap();
        let lock = fs::File::options().write(true).open(place.path("a/state/guardian")).unwrap();
        wait(|| fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).ok());
        daemon.signal(Signal::SIGCONT);

        daemon.log_when(
            "no guardian stands behind this daemon: it has ended, and another cannot be started",
        );
        assert!(daemon.log().contains("another guardian is at work"), "{}", daemon.log());
        daemon.log_when("released vip=10.0.0.1");
        wait(|| vips(kernel).is_empty().then_some(()));
        drop(lock);
        daemon.log_when("another guardian stands behind this daemon");

        daemon.status_when(|status| held_by(status, "a") == 4);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success(), "{}", daemon.log());
    });
}

pub(crate) fn is_waited_for_by_the_next_daemon() {
    alone(|kernel, place| {
        let mut killed = place.start("a");
        killed.status_when(|status| held_by(status, "a") == 4);
        let guardian = guardian_of(&killed.process).unwrap();
        kill(guardian, Signal::SIGSTOP).unwrap();
        killed.signal(Signal::SIGKILL);
        killed.end();

        let mut next = place.start("a");
        next.log_when("a former guardian is still at work: waiting until it is done");
        assert_eq!(vips(kernel), held(), "nobody has done it yet");
        assert_eq!(guardian_of(&next.process), None);
        kill(guardian, Signal::SIGCONT).unwrap();

        next.status_when(|status| status.phase == Phase::Serving && held_by(status, "a") == 4);
        wait_for_end(guardian);
        next.signal(Signal::SIGTERM);
        assert!(next.end().success(), "{}", next.log());
        assert_eq!(vips(kernel), []);
    });
}

pub(crate) fn is_killed_by_the_next_one_if_it_does_not_end() {
    alone(|kernel, place| {
        let mut killed = place.start("a");
        killed.status_when(|status| held_by(status, "a") == 4);
        let guardian = guardian_of(&killed.process).unwrap();
        kill(guardian, Signal::SIGSTOP).unwrap();
        killed.signal(Signal::SIGKILL);
        killed.end();

        let mut told = None;
        let patience = Duration::from_millis(200);
        let began = clock::boot_time();
        await_former(&place.path("a/state"), patience, |pid| told = pid).unwrap();

        assert!(clock::boot_time().since(began) >= patience);
        assert_eq!(told, Some(guardian.as_raw()), "the kernel knows whose the lock is");
        wait_for_end(guardian);
        assert_eq!(vips(kernel), held(), "the caller is to do its work");
    });
}

pub(crate) fn is_not_started_by_hand() {
    let output = Command::new(env!("CARGO_BIN_EXE_wackamole"))
        .arg("guardian")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("a guardian is started by `wackamole run`, and by nothing else"),
        "{said}"
    );
}

/// Kills a daemon with its guardian in such a way that neither gets to do anything.
pub(crate) fn kill_with_guardian(daemon: &mut Daemon) {
    let guardian = guardian_of(&daemon.process).unwrap();
    // Without this the daemon would have another one in no time.
    stop(daemon);
    kill(guardian, Signal::SIGKILL).unwrap();
    daemon.signal(Signal::SIGKILL);
    daemon.end();
    wait_for_end(guardian);
}

/// Stops a daemon and waits until none of its threads does anything more.
fn stop(daemon: &Daemon) {
    daemon.signal(Signal::SIGSTOP);
    let tasks = format!("/proc/{}/task", daemon.process.id());
    wait(|| {
        let mut stats = fs::read_dir(&tasks)
            .unwrap()
            .map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default());
        stats.all(|stat| stat.contains(") T ")).then_some(())
    });
}

/// The guardian of a process that has one, or has had.
pub(crate) fn guardian_of(parent: &Child) -> Option<Pid> {
    let parent = parent.id();
    fs::read_dir(format!("/proc/{parent}/task")).ok()?.find_map(|task| {
        let children = fs::read_to_string(task.ok()?.path().join("children")).ok()?;
        children.split_whitespace().find_map(|child| {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (name == "wackamole-guard\n").then(|| Pid::from_raw(child.parse().unwrap()))
        })
    })
}

/// Whether a process runs or is stopped.
fn is_running(pid: Pid) -> bool {
    !has_ended(pid)
}

fn has_ended(pid: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // An orphan's zombie is for whoever adopts it.
    state.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}

pub(crate) fn wait_for_end(pid: Pid) {
    wait(|| has_ended(pid).then_some(()));
}

fn wait<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = ready() {
            return found;
        }
        thread::sleep(PAUSE);
    }
    panic!("waited in vain");
}

fn memory_kb(pid: Pid, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// With a victim that holds its address, on a machine of its own.
fn with_victim(role: Role, test: impl FnOnce(&Kernel, &mut Child, &dyn Fn() -> String) + Send) {
    crate::namespace::Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_interface("eth0");
        // Not one of ours: it stays.
        kernel.add_address("eth0-end", "10.0.9.7/32");
        let place = tempfile::tempdir().unwrap();
        let mut victim = Ending(victim::start(role, place.path()));
        let log = || read(&place.path().join("log"));
        wait(|| (vips(&kernel) == [ours("10.0.0.1/32")]).then_some(()));

        test(&kernel, &mut victim.0, &log);

        assert_eq!(kernel.addresses("eth0-end"), [foreign("10.0.9.7/32")]);
    });
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

/// A process that ends with its owner, and its guardian after it.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let guardian = guardian_of(&self.0);
        // Fails if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
        if let Some(guardian) = guardian {
            wait_for_end(guardian);
        }
    }
}
