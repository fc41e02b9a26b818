//! Whether an interface that carries VIPs shows a sign of life. Pure.
//!
//! An interface without carrier is dead at once. One with carrier is dead when no frame came in for the failure timeout,
//! although others were asked for answers from half of it on. Any frame counts, whoever sent it: a rebooting gateway must
//! not empty the cluster. It lives again when frames came in two sampling periods, so that one stray frame does not move
//! VIPs to and fro.
//!
//! Where the heartbeats of peers come in nothing else is looked at until they have stopped.
//!
//! Each look at the counter costs a wake-up, so on another live interface they are a third of the failure timeout apart. When one
//! finds new frames the last of them may be as old as the look before, and that is what is assumed: death is never told
//! too late, and by less than a third of the timeout too early, when several questions stayed unanswered. Time
//! in which this machine or this thread stood still is no silence.

use wackamole_protocol::time::{Duration, Instant};

use super::super::mirror::Link;

/// Looks in doubt. Less than half a heartbeat apart, so that a silence is told within that of its end.
const LOOKS_PER_FIVE_HEARTBEATS: u32 = 12;

/// Rounds of questions on a dead interface come at the pace of heartbeats for so long, and then more rarely.
const EAGER: Duration = Duration::from_secs(10);
const PATIENT_PAUSE: Duration = Duration::from_secs(1);

/// A sample is taken after so many timeouts even if heartbeats come in.
const TIMEOUTS_BETWEEN_CHECKS: u32 = 8;

/// When heartbeats count as stopped, for a failure timeout.
pub(super) fn quiet_after(failure_timeout: Duration) -> Duration {
    failure_timeout / 3
}

/// Why an interface is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// There is no such interface.
    Gone,
    /// It is administratively down.
    Down,
    /// No carrier.
    NoCarrier,
    /// Nobody is heard.
    Silent,
}

impl Death {
    /// For people.
    pub(super) fn on(self, interface: &str) -> String {
        match self {
            Self::Gone => format!("there is no interface {interface}"),
            Self::Down => format!("{interface} is down"),
            Self::NoCarrier => format!("{interface} has no carrier"),
            Self::Silent => format!("{interface} shows no sign of life"),
        }
    }
}

/// What to ask the segment now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Somebody who answered before.
    One,
    /// Everybody who should be there.
    All,
}

/// One interface.
#[derive(Debug)]
pub(super) struct Life {
    timeout: Duration,
    heartbeat: Duration,
    /// Nobody but this machine can be on it: loopback, tunnels, what is not Ethernet. It lives while it is up.
    alone: bool,
    death: Option<Death>,
    sampled: Instant,
    /// Frames received when it was sampled last; nothing if that is not known.
    frames: Option<u64>,
    /// A frame was seen since then.
    seen: bool,
    /// The last frame came in no earlier than this.
    last: Instant,
    /// Heartbeats come in, and it will be said when they stop.
    relaxed: bool,
    /// The heartbeat after which they were said to have stopped.
    quiet_since: Instant,
    /// They stopped, and nothing has come in since.
    hurry: bool,
    /// Rounds of questions since then, and when the last one was.
    rounds: u32,
    asked: Instant,
    /// Since when it is dead by silence, and in how many periods there were frames, less than a timeout apart.
    died: Instant,
    signs: u32,
}

impl Life {
    /// An interface that lives unless `link` says otherwise.
    pub(super) fn new(
        heartbeat: Duration,
        timeout: Duration,
        link: Option<&Link>,
        now: Instant,
    ) -> Self {
        let mut life = Self {
            timeout,
            heartbeat,
            alone: false,
            death: None,
            sampled: now,
            frames: None,
            seen: false,
            last: now,
            relaxed: false,
            quiet_since: Instant::ORIGIN,
            hurry: false,
            rounds: 0,
            asked: Instant::ORIGIN,
            died: now,
            signs: 0,
        };
        life.link_is(link, now);
        life
    }

    /// Why it is dead, if it is.
    pub(super) fn death(&self) -> Option<Death> {
        self.death
    }

    /// Frames are counted, because they tell something.
    pub(super) fn is_sampled(&self) -> bool {
        !self.alone && matches!(self.death, None | Some(Death::Silent))
    }

    /// All frames are wanted, and who sends them.
    pub(super) fn is_curious(&self) -> bool {
        self.is_sampled() && self.death.is_some()
    }

    /// Takes what the kernel says about the link.
    pub(super) fn link_is(&mut self, link: Option<&Link>, now: Instant) {
        let cut = match link {
            None => Some(Death::Gone),
            Some(link) if !link.up => Some(Death::Down),
            Some(link) if !link.running => Some(Death::NoCarrier),
            Some(_) => None,
        };
        self.alone = link.is_some_and(|link| link.no_arp || link.mac.is_none());
        match (cut, self.death) {
            (Some(_), _) => self.death = cut,
            (None, _) if self.alone => self.death = None,
            // Carrier alone is no life: whether anybody is there must show.
            (None, Some(Death::Gone | Death::Down | Death::NoCarrier)) => self.die(now),
            (None, None | Some(Death::Silent)) => {}
        }
    }

