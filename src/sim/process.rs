//! One life of one simulated node: the parts of production, driven as production drives them.
//!
//! What a thread, a socket or a file would do is an [`Effect`], which the world carries out at the
//! instant of its choice. Bytes cross every hop through the codecs of production.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::{Bytes, BytesMut};

use super::network::Place;
use super::oracle::Statement;
use super::questions::Questions;
use crate::causality::{NodeId, PartitionClock};
use crate::cluster::message::Ballot;
use crate::cluster::{self, Cluster, Hello, Settings, View};
use crate::config::Config;
use crate::hash::PartitionId;
use crate::limits::TURN_INPUTS_MAX;
use crate::shard::message::Route;
use crate::shard::{Batch, Input, Message, Seq, Shard, ShardConfig, ShardId, Ticket};
use crate::store::{
    Damage, Disk, DiskDone, DiskError, DiskOp, Event, IoId, Log, LogConfig, ReadId, ReadRequest,
};
use crate::time::{Mono, Now};
use crate::turn::{HeldBack, Turn, Worker};
use crate::wire::peer::{self, Frame, Greeting, Link};
use crate::wire::{Call, Connection, Facts, Gauges};

/// Bytes of most frames: their buffers need not grow.
const FRAME_BYTES: usize = 256;

/// What a life of a node is started with.
#[derive(Clone, Debug)]
pub(super) struct Birth {
    pub(super) settings: Settings,
    pub(super) log: LogConfig,
    pub(super) shards: u16,
    pub(super) seed: u64,
    pub(super) config: Config,
}

/// What a process wants from the world.
#[derive(Debug)]
pub(super) enum Effect {
    /// An operation of the log on the disk.
    Disk(IoId, DiskOp),
    /// A cold record for a shard.
    Read(u16, ReadRequest),
    /// What the next frame says of this node.
    States(Box<Statement>),
    /// The link to another node is to be closed: nothing came over it for too long.
    Close(NodeId),
    /// A frame for another node.
    Send(NodeId, Bytes),
    /// A shard has inputs.
    Turn(u16),
    /// Bytes for a client.
    Answer(usize, Bytes),
    /// The addresses to keep links to changed.
    Dial(BTreeSet<String>),
    /// A shard put records.
    Put(u16, Seq, Batch),
    /// Every put of a shard up to here is durable.
    Durable(u16, Seq),
    /// Recovery found this damage, and these clocks.
    Recovered(Box<Damage>, BTreeMap<PartitionId, PartitionClock>),
    /// The control plane told another node what it promises: in which decision, to which ballot.
    Promised(u64, Ballot),
    /// What the control plane remembers of its promises when it starts from a whole log.
    Recalled(u64, Ballot),
    /// The process cannot go on.
    Ended(String),
}

/// One life of one node.
#[derive(Debug)]
pub(super) struct Process {
    log: Log,
    birth: Birth,
    running: Option<Running>,
}

/// What there is once the log is recovered.
#[derive(Debug)]
struct Running {
    cluster: Cluster,
    /// When the control plane has something to do though nothing happens.
    control_due: Option<Mono>,
    output: cluster::Output,
    held: HeldBack<(NodeId, cluster::Message)>,
    control_durable: Seq,
    lanes: Vec<Lane>,
    view: Option<Arc<View>>,
    me: NodeId,
    guests: BTreeMap<usize, Guest>,
    /// Number of the next call; of all connections, so that a late reply to a connection that is
    /// gone meets no call of the next one.
    next_call: u64,
    questions: Questions,
    write_seq: AtomicU64,
    gauges: Gauges,
    started_unix_ms: u64,
}

/// One shard, and what waits for its next turn.
#[derive(Debug)]
struct Lane {
    worker: Worker,
    inbox: VecDeque<Input>,
    durable: Seq,
}

/// The connection of one client.
#[derive(Debug)]
struct Guest {
    connection: Connection,
    buffer: BytesMut,
    calls: VecDeque<(u64, Call)>,
}

/// Collects what the log wants of its disk.
struct Port<'a>(&'a mut Vec<Effect>);

impl Disk for Port<'_> {
    fn submit(&mut self, id: IoId, op: DiskOp) {
        self.0.push(Effect::Disk(id, op));
    }
}

