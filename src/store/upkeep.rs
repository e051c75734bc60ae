//! What the log does besides appending: prepares segments, writes MANIFEST, removes files, watches
//! the space, and lets compaction go on. One operation at a time, the most urgent first.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::Rng as _;

use super::border::{LogError, LogNote};
use super::codec::to_u64;
use super::compact::Compaction;
use super::disk::{DiskDone, DiskError, DiskOp, FileName};
use super::log::{Held, Log};
use super::place::{SEGMENT_BYTES_MAX, SEGMENT_MAX};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, encode_manifest};
use super::survey::{Scrub, Survey};
use crate::limits::RESERVE_SEGMENTS;
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::{Mono, Now};

/// Bytes that one step of a compaction or a survey reads or writes: writes of clients wait for no
/// more than what is done with these, which takes well under a millisecond.
pub(super) const SLICE_BYTES: usize = 64 * 1024;
/// After each such step nothing of the kind is done for so many times the time that it took, ...
const REST_TIMES: u64 = 3;
/// ... but not for longer than this, in milliseconds.
const REST_MS_MAX: u64 = 50;
/// Segments that are filled, kept ready, read and written at a time.
const PRESSED_SEGMENTS: u64 = 4;
/// Bytes that the scrub reads in a second at most.
const SCRUB_BYTES_A_SECOND: u64 = 5 * 1024 * 1024;
/// Files are made in whole pages.
const PAGE_BYTES: u64 = 4096;
/// Time between two looks at the free space, and before another try when there was none, in
/// milliseconds.
const SPACE_MS: u64 = 1_000;
/// New values are refused when less than one part in this many of the file system is free, ...
const FREE_SHARE: u64 = 20;
/// ... but a large disk need not keep more than this free, in bytes.
const FREE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Work that nobody waits for.
#[expect(clippy::struct_excessive_bools, reason = "each is a thing to do, and any may be due")]
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    task: Task,
    /// MANIFEST does not say what is.
    pub(super) dirty: bool,
    /// Bytes of the segment that a group waits for; 0 = any will do.
    wanted: u64,
    /// Segments that are not to be listed any more, and removed once they are not.
    doomed: Vec<u32>,
    removable: VecDeque<FileName>,
    /// After a removal names are put on stable storage.
    names_unsynced: bool,
    /// A segment was removed since then.
    freed: bool,
    /// There was no room for MANIFEST.
    manifest_waits: bool,
    /// A prepared file that could not be finished.
    unfinished: Option<u32>,
    /// When to try again what found no space.
    retry_at: Option<Mono>,
    space_due: Mono,
    groups_at_look: u64,
    pub(super) compaction: Option<Compaction>,
    pub(super) survey: Option<Survey>,
    pub(super) scrub: Scrub,
    /// When the step under way of a compaction or a survey was begun.
    begun: Mono,
    /// Until when there is none.
    rests_until: Option<Mono>,
}

/// What is under way.
#[derive(Debug, Default)]
enum Task {
    #[default]
    None,
    Prepare(Segment, FileStep),
    Manifest(Vec<u32>, Bytes, FileStep),
    Remove(FileName),
    SyncDir,
    Space,
    Compact,
    Survey,
}

/// How a file comes into being: under another name, whole and synced, then renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileStep {
    /// Room is made for it.
    Create,
    /// Its contents, or their beginning.
    Write,
    /// To stable storage.
    Sync,
    /// It gets its name.
    Rename,
    /// And its name too.
    SyncDir,
}

impl FileStep {
    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Create => Some(Self::Write),
            Self::Write => Some(Self::Sync),
            Self::Sync => Some(Self::Rename),
            Self::Rename if planted(Bug::DirectoryNotSynced) => None,
            Self::Rename => Some(Self::SyncDir),
            Self::SyncDir => None,
        }
    }

    /// The operation of this step for a file that is made as `from` and named `to`.
    pub(super) fn operation(
        self,
        from: FileName,
        to: FileName,
        bytes: u64,
        contents: impl FnOnce() -> Bytes,
    ) -> DiskOp {
        match self {
            Self::Create => DiskOp::Create { file: from, bytes },
            Self::Write => DiskOp::Write { file: from, offset: 0, parts: vec![contents()] },
            Self::Sync => DiskOp::Sync { file: from },
            Self::Rename => DiskOp::Rename { from, to },
            Self::SyncDir => DiskOp::SyncDir,
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Create => "creating",
            Self::Write => "writing",
            Self::Sync => "syncing",
            Self::Rename => "renaming",
            Self::SyncDir => "syncing the directory of",
        }
    }
}

