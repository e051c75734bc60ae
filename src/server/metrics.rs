//! Counters of one node. Plain and relaxed: each stands for itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// That many more.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a node has done since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Turns of all shards.
    pub turns: Counter,
    /// Inputs that those turns took; inputs / turns is what one turn shares out its cost over.
    pub inputs: Counter,
    /// Records that readers fetched from the disk.
    pub cold_reads: Counter,
    /// Client connections served.
    pub connections: Counter,
    /// Client connections closed at once because there were too many.
    pub connections_refused: Counter,
    /// Client connections closed because a request, a token or a reader took too long.
    pub connections_overdue: Counter,
    /// Client connections closed because they kept most where memory for them was short.
    pub connections_pressed_out: Counter,
    /// Requests of clients for a key that this node holds no copy of: one more hop each.
    pub detours: Counter,
    /// Links to other nodes that came up.
    pub links: Counter,
    /// Links closed because of bytes that do not parse or whose checksum is wrong.
    pub links_damaged: Counter,
    /// Connections to the port for nodes that did not prove the cluster secret.
    pub strangers: Counter,
    /// Connections to the port for nodes closed for newer ones, before they had said who they are.
    pub strangers_pushed_out: Counter,
    /// Messages to other nodes that were dropped: no link, or its queue was full.
    pub messages_dropped: Counter,
}
