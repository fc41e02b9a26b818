//! Puts a record on the disk, on a thread of its own: heartbeats never wait for a disk. What goes wrong ends the record, with one
//! warning and, if there is room for it, a last entry that says why; the daemon goes on.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use super::entry::{End, Entry};
use super::{EXTENSION, Header, Recorder, Sink, frame};
use crate::io::clock::wall_clock;

/// For so long frames are gathered before they are written: a daemon that is killed takes no more than that with it.
const GATHER: Duration = Duration::from_millis(20);
/// More bytes do not wait for a disk that is slow.
const WAITING_MAX: usize = 16 << 20;
/// How long the end of the process waits for the last frames.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The last entry fits in so many bytes, with its frame.
const END_ROOM: u64 = 512;
/// A file system gives and takes room in pieces no larger than this: whoever cuts off less may free nothing.
const ALLOTTED_MAX: u64 = 8 << 10;

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}", path = path.display())]
pub struct RecordError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Begins the record of a start of a node, in a file of its own. Older records of the node are removed, the oldest first, until
/// they fill no more than half of `limit`; the new one may use the rest.
///
/// # Errors
/// The directory or the file cannot be made, or an older record cannot be removed.
pub fn create(
    directory: &Path,
    limit: u64,
    header: &Header,
) -> Result<Recorder<FileSink>, RecordError> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| RecordError { doing, path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("make the directory", directory))?;
    let kept = make_room(directory, &header.node, limit / 2)
        .map_err(failed("make room for a new record in", directory))?;
    let path = directory.join(file_name(header));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed("make the record", &path))?;
    let size_max = limit.saturating_sub(kept);
    info!(record = %path.display(), size_max, "recording everything that this daemon is told, all of the cluster's talk included");
    let sink = FileSink::start(file, path.clone(), size_max)
        .map_err(failed("start a thread for", &path))?;
    Ok(Recorder::start(header, wall_clock, sink))
}

fn file_name(header: &Header) -> String {
    format!("{}-{}.{EXTENSION}", for_files(&header.node), header.incarnation)
}

/// The name of a node may have slashes.
fn for_files(node: &str) -> String {
    node.replace('/', "_")
}

/// Removes the oldest records of a node until what is left has at most `size_max` bytes; returns how many it has.
fn make_room(directory: &Path, node: &str, size_max: u64) -> io::Result<u64> {
    let mut records = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let start = name.to_str().and_then(|name| {
            let (of, start) = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.rsplit_once('-')?;
            // An incarnation is a count of starts and a nonce.
            let count: u32 = start.split_once('.')?.0.parse().ok()?;
            (of == for_files(node)).then_some(count)
        });
        if let Some(count) = start {
            records.push((count, entry.metadata()?.len(), entry.path()));
        }
    }
    records.sort();
    let mut size: u64 = records.iter().map(|(_, size, _)| size).sum();
    for (_, freed, path) in records {
        if size <= size_max {
            break;
        }
        fs::remove_file(&path)?;
        info!(record = %path.display(), "removed the oldest record to make room");
        size -= freed;
    }
    Ok(size)
}

/// Hands frames to the thread that writes.
#[derive(Debug)]
pub struct FileSink {
    frames: Option<Sender<Vec<u8>>>,
    queue: Arc<Queue>,
    done: Receiver<()>,
}

/// What both threads look at.
#[derive(Debug, Default)]
struct Queue {
    /// Bytes that wait to be written.
    waiting: AtomicUsize,
    /// The daemon was too fast.
    overrun: AtomicBool,
    /// Nothing is written any more.
    ended: AtomicBool,
}

impl FileSink {
    fn start(file: File, path: PathBuf, size_max: u64) -> io::Result<Self> {
        let (frames, received) = channel();
        let (tell_done, done) = sync_channel(1);
        let queue = Arc::new(Queue::default());
        let shared = Arc::clone(&queue);
        thread::Builder::new().name("recorder".into()).spawn(move || {
            let mut target = Target { file, written: 0, begun: VecDeque::new(), size_max };
            if let Some(end) = write_all(&mut target, &received, &shared) {
                shared.ended.store(true, Ordering::Relaxed);
                target.mark(&end);
                warn!(record = %path.display(), why = %end, "recording stops here; the daemon goes on");
            }
            // Whoever waits may have given up.
            let _ = tell_done.try_send(());
        })?;
        Ok(Self { frames: Some(frames), queue, done })
    }
}

