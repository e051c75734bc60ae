//! The clients: they speak newline-JSON, ask one thing at a time, and remember what they saw.
//!
//! What a client asks is an [`Operation`], whether a scenario names it or chance draws it. Every
//! write of a key has a value of its own, so the world knows which write a node minted, and which
//! one a reader was shown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand::RngExt as _;
use serde::Deserialize;

use super::application;
use super::claims::Claimed;
use super::facts;
use super::faults::ClientFault;
use super::looks::{Look, Replica};
use super::network::Place;
use super::oracle::{Claim, Fate, Reader, Seen, WriteId};
use super::retries::Tries;
use super::scenario::{Action, Answered, Operation, Request, Step};
use super::trace::Lane;
use super::world::{Happening, World};
use crate::api::Level;
use crate::hash::{Key, PartitionId};

/// Longest time that a client waits before it takes the outcome as unknown.
const PATIENCE_US: u64 = 6_000_000;

/// What is broken when an answer is not what a step says.
const SCENARIO: &str = "the scenario expects";

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    /// The node that it talks to, and in which life of it.
    pub(super) connected: Option<(Place, u64)>,
    /// Counts its connections: what is under way on an old one is lost.
    pub(super) session: u64,
    pending: Option<Pending>,
    /// What it is to ask as soon as it waits for nothing.
    waiting: VecDeque<Operation>,
    /// What the clock of the node said when it sent the last answer, in milliseconds since the Unix
    /// epoch.
    pub(super) told_ms: u64,
    operations: u64,
    pub(super) memory: BTreeMap<Key, Memory>,
    /// What the last plain read on this connection showed of a key.
    pub(super) shown: BTreeMap<Key, Bytes>,
    /// What it does to its next request.
    pub(super) next_is_half: Option<ClientFault>,
    /// Whether it draws its operations, and goes on to do so.
    pub(super) draws: bool,
    /// The write that it is sending again and again.
    pub(super) tries: Option<Tries>,
}

/// What a client knows of a key: the token it was given, and what it stands for.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) token: String,
    pub(super) seen: Seen,
}

#[derive(Clone, Debug)]
struct Pending {
    number: u64,
    began_us: u64,
    kind: Kind,
    /// Whether its node was sent but a half of it: nothing of it may be carried out.
    is_half: bool,
    /// What the answer must be, and what is broken if it is not.
    expect: Option<(Answered, &'static str)>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Read {
        key: Key,
        siblings: bool,
        majority: bool,
    },
    Write {
        key: Key,
        id: WriteId,
        firm: bool,
        /// Whether its token is none of this key, so that it must be refused.
        is_foreign: bool,
    },
    Bulk {
        first: Key,
        ids: Vec<WriteId>,
        firm: bool,
    },
    /// A walk over all keys, a count or an explanation.
    Look(Look),
    /// What became of a write, which the tries said was its fate.
    Outcome {
        late: Late,
        fate: Fate,
    },
    /// A write that was said not to be applied, and never to be.
    Late(Late),
    /// The read at the end of a run, whose answer is the verdict.
    Verdict {
        key: Key,
    },
}

/// A write whose tries have ended.
#[derive(Clone, Debug)]
pub(super) struct Late {
    /// Its key; of a batch, the first.
    pub(super) key: Key,
    pub(super) ids: Vec<WriteId>,
    /// The line by which it was asked for.
    pub(super) question: String,
}

/// What every answer may say.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) ok: bool,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    previous: Option<String>,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    outcome: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    pub(super) keys: Vec<String>,
    #[serde(default)]
    pub(super) cursor: Option<String>,
    #[serde(default)]
    pub(super) count: Option<u64>,
    #[serde(default)]
    pub(super) replicas: Vec<Replica>,
}

impl Client {
    pub(super) fn new(draws: bool) -> Self {
        Self {
            connected: None,
            session: 0,
            pending: None,
            waiting: VecDeque::new(),
            told_ms: 0,
            operations: 0,
            memory: BTreeMap::new(),
            shown: BTreeMap::new(),
            next_is_half: None,
            draws,
            tries: None,
        }
    }

