//! Writers that note what they tried and what was acknowledged, and the check of it all.
//!
//! Every key has one writer and its values are growing numbers, so what may be read after a crash
//! is an interval: from the last acknowledged number to the last one tried. After a write whose
//! outcome is unknown its key rests until the next check, because such a write may still land.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value as JsonValue, json};

use super::resp::Value;
use super::{Json, Node, Resp, wait_for};

/// Keys of one bulk.
pub(crate) const BULK_KEYS: usize = 5;
const NAMES_PER_WRITER: usize = 12;

/// What is known of one key, or of the keys of one bulk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// The last number that was acknowledged or read; 0 = none.
    pub(crate) acked: u64,
    /// The last number that was sent.
    pub(crate) tried: u64,
    /// Numbers that were refused since `acked`: they must never be seen.
    pub(crate) refused: BTreeSet<u64>,
    /// Whether a write with an unknown outcome is about.
    pub(crate) rests: bool,
}

/// What all writers know together.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By the name of the key.
    pub(crate) singles: BTreeMap<String, Fate>,
    /// By the name of the bulk.
    pub(crate) bulks: BTreeMap<String, Fate>,
    /// Single writes acknowledged so far.
    pub(crate) acked_writes: usize,
    /// Bulks acknowledged so far.
    pub(crate) acked_bulks: usize,
    /// Writes that were refused, by what was said.
    pub(crate) refusals: BTreeMap<String, usize>,
    /// Writes whose outcome was not told.
    pub(crate) unknown: usize,
}

/// Running writers.
pub(crate) struct Load {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

enum Told {
    Acknowledged,
    Refused(String),
    Nothing,
}

enum Line {
    Json(Json),
    Resp(Resp),
}

impl Load {
    /// Starts `writers` writers of single keys, half of them in each protocol, and `bulkers`
    /// writers of bulks, spread over the nodes that listen on `ports`.
    pub(crate) fn start(
        ledger: &Arc<Mutex<Ledger>>,
        ports: &[u16],
        writers: usize,
        bulkers: usize,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for number in 0..writers + bulkers {
            let (ledger, stop, ports) = (Arc::clone(ledger), Arc::clone(&stop), ports.to_vec());
            let is_bulker = number >= writers;
            threads.push(std::thread::spawn(move || {
                write_until(&stop, &ledger, &ports, number, is_bulker);
            }));
        }
        Self { ledger: Arc::clone(ledger), stop, threads }
    }

    /// Waits until so many more writes and bulks were acknowledged than at the start of the wait.
    pub(crate) fn wait_acked(&self, writes: usize, bulks: usize) {
        let (first_writes, first_bulks) = {
            let ledger = lock(&self.ledger);
            (ledger.acked_writes, ledger.acked_bulks)
        };
        wait_for(&format!("{writes} acknowledged writes and {bulks} bulks"), || {
            let ledger = lock(&self.ledger);
            let enough = ledger.acked_writes >= first_writes + writes
                && ledger.acked_bulks >= first_bulks + bulks;
            enough.then_some(())
        });
    }

    /// Ends all writers.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a writer does not panic");
        }
    }
}

/// The ledger, also after a panic elsewhere.
pub(crate) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Longest time until others have finished the bulk of a coordinator that was lost.
pub(crate) const FINISHED_WITHIN: Duration = Duration::from_secs(15);

/// Reads everything back through `node` and returns what is wrong. What was read becomes the new
/// floor: once seen on every replica it may not go again. A bulk over several groups of nodes may
/// be half written until [`FINISHED_WITHIN`] after `since`.
pub(crate) fn check(ledger: &Mutex<Ledger>, node: &Node, since: Instant) -> Vec<String> {
    let mut client = node.json();
    let mut ledger = lock(ledger);
    let mut wrong = Vec::new();
    for (key, fate) in &mut ledger.singles {
        let found = read_number(&mut client, key, "all");
        fate.judge(key, found, &mut wrong);
    }
    for (name, fate) in &mut ledger.bulks {
        let mut read = || {
            bulk_keys(name)
                .iter()
                .map(|key| read_number(&mut client, key, "all"))
                .collect::<Vec<_>>()
        };
        let mut found = read();
        while found.iter().any(|&number| number != found[0])
            && super::now() < since + FINISHED_WITHIN
        {
            super::let_pass(Duration::from_millis(100));
            found = read();
        }
        if found.iter().any(|&number| number != found[0]) {
            wrong.push(format!("{name}: half of a bulk: {found:?}, {fate:?}"));
        }
        fate.judge(name, found[0], &mut wrong);
    }
    wrong
}

impl Fate {
    fn judge(&mut self, name: &str, found: u64, wrong: &mut Vec<String>) {
        if found < self.acked {
            wrong.push(format!("{name}: lost: {found} found, {self:?}"));
        } else if found > self.tried {
            wrong.push(format!("{name}: invented: {found} found, {self:?}"));
        } else if self.refused.contains(&found) {
            wrong.push(format!("{name}: refused and yet applied: {found} found, {self:?}"));
        }
        self.acked = found.max(self.acked);
        self.refused.clear();
        self.rests = false;
    }
}

