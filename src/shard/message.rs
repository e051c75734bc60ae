//! What shards say to one another, between nodes and between the shards of one node alike.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ShardId;
use super::table::Stamp;
use crate::api::{BatchKind, Expiry, Fault, Holding, Reply, Request, RequestId, Scan};
use crate::causality::{Dot, Object, VersionVector};
use crate::hash::{BucketId, Key, PartitionId, Token};

/// Matches an answer to its question: the asking shard in the top 8 bits, a counter that starts
/// at random in the rest, so an answer to a past life of the process matches nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CallId(pub u64);

/// Where a message goes within the node that receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A question: to the shard that owns the partition, p mod S.
    Partition(PartitionId),
    /// An answer: to the shard that asked.
    Shard(ShardId),
}

/// A question or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A write (or a batch of one row) for a member of the row to lead.
    Forward {
        /// Names the answer.
        call: CallId,
        /// The partition of its key; of its first key for a batch.
        partition: PartitionId,
        /// The request, with what is left of its time and its id set.
        request: Box<Request>,
    },
    /// What became of it.
    ForwardReply {
        /// The question.
        call: CallId,
        /// The answer for the client.
        reply: Box<Reply>,
    },
    /// Objects to merge: new writes, or what a read repairs.
    Replicate {
        /// Names the answer.
        call: CallId,
        /// The partition of the items.
        partition: PartitionId,
        /// Milliseconds within which an acknowledgement is of use.
        left_ms: u32,
        /// What to merge; all of it is one batch.
        items: Vec<ReplicaItem>,
        /// The items were merged from what all other members of the row hold, so they may stand
        /// in for a record that is damaged at the receiver. New writes never may.
        repair: bool,
    },
    /// A batch whose items lie in several partitions that the receiver owns all.
    ReplicateBatch {
        /// Names the answer (a [`Message::ReplicateAck`]).
        call: CallId,
        /// The partition of the first item.
        partition: PartitionId,
        /// Milliseconds within which an acknowledgement is of use.
        left_ms: u32,
        /// What to merge, all or nothing.
        items: Vec<(PartitionId, ReplicaItem)>,
    },
    /// The items are durable, or why not.
    ReplicateAck {
        /// The question.
        call: CallId,
        /// `None` = durable here.
        refusal: Option<Nack>,
    },
    /// What does this replica hold of a key?
    Read {
        /// Names the answer.
        call: CallId,
        /// The partition of the key.
        partition: PartitionId,
        /// Which key.
        key: Key,
        /// An object whose payloads are longer than this together may be answered by its digest.
        full_up_to: u32,
        /// Milliseconds within which an answer is of use.
        left_ms: u32,
    },
    /// What it holds.
    ReadReply {
        /// The question.
        call: CallId,
        /// The answer.
        answer: ReadAnswer,
    },
    /// A page of the keys of one partition.
    Page {
        /// Names the answer.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// What to look for and from where; `values` false answers contexts and dots only.
        scan: Scan,
        /// Only keys with more than one sibling.
        conflicts_only: bool,
        /// Milliseconds within which an answer is of use.
        left_ms: u32,
    },
    /// The page.
    PageReply {
        /// The question.
        call: CallId,
        /// Keys with their objects, filled; payloads are empty unless values were asked for.
        /// Keys without siblings are among them: their context may cover what others hold.
        items: Vec<(Key, Object)>,
        /// What this replica knows of every key in the range that is not among the items: the
        /// bases of its clock when the page began. What they cover is gone.
        known: VersionVector,
        /// The first token of the partition that is not in the page; `None` = its end is reached.
        next: Option<Token>,
        /// Set where this replica cannot answer for the partition.
        refusal: Option<Nack>,
    },
    /// How many live keys has a bucket in one partition?
    Count {
        /// Names the answer.
        call: CallId,
        /// Which partition.
        partition: PartitionId,
        /// Which bucket.
        bucket: BucketId,
    },
    /// That many.
    CountReply {
        /// The question.
        call: CallId,
        /// `None` = this replica cannot answer for the partition.
        count: Option<u64>,
        /// Number of events that this replica knows of the partition: of several answers that of
        /// the largest number is the best.
        events: u64,
    },
    /// What does this replica know of a write?
    Outcome {
        /// Names the answer.
        call: CallId,
        /// The partition of the key.
        partition: PartitionId,
        /// A key of the write.
        key: Key,
        /// Its id.
        id: RequestId,
        /// Whether a replica that knows nothing of it is to note that it will not lead it.
        deny: bool,
        /// Milliseconds within which an answer is of use.
        left_ms: u32,
    },
    /// That.
    OutcomeReply {
        /// The question.
        call: CallId,
        /// What it knows.
        answer: Recollection,
    },
    /// What does this replica hold, in words?
    Explain {
        /// Names the answer.
        call: CallId,
        /// The partition of the key.
        partition: PartitionId,
        /// Which key.
        key: Key,
    },
    /// That.
    ExplainReply {
        /// The question.
        call: CallId,
        /// What it holds.
        holding: Holding,
    },
    /// Between the shards of one node: check and hold these keys for a batch.
    Hold {
        /// Names the answer.
        call: CallId,
        /// The first of `work`'s partitions.
        partition: PartitionId,
        /// Names the batch among the shards of this node.
        batch: u64,
        /// What is to be done once all shards hold.
        work: HoldWork,
    },
    /// They are held, or why not.
    Held {
        /// The question.
        call: CallId,
        /// The partition of the question.
        partition: PartitionId,
        /// `None` = held.
        refusal: Option<Fault>,
    },
    /// All shards hold: do it.
    Apply {
        /// Names the answer.
        call: CallId,
        /// A partition of the shard that is meant.
        partition: PartitionId,
        /// Which batch.
        batch: u64,
        /// Number of shards that take part.
        parts: u16,
    },
    /// It is done here and, by the time that this message leaves, durable with all other parts.
    Applied {
        /// The question.
        call: CallId,
        /// What other nodes must merge; empty where the work was a merge.
        items: Vec<(PartitionId, ReplicaItem)>,
    },
    /// Let go of the keys of a batch that will not be done.
    Release {
        /// A partition of the shard that is meant.
        partition: PartitionId,
        /// Which batch.
        batch: u64,
    },
}