impl Process {
    /// Logged batches that are not known to be done.
    pub(super) fn logged_batches(&self) -> usize {
        let lanes = self.running.iter().flat_map(|running| &running.lanes);
        lanes.map(|lane| lane.worker.logged_batches()).sum()
    }

    /// A process that has just been started: it recovers its log first.
    pub(super) fn start(birth: Birth, now: Now, out: &mut Vec<Effect>) -> Self {
        let mut process = Self { log: Log::new(birth.log.clone()), birth, running: None };
        process.drive(now, out);
        process
    }

    /// An operation of the log is done.
    pub(super) fn on_disk(
        &mut self,
        now: Now,
        id: IoId,
        result: Result<DiskDone, DiskError>,
        out: &mut Vec<Effect>,
    ) {
        self.log.on_io(now, id, result);
        self.drive(now, out);
    }

    /// A cold record was read.
    pub(super) fn on_read(
        &mut self,
        shard: u16,
        id: ReadId,
        result: Result<DiskDone, DiskError>,
        out: &mut Vec<Effect>,
    ) {
        let Some(running) = &mut self.running else { return };
        running.lanes[usize::from(shard)].worker.on_read(id, result);
        out.push(Effect::Turn(shard));
    }

    /// A deadline is due.
    pub(super) fn on_wake(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Some(running) = &mut self.running {
            if running.control_due.is_some_and(|deadline| deadline <= now.mono) {
                running.control(now, cluster::Input::Tick, &mut self.log, out);
            }
            for (shard, lane) in (0..).zip(&running.lanes) {
                if lane.worker.deadline().is_some_and(|deadline| deadline <= now.mono) {
                    out.push(Effect::Turn(shard));
                }
            }
        }
        self.drive(now, out);
    }

    /// When something is due even if nothing happens. Shards in `turns` have their turn ahead, so
    /// nobody needs to wake them.
    pub(super) fn deadline(&self, turns: &BTreeSet<u16>) -> Option<Mono> {
        let running = self.running.iter().flat_map(|running| {
            let idle = (0..).zip(&running.lanes).filter(|(shard, _)| !turns.contains(shard));
            let shards = idle.filter_map(|(_, lane)| lane.worker.deadline());
            running.control_due.into_iter().chain(shards)
        });
        self.log.deadline().into_iter().chain(running).min()
    }

    /// One turn of a shard.
    pub(super) fn on_turn(&mut self, now: Now, shard: u16, out: &mut Vec<Effect>) {
        let Some(running) = &mut self.running else { return };
        let lane = &mut running.lanes[usize::from(shard)];
        let count = lane.inbox.len().min(TURN_INPUTS_MAX);
        let mut inputs: VecDeque<Input> = lane.inbox.drain(..count).collect();
        let mut turn = Turn::default();
        lane.worker.turn(now, &mut inputs, &mut turn);
        out.extend(lane.worker.take_observed().map(|(seq, batch)| Effect::Put(shard, seq, batch)));
        if !lane.inbox.is_empty() || lane.worker.has_work() {
            out.push(Effect::Turn(shard));
        }
        if let Some(batch) = turn.batch {
            self.log.hand(ShardId(shard), batch);
        }
        out.extend(turn.reads.into_iter().map(|read| Effect::Read(shard, read)));
        for (to, message) in turn.messages {
            running.pass(to, message, out);
        }
        for (ticket, reply) in turn.replies {
            running.on_reply(now, ticket, reply, &self.birth, out);
        }
        self.drive(now, out);
    }

    /// The first frame of this node on a link.
    pub(super) fn greeting(&self) -> Option<Bytes> {
        let hello = self.running.as_ref()?.cluster.hello();
        Some(encode(&Frame::Hello(Greeting::new(Link::Control, hello))))
    }

