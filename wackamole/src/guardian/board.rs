//! The memory that daemon and guardian share: three numbers, each written by one of them and read by the other.
//!
//! It is a memfd_create(2) that both read and write with one system call for each number: no mapping, so no unsafe code. A
//! number stands there twice, as it is and inverted, because a read beside a write may see half of each.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use nix::sys::memfd::{MFdFlags, memfd_create};
use wackamole_protocol::time::{Duration, Instant};

use crate::env::Lease;

/// The number, and the number inverted.
const CELL_BYTES: usize = 16;
/// A torn read is repeated; a write takes less than a microsecond.
const READS: usize = 1_000;

/// What is shared, at its offset in the file.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
enum Cell {
    /// Until when the daemon may answer for VIPs; the largest number: it holds nothing. By the daemon.
    Lease = 0,
    /// When the daemon, past its lease, was last seen to run. By the daemon.
    Life = 16,
    /// When the guardian was last seen to run. By the guardian.
    Guard = 32,
}

/// The shared memory.
#[derive(Debug)]
pub(super) struct Board(File);

impl Board {
    /// Makes one: no lease, no signs of life.
    pub(super) fn create() -> io::Result<Self> {
        let memory = memfd_create(c"wackamole-lease", MFdFlags::MFD_CLOEXEC)?;
        let board = Self(File::from(memory));
        board.set_lease(Lease::None)?;
        // What was never written would be read again and again like what is being written.
        board.write(Cell::Life, 0)?;
        board.write(Cell::Guard, 0)?;
        Ok(board)
    }

    /// One that the other side has made.
    pub(super) fn of(memory: OwnedFd) -> Self {
        Self(File::from(memory))
    }

    /// Another handle on the same memory.
    pub(super) fn share(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The memory itself, to be handed to the other side.
    pub(super) fn into_memory(self) -> OwnedFd {
        self.0.into()
    }

    pub(super) fn set_lease(&self, lease: Lease) -> io::Result<()> {
        self.write(
            Cell::Lease,
            match lease {
                Lease::None => u64::MAX,
                Lease::Until(until) => nanoseconds(until).min(u64::MAX - 1),
            },
        )
    }

    /// `None` if it cannot be read, which never happens to memory that is written as here.
    pub(super) fn lease(&self) -> Option<Lease> {
        Some(match self.read(Cell::Lease)? {
            u64::MAX => Lease::None,
            until => Lease::Until(Instant::after_origin(Duration::from_nanos(until))),
        })
    }

    pub(super) fn show_life(&self, now: Instant) -> io::Result<()> {
        self.write(Cell::Life, nanoseconds(now))
    }

    /// The daemon's last sign of life; it has no meaning but that it changes.
    pub(super) fn life(&self) -> Option<u64> {
        self.read(Cell::Life)
    }

    pub(super) fn show_guard(&self, now: Instant) -> io::Result<()> {
        self.write(Cell::Guard, nanoseconds(now))
    }

    /// The guardian's last sign of life; it has no meaning but that it changes.
    pub(super) fn guard(&self) -> Option<u64> {
        self.read(Cell::Guard)
    }

    fn write(&self, cell: Cell, number: u64) -> io::Result<()> {
        let mut bytes = [0; CELL_BYTES];
        bytes[..8].copy_from_slice(&number.to_ne_bytes());
        bytes[8..].copy_from_slice(&(!number).to_ne_bytes());
        self.0.write_all_at(&bytes, cell as u64)
    }

    fn read(&self, cell: Cell) -> Option<u64> {
        for _ in 0..READS {
            let mut bytes = [0; CELL_BYTES];
            self.0.read_exact_at(&mut bytes, cell as u64).ok()?;
            let [number, inverted] =
                [0, 8].map(|at| bytes[at..].first_chunk().map(|b| u64::from_ne_bytes(*b)));
            if number == inverted.map(|inverted| !inverted) {
                return number;
            }
        }
        None
    }
}

fn nanoseconds(at: Instant) -> u64 {
    u64::try_from(at.since_origin().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_read_what_the_other_wrote() {
        let daemon = Board::create().unwrap();
        let guardian = Board::of(daemon.share().unwrap().into_memory());
        assert_eq!(guardian.lease(), Some(Lease::None));
        assert_eq!((daemon.guard(), guardian.life()), (Some(0), Some(0)));

        let until = Instant::after_origin(Duration::from_nanos(1_234_567_890_123));
        daemon.set_lease(Lease::Until(until)).unwrap();
        daemon.show_life(until).unwrap();
        guardian.show_guard(Instant::after_origin(Duration::from_nanos(7))).unwrap();

        assert_eq!(guardian.lease(), Some(Lease::Until(until)));
        assert_eq!(guardian.life(), Some(1_234_567_890_123));
        assert_eq!(daemon.guard(), Some(7));
        daemon.set_lease(Lease::None).unwrap();
        assert_eq!(guardian.lease(), Some(Lease::None));
        daemon.set_lease(Lease::Until(Instant::FAR_FUTURE)).unwrap();
        assert!(matches!(guardian.lease(), Some(Lease::Until(_))));
    }

    #[test]
    fn a_read_beside_a_write_sees_one_of_the_two_values() {
        let daemon = Board::create().unwrap();
        let guardian = Board::of(daemon.share().unwrap().into_memory());
        let values = [0x1111_1111_1111_1111, 0x2222_2222_2222_2222];
        let lease = |value: u64| Lease::Until(Instant::after_origin(Duration::from_nanos(value)));
        daemon.set_lease(lease(values[0])).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..20_000 {
                    daemon.set_lease(lease(values[round % 2])).unwrap();
                }
            });
            while !writer.is_finished() {
                let seen = guardian.lease().expect("a torn read is repeated");
                assert!(values.map(lease).contains(&seen), "{seen:?}");
            }
        });
    }
}
