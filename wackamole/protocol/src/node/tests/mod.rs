//! Whole nodes against each other in virtual time, without any runtime.

mod stories;
mod storm;
mod world;
