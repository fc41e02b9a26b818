//! Nothing is reported that the scenario does not explain: no refused datagram without corruption, duplication,
//! reordering or a restart, no failed address work without sabotage, no differing configuration, no fault of a socket.

use wackamole_protocol::event::{Event, Rejection};
use wackamole_protocol::time::Duration;

use super::{Check, Findings, Glance};
use crate::journal::What;
use crate::netem::Knob;

/// The checker.
#[derive(Default)]
pub struct Oddities {
    /// When a daemon left last: what it had sent before is still under way, and comes from nobody.
    left_at: Option<Duration>,
}

impl Check for Oddities {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        for entry in glance.fresh {
            match &entry.what {
                What::Ended { .. } | What::Guarded { .. } => self.left_at = Some(entry.at),
                What::Daemon { node, event } => {
                    if let Some(oddity) = self.oddity(event, *node, glance) {
                        findings.violation("oddities", format!("{}: {oddity}", glance.node(*node)));
                    }
                }
                What::NetworkFault { node, text } => {
                    findings.violation("oddities", format!("{}: {text}", glance.node(*node)));
                }
                _ => {}
            }
        }
    }
}

impl Oddities {
    fn oddity(&self, event: &Event, node: usize, glance: &Glance<'_>) -> Option<String> {
        match event {
            Event::Rejected { from, rejection } => {
                let netem = &glance.segment.netem;
                let explained = match rejection {
                    Rejection::Malformed
                    | Rejection::Version
                    | Rejection::OtherCluster
                    | Rejection::WrongKey => netem.max(Knob::Corrupt) > 0.0,
                    Rejection::Replayed => {
                        netem.max(Knob::Duplicate) > 0.0
                            || netem.max(Knob::Reorder) > 0.0
                            || glance.calm_for() <= glance.bounds.aftermath
                            || self
                                .left_at
                                .is_some_and(|at| glance.now <= at + glance.bounds.aftermath)
                    }
                    // A group's datagram for one of its members reaches all of them.
                    Rejection::NotForUs => glance.scenario.multicast,
                    Rejection::UnknownNode | Rejection::OwnName => false,
                };
                (!explained).then(|| format!("refused a datagram from {from}: {rejection:?}"))
            }
            Event::AddressFailed { vip, error, .. } => {
                let index = glance.scenario.vips.iter().position(|spec| spec.vip.id() == *vip)?;
                let sabotaged =
                    glance.segment.sabotage.iter().any(|s| (s.node, s.vip) == (node, index));
                (!sabotaged)
                    .then(|| format!("address work on {} failed: {error}", glance.vip(index)))
            }
            Event::ConfigurationDiffers { .. } => {
                Some("finds that configurations differ".to_owned())
            }
            Event::RanLate { late } => {
                let explained = glance.calm_for() <= glance.bounds.aftermath;
                (!explained).then(|| format!("ran {} ms late", late.as_millis()))
            }
            Event::Link { .. }
            | Event::PeerRestarted { .. }
            | Event::PeerLeft { .. }
            | Event::Proposed { .. }
            | Event::Accepted { .. }
            | Event::Refused { .. }
            | Event::ViewInstalled { .. }
            | Event::ForcedPrimary
            | Event::ViewLost { .. }
            | Event::Beside { .. }
            | Event::Matured { .. }
            | Event::Assigned { .. }
            | Event::Acquired { .. }
            | Event::Released { .. }
            | Event::AddressVanished { .. }
            | Event::Occupied { .. }
            | Event::Contested { .. }
            | Event::Servable { .. }
            | Event::Reach { .. }
            | Event::BalanceRound { .. }
            | Event::Left => None,
        }
    }
}
