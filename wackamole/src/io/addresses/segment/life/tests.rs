use proptest::prelude::*;
use wackamole_protocol::mac::MacAddress;

use super::*;

const HEARTBEAT: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(400);

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

fn link() -> Link {
    Link {
        name: "eth0".into(),
        up: true,
        running: true,
        loopback: false,
        no_arp: false,
        mac: Some(MacAddress([2, 0, 0, 0, 0, 1])),
    }
}

/// An interface whose samples come when it wants them.
struct Segment {
    life: Life,
    now: Instant,
    frames: u64,
}

impl Segment {
    fn new() -> Self {
        let now = Instant::ORIGIN + Duration::from_secs(100);
        let mut life = Life::new(HEARTBEAT, TIMEOUT, Some(&link()), now);
        life.sample(Some(0), now);
        Self { life, now, frames: 0 }
    }

    /// Goes on to `until`. `frame` says after each microsecond whether a frame comes in; answers are those to the question
    /// if somebody answers.
    fn pass(
        &mut self,
        time: Duration,
        every: Option<Duration>,
        answers: bool,
    ) -> Vec<(Instant, Ask)> {
        let end = self.now + time;
        let mut asked = Vec::new();
        let mut next_frame = every.map_or(Instant::FAR_FUTURE, |every| self.now + every);
        loop {
            let due = self.life.due();
            if due.min(next_frame) > end {
                self.now = end;
                return asked;
            }
            if next_frame <= due {
                self.frames += 1;
                self.now = next_frame;
                next_frame = next_frame + every.unwrap();
                continue;
            }
            self.now = due;
            self.life.sample(Some(self.frames), due);
            if let Some(ask) = self.life.ask(due) {
                asked.push((due, ask));
                self.frames += u64::from(answers);
            }
        }
    }
}

#[test]
fn silence_is_told_after_the_timeout_and_within_half_a_heartbeat() {
    for offset in (0..HEARTBEAT.as_micros() as u64).step_by(777) {
        let mut segment = Segment::new();
        segment.pass(us(5_000_000), Some(us(10_000)), false);
        segment.pass(us(offset), None, false);
        segment.frames += 1; // the last one
        let last = segment.now;

        let early = TIMEOUT / 3;
        segment.pass(TIMEOUT - early, None, false);
        assert_eq!(segment.life.death(), None, "not before, at offset {offset}");
        segment.pass(early + HEARTBEAT / 2, None, false);
        assert_eq!(segment.life.death(), Some(Death::Silent), "offset {offset}, since {last}");
    }
}

#[test]
fn a_quiet_segment_is_asked_and_answers() {
    let mut segment = Segment::new();

    let asked = segment.pass(us(10_000_000), None, true);

    assert_eq!(segment.life.death(), None);
    assert!(asked.iter().all(|&(_, ask)| ask == Ask::One), "one is enough");
    assert!((25..=50).contains(&asked.len()), "about three in a second: {}", asked.len());
}

#[test]
fn a_busy_segment_is_asked_nothing() {
    let mut segment = Segment::new();
    assert_eq!(segment.pass(us(10_000_000), Some(us(100_000)), true), []);
}

#[test]
fn before_it_is_given_up_everybody_is_asked_several_times() {
    let mut segment = Segment::new();
    segment.pass(us(2_000_000), Some(us(100_000)), false);
    let asked = segment.pass(us(500_000), None, false);
    assert_eq!(segment.life.death(), Some(Death::Silent));
    let asked: Vec<_> = asked.into_iter().map(|(_, ask)| ask).collect();
    assert_eq!(asked[0], Ask::One);
    assert!(asked[1..].iter().all(|&ask| ask == Ask::All));
    assert!(asked.len() >= 4, "{asked:?}");
}

#[test]
fn one_stray_frame_is_no_life_but_two_periods_are() {
    let mut segment = Segment::new();
    segment.pass(us(2_000_000), None, false);
    assert_eq!(segment.life.death(), Some(Death::Silent));

    segment.frames += 5;
    segment.pass(us(350_000), None, false);
    assert_eq!(segment.life.death(), Some(Death::Silent), "all in one period");

    segment.frames += 1;
    segment.pass(us(50_000), None, false);
    assert_eq!(segment.life.death(), None, "a second one soon after");
}

