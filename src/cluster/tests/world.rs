//! A world of control planes for tests: virtual time, links with delay that break, disks that
//! forget what was not synced, crashes. Everything follows from one seed.
//!
//! It checks after every step what must never happen: two layouts of one epoch, a node in two
//! clusters, a layout that a restart forgot, an actor epoch that comes twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::super::{
    Cluster, ClusterId, ControlRecord, Hello, Input, Layout, LayoutHash, Message, Output, Phase,
    Refusal, Settings, View,
};
use crate::causality::{Actor, NodeId};
use crate::shard::Seq;
use crate::time::{Mono, Now};
use std::sync::Arc;

/// Unix time at which every world begins.
const BEGIN_UNIX_MS: u64 = 1_790_000_000_000;
const REDIAL_MS: u64 = 300;
/// Time after which a link over a cut is given up by both sides.
const CUT_LINK_MS: u64 = 3_000;

pub(super) struct World {
    now_us: u64,
    pub(super) rng: Xoshiro256PlusPlus,
    pub(super) nodes: Vec<Node>,
    links: BTreeMap<u64, Link>,
    queue: BTreeMap<(u64, u64), Event>,
    next: u64,
    cut: BTreeSet<(usize, usize)>,
    /// Longest delay of a message and longest sync, in microseconds.
    pub(super) delay_us_max: u64,
    pub(super) sync_us_max: u64,
    decided: BTreeMap<(ClusterId, u64), LayoutHash>,
    cluster_of: BTreeMap<NodeId, ClusterId>,
}

pub(super) struct Node {
    pub(super) settings: Settings,
    cluster: Option<Cluster>,
    life: u64,
    disk: BTreeMap<u8, Bytes>,
    unsynced: VecDeque<(Seq, ControlRecord)>,
    durable: Seq,
    held: Vec<(Seq, NodeId, Message)>,
    dial: BTreeSet<String>,
    links: BTreeMap<NodeId, BTreeSet<u64>>,
    pub(super) view: Option<Arc<View>>,
    pub(super) notices: Vec<String>,
    actors: BTreeSet<Actor>,
    synced_layout: u64,
}

#[derive(Clone, Copy)]
struct Link {
    ends: [usize; 2],
    lives: [u64; 2],
    last_us: [u64; 2],
}

/// A message is encoded and decoded again once in so many times: often enough to find what the
/// codec loses, and the tests stay fast without optimisation.
const CODED_EVERY: u64 = 16;

enum Event {
    Start(usize),
    Wake(usize, u64),
    Dial(usize, u64, String),
    Deliver(u64, usize, Message),
    Synced(usize, u64, Seq),
    Break(u64),
}

/// Before an address: another name of the same place.
pub(super) const ALIAS: &str = "alias-of-";

/// The address of the `index`-th node.
pub(super) fn addr(index: usize) -> String {
    format!("10.0.0.{index}:7001")
}

/// The settings of the `index`-th node, which names these others as seeds.
pub(super) fn settings(index: usize, seeds: &[usize]) -> Settings {
    let mut public_key = [7; 32];
    public_key[0] = u8::try_from(index).unwrap();
    Settings {
        public_key,
        name: format!("n{index}"),
        zone: format!("z{}", index % 3),
        cluster_addr: addr(index),
        client_addr: format!("10.0.0.{index}:6001"),
        seeds: seeds.iter().map(|&seed| addr(seed)).collect(),
        partitions: 16,
        replicas: 3,
        seed: 0,
    }
}

