//! What runs the machines: time, datagrams, starts and crashes.
//!
//! A scenario takes the same course under each of them, to the byte. [`turmoil`] is the general one, with a runtime for each
//! machine; [`fast`] is ours and polls only who has something to do. Both pass over the ticks in which nobody has. Turmoil in every
//! tick, with tokio's timers instead of our alarms, is what the two are compared with. What the machines see of any is a
//! [`Host`]: the time and a socket.

pub mod fast;
pub mod time;
pub mod turmoil;

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use tokio::time::Instant as TokioInstant;
use wackamole_protocol::time::Duration;

/// The grain of all engines; must be whole milliseconds, because tokio's timers are.
pub const TICK: Duration = Duration::from_millis(1);

/// Enough for everything that comes in while a daemon is paused; what exceeds it is dropped without a word.
const UDP_CAPACITY: usize = 65_536;

/// How a daemon's life ended.
pub type Ended = Result<(), Box<dyn Error>>;

/// What runs on a machine: makes a daemon at each start.
pub type Software = Rc<dyn Fn(Host) -> Pin<Box<dyn Future<Output = Ended>>>>;

/// Which engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduler {
    /// turmoil, but in those ticks in which nothing is due.
    #[default]
    Turmoil,
    /// The one without runtimes; it passes over the same ticks.
    Fast,
    /// turmoil in every tick, with tokio's own timers, and every checker looks each time.
    EveryTick,
}

impl Scheduler {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Turmoil, Self::Fast, Self::EveryTick];

    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Turmoil => "turmoil",
            Self::Fast => "fast",
            Self::EveryTick => "every-tick",
        }
    }

    /// The one that is called so.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheduler| scheduler.word() == word)
    }
}

/// An engine with its machines.
pub enum Engine {
    /// turmoil.
    Turmoil(turmoil::Turmoil),
    /// Ours.
    Fast(fast::Fast),
}

impl Engine {
    /// Machines that are off. What they send takes `latency`, in whole ticks.
    pub fn new(
        scheduler: Scheduler,
        machines: Vec<Software>,
        latency: Duration,
        seed: u64,
    ) -> Self {
        match scheduler {
            Scheduler::Turmoil => {
                Self::Turmoil(turmoil::Turmoil::new(machines, latency, seed, false))
            }
            Scheduler::EveryTick => {
                Self::Turmoil(turmoil::Turmoil::new(machines, latency, seed, true))
            }
            Scheduler::Fast => Self::Fast(fast::Fast::new(machines, latency)),
        }
    }

    /// The time since the start of the world.
    pub fn elapsed(&self) -> Duration {
        match self {
            Self::Turmoil(engine) => engine.elapsed(),
            Self::Fast(engine) => engine.elapsed(),
        }
    }

    /// Lets every machine run for one tick.
    ///
    /// # Errors
    /// A daemon failed or panicked; the message says what it said.
    pub fn step(&mut self) -> Result<(), String> {
        match self {
            Self::Turmoil(engine) => engine.step(),
            Self::Fast(engine) => engine.step(),
        }
    }

    /// When a machine has something to do next, unless something is done to the world before.
    pub fn next_step(&self) -> Duration {
        match self {
            Self::Turmoil(engine) => engine.next_step(),
            Self::Fast(engine) => engine.next_step(),
        }
    }

    /// Passes over ticks in which no machine has anything to do, until this time; whole ticks.
    pub fn skip_to(&mut self, time: Duration) {
        match self {
            Self::Turmoil(engine) => engine.skip_to(time),
            Self::Fast(engine) => engine.skip_to(time),
        }
    }

    /// Starts the daemon of a machine.
    pub fn start(&mut self, node: usize) {
        match self {
            Self::Turmoil(engine) => engine.start(node),
            Self::Fast(engine) => engine.start(node),
        }
    }

