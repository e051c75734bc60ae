//! One shard thread: its client connections, its worker, and what goes between them.
//!
//! Everything here runs on one thread and one runtime, so nothing is locked. Connections put
//! requests into the inbox; the worker task takes what waits, runs one turn, and hands out what
//! the turn made: the batch to the log thread first, because everybody waits for the disk, then
//! messages, then replies, which are written to their sockets at once, one system call for each
//! connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::{LocalSet, yield_now};

use super::bug;
use super::client::{Client, Interest};
use super::files::DiskResult;
use super::guests::Place;
use super::links::{self, Seat as LinkSeat};
use super::patience::Watch;
use super::readers::bytes_of;
use super::shared::{Shared, Stage};
use super::sweep::sweep;
use crate::api::{Fault, Op, Reply, Request};
use crate::causality::NodeId;
use crate::cluster::View;
use crate::limits::{INBOX_BYTES_MAX, INBOX_INPUTS_MAX, PRESSED_READ_BYTES, TURN_INPUTS_MAX};
use crate::shard::message::Route;
use crate::shard::{Input, Message, ShardId, Ticket};
use crate::store::{DiskDone, LogNote, ReadId, ReadRequest};
use crate::time::Now;
use crate::turn::{Turn, Worker};
use crate::wire::{self, Facts};

/// Bytes that one read of a socket takes at most.
const READ_BYTES: usize = 64 * 1024;

/// Buffers full of answers that one connection is given before others have their turn.
const SETTLE_ROUNDS: u32 = 4;

/// When a read may be asked again that found no memory for its answer, in milliseconds.
const PRESSED_RETRY_MS: u32 = 1_000;

/// What other threads tell a shard thread.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Other shards speak, of this node or of others.
    Messages(Vec<(NodeId, Message)>),
    /// The log thread did something for this shard.
    Logged(LogNote),
    /// A reader fetched a record.
    Fetched(ReadId, DiskResult),
    /// The control plane published a view.
    View(Arc<View>),
    /// A client connected.
    Client { stream: std::net::TcpStream, connection: u64, place: Place },
    /// A data link to another node is to be served here.
    Link(LinkSeat),
}

/// The thread's side of everything but the worker.
pub(super) struct Shell {
    pub(super) shared: Arc<Shared>,
    id: ShardId,
    view: RefCell<Arc<View>>,
    inbox: RefCell<VecDeque<Input>>,
    inbox_bytes: Cell<usize>,
    seats: RefCell<Seats>,
    /// Connections that can go on, and wait for room in the inbox or for their turn.
    stalled: RefCell<Vec<u32>>,
    /// Connections that a turn has replies for; kept for its room.
    touched: RefCell<Vec<u32>>,
    scratch: RefCell<Box<[u8]>>,
    /// Bytes that all clients of this thread keep, and how many they may.
    kept: Cell<usize>,
    kept_max: usize,
}

/// One client.
pub(super) struct Guest {
    connection: u64,
    place: Place,
    writer: OwnedWriteHalf,
    pub(super) client: RefCell<Client>,
    interest: Cell<Interest>,
    /// What is remembered of it from look to look.
    pub(super) watch: RefCell<Watch>,
    /// Bytes that it keeps, of those of the thread.
    pub(super) kept: Cell<usize>,
    /// It was not read from because memory was short.
    pub(super) is_held_back: Cell<bool>,
    /// Nothing can be told to it any more: its socket failed, or it took too long.
    pub(super) broken: Cell<bool>,
    /// It is on a list of those to be settled.
    listed: Cell<bool>,
    pub(super) bell: Notify,
}

/// The clients of this thread by number. A free seat remembers its next request number.
#[derive(Default)]
struct Seats {
    seats: Vec<(Option<Rc<Guest>>, u32)>,
    free: Vec<u32>,
}

/// Runs one shard until the node ends. Blocks.
pub(crate) fn run(shared: &Arc<Shared>, id: ShardId, worker: Worker) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shell = Rc::new(Shell {
        shared: Arc::clone(shared),
        id,
        view: RefCell::new(shared.view.borrow().clone()),
        inbox: RefCell::default(),
        inbox_bytes: Cell::new(0),
        seats: RefCell::default(),
        stalled: RefCell::default(),
        touched: RefCell::default(),
        scratch: RefCell::new(vec![0; READ_BYTES].into()),
        kept: Cell::new(0),
        kept_max: shared.memory.budget.clients / shared.shards.len(),
    });
    let ended = Arc::clone(shared);
    LocalSet::new().block_on(&runtime, async {
        // Tasks of their own: what stands here is polled whenever any task of the thread is.
        bug::spawn(&ended, "the draining of a shard", drain(Rc::clone(&shell)));
        bug::spawn(&ended, "the look at connections", sweep(Rc::clone(&shell)));
        bug::spawn(&ended, "a shard", work(shell, worker));
        ended.stage_reached(Stage::Ended).await;
    });
    Ok(())
}

