//! The built binary: what it accepts, prints and returns. The running daemon is tested in namespaces.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use tokio::sync::oneshot;
use tokio::task::LocalSet;
use wackamole::control::{ControlSocket, Reply, Request};
use wackamole_protocol::status::{Phase, Status};

/// Two nodes, one of which is named after the loopback address, with a VIP on the loopback interface.
const CONFIGURATION: &str = r#"[cluster]
name = "web"
key_file = "cluster.key"

[daemon]
state_dir = "state"
control_socket = "control.sock"

[[nodes]]
name = "here"
addresses = ["127.0.0.1"]

[[nodes]]
name = "there"
addresses = ["198.51.100.1"]

[[vips]]
range = "198.51.100.101-198.51.100.110"
interface = "lo"

[[vips]]
name = "gateway"
addresses = ["198.51.100.1@lo", "2001:db8::1@lo"]
"#;

#[test]
fn a_configuration_is_checked_against_this_machine() {
    let place = Place::new();
    place.write("w.toml", &CONFIGURATION.replace("198.51.100.1@lo", "198.51.100.9@lo"));
    place.run(&["genkey", "cluster.key"]).succeeds();

    let checked = place.run(&["check", "--config", "w.toml"]).succeeds();

    assert_eq!(
        checked,
        "w.toml is good: cluster web, 2 nodes, 11 VIPs with 12 addresses; this machine is node here\n"
    );
}

#[test]
fn a_bad_configuration_is_told_and_the_exit_code_is_2() {
    let place = Place::new();
    place.write("w.toml", CONFIGURATION);

    // The gateway's address is a node's own.
    insta::assert_snapshot!("own_address", place.run(&["check", "--config", "w.toml"]).fails(2));
    // Several problems at once.
    let worse =
        CONFIGURATION.replace("[daemon]", "[deamon]").replace("\"lo\"", "\"lo\"\nprefer = [\"x\"]");
    place.write("w.toml", &worse);
    insta::assert_snapshot!("several_problems", place.run(&["run", "--config", "w.toml"]).fails(2));
}

#[test]
fn what_depends_on_the_machine_is_checked_after_the_file() {
    let place = Place::new();
    let good = CONFIGURATION.replace("198.51.100.1@lo", "198.51.100.9@lo");
    place.write("w.toml", &good);
    let mut shown = Vec::new();

    // No key file yet.
    shown.push(place.run(&["check", "--config", "w.toml"]).fails(2));
    // Not a node.
    shown.push(place.run(&["check", "--config", "w.toml", "--node", "her"]).fails(2));
    // Not here.
    place.write("w.toml", &good.replace("127.0.0.1", "198.51.100.2"));
    let elsewhere = place.run(&["check", "--config", "w.toml"]).fails(2);
    assert!(
        elsewhere.contains("the nodes are: here (198.51.100.2), there (198.51.100.1)"),
        "{elsewhere}"
    );
    // The file alone is good, also for another machine.
    place.run(&["check", "--config", "w.toml", "--file-only"]).succeeds();
    // No such interface.
    place.write("w.toml", &good.replace("\"lo\"", "\"no-such-if\""));
    let interface = place.run(&["check", "--config", "w.toml"]).fails(2);
    assert!(interface.contains("there is no interface no-such-if on this machine"), "{interface}");
    // No such file.
    shown.push(place.run(&["check", "--config", "none.toml"]).fails(2));

    insta::assert_snapshot!("machine", shown.join("\n"));
}

#[test]
fn the_default_configuration_passes_its_own_check() {
    let place = Place::new();

    let printed = place.run(&["config", "default"]).succeeds();
    place.write("w.toml", &printed);

    let checked = place.run(&["check", "--config", "w.toml", "--file-only"]).succeeds();
    assert_eq!(checked, "w.toml is good: cluster web, 3 nodes, 10 VIPs with 10 addresses\n");
}

