//! The clients: closed loops that speak newline-JSON, and remember what they were shown.
//!
//! Values describe themselves: `w17` is the value of write 17 and of no other, so the world knows
//! which write a node minted, and which one a reader was shown.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::RngExt as _;
use serde::Deserialize;

use super::network::Place;
use super::oracle::{Claim, Fate, Seen, WriteId};
use super::world::{Happening, World};
use crate::api::Level;
use crate::hash::{Key, PartitionId};

/// Longest time that a client waits before it takes the outcome as unknown.
const PATIENCE_US: u64 = 6_000_000;

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    /// The node that it talks to, and in which life of it.
    connected: Option<(Place, u64)>,
    /// Counts its connections: what is under way on an old one is lost.
    pub(super) session: u64,
    pending: Option<Pending>,
    operations: u64,
    memory: BTreeMap<Key, Memory>,
    /// What the last plain read on this connection showed of a key.
    shown: BTreeMap<Key, Bytes>,
    pub(super) stopped: bool,
}

/// What a client knows of a key: the token it was given, and what it stands for.
#[derive(Clone, Debug)]
struct Memory {
    token: String,
    seen: Seen,
}

#[derive(Clone, Debug)]
struct Pending {
    operation: u64,
    began_us: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Read {
        key: Key,
        siblings: bool,
        majority: bool,
    },
    Write {
        key: Key,
        id: WriteId,
        firm: bool,
    },
    Bulk {
        ids: Vec<WriteId>,
    },
    /// The read at the end of a run, whose answer is the verdict.
    Verdict {
        key: Key,
    },
}

/// What every answer may say.
#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    outcome: Option<String>,
}

impl Client {
    pub(super) fn new() -> Self {
        Self {
            connected: None,
            session: 0,
            pending: None,
            operations: 0,
            memory: BTreeMap::new(),
            shown: BTreeMap::new(),
            stopped: false,
        }
    }

    /// Whether it waits for nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_none()
    }
}

/// The write whose value this is.
pub(super) fn write_id(value: &Bytes) -> Option<WriteId> {
    let digits = value.strip_prefix(b"w")?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(WriteId)
}

impl World {
    /// Lets every client begin.
    pub(super) fn begin_work(&mut self) {
        for client in 0..self.clients.len() {
            let delay = self.chance.client.random_range(0..=self.options.think_us);
            self.schedule(delay, Happening::Client { client });
        }
    }

    /// A client begins its next operation.
    pub(super) fn on_client(&mut self, client: usize) {
        if self.clients[client].stopped || !self.clients[client].is_idle() {
            return;
        }
        if !self.connect(client) {
            return self.rest(client);
        }
        let key = self.draw_key();
        let level = self.draw_level();
        let (kind, line) = match self.chance.client.random_range(0..100_u8) {
            0..25 => read(key, level, true),
            25..40 => read(key, level, false),
            40..80 => self.write(client, key, level),
            80..92 => self.delete(client, key, level),
            _ => self.bulk(client, level),
        };
        self.ask(client, kind, line);
    }

    /// Asks for a key as every replica knows it; the answer is the verdict over its history.
    pub(super) fn ask_verdict(&mut self, client: usize, key: Key) {
        if self.connect(client) {
            let name = text(&key);
            let line = format!(
                "{{\"cmd\":\"GET\",\"key\":\"{name}\",\"siblings\":true,\"level\":\"all\"}}\n"
            );
            self.ask(client, Kind::Verdict { key }, line);
        }
    }

    fn ask(&mut self, client: usize, kind: Kind, question: String) {
        let connected = self.clients[client].connected;
        let (place, life) = connected.expect("a client connects first");
        self.tally.operations += 1;
        self.clients[client].operations += 1;
        let operation = self.clients[client].operations;
        let pending = Pending { operation, began_us: self.now_us, kind };
        self.clients[client].pending = Some(pending);
        let delay = self.chance.client.random_range(50..200);
        let bytes = Bytes::from(question);
        let session = self.clients[client].session;
        self.schedule(delay, Happening::ToNode { place, life, client, session, bytes });
        self.schedule(PATIENCE_US, Happening::GiveUp { client, operation });
    }

    /// Connects a client to some node that lives, now and then to another one.
    fn connect(&mut self, client: usize) -> bool {
        let stays = self.clients[client].connected.is_some_and(|(place, life)| {
            let machine = &self.machines[place];
            machine.process.is_some() && machine.life == life
        });
        if stays && self.chance.client.random_range(0..10_u8) > 0 {
            return true;
        }
        if let Some((place, _)) = self.clients[client].connected.take() {
            self.with(place, |process, _, _| process.on_hangup(client));
        }
        self.clients[client].shown.clear();
        self.clients[client].session += 1;
        let place = self.chance.client.random_range(0..self.machines.len());
        let machine = &self.machines[place];
        let accepts = machine.process.as_ref().is_some_and(|process| process.view().is_some());
        self.clients[client].connected = accepts.then_some((place, machine.life));
        accepts
    }

