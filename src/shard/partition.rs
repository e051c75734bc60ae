//! The replicas of partitions that this shard owns: their clocks, and the only way to the table.
//!
//! Invariants: a clock gains a dot in the same step in which the object that reflects it is put
//! (I1), so clocks are folds over the log. A dot is minted once: the actor is new at every start,
//! and the number only grows (I2). Nothing else in the shard calls [`Table::put`].

use bytes::Bytes;

use super::batch_log::BATCH_LOG_BUCKET;
use super::expiring::Expiring;
use super::message::ReplicaItem;
use super::recent::Named;
use super::table::{Batch, Group, Record, Seq, Stamp, Table};
use crate::api::Expiry;
use crate::causality::{
    Actor, Dot, Entry, Object, PartitionClock, VersionVector, fill, fill_from_siblings, merge, put,
    strip,
};
use crate::hash::{Key, PartitionId};
use crate::limits::{LOSER_AGE_MS_MAX, LOSER_BYTES_MAX, LOSERS_MAX};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::Hlc;

/// Whether a replica may answer for its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It knows everything that its clock says.
    Ready,
    /// It lost an unknown part: it stores what it is sent, and answers for nothing.
    Rebuilding,
}

/// The replica of one partition.
#[derive(Debug)]
pub(super) struct Partition {
    id: PartitionId,
    clock: PartitionClock,
    state: State,
    actor: Option<Actor>,
    /// The number of the last dot minted under `actor`.
    minted: u64,
    /// The newest put of this partition: what a statement about the whole clock rests on.
    newest: Seq,
}

/// Every partition that this shard owns.
#[derive(Debug)]
pub(super) struct Partitions {
    /// Partition p stands at p / shards.
    slots: Vec<Option<Partition>>,
    shard: u16,
    shards: u16,
    /// Logs of batches that were put since somebody looked, and whether each is held now.
    batch_logs: Vec<(Key, bool)>,
    /// What ends, of all that was put.
    pub(super) expiring: Expiring,
}

/// What the writer of a key has seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// All that its leader holds.
    All,
    /// One sibling and no other.
    Only(Dot),
    /// The siblings that are older than a batch which was logged then and is finished now.
    Before(Hlc),
    /// Everything up to here.
    Upto(VersionVector),
}

/// A write that its leader is about to make.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// Which key.
    pub key: Key,
    /// The new value; `None` = a delete.
    pub value: Option<Bytes>,
    /// When it ends.
    pub expiry: Expiry,
    /// What it replaces.
    pub seen: Seen,
    /// When, for display.
    pub hlc: Hlc,
    /// The mark of its request; 0 = none.
    pub rid: u64,
    /// The id of its request, where the client gave one.
    pub named: Option<Named>,
    /// What an earlier try of it became, as far as this replica remembers.
    pub done: Option<Stamp>,
}

/// A write that was made.
#[derive(Clone, Debug)]
pub(super) struct Minted {
    /// What to put; `None` where the request had been done already.
    pub record: Option<Record>,
    /// What the other members must merge.
    pub item: ReplicaItem,
    /// The event.
    pub dot: Dot,
    /// Whether there was a live value before.
    pub existed: bool,
    /// The winner among the values that it replaced.
    pub previous: Option<Bytes>,
    /// What the writer has seen now.
    pub seen: VersionVector,
    /// Siblings that are left.
    pub siblings: usize,
    /// Losers that went because there were too many, or they were too old.
    pub dropped: usize,
    /// What is to be remembered of its request.
    pub stamp: Option<Stamp>,
}

impl Seen {
    /// Whether a write that has seen this replaces a sibling.
    pub(super) fn replaces(&self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Only(dot) => entry.dot == *dot,
            Self::Before(logged) => entry.hlc < *logged,
            Self::Upto(known) => known.covers(entry.dot),
        }
    }
}

impl Partition {
    fn new(id: PartitionId, clock: PartitionClock, state: State, actor: Option<Actor>) -> Self {
        let mut partition = Self { id, clock, state, actor: None, minted: 0, newest: Seq(0) };
        partition.open(actor);
        partition
    }

