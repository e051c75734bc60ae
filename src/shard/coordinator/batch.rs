//! A batch: several keys, all or none of them, at one node that owns all of their partitions.
//!
//! Its leader is a member of the row of every key; where none can be reached, the batch is logged
//! first (`logged.rs`), or refused with `not_one_group`. The leader's shards hold their keys in
//! ascending order, write them as one group of the log, and let go; then every other member is sent
//! all of the items that it owns, and does the same with them. It is acknowledged when each row has
//! as many members with all of its items on stable storage as the level asks for.
//!
//! Messages between the shards of a node are neither lost nor doubled, and the shards die together;
//! so nothing here is repeated, and a hold needs no deadline of its own: its batch is applied or
//! released, and where a Release overtakes its Hold, the answer to the Hold is released again.

use bytes::Bytes;

use super::super::held::HOLD_QUESTIONS;
use super::super::message::{CallId, HoldWork, Message, Nack, ReplicaItem};
use super::super::operations::OperationId;
use super::super::{Origin, Row, Seq, Shard, Table, Turn};
use super::put::{Ack, may_succeed_elsewhere};
use super::{Machine, Place, left_ms, needed, overloaded, words};
use crate::api::{BatchKind, Fault, Op, Reply, Request, RequestId};
use crate::causality::NodeId;
use crate::hash::{Key, PartitionId};
use crate::limits::BATCHES_BYTES_MAX;
use crate::marks::sometimes;
use crate::time::Mono;

/// A batch that the shards of this node carry out together.
#[derive(Debug)]
pub(in super::super) struct Batching {
    id: OperationId,
    goal: Goal,
    /// Bytes of its keys and values.
    bytes: usize,
    deadline: Mono,
    /// The shards that take part, in ascending order.
    parts: Vec<Part>,
    stage: Stage,
}

/// What one shard has to do.
#[derive(Debug)]
struct Part {
    /// One of its partitions: the address of messages to it.
    partition: PartitionId,
    /// Sent when its turn comes.
    work: Option<HoldWork>,
}

/// What the batch is for.
#[derive(Debug)]
enum Goal {
    /// A client's batch, led here.
    Write(Box<Writing>),
    /// The batch of another leader, to be merged here.
    Merge { node: NodeId, call: CallId },
}

/// A client's batch.
#[derive(Debug)]
struct Writing {
    /// `None` = it has its answer, and what is left is done for the other members.
    origin: Option<Origin>,
    request_id: RequestId,
    count: u32,
    /// The different rows of its keys, each with the members that must have it.
    rows: Vec<(Row, usize)>,
    /// What to send elsewhere if a shard here refuses, and the nodes that could take it.
    elsewhere: Option<Box<(Place, Request, Vec<NodeId>)>>,
}

/// How far it has come.
#[derive(Debug)]
enum Stage {
    /// The shards up to this one hold their keys or are about to.
    Holding { last: usize },
    /// They write; so many have not said that it is durable.
    Applying { left: usize, items: Vec<(PartitionId, ReplicaItem)> },
    /// The other members have been sent what they own.
    Spreading { members: Vec<(NodeId, Ack)> },
}

