//! COUNT and DBSIZE: the number of live keys, added up over all partitions.
//!
//! Each replica keeps its counts, so nothing is read. Of the members that the level asks for, the
//! one that knows most events of the partition is believed, and of two that know equally many the
//! larger count. So the sum is exact when every member has what was acknowledged, and otherwise off
//! by no more than what the best-informed member of each partition lacks.

use std::collections::BTreeMap;

use super::super::message::Message;
use super::super::operations::OperationId;
use super::super::{Origin, Row, Seq, Shard, Table, Ticket, Turn};
use super::{Machine, required, unavailable};
use crate::api::{Fault, Level, Op, Reply, Request};
use crate::causality::NodeId;
use crate::hash::{BucketId, PartitionId};
use crate::limits::MEMBER_PATIENCE_MS;
use crate::time::Mono;

/// Partitions that are asked at once.
const WINDOW: usize = 256;

/// A count that waits for members.
#[derive(Debug)]
pub(in super::super) struct Counting {
    id: OperationId,
    origin: Origin,
    bucket: BucketId,
    level: Level,
    r: Option<u8>,
    deadline: Mono,
    /// When more members are asked where some were silent.
    next_ask: Mono,
    /// Members that did not answer in time, so that each costs its patience once.
    silent: Vec<NodeId>,
    /// Partitions that are being asked.
    open: BTreeMap<PartitionId, Tally>,
    /// The next partition to ask; beyond the last one = all are.
    next: u32,
    partitions: u16,
    sum: u64,
}

/// What is known of one partition.
#[derive(Debug)]
struct Tally {
    row: Row,
    needed: usize,
    /// Members that were not asked yet, the next one last.
    left: Vec<NodeId>,
    waiting: Vec<NodeId>,
    answers: usize,
    /// Events known, and keys, of the best answer.
    best: (u64, u64),
}

impl Shard {
    /// A client wants to know how many keys there are.
    pub(super) fn begin_count<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        ticket: Ticket,
        request: &Request,
    ) -> Result<(), Fault> {
        let Op::Count { bucket } = request.op else { unreachable!("the caller matched a count") };
        let partitions = self.layout().ok_or_else(|| self.no_cluster())?.partitions;
        let machine = Counting {
            id: self.operations.open(),
            origin: Origin::Client(ticket),
            bucket,
            level: request.level,
            r: request.r,
            deadline: turn.now.mono.plus_ms(u64::from(request.left_ms)),
            next_ask: turn.now.mono.plus_ms(MEMBER_PATIENCE_MS),
            silent: Vec::new(),
            open: BTreeMap::new(),
            next: 0,
            partitions,
            sum: 0,
        };
        let id = machine.id;
        let machine = Box::new(machine).advance(self, turn);
        self.wait(id, machine.map(Machine::Counting));
        Ok(())
    }

    /// Says how many keys this replica holds.
    pub(in super::super) fn on_count<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        call: super::CallId,
        partition: PartitionId,
        bucket: BucketId,
    ) {
        let owned = self.partitions.owned(partition).filter(|owned| owned.is_ready());
        let (count, events, rests_on) = match owned {
            Some(owned) => {
                let count = turn.table.count(partition, bucket);
                (Some(count), owned.clock().events(), owned.newest())
            }
            None => (None, 0, Seq(0)),
        };
        self.send(turn, rests_on, from, Message::CountReply { call, count, events });
    }
}

impl Counting {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        self.next_ask.min(self.deadline)
    }

    /// A member says how many keys it holds.
    pub(super) fn on_count<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        from: NodeId,
        answer: (Option<u64>, u64),
    ) -> Option<Box<Self>> {
        let partition = PartitionId(u16::try_from(question).unwrap_or(u16::MAX));
        let Some(tally) = self.open.get_mut(&partition) else { return Some(self) };
        let Some(index) = tally.waiting.iter().position(|&node| node == from) else {
            return Some(self);
        };
        tally.waiting.remove(index);
        if let (Some(count), events) = answer {
            tally.answers += 1;
            tally.best = tally.best.max((events, count));
        }
        if tally.answers < tally.needed && tally.lacks() == 0 {
            return Some(self);
        }
        self.advance(shard, turn)
    }

    /// Some members were silent for too long, or the time is up.
    pub(super) fn on_timer<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        if turn.now.mono >= self.deadline {
            shard.fail(turn, self.origin, Fault::TimedOut);
            return None;
        }
        self.next_ask = turn.now.mono.plus_ms(MEMBER_PATIENCE_MS);
        for node in self.open.values().flat_map(|tally| &tally.waiting) {
            if !self.silent.contains(node) {
                self.silent.push(*node);
            }
        }
        let late: Vec<PartitionId> = self.open.keys().copied().collect();
        for partition in late {
            self.ask_one(shard, turn, partition);
        }
        self.advance(shard, turn)
    }

    /// Other nodes can be reached now than before.
    pub(super) fn on_reach<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        for tally in self.open.values_mut() {
            tally.waiting.retain(|&node| shard.reaches(node));
        }
        self.advance(shard, turn)
    }

    fn advance<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        let sum = &mut self.sum;
        self.open.retain(|_, tally| {
            let is_open = tally.answers < tally.needed;
            if !is_open {
                *sum += tally.best.1;
            }
            is_open
        });
        while self.open.len() < WINDOW && self.next < u32::from(self.partitions) {
            if let Err(fault) = self.open_next(shard) {
                shard.fail(turn, self.origin, fault);
                return None;
            }
        }
        let open: Vec<PartitionId> = self.open.keys().copied().collect();
        for partition in open {
            while self.open.get(&partition).is_some_and(|tally| tally.lacks() > 0) {
                if !self.ask_one(shard, turn, partition) {
                    let fault = self.open[&partition].fault(shard);
                    shard.fail(turn, self.origin, fault);
                    return None;
                }
            }
        }
        if self.open.is_empty() {
            shard.answer(turn, self.origin, Seq(0), Reply::Count(self.sum));
            return None;
        }
        Some(self)
    }

    fn open_next(&mut self, shard: &Shard) -> Result<(), Fault> {
        let number = u16::try_from(self.next).expect("a ring has at most 16,384 partitions");
        let partition = PartitionId(number);
        let row = shard.row(partition).ok_or_else(|| shard.no_cluster())?;
        let needed = required("r", self.r, self.level, &row)?;
        let left = shard.members_to_ask(&row, &self.silent);
        let (waiting, answers, best) = (Vec::with_capacity(needed), 0, (0, 0));
        self.open.insert(partition, Tally { row, needed, left, waiting, answers, best });
        self.next += 1;
        Ok(())
    }

    /// Asks one more member about a partition. `false` = there is none left.
    fn ask_one<T: Table>(
        &mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        partition: PartitionId,
    ) -> bool {
        let tally = self.open.get_mut(&partition).expect("the caller found it open");
        let Some(node) = tally.left.pop() else { return false };
        tally.waiting.push(node);
        let call = shard.operations.call(self.id, usize::from(partition.0));
        let message = Message::Count { call, partition, bucket: self.bucket };
        shard.send(turn, Seq(0), node, message);
        true
    }
}

impl Tally {
    /// Members that must still be asked.
    fn lacks(&self) -> usize {
        self.needed.saturating_sub(self.answers + self.waiting.len())
    }

    fn fault(&self, shard: &Shard) -> Fault {
        let missing = self.row.iter().filter(|&&node| !shard.reaches(node));
        let troubles: Vec<String> =
            missing.map(|&node| format!("{} cannot be reached", shard.name(node))).collect();
        unavailable(self.needed, self.answers, &troubles)
    }
}
