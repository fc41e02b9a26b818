//! The record of votes on the disk, written on a thread of its own: fsync(2) takes as long as the disk likes.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::store;
use crate::env::Storage;

/// The name of the file in the state directory.
const FILE: &str = "votes";
/// How long it takes until what could not be written is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Writes records into the state directory, each in the place of the one before.
#[derive(Debug)]
pub struct RecordWriter {
    records: mpsc::Sender<(u64, Vec<u8>)>,
    saved: RefCell<UnboundedReceiver<(u64, io::Result<()>)>>,
}

impl RecordWriter {
    /// Starts the thread. It ends when this is dropped.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(directory: PathBuf) -> io::Result<Self> {
        let (records, submitted) = mpsc::channel();
        let (report, saved) = unbounded_channel();
        std::thread::Builder::new()
            .name("records".into())
            .spawn(move || write_all(&directory, &submitted, &report))?;
        Ok(Self { records, saved: RefCell::new(saved) })
    }

    /// The record that was written last, by whatever start of this node; nothing if there was none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(directory: &Path) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(directory.join(FILE)) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Writes the newest record until it is there. What cannot be written is told each time, and tried again: nothing else would ask for
/// it, and whatever depends on it would wait for ever.
fn write_all(
    directory: &Path,
    submitted: &mpsc::Receiver<(u64, Vec<u8>)>,
    report: &UnboundedSender<(u64, io::Result<()>)>,
) {
    let mut failed = None;
    loop {
        let next = match failed.take() {
            None => submitted.recv().ok(),
            Some(earlier) => match submitted.recv_timeout(AGAIN_AFTER) {
                Ok(newer) => Some(newer),
                Err(RecvTimeoutError::Timeout) => Some(earlier),
                Err(RecvTimeoutError::Disconnected) => None,
            },
        };
        let Some(mut newest) = next else { return };
        while let Ok(newer) = submitted.try_recv() {
            newest = newer; // each contains all that matters of the one before
        }
        let result = store::replace(directory, FILE, &newest.1).map_err(io::Error::other);
        let (ticket, is_saved) = (newest.0, result.is_ok());
        failed = (!is_saved).then_some(newest);
        if report.send((ticket, result)).is_err() {
            return;
        }
    }
}

impl Storage for RecordWriter {
    fn save(&self, ticket: u64, record: Vec<u8>) {
        // If the thread has panicked nothing is ever saved, and nothing that depends on it happens.
        let _ = self.records.send((ticket, record));
    }

    async fn saved(&self) -> (u64, io::Result<()>) {
        let next = std::future::poll_fn(|context| self.saved.borrow_mut().poll_recv(context)).await;
        match next {
            Some(saved) => saved,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_record_is_there_when_its_ticket_comes_back() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(RecordWriter::read(root.path()).unwrap(), None);
        let writer = RecordWriter::start(root.path().to_owned()).unwrap();
        for ticket in 1..=5 {
            writer.save(ticket, vec![7; ticket as usize]);
        }
        while writer.saved().await.0 < 5 {}
        assert_eq!(RecordWriter::read(root.path()).unwrap(), Some(vec![7; 5]));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told_and_written_as_soon_as_it_can_be() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("state");
        let writer = RecordWriter::start(directory.clone()).unwrap();
        writer.save(1, vec![7]);
        assert!(matches!(writer.saved().await, (1, Err(_))), "the directory is not there");
        std::fs::create_dir(&directory).unwrap();
        while writer.saved().await.1.is_err() {}
        assert_eq!(RecordWriter::read(&directory).unwrap(), Some(vec![7]));
    }
}
