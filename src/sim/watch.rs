//! What the world sees of the writes of its nodes: which event each put minted, and whether a disk
//! has it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::network::Place;
use super::oracle::{Mint, WriteId};
use super::world::World;
use crate::causality::{Dot, PartitionClock};
use crate::hash::{Key, PartitionId};
use crate::limits::LOSERS_MAX;
use crate::shard::{Batch, Seq};

/// Place, life, shard, number.
pub(super) type PutId = (Place, u64, u16, Seq);

/// A put of which it is not known yet whether a disk has it.
#[derive(Debug)]
pub(super) struct Undurable {
    dots: Vec<(PartitionId, Dot)>,
    /// The batch over several shards that it is a part of.
    group: Option<u64>,
}

impl World {
    /// Tells the history what a node put: what it minted, and what it stores once durable.
    pub(super) fn on_put(&mut self, place: Place, life: u64, shard: u16, seq: Seq, batch: &Batch) {
        let me = self.machines[place].settings.node().tag();
        let mut stored = Vec::new();
        for record in &batch.records {
            self.trace.note(self.now_us, Some(place), "put", &record.key.bytes, || {
                let entries: Vec<String> = record
                    .object
                    .entries
                    .iter()
                    .map(|entry| format!("{}={}", entry.dot, entry.payload.escape_ascii()))
                    .collect();
                format!(
                    "{} {entries:?} ctx {:?} dots {:?} removed {:?}",
                    record.key.bytes.escape_ascii(),
                    record.object.ctx,
                    record.dots,
                    record.removed
                )
            });
            let minted = record.dots.iter().find(|dot| dot.actor.tag() == me);
            if let (Some(&dot), [_]) = (minted, record.dots.as_slice()) {
                let entry = record.object.entries.iter().find(|entry| entry.dot == dot);
                self.history.minted(Mint {
                    partition: record.partition,
                    dot,
                    key: &record.key,
                    value: entry.map(|entry| &entry.payload),
                    replaced: &record.removed,
                    at_the_cap: record.object.entries.len() >= LOSERS_MAX,
                    write: entry.and_then(|entry| self.write_of(&record.key, &entry.payload)),
                });
            }
            stored.extend(record.dots.iter().map(|&dot| (record.partition, dot)));
        }
        let group = batch.group.map(|group| group.id);
        self.undurable.insert((place, life, shard, seq), Undurable { dots: stored, group });
    }

    /// The write whose value this is.
    fn write_of(&self, key: &Key, value: &Bytes) -> Option<WriteId> {
        self.values.get(&(key.clone(), value.clone())).copied()
    }

    pub(super) fn on_durable(&mut self, place: Place, life: u64, shard: u16, upto: Seq) {
        let first = (place, life, shard, Seq(0));
        let done: Vec<_> =
            self.undurable.range(first..=(place, life, shard, upto)).map(|(put, _)| *put).collect();
        for put in done {
            let put = self.undurable.remove(&put);
            for (partition, dot) in put.into_iter().flat_map(|put| put.dots) {
                self.history.stored(partition, dot);
            }
        }
    }

    /// A process found its log: of what its predecessors put last, each put is there or not.
    pub(super) fn on_recovered(
        &mut self,
        place: Place,
        life: u64,
        is_whole: bool,
        clocks: &BTreeMap<PartitionId, PartitionClock>,
    ) {
        let found = |(partition, dot): &(PartitionId, Dot)| {
            clocks.get(partition).is_some_and(|clock| clock.contains(*dot))
        };
        let doubtful: Vec<PutId> = self
            .undurable
            .range((place, 0, 0, Seq(0))..(place, life, 0, Seq(0)))
            .map(|(put, _)| *put)
            .collect();
        let mut batches: BTreeMap<(u64, u64), Vec<(PartitionId, Dot)>> = BTreeMap::new();
        for put in doubtful {
            let Some(Undurable { dots, group }) = self.undurable.remove(&put) else { continue };
            // A put that is no part of a group is a batch of its own; numbers of groups are random.
            let batch = (put.1, group.unwrap_or_else(|| put.3.0 << 8 | u64::from(put.2)));
            batches.entry(batch).or_default().extend(dots);
        }
        for dots in batches.into_values() {
            let there = dots.iter().filter(|dot| found(dot)).count();
            if is_whole && there > 0 && there < dots.len() {
                let text = format!("n{} found {there} of the events {dots:?}", place + 1);
                self.history.violate("B1 batches are all or nothing", &Key::plain(""), text);
            }
            for (partition, dot) in dots.into_iter().filter(found) {
                self.history.stored(partition, dot);
            }
        }
    }
}
