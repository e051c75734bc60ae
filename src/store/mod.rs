//! The log engine: the log is the data, an in-memory index points into it.
//!
//! Two halves. A [`Store`] per shard answers reads and takes puts, in memory, without waiting; it
//! implements [`crate::shard::Table`]. One [`Log`] per node makes the puts of all shards and the
//! records of the control plane durable, one sync for everybody. Only values pass between them.
//! Both are pure over [`Disk`]: nothing waits inside, so one thread with real files and a simulator
//! drive them by the same lines.
//!
//! # How a shell drives the log
//!
//! ```text
//! let mut log = Log::new(config);
//! loop {
//!     log.pump(now, &mut disk);                    // submits operations
//!     for (id, result) in disk.completions() { log.on_io(now, id, result); }   // in any order
//!     for event in log.take_events() { match event {
//!         Recovered(found)       => start the shards with found.shards, the control plane with found.control
//!         Note { shard, note }   => to that shard: if let Some(upto) = store.on_note(note) { step Durable { upto } }
//!         ControlDurable { upto } => step the control plane with Durable { upto }
//!         Notice(line)           => to the operator
//!         Fatal(error)           => end the process; acknowledge nothing more
//!     } }
//!     wait for a completion, a batch of a shard, or log.deadline(); then for each:
//!     log.hand(shard, batch); log.hand_control(seq, record);
//! }
//! ```
//! `pump` again after every completion and every `hand`. The log keeps at most one operation on
//! the segment it appends to and one on other files under way. Those of the first kind (`Write` and
//! `Sync` of [`Log::appends_to`]) are what clients wait for; the others (preparing segments,
//! compaction, MANIFEST) may take long and should run on another thread. Stop: hand nothing more,
//! drive until [`Log::is_idle`].
//!
//! # How a worker drives its table
//!
//! After the inputs of a turn: `store.take_batch()` to the log; every `store.take_reads()` to a
//! reader, whose answer goes to `store.on_read(id, result)`; the token that this returns is the
//! `Input::Fetched` to step in the same turn or the next. Notes of the log go to `store.on_note`
//! in the order in which they came.

mod append;
mod border;
mod cache;
mod codec;
mod compact;
pub mod disk;
mod harvest;
mod index;
mod log;
mod place;
mod queue;
mod record;
mod recovery;
mod scan;
mod segment;
mod table;
mod upkeep;

pub use border::{
    Damage, DamagedRegion, Event, LogBatch, LogConfig, LogError, LogNote, LogStatus, ReadId,
    ReadRequest, Recovered, RecoveredShard,
};
pub use disk::{Disk, DiskDone, DiskError, DiskOp, FileName, IoId};
pub use log::Log;
pub use table::Store;

#[cfg(test)]
mod tests;
