//! How strong the simulator is: in how many random seeds it finds a bug that was planted.
//!
//! A simulator that finds nothing may be blind. Here every run has a known mistake in it, so a run
//! without a violation is a miss, and the share of misses says how much a clean run is worth.
//! Source: mutation testing (`DeMillo`, Lipton, Sayward, 1978), turned on the oracles.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use sha2::{Digest as _, Sha256};

use super::{Options, Scenario, run};
use crate::planted::Bug;

/// The name under which an assertion of the core counts as the finder of a bug.
pub const ASSERTION: &str = "an assertion of the core";

/// How often a bug was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Seeds that were run.
    pub tried: u64,
    /// Of them those in which an oracle spoke.
    pub found: u64,
    /// The first of these.
    pub first: Option<u64>,
    /// In how many seeds each invariant was seen broken.
    pub broken: BTreeMap<String, u64>,
}

impl Measured {
    /// Adds what other seeds have shown.
    pub fn join(&mut self, other: &Self) {
        self.tried += other.tried;
        self.found += other.found;
        self.first = self.first.into_iter().chain(other.first).min();
        for (invariant, times) in &other.broken {
            *self.broken.entry(invariant.clone()).or_default() += times;
        }
    }

    /// The invariant that was seen broken most often.
    pub fn finder(&self) -> Option<&str> {
        let most = self.broken.iter().max_by_key(|(_, times)| **times);
        most.map(|(invariant, _)| invariant.as_str())
    }
}

/// Runs one random seed with a bug in it.
///
/// # Panics
/// When this build has no planted bugs.
pub fn try_seed(bug: Bug, seed: u64) -> Measured {
    let mut scenario = Scenario::random(seed);
    scenario.options.planted = Some(bug);
    let names = match catch_unwind(AssertUnwindSafe(|| run(scenario, false))) {
        Ok(outcome) => outcome.violations.iter().map(|broken| broken.invariant).collect(),
        // The core noticed by itself that it was about to do wrong.
        Err(_) => vec![ASSERTION],
    };
    let broken: BTreeMap<String, u64> =
        names.into_iter().map(|name| (String::from(name), 1)).collect();
    let found = !broken.is_empty();
    Measured { tried: 1, found: u64::from(found), first: found.then_some(seed), broken }
}

/// Runs random seeds with a bug in them, in order, until it was found `enough` times.
///
/// # Panics
/// When this build has no planted bugs.
pub fn measure(bug: Bug, seeds: Range<u64>, enough: u64) -> Measured {
    let mut measured = Measured::default();
    for seed in seeds {
        if measured.found >= enough {
            break;
        }
        measured.join(&try_seed(bug, seed));
    }
    measured
}

/// What random seeds are drawn from, in short: measurements of different mixes do not add up.
pub fn mix() -> String {
    let drawn: Vec<Options> = (0..16).map(Options::swarm).collect();
    let digest = Sha256::digest(format!("{drawn:?}"));
    let first = digest.first_chunk().copied().expect("a digest has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_ranges_show_adds_up() {
        let one = |found: bool, seed: u64, name: &str| Measured {
            tried: 1,
            found: u64::from(found),
            first: found.then_some(seed),
            broken: if found { [(String::from(name), 1)].into() } else { BTreeMap::new() },
        };
        let mut sum = one(false, 1, "D1");
        sum.join(&one(true, 3, "D1"));
        sum.join(&one(true, 2, "T1"));
        sum.join(&one(true, 9, "D1"));
        assert_eq!((sum.tried, sum.found, sum.first), (4, 3, Some(2)));
        assert_eq!(sum.finder(), Some("D1"));
    }
}
