//! Records that were read or written lately, so that most reads cost no disk.
//!
//! S3-FIFO (Yang et al., SOSP 2023): a new record goes to a small queue, a tenth of the room; only
//! those that are asked for again before they leave it enter the main queue, so a scan of many
//! records that nobody asks for twice does not push out the ones that are in use. A record that
//! left the small queue is remembered by its place for a while, and enters the main queue if it
//! comes back. Unlike LRU, a hit moves nothing.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use super::codec::to_u64;
use super::place::Place;
use crate::causality::Object;
use crate::hash::Key;

/// Bytes that a record takes besides its key and its values.
const OVERHEAD_BYTES: usize = 256;
/// Share of the small queue: one in this many.
const SMALL_SHARE: usize = 10;
/// Hits that are counted; more earn nothing.
const HITS_MAX: u8 = 3;

/// A record in memory.
#[derive(Debug)]
pub(super) struct Cached {
    /// Its key.
    pub(super) key: Key,
    /// Its object, stripped.
    pub(super) object: Object,
}

impl Cached {
    /// Bytes of its key and values.
    pub(super) fn bytes(&self) -> usize {
        let values = self.object.entries.iter().map(|entry| entry.payload.len() + entry.path.len());
        self.key.bytes.len() + values.sum::<usize>()
    }

    /// Gives it bytes of its own, all in one piece: what it was parsed from may be much longer.
    fn own_bytes(&mut self) {
        let mut all = Vec::with_capacity(self.bytes());
        all.extend_from_slice(&self.key.bytes);
        for entry in &self.object.entries {
            all.extend_from_slice(&entry.payload);
            all.extend_from_slice(&entry.path);
        }
        let mut rest = Bytes::from(all);
        self.key.bytes = rest.split_to(self.key.bytes.len());
        for entry in &mut self.object.entries {
            entry.payload = rest.split_to(entry.payload.len());
            entry.path = rest.split_to(entry.path.len());
        }
    }
}

/// The same record with bytes of its own, which it may be kept with for long.
pub(super) fn detach(record: &mut Arc<Cached>) {
    if Arc::get_mut(record).is_none() {
        let Cached { key, object } = &**record;
        *record = Arc::new(Cached { key: key.clone(), object: object.clone() });
    }
    Arc::get_mut(record).expect("nobody else has a new record").own_bytes();
}

/// A map by place; never iterated, and hashed the same way in every run.
type ByPlace<V> = HashMap<Place, V, BuildHasherDefault<PlaceHasher>>;

/// Records by place.
#[derive(Debug, Default)]
pub(super) struct Cache {
    slots: ByPlace<Slot>,
    small: VecDeque<Place>,
    main: VecDeque<Place>,
    /// Places that left the small queue without a hit; how often each stands in the queue.
    ghosts: ByPlace<u32>,
    ghost_queue: VecDeque<Place>,
    small_bytes: usize,
    main_bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Slot {
    record: Arc<Cached>,
    bytes: usize,
    hits: u8,
    in_main: bool,
}

impl Cache {
    /// An empty cache of `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// The record at a place.
    pub(super) fn find(&mut self, place: Place) -> Option<Arc<Cached>> {
        let slot = self.slots.get_mut(&place)?;
        slot.hits = HITS_MAX.min(slot.hits + 1);
        Some(Arc::clone(&slot.record))
    }

    /// Takes in a record.
    pub(super) fn insert(&mut self, place: Place, record: Arc<Cached>) {
        let bytes = record.bytes() + OVERHEAD_BYTES;
        if bytes > self.bytes_max / SMALL_SHARE || self.slots.contains_key(&place) {
            return;
        }
        let in_main = self.ghosts.contains_key(&place);
        self.slots.insert(place, Slot { record, bytes, hits: 0, in_main });
        self.enqueue(place, bytes, in_main);
        while self.small_bytes + self.main_bytes > self.bytes_max {
            if self.small_bytes > self.bytes_max / SMALL_SHARE || self.main.is_empty() {
                self.shrink_small();
            } else {
                self.shrink_main();
            }
        }
    }

    /// Forgets the record at a place, which nothing points to any more.
    pub(super) fn remove(&mut self, place: Place) {
        if let Some(slot) = self.slots.remove(&place) {
            *self.bytes_of(slot.in_main) -= slot.bytes;
        }
    }

    /// Bytes of the records.
    pub(super) fn bytes(&self) -> usize {
        self.small_bytes + self.main_bytes
    }

    fn enqueue(&mut self, place: Place, bytes: usize, in_main: bool) {
        *self.bytes_of(in_main) += bytes;
        if in_main {
            self.main.push_back(place);
        } else {
            self.small.push_back(place);
        }
        self.drop_stale();
    }

