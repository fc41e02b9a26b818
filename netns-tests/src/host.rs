//! A simulated machine's place in the kernel: its own network, mounts and host name.
//!
//! Namespaces belong to threads. A host is a worker thread that left the common ones; whatever it starts, threads and
//! processes alike, is born inside. So nothing needs setns(2), and no child process needs code between fork and exec.

use std::fs::File;
use std::io;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;

use crate::netlink::Netlink;
use crate::sandbox::SCRATCH;

type Task = Box<dyn FnOnce() + Send>;

/// A machine's namespaces.
#[derive(Clone)]
pub struct Host {
    name: String,
    tasks: mpsc::Sender<Task>,
    netlink: Arc<Mutex<Netlink>>,
}

impl Host {
    /// Makes a machine with no interface but `lo`, an empty `/run` and `name` as its host name.
    ///
    /// # Errors
    /// The kernel refuses the namespaces.
    pub fn new(name: &str) -> Result<Self> {
        let (tasks, receiver) = mpsc::channel::<Task>();
        let (ready, outcome) = mpsc::channel();
        let own_name = name.to_owned();
        thread::Builder::new()
            .name(format!("host {name}"))
            .spawn(move || {
                let arrived = move_in(&own_name);
                let succeeded = arrived.is_ok();
                if ready.send(arrived).is_ok() && succeeded {
                    receiver.into_iter().for_each(|task| task());
                }
            })
            .context("starting a host's thread")?;
        let netlink = outcome
            .recv()
            .map_err(|_| anyhow!("the thread of host {name} ended"))?
            .with_context(|| format!("making the namespaces of host {name}"))?;
        Ok(Self { name: name.to_owned(), tasks, netlink: Arc::new(Mutex::new(netlink)) })
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on the machine and waits for it.
    ///
    /// # Panics
    /// If `work` does.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (reply, result) = mpsc::channel();
        let task = Box::new(move || {
            // The caller waits for the reply, so it cannot be gone.
            let _ = reply.send(work());
        });
        self.tasks.send(task).expect("a host's thread lives as long as the host");
        result.recv().expect("the work on the host did not panic")
    }

    /// Starts a thread on the machine.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn spawn_thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        let builder = thread::Builder::new().name(format!("{name} on {}", self.name));
        self.run(move || builder.spawn(work)).context("starting a thread on a host")
    }

    /// Starts a process on the machine.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self, mut command: Command) -> Result<Child> {
        let program = command.get_program().to_owned();
        self.run(move || command.spawn())
            .with_context(|| format!("starting {} on {}", program.display(), self.name))
    }

    /// Asks or changes the machine's network through rtnetlink.
    ///
    /// # Errors
    /// Those of `ask`, with the machine's name.
    pub fn netlink<T>(&self, ask: impl FnOnce(&mut Netlink) -> Result<T>) -> Result<T> {
        let mut netlink = self.netlink.lock().expect("nobody panics while holding the lock");
        ask(&mut netlink).with_context(|| format!("on {}", self.name))
    }

    /// The machine's network namespace, to move an interface there.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(crate) fn network(&self) -> Result<File> {
        self.run(|| File::open("/proc/thread-self/ns/net")).context("opening a network namespace")
    }

    /// Sets `/proc/sys/<key>`. A container may have mounted it read-only, so the caller decides whether that matters.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sysctl(&self, key: &str, value: &str) -> io::Result<()> {
        let (file, value) = (format!("/proc/sys/{key}"), value.to_owned());
        self.run(move || std::fs::write(file, value))
    }
}

/// Leaves the common namespaces; the calling thread is the machine from here on.
fn move_in(name: &str) -> Result<Netlink> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .context("unshare(2)")?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .context("making mounts private")?;
    mount(Some("tmpfs"), SCRATCH, Some("tmpfs"), MsFlags::empty(), nothing)
        .with_context(|| format!("mounting a tmpfs on {SCRATCH}"))?;
    sethostname(name).context("sethostname(2)")?;
    // IPv6 may be off by default, and its duplicate address detection would only make tests wait; both are a nicety.
    for key in ["all", "default"] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{key}/disable_ipv6"), "0");
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{key}/accept_dad"), "0");
    }
    let mut netlink = Netlink::open()?;
    netlink.set_up("lo")?;
    Ok(netlink)
}
