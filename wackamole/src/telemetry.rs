//! Events as log lines: which level, which words, and how often.
//!
//! ERROR: we cannot do our job. WARN: look at it. INFO: a VIP, a view or a link changed. DEBUG: a decision. Every VIP
//! that comes or goes says why in one line. What the network can provoke at will is limited: the first line at once,
//! then a count. Writing never blocks the daemon: a log that nobody reads loses lines, and says how many.

mod limit;
mod writer;

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use wackamole_protocol::event::{Event, LinkState, Rejection};
use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::names::Names;
use wackamole_protocol::time::Instant;

use crate::driver::Observation;
use limit::Limiter;
pub use writer::LogGuard;

/// Pause between two lines about the same provocation.
const REPEAT: Duration = Duration::from_secs(10);

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: time of day (UTC), level, message, fields.
    #[default]
    Text,
    /// For programs: one JSON object on each line.
    Json,
}

/// What is logged: a level for this program, or several `target=level` with commas between.
///
/// # Errors
/// It is neither; the text says what is accepted.
pub fn filter(text: &str) -> Result<Targets, String> {
    const ACCEPTED: &str = "error, warn, info, debug, trace, off, or targets such as \
                            warn,wackamole::driver=trace";
    if let Ok(level) = text.parse::<LevelFilter>() {
        // The libraries' debug lines are about their own inner life.
        let others = level.min(LevelFilter::WARN);
        return Ok(Targets::new().with_default(others).with_target("wackamole", level));
    }
    // Without this a misspelt level would be the name of a target, and nothing would be logged.
    if !text.contains('=') {
        return Err(format!("accepted is {ACCEPTED}"));
    }
    text.parse().map_err(|error| format!("{error}; accepted is {ACCEPTED}"))
}

/// Sends log lines to standard error from now on. They are written out when the guard is dropped.
///
/// # Panics
/// If called twice in one process.
pub fn init(format: LogFormat, filter: Targets) -> LogGuard {
    let (writer, guard) = writer::to(std::io::stderr());
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(writer)
                .with_timer(TimeOfDay)
                .with_target(false)
                .with_ansi(std::io::stderr().is_terminal() && !no_colour);
            registry.with(layer).init();
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_writer(writer);
            registry.with(layer).init();
        }
    }
    guard
}

/// Turns the events of one node into log lines.
#[derive(Debug)]
pub struct Telemetry {
    names: Names,
    me: NodeId,
    view: Option<ViewId>,
    rejections: Limiter<(IpAddr, Rejection)>,
    late: Limiter<()>,
}

impl Telemetry {
    /// For node `me`, whose events name nodes and VIPs as `names` knows them.
    pub fn new(names: Names, me: NodeId) -> Self {
        let (rejections, late) = (Limiter::new(REPEAT), Limiter::new(REPEAT));
        Self { names, me, view: None, rejections, late }
    }

    /// Logs what the driver tells.
    pub fn observe(&mut self, now: Instant, observation: &Observation<'_>) {
        match observation {
            Observation::Event(event) => self.event(now, event),
            Observation::NetworkFault { action, error } => {
                warn!(%error, "cannot {action}; told once until it changes");
            }
            Observation::Turn
            | Observation::Input(_)
            | Observation::Effect(_)
            | Observation::Rest => {}
        }
    }

