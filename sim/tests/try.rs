//! Scratch.
use sim::scenario::Scenario;
#[test]
fn try_it() {
    for path in std::env::var("SCN").unwrap_or_default().split(',').filter(|p| !p.is_empty()) {
        let scenario = Scenario::load(std::path::Path::new(path)).unwrap_or_else(|e| panic!("{e}"));
        let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        let start = std::time::Instant::now();
        let outcome = sim::world::run(&scenario, seed, false);
        println!(
            "{path}: {:?} good={} {:?}",
            start.elapsed(),
            outcome.is_good(),
            outcome.measurements
        );
        let narrator = sim::narrate::Narrator::new(&scenario);
        if std::env::var("TRACE").is_ok() {
            println!("{}", narrator.trace(&outcome.entries));
        }
        println!("{}", narrator.timeline(&outcome.entries));
    }
}
