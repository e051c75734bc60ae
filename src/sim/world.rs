//! The world: one queue of events in virtual time, and everything that they happen to.
//!
//! Nothing here knows what a node should do; that is the business of the oracles.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::RngExt as _;

use super::agenda::Agenda;
use super::application::Driver;
use super::budget::Budget;
use super::chance::{Chance, Family};
use super::clients::Client;
use super::facts::{self, Said};
use super::faults::Fault;
use super::ledger::Ledger;
use super::links::Step;
use super::machine::Machine;
use super::network::{Network, Place};
use super::oracle::{History, Promises, WriteId};
use super::process::{Effect, Process};
use super::scenario::{Action, Operation, Scenario, Step as ScenarioStep};
use super::trace::{EventId, Lane, Trace};
use super::watch::{PutId, Undurable};
use crate::causality::NodeId;
use crate::hash::Key;
use crate::store::{DiskError, DiskOp, IoId, ReadId};
use crate::time::{Mono, Now};

/// Time until a process that ended by itself is started again, ...
const RESTART_US: u64 = 500_000;
/// ... twice as long each time that it lived for less than this, ...
const SHORT_LIFE_US: u64 = 5_000_000;
/// ... but so often at most.
const DOUBLINGS_MAX: u32 = 3;
/// Clients that ask nothing before the end, and then how every key stands.
const JUDGES: usize = 4;
/// Time within which a cluster is born once its nodes are all there.
const BIRTH_US: u64 = 1_300_000;
/// Longest time between two inputs of a shard that may become one turn.
const TURN_US: u64 = 40;

/// A simulated cluster with its clients.
#[derive(Debug)]
pub struct World {
    pub(super) scenario: Scenario,
    pub(super) now_us: u64,
    agenda: Agenda<Scheduled>,
    /// Room for what a process wants, kept from one event to the next.
    effects: Vec<Effect>,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) places: BTreeMap<NodeId, Place>,
    pub(super) clients: Vec<Client>,
    pub(super) history: History,
    pub(super) trace: Trace,
    pub(super) chance: Chance,
    pub(super) tally: Tally,
    /// Writes that clients began.
    pub(super) writes: u64,
    /// Batches that clients sent: all of each or nothing must be there.
    pub(super) batches: Vec<Vec<WriteId>>,
    /// Which write each value is of.
    pub(super) values: BTreeMap<(Key, Bytes), WriteId>,
    /// Keys whose history was judged, and what they hold.
    pub(super) verdicts: BTreeMap<Key, Vec<Bytes>>,
    /// When the cluster was born: the steps of scenarios count from there.
    pub(super) born_us: u64,
    /// The promise that the run is about: once it is broken, nothing more happens.
    pub(super) wanted: Option<&'static str>,
    /// What went wrong and what was asked, as the steps that would do it again.
    pub(super) recorded: Vec<ScenarioStep>,
    /// What nodes put that was not durable when last heard of.
    pub(super) undurable: BTreeMap<PutId, Undurable>,
    /// What acceptors have told others that they promise.
    promises: Promises,
    /// Who says what the clients do that would draw their work otherwise.
    pub(super) driver: Option<Driver>,
    /// Number of violations that the trace has.
    pub(super) violations_noted: usize,
    /// What lies on the disks.
    pub(super) ledger: Ledger,
    /// What may be destroyed.
    pub(super) budget: Budget,
}

/// What a run did, by numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that entered the core of a node: turns, what disks did, frames, requests, deadlines,
    /// changes of links.
    pub events: u64,
    /// Operations that clients began.
    pub operations: u64,
    /// Answers that said OK.
    pub ok: u64,
    /// Answers that said that nothing was applied.
    pub refused: u64,
    /// Operations whose outcome is not known.
    pub unknown: u64,
    /// Writes of which a node said that they never were applied.
    pub not_applied: u64,
    /// Processes that died.
    pub crashes: u64,
    /// Processes that ended by themselves, because their disk failed.
    pub ended: u64,
    /// Times that power went at a node.
    pub power_losses: u64,
    /// Times that the network fell apart.
    pub partitions: u64,
    /// Times that a node stood still.
    pub pauses: u64,
    /// Jumps of wall clocks.
    pub clock_jumps: u64,
    /// Ways that were clogged.
    pub clogs: u64,
    /// Messages that were cut short with their connection.
    pub cut_short: u64,
    /// Times that a node was slow.
    pub slow_nodes: u64,
    /// Bits that rotted.
    pub rotten_bits: u64,
    /// Operations of disks that were made to fail.
    pub disk_errors: u64,
    /// Writes that were acknowledged, and lost or gone elsewhere.
    pub writes_astray: u64,
    /// Times that a disk was full.
    pub disks_full: u64,
    /// Times that a disk was slow or stuck.
    pub disks_slow: u64,
    /// Requests that their clients sent in half.
    pub half_requests: u64,
    /// Walks over all keys that came to their end.
    pub walks: u64,
    /// Damage that was not done, because the promises would not have survived it.
    pub spared: u64,
    /// Keys whose promises were broken by what no node could know.
    pub excused_keys: u64,
    /// Messages between nodes.
    pub messages: u64,
}

