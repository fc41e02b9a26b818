//! turmoil 0.7 as an engine: one paused tokio runtime for each machine.
//!
//! turmoil runs every machine in every tick, and most of what it costs is starting and stopping their runtimes, whether anybody has
//! something to do or not. So it is left alone in the ticks in which nobody has: no machine was woken, no alarm is due, no datagram is
//! under way. Its own clocks stand still meanwhile, and the world's goes on; therefore the machines wait for ours.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::SystemTime;

use ::turmoil::net::UdpSocket;
use tokio::time::Instant as TokioInstant;
use wackamole_protocol::time::Duration;

use super::time::{AlarmTime, NEVER, Tick, ticks};
use super::{Ended, Host, Software, TICK, UDP_CAPACITY, WorldTime};
use crate::network::{GROUP, PORT, node_address};

/// A simulation of turmoil.
pub struct Turmoil {
    sim: Box<::turmoil::Sim<'static>>,
    wires: Rc<Wires>,
    machines: Vec<Machine>,
    /// Nothing is passed over.
    every_tick: bool,
}

/// What the engine knows of a machine.
#[derive(Clone, Default)]
struct Machine {
    /// A daemon runs on it.
    runs: Rc<Cell<bool>>,
    woken: Arc<Woken>,
    alarm: Rc<Cell<Tick>>,
}

/// What all machines share.
struct Wires {
    now: Rc<Cell<Tick>>,
    latency: Cell<Tick>,
    /// When the last datagram that is under way arrives; there is none if that is over.
    arrival: Cell<Tick>,
}

fn address(node: usize) -> IpAddr {
    IpAddr::V4(node_address(node))
}

impl Turmoil {
    /// Machines that are off. With `every_tick` none is passed over, and the machines wait for tokio's timers.
    pub fn new(machines: Vec<Software>, latency: Duration, seed: u64, every_tick: bool) -> Self {
        let mut sim = ::turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH)
            .rng_seed(seed)
            .tick_duration(TICK)
            .min_message_latency(latency)
            .max_message_latency(latency)
            .udp_capacity(UDP_CAPACITY)
            .build();
        let wires = Rc::new(Wires {
            now: Rc::default(),
            latency: Cell::new(ticks(latency)),
            arrival: Cell::new(0),
        });
        let mut known = Vec::new();
        for (node, software) in machines.into_iter().enumerate() {
            let machine = Machine::default();
            machine.alarm.set(NEVER);
            known.push(machine.clone());
            let wires = Rc::clone(&wires);
            sim.host(address(node), move || {
                let software = Rc::clone(&software);
                let (machine, wires) = (machine.clone(), Rc::clone(&wires));
                async move {
                    let alarm = (!every_tick).then(|| Rc::clone(&machine.alarm));
                    let daemon = software(Host::Turmoil(TurmoilHost { wires, alarm }));
                    Watched { daemon, machine }.await
                }
            });
            // turmoil starts every host at once; the plan says when a machine is switched on.
            sim.crash(address(node));
        }
        Self { sim: Box::new(sim), wires, machines: known, every_tick }
    }

    /// The time since the start of the world.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.wires.now.get())
    }

    /// When a machine has something to do next.
    pub fn next_step(&self) -> Duration {
        let now = self.wires.now.get();
        let running = || self.machines.iter().filter(|machine| machine.runs.get());
        let busy = || running().any(|machine| machine.woken.is_set());
        if self.every_tick || self.wires.arrival.get() >= now || busy() {
            return self.elapsed();
        }
        let alarms = running().map(|machine| machine.alarm.get());
        Duration::from_millis(alarms.min().unwrap_or(NEVER).max(now))
    }

    /// Passes over ticks.
    pub fn skip_to(&mut self, time: Duration) {
        self.wires.now.set(ticks(time));
    }

    /// Lets every machine run for one tick.
    ///
    /// # Errors
    /// A daemon failed or panicked.
    pub fn step(&mut self) -> Result<(), String> {
        let now = self.wires.now.get();
        for machine in &self.machines {
            if machine.runs.get() && machine.alarm.get() <= now {
                machine.woken.wake_by_ref();
            }
        }
        // Without turmoil's clients nothing ever enforces its `simulation_duration`.
        let result = self.sim.step().map(drop).map_err(|error| error.to_string());
        self.wires.now.set(now + 1);
        result
    }

    /// Starts the daemon of a machine.
    pub fn start(&mut self, node: usize) {
        self.machines[node].forget();
        self.sim.bounce(address(node));
        self.machines[node].woken.set(true);
        self.machines[node].runs.set(true);
    }

    /// The daemon of a machine is gone.
    pub fn crash(&mut self, node: usize) {
        self.sim.crash(address(node));
        self.machines[node].ended();
    }

    /// Connects or cuts one direction.
    pub fn set_wire(&mut self, from: usize, to: usize, works: bool) {
        if works {
            self.sim.repair_oneway(address(from), address(to));
        } else {
            self.sim.partition_oneway(address(from), address(to));
        }
    }

    /// What is sent from now on takes so long.
    pub fn set_latency(&mut self, latency: Duration) {
        self.wires.latency.set(ticks(latency));
        for a in 0..self.machines.len() {
            for b in a + 1..self.machines.len() {
                self.sim.set_link_latency(address(a), address(b), latency);
            }
        }
    }
}

