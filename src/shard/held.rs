//! The part of this shard in a batch of its node: holds keys until every shard holds its own, then
//! writes them as one part of one group.
//!
//! Invariants: a batch asks its shards in ascending order, and a shard takes its keys one by one in
//! the order of the ring; so all batches of a node take their keys in one order, and none waits for
//! another in a circle. A key is held before the next one is waited for, and what was read of it is
//! kept: a large record may leave memory again before the next cold one has come. Once all shards
//! hold, nothing can refuse any more.
//!
//! The keys are let go when the part is put, not only when it is durable: who reads a new value is
//! answered when the whole group is durable, and by then every other part was put too. So a reader
//! that saw one new value finds no older value of another key of the batch at this node.

use std::collections::BTreeMap;

use super::message::{CallId, HoldWork, Message, Nack, ReplicaItem};
use super::parked::Waiting;
use super::partition::{Seen, Write};
use super::recent::Named;
use super::replica::REPLICATED_BYTES_MAX;
use super::table::{Group, Lookup, Record};
use super::{Seq, Shard, Table, Turn, coordinator};
use crate::api::{BatchKind, Fault};
use crate::causality::{Entry, NodeId, Object};
use crate::hash::{Key, PartitionId, Token};
use crate::limits::{SHARDS_MAX, UNDURABLE_BYTES_MAX};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};

/// A batch asks at most so many shards to hold.
pub(super) const HOLD_QUESTIONS: usize = SHARDS_MAX as usize;

/// The batches that this shard has a part in.
#[derive(Debug, Default)]
pub(super) struct Held {
    parts: BTreeMap<u64, Part>,
}

/// The names of a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    /// Names the answer once all keys are held.
    pub call: CallId,
    /// A partition of this shard.
    pub partition: PartitionId,
    /// Names the batch among the shards of this node.
    pub batch: u64,
}

/// The keys of one batch at this shard.
#[derive(Debug)]
struct Part {
    address: Address,
    /// Whether it is a part of a logged batch.
    is_owed: bool,
    /// What is still to be held, the next one last.
    left: Vec<Change>,
    /// What is held, each with the object that the table holds meanwhile.
    taken: Vec<(Change, Object)>,
}

/// What happens to one key.
#[derive(Debug)]
enum Change {
    Put(PartitionId, Write),
    Merge(PartitionId, ReplicaItem),
}