#[derive(Debug)]
struct Scheduled {
    event: Happening,
    /// The kept event that it came of.
    cause: Option<EventId>,
}

/// What can happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// An operation of the log completes.
    Disk { place: Place, life: u64, id: IoId },
    /// A cold record arrives.
    Read { place: Place, life: u64, shard: u16, id: ReadId, op: DiskOp },
    /// A shard takes its turn.
    Turn { place: Place, life: u64, shard: u16 },
    /// A deadline is due.
    Wake { place: Place, life: u64, due_us: u64 },
    /// A frame arrives.
    Frame { place: Place, from: Place, lives: (u64, u64), bytes: Bytes },
    /// A node tries to reach an address.
    Dial { place: Place, life: u64, addr: String },
    /// A greeting arrives: at the dialled node, back at the dialler, and the go-ahead.
    Greeting { place: Place, life: Option<u64>, from: Place, from_life: u64, step: Step },
    /// The other end of a link is gone.
    Reset { place: Place, life: u64, from: Place, from_life: u64 },
    /// Bytes of a client arrive at a node.
    ToNode { place: Place, life: u64, client: usize, session: u64, bytes: Bytes },
    /// Bytes of a node arrive at a client.
    ToClient { client: usize, session: u64, place: Place, life: u64, bytes: Bytes },
    /// A client begins its next operation.
    Client { client: usize },
    /// A client gives up waiting.
    GiveUp { client: usize, operation: u64 },
    /// Something goes wrong, or is mended.
    Fault(Fault),
    /// A client is to ask something.
    Ask(Operation),
}

impl World {
    /// A world in which nothing has happened yet; every node starts within the first 100 ms.
    pub fn new(scenario: Scenario, keep_trace: bool) -> Self {
        let options = &scenario.options;
        let chance = Chance::new(options.seed);
        let machines: Vec<Machine> =
            (0..options.nodes).map(|place| Machine::new(place, options)).collect();
        let places = (0..).zip(&machines).map(|(place, m)| (m.node, place)).collect();
        // Those that steps name, those that draw their work, and a few who only ask at the end.
        let named = scenario.clients.len();
        let drawing = named + options.clients;
        let clients = (0..drawing + JUDGES)
            .map(|index| Client::new((named..drawing).contains(&index)))
            .collect();
        let mut network = Network::default();
        network.faults.clone_from(&options.network);
        let mut history = History::default();
        history.rows_are_single = options.founders().min(usize::from(options.replicas)) == 1;
        let mut world = Self {
            now_us: 1_000_000,
            agenda: Agenda::default(),
            effects: Vec::new(),
            machines,
            network,
            places,
            clients,
            history,
            trace: Trace::new(keep_trace),
            chance,
            tally: Tally::default(),
            writes: 0,
            batches: Vec::new(),
            values: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            undurable: BTreeMap::new(),
            promises: Promises::default(),
            driver: None,
            violations_noted: 0,
            ledger: Ledger::default(),
            budget: Budget::default(),
            born_us: 0,
            wanted: None,
            recorded: Vec::new(),
            scenario,
        };
        for place in 0..world.founders() {
            let mut chance = world.chance.at(Family::Process, place, 0, 0);
            let delay = chance.random_range(0..100_000);
            world.schedule(delay, Happening::Fault(Fault::Start(place)));
        }
        world.trouble_birth();
        world
    }

    /// Number of nodes that start first; those behind them come later, and join.
    pub(super) fn founders(&self) -> usize {
        self.scenario.options.founders()
    }

    /// Lets those join that come later, while clients work.
    pub(super) fn start_newcomers(&mut self) {
        for place in self.founders()..self.machines.len() {
            let mut chance = self.chance.at(Family::Process, place, 0, 0);
            let delay = chance.random_range(0..=self.scenario.options.duration_us / 2);
            self.schedule(delay, Happening::Fault(Fault::Start(place)));
        }
    }

