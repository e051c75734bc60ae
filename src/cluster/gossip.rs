//! Gossip: what each node says of itself reaches every member, without anybody in the middle.
//!
//! Every 200 ms a node compares what it knows with a few random peers: a digest there, what is
//! missing and a digest back, what is missing there. One fact per node, owned by that node; the
//! newest (generation, version) wins, so the order of arrival does not matter. Each exchange is
//! bounded, and what did not fit goes with the next one.
//! Source: van Renesse, Dumitriu, Gough, Thomas, "Efficient Reconciliation and Flow Control for
//! Anti-Entropy Protocols" (Scuttlebutt), LADIS 2008, with one key per node.

use std::collections::BTreeMap;

use super::message::{Digest, Fact};
use crate::causality::NodeId;

/// Time between two rounds, in milliseconds.
pub(super) const GOSSIP_INTERVAL_MS: u64 = 200;
/// Peers of one round: with three, a fact reaches 100 nodes in about eight rounds.
pub(super) const GOSSIP_PEERS: usize = 3;
/// Facts of one message: about 12 KiB.
const DELTA_FACTS_MAX: usize = 64;
/// Longest address that a fact may hold, in bytes.
const ADDR_BYTES_MAX: usize = 300;

/// What this node knows of all members, itself included.
#[derive(Debug, Default)]
pub(super) struct Facts {
    facts: BTreeMap<NodeId, Fact>,
}

impl Facts {
    pub(super) fn about(&self, node: NodeId) -> Option<&Fact> {
        self.facts.get(&node)
    }

    /// Whether the fact was news.
    pub(super) fn learn(&mut self, fact: Fact) -> bool {
        let known = self.facts.get(&fact.node);
        let news = known.is_none_or(|known| age(known) < age(&fact));
        let fits = fact.cluster_addr.len().max(fact.client_addr.len()) <= ADDR_BYTES_MAX;
        if news && fits {
            self.facts.insert(fact.node, fact);
        }
        news && fits
    }

    pub(super) fn digest(&self) -> Vec<Digest> {
        let digest = |fact: &Fact| Digest {
            node: fact.node,
            generation: fact.generation,
            version: fact.version,
        };
        self.facts.values().map(digest).collect()
    }

    /// Facts that the owner of `digest` lacks, at most [`DELTA_FACTS_MAX`].
    pub(super) fn delta(&self, digest: &[Digest]) -> Vec<Fact> {
        let theirs: BTreeMap<NodeId, (u32, u32)> =
            digest.iter().map(|entry| (entry.node, (entry.generation, entry.version))).collect();
        self.facts
            .values()
            .filter(|fact| theirs.get(&fact.node).is_none_or(|&known| known < age(fact)))
            .take(DELTA_FACTS_MAX)
            .cloned()
            .collect()
    }

    /// Forgets everybody whom `keeps` does not name.
    pub(super) fn retain(&mut self, keeps: impl Fn(NodeId) -> bool) {
        self.facts.retain(|&node, _| keeps(node));
    }
}

fn age(fact: &Fact) -> (u32, u32) {
    (fact.generation, fact.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(number: u16, generation: u32, version: u32) -> Fact {
        let mut node = NodeId::default();
        node.0[..2].copy_from_slice(&number.to_be_bytes());
        Fact {
            node,
            generation,
            version,
            cluster_addr: format!("10.0.0.1:{number}"),
            client_addr: format!("{generation}.{version}:1"),
            layout_epoch: 1,
            layout_hash: [0; 32],
        }
    }

    #[test]
    fn the_newest_fact_wins_in_every_order() {
        let facts = [fact(1, 1, 9), fact(1, 2, 0), fact(1, 2, 1)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut known = Facts::default();
            for index in order {
                known.learn(facts[index].clone());
            }
            assert_eq!(known.about(facts[2].node), Some(&facts[2]));
            assert!(!known.learn(facts[1].clone()));
        }
    }

    #[test]
    fn two_nodes_agree_after_bounded_exchanges() {
        let (mut one, mut other) = (Facts::default(), Facts::default());
        for number in 0..200 {
            let holder = if number % 2 == 0 { &mut one } else { &mut other };
            holder.learn(fact(number, 1, 0));
        }
        let mut exchanges = 0;
        while one.digest() != other.digest() {
            for fact in one.delta(&other.digest()) {
                other.learn(fact);
            }
            let delta = other.delta(&one.digest());
            assert!(delta.len() <= DELTA_FACTS_MAX);
            for fact in delta {
                one.learn(fact);
            }
            exchanges += 1;
        }
        assert_eq!(exchanges, 2);
        assert_eq!(one.digest().len(), 200);
    }

    #[test]
    fn an_address_beyond_all_measure_is_not_learned() {
        let mut known = Facts::default();
        assert!(!known.learn(Fact { cluster_addr: "a".repeat(301), ..fact(1, 1, 1) }));
    }
}
