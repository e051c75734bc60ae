//! Many writes over a few connections, with a bound on what is in flight.
//!
//! Each key belongs to one lane, and a lane sends one chunk at a time, so the writes of a key keep
//! their order even where some of them are tried again. Every write carries its own value and
//! nothing that was read, so sending it twice changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::client::{Client, WriteLevel};
use super::failure::Failure;
use super::progress::Progress;
use super::record::Record;
use crate::client::{Answer, Call, Error};
use crate::hash;

/// Writes of one lane that are sent without waiting for a reply.
const CHUNK_RECORDS_MAX: usize = 64;
/// Bytes of keys and values after which a chunk is sent.
const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Chunks that wait for a lane.
const CHUNKS_WAITING_MAX: usize = 2;
/// Rounds in a row without any progress after which the whole is broken off: about a minute.
const ROUNDS_MAX: u32 = 36;
/// The wait after the first such round, in milliseconds; it doubles up to the longest one.
const BACK_OFF_MS: u64 = 50;
/// The longest wait between two rounds, in milliseconds.
const BACK_OFF_MS_MAX: u64 = 2_000;
/// Failures that are kept with their text.
const FAILURES_KEPT: usize = 100;

/// Where the writes go.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Nodes; lane n begins with the n-th of them, counted round.
    pub(crate) addrs: Vec<String>,
    pub(crate) level: WriteLevel,
    pub(crate) timeout_ms: Option<u32>,
}

/// What became of the writes.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Writes that were acknowledged.
    pub(crate) stored: u64,
    /// Lines that were refused or could not be read.
    pub(crate) failed: u64,
    /// Writes that were sent once more.
    pub(crate) retried: u64,
    /// The first of the failed lines, each with the reason.
    pub(crate) failures: BTreeMap<u64, String>,
    /// Why the whole was broken off, if it was.
    pub(crate) stop: Option<Stop>,
}

/// Why an import was broken off.
#[derive(Debug)]
pub(crate) struct Stop {
    /// What happened.
    pub(crate) why: String,
    /// Every line before this one is stored or listed as failed.
    pub(crate) line: u64,
    /// Whether it is unknown if some of the lines from there on were stored.
    pub(crate) unknown: bool,
}

/// The lanes, and what they have done.
#[derive(Debug)]
pub(crate) struct Pipeline {
    route: Route,
    lanes: usize,
    shared: Shared,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when the state says stop.
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    tally: Tally,
    /// First lines of chunks that were begun and are not done, with the lane: the smallest one is
    /// where to go on.
    pending: BTreeSet<(u64, usize)>,
}

/// One write with the line that it came from.
#[derive(Debug)]
struct Item {
    line: u64,
    bytes: u64,
    record: Record,
}

/// Takes records and deals them out to the lanes.
#[derive(Debug)]
pub(crate) struct Feed<'a> {
    shared: &'a Shared,
    progress: &'a Progress,
    lanes: Vec<SyncSender<Vec<Item>>>,
    chunks: Vec<Vec<Item>>,
}

/// What is to become of a record after a round.
enum Verdict {
    Stored,
    Failed(String),
    Again { why: String, after_ms: u64, unknown: bool },
}

impl Pipeline {
    /// `lanes` connections over `route`.
    pub(crate) fn new(route: Route, lanes: usize) -> Self {
        Self { route, lanes, shared: Shared::default() }
    }

