//! A GET: enough members of the row say what they hold; where they differ, their objects are
//! merged, and the stale ones are sent the result.
//!
//! The first member answers in full, the others may send a digest of a large value. Only answers
//! of Ready replicas count, so absence is never concluded from a replica that lost something. A
//! late member is hedged once, then passed over. Nothing is changed by a read, so all its failures
//! are refusals.

use std::collections::VecDeque;

use super::super::message::{Message, Nack, ReadAnswer, ReplicaItem};
use super::super::operations::OperationId;
use super::super::replica::{Local, digest};
use super::super::{Late, Origin, Seq, Shard, Table, Turn};
use super::{Machine, Place, byte, left_ms, needed, unavailable, words};
use crate::api::{Fault, Level, Op, Read, Reply, Request};
use crate::causality::{Entry, NodeId, Object, encode_context, merge};
use crate::hash::{Key, PartitionId};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::Mono;

/// Payloads up to this many bytes travel in the first answer of every member; longer ones only
/// from one of them.
const FULL_UP_TO: u32 = 4 * 1024;

/// A read of one key that waits for answers.
#[derive(Debug)]
pub(in super::super) struct Reading {
    id: OperationId,
    origin: Origin,
    key: Key,
    place: Place,
    needed: usize,
    /// Replicas on which what is shown must be durable before it is shown: 0 but for `strict`.
    durable_on: usize,
    deadline: Mono,
    /// When one more member is asked.
    next_ask: Mono,
    /// Whether the next one asked for lateness is a hedge, which has to be paid for.
    hedges: bool,
    /// Members that were not asked yet, in the order of asking.
    left: VecDeque<NodeId>,
    /// In the order of their questions.
    asked: Vec<Asked>,
    /// The newest put of this shard that an answer rests on.
    rests_on: Seq,
    /// The merged object that must become durable on more replicas first.
    repairing: Option<Object>,
}

/// A question and what came back.
#[derive(Debug)]
struct Asked {
    node: NodeId,
    sent: Mono,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Waiting,
    /// It cannot be reached any more.
    Lost,
    Object(Object),
    Digest([u8; 16]),
    /// It lost its record, or is being rebuilt; and what is left of it.
    Unknown(Object),
    Refused(Nack),
    /// It was sent the merged object, and this read waits for it to be durable there.
    Repairing,
    Repaired,
}

impl Shard {
    /// A client reads a key.
    pub(super) fn begin_read<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        origin: Origin,
        request: Request,
    ) -> Result<(), Fault> {
        let Op::Get { key } = &request.op else {
            unreachable!("the caller matched a GET");
        };
        let place = self.place(key)?;
        let needed = needed("r", request.r, &request, &place.row)?;
        self.check_reach(&place.row, needed)?;
        // A read that must see a majority durable must ask a majority, whatever `r` says.
        let durable_on = match request.level {
            Level::Strict => Level::Strict.required(place.row.len()),
            Level::One | Level::Sloppy | Level::Quorum | Level::All => 0,
        };
        let needed = needed.max(durable_on);
        let Op::Get { key } = request.op else { unreachable!("it is a GET, see above") };
        self.latency.earn_hedge();
        let now = turn.now.mono;
        let deadline = now.plus_ms(u64::from(request.left_ms));
        // Where one answer is enough and this replica has it, nobody waits for anything.
        if needed == 1
            && self.partitions.owned(place.partition).is_some()
            && let Local::Answer(ReadAnswer::Object(object), rests_on) =
                self.read_here(turn, place.partition, &key, u32::MAX)
        {
            let reply = (rests_on, Reply::Read(shown(place.partition, object)));
            self.answer_by(turn, origin, reply, (deadline, Late::TimedOut));
            return Ok(());
        }
        let machine = Reading {
            id: self.operations.open(),
            origin,
            key,
            place,
            needed,
            durable_on,
            deadline,
            next_ask: deadline,
            hedges: true,
            left: self.members(&place.row).collect(),
            asked: Vec::with_capacity(needed),
            rests_on: Seq(0),
            repairing: None,
        };
        let id = machine.id;
        let machine = machine.advance(self, turn).map(|mut machine| {
            machine.next_ask = machine.hedge_at(self, now);
            Machine::Reading(Box::new(machine))
        });
        self.wait(id, machine);
        Ok(())
    }
}

