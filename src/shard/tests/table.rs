//! A table in memory that behaves as badly as the contract of [`Table`] allows: puts become
//! durable when the world says so, records go cold, undurable puts are lost in a crash, records
//! are damaged.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::super::{
    Batch, Group, IndexEntry, Lookup, REFUSED_BUCKET, Record, Recovered, Seq, Table,
};
use crate::causality::{Dot, Object, PartitionClock};
use crate::hash::{BucketId, Key, PartitionId, Token};

/// Storage of one shard of the test world.
#[derive(Debug)]
pub(in super::super) struct MemoryTable {
    objects: BTreeMap<Key, (Object, Seq)>,
    /// Every record that was put, in order.
    log: Vec<(Seq, Record)>,
    /// Puts of this life that are parts of groups.
    pub(in super::super) groups: Vec<(Seq, Group)>,
    next: u64,
    pub(in super::super) durable: Seq,
    damaged: BTreeSet<Key>,
    /// Percentage of reads of durable records that are cold.
    pub(in super::super) cold_percent: u32,
    /// Of the whole ring.
    pub(in super::super) partitions: u16,
    fetching: BTreeSet<Token>,
    warm: BTreeSet<Token>,
    /// Tokens asked of the disk since the world last looked.
    pub(in super::super) asked: Vec<Token>,
    pub(in super::super) full: bool,
    pub(in super::super) out_of_memory: bool,
    pub(in super::super) undurable_extra: usize,
    random: Xoshiro256PlusPlus,
}

