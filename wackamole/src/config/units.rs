//! Durations as people write them.

use std::time::Duration;

/// Accepted units, the longest names of a prefix first so that `ms` is not read as `m`.
const UNITS: [(&str, u128); 6] = [
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// What [`duration`] accepts, for messages.
pub(super) const ACCEPTED: &str =
    "write a number and a unit, such as \"100ms\", \"1.5s\" or \"2m\"";

/// Reads a number and a unit, such as `100ms`, `1.5s` or `2m`; digits beyond the nanosecond are ignored. Nothing if it
/// is not that.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = (&text[..split], text[split..].trim_start());
    let (_, nanos_per_unit) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Bounds the arithmetic: 10^12 hours and 12 decimal places are more than anybody means.
    if whole.is_empty() || whole.len() > 12 || fraction.is_empty() || fraction.len() > 12 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let nanos = whole.parse::<u128>().ok()? * nanos_per_unit
        + fraction.parse::<u128>().ok()? * nanos_per_unit / scale;
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

/// Writes a duration so that [`duration`] reads it again, in the largest unit that makes it a whole number.
pub(super) fn show(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    UNITS
        .into_iter()
        .rev()
        .filter(|(name, _)| *name != "µs")
        .find(|(_, nanos_per_unit)| nanos.is_multiple_of(*nanos_per_unit))
        .map_or_else(
            || format!("{}us", nanos as f64 / 1e3),
            |(name, nanos_per_unit)| format!("{}{name}", nanos / nanos_per_unit),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, expected) in [
            ("100ms", Some(Duration::from_millis(100))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("0.25ms", Some(Duration::from_micros(250))),
            ("10 us", Some(Duration::from_micros(10))),
            ("10µs", Some(Duration::from_micros(10))),
            ("2m", Some(Duration::from_secs(120))),
            ("1h", Some(Duration::from_secs(3600))),
            ("0s", Some(Duration::ZERO)),
            ("100", None),
            ("ms", None),
            (".5s", None),
            ("1.s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("1e3s", None),
            ("1 minute", None),
            ("", None),
            ("999999999999h", None),
            ("9999999999999999999999999s", None),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for nanos in [0, 1_500, 250_000, 100_000_000, 1_500_000_000, 120_000_000_000] {
            let original = Duration::from_nanos(nanos);
            assert_eq!(duration(&show(original)), Some(original), "{}", show(original));
        }
        assert_eq!(show(Duration::from_millis(1500)), "1500ms");
        assert_eq!(show(Duration::from_secs(120)), "2m");
    }
}
