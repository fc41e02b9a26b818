//! Where the program under test is.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Names the program under test, for processes that were started by one which built it.
pub const VARIABLE: &str = "WACKAMOLE_BIN";

/// The program that [`VARIABLE`] names.
///
/// # Errors
/// The variable is not set.
pub fn path() -> Result<PathBuf> {
    let path = env::var_os(VARIABLE).with_context(|| format!("{VARIABLE} is not set"))?;
    Ok(path.into())
}

/// The program that [`VARIABLE`] names, or else the release build of this workspace, which is brought up to date.
///
/// # Errors
/// It cannot be built; cargo has said why on standard error.
pub fn build() -> Result<PathBuf> {
    if let Ok(path) = path() {
        return Ok(path);
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(cargo)
        .args(["build", "--release", "--package", "wackamole", "--bin", "wackamole"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("cargo build failed");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .context("cargo built no executable")
}
