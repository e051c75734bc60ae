//! Compaction: the live records of some segments move to a new one, sorted; the old ones go.
//!
//! A copy keeps its log sequence number and its dots, so "the highest number wins" stays true. What
//! the dropped records said of clocks is kept by a snapshot of the clocks of their partitions. The
//! steps are chosen so that a crash between any two of them leaves either the old file or the new
//! one in MANIFEST, and whichever it is holds everything:
//!
//! 1. read the segments in slices, and ask each shard which records its index points to;
//! 2. write those, sorted by partition and token, to a cold segment, sync it, name it;
//! 3. each shard swaps the places that still point to an old segment, and answers when no read is
//!    under way there;
//! 4. wait until whatever replaced the dropped records is on stable storage, and until a later
//!    record there proves it: damage to the last group of a log passes for a torn tail, and then
//!    the old records are all there is;
//! 5. list the new segment in MANIFEST and the old ones no more; then remove those.
//!
//! A segment in which anything is damaged is never compacted: its bytes are the proof.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::border::{Ask, Event, Liveness, LogError, LogNote, NewSegment};
use super::codec::to_u64;
use super::cold::{GROUP_RECORDS, Kept, Output};
use super::disk::{DiskDone, DiskError, DiskOp, FileName};
use super::index::mark_of;
use super::log::{Held, Log};
use super::place::Place;
use super::record::{Clocks, HEADER_BYTES, Header, Kind, decode_write, encode_clock, verify};
use super::segment::SEGMENT_HEADER_BYTES;
use super::stamps::{self, Stamped, decode_stamp};
use super::upkeep::{FileStep, SLICE_BYTES};
use crate::hash::{PartitionId, Token};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::shard::{Seq, ShardId};
use crate::time::Now;

/// Share of dead bytes, in percent, from which a segment is worth it.
const DEAD_PERCENT: u64 = 40;
/// The same while the disk is full.
const DEAD_PERCENT_FULL: u64 = 10;
/// A cold segment shorter than one part in this many of a full one is small; ...
const SMALL_SHARE: u64 = 4;
/// ... and so many small ones are made into one.
const SMALL_SEGMENTS: usize = 4;
/// Segments of one compaction.
const VICTIMS_MAX: usize = 32;

/// A compaction under way.
#[derive(Debug)]
pub(super) struct Compaction {
    victims: Vec<u32>,
    /// Which of them is being read.
    reading: usize,
    step: Step,
    kept: Vec<Kept>,
    /// Partitions of whose clock something is dropped that no other record says.
    partitions: BTreeSet<PartitionId>,
    clocks: Clocks,
    /// Stamps of records that are dropped.
    stamps: Vec<Stamped>,
    /// The clocks hold every record below this.
    clocks_lsn: Option<u64>,
    /// The new segment, once it is whole and has its name.
    written: Option<u32>,
}

#[derive(Debug)]
enum Step {
    /// Read the slice at `at`, at least `bytes` long.
    Read {
        at: u64,
        bytes: usize,
    },
    /// Wait for what the shards say of a slice, or of the clocks; then go on at `at`.
    Asking {
        at: u64,
        asked: BTreeMap<usize, Vec<Candidate>>,
    },
    /// Write the new segment.
    Create(Output, FileStep),
    Fill(Output),
    /// Wait for `left` answers of shards that have let go of an old segment.
    Releasing {
        left: usize,
    },
    /// Wait until everything handed before is in the log.
    Settling {
        handed: Vec<Seq>,
    },
    /// Wait until every record below `upto` is proved to be on stable storage.
    Proving {
        upto: u64,
    },
}

/// A record of which it is asked whether it is live.
#[derive(Debug)]
struct Candidate {
    kept: Kept,
    mark: u64,
    stamp: Option<Stamped>,
}

impl Log {
    /// Whether an operation of a compaction can begin, after beginning one that is worth it.
    pub(super) fn compaction_has_work(&mut self) -> bool {
        if self.upkeep.compaction.is_none() {
            let victims = self.victims();
            if victims.is_empty() {
                return false;
            }
            self.upkeep.compaction = Some(Compaction::new(victims));
        }
        let step = self.upkeep.compaction.as_ref().map(|compaction| &compaction.step);
        matches!(step, Some(Step::Read { .. } | Step::Create(..) | Step::Fill(_)))
    }

