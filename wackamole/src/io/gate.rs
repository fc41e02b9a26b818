//! The gate: the kernel itself drops what concerns a VIP, unless the VIP is open here and the lease runs (design: fences).
//!
//! It is two nf_tables tables of one name (`nft list table inet wackamole`, `nft list table arp wackamole`), made of
//! `gate/ruleset.rs`, spoken to through netlink. The lease in them has a timeout of its own, so the gate shuts by itself when
//! this process is stopped, killed or late; the tables outlive it. It opens a VIP after its addresses are on the
//! interface and shuts it before they are removed, both at once for all the addresses of many VIPs.
//!
//! The timeout counts in jiffies: it ends up to two of them early (8 ms at 250 Hz), never late while the kernel's tick
//! runs. Jiffies stand still while the machine is suspended, and CLOCK_BOOTTIME does not: then what is left of the lease
//! is left on waking up as well, until this program's threads run and shut the gate.

mod keeper;
mod message;
mod ruleset;
mod schedule;
mod socket;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::libc;

use crate::env::Lease;
use keeper::{Keeper, Mailbox};
use message::Family;
use socket::GateSocket;

/// Names of tables are as long as that (NFT_NAME_MAXLEN), with the final zero.
const NAME_MAX: usize = 255;

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The kernel has no nf_tables, or not all that the gate is made of.
    #[error(
        "this kernel has no nf_tables for the families arp and inet, with sets and fib lookups: {0}"
    )]
    Unsupported(io::Error),
    /// The kernel refuses.
    #[error("not permitted to change nf_tables; CAP_NET_ADMIN is needed")]
    NotPermitted,
    /// Anything else.
    #[error("cannot {doing}: {source}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

impl GateError {
    fn new(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted,
            // No such netlink protocol, no such subsystem, no such family; no such expression or kind of chain.
            Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::ENOENT) => {
                Self::Unsupported(source)
            }
            _ => Self::Failed { doing, source },
        }
    }
}

/// The name of a cluster's tables, `wackamole_` and the cluster's name: letters, digits, `_`, `-` and `.` of it as they
/// are, anything else as `_`.
pub fn table_name(cluster: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let cluster = cluster.chars().map(|c| if harmless(c) { c } else { '_' });
    "wackamole_".chars().chain(cluster).take(NAME_MAX).collect()
}

/// A gate that stands in this machine's network namespace. Clones are handles to the same one.
///
/// When the last handle is dropped the gate stays as it is: it shuts when the lease that it was given ends.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Arc<Table>,
    mailbox: Arc<Mailbox>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

/// The tables, and what is in them that the program must know to make them again.
#[derive(Debug)]
struct Table {
    name: String,
    vips: BTreeSet<IpAddr>,
    content: Mutex<Content>,
    /// The kernel updates the timeout of an element that is there (Linux 6.12).
    in_place: bool,
    /// The number of the last renewal, counted from a random one.
    renewal: AtomicU32,
}

#[derive(Debug, Default)]
struct Content {
    /// What is open.
    open: BTreeSet<IpAddr>,
    /// The tables were removed at our own request and must not be made again.
    removed: bool,
}

impl Gate {
    /// Makes the gate anew, shut, in the network namespace of the calling thread, and starts the thread that keeps its lease.
    /// It governs `vips`: all addresses of configured VIPs, and those that an earlier start may have left.
    ///
    /// # Errors
    /// [`GateError`]; an older gate of this name may stand as it was.
    pub fn install(name: &str, vips: BTreeSet<IpAddr>) -> Result<Self, GateError> {
        let mut socket = GateSocket::open().map_err(GateError::new("open a netlink socket"))?;
        let renewal = getrandom::u32()
            .map_err(|error| GateError::new("get a random number")(io::Error::other(error)))?;
        socket
            .commit(|batch| ruleset::install(batch, name, vips.iter(), renewal))
            .map_err(GateError::new("make the tables of the gate"))?;
        Self::keep(name, vips, renewal, socket).inspect_err(|_| {
            // Nobody would ever open it.
            if let Err(error) = remove(name) {
                tracing::error!(%error, "cannot remove a gate that is of no use");
            }
        })
    }

