//! A whole cluster: machines on a LAN, a daemon on each, a client beside them, and every fault that a case needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::binary;
use crate::daemon::{self, Daemon};
use crate::holders::Holders;
use crate::host::Host;
use crate::lan::{Lan, Machine, Side};
use crate::mac::Mac;
use crate::plan::{Plan, PlannedVip};
use crate::prober::Prober;
use crate::sandbox::SCRATCH;
use crate::status::Status;
use crate::wait;
use crate::witness::Witness;

/// Where every machine has its configuration, its key and its daemon's memory. The directory is each machine's own.
const CONFIGURATION: &str = "/run/cluster.toml";
const KEY: &str = "/run/cluster.key";
const STATE: &str = "/run/state";
/// And the records of its daemons, if the plan wants them.
pub const RECORDS: &str = "/run/records";

/// How long a case waits for something that should happen within a second, on a machine that also compiles.
pub const SOON: Duration = Duration::from_secs(15);
/// A client asks each VIP this often.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(1);

/// Numbers of the clients on each segment.
const CLIENT: u8 = 100;
const FAR_CLIENT: u8 = 101;
/// And of the witness.
const WITNESS: u8 = 102;

/// A running cluster.
pub struct Cluster {
    /// What it is like.
    pub plan: Plan,
    /// The cabling.
    pub lan: Lan,
    /// A machine that is not in the cluster.
    pub client: Machine,
    /// Another one, on the far side.
    pub far_client: Machine,
    /// Who held what, and when.
    pub holders: Holders,
    nodes: BTreeMap<String, Node>,
}

struct Node {
    machine: Machine,
    daemon: Option<Daemon>,
    powered: bool,
}

impl Cluster {
    /// Builds the LAN, starts all daemons and waits until each VIP is held and the load is even.
    ///
    /// # Errors
    /// The kernel refuses something, or the cluster does not come up.
    pub fn start(plan: Plan) -> Result<Self> {
        let mut cluster = Self::build(plan)?;
        for name in cluster.plan.machines.clone() {
            cluster.start_daemon(&name)?;
        }
        cluster.wait_settled(&cluster.names())?;
        Ok(cluster)
    }

