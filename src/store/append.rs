//! The path of a write: one group at a time, everything that waits goes into the next.
//!
//! While a group is being written and synced, others queue up; then all of them go, in one vectored
//! write that ends with a Commit, and one sync. A failed write or sync is never retried: after a
//! failed sync the system may count the lost pages as clean, and a second sync would lie
//! ("fsyncgate", 2018).

use bytes::{Bytes, BytesMut};

use super::border::{Event, LogError, LogNote, NewSegment, Placed};
use super::codec::{to_u64, to_usize};
use super::disk::{DiskDone, DiskError, DiskOp, FileName};
use super::filter::Filter;
use super::harvest::Control;
use super::log::{Held, Log};
use super::place::Place;
use super::queue::Put;
use super::record::{Header, Kind, Placing, commit_bytes, encode_commit, encode_noop, seal};
use super::segment::SEGMENT_HEADER_BYTES;
use crate::config::Durability;
use crate::limits::{SYNC_BYTES_MAX, SYNC_INTERVAL_MS};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::shard::{Seq, ShardId};
use crate::time::{Mono, Now};

/// Idle time after which a Noop group follows, in milliseconds: then the last acknowledged group is
/// not the last of the log any more, and damage to it cannot pass for a torn tail.
const NOOP_AFTER_MS: u64 = 10;
/// Puts of at least this many bytes are not copied next to others.
const OWN_PART_BYTES: usize = 64 * 1024;

/// The group under way.
#[derive(Debug, Default)]
pub(super) struct Append {
    step: Step,
    /// What was taken from the queue and waits for a segment with room.
    staged: Option<Staged>,
    /// When the last group became durable, if a Noop is to follow it.
    noop_due: Option<Mono>,
    /// When the oldest record that is not synced was written.
    unsynced_since: Option<Mono>,
    /// What the next sync proves: everything below this was synced before what it syncs.
    proving: Option<u64>,
    /// Somebody needs everything on stable storage, whatever the durability level.
    flush: bool,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    Writing(Group),
    /// Written, and to be synced next.
    Written(Group),
    Syncing(Option<Group>),
}

/// Puts that go together.
#[derive(Debug)]
struct Staged {
    puts: Vec<(usize, Put)>,
    records: usize,
    bytes: usize,
}

/// A group that was handed to the disk.
#[derive(Clone, Debug)]
struct Group {
    /// For each writer its newest put, and the places of its records.
    writers: Vec<(usize, Seq, Vec<Place>)>,
    segment: u32,
    end: u64,
    live: u64,
    next_lsn: u64,
    noop: bool,
}

impl Append {
    /// Whether a group is being written, and its sync has not begun.
    pub(super) fn is_writing(&self) -> bool {
        matches!(self.step, Step::Writing(_))
    }

    /// Whether no operation is under way, and nothing waits for a segment with room.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.step, Step::Idle) && self.staged.is_none()
    }
}

impl Log {
    /// The next operation of the write path.
    pub(super) fn begin_append(&mut self, now: Now) -> Option<DiskOp> {
        if let Step::Written(group) = std::mem::take(&mut self.append.step) {
            if self.checkpoint_goes_first() {
                self.append.step = Step::Written(group);
                return None;
            }
            return self.begin_sync(Some(group));
        }
        // It comes before what waits: under load something always does.
        if self.append.staged.is_none() && self.sync_is_due(now) {
            return self.begin_sync(None);
        }
        if self.append.staged.is_none() {
            self.append.staged = self.stage(now);
        }
        let wanted = self.append.staged.as_ref()?.wanted();
        if !self.has_room(wanted) {
            if self.synced_lsn < self.next_lsn {
                // The rule of torn tails needs it: only the newest segment may end unsynced.
                return self.begin_sync(None);
            }
            if !self.roll(wanted) {
                return None;
            }
        }
        let staged = self.append.staged.take().expect("it was staged above");
        Some(self.write(staged))
    }

