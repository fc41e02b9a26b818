//! Scratch.
use sim::scenario::Scenario;
#[test]
fn try_it() {
    let paths: Vec<std::path::PathBuf> = std::env::var("SCN")
        .unwrap_or_default()
        .split(',')
        .filter(|p| !p.is_empty())
        .map(Into::into)
        .collect();
    for scenario in Scenario::load_all(&paths).unwrap_or_else(|e| panic!("{e}")) {
        let seed: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        let n: u64 = std::env::var("N").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        for seed in seed..seed + n {
            let start = std::time::Instant::now();
            let outcome = sim::world::run(&scenario, seed, false);
            let max = outcome.interruptions.iter().map(|i| i.length()).max().unwrap_or_default();
            println!(
                "{} seed {seed}: {:?} good={} max dark {max:?} {:?}",
                scenario.name,
                start.elapsed(),
                outcome.is_good(),
                outcome.measurements
            );
            for (at, check, text) in outcome.violations().take(4) {
                println!("    {at:?} {check} {text}");
            }
            let narrator = sim::narrate::Narrator::new(&scenario);
            if std::env::var("TRACE").is_ok() {
                println!("{}", narrator.trace(&outcome.entries));
            }
            if std::env::var("TL").is_ok() {
                println!("{}", narrator.timeline(&outcome.entries));
            }
        }
    }
}
