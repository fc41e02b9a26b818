//! The daemon's own record of what it is told.

use std::error::Error as _;
use std::path::PathBuf;

use tracing::warn;

use crate::record::{self, FileSink, Header, Recorder};

/// Where a daemon records what it is told.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The directory; it is made if it is missing.
    pub directory: PathBuf,
    /// How many bytes all records of this node in it may have.
    pub limit: u64,
}

impl Recording {
    /// Begins a record. That it cannot is no reason not to start.
    pub(super) fn begin(&self, header: &Header) -> Option<Recorder<FileSink>> {
        match record::create(&self.directory, self.limit, header) {
            Ok(recorder) => Some(recorder),
            Err(error) => {
                let source = error.source();
                warn!(%error, source, "this start is not recorded");
                None
            }
        }
    }
}