    /// The next operation of the compaction.
    pub(super) fn compaction_operation(&mut self, now: Now) -> Option<DiskOp> {
        let node = self.config.node;
        let compaction = self.upkeep.compaction.as_mut()?;
        let victim = compaction.victim();
        let Compaction { step, kept, .. } = compaction;
        match step {
            Step::Read { at, bytes } => {
                let length = u32::try_from(*bytes).expect("a slice is shorter than 4 GiB");
                Some(DiskOp::Read { file: FileName::Segment(victim), offset: *at, length })
            }
            Step::Create(output, step) => {
                let segment = output.segment;
                let from = FileName::Prepared(segment.number);
                let to = FileName::Segment(segment.number);
                let header = || segment.encode_header(node, now.unix_ms).into();
                Some(step.operation(from, to, segment.bytes, header))
            }
            Step::Fill(output) => {
                let offset = output.at;
                let parts = vec![output.write_group(kept, self.config.shards)];
                let file = FileName::Prepared(output.segment.number);
                Some(DiskOp::Write { file, offset, parts })
            }
            Step::Asking { .. }
            | Step::Releasing { .. }
            | Step::Settling { .. }
            | Step::Proving { .. } => None,
        }
    }

    /// The operation of the compaction has returned.
    pub(super) fn on_compacted(
        &mut self,
        now: Now,
        result: Result<DiskDone, DiskError>,
    ) -> Result<(), LogError> {
        let Some(mut compaction) = self.upkeep.compaction.take() else { return Ok(()) };
        let idle = Step::Asking { at: 0, asked: BTreeMap::new() };
        match (std::mem::replace(&mut compaction.step, idle), result) {
            (Step::Read { at, bytes: wanted }, Ok(DiskDone::Bytes(bytes))) => {
                self.on_slice(compaction, at, wanted, &bytes);
            }
            (Step::Read { .. }, _) => self.give_up(&compaction),
            (Step::Create(output, _) | Step::Fill(output), Err(DiskError::Full)) => {
                self.on_no_space(now, Some(output.segment.number));
            }
            (Step::Create(output, _) | Step::Fill(output), Err(error)) => {
                let file = FileName::Prepared(output.segment.number).to_string();
                return Err(LogError::Io { doing: "compacting into", file, error });
            }
            (Step::Create(output, FileStep::Write), Ok(_)) => {
                compaction.step = Step::Fill(output);
                self.upkeep.compaction = Some(compaction);
            }
            (Step::Create(output, FileStep::Sync), Ok(_)) if !output.is_written() => {
                compaction.step = Step::Fill(output);
                self.upkeep.compaction = Some(compaction);
            }
            (Step::Create(output, step), Ok(_)) => {
                match step.next() {
                    Some(next) => compaction.step = Step::Create(output, next),
                    None => compaction.step = self.publish(&mut compaction, output),
                }
                self.upkeep.compaction = Some(compaction);
            }
            (Step::Fill(mut output), Ok(_)) => {
                compaction.step = if output.is_sync_due(self.config.segment_bytes) {
                    Step::Create(output, FileStep::Sync)
                } else {
                    Step::Fill(output)
                };
                self.upkeep.compaction = Some(compaction);
            }
            (
                Step::Asking { .. }
                | Step::Releasing { .. }
                | Step::Settling { .. }
                | Step::Proving { .. },
                _,
            ) => unreachable!("only what was submitted returns"),
        }
        Ok(())
    }

    /// A shard says which records are live.
    pub(super) fn on_live(&mut self, shard: usize, records: &[Liveness], clocks: Clocks) {
        let Some(mut compaction) = self.upkeep.compaction.take() else { return };
        let Step::Asking { at, asked } = &mut compaction.step else {
            self.upkeep.compaction = Some(compaction);
            return;
        };
        compaction.clocks.extend(clocks);
        let at = *at;
        let answered = asked.remove(&shard).unwrap_or_default();
        let done = asked.is_empty();
        for (index, (candidate, liveness)) in answered.into_iter().zip(records).enumerate() {
            let kept = candidate.kept;
            let keep = match (kept.kind, liveness) {
                (Kind::Write, Liveness::Live) => index > 0 || !planted(Bug::CompactionDropsLive),
                (Kind::Forget, Liveness::Unknown) => self.may_matter(&compaction.victims, &kept),
                (_, Liveness::Live | Liveness::Replaced | Liveness::Unknown) => false,
            };
            sometimes!("a compaction dropped a dead record", !keep);
            if keep {
                let is_delete = kept.kind == Kind::Forget;
                sometimes!("a compaction kept a delete that still matters", is_delete);
                compaction.kept.push(kept.detached());
                continue;
            }
            if let Some(stamped) = candidate.stamp {
                stamps::keep(&mut compaction.stamps, stamped);
            }
            if !self.clock_covers(kept.partition, kept.lsn) {
                compaction.partitions.insert(kept.partition);
            }
        }
        if done {
            compaction.step = self.after_slice(&mut compaction, at, SLICE_BYTES, BTreeMap::new());
        }
        self.upkeep.compaction = Some(compaction);
    }

