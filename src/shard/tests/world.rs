//! A small cluster in one process: nodes with shards and tables, a network that loses, doubles and
//! reorders, disks that lag, crashes. Time and chance come from one seed.
//!
//! It is also the shell: it holds replies and messages back until their put is durable, and checks
//! that nothing which leaves a node is more than its disk knows.
//!

use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::super::message::CallId;
use super::super::{
    Input, Message, Output, Recovered, Route, Seq, Shard, ShardConfig, ShardId, Ticket,
};
use super::judge::merged;
use super::oracle::{Fate, Oracle};
use super::table::MemoryTable;
use crate::api::{Expiry, Op, Reply, Request, WriteContext};
use crate::causality::{Actor, Dot, NodeId};
use crate::cluster::{ClusterId, Layout, Member, Phase, Role, View};
use crate::hash::{Key, PartitionId, Token};
use crate::time::{Mono, Now};

/// What may go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Faults {
    /// Percentage of messages between nodes that are lost.
    pub lost: u32,
    /// Percentage of messages between nodes that arrive twice.
    pub doubled: u32,
    /// Longest delay of a message, in microseconds.
    pub delay_us: u64,
    /// Longest time from a put to its durability, in microseconds.
    pub sync_us: u64,
    /// Percentage of durable records that are cold.
    pub cold: u32,
}

#[derive(Debug)]
pub(in super::super) struct Node {
    pub id: NodeId,
    pub epoch: u32,
    pub is_up: bool,
    pub units: Vec<Unit>,
}

/// A shard, its table, and what waits for durability.
#[derive(Debug)]
pub(in super::super) struct Unit {
    pub shard: Shard,
    pub table: MemoryTable,
    held: VecDeque<(Seq, Outgoing)>,
    syncing: bool,
    /// What its own syncs have covered; a group is durable when all of its parts are.
    written: Seq,
    /// Whether a slice of its jobs is to come.
    working: bool,
}

/// The dots that a Replicate asks to be made durable, by key.
pub(super) type Merged = Vec<(Key, Vec<Dot>)>;

#[derive(Debug)]
enum Outgoing {
    Reply(Ticket, Reply),
    Message(NodeId, Message),
}

#[derive(Debug)]
enum Event {
    Deliver { from: NodeId, to: usize, epoch: u32, message: Message },
    Synced { node: usize, shard: usize, epoch: u32, upto: Seq },
    Fetched { node: usize, shard: usize, epoch: u32, token: Token },
    Work { node: usize, shard: usize, epoch: u32 },
}

/// A request that was not answered yet.
#[derive(Clone, Debug)]
pub(in super::super) struct Open {
    pub node: usize,
    pub request: Request,
    pub due: Mono,
    pub(super) visible: BTreeSet<Dot>,
}

#[derive(Debug)]
pub(in super::super) struct World {
    pub nodes: Vec<Node>,
    pub now: Now,
    pub faults: Faults,
    pub random: Xoshiro256PlusPlus,
    pub oracle: Oracle,
    pub layout: Arc<Layout>,
    pub open: BTreeMap<Ticket, Open>,
    /// The latest reply to each ticket.
    pub replies: BTreeMap<Ticket, Reply>,
    /// Pairs of nodes that cannot talk, lower index first.
    pub cut: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    tickets: u64,
    /// Records that were damaged.
    pub damages: u64,
    /// What each Replicate under way asks to be merged.
    pub(super) replicates: BTreeMap<(NodeId, CallId), Merged>,
    /// Messages that crossed a link, by kind.
    pub sent: BTreeMap<&'static str, u64>,
}

pub(in super::super) fn node_id(index: usize) -> NodeId {
    let byte = u8::try_from(index + 1).expect("test worlds are small");
    NodeId([byte; 16])
}

