//! One computer of the world: its disk, its clock, and the process that runs on it now.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::clock::WallClock;
use super::disk::SimDisk;
use super::faults::Trouble;
use super::network::Place;
use super::options::Options;
use super::process::{Birth, Process};
use crate::causality::NodeId;
use crate::cluster::Settings;
use crate::config::{Config, Durability};
use crate::store::{DiskOp, IoId, LogConfig};

/// Time between two rounds of the scrub, in milliseconds: some in each run.
const SCRUB_MS: u64 = 5_000;

/// One computer: what outlives its processes, and the process of now.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) process: Option<Process>,
    /// Number of the process of now, or of the last one.
    pub(super) life: u64,
    pub(super) disk: SimDisk,
    /// Operations of its log that its disk has not carried out yet.
    pub(super) in_flight: Vec<(IoId, DiskOp)>,
    pub(super) trouble: Trouble,
    pub(super) settings: Settings,
    /// Its name in the cluster: the digest of its key.
    pub(super) node: NodeId,
    pub(super) clock: WallClock,
    /// Until when its turns take how many times as long.
    pub(super) slow: (u64, u64),
    /// Shards of its next process.
    pub(super) shards: u16,
    /// A copy of its data directory.
    pub(super) backup: Option<SimDisk>,
    /// The identity and data directory that it has put aside for a clone of those of another node.
    pub(super) own: Option<([u8; 32], SimDisk)>,
    /// When the process of now was started, and how often in a row one ended soon after its start.
    pub(super) started: (u64, u32),
    pub(super) paused_until_us: u64,
    /// Whom there are links to, and in which life of theirs.
    pub(super) links: BTreeMap<Place, u64>,
    pub(super) dials: BTreeSet<String>,
    pub(super) turns: BTreeSet<u16>,
    pub(super) wakes_at: Option<u64>,
    /// Whether it stays down until the judges let it up.
    pub(super) is_kept_down: bool,
    /// Whether the process of now has lost it does not know what, and so counts towards no read.
    pub(super) is_rebuilding: bool,
    /// Why the last process ended by itself.
    pub(super) ended: Option<String>,
}

impl Machine {
    pub(super) fn new(place: Place, options: &Options) -> Self {
        let digest = Sha256::new()
            .chain_update(options.seed.to_le_bytes())
            .chain_update(b"identity")
            .chain_update(place.to_le_bytes());
        // Each names the next one as its seed: a ring. Those that come later name the first.
        let founders = options.founders();
        let next = if place < founders { (place + 1) % founders } else { 0 };
        let seeds = if next == place { Vec::new() } else { vec![format!("n{}:7379", next + 1)] };
        let settings = Settings {
            public_key: digest.finalize().into(),
            name: format!("n{}", place + 1),
            zone: String::from("default"),
            cluster_addr: format!("n{}:7379", place + 1),
            client_addr: format!("n{}:6379", place + 1),
            seeds,
            partitions: options.partitions,
            replicas: options.replicas,
            seed: 0,
        };
        let mut disk = SimDisk::default();
        disk.faults = options.disk.clone();
        Self {
            process: None,
            life: 0,
            disk,
            in_flight: Vec::new(),
            trouble: Trouble::default(),
            node: settings.node(),
            settings,
            clock: WallClock::default(),
            slow: (0, 1),
            shards: options.shards,
            backup: None,
            own: None,
            started: (0, 0),
            paused_until_us: 0,
            links: BTreeMap::new(),
            dials: BTreeSet::new(),
            turns: BTreeSet::new(),
            wakes_at: None,
            is_kept_down: false,
            is_rebuilding: false,
            ended: None,
        }
    }

    /// How it stands, for people.
    pub(super) fn state(&self) -> String {
        let view = self.process.as_ref().and_then(Process::view);
        let seen = view.map_or_else(String::new, |view| {
            let reached = view.members.values().filter(|member| member.reachable).count();
            format!("{:?}, reaches {reached} of {}", view.phase, view.members.len())
        });
        let ended = self.ended.as_deref().unwrap_or_default();
        format!("{}: life {}, {seen} {ended}", self.settings.name, self.life)
    }

    pub(super) fn birth(&self, options: &Options, seed: u64) -> Birth {
        let config = Config {
            node_id: Some(self.settings.name.clone()),
            partitions: options.partitions,
            replicas: options.replicas,
            ..Config::default()
        };
        let log = LogConfig {
            node: self.node,
            shards: self.shards,
            segment_bytes: options.segment_bytes,
            durability: Durability::Always,
            cache_bytes: 16 * 1024,
            memory_bytes: usize::MAX,
            scrub_ms: Some(SCRUB_MS),
            seed,
        };
        let settings = Settings { seed, ..self.settings.clone() };
        Birth { settings, log, shards: self.shards, seed, config }
    }
}
