//! Our own engine: one thread, no runtime. It keeps to turmoil's order of things, so that a scenario takes the same course:
//!
//! - machines run one after the other in each tick, and at the time at which the tick begins;
//! - what is sent in a tick arrives after whole ticks, before its receiver runs; what arrives in the same tick is ordered by
//!   sender, and then by when it was sent;
//! - timers round up to whole ticks;
//! - what arrives while no daemon runs is gone, also what has just arrived when one starts.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use wackamole_protocol::time::Duration;

use super::time::{AlarmTime, NEVER, Tick, ticks};
use super::{Ended, Host, Software, UDP_CAPACITY};
use crate::network::{PORT, node_address, node_at};

/// The machines and what is between them.
pub struct Fast {
    machines: Vec<Machine>,
    wires: Rc<Wires>,
}

struct Machine {
    software: Software,
    daemon: Option<Pin<Box<dyn Future<Output = Ended>>>>,
    woken: Arc<Woken>,
    waker: Waker,
    alarm: Rc<Cell<Tick>>,
}

/// Somebody has called the machine's waker.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, woken: bool) {
        self.0.store(woken, Ordering::Relaxed);
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.set(true);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set(true);
    }
}

/// Everything that machines share.
struct Wires {
    now: Rc<Cell<Tick>>,
    latency: Cell<Tick>,
    /// By sender and receiver.
    cut: RefCell<Vec<bool>>,
    ports: Vec<RefCell<Port>>,
    /// Buffers of datagrams that have been read.
    spare: RefCell<Vec<Vec<u8>>>,
}

/// What is on the way to a machine, and what waits in its socket.
#[derive(Default)]
struct Port {
    /// In the order in which it arrives.
    under_way: VecDeque<Datagram>,
    /// A daemon has opened the socket.
    bound: bool,
    /// It is in the group.
    joined: bool,
    socket: VecDeque<Datagram>,
}

struct Datagram {
    arrives: Tick,
    from: usize,
    bytes: Vec<u8>,
}

impl Fast {
    /// Machines that are off. What they send takes `latency`.
    pub fn new(machines: Vec<Software>, latency: Duration) -> Self {
        let wires = Wires {
            now: Rc::default(),
            latency: Cell::new(ticks(latency)),
            cut: RefCell::new(vec![false; machines.len() * machines.len()]),
            ports: machines.iter().map(|_| RefCell::default()).collect(),
            spare: RefCell::default(),
        };
        let machine = |software| {
            let woken: Arc<Woken> = Arc::default();
            let waker = Waker::from(Arc::clone(&woken));
            Machine { software, daemon: None, woken, waker, alarm: Rc::new(Cell::new(NEVER)) }
        };
        Self { machines: machines.into_iter().map(machine).collect(), wires: Rc::new(wires) }
    }

    /// The time since the start of the world.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.wires.now.get())
    }

    /// When a machine has something to do next.
    pub fn next_step(&self) -> Duration {
        let mut next = NEVER;
        for (machine, port) in self.machines.iter().zip(&self.wires.ports) {
            if machine.daemon.is_none() {
                continue;
            }
            if machine.woken.is_set() {
                return self.elapsed();
            }
            let arrives = port.borrow().under_way.front().map_or(NEVER, |first| first.arrives);
            next = next.min(machine.alarm.get()).min(arrives);
        }
        Duration::from_millis(next.max(self.wires.now.get()))
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
        for (machine, port) in self.machines.iter_mut().zip(&self.wires.ports) {
            if machine.daemon.is_none() {
                continue;
            }
            if port.borrow_mut().receive(now, &self.wires.spare) {
                machine.woken.set(true);
            }
            if machine.alarm.get() <= now {
                machine.woken.set(true);
            }
            while machine.daemon.is_some() && machine.woken.is_set() {
                machine.poll()?;
            }
        }
        self.wires.now.set(now + 1);
        Ok(())
    }

    /// Starts the daemon of a machine.
    pub fn start(&mut self, node: usize) {
        self.crash(node);
        let machine = &mut self.machines[node];
        let host =
            FastHost { node, wires: Rc::clone(&self.wires), alarm: Rc::clone(&machine.alarm) };
        machine.daemon = Some((machine.software)(Host::Fast(host)));
        machine.woken.set(true);
    }

    /// The daemon of a machine is gone.
    pub fn crash(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        machine.daemon = None;
        machine.woken.set(false);
        machine.alarm.set(NEVER);
    }

    /// Connects or cuts one direction.
    pub fn set_wire(&mut self, from: usize, to: usize, works: bool) {
        self.wires.cut.borrow_mut()[from * self.machines.len() + to] = !works;
        if !works {
            let now = self.wires.now.get();
            let mut port = self.wires.ports[to].borrow_mut();
            port.under_way.retain(|datagram| datagram.from != from || datagram.arrives < now);
        }
    }

    /// What is sent from now on takes so long.
    pub fn set_latency(&mut self, latency: Duration) {
        self.wires.latency.set(ticks(latency));
    }
}

