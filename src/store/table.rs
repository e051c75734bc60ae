//! The table of one shard: index, records that are not durable yet, cache, and reads under way.
//!
//! Invariants: every entry of the index points to the newest record of its key; a record that is
//! not in the log yet is in `pending`, so it is readable at once and order per key holds; clocks
//! hold only what is durable, because a compaction writes them down as facts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::border::{
    Answer, Ask, Liveness, LogBatch, LogNote, LogPut, Move, NewSegment, Placed, ReadId,
    ReadRequest, Rotten,
};
use super::cache::{Cache, Cached, detach};
use super::codec::{to_u64, to_usize};
use super::disk::{DiskDone, DiskError, FileName, may_read_again};
use super::index::{Entry, Index, mark_of};
use super::place::Place;
use super::record::{Clocks, Header, Kind, Seed, decode_write, encode_write, fold, verify};
use crate::causality::Dot;
use crate::hash::{BucketId, Key, PartitionId, Token};
use crate::limits::CACHED_VALUE_BYTES_MAX;
use crate::marks::sometimes;
use crate::shard::{Batch, IndexEntry, Lookup, Record, Seq, Table};

/// The storage of one shard, in memory; what it must keep it hands to the log.
#[derive(Debug, Default)]
pub struct Store {
    index: Index,
    /// Keys with siblings.
    counts: BTreeMap<(PartitionId, BucketId), u64>,
    /// Puts that are not durable yet, oldest first.
    pending: VecDeque<Pending>,
    /// Number of the oldest of them.
    pending_first: u64,
    pending_bytes: usize,
    last_seq: Seq,
    /// What the turn has for the log.
    outgoing: LogBatch,
    /// What the last batch with a put needed.
    last_room: Room,
    cache: Cache,
    /// Records read from the disk that are too long for the cache, until the turn after next.
    held: [BTreeMap<Place, Arc<Cached>>; 2],
    reading: BTreeMap<ReadId, Reading>,
    requested: Vec<ReadRequest>,
    next_read: u64,
    /// What makes the checksums of each segment.
    seeds: BTreeMap<u32, Seed>,
    /// Segments that the log wants to remove when no read is under way in them.
    releasing: Vec<u32>,
    clocks: Clocks,
    full: bool,
    /// Bytes of memory that it may take.
    memory_max: usize,
    damaged_reads: u64,
}

/// The sizes of a batch. The next one begins with as much room: turns resemble the one before, and
/// a buffer that grows from nothing is moved about ten times on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    bytes: usize,
    puts: usize,
    freed: usize,
}

/// A record that is not durable yet.
#[derive(Debug)]
struct Pending {
    record: Arc<Cached>,
    partition: PartitionId,
    dots: Vec<Dot>,
    bytes: usize,
    seq: Seq,
}

/// A read under way.
#[derive(Clone, Copy, Debug)]
struct Reading {
    token: Token,
    place: Place,
    /// How often it was read before and did not verify.
    failed: u8,
}

/// What a table is made of when the log was recovered.
#[derive(Debug, Default)]
pub(super) struct TableParts {
    pub(super) index: Index,
    pub(super) counts: BTreeMap<(PartitionId, BucketId), u64>,
    pub(super) clocks: Clocks,
    pub(super) seeds: BTreeMap<u32, Seed>,
    pub(super) cache_bytes: usize,
    pub(super) memory_bytes: usize,
}

/// Most bytes that a batch begins with; one that needs more has them moved into place.
const ROOM_BYTES_MAX: usize = 256 * 1024;

impl Room {
    fn of(batch: &LogBatch) -> Self {
        let bytes = batch.bytes.len().min(ROOM_BYTES_MAX);
        Self { bytes, puts: batch.puts.len(), freed: batch.freed.len() }
    }

    fn make(self, batch: &mut LogBatch) {
        batch.bytes.reserve(self.bytes);
        batch.puts.reserve(self.puts);
        batch.freed.reserve(self.freed);
    }
}

impl Store {
    pub(super) fn new(parts: TableParts) -> Self {
        Self {
            index: parts.index,
            counts: parts.counts,
            clocks: parts.clocks,
            seeds: parts.seeds,
            cache: Cache::new(parts.cache_bytes),
            memory_max: parts.memory_bytes,
            ..Self::default()
        }
    }