impl Shard {
    /// Begins to hold the keys of a batch.
    pub(super) fn on_hold<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        address: Address,
        work: HoldWork,
    ) {
        if Some(from) != self.me() {
            return;
        }
        if let Err(fault) = self.check_part(turn, &work) {
            return self.answer_hold(turn, address, Some(fault));
        }
        let is_owed = matches!(&work, HoldWork::Put { kind, .. } if kind.is_owed());
        let mut left: Vec<Change> = match work {
            HoldWork::Put { rid, given, expiry, kind, items } => items
                .into_iter()
                .map(|(partition, key, value)| {
                    let (seen, hlc) = match kind {
                        BatchKind::Finish(logged) => (Seen::Before(logged), logged),
                        BatchKind::Any | BatchKind::Isolated | BatchKind::Part => {
                            (Seen::All, self.clock.tick(turn.now))
                        }
                    };
                    let named = given.map(|id| Named::of_part(id, &key, &value));
                    let (value, done) = (Some(value), None);
                    let write = Write { key, value, expiry, seen, hlc, rid, named, done };
                    Change::Put(partition, write)
                })
                .collect(),
            HoldWork::Merge(items) => {
                items.into_iter().map(|(partition, item)| Change::Merge(partition, item)).collect()
            }
        };
        left.sort_unstable_by(|one, other| other.key().cmp(one.key()));
        let taken = Vec::with_capacity(left.len());
        let replaced =
            self.held.parts.insert(address.batch, Part { address, is_owed, left, taken });
        assert!(replaced.is_none(), "a batch asks each shard once");
        self.gather(turn, address.batch);
    }

    /// Goes on holding keys, until one is blocked or all are held.
    pub(super) fn gather<T: Table>(&mut self, turn: &mut Turn<'_, T>, batch: u64) {
        let Some(mut part) = self.held.parts.remove(&batch) else { return };
        while let Some(change) = part.left.last() {
            let token = change.key().token;
            // Two keys of one token are held as one.
            let is_held = part.taken.last().is_some_and(|(last, _)| last.key().token == token);
            if !is_held && self.parked.blocks(token) {
                sometimes!("a batch waited for a key");
                return self.wait_for(turn, token, batch, part);
            }
            let row_len = self.row(change.partition()).map_or(0, |row| row.len());
            let mut stored = match turn.table.get(change.key()).0 {
                Lookup::Found(object) => object,
                Lookup::Absent => Object::default(),
                // The last copy has nobody to learn from; a new value is better than none.
                Lookup::Unknown if row_len == 1 => Object::default(),
                Lookup::Unknown => {
                    self.refuse(turn, &part, Fault::Damaged { damaged: 1 });
                    return;
                }
                Lookup::Cold => {
                    self.parked.await_record(token);
                    return self.wait_for(turn, token, batch, part);
                }
            };
            if !is_held {
                self.parked.hold(token);
            }
            let mut change = part.left.pop().expect("it was there just now");
            if let Change::Put(_, write) = &mut change {
                // Another try may have been done, or denied, while this one waited for its keys.
                if let Err(fault) = self.check_named(token, write.named)
                    && !(part.is_owed && is_reuse(&fault))
                {
                    if !is_held {
                        part.taken.push((change, stored));
                    }
                    self.refuse(turn, &part, fault);
                    return;
                }
                write.done = self.done(token, write.named);
            }
            change.leave_out_what_goes(&mut stored);
            part.taken.push((change, stored));
        }
        let address = part.address;
        self.held.parts.insert(batch, part);
        self.answer_hold(turn, address, None);
    }

    /// The keys of this part will not be held: too much waits, or the wait was too long.
    pub(super) fn refuse_part<T: Table>(&mut self, turn: &mut Turn<'_, T>, batch: u64, why: Nack) {
        if let Some(part) = self.held.parts.remove(&batch) {
            let fault = self.fault_of(why);
            self.refuse(turn, &part, fault);
        }
    }

    /// Every shard holds: writes this part.
    pub(super) fn on_apply<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        call: CallId,
        batch: u64,
        parts: u16,
    ) {
        if Some(from) != self.me() {
            return;
        }
        let part = self.held.parts.remove(&batch).expect("what is applied was held");
        assert!(part.left.is_empty(), "a batch is applied when all its keys are held");
        let tokens = part.tokens();
        let mut records = Vec::with_capacity(part.taken.len());
        let mut items = Vec::new();
        let mut unchanged = None;
        for (change, stored) in part.taken {
            let (record, item) = self.change(turn, change, &stored);
            match record {
                Ok(record) => records.push(record),
                Err(again) => unchanged = unchanged.or(Some(again)),
            }
            items.extend(item);
        }
        if records.is_empty() {
            // The log waits for as many parts as there are shards, so an empty one would stop it.
            records.extend(unchanged);
        }
        let group = (parts > 1).then_some(Group { id: batch, parts });
        let rests_on = self.partitions.store(turn.table, records, group);
        self.let_go(tokens);
        self.send_home(turn, rests_on, Message::Applied { call, items });
    }

    /// The batch will not be done.
    pub(super) fn on_release(&mut self, from: NodeId, batch: u64) {
        if Some(from) == self.me()
            && let Some(part) = self.held.parts.remove(&batch)
        {
            self.let_go(part.tokens());
        }
    }

    /// The record of a change, or the one that stands already where it changes nothing; and what
    /// other nodes must merge.
    fn change<T: Table>(
        &mut self,
        turn: &Turn<'_, T>,
        change: Change,
        stored: &Object,
    ) -> (Result<Record, Record>, Option<(PartitionId, ReplicaItem)>) {
        let (key, partition) = (change.key().clone(), change.partition());
        let (record, item) = match change {
            Change::Put(_, write) => {
                let owned = self.partitions.owned_mut(partition).expect("it was checked as owned");
                let minted = owned.mint(stored.clone(), write, turn.now.unix_ms);
                if let Some(stamp) = minted.stamp {
                    self.recent.note(key.token, stamp, turn.now.mono);
                }
                (minted.record, Some((partition, minted.item)))
            }
            Change::Merge(_, item) => {
                let newest = item.object.entries.iter().map(|entry| entry.hlc).max();
                if newest.is_some_and(|hlc| !self.clock.observe(hlc, turn.now)) {
                    self.counters.clock_skews += 1;
                }
                (self.absorb(turn.now.mono, partition, Some(stored.clone()), item), None)
            }
        };
        let stands = || {
            let object = stored.clone();
            let (dots, removed) = (Vec::new(), Vec::new());
            Record { key, partition, object, dots, removed, stamp: None }
        };
        (record.ok_or_else(stands), item)
    }

    /// Whether this shard can do its part.
    fn check_part<T: Table>(&self, turn: &Turn<'_, T>, work: &HoldWork) -> Result<(), Fault> {
        let undurable = turn.table.undurable_bytes();
        let too_much = || Err(coordinator::overloaded("too many writes wait for the disk"));
        match work {
            HoldWork::Put { given, kind, items, .. } => {
                for (partition, key, value) in items {
                    let named = given.map(|id| Named::of_part(id, key, value));
                    match self.check_named(key.token, named) {
                        Err(fault) if kind.is_owed() && is_reuse(&fault) => {
                            sometimes!("a part of a logged batch was owed under a used id");
                        }
                        checked => checked?,
                    }
                    let owned = self.partitions.owned(*partition);
                    let owned = owned.ok_or_else(|| self.fault_of(Nack::NotOwner))?;
                    if let Some(why) = owned.why_not_minting() {
                        return Err(self.unavailable_here(why));
                    }
                }
                if undurable > UNDURABLE_BYTES_MAX {
                    return too_much();
                }
                if turn.table.is_full() {
                    return Err(Fault::DiskFull);
                }
                if turn.table.is_out_of_memory() {
                    return Err(Fault::OutOfMemory);
                }
            }
            HoldWork::Merge(items) => {
                let layout = self.layout().ok_or_else(|| self.fault_of(Nack::NotOwner))?;
                for (partition, item) in items {
                    let is_right = item.key.token.partition(layout.partitions) == *partition;
                    if !is_right || self.partitions.owned(*partition).is_none() {
                        return Err(self.fault_of(Nack::NotOwner));
                    }
                }
                if undurable > REPLICATED_BYTES_MAX {
                    return too_much();
                }
                let has_values = items.iter().any(|(_, item)| !item.object.entries.is_empty());
                if has_values && turn.table.is_full() {
                    return Err(Fault::DiskFull);
                }
                if has_values && turn.table.is_out_of_memory() {
                    return Err(Fault::OutOfMemory);
                }
            }
        }
        Ok(())
    }

    /// Lets a part wait, behind what came before it, for a token that is blocked.
    fn wait_for<T: Table>(&mut self, turn: &mut Turn<'_, T>, token: Token, batch: u64, part: Part) {
        self.held.parts.insert(batch, part);
        self.park(turn, token, Waiting::Part { batch });
    }

    fn refuse<T: Table>(&mut self, turn: &mut Turn<'_, T>, part: &Part, fault: Fault) {
        self.let_go(part.tokens());
        self.answer_hold(turn, part.address, Some(fault));
    }

    fn answer_hold<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        address: Address,
        refusal: Option<Fault>,
    ) {
        let Address { call, partition, .. } = address;
        self.send_home(turn, Seq(0), Message::Held { call, partition, refusal });
    }

    fn let_go(&mut self, tokens: Vec<Token>) {
        for token in tokens {
            if self.parked.release(token) {
                self.freed.push_back(token);
            }
        }
    }
}

