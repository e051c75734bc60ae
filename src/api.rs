//! The one vocabulary that every protocol speaks: requests, replies, and what can go wrong.
//!
//! A protocol turns bytes into a [`Request`] and a [`Reply`] into bytes and decides nothing. Three
//! outcomes only: OK, REFUSED (never applied, now or later), UNKNOWN (may have been applied; its
//! key must be read before it is written again).

mod access;
mod expiry;
mod fault;
mod request_id;
mod session;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use access::{Access, BadTokens, Denial, Grant, Role, TOKEN_BYTES, Tokens, is_name};
pub use expiry::{EXPIRY_MS_MAX, Expiry, TTL_WORDS};
pub use fault::{Fault, Outcome};
pub use request_id::{RequestId, may_have_more_keys, print_of_part};
pub use session::Session;

use crate::causality::{Dot, Entry, NodeId, VersionVector};
use crate::hash::{BucketId, Key, PartitionId, Token};
use crate::time::Hlc;

/// How many replicas must take part. Numbers follow the length of the key's row.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// One replica.
    One,
    /// A majority. Until fallback nodes exist it behaves exactly as `quorum`, and says so.
    #[default]
    Sloppy,
    /// A majority of the row.
    Quorum,
    /// As `quorum`, and what a read shows is durable on a majority before the reply.
    Strict,
    /// Every replica of the row.
    All,
}

/// One operation of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// How many replicas must take part.
    pub level: Level,
    /// Replaces the level's number for reads; above the row it is refused with `bad_level`.
    pub r: Option<u8>,
    /// Replaces the level's number for writes; above the row it is refused with `bad_level`.
    pub w: Option<u8>,
    /// Milliseconds that are left, counted down on every node that passes it on.
    pub left_ms: u32,
    /// Given by the client; `None` lets the coordinator make one where it needs one.
    pub request_id: Option<RequestId>,
    /// Whether the reply to a write of one key shows what it replaced.
    pub previous: bool,
}

/// What a client can ask of a shard. Keys and values are within the limits when they arrive here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// The siblings of a key. Answer: [`Reply::Read`].
    Get {
        /// Which key.
        key: Key,
    },
    /// A new value. Answer: [`Reply::Written`].
    Put {
        /// Which key.
        key: Key,
        /// The value.
        value: Bytes,
        /// What the writer has seen.
        context: WriteContext,
        /// When it ends.
        expiry: Expiry,
    },
    /// Removes what the writer has seen. Answer: [`Reply::Written`].
    Delete {
        /// Which key.
        key: Key,
        /// What the writer has seen.
        context: WriteContext,
    },
    /// All of these or none, each superseding what its leader holds.
    /// Answer: [`Reply::BatchWritten`].
    Batch {
        /// Keys and values; no key twice.
        items: Vec<(Key, Bytes)>,
        /// When each of them ends.
        expiry: Expiry,
        /// Who writes it, and what that rules out.
        kind: BatchKind,
    },
    /// A page of keys in token order. Answer: [`Reply::Page`].
    Scan(Scan),
    /// The number of live keys of a bucket. Answer: [`Reply::Count`].
    Count {
        /// Which bucket.
        bucket: BucketId,
    },
    /// What every replica holds of a key, and where the key lies. Answer: [`Reply::Explained`].
    Explain {
        /// Which key.
        key: Key,
    },
    /// What became of the write that its client gave this id. Answer: [`Reply::Outcome`].
    Outcome {
        /// The id.
        id: RequestId,
        /// A key of that write.
        key: Key,
    },
    /// Keys with more than one sibling, in token order. Answer: [`Reply::Conflicts`].
    Conflicts {
        /// Which bucket.
        bucket: BucketId,
        /// Where to begin.
        cursor: Token,
        /// Most keys to return.
        limit: u32,
    },
}

/// Which context a write uses (docs/consistency.md, "Which context a write uses").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteContext {
    /// Everything that the leader holds.
    #[default]
    Known,
    /// The value that this connection was last shown of the key.
    Shown(Dot),
    /// A token that a read returned, not yet verified; empty = "I have seen nothing".
    Token(Bytes),
}

/// Who writes a batch, and what that rules out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchKind {
    /// A client. Where no node owns all of its keys it is logged first, and it is not isolated.
    #[default]
    Any,
    /// A client that wants it isolated, or refused with `not_one_group`.
    Isolated,
    /// The coordinator of a logged batch: these are the keys of one group.
    Part,
    /// Somebody who finishes a logged batch in place of its coordinator. It was logged at this
    /// time: values that are newer are not replaced.
    Finish(Hlc),
}

/// A page of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Which bucket.
    pub bucket: BucketId,
    /// Where to begin; `Token(0)` = at the start of the ring.
    pub cursor: Token,
    /// Most keys to return; a page may hold more only to end after a whole token.
    pub limit: u32,
    /// Only keys that begin with this.
    pub prefix: Bytes,
    /// Only keys that match this Redis glob pattern; empty = all.
    pub pattern: Bytes,
    /// Whether values travel too.
    pub values: bool,
}

