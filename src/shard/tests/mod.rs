//! The shard against a world that loses, doubles, reorders, lags and crashes.

mod oracle;
mod random;
mod table;
mod world;
