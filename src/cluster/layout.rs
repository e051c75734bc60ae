//! The layout: one link of the chain that says who is a member and who owns which partition.
//!
//! A layout travels and is hashed in a compact form, where a row is a list of indices into the
//! sorted roles: with 1,024 partitions and three replicas 4 KiB instead of 50. What arrives is
//! checked while it is decoded, so every [`Layout`] that exists keeps the invariants of its fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::identity::node_id;
use super::placement;
use crate::causality::{NodeId, NodeTag};
use crate::hash::PartitionId;
use crate::limits;

/// The capacity of a member unless it asks for another one.
pub const CAPACITY_DEFAULT: u32 = 100;

/// A cluster for ever, drawn at random at its birth.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClusterId(pub [u8; 16]);

/// SHA-256 of a layout: what the next link of the chain names as its previous one.
pub type LayoutHash = [u8; 32];

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
#[serde(into = "LayoutForm", try_from = "LayoutForm")]
pub struct Layout {
    /// 1 at birth, then +1 per change.
    pub epoch: u64,
    /// SHA-256 of the previous link; zeros at birth.
    pub previous: LayoutHash,
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
    /// The first layout of a cluster: every node of `roles` owns its part.
    pub fn born(
        cluster: ClusterId,
        partitions: u16,
        replicas: u8,
        roles: BTreeMap<NodeId, Role>,
    ) -> Self {
        Self {
            epoch: 1,
            previous: LayoutHash::default(),
            cluster,
            feature_level: 1,
            partitions,
            replicas,
            voters: voters(cluster, &roles),
            table: placement::next(&[], &roles, partitions, replicas),
            roles,
        }
    }

    /// The layout that follows this one when `newcomers` join. They own no partitions: the table
    /// stays as it is until a planned change.
    #[must_use]
    pub fn with_newcomers(&self, newcomers: BTreeMap<NodeId, Role>) -> Self {
        let mut roles = self.roles.clone();
        roles.extend(newcomers);
        Self {
            epoch: self.epoch + 1,
            previous: self.hash(),
            voters: voters(self.cluster, &roles),
            roles,
            ..self.clone()
        }
    }

    /// SHA-256 of the encoded layout. O(size).
    ///
    /// # Panics
    /// Never: encoding into memory cannot fail.
    pub fn hash(&self) -> LayoutHash {
        let bytes = postcard::to_stdvec(self).expect("a layout can be encoded into memory");
        Sha256::digest(bytes).into()
    }

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

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// At most seven nodes in the order of SHA-256(cluster, node), taken from the zones in turn.
fn voters(cluster: ClusterId, roles: &BTreeMap<NodeId, Role>) -> Vec<NodeId> {
    let mut by_hash: Vec<(LayoutHash, NodeId)> = roles
        .keys()
        .map(|&id| (Sha256::new().chain_update(cluster.0).chain_update(id.0).finalize().into(), id))
        .collect();
    by_hash.sort_unstable();
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut order: Vec<(usize, LayoutHash, NodeId)> = by_hash
        .into_iter()
        .map(|(hash, id)| {
            let turn = taken.entry(roles[&id].zone.as_str()).or_default();
            *turn += 1;
            (*turn, hash, id)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().take(limits::VOTERS_MAX).map(|(_, _, id)| id).collect()
}

/// A layout as it travels.
#[derive(Serialize, Deserialize)]
struct LayoutForm {
    epoch: u64,
    previous: LayoutHash,
    cluster: ClusterId,
    feature_level: u32,
    partitions: u16,
    replicas: u8,
    roles: BTreeMap<NodeId, Role>,
    voters: Vec<u16>,
    table: Vec<Vec<u16>>,
}

impl From<Layout> for LayoutForm {
    fn from(layout: Layout) -> Self {
        let order: Vec<NodeId> = layout.roles.keys().copied().collect();
        let place = |id: &NodeId| {
            let place = order.binary_search(id).expect("rows and voters name members only");
            u16::try_from(place).expect("a layout has at most 1,000 members")
        };
        Self {
            epoch: layout.epoch,
            previous: layout.previous,
            cluster: layout.cluster,
            feature_level: layout.feature_level,
            partitions: layout.partitions,
            replicas: layout.replicas,
            voters: layout.voters.iter().map(place).collect(),
            table: layout.table.iter().map(|row| row.iter().map(place).collect()).collect(),
            roles: layout.roles,
        }
    }
}

impl TryFrom<LayoutForm> for Layout {
    type Error = &'static str;

    fn try_from(form: LayoutForm) -> Result<Self, &'static str> {
        form.check_members()?;
        let order: Vec<NodeId> = form.roles.keys().copied().collect();
        let resolve = |places: &[u16]| -> Result<Vec<NodeId>, &'static str> {
            let ids: Vec<NodeId> = places
                .iter()
                .map(|&place| order.get(usize::from(place)).copied())
                .collect::<Option<_>>()
                .ok_or("a row or the voters of a layout name nobody")?;
            let distinct: BTreeSet<&NodeId> = ids.iter().collect();
            if distinct.len() < ids.len() {
                return Err("a row or the voters of a layout name one node twice");
            }
            Ok(ids)
        };
        if form.table.len() != usize::from(form.partitions) {
            return Err("a layout has another number of rows than of partitions");
        }
        if form.table.iter().any(|row| row.is_empty() || row.len() > usize::from(form.replicas)) {
            return Err("a row of a layout is empty or longer than the number of replicas");
        }
        if form.voters.is_empty() || form.voters.len() > limits::VOTERS_MAX {
            return Err("a layout has no voters or too many");
        }
        Ok(Self {
            epoch: form.epoch,
            previous: form.previous,
            cluster: form.cluster,
            feature_level: form.feature_level,
            partitions: form.partitions,
            replicas: form.replicas,
            voters: resolve(&form.voters)?,
            table: form.table.iter().map(|row| resolve(row)).collect::<Result<_, _>>()?,
            roles: form.roles,
        })
    }
}

impl LayoutForm {
    fn check_members(&self) -> Result<(), &'static str> {
        if self.epoch == 0 {
            return Err("a layout has epoch 0");
        }
        if !ring_is_valid(self.partitions, self.replicas) {
            return Err("a layout has a ring that cannot be");
        }
        if self.roles.is_empty() || self.roles.len() > limits::NODES_MAX {
            return Err("a layout has no members or too many");
        }
        if self.roles.iter().any(|(&id, role)| node_id(&role.public_key) != id) {
            return Err("a layout lists a member under an id that is not of its key");
        }
        let names: BTreeSet<&str> = self.roles.values().map(|role| role.name.as_str()).collect();
        let tags: BTreeSet<NodeTag> = self.roles.keys().map(|id| id.tag()).collect();
        if names.len() < self.roles.len() || tags.len() < self.roles.len() {
            return Err("two members of a layout share a name or a tag");
        }
        Ok(())
    }
}

/// Whether a ring of so many partitions and replicas can exist.
pub(super) fn ring_is_valid(partitions: u16, replicas: u8) -> bool {
    partitions.is_power_of_two()
        && partitions <= limits::PARTITIONS_MAX
        && (1..=limits::REPLICAS_MAX).contains(&replicas)
}
