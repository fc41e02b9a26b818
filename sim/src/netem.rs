//! What the wires do to datagrams: loss, duplication, reordering, corruption and extra delay, for each directed link.
//!
//! Pure and seeded; it knows neither sockets nor time. turmoil's own `fail_rate` is not used: it breaks a whole link in
//! both directions, clears what is in flight, and its repair silently heals an explicit one-way cut.

use wackamole_protocol::time::Duration;

use crate::links::Station;
use crate::rng::{Rng, Span};

/// Probabilities and delays of one directed link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// Probability that a datagram is lost.
    pub loss: f64,
    /// Probability that a datagram arrives twice.
    pub duplicate: f64,
    /// Probability that a datagram is held back by `reorder_delay`, so that later ones overtake it.
    pub reorder: f64,
    /// Probability that one bit of a datagram is flipped.
    pub corrupt: f64,
    /// Delay of every datagram on top of the ticks that the engine's wires take.
    pub extra_delay: Span,
    /// By how much a reordered datagram, or a duplicate's second copy, is late.
    pub reorder_delay: Span,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            extra_delay: Span::exactly(Duration::ZERO),
            reorder_delay: Span { min: Duration::from_millis(2), max: Duration::from_millis(20) },
        }
    }
}

impl Impairment {
    fn ratio(&self, knob: Knob) -> f64 {
        match knob {
            Knob::Loss => self.loss,
            Knob::Duplicate => self.duplicate,
            Knob::Reorder => self.reorder,
            Knob::Corrupt => self.corrupt,
        }
    }
}

/// Which property of a link a fault changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knob {
    /// [`Impairment::loss`]
    Loss,
    /// [`Impairment::duplicate`]
    Duplicate,
    /// [`Impairment::reorder`]
    Reorder,
    /// [`Impairment::corrupt`]
    Corrupt,
}

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// When the first copy arrives, counted from now; `None` if it is lost.
    pub first: Option<Duration>,
    /// When a second copy arrives, if there is one.
    pub second: Option<Duration>,
    /// Which bit is flipped, if one is.
    pub flipped_bit: Option<usize>,
}

/// All links of a segment.
#[derive(Clone, Debug)]
pub struct Netem {
    stations: usize,
    links: Vec<Impairment>,
    /// The largest ratio of each knob.
    worst: [f64; 4],
    rng: Rng,
}

impl Netem {
    /// A network of equal links.
    pub fn new(stations: usize, seed: u64, everywhere: Impairment) -> Self {
        let links = vec![everywhere; stations * stations];
        let mut netem = Self { stations, links, worst: [0.0; 4], rng: Rng::new(seed, "netem") };
        netem.find_worst();
        netem
    }

    /// The present state of a link.
    pub fn link(&self, from: Station, to: Station) -> &Impairment {
        &self.links[from * self.stations + to]
    }

    /// Changes one property of one directed link, or of all.
    pub fn set(&mut self, link: Option<(Station, Station)>, knob: Knob, ratio: f64) {
        self.change(link, |impairment| match knob {
            Knob::Loss => impairment.loss = ratio,
            Knob::Duplicate => impairment.duplicate = ratio,
            Knob::Reorder => impairment.reorder = ratio,
            Knob::Corrupt => impairment.corrupt = ratio,
        });
    }

    /// Changes the extra delay of one directed link, or of all.
    pub fn set_extra_delay(&mut self, link: Option<(Station, Station)>, delay: Span) {
        self.change(link, |impairment| impairment.extra_delay = delay);
    }

    /// The largest probability of one kind of trouble on any link.
    pub fn max(&self, knob: Knob) -> f64 {
        self.worst[knob as usize]
    }

