//! Private namespaces for a whole process, without root where the kernel allows it.
//!
//! A process can leave its user namespace only while it has a single thread, and only its children enter a new pid
//! namespace. So a program that wants to work inside starts itself again, twice: the first copy leaves the namespaces,
//! the second is process 1 of the new ones. When that process ends, the kernel kills whatever it started and removes
//! every interface that it made: nothing outlives a test, however it ends.
//!
//! A program calls [`role`] before anything else in `main`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio, exit};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid};

use crate::binary;
use crate::host::Host;

/// Tells a copy of the program how far it is.
const STAGE: &str = "WACKAMOLE_SANDBOX_STAGE";
const ENTER: &str = "enter";
const INSIDE: &str = "inside";
/// Only find out whether it works.
const PROBE: &str = "probe";
const PROBE_INSIDE: &str = "probe-inside";

/// Exit code of a copy that cannot enter; its one line is on standard error.
const REFUSED: i32 = 77;

/// Where this copy of the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// As it was started.
    Outside,
    /// As process 1 of private user, network, mount and pid namespaces.
    Inside,
}

/// Finds out where we are. In the copies that only lead inside it does not return.
pub fn role() -> Role {
    let stage = env::var(STAGE).unwrap_or_default();
    match stage.as_str() {
        ENTER => exit(leave_for(INSIDE)),
        PROBE => exit(leave_for(PROBE_INSIDE)),
        INSIDE => {
            if let Err(error) = settle() {
                eprintln!("{}", refusal(&error));
                exit(REFUSED);
            }
            Role::Inside
        }
        PROBE_INSIDE => exit(probe()),
        _ => Role::Outside,
    }
}

/// The command that runs this program with `arguments` inside.
///
/// # Errors
/// The program's own file cannot be found.
pub fn inside(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Command> {
    let program = env::current_exe().context("finding this program's own file")?;
    let mut command = Command::new(program);
    command.args(arguments.into_iter().map(Into::into)).env(STAGE, ENTER);
    Ok(command)
}

/// Runs this program with `arguments` inside, `program` being the one under test, and takes over its exit code.
///
/// # Errors
/// The program cannot be started again.
pub fn run_inside(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
    program: &Path,
) -> Result<ExitCode> {
    let mut command = inside(arguments)?;
    command.env(binary::VARIABLE, program);
    let status = command.status().context("starting this program again")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Whether private namespaces can be had here.
///
/// # Errors
/// They cannot; the error is one line that says what the kernel refuses and which setting allows it.
pub fn available() -> Result<()> {
    let program = env::current_exe().context("finding this program's own file")?;
    let output = Command::new(program)
        .env(STAGE, PROBE)
        .stdin(Stdio::null())
        .output()
        .context("starting this program again")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{}", String::from_utf8_lossy(&output.stderr).trim())
}

/// First copy: leaves the namespaces and starts the second one. Returns the exit code.
fn leave_for(stage: &str) -> i32 {
    match leave().and_then(|()| die_with_parent()).and_then(|()| start_again(stage)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", refusal(&error));
            REFUSED
        }
    }
}

fn leave() -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    let private = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    match unshare(private | CloneFlags::CLONE_NEWUSER) {
        Ok(()) => {
            // user_namespaces(7): an unprivileged process may map its group only after giving up setgroups(2).
            fs::write("/proc/self/setgroups", "deny").context("writing /proc/self/setgroups")?;
            fs::write("/proc/self/gid_map", format!("0 {group} 1"))
                .context("writing /proc/self/gid_map")?;
            fs::write("/proc/self/uid_map", format!("0 {user} 1"))
                .context("writing /proc/self/uid_map")?;
            Ok(())
        }
        // Root needs no user namespace, and some kernels are built without.
        Err(_) if user.is_root() => unshare(private).context("unshare(2)"),
        Err(error) => Err(error).context("unshare(2)"),
    }
}

fn start_again(stage: &str) -> Result<i32> {
    let program = env::current_exe().context("finding this program's own file")?;
    let status = Command::new(program)
        .args(env::args_os().skip(1))
        .env(STAGE, stage)
        .status()
        .context("starting process 1 of the new namespaces")?;
    Ok(status.code().unwrap_or(1))
}

/// Second copy: arranges its new home.
fn settle() -> Result<()> {
    die_with_parent()?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .context("making mounts private")?;
    // A container may forbid a fresh /proc; the old one serves as well, only with foreign process numbers.
    let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), nothing);
    mount(Some("tmpfs"), SCRATCH, Some("tmpfs"), MsFlags::empty(), nothing)
        .with_context(|| format!("mounting a tmpfs on {SCRATCH}"))
}

/// Whoever ends an outer copy ends the inner ones as well, and with the innermost everything inside. Entering a user
/// namespace clears the setting, so it comes after that.
fn die_with_parent() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")
}

/// A directory that belongs to this sandbox alone and vanishes with it.
pub const SCRATCH: &str = "/run";

/// Tries what the harness needs: links, addresses and namespaces of its own.
fn probe() -> i32 {
    match settle().and_then(|()| Host::new("probe")?.netlink(|netlink| netlink.set_up("lo"))) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}", refusal(&error));
            REFUSED
        }
    }
}

/// One line: what was refused, and what is likely to allow it.
fn refusal(error: &anyhow::Error) -> String {
    format!("no private network namespace can be made here: {error:#}{}", advice())
}

fn advice() -> &'static str {
    let set_to = |file: &str, value: &str| {
        fs::read_to_string(format!("/proc/sys/{file}")).is_ok_and(|text| text.trim() == value)
    };
    if set_to("kernel/apparmor_restrict_unprivileged_userns", "1") {
        " (sysctl kernel.apparmor_restrict_unprivileged_userns=0 allows it, or run as root)"
    } else if set_to("kernel/unprivileged_userns_clone", "0") {
        " (sysctl kernel.unprivileged_userns_clone=1 allows it, or run as root)"
    } else if set_to("user/max_user_namespaces", "0") {
        " (sysctl user.max_user_namespaces=10000 allows it, or run as root)"
    } else {
        " (run as root, or allow unprivileged user namespaces; a container may need --privileged)"
    }
}
