//! The cluster's key file: made by `wackamole genkey`, the same on every node, readable by its owner only.
//!
//! Text, so that it survives copying through a terminal: a header line that says what it is, then 32 bytes as hex.
//! Empty lines and lines that start with `#` are ignored. No error shows any part of the key.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wackamole_protocol::config::ClusterKey;

const HEADER: &str = "wackamole-key-1";
const KEY_BYTES: usize = 32;
/// More than any key file has; a device or a log file given by mistake is not read to its end.
const FILE_BYTES_MAX: u64 = 4096;

/// Why there is no key. States no part of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than the owner may read or write it.
    #[error("the key file {} is open to group or others (mode {mode:04o})", file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a key file.
    #[error("the key file {} is malformed: {found}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is there instead, with its line.
        found: String,
    },
    /// It cannot be written.
    #[error("cannot write the key file {}: {source}", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is there already.
    #[error("{} exists", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    NoEntropy(getrandom::Error),
}

impl KeyError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "make one with `wackamole genkey FILE` on one machine and copy it to the others"
                    .into()
            }
            Self::Unreadable { .. } => "it must be readable by the user that runs wackamole".into(),
            Self::Exposed { file, .. } => format!(
                "whoever reads it can take part in the cluster; run `chmod 600 {}`",
                file.display()
            ),
            Self::Malformed { .. } => format!(
                "a key file has the line {HEADER} and a line of {} hex digits, as `wackamole genkey` writes them",
                2 * KEY_BYTES
            ),
            Self::Unwritable { .. } => "choose another place, or run it as another user".into(),
            Self::Exists { .. } => {
                "use --force to replace it; every node needs the new key before it is restarted"
                    .into()
            }
            Self::NoEntropy(_) => "getrandom(2) must be permitted".into(),
        }
    }
}

/// Reads a key file.
///
/// # Errors
/// It cannot be read, is malformed, or is readable by group or others.
pub fn read(file: &Path) -> Result<ClusterKey, KeyError> {
    let unreadable = |source| KeyError::Unreadable { file: file.to_owned(), source };
    let opened = File::open(file).map_err(unreadable)?;
    // Of the opened file, not of the path: the path may name another one by now.
    let mode = opened.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { file: file.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let malformed = |found: String| KeyError::Malformed { file: file.to_owned(), found };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(malformed(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| malformed("it is not text".into()))?;
    parse(&text).map_err(malformed)
}

/// Makes a key of random bytes.
///
/// # Errors
/// The system gives no random bytes.
pub fn generate() -> Result<ClusterKey, KeyError> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(KeyError::NoEntropy)?;
    Ok(ClusterKey(bytes))
}

/// Writes a key file with mode 0600, and its directory if that is missing.
///
/// # Errors
/// It exists and `replace` is not set, or it cannot be written.
pub fn write(file: &Path, key: &ClusterKey, replace: bool) -> Result<(), KeyError> {
    let unwritable = |source| KeyError::Unwritable { file: file.to_owned(), source };
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(unwritable)?;
    }
    if !replace {
        return create(file, key).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { file: file.to_owned() },
            _ => unwritable(source),
        });
    }
    // Renamed into place: a daemon that reads it meanwhile finds the old key or the new one, nothing between.
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = file.with_file_name(name);
    create(&temporary, key).and_then(|()| fs::rename(&temporary, file)).map_err(|source| {
        // Best effort: the error that is reported is why it is in the way.
        let _ = fs::remove_file(&temporary);
        unwritable(source)
    })
}

/// What a key file contains.
pub fn text(key: &ClusterKey) -> String {
    let mut text = format!(
        "# The secret of a wackamole cluster: the same file on every node, readable by its owner only.\n{HEADER}\n"
    );
    for byte in key.0 {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

fn create(file: &Path, key: &ClusterKey) -> io::Result<()> {
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    opened.write_all(text(key).as_bytes())?;
    opened.sync_all()
}

fn parse(text: &str) -> Result<ClusterKey, String> {
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    match lines.next() {
        None => return Err("it is empty".into()),
        Some((_, HEADER)) => {}
        Some((line, _)) => return Err(format!("line {line} is not {HEADER}")),
    }
    let Some((line, hex)) = lines.next() else {
        return Err(format!("nothing follows the line {HEADER}"));
    };
    if let Some(column) = hex.chars().position(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("line {line} has no hex digit in place {}", column + 1));
    }
    if hex.len() != 2 * KEY_BYTES {
        return Err(format!("line {line} has {} hex digits, not {}", hex.len(), 2 * KEY_BYTES));
    }
    if let Some((line, _)) = lines.next() {
        return Err(format!("line {line} follows the key"));
    }
    let mut key = [0; KEY_BYTES];
    for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
        *byte = digit(digits[0]) << 4 | digit(digits[1]);
    }
    if key == [0; KEY_BYTES] {
        return Err(format!("line {line} is all zeros"));
    }
    Ok(ClusterKey(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_key_reads_back() {
        let key = ClusterKey(core::array::from_fn(|i| (i * 7 + 1) as u8));
        assert_eq!(parse(&text(&key)), Ok(key));
    }

    #[test]
    fn a_malformed_key_is_told_without_showing_it() {
        let digits = "ab".repeat(KEY_BYTES);
        for (text, found) in [
            (String::new(), "it is empty"),
            ("# only a comment\n".into(), "it is empty"),
            (digits.clone(), "line 1 is not wackamole-key-1"),
            ("\nwackamole-key-2\n".into(), "line 2 is not wackamole-key-1"),
            ("wackamole-key-1\n".into(), "nothing follows the line wackamole-key-1"),
            (format!("{HEADER}\n{}", &digits[1..]), "line 2 has 63 hex digits, not 64"),
            (format!("{HEADER}\n{digits}00"), "line 2 has 66 hex digits, not 64"),
            (format!("{HEADER}\nxy{digits}"), "line 2 has no hex digit in place 1"),
            (format!("{HEADER}\nab ä{digits}"), "line 2 has no hex digit in place 3"),
            (format!("{HEADER}\n{digits}\n{digits}"), "line 3 follows the key"),
            (format!("{HEADER}\n{}", "0".repeat(64)), "line 2 is all zeros"),
        ] {
            assert_eq!(parse(&text), Err(found.into()));
        }
    }
}
