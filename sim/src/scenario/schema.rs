//! The scenario file as it is written. What a name means, and whether the whole makes sense, is `super::check`'s business.

mod expect;
mod step;

use core::fmt;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor, value::SeqAccessDeserializer};
use toml::Spanned;
use wackamole_protocol::time::Duration;

use super::text::{Ppm, Written};
use crate::rng::Span;
pub use expect::{Allow, Expect, Expectations, MovesMax, ViewSize};
pub use step::{AddressError, Drift, ErrorKind, FlushAddress, Pair, Ratio, Step};

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// One line: what happens and what is promised.
    pub title: Spanned<String>,
    /// The story at more length.
    #[serde(default)]
    pub story: String,
    /// A number (they are called a, b, c, …) or a list of names.
    pub nodes: Spanned<Names>,
    /// A number (they are called v1, v2, v3, …) or a list of names.
    pub vips: Spanned<Names>,
    /// Names of stations that use the VIPs; one called `client` unless given.
    pub clients: Option<Spanned<Names>>,
    /// How long the world is simulated.
    pub duration: Spanned<Written<Duration>>,
    /// With how many seeds it is run unless the command line says otherwise.
    pub seeds: Option<Spanned<u64>>,
    /// The one seed with which it is run unless the command line says otherwise: what it shows needs that one.
    pub seed: Option<u64>,
    /// Under which partition policies it is run, each as a row of its own, out of `component`, `lan` and `quorum`; the one
    /// of `[safety]` unless given.
    #[serde(default)]
    pub policies: Vec<Spanned<Policy>>,
    /// The wires.
    #[serde(default)]
    pub network: Network,
    /// The kernels.
    #[serde(default)]
    pub addresses: Addresses,
    /// The daemons' heartbeats and waits.
    #[serde(default)]
    pub timing: Timing,
    /// The daemons' partition policy and leases.
    #[serde(default)]
    pub safety: Safety,
    /// What stands behind the daemons of all machines.
    #[serde(default)]
    pub fences: Fences,
    /// How the daemons even out the load.
    #[serde(default)]
    pub balance: Balance,
    /// What is special about single nodes.
    #[serde(default)]
    pub node: BTreeMap<Spanned<String>, Node>,
    /// What is special about single VIPs.
    #[serde(default)]
    pub vip: BTreeMap<Spanned<String>, Vip>,
    /// What happens, in any order.
    #[serde(default)]
    pub step: Vec<Spanned<Step>>,
    /// Many random faults.
    pub chaos: Option<Spanned<Chaos>>,
    /// What must be true, each at some time after something was done.
    #[serde(default)]
    pub expect: Expectations,
    /// What is let pass that would be a violation elsewhere.
    #[serde(default)]
    pub allow: Allow,
}

/// A number of things with default names, or their names.
#[derive(Debug)]
pub enum Names {
    /// So many.
    Count(u64),
    /// These.
    List(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a list of names such as [\"a\", \"b\"]")
            }
            fn visit_i64<E: Error>(self, count: i64) -> Result<Names, E> {
                u64::try_from(count)
                    .map(Names::Count)
                    .map_err(|_| E::custom(format!("found `{count}`, expected a positive number")))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Names, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(sequence)).map(Names::List)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// One name or several; `"all"` stands for all nodes.
#[derive(Debug)]
pub struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, a list of names, or \"all\"")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![name.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(sequence)).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The wires.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// One-way latency, whole milliseconds; default `1ms`.
    pub latency: Option<Spanned<Written<Span>>>,
    /// Probability that a datagram or an announcement is lost.
    pub loss: Option<Spanned<f64>>,
    /// Probability that a datagram arrives twice.
    pub duplicate: Option<Spanned<f64>>,
    /// Probability that a datagram is overtaken.
    pub reorder: Option<Spanned<f64>>,
    /// Probability that a bit of a datagram is flipped.
    pub corrupt: Option<Spanned<f64>>,
    /// By how much overtaken and duplicated datagrams are late; default `2ms..20ms`.
    pub reorder_delay: Option<Written<Span>>,
    /// Losses that steps cause are spells, as those of `[chaos]`: bounds do not reckon with them, and nothing is bounded while
    /// they last.
    #[serde(default)]
    pub spells_of_loss: bool,
    /// After how long a client gives up a neighbour that does not answer; default `3s`.
    pub neighbour_timeout: Option<Written<Duration>>,
    /// Heartbeats go to a multicast group.
    #[serde(default)]
    pub multicast: bool,
    /// `"shared"` (default): one network for all. `"own"`: VIPs, probes, announcements and clients are on a segment apart
    /// from the daemons' heartbeats; `partition`, `cut` and `heal` are then about the heartbeats.
    #[serde(default)]
    pub segment: SegmentKind,
    /// A router answers every probe on the segment.
    #[serde(default)]
    pub proxy_arp: bool,
}