    fn rest(&mut self, client: usize) {
        if !self.clients[client].stopped {
            let delay = self.chance.client.random_range(1..=self.options.think_us.max(2));
            self.schedule(delay, Happening::Client { client });
        }
    }

    fn draw_key(&mut self) -> Key {
        let number = self.chance.client.random_range(0..self.options.keys);
        // A third of the keys share a tag, so that batches of one partition come up too.
        let name = if number % 3 == 0 { format!("{{t}}{number}") } else { format!("k{number}") };
        Key::plain(name)
    }

    fn draw_level(&mut self) -> Level {
        match self.chance.client.random_range(0..10_u8) {
            0 => Level::One,
            1..4 => Level::Sloppy,
            4..8 => Level::Quorum,
            8 => Level::Strict,
            _ => Level::All,
        }
    }

    fn write(&mut self, client: usize, key: Key, level: Level) -> (Kind, String) {
        let (context, claim) = self.context(client, &key, true);
        let id = self.begin_write(&key, claim, false);
        let (name, word, number) = (text(&key), level.name(), id.0);
        let options = format!("\"level\":\"{word}\"{context}");
        let line =
            format!("{{\"cmd\":\"SET\",\"key\":\"{name}\",\"value\":\"w{number}\",{options}}}\n");
        (Kind::Write { key, id, firm: level != Level::One }, line)
    }

    fn delete(&mut self, client: usize, key: Key, level: Level) -> (Kind, String) {
        let (context, claim) = self.context(client, &key, false);
        let id = self.begin_write(&key, claim, true);
        let (name, word) = (text(&key), level.name());
        let line =
            format!("{{\"cmd\":\"DELETE\",\"key\":\"{name}\",\"level\":\"{word}\"{context}}}\n");
        (Kind::Write { key, id, firm: level != Level::One }, line)
    }

    fn bulk(&mut self, client: usize, level: Level) -> (Kind, String) {
        let mut keys = BTreeSet::new();
        let tagged = self.chance.client.random::<bool>();
        for _ in 0..self.chance.client.random_range(2..6_u8) {
            let number = self.chance.client.random_range(0..self.options.keys);
            let number = if tagged { number / 3 * 3 } else { number };
            let name = if number.is_multiple_of(3) {
                format!("{{t}}{number}")
            } else {
                format!("k{number}")
            };
            keys.insert(Key::plain(name));
        }
        let mut ids = Vec::new();
        let items: Vec<String> = keys
            .into_iter()
            .map(|key| {
                self.clients[client].shown.remove(&key);
                let id = self.begin_write(&key, Claim::Known, false);
                ids.push(id);
                format!("{{\"key\":\"{}\",\"value\":\"w{}\"}}", text(&key), id.0)
            })
            .collect();
        self.batches.push(ids.clone());
        let (items, word) = (items.join(","), level.name());
        let line = format!("{{\"cmd\":\"BULK_SET\",\"items\":[{items}],\"level\":\"{word}\"}}\n");
        (Kind::Bulk { ids }, line)
    }

    fn begin_write(&mut self, key: &Key, claim: Claim, deletes: bool) -> WriteId {
        self.writes += 1;
        let id = WriteId(self.writes);
        self.history.begin(id, key.clone(), claim, deletes);
        id
    }

    /// The context field of a write and what it claims: a token that is fresh, stale or empty, or
    /// none, which stands for what was shown last or for whatever the leader holds.
    fn context(&mut self, client: usize, key: &Key, uses_shown: bool) -> (String, Claim) {
        let drawn = self.chance.client.random_range(0..10_u8);
        if drawn == 0 {
            return (String::from(",\"context\":\"\""), Claim::Seen(Seen::default()));
        }
        if drawn < 7
            && let Some(memory) = self.clients[client].memory.get(key)
        {
            let field = format!(",\"context\":\"{}\"", memory.token);
            return (field, Claim::Seen(memory.seen.clone()));
        }
        let shown = self.clients[client].shown.remove(key).filter(|_| uses_shown);
        let claim = shown.map_or(Claim::Known, |value| {
            // One event was shown, and no vector can name one without its predecessors: a leader
            // that has not heard of it keeps it as a sibling.
            let seen = self.history.seen_by(self.partition(key), key, &[value]);
            Claim::Seen(Seen { surely: BTreeSet::new(), ..seen })
        });
        (String::new(), claim)
    }

    fn partition(&self, key: &Key) -> PartitionId {
        key.token.partition(self.options.partitions)
    }

