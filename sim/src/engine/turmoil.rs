//! turmoil 0.7 as an engine: one paused tokio runtime for each machine, every machine in every tick.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::SystemTime;

use ::turmoil::net::UdpSocket;
use tokio::time::Instant as TokioInstant;
use wackamole_protocol::time::Duration;

use super::{Host, Software, TICK, UDP_CAPACITY, WorldTime};
use crate::network::{GROUP, PORT, node_address};

/// A simulation of turmoil.
pub struct Turmoil {
    sim: Box<::turmoil::Sim<'static>>,
    nodes: usize,
}

fn address(node: usize) -> IpAddr {
    IpAddr::V4(node_address(node))
}

impl Turmoil {
    /// Machines that are off.
    pub fn new(machines: Vec<Software>, latency: Duration, seed: u64) -> Self {
        let mut sim = ::turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH)
            .rng_seed(seed)
            .tick_duration(TICK)
            .min_message_latency(latency)
            .max_message_latency(latency)
            .udp_capacity(UDP_CAPACITY)
            .build();
        let nodes = machines.len();
        for (node, software) in machines.into_iter().enumerate() {
            sim.host(address(node), move || {
                let software = Rc::clone(&software);
                async move { software(Host::Turmoil).await }
            });
            // turmoil starts every host at once; the plan says when a machine is switched on.
            sim.crash(address(node));
        }
        Self { sim: Box::new(sim), nodes }
    }

    /// The time since the start of the world.
    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Lets every machine run for one tick.
    ///
    /// # Errors
    /// A daemon failed or panicked.
    pub fn step(&mut self) -> Result<(), String> {
        // Without turmoil's clients nothing ever enforces its `simulation_duration`.
        self.sim.step().map(drop).map_err(|error| error.to_string())
    }

    /// Starts the daemon of a machine.
    pub fn start(&mut self, node: usize) {
        self.sim.bounce(address(node));
    }

    /// The daemon of a machine is gone.
    pub fn crash(&mut self, node: usize) {
        self.sim.crash(address(node));
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
        for a in 0..self.nodes {
            for b in a + 1..self.nodes {
                self.sim.set_link_latency(address(a), address(b), latency);
            }
        }
    }
}

/// The world's time on the turmoil host that runs now.
///
/// # Panics
/// Outside a turmoil host.
pub(super) fn time() -> WorldTime {
    let at = ::turmoil::sim_elapsed().expect("only a turmoil host asks for the world's time");
    WorldTime::Turmoil { started: TokioInstant::now(), at }
}

/// Opens the socket of the turmoil host that runs now.
pub(super) async fn bind(multicast: bool) -> io::Result<UdpSocket> {
    // turmoil binds to nothing but the unspecified and the loopback address.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    if multicast {
        socket.join_multicast_v4(GROUP, Ipv4Addr::UNSPECIFIED)?;
        socket.set_multicast_loop_v4(false)?;
    }
    Ok(socket)
}

pub(super) fn send_group(socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    socket.try_send_to(datagram, (GROUP, PORT)).map(drop)
}