impl World {
    /// Nodes that name these seeds; none of them is started.
    pub(super) fn new(seed: u64, seeds: &[&[usize]]) -> Self {
        Self {
            now_us: 0,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            nodes: seeds
                .iter()
                .enumerate()
                .map(|(index, seeds)| Node::new(settings(index, seeds)))
                .collect(),
            links: BTreeMap::new(),
            queue: BTreeMap::new(),
            next: 0,
            cut: BTreeSet::new(),
            delay_us_max: 2_000,
            sync_us_max: 5_000,
            decided: BTreeMap::new(),
            cluster_of: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, settings: Settings) -> usize {
        self.nodes.push(Node::new(settings));
        self.nodes.len() - 1
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    pub(super) fn start(&mut self, node: usize) {
        self.start_after(node, 0);
    }

    pub(super) fn start_after(&mut self, node: usize, delay_ms: u64) {
        self.at(delay_ms * 1_000, Event::Start(node));
    }

    pub(super) fn run_ms(&mut self, ms: u64) {
        let until = self.now_us + ms * 1_000;
        while let Some((&(at, _), _)) = self.queue.first_key_value() {
            if at > until {
                break;
            }
            let ((at, _), event) = self.queue.pop_first().unwrap();
            self.now_us = at;
            self.happen(event);
        }
        self.now_us = until;
    }

    pub(super) fn is_up(&self, node: usize) -> bool {
        self.nodes[node].cluster.is_some()
    }

    /// The process dies: links break at once, what was not synced is lost.
    pub(super) fn kill(&mut self, node: usize) {
        for link in self.stop(node) {
            self.at(1_000, Event::Break(link));
        }
    }

    /// The machine dies: nobody is told.
    pub(super) fn vanish(&mut self, node: usize) {
        for link in self.stop(node) {
            self.at(60_000_000, Event::Break(link));
        }
    }

    fn stop(&mut self, node: usize) -> Vec<u64> {
        let state = &mut self.nodes[node];
        state.cluster = None;
        state.unsynced.clear();
        state.held.clear();
        state.dial.clear();
        state.view = None;
        let links = std::mem::take(&mut state.links);
        links.into_values().flatten().collect()
    }

    /// The directory of a stopped node is cleared, its identity file too.
    pub(super) fn wipe(&mut self, node: usize) {
        assert!(!self.is_up(node));
        let mut settings = self.nodes[node].settings.clone();
        settings.public_key[1] += 1;
        self.nodes[node] = Node::new(settings);
    }

    /// The log of a stopped node is cleared, but not its identity file.
    pub(super) fn forget(&mut self, node: usize) {
        assert!(!self.is_up(node));
        self.nodes[node] = Node::new(self.nodes[node].settings.clone());
    }

    pub(super) fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert((one.min(other), one.max(other)));
        let over = |link: &Link| link.ends == [one, other] || link.ends == [other, one];
        let broken: Vec<u64> =
            self.links.iter().filter(|(_, link)| over(link)).map(|(&id, _)| id).collect();
        for link in broken {
            self.at(CUT_LINK_MS * 1_000, Event::Break(link));
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn break_some_link(&mut self) {
        if !self.links.is_empty() {
            let index = self.rng.random_range(0..self.links.len());
            let link = *self.links.keys().nth(index).unwrap();
            self.at(0, Event::Break(link));
        }
    }

    pub(super) fn tell_to_stop(&mut self, node: usize) {
        self.step(node, Input::Stop);
    }

    pub(super) fn view(&self, node: usize) -> &View {
        self.nodes[node].view.as_deref().expect("every node publishes a view at its start")
    }

    pub(super) fn layout(&self, node: usize) -> Option<&Arc<Layout>> {
        self.nodes[node].view.as_ref().and_then(|view| view.layout.as_ref())
    }

    pub(super) fn id(&self, node: usize) -> NodeId {
        self.nodes[node].settings.node()
    }

    pub(super) fn owned(&self, node: usize) -> usize {
        self.layout(node).map_or(0, |layout| layout.owned_by(self.id(node)))
    }

    pub(super) fn reaches(&self, one: usize, other: usize) -> bool {
        self.view(one).reaches(self.id(other))
    }

    pub(super) fn hello(&self, node: usize) -> Hello {
        self.nodes[node].cluster.as_ref().unwrap().hello()
    }

    /// All running nodes follow one layout, and each is listed in it.
    pub(super) fn has_converged(&self) -> bool {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|&node| self.is_up(node)).collect();
        let Some(layout) = self.layout(up[0]) else { return false };
        up.iter().all(|&node| {
            self.layout(node) == Some(layout) && layout.roles.contains_key(&self.id(node))
        })
    }

    pub(super) fn assert_converged(&self) {
        assert!(self.has_converged(), "{}", self.describe());
    }

    pub(super) fn describe(&self) -> String {
        let line = |(index, node): (usize, &Node)| {
            let standing = match &node.view {
                None => String::from("stopped"),
                Some(view) => view.standing(),
            };
            let epoch = self.layout(index).map_or(0, |layout| layout.epoch);
            format!("n{index} ({:?}) epoch {epoch}: {standing}\n", node.settings.node())
        };
        let lines: String = self.nodes.iter().enumerate().map(line).collect();
        format!("at {} ms:\n{lines}", self.now_ms())
    }

    fn at(&mut self, delay_us: u64, event: Event) {
        self.next += 1;
        self.queue.insert((self.now_us + delay_us, self.next), event);
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.now_us), unix_ms: BEGIN_UNIX_MS + self.now_ms() }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(node) => self.boot(node),
            Event::Wake(node, life) => {
                let state = &self.nodes[node];
                let due = state.cluster.as_ref().and_then(Cluster::deadline);
                if state.life == life && due.is_some_and(|due| due.0 <= self.now_us) {
                    self.step(node, Input::Tick);
                }
            }
            Event::Dial(node, life, addr) => {
                if self.nodes[node].life == life && self.nodes[node].dial.contains(&addr) {
                    self.dial(node, addr);
                }
            }
            Event::Deliver(link, to, message) => self.deliver(link, to, message),
            Event::Synced(node, life, seq) => {
                if self.nodes[node].life == life && self.is_up(node) {
                    self.sync(node, seq);
                }
            }
            Event::Break(link) => self.break_link(link),
        }
    }

    fn boot(&mut self, node: usize) {
        let now = self.now();
        let entropy = self.rng.random();
        let state = &mut self.nodes[node];
        assert!(state.cluster.is_none(), "a node is started once");
        let settings = Settings { seed: entropy, ..state.settings.clone() };
        state.life += 1;
        state.durable = Seq(0);
        state.cluster = Some(Cluster::new(settings, &state.disk, now).expect("a sound disk"));
        self.step(node, Input::Tick);
        let epoch = self.layout(node).map_or(0, |layout| layout.epoch);
        assert!(epoch >= self.nodes[node].synced_layout, "a restart forgot a layout");
    }

    fn dial(&mut self, node: usize, addr: String) {
        let life = self.nodes[node].life;
        self.at(REDIAL_MS * 1_000, Event::Dial(node, life, addr.clone()));
        let connected = self.links.values().any(|link| {
            link.ends[0] == node
                && link.lives[0] == life
                && self.nodes[link.ends[1]].settings.cluster_addr
                    == addr.strip_prefix(ALIAS).unwrap_or(&addr)
        });
        // One place may have two names.
        let place = addr.strip_prefix(ALIAS).unwrap_or(&addr);
        let listens =
            |other: &usize| self.is_up(*other) && self.nodes[*other].settings.cluster_addr == place;
        let Some(other) = (0..self.nodes.len()).find(listens) else {
            return self.step(node, Input::DialFailed { addr, reason: String::from("refused") });
        };
        if connected || self.cut.contains(&(node.min(other), node.max(other))) {
            return;
        }
        let (mine, theirs) = (self.hello(node), self.hello(other));
        let verdict = |world: &Self, at: usize, hello: &Hello| -> Result<(), Refusal> {
            world.nodes[at].cluster.as_ref().unwrap().admit(hello)
        };
        // As in the shell: who answers judges first, and who dials only if it was admitted.
        if let Err(refusal) = verdict(self, other, &mine) {
            self.step(other, Input::NotAdmitted { hello: mine, dialed: None });
            self.step(node, Input::Refused { dialed: Some(addr), refusal });
        } else if let Err(refusal) = verdict(self, node, &theirs) {
            self.step(node, Input::NotAdmitted { hello: theirs, dialed: Some(addr) });
            self.step(other, Input::Refused { dialed: None, refusal });
        } else {
            self.connect([node, other], [mine, theirs], addr);
        }
    }

    fn connect(&mut self, ends: [usize; 2], hellos: [Hello; 2], addr: String) {
        self.next += 1;
        let id = self.next;
        let lives = ends.map(|end| self.nodes[end].life);
        let last_us = [self.now_us; 2];
        self.links.insert(id, Link { ends, lives, last_us });
        let [mine, theirs] = hellos;
        self.nodes[ends[0]].links.entry(theirs.node).or_default().insert(id);
        self.nodes[ends[1]].links.entry(mine.node).or_default().insert(id);
        self.step(ends[0], Input::LinkUp { hello: theirs, dialed: Some(addr) });
        self.step(ends[1], Input::LinkUp { hello: mine, dialed: None });
    }

    fn break_link(&mut self, id: u64) {
        let Some(link) = self.links.remove(&id) else { return };
        for (end, other) in [(0, 1), (1, 0)] {
            let (node, peer) = (link.ends[end], self.id(link.ends[other]));
            let state = &mut self.nodes[node];
            if state.life != link.lives[end] || state.cluster.is_none() {
                continue;
            }
            let Some(links) = state.links.get_mut(&peer) else { continue };
            links.remove(&id);
            if links.is_empty() {
                state.links.remove(&peer);
                self.step(node, Input::LinkDown { node: peer });
            }
        }
    }

    fn deliver(&mut self, id: u64, to: usize, message: Message) {
        let Some(link) = self.links.get(&id).copied() else { return };
        let (node, from) = (link.ends[to], link.ends[1 - to]);
        let state = &self.nodes[node];
        let cut = self.cut.contains(&(node.min(from), node.max(from)));
        if state.life == link.lives[to] && state.cluster.is_some() && !cut {
            self.step(node, Input::Peer { from: self.id(from), message });
        }
    }

    fn sync(&mut self, node: usize, seq: Seq) {
        let state = &mut self.nodes[node];
        while let Some((first, _)) = state.unsynced.front() {
            if *first > seq {
                break;
            }
            let (_, record) = state.unsynced.pop_front().unwrap();
            state.disk.insert(record.slot, record.body);
        }
        state.durable = state.durable.max(seq);
        let (ready, held) = state.held.drain(..).partition(|(rests_on, _, _)| *rests_on <= seq);
        state.held = held;
        let ready: Vec<(Seq, NodeId, Message)> = ready;
        for (_, to, message) in ready {
            self.send(node, to, &message);
        }
        self.step(node, Input::Durable { upto: seq });
    }

    fn step(&mut self, node: usize, input: Input) {
        let now = self.now();
        let state = &mut self.nodes[node];
        let Some(cluster) = &mut state.cluster else { return };
        let mut out = Output::default();
        cluster.step(now, input, &mut out);
        let due = cluster.deadline();
        let life = state.life;
        let Output { messages, records, view, dial, reset, notices } = out;
        state.notices.extend(notices.into_iter().map(|(_, text)| text));
        for peer in reset {
            let links = self.nodes[node].links.get(&peer).cloned().unwrap_or_default();
            for link in links {
                self.at(0, Event::Break(link));
            }
        }
        if let Some((seq, _)) = records.last() {
            let seq = *seq;
            self.nodes[node].unsynced.extend(records);
            let delay = self.rng.random_range(0..=self.sync_us_max);
            self.at(delay, Event::Synced(node, life, seq));
        }
        for (seq, to, message) in messages {
            if seq <= self.nodes[node].durable {
                self.send(node, to, &message);
            } else {
                self.nodes[node].held.push((seq, to, message));
            }
        }
        if let Some(dial) = dial {
            for addr in dial.difference(&self.nodes[node].dial.clone()) {
                self.at(0, Event::Dial(node, life, addr.clone()));
            }
            self.nodes[node].dial = dial;
        }
        if let Some(view) = view {
            self.check(node, &view);
            self.nodes[node].view = Some(view);
        }
        if let Some(due) = due {
            self.at(due.0.saturating_sub(self.now_us), Event::Wake(node, life));
        }
        if matches!(self.nodes[node].view.as_ref().map(|view| &view.phase), Some(Phase::Refused(_)))
        {
            // The process ends; what it said last stays readable.
            let view = self.nodes[node].view.clone();
            self.kill(node);
            self.nodes[node].view = view;
        }
    }

    fn send(&mut self, node: usize, to: NodeId, message: &Message) {
        // The newest link: an older one may lead to a past life of that node.
        let Some(&id) = self.nodes[node].links.get(&to).and_then(BTreeSet::last) else { return };
        let Some(&link) = self.links.get(&id) else { return };
        let end = usize::from(link.ends[0] == node);
        let delay = self.rng.random_range(1..=self.delay_us_max);
        let at = (self.now_us + delay).max(link.last_us[end] + 1);
        self.links.get_mut(&id).unwrap().last_us[end] = at;
        if self.next.is_multiple_of(CODED_EVERY) {
            let bytes = postcard::to_stdvec(message).unwrap();
            assert_eq!(postcard::from_bytes::<Message>(&bytes).as_ref(), Ok(message));
        }
        self.at(at - self.now_us, Event::Deliver(id, end, message.clone()));
    }

    /// What must never happen.
    fn check(&mut self, node: usize, view: &View) {
        let state = &mut self.nodes[node];
        if let Some(actor) = view.actor
            && state.view.as_ref().is_none_or(|before| before.actor.is_none())
        {
            assert!(state.actors.last().is_none_or(|last| *last < actor), "an epoch came twice");
            state.actors.insert(actor);
        }
        let Some(layout) = &view.layout else { return };
        let before = state.view.as_ref().and_then(|view| view.layout.as_ref());
        if before.is_some_and(|before| Arc::ptr_eq(before, layout)) {
            return;
        }
        state.synced_layout = layout.epoch;
        let cluster = *self.cluster_of.entry(view.me).or_insert(layout.cluster);
        assert_eq!(cluster, layout.cluster, "a node belongs to two clusters");
        let hash = layout.hash();
        let decided = *self.decided.entry((layout.cluster, layout.epoch)).or_insert(hash);
        assert_eq!(decided, hash, "two layouts have one epoch");
        let row = usize::from(layout.replicas)
            .min(layout.roles.values().filter(|role| role.capacity > 0).count());
        assert!(layout.epoch > 1 || layout.table.iter().all(|owners| owners.len() == row));
    }

    /// How many clusters there are.
    pub(super) fn clusters(&self) -> usize {
        self.cluster_of.values().collect::<BTreeSet<_>>().len()
    }
}

impl Node {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            cluster: None,
            life: 0,
            disk: BTreeMap::new(),
            unsynced: VecDeque::new(),
            durable: Seq(0),
            held: Vec::new(),
            dial: BTreeSet::new(),
            links: BTreeMap::new(),
            view: None,
            notices: Vec::new(),
            actors: BTreeSet::new(),
            synced_layout: 0,
        }
    }
}
