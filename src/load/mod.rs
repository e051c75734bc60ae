//! Closed loops of requests against any server, measured: what `bench` and the comparison with
//! other systems share, so that all of them are driven in the same way.
//!
//! Each of `clients` connections sends `pipeline` requests in one write, waits for all of their
//! replies, and only then goes on. A slow server is thus asked less: what is measured is the
//! latency that a program with so many workers sees, not that of visitors who come at their own
//! pace. The latency of a request counts from the write of its group to its own reply.
//!
//! All connections share one thread, and keys are drawn by seeded generators.

mod cpu;
mod json;
mod resp;
mod run;

use std::time::Duration;

use hdrhistogram::Histogram;

pub use cpu::{cpu_time, listener};
pub use json::Json;
pub use resp::Resp;
pub use run::{Count, run};

/// One request. Keys and values are text, so that every protocol takes them as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Reads a key.
    Get {
        /// The key.
        key: &'a str,
    },
    /// Writes a key.
    Set {
        /// The key.
        key: &'a str,
        /// Its value.
        value: &'a str,
    },
    /// Writes several keys, all with one value, all or nothing.
    Bulk {
        /// The keys.
        keys: &'a [String],
        /// The value of each.
        value: &'a str,
    },
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// A read of a key that is not there.
    Absent,
    /// It was refused, or its outcome is not known; with the words of the server.
    Failed(String),
}

/// A protocol as the loops need it. It is made once for each connection.
pub trait Wire: Send + 'static {
    /// Appends the bytes of a request.
    fn put(&mut self, operation: &Operation<'_>, out: &mut Vec<u8>);

    /// The next reply at the start of `bytes` with its length; `None` where it is not whole yet.
    /// `Err`: these bytes are no reply, and the connection is of no more use.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<(usize, Outcome)>, String>;
}

/// What the loops ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Reads only.
    Get,
    /// Writes only.
    Set,
    /// Reads and writes, one half each.
    Mixed,
    /// Batches of so many keys.
    Bulk(usize),
    /// Every key from 0 on is written once; ends when there are no more.
    Fill,
}

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where to connect to (HOST:PORT), the clients in turn.
    pub addrs: Vec<String>,
    /// Connections, at least 1.
    pub clients: usize,
    /// Requests that each of them sends at once, at least 1.
    pub pipeline: usize,
    /// When no more requests are begun.
    pub time: Duration,
    /// What is asked.
    pub mix: Mix,
    /// Keys that requests are drawn from, evenly; at least 1.
    pub keys: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Where the draws start.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Requests that were done, reads of absent keys included.
    pub done: u64,
    /// Of these, reads that found nothing.
    pub absent: u64,
    /// Requests that were not.
    pub failed: u64,
    /// What the server said to the first of them, or why a connection ended.
    pub first_failure: Option<String>,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
}

/// The longest latency that is told apart, in nanoseconds: a minute, the longest that a request may
/// take.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Decimal digits to which latencies are kept.
const LATENCY_DIGITS: u8 = 3;

impl Tally {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS);
        Self {
            done: 0,
            absent: 0,
            failed: 0,
            first_failure: None,
            elapsed: Duration::ZERO,
            latency: latency.expect("the bounds are far apart and the digits few"),
        }
    }

    fn note(&mut self, outcome: Outcome, took: Duration) {
        self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        match outcome {
            Outcome::Done => self.done += 1,
            Outcome::Absent => {
                self.done += 1;
                self.absent += 1;
            }
            Outcome::Failed(words) => self.fail(1, words),
        }
    }

    fn fail(&mut self, requests: u64, words: String) {
        self.failed += requests;
        self.first_failure.get_or_insert(words);
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.absent += other.absent;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.latency.add(other.latency).expect("all histograms have the same bounds");
    }
}

/// The key of this number, of 16 bytes for the first hundred billion.
pub fn key(number: u64) -> String {
    format!("key:{number:012}")
}

/// The keys of a batch of this number, which lie together.
pub fn bulk_keys(number: u64, count: usize) -> Vec<String> {
    (0..count).map(|part| format!("{{key:{number:012}}}{part:04}")).collect()
}

/// A value of this length: letters and digits, different all over.
pub fn value(bytes: usize) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // A stride without a factor in common walks through all letters in a fixed disorder.
    (0..bytes).map(|index| char::from(LETTERS[index * 25 % LETTERS.len()])).collect()
}