    /// Takes charge of tables that have just been made.
    fn keep(
        name: &str,
        vips: BTreeSet<IpAddr>,
        renewal: u32,
        mut socket: GateSocket,
    ) -> Result<Self, GateError> {
        let in_place = updates_in_place(&mut socket, name)
            .map_err(GateError::new("find out how a lease is renewed"))?;
        let (content, renewal) = (Mutex::default(), AtomicU32::new(renewal));
        let table = Table { name: name.to_owned(), vips, content, in_place, renewal };
        let shared = Shared { table: Arc::new(table), mailbox: Arc::new(Mailbox::new()) };
        let keeper = Keeper {
            table: Arc::clone(&shared.table),
            mailbox: Arc::clone(&shared.mailbox),
            socket,
        };
        std::thread::Builder::new()
            .name("gate".into())
            .spawn(move || keeper.run())
            .map_err(GateError::new("start a thread"))?;
        Ok(Self(Arc::new(shared)))
    }

    /// What is open passes until the end of the lease. Never waits: a thread tells the kernel, an earlier end at once, a
    /// later one when half of what the kernel has is over.
    pub fn renew(&self, lease: Lease) {
        self.0.mailbox.put(lease);
    }

    /// Removes the gate after everything has been released. What is asked of it later has no effect.
    ///
    /// # Errors
    /// [`GateError`]; then it still stands, shut or soon to be.
    pub fn remove(&self) -> Result<(), GateError> {
        let table = &self.0.table;
        let mut content = table.lock();
        content.removed = true;
        self.0.mailbox.close();
        remove(&table.name)
    }

    /// The other half: opening and shutting, with a socket of its own.
    ///
    /// # Errors
    /// No socket can be opened.
    pub fn doors(&self) -> io::Result<Doors> {
        let Shared { table, mailbox } = &*self.0;
        let (table, mailbox) = (Arc::clone(table), Arc::clone(mailbox));
        Ok(Doors { table, mailbox, socket: GateSocket::open()? })
    }
}

/// Opens and shuts addresses. Each call is one transaction of the kernel, which has taken effect on return.
#[derive(Debug)]
pub struct Doors {
    table: Arc<Table>,
    mailbox: Arc<Mailbox>,
    socket: GateSocket,
}

impl Doors {
    /// Lets the kernel answer for `addresses` while the lease runs. Those that are open stay open.
    ///
    /// # Errors
    /// Whatever the kernel says; then nothing is opened.
    pub fn open(&mut self, addresses: &BTreeSet<IpAddr>) -> io::Result<()> {
        let Self { table, mailbox, socket } = self;
        let mut content = table.lock();
        let result = socket.commit(|batch| ruleset::open(batch, &table.name, addresses.iter()));
        let before = content.open.clone();
        content.open.extend(addresses);
        let (anew, result) = table.restored(result, socket, &content);
        if anew {
            mailbox.lost();
        }
        if result.is_err() {
            content.open = before;
        }
        result
    }

    /// From now on the kernel drops what concerns `addresses`. Those that are shut stay shut.
    ///
    /// # Errors
    /// Whatever the kernel says; then they may still be open.
    pub fn shut(&mut self, addresses: &BTreeSet<IpAddr>) -> io::Result<()> {
        let Self { table, mailbox, socket } = self;
        let mut content = table.lock();
        let shut: Vec<_> = content.open.intersection(addresses).copied().collect();
        if shut.is_empty() {
            return Ok(());
        }
        let result = socket.commit(|batch| ruleset::shut(batch, &table.name, shut.iter()));
        content.open.retain(|address| !addresses.contains(address));
        let (anew, result) = table.restored(result, socket, &content);
        if anew {
            mailbox.lost();
        }
        if result.is_err() {
            content.open.extend(shut);
        }
        result
    }

    /// Whether the gate governs all of `addresses`, and none is open.
    pub fn are_shut(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        addresses.is_subset(&self.table.vips) && addresses.is_disjoint(&self.table.lock().open)
    }
}

