//! The reader threads: cold records come from the disk here, so that no shard waits for one.
//!
//! What is not in the cache of a shard is often in that of the system. A short record of those the
//! shard reads by itself, which costs less than to ask somebody else for it, twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::files::{DiskResult, Files};
use super::shard_thread::Mail;
use super::shared::Shared;
use crate::shard::ShardId;
use crate::store::{DiskDone, DiskOp, ReadRequest};

/// Reader threads of a node. They sleep unless records are cold; two keep a disk busy while one of
/// them waits.
pub(crate) const READERS: usize = 2;

/// Bytes that lie read in the mailbox of one shard before no more are read for it: a shard that is
/// slower than the disk must not find all of it in memory. It is also what one turn of a shard may
/// find there and answer at once, while others wait: copying it takes about a millisecond.
const FETCHED_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Longest record that a shard reads by itself, in bytes: it may do so for a whole turn of inputs.
const READ_NOW_BYTES_MAX: u32 = 8 * 1024;

/// Reads that wait for a thread.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    files: OnceLock<Files>,
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    reads: VecDeque<(ShardId, ReadRequest)>,
    /// Bytes that were read for a shard and that it has not taken yet.
    fetched: BTreeMap<ShardId, usize>,
}

impl Readers {
    /// Shards may read from these files from now on.
    pub(crate) fn open(&self, files: Files) {
        assert!(self.files.set(files).is_ok(), "a log is opened once");
    }

    /// The record, if it is short and the system has it in memory.
    pub(crate) fn read_now(&self, request: &ReadRequest) -> Option<Bytes> {
        let &ReadRequest { file, offset, length, .. } = request;
        let files = self.files.get().filter(|_| length <= READ_NOW_BYTES_MAX)?;
        files.read_now(file, offset, length)
    }

    /// Asks for a record; the answer goes to the mailbox of the shard.
    pub(crate) fn read(&self, shard: ShardId, request: ReadRequest) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.reads.push_back((shard, request));
        drop(waiting);
        self.bell.notify_one();
    }

    /// The shard has taken so many bytes out of its mailbox.
    pub(crate) fn taken(&self, shard: ShardId, bytes: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fetched = waiting.fetched.entry(shard).or_default();
        let was_full = *fetched >= FETCHED_BYTES_MAX;
        *fetched = fetched.saturating_sub(bytes);
        let has_room = *fetched < FETCHED_BYTES_MAX;
        drop(waiting);
        if was_full && has_room {
            self.bell.notify_all();
        }
    }

    fn fetched(&self, shard: ShardId, bytes: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting.fetched.entry(shard).or_default() += bytes;
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
            if let Some(next) = waiting.next() {
                return Some(next);
            }
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Waiting {
    /// The oldest read whose shard has room for it.
    fn next(&mut self) -> Option<(ShardId, ReadRequest)> {
        let Self { reads, fetched } = self;
        let has_room = |shard| fetched.get(shard).is_none_or(|&held| held < FETCHED_BYTES_MAX);
        let index = reads.iter().position(|(shard, _)| has_room(shard))?;
        reads.remove(index)
    }
}

/// Serves reads until the node ends. Blocks.
pub(crate) fn run(shared: &Arc<Shared>, files: &Files) {
    while let Some((shard, request)) = shared.readers.next(shared) {
        let ReadRequest { id, file, offset, length } = request;
        let result = files.perform(DiskOp::Read { file, offset, length });
        shared.metrics.cold_reads.increment();
        shared.readers.fetched(shard, bytes_of(&result));
        shared.shards[usize::from(shard.0)].post(Mail::Fetched(id, result), 0);
    }
}

/// Bytes that a completed read holds.
pub(super) fn bytes_of(result: &DiskResult) -> usize {
    match result {
        Ok(DiskDone::Bytes(bytes)) => bytes.len(),
        Ok(DiskDone::Files(_) | DiskDone::Space { .. } | DiskDone::Done) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FileName, ReadId};

    #[test]
    fn no_more_is_read_for_a_shard_that_has_not_taken_what_was() {
        let readers = Readers::default();
        let request =
            |id| ReadRequest { id: ReadId(id), file: FileName::Segment(1), offset: 0, length: 1 };
        readers.read(ShardId(0), request(1));
        readers.read(ShardId(1), request(2));
        readers.fetched(ShardId(0), FETCHED_BYTES_MAX);
        // The other shard is not held up by it.
        let next = || {
            let mut waiting = readers.waiting.lock().unwrap();
            waiting.next().map(|(_, request)| request.id.0)
        };
        assert_eq!(next(), Some(2));
        assert_eq!(next(), None);
        readers.taken(ShardId(0), 1);
        assert_eq!(next(), Some(1));
    }
}