impl World {
    /// A born cluster of `nodes` nodes with `shards` shards each, everybody reachable.
    pub(in super::super) fn new(
        seed: u64,
        nodes: usize,
        shards: u16,
        replicas: usize,
        partitions: u16,
        faults: Faults,
    ) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let layout = Arc::new(layout(nodes, replicas.min(nodes), partitions));
        let mut world = Self {
            nodes: Vec::new(),
            now: Now { mono: Mono(1_000_000), unix_ms: 1_700_000_000_000 },
            faults,
            random,
            oracle: Oracle::default(),
            layout,
            open: BTreeMap::new(),
            replies: BTreeMap::new(),
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            events: 0,
            tickets: 0,
            damages: 0,
            replicates: BTreeMap::new(),
            sent: BTreeMap::new(),
        };
        for index in 0..nodes {
            let units = (0..shards)
                .map(|number| {
                    let mut table = MemoryTable::new(world.random.random());
                    table.cold_percent = faults.cold;
                    table.partitions = partitions;
                    let recovered = Recovered { is_complete: true, ..Recovered::default() };
                    world.unit(shards, number, table, recovered)
                })
                .collect();
            world.nodes.push(Node { id: node_id(index), epoch: 1, is_up: true, units });
        }
        world.publish();
        world
    }

    fn unit(&mut self, shards: u16, number: u16, table: MemoryTable, from: Recovered) -> Unit {
        let seed = self.random.random();
        let shard = ShardConfig { shard: ShardId(number), shards, seed, recovered: from };
        let (held, syncing, written, working) = (VecDeque::new(), false, Seq(0), false);
        Unit { shard: Shard::new(shard), table, held, syncing, written, working }
    }

    /// Tells every node what it can reach now.
    pub(in super::super) fn publish(&mut self) {
        for index in 0..self.nodes.len() {
            self.publish_to(index);
        }
    }

    fn publish_to(&mut self, index: usize) {
        if !self.nodes[index].is_up {
            return;
        }
        let view = Arc::new(self.view(index));
        for shard in 0..self.nodes[index].units.len() {
            self.step(index, shard, Input::View(Arc::clone(&view)));
        }
    }

    pub(in super::super) fn view(&self, index: usize) -> View {
        let others = (0..self.nodes.len()).filter(|&other| other != index);
        let members = others.map(|other| {
            let reachable = self.nodes[other].is_up && self.connects(index, other);
            let member = Member {
                name: format!("n{}", other + 1),
                cluster_addr: String::new(),
                client_addr: String::new(),
                reachable,
                since_unix_ms: 0,
            };
            (node_id(other), member)
        });
        View {
            me: node_id(index),
            name: format!("n{}", index + 1),
            actor: Some(Actor::new(node_id(index).tag(), self.nodes[index].epoch)),
            phase: Phase::Member,
            layout: Some(Arc::clone(&self.layout)),
            members: members.collect(),
        }
    }

    pub(in super::super) fn connects(&self, one: usize, other: usize) -> bool {
        !self.cut.contains(&(one.min(other), one.max(other)))
    }

    pub(in super::super) fn place(&self, key: &Key) -> (PartitionId, Vec<usize>) {
        let partition = key.token.partition(self.layout.partitions);
        let row = self.layout.row(partition).iter();
        (partition, row.map(|node| usize::from(node.0[0]) - 1).collect())
    }

    /// The table of a node that holds a key.
    pub(in super::super) fn table(&mut self, node: usize, key: &Key) -> &mut MemoryTable {
        let (partition, _) = self.place(key);
        let shards = self.nodes[node].units.len();
        &mut self.nodes[node].units[usize::from(partition.0) % shards].table
    }

    /// A client sends a request to a shard of a node that is up.
    pub(in super::super) fn ask(&mut self, node: usize, shard: usize, request: Request) -> Ticket {
        self.ask_having_seen(node, shard, request, None)
    }

    /// The same, of a client whose token stands for these events and their past.
    pub(in super::super) fn ask_having_seen(
        &mut self,
        node: usize,
        shard: usize,
        request: Request,
        seen: Option<BTreeSet<Dot>>,
    ) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let due = self.now.mono.plus_ms(u64::from(request.left_ms));
        let mut visible = BTreeSet::new();
        match &request.op {
            Op::Put { value, .. } => self.oracle.begin(value, seen),
            Op::Get { key } => {
                let row = self.place(key).1.len();
                let members = request.r.map_or(request.level.required(row), usize::from);
                visible = self.oracle.visible(key, row, members);
            }
            Op::Batch { items, .. } => {
                for (_, value) in items {
                    self.oracle.begin(value, None);
                }
            }
            Op::Delete { .. }
            | Op::Scan(_)
            | Op::Count { .. }
            | Op::Explain { .. }
            | Op::Outcome { .. }
            | Op::Conflicts { .. } => {}
        }
        let open = Open { node, request: request.clone(), due, visible };
        self.open.insert(ticket, open);
        self.step(node, shard, Input::Client { ticket, request });
        ticket
    }

    /// Runs until nothing is due before `until`.
    pub(in super::super) fn run_until(&mut self, until: Mono) {
        while let Some(at) = self.next_at().filter(|&at| at <= until) {
            self.advance(at);
        }
        self.set_now(until);
    }

    /// Runs until nothing happens by itself any more.
    pub(in super::super) fn run(&mut self) {
        let mut steps = 0;
        while let Some(at) = self.next_at() {
            self.advance(at);
            steps += 1;
            assert!(steps < 200_000, "the world does not come to rest");
        }
    }

    /// Runs until one more thing has happened. `false` = nothing happens by itself any more.
    pub(in super::super) fn step_once(&mut self) -> bool {
        let Some(at) = self.next_at() else { return false };
        self.set_now(at);
        let due = self.queue.first_entry().filter(|entry| entry.key().0 <= at.0);
        match due.map(OccupiedEntry::remove) {
            Some(event) => self.happen(event),
            None => self.advance(at),
        }
        true
    }

    /// Asks and runs until the reply.
    pub(in super::super) fn call(&mut self, node: usize, request: Request) -> Reply {
        let ticket = self.ask(node, 0, request);
        while !self.replies.contains_key(&ticket) {
            let at = self.next_at().expect("every request is answered");
            self.advance(at);
        }
        self.replies[&ticket].clone()
    }

    fn next_at(&self) -> Option<Mono> {
        let event = self.queue.keys().next().map(|&(at, _)| Mono(at));
        let up = self.nodes.iter().filter(|node| node.is_up);
        let timers = up.flat_map(|node| &node.units).filter_map(|unit| unit.shard.deadline());
        timers.chain(event).min().map(|at| at.max(self.now.mono))
    }

    fn set_now(&mut self, at: Mono) {
        let passed = at.0.saturating_sub(self.now.mono.0);
        self.now.mono = Mono(self.now.mono.0 + passed);
        self.now.unix_ms = 1_700_000_000_000 + self.now.mono.0 / 1_000;
    }

    fn advance(&mut self, at: Mono) {
        self.set_now(at);
        for node in 0..self.nodes.len() {
            for shard in 0..self.nodes[node].units.len() {
                let deadline = self.nodes[node].units[shard].shard.deadline();
                if self.nodes[node].is_up && deadline.is_some_and(|due| due <= self.now.mono) {
                    self.step(node, shard, Input::Tick);
                }
            }
        }
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now.mono.0 {
                break;
            }
            let event = entry.remove();
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, epoch, message } => {
                let node = &self.nodes[to];
                // A link dies with the process; what was under way on it is gone.
                if !node.is_up || node.epoch != epoch {
                    return;
                }
                let shards = node.units.len();
                let shard = match message.route() {
                    Route::Partition(id) => usize::from(id.0) % shards,
                    Route::Shard(shard) => usize::from(shard.0),
                };
                if shard < shards {
                    self.step(to, shard, Input::Peer { from, message });
                }
            }
            Event::Synced { node, shard, epoch, upto } => {
                if self.nodes[node].is_up && self.nodes[node].epoch == epoch {
                    let unit = &mut self.nodes[node].units[shard];
                    unit.syncing = false;
                    unit.written = upto;
                    self.commit(node);
                    self.sync_rest(node, shard);
                }
            }
            Event::Fetched { node, shard, epoch, token } => {
                if self.nodes[node].is_up && self.nodes[node].epoch == epoch {
                    self.nodes[node].units[shard].table.fetched(token);
                    self.step(node, shard, Input::Fetched { token });
                    self.nodes[node].units[shard].table.evict();
                }
            }
            Event::Work { node, shard, epoch } => {
                if self.nodes[node].is_up && self.nodes[node].epoch == epoch {
                    self.nodes[node].units[shard].working = false;
                    self.step_or_work(node, shard, None);
                }
            }
        }
    }

    /// Hands one input to a shard, as the turn of a worker does.
    pub(in super::super) fn step(&mut self, node: usize, shard: usize, input: Input) {
        self.step_or_work(node, shard, Some(input));
    }

    /// Hands over an input, or gives the jobs a few units.
    fn step_or_work(&mut self, node: usize, shard: usize, input: Option<Input>) {
        let actor = Actor::new(self.nodes[node].id.tag(), self.nodes[node].epoch);
        let unit = &mut self.nodes[node].units[shard];
        let before = unit.table.log_len();
        let mut out = Output::default();
        match input {
            Some(input) => unit.shard.step(self.now, input, &mut unit.table, &mut out),
            None => unit.shard.work(self.now, &mut unit.table, &mut out, 3),
        }
        for (_, record) in unit.table.log_from(before) {
            self.oracle.on_record(record, actor);
        }
        let replies = out.replies.into_iter().map(|(seq, ticket, reply)| {
            let open = self.open.get(&ticket).expect("a ticket is answered once");
            assert!(self.now.mono <= open.due, "{ticket:?} was answered after its deadline");
            (seq, Outgoing::Reply(ticket, reply))
        });
        let messages = out.messages.into_iter().map(|(seq, to, message)| {
            assert!(seq <= unit.table.newest(), "a message rests on a put that was made");
            (seq, Outgoing::Message(to, message))
        });
        unit.held.extend(replies.chain(messages));
        let asked = std::mem::take(&mut unit.table.asked);
        let epoch = self.nodes[node].epoch;
        for token in asked {
            let delay = self.random.random_range(0..=self.faults.sync_us);
            self.later(delay, Event::Fetched { node, shard, epoch, token });
        }
        self.release(node, shard);
        self.sync_rest(node, shard);
        let unit = &mut self.nodes[node].units[shard];
        if unit.shard.has_work() && !unit.working {
            unit.working = true;
            self.later(1, Event::Work { node, shard, epoch });
        }
    }

    /// Makes durable what the syncs of a node cover: of each shard a run of puts, and of each group
    /// all of its parts or none.
    fn commit(&mut self, node: usize) {
        let units = &mut self.nodes[node].units;
        let mut upto: Vec<Seq> = units.iter().map(|unit| unit.written).collect();
        let mut groups: BTreeMap<u64, (u16, Vec<(usize, Seq)>)> = BTreeMap::new();
        for (shard, unit) in units.iter().enumerate() {
            for &(seq, group) in &unit.table.groups {
                let parts = groups.entry(group.id).or_insert((group.parts, Vec::new()));
                parts.1.push((shard, seq));
            }
        }
        let is_split = |upto: &[Seq], parts: &(u16, Vec<(usize, Seq)>)| {
            let inside = parts.1.iter().filter(|(shard, seq)| *seq <= upto[*shard]).count();
            inside > 0 && inside < usize::from(parts.0)
        };
        while let Some(parts) = groups.values().find(|parts| is_split(&upto, parts)) {
            for &(shard, seq) in &parts.1 {
                upto[shard] = upto[shard].min(Seq(seq.0 - 1));
            }
        }
        for (shard, upto) in upto.into_iter().enumerate() {
            let unit = &mut self.nodes[node].units[shard];
            if upto > unit.table.durable {
                unit.table.sync(upto);
                self.release(node, shard);
                self.step(node, shard, Input::Durable { upto });
            }
        }
    }

    /// Starts another sync for what came while one was under way.
    fn sync_rest(&mut self, node: usize, shard: usize) {
        let epoch = self.nodes[node].epoch;
        let unit = &mut self.nodes[node].units[shard];
        let upto = unit.table.newest();
        if upto > unit.written && !unit.syncing {
            unit.syncing = true;
            let delay = self.random.random_range(0..=self.faults.sync_us);
            self.later(delay, Event::Synced { node, shard, epoch, upto });
        }
    }

    fn later(&mut self, delay_us: u64, event: Event) {
        self.events += 1;
        self.queue.insert((self.now.mono.0 + delay_us, self.events), event);
    }

    /// Lets go what is durable, in order per kind.
    fn release(&mut self, node: usize, shard: usize) {
        let unit = &mut self.nodes[node].units[shard];
        let durable = unit.table.durable;
        let held = std::mem::take(&mut unit.held);
        let (ready, later): (VecDeque<_>, VecDeque<_>) =
            held.into_iter().partition(|(seq, _)| *seq <= durable);
        unit.held = later;
        for (_, outgoing) in ready {
            match outgoing {
                Outgoing::Reply(ticket, reply) => self.on_reply(ticket, reply),
                Outgoing::Message(to, message) => self.transmit(node, to, message),
            }
        }
    }

    fn transmit(&mut self, from: usize, to: NodeId, message: Message) {
        self.check_departure(from, &message);
        match &message {
            Message::Replicate { call, items, .. } => {
                let merged = items.iter().map(merged).collect();
                self.replicates.insert((node_id(from), *call), merged);
            }
            Message::ReplicateBatch { call, items, .. } => {
                let merged = items.iter().map(|(_, item)| merged(item)).collect();
                self.replicates.insert((node_id(from), *call), merged);
            }
            Message::ReplicateAck { call, refusal: None } => self.check_ack(from, to, *call),
            _ => {}
        }
        let to = usize::from(to.0[0]) - 1;
        let epoch = self.nodes[to].epoch;
        let sender = node_id(from);
        if to == from {
            let delay = self.random.random_range(0..=20);
            return self.later(delay, Event::Deliver { from: sender, to, epoch, message });
        }
        *self.sent.entry(kind(&message)).or_default() += 1;
        if !self.connects(from, to) || self.random.random_range(0..100) < self.faults.lost {
            return;
        }
        let copies = 1 + u64::from(self.random.random_range(0..100) < self.faults.doubled);
        for _ in 0..copies {
            let delay = self.random.random_range(0..=self.faults.delay_us);
            let message = message.clone();
            self.later(delay, Event::Deliver { from: sender, to, epoch, message });
        }
    }

    /// Kills a node: what is not durable is gone, with everything that waits.
    pub(in super::super) fn crash(&mut self, node: usize) {
        let actor = Actor::new(self.nodes[node].id.tag(), self.nodes[node].epoch);
        self.nodes[node].is_up = false;
        for unit in &self.nodes[node].units {
            let durable = unit.table.durable;
            let lost = unit.table.log_from(0).iter().rev().filter(|(seq, _)| *seq > durable);
            for (_, record) in lost {
                self.oracle.on_lost(record, actor);
            }
        }
        let gone: Vec<Ticket> = self
            .open
            .iter()
            .filter(|(_, open)| open.node == node)
            .map(|(&ticket, _)| ticket)
            .collect();
        for ticket in gone {
            let open = self.open.remove(&ticket).expect("it is open, see above");
            match &open.request.op {
                Op::Put { key, value, .. } => {
                    self.oracle.tell(key, Some(value), Fate::Unknown, None);
                }
                Op::Batch { items, .. } => items.iter().for_each(|(key, value)| {
                    self.oracle.tell(key, Some(value), Fate::Unknown, None);
                }),
                _ => {}
            }
        }
    }

    /// Starts a node again, under a new actor, with what its disk holds.
    pub(in super::super) fn restart(&mut self, node: usize) {
        self.start(node, false);
    }

    /// The same, of a node whose log has lost something, nobody knows what.
    pub(in super::super) fn restart_rebuilding(&mut self, node: usize) {
        self.crash(node);
        self.start(node, true);
    }

    fn start(&mut self, node: usize, rebuilding: bool) {
        self.nodes[node].epoch += 1;
        self.nodes[node].is_up = true;
        let units = std::mem::take(&mut self.nodes[node].units);
        let shards = u16::try_from(units.len()).expect("test worlds are small");
        for (number, mut unit) in (0..shards).zip(units) {
            let recovered = Recovered { rebuilding, ..unit.table.crash() };
            let unit = self.unit(shards, number, unit.table, recovered);
            self.nodes[node].units.push(unit);
        }
        self.publish();
    }

    /// Everything works from now on, and what is under way comes to its end.
    pub(in super::super) fn heal(&mut self) {
        self.cut.clear();
        self.faults.lost = 0;
        self.faults.doubled = 0;
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_up {
                self.restart(node);
            }
        }
        self.publish();
        self.run();
        assert!(self.open.is_empty(), "unanswered: {:?}", self.open);
        for node in &self.nodes {
            for unit in &node.units {
                assert_eq!(unit.shard.waiting(), (0, 0), "something still waits");
            }
        }
    }
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Forward { .. } => "forward",
        Message::Replicate { repair: true, .. } => "repair",
        Message::Replicate { .. } => "replicate",
        Message::Read { .. } => "read",
        _ => "other",
    }
}

