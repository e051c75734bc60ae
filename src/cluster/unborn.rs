//! The life of a node before it belongs to a cluster: it asks its seeds, and is then born together
//! with others or taken in by a member.
//!
//! A node that has accepted a birth is bound to it, and one that has asked to join is bound to that
//! cluster; both are remembered across restarts, so no node ever belongs to two clusters.

use std::collections::{BTreeMap, BTreeSet};

use super::birth::{self, Candidate, Verdict};
use super::message::{BirthSeeds, CODE_OTHER_CLUSTER, CODE_SEED_IS_SELF, Neighbor, Seed};
use super::{Cluster, ClusterId, Message, Output, Refusal};
use crate::causality::NodeId;
use crate::limits;
use crate::time::Mono;

/// Time between two looks at the world, in milliseconds.
const LOOK_INTERVAL_MS: u64 = 250;
/// Time for which a set must stay closed before it is born, in milliseconds: who starts together is
/// born together.
const SETTLE_MS: u64 = 1_000;
/// Time for which nodes that cannot all reach one another are waited for, in milliseconds.
const APART_MS: u64 = 10_000;
/// Time for which other seeds are waited for once one has a cluster, in milliseconds: they might
/// belong to another one.
const OTHER_SEEDS_MS: u64 = 2_000;
/// Time between two requests to be taken in, in milliseconds.
const ASK_INTERVAL_MS: u64 = 1_000;

/// What an unborn node knows. Nothing of it matters after birth.
#[derive(Debug, Default)]
pub(super) struct Unborn {
    /// Who answered at each seed address last.
    answered: BTreeMap<String, NodeId>,
    /// What the unborn nodes that are linked told last.
    heard: BTreeMap<NodeId, BirthSeeds>,
    /// The set that was closed at the last look, whether all of it was linked, and since when.
    closed: Option<(BTreeSet<NodeId>, bool, Mono)>,
    /// The cluster that this node has asked to join. Remembered across restarts.
    pub(super) asked: Option<ClusterId>,
    /// Since when it knows of a cluster.
    met_cluster: Option<Mono>,
    next_ask: Mono,
    next_look: Mono,
    /// What it waits for, for people.
    pub(super) text: String,
}

impl Unborn {
    pub(super) fn remembering(asked: Option<ClusterId>) -> Self {
        Self { asked, ..Self::default() }
    }

    pub(super) fn on_answer(&mut self, addr: String, node: NodeId) {
        self.answered.insert(addr, node);
        self.next_look = Mono(0);
    }

    pub(super) fn on_told(&mut self, from: NodeId, told: BirthSeeds) {
        if told.seeds.len() <= limits::NODES_MAX && told.neighbors.len() <= limits::NODES_MAX {
            self.heard.insert(from, told);
        }
    }

    pub(super) fn on_down(&mut self, node: NodeId) {
        self.heard.remove(&node);
        self.next_look = Mono(0);
    }

    pub(super) fn deadline(&self) -> Mono {
        self.next_look
    }

    /// Addresses of unborn nodes that others have links to.
    pub(super) fn neighbor_addrs(&self) -> impl Iterator<Item = (NodeId, &str)> {
        let neighbors = self.heard.values().flat_map(|told| &told.neighbors);
        neighbors.map(|neighbor| (neighbor.node, neighbor.cluster_addr.as_str()))
    }
}

impl Cluster {
    /// The seeds of this node, and who answers there.
    pub(super) fn seeds(&self) -> Vec<Seed> {
        let seed = |addr: &String| Seed { addr: addr.clone(), node: self.seed_node(addr) };
        self.settings.seeds.iter().map(seed).collect()
    }

    fn seed_node(&self, addr: &str) -> Option<NodeId> {
        if addr == self.settings.cluster_addr {
            return Some(self.me);
        }
        let by_name = || self.links.iter().find(|(_, peer)| peer.hello.cluster_addr == addr);
        self.unborn.answered.get(addr).copied().or_else(|| by_name().map(|(node, _)| node))
    }

