//! What the records of a log add up to: the newest record of each key, the clock of each partition,
//! the newest control record of each slot.
//!
//! Records come in any order, because a compaction moves old ones into new files; the highest log
//! sequence number wins. A lost record wins like any other: its key is Unknown, until it is put
//! again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::border::{Damage, DamagedRegion, LogConfig, RecoveredShard};
use super::codec::to_usize;
use super::disk::FileName;
use super::index::{Entry, Index};
use super::place::Place;
use super::record::{Clocks, Kind, Name, Seed};
use super::scan::Contents;
use super::segment::Segment;
use super::summary::{Draft, State, Summary};
use super::table::{Store, TableParts};
use crate::hash::{BucketId, Key, PartitionId, Token};
use crate::limits::REQUESTS_REMEMBERED;
use crate::shard::Stamp;
use crate::time::Hlc;

/// What was gathered so far.
#[derive(Debug, Default)]
pub(super) struct Harvest {
    /// Records of keys, and lost ones, per shard.
    drafts: Vec<Vec<Draft>>,
    /// Tokens of the records of each segment.
    tokens: BTreeMap<u32, Vec<Token>>,
    /// Clocks, per shard.
    clocks: Vec<Clocks>,
    /// Notes of requests that are not led here, per shard, newest record first is last.
    refused: Vec<BTreeMap<Key, (u64, bool)>>,
    /// Whether records were left out that may have named requests.
    is_pruned: bool,
    /// The number of the first record.
    first_lsn: Option<u64>,
    /// Requests that records carry out, per shard, with the number of the record.
    stamps: Vec<Vec<(u64, Token, Stamp)>>,
    /// The earliest expiry that any record of a token has, per shard.
    expiring: Vec<BTreeMap<Token, u64>>,
    /// The newest control record of each slot.
    pub(super) control: BTreeMap<u8, Control>,
    /// The newest clock record of each partition: when, and where.
    clock_records: BTreeMap<PartitionId, (u64, Place)>,
    /// Bytes of Commits and Forgets of cold segments: another compaction would write them again.
    overhead: BTreeMap<u32, u64>,
    lost_slots: BTreeMap<u8, u64>,
    lost_clocks: BTreeMap<PartitionId, u64>,
    /// The highest timestamp of any value.
    pub(super) hlc: Hlc,
    /// Number of records.
    pub(super) records: u64,
    /// What could not be read.
    pub(super) damage: Damage,
}

/// A control record.
#[derive(Clone, Debug)]
pub(super) struct Control {
    /// Its number in the log.
    pub(super) lsn: u64,
    /// Where it lies.
    pub(super) place: Place,
    /// What it says.
    pub(super) body: Bytes,
}

/// What a harvest amounts to.
#[derive(Debug)]
pub(super) struct Yield {
    /// One for each shard.
    pub(super) shards: Vec<RecoveredShard>,
    /// Bytes of each segment that are the newest of their key, slot or partition.
    pub(super) live: BTreeMap<u32, u64>,
    /// Tokens of the records of each segment.
    pub(super) tokens: BTreeMap<u32, Vec<Token>>,
    /// The newest control record of each slot.
    pub(super) control: BTreeMap<u8, Control>,
    /// The newest clock record of each partition.
    pub(super) clock_records: BTreeMap<PartitionId, (u64, Place)>,
    /// What could not be read.
    pub(super) damage: Damage,
}

impl Harvest {
    /// Nothing, for this number of shards.
    pub(super) fn new(shards: u16) -> Self {
        let shards = usize::from(shards);
        Self {
            drafts: vec![Vec::new(); shards],
            clocks: vec![Clocks::new(); shards],
            stamps: vec![Vec::new(); shards],
            expiring: vec![BTreeMap::new(); shards],
            refused: vec![BTreeMap::new(); shards],
            ..Self::default()
        }
    }

