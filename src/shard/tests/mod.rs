//! The shard against a world that loses, doubles, reorders, lags and crashes.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it is about, and no more")]

mod batch;
mod judge;
mod levels;
mod logged;
mod oracle;
mod previous;
mod random;
mod requests;
mod scan;
mod scenarios;
mod table;
mod world;
