//! What lies on the disks, read from their stable images and not from what nodes say of them.
//!
//! After each sync the new bytes of the file are searched for whole groups of records. So the world
//! knows for itself which events a disk holds, and oracles can ask whether what a node says, and
//! what it tells its clients, rests on a disk; and which copies are left that a fault may take.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use super::disk::SimDisk;
use super::network::Place;
use crate::causality::{Dot, NodeId};
use crate::hash::{Key, PartitionId};
use crate::shard::Record;
use crate::store::FileName;
use crate::store::inspect::{Inspected, InspectedKind, InspectedSegment};

/// Zeros with which a record may end: as much behind the last byte that is none is searched too.
const ZEROS_MAX: usize = 1_024;

/// An event: dots are minted per partition.
pub(super) type Event = (PartitionId, Dot);

/// What lies on all disks.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    shelves: BTreeMap<(Place, FileName), Shelf>,
    /// Events that a disk has held at any time.
    held: BTreeMap<Place, BTreeSet<Event>>,
    /// Events that processes put and that their disks do not hold yet.
    in_memory: BTreeMap<Place, BTreeMap<Event, Key>>,
    /// Events that a node has taken away because they were over, and its disk has stored that.
    dropped: BTreeMap<Place, BTreeSet<Event>>,
}

/// The records of one file.
#[derive(Debug)]
struct Shelf {
    segment: InspectedSegment,
    records: BTreeMap<u64, Inspected>,
    /// Where the last whole group ends.
    end: u64,
    /// Nothing was ever written from here on.
    written: u64,
}

impl Ledger {
    /// A process put a record: it is in memory from now on.
    pub(super) fn put(&mut self, place: Place, record: &Record) {
        let held = self.held.entry(place).or_default();
        let in_memory = self.in_memory.entry(place).or_default();
        for &dot in &record.dots {
            if !held.contains(&(record.partition, dot)) {
                in_memory.insert((record.partition, dot), record.key.clone());
            }
        }
    }

    /// The disk of a node has stored that these events, which are over, were taken away.
    pub(super) fn dropped(&mut self, place: Place, events: Vec<Event>) {
        if !events.is_empty() {
            self.dropped.entry(place).or_default().extend(events);
        }
    }

    /// Whether a node has taken away an event because it was over.
    pub(super) fn has_dropped(&self, place: Place, event: Event) -> bool {
        self.dropped.get(&place).is_some_and(|dropped| dropped.contains(&event))
    }

    /// A node was damaged: nobody knows what it knows to be gone.
    pub(super) fn forget_dropped(&mut self, place: Place) {
        self.dropped.remove(&place);
    }

    /// The process is gone, and with it what was in its memory.
    pub(super) fn forget_memory(&mut self, place: Place) {
        self.in_memory.remove(&place);
    }

    /// The key of an event that a node has in its memory only.
    pub(super) fn in_memory(&self, place: Place, event: Event) -> Option<&Key> {
        self.in_memory.get(&place)?.get(&event)
    }

    /// Whether the disk of a node has held an event at any time.
    pub(super) fn has_held(&self, place: Place, event: Event) -> bool {
        self.held.get(&place).is_some_and(|held| held.contains(&event))
    }

    /// Every event that the disk of a node has held at any time.
    pub(super) fn held(&self, place: Place) -> impl Iterator<Item = &Event> {
        self.held.get(&place).into_iter().flatten()
    }

    /// Something was written to a file: what stood from there on is not what stands there.
    pub(super) fn on_write(&mut self, place: Place, file: FileName, bytes: &Range<u64>) {
        if let Some(shelf) = self.shelves.get_mut(&(place, file)) {
            shelf.cut(bytes.start);
            shelf.written = shelf.written.max(bytes.end);
        }
    }

    /// A file was synced. Returns the events that its disk holds now and did not hold before.
    pub(super) fn on_sync(
        &mut self,
        place: Place,
        node: NodeId,
        disk: &SimDisk,
        file: FileName,
    ) -> Vec<Event> {
        let mut events = self.read(place, node, disk, file);
        let held = self.held.entry(place).or_default();
        events.retain(|&event| held.insert(event));
        if let Some(in_memory) = self.in_memory.get_mut(&place) {
            for event in &events {
                in_memory.remove(event);
            }
        }
        events
    }