    /// What this turn has for the log, if anything. Called once after each turn.
    pub fn take_batch(&mut self) -> Option<LogBatch> {
        let [recent, older] = &mut self.held;
        *older = std::mem::take(recent);
        let batch = std::mem::take(&mut self.outgoing);
        if !batch.puts.is_empty() {
            self.last_room = Room::of(&batch);
        }
        let idle = batch.puts.is_empty() && batch.freed.is_empty() && batch.answers.is_empty();
        (!idle).then_some(batch)
    }

    /// Takes in what the log says. Returns the newest put that became durable by it, to be passed
    /// on to the shard as `Input::Durable`.
    pub fn on_note(&mut self, note: LogNote) -> Option<Seq> {
        match note {
            LogNote::Placed(placed) => return Some(self.on_placed(&placed)),
            LogNote::Space { full } => self.full = full,
            LogNote::Segment(NewSegment { number, seed }) => {
                self.seeds.insert(number, seed);
            }
            LogNote::Ask(ask) => self.on_ask(&ask),
            LogNote::Rotten(rotten) => self.on_rotten(&rotten),
            LogNote::Moved(moves) => self.on_moved(&moves),
            LogNote::Release { segment } => {
                self.releasing.push(segment);
                self.answer_releases();
            }
        }
        None
    }

    /// The records to read that were asked for since the last call. Each must be answered.
    pub fn take_reads(&mut self) -> Vec<ReadRequest> {
        std::mem::take(&mut self.requested)
    }

    /// Takes in the answer to a [`ReadRequest`]. Returns the token for `Input::Fetched`, to be
    /// stepped in this turn or the next.
    pub fn on_read(&mut self, id: ReadId, result: Result<DiskDone, DiskError>) -> Option<Token> {
        let reading = self.reading.remove(&id)?;
        let bytes = match result {
            Ok(DiskDone::Bytes(bytes)) => bytes,
            Ok(DiskDone::Done | DiskDone::Files(_) | DiskDone::Space { .. }) | Err(_) => {
                Bytes::new()
            }
        };
        let record = self.parse(reading.place, &bytes);
        // The entry may have been replaced or moved since; then nobody asks for this place again.
        let known = self.index.find(reading.token).iter().any(|entry| entry.place == reading.place);
        match record {
            Some(record) if known => self.keep(reading.place, Arc::new(record)),
            None if known && may_read_again(reading.failed + 1) => {
                sometimes!("a record that did not verify was read again");
                self.request(reading.token, reading.place, reading.failed + 1);
                return None;
            }
            None if known => self.on_damaged(reading),
            Some(_) | None => {}
        }
        self.answer_releases();
        Some(reading.token)
    }

    /// Number of keys, those without siblings included.
    pub fn keys(&self) -> u64 {
        to_u64(self.index.len())
    }

    /// Bytes of memory of index, cache and pending puts, about.
    pub fn memory_bytes(&self) -> usize {
        self.index.about_bytes() + self.cache.bytes() + self.pending_bytes
    }

    /// Records that were read and did not verify, since the start.
    pub fn damaged_reads(&self) -> u64 {
        self.damaged_reads
    }

    fn on_placed(&mut self, placed: &Placed) -> Seq {
        for &place in &placed.places {
            let mut pending = self.pending.pop_front().expect("the log places what it was handed");
            let old = Place::pending(self.pending_first);
            self.pending_first += 1;
            self.pending_bytes -= pending.bytes;
            fold(&mut self.clocks, pending.partition, &pending.dots);
            let token = pending.record.key.token;
            if pending.record.object.is_void() {
                sometimes!("the metadata of a delete vanished");
                // A Forget counts as live for the log until a compaction drops it.
                self.index.remove(token, old);
            } else if self.index.change(token, old, |entry| entry.place = place) {
                if pending.record.bytes() <= CACHED_VALUE_BYTES_MAX {
                    detach(&mut pending.record);
                    self.cache.insert(place, pending.record);
                }
            } else {
                sometimes!("a put was overtaken by a newer one of its key");
                // A newer put of the key came while this one was on its way.
                self.free(place);
            }
        }
        placed.upto
    }

