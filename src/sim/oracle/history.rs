//! The exact causal history of every key: which write knew of which, what was promised of it, and
//! what must therefore still be there.
//!
//! Nodes reason with clocks and contexts; this oracle keeps the plain sets that those stand for.
//! It learns of a write when its leader mints it (dot, what it replaced) and when its client is
//! told the outcome. Invariants D1 (nothing acknowledged is lost), D2 (siblings are exact), D3 (a
//! dot names one write), T1 (nothing deleted returns) and the promise of REFUSED.

mod expiry;
mod previous;
mod retries;
mod walks;

pub use walks::Walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use super::super::network::Place;
use crate::api::RequestId;
use crate::causality::{Dot, VersionVector};
use crate::hash::{Key, PartitionId};
use crate::shard::BATCH_LOG_BUCKET;

/// One operation of a client that writes: a retry has the id of what it retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet, or that the outcome is unknown.
    Open,
    /// It is durable on as many replicas as were asked for.
    Acknowledged,
    /// It was not applied and never will be.
    Refused,
}

/// What a writer said that it knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Whatever its leader held.
    Known,
    /// What it was shown, with all that this had replaced: its token says so.
    Seen(Seen),
    /// The one value that it was shown, with all that this may have replaced. A leader that has
    /// not heard of the event keeps it as a sibling: no vector can name an event without its
    /// predecessors.
    Shown(BTreeSet<Dot>),
    /// Whatever its token covers, now or later, which nobody gave it: what the key loses by that
    /// is the doing of the writer. Other keys lose nothing.
    Forged(VersionVector),
}

/// What a reader knows who was shown some values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events that it knows for certain: those of values which were written once.
    pub surely: BTreeSet<Dot>,
    /// These, and all copies of values that retries made several times: it saw one of each.
    pub at_most: BTreeSet<Dot>,
}

/// Who was shown some values of a key with all its siblings.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// When it asked.
    pub began_us: u64,
    /// Whether it asked a majority.
    pub majority: bool,
}

/// A broken promise, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// The key that it is about.
    pub key: Key,
    /// What happened.
    pub text: String,
    /// When it came to light, in virtual microseconds.
    pub at_us: u64,
}

/// All writes of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    writes: BTreeMap<WriteId, Write>,
    events: BTreeMap<Event, Minted>,
    keys: BTreeMap<Key, Facts>,
    violations: Vec<Violation>,
    /// What time it is.
    pub now_us: u64,
    /// Events that a disk said it had stored, and had not: no node could know of it.
    unstored: BTreeSet<Event>,
    /// Nodes that have lost records, and with them perhaps the ids of requests.
    forgetful: BTreeSet<Place>,
    /// Keys of which a promise is broken for that reason alone.
    excused: BTreeSet<Key>,
    /// Events that end, by the time at which they do, until a clock has reached it.
    ends: BTreeMap<u64, Vec<Event>>,
    /// Whether every row has one member, so that batches are isolated from the first read on.
    pub(in crate::sim) rows_are_single: bool,
    /// Writes that have an id, under which they may come again.
    named: BTreeMap<WriteId, RequestId>,
    /// Those that are parts of a batch, and owed once it is logged.
    owed: BTreeSet<WriteId>,
}

/// Dots are minted per partition.
type Event = (PartitionId, Dot);

/// What there is to know of one key.
#[derive(Clone, Debug, Default)]
struct Facts {
    dots: BTreeSet<Dot>,
    by_value: BTreeMap<Bytes, BTreeSet<Dot>>,
    writes: Vec<WriteId>,
    /// Those that write no value. A leader's record does not tell which of them it carries out.
    deletes: Vec<WriteId>,
    /// Where its events were minted.
    home: Option<PartitionId>,
    /// Whatever some event of the key knew of.
    replaced: BTreeSet<Dot>,
    /// Whatever some delete of the key may have known of.
    deleted: BTreeSet<Dot>,
    /// Events that are over by some clock.
    over: BTreeSet<Dot>,
    /// What forged tokens of writes of the key cover.
    forged: VersionVector,
}

