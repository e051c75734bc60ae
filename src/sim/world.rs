//! The world: one queue of events in virtual time, and everything that they happen to.
//!
//! Each family of chance has its own stream, so that leaving out a fault leaves the rest of a run
//! as it was. Nothing here knows what a node should do; that is the business of the oracles.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bytes::{Bytes, BytesMut};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

use super::disk::SimDisk;
use super::network::{Network, Place};
use super::options::Options;
use super::oracle::{History, Mint, WriteId};
use super::process::{Birth, Effect, Process, place_of};
use super::trace::Trace;
use super::workload::{Client, write_id};
use crate::causality::{Dot, NodeId, PartitionClock};
use crate::cluster::{self, Hello, Settings};
use crate::config::{Config, Durability};
use crate::hash::{Key, PartitionId};
use crate::limits::LOSERS_MAX;
use crate::shard::{Batch, Seq};
use crate::store::{DiskOp, IoId, LogConfig, ReadId};
use crate::time::{Mono, Now};
use crate::wire::peer::{self, Frame};

/// Unix time at which every simulation begins, in milliseconds: 2026-01-01T00:00:00Z.
const UNIX_MS_START: u64 = 1_767_225_600_000;
/// Longest time between two inputs of a shard that may become one turn.
const TURN_US: u64 = 40;
/// Time between two attempts to reach an address.
const REDIAL_US: u64 = 100_000;

/// A simulated cluster with its clients.
#[derive(Debug)]
pub struct World {
    pub(super) options: Options,
    pub(super) now_us: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    places: BTreeMap<NodeId, Place>,
    pub(super) clients: Vec<Client>,
    pub(super) history: History,
    pub(super) trace: Trace,
    pub(super) chance: Chance,
    pub(super) tally: Tally,
    /// Writes that clients began.
    pub(super) writes: u64,
    /// Batches that clients sent: all of each or nothing must be there.
    pub(super) batches: Vec<Vec<WriteId>>,
    /// Keys whose history was judged.
    pub(super) verdicts: BTreeSet<Key>,
    /// What nodes put that was not durable when last heard of.
    undurable: BTreeMap<PutId, Undurable>,
}

/// Place, life, shard, number.
type PutId = (Place, u64, u16, Seq);

/// A put of which it is not known yet whether a disk has it.
#[derive(Debug)]
struct Undurable {
    dots: Vec<(PartitionId, Dot)>,
    /// The batch over several shards that it is a part of.
    group: Option<u64>,
}

/// One stream for each family of chance.
#[derive(Debug)]
pub(super) struct Chance {
    pub(super) network: Xoshiro256PlusPlus,
    pub(super) disk: Xoshiro256PlusPlus,
    pub(super) process: Xoshiro256PlusPlus,
    pub(super) client: Xoshiro256PlusPlus,
    pub(super) fault: Xoshiro256PlusPlus,
}

/// What a run did, by numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events of the world.
    pub events: u64,
    /// Operations that clients began.
    pub operations: u64,
    /// Answers that said OK.
    pub ok: u64,
    /// Answers that said that nothing was applied.
    pub refused: u64,
    /// Operations whose outcome is not known.
    pub unknown: u64,
    /// Processes that died.
    pub crashes: u64,
    /// Times that power went at a node.
    pub power_losses: u64,
    /// Times that the network fell apart.
    pub partitions: u64,
    /// Times that a node stood still.
    pub pauses: u64,
    /// Jumps of wall clocks.
    pub clock_jumps: u64,
    /// Messages between nodes.
    pub messages: u64,
}

/// One computer: what outlives its processes, and the process of now.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) process: Option<Process>,
    /// Number of the process of now, or of the last one.
    pub(super) life: u64,
    pub(super) disk: SimDisk,
    in_flight: Vec<DiskOp>,
    settings: Settings,
    pub(super) skew_ms: i64,
    pub(super) paused_until_us: u64,
    /// Whom there are links to, and in which life of theirs.
    links: BTreeMap<Place, u64>,
    dials: BTreeSet<String>,
    turns: BTreeSet<u16>,
    wakes_at: Option<u64>,
    /// Why the last process ended by itself.
    pub(super) ended: Option<String>,
}

#[derive(Debug)]
struct Scheduled {
    at_us: u64,
    order: u64,
    event: Happening,
}

