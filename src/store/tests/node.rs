//! A node for tests: a log and its tables on a disk, driven as a shell drives them.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use super::disk::MemoryDisk;
use crate::causality::{Actor, Dot, Entry, NodeId, Object, VersionVector};
use crate::cluster::ControlRecord;
use crate::config::Durability;
use crate::hash::{Key, PartitionId, Token};
use crate::shard::{Batch, Group, Lookup, Record, Seq, ShardId, Stamp, Table as _};
use crate::store::record::Clocks;
use crate::store::{Damage, DiskOp, Event, Log, LogConfig, LogError, ReadRequest, Store};
use crate::time::{Hlc, Mono, Now};

/// Number of partitions of the ring in these tests.
pub(super) const PARTITIONS: u16 = 4;

/// A process of a node, and the disk that outlives it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: LogConfig,
    pub(super) disk: MemoryDisk,
    pub(super) log: Log,
    pub(super) stores: Vec<Store>,
    pub(super) clocks: Clocks,
    pub(super) control: BTreeMap<u8, Bytes>,
    pub(super) damage: Damage,
    /// What the start found of requests: what each became, and notes of those that are not led.
    pub(super) stamps: Vec<(Token, Stamp)>,
    pub(super) refused: Vec<Key>,
    pub(super) recovered_lsn: u64,
    /// For each shard, and then the control plane, the newest durable put.
    pub(super) durable: Vec<Seq>,
    pub(super) notices: Vec<String>,
    pub(super) fatal: Option<LogError>,
    /// Reads that tables have asked for and nobody has carried out.
    reads: Vec<(usize, ReadRequest)>,
    pub(super) now: Now,
    pub(super) rng: Xoshiro256PlusPlus,
    /// The next number of each partition, under the actor of this start.
    minted: BTreeMap<PartitionId, u64>,
    epoch: u32,
}

/// The configuration that most tests use.
pub(super) fn config(shards: u16, segment_bytes: u64) -> LogConfig {
    LogConfig {
        node: NodeId([7; 16]),
        shards,
        segment_bytes,
        durability: Durability::Always,
        cache_bytes: 64 * 1024,
        memory_bytes: usize::MAX,
        scrub_ms: Some(60_000),
        seed: 1,
    }
}

/// The partition of a key.
pub(super) fn partition_of(key: &Key) -> PartitionId {
    key.token.partition(PARTITIONS)
}

impl Node {
    /// Starts a process on a disk, and waits until it has recovered or failed.
    pub(super) fn start(config: LogConfig, disk: MemoryDisk, epoch: u32) -> Self {
        let mut node = Self::begin(config, disk, epoch);
        node.settle();
        node
    }

    /// Starts a process on a disk, which has done nothing yet.
    pub(super) fn begin(config: LogConfig, disk: MemoryDisk, epoch: u32) -> Self {
        let writers = usize::from(config.shards) + 1;
        let seed = config.seed ^ u64::from(epoch);
        Self {
            log: Log::new(LogConfig { seed, ..config.clone() }),
            config,
            disk,
            stores: Vec::new(),
            clocks: Clocks::new(),
            control: BTreeMap::new(),
            damage: Damage::default(),
            stamps: Vec::new(),
            refused: Vec::new(),
            recovered_lsn: 0,
            durable: vec![Seq(0); writers],
            notices: Vec::new(),
            fatal: None,
            reads: Vec::new(),
            now: Now { mono: Mono(1), unix_ms: 1 },
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            minted: BTreeMap::new(),
            epoch,
        }
    }

    /// The process dies, and another starts; with `power` the machine does.
    pub(super) fn crash(mut self, power: bool) -> Self {
        if power {
            self.disk.lose_power(&mut self.rng);
        } else {
            self.disk.kill(&mut self.rng);
        }
        Self::start(self.config, self.disk, self.epoch + 1)
    }

    /// Another process starts after this one has done everything.
    pub(super) fn restart(mut self) -> Self {
        self.settle();
        self.crash(true)
    }