impl Machine {
    /// Nothing wakes it.
    fn forget(&self) {
        self.woken.set(false);
        self.alarm.set(NEVER);
    }

    /// Its daemon is gone.
    fn ended(&self) {
        self.runs.set(false);
        self.forget();
    }
}

/// Somebody has called the machine's waker; it is turmoil's that polls it.
#[derive(Default)]
struct Woken {
    is_set: AtomicBool,
    turmoil: Mutex<Option<Waker>>,
}

impl Woken {
    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    fn set(&self, woken: bool) {
        self.is_set.store(woken, Ordering::Relaxed);
    }

    fn wake_by_ref(&self) {
        self.set(true);
        let turmoil = self.turmoil.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*turmoil {
            waker.wake_by_ref();
        }
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Self::wake_by_ref(self);
    }
}

/// A daemon of whose wakers the engine hears.
struct Watched {
    daemon: Pin<Box<dyn Future<Output = Ended>>>,
    machine: Machine,
}

impl Future for Watched {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let woken = Arc::clone(&self.machine.woken);
        self.machine.forget();
        *woken.turmoil.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(context.waker().clone());
        let waker = Waker::from(woken);
        let polled = self.daemon.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            self.machine.ended();
        }
        polled
    }
}

/// What a daemon gets of the engine.
pub struct TurmoilHost {
    wires: Rc<Wires>,
    /// None where it waits for tokio's timers.
    alarm: Option<Rc<Cell<Tick>>>,
}

impl TurmoilHost {
    /// The world's time. To be called from the daemon.
    pub(super) fn time(&self) -> WorldTime {
        match &self.alarm {
            Some(alarm) => WorldTime::Alarm(AlarmTime::new(&self.wires.now, alarm)),
            None => WorldTime::Tokio {
                started: TokioInstant::now(),
                at: Duration::from_millis(self.wires.now.get()),
            },
        }
    }

    /// Opens the socket of the turmoil host that runs now.
    pub(super) async fn bind(&self, multicast: bool) -> io::Result<TurmoilSocket> {
        // turmoil binds to nothing but the unspecified and the loopback address.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        if multicast {
            socket.join_multicast_v4(GROUP, Ipv4Addr::UNSPECIFIED)?;
            socket.set_multicast_loop_v4(false)?;
        }
        Ok(TurmoilSocket { socket, wires: Rc::clone(&self.wires) })
    }
}

/// A machine's socket.
pub struct TurmoilSocket {
    socket: UdpSocket,
    wires: Rc<Wires>,
}

impl TurmoilSocket {
    fn sent(&self) {
        let arrives = self.wires.now.get() + self.wires.latency.get();
        self.wires.arrival.set(self.wires.arrival.get().max(arrives));
    }

    /// Sends to one address.
    ///
    /// # Errors
    /// Nobody has that address.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.sent();
        self.socket.try_send_to(datagram, to).map(drop)
    }

    /// Sends to all other members of the group.
    ///
    /// # Errors
    /// None, as long as all wires are known.
    pub fn send_group(&self, datagram: &[u8]) -> io::Result<()> {
        self.sent();
        self.socket.try_send_to(datagram, (GROUP, PORT)).map(drop)
    }

    /// Waits for a datagram. Cancel-safe.
    ///
    /// # Errors
    /// None.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }

    /// Takes a datagram that is there.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.try_recv_from(buffer)
    }
}
