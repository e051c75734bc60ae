//! Placement: which nodes own which partition. A pure function of the table before and the roles.
//!
//! Each node has a quota of replicas proportional to its capacity, no zone holds more copies of one
//! partition than it must, and replicas go where augmenting paths of a flow lead, the shortest
//! first, so that few replicas move. Everything is sorted and ties fall by SHA-256, so every node
//! computes the same table. All arithmetic is in integers.
//!
//! Invariants of the result: each row holds min(replicas, owners) distinct owners; no zone has more
//! than the ceiling of [`zone_ceiling`] in a row; each node holds exactly its quota; each node is
//! first in floor or ceiling of its share of the rows. Source: ours, after the layout optimiser of
//! Garage (minimum-cost flow) and strategy 3 of the Dynamo paper.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sha2::{Digest, Sha256};

use super::Role;
use crate::causality::NodeId;

/// For each partition its row, in order of preference.
type Table = Vec<Vec<NodeId>>;

/// The table that follows `previous` (empty at birth) for these roles.
///
/// O(partitions * owners) when little changes; the nodes of capacity 0 own nothing.
///
/// # Panics
/// When `previous` is not empty and has another number of rows than `partitions`.
pub fn next(
    previous: &[Vec<NodeId>],
    roles: &BTreeMap<NodeId, Role>,
    partitions: u16,
    replicas: u8,
) -> Vec<Vec<NodeId>> {
    assert!(previous.is_empty() || previous.len() == usize::from(partitions));
    let owners: Vec<Owner> = roles
        .iter()
        .filter(|(_, role)| role.capacity > 0)
        .map(|(&id, role)| Owner {
            id,
            zone: role.zone.clone(),
            capacity: u64::from(role.capacity),
        })
        .collect();
    if owners.is_empty() {
        return vec![Vec::new(); usize::from(partitions)];
    }
    let mut flow = Flow::new(&owners, usize::from(partitions), usize::from(replicas));
    flow.keep(previous);
    flow.shed();
    flow.fill();
    rank(previous, &owners, flow.rows)
}

struct Owner {
    id: NodeId,
    zone: String,
    capacity: u64,
}

/// The most replicas of one partition that a zone must take so that `row` fit in: the least number
/// for which the zones, each giving no more than it has nodes, hold a row.
fn zone_ceiling(zone_sizes: &[usize], row: usize) -> usize {
    (1..=row)
        .find(|&ceiling| zone_sizes.iter().map(|&size| size.min(ceiling)).sum::<usize>() >= row)
        .expect("a row is no longer than there are owners")
}

/// Shares `total` among `weights` in proportion, none above its ceiling, by largest remainder.
/// The ceilings together are at least `total`. Ties fall to the lower index.
fn share(total: u64, weights: &[u64], ceilings: &[u64]) -> Vec<u64> {
    let mut shares = vec![0; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).collect();
    let mut rest = total;
    loop {
        let weight: u64 = open.iter().map(|&index| weights[index]).sum();
        let exceeds = |index: usize| {
            u128::from(rest) * u128::from(weights[index])
                > u128::from(ceilings[index]) * u128::from(weight)
        };
        let (full, left): (Vec<usize>, Vec<usize>) =
            open.iter().partition(|&&index| exceeds(index));
        if full.is_empty() {
            break;
        }
        for index in full {
            shares[index] = ceilings[index];
            rest -= ceilings[index];
        }
        open = left;
    }
    let weight: u64 = open.iter().map(|&index| weights[index]).sum();
    let mut remainders = Vec::new();
    let mut given = 0;
    for &index in &open {
        let product = u128::from(rest) * u128::from(weights[index]);
        let whole =
            u64::try_from(product / u128::from(weight)).expect("a share is below the total");
        shares[index] = whole;
        given += whole;
        remainders.push((u128::MAX - product % u128::from(weight), index));
    }
    remainders.sort_unstable();
    let missing = usize::try_from(rest - given).expect("fewer than there are shares are missing");
    for &(_, index) in remainders.iter().take(missing) {
        shares[index] += 1;
    }
    shares
}