    fn die(&mut self, now: Instant) {
        self.death = Some(Death::Silent);
        self.sampled = now;
        self.frames = None;
        self.seen = false;
        self.relaxed = false;
        self.hurry = false;
        self.rounds = 0;
        self.asked = Instant::ORIGIN;
        self.died = now;
        self.signs = 0;
    }

    /// A frame of somebody else came in just now.
    pub(super) fn seen(&mut self, now: Instant) {
        self.seen = true;
        if self.death.is_none() {
            self.last = now;
            self.rounds = 0;
        }
    }

    /// The last heartbeat came in at `at`. Returns whether that is enough of a sign, and no sample is needed.
    pub(super) fn heartbeat(&mut self, at: Instant, now: Instant) -> bool {
        if !self.is_sampled() || self.death.is_some() {
            return false;
        }
        self.last = self.last.max(at);
        if at > self.quiet_since && now.since(at) < quiet_after(self.timeout) {
            self.relaxed = true;
            self.sampled = now;
            self.frames = None;
            self.seen = false;
            self.hurry = false;
            self.rounds = 0;
        } else if self.relaxed {
            self.worry(now);
        }
        self.relaxed
    }

    /// Heartbeats have stopped after the one at `at`. Returns whether a sample is needed now, to count from.
    pub(super) fn quiet(&mut self, at: Instant, now: Instant) -> bool {
        self.quiet_since = at;
        if !self.relaxed {
            return false;
        }
        self.last = self.last.max(at);
        self.worry(now);
        true
    }

    /// Heartbeats are no sign any more. That is told within a heartbeat, or the driver stood still and has not heard what
    /// came in meanwhile.
    fn worry(&mut self, now: Instant) {
        self.relaxed = false;
        self.hurry = true;
        self.sampled = now;
        self.last = self.last.max(now - (quiet_after(self.timeout) + self.heartbeat));
    }

    /// When it wants to be sampled next.
    pub(super) fn due(&self) -> Instant {
        if !self.is_sampled() {
            return Instant::FAR_FUTURE;
        }
        if self.death.is_some() {
            return self.sampled + self.period();
        }
        if self.relaxed {
            return self.sampled + self.timeout * TIMEOUTS_BETWEEN_CHECKS;
        }
        let in_doubt = self.last + self.timeout / 2;
        let next = if self.sampled >= in_doubt {
            // The first question does not wait.
            if self.rounds == 0 { self.sampled } else { self.sampled + self.period() }
        } else if self.last > self.sampled || self.hurry {
            in_doubt
        } else {
            self.sampled + (self.timeout / 3).max(self.period())
        };
        next.min(self.end())
    }

    /// Time between two looks in doubt.
    fn period(&self) -> Duration {
        self.heartbeat * 5 / LOOKS_PER_FIVE_HEARTBEATS
    }

    /// When silence is death.
    fn end(&self) -> Instant {
        self.last + self.timeout + self.period()
    }

    /// Takes a sample: how many frames came in, ever, if that is known.
    pub(super) fn sample(&mut self, frames: Option<u64>, now: Instant) {
        let late = now.since(self.due());
        if late > self.period() {
            self.last = (self.last + late).min(now);
        }
        let before = self.frames;
        self.frames = frames.or(before);
        let counted = matches!((before, frames), (Some(before), Some(now)) if before != now);
        let came_in = counted | std::mem::take(&mut self.seen);
        let previous = std::mem::replace(&mut self.sampled, now);
        if self.death.is_some() {
            self.sample_dead(came_in, previous, now);
            return;
        }
        if counted {
            self.last = self.last.max(previous);
        }
        if came_in {
            self.hurry = false;
            self.rounds = 0;
        }
        if now >= self.end() {
            self.die(now);
            self.frames = frames;
        }
    }

    fn sample_dead(&mut self, came_in: bool, previous: Instant, now: Instant) {
        if came_in {
            self.signs = self.signs.saturating_add(1);
            self.last = previous;
            if self.signs >= 2 {
                self.death = None;
                self.rounds = 0;
            }
        } else if now.since(self.last) > self.timeout {
            self.signs = 0;
        }
    }

    /// Whether questions are to be asked now; to be called after each sample.
    pub(super) fn ask(&mut self, now: Instant) -> Option<Ask> {
        if !self.is_sampled() {
            return None;
        }
        let ask = match self.death {
            None if now.since(self.last) < self.timeout / 2 => return None,
            None if self.rounds == 0 => Ask::One,
            None => Ask::All,
            Some(_) => {
                let pause = match self.signs {
                    0 if now.since(self.died) > EAGER => self.heartbeat.max(PATIENT_PAUSE),
                    0 => self.heartbeat,
                    _ => Duration::ZERO,
                };
                if now.since(self.asked) < pause {
                    return None;
                }
                Ask::All
            }
        };
        self.rounds = self.rounds.saturating_add(1);
        self.asked = now;
        Some(ask)
    }
}

#[cfg(test)]
mod tests;