#[test]
fn a_frame_now_and_then_is_no_life() {
    let mut segment = Segment::new();
    segment.pass(us(2_000_000), None, false);
    for _ in 0..10 {
        segment.frames += 1; // such as what a blocked switch port still sends
        segment.pass(us(2_000_000), None, false);
        assert_eq!(segment.life.death(), Some(Death::Silent));
    }
}

#[test]
fn it_lives_again_within_a_heartbeat_of_the_first_frame_if_somebody_answers() {
    for (dead_for, offset) in [(1, 0), (1, 13), (1, 40), (30, 0), (30, 29), (3_600, 7)] {
        let mut segment = Segment::new();
        segment.pass(us(dead_for * 1_000_000 + offset * 1_000), None, false);
        assert_eq!(segment.life.death(), Some(Death::Silent));

        segment.frames += 1;
        segment.pass(HEARTBEAT, None, true);

        assert_eq!(segment.life.death(), None, "dead for {dead_for} s");
    }
}

#[test]
fn a_dead_segment_is_asked_at_the_pace_of_heartbeats_and_later_rarely() {
    let mut segment = Segment::new();
    segment.pass(us(500_000), None, false);
    let early = segment.pass(us(5_000_000), None, false).len();
    segment.pass(us(10_000_000), None, false);
    let late = segment.pass(us(20_000_000), None, false).len();
    assert!((35..=50).contains(&early), "{early}");
    assert!((15..=20).contains(&late), "{late}");
}

#[test]
fn a_cut_link_is_dead_at_once_and_lives_when_frames_come() {
    let mut segment = Segment::new();
    let down = Link { up: false, running: false, ..link() };
    let unplugged = Link { running: false, ..link() };
    for (state, death) in
        [(Some(&down), Death::Down), (Some(&unplugged), Death::NoCarrier), (None, Death::Gone)]
    {
        segment.life.link_is(state, segment.now);
        assert_eq!(segment.life.death(), Some(death));
        assert_eq!(segment.life.due(), Instant::FAR_FUTURE, "nothing to sample");

        segment.life.link_is(Some(&link()), segment.now);
        assert_eq!(segment.life.death(), Some(Death::Silent), "carrier alone is not enough");
        segment.pass(us(500_000), Some(us(20_000)), false);
        assert_eq!(segment.life.death(), None);
    }
}

#[test]
fn where_nobody_can_be_it_lives_while_it_is_up() {
    let mut segment = Segment::new();
    let dummy = Link { no_arp: true, ..link() };
    segment.life.link_is(Some(&dummy), segment.now);
    assert_eq!(segment.pass(us(60_000_000), None, false), []);
    assert_eq!(segment.life.death(), None);

    segment.life.link_is(Some(&Link { up: false, ..dummy.clone() }), segment.now);
    assert_eq!(segment.life.death(), Some(Death::Down));
    segment.life.link_is(Some(&dummy), segment.now);
    assert_eq!(segment.life.death(), None, "at once");
}

#[test]
fn frames_that_are_seen_count_where_the_counter_stands_still() {
    let mut segment = Segment::new();
    for _ in 0..100 {
        segment.life.seen(segment.now);
        segment.pass(us(399_000), None, false);
        assert_eq!(segment.life.death(), None);
    }
}

#[test]
fn a_machine_that_stood_still_has_not_listened() {
    let mut segment = Segment::new();
    segment.pass(us(1_000_000), Some(us(50_000)), false);
    let late = segment.now + Duration::from_secs(60);
    segment.life.sample(Some(segment.frames), late);
    assert_eq!(segment.life.death(), None);
    segment.now = late;
    segment.pass(TIMEOUT + HEARTBEAT / 2, None, false);
    assert_eq!(segment.life.death(), Some(Death::Silent));
}

#[test]
fn a_live_segment_is_looked_at_rarely() {
    let mut segment = Segment::new();
    let mut looks = 0;
    for _ in 0..1_000 {
        segment.pass(us(10_000), Some(us(9_999)), false);
        looks += u32::from(segment.now.since(segment.life.sampled) < us(10_000));
    }
    assert!(looks <= 75, "{looks} in ten seconds");
}