/// What can happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// An operation of the log completes.
    Disk { place: Place, life: u64, id: IoId, op: DiskOp },
    /// A cold record arrives.
    Read { place: Place, life: u64, shard: u16, id: ReadId, op: DiskOp },
    /// A shard takes its turn.
    Turn { place: Place, life: u64, shard: u16 },
    /// A deadline is due.
    Wake { place: Place, life: u64 },
    /// A frame arrives.
    Frame { place: Place, from: Place, from_life: u64, bytes: Bytes },
    /// A node tries to reach an address.
    Dial { place: Place, life: u64, addr: String },
    /// A greeting arrives: at the dialled node, back at the dialler, and the go-ahead.
    Greeting { place: Place, life: Option<u64>, from: Place, from_life: u64, step: Step },
    /// The other end of a link is gone.
    Reset { place: Place, life: u64, from: Place, from_life: u64 },
    /// Bytes of a client arrive at a node.
    ToNode { place: Place, life: u64, client: usize, bytes: Bytes },
    /// Bytes of a node arrive at a client.
    ToClient { client: usize, place: Place, life: u64, bytes: Bytes },
    /// A client begins its next operation.
    Client { client: usize },
    /// A client gives up waiting.
    GiveUp { client: usize, operation: u64 },
    /// Something goes wrong, or is mended.
    Fault(super::faults::Fault),
}

/// Where a handshake stands.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The dialler says who it is.
    Hello(String, Bytes),
    /// The dialled node says who it is, or why it does not talk.
    Back(String, Result<Bytes, cluster::Refusal>),
    /// The dialler admits it too.
    Done(Bytes),
}

impl World {
    /// A world in which nothing has happened yet; every node starts within the first 100 ms.
    pub fn new(options: Options, keep_trace: bool) -> Self {
        let stream = |name: &str| {
            let digest = Sha256::new().chain_update(options.seed.to_le_bytes()).chain_update(name);
            Xoshiro256PlusPlus::from_seed(digest.finalize().into())
        };
        let chance = Chance {
            network: stream("network"),
            disk: stream("disk"),
            process: stream("process"),
            client: stream("client"),
            fault: stream("fault"),
        };
        let machines: Vec<Machine> =
            (0..options.nodes).map(|place| Machine::new(place, &options)).collect();
        let places = (0..).zip(&machines).map(|(place, m)| (m.settings.node(), place)).collect();
        let clients = (0..options.clients).map(|_| Client::new()).collect();
        let mut network = Network::default();
        network.faults.clone_from(&options.network);
        let mut world = Self {
            now_us: 1_000_000,
            queue: BinaryHeap::new(),
            scheduled: 0,
            machines,
            network,
            places,
            clients,
            history: History::default(),
            trace: Trace::new(keep_trace),
            chance,
            tally: Tally::default(),
            writes: 0,
            batches: Vec::new(),
            verdicts: BTreeSet::new(),
            undurable: BTreeMap::new(),
            options,
        };
        for place in 0..world.options.nodes {
            let delay = world.chance.process.random_range(0..100_000);
            world.schedule(delay, Happening::Fault(super::faults::Fault::Start(place)));
        }
        world
    }

    /// Lets everything happen that is due until `until_us`.
    pub fn run_until(&mut self, until_us: u64) {
        while self.queue.peek().is_some_and(|Reverse(next)| next.at_us <= until_us) {
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now_us = self.now_us.max(next.at_us);
            if let Some(later_us) = self.postponed(&next.event) {
                self.schedule(later_us - self.now_us, next.event);
                continue;
            }
            self.tally.events += 1;
            self.happen(next.event);
        }
        self.now_us = until_us;
    }

    /// What node `place` sees of time.
    pub(super) fn now(&self, place: Place) -> Now {
        let unix_ms = UNIX_MS_START + self.now_us / 1_000;
        let unix_ms = unix_ms.saturating_add_signed(self.machines[place].skew_ms);
        Now { mono: Mono(self.now_us), unix_ms }
    }

    pub(super) fn schedule(&mut self, delay_us: u64, event: Happening) {
        self.scheduled += 1;
        let at_us = self.now_us + delay_us;
        self.queue.push(Reverse(Scheduled { at_us, order: self.scheduled, event }));
    }

