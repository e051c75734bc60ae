//! What the threads of one node share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::clock::Clock;
use super::control::ControlMail;
use super::exposure::Exposure;
use super::guests::Guests;
use super::identity::Identity;
use super::links::Peers;
use super::log_thread::LogQueue;
use super::mailbox::Mailbox;
use super::memory::Memory;
use super::metrics::Metrics;
use super::origin::Failures;
use super::readers::Readers;
use super::shard_thread::Mail;
use super::{Failure, LinkControl};
use crate::api::Tokens;
use crate::cluster::{Secret, View};
use crate::config::Config;
use crate::shard::ShardId;
use crate::store::LogStatus;
use crate::wire::Gauges;

/// How far a node is in its life. Only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It serves.
    Running,
    /// It finishes what it has begun.
    Draining,
    /// Its threads stop at once, wherever they are.
    Ended,
}

/// One per node; every thread holds it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) host: String,
    pub(crate) client_addr: std::net::SocketAddr,
    pub(crate) cluster_addr: std::net::SocketAddr,
    pub(crate) clock: Clock,
    pub(crate) started_unix_ms: u64,
    pub(crate) links: LinkControl,
    /// What other nodes must prove that they hold; `None` = this machine is trusted.
    pub(crate) secret: Option<Secret>,
    /// What clients must show one of; `None` = nothing.
    pub(crate) tokens: Option<Arc<Tokens>>,
    /// What the operator is told each minute.
    pub(crate) exposure: Exposure,
    /// Wrong tokens of clients.
    pub(crate) failures: Failures,
    pub(crate) stage: watch::Sender<Stage>,
    pub(crate) failure: watch::Sender<Option<Failure>>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) metrics: Metrics,
    pub(crate) guests: Guests,
    /// Writes that asked for faults since the last derived file was begun.
    pub(crate) debug_writes: AtomicU64,
    /// The `seq` of the last write that a client was told.
    pub(crate) write_seq: AtomicU64,
    pub(crate) shards: Vec<Mailbox<Mail>>,
    /// Connections of each shard thread.
    pub(crate) loads: Vec<AtomicUsize>,
    pub(crate) log: LogQueue,
    pub(crate) log_status: Mutex<LogStatus>,
    pub(crate) memory: Memory,
    /// What the log and the memory hold, for clients to see.
    pub(crate) gauges: Gauges,
    pub(crate) control: Mailbox<ControlMail>,
    pub(crate) readers: Readers,
    pub(crate) peers: Peers,
}

impl Shared {
    /// Waits until the node is at least that far.
    pub(crate) async fn stage_reached(&self, stage: Stage) {
        let mut watch = self.stage.subscribe();
        // The sender lives as long as this value, so the wait cannot fail.
        let _ = watch.wait_for(|now| *now >= stage).await;
    }

    /// Whether the threads must stop.
    pub(crate) fn has_ended(&self) -> bool {
        *self.stage.borrow() == Stage::Ended
    }

    /// Moves the node on; never back.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
        if stage == Stage::Ended {
            self.log.wake();
            self.readers.wake();
        }
    }

    /// The node cannot go on: every thread stops, and the caller of the node learns why. The first
    /// reason stays.
    pub(crate) fn fail(&self, failure: Failure) {
        tracing::error!(node = %self.name, "{}", failure.text);
        // First of all: whoever hears of the failure must find the node at its end.
        self.advance(Stage::Ended);
        self.failure.send_if_modified(|kept| {
            let first = kept.is_none();
            kept.get_or_insert(failure);
            first
        });
    }

    /// Whether a node of this process can talk to another one.
    pub(crate) fn connects(&self, other: &str) -> bool {
        self.links.watch().borrow().connects(&self.name, other)
    }

    /// Number of shard threads.
    pub(crate) fn shard_count(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("the number of shards is bounded")
    }

    /// Connections of a shard thread.
    pub(crate) fn load(&self, shard: ShardId) -> &AtomicUsize {
        &self.loads[usize::from(shard.0)]
    }

    /// The shard thread with the fewest connections; it gets one more.
    pub(crate) fn lightest(&self) -> ShardId {
        let index = (0..self.loads.len())
            .min_by_key(|&index| self.loads[index].load(Ordering::Relaxed))
            .expect("there is at least one shard");
        self.loads[index].fetch_add(1, Ordering::Relaxed);
        ShardId(u16::try_from(index).expect("the number of shards is bounded"))
    }
}
