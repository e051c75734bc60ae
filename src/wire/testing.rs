//! A client and a node for tests: bytes in, bytes out, the keys in a map.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::{Bytes, BytesMut};

use super::{Call, Connection, Facts, Gauges};
use crate::api::{
    Conflicts, Expiry, Explained, Fault, Holding, Known, Op, Page, Read, Replica, Reply, Request,
    Settled, Written,
};
use crate::causality::{Actor, Dot, Entry, NodeId, VersionVector};
use crate::cluster::{Layout, Member, Phase, View};
use crate::config::Config;
use crate::hash::{Key, PartitionId, Token};
use crate::limits::VALUE_BYTES_MAX_DEFAULT;
use crate::time::{Hlc, Mono, Now};

/// The time of every answer.
pub(super) const UNIX_MS: u64 = 61_000;
pub(super) const VALUE_BYTES_MAX: usize = VALUE_BYTES_MAX_DEFAULT;

/// The node that is spoken to.
pub(super) const ME: NodeId = NodeId([0xab; 16]);

/// A node with one client.
pub(super) struct World {
    connection: Connection,
    received: BytesMut,
    node: Node,
    closed: bool,
}

/// What answers requests.
#[derive(Default)]
pub(super) struct Node {
    pub(super) entries: BTreeMap<Key, Vec<Entry>>,
    /// Answers everything while it is set.
    pub(super) fault: Option<Fault>,
    /// Every request that came.
    pub(super) requests: Vec<Request>,
    pub(super) allow_fault_injection: bool,
    pub(super) unborn: bool,
    /// The layout, and the other members.
    pub(super) layout: Option<Arc<Layout>>,
    pub(super) members: BTreeMap<NodeId, Member>,
    writes: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_value_bytes_max(VALUE_BYTES_MAX)
    }

    pub(super) fn with_value_bytes_max(value_bytes_max: usize) -> Self {
        Self {
            connection: Connection::new(value_bytes_max),
            received: BytesMut::new(),
            node: Node::default(),
            closed: false,
        }
    }

    /// The same at a node that asks for one of these tokens.
    pub(super) fn with_tokens(mut self, tokens: Arc<crate::api::Tokens>) -> Self {
        self.connection = Connection::new(VALUE_BYTES_MAX).with_tokens(Some(tokens));
        self
    }

    pub(super) fn node(&mut self) -> &mut Node {
        &mut self.node
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The answers to what is sent, written when all requests of a call are answered.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        self.received.extend_from_slice(bytes.as_ref());
        let mut out = BytesMut::new();
        while !self.closed
            && let Some(mut call) = self.connection.decode(Mono(0), &mut self.received)
        {
            self.node.serve(&mut call);
            self.closed = call.closes();
            self.answer(call, &mut out);
        }
        out.to_vec()
    }

    /// As [`World::send`], where the answer is text.
    pub(super) fn say(&mut self, text: &str) -> String {
        String::from_utf8(self.send(text)).unwrap()
    }

    /// As [`World::send`], one byte after the other.
    pub(super) fn trickle(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().flat_map(|byte| self.send([*byte])).collect()
    }

    /// Bytes that wait for more.
    pub(super) fn pending_bytes(&self) -> usize {
        self.received.len()
    }

    fn answer(&mut self, call: Call, out: &mut BytesMut) {
        let mut connection = std::mem::replace(&mut self.connection, Connection::new(0));
        self.encode_on(&mut connection, call, out);
        self.connection = connection;
    }

    /// Writes the answer to a call of another connection.
    pub(super) fn encode_on(
        &mut self,
        connection: &mut Connection,
        call: Call,
        out: &mut BytesMut,
    ) {
        let phase =
            if self.node.unborn { Phase::Unborn("seeds".to_string()) } else { Phase::Member };
        let view = View {
            me: ME,
            name: "n1".to_string(),
            actor: None,
            phase,
            layout: self.node.layout.clone(),
            members: self.node.members.clone(),
        };
        let config =
            Config { allow_fault_injection: self.node.allow_fault_injection, ..Config::default() };
        let facts = Facts {
            now: Now { mono: Mono(0), unix_ms: UNIX_MS },
            view: &view,
            config: &config,
            host: "127.0.0.1",
            port: 6_379,
            cluster_port: 7_379,
            started_unix_ms: 1_000,
            connection: 9,
            connections: 1,
            shards: 1,
            detours: 0,
            debug_writes: &AtomicU64::new(0),
            write_seq: &AtomicU64::new(4_096_000 + self.node.writes),
            gauges: &Gauges::default(),
        };
        connection.encode(call, &facts, out);
        self.node.writes = facts.write_seq.load(std::sync::atomic::Ordering::Relaxed) - 4_096_000;
    }
}