impl Upkeep {
    /// Whether no operation is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.task, Task::None)
    }

    /// A group needs a segment of `bytes` bytes.
    pub(super) fn want(&mut self, bytes: u64) {
        self.wanted = self.wanted.max(bytes);
    }

    /// Whether every file that was given up is gone for good.
    pub(super) fn is_tidy(&self) -> bool {
        self.doomed.is_empty() && self.removable.is_empty() && !self.names_unsynced
    }

    /// A file is removed soon: nothing lists it.
    pub(super) fn remove(&mut self, file: FileName) {
        self.removable.push_back(file);
    }

    fn may_try(&self, now: Now) -> bool {
        self.retry_at.is_none_or(|at| at <= now.mono)
    }
}

impl Log {
    /// The next operation of the upkeep.
    pub(super) fn begin_upkeep(&mut self, now: Now) -> Option<DiskOp> {
        if matches!(self.upkeep.task, Task::None) {
            self.upkeep.task = self.choose_task(now);
        }
        match &self.upkeep.task {
            Task::None => None,
            Task::Prepare(segment, step) => {
                let from = FileName::Prepared(segment.number);
                let to = FileName::Segment(segment.number);
                let header = || segment.encode_header(self.config.node, now.unix_ms).into();
                Some(step.operation(from, to, segment.bytes, header))
            }
            Task::Manifest(_, bytes, step) => {
                let (from, to) = (FileName::ManifestNew, FileName::Manifest);
                Some(step.operation(from, to, to_u64(bytes.len()), || bytes.clone()))
            }
            Task::Remove(file) => Some(DiskOp::Remove { file: *file }),
            Task::SyncDir => Some(DiskOp::SyncDir),
            Task::Space => Some(DiskOp::Space),
            Task::Compact => self.compaction_operation(now),
            Task::Survey => self.survey_operation(),
        }
    }

    /// The operation of the upkeep has returned.
    pub(super) fn on_upkeep(
        &mut self,
        now: Now,
        result: Result<DiskDone, DiskError>,
    ) -> Result<(), LogError> {
        match (std::mem::take(&mut self.upkeep.task), result) {
            (Task::Compact, result) => {
                self.rest(now, 0);
                self.on_compacted(now, result)?;
            }
            (Task::Survey, result) => {
                let is_scrub = self.upkeep.survey.as_ref().is_some_and(Survey::is_scrub);
                self.rest(now, if is_scrub { SLICE_BYTES } else { 0 });
                self.on_surveyed(now, result)?;
            }
            (Task::Prepare(segment, _), Err(DiskError::Full)) => {
                if self.segments.is_empty() {
                    return Err(LogError::NoRoom { bytes: segment.bytes });
                }
                self.on_no_space(now, Some(segment.number));
            }
            (Task::Manifest(..), Err(DiskError::Full)) => {
                self.upkeep.dirty = true;
                self.upkeep.manifest_waits = true;
                self.on_no_space(now, None);
            }
            (Task::Prepare(segment, step), Ok(_)) => match step.next() {
                Some(next) => self.upkeep.task = Task::Prepare(segment, next),
                None => self.on_prepared(segment, now),
            },
            (Task::Manifest(listed, bytes, step), Ok(_)) => match step.next() {
                Some(next) => self.upkeep.task = Task::Manifest(listed, bytes, next),
                None => self.on_listed(&listed),
            },
            (Task::SyncDir, Ok(_)) => {
                self.upkeep.names_unsynced = false;
                self.upkeep.space_due = now.mono;
                if self.upkeep.freed {
                    // There is room now for what found none.
                    self.upkeep.freed = false;
                    self.upkeep.retry_at = None;
                }
            }
            (Task::Space, Ok(DiskDone::Space { free, total })) => self.on_space(now, free, total),
            (Task::Remove(_), Err(DiskError::NotFound))
            | (Task::None | Task::Remove(_) | Task::Space, Ok(_)) => {}
            (task, Err(error)) => return Err(task.failure(error)),
        }
        Ok(())
    }

