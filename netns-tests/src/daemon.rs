//! A running daemon: started, signalled, asked and buried like on a real machine.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binary;
use crate::host::Host;
use crate::sandbox::SCRATCH;
use crate::status::Status;
use crate::wait;

/// Directory below [`SCRATCH`] with one log per machine, appended to by each start.
pub const LOGS: &str = "logs";

/// How much daemons log, as their `--log` wants it, if somebody who looks for a fault has set it.
const LOG_LEVEL: &str = "WACKAMOLE_LOG";

/// A daemon; killed when dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts `wackamole run` on `host`. Which node it is, it finds out by the host name. It records what it is told below
    /// `record`, if that is given.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(host: &Host, config: &Path, record: Option<&Path>) -> Result<Self> {
        let log = open_log(host.name())?;
        let mut command = Command::new(binary::path()?);
        command.arg("run").arg("--config").arg(config);
        if let Some(record) = record {
            command.arg("--record").arg(record);
        }
        if let Some(level) = env::var_os(LOG_LEVEL) {
            command.arg("--log").arg(level);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: host.spawn(command)? })
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process number")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("sending {signal} to a daemon"))
    }

    /// It has ended, and how.
    ///
    /// # Errors
    /// The operating system refuses to tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("looking after a daemon")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait::until_some("the daemon ends", limit, || self.ended().ok().flatten())
    }

    /// Kills it (`SIGKILL`) and waits for its end. Its guardian tidies up after it.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("killing a daemon")?;
        self.child.wait().context("burying a daemon")?;
        Ok(())
    }

    /// Kills it and its guardian, so that neither gets to do anything. Its addresses stay where they are.
    ///
    /// # Errors
    /// It has no guardian, or the operating system refuses.
    pub fn kill_with_guardian(&mut self) -> Result<()> {
        let guardian = self.guardian()?;
        // Without this it would have another one in no time.
        self.signal(Signal::SIGSTOP)?;
        wait::until("the daemon is stopped", Duration::from_secs(5), || self.is_stopped())?;
        kill(guardian, Signal::SIGKILL).context("killing a guardian")?;
        self.kill()
    }

    /// Stops it and its guardian (`SIGSTOP`), so that neither does anything until they are killed.
    ///
    /// # Errors
    /// It has no guardian, or the operating system refuses.
    pub fn freeze_with_guardian(&self) -> Result<()> {
        // In this order: the daemon looks for signs of life of its guardian for longer than this takes, but a guardian
        // that is left behind would kill it.
        kill(self.guardian()?, Signal::SIGSTOP).context("stopping a guardian")?;
        self.signal(Signal::SIGSTOP)
    }

    /// None of its threads does anything.
    fn is_stopped(&self) -> bool {
        fs::read_dir(format!("/proc/{}/task", self.pid())).is_ok_and(|tasks| {
            tasks.flatten().all(|task| {
                let stat = fs::read_to_string(task.path().join("stat"));
                stat.is_ok_and(|stat| stat.contains(") T "))
            })
        })
    }

    /// The process that stands behind it.
    fn guardian(&self) -> Result<Pid> {
        let tasks = format!("/proc/{}/task", self.pid());
        let mut tasks = fs::read_dir(&tasks).with_context(|| tasks.clone())?.flatten();
        let found: Option<i32> = tasks.find_map(|task| {
            let children = fs::read_to_string(task.path().join("children")).ok()?;
            children.split_whitespace().find_map(|child| {
                let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
                (name == "wackamole-guard\n").then(|| child.parse().ok()).flatten()
            })
        });
        found.map(Pid::from_raw).context("a daemon without a guardian")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the daemon on `host` for its status.
///
/// # Errors
/// No daemon answers there.
pub fn status(host: &Host) -> Result<Status> {
    let mut command = Command::new(binary::path()?);
    command.args(["status", "--json"]).stdin(Stdio::null());
    let output = host
        .run(move || command.output())
        .with_context(|| format!("starting wackamole status on {}", host.name()))?;
    if !output.status.success() {
        bail!("status of {}: {}", host.name(), String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("reading the status of {}", host.name()))
}

/// The log file of the daemons on a machine.
pub fn log_file(machine: &str) -> PathBuf {
    Path::new(SCRATCH).join(LOGS).join(format!("{machine}.log"))
}

fn open_log(machine: &str) -> Result<File> {
    let file = log_file(machine);
    fs::create_dir_all(Path::new(SCRATCH).join(LOGS)).context("making a directory for logs")?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .with_context(|| format!("opening {}", file.display()))
}
