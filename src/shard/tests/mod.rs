//! The shard against a world that loses, doubles, reorders, lags and crashes.

mod batch;
mod oracle;
mod random;
mod scan;
mod table;
mod world;
