//! What the world sees of the writes of its nodes: which event each put minted, and whether a disk
//! has it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::facts::{self, Facts, Said};
use super::network::Place;
use super::oracle::{Mint, WriteId};
use super::process::Process;
use super::trace::{EventId, Lane};
use super::workload::VALUE_BYTES_MAX;
use super::world::World;
use crate::causality::{Actor, Dot, PartitionClock};
use crate::hash::{Key, PartitionId};
use crate::limits::{LOSER_BYTES_MAX, LOSERS_MAX};
use crate::shard::{Batch, Record, Seq};
use crate::store::Damage;

/// Place, life, shard, number.
pub(super) type PutId = (Place, u64, u16, Seq);

/// A put of which it is not known yet whether a disk has it.
#[derive(Debug)]
pub(super) struct Undurable {
    dots: Vec<(PartitionId, Dot)>,
    /// What it takes away because it is over.
    dropped: Vec<(PartitionId, Dot)>,
    /// The batch over several shards that it is a part of.
    group: Option<u64>,
    /// The events of it, where events are kept.
    kept: Vec<EventId>,
}

impl World {
    /// Tells the history what a node put: what it minted, and what it stores once durable.
    pub(super) fn on_put(&mut self, place: Place, life: u64, shard: u16, seq: Seq, batch: &Batch) {
        // An older actor of this node is only remembered, by others: its record was damaged here.
        let actor = self.actor(place);
        self.note_time();
        let mut stored = Vec::new();
        let mut dropped = Vec::new();
        let mut kept = Vec::new();
        for record in &batch.records {
            self.note(place, "put", &record.key.bytes);
            let minted = record.dots.iter().find(|dot| Some(dot.actor) == actor);
            let minted = minted.copied().filter(|_| record.dots.len() == 1);
            self.trace.explain(|| facts::put(record, minted));
            kept.extend(self.trace.cause());
            if let Some(dot) = minted {
                if !self.machines[place].process.as_ref().is_some_and(Process::is_epoch_durable) {
                    let text = format!("n{} minted {dot} before its epoch was", place + 1);
                    self.history.violate(
                        "D3 an actor mints once its epoch is durable",
                        &record.key,
                        text,
                    );
                }
                let entry = record.object.entries.iter().find(|entry| entry.dot == dot);
                self.history.minted(Mint {
                    place,
                    partition: record.partition,
                    dot,
                    key: &record.key,
                    value: entry.map(|entry| &entry.payload),
                    expiry_ms: entry.map_or(0, |entry| entry.expiry_ms),
                    replaced: &record.removed,
                    at_the_cap: is_at_the_cap(record),
                    request: record.stamp.filter(|stamp| stamp.dot == dot).map(|stamp| stamp.id),
                    write: entry.and_then(|entry| self.write_of(&record.key, &entry.payload)),
                });
            }
            stored.extend(record.dots.iter().map(|&dot| (record.partition, dot)));
            self.check_dropped(place, record);
            let is_over = |dot: &&Dot| self.history.is_over(&record.key, **dot);
            let over = record.removed.iter().filter(is_over);
            dropped.extend(over.map(|&dot| (record.partition, dot)));
            self.ledger.put(place, record);
        }
        let group = batch.group.map(|group| group.id);
        self.undurable
            .insert((place, life, shard, seq), Undurable { dots: stored, dropped, group, kept });
    }

    /// Tells the history how late it is by any clock. Clocks run on, but for faults; those tell it
    /// before they set one.
    pub(super) fn note_time(&mut self) {
        let clocks = self.machines.iter().map(|machine| machine.clock.unix_ms(self.now_us));
        let latest = clocks.max().unwrap_or_default();
        self.history.note_time(latest);
    }