/// The flow network: partitions, the zones of each partition, and owners, all by index.
struct Flow {
    row: usize,
    ceiling: usize,
    zone_of: Vec<usize>,
    members: Vec<Vec<usize>>,
    quota: Vec<usize>,
    load: Vec<usize>,
    owned: Vec<BTreeSet<usize>>,
    rows: Vec<Vec<usize>>,
    /// Replicas by partition and zone.
    in_zone: Vec<Vec<usize>>,
    /// First 8 bytes of SHA-256(partition, node): the order in which nodes and partitions meet.
    node_order: Vec<Vec<u64>>,
    zone_order: Vec<Vec<usize>>,
    ids: BTreeMap<NodeId, usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Vertex {
    Partition(usize),
    Zone(usize, usize),
    Node(usize),
}

impl Flow {
    fn new(owners: &[Owner], partitions: usize, replicas: usize) -> Self {
        let zones: BTreeSet<&str> = owners.iter().map(|owner| owner.zone.as_str()).collect();
        let zones: Vec<&str> = zones.into_iter().collect();
        let zone_of: Vec<usize> = owners
            .iter()
            .map(|owner| zones.binary_search(&owner.zone.as_str()).expect("every zone is listed"))
            .collect();
        let mut members = vec![Vec::new(); zones.len()];
        for (node, &zone) in zone_of.iter().enumerate() {
            members[zone].push(node);
        }
        let row = replicas.min(owners.len());
        let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
        let ceiling = zone_ceiling(&sizes, row);
        let by_hash = |partition: usize, name: &[u8]| {
            let digest = Sha256::new()
                .chain_update(u64::try_from(partition).expect("a partition number").to_le_bytes())
                .chain_update(name)
                .finalize();
            u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 digest has 32 bytes"))
        };
        let zone_order = (0..partitions)
            .map(|partition| {
                let mut order: Vec<usize> = (0..zones.len()).collect();
                order.sort_by_cached_key(|&zone| by_hash(partition, zones[zone].as_bytes()));
                order
            })
            .collect();
        Self {
            row,
            ceiling,
            quota: quotas(owners, &members, partitions, row, ceiling),
            load: vec![0; owners.len()],
            owned: vec![BTreeSet::new(); owners.len()],
            rows: vec![Vec::new(); partitions],
            in_zone: vec![vec![0; zones.len()]; partitions],
            node_order: (0..partitions)
                .map(|partition| {
                    owners.iter().map(|owner| by_hash(partition, &owner.id.0)).collect()
                })
                .collect(),
            zone_order,
            ids: owners.iter().enumerate().map(|(index, owner)| (owner.id, index)).collect(),
            zone_of,
            members,
        }
    }

    fn add(&mut self, partition: usize, node: usize) {
        self.rows[partition].push(node);
        self.owned[node].insert(partition);
        self.load[node] += 1;
        self.in_zone[partition][self.zone_of[node]] += 1;
    }

    fn remove(&mut self, partition: usize, node: usize) {
        self.rows[partition].retain(|&member| member != node);
        self.owned[node].remove(&partition);
        self.load[node] -= 1;
        self.in_zone[partition][self.zone_of[node]] -= 1;
    }

    /// Begins with the replicas of the table before, as far as nodes and zones still allow them.
    fn keep(&mut self, previous: &[Vec<NodeId>]) {
        for (partition, row) in previous.iter().enumerate() {
            for id in row {
                let Some(&node) = self.ids.get(id) else { continue };
                let fits = self.in_zone[partition][self.zone_of[node]] < self.ceiling;
                if fits && self.rows[partition].len() < self.row {
                    self.add(partition, node);
                }
            }
        }
    }

    /// Takes from each node what it holds above its quota, spread over the ring by hash.
    fn shed(&mut self) {
        for node in 0..self.load.len() {
            let mut held: Vec<usize> = self.owned[node].iter().copied().collect();
            held.sort_by_key(|&partition| self.node_order[partition][node]);
            let excess = self.load[node].saturating_sub(self.quota[node]);
            for partition in held.into_iter().take(excess) {
                self.remove(partition, node);
            }
        }
    }

    fn fill(&mut self) {
        for partition in 0..self.rows.len() {
            while self.rows[partition].len() < self.row {
                assert!(self.augment(partition), "quotas within zone and node ceilings can be met");
            }
        }
    }