    /// A shard has swapped its places, and reads nothing in the old segment any more.
    pub(super) fn on_released(&mut self, segment: u32) {
        let handed = self.handed.clone();
        let Some(compaction) = &mut self.upkeep.compaction else { return };
        let Step::Releasing { left } = &mut compaction.step else { return };
        if !compaction.victims.contains(&segment) {
            return;
        }
        *left -= 1;
        if *left == 0 {
            compaction.step = Step::Settling { handed };
        }
    }

    /// Goes on when everything that was handed before the last answer stays, whatever comes.
    pub(super) fn settle_compaction(&mut self) {
        let Some(compaction) = &mut self.upkeep.compaction else { return };
        if let Step::Settling { handed } = &compaction.step
            && handed.iter().zip(&self.durable).all(|(handed, durable)| handed <= durable)
        {
            compaction.step = Step::Proving { upto: self.said_lsn };
        }
        let Step::Proving { upto } = compaction.step else { return };
        if !self.prove(upto) {
            return;
        }
        let Some(Compaction { victims, .. }) = self.upkeep.compaction.take() else { return };
        self.upkeep.dirty = true;
        self.status.compactions += to_u64(victims.len());
        for victim in victims {
            self.doom(victim);
        }
    }

    /// The segments that are worth it: those with the largest share of dead bytes, and small ones
    /// when there are many, as long as what is live of them fits one segment.
    fn victims(&self) -> Vec<u32> {
        if !self.upkeep.is_tidy() {
            return Vec::new();
        }
        let worth = if self.full { DEAD_PERCENT_FULL } else { DEAD_PERCENT };
        let dead_percent = |held: &Held| {
            let (used, dead) = held.used_and_dead();
            (dead * 100).checked_div(used).unwrap_or(100)
        };
        let small = self.config.segment_bytes / SMALL_SHARE;
        let is_small = |held: &Held| held.segment.cold && held.segment.bytes < small;
        let mut sealed: Vec<&Held> =
            self.segments.values().filter(|held| self.is_sealed(held) && !held.damaged).collect();
        let merge = sealed.iter().filter(|held| is_small(held)).count() >= SMALL_SEGMENTS;
        sealed.retain(|held| dead_percent(held) >= worth || (merge && is_small(held)));
        sealed.sort_by_key(|held| std::cmp::Reverse(dead_percent(held)));
        let mut live = 0;
        let fits = |held: &&Held| {
            live += held.live;
            live <= self.config.segment_bytes
        };
        let victims: Vec<u32> =
            sealed.iter().copied().take(VICTIMS_MAX).take_while(fits).map(Held::number).collect();
        // One that is longer than a segment goes alone.
        if victims.is_empty() {
            sealed.first().map(|held| held.number()).into_iter().collect()
        } else {
            victims
        }
    }

    /// Whether a clock record says what a record with this number says of its partition.
    fn clock_covers(&self, partition: PartitionId, lsn: u64) -> bool {
        self.clock_records.get(&partition).is_some_and(|newest| lsn <= newest.0)
    }

    /// Whether a Forget may still hide an older record of its key in another segment.
    fn may_matter(&self, victims: &[u32], forget: &Kept) -> bool {
        let may_hold = |held: &Held| {
            let filter = self.filters.get(&held.number()).filter(|_| !held.damaged);
            filter.is_none_or(|filter| filter.may_hold(forget.token))
        };
        self.segments
            .values()
            .filter(|held| !victims.contains(&held.number()) && !held.spare)
            .any(|held| held.segment.lowest() < forget.lsn && may_hold(held))
    }

