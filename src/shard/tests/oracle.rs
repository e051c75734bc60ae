//! The exact history of every key as plain sets of events: what each write knew of, what was
//! promised of it, and what must therefore be read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::Record;
use crate::causality::{Actor, Dot, Entry};
use crate::hash::{Key, PartitionId};
use crate::limits::LOSERS_MAX;

/// An event of one partition.
pub(in super::super) type Event = (PartitionId, Dot);

/// What the client was told of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Fate {
    Open,
    Acknowledged { members: usize },
    Refused,
    Unknown,
}

#[derive(Clone, Debug)]
struct Minted {
    key: Key,
    value: Option<Bytes>,
    past: BTreeSet<Dot>,
}

#[derive(Clone, Debug)]
struct Written {
    /// `None` = whatever the leader held.
    seen: Option<BTreeSet<Dot>>,
    fate: Fate,
}

/// All events of a run.
#[derive(Debug, Default)]
pub(in super::super) struct Oracle {
    events: BTreeMap<Event, Minted>,
    /// By value, which is unique.
    writes: BTreeMap<Bytes, Written>,
    acknowledged: BTreeMap<Key, BTreeMap<Dot, usize>>,
}

impl Oracle {
    /// A client is about to write `value`, having seen these events and their past.
    pub(in super::super) fn begin(&mut self, value: &Bytes, seen: Option<BTreeSet<Dot>>) {
        self.writes.insert(value.clone(), Written { seen, fate: Fate::Open });
    }

    /// A table was given a record: where its leader minted a dot, this is a new event.
    pub(in super::super) fn on_record(&mut self, record: &Record, actor: Actor) {
        let Some(&dot) = record.dots.iter().find(|dot| dot.actor == actor) else { return };
        let event = (record.partition, dot);
        let value = record.object.entries.iter().find(|entry| entry.dot == dot);
        let value = value.map(|entry| entry.payload.clone());
        let mut past = self.closure(record.partition, record.removed.iter().copied());
        if let Some(write) = value.as_ref().and_then(|value| self.writes.get(value))
            && let Some(seen) = write.seen.clone()
        {
            let seen = self.closure(record.partition, seen.into_iter());
            let values: BTreeSet<_> =
                seen.iter().filter_map(|&dot| self.value(record.partition, dot)).collect();
            // Who was shown one try of a request has seen them all.
            let is_try = |dot: Dot| {
                self.value(record.partition, dot).is_some_and(|value| values.contains(value))
            };
            // What another write had replaced already is no loss either.
            let is_harmless = |dot: &Dot| {
                seen.contains(dot) || is_try(*dot) || self.is_replaced(record.partition, *dot)
            };
            let unseen: Vec<Dot> =
                record.removed.iter().copied().filter(|dot| !is_harmless(dot)).collect();
            let crowded = record.removed.len() + record.object.entries.len() > LOSERS_MAX;
            assert!(
                unseen.is_empty() || crowded,
                "{dot} replaced {unseen:?}, which its writer had not seen"
            );
            past.extend(seen);
        }
        let minted = Minted { key: record.key.clone(), value, past };
        let before = self.events.insert(event, minted);
        assert!(before.is_none(), "{dot} was minted twice in {:?}", record.partition);
    }

    /// A crash took a record before it was durable: the event never was.
    pub(in super::super) fn on_lost(&mut self, record: &Record, actor: Actor) {
        for &dot in record.dots.iter().filter(|dot| dot.actor == actor) {
            self.events.remove(&(record.partition, dot));
            let acknowledged = self.acknowledged.get(&record.key);
            assert!(
                acknowledged.is_none_or(|dots| !dots.contains_key(&dot)),
                "{dot} was acknowledged before it was durable"
            );
        }
    }

    /// An event that wrote `value`.
    pub(in super::super) fn dot_of(&self, value: &Bytes) -> Option<Dot> {
        let mut events = self.events.iter();
        events.find(|(_, minted)| minted.value.as_ref() == Some(value)).map(|((_, dot), _)| *dot)
    }

    /// A client was told.
    pub(in super::super) fn tell(
        &mut self,
        key: &Key,
        value: Option<&Bytes>,
        fate: Fate,
        dot: Option<Dot>,
    ) {
        if let Some(write) = value.and_then(|value| self.writes.get_mut(value)) {
            write.fate = fate;
        }
        if let (Fate::Acknowledged { members }, Some(dot)) = (fate, dot) {
            self.acknowledged.entry(key.clone()).or_default().insert(dot, members);
        }
    }

    /// The last copy of a key was destroyed: what was acknowledged of it is no promise any more.
    pub(in super::super) fn excuse(&mut self, key: &Key) {
        self.acknowledged.remove(key);
    }