    /// Gives `partition` one more replica along the shortest augmenting path: breadth first, from
    /// the partition over its zones to nodes, and from a full node back over what it would give up.
    fn augment(&mut self, partition: usize) -> bool {
        let start = Vertex::Partition(partition);
        let mut parents: BTreeMap<Vertex, Option<Vertex>> = BTreeMap::from([(start, None)]);
        let mut queue = VecDeque::from([start]);
        while let Some(vertex) = queue.pop_front() {
            for neighbor in self.neighbors(vertex, parents[&vertex]) {
                if parents.contains_key(&neighbor) {
                    continue;
                }
                parents.insert(neighbor, Some(vertex));
                if let Vertex::Node(node) = neighbor
                    && self.load[node] < self.quota[node]
                {
                    self.apply(neighbor, &parents);
                    return true;
                }
                queue.push_back(neighbor);
            }
        }
        false
    }

    fn neighbors(&self, vertex: Vertex, parent: Option<Vertex>) -> Vec<Vertex> {
        match vertex {
            Vertex::Partition(partition) => self.zone_order[partition]
                .iter()
                .filter(|&&zone| self.in_zone[partition][zone] < self.ceiling)
                .map(|&zone| Vertex::Zone(partition, zone))
                .collect(),
            Vertex::Zone(partition, zone) => {
                let mut nodes: Vec<usize> = self.members[zone]
                    .iter()
                    .copied()
                    .filter(|node| !self.rows[partition].contains(node))
                    .collect();
                // The emptiest first: load - quota, shifted so that it stays unsigned.
                nodes.sort_by_key(|&node| {
                    let room = self.quota[node] + self.rows.len() - self.load[node];
                    (usize::MAX - room, self.node_order[partition][node])
                });
                let mut next: Vec<Vertex> = nodes.into_iter().map(Vertex::Node).collect();
                // A zone reached from a node is giving a replica back, so the partition may take
                // one elsewhere.
                if matches!(parent, Some(Vertex::Node(_))) {
                    next.push(Vertex::Partition(partition));
                }
                next
            }
            Vertex::Node(node) => self.owned[node]
                .iter()
                .map(|&partition| Vertex::Zone(partition, self.zone_of[node]))
                .collect(),
        }
    }

