//! The data plane: one struct per core that owns partitions and answers for them.
//!
//! `step` is the whole interface: it never waits, never fails, and reads neither
//! clock nor chance. What it sends rests on puts that may not be durable yet; each reply and each
//! message names the newest put that it rests on, and the shell lets it go once that is durable.
//!
//! A handler reads everything that it needs before it changes anything. Where a record is cold, or
//! a batch holds a key, the input is parked as it came and runs again from the start.

mod batch_log;
mod coordinator;
mod expiring;
mod glob;
mod held;
mod latency;
pub mod message;
mod operations;
mod pages;
mod parked;
mod partition;
mod recent;
mod replica;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

pub use batch_log::BATCH_LOG_BUCKET;
pub use message::Message;
pub use recent::REFUSED_BUCKET;
pub use table::{Batch, Group, IndexEntry, Lookup, Record, Seq, Stamp, Table};

use crate::api::{Fault, Reply, Request, RequestId};
use crate::causality::{NodeId, PartitionClock};
use crate::cluster::{Layout, View};
use crate::hash::{Key, PartitionId, Token};
use crate::limits::{
    READ_TIMEOUT_MS, REPLICAS_MAX, REQUESTS_REMEMBERED, SHARDS_MAX, TIMEOUT_MS_MAX,
};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::{Hlc, HlcClock, Mono, Now};
use batch_log::BatchLogs;
use coordinator::Inquiry;
use held::{Address, Held};
use latency::Latency;
use message::{CallId, Nack, Route};
use operations::Operations;
use pages::Pages;
use parked::{Parked, Waiting};
use partition::{Partitions, State};
use recent::Recent;

/// Names one client request between shell and shard; each gets exactly one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One of the shards of a node, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ShardId(pub u16);

/// What happens to a shard.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline that it asked for is due, or a job has work.
    Tick,
    /// A client asks.
    Client {
        /// Names the reply.
        ticket: Ticket,
        /// What it asks.
        request: Request,
    },
    /// A shard speaks: of another node, or another shard of this one. Late, repeated, reordered,
    /// or from a past life of that node.
    Peer {
        /// Which node.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A record of this token that was `Cold` is in memory now, or is known to be damaged.
    Fetched {
        /// Its token.
        token: Token,
    },
    /// Every put at or below this is on stable storage.
    Durable {
        /// The newest such put.
        upto: Seq,
    },
    /// The control plane published a new view.
    View(Arc<View>),
}

/// What a shard does. The caller owns it and empties it after every turn.
#[derive(Debug, Default)]
pub struct Output {
    /// Replies to clients, each with the put that it rests on.
    pub replies: Vec<(Seq, Ticket, Reply)>,
    /// What to say instead of a reply whose put is not durable by then: a disk may be stuck. In the
    /// order of those replies.
    pub late: Vec<(Ticket, Mono, Late)>,
    /// Messages, each with the put that it rests on. One to this node itself goes to another of
    /// its shards; a shard never sends to itself.
    pub messages: Vec<(Seq, NodeId, Message)>,
}

/// Why a reply did not come in time whose put is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// A read: nothing was changed.
    TimedOut,
    /// A write, which may yet become durable.
    Unknown(RequestId),
}

/// What a shard starts from.
#[derive(Debug, Default)]
pub struct ShardConfig {
    /// Which shard of its node it is.
    pub shard: ShardId,
    /// Number of shards of its node, 1 to 64.
    pub shards: u16,
    /// Seed of its chance.
    pub seed: u64,
    /// What the log told.
    pub recovered: Recovered,
}

/// What a shard takes from the log when it starts.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The clock of every partition of which there were records: the fold over their dots. Those
    /// of other shards are passed over.
    pub clocks: BTreeMap<PartitionId, PartitionClock>,
    /// Whether records of unknown keys were lost, so that no partition may answer for its keys
    /// until it has been rebuilt.
    pub rebuilding: bool,
    /// The highest timestamp of any record.
    pub hlc: Hlc,
    /// Which requests the newest records carry out, the oldest first.
    pub stamps: Vec<(Token, Stamp)>,
    /// When something of a token ends, in milliseconds since the Unix epoch.
    pub expiring: Vec<(Token, u64)>,
    /// Notes of requests that are not led here, as keys of [`REFUSED_BUCKET`].
    pub refused: Vec<Key>,
    /// Whether the log holds every request that it was ever told of.
    pub is_complete: bool,
}