    fn on_ask(&mut self, ask: &Ask) {
        let liveness = |&(token, mark, place): &(Token, u64, Place)| {
            let entries = self.index.find(token);
            if entries.iter().any(|entry| entry.place == place) {
                Liveness::Live
            } else if entries.iter().any(|entry| entry.mark() == mark) {
                Liveness::Replaced
            } else {
                Liveness::Unknown
            }
        };
        let records = ask.records.iter().map(liveness).collect();
        let clock_of = |&partition: &PartitionId| {
            self.clocks.get(&partition).map(|clock| (partition, clock.clone()))
        };
        let clocks = ask.partitions.iter().filter_map(clock_of).collect();
        self.outgoing.answers.push(Answer::Live { records, clocks });
    }

    fn on_moved(&mut self, moves: &[Move]) {
        for &Move { token, from, to } in moves {
            if self.index.change(token, from, |entry| entry.place = to) {
                if let Some(record) = self.cache.find(from) {
                    self.cache.remove(from);
                    self.cache.insert(to, record);
                }
            } else {
                sometimes!("a record changed while a compaction moved it");
                self.free(to);
            }
        }
    }

    /// What a scrub found: the keys whose records lie there answer Unknown from now on, but for
    /// those that are in memory. A walk through the index, because damage is rare.
    fn on_rotten(&mut self, rotten: &Rotten) {
        let marked = self.index.change_all(|entry| {
            let place = entry.place;
            let is_rotten = place.segment() == Some(rotten.segment)
                && rotten.regions.iter().any(|region| region.contains(&place.offset()));
            if is_rotten {
                entry.mark_damaged();
            }
            is_rotten
        });
        sometimes!("a scrub put a record under quarantine", marked > 0);
        self.damaged_reads += to_u64(marked);
    }

    /// Answers for each segment to be removed in which no read is under way any more.
    fn answer_releases(&mut self) {
        let reading = &self.reading;
        let answers = &mut self.outgoing.answers;
        let seeds = &mut self.seeds;
        self.releasing.retain(|&segment| {
            let busy = reading.values().any(|read| read.place.segment() == Some(segment));
            if !busy {
                seeds.remove(&segment);
                answers.push(Answer::Released { segment });
            }
            busy
        });
    }

    fn free(&mut self, place: Place) {
        self.cache.remove(place);
        if place.segment().is_some() {
            self.outgoing.freed.push(place);
        }
    }

    fn parse(&self, place: Place, bytes: &Bytes) -> Option<Cached> {
        let seed = *self.seeds.get(&place.segment()?)?;
        let header: Header = verify(bytes, seed, place.offset())?;
        if header.kind != Kind::Write {
            return None;
        }
        let record = decode_write(&header, bytes)?;
        Some(Cached { key: record.key, object: record.object })
    }

    /// Keeps a record that was read: in the cache if it is short, and at least for this turn.
    fn keep(&mut self, place: Place, record: Arc<Cached>) {
        if record.bytes() <= CACHED_VALUE_BYTES_MAX {
            self.cache.insert(place, Arc::clone(&record));
        }
        let [recent, _] = &mut self.held;
        recent.insert(place, record);
    }

    fn on_damaged(&mut self, reading: Reading) {
        self.damaged_reads += 1;
        self.index.change(reading.token, reading.place, Entry::mark_damaged);
    }

    /// The record at a place, if it is in memory, and the put that it rests on.
    fn in_memory(&mut self, place: Place) -> Option<(Arc<Cached>, Seq)> {
        if let Some(index) = place.pending_index(self.pending_first) {
            let pending =
                self.pending.get(to_usize(index)).expect("an entry points to a pending record");
            return Some((Arc::clone(&pending.record), pending.seq));
        }
        let held = self.held.iter().find_map(|held| held.get(&place)).cloned();
        held.or_else(|| self.cache.find(place)).map(|record| (record, Seq(0)))
    }

    fn request(&mut self, token: Token, place: Place, failed: u8) {
        if self.reading.values().any(|reading| reading.place == place) {
            return;
        }
        let segment = place.segment().expect("what is not in memory is in a file");
        let id = ReadId(self.next_read);
        self.next_read += 1;
        self.reading.insert(id, Reading { token, place, failed });
        self.requested.push(ReadRequest {
            id,
            file: FileName::Segment(segment),
            offset: place.offset(),
            length: u32::try_from(place.read_bytes()).expect("a record is shorter than 2 GiB"),
        });
    }

