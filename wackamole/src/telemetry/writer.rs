//! Writes log lines on a thread of its own: a terminal that is stopped, or a journal that is slow, must not delay a
//! heartbeat.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written; more are lost. A failover of 10 000 VIPs fits.
const LINES_MAX: usize = 16_384;
/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    /// Everything before is written; tell so.
    Flush(SyncSender<()>),
}

/// Writes the remaining lines when dropped, within a second.
#[derive(Debug)]
pub struct LogGuard {
    sender: SyncSender<Message>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        // If the queue is full nobody reads, and waiting would not help.
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Hands lines to the thread.
#[derive(Clone)]
pub(super) struct LineWriter {
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// Starts the thread that writes to `target`.
pub(super) fn to(target: impl Write + Send + 'static) -> (LineWriter, LogGuard) {
    let (sender, receiver) = sync_channel(LINES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&lost);
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write_lines(target, &receiver, &counter))
        .expect("the system has room for one more thread at the start");
    (LineWriter { sender: sender.clone(), lost }, LogGuard { sender })
}

fn write_lines(mut target: impl Write, receiver: &Receiver<Message>, lost: &AtomicU64) {
    loop {
        // What was lost would have come after what is queued.
        let message = receiver.try_recv().or_else(|_| {
            tell_lost(&mut target, lost);
            receiver.recv()
        });
        match message {
            Ok(Message::Line(line)) => drop(target.write_all(&line)),
            Ok(Message::Flush(done)) => {
                tell_lost(&mut target, lost);
                let _ = done.try_send(());
            }
            Err(_) => return,
        }
    }
}

/// There is nobody to tell that the log cannot be written, so errors are dropped here and above.
fn tell_lost(target: &mut impl Write, lost: &AtomicU64) {
    match lost.swap(0, Ordering::Relaxed) {
        0 => {}
        count => drop(writeln!(target, "… {count} log lines lost: nobody read them in time")),
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sender.try_send(Message::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Blocks until it is let go.
    struct Stuck {
        gate: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.gate.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_loses_lines_and_says_how_many() {
        let (open, gate) = sync_channel(0);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut writer, guard) = to(Stuck { gate, written: Arc::clone(&written) });

        let lines = LINES_MAX * 2;
        for line in 0..lines {
            writer.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        drop(open);
        // The queue is full until the thread has gone on.
        let (done, flushed) = sync_channel(1);
        guard.sender.send(Message::Flush(done)).unwrap();
        flushed.recv().unwrap();
        drop(guard);

        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lost: usize = text
            .lines()
            .filter_map(|line| line.strip_prefix("… ")?.split(' ').next()?.parse::<usize>().ok())
            .sum();
        let kept = text.lines().filter(|line| !line.starts_with('…')).count();
        assert!(text.starts_with("0\n1\n"), "{}", &text[..20]);
        assert!(lost > 0);
        assert_eq!(kept + lost, lines);
    }
}