    /// Takes in what a file holds that is not known yet, and returns its events.
    fn read(&mut self, place: Place, node: NodeId, disk: &SimDisk, file: FileName) -> Vec<Event> {
        let (FileName::Segment(number) | FileName::Prepared(number)) = file else {
            return Vec::new();
        };
        let Some(stable) = disk.stable(file) else { return Vec::new() };
        let shelf = match self.shelves.entry((place, file)) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let Some(segment) = InspectedSegment::of(stable, number, node) else {
                    return Vec::new();
                };
                let (records, end) = (BTreeMap::new(), InspectedSegment::header_bytes());
                let zeros = stable.iter().rev().take_while(|byte| **byte == 0).count();
                let written = (stable.len() - zeros.saturating_sub(ZEROS_MAX)) as u64;
                entry.insert(Shelf { segment, records, end, written })
            }
        };
        shelf.read_on(stable)
    }

    /// A file has another name.
    pub(super) fn on_rename(&mut self, place: Place, from: FileName, to: FileName) {
        if let Some(shelf) = self.shelves.remove(&(place, from)) {
            self.shelves.insert((place, to), shelf);
        }
    }

    /// A file is gone.
    pub(super) fn on_remove(&mut self, place: Place, file: FileName) {
        self.shelves.remove(&(place, file));
    }

    /// The events that a write to a file would store, and whether it holds anything else that
    /// matters: `None` = it is not known what it writes.
    pub(super) fn events_of(
        &self,
        place: Place,
        file: FileName,
        offset: u64,
        bytes: &[u8],
    ) -> Option<Vec<Event>> {
        let shelf = self.shelves.get(&(place, file))?;
        events_in(shelf.segment.records(bytes, offset).iter())
    }

    /// The events of the groups that a start will take for torn, and not for damaged, once these
    /// bytes of a file are: those at the end of the log of which no later record proves that they
    /// were synced. `None` = something that matters would go with them.
    pub(super) fn torn_by(
        &self,
        place: Place,
        file: FileName,
        bytes: &Range<u64>,
    ) -> Option<Vec<Event>> {
        // One that was made and not used yet proves nothing.
        let appended = self
            .shelves_of(place)
            .filter(|(_, shelf)| !shelf.segment.is_cold() && !shelf.records.is_empty());
        let Some((_, shelf)) = appended.last().filter(|(newest, _)| *newest == file) else {
            return Some(Vec::new());
        };
        let after_sync = shelf.records.values().filter(|record| record.after_sync);
        let proved = after_sync.map(|record| record.group).max().unwrap_or(0);
        let touched = self.touched(place, file, bytes.clone())?;
        let torn = touched.iter().map(|record| record.group).filter(|&group| group >= proved).min();
        let Some(torn) = torn else { return Some(Vec::new()) };
        events_in(shelf.records.values().filter(|record| record.group >= torn))
    }

    /// A disk said that it has stored these events, and has not: nobody can know.
    pub(super) fn was_told_a_lie(&mut self, place: Place, events: &[Event]) {
        if let Some(in_memory) = self.in_memory.get_mut(&place) {
            in_memory.retain(|event, _| !events.contains(event));
        }
    }

    /// These bytes of a file are damaged: the records that they touch are no copies any more.
    pub(super) fn spoil(&mut self, place: Place, file: FileName, bytes: &Range<u64>) {
        if let Some(shelf) = self.shelves.get_mut(&(place, file)) {
            shelf.records.retain(|_, record| {
                record.offset >= bytes.end || record.offset + record.length <= bytes.start
            });
        }
    }

    /// Reads a disk anew: power was lost. What it holds by chance counts once it is synced.
    pub(super) fn read_anew(&mut self, place: Place, node: NodeId, disk: &SimDisk) {
        let past: Vec<FileName> = self.shelves_of(place).map(|(file, _)| file).collect();
        for file in past {
            self.shelves.remove(&(place, file));
        }
        for (file, _) in disk.list() {
            self.read(place, node, disk, file);
        }
    }

    /// Whether the last group that a disk holds of a file ends behind a byte: what stands further
    /// on is being written, and nobody can tell yet what its loss would mean.
    pub(super) fn is_settled(&self, place: Place, file: FileName, byte: u64) -> bool {
        self.shelves.get(&(place, file)).is_none_or(|shelf| byte < shelf.end)
    }

    /// The records that `bytes` of a file touch; `None` = it is not known what stands there.
    pub(super) fn touched(
        &self,
        place: Place,
        file: FileName,
        bytes: Range<u64>,
    ) -> Option<Vec<&Inspected>> {
        let shelf = self.shelves.get(&(place, file))?;
        let records = shelf.records.range(..bytes.end).map(|(_, record)| record);
        Some(records.filter(|record| record.offset + record.length > bytes.start).collect())
    }

    /// Every record on the disk of a node: file, offset, length.
    pub(super) fn all(&self, place: Place) -> Vec<(FileName, u64, u64)> {
        self.shelves_of(place)
            .flat_map(|(file, shelf)| {
                shelf.records.values().map(move |found| (file, found.offset, found.length))
            })
            .collect()
    }

    /// The newest record of every key on the disk of a node: file, offset, length.
    pub(super) fn all_newest(&self, place: Place) -> Vec<(FileName, u64, u64)> {
        let mut newest: BTreeMap<&Key, (u64, (FileName, u64, u64))> = BTreeMap::new();
        for (file, shelf) in self.shelves_of(place) {
            for found in shelf.records.values() {
                if let InspectedKind::Key(record) = &found.contents {
                    let here = (found.lsn, (file, found.offset, found.length));
                    let known = newest.entry(&record.key).or_insert(here);
                    *known = (*known).max(here);
                }
            }
        }
        newest.into_values().map(|(_, lies)| lies).collect()
    }

    /// Whether a newer record of its key lies on the same disk.
    pub(super) fn is_replaced(&self, place: Place, lsn: u64, key: &Key) -> bool {
        self.shelves_of(place).flat_map(|(_, shelf)| shelf.records.values()).any(|found| {
            found.lsn > lsn
                && matches!(&found.contents, InspectedKind::Key(other) if other.key == *key)
        })
    }

    /// The newest record of each key on the disk of a node.
    pub(super) fn newest(&self, place: Place) -> BTreeMap<&Key, &Record> {
        let mut newest: BTreeMap<&Key, (u64, &Record)> = BTreeMap::new();
        for (_, shelf) in self.shelves_of(place) {
            for found in shelf.records.values() {
                if let InspectedKind::Key(record) = &found.contents {
                    let known = newest.entry(&record.key).or_insert((found.lsn, record));
                    if known.0 <= found.lsn {
                        *known = (found.lsn, record);
                    }
                }
            }
        }
        newest.into_iter().map(|(key, (_, record))| (key, record)).collect()
    }

    /// Whether other disks than that of `place` hold every sibling that this record holds, and the
    /// events that it stands for: a delete is nothing but its event.
    pub(super) fn has_other_copy(&self, place: Place, places: usize, record: &Record) -> bool {
        let others = || (0..places).filter(|&other| other != place);
        let is_held = |dot: &Dot| {
            let event = (record.partition, *dot);
            others().any(|other| self.has_held(other, event))
        };
        record.dots.iter().all(is_held)
            && record.object.entries.iter().all(|entry| {
                others().any(|other| {
                    self.newest(other).get(&record.key).is_some_and(|copy| {
                        copy.object.entries.iter().any(|own| own.dot == entry.dot)
                    })
                })
            })
    }

    /// The values that the disk of a node holds of each key, by their events.
    pub(super) fn siblings(&self, place: Place) -> BTreeMap<Key, BTreeMap<Dot, Bytes>> {
        let newest = self.newest(place).into_iter();
        newest
            .map(|(key, record)| {
                let entries = record.object.entries.iter();
                (key.clone(), entries.map(|entry| (entry.dot, entry.payload.clone())).collect())
            })
            .collect()
    }

    fn shelves_of(&self, place: Place) -> impl Iterator<Item = (FileName, &Shelf)> {
        let first = (place, FileName::Segment(0));
        let all = self.shelves.range(first..).take_while(move |((other, _), _)| *other == place);
        all.map(|((_, file), shelf)| (*file, shelf))
    }
}

