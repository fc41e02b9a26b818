//! Runs a program, looks at each line that it prints, and ends it when that or its time is enough.

use std::io::{BufRead, BufReader, pipe};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use netns_tests::time::Moment;

/// How a program ended.
pub(super) enum Ended {
    /// By itself, and what it printed.
    Exited(ExitStatus, Vec<String>),
    /// Ended by us: `judge` had seen enough.
    Enough(String),
    /// Ended by us: it took too long.
    TooLong,
}

/// Runs it. `judge` returns something for the line that is enough.
pub(super) fn watch(
    command: &mut Command,
    limit: Duration,
    judge: impl Fn(&str) -> Option<String>,
) -> Result<Ended> {
    let started = Moment::now();
    let (reader, writer) = pipe().context("making a pipe")?;
    let mut program = Command::new(command.get_program());
    program.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => program.env(name, value),
            None => program.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        program.current_dir(folder);
    }
    program.stdout(writer.try_clone().context("sharing a pipe")?).stderr(writer);
    let mut child = program.spawn().with_context(|| format!("starting {command:?}"))?;
    drop(program); // It holds the writing end, and the reader waits for the last one to close.
    let (sender, lines) = channel();
    let reading = thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut printed = Vec::new();
    let ended = loop {
        match lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(line) => {
                if let Some(enough) = judge(&line) {
                    break Some(Ended::Enough(enough));
                }
                printed.push(line);
            }
            Err(RecvTimeoutError::Timeout) => break Some(Ended::TooLong),
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    if let Some(ended) = ended {
        // It may have ended meanwhile, which is as good.
        let _ = child.kill();
        child.wait().context("waiting for a program")?;
        return Ok(ended);
    }
    let status = child.wait().context("waiting for a program")?;
    // It has closed its end.
    let _ = reading.join();
    Ok(Ended::Exited(status, printed))
}
