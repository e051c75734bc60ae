//! What a node stores, has done with it, and how much memory it takes, as INFO shows it.
//!
//! The thread of the log sets the figures, the threads of clients show them: each stands for
//! itself, and an answer may mix two moments.

use std::sync::atomic::{AtomicU64, Ordering};

/// One figure each, in this order: name, and what it means.
const NAMES: [&str; 17] = [
    // Segment files, and their bytes.
    "storage_segments",
    "storage_file_bytes",
    // Bytes of records that are the newest of their keys.
    "storage_live_bytes",
    // Since the start: what was written, what compactions wrote again, segments that they removed.
    "storage_appended_bytes",
    "storage_moved_bytes",
    "storage_segments_compacted",
    // 1 = a compaction is under way.
    "storage_compacting",
    // Syncs of the log since the start.
    "storage_syncs",
    // Full segments that have no sidecar yet: a start would read them.
    "storage_sidecars_due",
    // What the surveys of full segments read, and rounds of the scrub, since the start.
    "storage_surveyed_bytes",
    "storage_scrubs",
    // Damaged places that the scrub found since the start.
    "storage_damaged_places",
    // 1 = new values are refused for want of space.
    "storage_full",
    // Records that have been written since the start.
    "storage_records",
    // The memory budget, what clients keep of it, and the stores.
    "memory_budget_bytes",
    "memory_client_bytes",
    "memory_store_bytes",
];

/// The figures of one node.
#[derive(Debug, Default)]
pub struct Gauges([AtomicU64; NAMES.len()]);

impl Gauges {
    /// Sets all figures, in the order in which they are shown.
    pub fn set(&self, figures: [u64; NAMES.len()]) {
        for (gauge, figure) in self.0.iter().zip(figures) {
            gauge.store(figure, Ordering::Relaxed);
        }
    }

    /// Each figure with its name.
    pub(super) fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.0.iter().map(|gauge| gauge.load(Ordering::Relaxed)))
    }
}
