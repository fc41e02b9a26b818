//! Taking away what a daemon that is gone has left, without the worker and its thread: for the guardian, which is small,
//! and for `wackamole release`.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use nix::errno::Errno;

use super::mirror::{Consequences, KernelAddress, Mirror};
use super::netlink::{Change, Requests};
use super::worker::{any_is_marked, kernel_is_too_old_for_marks};

/// So often the addresses are looked at again after some were removed. Nobody adds any, so the second look finds none.
const LOOKS: usize = 3;

/// Why leftovers are still there, or may be.
#[derive(Debug, thiserror::Error)]
pub enum LeftoversError {
    /// The kernel's tables cannot be read or changed.
    #[error("cannot {doing}: {source}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel keeps an address.
    #[error("cannot remove {address}: {source}")]
    Kept {
        /// The first of them.
        address: String,
        /// What the kernel said about it.
        source: Errno,
    },
    /// There were some each time that they were looked for.
    #[error("addresses come back as soon as they are removed: somebody puts them there")]
    ComeBack,
}

impl LeftoversError {
    fn kernel(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { doing, source }
    }
}

/// Which of the addresses `may` are on this machine and carry our mark, for people.
///
/// # Errors
/// The kernel does not say.
pub fn look_for_leftovers(may: &BTreeSet<IpAddr>) -> Result<Vec<String>, LeftoversError> {
    let mut requests = open()?;
    let (mirror, found) = look(&mut requests, may)?;
    Ok(found.iter().map(|key| mirror.describe(key)).collect())
}

/// Removes those of the addresses `may` that carry our mark, makes sure that none is left, and returns what was there, for
/// people. Does all that it can before it fails.
///
/// # Errors
/// Something is left, or may be.
pub fn remove_leftovers(may: &BTreeSet<IpAddr>) -> Result<Vec<String>, LeftoversError> {
    let mut requests = open()?;
    let mut removed = Vec::new();
    for _ in 0..LOOKS {
        let (mirror, found) = look(&mut requests, may)?;
        if found.is_empty() {
            return Ok(removed);
        }
        let changes: Vec<_> = found.iter().map(|&key| Change::Remove(key)).collect();
        let answers =
            requests.apply(&changes).map_err(LeftoversError::kernel("remove addresses"))?;
        let mut kept = None;
        for (key, answer) in found.iter().zip(answers) {
            match answer {
                Ok(()) => removed.push(mirror.describe(key)),
                Err(Errno::EADDRNOTAVAIL | Errno::ENODEV) => {} // it went by itself
                Err(source) => kept = kept.or(Some((mirror.describe(key), source))),
            }
        }
        if let Some((address, source)) = kept {
            return Err(LeftoversError::Kept { address, source });
        }
    }
    Err(LeftoversError::ComeBack)
}

fn open() -> Result<Requests, LeftoversError> {
    Requests::open().map_err(LeftoversError::kernel("open a netlink socket"))
}

fn look(
    requests: &mut Requests,
    may: &BTreeSet<IpAddr>,
) -> Result<(Mirror, Vec<KernelAddress>), LeftoversError> {
    let reading = requests.dump().map_err(LeftoversError::kernel("read the addresses"))?;
    let mut mirror = Mirror::default();
    if !any_is_marked(&reading) && kernel_is_too_old_for_marks() {
        mirror.marks_are_lost();
    }
    mirror.replace(reading, &mut Consequences::default());
    let found = mirror.leftovers(may);
    Ok((mirror, found))
}
