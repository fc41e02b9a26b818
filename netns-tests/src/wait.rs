//! Waiting for a condition, never for a time.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::time::Moment;

/// Asks `condition` every few milliseconds until it holds.
///
/// # Errors
/// It does not hold within `limit`; the error says `what` was awaited.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until_some(what, limit, || condition().then_some(()))
}

/// As [`until`], for a condition that yields something.
///
/// # Errors
/// It yields nothing within `limit`.
pub fn until_some<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let started = Moment::now();
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if started.elapsed() > limit {
            bail!("waited {limit:?} in vain until {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Checks that `condition` holds all the time for `period`.
///
/// # Errors
/// It does not hold at some moment; the error says `what` was expected.
pub fn always(what: &str, period: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let started = Moment::now();
    while started.elapsed() < period {
        if !condition() {
            bail!("expected for {period:?} that {what}, but after {:?} not", started.elapsed());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