impl Node {
    fn serve(&mut self, call: &mut Call) {
        while !call.is_ready() {
            let (slot, request) = call.next_request().expect("a call that is not ready asks");
            self.requests.push(request.clone());
            let reply = self.reply(request);
            call.on_reply(slot, reply, UNIX_MS);
        }
        assert!(call.next_request().is_none(), "a ready call asks for nothing");
    }

    /// Adds a value beside what is there.
    pub(super) fn add_sibling(&mut self, key: &'static str, value: &'static str) {
        let entry = self.entry(Bytes::from_static(value.as_bytes()));
        self.entries.entry(Key::plain(key)).or_default().insert(0, entry);
    }

    fn entry(&self, value: Bytes) -> Entry {
        let seq = u64::try_from(self.requests.len()).unwrap() + 1;
        Entry::register(Dot { actor: Actor(1 << 32 | 7), seq }, Hlc::from_unix_ms(5_000), value)
    }

    fn entry_until(&self, value: Bytes, expiry: Expiry, old: Option<&Vec<Entry>>) -> Entry {
        let shown = old.and_then(|siblings| siblings.first());
        Entry { expiry_ms: expiry.at_leader(UNIX_MS, shown), ..self.entry(value) }
    }

    fn reply(&mut self, request: Request) -> Reply {
        if let Some(fault) = &self.fault {
            return Reply::Fault(fault.clone());
        }
        match request.op {
            Op::Get { key } => Reply::Read(self.read(&key)),
            Op::Put { key, value, expiry, .. } => {
                let entry = self.entry_until(value, expiry, self.entries.get(&key));
                let old = self.entries.insert(key, vec![entry]);
                Self::written(old.as_ref(), request.previous)
            }
            Op::Delete { key, .. } => {
                let old = self.entries.remove(&key);
                Self::written(old.as_ref(), request.previous)
            }
            Op::Batch { items, expiry, .. } => {
                let count = u32::try_from(items.len()).unwrap();
                for (key, value) in items {
                    let entry = self.entry_until(value, expiry, None);
                    self.entries.insert(key, vec![entry]);
                }
                Reply::BatchWritten { count, isolated: true }
            }
            Op::Count { .. } => Reply::Count(u64::try_from(self.entries.len()).unwrap()),
            Op::Scan(scan) => {
                let mut page = Page::default();
                let limit = usize::try_from(scan.limit).unwrap();
                for (key, entries) in
                    self.entries.iter().filter(|(key, _)| key.token >= scan.cursor)
                {
                    if page.items.len() >= limit {
                        page.next = key.token;
                        break;
                    }
                    if key.bytes.starts_with(&scan.prefix) {
                        let value = scan.values.then(|| entries[0].payload.clone());
                        page.items.push((key.clone(), value));
                    }
                }
                Reply::Page(page)
            }
            Op::Explain { key } => Reply::Explained(self.explained(key)),
            Op::Outcome { .. } => {
                let detail = "because".to_string();
                Reply::Outcome(Settled { known: Known::NotApplied, detail })
            }
            Op::Conflicts { .. } => {
                let items = self.entries.iter().filter(|(_, entries)| entries.len() > 1);
                let items = items.map(|(key, entries)| (key.clone(), entries.clone())).collect();
                Reply::Conflicts(Conflicts { items, next: Token(0) })
            }
        }
    }

    fn read(&self, key: &Key) -> Read {
        let siblings = self.entries.get(key).cloned().unwrap_or_default();
        let vector_clock: VersionVector = siblings.iter().map(|entry| entry.dot).collect();
        Read { siblings, context: Bytes::from_static(b"\x01\xfe"), vector_clock }
    }

    fn written(old: Option<&Vec<Entry>>, shows: bool) -> Reply {
        let existed = old.is_some();
        let winner = old.and_then(|entries| entries.first());
        let previous = winner.filter(|_| shows).map(|entry| entry.payload.clone());
        Reply::Written(Written {
            dot: Dot { actor: Actor(1), seq: 1 },
            existed,
            context: Bytes::from_static(b"\x01\xff"),
            acks_home: 2,
            acks_fallback: 0,
            siblings: 1,
            previous,
        })
    }

    fn explained(&self, key: Key) -> Explained {
        let read = self.read(&key);
        let siblings = read.siblings.iter();
        let versions = Holding::Versions {
            siblings: siblings.map(|entry| (entry.dot, entry.hlc, 1)).collect(),
            vector_clock: read.vector_clock,
        };
        let replica = |index: u8, holds| Replica {
            node: NodeId([index; 16]),
            name: format!("n{index}"),
            holds,
        };
        Explained {
            slot: crate::hash::slot(&key.bytes),
            key,
            partition: PartitionId(3),
            epoch: 1,
            replicas: vec![
                replica(1, Some(versions)),
                replica(2, Some(Holding::Absent)),
                replica(3, Some(Holding::Unknown)),
                replica(4, None),
            ],
        }
    }
}