    /// The daemon of a machine is gone, if there was one.
    pub fn crash(&mut self, node: usize) {
        match self {
            Self::Turmoil(engine) => engine.crash(node),
            Self::Fast(engine) => engine.crash(node),
        }
    }

    /// What `from` sends arrives at `to` from now on, or no longer; then what is under way is lost.
    pub fn set_wire(&mut self, from: usize, to: usize, works: bool) {
        match self {
            Self::Turmoil(engine) => engine.set_wire(from, to, works),
            Self::Fast(engine) => engine.set_wire(from, to, works),
        }
    }

    /// What is sent from now on takes so long, in whole ticks.
    pub fn set_latency(&mut self, latency: Duration) {
        match self {
            Self::Turmoil(engine) => engine.set_latency(latency),
            Self::Fast(engine) => engine.set_latency(latency),
        }
    }
}

/// What a daemon gets from the engine.
pub enum Host {
    /// A host of turmoil.
    Turmoil(turmoil::TurmoilHost),
    /// One of ours.
    Fast(fast::FastHost),
}

impl Host {
    /// The world's time. To be called from the daemon.
    pub fn time(&self) -> WorldTime {
        match self {
            Self::Turmoil(host) => host.time(),
            Self::Fast(host) => WorldTime::Alarm(host.time()),
        }
    }

    /// Opens the machine's socket.
    ///
    /// # Errors
    /// The port is taken; or with `multicast`, the group cannot be joined.
    pub async fn bind(&self, multicast: bool) -> io::Result<Socket> {
        match self {
            Self::Turmoil(host) => host.bind(multicast).await.map(Socket::Turmoil),
            Self::Fast(host) => Ok(Socket::Fast(host.bind(multicast))),
        }
    }
}

/// The world's time, as a daemon sees it.
#[derive(Clone, Debug)]
pub enum WorldTime {
    /// tokio's virtual time, which starts anew with each start of a turmoil host.
    Tokio {
        /// tokio's time when the daemon started.
        started: TokioInstant,
        /// The world's time then.
        at: Duration,
    },
    /// Ours.
    Alarm(time::AlarmTime),
}

impl WorldTime {
    /// The time since the start of the world.
    pub fn now(&self) -> Duration {
        match self {
            Self::Tokio { started, at } => *at + started.elapsed(),
            Self::Alarm(time) => time.now(),
        }
    }

    /// Waits, until the tick that is not before the end of `duration`.
    pub async fn sleep(&self, duration: Duration) {
        match self {
            Self::Tokio { .. } => tokio::time::sleep(duration).await,
            Self::Alarm(time) => time.sleep(duration).await,
        }
    }
}

/// A machine's UDP socket.
pub enum Socket {
    /// turmoil's.
    Turmoil(turmoil::TurmoilSocket),
    /// Ours.
    Fast(fast::FastSocket),
}

impl Socket {
    /// Sends to one address.
    ///
    /// # Errors
    /// Nobody has that address.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        match self {
            Self::Turmoil(socket) => socket.send_to(datagram, to),
            Self::Fast(socket) => socket.send_to(datagram, to),
        }
    }

    /// Sends to all other members of the group.
    ///
    /// # Errors
    /// None, as long as all wires are known.
    pub fn send_group(&self, datagram: &[u8]) -> io::Result<()> {
        match self {
            Self::Turmoil(socket) => socket.send_group(datagram),
            Self::Fast(socket) => {
                socket.send_group(datagram);
                Ok(())
            }
        }
    }

    /// Waits for a datagram. Cancel-safe.
    ///
    /// # Errors
    /// None.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            Self::Turmoil(socket) => socket.recv_from(buffer).await,
            Self::Fast(socket) => Ok(socket.recv_from(buffer).await),
        }
    }

    /// Takes a datagram that is there.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            Self::Turmoil(socket) => socket.try_recv_from(buffer),
            Self::Fast(socket) => {
                socket.try_recv_from(buffer).ok_or_else(|| io::ErrorKind::WouldBlock.into())
            }
        }
    }
}