    /// Whether it waits for nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_none() && self.waiting.is_empty()
    }
}

impl World {
    /// A client asks, or will as soon as it has the answer that it waits for, and the step that
    /// does it again is written down.
    pub(super) fn on_operation(&mut self, operation: Operation) {
        let at_us = self.since_birth_us();
        self.recorded.push(Step { at_us, action: Action::Ask(operation.clone()) });
        if self.clients[operation.client].pending.is_some() {
            self.clients[operation.client].waiting.push_back(operation);
        } else {
            self.begin(operation, SCENARIO);
        }
    }

    /// An idle client asks; `promise` is broken where the answer is not what it must be.
    pub(super) fn begin(&mut self, operation: Operation, promise: &'static str) {
        let client = operation.client;
        if !self.connect(client, operation.via) {
            if let Some(expected) = operation.expect.filter(|e| *e != Answered::Unknown) {
                let via = operation.via.unwrap_or_default() + 1;
                let text = format!("n{via} takes no requests, and the answer should be {expected}");
                let keys = operation.request.keys();
                let key = keys.first().map_or_else(|| Key::plain(""), |key| (*key).clone());
                self.history.violate(promise, &key, text);
            }
            self.tell_driver(client, || application::Answer::Refused(String::from("no_node")));
            // Its values are spent: no write that comes later may have them.
            self.writes += operation.request.writes();
            return self.rest(client);
        }
        let Operation { request, level, expect, .. } = operation;
        let id = self.id_of_write(client);
        let (kind, line) = self.question(client, request, level);
        if let Some(id) = id.filter(|_| !kind.writes().is_empty()) {
            self.begin_tries(client, id, &line, &kind);
        }
        self.ask(client, kind, expect.map(|expect| (expect, promise)), line);
    }

    /// What a client is about to ask, and the line by which it does.
    fn question(&mut self, client: usize, request: Request, level: Level) -> (Kind, String) {
        let word = level.name();
        let id = self.id_of_write(client);
        let named = id.map_or_else(String::new, |id| format!(",\"request_id\":\"{id}\""));
        let firm = level != Level::One;
        match request {
            Request::Get { key, siblings } => {
                let fields = format!("\"siblings\":{siblings},\"level\":\"{word}\"");
                let line = format!("{{\"cmd\":\"GET\",\"key\":{},{fields}}}\n", quoted(&key.bytes));
                (Kind::Read { key, siblings, majority: firm }, line)
            }
            Request::Set { key, value, context, ttl_us } => {
                let Claimed { field, claim, is_foreign } = self.claim(client, &key, context, true);
                let id = self.begin_write(&key, Some(&value), claim);
                let (name, value) = (quoted(&key.bytes), quoted(&value));
                let (ttl, shows) = (ttl(ttl_us), asks_for_previous(id));
                let fields =
                    format!("\"value\":{value},\"level\":\"{word}\"{field}{ttl}{shows}{named}");
                let line = format!("{{\"cmd\":\"SET\",\"key\":{name},{fields}}}\n");
                (Kind::Write { key, id, firm, is_foreign }, line)
            }
            Request::Delete { key, context } => {
                let Claimed { field, claim, is_foreign } = self.claim(client, &key, context, false);
                let id = self.begin_write(&key, None, claim);
                let name = quoted(&key.bytes);
                let shows = asks_for_previous(id);
                let fields = format!("\"level\":\"{word}\"{field}{shows}{named}");
                let line = format!("{{\"cmd\":\"DELETE\",\"key\":{name},{fields}}}\n");
                (Kind::Write { key, id, firm, is_foreign }, line)
            }
            Request::Bulk { items, isolated, ttl_us } => {
                let require = if isolated { ",\"require\":\"isolated\"" } else { "" };
                let fields = format!("\"level\":\"{word}\"{require}{}{named}", ttl(ttl_us));
                let (kind, line) = self.bulk(client, &items, &fields, firm);
                // A part whose leader's clock is ahead of its end is a delete: it leaves no value.
                if let Kind::Bulk { ids, .. } = &kind
                    && ttl_us == 0
                {
                    self.batches.push(ids.clone());
                }
                // Whether it is, where nobody demands it, depends on where the keys lie.
                let homes: BTreeSet<PartitionId> =
                    items.iter().map(|(key, _)| self.partition(key)).collect();
                if let Kind::Bulk { ids, .. } = &kind
                    && (isolated || homes.len() == 1)
                {
                    self.history.batch(ids);
                }
                (kind, line)
            }
            Request::Scan { limit } => Kind::look(Look::walk(limit, level, self.now_us)),
            Request::Count => Kind::look(Look::Count { level, exactly: None }),
            Request::Explain { key } => Kind::look(Look::Explain { key, at_rest: false }),
        }
    }

