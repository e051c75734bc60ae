//! What a member of a row does when asked: merges what it is sent, and says what it holds.
//!
//! A question that comes too late, or that this replica cannot answer, costs nothing and is
//! refused with the reason. A replica that is being rebuilt stores and acknowledges what it is
//! sent, and answers `Unknown` to every read.

use sha2::{Digest, Sha256};

use super::message::{Message, Nack, ReadAnswer, Recollection, ReplicaItem};
use super::parked::Waiting;
use super::{Lookup, Record, Seq, Shard, Table, Turn};
use crate::api::{Holding, Reply};
use crate::causality::{Dot, NodeId, Object, VersionVector};
use crate::hash::{Key, PartitionId};
use crate::limits::UNDURABLE_BYTES_MAX;
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::Mono;

/// Replicates are refused above this: twice the bound for clients, so that a node which takes no
/// more writes of its own still keeps its promises to others.
pub(super) const REPLICATED_BYTES_MAX: usize = 2 * UNDURABLE_BYTES_MAX;

/// What this replica says about a key, now.
#[derive(Debug)]
pub(super) enum Local {
    /// An answer, and the put that it rests on.
    Answer(ReadAnswer, Seq),
    /// The key cannot be used yet: its record is on its way, or a batch holds it.
    Blocked,
}

/// The stored objects of some keys.
enum Stored {
    /// All of them, `None` for what is damaged, and the newest put that they rest on.
    All(Vec<Option<Object>>, Seq),
    /// One of them cannot be used yet; this is its position.
    Blocked(usize),
    /// One of them is damaged.
    Damaged,
}

