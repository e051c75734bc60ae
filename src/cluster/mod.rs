//! The control plane: who is in the cluster, who owns what, who can be reached.
//!
//! One [`View`] at a time is published to the shards; they never ask back. Like a shard it is one
//! struct with a `step` that never waits, never fails and reads neither clock nor chance.

mod birth;
mod chain;
mod decide;
mod detector;
mod gossip;
mod handshake;
mod identity;
mod join;
mod journal;
mod layout;
pub mod message;
mod paxos;
mod placement;
mod secret;
mod spread;
#[cfg(test)]
mod tests;
mod unborn;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

pub use identity::{Settings, node_id};
pub use layout::{CAPACITY_DEFAULT, ClusterId, Layout, LayoutHash, Role};
pub use message::{Hello, Message, Refusal};
pub use placement::next as place;
pub use secret::{Claim, Exchange, Next, Nonce, NotProven, Proof, SECRET_BYTES, Said, Secret};
pub use view::{Member, Phase, View};

use crate::causality::NodeId;
use crate::marks::sometimes;
use crate::shard::Seq;
use crate::time::{Mono, Now};
use chain::Chain;
use decide::Attempts;
use detector::Links;
use gossip::Facts;
use join::Newcomers;
use journal::{AcceptorRecord, Journal, Recovered};
use unborn::Unborn;

/// What happens to the control plane.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline that it asked for is due.
    Tick,
    /// A handshake succeeded: a node is connected and has said who it is. Passed for every link,
    /// also for a second one to the same node: its address may be a seed.
    LinkUp {
        /// What it said.
        hello: Hello,
        /// The address that was dialled to reach it; `None` = it dialled us.
        dialed: Option<String>,
    },
    /// The last link to a node is gone.
    LinkDown {
        /// Which node.
        node: NodeId,
    },
    /// A handshake ended because [`Cluster::admit`] refused the hello of the other side.
    NotAdmitted {
        /// What it said.
        hello: Hello,
        /// The address that was dialled to reach it; `None` = it dialled us.
        dialed: Option<String>,
    },
    /// A handshake ended because the other side refused this node.
    Refused {
        /// The address that was dialled; `None` = it dialled us.
        dialed: Option<String>,
        /// What it said.
        refusal: Refusal,
    },
    /// An address of `Output::dial` did not answer; the shell goes on trying by itself.
    DialFailed {
        /// Which address.
        addr: String,
        /// What the system said.
        reason: String,
    },
    /// A node speaks. Late, repeated, reordered, or from a past life of that node.
    Peer {
        /// Which node.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Every record at or below this is on stable storage.
    Durable {
        /// The newest such record.
        upto: Seq,
    },
    /// The process is about to stop: tell the others.
    Stop,
}

/// What the control plane does. The caller owns it and empties it after every step.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages, each with the record that it rests on.
    pub messages: Vec<(Seq, NodeId, Message)>,
    /// What must be remembered; numbered from 1 in the order of their making.
    pub records: Vec<(Seq, ControlRecord)>,
    /// A new view for everybody.
    pub view: Option<Arc<View>>,
    /// Set when it changed: every address to which the shell keeps a link, redialling with
    /// back-off.
    pub dial: Option<BTreeSet<String>>,
    /// Nodes whose links are dead although they stand: the shell closes them, and dials anew.
    pub reset: Vec<NodeId>,
    /// Lines for the operator's log, with their severity.
    pub notices: Vec<(Severity, String)>,
}

/// How urgent a line for the operator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something that was expected happened.
    Info,
    /// Something to look at.
    Warning,
}

/// Something that the control plane must remember. The newest record of a slot replaces the older
/// ones; recovery returns the newest of each slot. The body is opaque to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRecord {
    /// What it is about.
    pub slot: u8,
    /// The encoded state.
    pub body: Bytes,
}

/// The control plane of one node.
///
/// The shell calls [`Cluster::step`] once with [`Input::Tick`] after making it, then with every
/// input and whenever [`Cluster::deadline`] is due. It passes a handshake as `LinkUp` when both
/// sides admitted each other, and as `NotAdmitted` or `Refused` otherwise.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    me: NodeId,
    /// Epoch of this start: the generation of this node and the epoch of its actor.
    generation: u32,
    /// The record of that epoch; `None` = not written yet.
    generation_seq: Option<Seq>,
    now: Now,
    rng: Xoshiro256PlusPlus,
    journal: Journal,
    links: Links,
    chain: Chain,
    acceptor: AcceptorRecord,
    attempts: Attempts,
    unborn: Unborn,
    newcomers: Newcomers,
    facts: Facts,
    /// Version of the own fact.
    version: u32,
    next_gossip: Mono,
    /// What this node says to itself, and the record that it rests on.
    mail: VecDeque<(Seq, Message)>,
    cloned_since: Option<Mono>,
    /// Refusals that people were told of.
    warned: BTreeSet<String>,
    refused: Option<Refusal>,
    stopping: bool,
    /// Whether something changed that the view or the addresses to dial show.
    changed: bool,
    published: Option<Arc<View>>,
    dialed: BTreeSet<String>,
}

