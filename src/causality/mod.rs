//! Pure values that say what happened before what: dots, partition clocks, objects with siblings.
//!
//! Dots are minted per (partition, actor), each replica keeps one clock per partition, and each key
//! keeps its siblings and only that part of its causal context which the partition clock does not
//! already cover. Source: Goncalves, Almeida, Baquero, Fonte, "DottedDB: Anti-Entropy without
//! Merkle Trees, Deletes without Tombstones", SRDS 2017, scoped to a partition instead of a node.

#![warn(clippy::indexing_slicing, clippy::as_conversions)]

mod clock;
mod context;
mod dot;
mod object;

pub use clock::PartitionClock;
pub use context::{ContextError, decode_context, encode_context};
pub use dot::{Actor, Dot, NodeId, NodeTag, VersionVector};
pub use object::{Entry, Object, Put, fill, fill_from_siblings, merge, put, strip};
