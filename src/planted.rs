//! Mistakes that can be planted on purpose, to measure whether the simulator finds them.
//!
//! Each bug stands at the line where a programmer would make it, as `if planted(Bug::...)`. In the
//! default build `planted` is a constant false, so the machine code of the core is the same as
//! without it; with the Cargo feature `planted-bugs` a simulated run names the bug that it is to
//! suffer from. This is the only file whose code depends on a feature, and `tests/tidy` holds that.
//! Source: the idea of mutation testing; the bugs of the literature are named where they stand.

/// Declares the bugs with their names, in one list.
macro_rules! bugs {
    ($($(#[doc = $about:literal])+ $bug:ident = $name:literal,)+) => {
        /// A mistake that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[doc = $about])+ $bug,)+
        }

        impl Bug {
            /// Every bug, in the order of the code that they break: causality to disk.
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            /// Its name for people and files.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)+
                }
            }

            /// What it breaks, and who should find it.
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$bug => concat!($($about),+),)+
                }
            }
        }
    };
}

bugs! {
    /// An object is filled with the highest event that the clock knows of each actor, gaps below
    /// it or not: what is still on its way counts as seen, and is dropped when it comes. D1.
    FillBeyondBase = "fill-beyond-base",
    /// Of siblings only the one with the latest timestamp is kept, as in stores that decide by the
    /// wall clock. D1 and Q1.
    LastWriterWins = "last-writer-wins",
    /// A write replaces all that its leader holds, whatever context its writer gave: a concurrent
    /// write is swallowed. D2.
    ContextIgnored = "context-ignored",
    /// A read fills what it read earlier with the clock of later: it says of a write that came in
    /// between that it has seen it, and read repair takes that write away from all. D1.
    TornFill = "torn-fill",
    /// A replica merges what it is sent with its stored object as it lies there, without the
    /// clock: what was replaced here is taken for news. T1.
    ReceiveWithoutFill = "receive-without-fill",
    /// A replica stores what it is sent in place of what it holds, instead of merging. D1.
    ReplicaOverwrites = "replica-overwrites",
    /// The repair of a read takes the place of what the replica holds, though a write may have
    /// come in since the replica was read. D1.
    ReadRepairDowngrades = "read-repair-downgrades",
    /// A leader acknowledges with one replica fewer than the level asks for. Q1.
    QuorumOneShort = "quorum-one-short",
    /// A leader does not remember which requests it has carried out: a retry writes once more. A1.
    RetryMakesASibling = "retry-makes-a-sibling",
    /// A leader that waits in vain for replicas says that nothing was applied, though it wrote the
    /// value itself. V1. Seen in Aerospike by Jepsen, 2018.
    RefusedButApplied = "refused-but-applied",
    /// A replica that lost its record and is sent the object claims to know all that its clock
    /// knows, so it takes what it is sent for deleted. D1. A bug that this store once had.
    HealedByClock = "healed-by-clock",
    /// A replica that lost an unknown part answers for its keys as if nothing had happened. D1, Q1.
    RebuildingAnswers = "rebuilding-answers",
    /// A damaged record is taken for an absent one by the leader of a write. D1.
    DamageTakenForAbsent = "damage-taken-for-absent",
    /// Values are shown whether they are over or not. E1.
    ExpiredShown = "expired-shown",
    /// A replica that is sent what ends does not ask its clock whether it has taken it away
    /// already: the repair of a read brings it back. E2 and T1.
    ExpiryResurrected = "expiry-resurrected",
    /// Replies to clients do not wait until what they rest on is durable. O1, D1 and Q1.
    ReplyBeforeDurable = "reply-before-durable",
    /// A node mints under one actor for ever, from where its log ends: dots that were minted and
    /// lost are minted again for other writes. D3. Source: Riak, issue `riak_kv` 679, 2013.
    CounterResumed = "counter-resumed",
    /// A node mints under one actor for ever, and makes its counter jump far ahead at every start:
    /// its next context covers what it has lost and others hold. D1. Source: the first remedy that
    /// was proposed for the issue above.
    ActorKept = "actor-kept",
    /// The node mints before the epoch of its start is on disk: after a crash the next start may
    /// take the same. D3.
    EpochNotDurable = "epoch-not-durable",
    /// A Paxos acceptor promises without writing the promise down. P1.
    PromiseNotDurable = "promise-not-durable",
    /// The parts of a batch that spans shards go to the log as they come, not as one group. B1.
    BulkHalfApplied = "bulk-half-applied",
    /// Nobody finishes a batch whose coordinator died: some groups have their part, others never
    /// will. B1.
    BatchLeftHalf = "batch-left-half",
    /// The log of a batch is deleted when its parts are sent, not when they are written. B1.
    BatchLogForgotten = "batch-log-forgotten",
    /// Who finishes a batch goes by its own copy of the log, which nobody else may have: cut off
    /// half way, others take the batch for done. B1.
    BatchLogOfOne = "batch-log-of-one",
    /// A part of a logged batch is refused where its id is known from another request, though
    /// other parts are written. B1.
    OwedPartRefused = "owed-part-refused",
    /// Of two requests of one id a replica remembers the first: a part of a logged batch that came
    /// under a used id is carried out whenever it comes. A1, T1.
    OwedPartForgotten = "owed-part-forgotten",
    /// A group of puts is announced as durable when it is written, before it is synced. W1, D1.
    AckBeforeSync = "ack-before-sync",
    /// A failed sync is tried again and its success believed, though the pages were dropped. W1.
    /// Source: "fsyncgate", 2018.
    SyncRetried = "sync-retried",
    /// A file gets its name, and the directory is not synced. W6.
    DirectoryNotSynced = "directory-not-synced",
    /// The checksum of a record does not cover its header: length, number, token. W3.
    CrcNotOverLength = "crc-not-over-length",
    /// A hole in the log counts as its torn end although a later record proves a sync. W3, D1.
    DamageTakenForTornTail = "damage-taken-for-torn-tail",
    /// The log writes down what its newest segment says before it makes that durable, and a start
    /// believes it: after a loss of power it says more than the log holds. D1, O1.
    CheckpointNewerThanLog = "checkpoint-newer-than-log",
    /// A compaction is listed before a later record proves what it counts on: where that rots at
    /// the end of the log, it is taken for torn, and what replaced it is gone with it. D1.
    CompactionNotProved = "compaction-not-proved",
    /// A start removes what MANIFEST does not list before it knows that the list is on the disk. A
    /// loss of power brings the older list back, and its files are gone. D1.
    StraysRemovedFirst = "strays-removed-first",
    /// What does not verify once counts as damaged, though the fault lay in the reading: the only
    /// copy of a write gives way to what others have. D1.
    DamageReadOnce = "damage-read-once",
    /// A compaction leaves out the first live record of each slice: an error by one. D1.
    CompactionDropsLive = "compaction-drops-live",
    /// A replica whose disk is full drops what it is sent, and acknowledges it. D1 and Q1.
    DiskFullAcknowledged = "disk-full-acknowledged",
}