    /// Takes the oldest of the small queue out: into the main queue if it was asked for.
    fn shrink_small(&mut self) {
        let Some(place) = self.small.pop_front() else { return };
        let Some(slot) = self.slots.get_mut(&place) else { return };
        let (bytes, wanted) = (slot.bytes, slot.hits > 0);
        self.small_bytes -= bytes;
        if wanted {
            slot.in_main = true;
            slot.hits = 0;
            self.enqueue(place, bytes, true);
        } else {
            self.slots.remove(&place);
            self.remember(place);
        }
    }

    /// Takes the oldest of the main queue out, or gives it another round for a hit.
    fn shrink_main(&mut self) {
        let Some(place) = self.main.pop_front() else { return };
        let Some(slot) = self.slots.get_mut(&place) else { return };
        if slot.hits > 0 {
            slot.hits -= 1;
            self.main.push_back(place);
        } else {
            self.main_bytes -= slot.bytes;
            self.slots.remove(&place);
        }
    }

    fn remember(&mut self, place: Place) {
        *self.ghosts.entry(place).or_default() += 1;
        self.ghost_queue.push_back(place);
        while self.ghost_queue.len() > self.slots.len().max(64) {
            let oldest = self.ghost_queue.pop_front().expect("the queue is not empty");
            if let Some(times) = self.ghosts.get_mut(&oldest) {
                *times -= 1;
                if *times == 0 {
                    self.ghosts.remove(&oldest);
                }
            }
        }
    }

    /// Queues keep the places of removed records; when most are stale, they are swept.
    fn drop_stale(&mut self) {
        if self.small.len() + self.main.len() > 2 * self.slots.len() + 1_024 {
            let slots = &self.slots;
            self.small.retain(|place| slots.get(place).is_some_and(|slot| !slot.in_main));
            self.main.retain(|place| slots.get(place).is_some_and(|slot| slot.in_main));
        }
    }

    fn bytes_of(&mut self, in_main: bool) -> &mut usize {
        if in_main { &mut self.main_bytes } else { &mut self.small_bytes }
    }
}

/// Spreads the bits of a place; places are not chosen by clients.
#[derive(Debug, Default)]
struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(to_u64(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::{Actor, Dot, Entry};
    use crate::time::Hlc;

    fn record(bytes: usize) -> Arc<Cached> {
        let dot = Dot { actor: Actor(1), seq: 1 };
        let entry = Entry::register(dot, Hlc(1), Bytes::from(vec![0; bytes]));
        let object = Object { entries: vec![entry], ..Object::default() };
        Arc::new(Cached { key: Key::plain(""), object })
    }

    fn place(number: u64) -> Place {
        Place::new(1, number * 8, 8)
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_in_use() {
        let mut cache = Cache::new(100 * (OVERHEAD_BYTES + 44));
        for number in 0..50 {
            cache.insert(place(number), record(44));
            cache.find(place(number));
        }
        for number in 1_000..20_000 {
            cache.insert(place(number), record(44));
        }
        let kept = (0..50).filter(|&number| cache.find(place(number)).is_some()).count();
        assert!(kept >= 45, "{kept} of 50 are still there");
    }

    #[test]
    fn it_keeps_within_its_bytes_and_forgets_what_is_removed() {
        let bytes_max = 50_000;
        let mut cache = Cache::new(bytes_max);
        for number in 0..100_000_u64 {
            cache.insert(place(number), record(usize_of(number % 700)));
            if number % 3 == 0 {
                cache.find(place(number / 2));
            }
            if number % 5 == 0 {
                cache.remove(place(number.saturating_sub(10)));
                assert!(cache.find(place(number.saturating_sub(10))).is_none());
            }
            assert!(cache.bytes() <= bytes_max);
        }
        let queued = cache.small.len() + cache.main.len();
        assert!(queued <= 2 * cache.slots.len() + 1_025, "queues are swept");
        let counted: usize = cache.slots.values().map(|slot| slot.bytes).sum();
        assert_eq!(counted, cache.bytes());
    }

    #[test]
    fn a_record_that_comes_back_goes_to_the_main_queue() {
        let mut cache = Cache::new(100 * (OVERHEAD_BYTES + 44));
        cache.insert(place(0), record(44));
        for number in 1..130 {
            cache.insert(place(number), record(44));
        }
        assert!(cache.find(place(0)).is_none());
        cache.insert(place(0), record(44));
        assert!(cache.slots[&place(0)].in_main);
    }

    fn usize_of(number: u64) -> usize {
        usize::try_from(number).unwrap()
    }
}