impl Cluster {
    /// A control plane from what the log returned: the newest control record of each slot.
    ///
    /// Refused when a record is damaged or of a newer version: the process must not start.
    pub fn new(
        settings: Settings,
        recovered: &BTreeMap<u8, Bytes>,
        now: Now,
    ) -> Result<Self, Refusal> {
        let recovered = Recovered::read(recovered)?;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        let chain = Chain::recovered(recovered.chain);
        let instance = chain.epoch() + 1;
        let acceptor = recovered.acceptor.filter(|acceptor| acceptor.instance >= instance);
        if acceptor.as_ref().is_some_and(|acceptor| acceptor.instance > instance) {
            // It voted on what follows a layout that is not there: its memory has a hole, and
            // a second vote in a decided epoch could undo the decision.
            return Err(Refusal::new(
                message::CODE_MEMORY_LOST,
                "the log has lost the newest layout; restore the data directory from a copy, or \
                 clear it with the identity file and join as a new node",
            ));
        }
        sometimes!("a promise was found at recovery", acceptor.is_some());
        Ok(Self {
            me: settings.node(),
            generation: identity::next_epoch(recovered.epoch, now.unix_ms),
            generation_seq: None,
            now,
            journal: Journal::default(),
            // A random start, so that an answer to a past life matches no question.
            links: Links::new(now.mono, rng.random::<u64>() >> 1),
            rng,
            acceptor: acceptor.unwrap_or_else(|| AcceptorRecord::of(instance)),
            chain,
            attempts: Attempts::default(),
            unborn: Unborn::remembering(recovered.asked),
            newcomers: Newcomers::default(),
            facts: Facts::default(),
            version: 0,
            next_gossip: now.mono,
            mail: VecDeque::new(),
            cloned_since: None,
            warned: BTreeSet::new(),
            refused: None,
            stopping: false,
            changed: true,
            published: None,
            dialed: BTreeSet::new(),
            settings,
        })
    }