    /// The same, with another number of shards from then on.
    pub(super) fn crash_into(mut self, power: bool, shards: u16) -> Self {
        self.config.shards = shards;
        self.crash(power)
    }

    /// Drives everything until nothing is left to do but wait for time to pass.
    pub(super) fn settle(&mut self) {
        while self.turn() {}
    }

    /// Lets time pass and drives everything.
    pub(super) fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus_ms(ms);
        self.now.unix_ms += ms;
        self.settle();
    }

    /// One round of what a shell does. Returns whether anything happened.
    pub(super) fn turn(&mut self) -> bool {
        for (shard, store) in self.stores.iter_mut().enumerate() {
            if let Some(batch) = store.take_batch() {
                self.log.hand(ShardId(u16::try_from(shard).unwrap()), batch);
            }
        }
        self.log.pump(self.now, &mut self.disk);
        let completion = self.disk.complete(&mut self.rng);
        let mut busy = completion.is_some() || !self.reads.is_empty();
        if !self.reads.is_empty() && self.rng.random_bool(0.2) {
            let index = self.rng.random_range(0..self.reads.len());
            self.read_one(index);
        }
        if let Some((id, result)) = completion {
            self.log.on_io(self.now, id, result);
            self.log.pump(self.now, &mut self.disk);
        }
        for event in self.log.take_events() {
            busy = true;
            self.on_event(event);
        }
        busy
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Recovered(recovered) => {
                self.recovered_lsn = recovered.lsn;
                self.control = recovered.control;
                self.damage = recovered.damage;
                for shard in recovered.shards {
                    self.clocks.extend(shard.clocks);
                    self.stamps.extend(shard.stamps);
                    self.refused.extend(shard.refused);
                    self.stores.push(shard.store);
                }
            }
            Event::Note { shard, note } => {
                if let Some(upto) = self.stores[usize::from(shard.0)].on_note(note) {
                    let durable = &mut self.durable[usize::from(shard.0)];
                    assert!(upto > *durable, "durable puts grow");
                    *durable = upto;
                }
            }
            Event::ControlDurable { upto } => {
                *self.durable.last_mut().unwrap() = upto;
            }
            Event::Notice(line) => self.notices.push(line),
            Event::Fatal(error) => self.fatal = Some(error),
        }
    }

    /// The shard of a key.
    pub(super) fn shard_of(&self, key: &Key) -> usize {
        usize::from(partition_of(key).0 % self.config.shards)
    }

    /// A record that replaces what a key holds; `None` = a Forget.
    pub(super) fn record(&mut self, key: &Key, value: Option<&[u8]>) -> Record {
        let partition = partition_of(key);
        let seq = self.minted.entry(partition).or_default();
        *seq += 1;
        let dot = Dot { actor: Actor(u64::from(self.epoch) + 1), seq: *seq };
        let hlc = Hlc(u64::from(self.epoch) << 32 | *seq);
        let entry = |value: &[u8]| Entry::register(dot, hlc, Bytes::copy_from_slice(value));
        let entries = value.map(entry).into_iter().collect();
        let object = Object { entries, ctx: VersionVector::new() };
        Record {
            key: key.clone(),
            partition,
            object,
            dots: vec![dot],
            removed: Vec::new(),
            stamp: None,
        }
    }

    /// A record that leaves a key without siblings but must be kept for its context.
    pub(super) fn bare_record(&mut self, key: &Key) -> Record {
        let mut record = self.record(key, None);
        record.object.ctx = record.dots.iter().copied().collect();
        record
    }

    /// Puts records as one at the shard of the first.
    pub(super) fn put_records(&mut self, records: Vec<Record>) -> Seq {
        let shard = self.shard_of(&records[0].key);
        self.stores[shard].put(Batch { records, group: None })
    }

    /// Puts the part of a shard of a batch with `(id, parts)`.
    pub(super) fn put_part(
        &mut self,
        shard: usize,
        records: Vec<Record>,
        group: Option<(u64, u16)>,
    ) -> Seq {
        let group = group.map(|(id, parts)| Group { id, parts });
        self.stores[shard].put(Batch { records, group })
    }

    /// Puts one key.
    pub(super) fn put(&mut self, key: &Key, value: Option<&[u8]>) -> Seq {
        let record = self.record(key, value);
        self.put_records(vec![record])
    }

    /// Puts several keys as one; they may belong to several shards. Returns the part of each shard.
    pub(super) fn put_all(
        &mut self,
        id: u64,
        items: &[(Key, Option<Vec<u8>>)],
    ) -> Vec<(usize, Seq)> {
        let mut parts: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        for (key, value) in items {
            let record = self.record(key, value.as_deref());
            parts.entry(self.shard_of(key)).or_default().push(record);
        }
        let count = u16::try_from(parts.len()).unwrap();
        let group = (count > 1).then_some(Group { id, parts: count });
        let mut put = |(shard, records): (usize, Vec<Record>)| {
            (shard, self.stores[shard].put(Batch { records, group }))
        };
        parts.into_iter().map(&mut put).collect()
    }

    /// Puts a control record.
    pub(super) fn put_control(&mut self, seq: Seq, slot: u8, body: &[u8]) {
        let record = ControlRecord { slot, body: Bytes::copy_from_slice(body) };
        self.log.hand_control(seq, record);
    }

    /// What a key holds, read from the disk if need be.
    pub(super) fn get(&mut self, key: &Key) -> Lookup {
        let shard = self.shard_of(key);
        for _ in 0..3 {
            let (lookup, _) = self.stores[shard].get(key);
            if lookup != Lookup::Cold {
                return lookup;
            }
            self.fetch(shard);
        }
        panic!("a record that was fetched is not cold");
    }

    /// The value that a key holds; `Err` = its record is damaged.
    pub(super) fn value(&mut self, key: &Key) -> Result<Option<Vec<u8>>, ()> {
        match self.get(key) {
            Lookup::Found(object) => Ok(object.winner().map(|entry| entry.payload.to_vec())),
            Lookup::Absent => Ok(None),
            Lookup::Unknown => Err(()),
            Lookup::Cold => unreachable!("get fetches what is cold"),
        }
    }

    /// Every key with what it holds, by the index.
    pub(super) fn scan(&mut self) -> BTreeMap<Key, Lookup> {
        let mut found = BTreeMap::new();
        for shard in 0..self.stores.len() {
            let mut page = Vec::new();
            self.stores[shard].page(Token(0), Token::MAX, usize::MAX / 2, &mut page);
            assert!(page.is_sorted_by_key(|entry| entry.token));
            for entry in page {
                let mut item = self.stores[shard].read(&entry).0.unwrap();
                while item.1 == Lookup::Cold {
                    self.fetch(shard);
                    item = self.stores[shard].read(&entry).0.unwrap();
                }
                found.insert(item.0, item.1);
            }
        }
        found
    }

    /// Carries out the reads that a table has asked for.
    pub(super) fn fetch(&mut self, shard: usize) {
        let reads = self.stores[shard].take_reads();
        self.reads.extend(reads.into_iter().map(|read| (shard, read)));
        while !self.reads.is_empty() {
            self.read_one(0);
            let reads = self.stores[shard].take_reads();
            self.reads.extend(reads.into_iter().map(|read| (shard, read)));
        }
    }

    /// Asks for a key without waiting for the disk.
    pub(super) fn glance(&mut self, key: &Key) -> Lookup {
        let shard = self.shard_of(key);
        let (lookup, _) = self.stores[shard].get(key);
        let reads = self.stores[shard].take_reads();
        self.reads.extend(reads.into_iter().map(|read| (shard, read)));
        lookup
    }

    fn read_one(&mut self, index: usize) {
        let (shard, read) = self.reads.swap_remove(index);
        let op = DiskOp::Read { file: read.file, offset: read.offset, length: read.length };
        let result = self.disk.perform(op);
        self.stores[shard].on_read(read.id, result);
    }

    /// A number below `bound`.
    pub(super) fn draw(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }
}