    /// Looks at the world when it is time to, and does what can be done.
    pub(super) fn unborn_on_time(&mut self, out: &mut Output) {
        if self.chain.newest().is_some() || self.refused.is_some() {
            return;
        }
        if self.now.mono < self.unborn.next_look {
            return;
        }
        self.unborn.next_look = self.now.mono.plus_ms(LOOK_INTERVAL_MS);
        let bound = self.acceptor.accepted.is_some();
        let seeds = self.seeds();
        if !bound && !seeds.is_empty() && seeds.iter().all(|seed| seed.node == Some(self.me)) {
            let text = format!(
                "every seed of {} ({}) is this node itself; name another node, or start without \
                 seeds to begin a new cluster of one",
                self.settings.name,
                self.settings.seeds.join(", ")
            );
            self.refuse(Refusal::new(CODE_SEED_IS_SELF, text));
            return;
        }
        let text = if bound {
            self.look_for_birth(out)
        } else {
            match self.look_for_cluster(&seeds) {
                Err(refusal) => {
                    self.refuse(refusal);
                    return;
                }
                Ok(Some((cluster, members))) => self.ask_to_join(cluster, &members, &seeds, out),
                Ok(None) => match self.unborn.asked {
                    Some(cluster) => format!(
                        "has asked to join cluster {cluster}; waits until a member answers at {}",
                        self.settings.seeds.join(", ")
                    ),
                    None => self.look_for_birth(out),
                },
            }
        };
        if !text.is_empty() && text != self.unborn.text {
            self.unborn.text = text;
            self.changed = true;
        }
    }

    /// The cluster that the seeds belong to, and who of them does. Two clusters are refused.
    fn look_for_cluster(
        &self,
        seeds: &[Seed],
    ) -> Result<Option<(ClusterId, Vec<NodeId>)>, Refusal> {
        let mut clusters: BTreeMap<ClusterId, Vec<NodeId>> = BTreeMap::new();
        for node in seeds.iter().filter_map(|seed| seed.node) {
            if let Some(cluster) = self.links.peer(node).and_then(|peer| peer.cluster) {
                clusters.entry(cluster).or_default().push(node);
            }
        }
        let mut known: Vec<String> = clusters.keys().map(ClusterId::to_string).collect();
        let asked = self.unborn.asked.filter(|asked| !clusters.contains_key(asked));
        if let Some(asked) = asked.filter(|_| !clusters.is_empty()) {
            known.push(format!("{asked} (which this node has asked to join before)"));
        }
        if known.len() > 1 {
            let text = format!(
                "the seeds of {} belong to different clusters: {}; name only the nodes of one{}",
                self.settings.name,
                known.join(" and "),
                if asked.is_some() { ", and begin with an empty data directory" } else { "" }
            );
            return Err(Refusal::new(CODE_OTHER_CLUSTER, text));
        }
        Ok(clusters.into_iter().next())
    }

    fn ask_to_join(
        &mut self,
        cluster: ClusterId,
        members: &[NodeId],
        seeds: &[Seed],
        out: &mut Output,
    ) -> String {
        let now = self.now.mono;
        let met = *self.unborn.met_cluster.get_or_insert(now);
        let linked = |seed: &Seed| {
            seed.node.is_some_and(|node| node == self.me || self.links.peer(node).is_some())
        };
        let patient = now < met.plus_ms(OTHER_SEEDS_MS);
        if self.unborn.asked.is_none() && patient && !seeds.iter().all(linked) {
            return format!("has found cluster {cluster}; waits a moment for its other seeds");
        }
        if now < self.unborn.next_ask {
            return String::new();
        }
        let reachable: Vec<NodeId> =
            members.iter().copied().filter(|&node| self.links.reaches(node)).collect();
        let knows_me_not = |node: &NodeId| {
            self.unborn.asked.is_some()
                || self.links.peer(*node).is_some_and(|peer| peer.knows_me_not)
        };
        let Some(member) = reachable.iter().copied().find(knows_me_not) else {
            // Who remembers nothing asks first whether it is a member, lest a node that lost its
            // memory gets its votes back by joining.
            let told = self.birth_seeds();
            for node in reachable {
                self.tell(node, Message::BirthSeeds(told.clone()), out);
            }
            return format!("has found cluster {cluster}");
        };
        if self.unborn.asked.is_none() {
            self.unborn.asked = Some(cluster);
            self.journal.remember_asked(cluster, out);
        }
        self.unborn.next_ask = now.plus_ms(ASK_INTERVAL_MS);
        self.tell(member, Message::JoinRequest, out);
        if self.unborn.text.is_empty() || self.unborn.text.starts_with("has found") {
            return format!("has asked to join cluster {cluster}");
        }
        String::new()
    }

