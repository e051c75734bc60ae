//! Who writes (node, actor), what a write is called (dot), and sets of dots without gaps.

use std::{fmt, mem};

use serde::{Deserialize, Serialize};

/// A node for ever: the first 16 bytes of SHA-256 of its public key.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 16]);

/// The first 32 bits of a [`NodeId`]; unique within a layout.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeTag(pub u32);

/// One uninterrupted memory of a node: its tag (high half) and an epoch (low half).
///
/// A node takes a new epoch at every start, because no start can prove that the disk it finds is
/// the one that it left. So an actor never mints two dots with one number (invariant I2).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor(pub u64);

/// The name of one write: the `seq`-th event of an actor in one partition. Starts at 1.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who minted it.
    pub actor: Actor,
    /// Its number, from 1 and without gaps per (partition, actor).
    pub seq: u64,
}

/// For each actor the number up to which every event is known. Sorted by actor, no zeros.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionVector(Vec<(Actor, u64)>);

impl NodeId {
    /// The half of an actor that names this node.
    pub fn tag(self) -> NodeTag {
        let [a, b, c, d, ..] = self.0;
        NodeTag(u32::from_be_bytes([a, b, c, d]))
    }
}

impl Actor {
    /// The actor of a node in one of its epochs.
    pub fn new(tag: NodeTag, epoch: u32) -> Self {
        Self(u64::from(tag.0) << 32 | u64::from(epoch))
    }

    /// The node that this actor belongs to.
    pub fn tag(self) -> NodeTag {
        NodeTag(u32::try_from(self.0 >> 32).expect("half of 64 bits is 32 bits"))
    }

    /// Which start of that node it is.
    pub fn epoch(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).expect("half of 64 bits is 32 bits")
    }
}

impl VersionVector {
    /// The empty vector: nothing is known.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The number up to which every event of `actor` is known; 0 if none is.
    pub fn get(&self, actor: Actor) -> u64 {
        self.0
            .binary_search_by_key(&actor, |entry| entry.0)
            .ok()
            .and_then(|index| self.0.get(index))
            .map_or(0, |entry| entry.1)
    }

    /// Whether the event named by `dot` is known.
    pub fn covers(&self, dot: Dot) -> bool {
        dot.seq <= self.get(dot.actor)
    }

    /// Raises the number of `actor` to at least `seq`.
    pub fn raise(&mut self, actor: Actor, seq: u64) {
        if seq == 0 {
            return;
        }
        if self.0.last().is_none_or(|last| last.0 < actor) {
            self.0.push((actor, seq));
            return;
        }
        match self.0.binary_search_by_key(&actor, |entry| entry.0) {
            Ok(index) => {
                let entry = self.0.get_mut(index).expect("the search found this index");
                entry.1 = entry.1.max(seq);
            }
            Err(index) => self.0.insert(index, (actor, seq)),
        }
    }

    /// Raises this vector to cover everything up to and including `dot`.
    pub fn raise_to(&mut self, dot: Dot) {
        self.raise(dot.actor, dot.seq);
    }

    /// The pointwise maximum, in place. The shorter one is raised into the longer one, because a
    /// key has few actors and the clock of its partition may have one for each start of a node.
    pub fn join(&mut self, other: &Self) {
        let shorter =
            if self.0.len() < other.0.len() { &mem::replace(self, other.clone()) } else { other };
        for &(actor, seq) in &shorter.0 {
            self.raise(actor, seq);
        }
    }

    /// Keeps the entries that `keep` approves.
    pub fn retain(&mut self, mut keep: impl FnMut(Actor, u64) -> bool) {
        self.0.retain(|&(actor, seq)| keep(actor, seq));
    }

    /// Whether every event that `other` knows is known here.
    pub fn dominates(&self, other: &Self) -> bool {
        other.0.iter().all(|&(actor, seq)| seq <= self.get(actor))
    }

    /// Actors and numbers, in the order of the actors.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Actor, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Number of actors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Actor, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (Actor, u64)>>(entries: I) -> Self {
        let mut vector = Self::new();
        for (actor, seq) in entries {
            vector.raise(actor, seq);
        }
        vector
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        dots.into_iter().map(|dot| (dot.actor, dot.seq)).collect()
    }
}

/// All 32 hexadecimal digits.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.tag().0)
    }
}

/// `TAG.EPOCH`, as `0a1b2c3d.217551234`.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{}", self.tag().0, self.epoch())
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `ACTOR:SEQ`.
impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.seq)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
