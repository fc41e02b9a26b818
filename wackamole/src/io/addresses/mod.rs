//! The machine's addresses through rtnetlink, on a thread of their own, because the kernel may take its time and
//! heartbeats never wait for address work.
//!
//! Our addresses carry a mark of their own (`IFA_PROTO`, ip-address(8) `proto`), so that a clean-up never touches anybody
//! else's. What is held comes from the kernel: a `mirror::Mirror` follows its notifications and is read again as a
//! whole when some were lost. [`crate::queue::Queue`] decides in which order work is done, `worker::Worker` does it.

mod announcer;
mod leftovers;
mod lifetimes;
mod mirror;
mod netlink;
mod releases;
mod secondaries;
mod segment;
mod worker;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Poll, ready};

use nix::ifaddrs::getifaddrs;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::io::gate::Gate;
use lifetimes::LeaseCell;
pub use lifetimes::{SECONDS_ALONE, SECONDS_BEHIND_GATE};
use wackamole_protocol::vip::Vip;

pub use self::segment::{Heartbeats, LifeConfig, SegmentConfig};
use crate::env::{Action, AddressEvent, Addresses, Lease, Work};
use crate::io::clock::boot_time;
use releases::Releases;
use segment::Segment;
use worker::Submitted;

pub use leftovers::{LeftoversError, look_for_leftovers, remove_leftovers};

/// The `IFA_PROTO` of our addresses: `w`. Values up to 3 belong to the kernel, the rest to whoever sets them.
///
/// Kernels before 5.18 do not store it. There an address counts as ours if we put it there ourselves or, at the
/// clean-up, if an earlier start may have and it is flagged `noprefixroute`, as ours are.
pub const MARK: u8 = b'w';

/// What the kernel may keep for us of notifications while the worker is busy: some ten thousand.
const MONITOR_BUFFER_BYTES: usize = 8 << 20;

/// Why the address worker cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {source}{}", hint(source))]
pub struct StartError {
    doing: &'static str,
    source: io::Error,
}

impl StartError {
    fn new(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { doing, source }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; CAP_NET_ADMIN and CAP_NET_RAW are needed",
        _ => "",
    }
}

/// How the worker is set up.
#[derive(Clone, Debug)]
pub struct AddressesConfig {
    /// What [`crate::env::Action::CleanUp`] may remove, if it carries our mark: the addresses of all configured VIPs,
    /// and those that an earlier start may have held ([`crate::io::store::StateDirectory::may_hold`]).
    pub may_clean_up: BTreeSet<IpAddr>,
    /// Receive buffer for the kernel's notifications. If it overflows, everything is read again.
    pub monitor_buffer_bytes: usize,
    /// Where VIPs are opened after their addresses are there and shut before these are removed.
    pub gate: Option<Gate>,
    /// How long the kernel keeps our addresses, in seconds, if they are not renewed, which they are while the lease
    /// runs; `None` is for ever.
    pub lifetime_seconds: Option<u32>,
    /// How the segments of the VIPs are watched.
    pub segment: SegmentConfig,
}

impl AddressesConfig {
    /// The usual settings, without fences: no gate, and addresses live for ever.
    pub fn new(may_clean_up: BTreeSet<IpAddr>) -> Self {
        Self {
            may_clean_up,
            monitor_buffer_bytes: MONITOR_BUFFER_BYTES,
            gate: None,
            lifetime_seconds: None,
            segment: SegmentConfig::default(),
        }
    }

    /// With a gate, if there is one, and with the lifetime that goes with that.
    pub fn with_fences(mut self, gate: Option<Gate>) -> Self {
        let seconds = if gate.is_some() { SECONDS_BEHIND_GATE } else { SECONDS_ALONE };
        self.lifetime_seconds = Some(seconds);
        self.gate = gate;
        self
    }
}

/// Something that silences this machine when its lease ends, whatever the program is doing then.
pub trait Fence: std::fmt::Debug {
    /// The lease is this one from now on. Called on the driver's thread: never waits.
    fn renew(&self, lease: Lease);
}

impl Fence for Gate {
    fn renew(&self, lease: Lease) {
        Self::renew(self, lease);
    }
}

/// This machine's addresses. The worker thread ends soon after this is dropped; work not yet begun is left undone.
#[derive(Debug)]
pub struct NetlinkAddresses {
    work: mpsc::Sender<Submitted>,
    wake: Arc<EventFd>,
    events: RefCell<UnboundedReceiver<AddressEvent>>,
    lease: Arc<LeaseCell>,
    releases: Arc<Releases>,
    gate: Option<Gate>,
    /// The lease that the gate has not been told, because what is to be released is not shut yet.
    held_back: Cell<Option<Lease>>,
    fences: Vec<Box<dyn Fence>>,
    segment: RefCell<Segment>,
    /// Acquires under way, by ticket: once they succeed, claims on the VIP are of interest.
    acquires: RefCell<BTreeMap<u64, Arc<Vip>>>,
}

