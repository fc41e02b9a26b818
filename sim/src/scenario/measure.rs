//! Lengths of time that an expectation is about, in terms of the configuration: `failure_timeout + 2 * heartbeat + 20ms`.

use core::fmt;

use wackamole_protocol::config::Partition;
use wackamole_protocol::time::Duration;

use super::Scenario;
use super::text::{Text, duration_text, parse_duration};
use crate::bounds::Bounds;

const TICK: Duration = Duration::from_millis(1);
/// What a failover takes beside detection: three messages, kernel work, and the grain of the simulation.
const TAKEOVER: Duration = Duration::from_millis(20);

/// A length of time that the configuration determines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `[timing] heartbeat`.
    Heartbeat,
    /// `[timing] failure_timeout`.
    FailureTimeout,
    /// `[timing] mature`: a joiner's wait before it may own.
    Maturity,
    /// For how long a node may hold without an echo: the promise on its own clock, less the release margin.
    Lease,
    /// P2: failure timeout + heartbeat + 20 ms.
    Failover,
    /// One release, one message, one acquire, of all VIPs at once if it must be.
    Handover,
    /// `lan`: what asking the segment takes; nothing under the other policies.
    Inquiry,
    /// There and back at the longest latency, and the grain of the simulation.
    RoundTrip,
    /// `[balance] interval`.
    BalanceInterval,
    /// `quorum`: the longest that a disk takes to make a record safe; nothing under the other policies.
    Sync,
    /// What the repetitions of one message and its answer take that are lost as often as anybody has to reckon with;
    /// nothing on wires that lose nothing.
    Repetitions,
}

impl Word {
    /// Each, and how it is written.
    const ALL: [(&'static str, Self); 11] = [
        ("heartbeat", Self::Heartbeat),
        ("failure_timeout", Self::FailureTimeout),
        ("maturity", Self::Maturity),
        ("lease", Self::Lease),
        ("failover", Self::Failover),
        ("handover", Self::Handover),
        ("inquiry", Self::Inquiry),
        ("round_trip", Self::RoundTrip),
        ("balance_interval", Self::BalanceInterval),
        ("sync", Self::Sync),
        ("repetitions", Self::Repetitions),
    ];

    fn parse(text: &str) -> Option<Self> {
        let named = |name: &str| Self::ALL.iter().find(|(word, _)| *word == name);
        let found = named(text).or_else(|| named(text.strip_suffix('s')?));
        found.map(|(_, word)| *word)
    }

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(_, word)| *word == self).map_or("", |(text, _)| text)
    }

    fn of(self, scenario: &Scenario, bounds: &Bounds) -> Duration {
        let timing = scenario.timing;
        let under = |partition, length| {
            if scenario.safety.partition == partition { length } else { Duration::ZERO }
        };
        match self {
            Self::Heartbeat => timing.heartbeat,
            Self::FailureTimeout => timing.failure_timeout,
            Self::Maturity => timing.mature,
            Self::Lease => {
                let rate = 1.0 - f64::from(scenario.safety.drift_ppm) / 1e6;
                let promise = Duration::from_secs_f64(timing.failure_timeout.as_secs_f64() * rate);
                let margins = (0..scenario.nodes.len())
                    .map(|node| crate::world::release_margin(scenario, node));
                promise.saturating_sub(margins.min().unwrap_or_default())
            }
            Self::Failover => timing.failure_timeout + timing.heartbeat + TAKEOVER,
            Self::Handover => bounds.handover,
            Self::Inquiry => bounds.inquiry,
            Self::RoundTrip => 2 * (scenario.latency.max + TICK),
            Self::BalanceInterval => scenario.balance.interval,
            Self::Sync => under(Partition::Quorum, scenario.sync.max),
            Self::Repetitions => bounds.repetitions,
        }
    }
}

/// One summand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Term {
    Plain(Duration),
    Times(f64, Word),
}

/// A sum of durations and multiples of what the configuration says.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure(Vec<Term>);

impl Measure {
    /// How long that is in a scenario.
    pub fn of(&self, scenario: &Scenario, bounds: &Bounds) -> Duration {
        let lengths = self.0.iter().map(|term| match term {
            Term::Plain(duration) => *duration,
            Term::Times(count, word) => {
                let length = word.of(scenario, bounds).as_secs_f64() * count;
                // To the microsecond, as durations are written.
                Duration::from_micros((length * 1e6).round() as u64)
            }
        });
        lengths.sum()
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, term) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" + ")?;
            }
            match term {
                Term::Plain(duration) => f.write_str(&duration_text(*duration))?,
                Term::Times(count, word) if (count - 1.0).abs() < f64::EPSILON => {
                    f.write_str(word.text())?;
                }
                Term::Times(count, word) => write!(f, "{count} * {}", word.text())?,
            }
        }
        Ok(())
    }
}

