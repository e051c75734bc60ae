//! The faults that requests with `debug` ask for, on a node that lets them.
//!
//! Each such write has a chance of 1 % that the derived file which comes next is not written: what
//! it would hold must be found in the log itself. The log is never touched.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::store::{DiskDone, DiskOp, FileName};

/// One write in so many has its fault.
const ONE_IN: u32 = 100;
/// Writes that are drawn for at most; after so many a fault is as good as certain.
const DRAWS_MAX: u64 = 10_000;

/// Decides which derived files are not written.
#[derive(Debug)]
pub(super) struct Injection {
    random: Xoshiro256PlusPlus,
    /// The file that is not written.
    skipped: Option<FileName>,
}

impl Injection {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), skipped: None }
    }

    /// What an operation returns that is not to be done, given the writes that asked for faults
    /// since a derived file was begun.
    pub(super) fn instead(&mut self, op: &DiskOp, asked: &AtomicU64) -> Option<DiskDone> {
        match op {
            DiskOp::Create { file: file @ FileName::Sidecar(_), .. } => {
                let draws = asked.swap(0, Ordering::Relaxed).min(DRAWS_MAX);
                let fails = (0..draws).any(|_| self.random.random_range(0..ONE_IN) == 0);
                self.skipped = fails.then_some(*file);
                None
            }
            DiskOp::Write { file, .. } if self.skipped == Some(*file) => Some(DiskDone::Done),
            DiskOp::List
            | DiskOp::Create { .. }
            | DiskOp::Write { .. }
            | DiskOp::Read { .. }
            | DiskOp::Sync { .. }
            | DiskOp::Rename { .. }
            | DiskOp::Remove { .. }
            | DiskOp::SyncDir
            | DiskOp::Space => None,
        }
    }

    /// The derived file that is not written now.
    pub(super) fn skipped(&self) -> Option<FileName> {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Of so many derived files, each behind `writes` writes that asked for faults: those skipped.
    fn skipped_of(files: u32, writes: u64) -> usize {
        let mut injection = Injection::new(1);
        let asked = AtomicU64::new(0);
        (0..files).filter(|&number| is_skipped(&mut injection, &asked, number, writes)).count()
    }

    fn is_skipped(injection: &mut Injection, asked: &AtomicU64, number: u32, writes: u64) -> bool {
        asked.fetch_add(writes, Ordering::Relaxed);
        let file = FileName::Sidecar(number);
        assert!(injection.instead(&DiskOp::Create { file, bytes: 0 }, asked).is_none());
        let write = |file| DiskOp::Write { file, offset: 0, parts: vec![Bytes::new()] };
        // The log is never touched.
        assert!(injection.instead(&write(FileName::Segment(number)), asked).is_none());
        assert!(injection.instead(&DiskOp::Sync { file }, asked).is_none());
        injection.instead(&write(file), asked).is_some()
    }

    #[test]
    fn one_write_in_a_hundred_skips_a_derived_file_and_nothing_else() {
        assert_eq!(skipped_of(1_000, 0), 0);
        let single = skipped_of(10_000, 1);
        assert!((50..200).contains(&single), "{single}");
        assert_eq!(skipped_of(100, 5_000), 100);
    }
}
