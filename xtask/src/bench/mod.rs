//! `cargo xtask bench`: numbers from real daemons on real kernels, as a client and the operating system see them.

mod failover;
mod idle;
mod soak;

use anyhow::Result;
use clap::Subcommand;

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// What a client misses when a machine is lost, a daemon stops and a machine returns.
    Failover(failover::Options),
    /// Failovers without a cause on an idle cluster at heartbeat 10 ms, failure timeout 40 ms.
    Soak(soak::Options),
    /// Processor time and memory of idle daemons.
    Idle(idle::Options),
}

/// Measures; runs inside the namespaces.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Failover(options) => failover::run(options),
        Bench::Soak(options) => soak::run(options),
        Bench::Idle(options) => idle::run(options),
    }
}