    /// When the upkeep has something to do though nothing happens.
    pub(super) fn upkeep_deadline(&self) -> Option<Mono> {
        let space = self.looks_at_space().then_some(self.upkeep.space_due);
        let job = self.upkeep.rests_until.or(self.scrub_deadline());
        // A job waits for room too.
        let job = job.map(|at| self.upkeep.retry_at.map_or(at, |retry_at| at.max(retry_at)));
        [space, self.upkeep.retry_at, job].into_iter().flatten().min()
    }

    /// Whether the free space is watched: it may have changed.
    fn looks_at_space(&self) -> bool {
        self.full || self.status.groups != self.upkeep.groups_at_look
    }

    /// After a step of a compaction or a survey, the disk is left to those who wait for it; unless
    /// space gets scarce. The scrub of `scrubbed` bytes takes its time in any case.
    fn rest(&mut self, now: Now, scrubbed: usize) {
        let took_us = now.mono.0.saturating_sub(self.upkeep.begun.0);
        let rest_us = if self.is_pressed() { 0 } else { took_us * REST_TIMES };
        let scrub_us = to_u64(scrubbed) * 1_000_000 / SCRUB_BYTES_A_SECOND;
        let rest_us = rest_us.min(REST_MS_MAX * 1_000).max(scrub_us);
        self.upkeep.rests_until = (rest_us > 0).then_some(Mono(now.mono.0 + rest_us));
    }

    /// Whether dead records take more room than they should: as much as live ones, beside what is
    /// being filled, kept ready and compacted.
    fn is_pressed(&self) -> bool {
        let segments = self.segments.values();
        let used: u64 = segments.clone().map(|held| held.segment.bytes).sum();
        let live: u64 = segments.map(|held| held.live).sum();
        self.full || used > 2 * live + PRESSED_SEGMENTS * self.config.segment_bytes
    }

    /// A segment is given up: it is removed as soon as MANIFEST lists it no more.
    pub(super) fn doom(&mut self, number: u32) {
        if self.segments.remove(&number).is_some_and(|held| held.sidecar) {
            self.upkeep.remove(FileName::Sidecar(number));
        }
        self.filters.remove(&number);
        self.upkeep.doomed.push(number);
        self.upkeep.dirty = true;
    }

    /// The number of a new segment file.
    pub(super) fn new_number(&mut self) -> Result<u32, LogError> {
        if self.last_number >= SEGMENT_MAX {
            return Err(LogError::Worn);
        }
        self.last_number += 1;
        Ok(self.last_number)
    }

    /// What makes the checksums of a new segment.
    pub(super) fn new_salt(&mut self) -> u32 {
        self.rng.next_u32()
    }

    /// There was no room for a file; what was made of it goes away again.
    pub(super) fn on_no_space(&mut self, now: Now, unfinished: Option<u32>) {
        self.upkeep.retry_at = Some(now.mono.plus_ms(SPACE_MS));
        self.upkeep.unfinished = unfinished;
        self.set_full(true);
    }

    fn choose_task(&mut self, now: Now) -> Task {
        if let Some(number) = self.upkeep.unfinished.take() {
            self.upkeep.names_unsynced = true;
            return Task::Remove(FileName::Prepared(number));
        }
        if self.upkeep.may_try(now) {
            self.upkeep.retry_at = None;
            self.upkeep.manifest_waits = false;
        }
        // It is short, and what it lists no more can be removed: it does not wait for room.
        if self.upkeep.dirty && !self.upkeep.manifest_waits {
            return self.begin_manifest();
        }
        if self.upkeep.may_try(now)
            && let Some(task) = self.begin_prepare()
        {
            return task;
        }
        if let Some(file) = self.upkeep.removable.pop_front() {
            self.upkeep.names_unsynced = true;
            self.upkeep.freed = true;
            return Task::Remove(file);
        }
        if self.upkeep.names_unsynced {
            return Task::SyncDir;
        }
        let looks = self.looks_at_space() || self.upkeep.retry_at.is_some();
        if looks && self.upkeep.space_due <= now.mono {
            self.upkeep.space_due = now.mono.plus_ms(SPACE_MS);
            self.upkeep.groups_at_look = self.status.groups;
            return Task::Space;
        }
        self.choose_job(now)
    }

