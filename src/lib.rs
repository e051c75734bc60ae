//! Peerage: a key-value store of equals. The map of the crate is in ARCHITECTURE.md.

pub mod api;
pub mod causality;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod hash;
pub mod limits;
pub mod load;
pub mod marks;
pub mod planted;
pub mod server;
pub mod shard;
pub mod sim;
pub mod store;
pub mod time;
pub mod turn;
pub mod wire;
