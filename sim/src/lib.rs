//! The simulator: many nodes, each the real driver and the real protocol, on a simulated LAN, under one of two engines.
//!
//! - [`scenario`] reads a story from a TOML file and draws one seed's course of events ([`fault`]);
//! - [`engine`] carries time, datagrams and starts: turmoil, or a scheduler of our own that does the same faster;
//! - [`world`] runs it: [`machine`] starts daemons on [`network`], [`clock`] and [`addresses`], the three simulated traits;
//! - [`segment`] is the truth: [`links`], [`netem`], [`kernels`] with their [`fences`], frames on the [`air`], [`signs`] of
//!   life, [`clients`], and the [`journal`] of what happened;
//! - [`check`] holds one checker per promise, with the [`bounds`] that follow from the configuration; [`conduct`] watches each daemon
//!   keep the rules that the promises rest on;
//! - [`sweep`] runs many seeds, [`report`] and [`narrate`] tell what came of them; a [`story`] is a run as plain data, with an
//!   [`account`] in plain language and what the [`chronicle`] noted, and a [`page`] draws it; [`pages`] writes many;
//! - [`replay`] does again what real daemons recorded.
//!
//! One seed determines everything, to the byte ([`determinism`]). docs/simulation.md tells how to use it.

pub mod account;
pub mod addresses;
pub mod air;
pub mod bell;
pub mod bounds;
pub mod check;
pub mod chronicle;
pub mod clients;
pub mod clock;
pub mod conduct;
pub mod connectivity;
pub mod coverage;
pub mod determinism;
pub mod disk;
pub mod engine;
pub mod explore;
pub mod fault;
pub mod fences;
pub mod gate;
pub mod journal;
pub mod kernels;
pub mod links;
pub mod machine;
pub mod narrate;
pub mod netem;
pub mod network;
pub mod page;
pub mod pages;
pub mod panics;
pub mod reach;
pub mod replay;
pub mod report;
pub mod rng;
pub mod scenario;
pub mod segment;
pub mod shrink;
pub mod signs;
pub mod stopwatch;
pub mod story;
pub mod sweep;
pub mod world;
