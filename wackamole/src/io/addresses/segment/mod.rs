//! The segments that VIPs live on, as far as frames show them: probes for VIPs, claims of others, signs of life.
//!
//! All of it runs on a thread of its own, with its own sockets, so that a probe never waits for address work and a claim is
//! known at once. `claims` decides which claims are worth reporting, `life` whether an interface is alive, `questions` whom
//! to ask for a sign; all three are pure. `watcher` feeds them, through `listener` (frames), `queries` (the kernel's
//! counters and routes), `filter` (which frames wake it) and `groups` (multicast). docs/fences.md says why so.

mod claims;
mod filter;
mod groups;
mod life;
mod links;
mod listener;
mod queries;
mod questions;
mod watcher;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::vip::{Vip, VipId};

use super::StartError;
use crate::env::AddressEvent;
use crate::io::arrivals::Arrivals;

/// How the segments are watched.
#[derive(Clone, Debug)]
pub struct SegmentConfig {
    /// The cluster's heartbeat: the pace of what is reported and looked at.
    pub heartbeat: Duration,
    /// All configured VIPs. Others become known when they are probed or acquired.
    pub vips: Vec<Arc<Vip>>,
    /// Watch for signs of life, and report VIPs that cannot be served without ([`AddressEvent::Servable`]).
    pub life: Option<LifeConfig>,
}

impl Default for SegmentConfig {
    /// A heartbeat of 100 ms, no VIPs known in advance, no watch for signs of life.
    fn default() -> Self {
        Self { heartbeat: Duration::from_millis(100), vips: Vec::new(), life: None }
    }
}

/// How signs of life are watched for.
#[derive(Clone, Debug)]
pub struct LifeConfig {
    /// An interface on which nothing was heard for so long shows no sign of life.
    pub silence: Duration,
    /// Where the other nodes' daemons listen: asked for a sign where they are on the VIPs' own segment.
    pub peers: Vec<IpAddr>,
    /// On which interfaces heartbeats are heard. While they are, nothing else is looked at.
    pub heartbeats: Vec<Heartbeats>,
}

/// Heartbeats that are heard on an interface.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    /// The interface.
    pub interface: String,
    /// Which of this node's networks it is on.
    pub network: usize,
    /// When the last one came in.
    pub arrivals: Arc<Arrivals>,
}

impl Heartbeats {
    fn latest(&self) -> Instant {
        self.arrivals.latest(self.network)
    }
}

/// What the watcher is told.
#[derive(Debug)]
enum Command {
    Probe {
        ticket: u64,
        vip: Arc<Vip>,
    },
    Held(Arc<Vip>),
    NotHeld(VipId),
    /// The heartbeats on an interface have stopped.
    Quiet(String),
}

/// The watcher as its owner sees it. Its thread ends soon after this is dropped.
#[derive(Debug)]
pub(super) struct Segment {
    commands: mpsc::Sender<Command>,
    wake: Arc<EventFd>,
    /// The watcher has been woken and has not looked yet.
    woken: Arc<AtomicBool>,
    /// The VIPs that the watcher's filters know.
    known: BTreeSet<VipId>,
    /// The heartbeats that the watcher relies on, and the last one before a silence that it was told of.
    heartbeats: Vec<(Heartbeats, Instant)>,
    quiet_after: Duration,
    pub(super) events: UnboundedReceiver<AddressEvent>,
}

impl Segment {
    /// Opens the sockets and starts the thread, in the network namespace of the calling thread.
    pub(super) fn start(config: SegmentConfig) -> Result<Self, StartError> {
        let (commands, received) = mpsc::channel();
        let (report, events) = unbounded_channel();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = EventFd::from_flags(flags)
            .map_err(std::io::Error::from)
            .map_err(StartError::new("open an eventfd"))?;
        let wake = Arc::new(wake);
        let known = config.vips.iter().map(|vip| vip.id()).collect();
        let woken = Arc::new(AtomicBool::new(false));
        let life = config.life.as_ref();
        let heartbeats = life.map_or_else(Vec::new, |life| life.heartbeats.clone());
        let heartbeats = heartbeats.into_iter().map(|h| (h, Instant::ORIGIN)).collect();
        let quiet_after = life.map_or(Duration::MAX, |life| life::quiet_after(life.silence));
        let watcher =
            watcher::Watcher::open(config, received, wake.clone(), woken.clone(), report)?;
        std::thread::Builder::new()
            .name("segment".into())
            .spawn(move || watcher.run())
            .map_err(StartError::new("start a thread"))?;
        Ok(Self { commands, wake, woken, known, heartbeats, quiet_after, events })
    }

    /// Asks the segment who has a VIP; never waits.
    pub(super) fn probe(&self, ticket: u64, vip: Arc<Vip>) {
        self.tell(Command::Probe { ticket, vip });
        self.wake();
    }

    /// From now on claims on a VIP are of interest. Nobody is woken for that, but if its frames would not pass the filters:
    /// it is read before the next frame is.
    pub(super) fn held(&mut self, vip: Arc<Vip>) {
        let new = self.known.insert(vip.id());
        self.tell(Command::Held(vip));
        if new {
            self.wake();
        }
    }

    /// Claims on a VIP are what its new holder makes.
    pub(super) fn not_held(&self, vip: VipId) {
        self.tell(Command::NotHeld(vip));
    }

    /// To be called whenever the driver is awake, which it is in each heartbeat: tells the watcher when heartbeats have
    /// stopped, so that it needs no timer of its own while they come in. If the driver stands still nobody
    /// needs to know.
    pub(super) fn look_at_heartbeats(&mut self, now: Instant) {
        let mut quiet = Vec::new();
        for (heartbeats, told) in &mut self.heartbeats {
            let latest = heartbeats.latest();
            if latest != *told && now.since(latest) >= self.quiet_after {
                *told = latest;
                quiet.push(heartbeats.interface.clone());
            }
        }
        for interface in quiet {
            self.tell(Command::Quiet(interface));
            self.wake();
        }
    }

    fn tell(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the watcher of the segment has ended before its owner");
        }
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            // Fails only if the counter is at its maximum, and then the watcher is awake.
            let _ = self.wake.write(1);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.commands = closed; // the watcher finds its channel disconnected
        self.woken.store(false, Ordering::SeqCst);
        self.wake();
    }
}
