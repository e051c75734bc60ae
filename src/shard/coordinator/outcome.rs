//! OUTCOME: what became of a write, asked by the id that its client gave it.
//!
//! Every member of the row of the key is asked. One that knows of the write settles it: applied.
//! Otherwise a member that has forgotten nothing notes, durably, that it does not lead a write of
//! this id any more. When all have, none has led it and none will: not applied, now or later. This
//! is said only where every node owns every key. Elsewhere a batch may have been logged by other
//! nodes and reach this row late, so the answer is that it is not known.

use super::super::message::{CallId, Message, Recollection};
use super::super::parked::Waiting;
use super::super::partition::Partition;
use super::super::recent::Refusal;
use super::super::{Lookup, Origin, Seq, Shard, Table, Ticket, Turn};
use super::{Machine, Place};
use crate::api::{Fault, Known, Op, Reply, Request, RequestId, Settled};
use crate::causality::NodeId;
use crate::hash::{Key, PartitionId};
use crate::marks::sometimes;
use crate::time::Mono;

/// A question about an outcome that waits for members.
#[derive(Debug)]
pub(in super::super) struct Inquiring {
    origin: Origin,
    deadline: Mono,
    /// Whether members note that they do not lead the write.
    denies: bool,
    /// What each member said.
    members: Vec<(NodeId, Answer)>,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Waiting,
    Silent,
    Said(Recollection),
}

/// What is asked of one member.
#[derive(Debug)]
pub(in super::super) struct Inquiry {
    /// Names the answer.
    pub call: CallId,
    /// The partition of the key.
    pub partition: PartitionId,
    /// The key of the write.
    pub key: Key,
    /// Its id.
    pub id: RequestId,
    /// Whether the member may note that it does not lead it.
    pub deny: bool,
    /// Milliseconds within which an answer is of use.
    pub left_ms: u32,
}

impl Shard {
    /// A client asks what became of a write.
    pub(super) fn begin_outcome<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        ticket: Ticket,
        request: Request,
    ) -> Result<(), Fault> {
        let Op::Outcome { id, key } = request.op else { unreachable!("the caller matched it") };
        let Place { partition, row } = self.place(&key)?;
        let nodes = self.layout().map_or(0, |layout| layout.roles.len());
        let denies = row.len() == nodes && row.iter().all(|&node| self.reaches(node));
        let operation = self.operations.open();
        let mut members = Vec::with_capacity(row.len());
        for (question, &node) in row.iter().enumerate() {
            let is_reached = self.reaches(node);
            members.push((node, if is_reached { Answer::Waiting } else { Answer::Silent }));
            if is_reached {
                let call = self.operations.call(operation, question);
                let (key, left_ms) = (key.clone(), request.left_ms);
                let message = Message::Outcome { call, partition, key, id, deny: denies, left_ms };
                self.send(turn, Seq(0), node, message);
            }
        }
        let deadline = turn.now.mono.plus_ms(u64::from(request.left_ms));
        let machine = Inquiring { origin: Origin::Client(ticket), deadline, denies, members };
        let machine = machine.advance(self, turn);
        self.wait(operation, machine.map(|machine| Machine::Inquiring(Box::new(machine))));
        Ok(())
    }

    /// Says what this replica knows of a write.
    pub(in super::super) fn on_outcome<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        inquiry: Inquiry,
    ) {
        let Inquiry { call, partition, id, .. } = inquiry;
        if self.parked.blocks(inquiry.key.token) {
            return self.park_outcome(turn, from, inquiry);
        }
        let Some(owned) = self.partitions.owned(partition) else {
            let answer = Recollection::Unsure;
            return self.send(turn, Seq(0), from, Message::OutcomeReply { call, answer });
        };
        // Whatever is known of a request rests on some put of its partition.
        let rests_on = owned.newest();
        if self.recent.is_done(inquiry.key.token, id) {
            let answer = Recollection::Applied;
            return self.send(turn, rests_on, from, Message::OutcomeReply { call, answer });
        }
        let is_ready = owned.is_ready();
        let answer = match turn.table.get(&inquiry.key).0 {
            Lookup::Found(object) if object.entries.iter().any(|entry| entry.rid == id.mark()) => {
                Recollection::Applied
            }
            Lookup::Cold => {
                self.parked.await_record(inquiry.key.token);
                return self.park_outcome(turn, from, inquiry);
            }
            Lookup::Found(_) | Lookup::Absent if is_ready && inquiry.deny => {
                return self.deny(turn, from, inquiry);
            }
            Lookup::Found(_) | Lookup::Absent | Lookup::Unknown => Recollection::Unsure,
        };
        self.send(turn, rests_on, from, Message::OutcomeReply { call, answer });
    }

    /// Notes that a write of this id is not led here, if nothing speaks against it.
    fn deny<T: Table>(&mut self, turn: &mut Turn<'_, T>, from: NodeId, inquiry: Inquiry) {
        let Inquiry { call, partition, key, id, .. } = inquiry;
        if self.recent.is_refused(key.token, id) {
            let rests_on = self.partitions.owned(partition).map_or(Seq(0), Partition::newest);
            let answer = Recollection::Denied;
            return self.send(turn, rests_on, from, Message::OutcomeReply { call, answer });
        }
        if turn.table.is_full() || !self.recent.can_deny(id) {
            sometimes!("a member could not say that a write never was", !turn.table.is_full());
            let answer = Recollection::Unsure;
            return self.send(turn, Seq(0), from, Message::OutcomeReply { call, answer });
        }
        sometimes!("a member noted that it leads a write no more");
        let refusal = Refusal::new(&key, id);
        let partitions = self.layout().map_or(1, |layout| layout.partitions);
        let old = self.recent.refuse(refusal.clone(), turn.now.mono);
        let mut records = vec![refusal.record(partition)];
        records.extend(old.into_iter().map(|old| {
            let home = old.token().partition(partitions);
            old.end(home)
        }));
        records.retain(|record| self.partitions.owned(record.partition).is_some());
        let rests_on = self.partitions.store(turn.table, records, None);
        let answer = Recollection::Denied;
        self.send(turn, rests_on, from, Message::OutcomeReply { call, answer });
    }

    fn park_outcome<T: Table>(&mut self, turn: &mut Turn<'_, T>, from: NodeId, inquiry: Inquiry) {
        let Inquiry { call, partition, key, id, deny, left_ms } = inquiry;
        let token = key.token;
        let message = Message::Outcome { call, partition, key, id, deny, left_ms };
        self.park(turn, token, Waiting::Peer { from, message });
    }
}

