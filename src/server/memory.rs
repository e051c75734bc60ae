//! The memory that a node may take: one budget for what it stores and for what clients keep.
//!
//! At most a quarter is for clients (parts of requests, unread answers); `sweep` keeps them within.
//! The rest is for the stores (index, cache, puts on their way to the disk): beyond it new values
//! are refused with `out_of_memory`, while reads and deletes go on. Source of the default: ours.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Config;
use crate::limits::{MEMORY_BYTES_MIN, MEMORY_PERCENT};
use crate::shard::ShardId;

/// What is assumed of a machine that does not say how much memory it has, in bytes.
const UNKNOWN_BYTES: u64 = 1024 * 1024 * 1024;
/// Clients have at most one part in so many of the budget.
const CLIENT_SHARE: usize = 4;

/// How the budget of a node is divided, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// For everything.
    pub(crate) total: usize,
    /// For what connections of clients keep.
    pub(crate) clients: usize,
    /// For index, caches and puts on their way to the disk.
    pub(crate) stores: usize,
}

/// What a node takes now, by shard: its store, and what the clients of its thread keep.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) budget: Budget,
    taken: Vec<(AtomicUsize, AtomicUsize)>,
}

impl Budget {
    /// What the settings say, or else a share of what this process may use.
    pub(crate) fn of(config: &Config) -> Self {
        let share = || available(Path::new("/")) / 100 * MEMORY_PERCENT;
        let bytes = config.memory_bytes.unwrap_or_else(share).max(MEMORY_BYTES_MIN);
        Self::divided(usize::try_from(bytes).unwrap_or(usize::MAX), config.client_bytes_max)
    }

    fn divided(total: usize, clients_max: usize) -> Self {
        let clients = clients_max.min(total / CLIENT_SHARE);
        Self { total, clients, stores: total - clients }
    }
}

impl Memory {
    /// Nothing is taken yet.
    pub(crate) fn new(budget: Budget, shards: u16) -> Self {
        Self { budget, taken: (0..shards).map(|_| Default::default()).collect() }
    }

    /// A store takes so much now, and the clients of its thread keep so much.
    pub(crate) fn set(&self, shard: ShardId, store: usize, clients: usize) {
        if let Some(taken) = self.taken.get(usize::from(shard.0)) {
            taken.0.store(store, Ordering::Relaxed);
            taken.1.store(clients, Ordering::Relaxed);
        }
    }

    /// Bytes of all stores.
    pub(crate) fn stores(&self) -> usize {
        self.taken.iter().map(|taken| taken.0.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that all clients keep.
    pub(crate) fn clients(&self) -> usize {
        self.taken.iter().map(|taken| taken.1.load(Ordering::Relaxed)).sum()
    }
}

/// Bytes that this process may use: those of the machine, or fewer where its control group or one
/// above says so.
fn available(root: &Path) -> u64 {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let machine = text("proc/meminfo").lines().find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?;
        kib.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let mut limits: Vec<u64> = machine.into_iter().collect();
    let groups = text("proc/self/cgroup");
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    for folder in Path::new(group).ancestors() {
        let file = Path::new("sys/fs/cgroup").join(folder).join("memory.max");
        let limit = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        limits.extend(limit.trim().parse::<u64>().ok());
    }
    limits.extend(text("sys/fs/cgroup/memory/memory.limit_in_bytes").trim().parse::<u64>().ok());
    limits.into_iter().min().unwrap_or(UNKNOWN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_counts_and_none_is_assumed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(available(root), UNKNOWN_BYTES);
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\n");
        assert_eq!(available(root), 8_000_000 * 1024);
        put("proc/self/cgroup", "0::/system.slice/a.service\n");
        put("sys/fs/cgroup/system.slice/a.service/memory.max", "max\n");
        assert_eq!(available(root), 8_000_000 * 1024);
        put("sys/fs/cgroup/system.slice/memory.max", "1000000000\n");
        assert_eq!(available(root), 1_000_000_000);
    }

    #[test]
    fn clients_have_what_is_set_for_them_but_no_more_than_a_quarter() {
        let budget = Budget::divided(1_000, 100);
        assert_eq!((budget.clients, budget.stores), (100, 900));
        let budget = Budget::divided(1_000, 500);
        assert_eq!((budget.clients, budget.stores), (250, 750));
    }

    #[test]
    fn what_is_taken_is_the_sum_over_all_shards() {
        let memory = Memory::new(Budget::divided(1_000, 100), 2);
        memory.set(ShardId(0), 5, 1);
        memory.set(ShardId(1), 7, 2);
        memory.set(ShardId(0), 6, 3);
        assert_eq!((memory.stores(), memory.clients()), (13, 5));
    }
}
