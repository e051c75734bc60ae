//! The shell of production: sockets, files, threads and clocks around the pure parts.
//!
//! A [`Node`] is one member of a cluster. It owns its threads (shards, log, readers, control) and
//! its data directory; several of them can live in one process. The shell carries bytes and values
//! and holds no protocol decisions.

mod bug;
mod client;
mod clock;
mod control;
mod descriptors;
mod directory;
mod entry;
mod exposure;
mod files;
mod greeting;
mod guests;
mod identity;
mod injection;
mod link_control;
mod links;
mod log_seat;
mod log_thread;
mod mailbox;
mod memory;
mod metrics;
mod node;
mod origin;
mod patience;
mod readers;
mod shard_thread;
mod shared;
mod strangers;
mod sweep;
#[cfg(test)]
mod tests;
mod turned_away;
mod unsent;

pub use directory::DirectoryError;
pub use identity::IdentityError;
pub use link_control::LinkControl;
pub use metrics::{Counter, Metrics};
pub use node::{Failure, Node, NodeOptions, StartError};
