//! The small languages inside strings: durations, ranges of them, drifts.

use core::fmt;
use core::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use wackamole_protocol::time::Duration;

use crate::rng::Span;

/// Reads `250us`, `100ms`, `1.5s`, `2m`, `1h`.
///
/// # Errors
/// A sentence that says what was found and what would be accepted.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let complaint = || {
        format!(
            "found `{text}`, expected a duration such as `300us`, `100ms`, `1.5s`, `2m` or `1h`"
        )
    };
    let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(complaint)?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().map_err(|_| complaint())?;
    let micros = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        "h" => 3_600e6,
        _ => return Err(complaint()),
    };
    if !(0.0..=1e12).contains(&number) {
        return Err(complaint());
    }
    Ok(Duration::from_micros((number * micros).round() as u64))
}

/// Reads a duration or a range of durations, `1ms..3ms`.
///
/// # Errors
/// A sentence that says what was found and what would be accepted.
pub fn parse_span(text: &str) -> Result<Span, String> {
    let Some((min, max)) = text.split_once("..") else {
        return Ok(Span::exactly(parse_duration(text)?));
    };
    let span = Span { min: parse_duration(min)?, max: parse_duration(max)? };
    if span.min > span.max {
        return Err(format!("found `{text}`, expected a range whose first end is the smaller one"));
    }
    Ok(span)
}

/// Reads `+200ppm`, `-50ppm`, `0ppm`.
///
/// # Errors
/// A sentence that says what was found and what would be accepted.
pub fn parse_ppm(text: &str) -> Result<i64, String> {
    text.strip_suffix("ppm")
        .and_then(|number| number.parse().ok())
        .filter(|ppm: &i64| ppm.abs() <= 500_000)
        .ok_or_else(|| {
            format!("found `{text}`, expected a drift between `-500000ppm` and `+500000ppm`")
        })
}

/// Writes a duration the way people write it, in the largest unit that keeps it exact to a microsecond.
pub fn duration_text(duration: Duration) -> String {
    let micros = duration.as_micros() as u64;
    match micros {
        0 => "0s".to_owned(),
        _ if micros.is_multiple_of(1_000_000) => format!("{}s", micros / 1_000_000),
        _ if micros > 10_000_000 && micros.is_multiple_of(1_000) => {
            format!("{}s", micros as f64 / 1e6)
        }
        _ if micros.is_multiple_of(1_000) => format!("{}ms", micros / 1_000),
        _ => format!("{micros}us"),
    }
}

/// A type that a scenario writes as a string.
pub trait Text: Sized {
    /// What the string is called in a complaint.
    const WHAT: &'static str;
    /// Reads it.
    ///
    /// # Errors
    /// A sentence that says what was found and what would be accepted.
    fn parse(text: &str) -> Result<Self, String>;
}

impl Text for Duration {
    const WHAT: &'static str = "a duration such as \"100ms\"";
    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text)
    }
}

impl Text for Span {
    const WHAT: &'static str = "a duration or a range such as \"1ms..3ms\"";
    fn parse(text: &str) -> Result<Self, String> {
        parse_span(text)
    }
}

/// A drift in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ppm(pub i64);

impl Text for Ppm {
    const WHAT: &'static str = "a drift such as \"+200ppm\"";
    fn parse(text: &str) -> Result<Self, String> {
        parse_ppm(text).map(Ppm)
    }
}

/// Lets serde read a [`Text`].
#[derive(Clone, Copy, Debug)]
pub struct Written<T>(pub T);

impl<'de, T: Text> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<T: Text> Visitor<'_> for Reader<T> {
            type Value = Written<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::WHAT)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::parse(text).map(Written).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Reader(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_the_units_that_people_write() {
        for (text, micros) in [
            ("250us", 250),
            ("100ms", 100_000),
            ("1.5s", 1_500_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for wrong in ["", "5", "s", "5d", "-5s", "5 s 3", "1e30s"] {
            let complaint = parse_duration(wrong).expect_err(wrong);
            assert!(
                complaint.contains(&format!("`{wrong}`")) && complaint.contains("100ms"),
                "{complaint}"
            );
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["0s", "300us", "100ms", "1500ms", "2s", "75s", "10.5s", "1001us"] {
            assert_eq!(duration_text(parse_duration(text).expect(text)), text);
        }
    }

    #[test]
    fn a_range_has_two_ends_in_order() {
        let ms = Duration::from_millis;
        assert_eq!(parse_span("1ms..3ms"), Ok(Span { min: ms(1), max: ms(3) }));
        assert_eq!(parse_span("2ms"), Ok(Span::exactly(ms(2))));
        assert!(parse_span("3ms..1ms").is_err() && parse_span("1ms..").is_err());
    }

    #[test]
    fn drifts_have_a_sign_and_a_unit() {
        assert_eq!(parse_ppm("+200ppm"), Ok(200));
        assert_eq!(parse_ppm("-50ppm"), Ok(-50));
        assert!(parse_ppm("200").is_err() && parse_ppm("+999999ppm").is_err());
    }
}
