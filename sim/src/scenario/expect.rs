//! What a story expects beyond what every run promises, told relative to what is done to the world.

use wackamole_protocol::config::Partition;
use wackamole_protocol::time::Duration;

use super::Scenario;
use super::measure::Measure;
use crate::bounds::Bounds;

/// From when on something is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// In the whole run, whatever is done meanwhile.
    Start,
    /// From the last thing that is done until the end.
    LastFault,
    /// After each step of this name, until the next thing that is done.
    Step(String),
}

/// How Anchor::Start and Anchor::LastFault are written.
pub(super) const START: &str = "start";
pub(super) const LAST_FAULT: &str = "last fault";

impl Anchor {
    /// As it is written.
    pub fn text(&self) -> &str {
        match self {
            Self::Start => START,
            Self::LastFault => LAST_FAULT,
            Self::Step(name) => name,
        }
    }
}

/// How often VIPs may change machines; the first acquire of each is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovesMax {
    /// All together.
    Total(usize),
    /// Each of them.
    PerVip(usize),
}

/// How many members the views have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewSize {
    /// The view of every daemon that runs.
    Every(usize),
    /// Those of these nodes; none is a view of nobody.
    Of(Vec<(usize, usize)>),
}

/// One thing that is expected.
#[derive(Clone, Debug, PartialEq)]
pub enum Promise {
    /// From so long after the anchor on every VIP answers every client, but for the moments of a handover.
    CoveredWithin(Measure),
    /// Then, and at the end, the load is even.
    BalancedWithin(Measure),
    /// No client waits longer for an answer from a VIP that has answered before.
    InterruptionMax(Measure),
    /// No two kernels answer for one VIP longer than that, whatever the policy allows.
    OverlapMax(Measure),
    /// How often VIPs change machines.
    MovesMax(MovesMax),
    /// How many members the views have at the end.
    ViewSize(ViewSize),
    /// Pairs of VIP and node: exactly this machine answers for it at the end.
    Holder(Vec<(usize, usize)>),
    /// In so much time before the end no VIP is acquired or released, and no view comes or goes.
    QuietFor(Measure),
}

impl Promise {
    /// The key under which it is written; violations are filed under it.
    pub fn key(&self) -> &'static str {
        match self {
            Self::CoveredWithin(_) => "covered_within",
            Self::BalancedWithin(_) => "balanced_within",
            Self::InterruptionMax(_) => "interruption_max",
            Self::OverlapMax(_) => "overlap_max",
            Self::MovesMax(_) => "moves_max",
            Self::ViewSize(_) => "view_size",
            Self::Holder(_) => "holder",
            Self::QuietFor(_) => "quiet_for",
        }
    }

    /// The length of time that it is about, if it is about one.
    pub fn measure(&self) -> Option<&Measure> {
        match self {
            Self::CoveredWithin(measure)
            | Self::BalancedWithin(measure)
            | Self::InterruptionMax(measure)
            | Self::OverlapMax(measure)
            | Self::QuietFor(measure) => Some(measure),
            Self::MovesMax(_) | Self::ViewSize(_) | Self::Holder(_) => None,
        }
    }
}

/// One expectation: what, from when on, and for whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// From when on.
    pub after: Anchor,
    /// Only under these policies; under any if there are none.
    pub policies: Vec<Partition>,
    /// Only these clients count; all if there are none.
    pub clients: Vec<usize>,
    /// What.
    pub promise: Promise,
}

impl Expectation {
    /// It is expected under the scenario's policy.
    pub fn applies(&self, scenario: &Scenario) -> bool {
        self.policies.is_empty() || self.policies.contains(&scenario.safety.partition)
    }

    /// The length of time that it is about, in a scenario.
    pub fn length(&self, scenario: &Scenario, bounds: &Bounds) -> Duration {
        self.promise.measure().map(|measure| measure.of(scenario, bounds)).unwrap_or_default()
    }

    /// How a violation begins: what is expected in the words of the file, how long that is, and from when on.
    pub fn heading(&self, scenario: &Scenario, length: Duration, from: Duration) -> String {
        let length = match self.promise.measure() {
            Some(_) => format!(" ({} ms)", length.as_secs_f64() * 1e3),
            None => String::new(),
        };
        let from = match &self.after {
            Anchor::Start => String::new(),
            _ => format!(" at {}.{:03} s", from.as_secs(), from.subsec_millis()),
        };
        format!("expected {}{length} {}{from}", self.words(scenario), self.since())
    }

    /// Whether a violation's sentence begins so.
    pub fn is_told_by(&self, sentence: &str, scenario: &Scenario) -> bool {
        let rest = sentence.strip_prefix(&format!("expected {}", self.words(scenario)));
        rest.is_some_and(|rest| rest.contains(&format!(" {}", self.since())))
    }

    fn words(&self, scenario: &Scenario) -> String {
        format!("{} = {}", self.promise.key(), super::write::promise(&self.promise, scenario))
    }

    fn since(&self) -> String {
        match &self.after {
            Anchor::Start => "in the whole run".to_owned(),
            Anchor::LastFault => "after the last fault".to_owned(),
            Anchor::Step(name) => format!("after `{name}`"),
        }
    }
}

/// What the checkers that look at every run let pass in this one.
#[derive(Clone, Debug, Default)]
pub struct Allow {
    /// For how long a kernel without a running daemon may answer beside another where no fence stands.
    pub unattended_overlap: Duration,
    /// VIPs that stay dark on purpose.
    pub uncovered: Vec<usize>,
}