/// What a shard counts, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Losers that writes took because there were too many, or they were too old.
    pub conflicts_dropped: u64,
    /// Objects sent to replicas that a read found stale.
    pub read_repairs: u64,
    /// Reads that were sent to one more member because an answer was late.
    pub hedges: u64,
    /// Timestamps that led the wall clock by so much that they were not adopted.
    pub clock_skews: u64,
    /// Values that were taken away because they were over.
    pub expired: u64,
}

/// The data plane of one core.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    view: Option<Arc<View>>,
    recovered: BTreeMap<PartitionId, PartitionClock>,
    rebuilding: bool,
    partitions: Partitions,
    clock: HlcClock,
    random: Xoshiro256PlusPlus,
    durable: Seq,
    operations: Operations,
    parked: Parked,
    held: Held,
    batch_logs: BatchLogs,
    recent: Recent,
    /// Tokens that a batch let go, whose inputs are to be run in this step.
    freed: VecDeque<Token>,
    pages: Pages,
    /// Messages of this shard to itself, to be handled in this step.
    inner: VecDeque<(Seq, Message)>,
    /// Those that rest on a put that is not durable yet, and an order among equals.
    resting: BTreeMap<(Seq, u64), Message>,
    rested: u64,
    forwards: Forwards,
    latency: Latency,
    counters: Counters,
}

/// The world of one step, handed to every handler.
struct Turn<'a, T> {
    now: Now,
    table: &'a mut T,
    out: &'a mut Output,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A client of this shard.
    Client(Ticket),
    /// The shard that forwarded the request.
    Peer { node: NodeId, call: CallId },
}

/// The owners of a partition in order of preference, by value: rows are short.
#[derive(Clone, Copy, Debug)]
struct Row {
    nodes: [NodeId; ROW_MAX],
    len: usize,
}

const ROW_MAX: usize = REPLICAS_MAX as usize;

/// Calls of Forwards that came lately: a repeated one would write again what others have replaced
/// since.
#[derive(Debug, Default)]
struct Forwards {
    known: BTreeSet<(NodeId, CallId)>,
    order: VecDeque<(NodeId, CallId)>,
}

/// Forwards that are remembered. Links repeat nothing that was delivered, so a repeat comes soon.
const FORWARDS_REMEMBERED: usize = 65_536;

impl Shard {
    /// A shard with what its node's log told of it. Until the first view arrives it refuses
    /// everything.
    ///
    /// # Panics
    /// When the numbers do not describe a shard.
    pub fn new(config: ShardConfig) -> Self {
        let ShardConfig { shard, shards, seed, mut recovered } = config;
        assert!(shards >= 1, "a node has at least one shard");
        assert!(shards <= SHARDS_MAX, "a node has at most {SHARDS_MAX} shards");
        let recent = Recent::new(REQUESTS_REMEMBERED / usize::from(shards), &mut recovered);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut partitions = Partitions::new(shard.0, shards);
        for (token, expiry_ms) in recovered.expiring {
            partitions.expiring.note_end(token, expiry_ms);
        }
        Self {
            id: shard,
            view: None,
            recovered: recovered.clocks,
            rebuilding: recovered.rebuilding,
            partitions,
            clock: HlcClock::starting_after(recovered.hlc),
            durable: Seq(0),
            operations: Operations::new(shard, random.random()),
            random,
            parked: Parked::default(),
            held: Held::default(),
            batch_logs: BatchLogs::default(),
            recent,
            freed: VecDeque::new(),
            pages: Pages::default(),
            inner: VecDeque::new(),
            resting: BTreeMap::new(),
            rested: 0,
            forwards: Forwards::default(),
            latency: Latency::default(),
            counters: Counters::default(),
        }
    }

    /// Takes one input and appends to `out` what follows from it.
    pub fn step<T: Table>(&mut self, now: Now, input: Input, table: &mut T, out: &mut Output) {
        let mut turn = Turn { now, table, out };
        match input {
            Input::Tick => self.on_tick(&mut turn),
            Input::Client { ticket, request } => self.on_client(&mut turn, ticket, request),
            Input::Peer { from, message } => self.on_peer(&mut turn, from, message),
            Input::Fetched { token } => self.on_fetched(&mut turn, token),
            Input::Durable { upto } => self.on_durable(upto),
            Input::View(view) => self.on_view(&mut turn, view),
        }
        self.on_inner(&mut turn);
    }