    fn put_record(&mut self, record: Record, seq: Seq) {
        let bytes = encode_write(&mut self.outgoing.bytes, &record);
        let Record { key, partition, object, dots, removed: _, stamp: _ } = record;
        let number = self.pending_first + to_u64(self.pending.len());
        let live = !object.entries.is_empty();
        let entry = Entry::new(key.token, mark_of(&key), Place::pending(number), live);
        let replaced = self.index.put(entry);
        if let Some(old) = replaced {
            self.free(old.place);
        }
        let was_live = replaced.is_some_and(Entry::is_live);
        if live != was_live {
            let count = self.counts.entry((partition, key.bucket)).or_default();
            // An entry whose partition or bucket was not known when it was damaged is not counted.
            *count = if live { *count + 1 } else { count.saturating_sub(1) };
        }
        let record = Arc::new(Cached { key, object });
        self.pending.push_back(Pending { record, partition, dots, bytes, seq });
        self.pending_bytes += bytes;
    }
}

impl Table for Store {
    fn get(&mut self, key: &Key) -> (Lookup, Seq) {
        // One digest is saved where one key has the token: its record says which key it is.
        let entries = self.index.find(key.token);
        let count = entries.len();
        let mark = (count > 1).then(|| mark_of(key));
        let mut next = entries.first().copied();
        let mut index = 0;
        while let Some(entry) = next {
            index += 1;
            // A search costs more than all else here, so there is no second one for the usual key.
            next =
                if index < count { self.index.find(key.token).get(index).copied() } else { None };
            if entry.is_lost() {
                return (Lookup::Unknown, Seq(0));
            }
            if mark.is_some_and(|mark| mark != entry.mark()) {
                continue;
            }
            if let Some((record, seq)) = self.in_memory(entry.place) {
                if record.key == *key {
                    return (found(&record), seq);
                }
            } else if entry.is_damaged() {
                return (Lookup::Unknown, Seq(0));
            } else {
                self.request(key.token, entry.place, 0);
                return (Lookup::Cold, Seq(0));
            }
        }
        (Lookup::Absent, Seq(0))
    }

    fn put(&mut self, batch: Batch) -> Seq {
        assert!(!batch.records.is_empty(), "a batch holds a record");
        self.last_seq = Seq(self.last_seq.0 + 1);
        let seq = self.last_seq;
        if self.outgoing.puts.is_empty() {
            self.last_room.make(&mut self.outgoing);
        }
        let start = self.outgoing.bytes.len();
        for record in batch.records {
            self.put_record(record, seq);
        }
        let bytes = self.outgoing.bytes.len() - start;
        self.outgoing.puts.push(LogPut { seq, group: batch.group, bytes });
        seq
    }

    fn page(&mut self, from: Token, to: Token, max: usize, out: &mut Vec<IndexEntry>) {
        self.index.page(from, to, max, out);
    }

    fn read(&mut self, entry: &IndexEntry) -> (Option<(Key, Lookup)>, Seq) {
        let place = Place(entry.place);
        let known = self.index.find(entry.token).iter().find(|known| known.place == place).copied();
        let Some(known) = known else { return (None, Seq(0)) };
        if let Some((record, seq)) = self.in_memory(place) {
            return (Some((record.key.clone(), found(&record))), seq);
        }
        // The key stands in the record; until that is here only its token is known.
        let key = Key { token: entry.token, bucket: BucketId(0), bytes: Bytes::new() };
        if known.is_damaged() {
            return (Some((key, Lookup::Unknown)), Seq(0));
        }
        self.request(entry.token, place, 0);
        (Some((key, Lookup::Cold)), Seq(0))
    }

    fn count(&self, partition: PartitionId, bucket: BucketId) -> u64 {
        self.counts.get(&(partition, bucket)).copied().unwrap_or(0)
    }

    fn undurable_bytes(&self) -> usize {
        self.pending_bytes
    }

    fn is_full(&self) -> bool {
        self.full
    }

    fn is_out_of_memory(&self) -> bool {
        self.memory_bytes() > self.memory_max
    }
}

fn found(record: &Cached) -> Lookup {
    if record.object.is_void() { Lookup::Absent } else { Lookup::Found(record.object.clone()) }
}