    /// Builds the LAN, with no daemon on it.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn build(plan: Plan) -> Result<Self> {
        let lan = Lan::new(plan.segments)?;
        let client = lan.machine("client", CLIENT, Side::Near)?;
        let far_client = lan.machine("far-client", FAR_CLIENT, Side::Far)?;
        let key = make_key(Path::new(SCRATCH))?;
        let mut nodes = BTreeMap::new();
        for (index, name) in plan.machines.iter().enumerate() {
            let machine = lan.machine(name, plan.number(index), Side::Near)?;
            let text = plan.configuration(KEY, STATE);
            install(machine.host(), &text, &key)?;
            nodes.insert(name.clone(), Node { machine, daemon: None, powered: true });
        }
        let holders = Holders::watch(nodes.values().map(|node| &node.machine))?;
        Ok(Self { plan, lan, client, far_client, holders, nodes })
    }

    /// The names of all machines in rank order.
    pub fn names(&self) -> Vec<&str> {
        self.plan.machines.iter().map(String::as_str).collect()
    }

    /// All machines but one, in rank order.
    pub fn others(&self, name: &str) -> Vec<&str> {
        self.names().into_iter().filter(|&other| other != name).collect()
    }

    /// A machine.
    ///
    /// # Panics
    /// If the plan has no such machine.
    pub fn machine(&self, name: &str) -> &Machine {
        &self.nodes[name].machine
    }

    /// The machine with this hardware address.
    pub fn machine_with(&self, mac: Mac) -> Option<&str> {
        let mut nodes = self.nodes.values();
        nodes.find(|node| node.machine.has(mac)).map(|node| node.machine.name())
    }

    /// The daemon that runs on a machine.
    ///
    /// # Errors
    /// None does.
    pub fn daemon(&mut self, name: &str) -> Result<&mut Daemon> {
        let node = self.nodes.get_mut(name).with_context(|| format!("no machine {name}"))?;
        node.daemon.as_mut().with_context(|| format!("no daemon runs on {name}"))
    }

    /// Gives a machine another configuration file, for its daemon's next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn reconfigure(&self, name: &str, plan: &Plan) -> Result<()> {
        let text = plan.configuration(KEY, STATE);
        self.machine(name).host().run(move || fs::write(CONFIGURATION, text))?;
        Ok(())
    }

    /// Gives a machine a key of its own, for its daemon's next start.
    ///
    /// # Errors
    /// No key can be made.
    pub fn replace_key(&self, name: &str) -> Result<()> {
        let key = make_key(Path::new(SCRATCH))?;
        self.machine(name).host().run(move || write_key(&key))?;
        Ok(())
    }

    /// Starts the daemon of a machine.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_daemon(&mut self, name: &str) -> Result<()> {
        let node = self.nodes.get_mut(name).with_context(|| format!("no machine {name}"))?;
        let record = self.plan.record.then_some(Path::new(RECORDS));
        let host = node.machine.host();
        node.daemon = Some(Daemon::start(host, Path::new(CONFIGURATION), record)?);
        Ok(())
    }

    /// Kills a daemon. Its guardian tidies up after it.
    ///
    /// # Errors
    /// No daemon runs there.
    pub fn kill_daemon(&mut self, name: &str) -> Result<()> {
        self.daemon(name)?.kill()?;
        self.forget_daemon(name);
        Ok(())
    }

    /// Kills a daemon and its guardian without a chance to tidy up. The kernel goes on answering for what they held.
    ///
    /// # Errors
    /// No daemon runs there.
    pub fn kill_daemon_with_guardian(&mut self, name: &str) -> Result<()> {
        self.daemon(name)?.kill_with_guardian()?;
        self.forget_daemon(name);
        Ok(())
    }

    /// Stops a daemon and its guardian in their tracks. [`Cluster::kill_daemon_with_guardian`] ends it.
    ///
    /// # Errors
    /// No daemon runs there.
    pub fn freeze_with_guardian(&mut self, name: &str) -> Result<()> {
        self.daemon(name)?.freeze_with_guardian()
    }

    /// Asks a daemon to leave (`SIGTERM`) and waits until it has.
    ///
    /// # Errors
    /// It does not end, or not with success.
    pub fn stop_daemon(&mut self, name: &str) -> Result<()> {
        let daemon = self.daemon(name)?;
        daemon.signal(Signal::SIGTERM)?;
        let status = daemon.wait(SOON)?;
        self.forget_daemon(name);
        ensure!(status.success(), "the daemon of {name} ended with {status}");
        Ok(())
    }

    /// Stops a daemon in its tracks (`SIGSTOP`), like a machine that swaps. Its guardian kills it at the end of its lease.
    ///
    /// # Errors
    /// No daemon runs there.
    pub fn freeze(&mut self, name: &str) -> Result<()> {
        self.daemon(name)?.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen daemon go on.
    ///
    /// # Errors
    /// No daemon runs there.
    pub fn thaw(&mut self, name: &str) -> Result<()> {
        self.daemon(name)?.signal(Signal::SIGCONT)
    }

    /// Cuts a machine's power: at once nothing passes its cables, then its processes are gone. Its interfaces stay until
    /// it has power again, out of everybody's reach: removing them holds a lock of the common kernel for long, and the
    /// other machines would wait for it.
    ///
    /// # Errors
    /// It has no power.
    pub fn power_off(&mut self, name: &str) -> Result<()> {
        let node = self.nodes.get_mut(name).with_context(|| format!("no machine {name}"))?;
        ensure!(node.powered, "{name} has no power");
        self.lan.kill_ports(&node.machine)?;
        self.holders.power_cut(&node.machine);
        node.powered = false;
        drop(node.daemon.take());
        Ok(())
    }

    /// Gives a machine its power back and starts its daemon.
    ///
    /// # Errors
    /// It has power.
    pub fn power_on(&mut self, name: &str) -> Result<()> {
        let node = self.nodes.get_mut(name).with_context(|| format!("no machine {name}"))?;
        ensure!(!node.powered, "{name} has power");
        self.lan.clear_away(&node.machine)?;
        self.lan.connect(&node.machine, Side::Near)?;
        node.powered = true;
        self.start_daemon(name)
    }

    /// Parts the LAN at one instant: `far` and the far client on one side, everybody else on the other.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn partition(&self, far: &[&str]) -> Result<()> {
        for (name, node) in &self.nodes {
            let side = if far.contains(&name.as_str()) { Side::Far } else { Side::Near };
            self.lan.move_to(&node.machine, side)?;
        }
        self.lan.part()
    }

    /// Joins the halves at one instant.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn heal(&self) -> Result<()> {
        self.lan.heal()
    }

    /// The records that the daemons of a machine have written so far, each with its file's name.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn records(&self, name: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let read = || -> std::io::Result<_> {
            let record = |entry: std::io::Result<fs::DirEntry>| {
                let path = entry?.path();
                Ok((path.display().to_string(), fs::read(&path)?))
            };
            fs::read_dir(RECORDS)?.map(record).collect()
        };
        self.machine(name)
            .host()
            .run(read)
            .with_context(|| format!("reading the records of {name}"))
    }

    /// The key that the machines share.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn key(&self) -> Result<Vec<u8>> {
        let any = self.nodes.values().next().context("a cluster without machines")?;
        any.machine.host().run(|| fs::read(KEY)).context("reading the key")
    }

    /// What the daemon of a machine says.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self, name: &str) -> Result<Status> {
        daemon::status(self.machine(name).host())
    }

    /// Starts a client that asks every address of every VIP each millisecond.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn probe(&self) -> Result<Prober> {
        Prober::start(self.client.host(), &self.plan.addresses(), PROBE_INTERVAL)
    }

    /// Plugs in one more machine, which asks the segments all the time who answers for each address of each VIP.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn witness(&self) -> Result<Witness> {
        let machine = self.lan.machine("witness", WITNESS, Side::Near)?;
        let addresses = self.plan.vips.iter().flat_map(|vip| vip.addresses.iter().cloned());
        Witness::start(machine, addresses)
    }

    /// Which of `among` hold an address by their kernels' word, at this moment.
    ///
    /// # Errors
    /// A kernel does not tell.
    pub fn holders_of(&self, address: IpAddr, among: &[&str]) -> Result<Vec<String>> {
        let mut holders = Vec::new();
        for &name in among {
            if self.held_by(name)?.contains(&address) {
                holders.push(name.to_owned());
            }
        }
        Ok(holders)
    }

    /// The VIP addresses that each of `among` holds by its kernel's word.
    ///
    /// # Errors
    /// A kernel does not tell.
    pub fn holdings(&self, among: &[&str]) -> Result<BTreeMap<String, BTreeSet<IpAddr>>> {
        let vips: BTreeSet<_> = self.plan.addresses().into_iter().collect();
        let held_by = |name: &str| -> Result<_> {
            Ok((name.to_owned(), self.held_by(name)?.intersection(&vips).copied().collect()))
        };
        among.iter().map(|name| held_by(name)).collect()
    }

    /// What a machine's kernel answers for; nothing without power.
    fn held_by(&self, name: &str) -> Result<BTreeSet<IpAddr>> {
        let node = &self.nodes[name];
        if node.powered { node.machine.held() } else { Ok(BTreeSet::new()) }
    }

    /// Waits until the daemons of exactly `members` are in one view and each VIP is held, whole, by one of them.
    ///
    /// # Errors
    /// It does not happen soon; the error says what is missing.
    pub fn wait_served(&self, members: &[&str]) -> Result<()> {
        self.wait_for("serves", || self.served(members))
    }

    /// As [`Cluster::wait_served`], and the load is even.
    ///
    /// # Errors
    /// It does not happen soon; the error says what is missing.
    pub fn wait_settled(&self, members: &[&str]) -> Result<()> {
        self.wait_for("has settled", || self.settled(members))
    }

    /// As [`Cluster::served`], and the numbers of VIPs differ by at most one. VIPs with a preference go where they
    /// belong and do not count.
    ///
    /// # Errors
    /// That is not so; the error says why.
    pub fn settled(&self, members: &[&str]) -> Result<()> {
        self.served(members)?;
        let free = self.plan.vips.iter().filter(|vip| vip.prefer.is_empty());
        let loads: Vec<_> = self.loads_of(free, members)?.into_values().collect();
        let (least, most) = (loads.iter().min(), loads.iter().max());
        ensure!(
            most.zip(least).is_none_or(|(most, least)| most - least <= 1),
            "the load is uneven: {loads:?}"
        );
        Ok(())
    }

    /// How many VIPs each of `members` holds by its kernel's word.
    ///
    /// # Errors
    /// A kernel does not tell.
    pub fn loads(&self, members: &[&str]) -> Result<BTreeMap<String, usize>> {
        self.loads_of(self.plan.vips.iter(), members)
    }

    fn loads_of<'a>(
        &self,
        vips: impl Iterator<Item = &'a PlannedVip> + Clone,
        members: &[&str],
    ) -> Result<BTreeMap<String, usize>> {
        let load = |held: BTreeSet<IpAddr>| {
            let whole = |vip: &&PlannedVip| vip.addresses.iter().all(|(a, _)| held.contains(a));
            vips.clone().filter(whole).count()
        };
        let holdings = self.holdings(members)?;
        Ok(holdings.into_iter().map(|(name, held)| (name, load(held))).collect())
    }

    /// Each VIP is held, whole, by exactly one of `members`, and they are in one view without anybody else.
    ///
    /// # Errors
    /// That is not so; the error says why.
    pub fn served(&self, members: &[&str]) -> Result<()> {
        let holdings = self.holdings(members)?;
        for vip in &self.plan.vips {
            let holders = |address: &IpAddr| -> BTreeSet<&str> {
                holdings.iter().filter(|h| h.1.contains(address)).map(|h| h.0.as_str()).collect()
            };
            let mut whole = vip.addresses.iter().map(|(address, _)| holders(address));
            let first = whole.next().unwrap_or_default();
            ensure!(first.len() == 1, "{} is held by {first:?}", vip.name);
            ensure!(whole.all(|other| other == first), "the addresses of {} are apart", vip.name);
        }
        for member in members {
            let status = self.status(member)?;
            ensure!(status.members() == members, "{member} is in a view of {:?}", status.members());
            let immature = status.nodes.iter().find(|n| members.contains(&&*n.name) && !n.mature);
            ensure!(immature.is_none(), "{member} still waits for {immature:?} to mature");
        }
        Ok(())
    }

    fn wait_for(&self, what: &str, mut condition: impl FnMut() -> Result<()>) -> Result<()> {
        let mut missing = None;
        let reached = wait::until(&format!("the cluster {what}"), SOON, || {
            missing = condition().err();
            missing.is_none()
        });
        match (reached, missing) {
            (Ok(()), _) => Ok(()),
            (Err(error), Some(missing)) => bail!("{error}: {missing:#}"),
            (Err(error), None) => Err(error),
        }
    }

    fn forget_daemon(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.daemon = None;
        }
    }
}

/// Makes a cluster key with the program itself and returns the file's content.
fn make_key(directory: &Path) -> Result<Vec<u8>> {
    let file = directory.join("new.key");
    let output = Command::new(binary::path()?)
        .arg("genkey")
        .arg(&file)
        .output()
        .context("starting wackamole genkey")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "wackamole genkey: {}", said.trim());
    let key = fs::read(&file).context("reading the new key")?;
    fs::remove_file(&file).context("removing the new key")?;
    Ok(key)
}

fn install(host: &Host, configuration: &str, key: &[u8]) -> Result<()> {
    let (text, key) = (configuration.to_owned(), key.to_owned());
    host.run(move || fs::write(CONFIGURATION, text).and_then(|()| write_key(&key)))
        .with_context(|| format!("writing the configuration of {}", host.name()))
}

/// The daemon refuses a key that others can read, so the file has the right mode from its first moment.
fn write_key(key: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(KEY)?;
    file.write_all(key)
}
