//! The layout: one link of the chain that says who is a member and who owns which partition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::causality::NodeId;
use crate::hash::PartitionId;

/// A cluster for ever, drawn at random at its birth.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClusterId(pub [u8; 16]);

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Shown to people; unique in the layout.
    pub name: String,
    /// Ed25519 public key; its digest is the [`NodeId`].
    pub public_key: [u8; 32],
    /// Failure domain; members of one zone are expected to fail together.
    pub zone: String,
    /// Share of the data relative to the others; 0 = coordinates, owns nothing.
    pub capacity: u32,
    /// Where other nodes reach it, HOST:PORT.
    pub cluster_addr: String,
    /// Where clients reach it, HOST:PORT.
    pub client_addr: String,
}

/// One link of the chain. Two different layouts with one epoch cannot both be decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// 1 at birth, then +1 per change.
    pub epoch: u64,
    /// SHA-256 of the previous link; zeros at birth.
    pub previous: [u8; 32],
    /// Which cluster.
    pub cluster: ClusterId,
    /// Formats and features that every member can read.
    pub feature_level: u32,
    /// Number of partitions, a power of two, fixed at birth.
    pub partitions: u16,
    /// Copies of each key; a row is min(replicas, owners) long.
    pub replicas: u8,
    /// Every member.
    pub roles: BTreeMap<NodeId, Role>,
    /// Acceptors of the next link, at most 7.
    pub voters: Vec<NodeId>,
    /// For each partition its row, in order of preference.
    pub table: Vec<Vec<NodeId>>,
}

impl Layout {
    /// The nodes that own a partition, in order of preference.
    ///
    /// # Panics
    /// When the partition lies outside the ring of this layout.
    pub fn row(&self, partition: PartitionId) -> &[NodeId] {
        self.table.get(usize::from(partition.0)).expect("a partition lies within its ring")
    }

    /// How many partitions a node owns.
    pub fn owned_by(&self, node: NodeId) -> usize {
        self.table.iter().filter(|row| row.contains(&node)).count()
    }
}
