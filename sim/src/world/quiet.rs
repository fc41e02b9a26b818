//! Which ticks can be passed over, under an engine that can: those in which no machine runs, no frame, datagram, timer or
//! fence of the segment is due, and no checker has to look. The world at the end of such a tick is the world at its
//! beginning, so every checker has seen it.

use wackamole_protocol::time::Duration;

use super::World;
use crate::engine::TICK;

impl World<'_> {
    /// Passes over the ticks in which nothing is due; to be called after a tick.
    pub(super) fn pass_over_quiet(&mut self) {
        let now = self.engine.elapsed();
        let machines = self.engine.next_step();
        if machines <= now || self.restless || self.broken || self.curious.contains(&true) {
            return;
        }
        // The first tick that is to be worked at, by when it begins; what is looked at at its end counts one tick earlier.
        let mut next = machines.min(whole(self.scenario.duration).saturating_sub(TICK));
        for at in self.starting.iter().flatten() {
            next = next.min(whole(*at));
        }
        if let Some((at, _)) = self.schedule.front() {
            // The tick before a fault is looked at too: what lasts until then is seen to.
            next = next.min(whole(*at).saturating_sub(TICK));
        }
        if next <= now {
            return;
        }
        let segment = self.segment.borrow();
        let burst = self.connectivity.next_burst(now, &segment);
        let looks =
            [segment.next_step(), segment.clients.wake_at(), burst, self.checks.next_look()];
        for look in looks.into_iter().flatten() {
            next = next.min(whole(look).saturating_sub(TICK));
        }
        drop(segment);
        if next > now {
            self.engine.skip_to(next);
        }
    }
}

/// The end of the tick that a time falls into.
fn whole(time: Duration) -> Duration {
    let nanos = time.subsec_nanos() % 1_000_000;
    if nanos == 0 { time } else { time + TICK - Duration::from_nanos(u64::from(nanos)) }
}
