//! The production environment around the driver: state directory, sockets, kernel addresses, control socket, signals.
//!
//! One thread runs all of it but the kernel work on addresses, the writing of log lines and the supervision of the guardian.
//! However the driver ends, no address stays behind: it releases them when it leaves gracefully, and if it does not come
//! to that (a second signal, a panic) they are removed here before the process exits. The guardian, another process, does it
//! if even that fails or the kernel does not confirm a release in time, and tells the peers.

mod fence_command;
mod fenced;
mod gate;
mod recording;
mod removal;

use std::any::Any;
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tracing::{error, info, warn};
use wackamole_protocol::config::{ClusterKey, NodeDefinition, Partition};
use wackamole_protocol::names::Names;
use wackamole_protocol::node::Node;
use wackamole_protocol::time::Instant;
use wackamole_protocol::vip::Vip;

use crate::config::Config;
use crate::control::{self, ControlSocket, Reply, Request};
use crate::driver::{self, Command, Forced, Left};
use crate::env::{AddressError, Clock as _};
use crate::guardian::{self, Farewell, Program};
use crate::io::addresses::{
    self, AddressesConfig, Heartbeats, LifeConfig, NetlinkAddresses, SegmentConfig, StartError,
};
use crate::io::clock::{BootClock, wall_clock};
use crate::io::gate::GateError;
use crate::io::reach::EchoReach;
use crate::io::records::RecordWriter;
use crate::io::store::{StateDirectory, StoreError};
use crate::io::udp::{self, UdpNetwork};
use crate::record::Header;
use crate::telemetry::Telemetry;
use fenced::{FencedAddresses, Support};
pub use recording::Recording;
pub use removal::Removal;
use removal::remove_addresses;

/// Questions from the control socket that wait for the driver.
const COMMANDS_MAX: usize = 16;
/// Why the daemon did not start, or how it ended otherwise than by leaving gracefully.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The runtime or the signal handlers cannot be set up.
    #[error("cannot {doing}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon cannot listen.
    #[error(transparent)]
    Network(#[from] udp::BindError),
    /// The kernel's addresses cannot be reached.
    #[error(transparent)]
    Addresses(#[from] StartError),
    /// A former guardian is still at work, or may be.
    #[error(transparent)]
    FormerGuardian(#[from] guardian::LockError),
    /// A gate that an earlier start left may stand.
    #[error(
        "cannot remove the gate that an earlier start may have left, which would keep VIPs silent"
    )]
    FormerGate(#[source] GateError),
    /// Nothing stands behind the daemon.
    #[error("cannot start a guardian, and holds nothing without one: {0}")]
    Guardian(#[from] guardian::StartError),
    /// The control socket cannot be opened.
    #[error(transparent)]
    Control(#[from] control::BindError),
    /// What an earlier daemon left behind cannot be removed.
    #[error("cannot remove the addresses that an earlier start left behind")]
    CleanUp(#[source] AddressError),
    /// The kernel has not confirmed that every address is gone.
    #[error(
        "stopped before every release was confirmed: addresses may be on this machine still; its guardian goes on"
    )]
    NotReleased,
    /// A second signal came before the daemon had left.
    #[error("stopped by a second signal before having left the cluster; {0}")]
    Interrupted(Removal),
    /// A bug.
    #[error("internal error: {message}; {removal}")]
    Panicked {
        /// What the panic said.
        message: String,
        /// What became of the addresses.
        removal: Removal,
    },
}

/// Runs node `me` until a signal stops it and it has left the cluster. `guardian` is how its guardian is started.
///
/// # Errors
/// It cannot start, or it ended without leaving.
pub fn run(
    config: &Config,
    me: &NodeDefinition,
    key: ClusterKey,
    guardian: Program,
    recording: Option<&Recording>,
) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| DaemonError::System { doing: "start the runtime", source })?;
    LocalSet::new().block_on(&runtime, serve(config, me, key, guardian, recording))
}

