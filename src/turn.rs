//! The turn: the same lines in production and in simulation.
//!
//! A [`Worker`] is a shard and its half of the store. One turn steps some inputs, gives jobs their
//! units, and yields what must leave: the puts as one batch for the log, reads for the disk, and
//! those replies and messages whose puts are durable. The others are held back, in order, until the
//! log says so. Invariant: nothing that rests on a put leaves before that put is durable.

use std::collections::VecDeque;

use crate::api::Reply;
use crate::causality::NodeId;
use crate::hash::{BucketId, Key, PartitionId, Token};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::shard::{
    Batch, IndexEntry, Input, Late, Lookup, Message, Output, Seq, Shard, Table, Ticket,
};
use crate::store::{DiskDone, DiskError, LogBatch, LogNote, ReadId, ReadRequest, Store};
use crate::time::{Mono, Now};

/// Records that the jobs of a shard look at in one turn: about half a millisecond, so that a long
/// job delays nobody.
const TURN_UNITS: u32 = 512;

/// A shard, its half of the store, and what waits for the disk.
#[derive(Debug)]
pub struct Worker {
    shard: Shard,
    store: Store,
    durable: Seq,
    replies: HeldBack<Promised>,
    /// When the first of them is late, or earlier.
    late_at: Option<Mono>,
    messages: HeldBack<(NodeId, Message)>,
    /// What the disk did, for the next turn; before everything else, because it frees the most.
    completed: VecDeque<Input>,
    output: Output,
    /// What was put, for an observer; `None` where nobody looks, as in production.
    observer: Option<Vec<(Seq, Batch)>>,
}

/// A reply that waits for the disk, and what is said instead where it still waits by then.
#[derive(Debug)]
struct Promised {
    ticket: Ticket,
    reply: Reply,
    late: Option<(Mono, Late)>,
}

/// What leaves after a turn. The caller owns it and empties it.
#[derive(Debug, Default)]
pub struct Turn {
    /// The puts of the turn, for the log.
    pub batch: Option<LogBatch>,
    /// Records to be read from the disk.
    pub reads: Vec<ReadRequest>,
    /// Messages that may leave now. One to this node itself is for another of its shards.
    pub messages: Vec<(NodeId, Message)>,
    /// Replies that may leave now.
    pub replies: Vec<(Ticket, Reply)>,
}

/// Things that wait for puts to become durable, in the order of those puts.
#[derive(Debug)]
pub(crate) struct HeldBack<T>(VecDeque<(Seq, T)>);

impl Worker {
    /// A worker at the start of a process: everything that the store holds is durable.
    pub fn new(shard: Shard, store: Store) -> Self {
        Self {
            shard,
            store,
            durable: Seq(0),
            replies: HeldBack::default(),
            late_at: None,
            messages: HeldBack::default(),
            completed: VecDeque::new(),
            output: Output::default(),
            observer: None,
        }
    }

    /// The same worker, which also notes every put for [`Worker::take_observed`].
    #[must_use]
    pub fn observed(mut self) -> Self {
        self.observer = Some(Vec::new());
        self
    }

    /// The puts since the last call, where they are noted.
    pub fn take_observed(&mut self) -> impl Iterator<Item = (Seq, Batch)> + use<> {
        self.observer.as_mut().map(std::mem::take).unwrap_or_default().into_iter()
    }

    /// Logged batches that are not known to be done.
    pub fn logged_batches(&self) -> usize {
        self.shard.logged_batches()
    }

    /// The newest put of which the log said that it is durable.
    pub fn durable(&self) -> Seq {
        self.durable
    }

    /// The log did something for this shard.
    pub fn on_note(&mut self, note: LogNote) {
        if let Some(upto) = self.store.on_note(note) {
            assert!(upto >= self.durable, "what is durable stays durable");
            self.durable = upto;
            self.completed.push_back(Input::Durable { upto });
        }
    }

    /// A record was read from the disk, or could not be.
    pub fn on_read(&mut self, id: ReadId, result: Result<DiskDone, DiskError>) {
        if let Some(token) = self.store.on_read(id, result) {
            self.completed.push_back(Input::Fetched { token });
        }
    }

