//! The log of one node: takes what the shards and the control plane put, and makes it durable.

use super::border::{Event, LogBatch, LogConfig, LogStatus};
use super::disk::{Disk, DiskDone, DiskError, FileName, IoId};
use crate::cluster::ControlRecord;
use crate::shard::{Seq, ShardId};
use crate::time::{Mono, Now};

/// The log of one node.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    events: Vec<Event>,
}

impl Log {
    /// A log that recovers what its disk holds as soon as it is pumped.
    pub fn new(config: LogConfig) -> Self {
        Self { config, events: Vec::new() }
    }

    /// Takes the puts of a turn of a shard.
    pub fn hand(&mut self, shard: ShardId, batch: LogBatch) {
        let _ = (shard, batch, &self.config);
    }

    /// Takes a record of the control plane; numbers grow.
    pub fn hand_control(&mut self, seq: Seq, record: ControlRecord) {
        let _ = (seq, record);
    }

    /// Submits every operation that can begin now.
    pub fn pump(&mut self, now: Now, disk: &mut impl Disk) {
        let _ = (now, disk);
    }

    /// Takes in what an operation returned.
    pub fn on_io(&mut self, now: Now, id: IoId, result: Result<DiskDone, DiskError>) {
        let _ = (now, id, result);
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// When to pump again even if nothing happens.
    pub fn deadline(&self) -> Option<Mono> {
        None
    }

    /// The file that is appended to: its operations are what clients wait for.
    pub fn appends_to(&self) -> Option<FileName> {
        None
    }

    /// Whether everything handed is durable and no operation is under way.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// What it has done and holds.
    pub fn status(&self) -> LogStatus {
        LogStatus::default()
    }
}
