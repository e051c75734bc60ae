//! Every file operation of the store, as a question whose answer comes later.
//!
//! Two implementations: real files (server) and the simulator's disk. Nothing waits inside.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::planted::{Bug, planted};

/// What does not verify is read so often before it counts as damaged: the fault may lie in the
/// reading, and what is taken for damaged is replaced by what other nodes have.
const READINGS_MAX: u8 = 4;

/// Whether what failed so often is read once more.
pub(super) fn may_read_again(failed: u8) -> bool {
    failed < READINGS_MAX && !planted(Bug::DamageReadOnce)
}

/// Matches a completion to its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId(pub u64);

/// A file of the data directory that belongs to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileName {
    /// A log segment by its number: `NNNNNNNN.seg`.
    Segment(u32),
    /// A segment being prepared, not yet part of the log: `NNNNNNNN.new`.
    Prepared(u32),
    /// What a full segment says, in short: `NNNNNNNN.idx`.
    Sidecar(u32),
    /// The list of live segments: `MANIFEST`.
    Manifest,
    /// The next list of live segments: `MANIFEST.new`.
    ManifestNew,
}

/// Something to do with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Every file of the store, with its length.
    List,
    /// Makes a file of `bytes` zeros, written and synced, its directory entry not yet synced.
    Create {
        /// Its name; an existing one is replaced.
        file: FileName,
        /// Its length.
        bytes: u64,
    },
    /// Writes `parts` one after the other from `offset`; grows the file where it must.
    Write {
        /// Which file.
        file: FileName,
        /// Where.
        offset: u64,
        /// What.
        parts: Vec<Bytes>,
    },
    /// Reads up to `length` bytes; fewer only at the end of the file.
    Read {
        /// Which file.
        file: FileName,
        /// From where.
        offset: u64,
        /// How many bytes.
        length: u32,
    },
    /// Puts the contents of a file on stable storage (fdatasync).
    Sync {
        /// Which file.
        file: FileName,
    },
    /// Gives a file another name, replacing what had it; not durable until `SyncDir`.
    Rename {
        /// The old name.
        from: FileName,
        /// The new one.
        to: FileName,
    },
    /// Removes a file; not durable until `SyncDir`.
    Remove {
        /// Which file.
        file: FileName,
    },
    /// Puts names on stable storage.
    SyncDir,
    /// How much room is left.
    Space,
}

/// What an operation returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskDone {
    /// To `List`.
    Files(Vec<(FileName, u64)>),
    /// To `Read`.
    Bytes(Bytes),
    /// To `Space`: bytes free, bytes in all.
    Space {
        /// Free for this process.
        free: u64,
        /// Size of the file system.
        total: u64,
    },
    /// To everything else.
    Done,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// No room is left.
    Full,
    /// There is no such file.
    NotFound,
    /// Anything else, as the system calls it.
    Failed(String),
}

/// Where operations go. Completions come back to the store in any order.
pub trait Disk {
    /// Begins an operation; its completion will carry `id`.
    fn submit(&mut self, id: IoId, op: DiskOp);
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number) => write!(f, "{number:08}.seg"),
            Self::Prepared(number) => write!(f, "{number:08}.new"),
            Self::Sidecar(number) => write!(f, "{number:08}.idx"),
            Self::Manifest => f.write_str("MANIFEST"),
            Self::ManifestNew => f.write_str("MANIFEST.new"),
        }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no space left on the device"),
            Self::NotFound => f.write_str("no such file"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for DiskError {}
