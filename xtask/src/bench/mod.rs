//! `cargo xtask bench`: numbers. Most come from real daemons on real kernels, as a client and the operating system see
//! them.

mod failover;
mod idle;
mod safety;
mod soak;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use netns_tests::sandbox::Role;

use crate::{in_namespaces, simulate};

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// What a client misses when a machine is lost, a daemon stops and a machine returns.
    Failover(failover::Options),
    /// How long two machines answer for one address, and how long nobody does, whatever fails; writes docs/safety.md.
    Safety(safety::Options),
    /// Failovers without a cause on an idle cluster at heartbeat 10 ms, failure timeout 40 ms.
    Soak(soak::Options),
    /// Processor time and memory of idle daemons.
    Idle(idle::Options),
    /// How many seconds the simulator simulates per second of one core.
    Simulator {
        /// Report as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Measures.
pub(crate) fn run(bench: &Bench, role: Role) -> Result<ExitCode> {
    match bench {
        Bench::Failover(options) => in_namespaces(role, || failover::run(options)),
        Bench::Safety(options) => in_namespaces(role, || safety::run(options)),
        Bench::Soak(options) => in_namespaces(role, || soak::run(options)),
        Bench::Idle(options) => in_namespaces(role, || idle::run(options)),
        Bench::Simulator { json } => {
            let arguments = ["bench", "--json"].map(str::to_owned);
            simulate::simulator(if *json { &arguments } else { &arguments[..1] })
        }
    }
}