/// The answer to a [`Request`]; exactly one per request, always, by its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Op::Get`].
    Read(Read),
    /// To [`Op::Put`] and [`Op::Delete`].
    Written(Written),
    /// To [`Op::Batch`].
    BatchWritten {
        /// Number of keys.
        count: u32,
        /// Whether a reader who saw one new value sees no older value of another of its keys.
        isolated: bool,
    },
    /// To [`Op::Scan`].
    Page(Page),
    /// To [`Op::Count`].
    Count(u64),
    /// To [`Op::Explain`].
    Explained(Explained),
    /// To [`Op::Conflicts`].
    Conflicts(Conflicts),
    /// To [`Op::Outcome`].
    Outcome(Settled),
    /// Something went wrong; it says whether anything may have been applied.
    Fault(Fault),
}

/// What a key holds. An absent key has no siblings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The winner first (highest timestamp, then dot), then the losers in the same order.
    pub siblings: Vec<Entry>,
    /// The token to send with the write that supersedes all of them.
    pub context: Bytes,
    /// The plain vector clock, for display.
    pub vector_clock: VersionVector,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The event that it became.
    pub dot: Dot,
    /// Whether its leader held a live value before.
    pub existed: bool,
    /// The token that covers what was written.
    pub context: Bytes,
    /// Members of the row on which it was durable when the reply was made.
    pub acks_home: u8,
    /// Fallback nodes on which it was durable; 0 until fallbacks exist.
    pub acks_fallback: u8,
    /// Siblings that the key has after the write.
    pub siblings: u32,
    /// Where it was asked for: the winner among the values that the write replaced.
    pub previous: Option<Bytes>,
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Keys in token order, each with the winner's value where values were asked for.
    pub items: Vec<(Key, Option<Bytes>)>,
    /// Where to go on; `Token(0)` = the ring is done.
    pub next: Token,
}

/// Where a key lies and what each replica holds of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Which key.
    pub key: Key,
    /// Its Redis hash slot.
    pub slot: u16,
    /// Its partition.
    pub partition: PartitionId,
    /// The layout by which the owners were found.
    pub epoch: u64,
    /// The owners in order of preference.
    pub replicas: Vec<Replica>,
}

/// What one owner holds of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Which node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// `None` = it did not answer in time.
    pub holds: Option<Holding>,
}

/// The state of a key at one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holding {
    /// Nothing, now.
    Absent,
    /// The record is damaged: what it said is not known here.
    Unknown,
    /// Versions, the winner first: event, timestamp, bytes of the value.
    Versions {
        /// Event, timestamp and length of each sibling.
        siblings: Vec<(Dot, Hlc, u64)>,
        /// The plain vector clock.
        vector_clock: VersionVector,
    },
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// In one word.
    pub known: Known,
    /// How that is known, or why it is not.
    pub detail: String,
}

/// Whether a write was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// It was.
    Applied,
    /// It was not, and never will be.
    NotApplied,
    /// Nobody can tell.
    Unknown,
}

/// Keys with more than one sibling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflicts {
    /// Each key with its siblings, the winner first.
    pub items: Vec<(Key, Vec<Entry>)>,
    /// Where to go on; `Token(0)` = the ring is done.
    pub next: Token,
}

impl Request {
    /// `op` with the default level and the time that such an operation may take.
    pub fn new(op: Op) -> Self {
        let left_ms = if op.is_write() {
            crate::limits::WRITE_TIMEOUT_MS
        } else {
            crate::limits::READ_TIMEOUT_MS
        };
        let level = Level::default();
        Self { op, level, r: None, w: None, left_ms, request_id: None, previous: false }
    }
}

impl Op {
    /// The key that it is about, if it is about one.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get { key }
            | Self::Put { key, .. }
            | Self::Delete { key, .. }
            | Self::Outcome { key, .. }
            | Self::Explain { key } => Some(key),
            Self::Batch { .. } | Self::Scan(_) | Self::Count { .. } | Self::Conflicts { .. } => {
                None
            }
        }
    }

    /// Whether it may change something.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. } | Self::Batch { .. })
    }

    /// When the values end that it writes, if it writes any.
    pub fn expiry(&self) -> Expiry {
        if let Self::Put { expiry, .. } | Self::Batch { expiry, .. } = self {
            *expiry
        } else {
            Expiry::Never
        }
    }
}

impl BatchKind {
    /// Whether it is a part of a logged batch, which will be written whatever happens.
    pub fn is_owed(self) -> bool {
        match self {
            Self::Any | Self::Isolated => false,
            Self::Part | Self::Finish(_) => true,
        }
    }
}

impl Known {
    /// The word that clients are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

impl Level {
    /// Every level, the weakest first.
    pub const ALL: [Self; 5] = [Self::One, Self::Sloppy, Self::Quorum, Self::Strict, Self::All];

    /// Replicas of a row of `row` nodes that must take part.
    pub fn required(self, row: usize) -> usize {
        match self {
            Self::One => 1,
            Self::Sloppy | Self::Quorum | Self::Strict => row / 2 + 1,
            Self::All => row,
        }
    }

    /// The word that clients use.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Sloppy => "sloppy",
            Self::Quorum => "quorum",
            Self::Strict => "strict",
            Self::All => "all",
        }
    }

    /// The level of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }
}
