//! The pure part of wackamole. No sockets, no clock, no threads: time, seeds and bytes come in as arguments, outputs go out
//! through queues.

pub mod agent;
pub mod assignment;
pub mod config;
pub mod event;
pub mod group;
pub mod id;
pub mod link;
pub mod mac;
pub mod names;
pub mod node;
pub mod status;
pub mod time;
pub mod vip;
pub mod vote;
pub mod wire;
