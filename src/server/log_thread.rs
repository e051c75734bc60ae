//! The log thread: one writer and one sync for all shards and the control plane.
//!
//! It takes everything that waits, lets the log write and sync it as one group, and meanwhile more
//! gathers: so groups grow with the load, without any timer.
//!
//! Where a write is acknowledged before it is synced, to hand it over costs more than the write: a
//! wake-up each way. So a shard then drives the log itself, if nobody else does and nothing waits.
//! Invariant: only who holds the log takes letters, so the batches of a shard keep their order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use super::files::{DiskResult, Files};
use super::injection::Injection;
use super::log_seat::{LogDisk, LogSeat};
use super::shared::Shared;
use crate::cluster::ControlRecord;
use crate::config::Durability;
use crate::shard::{Seq, ShardId};
use crate::store::{DiskOp, Event, IoId, Log, LogBatch, LogConfig, LogError, Recovered};

/// What waits for the log thread.
#[derive(Debug, Default)]
pub(crate) struct LogQueue {
    waiting: Mutex<Waiting>,
    bell: Condvar,
    /// The thread has ended: nobody reads what is posted. Read and set under the lock.
    is_closed: AtomicBool,
    /// The log, while its thread runs. Locked before `waiting` where both are.
    seat: Mutex<Option<LogSeat>>,
}

#[derive(Debug, Default)]
struct Waiting {
    letters: Vec<LogMail>,
    /// The thread is to look, whether there are letters or not.
    is_rung: bool,
}

#[derive(Debug)]
pub(super) enum LogMail {
    Batch(ShardId, LogBatch),
    Control(Vec<(Seq, ControlRecord)>),
    Done(IoId, DiskResult),
    /// Tell when everything before this is durable.
    Finish(Sender<()>),
}

impl LogQueue {
    /// The puts of one turn of a shard.
    pub(crate) fn put(&self, shared: &Shared, shard: ShardId, batch: LogBatch) {
        let may_write = shared.config.durability != Durability::Always;
        let left = if may_write { self.write(shared, shard, batch) } else { Some(batch) };
        if let Some(batch) = left {
            self.post(LogMail::Batch(shard, batch));
        }
    }

    /// Writes a batch here and now. Gives it back where somebody else holds the log, or something
    /// waits for it already.
    fn write(&self, shared: &Shared, shard: ShardId, batch: LogBatch) -> Option<LogBatch> {
        let Ok(mut seat) = self.seat.try_lock() else { return Some(batch) };
        let Some(seat) = seat.as_mut() else { return Some(batch) };
        if !self.waiting().letters.is_empty() {
            return Some(batch);
        }
        if seat.drive_for(shared, shard, batch) {
            self.wake();
        }
        None
    }

    /// Records of the control plane, in order.
    pub(crate) fn put_control(&self, records: Vec<(Seq, ControlRecord)>) {
        self.post(LogMail::Control(records));
    }

    /// Something is sent once everything before this is durable and the log is at rest.
    pub(crate) fn finish(&self) -> Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        self.post(LogMail::Finish(sender));
        receiver
    }

    /// Wakes the thread, to look at the log, or to see that the node has ended.
    pub(crate) fn wake(&self) {
        self.waiting().is_rung = true;
        self.bell.notify_one();
    }

    fn post(&self, letter: LogMail) {
        let first = {
            let mut waiting = self.waiting();
            if self.is_closed.load(Ordering::Relaxed) {
                // Dropping it tells whoever waits for an answer that none will come.
                return;
            }
            waiting.letters.push(letter);
            waiting.letters.len() == 1
        };
        if first {
            self.bell.notify_one();
        }
    }

    /// The thread ends: whoever waits for it hears of that.
    fn close(&self) {
        *self.seat() = None;
        let mut waiting = self.waiting();
        self.is_closed.store(true, Ordering::Relaxed);
        waiting.letters.clear();
    }

    /// Blocks until something waits, the bell was rung, the patience is over, or the node has
    /// ended.
    fn wait(&self, shared: &Shared, patience: Option<Duration>) {
        let mut waiting = self.waiting();
        while waiting.letters.is_empty() && !waiting.is_rung && !shared.has_ended() {
            let Some(patience) = patience else {
                waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.bell.wait_timeout(waiting, patience);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
            break;
        }
        waiting.is_rung = false;
    }

    fn seat(&self) -> MutexGuard<'_, Option<LogSeat>> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log that has read what its files hold.
pub(crate) struct OpenLog {
    log: Log,
    disk: LogDisk,
    /// What it found.
    pub(crate) recovered: Recovered,
}

impl OpenLog {
    /// Opens and recovers a log. Blocks until that is done.
    pub(crate) fn open(config: LogConfig, files: Files, clock: Clock) -> Result<Self, LogError> {
        let mut log = Log::new(config);
        let mut disk = LogDisk::new(files);
        loop {
            log.pump(clock.now(), &mut disk);
            let Some((id, result)) = disk.done.pop_front() else {
                unreachable!("a log that is being recovered waits for its disk");
            };
            log.on_io(clock.now(), id, result);
            let mut recovered = None;
            for event in log.take_events() {
                match event {
                    Event::Recovered(found) => recovered = Some(found),
                    Event::Notice(text) => tracing::info!("{text}"),
                    Event::Fatal(error) => return Err(error),
                    Event::Note { .. } | Event::ControlDurable { .. } => {
                        unreachable!("a log tells of nothing before it is recovered")
                    }
                }
            }
            if let Some(recovered) = recovered {
                return Ok(Self { log, disk, recovered: *recovered });
            }
        }
    }

    /// The files, for the readers.
    pub(crate) fn files(&self) -> Files {
        self.disk.files()
    }

    /// Takes out what was found.
    pub(crate) fn take_recovered(&mut self) -> Recovered {
        std::mem::take(&mut self.recovered)
    }
}

/// Serves the log until the node ends. Blocks.
pub(crate) fn run(shared: &Arc<Shared>, open: OpenLog, elsewhere: Sender<(IoId, DiskOp)>) {
    *shared.log.seat() = Some(LogSeat::new(open.log, open.disk, elsewhere));
    let mut letters = Vec::new();
    while !shared.has_ended() {
        let patience = {
            let mut seat = shared.log.seat();
            let seat = seat.as_mut().expect("nobody else takes the log away");
            letters.append(&mut shared.log.waiting().letters);
            if !seat.drive(shared, &mut letters) {
                break;
            }
            seat.patience(shared.clock)
        };
        shared.log.wait(shared, patience);
    }
    shared.log.close();
}

/// Does the slow work of the log until the node ends. Blocks.
pub(crate) fn run_elsewhere(
    shared: &Arc<Shared>,
    files: &Files,
    work: &Receiver<(IoId, DiskOp)>,
    mut injection: Injection,
) {
    while let Ok((id, op)) = work.recv() {
        if shared.has_ended() {
            return;
        }
        let before = injection.skipped();
        let instead = injection.instead(&op, &shared.debug_writes);
        if let Some(file) = injection.skipped().filter(|_| before != injection.skipped()) {
            tracing::warn!(node = %shared.name, "{file} stays empty, as debug asked for");
        }
        let result = instead.map_or_else(|| files.perform(op), Ok);
        shared.log.post(LogMail::Done(id, result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that refused its cluster took half a minute to end: it waited for a log thread that
    /// had ended between its question and the answer.
    #[test]
    fn whoever_waits_for_a_log_that_has_ended_hears_of_it_at_once() {
        let queue = LogQueue::default();
        let before = queue.finish();
        queue.close();
        assert_eq!(before.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        assert_eq!(queue.finish().try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }
}