    /// The operation of the write path has returned.
    pub(super) fn on_appended(
        &mut self,
        now: Now,
        result: Result<DiskDone, DiskError>,
    ) -> Result<(), LogError> {
        let step = std::mem::take(&mut self.append.step);
        if let Err(error) = result {
            sometimes!("a disk that failed ended the process");
            let doing = if matches!(step, Step::Syncing(_)) { "syncing" } else { "writing" };
            if planted(Bug::SyncRetried)
                && let Step::Syncing(Some(group)) = step
            {
                self.append.step = Step::Written(group);
                return Ok(());
            }
            let file = self.appends_to().map_or(String::new(), |file| file.to_string());
            return Err(LogError::Io { doing, file, error });
        }
        match step {
            Step::Writing(group) => {
                self.append.unsynced_since.get_or_insert(now.mono);
                self.note_written(&group);
                match self.config.durability {
                    Durability::Always if planted(Bug::AckBeforeSync) => {
                        self.announce(now, group.clone());
                        self.append.step = Step::Written(Group { writers: Vec::new(), ..group });
                    }
                    Durability::Always => self.append.step = Step::Written(group),
                    Durability::Interval | Durability::Os => self.announce(now, group),
                }
            }
            Step::Syncing(group) => {
                self.status.syncs += 1;
                self.synced_lsn = self.next_lsn;
                self.proved_lsn = self.append.proving.take().unwrap_or(self.proved_lsn);
                self.append.unsynced_since = None;
                self.append.flush = false;
                if let Some(group) = group {
                    self.announce(now, group);
                }
            }
            Step::Idle | Step::Written(_) => unreachable!("only what was submitted returns"),
        }
        Ok(())
    }

    /// When the write path has something to do though nothing happens.
    pub(super) fn append_deadline(&self) -> Option<Mono> {
        let sync = match self.config.durability {
            Durability::Interval => self.append.unsynced_since,
            Durability::Always | Durability::Os => None,
        };
        let sync = sync.map(|since| since.plus_ms(SYNC_INTERVAL_MS));
        [sync, self.append.noop_due].into_iter().flatten().min()
    }

    /// Nothing follows the last group yet: a Noop is due at once.
    pub(super) fn note_recovered_tail(&mut self) {
        self.append.noop_due = self.active.map(|_| Mono::default());
    }

    /// Brings about what proves every record that says something. Returns whether that is done.
    pub(super) fn prove(&mut self, upto: u64) -> bool {
        if self.proved_lsn >= upto || planted(Bug::CompactionNotProved) {
            return true;
        }
        if self.synced_lsn < self.next_lsn {
            self.append.flush = true;
        } else {
            // Whatever comes next will do; a Noop if nothing waits.
            self.append.noop_due = Some(Mono::default());
        }
        false
    }

    /// Takes what waits, or a Noop when nothing has waited for a while.
    fn stage(&mut self, now: Now) -> Option<Staged> {
        let puts = self.queue.take(SYNC_BYTES_MAX);
        if !puts.is_empty() {
            self.append.noop_due = None;
            let bytes = puts.iter().map(|(_, put)| put.bytes.len()).sum();
            let records = puts.iter().map(|(_, put)| records_of(&put.bytes)).sum();
            return Some(Staged { puts, records, bytes });
        }
        let due = self.append.noop_due.is_some_and(|due| due <= now.mono);
        if !due {
            return None;
        }
        self.append.noop_due = None;
        Some(Staged { puts: Vec::new(), records: 1, bytes: super::record::HEADER_BYTES })
    }

    fn sync_is_due(&self, now: Now) -> bool {
        let Some(since) = self.append.unsynced_since else { return false };
        let interval = self.config.durability == Durability::Interval
            && now.mono >= since.plus_ms(SYNC_INTERVAL_MS);
        interval || self.append.flush
    }

    fn begin_sync(&mut self, group: Option<Group>) -> Option<DiskOp> {
        let number = self.active?;
        self.append.step = Step::Syncing(group);
        Some(DiskOp::Sync { file: FileName::Segment(number) })
    }

    fn has_room(&self, wanted: u64) -> bool {
        let active = self.active.and_then(|number| self.segments.get(&number));
        active.is_some_and(|held| held.end + wanted <= held.segment.bytes)
    }

