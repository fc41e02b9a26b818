//! The simulator: many nodes, each the real driver and the real protocol, under turmoil, on a simulated LAN.
//!
//! - [`scenario`] reads a story from a TOML file and draws one seed's course of events;
//! - [`world`](crate) owns the clock and the schedule;
//! - [`segment`] is the truth: wires, kernels, clients.

pub mod addresses;
pub mod clients;
pub mod clock;
pub mod fault;
pub mod gate;
pub mod journal;
pub mod kernels;
pub mod links;
pub mod netem;
pub mod network;
pub mod rng;
pub mod scenario;
pub mod segment;
