//! The clock of one replica of one partition: which dots are reflected in its keys.
//!
//! Per actor a base, "every event up to here", and a sparse bitmap of events above it. Invariant
//! I1: a dot in the clock is durably reflected in the keys, by its own version or by one that
//! supersedes it. Only the base may be used to fill an object (rule R3): the bits above it say
//! nothing about events in between.

use serde::{Deserialize, Serialize};

use super::{Actor, Dot, VersionVector};
use crate::planted::{Bug, planted};

/// A bitmapped version vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionClock(Vec<(Actor, Reach)>);

/// What is known of one actor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Reach {
    base: u64,
    /// Events above `base`: (number / 64, bits), sorted, no empty words.
    above: Vec<(u64, u64)>,
}

impl PartitionClock {
    /// A clock that knows nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether `dot` is known.
    pub fn contains(&self, dot: Dot) -> bool {
        self.reach(dot.actor).is_some_and(|reach| reach.contains(dot.seq))
    }

    /// The number up to which every event of `actor` is known; 0 if none is.
    pub fn base_of(&self, actor: Actor) -> u64 {
        self.reach(actor).map_or(0, |reach| reach.base)
    }

    /// The number of the last event of `actor` that is known, gaps below it or not.
    pub(crate) fn highest_of(&self, actor: Actor) -> u64 {
        self.reach(actor).map_or(0, Reach::highest)
    }

    /// Takes note of `dot`. Numbers start at 1; 0 names nothing and is passed over.
    pub fn add(&mut self, dot: Dot) {
        if dot.seq > 0 {
            self.reach_mut(dot.actor).add(dot.seq);
        }
    }

    /// Takes note of everything that `other` knows. Only after its data are durable here.
    pub fn join(&mut self, other: &Self) {
        for (actor, theirs) in &other.0 {
            let ours = self.reach_mut(*actor);
            ours.base = ours.base.max(theirs.base);
            for &(word, bits) in &theirs.above {
                ours.set(word, bits);
            }
            ours.normalize();
        }
    }

    /// The bases alone: what an object of this replica may be filled with.
    pub fn bases(&self) -> VersionVector {
        let known = |reach: &Reach| {
            if planted(Bug::FillBeyondBase) { reach.highest() } else { reach.base }
        };
        self.0.iter().map(|(actor, reach)| (*actor, known(reach))).collect()
    }

    /// Whether no event is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of actors known.
    pub fn actors(&self) -> usize {
        self.0.len()
    }

    /// Number of events known above the bases: 0 when nothing is missing.
    pub fn scattered(&self) -> u64 {
        self.0
            .iter()
            .flat_map(|(_, reach)| &reach.above)
            .map(|(_, bits)| u64::from(bits.count_ones()))
            .sum()
    }

    /// Number of events known. Of two clocks of one partition, the larger number knows more.
    pub fn events(&self) -> u64 {
        let bases = self.0.iter().map(|(_, reach)| reach.base);
        bases.fold(self.scattered(), u64::saturating_add)
    }

    fn reach(&self, actor: Actor) -> Option<&Reach> {
        let index = self.0.binary_search_by_key(&actor, |entry| entry.0).ok()?;
        self.0.get(index).map(|entry| &entry.1)
    }

    fn reach_mut(&mut self, actor: Actor) -> &mut Reach {
        let index = match self.0.binary_search_by_key(&actor, |entry| entry.0) {
            Ok(index) => index,
            Err(index) => {
                self.0.insert(index, (actor, Reach::default()));
                index
            }
        };
        &mut self.0.get_mut(index).expect("the entry was found or made").1
    }
}

impl Reach {
    fn contains(&self, seq: u64) -> bool {
        seq <= self.base
            || self
                .above
                .binary_search_by_key(&(seq / 64), |word| word.0)
                .ok()
                .and_then(|index| self.above.get(index))
                .is_some_and(|(_, bits)| bits & (1 << (seq % 64)) != 0)
    }

    /// The highest event, whatever is missing below it.
    fn highest(&self) -> u64 {
        self.above.last().map_or(self.base, |(word, bits)| word * 64 + u64::from(bits.ilog2()))
    }

    fn add(&mut self, seq: u64) {
        if self.above.is_empty() && self.base.checked_add(1) == Some(seq) {
            self.base = seq;
        } else if seq > self.base {
            self.set(seq / 64, 1 << (seq % 64));
            self.normalize();
        }
    }

    fn set(&mut self, word: u64, bits: u64) {
        match self.above.binary_search_by_key(&word, |entry| entry.0) {
            Ok(index) => self.above.get_mut(index).expect("the search found this index").1 |= bits,
            Err(index) => self.above.insert(index, (word, bits)),
        }
    }

    /// Raises the base over every event that follows it, and forgets bits at or below it.
    ///
    /// Touches the words up to the first gap only, so a run of dots costs O(1) each.
    fn normalize(&mut self) {
        let mut spent = 0;
        for (word, bits) in &mut self.above {
            if *word < self.base / 64 {
                *bits = 0;
            } else if *word == self.base / 64 {
                *bits &= bits_from(self.base % 64 + 1);
            }
            let next = self.base.saturating_add(1);
            if next / 64 == *word {
                let run = u64::from((*bits >> (next % 64)).trailing_ones());
                self.base += run;
                *bits &= bits_from(next % 64 + run);
            }
            if *bits != 0 {
                // A gap: what stands in later words lies above it.
                break;
            }
            spent += 1;
        }
        self.above.drain(..spent);
    }
}

/// All bits of a word at or above `place`, which may be 64: none.
fn bits_from(place: u64) -> u64 {
    u32::try_from(place).ok().and_then(|place| u64::MAX.checked_shl(place)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Actor = Actor(1);

    #[test]
    fn the_base_rises_over_events_that_came_early() {
        let mut clock = PartitionClock::new();
        for seq in (2..=200).rev() {
            clock.add(Dot { actor: A, seq });
            assert_eq!(clock.base_of(A), 0);
        }
        assert_eq!(clock.scattered(), 199);
        clock.add(Dot { actor: A, seq: 1 });
        assert_eq!((clock.base_of(A), clock.scattered()), (200, 0));
    }

    #[test]
    fn the_largest_numbers_overflow_nothing() {
        let mut clock = PartitionClock::new();
        clock.add(Dot { actor: A, seq: u64::MAX });
        clock.add(Dot { actor: A, seq: 0 });
        assert!(clock.contains(Dot { actor: A, seq: u64::MAX }));
        assert_eq!((clock.base_of(A), clock.scattered()), (0, 1));
        let known = PartitionClock(vec![(A, Reach { base: u64::MAX - 1, above: Vec::new() })]);
        clock.join(&known);
        assert_eq!((clock.base_of(A), clock.scattered()), (u64::MAX, 0));
        clock.add(Dot { actor: A, seq: 5 });
        assert_eq!(clock.base_of(A), u64::MAX);
    }
}