impl Sink for FileSink {
    fn put(&mut self, frame: Vec<u8>) -> bool {
        if self.queue.ended.load(Ordering::Relaxed) {
            return false;
        }
        let bytes = frame.len();
        let waiting = self.queue.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting > WAITING_MAX {
            self.queue.overrun.store(true, Ordering::Relaxed);
            self.frames = None;
        }
        self.frames.as_ref().is_some_and(|frames| frames.send(frame).is_ok())
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.frames = None;
        // A disk that does not answer must not keep the process from ending.
        let _ = self.done.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Writes until the other side has ended (nothing), or something is wrong.
fn write_all(
    target: &mut Target<impl Write>,
    frames: &Receiver<Vec<u8>>,
    queue: &Queue,
) -> Option<End> {
    while let Ok(first) = frames.recv() {
        thread::sleep(GATHER);
        let mut batch = Vec::new();
        let mut full = false;
        for frame in std::iter::once(first).chain(frames.try_iter()) {
            full = !target.has_room(batch.len() + frame.len());
            if full {
                break;
            }
            batch.extend(frame);
        }
        if let Err(error) = target.append(&batch) {
            return Some(End::Refused(error.to_string()));
        }
        queue.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        if full {
            return Some(End::Limit(target.size_max));
        }
    }
    let waiting = queue.waiting.load(Ordering::Relaxed) as u64;
    queue.overrun.load(Ordering::Relaxed).then_some(End::TooSlow(waiting))
}

/// The file, which ends with a whole frame.
struct Target<F> {
    file: F,
    /// So many bytes of whole frames.
    written: u64,
    /// Where the last batches began, the latest last; the first of them further back than a file system allots at a time.
    begun: VecDeque<u64>,
    size_max: u64,
}

impl<F: Write> Target<F> {
    /// Whether so many bytes, and a last word, are within the limit.
    fn has_room(&self, bytes: usize) -> bool {
        self.written + bytes as u64 + END_ROOM <= self.size_max
    }

    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        self.file.write_all(batch)?;
        self.begun.push_back(self.written);
        self.written += batch.len() as u64;
        while self.begun.get(1).is_some_and(|next| self.written - next > ALLOTTED_MAX) {
            self.begun.pop_front();
        }
        Ok(())
    }
}

impl Target<File> {
    /// Says why nothing follows. What a full disk has taken of the last batch is cut off, which makes room; if that is not
    /// enough, the batches before go too, until a piece of the disk is free that the mark fits in.
    fn mark(&mut self, end: &End) {
        let content = postcard::to_allocvec(&(0_i64, Entry::End(end.clone())))
            .expect("derived encodings into a vector cannot fail");
        let mark = frame(&content);
        // The first batch has the header, without which the rest is nothing.
        let begun = self.begun.iter().rev().copied();
        for size in std::iter::once(self.written).chain(begun).filter(|&size| size > 0) {
            let mut marked = || {
                self.file.set_len(size)?;
                self.file.seek(SeekFrom::Start(size))?;
                self.file.write_all(&mark)
            };
            if marked().is_ok() {
                return;
            }
        }
        // A record without a last word ends with a whole frame.
        let whole = self.begun.front().copied().filter(|&size| size > 0).unwrap_or(self.written);
        let _ = self.file.set_len(whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_records_of_the_same_node_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(directory.path().join(name), [0; 100]).unwrap();
        for name in
            ["a-9.00000001", "a-10.00000001", "a-11.0000000a", "a-b-1.00000001", "b-1.00000001"]
        {
            put(&format!("{name}.{EXTENSION}"));
        }
        put("a-1.00000001.txt");

        let kept = make_room(directory.path(), "a", 250).unwrap();

        assert_eq!(kept, 200);
        let mut left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        left.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
        let left: Vec<_> = left
            .into_iter()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(
            left,
            [
                "a-1.00000001.txt",
                "a-10.00000001.wackrec",
                "a-11.0000000a.wackrec",
                "a-b-1.00000001.wackrec",
                "b-1.00000001.wackrec"
            ]
        );
    }

    #[test]
    fn enough_is_remembered_to_free_a_piece_of_the_disk_and_no_more() {
        let mut target =
            Target { file: Vec::new(), written: 0, begun: VecDeque::new(), size_max: u64::MAX };
        for _ in 0..1_000 {
            target.append(&[7; 100]).unwrap();
        }
        let first = target.written - target.begun.front().unwrap();
        assert!(first > ALLOTTED_MAX && first <= ALLOTTED_MAX + 100, "{first}");
        assert_eq!(target.begun.back(), Some(&(target.written - 100)));
    }

    #[test]
    fn a_disk_that_is_full_ends_the_record_and_nothing_else() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut sink = FileSink::start(full, "/dev/full".into(), u64::MAX).unwrap();

        assert!(sink.put(vec![1; 100]), "it is not known yet");
        sink.done.recv().unwrap();

        assert!(!sink.put(vec![1; 100]));
    }

    #[test]
    fn a_daemon_that_is_faster_than_the_disk_ends_its_record_and_never_waits() {
        // Nobody takes the frames: a disk that does not answer.
        let (frames, _received) = channel();
        let (_tell_done, done) = sync_channel(1);
        let queue = Arc::new(Queue::default());
        let mut sink = FileSink { frames: Some(frames), queue: Arc::clone(&queue), done };

        let taken = (0..).take_while(|_| sink.put(vec![0; 1 << 20])).count();

        assert_eq!(taken, WAITING_MAX >> 20);
        assert!(queue.overrun.load(Ordering::Relaxed));
    }
}