    /// Whether the process of `place` lives and is in this life.
    fn is_alive(&self, place: Place, life: u64) -> bool {
        let machine = &self.machines[place];
        machine.process.is_some() && machine.life == life
    }

    /// When an event may happen that is for a node which stands still now.
    fn postponed(&self, event: &Happening) -> Option<u64> {
        let place = match event {
            Happening::Disk { place, .. }
            | Happening::Read { place, .. }
            | Happening::Turn { place, .. }
            | Happening::Wake { place, .. }
            | Happening::Frame { place, .. }
            | Happening::Dial { place, .. }
            | Happening::Greeting { place, .. }
            | Happening::Reset { place, .. }
            | Happening::ToNode { place, .. } => *place,
            Happening::ToClient { .. }
            | Happening::Client { .. }
            | Happening::GiveUp { .. }
            | Happening::Fault(_) => return None,
        };
        let until_us = self.machines[place].paused_until_us;
        (until_us > self.now_us).then_some(until_us)
    }

    fn happen(&mut self, event: Happening) {
        match event {
            Happening::Disk { place, life, id, op } => self.on_disk(place, life, id, op),
            Happening::Read { place, life, shard, id, op } => {
                self.on_read(place, life, shard, id, op);
            }
            Happening::Turn { place, life, shard } => {
                if self.is_alive(place, life) {
                    self.machines[place].turns.remove(&shard);
                    self.note(place, "turn", &shard.to_le_bytes());
                    self.with(place, |process, now, out| process.on_turn(now, shard, out));
                }
            }
            Happening::Wake { place, life } => {
                if self.is_alive(place, life) {
                    self.machines[place].wakes_at = None;
                    self.with(place, Process::on_wake);
                }
            }
            Happening::Frame { place, from, from_life, bytes } => {
                self.on_frame(place, from, from_life, &bytes);
            }
            Happening::Dial { place, life, addr } => self.on_dial(place, life, addr),
            Happening::Greeting { place, life, from, from_life, step } => {
                self.on_greeting(place, life, from, from_life, step);
            }
            Happening::Reset { place, life, from, from_life } => {
                if self.is_alive(place, life)
                    && self.machines[place].links.get(&from) == Some(&from_life)
                {
                    self.unlink(place, from);
                }
            }
            Happening::ToNode { place, life, client, bytes } => {
                if self.is_alive(place, life) {
                    self.note(place, "request", &bytes);
                    self.with(place, |process, now, out| {
                        process.on_client(now, client, &bytes, out);
                    });
                }
            }
            Happening::ToClient { client, place, life, bytes } => {
                self.trace.note(self.now_us, None, "answer", &bytes, || {
                    format!("client {client} is answered: {}", bytes.escape_ascii())
                });
                self.on_answer(client, place, life, &bytes);
            }
            Happening::Client { client } => self.on_client(client),
            Happening::GiveUp { client, operation } => self.on_give_up(client, operation),
            Happening::Fault(fault) => self.on_fault(fault),
        }
    }

    fn note(&mut self, place: Place, kind: &'static str, payload: &[u8]) {
        self.trace
            .note(self.now_us, Some(place), kind, payload, || payload.escape_ascii().to_string());
    }

    /// Lets the process of a node do something, and carries out what it wants.
    pub(super) fn with(
        &mut self,
        place: Place,
        act: impl FnOnce(&mut Process, Now, &mut Vec<Effect>),
    ) {
        let now = self.now(place);
        let mut effects = Vec::new();
        let Some(process) = &mut self.machines[place].process else { return };
        act(process, now, &mut effects);
        for effect in effects {
            self.carry_out(place, effect);
        }
        self.plan_wake(place);
    }

    /// Makes sure that the process is woken at its deadline.
    fn plan_wake(&mut self, place: Place) {
        let machine = &mut self.machines[place];
        let process = machine.process.as_ref();
        let deadline = process.and_then(|process| process.deadline(&machine.turns));
        let Some(deadline) = deadline else { return };
        let at_us = deadline.0.max(self.now_us + 1);
        if machine.wakes_at.is_none_or(|wakes_at| at_us < wakes_at) {
            machine.wakes_at = Some(at_us);
            let life = machine.life;
            self.schedule(at_us - self.now_us, Happening::Wake { place, life });
        }
    }

