//! The simulator is not blind: planted bugs are found within a few random seeds.
//!
//! Only in a build with the feature `planted-bugs`. Those that need more seeds are measured by
//! `peerage sim strength`; docs/testing.md has the table.

use peerage::planted::Bug;
use peerage::sim::strength::measure;

/// Bugs of every layer, each with the seeds within which it must be found.
const FOUND_WITHIN: [(Bug, u64); 6] = [
    (Bug::FillBeyondBase, 10),
    (Bug::ContextIgnored, 10),
    (Bug::TornFill, 20),
    (Bug::QuorumOneShort, 20),
    (Bug::CounterResumed, 20),
    (Bug::DirectoryNotSynced, 30),
];

#[test]
fn planted_bugs_are_found_within_a_few_seeds() {
    let mut missed = Vec::new();
    for (bug, seeds) in FOUND_WITHIN {
        let measured = measure(bug, 1..seeds + 1, 1);
        println!("{}: {measured:?}", bug.name());
        if measured.found == 0 {
            missed.push(bug.name());
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
