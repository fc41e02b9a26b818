//! Calling cargo.
//!
//! Every build selects the whole workspace and names the targets that it wants. With `--package` cargo would unify the
//! dependencies' features differently, and build them once more.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A cargo command, run in the workspace's root.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    command
}

/// The workspace's root. Cargo tells at run time where this package is; the directory may have moved since the build.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// The names of all integration tests, as `--test` wants them.
pub(crate) fn integration_tests() -> Result<Vec<String>> {
    let output = command(&["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("starting cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let is_test = |target: &&Value| {
        target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"))
    };
    Ok(targets.filter(is_test).filter_map(|t| Some(t["name"].as_str()?.to_owned())).collect())
}

/// Builds one of the workspace's programs in release and returns where it is.
pub(crate) fn build_program(name: &str) -> Result<PathBuf> {
    netns_tests::binary::build_release(name)
}
