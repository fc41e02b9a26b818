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
    path().or_else(|_| build_release("wackamole"))
}

/// Brings the release build of one of this workspace's programs up to date and returns where it is.
///
/// # Errors
/// It cannot be built; cargo has said why on standard error.
pub fn build_release(program: &str) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    // The whole workspace is selected and one target named: with `--package` cargo unifies the dependencies' features
    // differently, and builds them once more.
    let output = Command::new(cargo)
        .args(["build", "--release", "--workspace", "--bin", program])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(workspace_member())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("cargo cannot build {program}");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .with_context(|| format!("cargo built no executable {program}"))
}

/// A directory of this workspace. Cargo tells whoever it runs where their package is; the workspace may have moved since
/// the build.
fn workspace_member() -> PathBuf {
    let told = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    told.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
}