    /// One turn: takes all of `inputs`, and appends to `turn`.
    pub fn turn(&mut self, now: Now, inputs: &mut VecDeque<Input>, turn: &mut Turn) {
        let due = self.shard.deadline().is_some_and(|deadline| deadline <= now.mono);
        let tick = due.then_some(Input::Tick);
        let inputs = self.completed.drain(..).chain(tick).chain(inputs.drain(..));
        let (shard, output) = (&mut self.shard, &mut self.output);
        match &mut self.observer {
            None => work_through(shard, now, inputs, &mut self.store, output),
            Some(puts) => {
                let mut table = Observed { store: &mut self.store, puts };
                work_through(shard, now, inputs, &mut table, output);
            }
        }
        turn.batch = self.store.take_batch();
        turn.reads.append(&mut self.store.take_reads());
        self.messages.release(self.durable, &mut turn.messages);
        for (seq, node, message) in self.output.messages.drain(..) {
            self.messages.add(seq, self.durable, (node, message), &mut turn.messages);
        }
        self.reply(now.mono, turn);
    }

    /// Lets out the replies whose puts are durable, and says of those that are not, when their time
    /// is up, what can be said without them.
    fn reply(&mut self, now: Mono, turn: &mut Turn) {
        let durable = self.durable;
        turn.replies.extend(self.replies.due(durable).map(Promised::kept));
        let mut lates = self.output.late.drain(..).peekable();
        for (seq, ticket, reply) in self.output.replies.drain(..) {
            let late = lates.next_if(|(other, ..)| *other == ticket);
            let late = late.map(|(_, at, late)| (at, late));
            let seq = if planted(Bug::ReplyBeforeDurable) { Seq(0) } else { seq };
            let promised = Promised { ticket, reply, late };
            match self.replies.hold(seq, durable, promised) {
                Some(promised) => turn.replies.push(promised.kept()),
                None => self.late_at = late.map(|(at, _)| at).into_iter().chain(self.late_at).min(),
            }
        }
        assert!(lates.next().is_none(), "what is said instead of a reply comes in its order");
        drop(lates);
        if self.late_at.is_some_and(|at| at <= now) {
            self.give_up(now, turn);
        }
        if self.replies.0.is_empty() {
            self.late_at = None;
        }
    }

    /// Says of the replies that are late what can be said without them.
    fn give_up(&mut self, now: Mono, turn: &mut Turn) {
        self.replies.0.retain(|(_, promised)| match promised.late {
            Some((at, late)) if at <= now => {
                turn.replies.push((promised.ticket, Reply::Fault(late.fault())));
                false
            }
            Some(_) | None => true,
        });
        let left = self.replies.0.iter().filter_map(|(_, promised)| promised.late);
        self.late_at = left.map(|(at, _)| at).min();
    }

    /// Bytes of memory of its store, about.
    pub fn memory_bytes(&self) -> usize {
        self.store.memory_bytes()
    }

    /// When the next turn is due even if nothing happens.
    pub fn deadline(&self) -> Option<Mono> {
        self.shard.deadline().into_iter().chain(self.late_at).min()
    }

    /// Whether the next turn has something to do at once.
    pub fn has_work(&self) -> bool {
        !self.completed.is_empty() || self.shard.has_work()
    }
}

/// Steps every input, then does a slice of the jobs.
fn work_through<T: Table>(
    shard: &mut Shard,
    now: Now,
    inputs: impl Iterator<Item = Input>,
    table: &mut T,
    output: &mut Output,
) {
    for input in inputs {
        shard.step(now, input, table, output);
    }
    if shard.has_work() {
        shard.work(now, table, output, TURN_UNITS);
    }
}

/// A store that notes what is put into it.
struct Observed<'a> {
    store: &'a mut Store,
    puts: &'a mut Vec<(Seq, Batch)>,
}