    /// Runs `read`, which gives its records to the feed, and sends them meanwhile. Returns when
    /// every record has its outcome, or the whole was broken off.
    pub(crate) fn run(
        &mut self,
        progress: &Progress,
        read: impl FnOnce(&mut Feed<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (route, shared, lanes) = (&self.route, &self.shared, self.lanes);
        thread::scope(|scope| {
            let mut senders = Vec::with_capacity(lanes);
            for index in 0..lanes {
                let (sender, receiver) = sync_channel(CHUNKS_WAITING_MAX);
                senders.push(sender);
                let lane = Lane::new(index, route, shared, progress)?;
                scope.spawn(move || lane.run(&receiver));
            }
            let chunks = (0..lanes).map(|_| Vec::new()).collect();
            let mut feed = Feed { shared, progress, lanes: senders, chunks };
            let read = read(&mut feed);
            feed.flush();
            read
        })
    }

    /// What became of it all.
    pub(crate) fn into_tally(self) -> Tally {
        self.shared.state.into_inner().expect("no lane panics").tally
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no lane panics")
    }

    fn is_stopped(&self) -> bool {
        self.lock().tally.stop.is_some()
    }

    fn fail(&self, line: u64, why: String) {
        let tally = &mut self.lock().tally;
        tally.failed += 1;
        tally.failures.insert(line, why);
        if tally.failures.len() > FAILURES_KEPT {
            tally.failures.pop_last();
        }
    }

    /// The whole is broken off; the first reason is kept.
    fn stop(&self, why: String, unknown: bool) {
        let mut state = self.lock();
        let line = state.pending.first().map_or(1, |(line, _)| *line);
        state.tally.stop.get_or_insert(Stop { why, line, unknown });
        self.stopped.notify_all();
    }

    /// Waits between two rounds, but not longer than until somebody stops the whole.
    fn back_off(&self, ms: u64) {
        let waited =
            self.stopped.wait_timeout_while(self.lock(), Duration::from_millis(ms), |state| {
                state.tally.stop.is_none()
            });
        drop(waited.expect("no lane panics"));
    }
}

impl Feed<'_> {
    /// One record, read from `bytes` bytes of a line. `false`: the whole was broken off.
    pub(crate) fn give(&mut self, line: u64, bytes: u64, record: Record) -> bool {
        let index = usize::from(hash::crc16(&record.key)) % self.lanes.len();
        let chunk = &mut self.chunks[index];
        if chunk.is_empty() {
            self.shared.lock().pending.insert((line, index));
        }
        chunk.push(Item { line, bytes, record });
        let size: usize =
            chunk.iter().map(|item| item.record.key.len() + item.record.value.len()).sum();
        if chunk.len() >= CHUNK_RECORDS_MAX || size >= CHUNK_BYTES_MAX {
            return self.send(index);
        }
        !self.shared.is_stopped()
    }

    /// A line that is no record.
    pub(crate) fn fail(&self, line: u64, why: String) {
        self.shared.fail(line, why);
        self.progress.advance(0, 0);
    }

    fn flush(&mut self) {
        for lane in 0..self.lanes.len() {
            if !self.chunks[lane].is_empty() {
                self.send(lane);
            }
        }
    }

    fn send(&mut self, lane: usize) -> bool {
        let chunk = std::mem::take(&mut self.chunks[lane]);
        // A lane ends before its sender does only when the whole is broken off.
        self.lanes[lane].send(chunk).is_ok() && !self.shared.is_stopped()
    }
}

/// One connection at a time, and the chunks that go over it.
struct Lane<'a> {
    index: usize,
    route: &'a Route,
    shared: &'a Shared,
    progress: &'a Progress,
    client: Client,
}

impl<'a> Lane<'a> {
    fn new(
        index: usize,
        route: &'a Route,
        shared: &'a Shared,
        progress: &'a Progress,
    ) -> Result<Self, Failure> {
        let client = Client::new(&route.addrs, route.timeout_ms)?.starting_at(index);
        Ok(Self { index, route, shared, progress, client })
    }

    fn run(mut self, chunks: &Receiver<Vec<Item>>) {
        while let Ok(chunk) = chunks.recv() {
            let first_line = chunk.first().map_or(0, |item| item.line);
            if self.shared.is_stopped() || !self.finish(chunk) {
                return;
            }
            self.shared.lock().pending.remove(&(first_line, self.index));
        }
    }

