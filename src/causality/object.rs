//! The value of one key: its siblings and its causal context; and the four operations on it.
//!
//! A key with no entries is a delete that some replica may not have seen yet. Invariant I3: an
//! entry (a, n) in the context of key k means that every event of a *on k* up to n is known.

use std::cmp::{Ordering, Reverse};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Dot, PartitionClock, VersionVector};
use crate::planted::{Bug, planted};
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
    /// The mark of the request that wrote it; 0 = the request had no id to keep.
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

    /// Whether it is over for a clock that says `unix_ms`: at its expiry, not only after it.
    pub fn is_over(&self, unix_ms: u64) -> bool {
        self.expiry_ms != 0 && self.expiry_ms <= unix_ms
    }

    /// Whether it was written by the request `rid` with the value `payload`.
    fn is_try_of(&self, rid: u64, payload: &Bytes) -> bool {
        rid != 0 && self.rid == rid && self.payload == *payload
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

    /// What a reader is shown: the winner, then the losers in the same order. Of siblings that
    /// are tries of one request only the last is among them.
    pub fn shown(&self) -> Vec<&Entry> {
        let mut shown: Vec<&Entry> = self.entries.iter().collect();
        shown.sort_unstable_by_key(|entry| Reverse((entry.hlc, entry.dot)));
        let mut index = 0;
        while let Some((entry, later)) = shown.get(index).zip(shown.get(..index)) {
            if later.iter().any(|other| other.is_try_of(entry.rid, &entry.payload)) {
                shown.remove(index);
            } else {
                index += 1;
            }
        }
        shown
    }

    /// Whether any of its siblings ends.
    pub fn ends(&self) -> bool {
        self.entries.iter().any(|entry| entry.expiry_ms != 0)
    }

    /// Takes away the siblings that are over by a clock that says `unix_ms`: only to be shown, for
    /// what was taken away is still known to the others.
    pub fn hide_expired(&mut self, unix_ms: u64) {
        self.entries.retain(|entry| !entry.is_over(unix_ms));
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
}

/// The object with everything that the clock of its partition says about it. Only at a Ready
/// replica, and in the step that reads the object: a later clock would claim too much (rule R1).
#[must_use]
pub fn fill(mut stored: Object, clock: &PartitionClock) -> Object {
    let bases = clock.bases();
    // A stored context is mostly empty: what the clock covers was stripped from it.
    if stored.ctx.is_empty() {
        stored.ctx = bases;
    } else {
        stored.ctx.join(&bases);
    }
    // Damage can leave a clock behind what it was when the object was stripped.
    fill_from_siblings(stored)
}

/// The object with what its own siblings say: a context covers them, and what came before them of
/// their actors, until it is stripped. What is left where the clock is lost.
#[must_use]
pub fn fill_from_siblings(mut stored: Object) -> Object {
    for entry in &stored.entries {
        if !stored.ctx.covers(entry.dot) {
            stored.ctx.raise_to(entry.dot);
        }
    }
    stored
}

/// The object without what the clock of its partition says anyway. Only at a Ready replica.
#[must_use]
pub fn strip(mut object: Object, clock: &PartitionClock) -> Object {
    object.ctx.retain(|actor, seq| seq > clock.base_of(actor));
    object
}

/// What is known when both objects are known. Commutative, associative, idempotent; O(len of
/// both).
///
/// A sibling stays if both have it, or if the side that lacks it has never heard of it. Siblings
/// that are tries of one request stay too, and are left out when they are shown: if one replica
/// dropped a try where another never held both, their clocks would be equal and their objects not.
#[must_use]
pub fn merge(left: &Object, right: &Object) -> Object {
    let mut entries = Vec::with_capacity(left.entries.len().max(right.entries.len()));
    let (mut ours, mut theirs) = (left.entries.iter().peekable(), right.entries.iter().peekable());
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (Some(our), Some(their)) => our.dot.cmp(&their.dot),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let kept = match order {
            Ordering::Less => ours.next().filter(|entry| !right.ctx.covers(entry.dot)),
            Ordering::Greater => theirs.next().filter(|entry| !left.ctx.covers(entry.dot)),
            Ordering::Equal => theirs.next().and(ours.next()),
        };
        entries.extend(kept.cloned());
    }
    if planted(Bug::LastWriterWins) {
        let winner = entries.iter().map(|entry: &Entry| (entry.hlc, entry.dot)).max();
        entries.retain(|entry| Some((entry.hlc, entry.dot)) == winner);
    }
    let mut ctx = left.ctx.clone();
    ctx.join(&right.ctx);
    Object { entries, ctx }
}

