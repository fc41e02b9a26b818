//! The real server and the real client on a real socket.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::LocalSet;
use wackamole_protocol::status::{Phase, SafetyStatus};

use super::*;
use crate::io::clock::boot_time;

#[test]
fn a_status_arrives_as_it_was_sent_as_often_as_it_is_asked() {
    let server = Server::start();
    let mut client = Client::connect(&server.path).unwrap();

    assert_eq!(client.status().unwrap(), large_status());
    assert_eq!(client.status().unwrap(), large_status());
}

#[test]
fn only_its_own_user_may_connect_and_nothing_is_left_behind() {
    let server = Server::start();

    let mode = fs::metadata(&server.path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let path = server.path.clone();
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_request_that_makes_no_sense_is_told_what_is_accepted() {
    let server = Server::start();
    let mut shown = String::new();
    for request in ["status", "{}", r#"{"request":"drain"}"#, r#"{"request":7}"#, "\u{0}"] {
        shown
            .push_str(&format!("{request:?}\n{}\n", server.ask(format!("{request}\n").as_bytes())));
    }
    shown.push_str(&format!("(a long line)\n{}\n", server.ask(&[b'x'; 5000])));
    insta::assert_snapshot!("bad_requests", shown);
}

#[test]
fn a_bad_request_ends_neither_the_connection_nor_the_server() {
    let server = Server::start();
    let mut stream = BufReader::new(UnixStream::connect(&server.path).unwrap());
    let mut lines = Vec::new();

    for request in ["nonsense\n", "{\"request\":\"status\"}\n"] {
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        lines.push(line);
    }

    assert!(lines[0].starts_with("{\"error\":"), "{}", lines[0]);
    assert!(lines[1].starts_with("{\"status\":"), "{}", &lines[1][..80]);
}

#[test]
fn clients_that_do_not_read_or_say_nothing_do_not_keep_others_waiting() {
    let server = Server::start();
    let silent: Vec<_> = (0..5).map(|_| UnixStream::connect(&server.path).unwrap()).collect();
    let deaf: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = UnixStream::connect(&server.path).unwrap();
            // More answers than the socket's buffer takes.
            stream.write_all(b"{\"request\":\"status\"}\n".repeat(20).as_slice()).unwrap();
            stream
        })
        .collect();

    let status = Client::connect(&server.path).unwrap().status().unwrap();

    assert_eq!(status.vips.len(), large_status().vips.len());
    drop((silent, deaf));
}

#[test]
fn a_socket_on_which_nobody_answers_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/control.sock");
    fs::create_dir(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file");

    let server = Server::start_on(directory, path);

    assert!(Client::connect(&server.path).unwrap().status().is_ok());
}

#[test]
fn a_socket_on_which_somebody_answers_stays_his() {
    let server = Server::start();

    let refused = bind(&server.path);

    assert!(matches!(refused, Err(BindError::InUse { .. })), "{refused:?}");
    assert!(Client::connect(&server.path).unwrap().status().is_ok());
}

#[test]
fn a_file_in_the_way_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    fs::write(&path, "precious").unwrap();

    let refused = bind(&path);

    assert!(matches!(refused, Err(BindError::NotASocket { .. })), "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn another_daemons_socket_is_not_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let first = ControlSocket::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = ControlSocket::bind(&path).unwrap();

    drop(first);

    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[test]
fn a_client_says_why_it_cannot_ask() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");

    let absent = Client::connect(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let mute = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 20]).unwrap();
        stream.write_all(b"{\"status\":{}}\n").unwrap();
        let (stream, _) = listener.accept().unwrap();
        drop(stream);
    });
    let strange = Client::connect(&path).unwrap().status();
    let gone = Client::connect(&path).unwrap().status();
    mute.join().unwrap();

    assert!(matches!(absent, Err(ClientError::NotRunning { .. })), "{absent:?}");
    assert!(matches!(strange, Err(ClientError::Incomprehensible { .. })), "{strange:?}");
    assert!(matches!(gone, Err(ClientError::Broken { .. })), "{gone:?}");
}

#[test]
fn a_command_says_until_when_it_may_be_carried_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let before = boot_time();
    let daemon = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        stream.get_mut().write_all(b"\"done\"\n").unwrap();
        line
    });

    Client::connect(&path).unwrap().force_primary().unwrap();

    let request = serde_json::from_str(&daemon.join().unwrap()).unwrap();
    let Request::ForcePrimary { until_us } = request else { panic!("{request:?}") };
    let [least, most] = [before, boot_time()].map(|at| at.since_origin() + Duration::from_secs(4));
    let until = Duration::from_micros(until_us + 1);
    assert!(least <= until && until <= most + Duration::from_micros(1), "{until:?}");
    let without = serde_json::from_str::<Request>("{\"request\":\"force-primary\"}");
    assert!(without.unwrap_err().to_string().contains("until_us"));
}

/// A server on a thread of its own, as in the daemon on a current-thread runtime.
struct Server {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/wackamole/control.sock");
        Self::start_on(directory, path)
    }

    fn start_on(directory: tempfile::TempDir, path: PathBuf) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (bound, is_bound) = std::sync::mpsc::channel();
        let socket = path.clone();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                let control = ControlSocket::bind(&socket).unwrap();
                bound.send(()).unwrap();
                tokio::select! { biased;
                    _ = stopped => {}
                    () = control.serve(|_: Request| async {
                        Reply::Status(Box::new(large_status()))
                    }) => {}
                }
            });
        });
        is_bound.recv().unwrap();
        Self { path, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    /// The answer to one raw request.
    fn ask(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        // A server that refuses a long line may close before all of it is written.
        let _ = stream.write_all(request);
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn bind(path: &Path) -> Result<ControlSocket, BindError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    ControlSocket::bind(path)
}

/// More than a socket buffer takes at once.
fn large_status() -> Status {
    let vip = |number| wackamole_protocol::status::VipStatus {
        name: format!("vip{number}"),
        addresses: vec![format!("10.0.{}.{}/32@eth0", number / 256, number % 256)],
        owner: None,
        holders: Vec::new(),
        reason: None,
        owned_for_ms: None,
        waiting: None,
        error: None,
    };
    Status {
        cluster: "web".into(),
        node: "a".into(),
        incarnation: "1.2".into(),
        phase: Phase::Joining,
        view: None,
        safety: SafetyStatus::default(),
        nodes: Vec::new(),
        vips: (0..5000).map(vip).collect(),
        rejected: BTreeMap::new(),
        warnings: Vec::new(),
    }
}
