//! What must be true, as it is written.

use core::fmt;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use wackamole_protocol::time::Duration;

use super::super::measure::Measure;
use super::super::text::Written;
use super::Policy;

/// All tables `[[expect]]`.
#[derive(Debug, Default)]
pub struct Expectations(pub Vec<Spanned<Expect>>);

impl<'de> Deserialize<'de> for Expectations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Expectations;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tables `[[expect]]`")
            }
            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Expectations, A::Error> {
                Err(A::Error::custom(
                    "found one table `[expect]`, expected tables `[[expect]]`, each with what is expected after one thing",
                ))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Expectations, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(sequence)).map(Expectations)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// What must be true after something was done, beyond what is always true. At least one thing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `"last fault"` (default): from the last step, fault of chaos or start of a node on. `"start"`: in the whole run. Or
    /// the name of steps: from each of them until whatever is done next.
    pub after: Option<Spanned<String>>,
    /// Only under these partition policies; under all unless given.
    #[serde(default)]
    pub policies: Vec<Spanned<Policy>>,
    /// Only what these clients see; what all see unless given.
    #[serde(default)]
    pub clients: Vec<Spanned<String>>,
    /// From so long after it on every VIP answers, but for the moments of a handover.
    pub covered_within: Option<Spanned<Written<Measure>>>,
    /// So long after it, and at the end, the load is even.
    pub balanced_within: Option<Spanned<Written<Measure>>>,
    /// How long a client may be without an answer from a VIP that has answered before.
    pub interruption_max: Option<Spanned<Written<Measure>>>,
    /// For how long two kernels may answer for one VIP at most, whatever the policy allows.
    pub overlap_max: Option<Spanned<Written<Measure>>>,
    /// How often VIPs may change machines, the first acquire of each not counted: a number, or `"2 per vip"`.
    pub moves_max: Option<Spanned<MovesMax>>,
    /// How many members the view of every daemon that runs has at the end: a number; or of some nodes: `{ a = 2, c = 0 }`.
    pub view_size: Option<Spanned<ViewSize>>,
    /// Who answers for what at the end: `{ v1 = "b" }`.
    #[serde(default)]
    pub holder: BTreeMap<Spanned<String>, Spanned<String>>,
    /// So long before the end no VIP is acquired or released, and no view comes or goes.
    pub quiet_for: Option<Spanned<Written<Measure>>>,
}

/// What is let pass that would be a violation elsewhere.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// For how long a kernel without a running daemon may answer beside another where no fence stands; zero unless given.
    pub unattended_overlap: Option<Written<Duration>>,
    /// Some VIP stays dark on purpose: whether these are covered is not looked at.
    #[serde(default)]
    pub uncovered: Vec<Spanned<String>>,
}

/// How often VIPs may change machines.
#[derive(Clone, Copy, Debug)]
pub enum MovesMax {
    /// All together.
    Total(usize),
    /// Each of them.
    PerVip(usize),
}

const MOVES: &str = "a number of moves, or one for each VIP such as \"2 per vip\"";

impl<'de> Deserialize<'de> for MovesMax {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = MovesMax;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(MOVES)
            }
            fn visit_i64<E: Error>(self, count: i64) -> Result<MovesMax, E> {
                let complaint = |_| E::custom(format!("found `{count}`, expected {MOVES}"));
                usize::try_from(count).map(MovesMax::Total).map_err(complaint)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<MovesMax, E> {
                let count =
                    text.strip_suffix(" per vip").and_then(|count| count.trim().parse().ok());
                count
                    .map(MovesMax::PerVip)
                    .ok_or_else(|| E::custom(format!("found `{text}`, expected {MOVES}")))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// How many members the views have.
#[derive(Debug)]
pub enum ViewSize {
    /// The view of every daemon that runs.
    Every(usize),
    /// Those of these nodes.
    Of(BTreeMap<Spanned<String>, usize>),
}

const VIEW_SIZE: &str =
    "a number of members, or one for each of some nodes such as { a = 2, c = 0 }";

impl<'de> Deserialize<'de> for ViewSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = ViewSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(VIEW_SIZE)
            }
            fn visit_i64<E: Error>(self, count: i64) -> Result<ViewSize, E> {
                let complaint = |_| E::custom(format!("found `{count}`, expected {VIEW_SIZE}"));
                usize::try_from(count).map(ViewSize::Every).map_err(complaint)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ViewSize, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(ViewSize::Of)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