    /// Whether it answers for its keys.
    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Why it may not mint; `None` = it is Ready, and the epoch of this start is durable.
    pub(super) fn why_not_minting(&self) -> Option<&'static str> {
        match (self.state, self.actor) {
            (State::Rebuilding, _) => Some("is being rebuilt after damage"),
            (State::Ready, None) => Some("has just started, and its new epoch is not on disk yet"),
            (State::Ready, Some(_)) => None,
        }
    }

    /// Whether a context names an event of this node that it has not minted yet: it is forged.
    pub(super) fn claims_the_future(&self, known: &VersionVector) -> bool {
        self.actor.is_some_and(|actor| {
            let mine = known.iter().filter(|(other, _)| other.tag() == actor.tag());
            let mut ahead =
                mine.filter(|&(other, seq)| other > actor || other == actor && seq > self.minted);
            ahead.next().is_some()
        })
    }

    /// The newest put of this partition.
    pub(super) fn newest(&self) -> Seq {
        self.newest
    }

    /// What is known of the whole partition. A statement about it rests on [`Partition::newest`].
    pub(super) fn clock(&self) -> &PartitionClock {
        &self.clock
    }

    /// The object with everything that this replica knows about its key, in the step that read it
    /// (rule R1). A replica that is being rebuilt fills from the siblings alone (rule R5).
    pub(super) fn filled(&self, stored: Object) -> Object {
        match self.state {
            State::Ready => fill(stored, &self.clock),
            State::Rebuilding => fill_from_siblings(stored),
        }
    }

    /// Makes a write: the clock has its dot when this returns, so its record must be put in the
    /// same step.
    pub(super) fn mint(&mut self, stored: Object, write: Write, unix_ms: u64) -> Minted {
        assert!(self.is_ready(), "only a Ready replica leads a write");
        let actor = self.actor.expect("nothing is minted before the epoch of the start is durable");
        let held = self.filled(stored);
        if let Some(stamp) = write.done {
            sometimes!("a retry was answered from memory");
            return Self::repeated(held, write.key, stamp.dot, Some(stamp));
        }
        if let Some(dot) = twin(&held, &write) {
            sometimes!("a retry met its own earlier try");
            let existed = shown_count(&held) > 1;
            let stamp = write.named.map(|named| stamp_of(named, dot, existed, unix_ms));
            return Self::repeated(held, write.key, dot, stamp);
        }
        self.minted += 1;
        let dot = Dot { actor, seq: self.minted };
        assert!(!self.clock.contains(dot), "a dot is minted once");
        let Write { key, value, expiry, seen, hlc, rid, named, done: _ } = write;
        let is_live = |entry: &&Entry| !entry.is_over(unix_ms);
        let existed = held.entries.iter().any(|entry| is_live(&entry));
        let stamp = named.map(|named| stamp_of(named, dot, existed, unix_ms));
        let previous = replaced(&held, &seen, unix_ms);
        let shown = held.winner().filter(is_live);
        let expiry_ms = expiry.at_leader(unix_ms, shown);
        // What is over before it begins leaves nothing behind but its event.
        let register = |payload| Entry { expiry_ms, rid, ..Entry::register(dot, hlc, payload) };
        let entry = value.map(register).filter(|entry| !entry.is_over(unix_ms));
        let by_token = matches!(&seen, Seen::Upto(_));
        let (held, known, mut gone) = apart(held, seen);
        let (held, dropped) = without_losers(held, &known, entry.as_ref(), unix_ms);
        let dropped_count = dropped.len();
        gone.extend(dropped);
        let made = put(held, dot, &known, entry);
        gone.extend(made.gone);
        gone.sort_unstable();
        self.clock.add(dot);
        let seen = seen_after(&made.object, dot, known);
        let siblings = shown_count(&made.object);
        sometimes!("a write left three siblings or more", siblings >= 3);
        sometimes!("a loser was dropped at the cap", dropped_count > 0);
        sometimes!("the token of a stale reader was merged", by_token && siblings >= 2);
        let mut dots = Vec::with_capacity(1 + gone.len());
        dots.push(dot);
        dots.extend_from_slice(&gone);
        let record = Record {
            key: key.clone(),
            partition: self.id,
            object: strip(made.object.clone(), &self.clock),
            dots: vec![dot],
            removed: gone,
            stamp,
        };
        let item = ReplicaItem { key, object: made.object, dots, stamp };
        let record = Some(record);
        let dropped = dropped_count;
        Minted { record, item, dot, existed, previous, seen, siblings, dropped, stamp }
    }

    /// The answer to a request that this replica has done, or has been told of, before.
    fn repeated(held: Object, key: Key, dot: Dot, stamp: Option<Stamp>) -> Minted {
        let siblings = shown_count(&held);
        let existed = stamp.map_or(siblings > 1, |stamp| stamp.existed);
        let seen = seen_after(&held, dot, VersionVector::new());
        // Whoever merges this object knows the event, or what came after it.
        let item = ReplicaItem { key, object: held, dots: vec![dot], stamp };
        let (record, previous, dropped) = (None, None, 0);
        Minted { record, item, dot, existed, previous, seen, siblings, dropped, stamp }
    }

    /// Merges what another replica sent. `None` = there is no news in it, for object and clock.
    ///
    /// `stored` is `None` where the record is damaged. Nothing is known of the key then, and
    /// nothing may be claimed: filled with the clock, the empty object would say of every sibling
    /// that it is gone, and take it away from all who still have it. A `stamp` that nothing was
    /// known of is news too, and must be kept.
    pub(super) fn absorb(
        &mut self,
        stored: Option<Object>,
        item: ReplicaItem,
        stamp_is_news: bool,
    ) -> Option<Record> {
        let ReplicaItem { key, object, mut dots, stamp } = item;
        let is_damaged = stored.is_none();
        let held = match stored {
            Some(stored) if planted(Bug::ReceiveWithoutFill) => stored,
            Some(stored) if planted(Bug::ExpiryResurrected) && object.ends() => stored,
            Some(stored) => self.filled(stored),
            None if planted(Bug::HealedByClock) => self.filled(Object::default()),
            None => Object::default(),
        };
        let merged =
            if planted(Bug::ReplicaOverwrites) { object.clone() } else { merge(&held, &object) };
        dots.extend(object.dots());
        dots.retain(|&dot| !self.clock.contains(dot));
        dots.sort_unstable();
        dots.dedup();
        // A replica that is being rebuilt answers for nothing, so a context that only grew is no
        // news to it; else every read that it is repaired by would write a record.
        let is_news = match self.state {
            State::Ready => merged != held,
            State::Rebuilding => merged.entries != held.entries,
        };
        if dots.is_empty() && !is_news && !is_damaged && !stamp_is_news {
            sometimes!("a replica was told nothing new");
            return None;
        }
        sometimes!("a replica merged siblings", merged.entries.len() > object.entries.len());
        sometimes!("a damaged record was healed from the others", is_damaged);
        sometimes!("a replica that is being rebuilt took in an event", !self.is_ready());
        let removed = missing(&held, &merged);
        for &dot in &dots {
            self.clock.add(dot);
            if Some(dot.actor) == self.actor {
                // Somebody remembers more of this actor than this replica does. That must never
                // be; if it is, the number is at least not given away twice.
                self.minted = self.minted.max(dot.seq);
            }
        }
        let object = match self.state {
            State::Ready => strip(merged, &self.clock),
            State::Rebuilding => merged,
        };
        let stamp = stamp.filter(|_| stamp_is_news);
        Some(Record { key, partition: self.id, object, dots, removed, stamp })
    }

    /// The record of a key without what was over at `unix_ms`; `None` = nothing was. Its clock
    /// covers what is taken away, so that it cannot come back from others.
    pub(super) fn purged(&self, key: Key, stored: &Object, unix_ms: u64) -> Option<Record> {
        let is_over = |entry: &&Entry| entry.is_over(unix_ms);
        let removed: Vec<Dot> =
            stored.entries.iter().filter(is_over).map(|entry| entry.dot).collect();
        if removed.is_empty() {
            return None;
        }
        let mut left = self.filled(stored.clone());
        left.hide_expired(unix_ms);
        assert!(removed.iter().all(|&dot| left.ctx.covers(dot)), "what goes stays covered");
        sometimes!("what was over was taken away");
        sometimes!("a sibling stayed when another was over", !left.entries.is_empty());
        let object = strip(left, &self.clock);
        Some(Record { key, partition: self.id, object, dots: Vec::new(), removed, stamp: None })
    }

    /// Mints under `actor` from now on.
    fn open(&mut self, actor: Option<Actor>) {
        if self.actor != actor {
            self.actor = actor;
            self.minted = actor.map_or(0, |actor| self.clock.base_of(actor));
            if planted(Bug::ActorKept) {
                let highest = actor.map_or(0, |actor| self.clock.highest_of(actor));
                self.minted = highest + 1_000_000;
            }
        }
    }
}

