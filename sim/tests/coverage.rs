//! Coverage counts what runs reach, names what they do not, and contradicts its own lists if they are wrong.

use std::num::NonZeroUsize;

use sim::coverage::{Course, Coverage, measure};
use sim::scenario::Scenario;

const STORY: &str = r#"
    title = "b stops and starts"
    nodes = 3
    vips = 3
    duration = "12s"

    [[step]]
    at = "5s"
    stop = "b"

    [[step]]
    at = "7s"
    restart = "b"
"#;

fn covered(jobs: usize) -> Coverage {
    measure(&Course {
        scenarios: vec![Scenario::parse("story.toml", STORY).unwrap_or_else(|e| panic!("{e}"))],
        story_seeds: 2,
        explored: 1..=4,
        time: None,
        jobs: NonZeroUsize::new(jobs).unwrap_or(NonZeroUsize::MIN),
    })
}

#[test]
fn what_is_reached_is_counted_and_the_rest_named() {
    let coverage = covered(2);

    let rows = coverage.rows();
    let row = |group: &str, name: &str| {
        let found = rows.iter().find(|row| row.group == group && row.name == name);
        found.unwrap_or_else(|| panic!("{group}: {name} is in no list"))
    };
    let stop = row("fault", "stop (SIGTERM)");
    assert_eq!((stop.by_stories, stop.first_story.as_deref()), (2, Some("story seed 1")));
    assert_eq!(row("phase", "leaving -> ended").by_stories, 2);
    assert!(row("released because", "drain").by_stories > 0);
    assert!(row("message", "heartbeat while serving").by_exploration > 0);
    assert_eq!(row("fault", "one-way cut of the segment").by_stories, 0);
    assert!(row("acquired because", "no view").unreachable.is_some());
    let text = coverage.text();
    assert!(
        text.contains("not reached") && text.contains("2 runs of stories and 4 explored worlds"),
        "{text}"
    );
    assert!(coverage.document("it").contains("\n- fault: one-way cut of the segment\n"));
    assert_eq!(coverage.contradictions(), Vec::<String>::new());
}

#[test]
fn the_table_does_not_depend_on_the_number_of_threads() {
    assert_eq!(covered(1).text(), covered(3).text());
}