impl Reading {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        self.deadline.min(self.next_ask)
    }

    /// A member says what it holds.
    pub(super) fn on_answer<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        from: NodeId,
        answer: ReadAnswer,
    ) -> Option<Box<Self>> {
        let asked = self.asked.get_mut(question).filter(|asked| asked.node == from);
        let Some(asked) = asked else { return Some(self) };
        if !matches!(asked.answer, Answer::Waiting | Answer::Lost) {
            return Some(self);
        }
        shard.latency.note_read(from, asked.sent, turn.now.mono);
        asked.answer = answer.into();
        self.advance(shard, turn).map(Box::new)
    }

    /// A member that was sent the merged object has it on stable storage, or says why not.
    pub(super) fn on_ack<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        from: NodeId,
        refusal: Option<Nack>,
    ) -> Option<Box<Self>> {
        let asked = self.asked.get_mut(question).filter(|asked| asked.node == from);
        let Some(asked) = asked.filter(|asked| matches!(asked.answer, Answer::Repairing)) else {
            return Some(self);
        };
        asked.answer = refusal.map_or(Answer::Repaired, Answer::Refused);
        self.advance(shard, turn).map(Box::new)
    }

    /// An answer is late, or the time is up.
    pub(super) fn on_timer<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        let now = turn.now.mono;
        if now >= self.deadline {
            self.fail(shard, turn);
            return None;
        }
        let is_hedge = std::mem::replace(&mut self.hedges, false);
        if !is_hedge {
            // An answer that never comes is no sample, so its lateness is one.
            for asked in self.asked.iter().filter(|asked| matches!(asked.answer, Answer::Waiting)) {
                shard.latency.note_read(asked.node, asked.sent, now);
            }
        }
        let may_ask = !is_hedge || shard.latency.spend_hedge();
        if may_ask
            && self.repairing.is_none()
            && let Some(node) = self.left.pop_front()
        {
            shard.counters.hedges += u64::from(is_hedge);
            sometimes!("a read was hedged because an answer was late", is_hedge);
            self.ask(shard, turn, node, FULL_UP_TO);
        }
        self.next_ask = match self.asked.last() {
            Some(last) if !self.left.is_empty() => {
                shard.latency.read_patience(last.node, now).max(Mono(now.0 + 1))
            }
            Some(_) | None => self.deadline,
        };
        self.advance(shard, turn).map(Box::new)
    }

    /// Other nodes can be reached now than before.
    pub(super) fn on_reach<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        self.left.retain(|&node| shard.reaches(node));
        for asked in &mut self.asked {
            if matches!(asked.answer, Answer::Waiting) && !shard.reaches(asked.node) {
                asked.answer = Answer::Lost;
            }
        }
        self.advance(shard, turn).map(Box::new)
    }

    /// Asks as many members as are needed, and replies when enough have answered.
    fn advance<T: Table>(mut self, shard: &mut Shard, turn: &mut Turn<'_, T>) -> Option<Self> {
        if let Some(merged) = self.repairing.take() {
            return self.advance_repair(shard, turn, merged);
        }
        loop {
            let counted =
                self.count(|answer| matches!(answer, Answer::Object(_) | Answer::Digest(_)));
            let waiting = self.count(|answer| matches!(answer, Answer::Waiting));
            if counted >= self.needed {
                return self.resolve(shard, turn);
            }
            if counted + waiting >= self.needed {
                return Some(self);
            }
            let Some(node) = self.left.pop_front() else {
                return self.heal(shard, turn, counted, waiting);
            };
            let full_up_to = if self.asked.is_empty() { u32::MAX } else { FULL_UP_TO };
            self.ask(shard, turn, node, full_up_to);
        }
    }

    /// Asks one member; this replica itself without a message, unless the key is blocked here.
    fn ask<T: Table>(
        &mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        node: NodeId,
        full_up_to: u32,
    ) {
        let question = self.asked.len();
        self.asked.push(Asked { node, sent: turn.now.mono, answer: Answer::Waiting });
        self.ask_again(shard, turn, question, full_up_to);
    }

    fn ask_again<T: Table>(
        &mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        full_up_to: u32,
    ) {
        let now = turn.now.mono;
        let partition = self.place.partition;
        let asked = &mut self.asked[question];
        asked.sent = now;
        asked.answer = Answer::Waiting;
        if Some(asked.node) == shard.me() && shard.partitions.is_of_this_shard(partition) {
            match shard.read_here(turn, partition, &self.key, full_up_to) {
                Local::Answer(answer, rests_on) => {
                    asked.answer = answer.into();
                    self.rests_on = self.rests_on.max(rests_on);
                    return;
                }
                Local::Blocked => {}
            }
        }
        let message = Message::Read {
            call: shard.operations.call(self.id, question),
            partition,
            key: self.key.clone(),
            full_up_to,
            left_ms: left_ms(now, self.deadline),
        };
        shard.send(turn, Seq(0), self.asked[question].node, message);
    }

    /// Enough members answered: shows what they agree on, or merges what they differ in.
    fn resolve<T: Table>(mut self, shard: &mut Shard, turn: &mut Turn<'_, T>) -> Option<Self> {
        let first = self.asked.iter().position(|asked| matches!(asked.answer, Answer::Object(_)));
        if let Some(first) = first
            && self.agrees(first)
        {
            let object = take_object(&mut self.asked[first].answer);
            self.repair_unknown(shard, turn, &object);
            self.show(shard, turn, object);
            return None;
        }
        // Without any object one of the digests is enough; else their contexts are needed too.
        let most = if first.is_some() { usize::MAX } else { 1 };
        if self.ask_in_full(shard, turn, most) {
            return self.advance(shard, turn);
        }
        if planted(Bug::TornFill) {
            self.fill_again(shard);
        }
        let merged = self.merged();
        self.repair(shard, turn, merged, false)
    }

    /// Too few members can answer. Where that is because some of them lost what they held, and all
    /// others say what they hold, the lost is made good first; else the read fails.
    fn heal<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        counted: usize,
        waiting: usize,
    ) -> Option<Self> {
        let damaged = self.count(|answer| matches!(answer, Answer::Unknown(_)));
        let may_heal = damaged > 0 && counted + waiting > 0;
        if !may_heal || counted + waiting + damaged < self.needed {
            self.fail(shard, turn);
            return None;
        }
        if waiting > 0 {
            return Some(self);
        }
        if self.ask_in_full(shard, turn, usize::MAX) {
            return self.advance(shard, turn);
        }
        if !self.is_of_all() {
            self.fail(shard, turn);
            return None;
        }
        self.durable_on = self.durable_on.max(self.needed);
        let merged = self.merged();
        self.repair(shard, turn, merged, true)
    }

    /// Asks those who sent a digest for their object, at most so many. Whether there were any.
    fn ask_in_full<T: Table>(
        &mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        most: usize,
    ) -> bool {
        let digests: Vec<usize> = (0..self.asked.len())
            .filter(|&index| matches!(self.asked[index].answer, Answer::Digest(_)))
            .take(most)
            .collect();
        for &question in &digests {
            self.ask_again(shard, turn, question, u32::MAX);
        }
        !digests.is_empty()
    }

    /// Fills the object of this replica with the clock of now.
    fn fill_again(&mut self, shard: &Shard) {
        let me = shard.me();
        for asked in self.asked.iter_mut().filter(|asked| Some(asked.node) == me) {
            if let (Answer::Object(object), Some(owned)) =
                (&mut asked.answer, shard.partitions.owned(self.place.partition))
            {
                *object = owned.filled(std::mem::take(object));
            }
        }
    }

    /// What is known when all objects are known.
    fn merged(&self) -> Object {
        let objects = self.asked.iter().filter_map(|asked| object(&asked.answer));
        objects.fold(Object::default(), |merged, object| merge(&merged, object))
    }

    /// Whether all who answered hold the siblings that the member of this question holds.
    fn agrees(&self, first: usize) -> bool {
        let Some(shown) = self.asked.get(first).and_then(|asked| object(&asked.answer)) else {
            return false;
        };
        let mut shown_digest = None;
        self.asked.iter().all(|asked| match &asked.answer {
            Answer::Object(object) => object.dots().eq(shown.dots()),
            Answer::Digest(theirs) => {
                theirs == shown_digest.get_or_insert_with(|| digest(shown.dots()))
            }
            Answer::Unknown(left) => merge(shown, left).dots().eq(shown.dots()),
            Answer::Waiting
            | Answer::Lost
            | Answer::Refused(_)
            | Answer::Repairing
            | Answer::Repaired => true,
        })
    }

    /// Sends the merged object to those who lack it. Only `strict`, and a read that cannot do
    /// without those who lost theirs, waits for them.
    fn repair<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        merged: Object,
        heals: bool,
    ) -> Option<Self> {
        let is_stale = |answer: &Answer| match answer {
            Answer::Object(object) => !object.dots().eq(merged.dots()),
            Answer::Unknown(_) => heals,
            Answer::Waiting
            | Answer::Lost
            | Answer::Digest(_)
            | Answer::Refused(_)
            | Answer::Repairing
            | Answer::Repaired => false,
        };
        let stale: Vec<usize> =
            (0..self.asked.len()).filter(|&index| is_stale(&self.asked[index].answer)).collect();
        sometimes!("a read repaired a stale replica", !heals && !stale.is_empty());
        sometimes!("a read healed who had lost the record", heals);
        for &question in &stale {
            self.send_repair(shard, turn, question, &merged);
        }
        if !heals {
            self.repair_unknown(shard, turn, &merged);
        }
        for question in stale {
            self.asked[question].answer = Answer::Repairing;
        }
        self.advance_repair(shard, turn, merged)
    }

    /// Replies once the merged object is durable on enough replicas.
    fn advance_repair<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        merged: Object,
    ) -> Option<Self> {
        let durable = self.count(|answer| matches!(answer, Answer::Object(_) | Answer::Repaired));
        let repairing = self.count(|answer| matches!(answer, Answer::Repairing));
        if durable >= self.durable_on {
            self.show(shard, turn, merged);
            return None;
        }
        if durable + repairing < self.durable_on {
            self.fail(shard, turn);
            return None;
        }
        sometimes!("a strict read waited for what it repaired");
        self.repairing = Some(merged);
        self.next_ask = self.deadline;
        Some(self)
    }

    /// Heals those who lost their record, where all others have said what they hold: a healed
    /// replica claims to know all that its clock covers, so nobody may know more than it is told.
    fn repair_unknown<T: Table>(
        &mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        merged: &Object,
    ) {
        if !self.is_of_all() {
            return;
        }
        for question in 0..self.asked.len() {
            if matches!(self.asked[question].answer, Answer::Unknown(_)) {
                self.send_repair(shard, turn, question, merged);
            }
        }
    }

    fn send_repair<T: Table>(
        &mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        merged: &Object,
    ) {
        shard.counters.read_repairs += 1;
        let item = ReplicaItem {
            key: self.key.clone(),
            object: merged.clone(),
            dots: Vec::new(),
            stamp: None,
        };
        let message = Message::Replicate {
            call: shard.operations.call(self.id, question),
            partition: self.place.partition,
            left_ms: left_ms(turn.now.mono, self.deadline),
            items: vec![item],
            repair: self.is_of_all(),
        };
        shard.send(turn, self.rests_on, self.asked[question].node, message);
    }

    /// Whether every member of the row that holds something has said what.
    fn is_of_all(&self) -> bool {
        let holds = |asked: &&Asked| match asked.answer {
            Answer::Object(_)
            | Answer::Digest(_)
            | Answer::Unknown(_)
            | Answer::Repairing
            | Answer::Repaired => true,
            Answer::Waiting | Answer::Lost | Answer::Refused(_) => false,
        };
        self.asked.iter().filter(holds).count() == self.place.row.len()
    }

    fn show<T: Table>(&self, shard: &mut Shard, turn: &mut Turn<'_, T>, object: Object) {
        let reply = (self.rests_on, Reply::Read(shown(self.place.partition, object)));
        shard.answer_by(turn, self.origin, reply, (self.deadline, Late::TimedOut));
    }

    /// Too few answers; says whose are missing and why.
    fn fail<T: Table>(&self, shard: &mut Shard, turn: &mut Turn<'_, T>) {
        let answered = self.count(|answer| {
            matches!(answer, Answer::Object(_) | Answer::Digest(_) | Answer::Repaired)
        });
        let needed = self.needed.max(self.durable_on);
        let waiting = self.count(|answer| matches!(answer, Answer::Waiting));
        let damaged = self.count(|answer| matches!(answer, Answer::Unknown(_)));
        let overloaded = self.count(|answer| matches!(answer, Answer::Refused(Nack::Overloaded)));
        // What is the matter is that without which it would have gone well.
        let fault = if damaged > 0 && answered + waiting + damaged >= needed {
            sometimes!("a read failed because a record is damaged");
            Fault::Damaged { damaged: byte(damaged) }
        } else if overloaded > 0 && answered + waiting + overloaded >= needed {
            shard.fault_of(Nack::Overloaded)
        } else {
            let mut troubles: Vec<String> = self
                .asked
                .iter()
                .filter_map(|asked| trouble(&asked.answer).map(|why| (asked.node, why)))
                .map(|(node, why)| format!("{} {why}", shard.name(node)))
                .collect();
            let others = self.place.row.iter().filter(|&&node| !shard.reaches(node));
            troubles.extend(
                others
                    .filter(|&&node| self.asked.iter().all(|asked| asked.node != node))
                    .map(|&node| format!("{} cannot be reached", shard.name(node))),
            );
            unavailable(needed, answered, &troubles)
        };
        shard.fail(turn, self.origin, fault);
    }

    /// When the member that is likely to be the last is late.
    fn hedge_at(&self, shard: &Shard, now: Mono) -> Mono {
        if self.left.is_empty() {
            return self.deadline;
        }
        let waiting = self.asked.iter().filter(|asked| matches!(asked.answer, Answer::Waiting));
        waiting.map(|asked| shard.latency.hedge_at(asked.node, now)).max().unwrap_or(self.deadline)
    }

    fn count(&self, wanted: impl Fn(&Answer) -> bool) -> usize {
        self.asked.iter().filter(|asked| wanted(&asked.answer)).count()
    }
}