/// Asks nothing more of the clients once the node is stopping.
async fn drain(shell: Rc<Shell>) {
    shell.shared.stage_reached(Stage::Draining).await;
    for (_, guest) in shell.guests() {
        guest.client.borrow_mut().close();
        guest.interest.set(guest.client.borrow().interest());
        guest.bell.notify_one();
    }
}

/// Turn after turn.
async fn work(shell: Rc<Shell>, mut worker: Worker) {
    let clock = shell.shared.clock;
    let mailbox = &shell.shared.shards[usize::from(shell.id.0)];
    let mut letters = Vec::new();
    let mut taken = VecDeque::new();
    let mut turn = Turn::default();
    let mut timer = pin!(tokio::time::sleep_until(clock.instant(clock.mono())));
    loop {
        // A full inbox leaves letters where they are, which stops those who write many.
        if shell.has_room() {
            mailbox.take(&mut letters);
        }
        for letter in letters.drain(..) {
            shell.open(letter, &mut worker);
        }
        shell.take_inputs(&mut taken);
        shell.shared.metrics.turns.increment();
        shell.shared.metrics.inputs.add(taken.len() as u64);
        let now = clock.now();
        worker.turn(now, &mut taken, &mut turn);
        shell.shared.memory.set(shell.id, worker.memory_bytes(), shell.kept.get());
        shell.deliver(now, &mut turn);
        shell.fetch(&mut worker, &mut turn.reads);
        shell.resume(now);
        if worker.has_work() || shell.has_work() {
            yield_now().await;
            continue;
        }
        let deadline = worker.deadline();
        if let Some(at) = deadline.map(|at| clock.instant(at))
            && timer.deadline() != at
        {
            timer.as_mut().reset(at);
        }
        tokio::select! {
            biased;
            () = mailbox.rung() => {}
            () = &mut timer, if deadline.is_some() => {}
        }
    }
}

impl Shell {
    fn open(self: &Rc<Self>, letter: Mail, worker: &mut Worker) {
        match letter {
            Mail::Messages(messages) => {
                let mut inbox = self.inbox.borrow_mut();
                inbox.extend(
                    messages.into_iter().map(|(from, message)| Input::Peer { from, message }),
                );
            }
            Mail::Logged(note) => worker.on_note(note),
            Mail::Fetched(id, result) => {
                self.shared.readers.taken(self.id, bytes_of(&result));
                worker.on_read(id, result);
            }
            Mail::View(view) => {
                *self.view.borrow_mut() = Arc::clone(&view);
                self.inbox.borrow_mut().push_back(Input::View(view));
            }
            Mail::Client { stream, connection, place } => {
                self.welcome(stream, connection, place);
            }
            Mail::Link(seat) => {
                let shared = Arc::clone(&self.shared);
                bug::spawn(&self.shared, "a data link", links::serve(shared, seat));
            }
        }
    }

    /// Moves the inputs of one turn out of the inbox.
    fn take_inputs(&self, taken: &mut VecDeque<Input>) {
        let mut inbox = self.inbox.borrow_mut();
        let count = inbox.len().min(TURN_INPUTS_MAX);
        let mut bytes = self.inbox_bytes.get();
        taken.extend(inbox.drain(..count).inspect(|input| bytes -= input_bytes(input)));
        self.inbox_bytes.set(bytes);
    }

    fn has_work(&self) -> bool {
        !self.inbox.borrow().is_empty() || !self.stalled.borrow().is_empty()
    }

    fn has_room(&self) -> bool {
        self.inbox.borrow().len() < INBOX_INPUTS_MAX && self.inbox_bytes.get() < INBOX_BYTES_MAX
    }

