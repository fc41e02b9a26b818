//! The state directory: what a node must remember from one start to the next.
//!
//! Small text files, each replaced as a whole (written beside, synced, renamed, the directory synced), so that after a
//! power cut the old or the new content is there and nothing in between. A lock keeps a second daemon out.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use wackamole_protocol::id::Incarnation;

const LOCK: &str = "lock";
const INCARNATION: &str = "incarnation";
const ADDRESSES: &str = "addresses";
const PROMISE: &str = "promise";
const GATE: &str = "gate";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon runs on it.
    #[error(
        "{path} is in use: another wackamole runs with this state directory; stop it, or give each its own"
    )]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The file system refuses.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file holds something that we never write.
    #[error(
        "{path}, line {line}: found {found:?}, expected {expected}; if the file is lost for good, delete it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from one.
        line: usize,
        /// What stands there.
        found: String,
        /// What we would have written.
        expected: &'static str,
    },
    /// No random numbers.
    #[error("the kernel gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The counter has reached its end.
    #[error("{path}: the incarnation counter has reached its largest value, {}", u32::MAX)]
    Exhausted {
        /// The file.
        path: PathBuf,
    },
}

/// A locked state directory. The lock is held until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: File,
}

impl StateDirectory {
    /// Opens and locks the directory; makes it, for our user only, if it is not there.
    ///
    /// # Errors
    /// Another daemon has locked it, or the file system refuses.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        make_directory(&path)?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: lock_path }),
            Err(TryLockError::Error(source)) => Err(failed("lock", &lock_path)(source)),
        }
    }

    /// Begins a new incarnation, greater than all earlier ones. It is on disk before it is returned.
    ///
    /// The counter is that of [`next_counter`].
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged.
    pub fn next_incarnation(&self) -> Result<Incarnation, StoreError> {
        let path = self.path.join(INCARNATION);
        let stored = self.stored_counter(&path)?;
        let counter = next_counter(stored, unix_seconds())
            .ok_or(StoreError::Exhausted { path: path.clone() })?;
        let nonce = getrandom::u32().map_err(StoreError::Random)?;
        self.replace(INCARNATION, &format!("{counter}\n"))?;
        Ok(Incarnation::new(counter, nonce))
    }

    /// Remembers that this start may hold `current`, and returns all addresses that an earlier start may have left on
    /// the machine as well as `current`: what a clean-up may remove. It is on disk before it is returned.
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged.
    pub fn may_hold(&self, current: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, StoreError> {
        let mut all = self.stored_addresses()?;
        all.extend(current);
        self.write_addresses(&all)?;
        Ok(all)
    }

    /// Forgets what earlier starts may have held, because the clean-up has removed it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn cleaned_up(&self, current: &BTreeSet<IpAddr>) -> Result<(), StoreError> {
        self.write_addresses(current)
    }

    /// The longest promise that an earlier start may have made, if it made any. From here on, until
    /// [`StateDirectory::promises_are`], a start finds at least `promise` and what was found now: it is on disk before it
    /// is returned.
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged.
    pub fn may_promise(&self, promise: Duration) -> Result<Duration, StoreError> {
        let path = self.path.join(PROMISE);
        let before = match read(&path)? {
            None => Duration::ZERO,
            Some(text) => {
                let found = text.trim_end();
                found.parse().map(Duration::from_micros).map_err(|_| StoreError::Damaged {
                    path: path.clone(),
                    line: 1,
                    found: found.to_owned(),
                    expected: "a number of microseconds",
                })?
            }
        };
        self.promises_are(before.max(promise))?;
        Ok(before)
    }

    /// No earlier promise than one of this length binds any more: this start has waited for all of them to end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn promises_are(&self, promise: Duration) -> Result<(), StoreError> {
        self.replace(PROMISE, &format!("{}\n", promise.as_micros()))
    }

    /// A gate of this name may stand from now on, and none of another name: for [`stored_gate`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn gate_may_stand(&self, name: &str) -> Result<(), StoreError> {
        self.replace(GATE, &format!("{name}\n"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn stored_counter(&self, path: &Path) -> Result<Option<u32>, StoreError> {
        let Some(text) = read(path)? else { return Ok(None) };
        let found = text.trim_end();
        found.parse().map(Some).map_err(|_| StoreError::Damaged {
            path: path.to_owned(),
            line: 1,
            found: found.to_owned(),
            expected: "a number below 4294967296",
        })
    }

    fn stored_addresses(&self) -> Result<BTreeSet<IpAddr>, StoreError> {
        stored_addresses(&self.path)
    }

    fn write_addresses(&self, addresses: &BTreeSet<IpAddr>) -> Result<(), StoreError> {
        let lines: String = addresses.iter().map(|address| format!("{address}\n")).collect();
        self.replace(ADDRESSES, &lines)
    }

    fn replace(&self, name: &str, content: &str) -> Result<(), StoreError> {
        replace(&self.path, name, content.as_bytes())
    }
}

/// What starts with this state directory may have held, without a lock: a running daemon may change it. Nothing if there is no
/// such directory.
///
/// # Errors
/// The file cannot be read, or is damaged.
pub fn stored_addresses(directory: &Path) -> Result<BTreeSet<IpAddr>, StoreError> {
    let path = directory.join(ADDRESSES);
    let text = read(&path)?.unwrap_or_default();
    text.lines()
        .enumerate()
        .map(|(number, line)| {
            line.parse().map_err(|_| StoreError::Damaged {
                path: path.clone(),
                line: number + 1,
                found: line.to_owned(),
                expected: "an IPv4 or IPv6 address",
            })
        })
        .collect()
}

/// The name of the gate that a start with this state directory may have left, without a lock.
///
/// # Errors
/// The file cannot be read.
pub fn stored_gate(directory: &Path) -> Result<Option<String>, StoreError> {
    let name = read(&directory.join(GATE))?.map(|text| text.trim_end().to_owned());
    Ok(name.filter(|name| !name.is_empty()))
}

/// Replaces a file as a whole: after a crash the old or the new content is there.
pub(super) fn replace(directory: &Path, name: &str, content: &[u8]) -> Result<(), StoreError> {
    let path = directory.join(name);
    let beside = directory.join(format!("{name}.new"));
    File::create(&beside)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .map_err(failed("write", &beside))?;
    fs::rename(&beside, &path).map_err(failed("replace", &path))?;
    sync_directory(directory)
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(failed("make directory", path))
}

/// A rename is durable once the directory is.
fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("sync", path))
}