    /// Takes in a slice of the old segment.
    fn on_slice(&mut self, mut compaction: Compaction, from: u64, wanted: usize, bytes: &Bytes) {
        let Some(held) = self.segments.get(&compaction.victim()).copied() else { return };
        let mut asked: BTreeMap<usize, Vec<Candidate>> = BTreeMap::new();
        let mut at = 0;
        while from + to_u64(at) < held.end {
            let offset = from + to_u64(at);
            let rest = bytes.slice(at..);
            let Some(header) = verify(&rest, held.segment.seed(), offset) else {
                let whole = Header::decode(&rest).map_or(HEADER_BYTES, |header| header.bytes());
                if rest.len() >= whole || offset + to_u64(whole) > held.end {
                    return self.give_up(&compaction);
                }
                // The record goes on behind the slice: read again from where it begins, unless the
                // file ends before it does.
                if bytes.len() < wanted {
                    return self.give_up(&compaction);
                }
                let more = whole.max(SLICE_BYTES);
                compaction.step = self.after_slice(&mut compaction, offset, more, asked);
                self.upkeep.compaction = Some(compaction);
                return;
            };
            let record = rest.slice(..header.bytes());
            let place = Place::new(held.number(), offset, to_u64(record.len()));
            if self.sort_out(&mut compaction, &header, record, place, &mut asked).is_none() {
                return self.give_up(&compaction);
            }
            at += header.bytes();
        }
        compaction.step = self.after_slice(&mut compaction, from + to_u64(at), SLICE_BYTES, asked);
        self.upkeep.compaction = Some(compaction);
    }

    /// Decides of a record, or asks its shard.
    fn sort_out(
        &self,
        compaction: &mut Compaction,
        header: &Header,
        bytes: Bytes,
        place: Place,
        asked: &mut BTreeMap<usize, Vec<Candidate>>,
    ) -> Option<()> {
        let kept = Kept {
            partition: header.partition,
            token: header.token,
            lsn: header.lsn,
            kind: header.kind,
            from: Some(place),
            bytes,
        };
        match header.kind {
            Kind::Write | Kind::Forget => {
                let record = decode_write(header, &kept.bytes)?;
                let shard = usize::from(header.partition.0 % self.config.shards);
                let mark = mark_of(&record.key);
                let stamp = record.stamp.and_then(|stamp| self.stamped(header, stamp));
                asked.entry(shard).or_default().push(Candidate { kept, mark, stamp });
            }
            Kind::ClockAdopt => {
                // The newest one says what every older one says.
                let newest = self.clock_records.get(&header.partition);
                if newest.is_some_and(|newest| newest.1 == place) {
                    compaction.partitions.insert(header.partition);
                }
            }
            Kind::Control => {
                let newest = self.control.get(&header.slot);
                if newest.is_some_and(|control| control.place == place) {
                    compaction.kept.push(kept.detached());
                }
            }
            Kind::Stamp => {
                if let Some(stamped) = self.stamped(header, decode_stamp(header, &kept.bytes)?) {
                    stamps::keep(&mut compaction.stamps, stamped);
                }
            }
            Kind::Commit | Kind::Noop => {}
        }
        Some(())
    }

    /// What follows a slice of which these records are asked about.
    fn after_slice(
        &mut self,
        compaction: &mut Compaction,
        at: u64,
        bytes: usize,
        asked: BTreeMap<usize, Vec<Candidate>>,
    ) -> Step {
        if !asked.is_empty() {
            for (shard, candidates) in &asked {
                let of = |candidate: &Candidate| {
                    let place = candidate.kept.from.expect("it was read from a place");
                    (candidate.kept.token, candidate.mark, place)
                };
                let records = candidates.iter().map(of).collect();
                self.ask(*shard, Ask { records, partitions: Vec::new() });
            }
            return Step::Asking { at, asked };
        }
        let end = self.segments.get(&compaction.victim()).map_or(0, |held| held.end);
        if at < end {
            return Step::Read { at, bytes };
        }
        if compaction.reading + 1 < compaction.victims.len() {
            compaction.reading += 1;
            return Step::Read { at: to_u64(SEGMENT_HEADER_BYTES), bytes: SLICE_BYTES };
        }
        if compaction.clocks_lsn.is_none() && !compaction.partitions.is_empty() {
            return self.ask_clocks(compaction, at);
        }
        self.plan(compaction)
    }

    fn ask(&mut self, shard: usize, ask: Ask) {
        let shard = ShardId(u16::try_from(shard).expect("shards are counted by 16 bits"));
        self.events.push(Event::Note { shard, note: LogNote::Ask(ask) });
    }

    /// Asks for the clocks of every partition of which the segment said something.
    fn ask_clocks(&mut self, compaction: &mut Compaction, at: u64) -> Step {
        // The shards were told of everything below this before they are asked.
        compaction.clocks_lsn = Some(self.announced_lsn);
        let mut by_shard: BTreeMap<usize, Vec<PartitionId>> = BTreeMap::new();
        for &partition in &compaction.partitions {
            let shard = usize::from(partition.0 % self.config.shards);
            by_shard.entry(shard).or_default().push(partition);
        }
        let asked = by_shard.keys().map(|shard| (*shard, Vec::new())).collect();
        for (shard, partitions) in by_shard {
            self.ask(shard, Ask { records: Vec::new(), partitions });
        }
        Step::Asking { at, asked }
    }