    /// When a `Tick` is due at the latest.
    pub fn deadline(&self) -> Option<Mono> {
        let [operations, parked] = [self.operations.deadline(), self.parked.deadline()];
        let due =
            [operations, parked, self.batch_logs.deadline(), self.partitions.expiring.deadline()];
        due.into_iter().flatten().min()
    }

    /// Whether a job has work, which [`Shard::work`] does a slice of.
    pub fn has_work(&self) -> bool {
        self.has_pages()
    }

    /// Does a slice of the jobs: at most `units` records.
    pub fn work<T: Table>(&mut self, now: Now, table: &mut T, out: &mut Output, units: u32) {
        let mut turn = Turn { now, table, out };
        self.work_on_pages(&mut turn, units);
        self.on_inner(&mut turn);
    }

    /// What it counted since it started.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Logged batches that this shard holds the log of: under way, or to be finished.
    pub fn logged_batches(&self) -> usize {
        self.batch_logs.len()
    }

    /// Operations and jobs that are not done yet, and inputs that wait for a key.
    pub fn waiting(&self) -> (usize, usize) {
        let jobs = self.pages.len() + self.held.len();
        (self.operations.len() + jobs, self.parked.len())
    }

    fn on_tick<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        while let Some(waiting) = self.parked.take_due(turn.now.mono) {
            sometimes!("a parked input died with its deadline");
            self.refuse_waiting(turn, waiting, Nack::Expired);
        }
        while let Some((id, machine)) = self.operations.take_due(turn.now.mono) {
            self.on_timer(turn, id, machine);
        }
        self.finish_batches(turn);
        self.purge(turn);
    }

    fn on_peer<T: Table>(&mut self, turn: &mut Turn<'_, T>, from: NodeId, message: Message) {
        if let Message::Forward { call, .. } = &message
            && !self.forwards.is_news(from, *call)
        {
            sometimes!("a repeated forward was ignored");
            return;
        }
        self.on_message(turn, from, message);
    }

    /// Hands a message, which may have been parked meanwhile, to the one who knows what to do.
    fn on_message<T: Table>(&mut self, turn: &mut Turn<'_, T>, from: NodeId, message: Message) {
        if message.left_ms() == Some(0) {
            return self.refuse_message(turn, from, &message, Nack::Expired);
        }
        match message {
            Message::Forward { call, partition, request } => {
                self.on_forward(turn, from, call, partition, request);
            }
            Message::Replicate { .. } => self.on_replicate(turn, from, message),
            Message::Read { .. } => self.on_read(turn, from, message),
            Message::ForwardReply { call, .. }
            | Message::ReplicateAck { call, .. }
            | Message::ReadReply { call, .. }
            | Message::PageReply { call, .. }
            | Message::CountReply { call, .. }
            | Message::ExplainReply { call, .. }
            | Message::OutcomeReply { call, .. }
            | Message::Held { call, .. }
            | Message::Applied { call, .. } => self.on_answer(turn, from, call, message),
            Message::ReplicateBatch { call, left_ms, items, .. } => {
                self.on_replicate_batch(turn, from, call, left_ms, items);
            }
            Message::Hold { call, partition, batch, work } => {
                self.on_hold(turn, from, Address { call, partition, batch }, work);
            }
            Message::Apply { call, batch, parts, .. } => {
                self.on_apply(turn, from, call, batch, parts);
            }
            Message::Release { batch, .. } => self.on_release(from, batch),
            Message::Page { .. } => self.on_page(turn, from, message),
            Message::Count { call, partition, bucket } => {
                self.on_count(turn, from, call, partition, bucket);
            }
            Message::Outcome { call, partition, key, id, deny, left_ms } => {
                let inquiry = Inquiry { call, partition, key, id, deny, left_ms };
                self.on_outcome(turn, from, inquiry);
            }
            Message::Explain { call, partition, key } => {
                self.on_explain(turn, from, call, partition, key);
            }
        }
    }

    fn on_fetched<T: Table>(&mut self, turn: &mut Turn<'_, T>, token: Token) {
        self.read_fetched(turn, token);
        if self.parked.fetched(token) {
            sometimes!("a cold record came and its inputs went on");
            self.run_again(turn, token);
        }
        self.purge_fetched(turn, token);
    }

    fn on_durable(&mut self, upto: Seq) {
        self.durable = self.durable.max(upto);
        let later = self.resting.split_off(&(Seq(self.durable.0 + 1), 0));
        let ready = std::mem::replace(&mut self.resting, later);
        self.inner.extend(ready.into_iter().map(|((seq, _), message)| (seq, message)));
    }

    fn on_view<T: Table>(&mut self, turn: &mut Turn<'_, T>, view: Arc<View>) {
        let knows_all = !self.rebuilding || planted(Bug::RebuildingAnswers);
        let state = if knows_all { State::Ready } else { State::Rebuilding };
        let mut owned = Vec::new();
        if let Some(layout) = &view.layout {
            for (number, row) in (0_u16..).zip(&layout.table) {
                let id = PartitionId(number);
                if self.partitions.is_of_this_shard(id) && row.contains(&view.me) {
                    // The last copy of a partition has nobody to learn from: what is left counts.
                    let state = if row.len() == 1 { State::Ready } else { state };
                    let is_new = self.partitions.owned(id).is_none();
                    let clock = match state {
                        State::Ready => self.recovered.remove(&id).unwrap_or_default(),
                        State::Rebuilding => PartitionClock::new(),
                    };
                    self.partitions.own(id, clock, state, view.actor);
                    if is_new {
                        owned.push(id);
                    }
                }
            }
        }
        self.partitions.open(view.actor);
        self.recent.recover(turn.now);
        self.view = Some(view);
        for id in owned {
            self.recall_batch_logs(turn, id);
        }
        for id in self.operations.ids() {
            self.on_reach(turn, id);
        }
    }

    /// Handles what this shard sent to itself, as far as it is durable, and what waited for keys
    /// that a batch let go.
    fn on_inner<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        loop {
            if let Some(token) = self.freed.pop_front() {
                self.run_again(turn, token);
            } else if let Some((seq, message)) = self.inner.pop_front() {
                self.on_own(turn, seq, message);
            } else {
                break;
            }
        }
        self.note_batch_logs(turn);
    }

    fn on_own<T: Table>(&mut self, turn: &mut Turn<'_, T>, seq: Seq, message: Message) {
        if seq > self.durable {
            sometimes!("a message to oneself waited for the disk");
            self.rested += 1;
            self.resting.insert((seq, self.rested), message);
        } else {
            let me = self.me().expect("a shard that sends to itself knows its name");
            self.on_message(turn, me, message);
        }
    }

    /// Runs everything that waited for a token, in order, until something blocks it again.
    fn run_again<T: Table>(&mut self, turn: &mut Turn<'_, T>, token: Token) {
        let mut inputs = self.parked.take(token);
        while let Some((_, deadline, waiting)) = inputs.pop_front() {
            let left_ms = deadline.ms_since(turn.now.mono);
            let left_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
            match waiting {
                Waiting::Client { ticket, mut request } => {
                    request.left_ms = left_ms;
                    self.on_client(turn, ticket, *request);
                }
                Waiting::Peer { from, mut message } => {
                    message.set_left_ms(left_ms);
                    self.on_message(turn, from, message);
                }
                Waiting::Part { batch } => self.gather(turn, batch),
            }
            if self.parked.blocks(token) {
                self.parked.put_back(token, inputs);
                return;
            }
        }
    }

    /// Lets an input wait for a token that is blocked.
    fn park<T: Table>(&mut self, turn: &mut Turn<'_, T>, token: Token, waiting: Waiting) {
        let left_ms = match &waiting {
            Waiting::Client { request, .. } => request.left_ms,
            Waiting::Peer { message, .. } => message.left_ms().unwrap_or(READ_TIMEOUT_MS),
            // Its batch ends before this, and lets it go.
            Waiting::Part { .. } => 2 * TIMEOUT_MS_MAX,
        };
        let deadline = turn.now.mono.plus_ms(u64::from(left_ms));
        if let Err(waiting) = self.parked.park(token, deadline, waiting) {
            self.refuse_waiting(turn, *waiting, Nack::Overloaded);
        }
    }

    /// Tells whoever sent an input that nothing was done with it.
    fn refuse_waiting<T: Table>(&mut self, turn: &mut Turn<'_, T>, waiting: Waiting, why: Nack) {
        match waiting {
            Waiting::Client { ticket, .. } => {
                let reply = Reply::Fault(self.fault_of(why));
                self.answer(turn, Origin::Client(ticket), Seq(0), reply);
            }
            Waiting::Peer { from, message } => self.refuse_message(turn, from, &message, why),
            Waiting::Part { batch } => self.refuse_part(turn, batch, why),
        }
    }

    /// Sends to a shard: of another node, another one of this node, or this one itself.
    fn send<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        rests_on: Seq,
        to: NodeId,
        message: Message,
    ) {
        let shard = match message.route() {
            Route::Partition(id) => self.partitions.shard_of(id),
            Route::Shard(shard) => shard.0,
        };
        if Some(to) == self.me() && shard == self.id.0 {
            self.inner.push_back((rests_on, message));
        } else {
            sometimes!("a message crossed to another shard of its node", Some(to) == self.me());
            turn.out.messages.push((rests_on, to, message));
        }
    }

    /// Sends to a shard of this node.
    fn send_home<T: Table>(&mut self, turn: &mut Turn<'_, T>, rests_on: Seq, message: Message) {
        let me = self.me().expect("a shard that has work to do knows its node");
        self.send(turn, rests_on, me, message);
    }

    /// Answers whoever waits.
    fn answer<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        origin: Origin,
        rests_on: Seq,
        reply: Reply,
    ) {
        match origin {
            Origin::Client(ticket) => turn.out.replies.push((rests_on, ticket, reply)),
            Origin::Peer { node, call } => {
                let message = Message::ForwardReply { call, reply: Box::new(reply) };
                self.send(turn, rests_on, node, message);
            }
        }
    }

    /// Sends a reply that rests on a put, or `late` where that is not durable by `deadline`. A peer
    /// that forwarded the request has a deadline of its own.
    fn answer_by<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        origin: Origin,
        (rests_on, reply): (Seq, Reply),
        (deadline, late): (Mono, Late),
    ) {
        if let Origin::Client(ticket) = origin
            && rests_on > Seq(0)
        {
            turn.out.late.push((ticket, deadline, late));
        }
        self.answer(turn, origin, rests_on, reply);
    }

    fn me(&self) -> Option<NodeId> {
        self.view.as_ref().map(|view| view.me)
    }

    fn layout(&self) -> Option<&Layout> {
        self.view.as_ref()?.layout.as_deref()
    }

    /// Whether requests may be sent to `node` now.
    fn reaches(&self, node: NodeId) -> bool {
        self.view.as_ref().is_some_and(|view| view.reaches(node))
    }

    /// The row of a partition; `None` where no layout is known or the partition lies outside it.
    fn row(&self, id: PartitionId) -> Option<Row> {
        Some(Row::new(self.layout()?.table.get(usize::from(id.0))?))
    }

    /// What people call a node.
    fn name(&self, node: NodeId) -> String {
        let role = self.layout().and_then(|layout| layout.roles.get(&node));
        role.map_or_else(|| node.to_string(), |role| role.name.clone())
    }

    /// What a client is told where another shard would be told `why`.
    fn fault_of(&self, why: Nack) -> Fault {
        match why {
            Nack::Overloaded => coordinator::overloaded("too many inputs wait for the disk"),
            Nack::DiskFull => Fault::DiskFull,
            Nack::Expired => Fault::TimedOut,
            Nack::Stopping => Fault::ShuttingDown,
            Nack::Rebuilding | Nack::NotOwner => self.unavailable_here(coordinator::words(why)),
        }
    }

    /// This node cannot do it now; nothing was changed.
    fn unavailable_here(&self, why: &str) -> Fault {
        let name = self.me().map_or_else(String::new, |me| self.name(me));
        Fault::Unavailable { needed: 1, answered: 0, detail: format!("{name} {why}") }
    }
}