#[derive(Clone, Debug)]
struct Write {
    key: Key,
    claim: Claim,
    fate: Fate,
    /// When it was acknowledged by so many replicas that every read of a majority must see it.
    firm_since_us: Option<u64>,
    /// When another write of its batch was shown in a row of one, so that it must be seen as well.
    due_since_us: Option<u64>,
    /// All writes of its batch, if that is isolated.
    batch: Vec<WriteId>,
    dots: BTreeSet<Dot>,
}

#[derive(Clone, Debug)]
struct Minted {
    key: Key,
    /// `None` = a delete.
    value: Option<Bytes>,
    /// When it ends, in milliseconds since the Unix epoch; 0 = never.
    expiry_ms: u64,
    /// Every event of this key that it knew of.
    past: BTreeSet<Dot>,
    /// What it may have known of beside: enough to excuse that something is gone, not enough to
    /// say that it must be.
    perhaps: BTreeSet<Dot>,
    /// What it knew of, or of a copy of it: retries make the value that a reader is shown several
    /// times, and its token covers those that it saw.
    copies: BTreeSet<Dot>,
    write: Option<WriteId>,
    /// Whether some disk has stored it.
    stored: bool,
    /// Whose disks have it, and know so.
    holders: BTreeSet<Place>,
    /// Whether all who knew what it had replaced have forgotten it. A value of it that is left
    /// somewhere may spread again, beside what it had replaced.
    past_is_forgotten: bool,
}

/// An event as its leader minted it.
#[derive(Clone, Copy, Debug)]
pub struct Mint<'a> {
    /// The node of its leader.
    pub place: Place,
    /// Where.
    pub partition: PartitionId,
    /// Its name.
    pub dot: Dot,
    /// Of which key.
    pub key: &'a Key,
    /// `None` = a delete.
    pub value: Option<&'a Bytes>,
    /// When it ends, in milliseconds since the Unix epoch; 0 = never.
    pub expiry_ms: u64,
    /// The siblings that it took away.
    pub replaced: &'a [Dot],
    /// Whether it may have taken away losers that nobody had seen, because there were too many.
    pub at_the_cap: bool,
    /// The id of the request that it carries out, if its client gave one.
    pub request: Option<RequestId>,
    /// The write that it carries out, where the value tells.
    pub write: Option<WriteId>,
}

impl History {
    /// A client is about to send a write.
    pub fn begin(&mut self, id: WriteId, key: Key, claim: Claim, deletes: bool) {
        let facts = self.keys.entry(key.clone()).or_default();
        facts.writes.push(id);
        if deletes {
            facts.deletes.push(id);
        }
        if let Claim::Forged(seen) = &claim {
            facts.forged.join(seen);
        }
        let write = Write {
            key,
            claim,
            fate: Fate::Open,
            firm_since_us: None,
            due_since_us: None,
            batch: Vec::new(),
            dots: BTreeSet::new(),
        };
        self.writes.insert(id, write);
    }

    /// These writes are one batch, which is isolated if it is not refused.
    pub fn batch(&mut self, ids: &[WriteId]) {
        for id in ids {
            if let Some(write) = self.writes.get_mut(id) {
                write.batch = ids.to_vec();
            }
        }
    }

