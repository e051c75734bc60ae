//! What control planes say to one another.

use serde::{Deserialize, Serialize};

use super::ClusterId;
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
    pub layout_hash: [u8; 32],
    /// Partitions that it would be born with; equal in all nodes of a birth.
    pub partitions: u16,
    /// Replicas that it would be born with; equal in all nodes of a birth.
    pub replicas: u8,
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
}
