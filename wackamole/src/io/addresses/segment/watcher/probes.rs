//! Sending probes, at the pace of the devices.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::vip::{Vip, VipAddress};

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
}

/// What is left to be sent of one.
#[derive(Debug)]
struct Probe {
    ticket: u64,
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
        Self { waiting: VecDeque::new(), nonce, paused_until: None, pauses: 0 }
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
        let mut probe = Probe { ticket, frames: VecDeque::new(), result: Ok(()) };
        for address in vip.addresses() {
            match self.frame_for(address) {
                Ok(frame) => probe.frames.extend(frame),
                Err(error) => probe.result = Err(error),
            }
        }
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
            self.emit(AddressEvent::Done { ticket: probe.ticket, result: probe.result });
        }
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
