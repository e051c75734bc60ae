//! What control planes say to one another.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::layout::LayoutHash;
use super::{ClusterId, Layout};
use crate::causality::NodeId;

/// The first frame on every link, in both directions: who speaks, and what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who speaks.
    pub node: NodeId,
    /// Its Ed25519 public key; its digest is `node`.
    pub public_key: [u8; 32],
    /// Its name.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Epoch of this start of the node; a message of an older one is from a past life.
    pub generation: u32,
    /// Where other nodes reach it, HOST:PORT.
    pub cluster_addr: String,
    /// Where clients reach it, HOST:PORT.
    pub client_addr: String,
    /// The cluster that it belongs to; `None` = it is unborn.
    pub cluster: Option<ClusterId>,
    /// The newest layout that it adopted; 0 = none.
    pub layout_epoch: u64,
    /// SHA-256 of that layout.
    pub layout_hash: LayoutHash,
    /// Partitions that it would be born with; equal in all nodes of a birth.
    pub partitions: u16,
    /// Replicas that it would be born with; equal in all nodes of a birth.
    pub replicas: u8,
}

/// Why a node does not talk to another one, or does not take it in. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{code}: {text}")]
pub struct Refusal {
    /// Stable: one of the `CODE_` constants.
    pub code: String,
    /// What is wrong, and what to do.
    pub text: String,
}

/// A hello that no node of this version sends.
pub const CODE_BAD_HELLO: &str = "bad_hello";
/// The node dialled itself.
pub const CODE_SEED_IS_SELF: &str = "seed_is_self";
/// Two processes run with one identity.
pub const CODE_IDENTITY_CLONED: &str = "identity_cloned";
/// The two belong to different clusters.
pub const CODE_OTHER_CLUSTER: &str = "other_cluster";
/// A name or tag that a member already has.
pub const CODE_NAME_TAKEN: &str = "name_taken";
/// The node is about to stop and takes nobody in.
pub const CODE_STOPPING: &str = "stopping";
/// The cluster has as many members as it can have.
pub const CODE_CLUSTER_FULL: &str = "cluster_full";
/// The directory of the node has lost what the cluster remembers of it.
pub const CODE_MEMORY_LOST: &str = "memory_lost";
/// The layout no longer lists the node.
pub const CODE_REMOVED: &str = "removed";

impl Refusal {
    pub(super) fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into() }
    }
}

/// Orders the attempts of proposers; no two proposers share one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ballot {
    /// Number of the attempt; 0 = none yet.
    pub round: u64,
    /// Who attempts it.
    pub node: NodeId,
    /// In which of its lives: a proposer forgets its attempts when it stops, and must not give one
    /// ballot to two values.
    pub generation: u32,
}

/// What one node says of itself, spread by gossip. The newest (generation, version) wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Whom it is about, and who said it first.
    pub node: NodeId,
    /// Epoch of the start of that node.
    pub generation: u32,
    /// Counts the changes within one generation.
    pub version: u32,
    /// Where other nodes reach it, HOST:PORT.
    pub cluster_addr: String,
    /// Where clients reach it, HOST:PORT.
    pub client_addr: String,
    /// The newest layout that it adopted.
    pub layout_epoch: u64,
    /// SHA-256 of that layout.
    pub layout_hash: LayoutHash,
}

/// How much a node knows about another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// About whom.
    pub node: NodeId,
    /// Generation of the newest fact held.
    pub generation: u32,
    /// Version of the newest fact held.
    pub version: u32,
}

/// A seed of an unborn node, as its operator wrote it, and who answered there last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// HOST:PORT.
    pub addr: String,
    /// Who answered; `None` = nobody yet.
    pub node: Option<NodeId>,
}

/// An unborn node to which another one has a link now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbor {
    /// Which one.
    pub node: NodeId,
    /// Where it is reached, HOST:PORT.
    pub cluster_addr: String,
}

/// What an unborn node tells everybody it meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthSeeds {
    /// Its seeds.
    pub seeds: Vec<Seed>,
    /// Whom it has a link to that is unborn too.
    pub neighbors: Vec<Neighbor>,
    /// The birth that it has accepted and that may have happened: attempt and members.
    pub claim: Option<(Ballot, BTreeSet<NodeId>)>,
}

/// What control planes say once they know each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Are you there?
    Ping {
        /// Number of the question.
        seq: u64,
    },
    /// I am.
    Ack {
        /// Number of the question.
        seq: u64,
    },
    /// This node is about to stop; it stays a member.
    Leaving,
    /// This is how much I know; what do you know more?
    GossipSyn {
        /// Newest layout of the speaker.
        epoch: u64,
        /// Its hash.
        hash: LayoutHash,
        /// What it knows.
        digest: Vec<Digest>,
    },
    /// This is what you lack, and how much I know.
    GossipSynAck {
        /// Newer facts than the digest names.
        delta: Vec<Fact>,
        /// What the speaker knows.
        digest: Vec<Digest>,
    },
    /// This is what you lack.
    GossipAck {
        /// Newer facts than the digest names.
        delta: Vec<Fact>,
    },
    /// Send me the layouts from this epoch on.
    LayoutPull {
        /// The first one that the speaker lacks.
        from_epoch: u64,
    },
    /// Decided layouts, in order.
    LayoutPush {
        /// The epoch that was asked for, if this is an answer: what lies between it and the first
        /// layout here is no longer kept.
        asked_from: Option<u64>,
        /// A run of the chain.
        chain: Vec<Arc<Layout>>,
    },
    /// Promise me to follow no lower attempt.
    PaxPrepare {
        /// The epoch to be decided; 1 = birth.
        instance: u64,
        /// The attempt.
        ballot: Ballot,
        /// Who is to be born together, when nobody is known to have accepted a birth.
        fresh_birth: Option<BTreeSet<NodeId>>,
    },
    /// I do.
    PaxPromise {
        /// The epoch to be decided.
        instance: u64,
        /// The attempt.
        ballot: Ballot,
        /// What the speaker accepted before, and in which attempt.
        accepted: Option<(Ballot, Arc<Layout>)>,
    },
    /// Accept this.
    PaxAccept {
        /// The attempt.
        ballot: Ballot,
        /// The value; its epoch is the instance.
        layout: Arc<Layout>,
    },
    /// I have.
    PaxAccepted {
        /// The epoch to be decided.
        instance: u64,
        /// The attempt.
        ballot: Ballot,
    },
    /// I do not.
    PaxReject {
        /// The epoch to be decided.
        instance: u64,
        /// The attempt that is refused.
        ballot: Ballot,
        /// The attempt that the speaker follows.
        promised: Ballot,
    },
    /// An unborn node tells what a birth needs to know.
    BirthSeeds(BirthSeeds),
    /// The answer of a member to an unborn node.
    Belongs {
        /// The cluster of the speaker.
        cluster: ClusterId,
    },
    /// Take me in, as the hello says.
    JoinRequest,
    /// Not yet.
    JoinPending {
        /// What it waits for.
        text: String,
    },
    /// Never like this.
    JoinRefused {
        /// Why, and what to do.
        refusal: Refusal,
    },
}