    pub(super) fn bulk(
        &mut self,
        client: usize,
        items: &[(Key, Bytes)],
        rest: &str,
        firm: bool,
    ) -> (Kind, String) {
        let mut ids = Vec::new();
        let mut fields = Vec::new();
        for (key, value) in items {
            self.clients[client].shown.remove(key);
            ids.push(self.begin_write(key, Some(value), Claim::Known));
            fields.push(format!("{{\"key\":{},\"value\":{}}}", quoted(&key.bytes), quoted(value)));
        }
        let fields = fields.join(",");
        let line = format!("{{\"cmd\":\"BULK_SET\",\"items\":[{fields}],{rest}}}\n");
        let first = items.first().map_or_else(|| Key::plain(""), |(key, _)| key.clone());
        (Kind::Bulk { first, ids, firm }, line)
    }

    /// Asks for a key as every replica knows it; the answer is the verdict over its history.
    pub(super) fn ask_verdict(&mut self, client: usize, key: Key) {
        let place = self.chance.judge.random_range(0..self.machines.len());
        if self.connect(client, Some(place)) {
            let name = quoted(&key.bytes);
            let line =
                format!("{{\"cmd\":\"GET\",\"key\":{name},\"siblings\":true,\"level\":\"all\"}}\n");
            self.ask(client, Kind::Verdict { key }, None, line);
        }
    }

