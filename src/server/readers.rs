//! The reader threads: cold records come from the disk here, so that no shard waits for one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::files::Files;
use super::shard_thread::Mail;
use super::shared::Shared;
use crate::shard::ShardId;
use crate::store::{DiskOp, ReadRequest};

/// Reader threads of a node. They sleep unless records are cold; two keep a disk busy while one of
/// them waits.
pub(crate) const READERS: usize = 2;

/// Reads that wait for a thread.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    waiting: Mutex<VecDeque<(ShardId, ReadRequest)>>,
    bell: Condvar,
}

impl Readers {
    /// Asks for a record; the answer goes to the mailbox of the shard.
    pub(crate) fn read(&self, shard: ShardId, request: ReadRequest) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back((shard, request));
        self.bell.notify_one();
    }

    /// Wakes every reader, to see that the node has ended.
    pub(crate) fn wake(&self) {
        drop(self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
    }

    fn next(&self, shared: &Shared) -> Option<(ShardId, ReadRequest)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if shared.has_ended() {
                return None;
            }
            if let Some(next) = waiting.pop_front() {
                return Some(next);
            }
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Serves reads until the node ends. Blocks.
pub(crate) fn run(shared: &Arc<Shared>, files: &Files) {
    while let Some((shard, request)) = shared.readers.next(shared) {
        let ReadRequest { id, file, offset, length } = request;
        let result = files.perform(DiskOp::Read { file, offset, length });
        shared.metrics.cold_reads.increment();
        shared.shards[usize::from(shard.0)].post(Mail::Fetched(id, result), 0);
    }
}