/// The number that as many replicas as the level asks for hold of a key; 0 = none.
pub(crate) fn read_number(client: &mut Json, key: &str, level: &str) -> u64 {
    let reply = wait_for("a read", || {
        let reply = client.call(&json!({"cmd": "GET", "key": key, "level": level}));
        let settled = reply["ok"] == true || reply["error"] == "Key not found";
        settled.then_some(reply)
    });
    reply["value"].as_str().map_or(0, |text| text.parse().expect("the load writes numbers"))
}

/// The keys of a bulk, which lie in different partitions.
pub(crate) fn bulk_keys(name: &str) -> Vec<String> {
    (0..BULK_KEYS).map(|part| format!("{name}/{part}")).collect()
}

fn write_until(
    stop: &AtomicBool,
    ledger: &Mutex<Ledger>,
    ports: &[u16],
    writer: usize,
    is_bulker: bool,
) {
    let mut line = None;
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let port = ports[(writer + turn / 50) % ports.len()];
        if line.is_none() || turn % 50 == 0 {
            line = Line::open(port, writer.is_multiple_of(2) || is_bulker);
        }
        let Some(open) = &mut line else {
            super::let_pass(Duration::from_millis(20));
            turn += 49;
            continue;
        };
        let kind = if is_bulker { "bulk" } else { "key" };
        let name = format!("{kind}-{writer}-{}", turn % NAMES_PER_WRITER);
        let Some(number) = begin(ledger, &name, is_bulker) else { continue };
        let told = open.write(&name, number, is_bulker);
        if matches!(told, Told::Nothing) {
            line = None;
        }
        end(ledger, &name, number, is_bulker, told);
    }
}

/// The next number of a key, or `None` while it rests.
fn begin(ledger: &Mutex<Ledger>, name: &str, is_bulk: bool) -> Option<u64> {
    let mut ledger = lock(ledger);
    let fates = if is_bulk { &mut ledger.bulks } else { &mut ledger.singles };
    let fate = fates.entry(name.to_owned()).or_default();
    if fate.rests {
        return None;
    }
    fate.tried += 1;
    Some(fate.tried)
}

fn end(ledger: &Mutex<Ledger>, name: &str, number: u64, is_bulk: bool, told: Told) {
    let mut guard = lock(ledger);
    let ledger = &mut *guard;
    let fates = if is_bulk { &mut ledger.bulks } else { &mut ledger.singles };
    let fate = fates.get_mut(name).expect("a write has begun");
    match told {
        Told::Acknowledged => {
            fate.acked = number;
            fate.refused.clear();
            if is_bulk {
                ledger.acked_bulks += 1;
            } else {
                ledger.acked_writes += 1;
            }
        }
        Told::Refused(why) => {
            fate.refused.insert(number);
            *ledger.refusals.entry(why).or_default() += 1;
        }
        Told::Nothing => {
            fate.rests = true;
            ledger.unknown += 1;
        }
    }
}

impl Line {
    fn open(port: u16, json: bool) -> Option<Self> {
        if json {
            Json::try_open(port).map(Self::Json)
        } else {
            Resp::try_open(port).map(Self::Resp)
        }
    }

    fn write(&mut self, name: &str, number: u64, is_bulk: bool) -> Told {
        let value = number.to_string();
        match self {
            Self::Json(client) => {
                let request = if is_bulk { bulk(name, &value) } else { set(name, &value) };
                client.try_call(&request).map_or(Told::Nothing, |reply| told_in_json(&reply))
            }
            Self::Resp(client) => {
                let words: [&[u8]; 3] = [b"SET", name.as_bytes(), value.as_bytes()];
                client.try_call(&words).map_or(Told::Nothing, |reply| told_in_resp(&reply))
            }
        }
    }
}

fn set(name: &str, value: &str) -> JsonValue {
    json!({"cmd": "SET", "key": name, "value": value})
}

fn bulk(name: &str, value: &str) -> JsonValue {
    let item = |key: &String| json!({"key": key, "value": value});
    let items: Vec<_> = bulk_keys(name).iter().map(item).collect();
    json!({"cmd": "BULK_SET", "items": items})
}

fn told_in_json(reply: &JsonValue) -> Told {
    if reply["ok"] == true {
        Told::Acknowledged
    } else if reply["outcome"] == "unknown" {
        Told::Nothing
    } else {
        Told::Refused(format!("{}: {}", reply["code"], reply["error"]))
    }
}

fn told_in_resp(reply: &Value) -> Told {
    match reply {
        Value::Simple(text) if text == "OK" => Told::Acknowledged,
        Value::Error(text) if text.starts_with("UNKNOWN") => Told::Nothing,
        Value::Error(text) => Told::Refused(text.clone()),
        other => panic!("SET answered {other:?}"),
    }
}