    pub(super) fn ask(
        &mut self,
        client: usize,
        kind: Kind,
        expect: Option<(Answered, &'static str)>,
        question: String,
    ) {
        let (place, life) = self.clients[client].connected.expect("a client connects first");
        self.tally.operations += 1;
        self.clients[client].operations += 1;
        let number = self.clients[client].operations;
        let is_verdict = matches!(kind, Kind::Verdict { .. });
        let half = self.clients[client].next_is_half.take();
        let is_half = half.is_some();
        let pending = Pending { number, began_us: self.now_us, kind, is_half, expect };
        self.clients[client].pending = Some(pending);
        let delay = self.wire_us(client);
        let mut bytes = Bytes::from(question);
        let mut patience_us = PATIENCE_US;
        if let Some(fault) = half {
            self.tally.half_requests += 1;
            bytes.truncate(bytes.len() / 2);
            if fault == ClientFault::HalfRequest {
                patience_us = 2 * delay;
            }
        }
        let session = self.clients[client].session;
        let cause = self.trace.cause();
        self.keep(Lane::Client(client), "ask", || facts::asked(&bytes, place, is_verdict));
        self.schedule(delay, Happening::ToNode { place, life, client, session, bytes });
        self.schedule(patience_us, Happening::GiveUp { client, operation: number });
        self.trace.resume(cause);
    }

    /// Whether the connection of a client still stands.
    pub(super) fn is_connected(&self, client: usize) -> bool {
        self.clients[client].connected.is_some_and(|(place, life)| self.is_alive(place, life))
    }

    /// Connects a client to `via`, if it is not already. `false` = that node takes no requests.
    pub(super) fn connect(&mut self, client: usize, via: Option<Place>) -> bool {
        let connected = self.clients[client].connected.map(|(place, _)| place);
        if self.is_connected(client) && (via.is_none() || via == connected) {
            return true;
        }
        let place = via.or(connected).unwrap_or_default();
        if let Some((old, _)) = self.clients[client].connected.take() {
            self.with(old, |process, _, _| process.on_hangup(client));
        }
        self.clients[client].shown.clear();
        self.clients[client].session += 1;
        let machine = &self.machines[place];
        let accepts = machine.process.as_ref().is_some_and(|process| process.view().is_some());
        self.clients[client].connected = accepts.then_some((place, machine.life));
        accepts
    }

    /// A client waits for nothing: what it is to ask next comes up.
    pub(super) fn rest(&mut self, client: usize) {
        if let Some(tries) = self.clients[client].tries.take()
            && self.end_tries(client, tries)
        {
            return;
        }
        if let Some(operation) = self.clients[client].waiting.pop_front() {
            self.begin(operation, SCENARIO);
        } else if self.clients[client].draws {
            self.think(client);
        }
    }

    pub(super) fn begin_write(
        &mut self,
        key: &Key,
        value: Option<&Bytes>,
        claim: Claim,
    ) -> WriteId {
        self.writes += 1;
        let id = WriteId(self.writes);
        if let Some(value) = value {
            self.values.insert((key.clone(), value.clone()), id);
        }
        self.history.begin(id, key.clone(), claim, value.is_none());
        id
    }

    pub(super) fn partition(&self, key: &Key) -> PartitionId {
        key.token.partition(self.scenario.options.partitions)
    }

    /// A node answered.
    pub(super) fn on_answer(&mut self, client: usize, place: Place, life: u64, bytes: &[u8]) {
        if self.clients[client].connected != Some((place, life)) {
            return;
        }
        let Some(pending) = self.clients[client].pending.take() else {
            let text = format!("client {client} was answered without having asked");
            return self.complain("V1 one answer to each question", text);
        };
        let answer: Answer = match serde_json::from_slice(bytes) {
            Ok(answer) => answer,
            Err(error) => {
                let text = format!("{error}: {}", bytes.escape_ascii());
                return self.complain("V1 answers can be read", text);
            }
        };
        if pending.is_half {
            let text = format!("client {client} sent half of a request, which was answered");
            self.complain("V1 half a request is no request", text);
        }
        let fate = answer.fate();
        self.count(fate);
        if let Some((expected, promise)) = &pending.expect
            && !answer.is(expected)
        {
            let text = format!("the answer should be {expected}, not {}", bytes.escape_ascii());
            self.history.violate(promise, &pending.kind.key(), text);
        }
        if pending.kind.is_asked_for() {
            let is_read = matches!(pending.kind, Kind::Read { .. });
            self.tell_driver(client, || answer.told(is_read));
        }
        match pending.kind {
            Kind::Read { key, siblings, majority } => {
                let reader = Reader { began_us: pending.began_us, majority };
                self.on_read_answer(client, &key, siblings, reader, answer);
            }
            Kind::Write { key, id, firm, is_foreign } => {
                self.on_written(client, &[id], firm, fate);
                if fate == Fate::Acknowledged {
                    self.check_previous(&key, id, answer.previous);
                    self.check_acknowledged(&key, id, firm);
                }
                if is_foreign && fate != Fate::Refused {
                    let text = format!("write {} came with a token of something else", id.0);
                    self.history.violate("V1 a foreign token is refused", &key, text);
                }
                self.clients[client].shown.remove(&key);
            }
            Kind::Bulk { ids, firm, .. } => self.on_written(client, &ids, firm, fate),
            Kind::Look(look) => {
                if let Some(next) = self.on_look(look, &answer) {
                    return self.go_on(client, next, pending.expect);
                }
            }
            Kind::Outcome { late, fate } => {
                let known = answer.outcome.as_deref().unwrap_or_default();
                if self.on_outcome(client, late, fate, known) {
                    return;
                }
            }
            Kind::Late(late) => self.on_late(&late, fate),
            Kind::Verdict { key } => self.on_verdict(&key, &answer),
        }
        if !self.on_try(client, fate) {
            self.rest(client);
        }
    }

    /// An acknowledged write was asked what it replaced, and shows this.
    fn check_previous(&mut self, key: &Key, id: WriteId, previous: Option<String>) {
        if let Some(value) = previous {
            self.history.replaced(self.partition(key), key, id, &Bytes::from(value));
        }
    }

    /// The history hears of a write, unless its client sends it again and so knows no end yet.
    fn on_written(&mut self, client: usize, ids: &[WriteId], firm: bool, fate: Fate) {
        if fate == Fate::Acknowledged || self.clients[client].tries.is_none() {
            for &id in ids {
                self.history.told(id, fate, self.now_us, firm);
            }
        }
    }

    fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Acknowledged => self.tally.ok += 1,
            Fate::Open => self.tally.unknown += 1,
            Fate::Refused => self.tally.refused += 1,
        }
    }

    fn on_read_answer(
        &mut self,
        client: usize,
        key: &Key,
        siblings: bool,
        reader: Reader,
        answer: Answer,
    ) {
        let partition = self.partition(key);
        let told_ms = self.clients[client].told_ms;
        self.note_time();
        if siblings && answer.ok {
            let values: Vec<Bytes> = answer.values.into_iter().map(Bytes::from).collect();
            self.check_doubles(key, &values);
            self.history.check_living(partition, key, &values, told_ms);
            self.history.shown(partition, key, &values, Some(reader));
            if let Some(token) = answer.context {
                let seen = self.history.seen_by(partition, key, &values);
                self.clients[client].memory.insert(key.clone(), Memory { token, seen });
            }
        } else if let Some(value) = answer.value.map(Bytes::from) {
            self.history.shown(partition, key, std::slice::from_ref(&value), None);
            self.history.check_living(partition, key, std::slice::from_ref(&value), told_ms);
            self.clients[client].shown.insert(key.clone(), value);
        }
    }

    fn on_verdict(&mut self, key: &Key, answer: &Answer) {
        if answer.ok {
            let values: Vec<Bytes> = answer.values.iter().cloned().map(Bytes::from).collect();
            self.note_time();
            self.check_doubles(key, &values);
            self.history.settled(self.partition(key), key, &values);
            self.verdicts.insert(key.clone(), values);
        }
    }

    /// A client has waited too long: that is a bug unless its node died or stood still meanwhile.
    pub(super) fn on_give_up(&mut self, client: usize, operation: u64) {
        let waits = self.clients[client].pending.as_ref().filter(|p| p.number == operation);
        let Some(pending) = waits.cloned() else { return };
        self.clients[client].pending = None;
        self.clients[client].session += 1;
        self.on_silence(client, &pending);
        if let Some((place, life)) = self.clients[client].connected.take() {
            let stood_still = self.machines[place].paused_until_us > pending.began_us;
            if self.is_alive(place, life) && !stood_still && !pending.is_half {
                let text = format!(
                    "client {client} has no answer of n{} after {} s: {:?}",
                    place + 1,
                    PATIENCE_US / 1_000_000,
                    pending.kind
                );
                self.complain("V1 every question is answered", text);
            }
            self.with(place, |process, _, _| process.on_hangup(client));
        }
        if !self.on_try(client, pending.fate_of_silence()) {
            self.rest(client);
        }
    }

    /// The process that clients were connected to is gone.
    pub(super) fn hang_up(&mut self, place: Place, life: u64) {
        for client in 0..self.clients.len() {
            if self.clients[client].connected == Some((place, life)) {
                self.clients[client].connected = None;
                self.clients[client].shown.clear();
                let Some(pending) = self.clients[client].pending.take() else { continue };
                let cause = self.trace.cause();
                self.on_silence(client, &pending);
                if !self.on_try(client, pending.fate_of_silence()) {
                    self.rest(client);
                }
                self.trace.resume(cause);
            }
        }
    }

    /// A question will never be answered.
    fn on_silence(&mut self, client: usize, pending: &Pending) {
        self.tally.unknown += 1;
        if pending.fate_of_silence() == Fate::Refused && self.clients[client].tries.is_none() {
            for id in pending.kind.writes() {
                self.history.told(id, Fate::Refused, self.now_us, false);
            }
        }
        self.keep(Lane::Client(client), "silence", || facts::silence(client));
        if pending.kind.is_asked_for() {
            self.tell_driver(client, || application::Answer::Unknown);
        }
        if let Some((expected, promise)) = &pending.expect
            && *expected != Answered::Unknown
        {
            let text = format!("the answer should be {expected}, and none came");
            self.history.violate(promise, &pending.kind.key(), text);
        }
    }
}