    fn carry_out(&mut self, place: Place, effect: Effect) {
        let life = self.machines[place].life;
        match effect {
            Effect::Disk(id, op) => {
                let delay = self.disk_delay();
                self.machines[place].in_flight.push(op.clone());
                self.schedule(delay, Happening::Disk { place, life, id, op });
            }
            Effect::Read(shard, read) => {
                let delay = self.disk_delay();
                let (offset, length) = (read.offset, read.length);
                let op = DiskOp::Read { file: read.file, offset, length };
                self.schedule(delay, Happening::Read { place, life, shard, id: read.id, op });
            }
            Effect::Send(to, bytes) => self.send(place, to, &bytes),
            Effect::Turn(shard) => {
                if self.machines[place].turns.insert(shard) {
                    let delay = self.chance.process.random_range(1..=TURN_US);
                    self.schedule(delay, Happening::Turn { place, life, shard });
                }
            }
            Effect::Answer(client, bytes) => {
                let delay = self.chance.client.random_range(50..200);
                self.schedule(delay, Happening::ToClient { client, place, life, bytes });
            }
            Effect::Dial(addrs) => {
                for addr in addrs.difference(&self.machines[place].dials.clone()) {
                    self.schedule(1, Happening::Dial { place, life, addr: addr.clone() });
                }
                self.machines[place].dials = addrs;
            }
            Effect::Put(shard, seq, batch) => self.on_put(place, life, shard, seq, &batch),
            Effect::Durable(shard, seq) => self.on_durable(place, life, shard, seq),
            Effect::Recovered(damage, clocks) => {
                self.on_recovered(place, life, damage.is_none(), &clocks);
                if !damage.is_none() {
                    self.trace
                        .note(self.now_us, Some(place), "damage", b"", || format!("{damage:?}"));
                }
            }
            Effect::Ended(why) => {
                self.trace.note(self.now_us, Some(place), "ended", why.as_bytes(), || why.clone());
                self.machines[place].ended = Some(why);
                self.stop(place);
            }
        }
    }

    fn disk_delay(&mut self) -> u64 {
        let longest = self.options.disk_us.max(50);
        self.chance.disk.random_range(50..=longest)
    }

    fn on_disk(&mut self, place: Place, life: u64, id: IoId, op: DiskOp) {
        if !self.is_alive(place, life) {
            return;
        }
        let machine = &mut self.machines[place];
        if let Some(index) = machine.in_flight.iter().position(|other| *other == op) {
            machine.in_flight.remove(index);
        }
        let result = machine.disk.perform(op, &mut self.chance.disk);
        self.note(place, "disk", &id.0.to_le_bytes());
        self.with(place, |process, now, out| process.on_disk(now, id, result, out));
    }

    fn on_read(&mut self, place: Place, life: u64, shard: u16, id: ReadId, op: DiskOp) {
        if self.is_alive(place, life) {
            let result = self.machines[place].disk.perform(op, &mut self.chance.disk);
            self.with(place, |process, _, out| process.on_read(shard, id, result, out));
        }
    }

    /// Tells the history what a node put: what it minted, and what it stores once durable.
    fn on_put(&mut self, place: Place, life: u64, shard: u16, seq: Seq, batch: &Batch) {
        let me = self.machines[place].settings.node().tag();
        let mut stored = Vec::new();
        for record in &batch.records {
            self.trace.note(self.now_us, Some(place), "put", &record.key.bytes, || {
                let entries: Vec<String> = record
                    .object
                    .entries
                    .iter()
                    .map(|entry| format!("{}={}", entry.dot, entry.payload.escape_ascii()))
                    .collect();
                format!(
                    "{} {entries:?} ctx {:?} dots {:?} removed {:?}",
                    record.key.bytes.escape_ascii(),
                    record.object.ctx,
                    record.dots,
                    record.removed
                )
            });
            let minted = record.dots.iter().find(|dot| dot.actor.tag() == me);
            if let (Some(&dot), [_]) = (minted, record.dots.as_slice()) {
                let entry = record.object.entries.iter().find(|entry| entry.dot == dot);
                self.history.minted(Mint {
                    partition: record.partition,
                    dot,
                    key: &record.key,
                    value: entry.map(|entry| &entry.payload),
                    replaced: &record.removed,
                    at_the_cap: record.object.entries.len() >= LOSERS_MAX,
                    write: entry.and_then(|entry| write_id(&entry.payload)),
                });
            }
            stored.extend(record.dots.iter().map(|&dot| (record.partition, dot)));
        }
        let group = batch.group.map(|group| group.id);
        self.undurable.insert((place, life, shard, seq), Undurable { dots: stored, group });
    }

