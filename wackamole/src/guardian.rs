//! The guardian: a tiny process that stands behind a daemon and does, when the daemon cannot, what must not stay undone.
//!
//! It kills a daemon that misses the end of its lease. When the daemon is gone, however it went, it shuts the gate, removes
//! the daemon's addresses and tells the peers "left, released", so that they need not wait for a timeout. A daemon
//! acquires nothing before its guardian stands, and a daemon without one lets go of everything.
//!
//! ```text
//! daemon ── channel (socket pair): orders → ready; "done" before a graceful end; its closing shows an end ── guardian
//!        ── board (memfd): lease and signs of life →, ← the guardian's signs of life ──
//!        ◄── pidfd: SIGKILL past the lease; readable when nothing of the daemon is left ──
//! ```
//!
//! `board` is the shared memory, `orders` what is told at the start, `watch` the judgement past a lease, `process` the
//! guardian's own loop, `leave` its word to the peers, `lock` keeps two apart, `protection` keeps it alive. On the daemon's side
//! `start` starts one and `supervisor` replaces it.
//!
//! # Races, and why they are none
//!
//! - **The lease is renewed while the guardian wakes up for its end.** It reads the lease again after it woke, and then waits
//!   for a sign of life ([`Patience::silence`]) before it kills. A renewal or a sign within that time clears it. A daemon
//!   that renews in time is never killed, because the guardian does not even look before the end of the lease it read, and
//!   a newer one only lies later. (`watch`, property `a_healthy_daemon_is_never_killed`)
//! - **The lease is over and the daemon knows it** (it was cut off): its loop shows life while it releases, at its own end of
//!   the lease first and at least three times in each `silence`. It is killed only if the release takes longer than
//!   [`Patience::release`], or if it stops in the middle.
//! - **The machine slept, or both were stopped, across the end of the lease.** The counts start when the guardian notices the end, not
//!   at the end, and start again if the guardian itself was late.
//! - **A read of the lease beside a write** sees two halves that do not fit, and is repeated.
//! - **The daemon ends gracefully.** "Done" is in the channel before the process ends, and the guardian reads the channel before it
//!   believes the pidfd. The daemon then waits for its guardian's end, so that nothing is left running.
//! - **The daemon is killed after "done".** Nothing was held, and the peers were told.
//! - **The daemon is killed before the guardian stands.** A first guardian has nothing to do, and finds nothing. A later one, started
//!   while VIPs are held, has its orders or has not: with them it takes over as soon as it stands; without them it ends, and the
//!   addresses stay for the kernel's lifetimes, the gate, `wackamole release` or the next start, exactly as if both had been
//!   killed at once, which is what happened.
//! - **The daemon's process number is used again.** The pidfd is opened first, and then the daemon must still be the parent.
//! - **The daemon's threads.** Its end of the channel is never closed while it lives, so it closes when the last of its threads has
//!   let go of the common descriptors in its exit (that it is exiting is looked up). From then on none of them begins a
//!   system call, and the kernel has finished those that they had begun. That is some 10 ms before the pidfd says so for each
//!   packet socket. After the pidfd has said so as well the guardian looks once more, and only then gives its lock back.
//! - **The channel closes and the daemon lives.** It cannot be; if it were, the guardian would act on the pidfd alone: it never speaks
//!   for a daemon that lives.
//! - **Two guardians.** Only the one that has the lock in the state directory stands. The old one is reaped before the next is
//!   started. A new daemon waits for the lock before it acquires ([`await_former`]), and if a former guardian takes the lock
//!   after that, then its own cannot stand and it acquires nothing. A former guardian that works late removes and never adds; its "left"
//!   names its own daemon's incarnation, which the peers ignore once they have heard a later one.
//! - **A former guardian hangs** (stopped, or the kernel refuses the removal). After [`FORMER_MAX`] the new daemon kills it and does the
//!   same work itself, before it holds anything. Not to kill it would keep the node out for ever because of one SIGSTOP; and it cannot
//!   be mistaken for another process, because the kernel names the owner of the lock before and after its pidfd is opened.
//! - **The guardian is killed, or ends by a fault.** Its end of the channel closes; the daemon starts another at once, on the same board,
//!   so that the lease stands there already. If none can stand, the daemon reports that it can serve nothing, and refuses
//!   to acquire.
//! - **The guardian is stopped.** Its signs of life end; after two looks it is killed and replaced.
//! - **Both are stopped or killed at once.** The gate and the kernel's lifetimes are for that.

mod board;
pub mod fences;
mod leave;
mod lock;
mod orders;
mod process;
mod protection;
mod start;
mod supervisor;
mod watch;

pub use leave::Farewell;
pub use lock::{FORMER_MAX, LockError, await_former};
pub use orders::Orders;
pub use process::{GuardError, prepare, run};
pub use start::{Program, StartError};
pub use supervisor::{Guarded, Standing};
pub use watch::Patience;
