//! A few numbers about many.

use std::time::Duration;

/// Smallest, middle and largest of some durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    /// The smallest.
    pub min: Duration,
    /// The middle one; the upper of two.
    pub median: Duration,
    /// The largest.
    pub max: Duration,
}

impl Spread {
    /// Of no durations there is none.
    pub(crate) fn of(durations: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<_> = durations.into_iter().collect();
        sorted.sort();
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Self { min, median: sorted[sorted.len() / 2], max })
    }
}

/// Milliseconds with one decimal.
pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_orders_what_it_gets() {
        let ms = Duration::from_millis;

        let spread = Spread::of([ms(5), ms(1), ms(9)]);

        assert_eq!(spread, Some(Spread { min: ms(1), median: ms(5), max: ms(9) }));
        assert_eq!(Spread::of([]), None);
    }
}