    /// A leader minted an event.
    pub fn minted(&mut self, mint: Mint<'_>) {
        let Mint { partition, dot, key, .. } = mint;
        self.check_once(&mint);
        if let Some(earlier) = self.events.get(&(partition, dot)) {
            let text = format!("{dot} was minted twice, first for {}", show(&earlier.key));
            return self.violate("D3 a dot names one write", key, text);
        }
        let mut past = self.past_of(partition, key, mint.replaced, dot);
        let mut copies = self.copies_of(partition, mint.replaced);
        let mut perhaps =
            if mint.value.is_none() { self.claimed_by_deletes(key) } else { BTreeSet::new() };
        // What another event had replaced is gone for every writer, also where its leader has not
        // heard of that yet: a token covers it through the events that came after.
        let gone: BTreeSet<Dot> =
            mint.replaced.iter().filter(|other| self.is_gone(key, **other)).copied().collect();
        let nothing = BTreeSet::new();
        let forged = self.keys.get(key).map(|facts| facts.forged.clone()).unwrap_or_default();
        if let Some(write) = mint.write.and_then(|id| self.writes.get_mut(&id)) {
            write.dots.insert(dot);
            let at_most = match &write.claim {
                Claim::Known => None,
                Claim::Forged(_) => Some(&nothing),
                Claim::Seen(Seen { surely, at_most }) => {
                    past.extend(surely);
                    copies.extend(at_most);
                    Some(at_most)
                }
                Claim::Shown(at_most) => Some(at_most),
            };
            if let Some(at_most) = at_most {
                perhaps.extend(at_most);
                let is_seen =
                    |dot: &Dot| at_most.contains(dot) || gone.contains(dot) || forged.covers(*dot);
                let unseen = mint.replaced.iter().find(|dot| !is_seen(dot));
                if let Some(unseen) = unseen.filter(|_| !mint.at_the_cap) {
                    let text = format!("{dot} replaced {unseen}, which its writer had not seen");
                    self.violate("D2 no concurrent write is dropped", key, text);
                }
            }
        }
        let facts = self.keys.entry(key.clone()).or_default();
        facts.dots.insert(dot);
        facts.home = Some(partition);
        facts.replaced.extend(&past);
        if let Some(value) = mint.value {
            facts.by_value.entry(value.clone()).or_default().insert(dot);
        } else {
            facts.deleted.extend(past.iter().chain(&copies).chain(&perhaps));
        }
        let (key, value) = (key.clone(), mint.value.cloned());
        let minted = Minted {
            key,
            value,
            expiry_ms: mint.expiry_ms,
            past,
            perhaps,
            copies,
            write: mint.write,
            stored: false,
            holders: BTreeSet::new(),
            past_is_forgotten: false,
        };
        self.events.insert((partition, dot), minted);
        if let Some(request) = mint.request.filter(|_| mint.value.is_none()) {
            self.end_at_once(mint.key, dot, request);
        }
        if mint.expiry_ms != 0 {
            self.ends.entry(mint.expiry_ms).or_default().push((partition, dot));
            self.end_again((partition, dot));
        }
    }

    fn past_of(
        &mut self,
        partition: PartitionId,
        key: &Key,
        replaced: &[Dot],
        dot: Dot,
    ) -> BTreeSet<Dot> {
        let mut past = BTreeSet::new();
        for &other in replaced {
            past.insert(other);
            if let Some(event) = self.events.get(&(partition, other)) {
                past.extend(event.past.iter().filter(|_| !event.past_is_forgotten));
            } else {
                let text = format!("{dot} replaced {other}, which nobody minted");
                self.violate("D4 contexts are sound", key, text);
            }
        }
        past
    }

    /// What those who made these events knew of, or of a copy of it, whoever has forgotten it
    /// since.
    fn copies_of(&self, partition: PartitionId, dots: &[Dot]) -> BTreeSet<Dot> {
        let events = dots.iter().filter_map(|dot| self.events.get(&(partition, *dot)));
        events.flat_map(|event| event.past.iter().chain(&event.copies)).copied().collect()
    }

    /// What the deletes of a key that are not answered yet say that they have seen.
    fn claimed_by_deletes(&self, key: &Key) -> BTreeSet<Dot> {
        let ids = self.keys.get(key).into_iter().flat_map(|facts| &facts.deletes);
        ids.filter_map(|id| self.writes.get(id))
            .filter(|write| write.fate == Fate::Open)
            .filter_map(|write| match &write.claim {
                Claim::Seen(Seen { at_most, .. }) | Claim::Shown(at_most) => Some(at_most),
                Claim::Known | Claim::Forged(_) => None,
            })
            .flatten()
            .copied()
            .collect()
    }

    /// A disk has stored this event.
    pub fn stored(&mut self, place: Place, partition: PartitionId, dot: Dot) {
        if let Some(event) = self.events.get_mut(&(partition, dot)) {
            event.stored = true;
            event.holders.insert(place);
        }
    }

    /// A node found damage: nobody may rely on what it knew to be gone.
    pub fn forgot(&mut self, place: Place) {
        self.forgetful.insert(place);
        for event in self.events.values_mut() {
            if event.holders.remove(&place) {
                event.past_is_forgotten |= event.holders.is_empty();
            }
        }
    }

    /// A disk said that it has stored these events, and has not.
    pub(in crate::sim) fn were_not_stored(&mut self, events: Vec<Event>) {
        self.unstored.extend(events);
    }

