//! What the shell knows and an answer may show: the node, its cluster, this connection.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Gauges;
use crate::cluster::View;
use crate::config::Config;
use crate::time::Now;

/// Everything that answers show and no reply carries. All borrowed: cheap to make per answer.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// When the answer is made.
    pub now: Now,
    /// The cluster as this node sees it.
    pub view: &'a View,
    /// The settings of this node.
    pub config: &'a Config,
    /// Address that clients reach.
    pub host: &'a str,
    /// Port for clients, as bound.
    pub port: u16,
    /// Port for other nodes, as bound.
    pub cluster_port: u16,
    /// When the process started, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Number of this connection, from 1, never used again.
    pub connection: u64,
    /// Connections of clients that are open now.
    pub connections: u64,
    /// Shard threads.
    pub shards: u16,
    /// Requests of clients for keys that this node holds no copy of, since its start.
    pub detours: u64,
    /// Writes that asked for simulated faults, where the node lets them.
    pub debug_writes: &'a AtomicU64,
    /// The `seq` of the last write that this node answered; one for all of its threads.
    pub write_seq: &'a AtomicU64,
    /// What the store holds and has done.
    pub gauges: &'a Gauges,
}

impl Facts<'_> {
    /// Where the counter behind `seq` starts: start time in milliseconds x 4096. It grows also
    /// over restarts and stays below 2^53 until the year 2039.
    pub fn first_write_seq(started_unix_ms: u64) -> AtomicU64 {
        AtomicU64::new(started_unix_ms.saturating_mul(4_096))
    }

    /// The number of one more write.
    pub(super) fn next_write_seq(&self) -> u64 {
        self.write_seq.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}
