//! Causality against an exact history: what must be there in the end follows from who saw what.
//!
//! A history draws writes and deletes at three owners and a fallback; messages that are lost,
//! doubled, reordered or come after everything else; syncs cut into steps with writes between
//! them; owners that start anew or forget everything; requests that are tried again elsewhere.
//! `replica` wraps the code of `peerage::causality` as a shard does, and can break one rule at a
//! time. A check that no broken rule fails would prove nothing, so every rule has its mutant here,
//! with the number of histories within which it must be caught.

#[path = "causality/history.rs"]
mod history;
#[path = "causality/laws.rs"]
mod laws;
#[path = "causality/replica.rs"]
mod replica;

use std::ops::Range;
use std::thread;

use history::{Violation, run};
use peerage::causality::VersionVector;
use replica::{Mutant, Replica, Standing, Sync, Write};

const HISTORIES: u64 = 20_000;
const THREADS: u64 = 4;

fn check(seeds: Range<u64>, mutant: Option<Mutant>) {
    for seed in seeds {
        let verdict = run(seed, mutant);
        assert_eq!(verdict, Ok(()), "seed {seed}, mutant {mutant:?}");
    }
}

#[test]
fn every_history_ends_with_the_siblings_that_nobody_superseded_and_nothing_else() {
    let share = HISTORIES / THREADS;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || check(thread * share..(thread + 1) * share, None));
        }
    });
}

/// Each broken rule with the number of histories within which it must be found out; behind it how
/// many of the first 2,000 histories do so.
const MUTANTS: [(Mutant, u64); 12] = [
    (Mutant::TornFill, 20),             // 1,982
    (Mutant::LateClock, 50),            // 966
    (Mutant::FillAboveBase, 20),        // 1,957
    (Mutant::AmnesiacKeepsActor, 250),  // 162
    (Mutant::StintsShareActor, 50),     // 712
    (Mutant::ClockWithoutData, 20),     // 1,999
    (Mutant::RebuildingCounts, 300),    // 141
    (Mutant::OneSourceSuffices, 2_000), // 19
    (Mutant::RebuiltNeverFills, 30),    // 1,373
    (Mutant::AbsenceUnsaid, 1_500),     // 28
    (Mutant::FallbackFills, 500),       // 89
    (Mutant::FallbackJoins, 50),        // 1,148
];

#[test]
fn every_broken_rule_is_found_out() {
    for (mutant, histories) in MUTANTS {
        let is_wrong = |seed| matches!(run(seed, Some(mutant)), Err(Violation::Wrong(_)));
        assert!((0..histories).any(is_wrong), "{mutant:?} went unnoticed in {histories} histories");
    }
}

#[test]
fn replaced_dots_that_ride_along_only_save_an_exchange() {
    check(0..HISTORIES / 10, Some(Mutant::GoneUnsaid));
    assert_eq!(exchanges_until_at_rest(None), 0);
    assert_eq!(exchanges_until_at_rest(Some(Mutant::GoneUnsaid)), 1);
}

/// One owner writes a name twice; the first message is lost, the second one arrives. How many
/// syncs does the receiver need until its clock has no gap and its object no context?
fn exchanges_until_at_rest(mutant: Option<Mutant>) -> u32 {
    let owner = |tag| Replica::new(tag, 1, Standing::Ready, mutant);
    let mut owners = [owner(0), owner(1)];
    let first = Write { name: 0, known: VersionVector::new(), request: Some(1) };
    let (dot, ..) = owners[0].lead(&first, 1);
    let second = Write { name: 0, known: [dot].into_iter().collect(), request: Some(2) };
    let (_, object, dots) = owners[0].lead(&second, 2);
    owners[1].receive(0, &object, &dots);
    let mut exchanges = 0;
    while owners[1].residue() != (0, 0, 0) {
        exchanges += 1;
        let mut sync = Sync::begin(0, 1, &owners);
        while !sync.step(&mut owners, false) {}
    }
    exchanges
}
