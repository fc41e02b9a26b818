//! Sending probes, at the pace of the devices.
//!
//! That a probe is not answered says something only if an answer could have been heard. So somebody who should be there is
//! asked as well, and a probe fails if no frame at all has come in on its interface since the one before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::vip::{Vip, VipAddress, VipId};

use super::super::super::announcer::SendError;
use super::super::super::mirror::Link;
use super::Watcher;
use crate::env::{AddressError, AddressEvent};
use crate::io::arp::arp_probe;
use crate::io::ethernet::MacAddress;
use crate::io::{clock, ndp};

/// Frames sent before what has come in is looked at.
const FRAMES_PER_TURN: usize = 32;
/// Pause when a device takes no more frames, and so many without one going out make the probe fail.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSES_MAX: u32 = 200;
/// For how long to hear others' probes for an IPv6 address after our last one.
const HEAR_OTHERS: Duration = Duration::from_secs(3);

/// Probes that wait.
#[derive(Debug)]
pub(super) struct Probes {
    waiting: VecDeque<Probe>,
    /// Tells our probes from others', should a switch send them back.
    nonce: ndp::Nonce,
    /// The device at the head takes no frames until then.
    paused_until: Option<Instant>,
    pauses: u32,
    /// By interface: when somebody was asked last, and how many frames had come in by then.
    asked: BTreeMap<u32, (Instant, u64)>,
    /// By VIP and interface: how many frames had come in when the VIP was probed last.
    counted: BTreeMap<(VipId, u32), u64>,
}

/// What is left to be sent of one.
#[derive(Debug)]
struct Probe {
    ticket: u64,
    vip: VipId,
    /// Where it is asked about.
    interfaces: BTreeSet<u32>,
    frames: VecDeque<(u32, Vec<u8>)>,
    result: Result<(), AddressError>,
}

