//! The control plane: who is in the cluster, who owns what, who can be reached.
//!
//! One [`View`] at a time is published to the shards; they never ask back. Like a shard it is one
//! struct with a `step` that never waits, never fails and reads neither clock nor chance.

mod chain;
mod identity;
mod journal;
mod layout;
pub mod message;
mod placement;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

pub use identity::{Settings, node_id};
pub use layout::{CAPACITY_DEFAULT, ClusterId, Layout, LayoutHash, Role};
pub use message::{Hello, Message, Refusal};
pub use placement::next as place;
pub use view::{Member, Phase, View};

use crate::causality::{Actor, NodeId};
use crate::shard::Seq;
use crate::time::{Mono, Now};
use chain::Chain;
use journal::{Journal, Recovered};

/// What happens to the control plane.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline that it asked for is due.
    Tick,
    /// A node is connected and has said who it is. Several links to one node count as one.
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
    chain: Chain,
    refused: Option<Refusal>,
    published: Option<Arc<View>>,
}

impl Cluster {
    /// A control plane from what the log returned: the newest control record of each slot.
    ///
    /// Refused when a record is damaged or of a newer version, or names another node than the
    /// settings: the process must not start.
    pub fn new(
        settings: Settings,
        recovered: &BTreeMap<u8, Bytes>,
        now: Now,
    ) -> Result<Self, Refusal> {
        let recovered = Recovered::read(recovered)?;
        Ok(Self {
            me: settings.node(),
            generation: identity::next_epoch(recovered.epoch, now.unix_ms),
            generation_seq: None,
            now,
            rng: Xoshiro256PlusPlus::seed_from_u64(settings.seed),
            journal: Journal::default(),
            chain: Chain::recovered(recovered.chain),
            refused: None,
            published: None,
            settings,
        })
    }

    /// Takes one input. What comes of it is in `out`.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Output) {
        self.now = now;
        if self.generation_seq.is_none() {
            self.start(out);
        }
        if let Input::Durable { upto } = input {
            self.journal.on_durable(upto);
        }
        self.publish(out);
    }

    /// When the next `Tick` is due; `None` = only an input changes anything.
    pub fn deadline(&self) -> Option<Mono> {
        self.generation_seq.is_none().then_some(self.now.mono)
    }

    /// What this node says first on every link, now.
    pub fn hello(&self) -> Hello {
        let link = self.chain.durable(&self.journal);
        Hello {
            node: self.me,
            public_key: self.settings.public_key,
            name: self.settings.name.clone(),
            zone: self.settings.zone.clone(),
            generation: self.generation,
            cluster_addr: self.settings.cluster_addr.clone(),
            client_addr: self.settings.client_addr.clone(),
            cluster: link.map(|link| link.layout.cluster),
            layout_epoch: link.map_or(0, |link| link.layout.epoch),
            layout_hash: link.map_or(LayoutHash::default(), |link| link.hash),
            partitions: self.settings.partitions,
            replicas: self.settings.replicas,
        }
    }

    /// Whether this node talks to the one that said `hello`. On refusal both sides close the link,
    /// this one after sending the refusal.
    pub fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        if node_id(&hello.public_key) != hello.node {
            let text = "the hello names a node id that is not the digest of its public key";
            return Err(Refusal::new(message::CODE_BAD_HELLO, text));
        }
        if hello.node == self.me {
            return Err(self.meets_itself(hello));
        }
        let mine = self.chain.durable(&self.journal).map(|link| link.layout.cluster);
        match (mine, hello.cluster) {
            (Some(mine), Some(theirs)) if mine != theirs => Err(Refusal::new(
                message::CODE_OTHER_CLUSTER,
                format!(
                    "{} belongs to cluster {mine}, {} to cluster {theirs}; name only the nodes of \
                     one cluster as seeds",
                    self.settings.name, hello.name
                ),
            )),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn meets_itself(&self, hello: &Hello) -> Refusal {
        if hello.generation == self.generation && hello.cluster_addr == self.settings.cluster_addr {
            let text = format!("{} is this node itself", hello.cluster_addr);
            return Refusal::new(message::CODE_SEED_IS_SELF, text);
        }
        Refusal::new(
            message::CODE_IDENTITY_CLONED,
            format!(
                "{} at {} and {} at {} run with one identity; stop one of them and give it an \
                 empty data directory",
                self.settings.name, self.settings.cluster_addr, hello.name, hello.cluster_addr
            ),
        )
    }

    fn start(&mut self, out: &mut Output) {
        self.generation_seq = Some(self.journal.remember_epoch(self.generation, out));
        if self.chain.newest().is_none() && self.settings.seeds.is_empty() {
            let mut cluster = ClusterId::default();
            rand::Rng::fill_bytes(&mut self.rng, &mut cluster.0);
            let roles = BTreeMap::from([(self.me, self.settings.role())]);
            let Settings { partitions, replicas, .. } = self.settings;
            let layout = Arc::new(Layout::born(cluster, partitions, replicas, roles));
            let seq = self.journal.remember_layout(&layout, out);
            self.chain.append(layout, seq);
        }
    }

    fn publish(&mut self, out: &mut Output) {
        let durable = |seq| self.journal.is_durable(seq);
        let link = self.chain.durable(&self.journal);
        let phase = match (&self.refused, link) {
            (Some(refusal), _) => Phase::Refused(refusal.to_string()),
            (None, Some(_)) => Phase::Member,
            (None, None) => Phase::Unborn(format!("waits for {}", self.settings.seeds.join(", "))),
        };
        let view = View {
            me: self.me,
            name: self.settings.name.clone(),
            actor: self
                .generation_seq
                .filter(|&seq| durable(seq))
                .map(|_| Actor::new(self.me.tag(), self.generation)),
            phase,
            layout: link.map(|link| Arc::clone(&link.layout)),
            members: BTreeMap::new(),
        };
        if self.published.as_deref() != Some(&view) {
            let view = Arc::new(view);
            self.published = Some(Arc::clone(&view));
            out.view = Some(view);
        }
    }
}
