//! Everything that a scenario can do to the world.

use wackamole_protocol::time::Duration;

use crate::links::Station;
use crate::netem::Knob;
use crate::rng::Span;
use crate::scenario::text::duration_text;
use crate::segment::{Net, SabotageKind};

/// One thing that is done to the world between two ticks.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Machines go off; their address tables are gone.
    PowerLoss(Vec<usize>),
    /// SIGKILL: daemons are gone, the kernels keep the addresses.
    Kill(Vec<usize>),
    /// Daemons start; machines that were off are switched on with empty tables. A daemon that runs is killed first.
    Restart(Vec<usize>),
    /// SIGTERM.
    Stop(Vec<usize>),
    /// SIGSTOP.
    Pause(Vec<usize>),
    /// SIGCONT.
    Resume(Vec<usize>),
    /// SIGKILL for the guardians alone.
    KillGuardian(Vec<usize>),
    /// SIGSTOP for the guardians alone.
    PauseGuardian(Vec<usize>),
    /// SIGCONT for the guardians.
    ResumeGuardian(Vec<usize>),
    /// The hypervisor stops machines with everything on them, their clocks included.
    PauseMachine(Vec<usize>),
    /// It lets them go on.
    ResumeMachine(Vec<usize>),
    /// What the daemons have stored is gone.
    DiskLost(Vec<usize>),
    /// An operator tells daemons that each alone shall be the primary view.
    ForcePrimary(Vec<usize>),
    /// Switch ports stop forwarding; the machines see a carrier.
    PortDead(Net, Vec<usize>),
    /// Cables are pulled.
    CarrierLost(Net, Vec<usize>),
    /// Switch ports forward again.
    PortBack(Net, Vec<usize>),
    /// Stations of different groups no longer reach each other.
    Partition(Net, Vec<Vec<Station>>),
    /// One direction of one link fails.
    Cut {
        /// On which network.
        net: Net,
        /// The sender.
        from: Station,
        /// Who no longer hears it.
        to: Station,
    },
    /// All links work again; dead ports stay dead.
    HealAll(Net),
    /// Both directions of all links among these stations work again.
    Heal(Net, Vec<Station>),
    /// The wires treat datagrams differently from now on.
    Impair {
        /// On which directed link; on all if there is none.
        link: Option<(Station, Station)>,
        /// In which respect.
        knob: Knob,
        /// With which probability.
        ratio: f64,
    },
    /// All links have another latency from now on.
    Latency(Span),
    /// A machine's clock goes differently wrong from now on.
    Drift {
        /// Whose.
        node: usize,
        /// By how much.
        ppm: i64,
    },
    /// Address work goes wrong.
    AddressError {
        /// On which machine.
        node: usize,
        /// With which VIP.
        vip: usize,
        /// How.
        kind: SabotageKind,
        /// For how long; for ever if there is no end.
        lasts: Option<Duration>,
    },
    /// An operator deletes a VIP's addresses.
    FlushAddress {
        /// On which machine; on all that hold it if there is none.
        node: Option<usize>,
        /// Which VIP.
        vip: usize,
    },
}

impl Fault {
    /// The nodes that it concerns; empty for the network's faults.
    pub fn nodes(&self) -> Vec<usize> {
        match self {
            Self::PowerLoss(nodes)
            | Self::Kill(nodes)
            | Self::Restart(nodes)
            | Self::Stop(nodes)
            | Self::Pause(nodes)
            | Self::Resume(nodes)
            | Self::KillGuardian(nodes)
            | Self::PauseGuardian(nodes)
            | Self::ResumeGuardian(nodes)
            | Self::PauseMachine(nodes)
            | Self::ResumeMachine(nodes)
            | Self::DiskLost(nodes)
            | Self::ForcePrimary(nodes)
            | Self::PortDead(_, nodes)
            | Self::CarrierLost(_, nodes)
            | Self::PortBack(_, nodes) => nodes.clone(),
            Self::Drift { node, .. } | Self::AddressError { node, .. } => vec![*node],
            Self::FlushAddress { node, .. } => node.iter().copied().collect(),
            Self::Partition(..)
            | Self::Cut { .. }
            | Self::HealAll(_)
            | Self::Heal(..)
            | Self::Impair { .. }
            | Self::Latency(_) => Vec::new(),
        }
    }

