//! Puts several machines' clocks on one. Their wall clocks say roughly what was at the same time; datagrams that one recorded
//! machine sent and another one received say it better: half of the difference between both directions is by how much one
//! clock is ahead, however fast the network, as long as it is as fast in both directions.

use std::collections::BTreeMap;
use std::time::Duration;

use wackamole_protocol::time::Instant;

use super::{Fingerprint, Replayed, fingerprint};

/// Clocks drift: for each so many nanoseconds the difference is worked out anew.
const WINDOW: i128 = 10_000_000_000;
/// Fewer datagrams in one direction say nothing.
const DATAGRAMS_MIN: usize = 3;

/// The common clock, in nanoseconds since 1970 on the wall clock of the machine whose record begins first.
#[derive(Clone, Debug)]
pub struct Clocks {
    clocks: Vec<OneClock>,
}

#[derive(Clone, Debug)]
struct OneClock {
    /// The machine's own clock and its wall clock.
    wall: Vec<(i128, i128)>,
    /// By how much its wall clock is ahead of the common clock, at some times.
    ahead: Vec<(i128, i128)>,
    /// Half of the longest round trip that this rests on; nothing if it is only the wall clock.
    within: Option<i128>,
}

/// What is known of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// By how many nanoseconds its wall clock is ahead of the common clock, in the end.
    pub ahead: i64,
    /// Within so much; nothing if no datagrams tell.
    pub within: Option<Duration>,
}

impl Clocks {
    /// Compares the clocks of some records. The first one's wall clock is the common clock.
    pub fn compare(records: &[Replayed]) -> Self {
        let wall = |record: &Replayed| {
            let marks = record.wall_clock.iter();
            marks.map(|&(at, micros)| (nanos(at), i128::from(micros) * 1_000)).collect()
        };
        let clock = |record| OneClock { wall: wall(record), ahead: Vec::new(), within: None };
        let mut clocks: Vec<OneClock> = records.iter().map(clock).collect();
        let sent: Vec<BTreeMap<Fingerprint, Instant>> = records
            .iter()
            .map(|record| {
                record.sent.iter().rev().map(|sent| (fingerprint(&sent.bytes), sent.at)).collect()
            })
            .collect();
        // From the first record to those that it has talked to, and on from them.
        let mut known = vec![0];
        let mut next = 0;
        while let Some(&from) = known.get(next) {
            for to in 0..records.len() {
                if known.contains(&to) {
                    continue;
                }
                let there = delays(&clocks, records, &sent[from], from, to);
                let back = delays(&clocks, records, &sent[to], to, from);
                let mut ahead = Vec::new();
                let mut within = clocks[from].within.unwrap_or(0);
                for (window, (at, there)) in there {
                    let Some((_, back)) = back.get(&window) else { continue };
                    let between = (there - back) / 2;
                    // `at` is the time of the one with the lower number.
                    let (at_from, at_to) =
                        if from < to { (at, at + between) } else { (at - between, at) };
                    ahead.push((at_to, clocks[from].ahead(at_from) + between));
                    within = within.max((there + back).abs() / 2);
                }
                if !ahead.is_empty() {
                    (clocks[to].ahead, clocks[to].within) = (ahead, Some(within));
                    known.push(to);
                }
            }
            next += 1;
        }
        Self { clocks }
    }

    /// The common time of an instant of a record, since 1970.
    pub fn common(&self, record: usize, at: Instant) -> Duration {
        let clock = &self.clocks[record];
        let wall = clock.wall(at);
        Duration::from_nanos(u64::try_from(wall - clock.ahead(wall)).unwrap_or(0))
    }

    /// How a clock compares to the common one.
    pub fn reading(&self, record: usize) -> Reading {
        let OneClock { ahead, within, .. } = &self.clocks[record];
        let last = ahead.last().map_or(0, |&(_, ahead)| ahead);
        Reading {
            ahead: i64::try_from(last).unwrap_or(i64::MAX),
            within: within.map(|within| Duration::from_nanos(u64::try_from(within).unwrap_or(0))),
        }
    }
}

impl OneClock {
    fn wall(&self, at: Instant) -> i128 {
        let at = nanos(at);
        // A wall clock that is set jumps; what it shows counts from the next time at which it was noted.
        let mark = self.wall.iter().rev().find(|(own, _)| *own <= at).or(self.wall.first());
        mark.map_or(at, |(own, wall)| wall + (at - own))
    }

    /// Between two times at which it is known, and beyond the first and the last, clocks are taken to drift evenly.
    fn ahead(&self, wall: i128) -> i128 {
        let behind = self.ahead.partition_point(|(at, _)| *at <= wall);
        let pair = behind.clamp(1, self.ahead.len().max(2) - 1);
        match self.ahead[..] {
            [] => 0,
            [(_, only)] => only,
            _ => {
                let ((t0, a0), (t1, a1)) = (self.ahead[pair - 1], self.ahead[pair]);
                a0 + (a1 - a0) * (wall - t0) / (t1 - t0).max(1)
            }
        }
    }
}

/// The median time from sending to receiving in each window, by two wall clocks, and when that was on average.
fn delays(
    clocks: &[OneClock],
    records: &[Replayed],
    sent: &BTreeMap<Fingerprint, Instant>,
    from: usize,
    to: usize,
) -> BTreeMap<i128, (i128, i128)> {
    let mut windows: BTreeMap<i128, Vec<(i128, i128)>> = BTreeMap::new();
    for (received_at, which) in &records[to].received {
        if let Some(sent_at) = sent.get(which) {
            let (left, came) = (clocks[from].wall(*sent_at), clocks[to].wall(*received_at));
            // Both directions file under one machine's time.
            let filed = if from < to { left } else { came };
            windows.entry(filed.div_euclid(WINDOW)).or_default().push((came - left, filed));
        }
    }
    windows.retain(|_, delays| delays.len() >= DATAGRAMS_MIN);
    let sum_up = |mut delays: Vec<(i128, i128)>| {
        delays.sort_unstable();
        let mean = delays.iter().map(|(_, at)| at).sum::<i128>() / delays.len() as i128;
        (mean, delays[delays.len() / 2].0)
    };
    windows.into_iter().map(|(window, delays)| (window, sum_up(delays))).collect()
}

fn nanos(at: Instant) -> i128 {
    at.since_origin().as_nanos() as i128
}
