//! The log thread: one writer and one sync for all shards and the control plane.
//!
//! It takes everything that waits, lets the log write and sync it as one group, and meanwhile more
//! gathers: so groups grow with the load, without any timer. What clients wait for runs inline;
//! slow work on other files (segments being prepared, compaction) runs on a thread of its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Failure;
use super::clock::Clock;
use super::control::ControlMail;
use super::files::{DiskResult, Files};
use super::injection::Injection;
use super::shard_thread::Mail;
use super::shared::Shared;
use crate::cluster::ControlRecord;
use crate::shard::{Seq, ShardId};
use crate::store::{
    Disk, DiskOp, Event, FileName, IoId, Log, LogBatch, LogConfig, LogError, LogStatus, Recovered,
};
use crate::time::Mono;

/// While the log is busy its status is shown this often, in milliseconds: it is a sum over all
/// segments.
const STATUS_MS: u64 = 20;

/// What waits for the log thread.
#[derive(Debug, Default)]
pub(crate) struct LogQueue {
    waiting: Mutex<Vec<LogMail>>,
    bell: Condvar,
    /// The thread has ended: nobody reads what is posted. Read and set under the lock.
    is_closed: AtomicBool,
}

#[derive(Debug)]
enum LogMail {
    Batch(ShardId, LogBatch),
    Control(Vec<(Seq, ControlRecord)>),
    Done(IoId, DiskResult),
    /// Tell when everything before this is durable.
    Finish(Sender<()>),
}

impl LogQueue {
    /// The puts of one turn of a shard.
    pub(crate) fn put(&self, shard: ShardId, batch: LogBatch) {
        self.post(LogMail::Batch(shard, batch));
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

    /// Wakes the thread, to see that the node has ended.
    pub(crate) fn wake(&self) {
        drop(self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_one();
    }

    fn post(&self, letter: LogMail) {
        let first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.is_closed.load(Ordering::Relaxed) {
                // Dropping it tells whoever waits for an answer that none will come.
                return;
            }
            waiting.push(letter);
            waiting.len() == 1
        };
        if first {
            self.bell.notify_one();
        }
    }

    /// The thread ends: whoever waits for it hears of that.
    fn close(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_closed.store(true, Ordering::Relaxed);
        waiting.clear();
    }

    /// Moves what waits into `letters`. Blocks while that is nothing, unless `idle` is false, the
    /// patience is over, or the node has ended.
    fn take(
        &self,
        letters: &mut Vec<LogMail>,
        shared: &Shared,
        idle: bool,
        patience: Option<Duration>,
    ) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while idle && waiting.is_empty() && !shared.has_ended() {
            let Some(patience) = patience else {
                waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.bell.wait_timeout(waiting, patience);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
            break;
        }
        letters.append(&mut waiting);
    }
}

/// The disk of the log: what clients wait for is done at once, the rest on another thread.
struct LogDisk {
    files: Files,
    done: VecDeque<(IoId, DiskResult)>,
    /// Where everything else goes; `None` = it is done at once too.
    elsewhere: Option<Sender<(IoId, DiskOp)>>,
}

impl Disk for LogDisk {
    fn submit(&mut self, id: IoId, op: DiskOp) {
        let urgent = match &op {
            // Only what is appended to is written under this name, the first time too.
            DiskOp::Write { file, .. } | DiskOp::Sync { file } => {
                matches!(file, FileName::Segment(_))
            }
            DiskOp::List
            | DiskOp::Create { .. }
            | DiskOp::Read { .. }
            | DiskOp::Rename { .. }
            | DiskOp::Remove { .. }
            | DiskOp::SyncDir
            | DiskOp::Space => false,
        };
        match &self.elsewhere {
            Some(elsewhere) if !urgent => {
                // The other thread is gone only when the node has ended.
                let _ = elsewhere.send((id, op));
            }
            Some(_) | None => self.done.push_back((id, self.files.perform(op))),
        }
    }
}

/// A log that has read what its files hold.
pub(crate) struct OpenLog {
    log: Log,
    files: Files,
    /// Completions that came after that.
    done: VecDeque<(IoId, DiskResult)>,
    /// What it found.
    pub(crate) recovered: Recovered,
}

impl OpenLog {
    /// Opens and recovers a log. Blocks until that is done.
    pub(crate) fn open(config: LogConfig, files: Files, clock: Clock) -> Result<Self, LogError> {
        let mut log = Log::new(config);
        let mut disk = LogDisk { files, done: VecDeque::new(), elsewhere: None };
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
                let LogDisk { files, done, .. } = disk;
                return Ok(Self { log, files, done, recovered: *recovered });
            }
        }
    }

    /// The files, for the readers.
    pub(crate) fn files(&self) -> Files {
        self.files.clone()
    }

    /// Takes out what was found.
    pub(crate) fn take_recovered(&mut self) -> Recovered {
        std::mem::take(&mut self.recovered)
    }
}

