//! Whole nodes against each other in virtual time, without any runtime.

mod gale;
mod stories;
mod storm;
mod world;
