//! The control thread: the control plane, the listeners, and the links to other nodes.
//!
//! Nothing here waits for a shard, so a busy shard cannot delay a heartbeat. Messages of the
//! control plane leave only when the records that they rest on are durable.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use bytes::BytesMut;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Duration, interval, sleep};

use super::bug;
use super::greeting;
use super::links::{Link, Peers};
use super::origin::Origin;
use super::shard_thread::Mail;
use super::shared::{Shared, Stage};
use super::strangers::Strangers;
use super::turned_away::Desk;
use super::unsent;
use super::{Failure, StartError};
use crate::causality::NodeId;
use crate::cluster::{Claim, Cluster, Input, Message, Output, Phase, Severity};
use crate::limits::STRANGERS_MAX;
use crate::shard::Seq;
use crate::turn::HeldBack;
use crate::wire::peer::{self, Frame};

/// Connections that the kernel keeps for a listener until they are accepted.
const BACKLOG: u32 = 1_024;
/// Wait before the first redial, in milliseconds; it doubles up to the most.
const REDIAL_MS_MIN: u64 = 50;
/// Longest wait between two dials of an address, in milliseconds.
const REDIAL_MS_MAX: u64 = 1_000;
/// Pause after a failed accept, in milliseconds: the usual cause is a lack of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Pause between two looks at whether the last messages have left, in milliseconds.
const FLUSH_PAUSE_MS: u64 = 5;

/// What other threads tell the control thread.
#[derive(Debug)]
pub(crate) enum ControlMail {
    /// Another control plane speaks.
    Messages(NodeId, Vec<Message>),
    /// A link ended.
    LinkClosed { link: Arc<Link>, reason: String },
    /// Records are on stable storage.
    Durable(Seq),
}

/// Where the node listens, before it does.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) clients: TcpSocket,
    pub(crate) peers: TcpSocket,
}

/// The state of the control thread; its tasks share it.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    cluster: RefCell<Cluster>,
    output: RefCell<Output>,
    held: RefCell<HeldBack<(NodeId, Message)>>,
    durable: Cell<Seq>,
    dials: RefCell<BTreeMap<String, JoinHandle<()>>>,
    random: RefCell<Xoshiro256PlusPlus>,
    links_made: Cell<u64>,
    /// Rings when a link came or went.
    pub(super) links_changed: Notify,
    /// Rings when a step may have moved the deadline.
    stepped: Notify,
}

/// What the control thread starts with.
pub(crate) struct Plane {
    pub(crate) cluster: Cluster,
    pub(crate) sockets: Sockets,
    /// Seed of the jitter between dials.
    pub(crate) seed: u64,
    /// Hears once whether the node listens.
    pub(crate) started: Sender<Result<(), StartError>>,
    /// Hears once that the other nodes were told of the end.
    pub(crate) told: Sender<()>,
}

