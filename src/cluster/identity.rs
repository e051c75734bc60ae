//! Who a node is: its settings, the id made of its key, and the epoch of this start.

use sha2::{Digest, Sha256};

use super::Role;
use super::layout::CAPACITY_DEFAULT;
use crate::causality::NodeId;

/// Milliseconds of Unix time at which epochs begin to count: 2020-01-01T00:00:00Z.
const EPOCH_ZERO_UNIX_MS: u64 = 1_577_836_800_000;

/// What the shell tells the control plane at the start of the process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Ed25519 public key of the identity file; its digest is the node id.
    pub public_key: [u8; 32],
    /// Name shown to people; unique in the cluster.
    pub name: String,
    /// Failure domain.
    pub zone: String,
    /// Where other nodes reach this one, HOST:PORT.
    pub cluster_addr: String,
    /// Where clients reach this node, HOST:PORT.
    pub client_addr: String,
    /// Cluster addresses of other nodes, as the operator wrote them. None: a cluster of one.
    pub seeds: Vec<String>,
    /// Partitions that a cluster born here has.
    pub partitions: u16,
    /// Replicas that a cluster born here has.
    pub replicas: u8,
    /// Entropy of the operating system: cluster ids and back-off are drawn from it.
    pub seed: u64,
}

impl Settings {
    /// The id of this node.
    pub fn node(&self) -> NodeId {
        node_id(&self.public_key)
    }

    pub(super) fn role(&self) -> Role {
        Role {
            name: self.name.clone(),
            public_key: self.public_key,
            zone: self.zone.clone(),
            capacity: CAPACITY_DEFAULT,
            cluster_addr: self.cluster_addr.clone(),
            client_addr: self.client_addr.clone(),
        }
    }
}

/// The id of the node that holds this key.
///
/// # Panics
/// Never: a SHA-256 digest has 32 bytes.
pub fn node_id(public_key: &[u8; 32]) -> NodeId {
    let digest = Sha256::digest(public_key);
    NodeId(digest[..16].try_into().expect("a SHA-256 digest has 32 bytes"))
}

/// The actor epoch of a start: above the last one that the disk remembers, and at least the seconds
/// since 2020, so that a disk restored from an old copy does not repeat one.
pub(super) fn next_epoch(last: Option<u32>, unix_ms: u64) -> u32 {
    let seconds = unix_ms.saturating_sub(EPOCH_ZERO_UNIX_MS) / 1_000;
    let by_clock = u32::try_from(seconds).unwrap_or(u32::MAX).max(1);
    last.map_or(by_clock, |last| {
        last.checked_add(1).expect("2^32 starts outlast any node").max(by_clock)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_never_repeats_even_when_the_clock_or_the_disk_goes_back() {
        let second = |seconds: u64| EPOCH_ZERO_UNIX_MS + seconds * 1_000;
        assert_eq!(next_epoch(None, second(500)), 500);
        assert_eq!(next_epoch(Some(500), second(500)), 501);
        assert_eq!(next_epoch(Some(500), second(7)), 501);
        assert_eq!(next_epoch(Some(7), second(500)), 500);
        assert_eq!(next_epoch(None, 0), 1);
    }
}