async fn serve(
    config: &Config,
    me: &NodeDefinition,
    key: ClusterKey,
    guardian: Program,
    recording: Option<&Recording>,
) -> Result<(), DaemonError> {
    // Before anything else: from here on a signal asks us to leave.
    let signals = Signals::catch()
        .map_err(|source| DaemonError::System { doing: "catch signals", source })?;
    let vips: Vec<Arc<Vip>> = config.vips().iter().map(|vip| Arc::clone(&vip.vip)).collect();
    let own: BTreeSet<IpAddr> =
        vips.iter().flat_map(|vip| vip.addresses()).map(|address| address.address).collect();
    let store = StateDirectory::open(config.state_dir())?;
    guardian::await_former(config.state_dir(), guardian::FORMER_MAX, |pid| {
        warn!(pid, "a former guardian is still at work: waiting until it is done");
    })?;
    let may_hold = store.may_hold(&own)?;
    let incarnation = store.next_incarnation()?;
    let control = ControlSocket::bind(config.control_socket())?;
    let network = listen(config, me)?;
    // Not before it is sure that no other daemon runs here: it is made anew, shut.
    let gate = gate::stand(config, &store, &may_hold)?;
    let mut may_clean_up = AddressesConfig::new(may_hold).with_fences(gate.clone());
    may_clean_up.segment = segment(config, me, &network);
    let netlink = NetlinkAddresses::start(may_clean_up.clone())?;
    let clock =
        BootClock::new().map_err(|source| DaemonError::System { doing: "open a timer", source })?;
    let reach = EchoReach::new(config.must_reach(), &config.timing())
        .map_err(|source| DaemonError::System { doing: "open a timer", source })?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %me.name,
        cluster = config.cluster(),
        nodes = config.nodes().len(),
        vips = vips.len(),
        %incarnation,
        pid = std::process::id(),
        "wackamole starts"
    );

    let names =
        Names::new(config.nodes().iter().map(|n| n.name.as_str()), vips.iter().map(|v| &**v));
    let mut telemetry = Telemetry::new(names, me.id());
    let timeout = config.timing().failure_timeout;
    let mut node_config = config.node_config(me.id(), key);
    node_config.safety.promised_before = store.may_promise(timeout)?.max(timeout);
    node_config.safety.fences_nodes = !config.fence().command.is_empty();
    if gate.is_some() {
        // It shuts when the lease ends, whatever the number of addresses: no time is set aside for releasing them.
        node_config.safety.release_margin = Duration::ZERO;
    }
    let farewell = Farewell::seal(&node_config, incarnation);
    let records = RecordWriter::start(config.state_dir().to_owned())
        .map_err(|source| DaemonError::System { doing: "start a thread", source })?;
    // Before anything can be acquired, and before the node begins to count time.
    let support = Support {
        config,
        me,
        gated: gate.is_some(),
        may_clean_up: &may_clean_up.may_clean_up,
        farewell,
        program: guardian,
    };
    let addresses = FencedAddresses::start(netlink, support)?;
    let votes = RecordWriter::read(store.path())
        .map_err(|source| DaemonError::System { doing: "read the record of votes", source })?;
    let started = clock.now();
    let header = Header::new(&node_config, incarnation, votes.clone(), started, wall_clock());
    let mut recorder = recording.and_then(|recording| recording.begin(&header));
    let mut node = Node::new(node_config, incarnation, started);
    recall(&mut node, votes);
    let (ask, mut commands) = mpsc::channel(COMMANDS_MAX);
    let (leave, left_to) = oneshot::channel();
    let mut observe = |now, observation: driver::Observation<'_>| {
        if let Some(recorder) = &mut recorder {
            recorder.observe(now, &observation);
        }
        telemetry.observe(now, &observation);
    };
    let driver = driver::run(
        node,
        &network,
        &clock,
        &addresses,
        &records,
        &reach,
        &mut commands,
        &mut observe,
        async {
            // The sender lives as long as the driver: it is never dropped unsent before that.
            let _ = left_to.await;
        },
    );
    let ended = tokio::select! { biased;
        ended = caught(driver) => Some(ended),
        () = signals.until_second(leave) => None,
        () = control.serve(move |request| answer(request, ask.clone())) => None,
    };
    if let (Some(Ok(Ok(_))), Some(recorder)) = (&ended, recorder) {
        recorder.finish();
    }
    match ended {
        Some(Ok(Ok(Left { released: true }))) => {
            // The driver has released everything, so nothing but today's VIPs needs to be remembered.
            let noted = store.cleaned_up(&own).and_then(|()| store.promises_are(timeout));
            if let Err(error) = noted {
                warn!(%error, "cannot note that nothing is left behind");
            }
            if let Some(Err(error)) = gate.map(|gate| gate.remove()) {
                warn!(%error, "cannot remove the gate");
            }
            addresses.end();
            info!("wackamole stops");
            Ok(())
        }
        // The gate, the guardian and the note of what may be left stay: the guardian removes it and tells the peers.
        Some(Ok(Ok(Left { released: false }))) => Err(DaemonError::NotReleased),
        Some(Ok(Err(error))) => Err(DaemonError::CleanUp(error)),
        Some(Err(message)) => {
            error!(message, "internal error: removing our addresses");
            let removal = remove_addresses(addresses, may_clean_up).await;
            Err(DaemonError::Panicked { message, removal })
        }
        None => {
            warn!("second signal: removing our addresses at once");
            Err(DaemonError::Interrupted(remove_addresses(addresses, may_clean_up).await))
        }
    }
}

/// What an earlier start voted for. A record that is lost or damaged is no reason not to start: the node then has no
/// vote until it is in a new primary view.
fn recall(node: &mut Node, votes: Option<Vec<u8>>) {
    if let Some(votes) = votes
        && let Err(error) = node.recall(&votes)
    {
        warn!(%error, "this node has no vote until it is in a new primary view");
    }
}