impl Partitions {
    /// Of a shard that owns nothing yet.
    pub(super) fn new(shard: u16, shards: u16) -> Self {
        assert!(shard < shards, "a shard is one of the shards of its node");
        let (batch_logs, expiring) = (Vec::new(), Expiring::default());
        Self { slots: Vec::new(), shard, shards, batch_logs, expiring }
    }

    /// The shard that every partition of this number belongs to.
    pub(super) fn shard_of(&self, id: PartitionId) -> u16 {
        id.0 % self.shards
    }

    /// Whether this shard is the one of its node that would hold this partition.
    pub(super) fn is_of_this_shard(&self, id: PartitionId) -> bool {
        self.shard_of(id) == self.shard
    }

    /// A partition that is owned here.
    pub(super) fn owned(&self, id: PartitionId) -> Option<&Partition> {
        if self.is_of_this_shard(id) { self.slots.get(self.slot(id))?.as_ref() } else { None }
    }

    /// A partition that is owned here.
    pub(super) fn owned_mut(&mut self, id: PartitionId) -> Option<&mut Partition> {
        let slot = self.slot(id);
        if self.is_of_this_shard(id) { self.slots.get_mut(slot)?.as_mut() } else { None }
    }

    /// Takes over a partition with the clock that its records fold into, unless it is owned.
    pub(super) fn own(
        &mut self,
        id: PartitionId,
        clock: PartitionClock,
        state: State,
        actor: Option<Actor>,
    ) {
        let slot = self.slot(id);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        let place = &mut self.slots[slot];
        if place.is_none() {
            *place = Some(Partition::new(id, clock, state, actor));
        }
    }