impl Text for Measure {
    const WHAT: &'static str =
        "a length of time such as \"failure_timeout + 2 * heartbeat + 20ms\"";

    fn parse(text: &str) -> Result<Self, String> {
        let terms: Result<Vec<Term>, String> =
            text.split('+').map(|term| parse_term(term.trim(), text)).collect();
        terms.map(Self)
    }
}

/// `20ms`, `heartbeat`, `2 * heartbeat`, `2 heartbeats`.
fn parse_term(term: &str, whole: &str) -> Result<Term, String> {
    if let Ok(duration) = parse_duration(term) {
        return Ok(Term::Plain(duration));
    }
    let split = term.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(term.len());
    let (count, word) = term.split_at(split);
    let count = count.trim().trim_end_matches('*').trim_end();
    let count = if count.is_empty() { Some(1.0) } else { count.parse().ok() };
    let count = count.filter(|count: &f64| (0.0..=1e6).contains(count));
    match (count, Word::parse(word)) {
        (Some(count), Some(word)) => Ok(Term::Times(count, word)),
        _ => {
            let words: Vec<&str> = Word::ALL.iter().map(|(word, _)| *word).collect();
            let found = if term == whole { String::new() } else { format!(" in `{whole}`") };
            Err(format!(
                "found `{term}`{found}, expected a duration such as `20ms`, or a multiple such as `2 * heartbeat` of one of {}; \
                 joined with `+`",
                words.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "title = \"x\"\nnodes = 3\nvips = 2\nduration = \"10s\"\n";

    fn length(text: &str, addition: &str) -> Duration {
        let scenario = Scenario::parse("x.toml", &format!("{PLAIN}{addition}")).expect("good");
        let measure = Measure::parse(text).unwrap_or_else(|complaint| panic!("{complaint}"));
        measure.of(&scenario, &Bounds::of(&scenario))
    }

    #[test]
    fn lengths_follow_the_configuration() {
        let fast = "[timing]\nheartbeat = \"10ms\"\nfailure_timeout = \"40ms\"\nmature = \"1s\"\n";
        for (text, slow_ms, fast_ms) in [
            ("20ms", 20, 20),
            ("failover", 520, 70),
            ("failure_timeout + 2 * heartbeat + 20ms", 620, 80),
            ("2 failovers", 1040, 140),
            ("1.5 * heartbeat", 150, 15),
            ("maturity + 2 round_trips", 2008, 1008),
            ("balance_interval", 4000, 4000),
            ("sync + inquiry + repetitions", 0, 0),
        ] {
            let ms = Duration::from_millis;
            assert_eq!(
                (length(text, ""), length(text, fast)),
                (ms(slow_ms), ms(fast_ms)),
                "{text}"
            );
        }
        let quorum = "[safety]\npartition = \"quorum\"\n";
        assert_eq!(length("sync", quorum), Duration::from_millis(2));
        assert_eq!(length("lease", quorum), Duration::from_micros(399_600));
    }

    #[test]
    fn a_measure_is_written_as_it_is_read() {
        for (text, written) in [
            ("failover", "failover"),
            ("2 heartbeats+20ms", "2 * heartbeat + 20ms"),
            ("1 * lease + 1.5 handovers", "lease + 1.5 * handover"),
        ] {
            let measure = Measure::parse(text).expect(text);
            assert_eq!(measure.to_string(), written);
            assert_eq!(Measure::parse(written), Ok(measure));
        }
    }

    #[test]
    fn a_complaint_says_what_was_found_and_what_is_accepted() {
        insta::assert_snapshot!(
            Measure::parse("failover + 2 * hartbeat").expect_err("a misspelt word"),
            @"found `2 * hartbeat` in `failover + 2 * hartbeat`, expected a duration such as `20ms`, or a multiple such as `2 * heartbeat` of one of heartbeat, failure_timeout, maturity, lease, failover, handover, inquiry, round_trip, balance_interval, sync, repetitions; joined with `+`"
        );
        for wrong in
            ["", "5", "failover +", "2 * 20ms", "-1 * heartbeat", "heartbeat - 5ms", "heart beat"]
        {
            let complaint = Measure::parse(wrong).expect_err(wrong);
            assert!(complaint.starts_with("found `"), "{wrong}: {complaint}");
        }
    }
}