impl Table {
    /// A set of plain values: whoever panicked has left it whole.
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// If the kernel has said that there is no such table or element, makes all again: `nft flush ruleset`, with which many
    /// firewalls start, removes everybody's, and a ruleset that was saved while we ran brings back what was there then. Says whether
    /// it has; then there is no lease.
    fn restored(
        &self,
        result: io::Result<()>,
        socket: &mut GateSocket,
        content: &Content,
    ) -> (bool, io::Result<()>) {
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && !content.removed => {
                tracing::warn!(
                    table = self.name,
                    "somebody has removed the gate's tables, or what is in them, or has brought back old ones; they are made \
                     again"
                );
                let renewal = self.renewal.load(Ordering::Relaxed);
                let result = socket.commit(|batch| {
                    ruleset::install(batch, &self.name, self.vips.iter(), renewal);
                    ruleset::open(batch, &self.name, content.open.iter());
                });
                (result.is_ok(), result)
            }
            result => (false, result),
        }
    }
}

/// Whether the kernel updates an element that is there, or ignores the attempt, as it did before Linux 6.12: tried on an
/// element that lets nothing pass.
fn updates_in_place(socket: &mut GateSocket, table: &str) -> io::Result<bool> {
    const LONG_MS: u64 = 60_000;
    const SHORT_MS: u64 = 30_000;
    for timeout in [LONG_MS, SHORT_MS] {
        let trial = [ruleset::ETHER_TYPE_TRIAL];
        socket.commit(|b| ruleset::lease_element(b, Family::Inet, table, &trial, timeout))?;
    }
    let found = socket.ask(libc::NFT_MSG_GETSETELEM, Family::Inet, |question| {
        ruleset::ask_lease_element(question, table, ruleset::ETHER_TYPE_TRIAL);
    })?;
    socket.commit(|batch| ruleset::end_lease(batch, table))?;
    Ok(ruleset::timeout_of_first_element(&found).is_some_and(|ms| ms <= SHORT_MS))
}

/// The socket through which a gate was shut. The kernel takes 10 to 30 ms to close one that has changed nf_tables, because it
/// waits for RCU: whoever is in a hurry keeps this until there is time.
#[derive(Debug)]
pub struct Shut {
    _socket: Option<GateSocket>,
}

/// Shuts the gate called `name`, whoever made it: ends its lease and shuts every VIP. Fine if there is none.
///
/// # Errors
/// [`GateError`], other than that there is no such gate.
pub fn shut(name: &str) -> Result<Shut, GateError> {
    in_both_tables("shut the gate", |socket, family| {
        socket.commit(|batch| ruleset::shut_all(batch, family, name))
    })
}

/// Removes the gate called `name`, whoever made it, after everything has been released. Fine if there is none.
///
/// # Errors
/// [`GateError`], other than that there is no such gate.
pub fn remove(name: &str) -> Result<(), GateError> {
    in_both_tables("remove the gate", |socket, family| {
        socket.commit(|batch| ruleset::delete_table(batch, family, name))
    })
    .map(|_| ())
}

fn in_both_tables(
    doing: &'static str,
    mut action: impl FnMut(&mut GateSocket, Family) -> io::Result<()>,
) -> Result<Shut, GateError> {
    let mut socket = match GateSocket::open() {
        // Without nf_tables there is no gate.
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => {
            return Ok(Shut { _socket: None });
        }
        result => result.map_err(GateError::new(doing))?,
    };
    let mut result = Ok(());
    for family in [Family::Inet, Family::Arp] {
        match action(&mut socket, family) {
            Err(error) if is_absence(&error) => {}
            // The other table is for the other half of the traffic.
            outcome => result = result.and(outcome.map_err(GateError::new(doing))),
        }
    }
    result.map(|()| Shut { _socket: Some(socket) })
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_called_after_its_cluster_in_words_that_nft_reads() {
        assert_eq!(table_name("web"), "wackamole_web");
        assert_eq!(table_name("web-1.example \"x\""), "wackamole_web-1.example__x_");
        assert_eq!(table_name(&"ü".repeat(300)).len(), NAME_MAX);
    }
}
