//! Writes down what the driver's observer is told. Never waits: where the bytes go, and whether they get there in time, is the
//! sink's business.

use wackamole_protocol::time::{Duration, Instant};

use super::entry::{End, Entry};
use super::{Header, MAGIC, VERSION, frame};
use crate::driver::Observation;

/// How often the wall clock is noted: it may be set, and clocks drift.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(60);

/// Takes whole frames in order.
pub trait Sink {
    /// Takes a frame; never waits. Returns whether it wants more.
    fn put(&mut self, frame: Vec<u8>) -> bool;
}

/// Turns observations into frames.
pub struct Recorder<S: Sink> {
    sink: S,
    /// Entries of this turn.
    content: Vec<u8>,
    /// The instant of the last entry.
    last: Instant,
    wall_clock: Box<dyn Fn() -> Duration>,
    wall_clock_at: Instant,
    on: bool,
}

impl<S: Sink> Recorder<S> {
    /// Begins a record. `wall_clock` tells the time since 1970.
    pub fn start(
        header: &Header,
        wall_clock: impl Fn() -> Duration + 'static,
        mut sink: S,
    ) -> Self {
        let mut beginning = format!("{MAGIC}{VERSION}\n").into_bytes();
        let json = serde_json::to_vec(header).expect("a header has string keys only");
        beginning.extend(frame(&json));
        let on = sink.put(beginning);
        let started = header.started();
        let wall_clock = Box::new(wall_clock);
        Self { sink, content: Vec::new(), last: started, wall_clock, wall_clock_at: started, on }
    }

    /// Writes down what the driver tells.
    pub fn observe(&mut self, now: Instant, observation: &Observation<'_>) {
        if !self.on {
            return;
        }
        match observation {
            Observation::Turn => {
                self.note(now, &Entry::Turn);
                if now.since(self.wall_clock_at) >= WALL_CLOCK_EVERY {
                    self.wall_clock_at = now;
                    let since_1970 = (self.wall_clock)().as_micros();
                    let entry = Entry::WallClock(u64::try_from(since_1970).unwrap_or(u64::MAX));
                    self.note(now, &entry);
                }
            }
            Observation::Input(input) => self.note(now, &Entry::of_input(input)),
            Observation::Effect(effect) => self.note(now, &Entry::from(*effect)),
            Observation::Event(event) => {
                self.note(now, &Entry::Event(format!("{event:?}").into()));
            }
            Observation::NetworkFault { action, error } => {
                let text = format!("cannot {action}: {error}");
                self.note(now, &Entry::NetworkFault(text.into()));
            }
            Observation::Rest => self.flush(),
        }
    }

    /// The daemon has left: the record is complete.
    pub fn finish(mut self) {
        self.note(self.last, &Entry::End(End::Left));
    }

    fn note(&mut self, now: Instant, entry: &Entry<'_>) {
        let nanos = |at: Instant| at.since_origin().as_nanos() as i64;
        let after = nanos(now).wrapping_sub(nanos(self.last));
        self.last = now;
        // Encoded as `Timed` is, without copying the entry.
        self.content = postcard::to_extend(&(after, entry), std::mem::take(&mut self.content))
            .expect("derived encodings into a vector cannot fail");
    }

    fn flush(&mut self) {
        if self.on && !self.content.is_empty() {
            self.on = self.sink.put(frame(&self.content));
            self.content.clear();
        }
    }
}

impl<S: Sink> Drop for Recorder<S> {
    /// Also in a panic: what led to it is worth most.
    fn drop(&mut self) {
        self.flush();
    }
}
