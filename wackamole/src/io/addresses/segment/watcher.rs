//! The thread: hears frames, sends probes, samples counters, reports.

mod alive;
mod probes;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use tokio::sync::mpsc::UnboundedSender;
use wackamole_protocol::mac::{Claim, MacAddress};
use wackamole_protocol::time::{Duration, Instant};

use super::super::announcer::Announcer;
use super::super::mirror::Notice;
use super::super::netlink::{Heard, Monitor, Requests};
use super::claims::{Claims, Seen};
use super::filter::{self, Scope};
use super::groups::Groups;
use super::links::Links;
use super::listener::{Kind, Listener};
use super::queries::Queries;
use super::{Command, SegmentConfig, StartError};
use crate::env::AddressEvent;
use crate::io::{arp, clock, ndp};
use alive::Alive;
use probes::Probes;

/// Frames of one kind taken before anything else is looked at again.
const FRAMES_PER_TURN: usize = 256;

/// What the kernel may keep for us of changes of links. If it is not enough, all are read again.
const MONITOR_BUFFER_BYTES: usize = 1 << 20;

/// Owns the sockets.
#[derive(Debug)]
pub(super) struct Watcher {
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    woken: Arc<AtomicBool>,
    report: UnboundedSender<AddressEvent>,
    requests: Requests,
    monitor: Monitor,
    arp: Listener,
    ndp: Listener,
    announcer: Announcer,
    queries: Queries,
    groups: Groups,
    links: Links,
    /// Changes of links were lost and all must be read again.
    stale: bool,
    claims: Claims,
    /// What the filters are set to, and whether VIPs were learned since.
    scope: Scope,
    filters_stale: bool,
    probes: Probes,
    alive: Option<Alive>,
    /// What is to be read.
    ready: Ready,
}

/// What the kernel says is there to be read.
#[derive(Clone, Copy, Debug)]
struct Ready {
    wake: bool,
    links: bool,
    arp: bool,
    ndp: bool,
}

/// The owner has gone.
struct Dropped;

/// What a frame shows about an address.
struct Sighting {
    interface: u32,
    address: std::net::IpAddr,
    by: MacAddress,
    claim: Claim,
}

impl Watcher {
    pub(super) fn open(
        config: SegmentConfig,
        commands: Receiver<Command>,
        wake: Arc<EventFd>,
        woken: Arc<AtomicBool>,
        report: UnboundedSender<AddressEvent>,
    ) -> Result<Self, StartError> {
        // Listens before it reads, so that nothing falls between.
        let monitor = Monitor::of_links(MONITOR_BUFFER_BYTES)
            .map_err(StartError::new("listen to the kernel's changes of links"))?;
        let mut requests = Requests::open().map_err(StartError::new("open a netlink socket"))?;
        let queries = Queries::open().map_err(StartError::new("open a netlink socket"))?;
        let mut claims = Claims::new(config.heartbeat);
        for vip in &config.vips {
            claims.learn(vip);
        }
        let scope = Scope::Claims;
        let listen = |kind, filter: Vec<_>| {
            Listener::open(kind, &filter).map_err(StartError::new("open a packet socket"))
        };
        let arp = listen(Kind::Arp, filter::arp(scope, claims.addresses()))?;
        let ndp = listen(Kind::Ipv6, filter::ndp(scope, claims.addresses()))?;
        let mut announcer = Announcer::open().map_err(StartError::new("open a packet socket"))?;
        let mut links = Links::default();
        for notice in requests.dump_links().map_err(StartError::new("read the interfaces"))? {
            if let Notice::Link(index, _) = notice {
                // While there are few addresses to read.
                announcer.prepare(index);
            }
            links.apply(notice);
        }
        let alive = config.life.map(|life| {
            let mut alive = Alive::new(config.heartbeat, life);
            for vip in &config.vips {
                alive.learn(vip, &links, clock::boot_time());
            }
            alive
        });
        Ok(Self {
            commands,
            wake,
            woken,
            report,
            requests,
            monitor,
            arp,
            ndp,
            announcer,
            queries,
            groups: Groups::default(),
            links,
            stale: false,
            claims,
            scope,
            filters_stale: false,
            probes: Probes::new(),
            alive,
            ready: Ready { wake: false, links: true, arp: true, ndp: true },
        })
    }