impl From<ReadAnswer> for Answer {
    fn from(answer: ReadAnswer) -> Self {
        match answer {
            ReadAnswer::Object(object) => Self::Object(object),
            ReadAnswer::Digest(digest) => Self::Digest(digest),
            ReadAnswer::Unknown(left) => Self::Unknown(left),
            ReadAnswer::Refused(why) => Self::Refused(why),
        }
    }
}

/// What a client is shown of an object: the winner first, and the token that covers all siblings.
pub(super) fn shown(partition: PartitionId, object: Object) -> Read {
    let context = encode_context(partition, &object.cover()).into();
    let crowd = (object.entries.len() > 1)
        .then(|| object.shown().into_iter().cloned().collect::<Vec<Entry>>());
    let Object { entries, ctx: mut vector_clock } = object;
    for entry in &entries {
        vector_clock.raise_to(entry.dot);
    }
    Read { siblings: crowd.unwrap_or(entries), context, vector_clock }
}

/// What an answer holds, or what is left of it.
fn object(answer: &Answer) -> Option<&Object> {
    match answer {
        Answer::Object(object) | Answer::Unknown(object) => Some(object),
        Answer::Waiting
        | Answer::Lost
        | Answer::Digest(_)
        | Answer::Refused(_)
        | Answer::Repairing
        | Answer::Repaired => None,
    }
}

fn take_object(answer: &mut Answer) -> Object {
    match answer {
        Answer::Object(object) => std::mem::take(object),
        Answer::Waiting
        | Answer::Lost
        | Answer::Digest(_)
        | Answer::Unknown(_)
        | Answer::Refused(_)
        | Answer::Repairing
        | Answer::Repaired => unreachable!("the caller found an object here"),
    }
}

/// Why an answer does not count, to follow the name of a node.
fn trouble(answer: &Answer) -> Option<&'static str> {
    match answer {
        Answer::Waiting | Answer::Repairing => Some("did not answer in time"),
        Answer::Lost => Some("cannot be reached"),
        Answer::Unknown(_) => Some("lost its record"),
        Answer::Refused(why) => Some(words(*why)),
        Answer::Object(_) | Answer::Digest(_) | Answer::Repaired => None,
    }
}