    /// Goes on in a new segment that has room for a group of `wanted` bytes. Returns whether there
    /// is one; if not, it is being prepared.
    fn roll(&mut self, wanted: u64) -> bool {
        let needed = wanted + to_u64(SEGMENT_HEADER_BYTES);
        let fits = |held: &Held| held.is_ready() && held.segment.bytes >= needed;
        let Some(number) = self.segments.values().find(|held| fits(held)).map(Held::number) else {
            sometimes!("an append waited for a segment with room");
            self.upkeep.want(needed);
            return false;
        };
        // Segments are filled in the order of their numbers: one that is too short is passed over
        // for good.
        let short: Vec<u32> =
            self.segments.range(..number).filter(|held| held.1.spare).map(|held| *held.0).collect();
        for number in short {
            self.doom(number);
        }
        if let Some(active) = self.active.and_then(|number| self.segments.get_mut(&number)) {
            sometimes!("a segment was sealed");
            active.segment.next = self.next_lsn;
            let tokens = std::mem::take(&mut self.active_tokens);
            self.filters.insert(active.number(), Filter::of(&tokens));
        }
        let held = self.segments.get_mut(&number).expect("it was found just now");
        held.spare = false;
        held.segment.first = self.next_lsn;
        let note = NewSegment { number, seed: held.segment.seed() };
        self.active = Some(number);
        self.upkeep.dirty = true;
        self.notify_all(&LogNote::Segment(note));
        true
    }

    /// Lays a group out at the end of the active segment.
    fn write(&mut self, staged: Staged) -> DiskOp {
        let number = self.active.expect("a segment with room was found");
        let held = self.segments.get(&number).expect("the active segment is known");
        let noop = staged.puts.is_empty();
        let mut layout = Layout::new(self, held.end, held.segment.seed());
        let mut writers: Vec<(usize, Seq, Vec<Place>)> = Vec::new();
        for (writer, mut put) in staged.puts {
            if writers.last().is_none_or(|(last, ..)| *last != writer) {
                writers.push((writer, put.seq, Vec::new()));
            }
            let (_, seq, places) = writers.last_mut().expect("it was pushed where there was none");
            *seq = put.seq;
            layout.add(number, &mut put.bytes, places);
            layout.push(put.bytes);
        }
        if noop {
            let mut bytes = BytesMut::new();
            encode_noop(&mut bytes);
            layout.add(number, &mut bytes, &mut Vec::new());
            layout.push(bytes);
        }
        let offset = held.end;
        let keys = layout.headers.iter().filter(|header| header.kind.is_of_key());
        self.active_tokens.extend(keys.map(|header| header.token));
        let live = layout.live_bytes();
        if layout.after_sync {
            self.append.proving = Some(layout.first_lsn);
        }
        let (parts, end, next_lsn) = layout.finish(number);
        self.append.step =
            Step::Writing(Group { live, writers, segment: number, end, next_lsn, noop });
        DiskOp::Write { file: FileName::Segment(number), offset, parts }
    }

    fn note_written(&mut self, group: &Group) {
        let held = self.segments.get_mut(&group.segment).expect("the active segment is known");
        self.status.appended_bytes += group.end - held.end;
        held.end = group.end;
        held.live += group.live;
        self.next_lsn = group.next_lsn;
        if !group.noop {
            self.said_lsn = group.next_lsn;
        }
        self.status.groups += 1;
        let records: usize = group.writers.iter().map(|writer| writer.2.len()).sum();
        self.status.records += to_u64(records);
    }

    /// Tells everybody whose puts are in the group.
    fn announce(&mut self, now: Now, group: Group) {
        self.announced_lsn = group.next_lsn;
        let control_writer = self.control_writer();
        for (writer, upto, places) in group.writers {
            self.durable[writer] = upto;
            if writer == control_writer {
                self.on_control_durable(upto, &places, group.next_lsn);
                continue;
            }
            let shard = ShardId(u16::try_from(writer).expect("shards are counted by 16 bits"));
            let note = LogNote::Placed(Placed { upto, places });
            self.events.push(Event::Note { shard, note });
        }
        if !group.noop {
            self.append.noop_due = Some(now.mono.plus_ms(NOOP_AFTER_MS));
        }
    }