    /// Puts a request into the inbox; returns whether there is room for another one.
    fn submit(&self, seat: u32, number: u32, request: Request) -> bool {
        if let Some(key) = request.op.key()
            && !self.view.borrow().holds(key)
        {
            self.shared.metrics.detours.increment();
        }
        let ticket = Ticket(u64::from(seat) << 32 | u64::from(number));
        let input = Input::Client { ticket, request };
        self.inbox_bytes.set(self.inbox_bytes.get() + input_bytes(&input));
        let first = {
            let mut inbox = self.inbox.borrow_mut();
            inbox.push_back(input);
            inbox.len() == 1
        };
        if first {
            self.shared.shards[usize::from(self.id.0)].ring();
        }
        self.has_room()
    }

    /// Gives the worker the records that can be read at once; the others are for the readers.
    fn fetch(&self, worker: &mut Worker, reads: &mut Vec<ReadRequest>) {
        for read in reads.drain(..) {
            match self.shared.readers.read_now(&read) {
                Some(bytes) => {
                    self.shared.metrics.cold_reads.increment();
                    worker.on_read(read.id, Ok(DiskDone::Bytes(bytes)));
                }
                None => self.shared.readers.read(self.id, read),
            }
        }
    }

    /// Hands out what a turn made.
    fn deliver(&self, now: Now, turn: &mut Turn) {
        if let Some(batch) = turn.batch.take() {
            self.shared.log.put(&self.shared, self.id, batch);
        }
        self.send(&mut turn.messages);
        let mut touched = self.touched.take();
        for (ticket, reply) in turn.replies.drain(..) {
            self.reply(now, ticket, reply, &mut touched);
        }
        self.settle_all(now, touched.drain(..));
        self.touched.replace(touched);
    }

    fn reply(&self, now: Now, ticket: Ticket, reply: Reply, touched: &mut Vec<u32>) {
        let seat = u32::try_from(ticket.0 >> 32).expect("half of 64 bits is 32 bits");
        let number = u32::try_from(ticket.0 & u64::from(u32::MAX)).expect("masked to 32 bits");
        let Some(guest) = self.seats.borrow().guest(seat) else { return };
        let bytes = wire::reply_bytes(&reply);
        let mut client = guest.client.borrow_mut();
        // What was expected of it is counted already.
        let more = bytes.saturating_sub(client.expected_bytes());
        if bytes > PRESSED_READ_BYTES && self.kept.get() + more > self.kept_max {
            let what = String::from("memory for answers that clients have not read");
            let fault = Fault::Overloaded { what, retry_after_ms: PRESSED_RETRY_MS };
            client.on_reply(number, Reply::Fault(fault), now.unix_ms);
            client.on_out_of_memory(bytes);
        } else {
            client.on_reply(number, reply, now.unix_ms);
        }
        drop(client);
        self.count_kept(&guest);
        if !guest.listed.replace(true) {
            touched.push(seat);
        }
    }

    /// Whether memory for what clients keep is short: half of it is for answers on their way.
    pub(super) fn is_pressed(&self) -> bool {
        self.kept.get() > self.kept_max / 2
    }

    /// Brings the count of what a client keeps up to date.
    fn count_kept(&self, guest: &Guest) {
        let kept = guest.client.borrow().kept_bytes();
        self.kept.set(self.kept.get() - guest.kept.replace(kept) + kept);
    }

    /// A client is about to go, and what it keeps with it.
    pub(super) fn forget_kept(&self, guest: &Guest) {
        self.kept.set(self.kept.get() - guest.kept.take());
    }

    /// All clients of this thread.
    fn guests(&self) -> Vec<(u32, Rc<Guest>)> {
        self.seats.borrow().guests(0..usize::MAX).collect()
    }

    /// Seats of this thread, free ones too.
    pub(super) fn seats(&self) -> usize {
        self.seats.borrow().seats.len()
    }

    /// The clients in `count` seats from `first` on. Many thousands at once would take so long
    /// that others notice.
    pub(super) fn guests_from(&self, first: usize, count: usize) -> Vec<(u32, Rc<Guest>)> {
        self.seats.borrow().guests(first..first + count).collect()
    }

    /// Bytes that may be read from a client now; 0 = it waits until memory is free.
    fn read_bytes(&self, guest: &Guest) -> usize {
        let is_pressed = self.is_pressed();
        let is_held_back = is_pressed && guest.kept.get() > PRESSED_READ_BYTES;
        if is_held_back {
            guest.is_held_back.set(true);
        }
        match (is_pressed, is_held_back) {
            (false, _) => READ_BYTES,
            (true, false) => PRESSED_READ_BYTES,
            (true, true) => 0,
        }
    }

