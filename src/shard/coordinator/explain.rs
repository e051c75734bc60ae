//! EXPLAIN: where a key lies, and what each member of its row holds of it, each by its own word.
//!
//! It needs nobody: a member that cannot be reached, or does not answer in time, is shown as such.

use super::super::message::{CallId, Message};
use super::super::operations::OperationId;
use super::super::parked::Waiting;
use super::super::{Lookup, Origin, Seq, Shard, Table, Ticket, Turn};
use super::Machine;
use crate::api::{Explained, Fault, Holding, Op, Replica, Reply, Request};
use crate::causality::{NodeId, Object};
use crate::hash::{Key, PartitionId};
use crate::time::Mono;

/// An explanation that waits for members.
#[derive(Debug)]
pub(in super::super) struct Explaining {
    origin: Origin,
    deadline: Mono,
    explained: Explained,
    /// Members that were asked and have not answered, by position in the row.
    waiting: Vec<usize>,
}

impl Shard {
    /// A client wants to know where a key lies.
    pub(super) fn begin_explain<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        ticket: Ticket,
        request: Request,
    ) -> Result<(), Fault> {
        let Op::Explain { key } = request.op else { unreachable!("the caller matched it") };
        let place = self.place(&key)?;
        let epoch = self.layout().map_or(0, |layout| layout.epoch);
        let id: OperationId = self.operations.open();
        let mut replicas = Vec::with_capacity(place.row.len());
        let mut waiting = Vec::with_capacity(place.row.len());
        for (index, &node) in place.row.iter().enumerate() {
            replicas.push(Replica { node, name: self.name(node), holds: None });
            if self.reaches(node) {
                let call = self.operations.call(id, index);
                let question =
                    Message::Explain { call, partition: place.partition, key: key.clone() };
                self.send(turn, Seq(0), node, question);
                waiting.push(index);
            }
        }
        let explained =
            Explained { slot: key.token.slot(), partition: place.partition, epoch, replicas, key };
        let deadline = turn.now.mono.plus_ms(u64::from(request.left_ms));
        let origin = Origin::Client(ticket);
        let machine = Explaining { origin, deadline, explained, waiting };
        let machine = machine.advance(self, turn);
        self.wait(id, machine.map(|machine| Machine::Explaining(Box::new(machine))));
        Ok(())
    }

    /// Says what this replica holds of a key, in words.
    pub(in super::super) fn on_explain<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        call: CallId,
        partition: PartitionId,
        key: Key,
    ) {
        let owned = self.partitions.owned(partition).filter(|owned| owned.is_ready());
        let (holding, rests_on) = if owned.is_none() {
            (Holding::Unknown, Seq(0))
        } else if self.parked.blocks(key.token) {
            return self.park_explain(turn, from, call, partition, key);
        } else {
            match turn.table.get(&key) {
                (Lookup::Found(stored), rests_on) => {
                    let owned = self.partitions.owned(partition).expect("it is owned, see above");
                    (holding(&owned.filled(stored)), rests_on)
                }
                (Lookup::Absent, rests_on) => (Holding::Absent, rests_on),
                (Lookup::Unknown, rests_on) => (Holding::Unknown, rests_on),
                (Lookup::Cold, _) => {
                    self.parked.await_record(key.token);
                    return self.park_explain(turn, from, call, partition, key);
                }
            }
        };
        self.send(turn, rests_on, from, Message::ExplainReply { call, holding });
    }

    fn park_explain<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        call: CallId,
        partition: PartitionId,
        key: Key,
    ) {
        let token = key.token;
        let message = Message::Explain { call, partition, key };
        self.park(turn, token, Waiting::Peer { from, message });
    }
}

impl Explaining {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        self.deadline
    }

    /// A member says what it holds.
    pub(super) fn on_holding<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        from: NodeId,
        holding: Holding,
    ) -> Option<Self> {
        let replica = self.explained.replicas.get_mut(question);
        if let Some(replica) = replica.filter(|replica| replica.node == from) {
            replica.holds = Some(holding);
            self.waiting.retain(|&index| index != question);
        }
        self.advance(shard, turn)
    }

    /// The time is up: what is known is shown.
    pub(super) fn on_timer<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Self> {
        self.waiting.clear();
        self.advance(shard, turn)
    }

    /// Other nodes can be reached now than before.
    pub(super) fn on_reach<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Self> {
        let replicas = &self.explained.replicas;
        self.waiting.retain(|&index| shard.reaches(replicas[index].node));
        self.advance(shard, turn)
    }

    fn advance<T: Table>(self, shard: &mut Shard, turn: &mut Turn<'_, T>) -> Option<Self> {
        if !self.waiting.is_empty() {
            return Some(self);
        }
        shard.answer(turn, self.origin, Seq(0), Reply::Explained(self.explained));
        None
    }
}

fn holding(object: &Object) -> Holding {
    if object.entries.is_empty() {
        return Holding::Absent;
    }
    let mut siblings: Vec<_> = object
        .entries
        .iter()
        .map(|entry| {
            let bytes = u64::try_from(entry.payload.len()).expect("a length fits 64 bits");
            (entry.dot, entry.hlc, bytes)
        })
        .collect();
    siblings.sort_unstable_by_key(|&(dot, hlc, _)| std::cmp::Reverse((hlc, dot)));
    Holding::Versions { siblings, vector_clock: object.vector_clock() }
}