    /// Lets nodes die and come back while the cluster is about to be born: promises are made then.
    /// One dies when all have been together for about as long as a birth takes.
    fn trouble_birth(&mut self) {
        let mut at_us = 0;
        for index in 0..self.scenario.options.birth_crashes {
            let mut rng = self.chance.at(Family::Process, index, 0, 1);
            let place = rng.random_range(0..self.founders());
            at_us += rng.random_range(BIRTH_US / 2..2 * BIRTH_US);
            let is_crash = rng.random();
            let fault = if is_crash { Fault::Crash(place) } else { Fault::PowerLoss(vec![place]) };
            self.schedule(at_us, Happening::Fault(fault));
            at_us += rng.random_range(1_000..300_000);
            self.schedule(at_us, Happening::Fault(Fault::Start(place)));
        }
    }

    /// Lets everything happen that is due until `until_us`.
    pub fn run_until(&mut self, until_us: u64) {
        while !self.is_decided() {
            let Some((at_us, next)) = self.agenda.take_due(until_us) else { break };
            self.now_us = self.now_us.max(at_us);
            self.trace.resume(next.cause);
            if let Some(later_us) = self.postponed(&next.event) {
                self.schedule(later_us - self.now_us, next.event);
                continue;
            }
            self.history.now_us = self.now_us;
            self.happen(next.event);
            self.note_violations();
        }
        self.trace.resume(None);
        self.now_us = until_us;
    }

    /// Whether the promise is broken that the run is about.
    fn is_decided(&self) -> bool {
        let broken = self.history.violations();
        self.wanted.is_some_and(|wanted| broken.iter().any(|found| found.invariant == wanted))
    }

    /// What node `place` sees of time.
    pub(super) fn now(&self, place: Place) -> Now {
        let unix_ms = self.machines[place].clock.unix_ms(self.now_us);
        Now { mono: Mono(self.now_us), unix_ms }
    }

    pub(super) fn schedule(&mut self, delay_us: u64, event: Happening) {
        let cause = self.trace.cause();
        self.agenda.plan(self.now_us + delay_us, Scheduled { event, cause });
    }