/// Whether a write was refused because its id belongs to another request.
fn is_reuse(fault: &Fault) -> bool {
    matches!(fault, Fault::RequestIdReused { .. }) && !planted(Bug::OwedPartRefused)
}

impl Held {
    /// Number of batches that this shard has a part in.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }
}

impl Part {
    /// The tokens that it holds, each once.
    fn tokens(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> =
            self.taken.iter().map(|(change, _)| change.key().token).collect();
        tokens.dedup();
        tokens
    }
}

impl Change {
    fn key(&self) -> &Key {
        match self {
            Self::Put(_, write) => &write.key,
            Self::Merge(_, item) => &item.key,
        }
    }

    fn partition(&self) -> PartitionId {
        match self {
            Self::Put(partition, _) | Self::Merge(partition, _) => *partition,
        }
    }

    /// Takes away the payloads of those siblings that this change will replace: a batch of ten
    /// thousand keys would keep as many old values in memory while it waits.
    fn leave_out_what_goes(&self, stored: &mut Object) {
        match self {
            // Where an earlier try of this request has come through, the object stays as it is.
            Self::Put(_, write) if write.done.is_some() => {}
            Self::Put(_, write) => {
                let is_try = |rid: u64| write.rid != 0 && rid == write.rid;
                if !stored.entries.iter().any(|entry| is_try(entry.rid)) {
                    let goes = |entry: &&mut Entry| write.seen.replaces(entry);
                    stored.entries.iter_mut().filter(goes).for_each(|entry| entry.payload.clear());
                }
            }
            Self::Merge(_, item) => {
                for entry in &mut stored.entries {
                    let stays = item.object.dots().any(|dot| dot == entry.dot);
                    if !stays && item.object.ctx.covers(entry.dot) {
                        entry.payload.clear();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::{Expiry, RequestId};
    use crate::causality::{Actor, Dot, Entry};
    use crate::shard::table::Stamp;
    use crate::time::Hlc;

    /// A request that was done before changes nothing, so the values that were written since then
    /// stay, though it would have replaced them.
    #[test]
    fn only_a_write_that_is_carried_out_lets_go_of_what_it_replaces() {
        let dot = Dot { actor: Actor(1), seq: 1 };
        let stamp = Stamp { id: RequestId(7), at_ms: 1, dot, print: 1, existed: false };
        let left = |done: Option<Stamp>| {
            let (key, value) = (Key::plain("k"), Some(Bytes::from_static(b"again")));
            let (expiry, seen, hlc) = (Expiry::Never, Seen::All, Hlc(1));
            let write = Write { key, value, expiry, seen, hlc, rid: 0, named: None, done };
            let later = Entry::register(dot, Hlc(2), Bytes::from_static(b"later"));
            let mut stored = Object { entries: vec![later], ..Object::default() };
            Change::Put(PartitionId(0), write).leave_out_what_goes(&mut stored);
            stored.entries[0].payload.clone()
        };
        assert_eq!(left(Some(stamp)), "later");
        assert_eq!(left(None), "");
    }
}
