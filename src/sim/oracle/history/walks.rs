//! What a walk over all keys must come by.
//!
//! A key that is there from the beginning of the walk to its end is listed, and no key is listed
//! twice (docs/consistency.md). It is there for certain where a write of it was acknowledged by a
//! majority before the walk began, and no delete until its end knows of that write.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, History, WriteId};
use crate::causality::Dot;
use crate::hash::{Key, PartitionId};

/// A walk, as its client sees it.
#[derive(Clone, Debug)]
pub struct Walk {
    began_us: u64,
    /// Whether a majority of each row was asked, so that nothing acknowledged may be missing.
    majority: bool,
    /// How often each key was listed.
    listed: BTreeMap<Key, u32>,
}

impl Walk {
    /// A walk that begins now.
    pub fn new(began_us: u64, majority: bool) -> Self {
        Self { began_us, majority, listed: BTreeMap::new() }
    }

    /// A page lists a key.
    pub fn comes_by(&mut self, key: Key) {
        *self.listed.entry(key).or_default() += 1;
    }

    /// Every key that was listed.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.listed.keys().cloned().collect()
    }
}

impl History {
    /// A walk came to its end.
    pub fn walked(&mut self, walk: &Walk, home: impl Fn(&Key) -> PartitionId) {
        let mut found = Vec::new();
        for (key, times) in &walk.listed {
            if *times > 1 {
                found.push((key.clone(), format!("a walk lists it {times} times")));
            }
            if self.keys.get(key).is_none_or(|facts| facts.by_value.is_empty()) {
                found.push((key.clone(), String::from("a walk lists it, and nobody wrote it")));
            }
        }
        let is_missed = |(key, facts): (&Key, &Facts)| {
            let missing = walk.majority && !walk.listed.contains_key(key);
            let (id, dots) = self.stays(home(key), facts, walk.began_us).filter(|_| missing)?;
            Some((key.clone(), id, dots.clone()))
        };
        let missed: Vec<(Key, WriteId, BTreeSet<Dot>)> =
            self.keys.iter().filter_map(is_missed).collect();
        for (key, id, dots) in missed {
            if !self.excuses(home(&key), &key, &dots) {
                let text = format!("a walk missed it; write {} was acknowledged before", id.0);
                found.push((key, text));
            }
        }
        for (key, text) in found {
            self.violate("Q1 a walk lists each key once", &key, text);
        }
    }

    /// A write of a value that was firm by then, and of which no delete knows.
    fn stays(
        &self,
        home: PartitionId,
        facts: &Facts,
        since_us: u64,
    ) -> Option<(WriteId, &BTreeSet<Dot>)> {
        let writes = facts.writes.iter().filter_map(|id| Some((*id, self.writes.get(id)?)));
        let is_gone = |dot: &Dot| facts.deleted.contains(dot) || self.is_forfeit(home, facts, *dot);
        writes.map(|(id, write)| (id, write.firm_since_us, &write.dots)).find_map(
            |(id, firm_since_us, dots)| {
                let stays = firm_since_us.is_some_and(|at| at < since_us)
                    && !dots.is_empty()
                    && !dots.iter().any(is_gone);
                stays.then_some((id, dots))
            },
        )
    }
}