    fn on_durable(&mut self, place: Place, life: u64, shard: u16, upto: Seq) {
        let first = (place, life, shard, Seq(0));
        let done: Vec<_> =
            self.undurable.range(first..=(place, life, shard, upto)).map(|(put, _)| *put).collect();
        for put in done {
            let put = self.undurable.remove(&put);
            for (partition, dot) in put.into_iter().flat_map(|put| put.dots) {
                self.history.stored(partition, dot);
            }
        }
    }

    /// A process found its log: of what its predecessors put last, each put is there or not.
    fn on_recovered(
        &mut self,
        place: Place,
        life: u64,
        is_whole: bool,
        clocks: &BTreeMap<PartitionId, PartitionClock>,
    ) {
        let found = |(partition, dot): &(PartitionId, Dot)| {
            clocks.get(partition).is_some_and(|clock| clock.contains(*dot))
        };
        let doubtful: Vec<PutId> = self
            .undurable
            .range((place, 0, 0, Seq(0))..(place, life, 0, Seq(0)))
            .map(|(put, _)| *put)
            .collect();
        let mut batches: BTreeMap<(u64, u64), Vec<(PartitionId, Dot)>> = BTreeMap::new();
        for put in doubtful {
            let Some(Undurable { dots, group }) = self.undurable.remove(&put) else { continue };
            // A put that is no part of a group is a batch of its own; numbers of groups are random.
            let batch = (put.1, group.unwrap_or_else(|| put.3.0 << 8 | u64::from(put.2)));
            batches.entry(batch).or_default().extend(dots);
        }
        for dots in batches.into_values() {
            let there = dots.iter().filter(|dot| found(dot)).count();
            if is_whole && there > 0 && there < dots.len() {
                let text = format!("n{} found {there} of the events {dots:?}", place + 1);
                self.history.violate("B1 batches are all or nothing", &Key::plain(""), text);
            }
            for (partition, dot) in dots.into_iter().filter(found) {
                self.history.stored(partition, dot);
            }
        }
    }

    /// Sends a frame to a node, if there is a link.
    fn send(&mut self, place: Place, to: NodeId, bytes: &Bytes) {
        let Some(&to) = self.places.get(&to) else { return };
        if !self.machines[place].links.contains_key(&to) {
            return;
        }
        self.tally.messages += 1;
        let from_life = self.machines[place].life;
        for copy in self.network.send(place, to, bytes.len(), &mut self.chance.network) {
            let bytes = match copy.flipped_bit {
                None => bytes.clone(),
                Some(bit) => {
                    let mut damaged = BytesMut::from(bytes.as_ref());
                    let byte = usize::try_from(bit / 8).expect("a frame fits memory");
                    damaged[byte] ^= 1 << (bit % 8);
                    damaged.freeze()
                }
            };
            self.schedule(
                copy.delay_us,
                Happening::Frame { place: to, from: place, from_life, bytes },
            );
        }
    }

    fn on_frame(&mut self, place: Place, from: Place, from_life: u64, bytes: &Bytes) {
        let life = self.machines[place].life;
        if self.machines[place].process.is_none() || !self.machines[place].links.contains_key(&from)
        {
            // What a kernel does with bytes for a connection that it does not know.
            return self.reset(from, from_life, place, life);
        }
        self.note(place, "frame", bytes);
        let node = self.machines[from].settings.node();
        let mut understood = true;
        self.with(place, |process, now, out| understood = process.on_frame(now, node, bytes, out));
        if !understood {
            self.unlink(place, from);
            self.reset(from, from_life, place, life);
        }
    }

    /// Tells a node, if word can reach it, that its link to `from` is gone.
    fn reset(&mut self, place: Place, life: u64, from: Place, from_life: u64) {
        if let Some(copy) = self.network.send(from, place, 0, &mut self.chance.network).first() {
            self.schedule(copy.delay_us, Happening::Reset { place, life, from, from_life });
        }
    }