    /// Mints under `actor` from now on, in every partition.
    pub(super) fn open(&mut self, actor: Option<Actor>) {
        self.slots.iter_mut().flatten().for_each(|partition| partition.open(actor));
    }

    /// Puts records that were just minted or absorbed.
    pub(super) fn store<T: Table>(
        &mut self,
        table: &mut T,
        records: Vec<Record>,
        group: Option<Group>,
    ) -> Seq {
        assert!(!records.is_empty(), "a batch has at least one record");
        let ids: Vec<PartitionId> = records.iter().map(|record| record.partition).collect();
        let logs = records.iter().filter(|record| record.key.bucket == BATCH_LOG_BUCKET);
        let is_held = |record: &Record| !record.object.entries.is_empty();
        self.batch_logs.extend(logs.map(|record| (record.key.clone(), is_held(record))));
        for record in &records {
            self.expiring.note(record.key.token, &record.object);
        }
        let seq = table.put(Batch { records, group });
        for id in ids {
            let partition = self.owned_mut(id).expect("records are of partitions owned here");
            assert!(seq >= partition.newest, "puts are numbered in their order");
            partition.newest = seq;
        }
        seq
    }

    /// The logs of batches that were put since the last call, and whether each is held now.
    pub(super) fn take_batch_logs(&mut self) -> Vec<(Key, bool)> {
        std::mem::take(&mut self.batch_logs)
    }

    fn slot(&self, id: PartitionId) -> usize {
        usize::from(id.0 / self.shards)
    }
}

fn stamp_of(named: Named, dot: Dot, existed: bool, at_ms: u64) -> Stamp {
    Stamp { id: named.id, at_ms, dot, print: named.print, existed }
}

/// The live sibling that the request of this write made earlier, here or at another leader.
fn twin(held: &Object, write: &Write) -> Option<Dot> {
    if write.rid == 0 || planted(Bug::RetryMakesASibling) {
        return None;
    }
    let value = write.value.as_ref()?;
    held.entries
        .iter()
        .find(|entry| entry.rid == write.rid && entry.payload == *value)
        .map(|entry| entry.dot)
}