/// Heartbeats come in every `HEARTBEAT` until `stop`; whoever reads them says within a heartbeat that they have stopped.
fn with_heartbeats(segment: &mut Segment, for_how_long: Duration) -> (Instant, u32) {
    let stop = segment.now + for_how_long;
    let mut latest = segment.now;
    let mut looks = 0;
    while segment.now + HEARTBEAT <= stop {
        segment.now = segment.now + HEARTBEAT;
        segment.frames += 1;
        if segment.life.due() <= segment.now {
            looks += 1;
            if !segment.life.heartbeat(latest, segment.now) {
                segment.life.sample(Some(segment.frames), segment.now);
            }
        }
        latest = segment.now;
    }
    (latest, looks)
}

#[test]
fn while_heartbeats_come_in_nothing_else_is_looked_at() {
    let mut segment = Segment::new();
    let (_, looks) = with_heartbeats(&mut segment, Duration::from_secs(60));
    assert_eq!(segment.life.death(), None);
    assert!(looks < 25, "{looks} in a minute");
}

#[test]
fn when_heartbeats_stop_silence_is_told_in_time() {
    for told_after in [134, 180, 233] {
        let mut segment = Segment::new();
        let (last, _) = with_heartbeats(&mut segment, Duration::from_secs(10));

        segment.now = last + Duration::from_millis(told_after);
        assert!(segment.life.quiet(last, segment.now));
        segment.life.sample(Some(segment.frames), segment.now);
        let asked = segment.pass(Duration::from_millis(395 - told_after), None, false);
        assert!(asked.len() >= 4, "{asked:?}, told after {told_after} ms");
        assert_eq!(segment.life.death(), None);

        segment.pass(Duration::from_millis(55), None, false);
        assert_eq!(segment.life.death(), Some(Death::Silent), "told after {told_after} ms");
    }
}

#[test]
fn when_heartbeats_stop_others_may_still_be_there() {
    let mut segment = Segment::new();
    let (last, _) = with_heartbeats(&mut segment, Duration::from_secs(10));
    segment.now = last + Duration::from_millis(200);
    assert!(segment.life.quiet(last, segment.now));
    segment.life.sample(Some(segment.frames), segment.now);

    segment.pass(Duration::from_secs(10), None, true);

    assert_eq!(segment.life.death(), None);
    assert!(!segment.life.heartbeat(last, segment.now), "an old one is no sign");
    assert!(segment.life.heartbeat(segment.now, segment.now), "a new one is");
}

#[test]
fn a_driver_that_stood_still_and_has_not_read_heartbeats_kills_nothing() {
    for told in [true, false] {
        let mut segment = Segment::new();
        let (last, _) = with_heartbeats(&mut segment, Duration::from_secs(10));
        if told {
            segment.now = last + Duration::from_secs(3);
            segment.life.quiet(last, segment.now);
        } else {
            segment.now = segment.life.due();
            assert!(!segment.life.heartbeat(last, segment.now));
        }
        segment.life.sample(Some(segment.frames), segment.now);
        assert_eq!(segment.life.death(), None);

        segment.pass(Duration::from_secs(1), None, false);
        assert_eq!(segment.life.death(), Some(Death::Silent), "but silence is still noticed");
    }
}

proptest! {
    /// However frames come: dead only after a silence of most of a timeout, and silent for a timeout and half a heartbeat
    /// only if dead.
    #[test]
    fn death_means_silence(gaps in prop::collection::vec(1_000_u64..900_000, 1..60)) {
        let mut segment = Segment::new();
        for gap in gaps {
            let alive = segment.life.death().is_none();
            segment.pass(us(gap), None, false);
            let died = alive && segment.life.death().is_some();
            prop_assert!(!died || us(gap) >= TIMEOUT * 2 / 3);
            prop_assert!(us(gap) < TIMEOUT + HEARTBEAT / 2 || segment.life.death().is_some());
            segment.frames += 1;
        }
    }
}
