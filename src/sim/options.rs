//! What a random run is made of, drawn from its seed.
//!
//! Swarm sampling: each family of faults is absent in about half of the seeds, so that what one
//! family hides another run shows. Source: Groce et al., "Swarm Testing", ISSTA 2012.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use super::disk::DiskFaults;
use super::network::NetworkFaults;
use crate::planted::Bug;

/// Everything that a run needs beside its seed. Times in virtual microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where all chance of the run comes from.
    pub seed: u64,
    /// Nodes, 1 to 16.
    pub nodes: usize,
    /// Shards of each node, 1 to 3.
    pub shards: u16,
    /// Partitions of the ring.
    pub partitions: u16,
    /// Copies of each key.
    pub replicas: u8,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// How long clients work and faults happen, after the birth of the cluster.
    pub duration_us: u64,
    /// Clients that draw what they ask, each with one operation under way at a time.
    pub clients: usize,
    /// Longest pause of a client between two operations.
    pub think_us: u64,
    /// Keys that clients compete for.
    pub keys: usize,
    /// Of a hundred operations that clients draw, how many are bulks.
    pub bulks: u8,
    /// Of a hundred writes that clients draw, how many write what ends.
    pub ends: u8,
    /// How long what ends lasts at most.
    pub ttl_us: u64,
    /// How often clients send each write, under one id and through one node after the other.
    pub tries: u8,
    /// How links behave.
    pub network: NetworkFaults,
    /// How disks behave.
    pub disk: DiskFaults,
    /// Longest time of one disk operation.
    pub disk_us: u64,
    /// Whether at the end some nodes stay down until a healed majority has answered without them.
    pub core_first: bool,
    /// Times that a node dies while the cluster is about to be born.
    pub birth_crashes: usize,
    /// Mean time between two faults of each kind; 0 = never.
    pub crash_every_us: u64,
    /// Likewise: power goes at one or more nodes.
    pub power_every_us: u64,
    /// Likewise: the network falls apart for a while.
    pub partition_every_us: u64,
    /// Likewise: a node stands still for a while.
    pub pause_every_us: u64,
    /// Likewise: a wall clock jumps.
    pub clock_every_us: u64,
    /// Largest jump of a wall clock, in milliseconds.
    pub clock_jump_ms: i64,
    /// The mistake that the core suffers from, in a build that can plant one.
    pub planted: Option<Bug>,
    /// Likewise: the way from one node to another is clogged, or a message on it is cut short.
    pub link_every_us: u64,
    /// Likewise: a node is slow for a while.
    pub slow_node_every_us: u64,
    /// Likewise: a node is started anew with other settings.
    pub settings_every_us: u64,
    /// How long things go wrong before the cluster is born; then they are mended.
    pub birth_trouble_us: u64,
    /// Likewise: a bit rots on some disk.
    pub rot_every_us: u64,
    /// Likewise: one operation of a disk fails.
    pub disk_error_every_us: u64,
    /// Likewise: a write is acknowledged, and lost or gone elsewhere.
    pub astray_every_us: u64,
    /// Likewise: a disk is full for a while.
    pub disk_full_every_us: u64,
    /// Likewise: a disk is slow or stuck for a while.
    pub slow_disk_every_us: u64,
    /// Likewise: a client sends half a request.
    pub client_every_us: u64,
    /// Of a thousand writes that clients draw, how many carry a token that nobody gave them.
    pub forgeries: u16,
    /// Of a thousand operations that clients draw, how many are walks over all keys, counts and
    /// explanations.
    pub looks: u16,
    /// Of a thousand values that clients draw, how many have up to 9 KiB.
    pub large: u16,
    /// Nodes that start after the birth of the cluster; they join it, and hold nothing.
    pub newcomers: usize,
}

