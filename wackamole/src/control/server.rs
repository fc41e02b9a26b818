//! The daemon's end of the control socket.

use std::fs::{self, DirBuilder};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Reply, Request};

/// Clients served at once; others wait in the kernel's queue.
const CLIENTS_MAX: usize = 16;
/// Clients that the kernel keeps waiting.
const BACKLOG: i32 = 64;
/// Bytes of one request, its newline included.
const REQUEST_BYTES_MAX: u64 = 4096;
/// A client that asks nothing for so long is dropped.
const IDLE: Duration = Duration::from_secs(60);
/// A client that does not read its answer for so long is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers on it.
    #[error("a wackamole daemon is running already: it answers on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has its name.
    #[error("{} is there and is not a socket; remove it or set another control_socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot open the control socket {}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The open socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our file: another daemon's file of the same name stays.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Opens the socket for the present user only, and makes its directory. A file that an earlier daemon left behind
    /// is replaced if nobody answers on it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Another daemon answers, something else is in the way, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let path = path.to_owned();
        let system = |source| BindError::System { path: path.clone(), source };
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(system)?;
        }
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(error)),
            Ok(there) if !there.file_type().is_socket() => {
                return Err(BindError::NotASocket { path });
            }
            Ok(_) => match net::UnixStream::connect(&path) {
                Ok(_) => return Err(BindError::InUse { path }),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(&path).map_err(system)?;
                }
                Err(error) => return Err(system(error)),
            },
        }
        let bound = listen(&path).map_err(system)?;
        let listener = UnixListener::from_std(bound).map_err(system)?;
        let ours = fs::symlink_metadata(&path).map_err(system)?;
        Ok(Self { listener, path, identity: (ours.dev(), ours.ino()) })
    }

    /// Answers requests by `handle` for as long as it is polled, several clients at a time. Must run within a
    /// `tokio::task::LocalSet`; dropping the future drops the clients.
    pub async fn serve<H, F>(&self, handle: H)
    where
        H: Fn(Request) -> F + 'static,
        F: Future<Output = Reply> + 'static,
    {
        let handle = Rc::new(handle);
        let mut clients = JoinSet::new();
        loop {
            tokio::select! { biased;
                Some(_) = clients.join_next() => {}
                accepted = self.listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                    Ok((stream, _)) => {
                        let handle = Rc::clone(&handle);
                        clients.spawn_local(async move {
                            // A client that goes away, stalls or sends too much is its own business.
                            let _ = answer(stream, &*handle).await;
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept on the control socket");
                        // Out of file descriptors, mostly: do not spin until some are free again.
                        #[allow(clippy::disallowed_methods)] // not the driver: real time is meant
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == self.identity);
        if ours {
            // Best effort: the next daemon replaces a file on which nobody answers.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A listening socket whose file is private from its first moment: Linux gives the file the mode of the socket's own
/// inode (`unix_bind_bsd` in net/unix/af_unix.c). With chmod(2) afterwards somebody could have connected before, and
/// umask(2) would change what other threads create.
fn listen(path: &Path) -> io::Result<net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn answer<F: Future<Output = Reply>>(
    stream: UnixStream,
    handle: &impl Fn(Request) -> F,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(REQUEST_BYTES_MAX);
        timeout(IDLE, bounded.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        if !line.ends_with(b"\n") && line.len() as u64 == REQUEST_BYTES_MAX {
            let reply = format!("the request has more than {REQUEST_BYTES_MAX} bytes");
            return send(&mut writer, &Reply::Error(reply)).await;
        }
        let reply = match serde_json::from_slice(&line) {
            Ok(request) => handle(request).await,
            Err(error) => Reply::Error(format!(
                "not a request: {error}; accepted is {{\"request\":\"status\"}} on one line"
            )),
        };
        send(&mut writer, &reply).await?;
    }
}

async fn send(writer: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    timeout(WRITE_TIMEOUT, writer.write_all(&line)).await?
}