impl Inquiring {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        self.deadline
    }

    /// A member says what it knows.
    pub(super) fn on_recollection<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        from: NodeId,
        said: Recollection,
    ) -> Option<Self> {
        let member = self.members.get_mut(question).filter(|member| member.0 == from);
        if let Some((_, answer)) = member {
            *answer = Answer::Said(said);
        }
        self.advance(shard, turn)
    }

    /// The time is up.
    pub(super) fn on_timer<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Self> {
        for (_, answer) in &mut self.members {
            if *answer == Answer::Waiting {
                *answer = Answer::Silent;
            }
        }
        self.advance(shard, turn)
    }

    /// Other nodes can be reached now than before.
    pub(super) fn on_reach<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Self> {
        for (node, answer) in &mut self.members {
            if *answer == Answer::Waiting && !shard.reaches(*node) {
                *answer = Answer::Silent;
            }
        }
        self.advance(shard, turn)
    }

    fn advance<T: Table>(self, shard: &mut Shard, turn: &mut Turn<'_, T>) -> Option<Self> {
        let count = |wanted: Answer| self.members.iter().filter(|(_, is)| *is == wanted).count();
        let applied = count(Answer::Said(Recollection::Applied));
        if applied == 0 && count(Answer::Waiting) > 0 {
            return Some(self);
        }
        let denied = count(Answer::Said(Recollection::Denied));
        let settled = if applied > 0 {
            Settled { known: Known::Applied, detail: String::from("a replica knows of it") }
        } else if self.denies && denied == self.members.len() {
            sometimes!("a write was found never to have been applied");
            let detail = "no replica knows of it, and none will take it any more";
            Settled { known: Known::NotApplied, detail: String::from(detail) }
        } else {
            Settled { known: Known::Unknown, detail: self.why_not(shard) }
        };
        shard.answer(turn, self.origin, Seq(0), Reply::Outcome(settled));
        None
    }

    /// Why it is not known.
    fn why_not(&self, shard: &Shard) -> String {
        let silent: Vec<String> = self
            .members
            .iter()
            .filter(|(_, answer)| *answer == Answer::Silent)
            .map(|(node, _)| shard.name(*node))
            .collect();
        if !silent.is_empty() {
            return format!("{} did not answer, and no other knows of it", silent.join(", "));
        }
        if !self.denies {
            return String::from("no replica of the key knows of it, but other nodes may");
        }
        String::from("no replica knows of it, but some may have forgotten it")
    }
}
