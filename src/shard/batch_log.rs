//! Logs of batches whose keys lie on several groups of nodes, and who finishes them when their
//! coordinator does not.
//!
//! A log is an ordinary key of a bucket that no client can name: its name is the id of the
//! request, its value holds the whole batch, and it is written and deleted by quorum like any other
//! key. So it is as durable as what it promises, every member of its row comes to know it, and
//! nothing is left of it in the end. A log that is still there after a while has lost its
//! coordinator: a member of its row then finishes the batch (`coordinator/logged.rs`), the first
//! one of the row first.
//!
//! Source: the batch log of Cassandra, where it is a table of its own; here it is a key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::recent::Named;
use super::{Shard, Table, Turn};
use crate::api::{Expiry, Fault, RequestId};
use crate::causality::Object;
use crate::hash::{BucketId, Key};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::Mono;

/// The bucket of the logs.
pub const BATCH_LOG_BUCKET: BucketId = BucketId(u32::MAX);

/// The first member of a row waits so long for a coordinator, each other one a step longer; in
/// milliseconds.
const PATIENCE_MS: u64 = 10_000;
const PATIENCE_STEP_MS: u64 = 2_000;
/// How long a node that comes back waits before it goes on with what it began itself: until its
/// peers have been found, in milliseconds.
const OWN_PATIENCE_MS: u64 = 2_000;
/// Version of the value of a log.
const VERSION: u8 = 1;

/// What a log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BatchLog {
    version: u8,
    /// The request, whose mark all parts carry.
    pub(super) request_id: RequestId,
    /// Keys and values.
    pub(super) items: Vec<(Key, Bytes)>,
    /// When the values end; never counted from now, for nobody knows when it is finished.
    pub(super) expiry: Expiry,
}

/// The logs that this shard holds, each with the time at which it finishes the batch.
#[derive(Debug, Default)]
pub(super) struct BatchLogs {
    due: BTreeMap<Key, Mono>,
    timers: BTreeSet<(Mono, Key)>,
}

impl BatchLog {
    /// The log of a request.
    pub(super) fn new(request_id: RequestId, items: Vec<(Key, Bytes)>, expiry: Expiry) -> Self {
        assert!(!matches!(expiry, Expiry::After(_)), "a log says when, not how long");
        Self { version: VERSION, request_id, items, expiry }
    }

    /// The key of the log of a request.
    pub(super) fn key(request_id: RequestId) -> Key {
        Key::new(BATCH_LOG_BUCKET, Bytes::copy_from_slice(&request_id.0.to_be_bytes()))
    }

    /// The value of its key.
    pub(super) fn encode(&self) -> Bytes {
        postcard::to_stdvec(self).expect("a batch in memory can be encoded").into()
    }

    /// The log of this value; `None` = it is none of this version.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        postcard::from_bytes(value).ok().filter(|log: &Self| log.version == VERSION)
    }
}

impl Shard {
    /// Refuses a log whose id belongs to another request, as far as this shard remembers: once the
    /// log is written, its parts are owed.
    pub(super) fn check_log(&self, value: Option<&Bytes>) -> Result<(), Fault> {
        let Some(log) = value.and_then(|value| BatchLog::decode(value)) else { return Ok(()) };
        let BatchLog { request_id, items, .. } = log;
        for (key, value) in items.iter().filter(|_| request_id.is_given()) {
            self.check_named(key.token, Some(Named::of_part(request_id, key, value)))?;
        }
        Ok(())
    }
}

/// Refuses a log that would take the place of that of another batch: nobody would finish the parts
/// of the first one.
pub(super) fn check_replaced(stored: &Object, value: Option<&Bytes>) -> Result<(), Fault> {
    let Some(new) = value.and_then(|value| BatchLog::decode(value)) else { return Ok(()) };
    let mut held = stored.entries.iter().filter_map(|entry| BatchLog::decode(&entry.payload));
    if held.any(|log| log.items != new.items) {
        sometimes!("the log of a batch kept its place from another one");
        return Err(Fault::RequestIdReused { request_id: new.request_id });
    }
    Ok(())
}

impl BatchLogs {
    /// Number of logs that are held.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// When the next batch is to be finished.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A log is held, whose batch is to be finished at this time.
    pub(super) fn set(&mut self, log: Key, at: Mono) {
        self.forget(&log);
        self.timers.insert((at, log.clone()));
        self.due.insert(log, at);
    }

    /// A log is gone.
    pub(super) fn forget(&mut self, log: &Key) {
        if let Some((log, at)) = self.due.remove_entry(log) {
            self.timers.remove(&(at, log));
        }
    }

    /// The log of a batch that is to be finished now.
    fn take_due(&mut self, now: Mono) -> Option<Key> {
        self.timers.first().filter(|(at, _)| *at <= now)?;
        let (_, log) = self.timers.pop_first()?;
        self.due.remove(&log);
        Some(log)
    }
}

impl Shard {
    /// Takes note of the logs that this step has put or taken away.
    pub(super) fn note_batch_logs<T: Table>(&mut self, turn: &Turn<'_, T>) {
        for (log, is_held) in self.partitions.take_batch_logs() {
            if !is_held {
                self.batch_logs.forget(&log);
            } else if !self.batch_logs.due.contains_key(&log) {
                let at = turn.now.mono.plus_ms(self.patience_with(&log, false));
                self.batch_logs.set(log, at);
            }
        }
    }

    /// Takes note of a log that the disk held when this process started.
    pub(super) fn recall_batch_log(&mut self, now: Mono, log: Key, is_own: bool) {
        sometimes!("a batch was found in the log after a restart");
        let at = now.plus_ms(self.patience_with(&log, is_own));
        self.batch_logs.set(log, at);
    }

    /// Finishes the batches whose coordinators have been away for too long.
    pub(super) fn finish_batches<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        while let Some(log) = self.batch_logs.take_due(turn.now.mono) {
            if planted(Bug::BatchLeftHalf) {
                continue;
            }
            self.finish_batch(turn, log);
        }
    }

    /// How long the coordinator of a batch is waited for.
    fn patience_with(&self, log: &Key, is_own: bool) -> u64 {
        if is_own {
            return OWN_PATIENCE_MS;
        }
        let row = self.layout().map(|layout| layout.row(log.token.partition(layout.partitions)));
        let place = row.and_then(|row| row.iter().position(|&node| Some(node) == self.me()));
        let steps = u64::try_from(place.unwrap_or(0)).expect("rows are short");
        PATIENCE_MS + steps * PATIENCE_STEP_MS
    }
}
