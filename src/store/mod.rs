//! The log engine: the log is the data, an in-memory index points into it.

pub mod disk;

pub use disk::{Disk, DiskDone, DiskError, DiskOp, FileName, IoId};
