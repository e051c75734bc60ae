//! What is under way at a shard: machines that wait for answers, and the time at which each one
//! wants to be woken.
//!
//! A call id names its machine: 40 bits of operation number, 16 bits of question, so an answer
//! finds its way without a table. Operation numbers start at random, so an answer to a past life
//! of the process finds nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::ShardId;
use super::coordinator::Machine;
use super::message::CallId;
use crate::time::Mono;

/// One operation that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OperationId(u64);

const QUESTION_BITS: u32 = 16;
const OPERATION_MASK: u64 = (1 << 40) - 1;

/// Every operation that is under way.
#[derive(Debug)]
pub(super) struct Operations {
    shard: ShardId,
    running: BTreeMap<OperationId, (Mono, Machine)>,
    timers: BTreeSet<(Mono, OperationId)>,
    next: u64,
}

impl OperationId {
    /// The call that names question number `question` of this operation.
    pub(super) fn call(self, shard: ShardId, question: u16) -> CallId {
        CallId::new(shard, self.0 << QUESTION_BITS | u64::from(question))
    }

    /// The operation and the number of the question that a call names.
    pub(super) fn of_call(call: CallId) -> (Self, u16) {
        let question = call.0 & u64::from(u16::MAX);
        let question = u16::try_from(question).expect("sixteen bits fit sixteen bits");
        (Self(call.0 >> QUESTION_BITS & OPERATION_MASK), question)
    }
}

impl Operations {
    /// Nothing is under way; the first operation has a random number.
    pub(super) fn new(shard: ShardId, start: u64) -> Self {
        Self { shard, running: BTreeMap::new(), timers: BTreeSet::new(), next: start }
    }

    /// A new name.
    pub(super) fn open(&mut self) -> OperationId {
        self.next = self.next.wrapping_add(1) & OPERATION_MASK;
        OperationId(self.next)
    }

    /// The call that names question number `question` of an operation.
    pub(super) fn call(&self, id: OperationId, question: usize) -> CallId {
        let question = u16::try_from(question).expect("an operation asks less than 65,536 times");
        id.call(self.shard, question)
    }

    /// Lets a machine wait for answers, and for `wake` at the latest.
    pub(super) fn wait(&mut self, id: OperationId, wake: Mono, machine: Machine) {
        let replaced = self.running.insert(id, (wake, machine));
        assert!(replaced.is_none(), "an operation waits once");
        self.timers.insert((wake, id));
    }

    /// Takes a machine out, to hand it an answer.
    pub(super) fn take(&mut self, id: OperationId) -> Option<Machine> {
        let (wake, machine) = self.running.remove(&id)?;
        self.timers.remove(&(wake, id));
        Some(machine)
    }

    /// Takes out a machine whose time has come.
    pub(super) fn take_due(&mut self, now: Mono) -> Option<(OperationId, Machine)> {
        let &(wake, id) = self.timers.first()?;
        if wake > now {
            return None;
        }
        let machine = self.take(id).expect("every timer has its machine");
        Some((id, machine))
    }

    /// When the next machine wants to be woken.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.timers.first().map(|&(wake, _)| wake)
    }

    /// The names of all operations, the oldest first.
    pub(super) fn ids(&self) -> Vec<OperationId> {
        self.running.keys().copied().collect()
    }

    /// Every machine that waits.
    pub(super) fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.running.values().map(|(_, machine)| machine)
    }

    /// Number of operations that are under way.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }
}
