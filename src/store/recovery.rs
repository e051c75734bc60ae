//! Reads everything that the disk holds, and puts right what a crash left unfinished.
//!
//! One operation at a time: the list of files, MANIFEST, each segment, then zeros over an
//! unfinished group, and away with files that no longer count. Nothing is written before everything
//! was read and understood, and damaged bytes are never overwritten. A segment in which something
//! is missing is read again until two readings are alike, because the fault may lie in the reading;
//! one that cannot be read as a whole is read piece by piece, and a piece that fails is a hole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::border::{DamagedRegion, LogConfig, LogError};
use super::codec::{to_u64, to_usize};
use super::disk::{DiskDone, DiskError, DiskOp, FileName, may_read_again};
use super::harvest::Harvest;
use super::scan::{self, Contents, Expected, Found};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, decode_manifest};
use super::summary::Summary;
use crate::marks::sometimes;
use crate::planted::{Bug, planted};

/// Bytes of a piece of a segment that cannot be read as a whole.
const PIECE_BYTES: u64 = 64 * 1024;
/// Bytes of zeros in one part of a write.
const ZEROS: &[u8] = &[0; 64 * 1024];

/// A recovery under way.
#[derive(Debug)]
pub(super) struct Recovery {
    config: LogConfig,
    step: Step,
    files: BTreeMap<FileName, u64>,
    /// Whether MANIFEST was there and whole; without it segments vouch for themselves.
    manifest: bool,
    /// Segments to be read, in the order of their numbers.
    waiting: VecDeque<Segment>,
    /// The newest segment read so far that was appended to and holds a record, and empty ones
    /// behind it: only what follows tells which of them is the newest.
    held: Vec<Scanned>,
    /// The number after the last record of the segments that were appended to.
    next_lsn: Option<u64>,
    segments: Vec<Recalled>,
    harvest: Harvest,
    /// Last groups, to be written once more. If the process ended because a sync failed, the kernel
    /// holds their pages as clean though the disk never got them: read back they look whole, and a
    /// sync alone would store nothing.
    last_groups: VecDeque<(FileName, u64, Bytes)>,
    /// Bytes of unfinished groups.
    torn: VecDeque<(FileName, Range<u64>)>,
    torn_bytes: u64,
    /// Files to be synced: a process that was killed may have left its last group in memory only.
    unsynced: BTreeSet<FileName>,
    strays: VecDeque<FileName>,
}

/// What is done next.
#[derive(Debug)]
enum Step {
    List,
    Manifest,
    Sidecar(Segment),
    Segment(Reading),
    Rewrite,
    Zero,
    Sync,
    SyncNames,
    Remove,
    SyncDir,
    Done,
}

/// A segment being read.
#[derive(Debug)]
struct Reading {
    segment: Segment,
    length: u64,
    /// What the first reading found, when it is read again.
    before: Option<Scanned>,
    /// How often something was missing.
    failed: u8,
    /// The pieces so far, when it cannot be read as a whole.
    pieces: Option<BytesMut>,
}

/// A segment that was read and is not understood yet.
#[derive(Debug)]
struct Scanned {
    segment: Segment,
    bytes: Bytes,
    found: Vec<Found>,
    damaged: bool,
}

/// A segment that was read and understood.
#[expect(clippy::struct_excessive_bools, reason = "each holds or not, whatever the others say")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Recalled {
    /// Which one.
    pub(super) segment: Segment,
    /// Where its records end.
    pub(super) end: u64,
    /// Whether something in it is damaged.
    pub(super) damaged: bool,
    /// Whether it can be appended to.
    pub(super) appendable: bool,
    /// Nobody knows how much is missing at its end.
    pub(super) open_ended: bool,
    /// Whether its sidecar says what it says.
    pub(super) has_sidecar: bool,
}

/// What a recovery found.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Segments, in the order of their numbers.
    pub(super) segments: Vec<Recalled>,
    /// What their records say.
    pub(super) harvest: Harvest,
    /// The number of the next record.
    pub(super) next_lsn: u64,
    /// The highest number that a file had.
    pub(super) last_number: u32,
    /// Bytes of unfinished groups that were cut off.
    pub(super) torn_bytes: u64,
}

impl Recovery {
    /// A recovery that has not begun.
    pub(super) fn new(config: LogConfig) -> Self {
        let harvest = Harvest::new(config.shards);
        Self {
            config,
            step: Step::List,
            files: BTreeMap::new(),
            manifest: false,
            waiting: VecDeque::new(),
            held: Vec::new(),
            next_lsn: None,
            segments: Vec::new(),
            harvest,
            last_groups: VecDeque::new(),
            torn: VecDeque::new(),
            torn_bytes: 0,
            unsynced: BTreeSet::new(),
            strays: VecDeque::new(),
        }
    }