    /// Whether the process of `place` lives and is in this life.
    pub(super) fn is_alive(&self, place: Place, life: u64) -> bool {
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
            | Happening::Fault(_)
            | Happening::Ask(_) => return None,
        };
        let stuck_until_us = match event {
            Happening::Disk { .. } | Happening::Read { .. } => {
                self.machines[place].trouble.stuck_until_us
            }
            Happening::Turn { .. }
            | Happening::Wake { .. }
            | Happening::Frame { .. }
            | Happening::Dial { .. }
            | Happening::Greeting { .. }
            | Happening::Reset { .. }
            | Happening::ToNode { .. }
            | Happening::ToClient { .. }
            | Happening::Client { .. }
            | Happening::GiveUp { .. }
            | Happening::Fault(_)
            | Happening::Ask(_) => 0,
        };
        let until_us = self.machines[place].paused_until_us.max(stuck_until_us);
        (until_us > self.now_us).then_some(until_us)
    }

    fn happen(&mut self, event: Happening) {
        match event {
            Happening::Disk { place, life, id } => self.on_disk(place, life, id),
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
            Happening::Wake { place, life, due_us } => {
                // One that an earlier wake has overtaken wakes nobody.
                if self.is_alive(place, life) && self.machines[place].wakes_at == Some(due_us) {
                    self.machines[place].wakes_at = None;
                    self.with(place, Process::on_wake);
                }
            }
            Happening::Frame { place, from, lives, bytes } => {
                self.on_frame(place, from, lives, bytes);
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
            Happening::ToNode { place, life, client, session, bytes } => {
                if self.is_alive(place, life) && self.clients[client].session == session {
                    self.note(place, "request", &bytes);
                    self.trace.explain(|| facts::heard(&bytes, client));
                    self.with(place, |process, now, out| {
                        process.on_client(now, client, &bytes, out);
                    });
                }
            }
            Happening::ToClient { client, session, place, life, bytes } => {
                if self.clients[client].session != session {
                    return;
                }
                let lane = Lane::Client(client);
                self.trace.note(self.now_us, lane, "answer", &bytes, String::new);
                self.trace.explain(|| facts::answered(&bytes, client));
                self.on_answer(client, place, life, &bytes);
            }
            Happening::Client { client } => self.on_client(client),
            Happening::GiveUp { client, operation } => self.on_give_up(client, operation),
            Happening::Fault(fault) => self.on_fault(fault),
            Happening::Ask(operation) => self.on_operation(operation),
        }
    }

    /// The clients that ask nothing before the end.
    pub(super) fn judges(&self) -> std::ops::Range<usize> {
        self.clients.len() - JUDGES..self.clients.len()
    }

    /// Plans steps, of which the times count from now.
    pub(super) fn plan(&mut self, steps: Vec<ScenarioStep>) {
        for ScenarioStep { at_us, action } in steps {
            let happening = match action {
                Action::Fault(fault) => Happening::Fault(fault),
                Action::Ask(operation) => Happening::Ask(operation),
            };
            self.schedule(at_us, happening);
        }
    }

    /// How long the cluster has been there, in microseconds.
    pub(super) fn since_birth_us(&self) -> u64 {
        self.now_us - self.born_us
    }

    pub(super) fn note(&mut self, place: Place, kind: &'static str, payload: &[u8]) {
        self.trace
            .note(self.now_us, Some(place), kind, payload, || payload.escape_ascii().to_string());
    }

    /// Keeps an event which follows from those that are noted.
    pub(super) fn keep(&mut self, lane: Lane, kind: &'static str, said: impl FnOnce() -> Said) {
        self.trace.keep(self.now_us, lane, kind, said);
    }

    /// Lets the process of a node do something, and carries out what it wants.
    pub(super) fn with(
        &mut self,
        place: Place,
        act: impl FnOnce(&mut Process, Now, &mut Vec<Effect>),
    ) {
        let now = self.now(place);
        let Some(process) = &mut self.machines[place].process else { return };
        self.tally.events += 1;
        let mut effects = std::mem::take(&mut self.effects);
        act(process, now, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(place, effect);
        }
        self.effects = effects;
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
            let wake = Happening::Wake { place, life, due_us: at_us };
            self.schedule(at_us - self.now_us, wake);
        }
    }

    fn carry_out(&mut self, place: Place, effect: Effect) {
        let life = self.machines[place].life;
        match effect {
            Effect::Disk(id, op) => {
                // Those that are under way tell it from others of the same instant.
                let under_way = self.machines[place].in_flight.len() as u64;
                let delay = self.disk_delay(place, under_way);
                self.machines[place].in_flight.push((id, op));
                self.schedule(delay, Happening::Disk { place, life, id });
            }
            Effect::Read(shard, read) => {
                let (offset, length) = (read.offset, read.length);
                let delay = self.disk_delay(place, offset);
                let op = DiskOp::Read { file: read.file, offset, length };
                self.schedule(delay, Happening::Read { place, life, shard, id: read.id, op });
            }
            Effect::Send(to, bytes) => self.send(place, to, &bytes),
            Effect::States(statement) => self.check_leaving(place, &statement),
            Effect::Close(node) => self.close_link(place, node),
            Effect::Turn(shard) => {
                if self.machines[place].turns.insert(shard) {
                    let mut chance =
                        self.chance.at(Family::Process, place, self.now_us, shard.into());
                    let (until_us, factor) = self.machines[place].slow;
                    let factor = if until_us > self.now_us { factor } else { 1 };
                    let delay = chance.random_range(1..=TURN_US) * factor;
                    self.schedule(delay, Happening::Turn { place, life, shard });
                }
            }
            Effect::Answer(client, bytes) => {
                let delay = self.wire_us(client);
                let session = self.clients[client].session;
                self.clients[client].told_ms = self.machines[place].clock.unix_ms(self.now_us);
                self.keep(Lane::Node(place), "reply", || facts::answered(&bytes, client));
                let answer = Happening::ToClient { client, session, place, life, bytes };
                self.schedule(delay, answer);
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
                self.machines[place].is_rebuilding =
                    damage.unnamed || !damage.partitions.is_empty();
                self.on_recovered(place, life, &damage, &clocks);
                self.check_recovery(place, &damage, &clocks);
                if !damage.is_none() {
                    self.trace
                        .note(self.now_us, Some(place), "damage", b"", || format!("{damage:?}"));
                }
            }
            Effect::Promised(decision, ballot) => self.promises.told(place, decision, ballot),
            Effect::Recalled(decision, ballot) => {
                if let Some(text) = self.promises.broken(place, decision, ballot) {
                    self.complain("P1 promises outlast a restart", text);
                }
            }
            Effect::Ended(why) => {
                self.trace.note(self.now_us, Some(place), "ended", why.as_bytes(), || why.clone());
                self.check_end(place, &why);
                self.machines[place].ended = Some(why);
                self.tally.ended += 1;
                self.stop(place);
                let delay = self.restart_us(place);
                self.schedule(delay, Happening::Fault(Fault::Start(place)));
            }
        }
    }

    /// What a supervisor waits before it starts a process again that ended by itself.
    fn restart_us(&mut self, place: Place) -> u64 {
        let (started_us, short_lives) = self.machines[place].started;
        let short = self.now_us - started_us < SHORT_LIFE_US;
        let short_lives = if short { (short_lives + 1).min(DOUBLINGS_MAX) } else { 0 };
        self.machines[place].started.1 = short_lives;
        RESTART_US << short_lives
    }

    fn disk_delay(&self, place: Place, what: u64) -> u64 {
        let usual = self.scenario.options.disk_us;
        let longest = self.machines[place].trouble.slow_us(self.now_us).unwrap_or(usual).max(50);
        self.chance.at(Family::Disk, place, self.now_us, what << 8).random_range(50..=longest)
    }

    /// Microseconds that bytes take between a client and its node.
    pub(super) fn wire_us(&self, client: usize) -> u64 {
        self.chance.at(Family::Wire, client, self.now_us, 0).random_range(50..200)
    }

    fn on_disk(&mut self, place: Place, life: u64, id: IoId) {
        if !self.is_alive(place, life) {
            return;
        }
        let mut chance = self.chance.at(Family::Disk, place, self.now_us, 2);
        let in_flight = &mut self.machines[place].in_flight;
        let index = in_flight.iter().position(|(other, _)| *other == id);
        let Some((_, op)) = index.map(|index| in_flight.remove(index)) else { return };
        let stores = stores(&op);
        let result = self.perform(place, op, &mut chance);
        self.note(place, "disk", &id.0.to_le_bytes());
        if let Err(error) = &result {
            self.keep(Lane::Node(place), "disk error", || Said::text(format!("{error:?}")));
        }
        let failed = stores.filter(|_| matches!(result, Err(DiskError::Failed(_))));
        self.with(place, |process, now, out| process.on_disk(now, id, result, out));
        if let Some(what) = failed {
            self.check_failure((place, life), what);
        }
    }

    fn on_read(&mut self, place: Place, life: u64, shard: u16, id: ReadId, op: DiskOp) {
        if self.is_alive(place, life) {
            let mut chance = self.chance.at(Family::Disk, place, self.now_us, 3);
            let result = self.perform(place, op, &mut chance);
            self.with(place, |process, _, out| process.on_read(shard, id, result, out));
        }
    }

    /// Starts a process on a machine that has none.
    pub(super) fn start(&mut self, place: Place) {
        if self.machines[place].process.is_some() || self.machines[place].is_kept_down {
            return;
        }
        let life = self.machines[place].life + 1;
        let seed = self.chance.at(Family::Process, place, self.now_us, life).random();
        let now = self.now(place);
        let birth = self.machines[place].birth(&self.scenario.options, seed);
        let machine = &mut self.machines[place];
        machine.life += 1;
        machine.started.0 = self.now_us;
        machine.disk.misreads = 0;
        let mut effects = Vec::new();
        machine.process = Some(Process::start(birth, now, &mut effects));
        let cause = self.trace.cause();
        self.note(place, "start", &[]);
        for effect in effects {
            self.carry_out(place, effect);
        }
        self.plan_wake(place);
        self.trace.resume(cause);
    }

    /// Ends the process of a machine at once; what was under way on its disk is done or not.
    pub(super) fn stop(&mut self, place: Place) {
        let machine = &mut self.machines[place];
        if machine.process.take().is_none() {
            return;
        }
        let life = machine.life;
        let cause = self.trace.cause();
        machine.turns.clear();
        machine.wakes_at = None;
        machine.dials.clear();
        let in_flight = std::mem::take(&mut machine.in_flight);
        let links = std::mem::take(&mut machine.links);
        let mut chance = self.chance.at(Family::Disk, place, self.now_us, 4);
        for (_, op) in in_flight {
            if chance.random() {
                // Nobody is left to hear of it.
                let _ = self.perform(place, op, &mut chance);
            }
        }
        self.ledger.forget_memory(place);
        for (peer, peer_life) in links {
            self.reset(peer, peer_life, place, life);
        }
        self.note(place, "stop", &[]);
        self.hang_up(place, life);
        self.trace.resume(cause);
    }
}

/// The name of an operation after which a process relies on what it stored; `None` = of no such.
fn stores(op: &DiskOp) -> Option<&'static str> {
    match op {
        DiskOp::Write { .. } => Some("a write"),
        DiskOp::Sync { .. } => Some("a sync"),
        DiskOp::SyncDir => Some("the sync of its directory"),
        DiskOp::List
        | DiskOp::Create { .. }
        | DiskOp::Read { .. }
        | DiskOp::Rename { .. }
        | DiskOp::Remove { .. }
        | DiskOp::Space => None,
    }
}
