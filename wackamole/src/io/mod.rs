//! The real world behind the traits of [`crate::env`]: sockets, clocks, kernel addresses, the state directory.
//!
//! Nothing here decides anything about VIPs; it only carries out and reports.

pub mod addresses;
pub mod arp;
pub mod arrivals;
pub mod clock;
pub mod echo;
pub mod ethernet;
pub mod gate;
pub mod ndp;
pub mod reach;
pub mod records;
pub mod store;
pub mod udp;