    /// Sends a chunk until every record of it has its outcome. `false`: the whole is broken off.
    fn finish(&mut self, mut left: Vec<Item>) -> bool {
        let mut idle_rounds = 0;
        while !left.is_empty() {
            let before = left.len();
            let (again, last, after_ms) = self.round(left);
            left = again;
            let Some((why, unknown)) = last else { continue };
            idle_rounds = if left.len() < before { 0 } else { idle_rounds + 1 };
            if idle_rounds == ROUNDS_MAX {
                self.shared.stop(why, unknown);
                return false;
            }
            let doubled = BACK_OFF_MS << idle_rounds.min(10);
            self.shared.back_off(doubled.max(after_ms).min(BACK_OFF_MS_MAX));
            if self.shared.is_stopped() {
                return false;
            }
            self.shared.lock().tally.retried += left.len() as u64;
        }
        true
    }

    /// Sends every item once. Gives those to send again, the last reason, and how long the nodes
    /// want to be left alone.
    fn round(&mut self, items: Vec<Item>) -> (Vec<Item>, Option<(String, bool)>, u64) {
        let verdicts = self.send(&items);
        let mut again = Vec::new();
        // A later write of a key must not be overtaken by an earlier one that is tried again.
        let mut keys_again = BTreeSet::new();
        let (mut last, mut longest_ms) = (None, 0);
        for (item, verdict) in items.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Stored if !keys_again.contains(&item.record.key) => {
                    self.shared.lock().tally.stored += 1;
                    self.progress.advance(1, item.bytes);
                }
                Verdict::Failed(why) => {
                    self.shared.fail(item.line, why);
                    self.progress.advance(0, item.bytes);
                }
                Verdict::Stored => again.push(item),
                Verdict::Again { why, after_ms, unknown } => {
                    last = Some((why, unknown));
                    longest_ms = longest_ms.max(after_ms);
                    keys_again.insert(item.record.key.clone());
                    again.push(item);
                }
            }
        }
        (again, last, longest_ms)
    }

    fn send(&mut self, items: &[Item]) -> Vec<Verdict> {
        let set = |item: &Item| Call::set(&item.record.key, &item.record.value);
        let calls: Vec<Call> = items.iter().map(|item| self.route.level.apply(set(item))).collect();
        self.client.pipeline(&calls).into_iter().map(judge).collect()
    }
}