    /// Takes one input. What comes of it is in `out`.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Output) {
        self.now = now;
        if self.generation_seq.is_none() {
            self.start(out);
        }
        self.changed |= self.links.on_time(now.mono, |to, ping| Self::tell_at_once(to, ping, out));
        out.reset.extend(self.links.take_dead(now.mono));
        self.on_input(input, out);
        self.attempts_on_time(out);
        self.unborn_on_time(out);
        self.newcomers_on_time(out);
        self.gossip_on_time(out);
        self.read_mail(out);
        if self.changed {
            self.changed = false;
            self.publish(out);
            self.dial(out);
        }
    }

    /// When the next `Tick` is due; `None` = only an input changes anything.
    pub fn deadline(&self) -> Option<Mono> {
        if self.generation_seq.is_none() {
            return Some(self.now.mono);
        }
        let unborn = self.chain.newest().is_none() && self.refused.is_none();
        let linked = self.links.iter().next().is_some();
        [
            self.links.deadline(),
            self.attempts.deadline(),
            self.newcomers.deadline(self.attempts.next()),
            unborn.then(|| self.unborn.deadline()),
            (linked && self.chain.newest().is_some()).then_some(self.next_gossip),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|due| due.max(self.now.mono))
    }

    /// What it has promised, for observers: in the decision of which epoch, to which ballot.
    pub fn promised(&self) -> (u64, message::Ballot) {
        (self.acceptor.instance, self.acceptor.promised)
    }

    fn start(&mut self, out: &mut Output) {
        self.generation_seq = Some(self.journal.remember_epoch(self.generation, out));
        if self.name() != self.settings.name {
            let text = format!(
                "this node is a member under the name {}; --node-id {} has no effect",
                self.name(),
                self.settings.name
            );
            out.notices.push((Severity::Warning, text));
        }
        let bound = self.acceptor.accepted.is_some() || self.unborn.asked.is_some();
        if self.chain.newest().is_none() && self.settings.seeds.is_empty() && !bound {
            let cluster = ClusterId(self.rng.random());
            let roles = BTreeMap::from([(self.me, self.settings.role())]);
            let Settings { partitions, replicas, .. } = self.settings;
            self.adopt(&Arc::new(Layout::born(cluster, partitions, replicas, roles)), out);
        }
    }

    fn on_input(&mut self, input: Input, out: &mut Output) {
        match input {
            Input::Tick | Input::DialFailed { .. } => {}
            Input::LinkUp { hello, dialed } => self.on_link_up(hello, dialed, out),
            Input::NotAdmitted { hello, dialed } => self.on_not_admitted(&hello, dialed, out),
            Input::Refused { dialed, refusal } => self.on_refused(dialed, refusal, out),
            Input::LinkDown { node } => {
                self.changed |= self.links.on_down(node);
                self.unborn.on_down(node);
            }
            Input::Peer { from, message } => {
                // Without a link there is nobody to answer, and the word is of a past life.
                if self.links.peer(from).is_some() {
                    self.on_message(from, message, out);
                }
            }
            Input::Durable { upto } => {
                self.journal.on_durable(upto);
                self.changed = true;
            }
            Input::Stop => self.on_stop(out),
        }
    }

    fn on_link_up(&mut self, hello: Hello, dialed: Option<String>, out: &mut Output) {
        let node = hello.node;
        if let Some(addr) = dialed {
            self.unborn.on_answer(addr, node);
        }
        if self.chain.newest().is_some_and(|link| link.layout.roles.contains_key(&node)) {
            self.facts.learn(hello.fact());
        }
        let unborn = hello.cluster.is_none();
        self.links.on_up(hello);
        self.changed = true;
        // One that is in the layout and does not know it was away when the birth was decided.
        if unborn {
            self.tell_standing(node, out);
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Output) {
        match message {
            Message::Ping { seq } => Self::tell_at_once(from, Message::Ack { seq }, out),
            Message::Ack { seq } => self.changed |= self.links.on_ack(from, seq, self.now.mono),
            Message::Leaving => {
                if let Some(peer) = self.links.peer_mut(from) {
                    peer.leaving = true;
                    self.changed = true;
                }
            }
            Message::GossipSyn { epoch, hash, digest } => {
                self.on_gossip_syn(from, epoch, hash, &digest, out);
            }
            Message::GossipSynAck { delta, digest } => {
                self.learn(delta);
                self.answer_digest(from, &digest, out);
            }
            Message::GossipAck { delta } => self.learn(delta),
            Message::LayoutPull { from_epoch } => self.on_pull(from, from_epoch, out),
            Message::LayoutPush { asked_from, chain } => {
                self.on_chain(from, asked_from, &chain, out);
            }
            Message::PaxPrepare { instance, ballot, fresh_birth } => {
                self.on_prepare(from, instance, ballot, fresh_birth.as_ref(), out);
            }
            Message::PaxPromise { instance, ballot, accepted } => {
                self.on_promise(from, instance, ballot, accepted, out);
            }
            Message::PaxAccept { ballot, layout } => self.on_accept(from, ballot, layout, out),
            Message::PaxAccepted { instance, ballot } => {
                self.on_accepted(from, instance, ballot, out);
            }
            Message::PaxReject { instance, ballot, promised } => {
                self.on_reject(instance, ballot, promised);
            }
            Message::BirthSeeds(told) => self.on_birth_seeds(from, told, out),
            Message::Belongs { cluster } => self.on_belongs(from, cluster),
            Message::JoinRequest => self.on_join_request(from, out),
            Message::JoinPending { text } => self.on_join_pending(&text),
            Message::JoinRefused { refusal } => {
                if self.chain.newest().is_none() {
                    self.refuse(refusal);
                }
            }
        }
    }

    fn on_birth_seeds(&mut self, from: NodeId, told: message::BirthSeeds, out: &mut Output) {
        if self.chain.newest().is_some() {
            self.tell_standing(from, out);
            return;
        }
        self.unborn.on_told(from, told);
        self.changed = true;
    }

    fn on_belongs(&mut self, from: NodeId, cluster: ClusterId) {
        if let Some(peer) = self.links.peer_mut(from) {
            peer.cluster = Some(cluster);
            peer.knows_me_not = true;
            self.changed = true;
        }
    }

    fn on_stop(&mut self, out: &mut Output) {
        self.stopping = true;
        self.changed = true;
        for (node, _) in self.links.iter() {
            Self::tell_at_once(node, Message::Leaving, out);
        }
    }

    /// Hears what it said to itself, as far as what that rests on is durable.
    fn read_mail(&mut self, out: &mut Output) {
        while let Some((seq, message)) = self.mail.pop_front() {
            if !self.journal.is_durable(seq) {
                self.mail.push_front((seq, message));
                return;
            }
            self.on_message(self.me, message, out);
        }
    }
}