/// Whether the VIPs are on a segment of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentKind {
    /// One network for all.
    #[default]
    Shared,
    /// Two networks.
    Own,
}

/// What a component may do that does not hear the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Each component covers all VIPs.
    Component,
    /// What nobody has confirmed to have released is probed first.
    Lan,
    /// Only the primary view holds VIPs.
    Quorum,
}

/// The partition policy and the leases, as in the daemon's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Safety {
    /// `component` (default here), `lan` or `quorum`.
    pub partition: Option<Policy>,
    /// `dynamic` (default) or `static`.
    pub quorum: Option<QuorumKind>,
    /// Default 1.
    pub min_quorum: Option<Spanned<usize>>,
    /// `quorum`: the first client, asked over the daemons' network, is the witness that has to answer before a part goes on
    /// without somebody; default false.
    pub must_reach: Option<Spanned<bool>>,
    /// `lan`: how long an answer to a probe is waited out; for ever unless given.
    pub lan_wait_max: Option<Written<Duration>>,
    /// By how much clock rates may differ; default `1000ppm`.
    pub drift: Option<Spanned<Written<Ppm>>>,
    /// How long a release may take; zero behind a gate and an eighth of the failure timeout, at most 15 ms, elsewhere.
    pub release_margin: Option<Written<Duration>>,
}

/// How the primary view is found.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuorumKind {
    /// Out of the last primary view.
    Dynamic,
    /// Out of all configured nodes.
    Static,
}

/// What stands behind the daemons.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fences {
    /// Kernels drop what comes for a VIP when the lease has run out; default true.
    pub gate: Option<bool>,
    /// A process removes the addresses when the daemon dies or misses its lease; default true.
    pub guardian: Option<bool>,
    /// Addresses that are not renewed vanish; default true.
    pub lifetime: Option<bool>,
    /// How fast a daemon replaces a dead guardian, default `2ms..5ms`; or `"never"`: it cannot.
    pub respawn: Option<Start>,
    /// After how long a daemon is started again that its guardian has killed, default `100ms..300ms`; or `"never"`.
    pub supervisor: Option<Start>,
    /// There is a fence command, which takes so long, and switches off the node that it is for.
    pub command: Option<Written<Span>>,
    /// The probability that it fails; default 0.
    pub command_fails: Option<Spanned<f64>>,
}

/// The kernels.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// What one address operation takes; default `300us`.
    pub operation: Option<Written<Span>>,
    /// How long a disk takes until a record is safe; default `2ms`.
    pub sync: Option<Written<Span>>,
}

/// Heartbeats and waits.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Default `100ms`.
    pub heartbeat: Option<Spanned<Written<Duration>>>,
    /// Default `400ms`.
    pub failure_timeout: Option<Spanned<Written<Duration>>>,
    /// Default `2s`.
    pub mature: Option<Written<Duration>>,
}

/// How the load is evened out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balance {
    /// `"all"` or a number; default `"all"`.
    pub moves_per_round: Option<Spanned<Moves>>,
    /// Default `4s`.
    pub interval: Option<Written<Duration>>,
}

/// How many VIPs move in one round.
#[derive(Debug)]
pub struct Moves(pub Option<usize>);

