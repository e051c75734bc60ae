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
//!     log.pump(now, &mut disk);                     // submits operations
//!     for (id, result) in disk.completions() {      // in any order
//!         log.on_io(now, id, result);
//!     }
//!     for event in log.take_events() { match event {
//!         Recovered(found)        => start shards and control plane with it
//!         Note { shard, note }    => to that shard, in order: store.on_note(note)
//!         ControlDurable { upto } => step the control plane with Durable { upto }
//!         Notice(line)            => to the operator
//!         Fatal(error)            => end the process; acknowledge nothing more
//!     } }
//!     wait for a completion, something to hand over, or log.deadline(); then
//!     log.hand(shard, batch); log.hand_control(seq, record);
//! }
//! ```
//! `pump` again after every completion and everything handed. At most two operations are under way:
//! one that clients wait for, a `Write` or `Sync` of a [`FileName::Segment`], and one on other
//! files or names (preparing segments, compaction, MANIFEST), which may take long and should run on
//! another thread. Stop: hand nothing more, drive until [`Log::is_idle`].
//!
//! # How a worker drives its table
//!
//! After the inputs of a turn: `store.take_batch()` to the log; every `store.take_reads()` to a
//! reader, whose answer goes to `store.on_read(id, result)`; the token that this returns is the
//! `Input::Fetched` to step in the same turn or the next. Notes of the log go to `store.on_note`
//! in the order in which they came; what that returns is `Input::Durable`. A note or an answer may
//! leave something for the log or a reader even if it returns nothing: a turn follows each.

mod append;
mod border;
mod cache;
mod codec;
mod cold;
mod compact;
pub mod disk;
mod filter;
mod harvest;
mod index;
pub mod inspect;
mod log;
mod place;
mod queue;
mod record;
mod recovery;
mod scan;
mod segment;
mod stamps;
mod summary;
mod survey;
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