fn layout(nodes: usize, row: usize, partitions: u16) -> Layout {
    let roles = (0..nodes).map(|index| {
        let role = Role {
            name: format!("n{}", index + 1),
            public_key: [0; 32],
            zone: String::from("z"),
            capacity: 1,
            cluster_addr: String::new(),
            client_addr: String::new(),
        };
        (node_id(index), role)
    });
    let table = (0..usize::from(partitions))
        .map(|partition| (0..row).map(|place| node_id((partition + place) % nodes)).collect());
    Layout {
        epoch: 1,
        previous: [0; 32],
        cluster: ClusterId([1; 16]),
        feature_level: 1,
        partitions,
        replicas: u8::try_from(row).expect("test worlds are small"),
        roles: roles.collect(),
        voters: vec![node_id(0)],
        table: table.collect(),
    }
}

/// A PUT with the default level.
pub(in super::super) fn put(key: &Key, value: impl Into<Bytes>, context: WriteContext) -> Request {
    Request::new(Op::Put { key: key.clone(), value: value.into(), context, expiry: Expiry::Never })
}

/// A GET with the default level.
pub(in super::super) fn get(key: &Key) -> Request {
    Request::new(Op::Get { key: key.clone() })
}

/// A DELETE with the default level.
pub(in super::super) fn delete(key: &Key) -> Request {
    Request::new(Op::Delete { key: key.clone(), context: WriteContext::Known })
}