    /// Takes in what a segment holds and what it lost.
    pub(super) fn take(&mut self, segment: &Segment, bytes: &Bytes, contents: &Contents) {
        let mut summary = Summary::default();
        for record in &contents.records {
            let whole = bytes.slice(to_usize(record.offset)..to_usize(record.end()));
            if summary.add(segment, &record.header, &whole, record.offset).is_none() {
                // The checksum holds and the contents make no sense: as good as damaged.
                self.report(segment, record.offset..record.end(), "says nothing that makes sense");
                self.lose(&record.header.name());
            }
        }
        self.absorb(segment, summary);
        for region in &contents.regions {
            self.report(segment, region.clone(), "does not verify");
        }
        contents.lost.iter().for_each(|name| self.lose(name));
        self.damage.unnamed |= contents.unnamed;
    }

    /// Notes damaged bytes.
    pub(super) fn report(
        &mut self,
        segment: &Segment,
        region: std::ops::Range<u64>,
        reason: &'static str,
    ) {
        self.damage.regions.push(DamagedRegion {
            file: FileName::Segment(segment.number),
            offset: region.start,
            length: region.end - region.start,
            reason,
        });
    }

    /// Takes in what the records of a segment say.
    pub(super) fn absorb(&mut self, segment: &Segment, summary: Summary) {
        self.is_pruned |= segment.cold;
        self.first_lsn = self.first_lsn.into_iter().chain(summary.first_lsn).min();
        let tokens = summary.drafts.iter().map(|draft| draft.token);
        self.tokens.entry(segment.number).or_default().extend(tokens);
        for draft in summary.drafts {
            let shard = self.shard_of(draft.partition);
            self.drafts[shard].push(draft);
        }
        for (partition, clock) in summary.clocks {
            let shard = self.shard_of(partition);
            self.clocks[shard].entry(partition).or_default().join(&clock);
        }
        for (slot, found) in summary.control {
            if self.control.get(&slot).is_none_or(|old| old.lsn <= found.lsn) {
                self.control.insert(slot, found);
            }
        }
        for (partition, found) in summary.clock_records {
            let newest = self.clock_records.entry(partition).or_insert(found);
            *newest = (*newest).max(found);
        }
        if summary.overhead > 0 {
            *self.overhead.entry(segment.number).or_default() += summary.overhead;
        }
        for (partition, token, expiry_ms) in summary.expiring {
            let shard = self.shard_of(partition);
            let earliest = self.expiring[shard].entry(token).or_insert(expiry_ms);
            *earliest = (*earliest).min(expiry_ms);
        }
        for (partition, lsn, token, stamp) in summary.stamps {
            let shard = self.shard_of(partition);
            self.take_stamp(shard, (lsn, token, stamp));
        }
        for (partition, key, lsn, holds) in summary.refused {
            let shard = self.shard_of(partition);
            let newest = self.refused[shard].entry(key).or_insert((0, false));
            *newest = (*newest).max((lsn, holds));
        }
        self.hlc = self.hlc.max(summary.hlc);
        self.records += summary.records;
    }

    /// Takes in which request a record carries out; the oldest go where there are too many.
    fn take_stamp(&mut self, shard: usize, stamp: (u64, Token, Stamp)) {
        let max = (REQUESTS_REMEMBERED / self.stamps.len()).max(1);
        let stamps = &mut self.stamps[shard];
        stamps.push(stamp);
        if stamps.len() >= 2 * max {
            stamps.sort_unstable_by_key(|(lsn, token, _)| (*lsn, *token));
            stamps.drain(..stamps.len() - max);
            self.is_pruned = true;
        }
    }

    fn lose(&mut self, name: &Name) {
        match name.kind {
            Kind::Write | Kind::Forget => {
                let shard = self.shard_of(name.partition);
                self.drafts[shard].push(Draft {
                    token: name.token,
                    lsn: name.lsn,
                    mark: 0,
                    place: Place::lost(),
                    partition: name.partition,
                    bucket: BucketId(0),
                    state: State::Lost,
                });
            }
            Kind::ClockAdopt => {
                let newest = self.lost_clocks.entry(name.partition).or_default();
                *newest = (*newest).max(name.lsn);
            }
            Kind::Control => {
                let newest = self.lost_slots.entry(name.slot).or_default();
                *newest = (*newest).max(name.lsn);
            }
            // Whoever lost something does not say for certain what never was.
            Kind::Stamp | Kind::Commit | Kind::Noop => {}
        }
    }