    /// The operation to do now; `None` = recovery is done.
    pub(super) fn operation(&self) -> Option<DiskOp> {
        Some(match &self.step {
            Step::List => DiskOp::List,
            Step::Manifest => {
                let length = self.files.get(&FileName::Manifest).copied().unwrap_or(0);
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                DiskOp::Read { file: FileName::Manifest, offset: 0, length }
            }
            Step::Sidecar(segment) => {
                let file = FileName::Sidecar(segment.number);
                let length = self.files.get(&file).copied().unwrap_or(0);
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                DiskOp::Read { file, offset: 0, length }
            }
            Step::Segment(reading) => reading.operation(),
            Step::Rewrite => {
                let (file, offset, bytes) =
                    self.last_groups.front().expect("there is a last group");
                DiskOp::Write { file: *file, offset: *offset, parts: vec![bytes.clone()] }
            }
            Step::Zero => {
                let (file, torn) = self.torn.front().expect("there is a torn segment");
                let parts = zeros(torn.end - torn.start);
                DiskOp::Write { file: *file, offset: torn.start, parts }
            }
            Step::Sync => {
                DiskOp::Sync { file: *self.unsynced.first().expect("there is a file to sync") }
            }
            Step::Remove => {
                DiskOp::Remove { file: *self.strays.front().expect("there is a stray file") }
            }
            Step::SyncNames | Step::SyncDir => DiskOp::SyncDir,
            Step::Done => return None,
        })
    }

    /// Takes in what the operation returned.
    pub(super) fn on_done(&mut self, result: Result<DiskDone, DiskError>) -> Result<(), LogError> {
        let step = std::mem::replace(&mut self.step, Step::Done);
        match (step, result) {
            (Step::Segment(reading), result) => self.on_segment(reading, result)?,
            (Step::Sidecar(segment), result) => self.on_sidecar(segment, result),
            (Step::List, Ok(DiskDone::Files(files))) => {
                self.files = files.into_iter().collect();
                if self.files.contains_key(&FileName::Manifest) {
                    self.step = Step::Manifest;
                } else {
                    self.without_manifest();
                }
            }
            (Step::Manifest, Ok(DiskDone::Bytes(bytes))) => self.on_manifest(&bytes)?,
            (Step::Rewrite, Ok(_)) => {
                sometimes!("the last group was written once more");
                self.last_groups.pop_front();
                self.put_right();
            }
            (Step::Zero, Ok(_)) => {
                self.torn.pop_front();
                self.put_right();
            }
            (Step::Sync, Ok(_)) => {
                self.unsynced.pop_first();
                self.put_right();
            }
            (Step::Remove, Ok(_) | Err(DiskError::NotFound)) => {
                sometimes!("a stray file was taken away");
                self.strays.pop_front();
                self.step = if self.strays.is_empty() { Step::SyncDir } else { Step::Remove };
            }
            (Step::SyncNames, Ok(_)) if !self.strays.is_empty() => self.step = Step::Remove,
            (Step::SyncNames | Step::SyncDir | Step::Done, Ok(_)) => {}
            (step, Err(error)) => {
                let (doing, file) = self.describe(&step);
                return Err(LogError::Io { doing, file, error });
            }
            (step, Ok(_)) => unreachable!("the disk answers what it was asked in {step:?}"),
        }
        Ok(())
    }

    /// What was found, when there is nothing left to do.
    pub(super) fn into_outcome(self) -> Outcome {
        let numbers = self.files.keys().filter_map(|file| match file {
            FileName::Segment(number) | FileName::Prepared(number) | FileName::Sidecar(number) => {
                Some(*number)
            }
            FileName::Manifest | FileName::ManifestNew => None,
        });
        let listed = self.segments.iter().map(|recalled| recalled.segment.number);
        let last_number = numbers.chain(listed).max().unwrap_or(0);
        let mut segments = self.segments;
        segments.sort_unstable_by_key(|recalled| recalled.segment.number);
        Outcome {
            segments,
            harvest: self.harvest,
            next_lsn: self.next_lsn.unwrap_or(1),
            last_number,
            torn_bytes: self.torn_bytes,
        }
    }

