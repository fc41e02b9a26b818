//! Explores every interleaving of proposals, losses, restarts and leaves over the voting code, within bounds.

mod breakage;
mod model;
mod promise;

use std::time::Duration;

use stateright::{Checker, Model};

use model::{Budget, Votes};

fn explore(name: &str, model: Votes) {
    let checker = model.checker().timeout(Duration::from_secs(900)).spawn_bfs().join();
    println!(
        "{name}: {} states, {} unique, depth {} done {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        checker.is_done()
    );
    checker.assert_properties();
}

#[test]
fn x() {
    let e = |k: &str, d: u64| std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d);
    let b = |k: &str| e(k, 0) as u8;
    let budget = Budget {
        proposals: b("P"),
        crashes: b("C"),
        leaves: b("L"),
        lost_disks: b("D"),
        forced: b("F"),
    };
    let mut m = Votes::new(e("N", 3) as u32, budget);
    m.slow_disk = b("SLOW") == 1;
    m.gossip = b("OLD") == 1;
    m.blank = b("BLANK") == 1;
    if b("STATIC") == 1 {
        m.rules.kind = wackamole_protocol::config::QuorumKind::Static;
    }
    explore("x", m);
}