    /// Whether a disk said that it had stored this event, and had not.
    pub(in crate::sim) fn was_not_stored(&self, event: Event) -> bool {
        self.unstored.contains(&event)
    }

    /// The events that a write became.
    pub(in crate::sim) fn dots_of(&self, id: WriteId) -> impl Iterator<Item = Dot> + '_ {
        self.writes.get(&id).into_iter().flat_map(|write| write.dots.iter().copied())
    }

    /// Whether an event is known to be the write of another value than this.
    pub(in crate::sim) fn is_other_value(
        &self,
        partition: PartitionId,
        dot: Dot,
        value: &Bytes,
    ) -> bool {
        let event = self.events.get(&(partition, dot));
        event.is_some_and(|event| event.value.as_ref() != Some(value))
    }

    /// Keys of which a promise is broken, and no node could know.
    pub fn excused(&self) -> usize {
        self.excused.len()
    }

    /// Whether a copy of this write was lost in a way that no node could know of; its key is
    /// excused then.
    fn excuses(&mut self, partition: PartitionId, key: &Key, dots: &BTreeSet<Dot>) -> bool {
        let excused = dots.iter().any(|&dot| self.unstored.contains(&(partition, dot)));
        if excused {
            self.excused.insert(key.clone());
        }
        excused
    }

    /// The client was told. `firm`: every later read of a majority must see it.
    pub fn told(&mut self, id: WriteId, fate: Fate, at_us: u64, firm: bool) {
        if let Some(write) = self.writes.get_mut(&id) {
            write.fate = fate;
            let since_us = write.firm_since_us.unwrap_or(at_us);
            write.firm_since_us = (firm && fate == Fate::Acknowledged).then_some(since_us);
        }
    }

    /// Everything that a reader knows who was shown these values of a key.
    pub fn seen_by(&self, partition: PartitionId, key: &Key, values: &[Bytes]) -> Seen {
        let mut seen = Seen::default();
        let Some(facts) = self.keys.get(key) else { return seen };
        for copies in values.iter().filter_map(|value| facts.by_value.get(value)) {
            for dot in copies {
                let event = self.events.get(&(partition, *dot));
                let past = event.into_iter().flat_map(|event| &event.past).chain([dot]);
                if copies.len() > 1 {
                    // Which of them it was nobody knows.
                } else if event.is_some_and(|event| event.past_is_forgotten) {
                    seen.surely.insert(*dot);
                } else {
                    seen.surely.extend(past.clone());
                }
                seen.at_most.extend(past);
                seen.at_most.extend(event.into_iter().flat_map(|event| &event.copies));
            }
        }
        seen
    }

    /// Every event of a key.
    pub(in crate::sim) fn events_of(&self, key: &Key) -> Vec<Dot> {
        self.keys.get(key).map(|facts| facts.dots.iter().copied().collect()).unwrap_or_default()
    }

    /// A reader was shown these siblings of a key: each was minted for it. A read of a majority
    /// must also know of every write that was firm when it began (Q1, a regular register), and in a
    /// row of one of every write of a batch of which anybody was shown another one by then (B1).
    /// `reader` is `None` for those that see but one sibling.
    ///
    /// That siblings are exact is judged when a key has settled: a token names what was shown and
    /// not what that had replaced, so a leader that missed the latter keeps it until it hears of
    /// it.
    pub fn shown(
        &mut self,
        partition: PartitionId,
        key: &Key,
        values: &[Bytes],
        reader: Option<Reader>,
    ) {
        let facts = self.keys.entry(key.clone()).or_default();
        let strange = values.iter().filter(|value| !facts.by_value.contains_key(*value));
        let strange: Vec<Bytes> = strange.cloned().collect();
        for value in strange {
            let text = format!("{} was shown, which nobody wrote", value.escape_ascii());
            self.violate("W3 no wrong value is returned", key, text);
        }
        let missed = reader.and_then(|reader| self.missed(partition, key, values, reader));
        if let Some((id, dots)) = missed
            && !self.excuses(partition, key, &dots)
        {
            let is_alone = self.writes.get(&id).is_none_or(|write| write.batch.is_empty());
            let (promise, when) = if is_alone {
                ("Q1 reads see what was acknowledged", "acknowledged")
            } else {
                ("B1 batches are isolated", "of a batch that was acknowledged or shown in part")
            };
            let text = format!("a read missed write {} ({dots:?}), {when} before it began", id.0);
            self.violate(promise, key, text);
        }
        if self.rows_are_single {
            self.is_due(partition, key, values);
        }
    }

    /// Whoever asks from now on must see the other writes of the batches of these values.
    fn is_due(&mut self, partition: PartitionId, key: &Key, values: &[Bytes]) {
        let Some(facts) = self.keys.get(key) else { return };
        let dots = values.iter().filter_map(|value| facts.by_value.get(value)).flatten();
        let writes = dots.filter_map(|dot| self.events.get(&(partition, *dot))?.write);
        let batches = writes.filter_map(|id| self.writes.get(&id)).flat_map(|w| w.batch.clone());
        for id in batches.collect::<Vec<_>>() {
            if let Some(write) = self.writes.get_mut(&id) {
                write.due_since_us.get_or_insert(self.now_us);
            }
        }
    }

    /// A write that was firm or due when a read began which was shown these values, and which
    /// neither they nor any delete know of.
    fn missed(
        &self,
        partition: PartitionId,
        key: &Key,
        values: &[Bytes],
        Reader { began_us, majority }: Reader,
    ) -> Option<(WriteId, BTreeSet<Dot>)> {
        let facts = self.keys.get(key)?;
        let shown: BTreeSet<Dot> = values
            .iter()
            .filter_map(|value| facts.by_value.get(value))
            .flatten()
            .copied()
            .collect();
        let events: Vec<&Minted> =
            shown.iter().filter_map(|dot| self.events.get(&(partition, *dot))).collect();
        let is_known = |dot: &Dot| {
            shown.contains(dot)
                || events.iter().any(|event| event.knew_a_copy(*dot))
                || facts.deleted.contains(dot)
                || self.is_forfeit(partition, facts, *dot)
        };
        let is_before = |at: Option<u64>| at.is_some_and(|at| at < began_us);
        let must_be_seen = |write: &Write| {
            majority && is_before(write.firm_since_us) || is_before(write.due_since_us)
        };
        let writes = facts.writes.iter().filter_map(|id| Some((*id, self.writes.get(id)?)));
        let mut seen = writes.filter(|(_, write)| !write.dots.is_empty() && must_be_seen(write));
        let (id, write) = seen.rfind(|(_, write)| !write.dots.iter().any(is_known))?;
        Some((id, write.dots.clone()))
    }

    /// What a key holds once everything that is left has met: exactly the events that are left and
    /// that no other event which is left knew of.
    pub fn settled(&mut self, partition: PartitionId, key: &Key, values: &[Bytes]) {
        let Some(facts) = self.keys.get(key).cloned() else { return };
        let live: BTreeSet<Dot> = values
            .iter()
            .filter_map(|value| facts.by_value.get(value))
            .flatten()
            .copied()
            .collect();
        let mut found = Vec::new();
        for &dot in &facts.dots {
            let Some(event) = self.events.get(&(partition, dot)) else { continue };
            let write = event.write.and_then(|id| self.writes.get(&id));
            let fate = write.map_or(Fate::Open, |write| write.fate);
            if live.contains(&dot) {
                // A retry made its write twice; one of the copies may have been replaced.
                let copies = write.map_or_else(|| [dot].into(), |write| write.dots.clone());
                if copies.iter().all(|copy| self.replaced_by_stored(partition, &facts, *copy)) {
                    let text = format!("{dot} was replaced and is back");
                    found.push(("T1 nothing replaced returns", text));
                }
                if fate == Fate::Refused {
                    let text = format!("{dot} was refused and is there");
                    found.push(("V1 refused is never applied", text));
                }
            } else if fate == Fate::Acknowledged
                && event.value.is_some()
                && !write.is_some_and(|write| {
                    write.dots.iter().any(|copy| {
                        live.contains(copy) || self.is_excused(partition, &facts, *copy, &live)
                    })
                })
            {
                let dots = write.map_or_else(|| [dot].into(), |write| write.dots.clone());
                if !self.excuses(partition, key, &dots) {
                    let text =
                        format!("{dot} was acknowledged; nothing that is left descends from it");
                    found.push(("D1 nothing acknowledged is lost", text));
                }
            }
        }
        for (invariant, text) in found {
            self.violate(invariant, key, text);
        }
    }

    /// What is wrong with a batch of which some writes are stored and others are not. Where a disk
    /// said that it had stored a part, and had not, its keys are excused.
    pub fn half_done(&mut self, batch: &[WriteId]) -> Option<String> {
        for id in batch {
            let Some((key, dots)) = self.writes.get(id).map(|w| (w.key.clone(), w.dots.clone()))
            else {
                continue;
            };
            let home = self.keys.get(&key).and_then(|facts| facts.home);
            if home.is_some_and(|home| self.excuses(home, &key, &dots)) {
                return None;
            }
        }
        let stored = |id: &&WriteId| {
            self.writes.get(id).is_some_and(|write| {
                let home = self.keys.get(&write.key).and_then(|facts| facts.home);
                let event = |dot: &Dot| self.events.get(&(home?, *dot));
                write.dots.iter().filter_map(event).any(|event| event.stored)
            })
        };
        let done = batch.iter().filter(stored).count();
        (done > 0 && done < batch.len())
            .then(|| format!("{done} of the {} writes of {batch:?} are stored", batch.len()))
    }

    /// Every key that clients wrote to.
    pub fn keys(&self) -> impl Iterator<Item = &Key> + '_ {
        self.keys.keys().filter(|key| key.bucket != BATCH_LOG_BUCKET)
    }

    /// Number of writes whose clients were told OK.
    pub fn acknowledged(&self) -> usize {
        self.writes.values().filter(|write| write.fate == Fate::Acknowledged).count()
    }

    /// Number of keys that more than one write competed for.
    pub fn contended(&self) -> usize {
        self.keys.values().filter(|facts| facts.dots.len() > 1).count()
    }

    /// What was found to be broken, in the order of its finding.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Notes a broken promise that another oracle found.
    pub fn violate(&mut self, invariant: &'static str, key: &Key, text: String) {
        let at_us = self.now_us;
        self.violations.push(Violation { invariant, key: key.clone(), text, at_us });
    }

    /// Whether an event was replaced by another one, or is over by some clock.
    fn is_gone(&self, key: &Key, dot: Dot) -> bool {
        let facts = self.keys.get(key);
        facts.is_some_and(|facts| facts.replaced.contains(&dot) || facts.over.contains(&dot))
    }

    /// Whether an event that some node still knows of has replaced this one.
    fn replaced_by_stored(&self, partition: PartitionId, facts: &Facts, dot: Dot) -> bool {
        facts.dots.iter().any(|other| {
            self.events.get(&(partition, *other)).is_some_and(|event| {
                let is_known = !event.holders.is_empty() && !event.past_is_forgotten;
                is_known && event.past.contains(&dot)
            })
        })
    }

    /// Whether an acknowledged event may be gone: something that replaced it is live, or is a
    /// delete, or was replaced in its turn. An event that was lost with the memory of its leader
    /// excuses nothing.
    fn is_excused(
        &self,
        partition: PartitionId,
        facts: &Facts,
        dot: Dot,
        live: &BTreeSet<Dot>,
    ) -> bool {
        let knows = |other: &Dot| {
            self.events.get(&(partition, *other)).is_some_and(|event| event.may_know(dot))
        };
        facts.deleted.contains(&dot)
            || self.is_forfeit(partition, facts, dot)
            || live.iter().any(knows)
    }

    /// Whether a forged token of a write of the key covers this event, or one that replaced it:
    /// then both are gone where the token has come.
    fn is_forfeit(&self, partition: PartitionId, facts: &Facts, dot: Dot) -> bool {
        let knows = |other: &Dot| {
            self.events.get(&(partition, *other)).is_some_and(|event| event.may_know(dot))
        };
        let covered = |other: &&Dot| facts.forged.covers(**other);
        !facts.forged.is_empty()
            && (facts.forged.covers(dot) || facts.dots.iter().filter(covered).any(knows))
    }
}

impl Minted {
    fn may_know(&self, dot: Dot) -> bool {
        self.knew_a_copy(dot) || self.perhaps.contains(&dot)
    }

    fn knew_a_copy(&self, dot: Dot) -> bool {
        self.past.contains(&dot) || self.copies.contains(&dot)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: key {}: {}", self.invariant, show(&self.key), self.text)
    }
}

fn show(key: &Key) -> String {
    key.bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests;