    /// Whether this node talks to the one that greeted it so; else why not, as a frame.
    pub(super) fn admit(
        &mut self,
        now: Now,
        hello: &Hello,
        dialed: Option<String>,
        out: &mut Vec<Effect>,
    ) -> Result<(), cluster::Refusal> {
        let Some(running) = &mut self.running else {
            let text = String::from("the node is still reading its log");
            return Err(cluster::Refusal { code: String::from("starting"), text });
        };
        let admitted = running.cluster.admit(hello);
        if admitted.is_err() {
            let input = cluster::Input::NotAdmitted { hello: hello.clone(), dialed };
            running.control(now, input, &mut self.log, out);
            self.drive(now, out);
        }
        admitted
    }

    /// Something happened to the links.
    pub(super) fn on_control(&mut self, now: Now, input: cluster::Input, out: &mut Vec<Effect>) {
        if let Some(running) = &mut self.running {
            running.control(now, input, &mut self.log, out);
            self.drive(now, out);
        }
    }

    /// Bytes of another node. `false` = they are not frames, and the link must be closed.
    pub(super) fn on_frame(
        &mut self,
        now: Now,
        from: NodeId,
        bytes: Bytes,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(running) = &mut self.running else { return true };
        let mut buffer = BytesMut::from(bytes);
        match peer::decode(&mut buffer) {
            Ok(Some(Frame::Cluster(message))) => {
                running.control(now, cluster::Input::Peer { from, message }, &mut self.log, out);
                self.drive(now, out);
                true
            }
            Ok(Some(Frame::Shard(message))) => running.deliver(from, message, out),
            Ok(Some(Frame::Hello(_) | Frame::HelloAck(_) | Frame::Refusal(_)) | None) | Err(_) => {
                false
            }
        }
    }

    /// Bytes of a client. Answers follow as effects, in order.
    pub(super) fn on_client(
        &mut self,
        now: Now,
        client: usize,
        bytes: &[u8],
        out: &mut Vec<Effect>,
    ) {
        let value_bytes_max = self.birth.config.value_bytes_max;
        let Some(running) = &mut self.running else { return };
        let guest = running.guests.entry(client).or_insert_with(|| Guest {
            connection: Connection::new(value_bytes_max),
            buffer: BytesMut::new(),
            calls: VecDeque::new(),
        });
        guest.buffer.extend_from_slice(bytes);
        while let Some(call) = guest.connection.decode(now.mono, &mut guest.buffer) {
            guest.calls.push_back((running.next_call, call));
            running.next_call += 1;
        }
        running.ask(client, out);
        running.flush(now, client, &self.birth, out);
    }

    /// A client's connection is gone.
    pub(super) fn on_hangup(&mut self, client: usize) {
        if let Some(running) = &mut self.running {
            running.guests.remove(&client);
        }
    }