impl Pending {
    /// What silence says of it: half a request is no request, and a foreign token is never taken.
    fn fate_of_silence(&self) -> Fate {
        let is_foreign = matches!(self.kind, Kind::Write { is_foreign: true, .. });
        if self.is_half || is_foreign { Fate::Refused } else { Fate::Open }
    }
}

impl Answer {
    fn fate(&self) -> Fate {
        match (self.ok, self.outcome.as_deref() == Some("unknown")) {
            (true, _) => Fate::Acknowledged,
            (false, true) => Fate::Open,
            (false, false) => Fate::Refused,
        }
    }

    /// What an application hears of it.
    fn told(&self, is_read: bool) -> application::Answer {
        let is_shown = is_read && (self.ok || self.is_absent());
        match self.fate() {
            Fate::Acknowledged | Fate::Refused if is_shown => {
                let values = self.value.iter().chain(&self.values).map(application::unmarked);
                application::Answer::Values(values.collect())
            }
            Fate::Acknowledged => application::Answer::Done,
            Fate::Refused => application::Answer::Refused(self.code.clone().unwrap_or_default()),
            Fate::Open => application::Answer::Unknown,
        }
    }

    fn is(&self, expected: &Answered) -> bool {
        match expected {
            Answered::Ok => self.ok,
            Answered::Refused => self.fate() == Fate::Refused && !self.is_absent(),
            Answered::Unknown => self.fate() == Fate::Open,
            Answered::Values(values) => {
                let shown: BTreeSet<&[u8]> =
                    self.values.iter().chain(&self.value).map(String::as_bytes).collect();
                (self.ok || self.is_absent()) && shown == values.iter().map(Bytes::as_ref).collect()
            }
        }
    }