    pub(super) fn on_join_pending(&mut self, text: &str) {
        if self.chain.newest().is_none() {
            self.unborn.text = format!("joins a cluster: {text}");
            self.changed = true;
        }
    }

    /// Tells the other unborn nodes what it knows, and proposes a birth if it is its turn.
    fn look_for_birth(&mut self, out: &mut Output) -> String {
        let nodes = self.candidates();
        let told = nodes[&self.me].told.clone();
        let others: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(_, peer)| peer.cluster.is_none())
            .map(|(node, _)| node)
            .collect();
        for node in others {
            self.tell(node, Message::BirthSeeds(told.clone()), out);
        }
        match birth::judge(self.me, &nodes) {
            Verdict::Wait(text) => {
                self.unborn.closed = None;
                text
            }
            Verdict::Begun(members) => self.give_birth(members, false, &nodes, out),
            Verdict::Closed(members) => {
                if self.closed_for(&members, true) >= SETTLE_MS {
                    return self.give_birth(members, true, &nodes, out);
                }
                format!("is about to be born with {}", names(&members, &nodes))
            }
            Verdict::Apart(members, text) => {
                if self.closed_for(&members, false) < APART_MS {
                    return text;
                }
                match birth::closed_from(self.me, &nodes) {
                    Some(fewer) => self.give_birth(fewer, true, &nodes, out),
                    None => text,
                }
            }
        }
    }

    /// Milliseconds since when this is the set that can be born.
    fn closed_for(&mut self, members: &BTreeSet<NodeId>, linked: bool) -> u64 {
        let now = self.now.mono;
        match &self.unborn.closed {
            Some((known, was_linked, since)) if known == members && *was_linked == linked => {
                now.ms_since(*since)
            }
            Some(_) | None => {
                self.unborn.closed = Some((members.clone(), linked, now));
                0
            }
        }
    }

    fn give_birth(
        &mut self,
        members: BTreeSet<NodeId>,
        fresh: bool,
        nodes: &BTreeMap<NodeId, Candidate>,
        out: &mut Output,
    ) -> String {
        let text = format!("is being born with {}", names(&members, nodes));
        if members.first() == Some(&self.me) && self.attempts.is_idle(self.now.mono) {
            self.propose_birth(members, fresh, out);
        }
        text
    }

    fn candidates(&self) -> BTreeMap<NodeId, Candidate> {
        let mine = Candidate {
            name: self.settings.name.clone(),
            cluster_addr: self.settings.cluster_addr.clone(),
            partitions: self.settings.partitions,
            replicas: self.settings.replicas,
            told: self.birth_seeds(),
        };
        let mut nodes = BTreeMap::from([(self.me, mine)]);
        for (node, peer) in self.links.iter() {
            let Some(told) = self.unborn.heard.get(&node) else { continue };
            if peer.cluster.is_none() && peer.is_reachable() {
                let candidate = Candidate {
                    name: peer.hello.name.clone(),
                    cluster_addr: peer.hello.cluster_addr.clone(),
                    partitions: peer.hello.partitions,
                    replicas: peer.hello.replicas,
                    told: told.clone(),
                };
                nodes.insert(node, candidate);
            }
        }
        nodes
    }

    fn birth_seeds(&self) -> BirthSeeds {
        let neighbor = |(node, peer): (NodeId, &super::detector::Peer)| Neighbor {
            node,
            cluster_addr: peer.hello.cluster_addr.clone(),
        };
        let linked =
            self.links.iter().filter(|(_, peer)| peer.cluster.is_none() && peer.is_reachable());
        let claim = self.acceptor.accepted.as_ref();
        BirthSeeds {
            seeds: self.seeds(),
            neighbors: linked.map(neighbor).collect(),
            claim: claim.map(|(ballot, layout)| (*ballot, layout.roles.keys().copied().collect())),
        }
    }
}

fn names(members: &BTreeSet<NodeId>, nodes: &BTreeMap<NodeId, Candidate>) -> String {
    let names: Vec<&str> = members.iter().map(|id| nodes[id].name.as_str()).collect();
    names.join(", ")
}