    /// Watches until the owner has gone.
    pub(super) fn run(mut self) {
        while self.turn().is_ok() {}
    }

    fn turn(&mut self) -> Result<(), Dropped> {
        let now = clock::boot_time();
        if self.ready.links || self.stale {
            self.read_links(now);
        }
        self.take_commands(now)?;
        self.hear(now);
        self.send_probes(now);
        self.watch_for_life(now);
        self.set_filters();
        self.groups_step(now);
        self.wait();
        Ok(())
    }

    fn take_commands(&mut self, now: Instant) -> Result<(), Dropped> {
        if self.ready.wake {
            let _ = self.wake.read();
        }
        // Between that and reading the commands: whoever adds one from now on wakes us again.
        self.woken.store(false, Ordering::SeqCst);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Probe { ticket, vip }) => {
                    self.learn(&vip, now);
                    self.claims.probed(vip.id(), now);
                    self.prepare_probe(ticket, &vip);
                }
                Ok(Command::Held(vip)) => {
                    self.learn(&vip, now);
                    self.claims.hold(vip.id(), true);
                }
                Ok(Command::NotHeld(vip)) => self.claims.hold(vip, false),
                Ok(Command::Quiet(interface)) => {
                    if let Some(alive) = &mut self.alive {
                        alive.quiet(&interface, &self.links, &mut self.queries, now);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Dropped),
            }
        }
        // Before anything is sent that may be answered.
        self.set_filters();
        Ok(())
    }

    fn learn(&mut self, vip: &Arc<wackamole_protocol::vip::Vip>, now: Instant) {
        if self.claims.learn(vip) {
            self.filters_stale = true;
            if let Some(alive) = &mut self.alive {
                alive.learn(vip, &self.links, now);
            }
        }
    }

    fn set_filters(&mut self) {
        let curious = self.alive.as_ref().is_some_and(Alive::is_curious);
        let scope = if curious { Scope::Everything } else { Scope::Claims };
        if scope == self.scope && !self.filters_stale {
            return;
        }
        (self.scope, self.filters_stale) = (scope, false);
        let arp = self.arp.filter(&filter::arp(scope, self.claims.addresses()));
        let ndp = self.ndp.filter(&filter::ndp(scope, self.claims.addresses()));
        if let Err(error) = arp.and(ndp) {
            tracing::error!(%error, "cannot choose which frames to hear; claims may be missed");
        }
    }

    fn groups_step(&mut self, now: Instant) {
        if self.groups.due() <= now && self.probes.is_empty() {
            self.groups.step(now);
        }
    }

    /// Waits for commands, frames, changes of links, or time.
    fn wait(&mut self) {
        let mut due = self.probes.due().min(self.groups.due());
        if let Some(alive) = &self.alive {
            due = due.min(alive.due());
        }
        if self.stale || self.ready.arp || self.ready.ndp {
            due = Instant::ORIGIN; // there was more than fits into a turn
        }
        let timeout = (due != Instant::FAR_FUTURE).then(|| due.since(clock::boot_time()));
        let timeout = timeout.map(|timeout: Duration| TimeSpec::from_duration(timeout));
        let mut sources = [
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.arp.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.ndp.as_fd(), PollFlags::POLLIN),
        ];
        if let Err(error) = ppoll(&mut sources, timeout, None)
            && error != Errno::EINTR
        {
            tracing::error!(%error, "cannot wait for frames");
        }
        let is_ready = |at: usize| sources[at].any().unwrap_or(true);
        self.ready =
            Ready { wake: is_ready(0), links: is_ready(1), arp: is_ready(2), ndp: is_ready(3) };
    }

    fn emit(&self, event: AddressEvent) {
        // Without a listener the owner has gone, which the next turn finds out.
        let _ = self.report.send(event);
    }
}