    /// Decides about one datagram.
    pub fn fate(&mut self, from: Station, to: Station, length: usize) -> Fate {
        let link = self.links[from * self.stations + to];
        if self.rng.chance(link.loss) {
            return Fate { first: None, second: None, flipped_bit: None };
        }
        let mut first = link.extra_delay.draw_ticks(&mut self.rng);
        let second =
            self.rng.chance(link.duplicate).then(|| first + link.reorder_delay.draw(&mut self.rng));
        if self.rng.chance(link.reorder) {
            first += link.reorder_delay.draw(&mut self.rng);
        }
        let flipped_bit = (length > 0 && self.rng.chance(link.corrupt))
            .then(|| self.rng.below(length as u64 * 8) as usize);
        Fate { first: Some(first), second, flipped_bit }
    }

    /// Decides about a broadcast frame of a station that is not a daemon's datagram: `None` if it is lost, otherwise
    /// its extra delay.
    pub fn frame(&mut self, from: Station, to: Station) -> Option<Duration> {
        let link = self.links[from * self.stations + to];
        if self.rng.chance(link.loss) {
            return None;
        }
        Some(link.extra_delay.draw_ticks(&mut self.rng))
    }

    fn change(
        &mut self,
        link: Option<(Station, Station)>,
        mut change: impl FnMut(&mut Impairment),
    ) {
        match link {
            Some((from, to)) => change(&mut self.links[from * self.stations + to]),
            None => self.links.iter_mut().for_each(change),
        }
        self.find_worst();
    }

    fn find_worst(&mut self) {
        let knobs = [Knob::Loss, Knob::Duplicate, Knob::Reorder, Knob::Corrupt];
        self.worst =
            knobs.map(|knob| self.links.iter().map(|link| link.ratio(knob)).fold(0.0, f64::max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(netem: &mut Netem, count: usize) -> Vec<Fate> {
        (0..count).map(|_| netem.fate(0, 1, 100)).collect()
    }

    #[test]
    fn a_network_without_faults_delivers_everything_at_once() {
        let mut netem = Netem::new(2, 1, Impairment::default());
        let at_once = Fate { first: Some(Duration::ZERO), second: None, flipped_bit: None };
        assert!(fates(&mut netem, 1000).iter().all(|fate| *fate == at_once));
    }

    #[test]
    fn each_knob_turns_one_thing_as_often_as_asked() {
        let count_with = |knob, seen: fn(&Fate) -> bool| {
            let mut netem = Netem::new(2, 3, Impairment::default());
            netem.set(Some((0, 1)), knob, 0.1);
            assert_eq!(
                netem.fate(1, 0, 100).first,
                Some(Duration::ZERO),
                "the other way is untouched"
            );
            let fates = fates(&mut netem, 10_000);
            fates.iter().filter(|fate| seen(fate)).count()
        };
        let about_a_tenth = 850..1150;
        assert!(about_a_tenth.contains(&count_with(Knob::Loss, |f| f.first.is_none())));
        assert!(about_a_tenth.contains(&count_with(Knob::Duplicate, |f| f.second.is_some())));
        assert!(about_a_tenth.contains(&count_with(Knob::Corrupt, |f| f.flipped_bit.is_some())));
        let late = |f: &Fate| f.first.is_some_and(|delay| delay >= Duration::from_millis(2));
        assert!(about_a_tenth.contains(&count_with(Knob::Reorder, late)));
    }

    #[test]
    fn the_flipped_bit_lies_inside_the_datagram() {
        let mut netem = Netem::new(2, 3, Impairment { corrupt: 1.0, ..Impairment::default() });
        assert!((0..1000).all(|_| netem.fate(0, 1, 3).flipped_bit.is_some_and(|bit| bit < 24)));
        assert_eq!(netem.fate(0, 1, 0).flipped_bit, None);
    }

    #[test]
    fn the_same_seed_decides_the_same() {
        let lossy = Impairment { loss: 0.3, duplicate: 0.3, reorder: 0.3, ..Impairment::default() };
        let (mut one, mut two) = (Netem::new(2, 9, lossy), Netem::new(2, 9, lossy));
        assert_eq!(fates(&mut one, 500), fates(&mut two, 500));
    }
}
