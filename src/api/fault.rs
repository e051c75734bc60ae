//! What can go wrong with a request: a stable code, what happened, and what to do next.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Denial, RequestId};
use crate::limits;

/// What is known of an operation that did not return OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was not applied and never will be.
    Refused,
    /// It may have been applied, or may still be: its key must be read before it is written again.
    Unknown,
}

/// Why a request did not return OK. Every variant but [`Fault::OutcomeUnknown`] is a refusal:
/// nothing was applied and nothing will be.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Fault {
    /// The bytes are not a request of this protocol.
    #[error("{text}")]
    BadRequest {
        /// What is wrong with them.
        text: String,
    },
    /// The command exists, but not in this version, or never will in this mode.
    #[error("{what} is not supported: {instead}")]
    NotSupported {
        /// The command or option.
        what: String,
        /// Why, and what to use instead.
        instead: String,
    },
    /// The key is too long.
    #[error("the key has {bytes} bytes, the limit is {max}", max = limits::KEY_BYTES_MAX)]
    KeyTooLarge {
        /// Its length.
        bytes: u64,
    },
    /// The value is too long.
    #[error("the value has {bytes} bytes, the limit is {max} (serve --value-bytes-max)")]
    ValueTooLarge {
        /// Its length.
        bytes: u64,
        /// The limit of this node.
        max: u64,
    },
    /// The batch has too many keys or bytes.
    #[error(
        "the batch has {keys} keys and {bytes} bytes, \
         the limits are {max_keys} keys and {max_bytes} bytes",
        max_keys = limits::BATCH_KEYS_MAX, max_bytes = limits::BATCH_BYTES_MAX
    )]
    BatchTooLarge {
        /// Number of its keys.
        keys: u64,
        /// Bytes of its keys and values.
        bytes: u64,
    },
    /// A batch names one key twice.
    #[error("the batch names one key twice: {key}")]
    DuplicateKey {
        /// The key, printable.
        key: String,
    },
    /// The keys of a batch that must be isolated lie in rows of several nodes.
    #[error(
        "the keys of the batch lie on different groups of nodes, so it cannot be isolated; \
         give them one {{tag}}, or do without require"
    )]
    NotOneGroup,
    /// The context token cannot be used.
    #[error("{text}; read the key again and send the token of that reply")]
    BadContext {
        /// Why not.
        text: String,
    },
    /// r or w is 0 or above the number of replicas of the key.
    #[error("{which}={number} cannot be met: this key has {row} replicas")]
    BadLevel {
        /// `r` or `w`.
        which: String,
        /// The number asked for.
        number: u8,
        /// Length of the row.
        row: u8,
    },
    /// The cursor is not one that a scan returned.
    #[error("the cursor is not valid here: {text}")]
    BadCursor {
        /// Why not.
        text: String,
    },
    /// The id of the request is that of another one.
    #[error(
        "the request id {request_id} was used for another request (other key, value or command); \
         nothing was applied; give each operation an id of its own"
    )]
    RequestIdReused {
        /// The id.
        request_id: RequestId,
    },
    /// The outcome of the request was asked for before this try of it came.
    #[error(
        "this try was not applied: the outcome of request id {request_id} was asked for before, \
         and no new try of it is taken since; give a new write a new id"
    )]
    RequestIdRefused {
        /// The id.
        request_id: RequestId,
    },
    /// Too few replicas can be reached, are ready, or answered.
    #[error("{answered} of the {needed} replicas needed answered; {detail}")]
    Unavailable {
        /// Replicas that must answer.
        needed: u8,
        /// Replicas that did.
        answered: u8,
        /// Which ones did not, why, and what to do.
        detail: String,
    },
    /// This node is not yet part of a cluster.
    #[error("this node belongs to no cluster yet: {detail}")]
    NoCluster {
        /// What it waits for.
        detail: String,
    },
    /// Too much is in flight here.
    #[error("this node is overloaded ({what}); retry in {retry_after_ms} ms")]
    Overloaded {
        /// Which bound was reached.
        what: String,
        /// When a retry may succeed, in milliseconds.
        retry_after_ms: u32,
    },
    /// The disk of a replica that must take part is full.
    #[error(
        "the disk is full: reads and deletes go on, new values are refused until space is freed"
    )]
    DiskFull,
    /// The memory budget is used up.
    #[error("the memory budget is used up: reads and deletes go on, new keys are refused")]
    OutOfMemory,
    /// Every replica that could answer holds a damaged record of this key.
    #[error(
        "the record of this key is damaged on {damaged} replica(s) \
         and too few others can answer for it"
    )]
    Damaged {
        /// Replicas whose record is damaged.
        damaged: u8,
    },
    /// The key has as many siblings as its bucket allows.
    #[error(
        "the key has {siblings} unresolved siblings, the limit; read it and write with its context"
    )]
    TooManySiblings {
        /// Their number.
        siblings: u32,
    },
    /// The time ran out before anything was done.
    #[error("the time ran out before anything was done; nothing was applied")]
    TimedOut,
    /// The node is stopping.
    #[error("this node is shutting down; retry at another node")]
    ShuttingDown,
    /// The write may have been applied.
    #[error(
        "it is not known whether the write was applied ({detail}); \
         {advice} (request id {request_id})",
        advice = advice(*request_id)
    )]
    OutcomeUnknown {
        /// The id to retry with.
        request_id: RequestId,
        /// How far it came.
        detail: String,
    },
    /// The client may not.
    #[error(transparent)]
    Denied(#[from] Denial),
}

/// What to do when it is not known whether a write was applied.
fn advice(id: RequestId) -> &'static str {
    if id.is_given() {
        "send it again with the same request id, to this node or another one"
    } else {
        "read the key before you write it again"
    }
}

impl Fault {
    /// The stable code of this fault; part of every protocol.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest { .. } => "bad_request",
            Self::NotSupported { .. } => "not_supported",
            Self::KeyTooLarge { .. } => "key_too_large",
            Self::ValueTooLarge { .. } => "value_too_large",
            Self::BatchTooLarge { .. } => "batch_too_large",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::NotOneGroup => "not_one_group",
            Self::BadContext { .. } => "bad_context",
            Self::BadLevel { .. } => "bad_level",
            Self::BadCursor { .. } => "bad_cursor",
            Self::RequestIdReused { .. } => "request_id_reused",
            Self::RequestIdRefused { .. } => "request_id_refused",
            Self::Unavailable { .. } => "unavailable",
            Self::NoCluster { .. } => "no_cluster",
            Self::Overloaded { .. } => "overloaded",
            Self::DiskFull => "disk_full",
            Self::OutOfMemory => "out_of_memory",
            Self::Damaged { .. } => "damaged",
            Self::TooManySiblings { .. } => "too_many_siblings",
            Self::TimedOut => "timed_out",
            Self::ShuttingDown => "shutting_down",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::Denied(denial) => denial.code(),
        }
    }

    /// Whether anything may have been applied.
    pub fn outcome(&self) -> Outcome {
        if matches!(self, Self::OutcomeUnknown { .. }) {
            Outcome::Unknown
        } else {
            Outcome::Refused
        }
    }
}