impl Machine {
    fn poll(&mut self) -> Result<(), String> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        self.woken.set(false);
        self.alarm.set(NEVER);
        let mut context = Context::from_waker(&self.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| daemon.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Pending) => Ok(()),
            Ok(Poll::Ready(ended)) => {
                self.daemon = None;
                ended.map_err(|error| error.to_string())
            }
            Err(_) => {
                self.daemon = None;
                Err("a daemon panicked".to_owned())
            }
        }
    }
}

impl Wires {
    fn send(&self, from: usize, to: usize, bytes: &[u8]) {
        if self.cut.borrow()[from * self.ports.len() + to] {
            return;
        }
        let arrives = self.now.get() + self.latency.get();
        let mut buffer = self.spare.borrow_mut().pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let mut port = self.ports[to].borrow_mut();
        if !port.bound {
            // Nobody will read what has arrived by now.
            while port.under_way.front().is_some_and(|first| first.arrives < self.now.get()) {
                port.under_way.pop_front();
            }
        }
        let key = (arrives, from);
        let behind = port.under_way.iter().rev();
        let behind = behind.take_while(|other| (other.arrives, other.from) > key).count();
        let position = port.under_way.len() - behind;
        port.under_way.insert(position, Datagram { arrives, from, bytes: buffer });
    }
}

impl Port {
    /// What has arrived by now goes to the socket, if there is one. Returns whether anything did.
    fn receive(&mut self, now: Tick, spare: &RefCell<Vec<Vec<u8>>>) -> bool {
        let mut received = false;
        while self.under_way.front().is_some_and(|first| first.arrives <= now) {
            let Some(datagram) = self.under_way.pop_front() else { break };
            if self.bound && self.socket.len() < UDP_CAPACITY {
                self.socket.push_back(datagram);
                received = true;
            } else {
                spare.borrow_mut().push(datagram.bytes);
            }
        }
        received
    }
}

/// What a daemon gets of the engine.
pub struct FastHost {
    node: usize,
    wires: Rc<Wires>,
    alarm: Rc<Cell<Tick>>,
}

impl FastHost {
    /// The world's time.
    pub fn time(&self) -> AlarmTime {
        AlarmTime::new(&self.wires.now, &self.alarm)
    }

    /// Opens the machine's socket.
    pub fn bind(&self, multicast: bool) -> FastSocket {
        let mut port = self.wires.ports[self.node].borrow_mut();
        (port.bound, port.joined) = (true, multicast);
        FastSocket { node: self.node, wires: Rc::clone(&self.wires) }
    }
}

/// A machine's socket; closed when it is dropped.
pub struct FastSocket {
    node: usize,
    wires: Rc<Wires>,
}

impl FastSocket {
    /// Sends to one address.
    ///
    /// # Errors
    /// Nobody has that address.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) -> std::io::Result<()> {
        let nobody = std::io::ErrorKind::ConnectionRefused;
        let to = node_at(to).filter(|&to| to < self.wires.ports.len()).ok_or(nobody)?;
        self.wires.send(self.node, to, datagram);
        Ok(())
    }

    /// Sends to all other members of the group.
    pub fn send_group(&self, datagram: &[u8]) {
        for to in (0..self.wires.ports.len()).filter(|&to| to != self.node) {
            if self.wires.ports[to].borrow().joined {
                self.wires.send(self.node, to, datagram);
            }
        }
    }

    /// Waits for a datagram. Whatever arrives wakes the machine.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        poll_fn(|_| self.try_recv_from(buffer).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Takes a datagram that is there.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let datagram = self.wires.ports[self.node].borrow_mut().socket.pop_front()?;
        let length = datagram.bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram.bytes[..length]);
        let from = SocketAddr::new(IpAddr::V4(node_address(datagram.from)), PORT);
        self.wires.spare.borrow_mut().push(datagram.bytes);
        Some((length, from))
    }
}

impl Drop for FastSocket {
    fn drop(&mut self) {
        let mut port = self.wires.ports[self.node].borrow_mut();
        (port.bound, port.joined) = (false, false);
        port.socket.clear();
    }
}
