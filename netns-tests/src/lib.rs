//! The real binary in network namespaces: a simulated LAN of real kernels, with real faults, seen by a real client.
//!
//! Everything is made in-process through rtnetlink inside private namespaces ([`sandbox`]), so it needs neither root
//! nor the `ip` command, and nothing outlives the process. The harness knows the program only by its command line, its
//! configuration file and its status, never by its library.

pub mod binary;
pub mod capture;
pub mod cluster;
pub mod daemon;
pub mod fault;
pub mod frame;
pub mod holders;
pub mod host;
pub mod lan;
pub mod mac;
pub mod netlink;
pub mod plan;
pub mod prober;
pub mod sandbox;
pub mod status;
pub mod suite;
pub mod time;
pub mod wait;
pub mod witness;