/// The winner among the values that a writer replaces who has seen this much.
fn replaced(held: &Object, seen: &Seen, unix_ms: u64) -> Option<Bytes> {
    let goes = |entry: &&Entry| seen.replaces(entry) && !entry.is_over(unix_ms);
    let live = held.entries.iter().filter(goes);
    let winner = live.max_by_key(|entry| (entry.hlc, entry.dot));
    winner.map(|entry| entry.payload.clone())
}

/// Takes out what the writer has seen as far as it is known exactly; the rest is a vector.
///
/// A vector claims every earlier event of its actors. That is right for a reader who was shown all
/// siblings, and wrong for one who was shown the winner only: the loser that the same actor minted
/// just before would go with it, though nobody saw it.
fn apart(mut held: Object, seen: Seen) -> (Object, VersionVector, Vec<Dot>) {
    match seen {
        Seen::Upto(known) => (held, known, Vec::new()),
        Seen::All | Seen::Only(_) | Seen::Before(_) => {
            let replaced = |entry: &Entry| seen.replaces(entry);
            let gone = held.entries.iter().filter(|entry| replaced(entry)).map(|entry| entry.dot);
            let gone = gone.collect();
            held.entries.retain(|entry| !replaced(entry));
            (held, VersionVector::new(), gone)
        }
    }
}

/// Drops the oldest losers that would stay after this write and are too many, too large, or too
/// old. The context covers them (entries always lie inside it), so they do not come back.
fn without_losers(
    mut held: Object,
    known: &VersionVector,
    entry: Option<&Entry>,
    unix_ms: u64,
) -> (Object, Vec<Dot>) {
    let mut staying: Vec<(Hlc, Dot, usize)> = held
        .entries
        .iter()
        .filter(|sibling| !known.covers(sibling.dot))
        .map(|sibling| (sibling.hlc, sibling.dot, sibling.payload.len()))
        .collect();
    if staying.is_empty() {
        return (held, Vec::new());
    }
    staying.sort_unstable();
    // The winner is no loser: the new value, or the newest of what a delete leaves.
    let newest = staying.last().map(|&(hlc, dot, _)| (hlc, dot));
    if entry.is_none_or(|entry| newest.is_some_and(|newest| newest > (entry.hlc, entry.dot))) {
        staying.pop();
    }
    let mut bytes: usize = staying.iter().map(|loser| loser.2).sum();
    let mut count = staying.len();
    let mut dropped = Vec::new();
    for (hlc, dot, length) in staying {
        let is_old = unix_ms.saturating_sub(hlc.unix_ms()) > LOSER_AGE_MS_MAX;
        if count <= LOSERS_MAX && bytes <= LOSER_BYTES_MAX && !is_old {
            break;
        }
        count -= 1;
        bytes -= length;
        dropped.push(dot);
    }
    held.entries.retain(|sibling| !dropped.contains(&sibling.dot));
    (held, dropped)
}

/// What the writer may claim to have seen after its write: what it knew, and its own event, as
/// long as that does not cover a sibling that it was never shown.
fn seen_after(object: &Object, dot: Dot, known: VersionVector) -> VersionVector {
    let mut seen = known.clone();
    seen.raise_to(dot);
    let claims_unseen =
        object.dots().any(|other| other != dot && seen.covers(other) && !known.covers(other));
    if claims_unseen { known } else { seen }
}

/// Number of siblings that a reader is shown.
fn shown_count(object: &Object) -> usize {
    if object.entries.len() < 2 { object.entries.len() } else { object.shown().len() }
}

