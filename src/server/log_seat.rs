//! The log with its disk, as whoever holds it drives it: the log thread, or a shard.
//!
//! What clients wait for is done at once; slow work on other files (segments being prepared,
//! compaction) goes to a thread of its own. Invariant: a shard never waits for a sync here; one
//! that is due is left to the log thread.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Failure;
use super::clock::Clock;
use super::control::ControlMail;
use super::files::{DiskResult, Files};
use super::log_thread::LogMail;
use super::shard_thread::Mail;
use super::shared::Shared;
use crate::shard::ShardId;
use crate::store::{Disk, DiskOp, Event, FileName, IoId, Log, LogBatch};
use crate::time::Mono;

/// While the log is busy its status is shown this often, in milliseconds: it is a sum over all
/// segments.
const STATUS_MS: u64 = 20;

/// The disk of the log.
#[derive(Debug)]
pub(super) struct LogDisk {
    files: Files,
    pub(super) done: VecDeque<(IoId, DiskResult)>,
    /// Where everything else goes; `None` = it is done at once too.
    elsewhere: Option<Sender<(IoId, DiskOp)>>,
    /// Who drives the log now must not wait for a sync.
    leaves_syncs: bool,
    /// The syncs that were left.
    left: Vec<(IoId, DiskOp)>,
}

/// The log and its disk, which one thread at a time drives.
#[derive(Debug)]
pub(super) struct LogSeat {
    log: Log,
    disk: LogDisk,
    /// Who waits until the log is at rest.
    finishing: Vec<Sender<()>>,
    /// When the log thread looks again by itself; `None` = when its bell rings.
    next_look: Option<Mono>,
    /// When the status is shown again.
    status_due: Mono,
}

impl LogDisk {
    /// A disk that does everything at once.
    pub(super) fn new(files: Files) -> Self {
        let (done, left) = (VecDeque::new(), Vec::new());
        Self { files, done, elsewhere: None, leaves_syncs: false, left }
    }

    /// Its files.
    pub(super) fn files(&self) -> Files {
        self.files.clone()
    }
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
            Some(_) if self.leaves_syncs && matches!(op, DiskOp::Sync { .. }) => {
                self.left.push((id, op));
            }
            Some(_) | None => self.done.push_back((id, self.files.perform(op))),
        }
    }
}

impl LogSeat {
    /// A log that is open, and the thread that does its slow work.
    pub(super) fn new(log: Log, mut disk: LogDisk, elsewhere: Sender<(IoId, DiskOp)>) -> Self {
        disk.elsewhere = Some(elsewhere);
        let (finishing, next_look) = (Vec::new(), None);
        Self { log, disk, finishing, next_look, status_due: Mono::default() }
    }

    /// Gives the log what came for it, the oldest first, and does what can be done now, syncs too.
    /// Returns whether the node goes on.
    pub(super) fn drive(&mut self, shared: &Shared, letters: &mut Vec<LogMail>) -> bool {
        for (id, sync) in self.disk.left.drain(..) {
            self.disk.done.push_back((id, self.disk.files.perform(sync)));
        }
        for letter in letters.drain(..) {
            match letter {
                LogMail::Batch(from, batch) => self.log.hand(from, batch),
                LogMail::Control(records) => {
                    for (seq, record) in records {
                        self.log.hand_control(seq, record);
                    }
                }
                LogMail::Done(id, result) => self.disk.done.push_back((id, result)),
                LogMail::Finish(sender) => self.finishing.push(sender),
            }
        }
        let goes_on = self.advance(shared);
        let now = shared.clock.mono();
        if now >= self.status_due || self.log.is_idle() {
            show(shared, &self.log);
            self.status_due = now.plus_ms(STATUS_MS);
        }
        if self.log.is_idle() {
            for sender in self.finishing.drain(..) {
                let _ = sender.send(());
            }
        }
        goes_on
    }

    /// Lets a shard write its batch. Returns whether the log thread has something to do now that
    /// it does not know of.
    pub(super) fn drive_for(&mut self, shared: &Shared, shard: ShardId, batch: LogBatch) -> bool {
        self.log.hand(shard, batch);
        self.disk.leaves_syncs = true;
        // A node that cannot go on says so to all of its threads.
        self.advance(shared);
        self.disk.leaves_syncs = false;
        let due = self.log.deadline();
        let is_sooner = due.is_some_and(|at| self.next_look.is_none_or(|look| at < look));
        if is_sooner {
            self.next_look = due;
        }
        is_sooner || !self.disk.left.is_empty() || !self.finishing.is_empty()
    }

    /// For how long the log thread may sleep; `None` = until its bell rings.
    pub(super) fn patience(&mut self, clock: Clock) -> Option<Duration> {
        self.next_look = self.log.deadline();
        self.next_look.map(|at| Duration::from_micros(at.0.saturating_sub(clock.mono().0)))
    }

    /// Does what can be done at once, and hands out what follows from it.
    fn advance(&mut self, shared: &Shared) -> bool {
        loop {
            self.log.pump(shared.clock.now(), &mut self.disk);
            if !deliver(shared, &mut self.log) {
                return false;
            }
            let Some((id, result)) = self.disk.done.pop_front() else { return true };
            self.log.on_io(shared.clock.now(), id, result);
        }
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
fn show(shared: &Shared, log: &Log) {
    let status = log.status();
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
    *shared.log_status.lock().unwrap_or_else(PoisonError::into_inner) = status;
}