impl Shard {
    /// Merges what another replica holds, and acknowledges it when it is durable here.
    pub(super) fn on_replicate<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        message: Message,
    ) {
        let Message::Replicate { call, partition, left_ms, items, repair } = message else {
            unreachable!("the caller matched a Replicate");
        };
        if let Err(why) = self.accepts(turn, partition, &items) {
            let is_told = !(planted(Bug::DiskFullAcknowledged) && why == Nack::DiskFull);
            return self.acknowledge(turn, from, call, Seq(0), is_told.then_some(why));
        }
        let (stored, rests_on) = match self.stored(turn, partition, &items, repair) {
            Stored::All(stored, rests_on) => (stored, rests_on),
            Stored::Blocked(index) => {
                let token = items[index].key.token;
                let message = Message::Replicate { call, partition, left_ms, items, repair };
                return self.park(turn, token, Waiting::Peer { from, message });
            }
            Stored::Damaged => {
                return self.acknowledge(turn, from, call, Seq(0), Some(Nack::Rebuilding));
            }
        };
        let newest = items.iter().flat_map(|item| &item.object.entries).map(|entry| entry.hlc);
        if newest.max().is_some_and(|hlc| !self.clock.observe(hlc, turn.now)) {
            sometimes!("a timestamp too far ahead was not adopted");
            self.counters.clock_skews += 1;
        }
        let mut records = Vec::with_capacity(items.len());
        for (item, stored) in items.into_iter().zip(stored) {
            records.extend(self.absorb(turn.now.mono, partition, stored, item));
        }
        // A duplicate waits for the put that made it one.
        let rests_on = if records.is_empty() {
            rests_on
        } else {
            self.partitions.store(turn.table, records, None)
        };
        self.acknowledge(turn, from, call, rests_on, None);
    }

    /// Merges an item, and remembers the request that it carries out. `None` = no news.
    pub(super) fn absorb(
        &mut self,
        now: Mono,
        partition: PartitionId,
        stored: Option<Object>,
        item: ReplicaItem,
    ) -> Option<Record> {
        let (token, stamp) = (item.key.token, item.stamp);
        let is_news = stamp.is_some_and(|stamp| self.recent.is_news(token, &stamp));
        if let Some(stamp) = stamp.filter(|_| is_news) {
            self.recent.note(token, stamp, now);
        }
        let owned = self.partitions.owned_mut(partition).expect("it was accepted as owned");
        owned.absorb(stored, item, is_news)
    }

    /// Says what this replica holds of a key.
    pub(super) fn on_read<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        message: Message,
    ) {
        let Message::Read { call, partition, key, full_up_to, left_ms } = message else {
            unreachable!("the caller matched a Read");
        };
        match self.read_here(turn, partition, &key, full_up_to) {
            Local::Answer(answer, rests_on) => {
                self.send(turn, rests_on, from, Message::ReadReply { call, answer });
            }
            Local::Blocked => {
                let token = key.token;
                let message = Message::Read { call, partition, key, full_up_to, left_ms };
                self.park(turn, token, Waiting::Peer { from, message });
            }
        }
    }

    /// What this replica holds of a key: the object filled in this very step, or its digest where
    /// its payloads are longer than `full_up_to` together.
    pub(super) fn read_here<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        partition: PartitionId,
        key: &Key,
        full_up_to: u32,
    ) -> Local {
        let Some(owned) = self.partitions.owned(partition) else {
            return Local::Answer(ReadAnswer::Refused(Nack::NotOwner), Seq(0));
        };
        if self.parked.blocks(key.token) {
            return Local::Blocked;
        }
        let (lookup, rests_on) = turn.table.get(key);
        let stored = match lookup {
            Lookup::Found(object) => object,
            Lookup::Absent => Object::default(),
            Lookup::Unknown => {
                sometimes!("a damaged record was answered as unknown");
                return Local::Answer(ReadAnswer::Unknown(Object::default()), Seq(0));
            }
            Lookup::Cold => {
                self.parked.await_record(key.token);
                return Local::Blocked;
            }
        };
        if !owned.is_ready() {
            return Local::Answer(ReadAnswer::Unknown(owned.filled(stored)), rests_on);
        }
        let bytes: usize = stored.entries.iter().map(|entry| entry.payload.len()).sum();
        let answer = if u32::try_from(bytes).is_ok_and(|bytes| bytes <= full_up_to) {
            ReadAnswer::Object(owned.filled(stored))
        } else {
            ReadAnswer::Digest(digest(stored.dots()))
        };
        Local::Answer(answer, rests_on)
    }

    /// Whether these items may be merged here now.
    fn accepts<T: Table>(
        &self,
        turn: &Turn<'_, T>,
        partition: PartitionId,
        items: &[ReplicaItem],
    ) -> Result<(), Nack> {
        let layout = self.layout().ok_or(Nack::NotOwner)?;
        self.partitions.owned(partition).ok_or(Nack::NotOwner)?;
        if items.iter().any(|item| item.key.token.partition(layout.partitions) != partition) {
            return Err(Nack::NotOwner);
        }
        if turn.table.undurable_bytes() > REPLICATED_BYTES_MAX {
            return Err(Nack::Overloaded);
        }
        let has_values = items.iter().any(|item| !item.object.entries.is_empty());
        if has_values && turn.table.is_full() {
            sometimes!("a full disk refused what another replica sent");
            return Err(Nack::DiskFull);
        }
        if has_values && turn.table.is_out_of_memory() {
            return Err(Nack::Overloaded);
        }
        Ok(())
    }

    fn stored<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        partition: PartitionId,
        items: &[ReplicaItem],
        repair: bool,
    ) -> Stored {
        let is_alone = self.row(partition).is_some_and(|row| row.len() == 1);
        let mut objects = Vec::with_capacity(items.len());
        let mut newest = Seq(0);
        for (index, item) in items.iter().enumerate() {
            if self.parked.blocks(item.key.token) {
                return Stored::Blocked(index);
            }
            let (lookup, rests_on) = turn.table.get(&item.key);
            newest = newest.max(rests_on);
            match lookup {
                Lookup::Found(_) if repair && planted(Bug::ReadRepairDowngrades) => {
                    objects.push(None);
                }
                Lookup::Found(object) => objects.push(Some(object)),
                Lookup::Absent => objects.push(Some(Object::default())),
                Lookup::Unknown if repair || is_alone => objects.push(None),
                Lookup::Unknown => return Stored::Damaged,
                Lookup::Cold => {
                    self.parked.await_record(item.key.token);
                    return Stored::Blocked(index);
                }
            }
        }
        Stored::All(objects, newest)
    }

    fn acknowledge<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        to: NodeId,
        call: super::CallId,
        rests_on: Seq,
        refusal: Option<Nack>,
    ) {
        self.send(turn, rests_on, to, Message::ReplicateAck { call, refusal });
    }

    /// Tells the sender of a question that nothing was done with it. Answers are dropped.
    pub(super) fn refuse_message<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        message: &Message,
        why: Nack,
    ) {
        let answer = match *message {
            Message::Forward { call, .. } => {
                let reply = Box::new(Reply::Fault(self.fault_of(why)));
                Message::ForwardReply { call, reply }
            }
            Message::Replicate { call, .. } | Message::ReplicateBatch { call, .. } => {
                Message::ReplicateAck { call, refusal: Some(why) }
            }
            Message::Read { call, .. } => {
                Message::ReadReply { call, answer: ReadAnswer::Refused(why) }
            }
            Message::Page { call, .. } => {
                let (items, known) = (Vec::new(), VersionVector::new());
                Message::PageReply { call, items, known, next: None, refusal: Some(why) }
            }
            Message::Count { call, .. } => Message::CountReply { call, count: None, events: 0 },
            Message::Outcome { call, .. } => {
                Message::OutcomeReply { call, answer: Recollection::Unsure }
            }
            Message::Explain { call, .. } => {
                Message::ExplainReply { call, holding: Holding::Unknown }
            }
            Message::Hold { call, partition, .. } => {
                Message::Held { call, partition, refusal: Some(self.fault_of(why)) }
            }
            Message::Apply { .. }
            | Message::Release { .. }
            | Message::ForwardReply { .. }
            | Message::ReplicateAck { .. }
            | Message::ReadReply { .. }
            | Message::PageReply { .. }
            | Message::CountReply { .. }
            | Message::ExplainReply { .. }
            | Message::OutcomeReply { .. }
            | Message::Held { .. }
            | Message::Applied { .. } => return,
        };
        self.send(turn, Seq(0), from, answer);
    }
}

/// The first 16 bytes of SHA-256 over sorted dots: actor, number, little-endian.
pub(super) fn digest(dots: impl Iterator<Item = Dot>) -> [u8; 16] {
    let mut hash = Sha256::new();
    for dot in dots {
        hash.update(dot.actor.0.to_le_bytes());
        hash.update(dot.seq.to_le_bytes());
    }
    let whole = hash.finalize();
    whole[..16].try_into().expect("a SHA-256 digest has 32 bytes")
}
