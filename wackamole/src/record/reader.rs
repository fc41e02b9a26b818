//! Reads records, also those that end in the middle: a daemon that was killed, or a machine that lost its power, has not
//! finished its sentence. What is whole up to there is good.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wackamole_protocol::time::{Duration, Instant};

use super::entry::{End, Entry, Timed};
use super::{FRAME_HEAD, FRAME_MAX, Header, MAGIC, VERSION, checksum};

/// How far behind a place that makes no sense another whole frame is looked for, in bytes, and how large it may be.
const SEARCHED_MAX: usize = 1 << 20;
const SOUGHT_MAX: usize = 1 << 14;

/// Why a record cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses.
    #[error("cannot read {file}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{file} is no record: it begins with {found:?}, a record with {MAGIC:?} and a version", file = file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Its first bytes.
        found: String,
    },
    /// It was written by another version of the program.
    #[error("{file} is a record of version {found}; this program reads version {VERSION}", file = file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: String,
    },
    /// A place in it makes no sense.
    #[error("{file} is damaged at byte {offset}: {found}, expected {expected}", file = file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the frame begins.
        offset: usize,
        /// What is there.
        found: String,
        /// What would make sense.
        expected: String,
    },
}

/// A record whose beginning is good.
#[derive(Clone, Debug)]
pub struct Record {
    file: PathBuf,
    bytes: Vec<u8>,
    /// Where the frames behind the header begin.
    pub(super) start: usize,
    /// What the daemon knew when it started.
    pub header: Header,
}

/// How a record ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// With its own last word.
    Marked(End),
    /// Without: its daemon was killed or still runs, or the machine lost its power.
    CutOff {
        /// So many bytes at the end make no whole frame.
        rest: usize,
    },
}

impl Record {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is no record, or not one of this version, or its beginning is damaged.
    pub fn open(file: &Path) -> Result<Self, ReadError> {
        let bytes = fs::read(file)
            .map_err(|source| ReadError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(file, bytes)
    }

    /// Reads the content of a file; `file` is for messages.
    ///
    /// # Errors
    /// As [`Record::open`].
    pub fn parse(file: &Path, bytes: Vec<u8>) -> Result<Self, ReadError> {
        let foreign = || {
            let found =
                String::from_utf8_lossy(&bytes[..bytes.len().min(MAGIC.len())]).into_owned();
            ReadError::Foreign { file: file.to_owned(), found }
        };
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or_else(foreign)?;
        let digits = rest.iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
        let version = String::from_utf8_lossy(&rest[..digits]).into_owned();
        if rest.get(digits) != Some(&b'\n') || digits == 0 {
            return Err(foreign());
        }
        if version != VERSION.to_string() {
            return Err(ReadError::Version { file: file.to_owned(), found: version });
        }
        let offset = MAGIC.len() + digits + 1;
        let damaged = |found: String| ReadError::Damaged {
            file: file.to_owned(),
            offset,
            found,
            expected: "the header".into(),
        };
        let content = match frame_at(&bytes, offset) {
            Frame::Whole(content) => content,
            Frame::Broken { found, .. } => return Err(damaged(found)),
            Frame::End => return Err(damaged("nothing".into())),
        };
        let header = serde_json::from_slice(content).map_err(|error| damaged(error.to_string()))?;
        let start = offset + FRAME_HEAD + content.len();
        Ok(Self { file: file.to_owned(), bytes, start, header })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// All entries in order.
    pub fn entries(&self) -> Entries<'_> {
        Entries {
            record: self,
            offset: self.start,
            content: &[],
            now: self.header.started(),
            finish: None,
        }
    }
}

/// The entries of a record, each with its instant. Ends at the last whole frame; [`Entries::finish`] then says how the record
/// ends.
#[derive(Debug)]
pub struct Entries<'a> {
    record: &'a Record,
    /// Where the next frame begins.
    offset: usize,
    /// What is left of this one.
    content: &'a [u8],
    now: Instant,
    finish: Option<Finish>,
}

impl<'a> Entries<'a> {
    /// How the record ends, once all entries are read; nothing before, and if it is damaged.
    pub fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    fn damaged(&self, found: String, expected: &str) -> ReadError {
        let file = self.record.file.clone();
        ReadError::Damaged { file, offset: self.offset, found, expected: expected.into() }
    }