    /// What kind of fault it is, in the words of a timeline.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PowerLoss(_) => "power loss",
            Self::Kill(_) => "kill -9",
            Self::Restart(_) => "start",
            Self::Stop(_) => "stop (SIGTERM)",
            Self::Pause(_) => "pause (SIGSTOP)",
            Self::Resume(_) => "resume (SIGCONT)",
            Self::KillGuardian(_) => "kill -9 of the guardian",
            Self::PauseGuardian(_) => "pause of the guardian",
            Self::ResumeGuardian(_) => "resume of the guardian",
            Self::PauseMachine(_) => "machine stopped by its host",
            Self::ResumeMachine(_) => "machine goes on",
            Self::DiskLost(_) => "disk lost",
            Self::ForcePrimary(_) => "force-primary",
            Self::PortDead(..) => "port silently dead",
            Self::CarrierLost(..) => "carrier lost",
            Self::PortBack(..) => "port back",
            Self::Partition(Net::Segment, _) => "partition of the segment",
            Self::Partition(..) => "partition",
            Self::Cut { .. } => "one-way cut",
            Self::HealAll(_) | Self::Heal(..) => "heal",
            Self::Impair { .. } => "loss and the like",
            Self::Latency(_) => "latency",
            Self::Drift { .. } => "clock drift",
            Self::AddressError { .. } => "address work goes wrong",
            Self::FlushAddress { .. } => "addresses deleted by hand",
        }
    }

    /// A few words for a timeline.
    pub fn describe(&self, stations: &[String], vips: &[String]) -> String {
        let list = |nodes: &[usize]| {
            nodes.iter().map(|&node| stations[node].as_str()).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::PowerLoss(nodes) => format!("power loss: {}", list(nodes)),
            Self::Kill(nodes) => format!("kill -9: {}", list(nodes)),
            Self::Restart(nodes) => format!("start: {}", list(nodes)),
            Self::Stop(nodes) => format!("stop (SIGTERM): {}", list(nodes)),
            Self::Pause(nodes) => format!("pause (SIGSTOP): {}", list(nodes)),
            Self::Resume(nodes) => format!("resume (SIGCONT): {}", list(nodes)),
            Self::KillGuardian(nodes) => format!("kill -9 of the guardian: {}", list(nodes)),
            Self::PauseGuardian(nodes) => format!("pause of the guardian: {}", list(nodes)),
            Self::ResumeGuardian(nodes) => format!("resume of the guardian: {}", list(nodes)),
            Self::PauseMachine(nodes) => format!("machine stopped by its host: {}", list(nodes)),
            Self::ResumeMachine(nodes) => format!("machine goes on: {}", list(nodes)),
            Self::DiskLost(nodes) => format!("disk lost: {}", list(nodes)),
            Self::ForcePrimary(nodes) => format!("force-primary: {}", list(nodes)),
            Self::PortDead(_, nodes) => format!("port silently dead: {}", list(nodes)),
            Self::CarrierLost(_, nodes) => format!("carrier lost: {}", list(nodes)),
            Self::PortBack(_, nodes) => format!("port back: {}", list(nodes)),
            Self::Partition(net, groups) => {
                let groups: Vec<_> = groups.iter().map(|group| list(group)).collect();
                format!("partition{}: {}", of(*net), groups.join(" | "))
            }
            Self::Cut { net, from, to } => {
                format!("cut{}: {} -> {}", of(*net), stations[*from], stations[*to])
            }
            Self::HealAll(net) => format!("heal{}: all links", of(*net)),
            Self::Heal(net, healed) => format!("heal{}: links among {}", of(*net), list(healed)),
            Self::Impair { link, knob, ratio } => {
                let what = match knob {
                    Knob::Loss => "loss",
                    Knob::Duplicate => "duplication",
                    Knob::Reorder => "reordering",
                    Knob::Corrupt => "corruption",
                };
                let on = match link {
                    Some((from, to)) => format!(" on {} -> {}", stations[*from], stations[*to]),
                    None => String::new(),
                };
                format!("{what} {} %{on}", ratio * 100.0)
            }
            Self::Latency(Span { min, max }) if min == max => {
                format!("latency {}", duration_text(*min))
            }
            Self::Latency(Span { min, max }) => {
                format!("latency {}..{}", duration_text(*min), duration_text(*max))
            }
            Self::Drift { node, ppm } => format!("clock drift of {}: {ppm:+} ppm", stations[*node]),
            Self::AddressError { node, vip, kind, lasts } => {
                let how = match kind {
                    SabotageKind::Fail => "fails",
                    SabotageKind::Hang => "hangs",
                };
                let long = lasts.map(|d| format!(" for {}", duration_text(d))).unwrap_or_default();
                format!("address work on {} for {} {how}{long}", stations[*node], vips[*vip])
            }
            Self::FlushAddress { node, vip } => {
                let place = node.map_or("its holder", |node| &stations[node]);
                format!("addresses of {} deleted by hand on {place}", vips[*vip])
            }
        }
    }
}

/// Which wires, where there are several.
fn of(net: Net) -> &'static str {
    match net {
        Net::Both => "",
        Net::Heartbeats => " of the heartbeat path",
        Net::Segment => " of the segment",
    }
}