impl Shard {
    /// A client writes several keys.
    pub(super) fn begin_batch<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        origin: Origin,
        request: Request,
    ) -> Result<(), Fault> {
        let (place, rows) = self.common_row(&request)?;
        let may_be_logged = matches!(request.op, Op::Batch { kind: BatchKind::Any, .. });
        if may_be_logged && !place.row.iter().any(|&node| self.reaches(node)) {
            return self.begin_logged_batch(turn, origin, request, &rows);
        }
        if place.row.is_empty() {
            sometimes!("a batch was refused because no node owns all of it");
            return Err(Fault::NotOneGroup);
        }
        let me = self.me();
        let mut others: Vec<NodeId> =
            self.members(&place.row).filter(|&node| Some(node) != me).collect();
        others.reverse();
        if me.is_some_and(|me| place.row.contains(&me)) {
            for (row, needed) in &rows {
                self.check_reach(row, *needed)?;
            }
            let elsewhere = (!others.is_empty()).then(|| (place, request.clone(), others));
            return self.lead_batch(turn, origin, request, rows, elsewhere);
        }
        if others.is_empty() {
            let fault = self.check_reach(&place.row, 1).err();
            return Err(fault.unwrap_or(Fault::TimedOut));
        }
        self.forward(turn, origin, place, request, 1, others);
        Ok(())
    }

    /// Another node's client writes several keys, and this node is to lead.
    pub(super) fn on_forwarded_batch<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        origin: Origin,
        request: Request,
    ) -> Result<(), Fault> {
        let (place, rows) = self.common_row(&request)?;
        if self.me().is_none_or(|me| !place.row.contains(&me)) {
            return Err(self.fault_of(Nack::NotOwner));
        }
        for (row, needed) in &rows {
            self.check_reach(row, *needed)?;
        }
        self.lead_batch(turn, origin, request, rows, None)
    }

    /// Another member led a batch; this node merges what it owns of it, all or nothing.
    pub(in super::super) fn on_replicate_batch<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        call: CallId,
        left_ms: u32,
        items: Vec<(PartitionId, ReplicaItem)>,
    ) {
        let goal = Goal::Merge { node: from, call };
        let bytes = items.iter().map(|(_, item)| item_bytes(item)).sum();
        let mut keys: Vec<&Key> = items.iter().map(|(_, item)| &item.key).collect();
        keys.sort_unstable();
        if keys.is_empty() || keys.windows(2).any(|pair| pair[0] == pair[1]) {
            let refusal = Some(Nack::NotOwner);
            return self.send(turn, Seq(0), from, Message::ReplicateAck { call, refusal });
        }
        if self.has_room_for(bytes).is_err() {
            let refusal = Some(Nack::Overloaded);
            return self.send(turn, Seq(0), from, Message::ReplicateAck { call, refusal });
        }
        let parts = self.parts(items, |(partition, _)| *partition, HoldWork::Merge);
        self.hold(turn, goal, bytes, left_ms, parts);
    }

    /// The members that all rows of a batch have in common, as one row, which may be empty, at the
    /// first key; and its different rows with the number of members that each of them needs.
    fn common_row(&self, request: &Request) -> Result<(Place, Vec<(Row, usize)>), Fault> {
        let keys = items(&request.op).iter().map(|(key, _)| key);
        let mut rows: Vec<(Row, usize)> = Vec::new();
        let mut common: Option<(PartitionId, Vec<NodeId>)> = None;
        for key in keys {
            let Place { partition, row } = self.place(key)?;
            let (_, nodes) = common.get_or_insert_with(|| (partition, row.to_vec()));
            if rows.iter().all(|(other, _)| other[..] != row[..]) {
                nodes.retain(|node| row.contains(node));
                rows.push((row, needed("w", request.w, request, &row)?));
            }
        }
        let (partition, nodes) = common
            .ok_or_else(|| Fault::BadRequest { text: String::from("the batch names no key") })?;
        Ok((Place { partition, row: Row::new(&nodes) }, rows))
    }

    fn lead_batch<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        origin: Origin,
        request: Request,
        rows: Vec<(Row, usize)>,
        elsewhere: Option<(Place, Request, Vec<NodeId>)>,
    ) -> Result<(), Fault> {
        let request_id = request.request_id.unwrap_or_else(|| self.new_request_id());
        let Op::Batch { items, expiry, kind } = request.op else {
            unreachable!("the caller matched a batch")
        };
        let may_come_again = kind.is_owed() || request_id.is_given();
        let given = may_come_again.then_some(request_id);
        check_for_doubles(&items)?;
        let bytes = items.iter().map(|(key, value)| key.bytes.len() + value.len()).sum();
        self.has_room_for(bytes)?;
        let partitions = self.layout().ok_or_else(|| self.no_cluster())?.partitions;
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let items: Vec<_> = items
            .into_iter()
            .map(|(key, value)| (key.token.partition(partitions), key, value))
            .collect();
        let rid = request_id.mark();
        let parts = self.parts(
            items,
            |(partition, ..)| *partition,
            |items| HoldWork::Put { rid, given, expiry, kind, items },
        );
        let elsewhere = elsewhere.map(|(place, mut request, nodes)| {
            request.request_id = Some(request_id);
            Box::new((place, request, nodes))
        });
        let writing = Writing { origin: Some(origin), request_id, count, rows, elsewhere };
        self.hold(turn, Goal::Write(Box::new(writing)), bytes, request.left_ms, parts);
        Ok(())
    }

    /// Whether this shard can carry out so many bytes more.
    pub(super) fn has_room_for(&self, bytes: usize) -> Result<(), Fault> {
        let under_way: usize = self
            .operations
            .machines()
            .map(|machine| match machine {
                Machine::Batching(machine) => machine.bytes,
                Machine::Logged(machine) => machine.bytes(),
                Machine::Recalling(_)
                | Machine::Forwarding(_)
                | Machine::Leading(_)
                | Machine::Reading(_)
                | Machine::Scanning(_)
                | Machine::Counting(_)
                | Machine::Explaining(_)
                | Machine::Inquiring(_) => 0,
            })
            .sum();
        if under_way > 0 && under_way + bytes > BATCHES_BYTES_MAX {
            return Err(overloaded("too many batches are under way"));
        }
        Ok(())
    }

    /// Deals the work out to the shards of this node.
    fn parts<I>(
        &self,
        items: Vec<I>,
        partition: impl Fn(&I) -> PartitionId,
        work: impl Fn(Vec<I>) -> HoldWork,
    ) -> Vec<Part> {
        let mut by_shard = std::collections::BTreeMap::<u16, Vec<I>>::new();
        for item in items {
            by_shard.entry(self.partitions.shard_of(partition(&item))).or_default().push(item);
        }
        let part = |items: Vec<I>| Part {
            partition: partition(items.first().expect("a part has an item")),
            work: Some(work(items)),
        };
        by_shard.into_values().map(part).collect()
    }

    fn hold<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        goal: Goal,
        bytes: usize,
        left_ms: u32,
        parts: Vec<Part>,
    ) {
        let id = self.operations.open();
        let deadline = turn.now.mono.plus_ms(u64::from(left_ms));
        let stage = Stage::Holding { last: 0 };
        let mut machine = Batching { id, goal, bytes, deadline, parts, stage };
        machine.ask(self, turn, 0);
        self.wait(id, Some(Machine::Batching(Box::new(machine))));
    }
}