impl Late {
    /// What the client is told.
    pub fn fault(self) -> Fault {
        match self {
            Self::TimedOut => Fault::TimedOut,
            Self::Unknown(request_id) => {
                let detail = String::from("its leader has not yet made it durable");
                Fault::OutcomeUnknown { request_id, detail }
            }
        }
    }
}

impl Row {
    fn new(nodes: &[NodeId]) -> Self {
        assert!(nodes.len() <= ROW_MAX, "a row has at most {ROW_MAX} nodes");
        let mut row = Self { nodes: [NodeId::default(); ROW_MAX], len: nodes.len() };
        row.nodes[..nodes.len()].copy_from_slice(nodes);
        row
    }
}

impl Deref for Row {
    type Target = [NodeId];

    fn deref(&self) -> &[NodeId] {
        &self.nodes[..self.len]
    }
}

impl Forwards {
    /// Whether this call was not seen lately; it is from now on.
    fn is_news(&mut self, from: NodeId, call: CallId) -> bool {
        if !self.known.insert((from, call)) {
            return false;
        }
        self.order.push_back((from, call));
        if self.order.len() > FORWARDS_REMEMBERED {
            let oldest = self.order.pop_front().expect("it holds more than none");
            self.known.remove(&oldest);
        }
        true
    }
}