    fn settle_all(&self, now: Now, seats: impl IntoIterator<Item = u32>) {
        for seat in seats {
            let Some(guest) = self.seats.borrow().guest(seat) else { continue };
            guest.listed.set(false);
            let before = guest.interest.get();
            self.settle(now, seat, &guest);
            if guest.interest.get() != before || guest.broken.get() {
                guest.bell.notify_one();
            }
        }
    }

    /// Lets connections go on that wait for room or for their turn.
    fn resume(&self, now: Now) {
        if self.has_room() {
            let stalled = self.stalled.take();
            self.settle_all(now, stalled);
        }
    }

    /// Moves a connection on as far as it goes, up to its socket.
    pub(super) fn settle(&self, now: Now, seat: u32, guest: &Guest) {
        self.settle_rounds(now, seat, guest);
        self.count_kept(guest);
    }

    fn settle_rounds(&self, now: Now, seat: u32, guest: &Guest) {
        let view = self.view.borrow();
        let facts = self.facts(now, &view, guest.connection);
        let mut client = guest.client.borrow_mut();
        let shared = &self.shared;
        if shared.tokens.is_some() {
            client.deny_for(shared.failures.denied_ms(guest.place.origin, now.mono));
        }
        client.press(self.is_pressed(), self.kept.get() >= self.kept_max);
        if client.waits_for_memory() {
            guest.is_held_back.set(true);
        }
        for round in 1.. {
            client.advance(now.mono, &facts, |number, request| self.submit(seat, number, request));
            let failures = client.take_failures();
            if failures > 0 {
                shared.failures.add(guest.place.origin, failures, now.mono);
            }
            if client.flush(|bytes| guest.writer.try_write(bytes)).is_err() {
                guest.broken.set(true);
                return;
            }
            if !client.can_resume() {
                break;
            }
            // Others come first: those whose requests fill the inbox, and those who wait while a
            // client reads as fast as its answers are written.
            if round == SETTLE_ROUNDS || !self.has_room() {
                if !guest.listed.replace(true) {
                    self.stalled.borrow_mut().push(seat);
                    self.shared.shards[usize::from(self.id.0)].ring();
                }
                break;
            }
        }
        guest.interest.set(client.interest());
    }

    fn facts<'a>(&'a self, now: Now, view: &'a View, connection: u64) -> Facts<'a> {
        let shared = &self.shared;
        Facts {
            now,
            view,
            config: &shared.config,
            host: &shared.host,
            port: shared.client_addr.port(),
            cluster_port: shared.cluster_addr.port(),
            started_unix_ms: shared.started_unix_ms,
            connection,
            connections: shared.guests.count(),
            shards: shared.shard_count(),
            detours: shared.metrics.detours.count(),
            debug_writes: &shared.debug_writes,
            write_seq: &shared.write_seq,
            gauges: &shared.gauges,
        }
    }

    /// Messages for other shards of this node go into their mailboxes, those for other nodes into
    /// the queues of their links, each as one letter.
    fn send(&self, messages: &mut Vec<(NodeId, Message)>) {
        if messages.is_empty() {
            return;
        }
        let shared = &self.shared;
        let me = shared.identity.node;
        let mut local: Vec<Vec<(NodeId, Message)>> = Vec::new();
        let mut remote = links::Outgoing::default();
        for (to, message) in messages.drain(..) {
            if to == me {
                local.resize_with(shared.shards.len(), Vec::new);
                local[shared.shard_of(&message)].push((me, message));
            } else {
                remote.add(to, message);
            }
        }
        for (mailbox, letters) in shared.shards.iter().zip(local) {
            if !letters.is_empty() {
                let weight = letters.len();
                mailbox.post(Mail::Messages(letters), weight);
            }
        }
        shared.peers.send(self.id, remote, &shared.metrics);
    }