/// One key of a Replicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaItem {
    /// Which key.
    pub key: Key,
    /// Its object with its full context, filled in the step that read it.
    pub object: Object,
    /// The dot of the write and those that it replaced.
    pub dots: Vec<Dot>,
    /// The request that it carries out, where the client gave that an id.
    pub stamp: Option<Stamp>,
}

/// What a replica holds of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadAnswer {
    /// The object, filled. No siblings = the key is absent here, and the context says what of it
    /// is known to be gone.
    Object(Object),
    /// The first 16 bytes of SHA-256 over its sorted dots.
    Digest([u8; 16]),
    /// The record is damaged, or the partition is being rebuilt: this answer does not count. What
    /// is left of the object, not filled, is shown beside what others hold.
    Unknown(Object),
    /// It cannot answer now.
    Refused(Nack),
}

/// What a replica knows of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recollection {
    /// It was applied.
    Applied,
    /// This replica has never led it, and has noted that it will not.
    Denied,
    /// It knows nothing of it, and that may be because it forgot.
    Unsure,
}

/// Why a replica did not do what it was asked. Nothing was changed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nack {
    /// Too much is in flight.
    Overloaded,
    /// The disk is full.
    DiskFull,
    /// The partition is being rebuilt after damage.
    Rebuilding,
    /// By the layout of the receiver it does not own the partition.
    NotOwner,
    /// The time was up when it arrived.
    Expired,
    /// The node is stopping.
    Stopping,
}