/// The dots of `before` that `after` does not hold.
fn missing(before: &Object, after: &Object) -> Vec<Dot> {
    before.dots().filter(|dot| after.entries.iter().all(|entry| entry.dot != *dot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::NodeTag;

    /// A replica whose record of a key had rotted was healed by a read. It filled the empty object
    /// with its clock, which knew the event of the value, so the merge took the value for deleted
    /// and the next read took it away from everybody.
    #[test]
    fn a_damaged_record_is_healed_and_deletes_nothing() {
        let actor = Actor::new(NodeTag(7), 1);
        let ready =
            || Partition::new(PartitionId(0), PartitionClock::new(), State::Ready, Some(actor));
        let write = Write {
            key: Key::plain("k"),
            value: Some(Bytes::from("v")),
            expiry: Expiry::Never,
            seen: Seen::All,
            hlc: Hlc(1),
            rid: 0,
            named: None,
            done: None,
        };
        let mut leader = ready();
        let minted = leader.mint(Object::default(), write, 0);
        let mut replica = ready();
        assert!(replica.absorb(Some(Object::default()), minted.item.clone(), false).is_some());
        let healed =
            replica.absorb(None, minted.item, false).expect("a damaged record is put anew");
        assert_eq!(healed.object.entries.len(), 1);
    }

    fn ready(tag: u32) -> Partition {
        let actor = Actor::new(NodeTag(tag), 1);
        Partition::new(PartitionId(0), PartitionClock::new(), State::Ready, Some(actor))
    }

    /// A write at time 100 that replaces what its leader holds.
    fn write(value: &'static str, expiry: Expiry) -> Write {
        let (key, value) = (Key::plain("k"), Some(Bytes::from_static(value.as_bytes())));
        let (seen, hlc) = (Seen::All, Hlc(1));
        Write { key, value, expiry, seen, hlc, rid: 0, named: None, done: None }
    }

    fn stored(minted: &Minted) -> Object {
        minted.record.as_ref().expect("it was minted").object.clone()
    }

    #[test]
    fn what_was_taken_away_does_not_come_back_from_who_still_holds_it() {
        let (mut leader, mut late) = (ready(7), ready(8));
        let minted = leader.mint(Object::default(), write("v", Expiry::After(50)), 100);
        let key = Key::plain("k");
        assert!(leader.purged(key.clone(), &stored(&minted), 149).is_none());
        let purge = leader.purged(key.clone(), &stored(&minted), 150).expect("it is over");
        assert!(purge.object.is_void(), "its event is covered by the clock");
        assert_eq!((purge.dots.len(), purge.removed), (0, vec![minted.dot]));
        let at_late = late.absorb(Some(Object::default()), minted.item.clone(), false);
        let at_late = at_late.expect("it is news to it").object;
        let back = leader.absorb(Some(purge.object.clone()), minted.item, false);
        assert!(back.is_none(), "it is no news to who took it away");
        let object = leader.filled(purge.object);
        let told = ReplicaItem { key, object, dots: Vec::new(), stamp: None };
        let told = late.absorb(Some(at_late), told, false).expect("it is told that it is gone");
        assert!(told.object.entries.is_empty());
    }

    #[test]
    fn a_write_that_comes_while_the_old_value_goes_stays() {
        let (mut one, mut other) = (ready(7), ready(8));
        let old = one.mint(Object::default(), write("old", Expiry::After(50)), 100);
        let at_other = other.absorb(Some(Object::default()), old.item.clone(), false);
        let at_other = at_other.expect("it is news to it").object;
        let key = Key::plain("k");
        let purge = one.purged(key.clone(), &stored(&old), 150).expect("it is over");
        // The clock of the other one is slow: for it the old value lives on, and is replaced.
        let new = other.mint(at_other, write("new", Expiry::Never), 120);
        assert!(new.existed);
        let merged = one.absorb(Some(purge.object), new.item, false).expect("it is news to it");
        assert_eq!(merged.object.dots().collect::<Vec<_>>(), [new.dot]);
        assert!(one.purged(key, &merged.object, u64::MAX).is_none());
    }

    #[test]
    fn what_is_over_is_not_there_for_a_writer_and_what_ends_at_once_is_a_delete() {
        let mut leader = ready(7);
        let old = leader.mint(Object::default(), write("old", Expiry::After(50)), 100);
        let kept = leader.mint(stored(&old), write("new", Expiry::Kept), 149);
        assert!(kept.existed);
        assert_eq!(stored(&kept).entries[0].expiry_ms, 150);
        let later = leader.mint(stored(&kept), write("later", Expiry::Kept), 150);
        assert!(!later.existed);
        assert_eq!(stored(&later).entries[0].expiry_ms, 0, "nothing was left to keep");
        let gone = leader.mint(stored(&later), write("gone", Expiry::At(150)), 150);
        assert!(stored(&gone).entries.is_empty());
    }
}