    fn describe(&self, step: &Step) -> (&'static str, String) {
        let torn = || self.torn.front().map_or(String::new(), |torn| torn.0.to_string());
        match step {
            Step::List => ("listing", "the data directory".to_owned()),
            Step::Manifest => ("reading", FileName::Manifest.to_string()),
            Step::Sidecar(segment) => ("reading", FileName::Sidecar(segment.number).to_string()),
            Step::Segment(reading) => ("reading", reading.file().to_string()),
            Step::Rewrite => ("writing", "the last group of the log".to_owned()),
            Step::Zero => ("writing", torn()),
            Step::Sync => ("syncing", "a log segment".to_owned()),
            Step::Remove => {
                ("removing", self.strays.front().map_or(String::new(), ToString::to_string))
            }
            Step::SyncNames | Step::SyncDir | Step::Done => {
                ("syncing", "the data directory".to_owned())
            }
        }
    }

    fn on_manifest(&mut self, bytes: &Bytes) -> Result<(), LogError> {
        let Some(segments) = decode_manifest(bytes, self.config.node)? else {
            self.without_manifest();
            return Ok(());
        };
        self.manifest = true;
        self.waiting = segments.into();
        self.next_segment();
        Ok(())
    }

    /// Every segment file is read, and its header says what MANIFEST would have said.
    fn without_manifest(&mut self) {
        for (file, &bytes) in &self.files {
            if let FileName::Segment(number) = *file {
                let nothing = Segment { bytes, ..Segment::unknown(number) };
                self.waiting.push_back(nothing);
            }
        }
        self.next_segment();
    }

    fn next_segment(&mut self) {
        let Some(segment) = self.waiting.pop_front() else {
            self.on_all_read();
            return;
        };
        let Some(&length) = self.files.get(&FileName::Segment(segment.number)) else {
            self.harvest.report(&segment, 0..segment.bytes, "the file is missing");
            self.harvest.damage.unnamed = true;
            self.next_segment();
            return;
        };
        let is_full = segment.next != 0 && length == segment.bytes;
        let has_sidecar = self.files.contains_key(&FileName::Sidecar(segment.number));
        let may_trust = is_full || segment.next == 0 && planted(Bug::CheckpointNewerThanLog);
        self.step = if self.manifest && has_sidecar && may_trust {
            Step::Sidecar(segment)
        } else {
            Step::Segment(Reading { segment, length, before: None, failed: 0, pieces: None })
        };
    }

    /// Goes by a sidecar if it proves itself, else by its segment.
    fn on_sidecar(&mut self, segment: Segment, result: Result<DiskDone, DiskError>) {
        let summary = match result {
            Ok(DiskDone::Bytes(bytes)) => Summary::decode(&bytes, self.config.node, &segment),
            Ok(DiskDone::Done | DiskDone::Files(_) | DiskDone::Space { .. }) | Err(_) => None,
        };
        let is_full = segment.next != 0;
        let Some((summary, end)) = summary else {
            sometimes!("a sidecar was not believed");
            return self.read_segment(segment);
        };
        self.harvest.absorb(&segment, summary);
        if !is_full {
            return self.read_segment(segment);
        }
        sometimes!("a start went by a sidecar");
        if !segment.cold {
            self.release_held(segment.in_use());
            self.next_lsn = Some(segment.next);
        }
        self.segments.push(Recalled {
            segment,
            end,
            damaged: false,
            appendable: false,
            open_ended: false,
            has_sidecar: true,
        });
        self.next_segment();
    }

    fn read_segment(&mut self, segment: Segment) {
        let length = self.files.get(&FileName::Segment(segment.number)).copied().unwrap_or(0);
        self.step =
            Step::Segment(Reading { segment, length, before: None, failed: 0, pieces: None });
    }

    fn on_segment(
        &mut self,
        mut reading: Reading,
        result: Result<DiskDone, DiskError>,
    ) -> Result<(), LogError> {
        let whole = match (result, reading.pieces.take()) {
            (Ok(DiskDone::Bytes(bytes)), None) => Some(bytes),
            (_, None) => {
                reading.pieces = Some(BytesMut::new());
                None
            }
            (result, Some(mut pieces)) => {
                let end = pieces.len() + to_usize(reading.piece_bytes(to_u64(pieces.len())));
                if let Ok(DiskDone::Bytes(bytes)) = result {
                    pieces.extend_from_slice(&bytes);
                }
                // What cannot be read is a hole: zeros never verify.
                pieces.resize(end, 0);
                if to_u64(end) < reading.length {
                    reading.pieces = Some(pieces);
                    None
                } else {
                    Some(pieces.freeze())
                }
            }
        };
        let Some(bytes) = whole else {
            self.step = Step::Segment(reading);
            return Ok(());
        };
        self.on_bytes(reading, bytes)
    }