/// The content, or nothing if there is no such file.
fn read(path: &Path) -> Result<Option<String>, StoreError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path)(source)),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

/// What the counter of starts of a machine whose state was lost is ahead of the wall clock. A daemon that is started anew more than
/// once a second for a while runs ahead of it: whoever came after it with less would not be heard by its peers.
const BLANK_AHEAD: u32 = 60;

/// The counter of the next start: the `stored` one plus one, or the wall clock's `seconds` if that is more, so that a machine whose
/// state directory was lost does not fall behind what its peers have seen of it. `None` if there is none greater.
pub fn next_counter(stored: Option<u32>, seconds: u32) -> Option<u32> {
    match stored {
        Some(counter) => Some(counter.checked_add(1)?.max(seconds)),
        None => Some(seconds.saturating_add(BLANK_AHEAD)),
    }
}

/// Zero before 1970 and the largest value after 2106: the stored counter goes on by itself then.
fn unix_seconds() -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "only a lower bound for a counter: a jump can raise it and can never lower it"
    )]
    let now = std::time::SystemTime::now();
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn incarnations_grow_from_start_to_start() {
        let root = tempfile::tempdir().unwrap();
        let mut earlier = Incarnation::default();
        for _ in 0..5 {
            let directory = StateDirectory::open(root.path().join("state")).unwrap();
            let incarnation = directory.next_incarnation().unwrap();
            assert!(incarnation.counter() > earlier.counter(), "{incarnation} after {earlier}");
            earlier = incarnation;
        }
    }

    #[test]
    fn a_lost_counter_does_not_fall_behind() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        let before = directory.next_incarnation().unwrap();
        fs::remove_file(root.path().join(INCARNATION)).unwrap();

        let after = directory.next_incarnation().unwrap();

        assert!(after.counter() >= before.counter(), "{after} after {before}");
        assert_ne!(after, before, "the nonce tells them apart");

        let minute_of_quick_starts =
            (0..60).try_fold(1_000, |last, _| next_counter(Some(last), 1_000));
        assert!(next_counter(None, 1_001) > minute_of_quick_starts);
    }

    #[test]
    fn a_counter_ahead_of_the_clock_goes_on_from_there() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        fs::write(root.path().join(INCARNATION), "4294967290\n").unwrap();

        assert_eq!(directory.next_incarnation().unwrap().counter(), 4_294_967_291);

        fs::write(root.path().join(INCARNATION), "4294967295\n").unwrap();
        let error = directory.next_incarnation().unwrap_err();
        assert!(matches!(error, StoreError::Exhausted { .. }), "{error}");
    }

    #[test]
    fn the_gate_of_an_earlier_start_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(stored_gate(&root.path().join("state")).unwrap(), None);
        let directory = StateDirectory::open(root.path().join("state")).unwrap();
        assert_eq!(stored_gate(directory.path()).unwrap(), None);
        directory.gate_may_stand("wackamole_a").unwrap();
        directory.gate_may_stand("wackamole_b").unwrap();
        assert_eq!(stored_gate(directory.path()).unwrap().as_deref(), Some("wackamole_b"));
    }

    #[test]
    fn a_second_daemon_is_kept_out_until_the_first_has_gone() {
        let root = tempfile::tempdir().unwrap();
        let first = StateDirectory::open(root.path()).unwrap();
        let error = StateDirectory::open(root.path()).unwrap_err();
        assert!(error.to_string().contains("another wackamole runs"), "{error}");

        drop(first);

        StateDirectory::open(root.path()).unwrap();
    }

    #[test]
    fn addresses_of_earlier_starts_are_remembered_until_they_are_cleaned_up() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        let old = set(&["10.0.0.1", "fd00::1"]);
        let new = set(&["10.0.0.2"]);
        assert_eq!(directory.may_hold(&old).unwrap(), old);

        let both = set(&["10.0.0.1", "10.0.0.2", "fd00::1"]);
        assert_eq!(directory.may_hold(&new).unwrap(), both);
        assert_eq!(directory.may_hold(&new).unwrap(), both, "a crash before the clean-up");

        directory.cleaned_up(&new).unwrap();
        assert_eq!(directory.may_hold(&new).unwrap(), new);
    }

    #[test]
    fn a_longer_promise_is_kept_in_mind_until_it_has_been_waited_out() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        let ms = Duration::from_millis;
        assert_eq!(directory.may_promise(ms(4_000)).unwrap(), ms(0));
        assert_eq!(directory.may_promise(ms(400)).unwrap(), ms(4_000));
        assert_eq!(directory.may_promise(ms(400)).unwrap(), ms(4_000), "a crash before its end");

        directory.promises_are(ms(400)).unwrap();

        assert_eq!(directory.may_promise(ms(40)).unwrap(), ms(400));
    }

    #[test]
    fn a_damaged_file_is_named_with_its_line() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        fs::write(root.path().join(INCARNATION), "seven\n").unwrap();
        fs::write(root.path().join(ADDRESSES), "10.0.0.1\n10.0.0.256\n").unwrap();

        let counter = directory.next_incarnation().unwrap_err().to_string();
        assert!(counter.contains("incarnation, line 1: found \"seven\""), "{counter}");
        let addresses = directory.may_hold(&set(&[])).unwrap_err().to_string();
        assert!(addresses.contains("addresses, line 2: found \"10.0.0.256\""), "{addresses}");
    }
}