/// Following interfaces.
impl Watcher {
    fn read_links(&mut self, now: Instant) {
        let mut changed = false;
        loop {
            match self.monitor.next() {
                Ok(Heard::Nothing) => break,
                Ok(Heard::Notices(notices)) => {
                    for notice in notices {
                        changed |= self.links.apply(notice);
                    }
                }
                Ok(Heard::Overrun) => self.stale = true,
                Err(error) => {
                    tracing::error!(%error, "cannot read the kernel's notifications");
                    self.stale = true;
                    break;
                }
            }
        }
        if self.stale {
            match self.requests.dump_links() {
                Ok(notices) => {
                    self.links = Links::default();
                    for notice in notices {
                        self.links.apply(notice);
                    }
                    (self.stale, changed) = (false, true);
                }
                Err(error) => tracing::error!(%error, "cannot read the interfaces"),
            }
        }
        if changed && let Some(alive) = &mut self.alive {
            alive.links_are(&self.links, now);
        }
    }
}

/// Hearing frames.
impl Watcher {
    fn hear(&mut self, now: Instant) {
        let mut sightings = Vec::new();
        if self.ready.arp {
            self.ready.arp = drain(&mut self.arp, |interface, frame| {
                sightings
                    .extend(self.links.get(interface).and_then(|_| read_arp(interface, frame)));
            });
        }
        if self.ready.ndp {
            let nonce = self.probes.nonce();
            self.ready.ndp = drain(&mut self.ndp, |interface, frame| {
                let packet = ndp::parse(frame).filter(|packet| packet.nonce != Some(nonce));
                sightings.extend(packet.and_then(|packet| read_ndp(interface, packet)));
            });
        }
        for sighting in sightings {
            self.saw(&sighting, now);
        }
    }

    fn saw(&mut self, sighting: &Sighting, now: Instant) {
        let &Sighting { interface, address, by, claim } = sighting;
        let Some(link) = self.links.get(interface) else { return };
        let Some(ours) = link.mac else { return };
        if self.links.is_own(by) {
            return;
        }
        if let Some(alive) = &mut self.alive {
            let station = (claim == Claim::Uses).then_some(address);
            alive.heard(&link.name, station, by, now);
        }
        // Whoever wants a VIP and does not go first matters to nobody; many of them must not hide the one who does.
        if claim == Claim::Wants && by > ours {
            return;
        }
        if let Some(Seen { vip, decides }) = self.claims.seen(address, &link.name, claim, now) {
            let ours = if decides { ours } else { by };
            self.emit(AddressEvent::Claimed { vip, by, ours, claim });
        }
    }
}

/// Takes what is there, up to a bound; returns whether there may be more.
fn drain(listener: &mut Listener, mut take: impl FnMut(u32, &[u8])) -> bool {
    for _ in 0..FRAMES_PER_TURN {
        match listener.next() {
            Ok(Some((interface, frame))) => take(interface, frame),
            Ok(None) => return false,
            Err(error) => {
                tracing::debug!(%error, "cannot read a frame");
                return false;
            }
        }
    }
    true
}

/// RFC 5227 §2.1.1 and §2.4: whoever sends from an address uses it, in whatever packet; who sends from none and asks
/// wants it.
fn read_arp(interface: u32, frame: &[u8]) -> Option<Sighting> {
    let packet = arp::parse(frame)?;
    let by = packet.sender_mac;
    let (address, claim) = match packet.sender {
        sender if !sender.is_unspecified() => (sender, Claim::Uses),
        _ if packet.request => (packet.target, Claim::Wants),
        _ => return None,
    };
    Some(Sighting { interface, address: address.into(), by, claim })
}

/// RFC 4862 §5.4: the same for IPv6. Who advertises an address uses it, and who asks from one does; who asks from none
/// wants what it asks for.
fn read_ndp(interface: u32, packet: ndp::NdpPacket) -> Option<Sighting> {
    let (address, claim) = match packet.source {
        _ if !packet.solicitation => (packet.target, Claim::Uses),
        source if source.is_unspecified() => (packet.target, Claim::Wants),
        source => (source, Claim::Uses),
    };
    Some(Sighting { interface, address: address.into(), by: packet.mac, claim })
}
