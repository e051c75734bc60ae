//! The value of one key: its siblings and its causal context; and the four operations on it.
//!
//! A key with no entries is a delete that some replica may not have seen yet. Invariant I3: an
//! entry (a, n) in the context of key k means that every event of a *on k* up to n is known.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Dot, PartitionClock, VersionVector};
use crate::time::Hlc;

/// One sibling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The event that wrote it.
    pub dot: Dot,
    /// When it was written, by the hybrid clock of its leader: the order of display.
    pub hlc: Hlc,
    /// When it ends, in milliseconds since the Unix epoch; 0 = never.
    pub expiry_ms: u64,
    /// The first 8 bytes of the id of the request that wrote it; 0 = the request had no id to keep.
    pub rid: u64,
    /// Kind of value; 0 = plain register.
    pub tag: u8,
    /// Place inside a composite value; empty for plain registers.
    pub path: Bytes,
    /// The value itself.
    pub payload: Bytes,
}

/// All siblings of a key, sorted by dot, and what is causally known about the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Sorted by dot, each dot once.
    pub entries: Vec<Entry>,
    /// Filled or stripped, as the place says that holds it.
    pub ctx: VersionVector,
}

/// What [`put`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The new object, with its full context.
    pub object: Object,
    /// Dots of the siblings that it replaced, in order.
    pub gone: Vec<Dot>,
}

impl Entry {
    /// A plain register.
    pub fn register(dot: Dot, hlc: Hlc, payload: Bytes) -> Self {
        Self { dot, hlc, expiry_ms: 0, rid: 0, tag: 0, path: Bytes::new(), payload }
    }
}

impl Object {
    /// Whether it has neither siblings nor context: the key need not be stored.
    pub fn is_void(&self) -> bool {
        self.entries.is_empty() && self.ctx.is_empty()
    }

    /// The sibling that plain reads show: highest timestamp, then highest dot.
    pub fn winner(&self) -> Option<&Entry> {
        self.entries.iter().max_by_key(|entry| (entry.hlc, entry.dot))
    }

    /// The dots of the siblings, in order.
    pub fn dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.entries.iter().map(|entry| entry.dot)
    }

    /// The least context that covers every sibling.
    pub fn cover(&self) -> VersionVector {
        self.dots().collect()
    }

    /// The plain vector clock of this object, for display: its context joined with its dots.
    pub fn vector_clock(&self) -> VersionVector {
        let mut clock = self.ctx.clone();
        self.dots().for_each(|dot| clock.raise_to(dot));
        clock
    }

    fn holds(&self, dot: Dot) -> bool {
        self.entries.binary_search_by_key(&dot, |entry| entry.dot).is_ok()
    }
}

/// The object with everything that the clock of its partition says about it. Only at a Ready
/// replica, and in the step that reads the object: a later clock would claim too much (rule R1).
#[must_use]
pub fn fill(mut stored: Object, clock: &PartitionClock) -> Object {
    stored.ctx.join(&clock.bases());
    stored
}

/// The object without what the clock of its partition says anyway. Only at a Ready replica.
#[must_use]
pub fn strip(mut object: Object, clock: &PartitionClock) -> Object {
    object.ctx.retain(|actor, seq| seq > clock.base_of(actor));
    object
}

/// What is known when both objects are known. Commutative, associative, idempotent.
///
/// A sibling stays if both have it, or if the side that lacks it has never heard of it. Siblings
/// that are retries of one request (equal non-zero `rid` and payload) collapse into the one with
/// the highest dot; the others are covered by the context, so they do not come back.
#[must_use]
pub fn merge(left: &Object, right: &Object) -> Object {
    let mut entries = Vec::with_capacity(left.entries.len().max(right.entries.len()));
    entries.extend(
        left.entries
            .iter()
            .filter(|entry| right.holds(entry.dot) || !right.ctx.covers(entry.dot))
            .cloned(),
    );
    entries.extend(
        right
            .entries
            .iter()
            .filter(|entry| !left.holds(entry.dot) && !left.ctx.covers(entry.dot))
            .cloned(),
    );
    entries.sort_unstable_by_key(|entry| entry.dot);
    let mut ctx = left.ctx.clone();
    ctx.join(&right.ctx);
    let mut merged = Object { entries, ctx };
    collapse_retries(&mut merged);
    merged
}

/// A write at its leader. `filled` is the object as the leader knows it, `known` what the writer
/// knew; `dot` is freshly minted. `entry` is the new sibling, or `None` for a delete.
///
/// # Panics
/// When the entry does not carry `dot`.
#[must_use]
pub fn put(filled: Object, dot: Dot, known: &VersionVector, entry: Option<Entry>) -> Put {
    let Object { entries, mut ctx } = filled;
    let (replaced, mut entries): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|sibling| known.covers(sibling.dot));
    let gone: Vec<Dot> = replaced.iter().map(|sibling| sibling.dot).collect();
    ctx.join(known);
    for &dot in &gone {
        ctx.raise_to(dot);
    }
    ctx.raise_to(dot);
    if let Some(entry) = entry {
        assert_eq!(entry.dot, dot, "an entry carries the dot that it was minted under");
        let place = entries.partition_point(|sibling| sibling.dot < dot);
        entries.insert(place, entry);
    }
    let mut object = Object { entries, ctx };
    collapse_retries(&mut object);
    Put { object, gone }
}

/// Keeps, of siblings that one request made through several leaders, only the last.
fn collapse_retries(object: &mut Object) {
    if object.entries.len() < 2 || object.entries.iter().all(|entry| entry.rid == 0) {
        return;
    }
    let doubles: Vec<Dot> = object
        .entries
        .iter()
        .filter(|entry| {
            entry.rid != 0
                && object.entries.iter().any(|other| {
                    other.dot > entry.dot
                        && other.rid == entry.rid
                        && other.payload == entry.payload
                })
        })
        .map(|entry| entry.dot)
        .collect();
    object.entries.retain(|entry| !doubles.contains(&entry.dot));
    for dot in doubles {
        object.ctx.raise_to(dot);
    }
}
