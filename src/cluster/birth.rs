//! Birth: which unborn nodes may become a cluster together. Pure; who asks and when is `unborn`.
//!
//! A set of unborn nodes may be born when it is *closed* (every seed of every one of them is one of
//! them) and all of them can reach one another. Of all closed sets the largest is taken, so a node
//! that nobody names but that is there in time is born with the others and owns its part; one that
//! comes later joins without partitions. A set is not closed while a seed does not answer: nobody
//! is left behind who was named. Source: ours.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{BirthSeeds, Seed};
use crate::causality::{NodeId, NodeTag};

/// An unborn node as the judge sees it: itself, or one that it has a link to.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) cluster_addr: String,
    pub(super) partitions: u16,
    pub(super) replicas: u8,
    pub(super) told: BirthSeeds,
}

/// What may be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing; the text says what is missing.
    Wait(String),
    /// These may be born together.
    Closed(BTreeSet<NodeId>),
    /// They could be born together if they all reached one another.
    Apart(BTreeSet<NodeId>, String),
    /// A birth of these members has begun and must be finished before any other.
    Begun(BTreeSet<NodeId>),
}

/// Judges what `me` knows. `nodes` holds `me` and every unborn node that it has a link to.
pub(super) fn judge(me: NodeId, nodes: &BTreeMap<NodeId, Candidate>) -> Verdict {
    let claims = nodes.values().filter_map(|node| node.told.claim.as_ref());
    if let Some((_, members)) = claims.filter(|(_, members)| members.contains(&me)).max() {
        return begun(members, nodes);
    }
    let closed = largest_closed_set(nodes);
    if !closed.contains(&me) {
        return Verdict::Wait(missing_seeds(nodes));
    }
    if let Some(text) = difference(&closed, nodes).or_else(|| clash(&closed, nodes)) {
        return Verdict::Wait(text);
    }
    match strangers(&closed, nodes) {
        Some(text) => Verdict::Apart(closed, text),
        None => Verdict::Closed(closed),
    }
}

/// The nodes that can be reached from `me` by following seeds, if they may be born without anybody
/// else: what is left to do when somebody whom they do not name cannot reach them all.
pub(super) fn closed_from(
    me: NodeId,
    nodes: &BTreeMap<NodeId, Candidate>,
) -> Option<BTreeSet<NodeId>> {
    let mut closed = BTreeSet::new();
    let mut open = vec![me];
    while let Some(node) = open.pop() {
        if closed.insert(node) {
            for seed in &nodes.get(&node)?.told.seeds {
                open.push(seed.node?);
            }
        }
    }
    let agree = difference(&closed, nodes).or_else(|| clash(&closed, nodes)).is_none();
    (agree && strangers(&closed, nodes).is_none()).then_some(closed)
}

/// Whether a node with these seeds may be born with `members`: its own word on the matter.
pub(super) fn admits(seeds: &[Seed], members: &BTreeSet<NodeId>) -> bool {
    seeds.iter().all(|seed| seed.node.is_some_and(|node| members.contains(&node)))
}

fn begun(members: &BTreeSet<NodeId>, nodes: &BTreeMap<NodeId, Candidate>) -> Verdict {
    let missing: Vec<String> = members
        .iter()
        .filter(|member| !nodes.contains_key(member))
        .map(|member| format!("node {member:?}"))
        .collect();
    if missing.is_empty() {
        return Verdict::Begun(members.clone());
    }
    Verdict::Wait(format!(
        "the birth of a cluster of {} nodes has begun and needs all of them; waits for {}; if one \
         will never come back, clear the data directories of all and start again",
        members.len(),
        missing.join(", ")
    ))
}

fn largest_closed_set(nodes: &BTreeMap<NodeId, Candidate>) -> BTreeSet<NodeId> {
    // Who is bound by the birth of others cannot be born with these.
    let mut closed: BTreeSet<NodeId> =
        nodes.iter().filter(|(_, node)| node.told.claim.is_none()).map(|(&id, _)| id).collect();
    loop {
        let kept: BTreeSet<NodeId> =
            closed.iter().copied().filter(|id| admits(&nodes[id].told.seeds, &closed)).collect();
        if kept.len() == closed.len() {
            return closed;
        }
        closed = kept;
    }
}

