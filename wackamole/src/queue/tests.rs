use wackamole_protocol::vip::VipAddress;

use super::*;

fn vip(number: u8) -> Arc<Vip> {
    let address =
        VipAddress { address: [10, 0, 0, number].into(), prefix: 32, interface: "eth0".into() };
    Arc::new(Vip::new(number.to_string(), vec![address]))
}

/// A queue that was given `script`: `a7` acquires VIP 7, `r` releases, `n` announces, `c` cleans up. Tickets count
/// from one.
fn queue(script: &str) -> Queue {
    let mut queue = Queue::default();
    for (number, word) in script.split_whitespace().enumerate() {
        let vip = || vip(word[1..].parse().unwrap());
        let action = match &word[..1] {
            "a" => Action::Acquire(vip()),
            "r" => Action::Release(vip()),
            "n" => Action::Announce(vip()),
            _ => Action::CleanUp,
        };
        queue.push(Work { ticket: number as u64 + 1, action });
    }
    queue
}

/// Everything that is left, in the script's notation, one batch between bars; pointless work by its tickets.
fn drain(queue: &mut Queue, limit: usize) -> String {
    let mut batches = Vec::new();
    while let Some(batch) = queue.take(limit) {
        let words = |verb: &str, jobs: Vec<Job>| {
            let words = jobs.iter().map(|job| format!("{verb}{}", job.vip.name()));
            words.collect::<Vec<_>>().join(" ")
        };
        batches.push(match batch {
            Batch::CleanUp { .. } => "c".to_owned(),
            Batch::Release(jobs) => words("r", jobs),
            Batch::Acquire(jobs) => words("a", jobs),
            Batch::Announce(jobs) => words("n", jobs),
            Batch::Pointless(tickets) => format!("pointless:{tickets:?}"),
        });
    }
    batches.join(" | ")
}

#[track_caller]
fn check(script: &str, expected: &str) {
    assert_eq!(drain(&mut queue(script), 2), expected, "for {script}");
}

#[test]
fn releases_come_before_acquires_and_repeated_announcements_last() {
    check("n1 a2 r3", "r3 | a2 | n1");
    check("a1 a2 a3 r4", "r4 | a1 a2 | a3");
}

#[test]
fn what_was_acquired_is_announced_before_the_next_acquires() {
    check("a1 n1 a2 n2 a3 n3 n9", "a1 a2 | n1 n2 | a3 | n3 | n9");
    check("a1 n1 n1 a2 a3", "a1 a2 | n1 | a3 | n1");
}

#[test]
fn work_on_one_vip_keeps_its_order() {
    check("r1 a1 n1 r2", "r1 r2 | a1 | n1");
    check("r1 a1 r1", "pointless:[2] | r1 | r1");
}

#[test]
fn what_stands_before_a_release_is_as_urgent() {
    check("a2 a3 r1 r1", "r1 | r1 | a2 a3");
}

#[test]
fn a_release_makes_what_has_not_begun_pointless() {
    check("a1 r1 a1", "pointless:[1] | r1 | a1");
    check("a1 n1 r1 n1", "pointless:[1, 2] | r1 | n1");
    check("n1 n2 r1", "pointless:[1] | r1 | n2");
}

#[test]
fn an_acquire_makes_announcements_before_it_pointless() {
    check("n1 n2 a3 a1", "pointless:[1] | a3 a1 | n2");
    check("a1 n1 a1 n1", "pointless:[2] | a1 | a1 | n1");
}

#[test]
fn a_clean_up_is_a_barrier() {
    check("a1 c r2 a1", "a1 | c | r2 | a1");
    check("c c a1", "c | c | a1");
}

#[test]
fn an_announcement_asked_for_after_the_acquire_ended_is_still_the_first() {
    let mut queue = queue("a1 a2 a3 a4");
    queue.take(2);
    queue.push(Work { ticket: 9, action: Action::Announce(vip(1)) });

    assert_eq!(drain(&mut queue, 2), "n1 | a3 a4");
}

fn take_one_announcement(queue: &mut Queue) -> Job {
    match queue.take(1) {
        Some(Batch::Announce(mut jobs)) => jobs.remove(0),
        other => panic!("expected an announcement, took {other:?}"),
    }
}

#[test]
fn an_announcement_that_was_put_back_is_the_first_of_its_kind() {
    let mut queue = queue("n1 n2 a3");
    queue.take(1);
    let job = take_one_announcement(&mut queue);
    queue.put_back_announcement(job);

    assert!(queue.only_announcements());
    assert_eq!(drain(&mut queue, 2), "n1 n2");
}

#[test]
fn a_repeated_announcement_that_was_put_back_does_not_hold_up_acquires() {
    let mut repeated = queue("n1");
    let job = take_one_announcement(&mut repeated);
    repeated.push(Work { ticket: 2, action: Action::Acquire(vip(2)) });
    repeated.put_back_announcement(job);
    assert_eq!(drain(&mut repeated, 1), "a2 | n1");

    let mut first = queue("a1 n1");
    first.take(1);
    let job = take_one_announcement(&mut first);
    first.push(Work { ticket: 3, action: Action::Acquire(vip(2)) });
    first.put_back_announcement(job);
    assert_eq!(drain(&mut first, 1), "n1 | a2");
}

#[test]
fn an_announcement_that_was_put_back_does_not_hold_up_the_release() {
    let mut before = queue("n1 r2 r1");
    before.take(1);
    assert_eq!(drain(&mut before, 1), "r2 | r1", "a release that came while it waited");

    let mut after = queue("n1");
    let job = take_one_announcement(&mut after);
    after.push(Work { ticket: 2, action: Action::Release(vip(1)) });
    after.put_back_announcement(job);
    assert_eq!(drain(&mut after, 1), "pointless:[1] | r1", "a release that came meanwhile");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_piece_is_done_once_and_in_the_order_of_its_vip(
            script in prop::collection::vec(prop_oneof![
                9 => ("[arn]", 1u8..5).prop_map(|(verb, vip)| format!("{verb}{vip}")),
                1 => Just("c".to_owned()),
            ], 0..40),
            limit in 1usize..5,
        ) {
            let done = drain(&mut queue(&script.join(" ")), limit);
            let words = done.split(" | ").filter(|batch| !batch.starts_with("pointless"));
            let done: Vec<_> = words.flat_map(str::split_whitespace).collect();
            let script: Vec<_> = script.iter().map(String::as_str).collect();

            for vip in 1..5 {
                prop_assert_eq!(of_vip(vip, &done), worth_doing(of_vip(vip, &script)));
            }
        }
    }

    /// What is done to a VIP; a clean-up counts for all of them.
    fn of_vip(vip: u8, words: &[&str]) -> Vec<String> {
        let concerns = |word: &&&str| **word == "c" || word[1..].parse() == Ok(vip);
        words.iter().filter(concerns).map(|word| word[..1].to_owned()).collect()
    }

    /// Without the acquires and announcements that a release follows before the next clean-up, and the announcements that an acquire does.
    fn worth_doing(words: Vec<String>) -> Vec<String> {
        let overtaken = |number: usize| {
            let mut rest = words[number..].iter().take_while(|word| *word != "c");
            rest.any(|word| word == "r" || word == "a" && words[number] == "n")
        };
        let kept = words.iter().enumerate();
        let kept =
            kept.filter(|(number, word)| *word == "c" || *word == "r" || !overtaken(*number));
        kept.map(|(_, word)| word.clone()).collect()
    }
}