impl Batching {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        let is_answered = match &self.goal {
            Goal::Write(writing) => writing.origin.is_none(),
            Goal::Merge { .. } => false,
        };
        // What the shards have begun to write they will end, whenever the disk does.
        if is_answered { Mono(u64::MAX) } else { self.deadline }
    }

    /// A shard holds its keys, or says why not.
    pub(super) fn on_held<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        refusal: Option<Fault>,
    ) -> Option<Box<Self>> {
        let Stage::Holding { last } = self.stage else { return Some(self) };
        if question != last {
            return Some(self);
        }
        if let Some(fault) = refusal {
            self.release(shard, turn, last);
            (*self).refuse(shard, turn, fault);
            return None;
        }
        if last + 1 < self.parts.len() {
            self.stage = Stage::Holding { last: last + 1 };
            self.ask(shard, turn, last + 1);
            return Some(self);
        }
        let count = self.parts.len();
        sometimes!("a batch was written by several shards", count > 1);
        let parts = u16::try_from(count).expect("a node has at most 64 shards");
        for (index, part) in self.parts.iter().enumerate() {
            let call = shard.operations.call(self.id, HOLD_QUESTIONS + index);
            let (partition, batch) = (part.partition, self.batch(shard));
            shard.send_home(turn, Seq(0), Message::Apply { call, partition, batch, parts });
        }
        self.stage = Stage::Applying { left: count, items: Vec::new() };
        Some(self)
    }

    /// A shard has written its part, and the whole group is durable.
    pub(super) fn on_applied<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        more: Vec<(PartitionId, ReplicaItem)>,
    ) -> Option<Box<Self>> {
        let Stage::Applying { left, items } = &mut self.stage else { return Some(self) };
        items.extend(more);
        *left -= 1;
        if *left > 0 {
            return Some(self);
        }
        let items = std::mem::take(items);
        match &self.goal {
            Goal::Merge { node, call } => {
                sometimes!("a replicated batch was merged");
                let done = Message::ReplicateAck { call: *call, refusal: None };
                shard.send(turn, Seq(0), *node, done);
                None
            }
            Goal::Write(_) => self.spread(shard, turn, &items),
        }
    }

    /// A member has all of its items on stable storage, or says why not.
    pub(super) fn on_ack<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        from: NodeId,
        refusal: Option<Nack>,
    ) -> Option<Box<Self>> {
        let Stage::Spreading { members } = &mut self.stage else { return Some(self) };
        let index = question.wrapping_sub(MEMBER_QUESTIONS);
        let member = members.get_mut(index).filter(|member| member.0 == from);
        let Some((_, ack)) = member else { return Some(self) };
        match *ack {
            Ack::Waiting | Ack::Lost => *ack = refusal.map_or(Ack::Durable, Ack::Refused),
            // A repeated acknowledgement counts once.
            Ack::Durable | Ack::Refused(_) => return Some(self),
        }
        self.advance(shard, turn)
    }

    /// The time is up.
    pub(super) fn on_timer<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        match self.stage {
            Stage::Holding { last } => {
                sometimes!("a batch was let go at its deadline");
                self.release(shard, turn, last + 1);
                self.refuse_finally(shard, turn, Fault::TimedOut);
                None
            }
            Stage::Applying { .. } => {
                sometimes!("a batch was answered before its fate was known");
                self.answer_unknown(shard, turn, "its leader has not yet made it durable");
                self.deadline = Mono(u64::MAX);
                Some(self)
            }
            Stage::Spreading { .. } => {
                self.give_up(shard, turn);
                None
            }
        }
    }

    /// Other nodes can be reached now than before.
    pub(super) fn on_reach<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        let Stage::Spreading { members } = &mut self.stage else { return Some(self) };
        for (node, ack) in members {
            if *ack == Ack::Waiting && !shard.reaches(*node) {
                *ack = Ack::Lost;
            }
        }
        self.advance(shard, turn)
    }

    /// Asks a shard to hold its keys.
    fn ask<T: Table>(&mut self, shard: &mut Shard, turn: &mut Turn<'_, T>, index: usize) {
        let call = shard.operations.call(self.id, index);
        let batch = self.batch(shard);
        let part = &mut self.parts[index];
        let work = part.work.take().expect("a shard is asked once");
        let partition = part.partition;
        shard.send_home(turn, Seq(0), Message::Hold { call, partition, batch, work });
    }

    /// Lets the first `count` shards let go.
    fn release<T: Table>(&self, shard: &mut Shard, turn: &mut Turn<'_, T>, count: usize) {
        let batch = self.batch(shard);
        for part in &self.parts[..count] {
            shard.send_home(turn, Seq(0), Message::Release { partition: part.partition, batch });
        }
    }

    /// Nothing was done here; another node may be able to.
    fn refuse<T: Table>(mut self, shard: &mut Shard, turn: &mut Turn<'_, T>, fault: Fault) {
        if let Goal::Write(writing) = &mut self.goal
            && may_succeed_elsewhere(&fault)
            && let Some(origin) = writing.origin
            && let Some(elsewhere) = writing.elsewhere.take()
        {
            sometimes!("a batch that was refused here went elsewhere");
            let (place, mut request, nodes) = *elsewhere;
            request.left_ms = left_ms(turn.now.mono, self.deadline);
            return shard.forward(turn, origin, place, request, 1, nodes);
        }
        self.refuse_finally(shard, turn, fault);
    }

    fn refuse_finally<T: Table>(&self, shard: &mut Shard, turn: &mut Turn<'_, T>, fault: Fault) {
        match &self.goal {
            Goal::Write(writing) => {
                if let Some(origin) = writing.origin {
                    shard.fail(turn, origin, fault);
                }
            }
            Goal::Merge { node, call } => {
                let refusal = Some(nack(&fault));
                shard.send(turn, Seq(0), *node, Message::ReplicateAck { call: *call, refusal });
            }
        }
    }

    /// Sends every other member what it owns of the batch.
    fn spread<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        items: &[(PartitionId, ReplicaItem)],
    ) -> Option<Box<Self>> {
        let Goal::Write(writing) = &self.goal else { unreachable!("a merge is not sent on") };
        let me = shard.me();
        let mut members: Vec<NodeId> =
            writing.rows.iter().flat_map(|(row, _)| row.iter().copied()).collect();
        members.sort_unstable();
        members.dedup();
        members.retain(|&node| Some(node) != me);
        // What was begun is worth ending even where its client has been told that it is unknown.
        let left_ms = left_ms(turn.now.mono, self.deadline).max(1);
        for (index, &node) in members.iter().enumerate() {
            let owns = |id: PartitionId| shard.row(id).is_some_and(|row| row.contains(&node));
            let items: Vec<_> = items.iter().filter(|(id, _)| owns(*id)).cloned().collect();
            let call = shard.operations.call(self.id, MEMBER_QUESTIONS + index);
            let partition = items.first().expect("a member owns a key of the batch").0;
            let message = Message::ReplicateBatch { call, partition, left_ms, items };
            shard.send(turn, Seq(0), node, message);
        }
        let members = members.into_iter().map(|node| (node, Ack::Waiting)).collect();
        self.stage = Stage::Spreading { members };
        self.advance(shard, turn)
    }

    /// Answers when every row has enough members, or cannot have them any more.
    fn advance<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        let (Goal::Write(writing), Stage::Spreading { members }) = (&self.goal, &self.stage) else {
            unreachable!("only a client's batch is spread");
        };
        let origin = writing.origin?;
        let count = |row: &Row, wanted: Ack| {
            members.iter().filter(|(node, ack)| *ack == wanted && row.contains(node)).count()
        };
        let durable = |row: &Row| 1 + count(row, Ack::Durable);
        if writing.rows.iter().all(|(row, needed)| durable(row) >= *needed) {
            let reply = Reply::BatchWritten { count: writing.count, isolated: true };
            shard.answer(turn, origin, Seq(0), reply);
            return None;
        }
        let hopeless =
            |(row, needed): &(Row, usize)| durable(row) + count(row, Ack::Waiting) < *needed;
        if writing.rows.iter().any(hopeless) {
            self.give_up(shard, turn);
            return None;
        }
        Some(self)
    }

    /// It is durable here, and not on enough others.
    fn give_up<T: Table>(&mut self, shard: &mut Shard, turn: &mut Turn<'_, T>) {
        let Stage::Spreading { members } = &self.stage else {
            unreachable!("only a batch that was spread misses members");
        };
        let troubles: Vec<String> = members
            .iter()
            .filter_map(|&(node, ack)| match ack {
                Ack::Durable => None,
                Ack::Waiting => Some(format!("{} did not answer", shard.name(node))),
                Ack::Lost => Some(format!("{} cannot be reached", shard.name(node))),
                Ack::Refused(why) => Some(format!("{} {}", shard.name(node), words(why))),
            })
            .collect();
        let detail = format!(
            "its leader wrote all of it, and too few others acknowledged: {}",
            troubles.join(", ")
        );
        self.answer_unknown(shard, turn, &detail);
    }

    /// Tells the client, once, that it is not known.
    fn answer_unknown<T: Table>(
        &mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        detail: &str,
    ) {
        if let Goal::Write(writing) = &mut self.goal
            && let Some(origin) = writing.origin.take()
        {
            let (request_id, detail) = (writing.request_id, String::from(detail));
            shard.fail(turn, origin, Fault::OutcomeUnknown { request_id, detail });
        }
    }

    /// What the shards of this node call it.
    fn batch(&self, shard: &Shard) -> u64 {
        shard.operations.call(self.id, 0).0
    }
}