    fn unlink(&mut self, place: Place, from: Place) {
        if self.machines[place].links.remove(&from).is_some() {
            let node = self.machines[from].settings.node();
            self.note(place, "link down", &from.to_le_bytes());
            let input = cluster::Input::LinkDown { node };
            self.with(place, |process, now, out| process.on_control(now, input, out));
        }
    }

    fn link(
        &mut self,
        place: Place,
        to: Place,
        to_life: u64,
        hello: Hello,
        dialed: Option<String>,
    ) {
        let known = self.machines[place].links.get(&to).copied();
        if known.is_some_and(|known| known >= to_life) {
            return;
        }
        if known.is_some() {
            self.unlink(place, to);
        }
        self.machines[place].links.insert(to, to_life);
        self.note(place, "link up", &to.to_le_bytes());
        let input = cluster::Input::LinkUp { hello, dialed };
        self.with(place, |process, now, out| process.on_control(now, input, out));
    }

    /// Tries to reach an address, and plans the next try.
    fn on_dial(&mut self, place: Place, life: u64, addr: String) {
        if !self.is_alive(place, life) || !self.machines[place].dials.contains(&addr) {
            return;
        }
        let pause = self.chance.process.random_range(REDIAL_US / 2..REDIAL_US * 2);
        self.schedule(pause, Happening::Dial { place, life, addr: addr.clone() });
        let Some(to) = place_of(&addr).filter(|&to| to < self.machines.len()) else { return };
        if self.machines[place].links.contains_key(&to) {
            return;
        }
        let Some(bytes) = self.machines[place].process.as_ref().and_then(Process::greeting) else {
            return;
        };
        self.greet(place, None, to, Step::Hello(addr, bytes));
    }

    fn greet(&mut self, from: Place, life: Option<u64>, place: Place, step: Step) {
        let delay_us = if from == place {
            Some(1)
        } else {
            let copies = self.network.send(from, place, 100, &mut self.chance.network);
            copies.first().map(|copy| copy.delay_us)
        };
        let from_life = self.machines[from].life;
        if let Some(delay_us) = delay_us {
            self.schedule(delay_us, Happening::Greeting { place, life, from, from_life, step });
        }
    }

    fn on_greeting(
        &mut self,
        place: Place,
        life: Option<u64>,
        from: Place,
        from_life: u64,
        step: Step,
    ) {
        let is_current = life.is_none_or(|life| life == self.machines[place].life);
        if self.machines[place].process.is_none() {
            if let Step::Hello(addr, _) = step {
                let reason = String::from("connection refused");
                let input = cluster::Input::DialFailed { addr, reason };
                self.with(from, |process, now, out| process.on_control(now, input, out));
            }
            return;
        }
        if !is_current {
            return;
        }
        match step {
            Step::Hello(addr, bytes) => {
                let Some(hello) = hello_of(&bytes) else { return };
                let answer = self.admit(place, &hello, None);
                let mine = self.machines[place].process.as_ref().and_then(Process::greeting);
                let answer = answer.and_then(|()| mine.ok_or_else(starting));
                self.greet(place, Some(from_life), from, Step::Back(addr, answer));
            }
            Step::Back(addr, Err(refusal)) => {
                let input = cluster::Input::Refused { dialed: Some(addr), refusal };
                self.with(place, |process, now, out| process.on_control(now, input, out));
            }
            Step::Back(addr, Ok(bytes)) => {
                let Some(hello) = hello_of(&bytes) else { return };
                if self.admit(place, &hello, Some(addr.clone())).is_ok() {
                    let mine = self.machines[place].process.as_ref().and_then(Process::greeting);
                    self.link(place, from, from_life, hello, Some(addr));
                    if let Some(mine) = mine {
                        self.greet(place, Some(from_life), from, Step::Done(mine));
                    }
                }
            }
            Step::Done(bytes) => {
                let Some(hello) = hello_of(&bytes) else { return };
                self.link(place, from, from_life, hello, None);
            }
        }
    }

    fn admit(
        &mut self,
        place: Place,
        hello: &Hello,
        dialed: Option<String>,
    ) -> Result<(), cluster::Refusal> {
        let mut admitted = Ok(());
        self.with(place, |process, now, out| {
            admitted = process.admit(now, hello, dialed, out);
        });
        admitted
    }