    /// What a replica has taken away because it was over, and knows to be gone, it does not take
    /// back. One whose disk lost something, or was misread, may not know.
    fn check_dropped(&mut self, place: Place, record: &Record) {
        if self.budget.damaged.contains(&place) || self.machines[place].disk.misreads > 0 {
            return;
        }
        let is_back = |dot: &Dot| self.ledger.has_dropped(place, (record.partition, *dot));
        let back = record.object.dots().find(is_back);
        if let Some(dot) = back {
            let text = format!("n{} took {dot} away, which was over, and has it again", place + 1);
            self.history.violate("E2 nothing that was over comes back", &record.key, text);
        }
    }

    /// Under which name a node mints now.
    pub(super) fn actor(&self, place: Place) -> Option<Actor> {
        let process = self.machines[place].process.as_ref();
        process.and_then(Process::view).and_then(|view| view.actor)
    }

    /// The write whose value this is.
    fn write_of(&self, key: &Key, value: &Bytes) -> Option<WriteId> {
        self.values.get(&(key.clone(), value.clone())).copied()
    }

    pub(super) fn on_durable(&mut self, place: Place, life: u64, shard: u16, upto: Seq) {
        let first = (place, life, shard, Seq(0));
        let done: Vec<_> =
            self.undurable.range(first..=(place, life, shard, upto)).map(|(put, _)| *put).collect();
        let mut kept = Vec::new();
        for put in done {
            let Some(mut put) = self.undurable.remove(&put) else { continue };
            kept.append(&mut put.kept);
            self.ledger.dropped(place, put.dropped);
        }
        if !kept.is_empty() {
            let facts = Facts::Durable(kept);
            self.keep(Lane::Node(place), "durable", || Said { facts, ..Said::default() });
        }
    }

    /// Keeps which directions of the network are cut now.
    pub(super) fn keep_cuts(&mut self) {
        let network = &self.network;
        self.trace.keep(self.now_us, Lane::World, "cuts", || Said {
            facts: Facts::Cuts(network.cuts().collect()),
            ..Said::default()
        });
    }

    /// Keeps the promises that were found broken since the last call.
    pub(super) fn note_violations(&mut self) {
        while let Some(violation) = self.history.violations().get(self.violations_noted) {
            let (facts, text) = (Facts::Violation(self.violations_noted), violation.to_string());
            let keys = vec![violation.key.clone()];
            self.violations_noted += 1;
            let cause = self.trace.cause();
            self.keep(Lane::World, "violation", || Said { text, keys, facts });
            self.trace.resume(cause);
        }
    }

    /// A process found its log: of what its predecessors put last, each put is there or not.
    pub(super) fn on_recovered(
        &mut self,
        place: Place,
        life: u64,
        damage: &Damage,
        clocks: &BTreeMap<PartitionId, PartitionClock>,
    ) {
        self.budget.read(place);
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
            let Some(Undurable { dots, group, .. }) = self.undurable.remove(&put) else { continue };
            // A put that is no part of a group is a batch of its own; numbers of groups are random.
            let batch = (put.1, group.unwrap_or_else(|| put.3.0 << 8 | u64::from(put.2)));
            batches.entry(batch).or_default().extend(dots);
        }
        for dots in batches.into_values() {
            let there = dots.iter().filter(|dot| found(dot)).count();
            if damage.is_none() && there > 0 && there < dots.len() {
                let text = format!("n{} found {there} of the events {dots:?}", place + 1);
                self.history.violate("B1 batches are all or nothing", &Key::plain(""), text);
            }
            for (partition, dot) in dots.into_iter().filter(found) {
                self.history.stored(place, partition, dot);
            }
        }
        if !damage.is_none() {
            // Its clocks have gaps now that they had not when objects were stripped of what the
            // clocks said, so what it knew to be gone may be news to it.
            self.history.forgot(place);
            self.ledger.forget_dropped(place);
        }
    }
}

/// Whether a write may have dropped losers, so that what is left is just below a cap.
fn is_at_the_cap(record: &Record) -> bool {
    let entries = &record.object.entries;
    let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
    entries.len() >= LOSERS_MAX || bytes + VALUE_BYTES_MAX > LOSER_BYTES_MAX
}
