//! What crosses between a shard's table, the log and the shell: plain values, sent by value.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::disk::{DiskError, FileName};
use super::place::Place;
use super::record::Seed;
use super::table::Store;
use crate::causality::{NodeId, PartitionClock};
use crate::config::Durability;
use crate::hash::{Key, PartitionId, Token};
use crate::shard::{Group, Seq, ShardId, Stamp};
use crate::time::Hlc;

/// What a log must know about its node.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Written into every file; files of another node are refused.
    pub node: NodeId,
    /// Number of shards; a partition belongs to shard `partition % shards`.
    pub shards: u16,
    /// Bytes of a segment. A sync group that is longer gets a segment of its own length.
    pub segment_bytes: u64,
    /// When a put counts as durable.
    pub durability: Durability,
    /// Bytes of the value caches of all shards together.
    pub cache_bytes: usize,
    /// Bytes of memory that the tables of all shards may take, caches included; beyond it they
    /// say so, and new values are refused.
    pub memory_bytes: usize,
    /// Time between two rounds of the scrub, in milliseconds; `None` = there is none.
    pub scrub_ms: Option<u64>,
    /// Seed of the salts; another one at every start.
    pub seed: u64,
}

/// What a shard's table has for the log after a turn. Opaque; the shell carries it over.
#[derive(Debug, Default)]
pub struct LogBatch {
    /// The encoded records of all puts, one after the other.
    pub(super) bytes: BytesMut,
    /// The puts, in the order of their numbers.
    pub(super) puts: Vec<LogPut>,
    /// Places to which the index points no more.
    pub(super) freed: Vec<Place>,
    /// Answers to questions of a compaction.
    pub(super) answers: Vec<Answer>,
}

/// One put of a [`LogBatch`].
#[derive(Clone, Copy, Debug)]
pub(super) struct LogPut {
    /// Its number.
    pub(super) seq: Seq,
    /// Set where it is part of a batch that spans shards.
    pub(super) group: Option<Group>,
    /// Bytes of its records.
    pub(super) bytes: usize,
}

/// What a table answers to a compaction.
#[derive(Debug)]
pub(super) enum Answer {
    /// To [`LogNote::Ask`]: for each record asked about whether the index points to it still, and
    /// whether its key is known at all (a Forget of a key that is known again may go).
    Live {
        /// One for each record asked about, in its order.
        records: Vec<Liveness>,
        /// The durable clocks of the partitions asked about.
        clocks: BTreeMap<PartitionId, PartitionClock>,
    },
    /// To [`LogNote::Release`]: no read is under way in that segment any more.
    Released {
        /// Its number.
        segment: u32,
    },
}

/// What an index says of a record of an old segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    /// The index points to it.
    Live,
    /// The key has a newer record.
    Replaced,
    /// The key is not known.
    Unknown,
}

/// What the log tells a shard's table. Opaque; the shell hands it to [`Store::on_note`].
#[derive(Clone, Debug)]
pub enum LogNote {
    /// The oldest puts that were pending are durable now.
    Placed(Placed),
    /// Whether the disk is full but for its reserve.
    Space {
        /// True = new values are refused.
        full: bool,
    },
    /// A segment came into use.
    Segment(NewSegment),
    /// A compaction asks what is live.
    Ask(Ask),
    /// A compaction copied records.
    Moved(Vec<Move>),
    /// A compaction wants to remove a segment.
    Release {
        /// Its number.
        segment: u32,
    },
    /// Bytes of a segment do not verify any more.
    Rotten(Rotten),
}

/// Bytes that do not verify any more.
#[derive(Clone, Debug)]
pub struct Rotten {
    /// The segment that holds them.
    pub(super) segment: u32,
    /// Where in its file, in order.
    pub(super) regions: Vec<Range<u64>>,
}

/// A segment that records may lie in from now on.
#[derive(Clone, Copy, Debug)]
pub struct NewSegment {
    /// Its number.
    pub(super) number: u32,
    /// What makes its checksums.
    pub(super) seed: Seed,
}

/// Places of the oldest pending records.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The newest put among them.
    pub(super) upto: Seq,
    /// The place of each record, in the order of the puts.
    pub(super) places: Vec<Place>,
}

/// Records of an old segment that a compaction asks about.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Token and mark of the key, and place of the record.
    pub(super) records: Vec<(Token, u64, Place)>,
    /// Partitions whose clocks are wanted.
    pub(super) partitions: Vec<PartitionId>,
}

/// A record that a compaction copied.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Token of its key.
    pub(super) token: Token,
    /// Where it was.
    pub(super) from: Place,
    /// Where it is.
    pub(super) to: Place,
}

/// What the log tells the shell.
#[derive(Debug)]
pub enum Event {
    /// Recovery is done; exactly once, before anything but `Notice` and `Fatal`.
    Recovered(Box<Recovered>),
    /// For the table of a shard.
    Note {
        /// Which shard.
        shard: ShardId,
        /// What to hand to its [`Store::on_note`].
        note: LogNote,
    },
    /// Every control record at or below this is on stable storage.
    ControlDurable {
        /// The newest such record.
        upto: Seq,
    },
    /// A line for the operator.
    Notice(String),
    /// The process must end: nothing that is not durable by now may be acknowledged any more. The
    /// log does nothing after this.
    Fatal(LogError),
}

