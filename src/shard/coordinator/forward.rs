//! A write that another member of the row leads: it is asked, and the next one when it is silent.
//!
//! All are asked under one request id, so what two of them make shows once. From the moment at
//! which one may have minted, no failure is a refusal any more.

use super::super::batch_log::BATCH_LOG_BUCKET;
use super::super::message::Message;
use super::super::operations::OperationId;
use super::super::{Origin, Seq, Shard, Table, Turn};
use super::put::may_succeed_elsewhere;
use super::{Machine, Place, left_ms, unavailable};
use crate::api::{Fault, Op, Outcome, Reply, Request};
use crate::causality::NodeId;
use crate::marks::sometimes;
use crate::time::Mono;

/// A write that another member leads.
#[derive(Debug)]
pub(in super::super) struct Forwarding {
    id: OperationId,
    origin: Origin,
    place: Place,
    request: Request,
    needed: usize,
    deadline: Mono,
    /// When the next member is asked.
    next_ask: Mono,
    /// Members that were not asked yet, the next one last.
    left: Vec<NodeId>,
    asked: Vec<Asked>,
}

/// A member that was asked to lead.
#[derive(Debug)]
struct Asked {
    node: NodeId,
    sent: Mono,
    /// `None` = no answer yet; it may have written.
    refusal: Option<Fault>,
}

impl Shard {
    /// Lets another member lead.
    pub(super) fn forward<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        origin: Origin,
        place: Place,
        mut request: Request,
        needed: usize,
        left: Vec<NodeId>,
    ) {
        if request.request_id.is_none() {
            request.request_id = Some(self.new_request_id());
        }
        let id = self.operations.open();
        let deadline = turn.now.mono.plus_ms(u64::from(request.left_ms));
        let asked = Vec::with_capacity(1);
        let next_ask = turn.now.mono;
        let machine =
            Forwarding { id, origin, place, request, needed, deadline, next_ask, left, asked };
        let machine = Box::new(machine).ask_next(self, turn);
        self.wait(id, machine.map(Machine::Forwarding));
    }
}

impl Forwarding {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        self.deadline.min(self.next_ask)
    }

    /// A leader says what became of the write.
    pub(super) fn on_reply<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        from: NodeId,
        reply: Reply,
    ) -> Option<Box<Self>> {
        let asked = self.asked.get_mut(question).filter(|asked| asked.node == from);
        let Some(asked) = asked.filter(|asked| asked.refusal.is_none()) else { return Some(self) };
        if !matches!(self.request.op, Op::Batch { .. }) {
            shard.latency.note_write(from, asked.sent, turn.now.mono);
        }
        match reply {
            Reply::Fault(fault) if fault.outcome() == Outcome::Refused => {
                let goes_on = may_succeed_elsewhere(&fault);
                asked.refusal = Some(fault);
                if !goes_on {
                    self.left.clear();
                }
                if self.is_waiting() { Some(self) } else { self.ask_next(shard, turn) }
            }
            // The leader has seen to it that this rests on durable puts before it left there.
            Reply::Fault(_)
            | Reply::Written(_)
            | Reply::BatchWritten { .. }
            | Reply::Read(_)
            | Reply::Page(_)
            | Reply::Count(_)
            | Reply::Explained(_)
            | Reply::Conflicts(_)
            | Reply::Outcome(_) => {
                shard.answer(turn, self.origin, Seq(0), reply);
                None
            }
        }
    }

    /// A leader was silent for too long, or the time is up.
    pub(super) fn on_timer<T: Table>(
        self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        if turn.now.mono >= self.deadline {
            return self.give_up(shard, turn);
        }
        if let Some(last) = self.asked.last().filter(|last| last.refusal.is_none()) {
            // An answer that never comes is no sample, so its lateness is one: else a slow disk
            // would have every write led twice for ever.
            shard.latency.note_write(last.node, last.sent, turn.now.mono);
        }
        self.ask_next(shard, turn)
    }

    /// Other nodes can be reached now than before.
    pub(super) fn on_reach<T: Table>(
        self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        let last = self.asked.last().expect("a write was forwarded before it waits");
        if last.refusal.is_some() || shard.reaches(last.node) {
            return Some(self);
        }
        if self.is_log() {
            // Whether it was written will be seen when somebody finishes the batch.
            return self.give_up(shard, turn);
        }
        if self.request.previous {
            sometimes!("a leader was lost that was to show what it replaced");
            return self.give_up(shard, turn);
        }
        if self.left.is_empty() { Some(self) } else { self.ask_next(shard, turn) }
    }

    /// Asks the next member with the same request id; where none is left, waits for those asked.
    fn ask_next<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        let now = turn.now.mono;
        while let Some(node) = self.left.pop() {
            if !shard.reaches(node) {
                continue;
            }
            sometimes!("a forwarded write was retried by another leader", !self.asked.is_empty());
            let mut request = Box::new(self.request.clone());
            request.left_ms = left_ms(now, self.deadline);
            let call = shard.operations.call(self.id, self.asked.len());
            let message = Message::Forward { call, partition: self.place.partition, request };
            shard.send(turn, Seq(0), node, message);
            self.asked.push(Asked { node, sent: now, refusal: None });
            // A batch is long, so a slow answer says nothing; it goes to the next one only when
            // its leader cannot be reached. A second leader would show what the first has left.
            self.next_ask = if self.is_batch() || self.is_log() || self.request.previous {
                self.deadline
            } else {
                shard.latency.write_patience(node, now)
            };
            return Some(self);
        }
        self.next_ask = self.deadline;
        if self.is_waiting() { Some(self) } else { self.give_up(shard, turn) }
    }

    fn is_batch(&self) -> bool {
        matches!(self.request.op, Op::Batch { .. })
    }

    /// Whether it is the log of a batch, which no second member may lead.
    fn is_log(&self) -> bool {
        matches!(&self.request.op, Op::Put { key, .. } if key.bucket == BATCH_LOG_BUCKET)
    }

    fn is_waiting(&self) -> bool {
        self.asked.iter().any(|asked| asked.refusal.is_none())
    }

    /// Nobody led the write, as far as is known.
    fn give_up<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        let silent: Vec<String> = self
            .asked
            .iter()
            .filter(|asked| asked.refusal.is_none())
            .map(|asked| shard.name(asked.node))
            .collect();
        let fault = if !silent.is_empty() {
            sometimes!("a forwarded write got no answer in time");
            let detail = format!("{} led it and did not answer in time", silent.join(", "));
            let request_id = self.request.request_id.expect("forwarded requests have ids");
            Fault::OutcomeUnknown { request_id, detail }
        } else if let Some(fault) = self.asked.pop().and_then(|asked| asked.refusal) {
            fault
        } else {
            // Those that could be reached when the write came are gone since.
            let now = shard.check_reach(&self.place.row, self.needed);
            now.err().unwrap_or_else(|| unavailable(self.needed, 0, &[]))
        };
        shard.fail(turn, self.origin, fault);
        None
    }
}