    fn apply(&mut self, sink: Vertex, parents: &BTreeMap<Vertex, Option<Vertex>>) {
        let mut path = vec![sink];
        while let Some(parent) = parents[path.last().expect("a path is not empty")] {
            path.push(parent);
        }
        path.reverse();
        for step in path.windows(2) {
            match (step[0], step[1]) {
                (Vertex::Zone(partition, _), Vertex::Node(node)) => self.add(partition, node),
                (Vertex::Node(node), Vertex::Zone(partition, _)) => self.remove(partition, node),
                (Vertex::Partition(_) | Vertex::Zone(..) | Vertex::Node(_), _) => {}
            }
        }
    }
}

/// How many replicas each node holds: shares by zone first and rounded there, then inside each
/// zone. Rounding over all nodes at once would ask zones for more than they may hold.
fn quotas(
    owners: &[Owner],
    members: &[Vec<usize>],
    partitions: usize,
    row: usize,
    ceiling: usize,
) -> Vec<usize> {
    let wide = |count: usize| u64::try_from(count).expect("a count of replicas fits 64 bits");
    let weights: Vec<u64> =
        members.iter().map(|nodes| nodes.iter().map(|&node| owners[node].capacity).sum()).collect();
    let ceilings: Vec<u64> =
        members.iter().map(|nodes| wide(partitions * ceiling.min(nodes.len()))).collect();
    let zone_shares = share(wide(partitions * row), &weights, &ceilings);
    let mut quota = vec![0; owners.len()];
    for (nodes, total) in members.iter().zip(zone_shares) {
        let weights: Vec<u64> = nodes.iter().map(|&node| owners[node].capacity).collect();
        let shares = share(total, &weights, &vec![wide(partitions); nodes.len()]);
        for (&node, share) in nodes.iter().zip(shares) {
            quota[node] = usize::try_from(share).expect("a quota is at most the partitions");
        }
    }
    quota
}

/// Puts each row in order of preference: who stays keeps its place, who comes takes the place of
/// who left, and then the first places are evened out.
fn rank(previous: &[Vec<NodeId>], owners: &[Owner], rows: Vec<Vec<usize>>) -> Table {
    let ids = |row: &[usize]| row.iter().map(|&node| owners[node].id).collect::<Vec<NodeId>>();
    let index: BTreeMap<NodeId, usize> =
        owners.iter().enumerate().map(|(index, owner)| (owner.id, index)).collect();
    let mut ranked: Vec<Vec<usize>> = rows
        .into_iter()
        .enumerate()
        .map(|(partition, row)| match previous.get(partition) {
            None => row,
            Some(before) => inherit(before, &row, &index),
        })
        .collect();
    even_leaders(&mut ranked, owners.len());
    ranked.iter().map(|row| ids(row)).collect()
}

fn inherit(before: &[NodeId], row: &[usize], index: &BTreeMap<NodeId, usize>) -> Vec<usize> {
    let before: Vec<Option<usize>> = before.iter().map(|id| index.get(id).copied()).collect();
    let mut fresh: VecDeque<usize> =
        row.iter().copied().filter(|&node| !before.contains(&Some(node))).collect();
    let mut ranked: Vec<usize> = before
        .iter()
        .filter_map(|&place| place.filter(|node| row.contains(node)).or_else(|| fresh.pop_front()))
        .collect();
    ranked.extend(fresh);
    ranked
}

/// Changes as few first places as needed so that each node leads floor or ceiling of its part of
/// the rows (its replicas divided by the row length): an integral flow of that kind exists because
/// the fractional one, where every member leads 1/row of each of its partitions, does.
fn even_leaders(rows: &mut [Vec<usize>], nodes: usize) {
    let Some(row) = rows.first().map(Vec::len).filter(|&row| row > 0) else { return };
    let mut load = vec![0_usize; nodes];
    let mut leads = vec![0_usize; nodes];
    let mut held = vec![Vec::new(); nodes];
    for (partition, members) in rows.iter().enumerate() {
        leads[members[0]] += 1;
        for &member in members {
            load[member] += 1;
            held[member].push(partition);
        }
    }
    for node in 0..nodes {
        while leads[node] > load[node].div_ceil(row) {
            let below_ceiling = |other: usize| leads[other] < load[other].div_ceil(row);
            let path = leader_path(rows, &held, node, below_ceiling, true)
                .expect("a flow with these bounds exists");
            apply_leaders(rows, &mut leads, &path);
        }
    }
    for node in 0..nodes {
        while leads[node] < load[node] / row {
            let above_floor = |other: usize| leads[other] > load[other] / row;
            let path = leader_path(rows, &held, node, above_floor, false)
                .expect("a flow with these bounds exists");
            apply_leaders(rows, &mut leads, &path);
        }
    }
}

/// A shortest chain of changes of first places that takes one from `start` (`giving`) or brings it
/// one, and ends at a node for which `ends` holds. Each step is (partition, its new first).
fn leader_path(
    rows: &[Vec<usize>],
    held: &[Vec<usize>],
    start: usize,
    ends: impl Fn(usize) -> bool,
    giving: bool,
) -> Option<Vec<(usize, usize)>> {
    let mut parents: BTreeMap<usize, (usize, (usize, usize))> = BTreeMap::new();
    let mut seen = BTreeSet::from([start]);
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for &partition in &held[node] {
            let row = &rows[partition];
            let steps: Vec<(usize, usize)> = if !giving {
                vec![(row[0], node)]
            } else if row[0] == node {
                row[1..].iter().map(|&other| (other, other)).collect()
            } else {
                Vec::new()
            };
            for (other, first) in steps {
                if !seen.insert(other) {
                    continue;
                }
                parents.insert(other, (node, (partition, first)));
                if ends(other) {
                    let mut path = Vec::new();
                    let mut at = other;
                    while let Some(&(parent, step)) = parents.get(&at) {
                        path.push(step);
                        at = parent;
                    }
                    return Some(path);
                }
                queue.push_back(other);
            }
        }
    }
    None
}

fn apply_leaders(rows: &mut [Vec<usize>], leads: &mut [usize], path: &[(usize, usize)]) {
    for &(partition, first) in path {
        let row = &mut rows[partition];
        leads[row[0]] -= 1;
        leads[first] += 1;
        let place = row.iter().position(|&node| node == first).expect("a leader is in the row");
        row.swap(0, place);
    }
}