    fn event(&mut self, now: Instant, event: &Event) {
        let names = &self.names;
        match event {
            Event::Link { peer, state, silent_for } => {
                let peer = names.node(*peer);
                match state {
                    LinkState::TwoWay => info!(%peer, "link is up both ways"),
                    LinkState::OneWay => warn!(%peer, "link is one-way: the peer does not hear us"),
                    LinkState::Silent => {
                        let silent_for = format!("{}ms", silent_for.as_millis());
                        warn!(%peer, %silent_for, "peer is silent");
                    }
                }
            }
            Event::PeerRestarted { peer, incarnation } => {
                info!(peer = %names.node(*peer), %incarnation, "peer has restarted");
            }
            Event::PeerLeft { peer } => info!(peer = %names.node(*peer), "peer has left"),
            Event::Proposed { ballot, members } => {
                debug!(view = %names.view(*ballot), members = %names.set(members), "proposed a view");
            }
            Event::Accepted { ballot } => debug!(view = %names.view(*ballot), "accepted a view"),
            Event::Refused { ballot, by, why } => {
                debug!(view = %names.view(*ballot), by = %names.node(*by), why, "view refused");
            }
            Event::ViewInstalled { view, members, primary: false } => {
                self.view = Some(*view);
                warn!(view = %names.view(*view), members = %names.set(members), "view installed, not primary: it holds no VIPs");
            }
            Event::ForcedPrimary => {
                warn!("an operator has forced this node to be the primary view")
            }
            Event::ViewInstalled { view, members, primary: true } => {
                self.view = Some(*view);
                info!(view = %names.view(*view), members = %names.set(members), "view installed");
            }
            Event::ViewLost { why } => {
                self.view = None;
                warn!(why, "in no view, holding nothing");
            }
            Event::Beside { beside: true } => {
                info!(
                    "another view is linked to ours and not one with it yet: what nobody of ours holds is left alone"
                );
            }
            Event::Beside { beside: false } => debug!("no other view is linked to ours any more"),
            Event::Matured { node } if *node == self.me => info!("mature: may own VIPs"),
            Event::Matured { node } => info!(node = %names.node(*node), "node is mature"),
            Event::Assigned { vip, owner, previous, reason } => {
                let (vip, because, view) = (names.vip(*vip), reason.phrase(), self.view());
                let previous = previous.map(|node| names.node(node));
                let previous = previous.as_deref().unwrap_or("nobody");
                match owner {
                    Some(owner) => {
                        debug!(
                            %vip,
                            to = %names.node(*owner),
                            from = %previous,
                            because,
                            %view,
                            "assigned"
                        );
                    }
                    None => warn!(%vip, from = %previous, because, %view, "nobody can own the VIP"),
                }
            }
            Event::Acquired { vip, reason } => {
                let (vip, because, view) = (names.vip(*vip), reason.phrase(), self.view());
                info!(%vip, because, %view, "acquired");
            }
            Event::Released { vip, next, reason } => {
                let (vip, because, view) = (names.vip(*vip), reason.phrase(), self.view());
                match next.map(|node| names.node(node)) {
                    Some(to) => info!(%vip, %to, because, %view, "released"),
                    None => info!(%vip, because, %view, "released"),
                }
            }
            Event::AddressFailed { vip, error, given_up: true } => {
                error!(vip = %names.vip(*vip), error, "cannot hold the VIP, giving it up");
            }
            Event::AddressFailed { vip, error, given_up: false } => {
                warn!(vip = %names.vip(*vip), error, "address work failed, trying again");
            }
            Event::AddressVanished { vip, retry_in } => {
                warn!(
                    vip = %names.vip(*vip),
                    ?retry_in,
                    "somebody removed an address, putting it back"
                );
            }
            Event::Occupied { vip, by } => {
                warn!(vip = %names.vip(*vip), %by, "another machine answers for the VIP: it stays there");
            }
            Event::Contested { vip, by, yields: false } => {
                warn!(vip = %names.vip(*vip), %by, "another machine uses a VIP that we hold");
            }
            Event::Contested { vip, by, yields: true } => {
                warn!(vip = %names.vip(*vip), %by, "another machine uses the VIP and does not give way: yielding");
            }
            Event::Servable { vips, why_not: Some(why_not) } => {
                error!(vips = vips.len(), why_not, "VIPs cannot be served from this machine");
            }
            Event::Servable { vips, why_not: None } => {
                info!(vips = vips.len(), "VIPs can be served from this machine again");
            }
            Event::Reach { answering } if answering.is_empty() => {
                warn!(
                    "none of must_reach answers: if a member is lost now, this node proposes no primary view"
                );
            }
            Event::Reach { answering } => {
                let answering: Vec<_> = answering.iter().map(ToString::to_string).collect();
                info!(answering = answering.join(" "), "must_reach answers");
            }
            Event::Rejected { from, rejection } => self.rejected(now, from.ip(), *rejection),
            Event::RanLate { late } => {
                if let Some(unsaid) = self.late.admit((), now) {
                    warn!(?late, unsaid, "ran late: the machine is overloaded or was stopped");
                }
            }
            Event::ConfigurationDiffers { node } => {
                warn!(node = %names.node(*node), "node defines its VIPs otherwise than we do");
            }
            Event::BalanceRound { moves } => info!(moves, "balancing"),
            Event::Left => info!("left the cluster, holding nothing"),
        }
    }

    fn rejected(&mut self, now: Instant, from: IpAddr, rejection: Rejection) {
        let Some(unsaid) = self.rejections.admit((from, rejection), now) else { return };
        match rejection {
            Rejection::Malformed => {
                warn!(%from, unsaid, "refused a datagram: not from a wackamole daemon, or damaged");
            }
            Rejection::Version => {
                warn!(%from, unsaid, "refused a datagram: another version of the protocol");
            }
            Rejection::OtherCluster => info!(%from, unsaid, "refused a datagram: another cluster"),
            Rejection::WrongKey => {
                warn!(%from, unsaid, "refused a datagram: another key, or forged")
            }
            Rejection::Replayed => debug!(%from, unsaid, "refused a datagram: seen before"),
            Rejection::UnknownNode => {
                warn!(%from, unsaid, "refused a datagram: from a node that our configuration does not name");
            }
            Rejection::OwnName => {
                warn!(%from, unsaid, "refused a datagram: it carries our own name; is another machine configured as this node?");
            }
            Rejection::NotForUs => {
                debug!(%from, unsaid, "refused a datagram: meant for another node")
            }
        }
    }

    fn view(&self) -> String {
        self.view.map_or_else(|| "none".into(), |view| self.names.view(view))
    }
}

/// `12:34:56.789Z`: short, and the same on machines in different time zones.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        #[allow(clippy::disallowed_methods)] // for people to read; nothing is decided by it
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since_epoch.as_secs() % 86_400;
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(w, "{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", since_epoch.subsec_millis())
    }
}

#[cfg(test)]
mod tests;
