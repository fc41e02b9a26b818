//! The copy of the workspace that is broken.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::catalogue::Mutant;
use super::switched::Switched;
use super::watch::{Ended, watch};

/// Where tests keep what failed: not part of the code, and written by them.
const WRITTEN_BY_TESTS: &str = "proptest-regressions";
/// A build takes no longer.
const BUILD_MAX: Duration = Duration::from_secs(1_800);
/// KiB of address space for each program: a broken one may ask for ever more.
const MEMORY_KIB: u64 = 12 << 20;

/// The workspace as it is, copied; one file at a time differs.
pub(super) struct Copy {
    /// Where it is.
    pub(super) folder: PathBuf,
    /// Where it is built.
    pub(super) target: PathBuf,
    /// Every file with its path, relative to the root.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Copy {
    /// Copies what git knows of, or would know of, as it is on the disk. What has not changed since the last time is left
    /// alone, so that it is not built again.
    pub(super) fn new(root: &Path) -> Result<Self> {
        let listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output = Command::new("git").args(listed).current_dir(root).output();
        let output = output.context("starting git")?;
        ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr).trim());
        let names = String::from_utf8(output.stdout).context("a file's name")?;
        let mut files = Vec::new();
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            let path = root.join(name);
            if path.is_file() {
                let content =
                    fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                files.push((name.into(), content));
            }
        }
        let base = root.join("target/mutants");
        Ok(Self { folder: base.join("work"), target: base.join("target"), files })
    }

    /// Makes the copy what the workspace is, but for these files.
    fn put(&self, but: &BTreeMap<String, String>) -> Result<()> {
        for (name, content) in &self.files {
            let other = name.to_str().and_then(|name| but.get(name));
            self.write(name, other.map_or(content.as_slice(), |text| text.as_bytes()))?;
        }
        self.remove_strangers(&self.folder)
    }

    /// Puts a switch with mutants into it.
    pub(super) fn switch(&self, switched: &Switched) -> Result<()> {
        self.put(&switched.files)
    }

    /// Breaks it with one.
    ///
    /// # Errors
    /// The mutant does not fit.
    pub(super) fn break_with(&self, mutant: &Mutant) -> Result<()> {
        let broken = mutant.applied_to(&self.text(&mutant.file)?)?;
        self.put(&BTreeMap::from([(mutant.file.clone(), broken)]))
    }

    /// What a file of the workspace says.
    ///
    /// # Errors
    /// There is none, or it is not text.
    pub(super) fn text(&self, file: &str) -> Result<String> {
        let name = Path::new(file);
        let content =
            self.files.iter().find(|(known, _)| known == name).map(|(_, content)| content);
        let content = content.with_context(|| format!("there is no {file}"))?;
        String::from_utf8(content.clone()).with_context(|| format!("reading {file}"))
    }

    /// A short name for all of its content that is built or run; the table that `--write` changes is not.
    pub(super) fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        let is_text = |name: &Path| name.extension().is_some_and(|extension| extension == "md");
        for file in self.files.iter().filter(|(name, _)| !is_text(name)) {
            file.hash(&mut hasher);
        }
        format!("{:016x}", hasher.finish())
    }

    /// The scenarios, in the order of their names.
    pub(super) fn scenarios(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.files.iter().map(|(name, _)| name.clone()).collect();
        paths.retain(|path| path.starts_with("scenarios"));
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        paths
    }

    fn write(&self, name: &Path, content: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        if fs::read(&path).is_ok_and(|there| there == content) {
            return Ok(());
        }
        let writing = || format!("writing {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(writing)?;
        }
        fs::write(&path, content).with_context(writing)
    }

    /// Removes source files that are not in the workspace any more, and what tests have written.
    fn remove_strangers(&self, folder: &Path) -> Result<()> {
        let reading = || format!("reading {}", folder.display());
        for entry in fs::read_dir(folder).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            if path.is_dir() {
                self.remove_strangers(&path)?;
                continue;
            }
            let name = path.strip_prefix(&self.folder).unwrap_or(&path);
            let is_code = path.extension().is_some_and(|extension| extension == "rs")
                || path.components().any(|part| part.as_os_str() == WRITTEN_BY_TESTS);
            if is_code && self.files.iter().all(|(file, _)| file != name) {
                fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Builds one program in the copy and returns where it is.
    pub(super) fn build(&self, arguments: &[&str]) -> Result<PathBuf> {
        self.build_with(arguments, &[])
    }

    /// Builds the simulator so that it is fast, and only what has changed is compiled again.
    pub(super) fn build_simulator(&self) -> Result<PathBuf> {
        self.build_with(
            &["build", "-p", "sim", "--bin", "sim"],
            &[("CARGO_PROFILE_DEV_OPT_LEVEL", "3")],
        )
    }

    fn build_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(arguments).args(["--message-format", "json-render-diagnostics"]);
        if arguments.first() == Some(&"test") {
            command.arg("--no-run");
        }
        command
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_TERM_COLOR", "never")
            .envs(settings.iter().copied());
        let Ended::Exited(status, printed) = watch(&mut command, BUILD_MAX, |_| None)? else {
            bail!("{command:?} takes too long");
        };
        if !status.success() {
            let errors = printed.iter().skip_while(|line| !line.starts_with("error"));
            let errors: Vec<&str> = errors.map(String::as_str).filter(|l| !is_json(l)).collect();
            bail!("it does not compile: {}", errors.join("\n").trim());
        }
        let mut executables = printed.iter().filter_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            message["executable"].as_str().map(PathBuf::from)
        });
        executables.next_back().with_context(|| format!("{command:?} made no program"))
    }

    /// A program that is run in the copy, with a limit to its memory.
    pub(super) fn program<'b>(
        &self,
        program: &Path,
        folder: &str,
        arguments: impl IntoIterator<Item = &'b str>,
        seed: u64,
    ) -> Command {
        let folder = self.folder.join(folder);
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"")])
            .arg(program)
            .args(arguments)
            .current_dir(&folder)
            .env("CARGO_MANIFEST_DIR", &folder)
            .env("PROPTEST_RNG_SEED", seed.to_string())
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .env("INSTA_UPDATE", "no");
        command
    }
}

fn is_json(line: &str) -> bool {
    line.starts_with('{')
}