    /// Gives a new connection a seat and a task.
    fn welcome(self: &Rc<Self>, stream: std::net::TcpStream, connection: u64, place: Place) {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a client was lost while it was handed over");
                self.farewell(place);
                return;
            }
        };
        let (reader, writer) = stream.into_split();
        let (seat, first_request) = self.seats.borrow_mut().take();
        let tokens = self.shared.tokens.clone();
        let client = Client::new(self.shared.config.value_bytes_max, tokens, first_request);
        let guest = Rc::new(Guest {
            connection,
            place,
            writer,
            interest: Cell::new(client.interest()),
            client: RefCell::new(client),
            watch: RefCell::new(Watch::new(self.shared.clock.mono())),
            kept: Cell::new(0),
            is_held_back: Cell::new(false),
            broken: Cell::new(false),
            listed: Cell::new(false),
            bell: Notify::new(),
        });
        self.seats.borrow_mut().put(seat, Rc::clone(&guest));
        let task = serve(Rc::clone(self), seat, guest, reader);
        bug::spawn(&self.shared, "a client connection", task);
    }

    fn farewell(&self, place: Place) {
        self.shared.guests.leave(place);
        self.shared.load(self.id).fetch_sub(1, Ordering::Relaxed);
    }

    /// Reads once; `None` when the connection broke.
    async fn read(&self, reader: &mut OwnedReadHalf, guest: &Guest) -> Option<()> {
        poll_fn(|context| {
            let bytes = self.read_bytes(guest);
            if bytes == 0 {
                // Its bell rings when there is room.
                return Poll::Pending;
            }
            let mut scratch = self.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch[..bytes]);
            match Pin::new(&mut *reader).poll_read(context, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(_)) => Poll::Ready(None),
                Poll::Ready(Ok(())) => {
                    let mut client = guest.client.borrow_mut();
                    if buffer.filled().is_empty() {
                        client.on_end();
                    } else {
                        client.on_bytes(buffer.filled());
                    }
                    Poll::Ready(Some(()))
                }
            }
        })
        .await
    }
}

/// Serves one client until it is gone.
async fn serve(shell: Rc<Shell>, seat: u32, guest: Rc<Guest>, mut reader: OwnedReadHalf) {
    loop {
        let interest = guest.interest.get();
        if interest.done || guest.broken.get() {
            break;
        }
        tokio::select! {
            biased;
            () = guest.bell.notified() => continue,
            read = shell.read(&mut reader, &guest), if interest.read => {
                if read.is_none() {
                    break;
                }
            }
            ready = guest.writer.writable(), if interest.write => {
                if ready.is_err() {
                    break;
                }
            }
        }
        shell.settle(shell.shared.clock.now(), seat, &guest);
    }
    let next_request = guest.client.borrow().next_request();
    shell.forget_kept(&guest);
    shell.seats.borrow_mut().leave(seat, next_request);
    shell.farewell(guest.place);
}

impl Seats {
    fn guests(&self, among: Range<usize>) -> impl Iterator<Item = (u32, Rc<Guest>)> + '_ {
        let end = among.end.min(self.seats.len());
        let start = among.start.min(end);
        let guests = self.seats[start..end].iter().map(|(guest, _)| guest.clone());
        (start..end).zip(guests).filter_map(|(seat, guest)| {
            let seat = u32::try_from(seat).expect("the number of clients is bounded");
            Some((seat, guest?))
        })
    }

    fn guest(&self, seat: u32) -> Option<Rc<Guest>> {
        let index = usize::try_from(seat).ok()?;
        self.seats.get(index).and_then(|(guest, _)| guest.clone())
    }

    /// A free seat, and the number of its next request.
    fn take(&mut self) -> (u32, u32) {
        let seat = self.free.pop().unwrap_or_else(|| {
            self.seats.push((None, 0));
            u32::try_from(self.seats.len() - 1).expect("the number of clients is bounded")
        });
        (seat, self.seats[seat as usize].1)
    }

    fn put(&mut self, seat: u32, guest: Rc<Guest>) {
        self.seats[seat as usize].0 = Some(guest);
    }

    fn leave(&mut self, seat: u32, next_request: u32) {
        self.seats[seat as usize] = (None, next_request);
        self.free.push(seat);
    }
}

/// Bytes that a waiting request keeps.
fn input_bytes(input: &Input) -> usize {
    let Input::Client { request, .. } = input else { return 0 };
    match &request.op {
        Op::Put { key, value, .. } => key.bytes.len() + value.len(),
        Op::Batch { items, .. } => {
            items.iter().map(|(key, value)| key.bytes.len() + value.len()).sum()
        }
        Op::Get { key }
        | Op::Delete { key, .. }
        | Op::Outcome { key, .. }
        | Op::Explain { key } => key.bytes.len(),
        Op::Scan(_) | Op::Count { .. } | Op::Conflicts { .. } => 0,
    }
}

impl Shared {
    /// The index of the shard of this node that a message is for.
    pub(crate) fn shard_of(&self, message: &Message) -> usize {
        let count = self.shards.len();
        match message.route() {
            Route::Partition(partition) => usize::from(partition.0) % count,
            // An answer to a past life, with more shards than now, matches nothing anywhere.
            Route::Shard(shard) => usize::from(shard.0) % count,
        }
    }
}