    /// Starts a process on a machine that has none.
    pub(super) fn start(&mut self, place: Place) {
        if self.machines[place].process.is_some() {
            return;
        }
        let seed = self.chance.process.random();
        let now = self.now(place);
        let birth = self.machines[place].birth(&self.options, seed);
        let machine = &mut self.machines[place];
        machine.life += 1;
        let mut effects = Vec::new();
        machine.process = Some(Process::start(birth, now, &mut effects));
        self.note(place, "start", &[]);
        for effect in effects {
            self.carry_out(place, effect);
        }
        self.plan_wake(place);
    }

    /// Ends the process of a machine at once; what was under way on its disk is done or not.
    pub(super) fn stop(&mut self, place: Place) {
        let machine = &mut self.machines[place];
        if machine.process.take().is_none() {
            return;
        }
        let life = machine.life;
        machine.turns.clear();
        machine.wakes_at = None;
        machine.dials.clear();
        for op in std::mem::take(&mut machine.in_flight) {
            if self.chance.disk.random() {
                // Nobody is left to hear of it.
                let _ = machine.disk.perform(op, &mut self.chance.disk);
            }
        }
        let links = std::mem::take(&mut machine.links);
        for (peer, peer_life) in links {
            self.reset(peer, peer_life, place, life);
        }
        self.note(place, "stop", &[]);
        self.hang_up(place, life);
    }
}

impl Machine {
    fn new(place: Place, options: &Options) -> Self {
        let digest = Sha256::new()
            .chain_update(options.seed.to_le_bytes())
            .chain_update(b"identity")
            .chain_update(place.to_le_bytes());
        // Each names the next one as its seed: a ring.
        let next = (place + 1) % options.nodes;
        let seeds =
            if options.nodes == 1 { Vec::new() } else { vec![format!("n{}:7379", next + 1)] };
        let settings = Settings {
            public_key: digest.finalize().into(),
            name: format!("n{}", place + 1),
            zone: String::from("default"),
            cluster_addr: format!("n{}:7379", place + 1),
            client_addr: format!("n{}:6379", place + 1),
            seeds,
            partitions: options.partitions,
            replicas: options.replicas,
            seed: 0,
        };
        let mut disk = SimDisk::default();
        disk.faults = options.disk.clone();
        Self {
            process: None,
            life: 0,
            disk,
            in_flight: Vec::new(),
            settings,
            skew_ms: 0,
            paused_until_us: 0,
            links: BTreeMap::new(),
            dials: BTreeSet::new(),
            turns: BTreeSet::new(),
            wakes_at: None,
            ended: None,
        }
    }

    /// How it stands, for people.
    pub(super) fn state(&self) -> String {
        let view = self.process.as_ref().and_then(Process::view);
        let seen = view.map_or_else(String::new, |view| {
            let reached = view.members.values().filter(|member| member.reachable).count();
            format!("{:?}, reaches {reached} of {}", view.phase, view.members.len())
        });
        let ended = self.ended.as_deref().unwrap_or_default();
        format!("{}: life {}, {seen} {ended}", self.settings.name, self.life)
    }

    fn birth(&self, options: &Options, seed: u64) -> Birth {
        let config = Config {
            node_id: Some(self.settings.name.clone()),
            partitions: options.partitions,
            replicas: options.replicas,
            ..Config::default()
        };
        let log = LogConfig {
            node: self.settings.node(),
            shards: options.shards,
            segment_bytes: options.segment_bytes,
            durability: Durability::Always,
            cache_bytes: 16 * 1024,
            seed,
        };
        let settings = Settings { seed, ..self.settings.clone() };
        Birth { settings, log, shards: options.shards, seed, config }
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

fn hello_of(bytes: &Bytes) -> Option<Hello> {
    let mut buffer = BytesMut::from(bytes.as_ref());
    match peer::decode(&mut buffer) {
        Ok(Some(Frame::Hello(greeting) | Frame::HelloAck(greeting))) => Some(greeting.hello),
        Ok(Some(Frame::Refusal(_) | Frame::Cluster(_) | Frame::Shard(_)) | None) | Err(_) => None,
    }
}

fn starting() -> cluster::Refusal {
    let text = String::from("the node is still reading its log");
    cluster::Refusal { code: String::from("starting"), text }
}