    /// Sidecars first: there is one to make for each segment, and starts wait for them. The scrub
    /// comes last: it has no end.
    fn choose_job(&mut self, now: Now) -> Task {
        if self.upkeep.rests_until.is_some_and(|at| at > now.mono) || !self.upkeep.may_try(now) {
            return Task::None;
        }
        self.upkeep.rests_until = None;
        let task = if self.sidecar_is_due() {
            Task::Survey
        } else if self.compaction_has_work() {
            Task::Compact
        } else if self.scrub_is_due(now) {
            Task::Survey
        } else {
            Task::None
        };
        self.upkeep.begun = now.mono;
        task
    }

    /// Prepares a segment unless one is there.
    fn begin_prepare(&mut self) -> Option<Task> {
        let wanted = self.upkeep.wanted;
        let fits = |held: &Held| held.spare && !held.damaged && held.segment.bytes >= wanted;
        if self.segments.values().any(fits) {
            self.upkeep.wanted = 0;
            return None;
        }
        let bytes = self.config.segment_bytes.max(wanted).next_multiple_of(PAGE_BYTES);
        assert!(bytes <= SEGMENT_BYTES_MAX, "what is not durable fits a segment");
        let number = match self.new_number() {
            Ok(number) => number,
            Err(error) => {
                self.fail(error);
                return None;
            }
        };
        let salt = self.new_salt();
        let least_lsn = self.next_lsn;
        let segment = Segment { number, salt, cold: false, bytes, first: 0, next: 0, least_lsn };
        Some(Task::Prepare(segment, FileStep::Create))
    }

    fn on_prepared(&mut self, segment: Segment, now: Now) {
        self.segments.insert(
            segment.number,
            Held {
                segment,
                end: to_u64(SEGMENT_HEADER_BYTES),
                live: 0,
                damaged: false,
                listed: false,
                spare: true,
                sidecar: false,
            },
        );
        self.upkeep.dirty = true;
        self.upkeep.space_due = now.mono;
    }

    fn begin_manifest(&mut self) -> Task {
        self.upkeep.dirty = false;
        let bytes = encode_manifest(self.config.node, &self.listable());
        let listed = self.listable().iter().map(|segment| segment.number).collect();
        Task::Manifest(listed, bytes.into(), FileStep::Create)
    }

    /// What MANIFEST is to list: not what a compaction wrote before everything it relies on stays.
    fn listable(&self) -> Vec<&Segment> {
        let written = self.upkeep.compaction.as_ref().and_then(Compaction::written);
        let segments = self.segments.values().map(|held| &held.segment);
        segments.filter(|segment| Some(segment.number) != written).collect()
    }

    fn on_listed(&mut self, listed: &[u32]) {
        for number in listed {
            if let Some(held) = self.segments.get_mut(number) {
                held.listed = true;
            }
        }
        let (still, gone): (Vec<u32>, Vec<u32>) =
            self.upkeep.doomed.drain(..).partition(|number| listed.contains(number));
        self.upkeep.doomed = still;
        self.upkeep.removable.extend(gone.into_iter().map(FileName::Segment));
    }

    fn on_space(&mut self, now: Now, free: u64, total: u64) {
        // One segment for deletes, one for what a compaction writes, and the list of both: without
        // a new MANIFEST no old segment may go, and the disk would stay full.
        let manifest = to_u64(encode_manifest(self.config.node, &self.listable()).len());
        let reserve = RESERVE_SEGMENTS * self.config.segment_bytes + 2 * manifest + PAGE_BYTES;
        let share = (total / FREE_SHARE).min(FREE_BYTES_MAX);
        self.upkeep.space_due = now.mono.plus_ms(SPACE_MS);
        self.set_full(free < reserve.max(share));
    }

    fn set_full(&mut self, full: bool) {
        if full != self.full {
            sometimes!("the disk was full", full);
            sometimes!("a full disk had room again", !full);
            self.full = full;
            self.notify_all(&LogNote::Space { full });
        }
    }
}

impl Task {
    fn failure(&self, error: DiskError) -> LogError {
        let (doing, file) = match self {
            Self::Prepare(segment, step) => {
                (step.doing(), FileName::Prepared(segment.number).to_string())
            }
            Self::Manifest(_, _, step) => (step.doing(), FileName::ManifestNew.to_string()),
            Self::Remove(file) => ("removing", file.to_string()),
            Self::None | Self::SyncDir | Self::Space | Self::Compact | Self::Survey => {
                ("syncing or measuring", "the data directory".to_owned())
            }
        };
        LogError::Io { doing, file, error }
    }
}