/// Questions 0 to 63 are Holds, the next ones Applies, and then come the members.
const MEMBER_QUESTIONS: usize = 2 * HOLD_QUESTIONS;

pub(super) fn items(op: &Op) -> &[(Key, Bytes)] {
    match op {
        Op::Batch { items, .. } => items,
        Op::Put { .. }
        | Op::Delete { .. }
        | Op::Get { .. }
        | Op::Scan(_)
        | Op::Count { .. }
        | Op::Explain { .. }
        | Op::Outcome { .. }
        | Op::Conflicts { .. } => unreachable!("the caller matched a batch"),
    }
}

fn item_bytes(item: &ReplicaItem) -> usize {
    let payloads = item.object.entries.iter().map(|entry| entry.payload.len());
    item.key.bytes.len() + payloads.sum::<usize>()
}

pub(super) fn check_for_doubles(items: &[(Key, Bytes)]) -> Result<(), Fault> {
    let mut keys: Vec<&Key> = items.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Fault::DuplicateKey { key: pair[0].bytes.escape_ascii().to_string() }),
        None => Ok(()),
    }
}

/// What another node is told where a client would be told `fault`.
fn nack(fault: &Fault) -> Nack {
    match fault {
        Fault::Overloaded { .. } | Fault::OutOfMemory => Nack::Overloaded,
        Fault::DiskFull => Nack::DiskFull,
        Fault::Damaged { .. } => Nack::Rebuilding,
        Fault::TimedOut => Nack::Expired,
        Fault::ShuttingDown => Nack::Stopping,
        Fault::Unavailable { .. }
        | Fault::Denied(_)
        | Fault::NoCluster { .. }
        | Fault::BadRequest { .. }
        | Fault::NotSupported { .. }
        | Fault::KeyTooLarge { .. }
        | Fault::ValueTooLarge { .. }
        | Fault::BatchTooLarge { .. }
        | Fault::DuplicateKey { .. }
        | Fault::NotOneGroup
        | Fault::BadContext { .. }
        | Fault::BadLevel { .. }
        | Fault::BadCursor { .. }
        | Fault::RequestIdReused { .. }
        | Fault::RequestIdRefused { .. }
        | Fault::TooManySiblings { .. }
        | Fault::OutcomeUnknown { .. } => Nack::NotOwner,
    }
}
