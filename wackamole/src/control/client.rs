//! The asking end of the control socket: blocking, with a limit on every wait.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wackamole_protocol::status::Status;

use super::{Reply, Request};
use crate::io::clock::boot_time;

/// A daemon that does not answer within this hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// A command may be carried out for so long after it was given. What is left of the patience is for the answer.
const COMMAND_MAX: Duration = Duration::from_secs(4);
/// A status of 65 536 VIPs has some 20 MB.
const REPLY_BYTES_MAX: u64 = 256 << 20;

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon answers on {}: is wackamole running here, with this control_socket?", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody listens, for another user.
    #[error("not permitted to ask the daemon on {}: run this as the user that runs the daemon", path.display())]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon does not answer in time.
    #[error("the daemon on {} has not answered for {} s: it is stopped, or very busy", path.display(), PATIENCE.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon does not answer to a command in time.
    #[error(
        "the daemon on {} has not answered for {} s, and will not do it any more: it is stopped, or very busy; see `wackamole \
         status` when it answers",
        path.display(), PATIENCE.as_secs()
    )]
    NotDone {
        /// The socket.
        path: PathBuf,
    },
    /// The connection breaks.
    #[error("the connection to the daemon on {} broke", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The daemon answers something that is no reply: probably another version.
    #[error("the daemon on {} answers something else than a status", path.display())]
    Incomprehensible {
        /// The socket.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
    /// The daemon refuses.
    #[error("the daemon says: {0}")]
    Refused(String),
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or not for this user.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let path = path.to_owned();
        let connected = UnixStream::connect(&path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self { stream: BufReader::new(stream), path }),
            Err(source) => Err(match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NotRunning { path }
                }
                io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path },
                _ => ClientError::Broken { path, source },
            }),
        }
    }

    /// Asks for the status.
    ///
    /// # Errors
    /// The daemon does not answer, or not with a status.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        let path = self.path.clone();
        let silent = ClientError::Silent { path: path.clone() };
        let line = self.ask(Request::Status, silent)?;
        match serde_json::from_slice(&line) {
            Ok(Reply::Status(status)) => Ok(*status),
            Ok(Reply::Error(sentence)) => Err(ClientError::Refused(sentence)),
            Ok(Reply::Done) => Err(ClientError::Refused("done, to a question".into())),
            Err(source) => Err(ClientError::Incomprehensible { path, source }),
        }
    }

    /// Declares the node of this daemon to be the primary view.
    ///
    /// # Errors
    /// The daemon does not answer, or refuses.
    pub fn force_primary(&mut self) -> Result<(), ClientError> {
        let path = self.path.clone();
        let until = boot_time() + COMMAND_MAX;
        let until_us = u64::try_from(until.since_origin().as_micros()).unwrap_or(u64::MAX);
        let silent = ClientError::NotDone { path: path.clone() };
        let line = self.ask(Request::ForcePrimary { until_us }, silent)?;
        match serde_json::from_slice(&line) {
            Ok(Reply::Done) => Ok(()),
            Ok(Reply::Error(sentence)) => Err(ClientError::Refused(sentence)),
            Ok(Reply::Status(_)) => Err(ClientError::Refused("a status, to a command".into())),
            Err(source) => Err(ClientError::Incomprehensible { path, source }),
        }
    }

    /// Asks, and waits for one line. `silent` is for a daemon that says nothing in time.
    fn ask(&mut self, request: Request, silent: ClientError) -> Result<Vec<u8>, ClientError> {
        self.exchange(request).map_err(|source| match source.kind() {
            // What the socket's timeouts make of a read and of a write (socket(7), SO_RCVTIMEO).
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => silent,
            _ => ClientError::Broken { path: self.path.clone(), source },
        })
    }

    fn exchange(&mut self, request: Request) -> io::Result<Vec<u8>> {
        let mut question = serde_json::to_vec(&request)?;
        question.push(b'\n');
        self.stream.get_mut().write_all(&question)?;
        let mut line = Vec::new();
        (&mut self.stream).take(REPLY_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }
}
