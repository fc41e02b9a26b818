//! `cargo xtask simulate`: the simulator's release build, with the arguments of its `run` command, or `explore`, `replay`, `shrink`,
//! `coverage` or `determinism` and those of that command.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo;

/// What `cargo xtask simulate` understands beside scenarios and their options.
const COMMANDS: [&str; 5] = ["explore", "replay", "shrink", "determinism", "coverage"];

/// Runs `sim run`, unless the first argument names another command. Paths are relative to the workspace's root.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if arguments.first().is_some_and(|first| COMMANDS.contains(&first.as_str())) {
        return simulator(arguments);
    }
    simulator(&[&["run".to_owned()], arguments].concat())
}

/// Runs the simulator.
pub(crate) fn simulator(arguments: &[String]) -> Result<ExitCode> {
    let program = cargo::build_program("sim")?;
    let status = Command::new(program)
        .args(arguments)
        .current_dir(cargo::root())
        .status()
        .context("starting the simulator")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