impl Shelf {
    /// Takes in the whole groups that follow, and returns their events.
    fn read_on(&mut self, stable: &[u8]) -> Vec<Event> {
        let place = |offset| usize::try_from(offset).expect("a simulated file fits memory");
        let new = place(self.end)..place(self.written).min(stable.len());
        let mut found = self.segment.records(stable.get(new).unwrap_or_default(), self.end);
        let is_commit = |record: &Inspected| matches!(record.contents, InspectedKind::Commit);
        let whole = found.iter().rposition(is_commit).map_or(0, |last| last + 1);
        found.truncate(whole);
        let mut events = Vec::new();
        for record in found {
            if let InspectedKind::Key(put) = &record.contents {
                events.extend(put.dots.iter().map(|&dot| (put.partition, dot)));
            }
            self.end = record.offset + record.length;
            self.records.insert(record.offset, record);
        }
        events
    }

    fn cut(&mut self, offset: u64) {
        if offset < self.end {
            self.records = {
                let mut kept = std::mem::take(&mut self.records);
                kept.retain(|_, record| record.offset + record.length <= offset);
                kept
            };
            let last = self.records.last_key_value();
            self.end = last.map_or_else(InspectedSegment::header_bytes, |(_, record)| {
                record.offset + record.length
            });
        }
    }
}

/// The events that records hold; `None` = one of them holds something else that matters.
fn events_in<'a>(records: impl Iterator<Item = &'a Inspected>) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    for found in records {
        match &found.contents {
            InspectedKind::Key(record) => {
                events.extend(record.dots.iter().map(|&dot| (record.partition, dot)));
            }
            InspectedKind::Clock(_) | InspectedKind::Control => return None,
            InspectedKind::Request(_) | InspectedKind::Commit | InspectedKind::Noop => {}
        }
    }
    Some(events)
}