impl Bug {
    /// The bug of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

/// Whether bugs can be planted in this build.
pub const AVAILABLE: bool = cfg!(feature = "planted-bugs");

/// Whether the run of this thread suffers from `bug`.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}

/// Whether the run of this thread suffers from `bug`.
#[cfg(feature = "planted-bugs")]
pub(crate) fn planted(bug: Bug) -> bool {
    soil::holds(bug)
}

/// Runs `act` with a bug planted in this thread, or with none.
///
/// # Panics
/// When a bug is named in a build that cannot plant it: the run would prove nothing.
pub(crate) fn with<T>(bug: Option<Bug>, act: impl FnOnce() -> T) -> T {
    assert!(AVAILABLE || bug.is_none(), "this build has no planted bugs; see AVAILABLE");
    #[cfg(feature = "planted-bugs")]
    let _guard = soil::plant(bug);
    act()
}

/// What is planted in this thread.
#[cfg(feature = "planted-bugs")]
mod soil {
    use std::cell::Cell;

    use crate::planted::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Takes the bug out again when it goes, also when the run ends in a panic.
    pub(super) struct Guard(Option<Bug>);

    pub(super) fn plant(bug: Option<Bug>) -> Guard {
        Guard(PLANTED.replace(bug))
    }

    pub(super) fn holds(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_lead_back() {
        for &bug in Bug::ALL {
            assert_eq!(Bug::from_name(bug.name()), Some(bug));
            assert!(bug.about().trim().ends_with('.'), "{} is described", bug.name());
        }
        assert_eq!(Bug::from_name("none"), None);
    }

    #[test]
    fn a_bug_is_there_only_while_its_run_lasts() {
        let bug = Bug::TornFill;
        let planted_inside = with(AVAILABLE.then_some(bug), || planted(bug));
        assert_eq!(planted_inside, AVAILABLE);
        assert!(!planted(bug));
    }
}