    fn on_bytes(&mut self, reading: Reading, bytes: Bytes) -> Result<(), LogError> {
        let Reading { mut segment, length, before, failed, .. } = reading;
        let header = Segment::decode_header(&bytes, segment.number, length, self.config.node)?;
        if !self.manifest {
            segment = header.unwrap_or(segment);
        }
        let whole = header.is_some_and(|header| header.salt == segment.salt);
        let found = scan::find(&bytes, segment.seed());
        let suspicious = !whole || scan::is_suspicious(&bytes, &found);
        let scanned = Scanned { segment, bytes, found, damaged: !whole };
        let failed = failed + u8::from(suspicious);
        let is_alike = before.as_ref().is_some_and(|before| before.bytes == scanned.bytes);
        // The reading that shows more is the better one: a record cannot verify by mistake.
        let better = match before {
            Some(before) if before.found.len() > scanned.found.len() => before,
            Some(_) | None => scanned,
        };
        if suspicious && !is_alike && may_read_again(failed) {
            sometimes!("a suspicious segment was read again");
            let before = Some(better);
            self.step = Step::Segment(Reading { segment, length, before, failed, pieces: None });
        } else {
            self.on_scanned(better);
        }
        Ok(())
    }

    fn on_scanned(&mut self, mut scanned: Scanned) {
        let segment = scanned.segment;
        if scanned.damaged {
            let header = 0..to_u64(SEGMENT_HEADER_BYTES);
            self.harvest.report(&segment, header, "the header does not verify");
            // Without the salt nothing in the file can verify.
            self.harvest.damage.unnamed |= !self.manifest;
        }
        let length = to_u64(scanned.bytes.len());
        if length < segment.bytes {
            self.harvest.report(&segment, length..segment.bytes, "the file is cut short");
            self.harvest.damage.unnamed |= segment.next == 0;
            scanned.damaged = true;
        }
        if segment.cold {
            let expected = Expected {
                first: Some(0),
                next: self.manifest.then_some(segment.next),
                newest: false,
            };
            self.understand(scanned, expected);
        } else {
            if !scanned.found.is_empty() {
                self.release_held(scanned.first());
            }
            self.held.push(scanned);
        }
        self.next_segment();
    }

    /// Understands the segments held: another that was appended to follows, from record `next`.
    fn release_held(&mut self, next: Option<u64>) {
        let mut held = std::mem::take(&mut self.held).into_iter().peekable();
        while let Some(scanned) = held.next() {
            let sealed = (scanned.segment.next != 0).then_some(scanned.segment.next);
            let follows = if held.peek().is_none() && self.manifest { next } else { None };
            let expected = Expected {
                first: self.first_of(&scanned),
                next: sealed.or(follows),
                newest: false,
            };
            self.understand(scanned, expected);
        }
    }

    /// The number of the first record that a segment must hold.
    fn first_of(&self, scanned: &Scanned) -> Option<u64> {
        let follows = if self.manifest { Some(self.next_lsn.unwrap_or(1)) } else { None };
        let found = scanned.found.first().map(|first| first.header.group());
        scanned.segment.in_use().or(follows).or(found)
    }

    fn on_all_read(&mut self) {
        let newest = self
            .held
            .iter()
            .rposition(|held| !held.found.is_empty() || held.segment.in_use().is_some());
        let mut empty = std::mem::take(&mut self.held);
        if let Some(newest) = newest {
            self.held = empty.drain(..newest).collect();
            let scanned = empty.remove(0);
            self.release_held(scanned.first());
            let first = self.first_of(&scanned);
            self.understand(scanned, Expected { first, next: None, newest: true });
        }
        for scanned in empty {
            self.understand(scanned, Expected { first: None, next: None, newest: true });
        }
        if !self.manifest {
            self.on_manifest_lost();
        }
        self.find_strays();
        self.put_right();
    }

    /// Without MANIFEST: either nothing was ever written here, or it is damaged too.
    fn on_manifest_lost(&mut self) {
        let blank = self.harvest.records == 0 && self.harvest.damage.is_none();
        if blank && !self.files.contains_key(&FileName::Manifest) {
            self.segments.clear();
        } else {
            self.harvest.damage.regions.push(DamagedRegion {
                file: FileName::Manifest,
                offset: 0,
                length: self.files.get(&FileName::Manifest).copied().unwrap_or(0),
                reason: "is missing or does not verify; every segment found was read instead",
            });
        }
    }