    /// Whether the log has said of the epoch of this start, its first record, that it is durable.
    pub(super) fn is_epoch_durable(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.control_durable > Seq(0))
    }

    /// Number of its shards.
    #[cfg(test)]
    pub(super) fn shards(&self) -> usize {
        usize::from(self.birth.shards)
    }

    /// The cluster as this node sees it.
    pub(super) fn view(&self) -> Option<&Arc<View>> {
        self.running.as_ref()?.view.as_ref()
    }

    /// Lets the log go on, and passes on what it has to say.
    fn drive(&mut self, now: Now, out: &mut Vec<Effect>) {
        loop {
            self.log.pump(now, &mut Port(out));
            let events = self.log.take_events();
            if events.is_empty() {
                return;
            }
            for event in events {
                self.on_event(now, event, out);
            }
        }
    }

    fn on_event(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Recovered(found) => self.run(now, *found, out),
            Event::Note { shard, note } => {
                let running = self.running.as_mut().expect("notes follow the recovery");
                let lane = &mut running.lanes[usize::from(shard.0)];
                lane.worker.on_note(note);
                if lane.worker.durable() > lane.durable {
                    lane.durable = lane.worker.durable();
                    out.push(Effect::Durable(shard.0, lane.durable));
                }
                out.push(Effect::Turn(shard.0));
            }
            Event::ControlDurable { upto } => {
                let running = self.running.as_mut().expect("records follow the recovery");
                running.on_control_durable(now, upto, &mut self.log, out);
            }
            Event::Notice(_) => {}
            Event::Fatal(error) => out.push(Effect::Ended(error.to_string())),
        }
    }

    fn run(&mut self, now: Now, found: crate::store::Recovered, out: &mut Vec<Effect>) {
        let birth = &self.birth;
        if !found.damage.slots.is_empty() {
            let text = String::from("what this node promised its cluster is damaged");
            return out.push(Effect::Ended(text));
        }
        let rebuilding = found.damage.unnamed || !found.damage.partitions.is_empty();
        let is_whole = found.damage.is_none();
        let cluster = match Cluster::new(birth.settings.clone(), &found.control, now) {
            Ok(cluster) => cluster,
            Err(refusal) => return out.push(Effect::Ended(refusal.to_string())),
        };
        if is_whole {
            let (decision, ballot) = cluster.promised();
            out.push(Effect::Recalled(decision, ballot));
        }
        let clocks = found.shards.iter().flat_map(|shard| shard.clocks.clone()).collect();
        let lanes = (0..).zip(found.shards).map(|(shard, recovered)| {
            let config = ShardConfig {
                shard: ShardId(shard),
                shards: birth.shards,
                seed: birth.seed ^ u64::from(shard),
                recovered: crate::shard::Recovered {
                    clocks: recovered.clocks,
                    rebuilding,
                    hlc: found.hlc,
                    stamps: recovered.stamps,
                    expiring: recovered.expiring,
                    refused: recovered.refused,
                    is_complete: recovered.is_complete,
                },
            };
            let worker = Worker::new(Shard::new(config), recovered.store).observed();
            Lane { worker, inbox: VecDeque::new(), durable: Seq(0) }
        });
        let mut running = Running {
            cluster,
            control_due: None,
            output: cluster::Output::default(),
            held: HeldBack::default(),
            control_durable: Seq(0),
            lanes: lanes.collect(),
            view: None,
            me: birth.settings.node(),
            guests: BTreeMap::new(),
            next_call: 0,
            questions: Questions::default(),
            write_seq: Facts::first_write_seq(now.unix_ms),
            gauges: Gauges::default(),
            started_unix_ms: now.unix_ms,
        };
        out.push(Effect::Recovered(Box::new(found.damage), clocks));
        running.control(now, cluster::Input::Tick, &mut self.log, out);
        self.running = Some(running);
    }
}

impl Running {
    /// One step of the control plane, and all that comes of it.
    fn control(&mut self, now: Now, input: cluster::Input, log: &mut Log, out: &mut Vec<Effect>) {
        self.cluster.step(now, input, &mut self.output);
        self.control_due = self.cluster.deadline();
        for (seq, record) in self.output.records.drain(..) {
            log.hand_control(seq, record);
        }
        let mut ready = Vec::new();
        for (seq, node, message) in self.output.messages.drain(..) {
            self.held.add(seq, self.control_durable, (node, message), &mut ready);
        }
        send_control(ready, out);
        self.output.notices.clear();
        out.extend(self.output.reset.drain(..).map(Effect::Close));
        if let Some(addrs) = self.output.dial.take() {
            out.push(Effect::Dial(addrs));
        }
        if let Some(view) = self.output.view.take() {
            if let cluster::Phase::Refused(text) = &view.phase {
                out.push(Effect::Ended(text.clone()));
            }
            for (shard, lane) in (0..).zip(&mut self.lanes) {
                lane.inbox.push_back(Input::View(Arc::clone(&view)));
                out.push(Effect::Turn(shard));
            }
            self.view = Some(view);
        }
    }

    fn on_control_durable(&mut self, now: Now, upto: Seq, log: &mut Log, out: &mut Vec<Effect>) {
        self.control_durable = upto;
        let mut ready = Vec::new();
        self.held.release(upto, &mut ready);
        send_control(ready, out);
        self.control(now, cluster::Input::Durable { upto }, log, out);
    }

    /// Passes a message on: to another shard of this node, or to another node.
    fn pass(&mut self, to: NodeId, message: Message, out: &mut Vec<Effect>) {
        if to == self.me {
            self.deliver(to, message, out);
        } else {
            let statements = self.questions.statements(to, &message);
            out.extend(statements.into_iter().map(|said| Effect::States(Box::new(said))));
            out.push(Effect::Send(to, encode(&Frame::Shard(message))));
        }
    }

