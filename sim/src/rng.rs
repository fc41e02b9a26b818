//! Random numbers that a seed determines, for ever: traces and snapshots must not change with a library's version.

use wackamole_protocol::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of one seed and one purpose; different purposes give independent sequences.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut rng = Self(seed ^ 0x9e37_79b9_7f4a_7c15);
        for byte in purpose.bytes() {
            rng.0 = rng.next() ^ u64::from(byte);
        }
        rng
    }

    /// The next 64 random bits.
    #[allow(clippy::should_implement_trait)] // not an iterator: it never ends and nobody adapts it
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; zero if `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The multiplication maps 64 random bits onto the range; the bias is below 2^-32 for any bound that we use.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True with the given probability. Draws nothing when the answer is certain, so that a network without faults
    /// costs nothing.
    pub fn chance(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            return false;
        }
        probability >= 1.0 || (self.next() >> 11) as f64 / ((1u64 << 53) as f64) < probability
    }

    /// One of the elements, or nothing from an empty slice.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}

/// A length of time, or a range that it is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl Span {
    /// Always the same.
    pub const fn exactly(duration: Duration) -> Self {
        Self { min: duration, max: duration }
    }

    /// A duration from the range, in whole microseconds.
    pub fn draw(self, rng: &mut Rng) -> Duration {
        let width = (self.max.saturating_sub(self.min)).as_micros() as u64;
        if width == 0 {
            return self.min;
        }
        self.min + Duration::from_micros(rng.below(width + 1))
    }

    /// A duration from the range, in whole milliseconds: the grain of the simulated network, where anything finer would
    /// be rounded up and make every delay longer than drawn.
    pub fn draw_ticks(self, rng: &mut Rng) -> Duration {
        let width = (self.max.saturating_sub(self.min)).as_millis() as u64;
        if width == 0 {
            return self.min;
        }
        self.min + Duration::from_millis(rng.below(width + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_purpose_determine_the_sequence() {
        let sequence = |seed, purpose| {
            let mut rng = Rng::new(seed, purpose);
            [rng.next(), rng.next(), rng.next()]
        };
        assert_eq!(sequence(1, "netem"), sequence(1, "netem"));
        assert_ne!(sequence(1, "netem"), sequence(2, "netem"));
        assert_ne!(sequence(1, "netem"), sequence(1, "plan"));
    }

    #[test]
    fn chances_come_out_as_often_as_stated() {
        let mut rng = Rng::new(7, "chance");
        let hits = (0..100_000).filter(|_| rng.chance(0.05)).count();
        assert!((4_700..5_300).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !rng.chance(0.0)));
        assert!((0..1000).all(|_| rng.chance(1.0)));
    }

    #[test]
    fn a_range_is_used_from_end_to_end() {
        let span = Span { min: Duration::from_millis(1), max: Duration::from_millis(3) };
        let mut rng = Rng::new(7, "span");
        let drawn: Vec<_> = (0..10_000).map(|_| span.draw(&mut rng)).collect();
        assert!(drawn.iter().all(|d| (span.min..=span.max).contains(d)));
        assert!(drawn.iter().any(|d| *d < Duration::from_micros(1_010)));
        assert!(drawn.iter().any(|d| *d > Duration::from_micros(2_990)));
    }
}