    /// Moves on to the next frame. Returns whether there is one.
    fn advance(&mut self) -> Result<bool, ReadError> {
        let bytes = &self.record.bytes;
        match frame_at(bytes, self.offset) {
            Frame::Whole(content) => {
                self.content = content;
                self.offset += FRAME_HEAD + content.len();
                Ok(true)
            }
            Frame::End => {
                self.finish.get_or_insert(Finish::CutOff { rest: 0 });
                Ok(false)
            }
            Frame::Broken { found, expected } => {
                let searched = self.offset + 1..bytes.len().min(self.offset + SEARCHED_MAX);
                let resumes = searched
                    .into_iter()
                    .find(|&offset| is_small(bytes, offset) && is_whole(bytes, offset));
                if let Some(resumes) = resumes {
                    let found = format!("{found} (a whole entry follows at byte {resumes})");
                    return Err(self.damaged(found, &expected));
                }
                self.finish = Some(Finish::CutOff { rest: bytes.len() - self.offset });
                Ok(false)
            }
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(Instant, Entry<'a>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finish.is_some() {
            return None;
        }
        while self.content.is_empty() {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    // Nothing behind it is looked at.
                    self.offset = self.record.bytes.len();
                    self.finish = Some(Finish::CutOff { rest: 0 });
                    return Some(Err(error));
                }
            }
        }
        match postcard::take_from_bytes::<Timed<'a>>(self.content) {
            Ok((Timed { after, entry }, rest)) => {
                self.content = rest;
                let now = self.now.since_origin().as_nanos() as i64;
                let now = u64::try_from(now.wrapping_add(after)).unwrap_or(0);
                self.now = Instant::after_origin(Duration::from_nanos(now));
                if let Entry::End(end) = &entry {
                    self.finish = Some(Finish::Marked(end.clone()));
                }
                Some(Ok((self.now, entry)))
            }
            Err(error) => {
                let left = self.content.len();
                self.content = &[];
                let found = format!("in the frame that ends there, {left} bytes before: {error}");
                let error = self.damaged(found, "an entry");
                self.finish = Some(Finish::CutOff { rest: 0 });
                Some(Err(error))
            }
        }
    }
}

enum Frame<'a> {
    Whole(&'a [u8]),
    /// The bytes from here on are no frame.
    Broken {
        found: String,
        expected: String,
    },
    /// Nothing is there.
    End,
}

fn is_whole(bytes: &[u8], offset: usize) -> bool {
    matches!(frame_at(bytes, offset), Frame::Whole(_))
}

/// Checking the sum of whatever could be a large frame would take for ever.
fn is_small(bytes: &[u8], offset: usize) -> bool {
    let length = bytes[offset..].first_chunk().map(|length| u32::from_le_bytes(*length));
    length.is_some_and(|length| length as usize <= SOUGHT_MAX)
}

fn frame_at(bytes: &[u8], offset: usize) -> Frame<'_> {
    let rest = &bytes[offset.min(bytes.len())..];
    if rest.is_empty() {
        return Frame::End;
    }
    let Some((&[l0, l1, l2, l3, c0, c1, c2, c3], rest)) = rest.split_first_chunk::<FRAME_HEAD>()
    else {
        let found = format!("{} bytes", rest.len());
        return Frame::Broken { found, expected: format!("at least {FRAME_HEAD}") };
    };
    let length = [l0, l1, l2, l3];
    let size = u32::from_le_bytes(length) as usize;
    // An empty frame is never written; where power was lost there may be zeros.
    if size == 0 || size > FRAME_MAX || size > rest.len() {
        return Frame::Broken {
            found: format!("an entry of {size} bytes"),
            expected: format!("one of 1 to {}", rest.len().min(FRAME_MAX)),
        };
    }
    let (content, noted) = (&rest[..size], u32::from_le_bytes([c0, c1, c2, c3]));
    let sum = checksum(length, content);
    if sum != noted {
        return Frame::Broken {
            found: format!("the check sum {sum:08x}"),
            expected: format!("{noted:08x}"),
        };
    }
    Frame::Whole(content)
}