impl<'de> Deserialize<'de> for Moves {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Moves;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\" or a positive number")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Moves, E> {
                if text == "all" {
                    return Ok(Moves(None));
                }
                Err(E::custom(format!("found `{text}`, expected \"all\" or a positive number")))
            }
            fn visit_i64<E: Error>(self, count: i64) -> Result<Moves, E> {
                usize::try_from(count).ok().filter(|&n| n > 0).map(|n| Moves(Some(n))).ok_or_else(
                    || E::custom(format!("found `{count}`, expected \"all\" or a positive number")),
                )
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// What is special about one node.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its share of the load; default 1.
    pub weight: Option<Spanned<u32>>,
    /// How wrong its clock goes.
    pub drift: Option<Written<Ppm>>,
    /// When it is switched on; within the first heartbeat unless given. `"never"` leaves it to a `restart` step.
    pub start: Option<Spanned<Start>>,
    /// It votes and holds nothing.
    #[serde(default)]
    pub witness: bool,
    /// As in `[fences]`, for this node alone.
    pub gate: Option<bool>,
    /// As in `[fences]`, for this node alone.
    pub guardian: Option<bool>,
    /// As in `[fences]`, for this node alone.
    pub lifetime: Option<bool>,
}

/// When a node is switched on.
#[derive(Debug)]
pub enum Start {
    /// Then.
    At(Span),
    /// Only by a step.
    Never,
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "never" {
            return Ok(Self::Never);
        }
        super::text::parse_span(&text)
            .map(Self::At)
            .map_err(|complaint| D::Error::custom(format!("{complaint}, or `never`")))
    }
}

/// What is special about one VIP.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vip {
    /// Its addresses as `address/prefix@interface`; one generated address unless given.
    pub addresses: Option<Vec<Spanned<String>>>,
    /// The nodes that shall have it, best first.
    #[serde(default)]
    pub prefer: Vec<Spanned<String>>,
}

/// Many random faults, after which everything is healed, resumed and restarted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chaos {
    /// When it begins.
    pub from: Written<Duration>,
    /// When everything is put right again.
    pub until: Written<Duration>,
    /// Pause between two faults.
    pub every: Written<Span>,
    /// Which faults, out of `power-loss`, `kill`, `stop`, `restart`, `pause`, `partition`, `cut`, `heal`, `flush-address`,
    /// `port-dead`, `partition-segment`, `kill-guardian`, `pause-guardian`, `kill-both`, `pause-both`, `pause-machine`,
    /// `loss`, `carrier-lost`, `address-trouble`, `disk-lost`, `rolling-restart`, `force-primary`; a fault that is named twice is twice as likely.
    pub faults: Vec<Spanned<ChaosFault>>,
}

/// A kind of random fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChaosFault {
    /// One machine loses its power.
    PowerLoss,
    /// One daemon is killed.
    Kill,
    /// One daemon is stopped gracefully.
    Stop,
    /// One machine that is down comes back.
    Restart,
    /// One daemon is paused for 100 ms to 2 s.
    Pause,
    /// Two or three random groups.
    Partition,
    /// One random one-way cut.
    Cut,
    /// All links and ports work again.
    Heal,
    /// One VIP's addresses are deleted by hand.
    FlushAddress,
    /// One switch port is silently dead for 100 ms to 2 s.
    PortDead,
    /// Two or three random groups on the VIPs' own segment.
    PartitionSegment,
    /// One guardian is killed.
    KillGuardian,
    /// One guardian is paused for 100 ms to 2 s.
    PauseGuardian,
    /// One daemon and its guardian are killed.
    KillBoth,
    /// One daemon and its guardian are paused for 100 ms to 2 s.
    PauseBoth,
    /// One machine is stopped by its hypervisor for 100 ms to 2 s.
    PauseMachine,
    /// A quarter of all datagrams and frames is lost for 100 ms to 1 s.
    Loss,
    /// One cable is pulled for 100 ms to 2 s.
    CarrierLost,
    /// The kernel of one machine refuses work on one VIP for up to 200 ms, or does not return from it.
    AddressTrouble,
    /// The disk of one machine whose daemon is down is replaced by a blank one.
    DiskLost,
    /// An operator stops and starts the daemons in turn.
    RollingRestart,
    /// All machines but one lose their power, and an operator makes that one primary; the others come back later.
    ForcePrimary,
}
