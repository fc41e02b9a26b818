//! Repository tasks; `cargo xtask help` lists them.

mod bench;
mod cargo;
mod demo;
mod mutants;
mod simulate;
mod statistics;
mod tables;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use netns_tests::binary;
use netns_tests::sandbox::{self, Role};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Repository tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the main job: three real daemons and a client in private namespaces, and what the client sees of faults.
    Demo,
    /// Check and test everything.
    Test,
    /// Run scenarios in the simulator; takes the arguments of `sim run`. Or `simulate explore …`: look for worlds in which a
    /// promise is broken. Or `simulate shrink …`: find the smallest scenario that still fails. Or
    /// `simulate determinism …`: run worlds again, and compare their traces. Or `simulate replay …`: do again what real
    /// daemons recorded. Or `simulate coverage …`: what stories and exploration reach.
    #[command(disable_help_flag = true)]
    Simulate {
        /// Scenario files or directories, and options; `--help` shows them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Break the protocol in many ways, and show that the tests notice each.
    Mutants(mutants::Options),
    /// Measure the daemons and the simulator.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Check the repository's own rules.
    Tidy,
}

fn main() -> ExitCode {
    // Before anything else: some copies of this program only lead into the namespaces.
    let role = sandbox::role();
    match run(Arguments::parse().task, role) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task, role: Role) -> Result<ExitCode> {
    match task {
        Task::Demo => in_namespaces(role, demo::run),
        Task::Test => test::run(),
        Task::Simulate { arguments } => simulate::run(&arguments),
        Task::Mutants(options) => mutants::run(&options),
        Task::Bench(bench) => bench::run(&bench, role),
        Task::Tidy => tidy::run(),
    }
}

/// Builds the daemon, then does `work` in a copy of this program inside private namespaces.
fn in_namespaces(role: Role, work: impl FnOnce() -> Result<()>) -> Result<ExitCode> {
    match role {
        Role::Inside => work().map(|()| ExitCode::SUCCESS),
        Role::Outside => {
            sandbox::available()?;
            let program = binary::build()?;
            sandbox::run_inside(std::env::args_os().skip(1), &program)
        }
    }
}