fn judge(outcome: Result<Answer, Error>) -> Verdict {
    let Err(error) = outcome else { return Verdict::Stored };
    match error.code() {
        None
        | Some(
            "overloaded" | "unavailable" | "no_cluster" | "shutting_down" | "timed_out"
            | "disk_full" | "out_of_memory" | "outcome_unknown",
        ) => Verdict::Again {
            why: error.to_string(),
            after_ms: error.retry_after_ms(),
            unknown: error.is_unknown(),
        },
        // Every node would say the same: its address would tell nobody anything.
        Some(_) => Verdict::Failed(error.text().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// What a node is asked, in order, over all of its connections.
    type Asked = Mutex<Vec<(String, String)>>;

    /// A node that notes each SET and answers as `reply` says for the number of SETs so far; `None`
    /// closes the connection. It serves connections until `connections` of them have ended.
    fn serve(
        listener: &TcpListener,
        connections: usize,
        asked: &Asked,
        reply: impl Fn(usize) -> Option<&'static str> + Sync,
    ) {
        let reply = &reply;
        thread::scope(|scope| {
            for _ in 0..connections {
                let (stream, _) = listener.accept().unwrap();
                scope.spawn(move || answer(&stream, asked, reply));
            }
        });
    }

    fn answer(mut out: &TcpStream, asked: &Asked, reply: impl Fn(usize) -> Option<&'static str>) {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let call: Answer = serde_json::from_str(&line).unwrap();
            let mut asked = asked.lock().unwrap();
            asked.push((call.text("key").unwrap(), call.text("value").unwrap()));
            let Some(reply) = reply(asked.len()) else { return };
            drop(asked);
            if writeln!(out, "{reply}").is_err() {
                return;
            }
        }
    }

    fn run(addrs: Vec<String>, lanes: usize, records: &[(&str, &str)]) -> Tally {
        let route = Route { addrs, level: WriteLevel::default(), timeout_ms: None };
        let mut pipeline = Pipeline::new(route, lanes);
        let progress = Progress::start("import", None);
        let give = |feed: &mut Feed<'_>| {
            for (line, (key, value)) in (1..).zip(records) {
                let record = Record { key: (*key).into(), value: (*value).into() };
                if !feed.give(line, 1, record) {
                    break;
                }
            }
            Ok(())
        };
        pipeline.run(&progress, give).unwrap();
        pipeline.into_tally()
    }

    fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        (listener, addr)
    }

    const OK: &str = r#"{"ok":true}"#;
    const BUSY: &str =
        r#"{"ok":false,"error":"busy","code":"overloaded","retry_after_ms":1,"outcome":"refused"}"#;
    const NEVER: &str =
        r#"{"ok":false,"error":"too long","code":"value_too_large","outcome":"refused"}"#;

    #[test]
    fn a_write_that_is_tried_again_takes_the_later_ones_of_its_key_with_it() {
        let (listener, addr) = listen();
        let (listener, asked) = (&listener, &Asked::default());
        let records = [("a", "1"), ("b", "1"), ("a", "2")];
        let tally = thread::scope(|scope| {
            let reply = |count| Some(if count == 1 { BUSY } else { OK });
            scope.spawn(move || serve(listener, 1, asked, reply));
            run(vec![addr], 1, &records)
        });
        let asked = asked.lock().unwrap();
        let sent: Vec<String> = asked.iter().map(|(key, value)| format!("{key}{value}")).collect();
        assert_eq!(sent, ["a1", "b1", "a2", "a1", "a2"]);
        assert_eq!((tally.stored, tally.failed, tally.retried), (3, 0, 2));
        assert!(tally.stop.is_none());
    }

    #[test]
    fn what_can_never_be_stored_is_listed_and_stops_nobody() {
        let (listener, addr) = listen();
        let (listener, asked) = (&listener, &Asked::default());
        let tally = thread::scope(|scope| {
            let reply = |count| Some(if count == 2 { NEVER } else { OK });
            scope.spawn(move || serve(listener, 1, asked, reply));
            run(vec![addr], 1, &[("a", "1"), ("b", "1"), ("c", "1")])
        });
        assert_eq!((tally.stored, tally.failed), (2, 1));
        assert_eq!(tally.failures.get(&2).map(String::as_str), Some("too long"));
    }

    #[test]
    fn a_connection_that_breaks_is_replaced_by_one_to_the_next_node() {
        let (first, first_addr) = listen();
        let (second, second_addr) = listen();
        let (asked_first, asked_second) = (Asked::default(), Asked::default());
        let tally = thread::scope(|scope| {
            scope.spawn(|| {
                serve(&first, 1, &asked_first, |count| (count < 2).then_some(OK));
                drop(first);
            });
            scope.spawn(|| serve(&second, 1, &asked_second, |_| Some(OK)));
            run(vec![first_addr, second_addr], 1, &[("a", "1"), ("b", "1"), ("c", "1")])
        });
        assert_eq!((tally.stored, tally.failed, tally.retried), (3, 0, 2));
        let second: Vec<_> = asked_second.into_inner().unwrap();
        assert_eq!(second, [("b".into(), "1".into()), ("c".into(), "1".into())]);
    }

    #[test]
    fn every_lane_writes_its_keys_in_their_order() {
        let (listener, addr) = listen();
        let asked = Asked::default();
        let keys: Vec<String> = (0..50).map(|index| format!("k{index}")).collect();
        let values: Vec<String> = (0..10).map(|value| value.to_string()).collect();
        let records: Vec<(&str, &str)> = values
            .iter()
            .flat_map(|value| keys.iter().map(move |key| (key.as_str(), value.as_str())))
            .collect();
        let tally = thread::scope(|scope| {
            scope.spawn(|| serve(&listener, 4, &asked, |_| Some(OK)));
            run(vec![addr], 4, &records)
        });
        assert_eq!(tally.stored, 500);
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in asked.into_inner().unwrap() {
            by_key.entry(key).or_default().push(value);
        }
        assert_eq!(by_key.len(), 50);
        assert!(by_key.values().all(|order| *order == values));
    }
}
