//! A step of a scenario as it is written: when, and which fault.

use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use toml::Spanned;
use wackamole_protocol::time::Duration;

use super::OneOrMany;
use crate::rng::Span;
use crate::scenario::text::Written;

/// Something that happens: a time and exactly one fault.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What expectations call it; several steps may have the same name.
    pub name: Option<Spanned<String>>,
    /// When; a range is drawn from by seed.
    pub at: Written<Span>,
    /// Repeats the step at this spacing.
    pub every: Option<Written<Span>>,
    /// How often it happens in all; needs `every`.
    pub times: Option<u32>,

    /// The machines lose their power.
    pub power_loss: Option<OneOrMany>,
    /// SIGKILL: the daemons end without a word, their kernels keep the addresses.
    pub kill: Option<OneOrMany>,
    /// The daemons start again; machines without power are switched on.
    pub restart: Option<OneOrMany>,
    /// SIGTERM: the daemons leave gracefully.
    pub stop: Option<OneOrMany>,
    /// SIGSTOP.
    pub pause: Option<OneOrMany>,
    /// SIGCONT.
    pub resume: Option<OneOrMany>,
    /// SIGKILL for the guardians alone.
    pub kill_guardian: Option<OneOrMany>,
    /// SIGSTOP for the guardians alone.
    pub pause_guardian: Option<OneOrMany>,
    /// SIGCONT for the guardians.
    pub resume_guardian: Option<OneOrMany>,
    /// The hypervisor stops the machines: daemon, guardian, kernel and clock.
    pub pause_machine: Option<OneOrMany>,
    /// They go on as if nothing had been.
    pub resume_machine: Option<OneOrMany>,
    /// What the daemons have stored is gone.
    pub disk_lost: Option<OneOrMany>,
    /// `wackamole force-primary` on these nodes: each alone is the primary view, whatever others do; means
    /// something only under `quorum`.
    pub force_primary: Option<OneOrMany>,
    /// The switch ports of the VIPs' segment stop forwarding; the carrier stays.
    pub port_dead: Option<OneOrMany>,
    /// The cables of the VIPs' segment are pulled.
    pub carrier_lost: Option<OneOrMany>,
    /// The ports forward again, with a carrier.
    pub port_back: Option<OneOrMany>,
    /// Groups of stations that reach only each other. Each node is in one; a client that is in none goes with the first.
    pub partition: Option<Vec<Vec<String>>>,
    /// A one-way cut.
    pub cut: Option<Pair>,
    /// `"all"`, or stations among which all links work again in both directions.
    pub heal: Option<OneOrMany>,
    /// As `partition`, of the segment of VIPs and clients; needs `segment = "own"`.
    pub partition_segment: Option<Vec<Vec<String>>>,
    /// As `cut`, on that segment.
    pub cut_segment: Option<Pair>,
    /// As `heal`, on that segment.
    pub heal_segment: Option<OneOrMany>,
    /// Changes the probability of loss.
    pub loss: Option<Ratio>,
    /// Changes the probability of duplication.
    pub duplicate: Option<Ratio>,
    /// Changes the probability of reordering.
    pub reorder: Option<Ratio>,
    /// Changes the probability of corruption.
    pub corrupt: Option<Ratio>,
    /// Changes the latency of all links.
    pub latency: Option<Written<Span>>,
    /// Changes how wrong a node's clock goes.
    pub drift: Option<Drift>,
    /// Address work goes wrong.
    pub address_error: Option<AddressError>,
    /// An operator deletes a VIP's addresses.
    pub flush_address: Option<FlushAddress>,
}

/// A directed pair of stations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
}

/// A probability for all links (a bare number) or for one directed link.
#[derive(Debug)]
pub struct Ratio {
    /// The probability.
    pub ratio: f64,
    /// The link; all if there is none.
    pub link: Option<(String, String)>,
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct OfLink {
            ratio: f64,
            from: String,
            to: String,
        }
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Ratio;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 1, or { ratio = 0.1, from = \"a\", to = \"b\" }")
            }
            fn visit_f64<E: Error>(self, ratio: f64) -> Result<Ratio, E> {
                Ok(Ratio { ratio, link: None })
            }
            fn visit_i64<E: Error>(self, ratio: i64) -> Result<Ratio, E> {
                Ok(Ratio { ratio: ratio as f64, link: None })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Ratio, A::Error> {
                let of = OfLink::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Ratio { ratio: of.ratio, link: Some((of.from, of.to)) })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A change of drift.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Whose clock.
    pub node: String,
    /// How wrong it goes from now on.
    pub ppm: i64,
}

/// Address work that goes wrong.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressError {
    /// On which node.
    pub node: String,
    /// With which VIP.
    pub vip: String,
    /// How.
    pub kind: ErrorKind,
    /// For how long; for ever unless given.
    #[serde(rename = "for")]
    pub lasts: Option<Written<Duration>>,
}

/// How address work goes wrong.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// It is refused.
    Fail,
    /// It does not return.
    Hang,
}

/// `ip address del` by hand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlushAddress {
    /// On which node; on whoever holds it unless given.
    pub node: Option<String>,
    /// Which VIP.
    pub vip: String,
}