/// How the segments of the VIPs are watched. Signs of life count under the policy that goes by them, and where somebody
/// else could serve instead: a cluster of one serves whoever may come, on a segment that is empty yet.
fn segment(config: &Config, me: &NodeDefinition, network: &UdpNetwork) -> SegmentConfig {
    let heartbeat = config.timing().heartbeat;
    let peers = config.nodes().iter().filter(|node| node.name != me.name);
    let peers = peers.flat_map(|node| &node.addresses).map(SocketAddr::ip).collect();
    let heartbeats = heartbeats(me, network).unwrap_or_else(|error| {
        warn!(%error, "cannot see which interfaces heartbeats come in on; all are looked at");
        Vec::new()
    });
    let somebody_else = config.nodes().iter().any(|node| node.name != me.name && !node.witness);
    let by_life = config.safety().partition == Partition::Lan && somebody_else;
    SegmentConfig {
        heartbeat,
        vips: config.vips().iter().map(|vip| Arc::clone(&vip.vip)).collect(),
        life: by_life.then_some(LifeConfig {
            silence: config.timing().silence(),
            peers,
            heartbeats,
        }),
    }
}

/// On which interfaces the peers' heartbeats come in.
fn heartbeats(me: &NodeDefinition, network: &UdpNetwork) -> io::Result<Vec<Heartbeats>> {
    let interfaces = addresses::interfaces()?;
    let carrier = |address: &IpAddr| {
        interfaces.iter().find(|(_, here)| here.contains(address)).map(|(name, _)| name.clone())
    };
    let heard_on = |(network_number, address): (usize, &SocketAddr)| {
        Some(Heartbeats {
            interface: carrier(&address.ip())?,
            network: network_number,
            arrivals: Arc::clone(network.arrivals()),
        })
    };
    Ok(me.addresses.iter().enumerate().filter_map(heard_on).collect())
}

fn listen(config: &Config, me: &NodeDefinition) -> Result<UdpNetwork, udp::BindError> {
    let peers = config.nodes().iter().filter(|node| node.name != me.name);
    let peers = peers.map(|node| node.addresses.as_slice());
    UdpNetwork::bind(&me.addresses, peers, config.multicast())
}

/// Asks the driver.
async fn answer(request: Request, ask: mpsc::Sender<Command>) -> Reply {
    let stopping = || Reply::Error("the daemon is stopping".into());
    match request {
        Request::ForcePrimary { until_us } => {
            let until = Instant::after_origin(Duration::from_micros(until_us));
            let (reply, answer) = oneshot::channel();
            if ask.send(Command::ForcePrimary { until, reply }).await.is_err() {
                return stopping();
            }
            match answer.await {
                Ok(Forced::Done) => Reply::Done,
                Ok(Forced::Meaningless) => Reply::Error(
                    "there is no primary view to be forced: `partition` is not \"quorum\"".into(),
                ),
                Ok(Forced::TooLate) => {
                    warn!(
                        "force-primary comes too late, and is not carried out: whoever asked has been told that it failed"
                    );
                    Reply::Error("this comes too late, and is not carried out; ask again".into())
                }
                Err(_) => stopping(),
            }
        }
        Request::Status => {
            let (reply, answer) = oneshot::channel();
            if ask.send(Command::Status(reply)).await.is_err() {
                return stopping();
            }
            answer.await.map_or_else(|_| stopping(), |status| Reply::Status(Box::new(status)))
        }
    }
}

/// The signals that a daemon gets.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Asks to leave at the first SIGTERM or SIGINT, and returns at the second.
    async fn until_second(mut self, leave: oneshot::Sender<()>) {
        let mut leave = Some(leave);
        loop {
            let name = tokio::select! { biased;
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.hang_up.recv() => {
                    warn!(
                        "SIGHUP: reload is not implemented yet, the configuration is unchanged; check the new one with \
                         `wackamole check`, then restart"
                    );
                    continue;
                }
            };
            match leave.take() {
                Some(leave) => {
                    info!(signal = name, "leaving; a second signal stops at once");
                    // If the driver has ended meanwhile, we are not polled again.
                    let _ = leave.send(());
                }
                None => return,
            }
        }
    }
}

/// Runs a future, and turns a panic within it into its message: the process must live on until its addresses are gone.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // After a panic the future is never polled again, so that nobody sees its broken state.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(message_of(&*panic))),
        }
    })
    .await
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_an_end_its_value() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

        let value = runtime.block_on(caught(async { 7 }));
        let number = 8;
        let panic = runtime.block_on(caught(async { panic!("lost {number}") }));

        assert_eq!(value, Ok(7));
        assert_eq!(panic, Err::<(), _>("lost 8".into()));
    }
}