fn missing_seeds(nodes: &BTreeMap<NodeId, Candidate>) -> String {
    const NAMED_MAX: usize = 5;
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in nodes.values() {
        for seed in &node.told.seeds {
            if seed.node.is_none_or(|id| !nodes.contains_key(&id)) {
                missing.entry(&seed.addr).or_default().push(&node.name);
            }
        }
    }
    if missing.is_empty() {
        return String::from("waits for the birth of the nodes that its seeds belong to");
    }
    let more = missing.len().saturating_sub(NAMED_MAX);
    let mut parts: Vec<String> = missing
        .into_iter()
        .take(NAMED_MAX)
        .map(|(addr, names)| format!("{addr}, named as seed by {}", names.join(" and ")))
        .collect();
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    format!("waits for {}", parts.join("; "))
}

/// Why they cannot be one cluster: they were started with different rings.
fn difference(members: &BTreeSet<NodeId>, nodes: &BTreeMap<NodeId, Candidate>) -> Option<String> {
    let first = &nodes[members.first()?];
    let other = members
        .iter()
        .map(|id| &nodes[id])
        .find(|node| (node.partitions, node.replicas) != (first.partitions, first.replicas))?;
    Some(format!(
        "cannot be born: {} was started with partitions={} replicas={}, {} with partitions={} \
         replicas={}; restart one of them with the settings of the other",
        first.name, first.partitions, first.replicas, other.name, other.partitions, other.replicas
    ))
}

/// Why they cannot be one cluster: two of them cannot be told apart.
fn clash(members: &BTreeSet<NodeId>, nodes: &BTreeMap<NodeId, Candidate>) -> Option<String> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut tags: BTreeMap<NodeTag, &str> = BTreeMap::new();
    for id in members {
        let node = &nodes[id];
        if let Some(other) = names.insert(&node.name, &node.cluster_addr) {
            return Some(format!(
                "cannot be born: {other} and {} are both named {}; restart one of them with \
                 another --node-id",
                node.cluster_addr, node.name
            ));
        }
        if let Some(other) = tags.insert(id.tag(), &node.cluster_addr) {
            return Some(format!(
                "cannot be born: the keys of {other} and {} begin alike; clear the data directory \
                 of one of them and start it again",
                node.cluster_addr
            ));
        }
    }
    None
}