impl NetlinkAddresses {
    /// Opens the sockets and starts the worker thread, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// A socket cannot be opened (CAP_NET_RAW is needed), or the present addresses cannot be read.
    pub fn start(config: AddressesConfig) -> Result<Self, StartError> {
        let (work, submitted) = mpsc::channel();
        let (report, events) = unbounded_channel();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = EventFd::from_flags(flags)
            .map_err(io::Error::from)
            .map_err(StartError::new("open an eventfd"))?;
        let wake = Arc::new(wake);
        let lease = Arc::new(LeaseCell::default());
        let releases = Arc::new(Releases::default());
        let gate = config.gate.clone();
        let segment = RefCell::new(Segment::start(config.segment.clone())?);
        let worker = worker::Worker::open(
            config,
            submitted,
            wake.clone(),
            Arc::clone(&lease),
            Arc::clone(&releases),
            report,
        )?;
        std::thread::Builder::new()
            .name("addresses".into())
            .spawn(move || worker.run())
            .map_err(StartError::new("start a thread"))?;
        let (events, acquires) = (RefCell::new(events), RefCell::default());
        Ok(Self {
            work,
            wake,
            events,
            lease,
            releases,
            gate,
            held_back: Cell::new(None),
            fences: Vec::new(),
            segment,
            acquires,
        })
    }

    /// From now on this fence is told of the lease too, after the gate and before the address worker.
    pub fn add_fence(&mut self, fence: Box<dyn Fence>) {
        self.fences.push(fence);
    }

    /// Tells the watcher of the segment what a report of the worker means for it.
    fn follow(&self, event: &AddressEvent) {
        if let Some(lease) = self.held_back.get() {
            self.renew_gate(lease);
        }
        match event {
            AddressEvent::Done { ticket, result } => {
                let acquired = self.acquires.borrow_mut().remove(ticket);
                if let (Some(vip), Ok(())) = (acquired, result) {
                    self.segment.borrow_mut().held(vip);
                }
            }
            AddressEvent::Vanished(vip) => self.segment.borrow().not_held(*vip),
            AddressEvent::InterfacesChanged
            | AddressEvent::Claimed { .. }
            | AddressEvent::Servable { .. } => {}
        }
    }

    /// Tells the gate of the lease, or waits with that; see [`Releases`].
    fn renew_gate(&self, lease: Lease) {
        let Some(gate) = &self.gate else { return };
        if self.releases.wait() {
            self.held_back.set(Some(lease));
        } else {
            self.held_back.set(None);
            gate.renew(lease);
        }
    }

    fn wake_worker(&self) {
        // Fails only if the counter is at its maximum, and then the worker is awake.
        let _ = self.wake.write(1);
    }
}

impl Addresses for NetlinkAddresses {
    fn submit(&self, work: Work) {
        match &work.action {
            // Probes do not wait for address work.
            Action::Probe(vip) => {
                self.segment.borrow().probe(work.ticket, Arc::clone(vip));
                return;
            }
            Action::Acquire(vip) => {
                self.acquires.borrow_mut().insert(work.ticket, Arc::clone(vip));
            }
            Action::Release(vip) => {
                self.releases.ask();
                self.segment.borrow().not_held(vip.id());
            }
            Action::CleanUp | Action::Announce(_) | Action::FenceNode(_) => {}
        }
        if self.work.send((work, self.lease.permission())).is_err() {
            tracing::error!("the address worker has ended before its owner");
        }
        self.wake_worker();
    }

    /// # Panics
    /// If the worker thread has panicked: a daemon that cannot release must not go on. Or the watcher of the segment: nor
    /// must one that does not see who else answers.
    async fn next(&self) -> AddressEvent {
        std::future::poll_fn(|context| {
            self.segment.borrow_mut().look_at_heartbeats(boot_time());
            if let Poll::Ready(event) = self.events.borrow_mut().poll_recv(context) {
                let event = event.expect("the address worker lives as long as its owner");
                self.follow(&event);
                return Poll::Ready(event);
            }
            let event = ready!(self.segment.borrow_mut().events.poll_recv(context));
            Poll::Ready(event.expect("the watcher of the segment lives as long as its owner"))
        })
        .await
    }

    fn renew(&self, lease: Lease) {
        self.renew_gate(lease);
        for fence in &self.fences {
            fence.renew(lease);
        }
        self.lease.put(lease, boot_time());
    }
}

impl Drop for NetlinkAddresses {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.work = closed; // the worker finds its channel disconnected
        self.wake_worker();
    }
}

/// The machine's interfaces and their present addresses, VIPs included.
///
/// # Errors
/// Whatever getifaddrs(3) says.
pub fn interfaces() -> io::Result<BTreeMap<String, BTreeSet<IpAddr>>> {
    let mut interfaces: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for entry in getifaddrs()? {
        let addresses = interfaces.entry(entry.interface_name).or_default();
        let Some(storage) = entry.address else { continue };
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        addresses.extend(v4.or_else(|| storage.as_sockaddr_in6().map(|v6| v6.ip().into())));
    }
    Ok(interfaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_loopback_interface() {
        assert!(interfaces().unwrap().contains_key("lo"));
    }
}
