//! The loops themselves: connections that take turns on one thread until the time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{Mix, Operation, Plan, Tally, Wire, bulk_keys, key, value};

/// What a group of requests may take beyond the time of the plan before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes by which the room for replies grows.
const READ_BYTES: usize = 16 * 1024;

/// Requests answered so far, for those who watch.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// The number now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Does what the plan says, and says what came of it; a connection that fails ends its loop and is
/// counted. `Err`: a connection could not be made.
pub async fn run<W: Wire>(
    plan: &Plan,
    wire: impl Fn() -> W,
    count: &Count,
) -> Result<Tally, String> {
    let mut streams = Vec::with_capacity(plan.clients);
    for addr in plan.addrs.iter().cycle().take(plan.clients) {
        let connected = timeout(PATIENCE, TcpStream::connect(addr)).await;
        let connected = connected.map_err(|_elapsed| format!("{addr}: no connection in time"))?;
        let stream = connected.map_err(|error| format!("{addr}: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("{addr}: {error}"))?;
        streams.push(stream);
    }
    let next_key = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut loops = JoinSet::new();
    for (stream, seed) in streams.into_iter().zip(plan.seed..) {
        let one = Loop {
            wire: wire(),
            stream,
            count: count.clone(),
            end: start + plan.time,
            draws: StdRng::seed_from_u64(seed),
            next_key: Arc::clone(&next_key),
            mix: plan.mix,
            keys: plan.keys,
            value: value(plan.value_bytes),
            tally: Tally::new(),
        };
        loops.spawn(one.run(plan.pipeline));
    }
    let mut tally = Tally::new();
    while let Some(done) = loops.join_next().await {
        tally.add(done.expect("a loop does not panic"));
    }
    tally.elapsed = start.elapsed();
    Ok(tally)
}

/// One connection.
struct Loop<W> {
    wire: W,
    stream: TcpStream,
    count: Count,
    end: Instant,
    draws: StdRng,
    /// The next key of a fill, shared by all loops.
    next_key: Arc<AtomicU64>,
    mix: Mix,
    keys: u64,
    value: String,
    tally: Tally,
}

impl<W: Wire> Loop<W> {
    async fn run(mut self, pipeline: usize) -> Tally {
        let (mut out, mut replies) = (Vec::new(), Vec::with_capacity(READ_BYTES));
        while Instant::now() < self.end {
            out.clear();
            let sent = (0..pipeline).take_while(|_| self.put_next(&mut out)).count();
            if sent == 0 {
                break;
            }
            let before = self.tally.latency.len();
            let left = self.end.saturating_duration_since(Instant::now()) + PATIENCE;
            let group = timeout(left, self.exchange(&out, sent, &mut replies)).await;
            let failure = match group {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure,
                Err(_late) => String::from("replies did not come in time"),
            };
            let answered = self.tally.latency.len() - before;
            self.tally.fail(sent as u64 - answered, failure);
            break;
        }
        self.tally
    }

    async fn exchange(
        &mut self,
        requests: &[u8],
        sent: usize,
        replies: &mut Vec<u8>,
    ) -> Result<(), String> {
        let start = Instant::now();
        self.stream.write_all(requests).await.map_err(|error| error.to_string())?;
        let mut answered = 0;
        while answered < sent {
            replies.reserve(READ_BYTES);
            let read = self.stream.read_buf(replies).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err(String::from("the server closed the connection"));
            }
            let took = start.elapsed();
            let (mut at, before) = (0, answered);
            while let Some((length, outcome)) = self.wire.take(&replies[at..])? {
                at += length;
                answered += 1;
                self.tally.note(outcome, took);
            }
            replies.drain(..at);
            self.count.0.fetch_add((answered - before) as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Appends the next request; `false` where there is none.
    fn put_next(&mut self, out: &mut Vec<u8>) -> bool {
        let (number, writes) = match self.mix {
            Mix::Fill => (self.next_key.fetch_add(1, Ordering::Relaxed), true),
            Mix::Set => (self.draws.random_range(0..self.keys), true),
            Mix::Get => (self.draws.random_range(0..self.keys), false),
            Mix::Mixed => (self.draws.random_range(0..self.keys), self.draws.random()),
            Mix::Bulk(count) => {
                let keys = bulk_keys(self.draws.random_range(0..self.keys), count);
                self.wire.put(&Operation::Bulk { keys: &keys, value: &self.value }, out);
                return true;
            }
        };
        if self.mix == Mix::Fill && number >= self.keys {
            return false;
        }
        let (key, value) = (&key(number), &self.value);
        let operation = if writes { Operation::Set { key, value } } else { Operation::Get { key } };
        self.wire.put(&operation, out);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::super::Resp;
    use super::*;

    /// A server that answers each RESP request with `reply`, for so many connections, and closes
    /// each after `requests` of them. A request is known by its star.
    fn server(connections: usize, requests: usize, reply: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for _ in 0..connections {
                let (mut stream, _) = listener.accept().unwrap();
                thread::spawn(move || {
                    let (mut buffer, mut seen) = ([0; 4_096], 0);
                    while seen < requests {
                        let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
                        let stars = buffer[..read].split(|&byte| byte == b'*').count() - 1;
                        seen += stars;
                        if stream.write_all(reply.repeat(stars).as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        addr
    }

    fn measure(plan: &Plan) -> Tally {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let count = Count::default();
        let tally = runtime.block_on(run(plan, || Resp, &count)).unwrap();
        assert_eq!(tally.latency.len(), count.now());
        tally
    }

    fn plan(addr: String, mix: Mix) -> Plan {
        let time = Duration::from_secs(10);
        Plan {
            addrs: vec![addr],
            clients: 3,
            pipeline: 4,
            time,
            mix,
            keys: 50,
            value_bytes: 8,
            seed: 1,
        }
    }

    #[test]
    fn a_fill_writes_every_key_once_and_ends() {
        let tally = measure(&plan(server(3, 1_000, "+OK\r\n"), Mix::Fill));
        assert_eq!((tally.done, tally.failed, tally.absent), (50, 0, 0));
        assert!(tally.elapsed < Duration::from_secs(10));
    }

    #[test]
    fn a_connection_that_ends_fails_what_it_owes_and_no_more() {
        let tally = measure(&plan(server(3, 8, "$-1\r\n"), Mix::Get));
        assert_eq!(tally.absent, tally.done);
        assert!(tally.done >= 3 * 8, "{tally:?}");
        assert!((1..=3 * 4).contains(&tally.failed), "{tally:?}");
        assert!(tally.first_failure.is_some());
    }

    #[test]
    fn values_have_their_length_and_keys_theirs() {
        assert_eq!(value(100).len(), 100);
        assert_eq!(key(7), "key:000000000007");
        assert_eq!(bulk_keys(7, 2), ["{key:000000000007}0000", "{key:000000000007}0001"]);
    }
}
