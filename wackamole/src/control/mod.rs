//! Asking a running daemon: newline-delimited JSON over a unix socket, one line for a request, one line for the reply.
//!
//! `{"request":"status"}` is answered by `{"status":{…}}` (see [`Status`]), a command by `"done"`, and anything else by
//! `{"error":"…"}`. Only the
//! user that runs the daemon can connect. A client that does not read is dropped; the daemon's own work never waits.

mod client;
mod server;

use serde::{Deserialize, Serialize};
use wackamole_protocol::status::Status;

pub use client::{Client, ClientError};
pub use server::{BindError, ControlSocket};

/// What can be asked. A command says until when it may be carried out: one that waited in a daemon that was stopped must not be, when
/// its operator has been told that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// What the node knows of the cluster.
    Status,
    /// This node alone shall be the primary view, whatever others may be doing.
    ForcePrimary {
        /// Not from this instant on, in microseconds of CLOCK_BOOTTIME: whoever has asked has been told by then that it is not done.
        until_us: u64,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To a request that was carried out.
    Done,
    /// The request makes no sense, or cannot be answered now; a sentence.
    Error(String),
}

#[cfg(test)]
mod tests;