    /// Everything is known: lays out the new segment.
    fn plan(&mut self, compaction: &mut Compaction) -> Step {
        let lsn = compaction.clocks_lsn.map_or(0, |lsn| lsn - 1);
        for (partition, clock) in std::mem::take(&mut compaction.clocks) {
            let mut bytes = BytesMut::new();
            encode_clock(&mut bytes, partition, &clock);
            let bytes = bytes.freeze();
            let kind = Kind::ClockAdopt;
            compaction.kept.push(Kept { partition, token: Token(0), lsn, kind, from: None, bytes });
        }
        compaction.kept.extend(std::mem::take(&mut compaction.stamps).into_iter().map(Kept::from));
        if compaction.kept.is_empty() {
            return self.release(&compaction.victims);
        }
        // What is of no key comes first, then keys in the order of the ring.
        compaction.kept.sort_unstable_by_key(|kept| {
            let is_key = kept.kind.is_of_key();
            (is_key, kept.partition, kept.token, kept.lsn)
        });
        let number = match self.new_number() {
            Ok(number) => number,
            Err(error) => {
                self.fail(error);
                return Step::Asking { at: 0, asked: BTreeMap::new() };
            }
        };
        let salt = self.new_salt();
        Step::Create(Output::new(number, salt, &compaction.kept, self.next_lsn), FileStep::Create)
    }

    /// The new segment is whole and has its name: the shards swap their places.
    fn publish(&mut self, compaction: &mut Compaction, output: Output) -> Step {
        let segment = output.segment;
        compaction.written = Some(segment.number);
        self.status.moved_bytes += segment.bytes;
        // What nobody points to any more, the shards will say; Commits count as live until then.
        self.segments.insert(
            segment.number,
            Held {
                segment,
                end: output.at,
                live: output.at - to_u64(SEGMENT_HEADER_BYTES),
                damaged: false,
                listed: false,
                spare: false,
                sidecar: false,
            },
        );
        self.note_stamps(segment.number, &compaction.kept);
        self.filters.insert(segment.number, output.filter);
        let note = NewSegment { number: segment.number, seed: segment.seed() };
        self.notify_all(&LogNote::Segment(note));
        for (partition, lsn, place) in output.clocks {
            if let Some((_, old)) = self.clock_records.insert(partition, (lsn, place)) {
                self.free(old);
            }
        }
        for moved in &output.control_moves {
            let newest = self.control.values_mut().find(|control| control.place == moved.from);
            if let Some(control) = newest {
                control.place = moved.to;
            }
        }
        for (shard, moves) in output.moves {
            let shard = ShardId(shard);
            for slice in moves.chunks(GROUP_RECORDS) {
                sometimes!("a compaction moved a live record");
                let note = LogNote::Moved(slice.to_vec());
                self.events.push(Event::Note { shard, note });
            }
        }
        self.release(&compaction.victims)
    }

    fn release(&mut self, victims: &[u32]) -> Step {
        for &segment in victims {
            self.notify_all(&LogNote::Release { segment });
        }
        Step::Releasing { left: usize::from(self.config.shards) * victims.len() }
    }

    /// The old segment does not verify: it stays, and what is damaged shows when it is read.
    fn give_up(&mut self, compaction: &Compaction) {
        sometimes!("a compaction gave a damaged segment up");
        let file = FileName::Segment(compaction.victim());
        let line =
            format!("{file} is damaged: it is not compacted, its records are read as before");
        self.events.push(Event::Notice(line));
        if let Some(held) = self.segments.get_mut(&compaction.victim()) {
            held.damaged = true;
        }
    }
}

impl Compaction {
    fn new(victims: Vec<u32>) -> Self {
        Self {
            victims,
            reading: 0,
            step: Step::Read { at: to_u64(SEGMENT_HEADER_BYTES), bytes: SLICE_BYTES },
            kept: Vec::new(),
            partitions: BTreeSet::new(),
            clocks: Clocks::new(),
            stamps: Vec::new(),
            clocks_lsn: None,
            written: None,
        }
    }

    /// The new segment, as long as MANIFEST must not list it.
    pub(super) fn written(&self) -> Option<u32> {
        self.written
    }

    /// The segment that is being read.
    fn victim(&self) -> u32 {
        *self.victims.get(self.reading).expect("a compaction has a segment to read")
    }
}
