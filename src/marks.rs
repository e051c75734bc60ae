//! Coverage marks: lines of the core that say that something interesting has happened.
//!
//! A run of the simulator that finds nothing proves little if the states in which things break were
//! never reached. So the core carries marks, `sometimes!("a dead link was closed", condition)`,
//! each at the line where that happens, and a set of seeds is good when all were hit.
//!
//! The names of all marks stand in [`NAMES`], so they are known without running. A use finds its
//! place in that table while the crate is compiled: a name that is not there does not compile, and
//! a test of the tree finds the entries that no line uses. That is why this is a macro.
//!
//! Marks are the same lines in production and in simulation. A mark that is hit sets one bit of a
//! word of its thread, and nobody but the simulator looks at that word: an OR of less than a
//! nanosecond, and only where something rare happens. A switch would cost as much as the bit. A
//! condition must be what the line knows anyway, and no decision may rest on a mark.
//! Source: the `sometimes` assertions of Antithesis, and the `TEST` macro of `FoundationDB`.

use std::cell::Cell;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// What each mark says, grouped by where it stands.
pub const NAMES: &[&str] = &[
    // Reads.
    "a read repaired a stale replica",
    "a strict read waited for what it repaired",
    "a read was hedged because an answer was late",
    "a read healed who had lost the record",
    "a read failed because a record is damaged",
    "an answer came for a question that was over",
    "a value was over when it was shown",
    // Writes.
    "a write left three siblings or more",
    "a loser was dropped at the cap",
    "the token of a stale reader was merged",
    "a retry met its own earlier try",
    "a retry was answered from memory",
    "an id came a second time for another request",
    "a request was remembered through a restart",
    "a member could not say that a write never was",
    "a member noted that it leads a write no more",
    "a write was found never to have been applied",
    "a write came after its outcome had been asked for",
    "a write came before the epoch of its leader was durable",
    "a leader that could not lead passed the write on",
    "a forwarded write was retried by another leader",
    "a forwarded write got no answer in time",
    "a leader was lost that was to show what it replaced",
    "a write was unknown at its deadline",
    "a write was unknown when too few members were left",
    "a repeated acknowledgement counted once",
    "a repeated forward was ignored",
    "a write was refused because its record is damaged",
    "a full disk refused a write",
    "a full disk refused what another replica sent",
    // Replicas.
    "a replica merged siblings",
    "a replica was told nothing new",
    "a damaged record was healed from the others",
    "a damaged record was answered as unknown",
    "a replica that is being rebuilt took in an event",
    "the metadata of a delete vanished",
    "a timestamp too far ahead was not adopted",
    "what was over was taken away",
    "a sibling stayed when another was over",
    "what is over stayed because its key was in use",
    "what is over had to be read from the disk to be taken away",
    // Batches.
    "a batch was written by several shards",
    "a batch was refused because no node owns all of it",
    "a batch that was refused here went elsewhere",
    "a batch waited for a key",
    "a batch was let go at its deadline",
    "a batch was answered before its fate was known",
    "a replicated batch was merged",
    "a batch was logged because no node owns all of it",
    "a part of a logged batch was written again",
    "a logged batch was unknown at its deadline",
    "a part of a logged batch was owed under a used id",
    "the log of a batch kept its place from another one",
    "a batch was found in the log after a restart",
    "a batch was finished in place of its coordinator",
    "who was to finish a batch found it done",
    // Steps and turns.
    "a cold record came and its inputs went on",
    "a parked input died with its deadline",
    "a message crossed to another shard of its node",
    "a message to oneself waited for the disk",
    "a reply or message was held back until durable",
    // The log.
    "a segment was sealed",
    "an append waited for a segment with room",
    "a part of a group waited for the others",
    "a put was overtaken by a newer one of its key",
    "the disk was full",
    "a full disk had room again",
    "a disk that failed ended the process",
    "a record that did not verify was read again",
    // Sidecars and scrub.
    "a start went by a sidecar",
    "a sidecar was not believed",
    "a scrub found damage that nobody had read",
    "a scrub put a record under quarantine",
    // Compaction.
    "a compaction moved a live record",
    "a compaction dropped a dead record",
    "a compaction kept the id of a request",
    "a compaction kept a delete that still matters",
    "a record changed while a compaction moved it",
    "a compaction gave a damaged segment up",
    // Recovery.
    "a torn tail was cut off",
    "the last group was written once more",
    "a stray file was taken away",
    "a suspicious segment was read again",
    "recovery found damage and named every key of it",
    "recovery found damage of unknown keys",
    // Cluster.
    "a ballot ran out of time",
    "a proposal of an epoch that is over was refused",
    "a promise was found at recovery",
    "a suspected member answered again",
    "a node that had stood still blamed nobody",
    "a dead link was closed",
    "a frame was refused by its checksum",
];

const _: () = assert!(NAMES.len() <= 128, "a set of marks is a word of 128 bits");

/// A set of marks.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks(u128);

thread_local! {
    /// The marks that this thread has hit since [`take`].
    static HIT: Cell<u128> = const { Cell::new(0) };
}

/// Hits the mark of this name where `holds`; without a second argument, always.
macro_rules! sometimes {
    ($name:literal) => {
        $crate::marks::hit(const { $crate::marks::place($name) })
    };
    ($name:literal, $holds:expr) => {
        if $holds {
            $crate::marks::sometimes!($name);
        }
    };
}
pub(crate) use sometimes;

/// The marks that this thread has hit since the last call, which begins a new set.
pub fn take() -> Marks {
    Marks(HIT.replace(0))
}

#[inline]
pub(crate) fn hit(place: usize) {
    HIT.set(HIT.get() | 1 << place);
}

/// The place of a mark in [`NAMES`]; evaluated by the compiler.
pub(crate) const fn place(name: &str) -> usize {
    let mut place = 0;
    while place < NAMES.len() {
        if equal(NAMES[place].as_bytes(), name.as_bytes()) {
            return place;
        }
        place += 1;
    }
    panic!("this mark is not in the table of names")
}

const fn equal(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

impl Marks {
    /// Names of the marks that were hit, in the order of [`NAMES`].
    pub fn hit(self) -> impl Iterator<Item = &'static str> {
        self.names(true)
    }

    /// Names of the marks that were not hit, in the order of [`NAMES`].
    pub fn missed(self) -> impl Iterator<Item = &'static str> {
        self.names(false)
    }

    fn names(self, wanted: bool) -> impl Iterator<Item = &'static str> {
        let is_wanted = move |place: usize| (self.0 >> place & 1 == 1) == wanted;
        NAMES.iter().enumerate().filter(move |(place, _)| is_wanted(*place)).map(|(_, name)| *name)
    }
}

impl BitOr for Marks {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Marks {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.hit()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_hit_where_its_condition_holds_and_taken_once() {
        take();
        sometimes!("a dead link was closed");
        sometimes!("the disk was full", NAMES.is_empty());
        assert_eq!(take().hit().collect::<Vec<_>>(), ["a dead link was closed"]);
        assert_eq!(take(), Marks::default());
    }

    #[test]
    fn sets_are_united_and_know_what_is_missing() {
        take();
        sometimes!("a dead link was closed");
        let one = take();
        sometimes!("the disk was full");
        let both = one | take();
        assert_eq!(both.hit().count(), 2);
        assert_eq!(both.missed().count(), NAMES.len() - 2);
        assert!(both.missed().all(|name| !both.hit().any(|hit| hit == name)));
    }

    #[test]
    fn no_name_stands_twice_in_the_table() {
        for (index, name) in NAMES.iter().enumerate() {
            assert_eq!(place(name), index, "{name}");
        }
    }
}
