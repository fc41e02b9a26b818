//! The operator's fence command: a program that makes sure that a node that vanished answers for nothing any more, such as
//! one that switches its power off. Run without a shell, on a thread of its own.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use wackamole_protocol::time::{Duration, Instant};

use crate::env::AddressError;
use crate::io::clock;

/// Stands for the node's name in an argument.
const PLACEHOLDER: &str = "{node}";
/// What is kept of the standard error: the last line is told.
const STDERR_BYTES: usize = 4096;

/// What to run, and what it is told in its environment.
#[derive(Clone, Debug)]
pub(super) struct FenceCommand {
    /// The program and its arguments; never empty.
    pub(super) words: Vec<String>,
    /// It is killed after so long.
    pub(super) timeout: Duration,
    /// `WACKAMOLE_CLUSTER`.
    pub(super) cluster: String,
    /// `WACKAMOLE_NODE`: who fences.
    pub(super) me: String,
}

impl FenceCommand {
    /// Runs it against `node` and waits for it.
    ///
    /// # Errors
    /// It cannot be started, fails, or takes too long. What it started in its own process group is killed then.
    pub(super) fn run(&self, node: &str) -> Result<(), AddressError> {
        self.try_run(node)
            .map_err(|why| AddressError::Other(format!("the fence command for {node} {why}")))
    }

    fn try_run(&self, node: &str) -> Result<(), String> {
        let mut words = self.words.iter().map(|word| word.replace(PLACEHOLDER, node));
        let program = words.next().unwrap_or_default();
        let mut child = Command::new(&program)
            .args(words)
            .env("WACKAMOLE_FENCED_NODE", node)
            .env("WACKAMOLE_NODE", &self.me)
            .env("WACKAMOLE_CLUSTER", &self.cluster)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot be started: {program}: {error}"))?;
        let mut said = Vec::new();
        match await_end(&mut child, &mut said, clock::boot_time() + self.timeout) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(format!("{}{}", how(status), last_line(&said))),
            Ok(None) => {
                kill(&mut child);
                Err(format!(
                    "was killed: it took longer than {:?}{}",
                    self.timeout,
                    last_line(&said)
                ))
            }
            Err(error) => {
                kill(&mut child);
                Err(format!("was killed: it cannot be waited for: {error}"))
            }
        }
    }
}

/// Waits for the command's end and keeps what it says last. `None`: it takes too long. What it leaves running may keep its
/// standard error open, so that the end of that is not waited for.
fn await_end(
    child: &mut Child,
    said: &mut Vec<u8>,
    until: Instant,
) -> io::Result<Option<ExitStatus>> {
    let process = pidfd_open(rustix::process::Pid::from_child(child), PidfdFlags::empty())?;
    let mut stderr = child.stderr.take();
    if let Some(stderr) = &stderr {
        fcntl(stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    loop {
        let left = until.since(clock::boot_time());
        let mut sources = vec![PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        sources.extend(stderr.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        // A millisecond more, because the timeout is cut to whole ones.
        let timeout = left + Duration::from_millis(1);
        match poll(&mut sources, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if stderr.as_mut().is_some_and(|stderr| !keep(stderr, said)) {
            stderr = None;
        }
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if clock::boot_time() >= until {
            return Ok(None);
        }
    }
}

/// Reads what is there. Returns whether more may come.
fn keep(stderr: &mut ChildStderr, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; STDERR_BYTES];
    loop {
        match stderr.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => {
                said.extend_from_slice(&buffer[..length]);
                said.drain(..said.len().saturating_sub(STDERR_BYTES));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// It and what it has started, which is in its process group unless it wanted otherwise.
fn kill(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // Its number is its own until it is waited for.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.wait();
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "failed".into(),
    }
}

fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    match said.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!(": {line}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell as the program under test; the command itself uses none.
    fn command(script: &str, timeout: Duration) -> FenceCommand {
        FenceCommand {
            words: ["/bin/sh", "-c", script, "sh", "power-{node}"].map(str::to_owned).into(),
            timeout,
            cluster: "web".into(),
            me: "a".into(),
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn it_is_told_whom_to_fence() {
        let script = "test \"$1-$WACKAMOLE_FENCED_NODE-$WACKAMOLE_NODE-$WACKAMOLE_CLUSTER\" \
                      = power-b-b-a-web";
        command(script, LONG).run("b").unwrap();
    }

    #[test]
    fn its_failure_is_told_with_its_last_words() {
        let error = |script: &str| command(script, LONG).run("b").unwrap_err().to_string();
        assert_eq!(
            error("echo first >&2; echo 'no such outlet' >&2; echo >&2; exit 3"),
            "the fence command for b failed with exit status 3: no such outlet"
        );
        assert_eq!(error("exit 1"), "the fence command for b failed with exit status 1");
        assert_eq!(error("kill -9 $$"), "the fence command for b was ended by signal 9");
        let missing = FenceCommand { words: vec!["/nonexistent/off".into()], ..command("", LONG) };
        let missing = missing.run("b").unwrap_err().to_string();
        assert!(missing.contains("cannot be started: /nonexistent/off: No such file"), "{missing}");
    }

    #[test]
    fn one_that_takes_too_long_is_killed_with_what_it_started() {
        let root = tempfile::tempdir().unwrap();
        let pids = root.path().join("pids");
        let script = format!("sleep 60 & echo $! $$ > {}; echo waiting >&2; wait", pids.display());
        let error = command(&script, Duration::from_millis(500)).run("b").unwrap_err().to_string();

        assert_eq!(error, "the fence command for b was killed: it took longer than 500ms: waiting");
        for pid in std::fs::read_to_string(pids).unwrap().split_whitespace() {
            // Its parent may not have waited for it yet.
            let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            while !(state().is_empty() || state().contains(") Z ")) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn what_it_leaves_running_is_not_waited_for() {
        let start = clock::boot_time();
        command("sleep 3 & exit 0", LONG).run("b").unwrap();
        assert!(clock::boot_time().since(start) < Duration::from_secs(2));
    }

    #[test]
    fn much_said_is_no_trouble() {
        let script = "i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1";
        let error = command(script, LONG).run("b").unwrap_err().to_string();
        assert!(error.ends_with(": line 19999"), "{error}");
    }
}