/// A write at its leader. `filled` is the object as the leader knows it, `known` what the writer
/// knew; `dot` is freshly minted. `entry` is the new sibling, or `None` for a delete.
///
/// It replaces what the writer knew, and an earlier try of its own request.
///
/// # Panics
/// When the entry does not carry `dot`.
#[must_use]
pub fn put(filled: Object, dot: Dot, known: &VersionVector, entry: Option<Entry>) -> Put {
    let Object { entries, mut ctx } = filled;
    let is_known = |sibling: &Entry| {
        known.covers(sibling.dot)
            || entry.as_ref().is_some_and(|entry| sibling.is_try_of(entry.rid, &entry.payload))
    };
    let (replaced, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_known);
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
    Put { object: Object { entries, ctx }, gone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::Actor;

    const A: Actor = Actor(1);
    const B: Actor = Actor(2);

    fn dot(actor: Actor, seq: u64) -> Dot {
        Dot { actor, seq }
    }

    /// A try of request 5, at a time that grows with the number of the actor.
    fn a_try(at: Dot) -> Entry {
        Entry { rid: 5, ..Entry::register(at, Hlc(at.actor.0), Bytes::from_static(b"v")) }
    }

    fn lead(object: &Object, at: Dot, known: &VersionVector, entry: Option<Entry>) -> Object {
        put(object.clone(), at, known, entry).object
    }

    /// Two leaders ran one request, and a reader of the second try deleted it. When merging also
    /// dropped the older try, the replica that met both tries ended without a value and the one
    /// that met the delete first kept the older try, while their clocks were equal: for ever.
    #[test]
    fn the_order_of_arrival_of_two_tries_and_a_delete_does_not_matter() {
        let nothing = VersionVector::new();
        let first = lead(&Object::default(), dot(A, 1), &nothing, Some(a_try(dot(A, 1))));
        let second = lead(&Object::default(), dot(B, 1), &nothing, Some(a_try(dot(B, 1))));
        let deleted = lead(&second, dot(B, 2), &second.cover(), None);
        let tries_first = merge(&merge(&first, &second), &deleted);
        let delete_first = merge(&merge(&first, &deleted), &second);
        assert_eq!(tries_first, delete_first);
    }

    #[test]
    fn of_two_tries_a_reader_is_shown_the_last_and_its_context_covers_both() {
        let nothing = VersionVector::new();
        let first = lead(&Object::default(), dot(A, 1), &nothing, Some(a_try(dot(A, 1))));
        let second = lead(&Object::default(), dot(B, 1), &nothing, Some(a_try(dot(B, 1))));
        let both = merge(&first, &second);
        let shown: Vec<Dot> = both.shown().into_iter().map(|entry| entry.dot).collect();
        assert_eq!(shown, [dot(B, 1)]);
        assert!(both.dots().all(|dot| both.cover().covers(dot)));
    }

    #[test]
    fn a_leader_that_holds_the_first_try_replaces_it() {
        let nothing = VersionVector::new();
        let first = lead(&Object::default(), dot(A, 1), &nothing, Some(a_try(dot(A, 1))));
        let again = put(first.clone(), dot(A, 2), &nothing, Some(a_try(dot(A, 2))));
        assert_eq!(again.gone, [dot(A, 1)]);
        assert_eq!(again.object.dots().collect::<Vec<_>>(), [dot(A, 2)]);
        let other = Entry { rid: 6, ..a_try(dot(A, 2)) };
        let other = put(first, dot(A, 2), &nothing, Some(other));
        assert_eq!(other.object.shown().len(), 2, "an equal value of another request is a sibling");
    }

    #[test]
    fn the_losers_follow_the_winner_in_its_order() {
        let entry = |seq, hlc| Entry::register(dot(A, seq), Hlc(hlc), Bytes::new());
        let object = Object {
            entries: vec![entry(1, 9), entry(2, 7), entry(3, 9)],
            ctx: VersionVector::new(),
        };
        let shown: Vec<u64> = object.shown().into_iter().map(|entry| entry.dot.seq).collect();
        assert_eq!(shown, [3, 1, 2]);
        assert_eq!(object.winner(), object.shown().first().copied());
    }
}