    /// Adds everything up.
    pub(super) fn finish(mut self, seeds: &BTreeMap<u32, Seed>, config: &LogConfig) -> Yield {
        let mut live = std::mem::take(&mut self.overhead);
        let mut shards = Vec::new();
        let drafts = std::mem::take(&mut self.drafts);
        let clocks = std::mem::take(&mut self.clocks);
        let is_complete = !self.is_pruned && self.damage.is_none() && self.first_lsn <= Some(1);
        let refused = std::mem::take(&mut self.refused);
        let stamps = std::mem::take(&mut self.stamps).into_iter().zip(refused);
        let expiring = std::mem::take(&mut self.expiring);
        let cache_bytes = config.cache_bytes / drafts.len().max(1);
        let memory_bytes = config.memory_bytes / drafts.len().max(1);
        let kept = clocks.into_iter().zip(stamps).zip(expiring);
        for (drafts, ((clocks, (mut stamps, refused)), expiring)) in drafts.into_iter().zip(kept) {
            let parts = TableParts {
                clocks: clocks.clone(),
                cache_bytes,
                memory_bytes,
                ..TableParts::default()
            };
            let parts = self.add_up(drafts, parts, &mut live);
            let store = Store::new(TableParts { seeds: seeds.clone(), ..parts });
            stamps.sort_unstable_by_key(|(lsn, token, _)| (*lsn, *token));
            let stamps = stamps.into_iter().map(|(_, token, stamp)| (token, stamp)).collect();
            let expiring = expiring.into_iter().collect();
            let refused = refused.into_iter().filter(|(_, (_, holds))| *holds);
            let refused = refused.map(|(key, _)| key).collect();
            shards.push(RecoveredShard { store, clocks, stamps, expiring, refused, is_complete });
        }
        for (_, place) in self.clock_records.values() {
            count_live(&mut live, *place);
        }
        for control in self.control.values() {
            count_live(&mut live, control.place);
        }
        for (slot, lsn) in &self.lost_slots {
            if self.control.get(slot).is_none_or(|found| found.lsn < *lsn) {
                self.damage.slots.push(*slot);
            }
        }
        for (partition, lsn) in &self.lost_clocks {
            if self.clock_records.get(partition).is_none_or(|found| found.0 < *lsn) {
                self.damage.partitions.push(*partition);
            }
        }
        let Self { tokens, control, clock_records, damage, .. } = self;
        Yield { shards, live, tokens, control, clock_records, damage }
    }

    /// The index of one shard, and how many live keys it has.
    fn add_up(
        &mut self,
        mut drafts: Vec<Draft>,
        mut parts: TableParts,
        live: &mut BTreeMap<u32, u64>,
    ) -> TableParts {
        drafts.sort_unstable_by_key(|draft| (draft.token, draft.lsn, draft.place));
        let mut entries = Vec::new();
        for run in drafts.chunk_by(|one, other| one.token == other.token) {
            let newest = run.last().expect("a run holds at least one draft");
            if newest.state == State::Lost {
                entries.push(Entry::lost(newest.token));
                self.damage.keys.push((newest.partition, newest.token));
                continue;
            }
            for (index, draft) in run.iter().enumerate() {
                let replaced = run[index + 1..].iter().any(|newer| newer.mark == draft.mark);
                if replaced || draft.state == State::Lost {
                    continue;
                }
                if draft.state == State::Forgotten {
                    continue;
                }
                count_live(live, draft.place);
                let has_siblings = draft.state == State::Live;
                if has_siblings {
                    *parts.counts.entry((draft.partition, draft.bucket)).or_default() += 1;
                }
                entries.push(Entry::new(draft.token, draft.mark, draft.place, has_siblings));
            }
        }
        parts.index = Index::from_sorted(&entries);
        parts
    }

    fn shard_of(&self, partition: PartitionId) -> usize {
        usize::from(partition.0) % self.drafts.len()
    }
}

fn count_live(live: &mut BTreeMap<u32, u64>, place: Place) {
    if let Some(segment) = place.segment() {
        *live.entry(segment).or_default() += place.read_bytes();
    }
}
