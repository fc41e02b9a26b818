use std::sync::Arc;

use wackamole_protocol::vip::{Vip, VipAddress};

use super::*;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn vip(number: u8) -> Arc<Vip> {
    let address =
        VipAddress { address: [10, 0, 0, number].into(), prefix: 32, interface: "eth0".into() };
    Arc::new(Vip::new(number.to_string(), vec![address]))
}

/// A worker that takes 8 ms for each operation and was given `script` at the start: `a7` acquires VIP 7, `r` releases, `n`
/// announces, `p` probes.
fn worker(script: &str) -> Worker {
    let mut worker = Worker::new(Span::exactly(ms(8)), Rng::new(1, "test"));
    submit(&mut worker, 0, script);
    worker
}

fn submit(worker: &mut Worker, at: u64, script: &str) {
    for (ticket, word) in script.split_whitespace().enumerate() {
        let vip = vip(word[1..].parse().expect("a number"));
        let action = match &word[..1] {
            "a" => Action::Acquire(vip),
            "r" => Action::Release(vip),
            "n" => Action::Announce(vip),
            "p" => Action::Probe(vip),
            other => panic!("{other} is no work"),
        };
        worker.submit(ms(at), Work { ticket: ticket as u64, action }, None);
    }
}

/// What is done by `until`, each with its time in ms; `hangs` hangs until then once it is begun.
fn run(worker: &mut Worker, until: u64, hangs: Option<(&str, u64)>) -> String {
    let mut done = Vec::new();
    let mut now = Duration::ZERO;
    let mut hangs = hangs;
    loop {
        match worker.next(now) {
            Next::Do(work) => {
                let (verb, vip) = match &work.action {
                    Action::Acquire(vip) => ("a", vip),
                    Action::Release(vip) => ("r", vip),
                    Action::Announce(vip) => ("n", vip),
                    Action::Probe(vip) => ("p", vip),
                    other => panic!("nobody asked for {other:?}"),
                };
                let word = format!("{verb}{}", vip.name());
                match hangs.take_if(|(what, _)| *what == word) {
                    Some((_, until)) => worker.hang(work, Some(ms(until))),
                    None => done.push(format!("{}:{word}", now.as_millis())),
                }
            }
            Next::Pointless(ticket) => done.push(format!("{}:x{ticket}", now.as_millis())),
            Next::At(at) if at <= ms(until) => now = at,
            Next::At(_) | Next::Idle => return done.join(" "),
        }
    }
}

#[test]
fn one_piece_follows_the_other_in_production_s_order() {
    assert_eq!(run(&mut worker("a1 a2 r3"), 100, None), "8:r3 24:a1 24:a2");
    assert_eq!(run(&mut worker("n1 n2 a3 n3"), 100, None), "8:a3 9:n3 11:n1 11:n2");
    assert_eq!(run(&mut worker("a1 a2 p3"), 100, None), "0:p3 16:a1 16:a2");
}

#[test]
fn what_has_begun_is_ended_and_what_has_not_gives_way_to_a_release() {
    let mut worker = worker("a1");
    assert_eq!(run(&mut worker, 4, None), "");
    submit(&mut worker, 4, "a2 r1 r2");
    assert!(worker.will_be_released(vip(1).id()));
    assert_eq!(run(&mut worker, 100, None), "8:a1 8:x0 24:r1 24:r2");
    assert!(!worker.will_be_released(vip(1).id()));
}

#[test]
fn a_process_that_was_stopped_does_the_rest_of_its_work_when_it_goes_on() {
    let mut worker = worker("a1");
    assert_eq!(run(&mut worker, 4, None), "");
    submit(&mut worker, 1_000, "r2");
    assert!(matches!(worker.next(ms(1_000)), Next::Do(_)), "what was under way is done");
    assert!(matches!(worker.next(ms(1_000)), Next::At(at) if at == ms(1_008)));
}

#[test]
fn whoever_had_nothing_to_do_begins_when_it_is_asked() {
    let mut worker = worker("a1");
    assert_eq!(run(&mut worker, 100, None), "8:a1");
    submit(&mut worker, 100, "r1");
    assert!(matches!(worker.next(ms(100)), Next::At(at) if at == ms(108)));
}

#[test]
fn what_hangs_keeps_its_own_vip_waiting_and_no_other() {
    let mut worker = worker("a1 a2");
    assert_eq!(run(&mut worker, 20, Some(("a1", 60))), "16:a2");
    submit(&mut worker, 20, "r1 a3");
    assert!(worker.will_be_released(vip(1).id()));
    assert_eq!(run(&mut worker, 30, None), "28:a3", "the release takes the time of what waits");
    assert!(worker.will_be_released(vip(1).id()));
    assert_eq!(run(&mut worker, 100, None), "60:a1 68:r1");
}