/// Which two of them cannot reach one another.
fn strangers(members: &BTreeSet<NodeId>, nodes: &BTreeMap<NodeId, Candidate>) -> Option<String> {
    for one in members {
        let linked: BTreeSet<NodeId> =
            nodes[one].told.neighbors.iter().map(|neighbor| neighbor.node).collect();
        if let Some(other) = members.iter().find(|&id| id != one && !linked.contains(id)) {
            return Some(format!(
                "waits until {} can reach {} at {}",
                nodes[one].name, nodes[other].name, nodes[other].cluster_addr
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::message::{Ballot, Neighbor};
    use super::*;

    fn id(number: u8) -> NodeId {
        NodeId([number; 16])
    }

    /// Nodes 1.. with these seeds, where the seeds in `down` do not answer; all are linked.
    fn nodes(seeds: &[(u8, &[u8])], down: &[u8]) -> BTreeMap<NodeId, Candidate> {
        let present: Vec<u8> = seeds.iter().map(|&(number, _)| number).collect();
        let neighbors = |me: u8| {
            let others = present.iter().filter(move |&&number| number != me);
            others.map(|&n| Neighbor { node: id(n), cluster_addr: format!("a{n}") }).collect()
        };
        let seed = |&number: &u8| Seed {
            addr: format!("a{number}"),
            node: (!down.contains(&number)).then(|| id(number)),
        };
        seeds
            .iter()
            .map(|&(number, named)| {
                let told = BirthSeeds {
                    seeds: named.iter().map(seed).collect(),
                    neighbors: neighbors(number),
                    claim: None,
                };
                let candidate = Candidate {
                    name: format!("n{number}"),
                    cluster_addr: format!("a{number}"),
                    partitions: 16,
                    replicas: 3,
                    told,
                };
                (id(number), candidate)
            })
            .collect()
    }

    fn closed(numbers: &[u8]) -> Verdict {
        Verdict::Closed(numbers.iter().copied().map(id).collect())
    }

    fn text(verdict: Verdict) -> String {
        match verdict {
            Verdict::Wait(text) | Verdict::Apart(_, text) => text,
            Verdict::Closed(_) | Verdict::Begun(_) => panic!("{verdict:?} waits for nothing"),
        }
    }

    #[test]
    fn a_ring_is_closed_only_with_all_of_it() {
        let ring = nodes(&[(1, &[2]), (2, &[3]), (3, &[1])], &[]);
        assert_eq!(judge(id(1), &ring), closed(&[1, 2, 3]));
        let pair = nodes(&[(1, &[2]), (2, &[3])], &[3]);
        assert_eq!(text(judge(id(1), &pair)), "waits for a3, named as seed by n2");
        assert_eq!(closed_from(id(1), &pair), None);
    }

    #[test]
    fn who_names_a_pair_in_time_is_born_with_it() {
        let pair = nodes(&[(1, &[2]), (2, &[1])], &[]);
        assert_eq!(judge(id(1), &pair), closed(&[1, 2]));
        let three = nodes(&[(1, &[2]), (2, &[1]), (3, &[1])], &[]);
        assert_eq!(judge(id(1), &three), closed(&[1, 2, 3]));
    }

    #[test]
    fn who_waits_for_somebody_else_does_not_hold_up_a_closed_pair() {
        let three = nodes(&[(1, &[2]), (2, &[1]), (3, &[1, 4])], &[4]);
        assert_eq!(judge(id(1), &three), closed(&[1, 2]));
        assert_eq!(text(judge(id(3), &three)), "waits for a4, named as seed by n3");
    }

    #[test]
    fn who_cannot_reach_everybody_is_left_to_join_later() {
        let mut three = nodes(&[(1, &[2]), (2, &[1]), (3, &[1])], &[]);
        three.get_mut(&id(3)).unwrap().told.neighbors.retain(|other| other.node != id(2));
        assert_eq!(text(judge(id(1), &three)), "waits until n3 can reach n2 at a2");
        assert_eq!(closed_from(id(1), &three), Some(BTreeSet::from([id(1), id(2)])));
    }

    #[test]
    fn different_rings_and_equal_names_are_refused_in_words() {
        let mut pair = nodes(&[(1, &[2]), (2, &[1])], &[]);
        pair.get_mut(&id(2)).unwrap().partitions = 32;
        let said = text(judge(id(1), &pair));
        assert!(said.contains("n1 was started with partitions=16"), "{said}");
        assert!(said.contains("n2 with partitions=32"), "{said}");
        let mut pair = nodes(&[(1, &[2]), (2, &[1])], &[]);
        pair.get_mut(&id(2)).unwrap().name = String::from("n1");
        let said = text(judge(id(1), &pair));
        assert!(said.contains("a1 and a2 are both named n1"), "{said}");
    }

    #[test]
    fn a_birth_that_has_begun_comes_before_every_other() {
        let mut three = nodes(&[(1, &[2]), (2, &[1]), (3, &[1])], &[]);
        let ballot = Ballot { round: 1, node: id(1), generation: 1 };
        let members = BTreeSet::from([id(1), id(2)]);
        three.get_mut(&id(2)).unwrap().told.claim = Some((ballot, members.clone()));
        assert_eq!(judge(id(1), &three), Verdict::Begun(members));
        assert_eq!(
            text(judge(id(3), &three)),
            "waits for the birth of the nodes that its seeds belong to"
        );
    }
}
