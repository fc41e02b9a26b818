//! What the segment tells, loses and spoils.

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn segment(loss: f64) -> Segment {
    let clients = Clients::new(1, 1, ms(3000), 1);
    let wires = Impairment { loss, ..Impairment::default() };
    let mut segment = Segment::new(2, 1, clients, wires, ms(1), 1);
    segment.kernels.power_on(0);
    segment.kernels.power_on(1);
    segment
}

#[test]
fn nothing_is_announced_that_is_not_held() {
    let mut segment = segment(0.0);
    segment.announce(ms(0), 0, 0);
    assert!(segment.journal.is_empty() && segment.clients.wake_at().is_none());
    segment.acquire(ms(1), 0, 0);
    segment.announce(ms(1), 0, 0);
    assert_eq!(segment.clients.wake_at(), Some(ms(2)));
}

#[test]
fn a_deleted_address_is_told_to_the_daemon_once() {
    let mut segment = segment(0.0);
    segment.acquire(ms(1), 0, 0);
    segment.delete(ms(2), 0, 0);
    segment.delete(ms(3), 0, 0);
    assert_eq!(segment.next_news(0), Some(News::Vanished(0)));
    assert_eq!(segment.next_news(0), None);
}

#[test]
fn silence_is_not_loss() {
    let mut quiet = segment(0.0);
    quiet.datagram(ms(5), 0, 1, b"x");
    assert_eq!(quiet.lost_for(ms(900), 0, 1), ms(0));

    let mut lossy = segment(1.0);
    lossy.datagram(ms(5), 0, 1, b"x");
    assert_eq!(lossy.lost_for(ms(900), 0, 1), ms(900));
    assert_eq!(lossy.lost_for(ms(900), 1, 0), ms(0));
}

#[test]
fn sabotage_hits_its_target_until_it_ends() {
    let mut segment = segment(0.0);
    segment.sabotage.push(Sabotage {
        node: 0,
        vip: 0,
        kind: SabotageKind::Fail,
        until: Some(ms(10)),
    });
    assert!(segment.sabotage(ms(9), 0, 0).is_some());
    assert!(segment.sabotage(ms(10), 0, 0).is_none());
    assert!(segment.sabotage(ms(9), 1, 0).is_none());
}
