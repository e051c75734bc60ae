//! The clock of one replica of one partition: which dots are reflected in its keys.
//!
//! Per actor a base, "every event up to here", and a sparse bitmap of events above it. Invariant
//! I1: a dot in the clock is durably reflected in the keys, by its own version or by one that
//! supersedes it. Only the base may be used to fill an object (rule R3): the bits above it say
//! nothing about events in between.

use serde::{Deserialize, Serialize};

use super::{Actor, Dot, VersionVector};

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
        self.0.iter().map(|(actor, reach)| (*actor, reach.base)).collect()
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

    fn add(&mut self, seq: u64) {
        if seq == self.base + 1 && self.above.is_empty() {
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
    fn normalize(&mut self) {
        let mut spent = 0;
        for (word, bits) in &mut self.above {
            let first = *word * 64;
            // Events of this word at or below the base are no news.
            if self.base >= first {
                let below = (self.base - first + 1).min(64);
                *bits &= u64::MAX.checked_shl(u32::try_from(below).unwrap_or(64)).unwrap_or(0);
            }
            if self.base + 1 >= first && self.base + 1 < first + 64 {
                let offset = u32::try_from(self.base + 1 - first).unwrap_or(63);
                let run = (*bits >> offset).trailing_ones();
                self.base += u64::from(run);
                *bits &= u64::MAX.checked_shl(offset + run).unwrap_or(0);
            }
            if *bits == 0 {
                spent += 1;
            } else if self.base + 1 < first + 64 {
                break;
            }
        }
        if spent > 0 {
            self.above.retain(|entry| entry.1 != 0);
        }
    }
}