impl Options {
    /// A run in which nothing goes wrong.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3,
            shards: 1,
            partitions: 16,
            replicas: 3,
            segment_bytes: 64 * 1024,
            duration_us: 30_000_000,
            clients: 6,
            think_us: 200_000,
            keys: 30,
            bulks: 8,
            ends: 0,
            ttl_us: 10_000_000,
            tries: 1,
            network: NetworkFaults::default(),
            disk: DiskFaults::default(),
            disk_us: 300,
            core_first: false,
            birth_crashes: 0,
            crash_every_us: 0,
            power_every_us: 0,
            partition_every_us: 0,
            pause_every_us: 0,
            clock_every_us: 0,
            clock_jump_ms: 0,
            planted: None,
            link_every_us: 0,
            slow_node_every_us: 0,
            settings_every_us: 0,
            birth_trouble_us: 0,
            rot_every_us: 0,
            disk_error_every_us: 0,
            astray_every_us: 0,
            disk_full_every_us: 0,
            slow_disk_every_us: 0,
            client_every_us: 0,
            forgeries: 0,
            looks: 0,
            large: 10,
            newcomers: 0,
        }
    }

    /// Number of nodes that start first, one at least.
    pub(super) fn founders(&self) -> usize {
        self.nodes.saturating_sub(self.newcomers).max(1)
    }

    /// The same world, where nothing is drawn on top of what a scenario says.
    pub(super) fn without_draws(self) -> Self {
        Self {
            clients: 0,
            crash_every_us: 0,
            power_every_us: 0,
            partition_every_us: 0,
            pause_every_us: 0,
            clock_every_us: 0,
            link_every_us: 0,
            slow_node_every_us: 0,
            settings_every_us: 0,
            rot_every_us: 0,
            disk_error_every_us: 0,
            astray_every_us: 0,
            disk_full_every_us: 0,
            slow_disk_every_us: 0,
            client_every_us: 0,
            ..self
        }
    }

    /// The run of a seed: every family of faults is in it or not by the toss of a coin.
    pub fn swarm(seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut options = Self::calm(seed);
        options.nodes = 5;
        options.shards = rng.random_range(1..=3);
        options.replicas = [1, 2, 3, 3, 3, 3, 5][rng.random_range(0..7)];
        options.keys = rng.random_range(8..=60);
        options.clients = rng.random_range(5..=12);
        options.think_us = rng.random_range(40_000..=250_000);
        draw_network(&mut options.network, &mut rng);
        options.disk_us = [200, 1_000, 10_000, 100_000][rng.random_range(0..4)];
        options.disk.names_reorder = rng.random();
        draw_disk(&mut options.disk, &mut rng);
        options.core_first = true;
        let mut every = |shortest: u64, longest: u64| {
            let drawn = rng.random_range(shortest..=longest);
            if rng.random() { drawn } else { 0 }
        };
        options.crash_every_us = every(1_000_000, 10_000_000);
        options.power_every_us = every(2_000_000, 12_000_000);
        options.partition_every_us = every(2_000_000, 8_000_000);
        options.pause_every_us = every(2_000_000, 8_000_000);
        options.clock_every_us = every(2_000_000, 8_000_000);
        options.clock_jump_ms = 3_600_000;
        options.link_every_us = every(1_000_000, 6_000_000);
        options.slow_node_every_us = every(3_000_000, 12_000_000);
        options.settings_every_us = every(8_000_000, 30_000_000);
        options.birth_trouble_us = every(500_000, 6_000_000);
        options.rot_every_us = every(1_000_000, 10_000_000);
        options.disk_error_every_us = every(3_000_000, 12_000_000);
        options.astray_every_us = every(10_000_000, 60_000_000);
        options.disk_full_every_us = every(3_000_000, 12_000_000);
        options.slow_disk_every_us = every(3_000_000, 12_000_000);
        options.bulks = [4, 8, 30][rng.random_range(0..3)];
        // Short segments are rolled, sealed and compacted many times in a run.
        options.segment_bytes = [16, 16, 64][rng.random_range(0..3)] * 1024;
        options.birth_crashes = [0, 0, 2, 4][rng.random_range(0..4)];
        options.ends = [0, 0, 20, 60][rng.random_range(0..4)];
        options.ttl_us = [1_000_000, 5_000_000, 20_000_000][rng.random_range(0..3)];
        options.client_every_us =
            if rng.random() { rng.random_range(500_000..=5_000_000) } else { 0 };
        options.forgeries = [0, 0, 10, 50][rng.random_range(0..4)];
        options.large = [0, 10, 10, 40][rng.random_range(0..4)];
        // The others must have rows of their own without it.
        let may_come_later = options.replicas < 4 && rng.random_range(0..4_u8) == 0;
        options.newcomers = usize::from(may_come_later);
        options.looks = [0, 10, 30, 100][rng.random_range(0..4)];
        options.tries = [1, 1, 2, 3][rng.random_range(0..4)];
        options
    }
}

/// Errors that end the process: it never tries again what failed.
fn draw_disk(disk: &mut DiskFaults, rng: &mut Xoshiro256PlusPlus) {
    let mut chance = |most: u32| {
        let drawn = rng.random_range(0..=most);
        if rng.random() { drawn } else { 0 }
    };
    disk.write_error = chance(1_000);
    disk.sync_error = chance(1_000);
    disk.open_error = chance(10_000);
    // A bit that is misread counts as rot where the second look is wrong too.
    disk.read_error = chance(1_000);
    disk.read_flip = chance(1_000);
}

fn draw_network(network: &mut NetworkFaults, rng: &mut Xoshiro256PlusPlus) {
    network.delay_max_us = [500, 2_000, 10_000, 50_000][rng.random_range(0..4)];
    let mut chance = |most: u32| {
        let drawn = rng.random_range(0..=most);
        if rng.random() { drawn } else { 0 }
    };
    network.loss = chance(100_000);
    network.duplicate = chance(300_000);
    network.straggler = chance(20_000);
    network.corrupt = chance(2_000);
    network.stale = chance(5_000);
    let queue = [0, 0, 20, 200][rng.random_range(0..4)];
    network.queue = queue;
    network.straggler_factor = 50;
}