impl Probes {
    pub(super) fn new() -> Self {
        let mut nonce = ndp::Nonce::default();
        if let Err(error) = getrandom::fill(&mut nonce) {
            // Its purpose is to differ from other machines'; the time since boot does, nearly always.
            tracing::debug!(%error, "no random number for the nonce of probes");
            let nanos = clock::boot_time().since_origin().as_nanos() as u64;
            nonce.copy_from_slice(&nanos.to_le_bytes()[..6]);
        }
        Self {
            waiting: VecDeque::new(),
            nonce,
            paused_until: None,
            pauses: 0,
            asked: BTreeMap::new(),
            counted: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn nonce(&self) -> ndp::Nonce {
        self.nonce
    }

    /// When there is something to send.
    pub(super) fn due(&self) -> Instant {
        if self.waiting.is_empty() {
            return Instant::FAR_FUTURE;
        }
        self.paused_until.unwrap_or(Instant::ORIGIN)
    }
}

impl Watcher {
    /// Makes the frames. An address that cannot be probed fails the probe, but the others are sent all the same.
    pub(super) fn prepare_probe(&mut self, ticket: u64, vip: &Arc<Vip>) {
        let (frames, interfaces) = (VecDeque::new(), BTreeSet::new());
        let mut probe = Probe { ticket, vip: vip.id(), interfaces, frames, result: Ok(()) };
        for address in vip.addresses() {
            match self.frame_for(address) {
                Ok(frame) => probe.frames.extend(frame),
                Err(error) => probe.result = Err(error),
            }
        }
        probe.interfaces = probe.frames.iter().map(|&(interface, _)| interface).collect();
        self.probes.waiting.push_back(probe);
    }

    /// Nothing where nobody can answer.
    fn frame_for(&self, wanted: &VipAddress) -> Result<Option<(u32, Vec<u8>)>, AddressError> {
        let interface = &wanted.interface;
        let (index, link) = self
            .links
            .called(interface)
            .ok_or_else(|| AddressError::NoInterface(interface.clone()))?;
        if link.no_arp {
            return Ok(None);
        }
        let mac = able_to_ask(link).map_err(|why| {
            AddressError::Other(format!("cannot probe {} on {interface}: {why}", wanted.address))
        })?;
        let frame = match wanted.address {
            IpAddr::V4(v4) => arp_probe(v4, mac).to_vec(),
            IpAddr::V6(v6) => ndp::probe(v6, mac, self.probes.nonce).to_vec(),
        };
        Ok(Some((index, frame)))
    }

    pub(super) fn send_probes(&mut self, now: Instant) {
        if self.probes.due() > now {
            return;
        }
        self.probes.paused_until = None;
        let mut budget = FRAMES_PER_TURN;
        let mut received = BTreeMap::new();
        while budget > 0
            && let Some(mut probe) = self.probes.waiting.pop_front()
        {
            while let Some((interface, frame)) = probe.frames.front() {
                match self.announcer.send(*interface, frame) {
                    Ok(()) => {
                        self.hear_others(*interface, frame, now);
                        self.probes.pauses = 0;
                    }
                    Err(SendError::Busy) if self.probes.pauses < PAUSES_MAX => {
                        self.probes.pauses += 1;
                        self.probes.paused_until = Some(now + PAUSE);
                        self.probes.waiting.push_front(probe);
                        return;
                    }
                    Err(SendError::Busy) => {
                        let error = "the device takes no frames".into();
                        probe.result = Err(AddressError::Other(error));
                    }
                    Err(SendError::Failed(error)) => {
                        let error = format!("cannot send a probe: {error}");
                        probe.result = Err(AddressError::Other(error));
                    }
                }
                probe.frames.pop_front();
                budget = budget.saturating_sub(1);
            }
            let deaf = probe
                .interfaces
                .iter()
                .filter(|&&interface| !self.is_heard(probe.vip, interface, &mut received, now))
                .count();
            let result = probe.result.and(match deaf {
                0 => Ok(()),
                _ => Err(AddressError::NothingHeard),
            });
            self.emit(AddressEvent::Done { ticket: probe.ticket, result });
        }
    }

    /// Whether anything has come in on an interface since the VIP was probed there last; also if there is no telling.
    /// `received` is how many frames have, as far as it was looked up in this turn.
    fn is_heard(
        &mut self,
        vip: VipId,
        interface: u32,
        received: &mut BTreeMap<u32, u64>,
        now: Instant,
    ) -> bool {
        let Some(alive) = &mut self.alive else { return true };
        let Some(link) = self.links.get(interface).filter(|link| alive.can_tell(&link.name)) else {
            return true;
        };
        let frames = match received.get(&interface) {
            Some(&frames) => frames,
            None => {
                let Some(frames) = self.queries.frames_received(interface) else { return true };
                received.insert(interface, frames);
                frames
            }
        };
        let asked = self.probes.asked.get(&interface).copied();
        let asked = asked.filter(|(at, _)| now < *at + alive.pace_of_probes());
        let (_, by_then) = asked.unwrap_or_else(|| {
            for frame in alive.ask_everybody(interface, link, &self.claims, &mut self.queries) {
                // A full device is as good as a lost frame.
                let _ = self.announcer.send(interface, &frame);
            }
            (now, frames)
        });
        if asked.is_none() {
            self.probes.asked.insert(interface, (now, by_then));
        }
        let before = self.probes.counted.insert((vip, interface), by_then);
        before.is_none_or(|before| frames > before)
    }

    /// Others' ARP probes are broadcast, but those for an IPv6 address go to a group.
    fn hear_others(&mut self, interface: u32, frame: &[u8], now: Instant) {
        if let Some(packet) = ndp::parse(frame) {
            let group = ndp::solicited_node(packet.target);
            self.groups.want(interface, group, now + HEAR_OTHERS);
        }
    }
}

/// The hardware address to ask with, or why the interface cannot.
pub(super) fn able_to_ask(link: &Link) -> Result<MacAddress, &'static str> {
    let mac = link.mac.ok_or("it is not Ethernet")?;
    if !link.up {
        return Err("it is down");
    }
    if !link.running {
        return Err("it has no carrier");
    }
    Ok(mac)
}
