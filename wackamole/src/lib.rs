//! wackamole keeps a set of virtual IP addresses (VIPs) up on a LAN cluster: every VIP is answered by exactly one live
//! machine.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod driver;
pub mod env;
pub mod guardian;
pub mod io;
pub mod queue;
pub mod reconcile;
pub mod record;
pub mod telemetry;