/// Serves the log until the node ends. Blocks.
pub(crate) fn run(shared: &Arc<Shared>, open: OpenLog, elsewhere: Sender<(IoId, DiskOp)>) {
    serve(shared, open, elsewhere);
    shared.log.close();
}

fn serve(shared: &Arc<Shared>, open: OpenLog, elsewhere: Sender<(IoId, DiskOp)>) {
    let OpenLog { mut log, files, done, .. } = open;
    let mut disk = LogDisk { files, done, elsewhere: Some(elsewhere) };
    let mut letters = Vec::new();
    let mut status_due = Mono::default();
    let mut finishing: Vec<Sender<()>> = Vec::new();
    loop {
        log.pump(shared.clock.now(), &mut disk);
        if !deliver(shared, &mut log) {
            return;
        }
        let now = shared.clock.mono();
        if now >= status_due || log.is_idle() {
            show(shared, &log.status());
            status_due = now.plus_ms(STATUS_MS);
        }
        if log.is_idle() {
            for sender in finishing.drain(..) {
                let _ = sender.send(());
            }
        }
        let patience = log.deadline().map(|at| until(at, shared.clock));
        shared.log.take(&mut letters, shared, disk.done.is_empty(), patience);
        if shared.has_ended() {
            return;
        }
        for letter in letters.drain(..) {
            match letter {
                LogMail::Batch(from, batch) => log.hand(from, batch),
                LogMail::Control(records) => {
                    for (seq, record) in records {
                        log.hand_control(seq, record);
                    }
                }
                LogMail::Done(id, result) => disk.done.push_back((id, result)),
                LogMail::Finish(sender) => finishing.push(sender),
            }
        }
        if let Some((id, result)) = disk.done.pop_front() {
            log.on_io(shared.clock.now(), id, result);
        }
    }
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

/// Hands out what the log tells; returns whether the node goes on.
fn deliver(shared: &Shared, log: &mut Log) -> bool {
    let events = log.take_events();
    if events.is_empty() {
        return true;
    }
    for event in events {
        match event {
            Event::Note { shard, note } => {
                shared.shards[usize::from(shard.0)].post(Mail::Logged(note), 0);
            }
            Event::ControlDurable { upto } => {
                shared.control.post(ControlMail::Durable(upto), 0);
            }
            Event::Notice(text) => tracing::info!(node = %shared.name, "{text}"),
            Event::Fatal(error) => {
                let text = format!("the log cannot go on: {error}");
                shared.fail(Failure { text, exit_code: 1 });
                return false;
            }
            Event::Recovered(_) => unreachable!("a log is recovered before its thread starts"),
        }
    }
    true
}

/// Lets others see what the log holds and has done.
fn show(shared: &Shared, status: &LogStatus) {
    let figure = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    shared.gauges.set([
        status.segments,
        status.file_bytes,
        status.live_bytes,
        status.appended_bytes,
        status.moved_bytes,
        status.compactions,
        u64::from(status.is_compacting),
        status.syncs,
        status.sidecars_due,
        status.surveyed_bytes,
        status.scrubs,
        status.damaged_regions,
        u64::from(status.full),
        status.records,
        figure(shared.memory.budget.total),
        figure(shared.memory.clients()),
        figure(shared.memory.stores()),
    ]);
    *shared.log_status.lock().unwrap_or_else(PoisonError::into_inner) = *status;
}

fn until(at: Mono, clock: Clock) -> Duration {
    Duration::from_micros(at.0.saturating_sub(clock.mono().0))
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