impl Table for Observed<'_> {
    fn get(&mut self, key: &Key) -> (Lookup, Seq) {
        self.store.get(key)
    }

    fn put(&mut self, batch: Batch) -> Seq {
        let seq = self.store.put(batch.clone());
        self.puts.push((seq, batch));
        seq
    }

    fn page(&mut self, from: Token, to: Token, max: usize, out: &mut Vec<IndexEntry>) {
        self.store.page(from, to, max, out);
    }

    fn read(&mut self, entry: &IndexEntry) -> (Option<(Key, Lookup)>, Seq) {
        self.store.read(entry)
    }

    fn count(&self, partition: PartitionId, bucket: BucketId) -> u64 {
        self.store.count(partition, bucket)
    }

    fn undurable_bytes(&self) -> usize {
        self.store.undurable_bytes()
    }

    fn is_full(&self) -> bool {
        self.store.is_full()
    }

    fn is_out_of_memory(&self) -> bool {
        self.store.is_out_of_memory()
    }
}

impl<T> Default for HeldBack<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> HeldBack<T> {
    /// Lets `thing` out at once where its put is durable, else keeps it behind those that wait
    /// for the same put.
    pub(crate) fn add(&mut self, seq: Seq, durable: Seq, thing: T, out: &mut Vec<T>) {
        out.extend(self.hold(seq, durable, thing));
    }

    /// Lets out everything whose put is durable.
    pub(crate) fn release(&mut self, durable: Seq, out: &mut Vec<T>) {
        out.extend(self.due(durable));
    }

    /// The same as [`HeldBack::add`], for one thing: `None` = it is kept.
    fn hold(&mut self, seq: Seq, durable: Seq, thing: T) -> Option<T> {
        if seq <= durable {
            return Some(thing);
        }
        sometimes!("a reply or message was held back until durable");
        // Nearly always the newest put: then this is a push to the end.
        let place = match self.0.back() {
            Some((last, _)) if *last > seq => self.0.partition_point(|(other, _)| *other <= seq),
            Some(_) | None => self.0.len(),
        };
        self.0.insert(place, (seq, thing));
        None
    }

    /// Takes out everything whose put is durable.
    fn due(&mut self, durable: Seq) -> impl Iterator<Item = T> + '_ {
        let count = self.0.partition_point(|(seq, _)| *seq <= durable);
        self.0.drain(..count).map(|(_, thing)| thing)
    }
}

impl Promised {
    /// The reply, which may leave.
    fn kept(self) -> (Ticket, Reply) {
        (self.ticket, self.reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Fault;

    #[test]
    fn nothing_leaves_before_its_put_is_durable_and_order_is_kept() {
        let mut held = HeldBack::default();
        let mut out = Vec::new();
        for (seq, name) in [(5, "a"), (0, "b"), (7, "c"), (6, "d"), (3, "e"), (6, "f"), (7, "g")] {
            held.add(Seq(seq), Seq(3), name, &mut out);
        }
        assert_eq!(out, ["b", "e"]);
        out.clear();
        held.release(Seq(4), &mut out);
        assert!(out.is_empty());
        held.release(Seq(6), &mut out);
        assert_eq!(out, ["a", "d", "f"]);
        out.clear();
        held.release(Seq(9), &mut out);
        assert_eq!(out, ["c", "g"]);
    }

    /// A disk that is stuck held a reply back for as long as it was stuck, though its request had
    /// a deadline.
    #[test]
    fn a_reply_that_is_not_durable_by_its_deadline_is_a_fault_and_comes_once() {
        let config = crate::shard::ShardConfig { shards: 1, ..Default::default() };
        let mut worker = Worker::new(Shard::new(config), Store::default());
        worker.output.replies.push((Seq(5), Ticket(1), Reply::Count(7)));
        worker.output.late.push((Ticket(1), Mono(100), Late::TimedOut));
        let mut turn = Turn::default();
        worker.reply(Mono(99), &mut turn);
        assert!(turn.replies.is_empty());
        assert_eq!(worker.deadline(), Some(Mono(100)));
        worker.reply(Mono(100), &mut turn);
        assert_eq!(turn.replies, [(Ticket(1), Reply::Fault(Fault::TimedOut))]);
        worker.durable = Seq(5);
        worker.reply(Mono(101), &mut turn);
        assert_eq!(turn.replies.len(), 1);
        assert_eq!(worker.deadline(), None);
    }
}