    /// A node answered.
    pub(super) fn on_answer(&mut self, client: usize, place: Place, life: u64, bytes: &[u8]) {
        if self.clients[client].connected != Some((place, life)) {
            return;
        }
        let Some(pending) = self.clients[client].pending.take() else {
            let key = Key::plain("");
            let text = format!("client {client} was answered without having asked");
            return self.history.violate("V1 one answer to each question", &key, text);
        };
        let answer: Answer = match serde_json::from_slice(bytes) {
            Ok(answer) => answer,
            Err(error) => {
                let text = format!("{error}: {}", bytes.escape_ascii());
                return self.history.violate("V1 answers can be read", &Key::plain(""), text);
            }
        };
        let unknown = answer.outcome.as_deref() == Some("unknown");
        match (answer.ok, unknown) {
            (true, _) => self.tally.ok += 1,
            (false, true) => self.tally.unknown += 1,
            (false, false) => self.tally.refused += 1,
        }
        let fate = match (answer.ok, unknown) {
            (true, _) => Fate::Acknowledged,
            (false, true) => Fate::Open,
            (false, false) => Fate::Refused,
        };
        match pending.kind {
            Kind::Read { key, siblings, majority } => {
                let since_us = majority.then_some(pending.began_us);
                self.on_read_answer(client, &key, siblings, since_us, answer);
            }
            Kind::Write { key, id, firm } => {
                self.history.told(id, fate, self.now_us, firm);
                self.clients[client].shown.remove(&key);
            }
            Kind::Bulk { ids } => {
                for id in ids {
                    self.history.told(id, fate, self.now_us, false);
                }
            }
            Kind::Verdict { key } => self.on_verdict(&key, &answer),
        }
        self.rest(client);
    }

    fn on_read_answer(
        &mut self,
        client: usize,
        key: &Key,
        siblings: bool,
        since_us: Option<u64>,
        answer: Answer,
    ) {
        let partition = self.partition(key);
        if siblings && answer.ok {
            let values: Vec<Bytes> = answer.values.into_iter().map(Bytes::from).collect();
            self.history.shown(partition, key, &values, since_us);
            if let Some(token) = answer.context {
                let seen = self.history.seen_by(partition, key, &values);
                self.clients[client].memory.insert(key.clone(), Memory { token, seen });
            }
        } else if let Some(value) = answer.value.map(Bytes::from) {
            self.history.shown(partition, key, std::slice::from_ref(&value), None);
            self.clients[client].shown.insert(key.clone(), value);
        }
    }

    fn on_verdict(&mut self, key: &Key, answer: &Answer) {
        if answer.ok {
            let values: Vec<Bytes> = answer.values.iter().cloned().map(Bytes::from).collect();
            self.history.settled(self.partition(key), key, &values);
            self.verdicts.insert(key.clone());
        }
    }

    /// A client has waited too long: that is a bug unless its node died or stood still meanwhile.
    pub(super) fn on_give_up(&mut self, client: usize, operation: u64) {
        let waits = self.clients[client].pending.as_ref().filter(|p| p.operation == operation);
        let Some(pending) = waits.cloned() else { return };
        self.clients[client].pending = None;
        self.tally.unknown += 1;
        self.clients[client].session += 1;
        if let Some((place, life)) = self.clients[client].connected.take() {
            let machine = &self.machines[place];
            let stood_still = machine.paused_until_us > pending.began_us;
            if machine.process.is_some() && machine.life == life && !stood_still {
                let text = format!(
                    "client {client} has no answer of n{} after {} s: {:?}",
                    place + 1,
                    PATIENCE_US / 1_000_000,
                    pending.kind
                );
                self.history.violate("V1 every question is answered", &Key::plain(""), text);
            }
            self.with(place, |process, _, _| process.on_hangup(client));
        }
        self.rest(client);
    }

    /// The process that clients were connected to is gone.
    pub(super) fn hang_up(&mut self, place: Place, life: u64) {
        for client in 0..self.clients.len() {
            if self.clients[client].connected == Some((place, life)) {
                self.clients[client].connected = None;
                self.clients[client].shown.clear();
                if self.clients[client].pending.take().is_some() {
                    self.tally.unknown += 1;
                }
                self.rest(client);
            }
        }
    }

    /// The keys that no verdict was given on yet.
    pub(super) fn undecided(&self) -> Vec<Key> {
        self.history.keys().filter(|key| !self.verdicts.contains(*key)).cloned().collect()
    }

    /// Lets every client stop after the operation of now.
    pub(super) fn end_work(&mut self) {
        for client in &mut self.clients {
            client.stopped = true;
        }
    }
}

fn read(key: Key, level: Level, siblings: bool) -> (Kind, String) {
    let (name, word) = (text(&key), level.name());
    let line = format!(
        "{{\"cmd\":\"GET\",\"key\":\"{name}\",\"siblings\":{siblings},\"level\":\"{word}\"}}\n"
    );
    (Kind::Read { key, siblings, majority: level != Level::One }, line)
}

fn text(key: &Key) -> String {
    String::from_utf8_lossy(&key.bytes).into_owned()
}