    /// Events that were acknowledged by now on so many members that a read of `members` members of
    /// a row of `row` meets one of them.
    pub(in super::super) fn visible(&self, key: &Key, row: usize, members: usize) -> BTreeSet<Dot> {
        let acknowledged = self.acknowledged.get(key).into_iter().flatten();
        acknowledged.filter(|&(_, &written)| written + members > row).map(|(&dot, _)| dot).collect()
    }

    /// A read that began when `visible` was acknowledged showed `siblings`.
    pub(in super::super) fn check_read(
        &self,
        partition: PartitionId,
        siblings: &[Entry],
        visible: &BTreeSet<Dot>,
        of_all: bool,
        whole: &str,
    ) {
        let shown: BTreeSet<Dot> = siblings.iter().map(|entry| entry.dot).collect();
        for &dot in &shown {
            let Some(event) = self.events.get(&(partition, dot)) else {
                panic!("{dot} was shown, which nobody minted or a crash took: {whole}");
            };
            // A token names what was shown, not its past: until the leader hears of the write in
            // between, it shows the first and the third write of a chain side by side.
            for other in shown.iter().filter(|_| of_all) {
                assert!(!event.past.contains(other), "{other} is in the past of {dot}: {whole}");
            }
        }
        for acknowledged in visible {
            let event = &self.events[&(partition, *acknowledged)];
            for dot in &shown {
                assert!(
                    !event.past.contains(dot),
                    "{dot} came back: {acknowledged} had replaced it before: {whole}"
                );
            }
            if event.value.is_some() && !shown.contains(acknowledged) {
                // Who replaces one try of a request may have known, and meant, the others too.
                let tries = self.events.iter().filter(|(_, other)| other.value == event.value);
                let replaced =
                    tries.map(|((_, dot), _)| *dot).any(|dot| self.is_replaced(partition, dot));
                let twin =
                    siblings.iter().any(|entry| Some(&entry.payload) == event.value.as_ref());
                assert!(replaced || twin, "{acknowledged} was acknowledged and is lost: {whole}");
            }
        }
    }

    /// When all is quiet: what is read of a key must be what nothing has replaced.
    pub(in super::super) fn check_converged(
        &self,
        key: &Key,
        partition: PartitionId,
        siblings: &[Entry],
    ) {
        let shown: BTreeSet<&Bytes> = siblings.iter().map(|entry| &entry.payload).collect();
        assert_eq!(shown.len(), siblings.len(), "a retry shows twice: {siblings:?}");
        let mut twins: BTreeMap<&Bytes, (usize, usize)> = BTreeMap::new();
        for (&(_, dot), event) in self.events.iter().filter(|(_, event)| event.key == *key) {
            if let Some(value) = &event.value {
                let (all, live) = twins.entry(value).or_default();
                *all += 1;
                *live += usize::from(!self.is_replaced(partition, dot));
            }
        }
        for (value, &(all, live)) in &twins {
            // Retries that became several events count as one; one of them may be known alone.
            assert!(live < all || shown.contains(*value), "{value:?} is lost; shown: {shown:?}");
            assert!(live > 0 || !shown.contains(*value), "{value:?} came back: {shown:?}");
        }
        for value in shown {
            let write = self.writes.get(value).expect("what is read was written");
            assert_ne!(write.fate, Fate::Refused, "{value:?} was refused, and yet it is there");
            assert!(twins.contains_key(value), "{value:?} belongs to another key");
        }
    }

    /// Every event of a key, for a message of failure.
    pub(in super::super) fn tale(&self, key: &Key) -> String {
        let events = self.events.iter().filter(|(_, minted)| minted.key == *key);
        let lines = events.map(|((_, dot), minted)| {
            let fate = minted.value.as_ref().and_then(|value| self.writes.get(value));
            format!("\n  {dot} = {:?} after {:?}: {fate:?}", minted.value, minted.past)
        });
        lines.collect()
    }

    /// No event of a write that was refused.
    pub(in super::super) fn check_refusals(&self) {
        for (event, minted) in &self.events {
            let write = minted.value.as_ref().and_then(|value| self.writes.get(value));
            let refused = write.is_some_and(|write| write.fate == Fate::Refused);
            assert!(!refused, "{event:?} was minted for a write that was refused");
        }
    }

    fn value(&self, partition: PartitionId, dot: Dot) -> Option<&Bytes> {
        self.events.get(&(partition, dot))?.value.as_ref()
    }

    fn is_replaced(&self, partition: PartitionId, dot: Dot) -> bool {
        self.events.iter().any(|(event, minted)| event.0 == partition && minted.past.contains(&dot))
    }

    fn closure(&self, partition: PartitionId, dots: impl Iterator<Item = Dot>) -> BTreeSet<Dot> {
        let mut closure = BTreeSet::new();
        for dot in dots {
            closure.insert(dot);
            if let Some(event) = self.events.get(&(partition, dot)) {
                closure.extend(&event.past);
            }
        }
        closure
    }
}
