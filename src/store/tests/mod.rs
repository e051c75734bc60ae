//! The store as a whole: tables, log and a disk that forgets.

mod compaction;
mod disk;
mod failed_sync;
mod faults;
mod model;
mod names;
mod node;
mod requests;
mod rot;
mod sidecars;
mod wal_every_offset;
