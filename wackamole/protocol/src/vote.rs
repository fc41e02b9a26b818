//! Votes: which view is primary under `partition = "quorum"`. docs/protocol.md, "Votes".
//!
//! Dynamic linear voting with unresolved attempts (Yeger Lotem, Keidar, Dolev: *Dynamic voting for consistent primary
//! components*, PODC 1997): the next primary view needs a deciding set of the last one, and of every later attempt that
//! may have been formed without our hearing of it. Pure functions over a node's [`Record`]; no clocks, no messages, no
//! disk. The caller keeps two promises that cannot be kept here: what [`judge`] returns is on the disk before the accept
//! leaves (the proposer's own too, before it counts), and an [`Attempt`] does not outlive its process.
//!
//! Invariant: whoever's vote is counted for two views that are both formed has accepted both, the lower ballot first, and
//! remembered it.

mod attempt;
mod judge;
mod leave;
mod record;
mod rules;
mod store;
#[cfg(test)]
mod tests;

pub use attempt::Attempt;
pub use judge::{Claim, Refusal, Verdict, judge, review};
pub use leave::leave;
pub use record::{ATTEMPTS_MAX, Formed, Proxies, Proxy, Record};
pub use rules::{Rules, WhyNot, deciding, eligible, may_propose, upholding};
pub use store::Damaged;