    /// Whether it says that there is no such key.
    fn is_absent(&self) -> bool {
        self.code.as_deref() == Some("not_found")
    }
}

impl Kind {
    /// A look at all keys, or at all replicas of one; and the line that asks for it.
    pub(super) fn look(look: Look) -> (Self, String) {
        let line = look.line();
        (Self::Look(look), line)
    }

    /// Whether an application asks this, and hears the answer.
    fn is_asked_for(&self) -> bool {
        !matches!(self, Self::Verdict { .. } | Self::Outcome { .. } | Self::Late(_))
    }

    /// The key that it is about; of a batch, the first.
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Read { key, .. }
            | Self::Write { key, .. }
            | Self::Outcome { late: Late { key, .. }, .. }
            | Self::Late(Late { key, .. })
            | Self::Verdict { key }
            | Self::Look(Look::Explain { key, .. })
            | Self::Bulk { first: key, .. } => key.clone(),
            Self::Look(Look::Walk { .. } | Look::Count { .. }) => Key::plain(""),
        }
    }

    /// The writes that it asks for.
    pub(super) fn writes(&self) -> Vec<WriteId> {
        match self {
            Self::Write { id, .. } => vec![*id],
            Self::Bulk { ids, .. } => ids.clone(),
            Self::Read { .. }
            | Self::Look(_)
            | Self::Outcome { .. }
            | Self::Late(_)
            | Self::Verdict { .. } => Vec::new(),
        }
    }
}

/// The field that says when a value ends; nothing for never.
fn ttl(ttl_us: u64) -> String {
    let ms = ttl_us.div_ceil(1_000);
    if ms == 0 { String::new() } else { format!(",\"ttl\":{}.{:03}", ms / 1_000, ms % 1_000) }
}

/// The field by which a write asks for what it replaces: one in four does, by its number, so that
/// a run that is written down asks alike.
fn asks_for_previous(id: WriteId) -> &'static str {
    if id.0.is_multiple_of(4) { ",\"previous\":true" } else { "" }
}

/// Bytes as a JSON string. Keys and values of scenarios are text.
pub(super) fn quoted(bytes: &Bytes) -> String {
    serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string()
}