    fn on_control_durable(&mut self, upto: Seq, places: &[Place], next_lsn: u64) {
        let durable = self.control_pending.iter().take_while(|pending| pending.0 <= upto).count();
        let records: Vec<_> = self.control_pending.drain(..durable).collect();
        for ((_, slot, body), &place) in records.into_iter().zip(places) {
            // The order of the records of a group decides among them; all are older than the next.
            let control = Control { lsn: next_lsn, place, body };
            if let Some(old) = self.control.insert(slot, control) {
                self.free(old.place);
            }
        }
        self.events.push(Event::ControlDurable { upto });
    }
}

impl Staged {
    /// Bytes that the group takes.
    fn wanted(&self) -> u64 {
        to_u64(self.bytes + commit_bytes(self.records))
    }
}

/// A group being laid out.
struct Layout {
    parts: Vec<Bytes>,
    tail: BytesMut,
    headers: Vec<Header>,
    at: u64,
    first_lsn: u64,
    after_sync: bool,
    seed: super::record::Seed,
}

impl Layout {
    fn new(log: &Log, at: u64, seed: super::record::Seed) -> Self {
        Self {
            parts: Vec::new(),
            tail: BytesMut::new(),
            headers: Vec::new(),
            at,
            first_lsn: log.next_lsn,
            after_sync: log.synced_lsn == log.next_lsn,
            seed,
        }
    }

    /// Seals the records of a put, and notes where they lie.
    fn add(&mut self, segment: u32, mut records: &mut [u8], places: &mut Vec<Place>) {
        while !records.is_empty() {
            let length = Header::decode(records).expect("the store wrote this header").bytes();
            let (record, rest) = records.split_at_mut(length);
            let header = seal(record, self.placing(), self.seed, self.at);
            places.push(Place::new(segment, self.at, to_u64(length)));
            self.headers.push(header);
            self.at += to_u64(length);
            records = rest;
        }
    }

    fn push(&mut self, bytes: BytesMut) {
        if bytes.len() >= OWN_PART_BYTES {
            self.parts.push(self.tail.split().freeze());
            self.parts.push(bytes.freeze());
        } else {
            // Puts of one turn lie next to one another, so this copies nothing.
            self.tail.unsplit(bytes);
        }
    }

    /// Bytes of its records that count as live. A Forget does not: it is worth a compaction, which
    /// finds out whether it must stay.
    fn live_bytes(&self) -> u64 {
        let live = self.headers.iter().filter(|header| header.kind.counts_as_live());
        live.map(|header| Place::new(0, 0, u64::from(header.length)).read_bytes()).sum()
    }

    /// Ends the group with its Commit. Returns its bytes, where it ends, and the next number.
    fn finish(mut self, segment: u32) -> (Vec<Bytes>, u64, u64) {
        let mut commit = BytesMut::new();
        encode_commit(&mut commit, &self.headers);
        self.add(segment, &mut commit, &mut Vec::new());
        self.tail.extend_from_slice(&commit);
        self.parts.push(self.tail.freeze());
        self.parts.retain(|part| !part.is_empty());
        let next_lsn = self.first_lsn + to_u64(self.headers.len());
        (self.parts, self.at, next_lsn)
    }

    fn placing(&self) -> Placing {
        let index = u32::try_from(self.headers.len()).expect("a group fits a segment");
        Placing {
            lsn: self.first_lsn + u64::from(index),
            index,
            after_sync: self.after_sync,
            starts_group: index == 0,
        }
    }
}

/// Number of records that lie one after the other.
fn records_of(mut bytes: &[u8]) -> usize {
    let mut records = 0;
    while !bytes.is_empty() {
        let header = Header::decode(bytes).expect("the store wrote this header");
        assert!(header.kind != Kind::Commit, "only the log commits");
        bytes = &bytes[to_usize(u64::from(header.length))..];
        records += 1;
    }
    records
}
