//! Replay window: was a sequence number seen before? One for each incarnation of a peer.
//!
//! A ring of 64-bit blocks that slides by clearing whole blocks (RFC 6479), so that neither order nor distance makes a step
//! costlier than the ring is long. What is too old to tell is refused.

const BLOCKS: u64 = 17;

/// Remembers which of the last [`ReplayWindow::SIZE`] sequence numbers were seen.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    highest: Option<u64>,
    seen: [u64; BLOCKS as usize],
}

impl ReplayWindow {
    /// A number that lies this far or farther below the highest accepted one is refused. One block less than the ring, because
    /// the block of the highest number is rarely full.
    pub const SIZE: u64 = (BLOCKS - 1) * 64;

    /// Takes note of `sequence`; false if it was seen before or is too old to tell.
    pub fn accept(&mut self, sequence: u64) -> bool {
        match self.highest {
            None => self.highest = Some(sequence),
            Some(highest) if sequence > highest => {
                let passed = (sequence / 64 - highest / 64).min(BLOCKS);
                for block in 1..=passed {
                    self.seen[((highest / 64 + block) % BLOCKS) as usize] = 0;
                }
                self.highest = Some(sequence);
            }
            Some(highest) if highest - sequence >= Self::SIZE => return false,
            Some(_) => {}
        }
        let block = &mut self.seen[(sequence / 64 % BLOCKS) as usize];
        let bit = 1 << (sequence % 64);
        let fresh = *block & bit == 0;
        *block |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn window_after(sequences: impl IntoIterator<Item = u64>) -> ReplayWindow {
        let mut window = ReplayWindow::default();
        for sequence in sequences {
            assert!(window.accept(sequence), "{sequence} is new");
        }
        window
    }

    #[test]
    fn each_number_is_accepted_once() {
        let mut window = window_after([0, 1, 5, 3, 2, 4]);

        for sequence in 0..=5 {
            assert!(!window.accept(sequence), "{sequence} was seen");
        }
    }

    #[test]
    fn a_number_at_the_window_s_edge_is_told_apart_and_beyond_it_refused() {
        let mut window = window_after([5000]);

        assert!(window.accept(5000 - ReplayWindow::SIZE + 1));
        assert!(!window.accept(5000 - ReplayWindow::SIZE + 1));
        assert!(!window.accept(5000 - ReplayWindow::SIZE), "never seen, but too old to tell");
    }

    #[test]
    fn a_jump_forgets_what_it_passes() {
        let mut window = window_after((0..200).chain([1_000_000]));

        assert!(window.accept(1_000_000 - 1000), "a stale bit would refuse it");
        assert!(!window.accept(199));
    }

    #[test]
    fn the_last_number_of_all_is_accepted() {
        let mut window = window_after([u64::MAX - 1, u64::MAX, u64::MAX - ReplayWindow::SIZE + 1]);

        assert!(!window.accept(u64::MAX));
        assert!(!window.accept(0));
    }

    /// Steps of all sizes, near the start, near the end and across block borders.
    fn sequences() -> impl Strategy<Value = Vec<u64>> {
        let offset = prop_oneof![4 => 0..200_u64, 4 => 0..2500_u64, 1 => 0..100_000_u64];
        let start =
            prop_oneof![Just(0), Just(u64::MAX - 100_000), any::<u32>().prop_map(u64::from)];
        (start, vec(offset, 1..400))
            .prop_map(|(start, offsets)| offsets.into_iter().map(|offset| start + offset).collect())
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_all_numbers_seen(sequences in sequences()) {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            for sequence in sequences {
                let too_old = seen.last().is_some_and(|&h: &u64| {
                    h.saturating_sub(sequence) >= ReplayWindow::SIZE
                });
                let expected = !too_old && seen.insert(sequence);
                prop_assert_eq!(window.accept(sequence), expected, "{}", sequence);
            }
        }
    }
}