    fn understand(&mut self, scanned: Scanned, expected: Expected) {
        let Scanned { mut segment, bytes, found, damaged } = scanned;
        let contents = scan::resolve(&segment, &bytes, found, expected);
        self.harvest.take(&segment, &bytes, &contents);
        let spare = expected.first.is_none() && expected.newest;
        let cut_short = to_u64(bytes.len()) < segment.bytes;
        let open_ended = cut_short && segment.next == 0;
        if !segment.cold && !spare {
            let first = expected.first.or_else(|| first_lsn(&contents));
            self.next_lsn = contents.next.or(self.next_lsn);
            segment.first = first.or(self.next_lsn).unwrap_or(1);
            if !expected.newest && !open_ended {
                segment.next = self.next_lsn.unwrap_or(1);
            }
        } else if segment.cold {
            segment.next = contents.next.unwrap_or(segment.next);
        }
        if expected.newest {
            let file = FileName::Segment(segment.number);
            self.unsynced.insert(file);
            let start = contents.last_group();
            if start < contents.end {
                let group = bytes.slice(to_usize(start)..to_usize(contents.end));
                self.last_groups.push_back((file, start, group));
            }
        }
        if let Some(torn) = contents.torn {
            sometimes!("a torn tail was cut off");
            self.torn_bytes += torn.end - torn.start;
            self.torn.push_back((FileName::Segment(segment.number), torn));
        }
        self.segments.push(Recalled {
            segment,
            end: contents.end,
            damaged: damaged || !contents.regions.is_empty(),
            appendable: contents.appendable && !damaged && !cut_short,
            open_ended,
            has_sidecar: false,
        });
    }

    fn find_strays(&mut self) {
        let listed: BTreeSet<u32> =
            self.segments.iter().map(|recalled| recalled.segment.number).collect();
        let believed: BTreeSet<u32> = self
            .segments
            .iter()
            .filter(|recalled| recalled.has_sidecar)
            .map(|recalled| recalled.segment.number)
            .collect();
        let is_stray = |file: &FileName| match file {
            FileName::Segment(number) => !listed.contains(number),
            FileName::Prepared(_) | FileName::ManifestNew => true,
            FileName::Sidecar(number) => !believed.contains(number),
            FileName::Manifest => false,
        };
        self.strays = self.files.keys().copied().filter(is_stray).collect();
    }

    fn put_right(&mut self) {
        self.step = if !self.last_groups.is_empty() {
            Step::Rewrite
        } else if !self.torn.is_empty() {
            Step::Zero
        } else if !self.unsynced.is_empty() {
            Step::Sync
        } else if planted(Bug::StraysRemovedFirst) && !self.strays.is_empty() {
            Step::Remove
        } else {
            // Whoever died here may have left names that are on no disk yet, that of MANIFEST too:
            // no stray goes before it is certain that nothing will list it again, and nothing is
            // written to a segment of which the next start may not know.
            Step::SyncNames
        };
    }
}

impl Scanned {
    /// The number of its first record, if that is known for certain.
    fn first(&self) -> Option<u64> {
        let start = to_u64(SEGMENT_HEADER_BYTES);
        let found = self.found.first().filter(|first| first.offset == start);
        self.segment.in_use().or(found.map(|first| first.header.lsn))
    }
}

impl Reading {
    fn file(&self) -> FileName {
        FileName::Segment(self.segment.number)
    }

    /// Bytes of the piece at `offset`.
    fn piece_bytes(&self, offset: u64) -> u64 {
        PIECE_BYTES.min(self.length - offset)
    }

    fn operation(&self) -> DiskOp {
        let (offset, length) = match &self.pieces {
            None => (0, self.length),
            Some(pieces) => {
                let offset = to_u64(pieces.len());
                (offset, self.piece_bytes(offset))
            }
        };
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        DiskOp::Read { file: self.file(), offset, length }
    }
}

fn first_lsn(contents: &Contents) -> Option<u64> {
    contents.records.first().map(|record| record.header.lsn)
}

fn zeros(bytes: u64) -> Vec<Bytes> {
    let whole = Bytes::from_static(ZEROS);
    let mut left = to_usize(bytes);
    let mut parts = Vec::new();
    while left > 0 {
        let part = whole.slice(..left.min(whole.len()));
        left -= part.len();
        parts.push(part);
    }
    parts
}