#[test]
fn a_key_is_made_once_for_its_owner_only() {
    let place = Place::new();

    let made = place.run(&["genkey", "keys/cluster.key"]).succeeds();
    let first = place.read("keys/cluster.key");
    let refused = place.run(&["genkey", "keys/cluster.key"]).fails(2);
    let kept = place.read("keys/cluster.key");
    place.run(&["genkey", "--force", "keys/cluster.key"]).succeeds();
    let printed = place.run(&["genkey", "-"]).succeeds();

    assert!(made.starts_with("made keys/cluster.key; copy it"), "{made}");
    insta::assert_snapshot!("key_exists", refused);
    assert_eq!(first, kept);
    assert_ne!(first, place.read("keys/cluster.key"));
    let mode = fs::metadata(place.path("keys/cluster.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(printed.contains("\nwackamole-key-1\n"), "{printed}");
}

#[test]
fn the_version_and_the_help_are_printed() {
    let place = Place::new();

    let version = place.run(&["--version"]).succeeds();
    let help = place.run(&["--help"]).succeeds();

    assert_eq!(version, format!("wackamole {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["run", "check", "status", "genkey", "config"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in {help}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let place = Place::new();

    for wrong in [
        &["rum"][..],
        &[],
        &["run", "--log", "loud"],
        &["run", "--log-format", "xml"],
        &["status", "--socket", "a", "--config", "b"],
        &["check", "--file-only", "--node", "a"],
    ] {
        place.run(wrong).fails(2);
    }
    let loud = place.run(&["run", "--log", "loud"]).fails(2);
    assert!(
        loud.contains("accepted is error, warn, info, debug, trace, off, or targets"),
        "{loud}"
    );
}

#[test]
fn without_a_daemon_the_status_says_so_and_exits_with_1() {
    let place = Place::new();

    let absent = place.run(&["status", "--socket", "control.sock"]).fails(1);

    assert_eq!(
        absent,
        "error: no daemon answers on control.sock: is wackamole running here, with this control_socket?\n"
    );
}

#[test]
fn the_status_is_a_table_for_people_and_json_for_programs() {
    let place = Place::new();
    place.write("w.toml", &CONFIGURATION.replace("198.51.100.1@lo", "198.51.100.9@lo"));
    let (stop, stopped) = oneshot::channel::<()>();
    let (bound, is_bound) = std::sync::mpsc::channel();
    let socket = place.path("control.sock");
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let control = ControlSocket::bind(&socket).unwrap();
            bound.send(()).unwrap();
            let answer = |_: Request| async { Reply::Status(Box::new(lonely())) };
            tokio::select! { biased;
                _ = stopped => {}
                () = control.serve(answer) => {}
            }
        });
    });
    is_bound.recv().unwrap();

    let table = place.run(&["status", "--config", "w.toml"]).succeeds();
    let json = place.run(&["status", "--socket", "control.sock", "--json"]).succeeds();
    drop(stop);
    server.join().unwrap();

    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), lonely());
    insta::assert_snapshot!("lonely", table);
}

fn lonely() -> Status {
    Status {
        cluster: "web".into(),
        node: "here".into(),
        incarnation: "1.00000002".into(),
        phase: Phase::Joining,
        view: None,
        safety: Default::default(),
        nodes: Vec::new(),
        vips: Vec::new(),
        rejected: BTreeMap::new(),
        warnings: vec!["there is hears us but is not heard".into()],
    }
}

/// A directory of its own, in which the binary runs.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_wackamole")))
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("NO_COLOR")
            .output()
            .unwrap();
        Ran(output)
    }
}

/// A finished run; its standard output is no terminal.
struct Ran(Output);

impl Ran {
    #[track_caller]
    fn succeeds(self) -> String {
        let stderr = String::from_utf8(self.0.stderr).unwrap();
        assert!(self.0.status.success(), "{}: {stderr}", self.0.status);
        assert_eq!(stderr, "");
        String::from_utf8(self.0.stdout).unwrap()
    }

    #[track_caller]
    fn fails(self, code: i32) -> String {
        let stderr = String::from_utf8(self.0.stderr).unwrap();
        assert_eq!(self.0.status.code(), Some(code), "{stderr}");
        assert_eq!(String::from_utf8(self.0.stdout).unwrap(), "");
        assert!(!stderr.contains('\x1b'), "{stderr:?}");
        stderr
    }
}

#[test]
fn nothing_is_forced_without_a_word_that_the_others_are_down() {
    let told = Place::new().run(&["force-primary"]).fails(2);

    assert!(told.contains("--others-are-down"), "{told}");
}