    /// Hands a message to the shard that it is for. `false` = there is no such shard.
    fn deliver(&mut self, from: NodeId, message: Message, out: &mut Vec<Effect>) -> bool {
        let shards = u16::try_from(self.lanes.len()).expect("a node has at most 64 shards");
        let shard = match message.route() {
            Route::Partition(partition) => partition.0 % shards,
            Route::Shard(shard) => shard.0,
        };
        let Some(lane) = self.lanes.get_mut(usize::from(shard)) else { return false };
        self.questions.note(from, &message);
        lane.inbox.push_back(Input::Peer { from, message });
        out.push(Effect::Turn(shard));
        true
    }

    /// Hands the requests of a client to its shard.
    fn ask(&mut self, client: usize, out: &mut Vec<Effect>) {
        let Some(guest) = self.guests.get_mut(&client) else { return };
        let shard = client % self.lanes.len();
        for (number, call) in &mut guest.calls {
            while let Some((slot, request)) = call.next_request() {
                let ticket = ticket(client, *number, slot);
                self.lanes[shard].inbox.push_back(Input::Client { ticket, request });
                out.push(Effect::Turn(u16::try_from(shard).expect("at most 64 shards")));
            }
        }
    }

    fn on_reply(
        &mut self,
        now: Now,
        ticket: Ticket,
        reply: crate::api::Reply,
        birth: &Birth,
        out: &mut Vec<Effect>,
    ) {
        let (client, number, slot) = unticket(ticket);
        let Some(guest) = self.guests.get_mut(&client) else { return };
        let call = guest.calls.iter_mut().find(|(other, _)| *other == number);
        let Some((_, call)) = call else { return };
        call.on_reply(slot, reply, now.unix_ms);
        self.ask(client, out);
        self.flush(now, client, birth, out);
    }

    /// Answers the calls of a client that are ready, in order.
    fn flush(&mut self, now: Now, client: usize, birth: &Birth, out: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        let Some(guest) = self.guests.get_mut(&client) else { return };
        let mut bytes = BytesMut::new();
        while guest.calls.front().is_some_and(|(_, call)| call.is_ready()) {
            let (_, call) = guest.calls.pop_front().expect("there is a first call");
            let facts = Facts {
                now,
                view,
                config: &birth.config,
                host: "127.0.0.1",
                port: 6379,
                cluster_port: 7379,
                started_unix_ms: self.started_unix_ms,
                connection: client as u64 + 1,
                connections: 1,
                shards: birth.shards,
                detours: 0,
                debug_writes: &AtomicU64::new(0),
                write_seq: &self.write_seq,
                gauges: &self.gauges,
            };
            guest.connection.encode(call, &facts, &mut bytes);
        }
        if !bytes.is_empty() {
            out.push(Effect::Answer(client, bytes.freeze()));
        }
    }
}

fn send_control(ready: Vec<(NodeId, cluster::Message)>, out: &mut Vec<Effect>) {
    for (node, message) in ready {
        if let cluster::Message::PaxPromise { instance, ballot, .. } = message {
            out.push(Effect::Promised(instance, ballot));
        }
        out.push(Effect::Send(node, encode(&Frame::Cluster(message))));
    }
}

fn encode(frame: &Frame) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FRAME_BYTES);
    peer::encode(frame, &mut bytes).expect("no message of a simulation is longer than a frame");
    bytes.freeze()
}

/// Client, call and slot of a request in one number.
fn ticket(client: usize, call: u64, slot: u32) -> Ticket {
    Ticket((client as u64) << 52 | (call & 0xf_ffff_ffff) << 16 | u64::from(slot & 0xffff))
}

fn unticket(ticket: Ticket) -> (usize, u64, u32) {
    let slot = u32::try_from(ticket.0 & 0xffff).expect("16 bits");
    let client = usize::try_from(ticket.0 >> 52).expect("12 bits");
    (client, (ticket.0 >> 16) & 0xf_ffff_ffff, slot)
}

/// The place of the machine that a simulated address names.
pub(super) fn place_of(addr: &str) -> Option<Place> {
    addr.strip_prefix('n')?.split(':').next()?.parse::<usize>().ok()?.checked_sub(1)
}