/// Runs the control plane until the node ends. Blocks.
pub(crate) fn run(shared: &Arc<Shared>, plane: Plane) -> io::Result<()> {
    let Plane { cluster, sockets, seed, started, told } = plane;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let control = Rc::new(Control {
        shared: Arc::clone(shared),
        cluster: RefCell::new(cluster),
        output: RefCell::default(),
        held: RefCell::default(),
        durable: Cell::new(Seq(0)),
        dials: RefCell::default(),
        random: RefCell::new(Xoshiro256PlusPlus::seed_from_u64(seed)),
        links_made: Cell::new(0),
        links_changed: Notify::new(),
        stepped: Notify::new(),
    });
    LocalSet::new().block_on(&runtime, async {
        let listeners = sockets.listen(shared);
        let (clients, peers) = match listeners {
            Ok(listeners) => listeners,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        control.step(Input::Tick);
        let _ = started.send(Ok(()));
        bug::spawn(shared, "stopping", stop(Rc::clone(&control), told));
        bug::spawn(shared, "the control plane", read_mail(Rc::clone(&control)));
        bug::spawn(shared, "the control plane", keep_time(Rc::clone(&control)));
        bug::spawn(shared, "the warnings", warn_each_minute(Arc::clone(shared)));
        bug::spawn(shared, "accepting clients", accept_clients(Arc::clone(shared), clients));
        bug::spawn(shared, "accepting nodes", accept_peers(control, peers));
        shared.stage_reached(Stage::Ended).await;
    });
    Ok(())
}

impl Sockets {
    fn listen(self, shared: &Shared) -> Result<(TcpListener, TcpListener), StartError> {
        let clients = self.clients.listen(BACKLOG).map_err(|source| StartError::Listen {
            whom: "clients",
            addr: shared.client_addr,
            source,
        })?;
        let peers = self.peers.listen(BACKLOG).map_err(|source| StartError::Listen {
            whom: "other nodes",
            addr: shared.cluster_addr,
            source,
        })?;
        Ok((clients, peers))
    }
}

async fn read_mail(control: Rc<Control>) {
    let mut letters = Vec::new();
    loop {
        control.shared.control.take(&mut letters);
        for letter in letters.drain(..) {
            match letter {
                ControlMail::Messages(from, messages) => {
                    for message in messages {
                        control.step(Input::Peer { from, message });
                    }
                }
                ControlMail::LinkClosed { link, reason } => control.on_link_closed(&link, &reason),
                ControlMail::Durable(upto) => control.on_durable(upto),
            }
        }
        control.shared.control.rung().await;
    }
}

async fn keep_time(control: Rc<Control>) {
    let clock = control.shared.clock;
    let mut timer = pin!(sleep(Duration::ZERO));
    loop {
        let deadline = control.cluster.borrow().deadline();
        if let Some(at) = deadline {
            timer.as_mut().reset(clock.instant(at));
        }
        tokio::select! {
            biased;
            () = &mut timer, if deadline.is_some() => control.step(Input::Tick),
            () = control.stepped.notified() => {}
        }
    }
}

/// Tells the others once the node is stopping.
async fn stop(control: Rc<Control>, told: Sender<()>) {
    control.shared.stage_reached(Stage::Draining).await;
    control.step(Input::Stop);
    while !control.shared.peers.are_flushed() {
        sleep(Duration::from_millis(FLUSH_PAUSE_MS)).await;
    }
    // Nobody waits any more where the patience was over.
    let _ = told.send(());
}

/// Tells the operator, at the start and each minute, what is not protected and who was refused.
async fn warn_each_minute(shared: Arc<Shared>) {
    let mut minutes = interval(Duration::from_mins(1));
    let (mut told, mut told_pushed_out) = (0, 0);
    loop {
        minutes.tick().await;
        for warning in shared.exposure.warnings() {
            tracing::warn!(node = %shared.name, "{warning}");
        }
        let strangers = shared.metrics.strangers.count();
        if strangers > told {
            let count = strangers - told;
            tracing::warn!(
                node = %shared.name,
                "{count} connections to the port for nodes did not prove the cluster secret"
            );
            told = strangers;
        }
        let pushed_out = shared.metrics.strangers_pushed_out.count();
        if pushed_out > told_pushed_out {
            let count = pushed_out - told_pushed_out;
            tracing::warn!(
                node = %shared.name,
                "{count} connections to the port for nodes were closed before they had said who \
                 they are: more than {STRANGERS_MAX} waited"
            );
            told_pushed_out = pushed_out;
        }
    }
}

async fn accept_clients(shared: Arc<Shared>, listener: TcpListener) {
    let mut connection = 0;
    let desk = Desk::default();
    let stopping = shared.stage_reached(Stage::Draining);
    let accepting = async {
        loop {
            let (stream, addr) = accept(&listener).await;
            let place = match shared.guests.enter(Origin::of(addr.ip())) {
                Ok(place) => place,
                Err(reason) => {
                    shared.metrics.connections_refused.increment();
                    if let Some(refusal) = desk.refusal(stream, reason) {
                        bug::spawn(&shared, "a refusal", refusal);
                    }
                    continue;
                }
            };
            let bounded = stream.into_std().and_then(|stream| {
                unsent::bound(&stream)?;
                Ok(stream)
            });
            match bounded {
                Ok(stream) => {
                    connection += 1;
                    shared.metrics.connections.increment();
                    let mailbox = &shared.shards[usize::from(shared.lightest().0)];
                    mailbox.post(Mail::Client { stream, connection, place }, 0);
                }
                Err(_) => shared.guests.leave(place),
            }
        }
    };
    tokio::select! {
        biased;
        () = stopping => {}
        () = accepting => {}
    }
}

async fn accept_peers(control: Rc<Control>, listener: TcpListener) {
    let strangers = Rc::new(Strangers::default());
    loop {
        let (stream, addr) = accept(&listener).await;
        let (stranger, has_pushed) = strangers.enter(Origin::of(addr.ip()));
        if has_pushed {
            control.shared.metrics.strangers_pushed_out.increment();
        }
        let greeting = greeting::answer(Rc::clone(&control), stream);
        bug::spawn(&control.shared, "a greeting", async move {
            tokio::select! {
                biased;
                () = stranger.pushed_out() => {}
                () = greeting => {}
            }
        });
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => {
                if stream.set_nodelay(true).is_ok() {
                    return (stream, addr);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

impl Control {
    /// One step of the control plane, and everything that comes of it.
    pub(super) fn step(self: &Rc<Self>, input: Input) {
        let mut output = self.output.borrow_mut();
        let now = self.shared.clock.now();
        self.cluster.borrow_mut().step(now, input, &mut output);
        if !output.records.is_empty() {
            self.shared.log.put_control(std::mem::take(&mut output.records));
        }
        let mut ready = Vec::new();
        for (seq, node, message) in output.messages.drain(..) {
            self.held.borrow_mut().add(seq, self.durable.get(), (node, message), &mut ready);
        }
        self.send(ready);
        for (severity, text) in output.notices.drain(..) {
            match severity {
                Severity::Info => tracing::info!(node = %self.shared.name, "{text}"),
                Severity::Warning => tracing::warn!(node = %self.shared.name, "{text}"),
            }
        }
        for node in output.reset.drain(..) {
            if let Some(link) = self.shared.peers.control(node) {
                link.close();
            }
        }
        if let Some(addrs) = output.dial.take() {
            self.dial(addrs);
        }
        if let Some(view) = output.view.take() {
            if let Phase::Refused(text) = &view.phase {
                self.shared.fail(Failure { text: text.clone(), exit_code: 1 });
            }
            for mailbox in &self.shared.shards {
                mailbox.post(Mail::View(Arc::clone(&view)), 0);
            }
            self.shared.view.send_replace(view);
        }
        drop(output);
        self.stepped.notify_one();
    }

    /// What this node says first on a link.
    pub(super) fn hello(&self) -> crate::cluster::Hello {
        self.cluster.borrow().hello()
    }

    /// Who this node says it is where it proves the secret.
    pub(super) fn claim(&self) -> Claim {
        let hello = self.hello();
        Claim { node: hello.node, cluster: hello.cluster }
    }

    /// Whether the control plane talks to the one that said `hello`.
    pub(super) fn admit(
        &self,
        hello: &crate::cluster::Hello,
    ) -> Result<(), crate::cluster::Refusal> {
        self.cluster.borrow().admit(hello)
    }

    /// The number of a new link.
    pub(super) fn next_link(&self) -> u64 {
        self.links_made.replace(self.links_made.get() + 1)
    }

    fn on_durable(self: &Rc<Self>, upto: Seq) {
        self.durable.set(upto);
        let mut ready = Vec::new();
        self.held.borrow_mut().release(upto, &mut ready);
        self.send(ready);
        self.step(Input::Durable { upto });
    }

    fn send(&self, messages: Vec<(NodeId, Message)>) {
        for (node, message) in messages {
            let mut bytes = BytesMut::new();
            let sent = match peer::encode(&Frame::Cluster(message), &mut bytes) {
                Ok(()) => {
                    let link = self.shared.peers.control(node);
                    link.is_some_and(|link| link.push(bytes.freeze()))
                }
                Err(error) => {
                    tracing::error!(%error, "a message of the control plane was dropped");
                    false
                }
            };
            if !sent {
                self.shared.metrics.messages_dropped.increment();
            }
        }
    }

    fn on_link_closed(self: &Rc<Self>, link: &Arc<Link>, reason: &str) {
        let was_control = self.shared.peers.remove(link);
        self.links_changed.notify_waiters();
        if was_control {
            tracing::info!(
                node = %self.shared.name, peer = %link.name, reason, "the link is down"
            );
            self.step(Input::LinkDown { node: link.node });
        }
    }

    fn dial(self: &Rc<Self>, addrs: BTreeSet<String>) {
        let mut dials = self.dials.borrow_mut();
        dials.retain(|addr, task| {
            let wanted = addrs.contains(addr);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for addr in addrs {
            dials.entry(addr.clone()).or_insert_with(|| {
                bug::spawn(&self.shared, "a dial", redial(Rc::clone(self), addr))
            });
        }
    }
}

/// Keeps a link to whoever answers at `addr`.
async fn redial(control: Rc<Control>, addr: String) {
    let mut wait_ms = REDIAL_MS_MIN;
    let mut known = None;
    loop {
        if let Some(node) = known {
            control.until_unlinked(node).await;
        }
        match greeting::dial(&control, &addr).await {
            Ok(node) => {
                known = Some(node);
                wait_ms = REDIAL_MS_MIN;
            }
            Err(reason) => control.step(Input::DialFailed { addr: addr.clone(), reason }),
        }
        control.pause(wait_ms).await;
        wait_ms = (wait_ms * 2).min(REDIAL_MS_MAX);
    }
}

impl Control {
    /// Waits until there is no control link to a node.
    async fn until_unlinked(&self, node: NodeId) {
        self.until_links(|peers| peers.control(node).is_none()).await;
    }

    /// Waits until a link is closed.
    pub(super) async fn until_closed(&self, link: &Link) {
        self.until_links(|_| link.is_closed()).await;
    }

    /// The pause before the first redial.
    pub(super) async fn pause_briefly(&self) {
        self.pause(REDIAL_MS_MIN).await;
    }

    /// Waits between half of that time and one and a half times of it, so that nodes that lost one
    /// another at one time do not dial at one time.
    async fn pause(&self, ms: u64) {
        let jitter = self.random.borrow_mut().random_range(0..=ms);
        sleep(Duration::from_millis(ms / 2 + jitter)).await;
    }

    async fn until_links(&self, are: impl Fn(&Peers) -> bool) {
        loop {
            let mut changed = pin!(self.links_changed.notified());
            changed.as_mut().enable();
            if are(&self.shared.peers) {
                return;
            }
            changed.await;
        }
    }
}