impl MemoryTable {
    pub(in super::super) fn new(seed: u64) -> Self {
        Self {
            objects: BTreeMap::new(),
            log: Vec::new(),
            groups: Vec::new(),
            next: 0,
            durable: Seq(0),
            damaged: BTreeSet::new(),
            cold_percent: 0,
            partitions: 1,
            fetching: BTreeSet::new(),
            warm: BTreeSet::new(),
            asked: Vec::new(),
            full: false,
            out_of_memory: false,
            undurable_extra: 0,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    /// The newest put.
    pub(in super::super) fn newest(&self) -> Seq {
        Seq(self.next)
    }

    /// How many records of a key made an event, here or elsewhere.
    pub(in super::super) fn events_of(&self, key: &Key) -> usize {
        self.log.iter().filter(|(_, record)| record.key == *key && !record.dots.is_empty()).count()
    }

    /// Everything up to `upto` is on stable storage.
    pub(in super::super) fn sync(&mut self, upto: Seq) {
        self.durable = self.durable.max(upto);
    }

    /// The record of `token` is in memory until the next eviction.
    pub(in super::super) fn fetched(&mut self, token: Token) {
        self.fetching.remove(&token);
        self.warm.insert(token);
    }

    /// What is not being fetched may go cold again.
    pub(in super::super) fn evict(&mut self) {
        self.warm.clear();
    }

    /// Damages the durable record of a key.
    pub(in super::super) fn damage(&mut self, key: &Key) {
        assert!(self.objects.contains_key(key), "only a record that is there can be damaged");
        self.damaged.insert(key.clone());
    }

    pub(in super::super) fn is_damaged(&self, key: &Key) -> bool {
        self.damaged.contains(key)
    }

    /// Records from `from` on.
    pub(in super::super) fn log_from(&self, from: usize) -> &[(Seq, Record)] {
        &self.log[from..]
    }

    pub(in super::super) fn log_len(&self) -> usize {
        self.log.len()
    }

    /// What the table holds of a key now, durable or not.
    pub(in super::super) fn holds(&self, key: &Key) -> Object {
        self.objects.get(key).map_or_else(Object::default, |(object, _)| object.clone())
    }

    /// What would be left of a key after a crash.
    pub(in super::super) fn holds_durably(&self, key: &Key) -> Object {
        self.log
            .iter()
            .rev()
            .find(|(seq, record)| *seq <= self.durable && record.key == *key)
            .map_or_else(Object::default, |(_, record)| record.object.clone())
    }

    /// Whether a record with this dot would be left after a crash.
    pub(in super::super) fn is_durable(&self, partition: PartitionId, dot: Dot) -> bool {
        self.log.iter().any(|(seq, record)| {
            *seq <= self.durable && record.partition == partition && record.dots.contains(&dot)
        })
    }

    /// Loses what is not durable, and tells what recovery would.
    pub(in super::super) fn crash(&mut self) -> Recovered {
        let durable = self.durable;
        self.log.retain(|(seq, _)| *seq <= durable);
        self.objects.clear();
        let mut recovered = Recovered { is_complete: true, ..Recovered::default() };
        for (_, record) in &self.log {
            let clock: &mut PartitionClock = recovered.clocks.entry(record.partition).or_default();
            record.dots.iter().for_each(|&dot| clock.add(dot));
            recovered.stamps.extend(record.stamp.map(|stamp| (record.key.token, stamp)));
            let newest = record.object.entries.iter().map(|entry| entry.hlc).max();
            recovered.hlc = recovered.hlc.max(newest.unwrap_or_default());
            if record.object.is_void() {
                self.objects.remove(&record.key);
            } else {
                // What recovery found is durable: nothing rests on a put of this life.
                self.objects.insert(record.key.clone(), (record.object.clone(), Seq(0)));
            }
        }
        let refused = self.objects.keys().filter(|key| key.bucket == REFUSED_BUCKET);
        recovered.refused.extend(refused.cloned());
        // Puts are numbered per life of the process.
        self.log.iter_mut().for_each(|(seq, _)| *seq = Seq(0));
        self.groups.clear();
        self.next = 0;
        self.durable = Seq(0);
        self.fetching.clear();
        self.warm.clear();
        self.asked.clear();
        recovered
    }
}

impl Table for MemoryTable {
    fn get(&mut self, key: &Key) -> (Lookup, Seq) {
        // An absence rests on the put that made it one, which the log still knows.
        let rests_on = self
            .log
            .iter()
            .rev()
            .take_while(|(seq, _)| *seq > self.durable)
            .find(|(_, record)| record.key == *key)
            .map_or(Seq(0), |(seq, _)| *seq);
        if self.damaged.contains(key) {
            return (Lookup::Unknown, rests_on);
        }
        let Some((object, _)) = self.objects.get(key) else { return (Lookup::Absent, rests_on) };
        let may_be_cold = rests_on == Seq(0) && !self.warm.contains(&key.token);
        if may_be_cold
            && (self.fetching.contains(&key.token)
                || self.random.random_range(0..100) < self.cold_percent)
        {
            if self.fetching.insert(key.token) {
                self.asked.push(key.token);
            }
            return (Lookup::Cold, Seq(0));
        }
        (Lookup::Found(object.clone()), rests_on)
    }

    fn put(&mut self, batch: Batch) -> Seq {
        self.next += 1;
        assert!(!batch.records.is_empty(), "a part of a group that is never put stops the log");
        self.groups.extend(batch.group.map(|group| (Seq(self.next), group)));
        for record in batch.records {
            self.damaged.remove(&record.key);
            if record.object.is_void() {
                self.objects.remove(&record.key);
            } else {
                let stored = (record.object.clone(), Seq(self.next));
                self.objects.insert(record.key.clone(), stored);
            }
            self.log.push((Seq(self.next), record));
        }
        Seq(self.next)
    }

    fn page(&mut self, from: Token, to: Token, max: usize, out: &mut Vec<IndexEntry>) {
        let start = out.len();
        for (place, key) in (0_u64..).zip(self.objects.keys()) {
            if key.token < from || key.token > to {
                continue;
            }
            let ends_token = out.last().is_some_and(|last| last.token != key.token);
            if out.len() - start >= max && ends_token {
                return;
            }
            out.push(IndexEntry { token: key.token, place });
        }
    }

    fn read(&mut self, entry: &IndexEntry) -> (Option<(Key, Lookup)>, Seq) {
        let place = usize::try_from(entry.place).expect("a place is an index");
        let Some(key) = self.objects.keys().nth(place).cloned() else { return (None, Seq(0)) };
        if key.token != entry.token {
            return (None, Seq(0));
        }
        let (lookup, rests_on) = self.get(&key);
        (Some((key, lookup)), rests_on)
    }

    fn count(&self, partition: PartitionId, bucket: BucketId) -> u64 {
        let live = |key: &Key, object: &Object| {
            let is_there = key.token.partition(self.partitions) == partition;
            is_there && key.bucket == bucket && !object.entries.is_empty()
        };
        let count = self.objects.iter().filter(|(key, (object, _))| live(key, object)).count();
        u64::try_from(count).expect("a count fits 64 bits")
    }

    fn undurable_bytes(&self) -> usize {
        self.undurable_extra
    }

    fn is_full(&self) -> bool {
        self.full
    }

    fn is_out_of_memory(&self) -> bool {
        self.out_of_memory
    }
}