/// What a held batch will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldWork {
    /// New values, each superseding what is held of its key.
    Put {
        /// The mark of the request; 0 = none.
        rid: u64,
        /// The id of the request, where the client gave one.
        given: Option<RequestId>,
        /// When the values end.
        expiry: Expiry,
        /// Whose they are. Parts of a logged batch are owed, whatever else came under its id.
        kind: BatchKind,
        /// Partition, key and value.
        items: Vec<(PartitionId, Key, Bytes)>,
    },
    /// Objects of another node's batch.
    Merge(Vec<(PartitionId, ReplicaItem)>),
}

impl Message {
    /// Milliseconds within which an answer is of use, where the question says so.
    pub fn left_ms(&self) -> Option<u32> {
        match self {
            Self::Forward { request, .. } => Some(request.left_ms),
            Self::Replicate { left_ms, .. }
            | Self::ReplicateBatch { left_ms, .. }
            | Self::Read { left_ms, .. }
            | Self::Outcome { left_ms, .. }
            | Self::Page { left_ms, .. } => Some(*left_ms),
            Self::Count { .. }
            | Self::Explain { .. }
            | Self::Hold { .. }
            | Self::Apply { .. }
            | Self::Release { .. }
            | Self::ForwardReply { .. }
            | Self::ReplicateAck { .. }
            | Self::ReadReply { .. }
            | Self::PageReply { .. }
            | Self::CountReply { .. }
            | Self::ExplainReply { .. }
            | Self::OutcomeReply { .. }
            | Self::Held { .. }
            | Self::Applied { .. } => None,
        }
    }

    /// Counts down the time of a question that waited; others are left as they are.
    pub fn set_left_ms(&mut self, left: u32) {
        match self {
            Self::Forward { request, .. } => request.left_ms = left,
            Self::Replicate { left_ms, .. }
            | Self::ReplicateBatch { left_ms, .. }
            | Self::Read { left_ms, .. }
            | Self::Outcome { left_ms, .. }
            | Self::Page { left_ms, .. } => *left_ms = left,
            Self::Count { .. }
            | Self::Explain { .. }
            | Self::Hold { .. }
            | Self::Apply { .. }
            | Self::Release { .. }
            | Self::ForwardReply { .. }
            | Self::ReplicateAck { .. }
            | Self::ReadReply { .. }
            | Self::PageReply { .. }
            | Self::CountReply { .. }
            | Self::OutcomeReply { .. }
            | Self::ExplainReply { .. }
            | Self::Held { .. }
            | Self::Applied { .. } => {}
        }
    }

    /// Where it goes within the node that receives it.
    pub fn route(&self) -> Route {
        match self {
            Self::Forward { partition, .. }
            | Self::Replicate { partition, .. }
            | Self::ReplicateBatch { partition, .. }
            | Self::Read { partition, .. }
            | Self::Page { partition, .. }
            | Self::Count { partition, .. }
            | Self::Explain { partition, .. }
            | Self::Outcome { partition, .. }
            | Self::Hold { partition, .. }
            | Self::Apply { partition, .. }
            | Self::Release { partition, .. } => Route::Partition(*partition),
            Self::ForwardReply { call, .. }
            | Self::ReplicateAck { call, .. }
            | Self::ReadReply { call, .. }
            | Self::PageReply { call, .. }
            | Self::CountReply { call, .. }
            | Self::ExplainReply { call, .. }
            | Self::OutcomeReply { call, .. }
            | Self::Held { call, .. }
            | Self::Applied { call, .. } => Route::Shard(call.shard()),
        }
    }
}

impl CallId {
    /// Call number `counter` (its low 56 bits) of a shard.
    pub fn new(shard: ShardId, counter: u64) -> Self {
        Self(u64::from(shard.0) << 56 | counter & (u64::MAX >> 8))
    }

    /// The shard that asked.
    pub fn shard(self) -> ShardId {
        ShardId(u16::from((self.0 >> 56) as u8))
    }
}