/// What a log held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// One for each shard.
    pub shards: Vec<RecoveredShard>,
    /// The newest control record of each slot.
    pub control: BTreeMap<u8, Bytes>,
    /// The highest timestamp of any value.
    pub hlc: Hlc,
    /// The highest log sequence number; 0 = the log is new.
    pub lsn: u64,
    /// Number of records read.
    pub records: u64,
    /// Bytes of an unfinished last group that were cut off.
    pub torn_bytes: u64,
    /// What could not be read.
    pub damage: Damage,
}

/// What a log held for one shard.
#[derive(Debug)]
pub struct RecoveredShard {
    /// Its table, ready for use. Keys named in `Damage::keys` answer `Unknown`.
    pub store: Store,
    /// The clock of each partition of which the log holds anything.
    pub clocks: BTreeMap<PartitionId, PartitionClock>,
    /// Which requests the newest records carry out, the oldest first.
    pub stamps: Vec<(Token, Stamp)>,
    /// When something of a token ends or ended, in milliseconds since the Unix epoch: the earliest
    /// that any of its records says, each token once.
    pub expiring: Vec<(Token, u64)>,
    /// Notes of requests that are not led here, as keys of their bucket.
    pub refused: Vec<Key>,
    /// Whether the log holds every request that it was ever told of.
    pub is_complete: bool,
}

/// Bytes that were on stable storage once and do not verify now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Where, for the operator.
    pub regions: Vec<DamagedRegion>,
    /// Keys whose newest record is among them; they answer `Unknown` until they are put again.
    pub keys: Vec<(PartitionId, Token)>,
    /// Partitions whose clock is among them.
    pub partitions: Vec<PartitionId>,
    /// Slots whose newest control record is among them: an older one, or none, was recovered.
    pub slots: Vec<u8>,
    /// Something was lost that nothing names: any key of any partition may be older than it was.
    pub unnamed: bool,
}

/// A run of damaged bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRegion {
    /// Which file.
    pub file: FileName,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Why a log cannot go on. Nothing was changed on the disk on account of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The data directory is that of another node. Start with the directory of this node.
    #[error("{file} was written by another node; this is not its data directory")]
    OtherNode {
        /// Which file says so.
        file: FileName,
    },
    /// A newer version wrote it. Start that version.
    #[error("{file} has format {found}, this version reads up to {known}: start a newer version")]
    NewerFormat {
        /// Which file.
        file: FileName,
        /// Its format.
        found: u16,
        /// The newest one known here.
        known: u16,
    },
    /// An operation failed. It is not retried: what the file holds now is not known until it is
    /// read again at the next start.
    #[error("{doing} {file}: {error}; not retried, restart to recover from what is on the disk")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        file: String,
        /// What the system said.
        error: DiskError,
    },
    /// There is no room for the first segment.
    #[error("no room for a log segment of {bytes} bytes; free some space and start again")]
    NoRoom {
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// All 16 million segment numbers were used. Export the data and import it elsewhere.
    #[error("the log has used all of its segment numbers")]
    Worn,
}

/// A record to be read from a file; the answer goes to [`Store::on_read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// Matches the answer to it.
    pub id: ReadId,
    /// Which file.
    pub file: FileName,
    /// From where.
    pub offset: u64,
    /// How many bytes; fewer only at the end of the file.
    pub length: u32,
}

/// Names a [`ReadRequest`] of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What a log has done and holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// Segments in use.
    pub segments: u64,
    /// Bytes of all segment files.
    pub file_bytes: u64,
    /// Bytes of records that are the newest of their keys.
    pub live_bytes: u64,
    /// Groups written since the start.
    pub groups: u64,
    /// Records written since the start.
    pub records: u64,
    /// Syncs of the active segment since the start.
    pub syncs: u64,
    /// Segments compacted since the start.
    pub compactions: u64,
    /// Bytes of groups written since the start, Commits included.
    pub appended_bytes: u64,
    /// Bytes written by compactions since the start.
    pub moved_bytes: u64,
    /// Whether a compaction is under way.
    pub is_compacting: bool,
    /// Sidecars written since the start.
    pub sidecars: u64,
    /// Full segments that have none yet: a start would read them.
    pub sidecars_due: u64,
    /// Bytes read to make sidecars and to scrub, since the start.
    pub surveyed_bytes: u64,
    /// Rounds of the scrub that were finished since the start.
    pub scrubs: u64,
    /// Runs of damaged bytes that were found since the start, by the scrub.
    pub damaged_regions: u64,
    /// Whether new values are refused for want of space.
    pub full: bool,
}

impl LogBatch {
    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Damage {
    /// Whether everything verified.
    pub fn is_none(&self) -> bool {
        self.regions.is_empty() && !self.unnamed
    }
}

impl fmt::Display for DamagedRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes at offset {}: ", self.file, self.length, self.offset)?;
        f.write_str(self.reason)
    }
}
