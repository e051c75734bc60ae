//! What a shard needs of its storage. Implemented by the store; the consumer owns the interface.

use serde::{Deserialize, Serialize};

use crate::api::RequestId;
use crate::causality::{Dot, Object};
use crate::hash::{BucketId, Key, PartitionId, Token};

/// The number of a put of one shard, from 1. 0 = rests on nothing that is not durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Storage of one shard: reads what was put at once, and says later when it is durable.
pub trait Table {
    /// The object of a key as it was last put (stripped), and the put that the answer rests on.
    ///
    /// `Cold` asks the disk for the record; when it is in memory (or known to be damaged) the
    /// shell passes `Fetched` with the token of the key, and the same call right then is not
    /// `Cold`.
    fn get(&mut self, key: &Key) -> (Lookup, Seq);

    /// Stores the records, all or none of them through any crash. Readable at once.
    fn put(&mut self, batch: Batch) -> Seq;

    /// Appends to `out` at most `max` entries with tokens in `from..=to`, in token order, and
    /// never ends between two entries of one token. From memory; keys without siblings included.
    fn page(&mut self, from: Token, to: Token, max: usize, out: &mut Vec<IndexEntry>);

    /// The key and object of an entry of `page`; `Cold` as in `get`. Of a key that is `Cold` or
    /// `Unknown` only the token is known. `None` = it was replaced since, and the caller pages
    /// again from its token.
    fn read(&mut self, entry: &IndexEntry) -> (Option<(Key, Lookup)>, Seq);

    /// Number of keys with at least one sibling.
    fn count(&self, partition: PartitionId, bucket: BucketId) -> u64;

    /// Bytes put and not yet durable.
    fn undurable_bytes(&self) -> usize;

    /// Whether there is room only for deletes now: the disk is full but for its reserve.
    fn is_full(&self) -> bool;

    /// Whether there is room only for deletes now: the memory budget is used up.
    fn is_out_of_memory(&self) -> bool {
        false
    }
}

/// What a table knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its object, stripped.
    Found(Object),
    /// It holds nothing.
    Absent,
    /// Its record is damaged: what it said is not known.
    Unknown,
    /// It must be read from the disk first, which has been asked.
    Cold,
}

/// Records that stand in the log as one.
#[derive(Clone, Debug)]
pub struct Batch {
    /// At least one; no key twice.
    pub records: Vec<Record>,
    /// Set where the batch spans shards: the log waits until every part is there, and commits
    /// them together.
    pub group: Option<Group>,
}

/// A batch of several shards of one node.
///
/// Two groups may stand in opposite orders at two shards, for nothing orders their `Apply`s. So a
/// log that waited for the first group before it looked at the next would wait for ever: it commits
/// at once the largest set of puts that is closed, which is to say that with every put it has all
/// earlier ones of that shard, and with every part all parts of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The same in every part, and in no other batch of this process.
    pub id: u64,
    /// Number of parts, one per shard that takes part.
    pub parts: u16,
}

/// One change of one key. Clocks are a fold over these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which key.
    pub key: Key,
    /// The partition in which its dots were minted.
    pub partition: PartitionId,
    /// The whole object, stripped; void = the key need not be stored any more.
    pub object: Object,
    /// Every dot that the clock of the partition gains.
    pub dots: Vec<Dot>,
    /// Siblings that this change took away.
    pub removed: Vec<Dot>,
    /// The request that it carries out, where the client gave that an id.
    pub stamp: Option<Stamp>,
}

/// What became of a request that its client gave an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its id.
    pub id: RequestId,
    /// When its leader wrote it, in milliseconds since the Unix epoch: tells old from new in a log.
    pub at_ms: u64,
    /// The event that it became.
    pub dot: Dot,
    /// What tells it from another request under the same id.
    pub print: u64,
    /// Whether there was a live value before.
    pub existed: bool,
}

/// A place of the index; opaque but for its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The token of the key.
    pub token: Token,
    /// Where the store finds it.
    pub place: u64,
}
