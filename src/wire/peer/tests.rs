//! Every message comes back, every version keeps its bytes, and no bytes do harm.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::api::{
    BatchKind, Expiry, Fault, Holding, Level, Op, Reply, Request, RequestId, Scan, WriteContext,
    Written,
};
use crate::causality::{Actor, Dot, Entry, NodeId, Object, VersionVector};
use crate::cluster::message::Ballot;
use crate::cluster::{ClusterId, Hello, Layout, Role, node_id};
use crate::hash::{BucketId, Key, PartitionId, Token};
use crate::shard::message::{CallId, HoldWork, Nack, ReadAnswer, ReplicaItem};
use crate::shard::{Message, Stamp};
use crate::time::Hlc;

fn encoded(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    encode(frame, &mut out).unwrap();
    out
}

fn check(frame: &Frame) {
    let mut bytes = encoded(frame);
    assert_eq!(decode(&mut bytes).as_ref(), Ok(&Some(frame.clone())));
    assert!(bytes.is_empty());
}

/// Draws values of every type that travels.
struct Draw(Xoshiro256PlusPlus);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    fn flag(&mut self) -> bool {
        self.0.random()
    }

    fn number(&mut self) -> u64 {
        self.0.random::<u64>() >> self.0.random_range(0..64)
    }

    fn small(&mut self) -> u32 {
        self.0.random::<u32>() >> self.0.random_range(0..32)
    }

    fn bytes(&mut self) -> Bytes {
        let length = if self.below(8) == 0 { self.below(500) } else { self.below(12) };
        (0..length).map(|_| self.0.random::<u8>()).collect()
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| item(self)).collect()
    }

    fn maybe<T>(&mut self, item: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| item(self))
    }

    fn key(&mut self) -> Key {
        Key::new(BucketId(self.small()), self.bytes())
    }

    fn dot(&mut self) -> Dot {
        Dot { actor: Actor(self.number()), seq: self.number().max(1) }
    }

    fn clock(&mut self) -> VersionVector {
        self.list(Self::dot).into_iter().collect()
    }

    fn entry(&mut self) -> Entry {
        let mut entry = Entry::register(self.dot(), Hlc(self.number()), self.bytes());
        entry.expiry_ms = self.maybe(Self::number).unwrap_or_default();
        entry.rid = self.maybe(Self::number).unwrap_or_default();
        if self.flag() {
            entry.tag = self.0.random();
            entry.path = self.bytes();
        }
        entry
    }

    fn object(&mut self) -> Object {
        let mut entries = self.list(Self::entry);
        entries.sort_by_key(|entry| entry.dot);
        entries.dedup_by_key(|entry| entry.dot);
        Object { entries, ctx: self.clock() }
    }

    fn item(&mut self) -> ReplicaItem {
        let (key, object, dots) = (self.key(), self.object(), self.list(Self::dot));
        ReplicaItem { key, object, dots, stamp: self.maybe(Self::stamp) }
    }

    fn stamp(&mut self) -> Stamp {
        Stamp {
            id: RequestId(self.0.random()),
            at_ms: self.number(),
            dot: self.dot(),
            print: self.number(),
            existed: self.flag(),
        }
    }

    fn partition(&mut self) -> PartitionId {
        PartitionId(self.0.random())
    }

    fn placed_item(&mut self) -> (PartitionId, ReplicaItem) {
        (self.partition(), self.item())
    }

    fn context(&mut self) -> WriteContext {
        match self.below(3) {
            0 => WriteContext::Known,
            1 => WriteContext::Shown(self.dot()),
            _ => WriteContext::Token(self.bytes()),
        }
    }

    fn expiry(&mut self) -> Expiry {
        match self.below(4) {
            0 => Expiry::Never,
            1 => Expiry::Kept,
            2 => Expiry::After(self.number()),
            _ => Expiry::At(self.number()),
        }
    }

    fn scan(&mut self) -> Scan {
        Scan {
            bucket: BucketId(self.small()),
            cursor: Token(self.number()),
            limit: self.small(),
            prefix: self.bytes(),
            pattern: self.bytes(),
            values: self.flag(),
        }
    }

    fn op(&mut self) -> Op {
        match self.below(5) {
            0 => Op::Put {
                key: self.key(),
                value: self.bytes(),
                context: self.context(),
                expiry: self.expiry(),
            },
            1 => Op::Delete { key: self.key(), context: self.context() },
            2 => Op::Batch {
                items: self.list(|draw| (draw.key(), draw.bytes())),
                expiry: self.expiry(),
                kind: self.batch_kind(),
            },
            3 => Op::Get { key: self.key() },
            _ => Op::Scan(self.scan()),
        }
    }

    fn request(&mut self) -> Request {
        Request {
            op: self.op(),
            level: Level::ALL[self.below(Level::ALL.len())],
            r: self.maybe(|draw| draw.0.random()),
            w: self.maybe(|draw| draw.0.random()),
            left_ms: self.small(),
            request_id: self.maybe(|draw| RequestId(draw.0.random())),
            previous: self.flag(),
        }
    }

    fn fault(&mut self) -> Fault {
        match self.below(3) {
            0 => Fault::NotOneGroup,
            1 => Fault::Overloaded { what: "inbox".to_string(), retry_after_ms: self.small() },
            _ => Fault::OutcomeUnknown {
                request_id: RequestId(self.0.random()),
                detail: "late".to_string(),
            },
        }
    }

    fn reply(&mut self) -> Reply {
        match self.below(4) {
            0 => Reply::Written(Written {
                dot: self.dot(),
                existed: self.flag(),
                context: self.bytes(),
                acks_home: self.0.random(),
                acks_fallback: self.0.random(),
                siblings: self.small(),
                previous: self.maybe(Self::bytes),
            }),
            1 => Reply::BatchWritten { count: self.small(), isolated: self.flag() },
            2 => Reply::Count(self.number()),
            _ => Reply::Fault(self.fault()),
        }
    }

    fn nack(&mut self) -> Nack {
        const NACKS: [Nack; 6] = [
            Nack::Overloaded,
            Nack::DiskFull,
            Nack::Rebuilding,
            Nack::NotOwner,
            Nack::Expired,
            Nack::Stopping,
        ];
        NACKS[self.below(NACKS.len())]
    }

    fn answer(&mut self) -> ReadAnswer {
        match self.below(4) {
            0 => ReadAnswer::Object(self.object()),
            1 => ReadAnswer::Digest(self.0.random()),
            2 => ReadAnswer::Unknown(self.object()),
            _ => ReadAnswer::Refused(self.nack()),
        }
    }

    fn batch_kind(&mut self) -> BatchKind {
        match self.below(4) {
            0 => BatchKind::Any,
            1 => BatchKind::Isolated,
            2 => BatchKind::Part,
            _ => BatchKind::Finish(Hlc(self.number())),
        }
    }

    fn work(&mut self) -> HoldWork {
        if self.flag() {
            let items = self.list(|draw| (draw.partition(), draw.key(), draw.bytes()));
            let given = self.maybe(|draw| RequestId(draw.0.random()));
            let (rid, expiry) = (self.number(), self.expiry());
            let kind = self.batch_kind();
            HoldWork::Put { rid, given, expiry, kind, items }
        } else {
            HoldWork::Merge(self.list(Self::placed_item))
        }
    }

    fn holding(&mut self) -> Holding {
        match self.below(3) {
            0 => Holding::Absent,
            1 => Holding::Unknown,
            _ => Holding::Versions {
                siblings: self.list(|draw| (draw.dot(), Hlc(draw.number()), draw.number())),
                vector_clock: self.clock(),
            },
        }
    }

    fn question(&mut self) -> Message {
        let (call, partition) = (CallId(self.number()), self.partition());
        let left_ms = self.small();
        match self.below(10) {
            0 => Message::Forward { call, partition, request: Box::new(self.request()) },
            1 => {
                let (items, repair) = (self.list(Self::item), self.flag());
                Message::Replicate { call, partition, left_ms, items, repair }
            }
            2 => {
                let items = self.list(Self::placed_item);
                Message::ReplicateBatch { call, partition, left_ms, items }
            }
            3 => {
                let (key, full_up_to) = (self.key(), self.small());
                Message::Read { call, partition, key, full_up_to, left_ms }
            }
            4 => {
                let (scan, conflicts_only) = (self.scan(), self.flag());
                Message::Page { call, partition, scan, conflicts_only, left_ms }
            }
            5 => Message::Count { call, partition, bucket: BucketId(self.small()) },
            6 => Message::Explain { call, partition, key: self.key() },
            7 => Message::Hold { call, partition, batch: self.number(), work: self.work() },
            8 => Message::Apply { call, partition, batch: self.number(), parts: self.0.random() },
            _ => Message::Release { partition, batch: self.number() },
        }
    }
}

impl Draw {
    fn reply_message(&mut self) -> Message {
        let call = CallId(self.number());
        match self.below(8) {
            0 => Message::ForwardReply { call, reply: Box::new(self.reply()) },
            1 => Message::ReplicateAck { call, refusal: self.maybe(Self::nack) },
            2 => Message::ReadReply { call, answer: self.answer() },
            3 => Message::PageReply {
                call,
                items: self.list(|draw| (draw.key(), draw.object())),
                known: self.clock(),
                next: self.maybe(|draw| Token(draw.number())),
                refusal: self.maybe(Self::nack),
            },
            4 => {
                let count = self.maybe(Self::number);
                Message::CountReply { call, count, events: self.number() }
            }
            5 => Message::ExplainReply { call, holding: self.holding() },
            6 => {
                let partition = PartitionId(self.0.random());
                Message::Held { call, partition, refusal: self.maybe(Self::fault) }
            }
            _ => Message::Applied { call, items: self.list(Self::placed_item) },
        }
    }

    fn node(&mut self) -> NodeId {
        NodeId(self.0.random())
    }

    fn role(&mut self) -> Role {
        Role {
            name: "n1".to_string(),
            public_key: self.0.random(),
            zone: "default".to_string(),
            capacity: self.small(),
            cluster_addr: "127.0.0.1:7379".to_string(),
            client_addr: "127.0.0.1:6379".to_string(),
        }
    }

    fn layout(&mut self) -> Arc<Layout> {
        let mut roles = BTreeMap::new();
        for index in 0..=self.below(3) {
            let role = Role { name: format!("n{index}"), capacity: 100, ..self.role() };
            roles.insert(node_id(&role.public_key), role);
        }
        Arc::new(Layout::born(ClusterId(self.0.random()), 4, 3, roles))
    }

    fn cluster_message(&mut self) -> cluster::Message {
        match self.below(4) {
            0 => cluster::Message::Ping { seq: self.number() },
            1 => cluster::Message::Belongs { cluster: ClusterId(self.0.random()) },
            2 => cluster::Message::JoinPending { text: "later".to_string() },
            _ => {
                let ballot =
                    Ballot { round: self.number(), node: self.node(), ..Ballot::default() };
                cluster::Message::PaxAccept { ballot, layout: self.layout() }
            }
        }
    }

    fn greeting(&mut self) -> Greeting {
        let link = if self.flag() { Link::Control } else { Link::Data(self.0.random()) };
        let role = self.role();
        Greeting::new(
            link,
            Hello {
                node: self.node(),
                public_key: role.public_key,
                name: role.name,
                zone: role.zone,
                generation: self.small(),
                cluster_addr: role.cluster_addr,
                client_addr: role.client_addr,
                cluster: self.maybe(|draw| ClusterId(draw.0.random())),
                layout_epoch: self.number(),
                layout_hash: self.0.random(),
                partitions: self.0.random(),
                replicas: self.0.random(),
            },
        )
    }

    fn frame(&mut self) -> Frame {
        match self.below(12) {
            0 => Frame::Hello(self.greeting()),
            1 => Frame::HelloAck(self.greeting()),
            2 => Frame::Refusal(Refusal { code: "no".to_string(), text: "because".to_string() }),
            3 => Frame::Cluster(self.cluster_message()),
            4..8 => Frame::Shard(self.question()),
            _ => Frame::Shard(self.reply_message()),
        }
    }
}

#[test]
fn every_frame_comes_back_as_it_was() {
    let mut draw = Draw::new(1);
    for _ in 0..20_000 {
        check(&draw.frame());
    }
}

#[test]
fn frames_fed_byte_by_byte_come_out_as_frames_fed_at_once() {
    let mut draw = Draw::new(2);
    let frames: Vec<Frame> = (0..50).map(|_| draw.frame()).collect();
    let mut stream = BytesMut::new();
    for frame in &frames {
        encode(frame, &mut stream).unwrap();
    }
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for byte in stream {
        buffer.put_u8(byte);
        while let Some(frame) = decode(&mut buffer).unwrap() {
            found.push(frame);
        }
    }
    assert_eq!(found, frames);
}

/// Sets length and checksum anew, so that what was changed behind them is looked at.
fn resealed(mut bytes: BytesMut) -> BytesMut {
    seal(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn mutated_frames_are_errors_or_other_frames_and_never_a_panic() {
    let mut draw = Draw::new(3);
    let (mut refused, mut taken) = (0_u32, 0_u32);
    for _ in 0..200_000 {
        let mut bytes = encoded(&draw.frame());
        for _ in 0..=draw.below(3) {
            match draw.below(4) {
                0 => bytes.truncate(HEADER_BYTES + draw.below(bytes.len() - HEADER_BYTES + 1)),
                1 => bytes.put_u8(draw.0.random()),
                _ => {
                    let index = PREFIX_BYTES + draw.below(bytes.len() - PREFIX_BYTES);
                    bytes[index] = draw.0.random();
                }
            }
        }
        match decode(&mut resealed(bytes)) {
            Ok(Some(frame)) => {
                taken += 1;
                // What was taken is a frame like any other.
                check(&frame);
            }
            Ok(None) => panic!("a sealed frame is complete"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 20_000, "{refused} refused");
    assert!(taken > 20_000, "{taken} taken");
}

#[test]
fn random_bytes_are_no_frames() {
    let mut draw = Draw::new(4);
    for _ in 0..200_000 {
        let length = draw.below(80);
        let mut bytes: BytesMut = (0..length).map(|_| draw.0.random::<u8>()).collect();
        if length >= HEADER_BYTES && draw.flag() {
            bytes = resealed(bytes);
        }
        if let Ok(Some(frame)) = decode(&mut bytes) {
            check(&frame);
        }
    }
}

#[test]
fn lengths_and_checksums_are_checked_before_anything_else() {
    let frame = Frame::Cluster(cluster::Message::Ping { seq: 7 });
    let long = u32::try_from(FRAME_BYTES_MAX).unwrap();
    let mut bytes = BytesMut::from(&long.to_le_bytes()[..]);
    bytes.put_u32_le(0);
    assert_eq!(decode(&mut bytes), Err(FrameError::TooLong { bytes: u64::from(long) }));
    let mut bytes = BytesMut::from(&[3, 0, 0, 0, 0, 0, 0, 0][..]);
    assert_eq!(decode(&mut bytes), Err(FrameError::TooShort { bytes: 3 }));
    let mut bytes = encoded(&frame);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(decode(&mut bytes), Err(FrameError::Checksum));
    let mut bytes = encoded(&frame);
    bytes[PREFIX_BYTES] = 250;
    assert_eq!(decode(&mut resealed(bytes)), Err(FrameError::UnknownKind { kind: 250 }));
    let mut bytes = encoded(&frame);
    bytes[PREFIX_BYTES + 1] = 9;
    assert_eq!(decode(&mut resealed(bytes)), Err(FrameError::UnknownVersion { version: 9 }));
}

#[test]
fn a_frame_above_the_limit_is_not_written() {
    let value = Bytes::from(vec![0; FRAME_BYTES_MAX]);
    let items = vec![(Key::plain("k"), value)];
    let (expiry, kind) = (Expiry::Never, BatchKind::Any);
    let request = Box::new(Request::new(Op::Batch { items, expiry, kind }));
    let message = Message::Forward { call: CallId(1), partition: PartitionId(0), request };
    let mut out = BytesMut::from(&b"before"[..]);
    assert!(matches!(encode(&Frame::Shard(message), &mut out), Err(FrameError::TooLong { .. })));
    assert_eq!(out, b"before"[..]);
}

#[test]
fn payloads_are_slices_of_the_frame() {
    let key = Key::plain("k");
    let object = Object {
        entries: vec![Entry::register(
            Dot { actor: Actor(1), seq: 1 },
            Hlc(1),
            Bytes::from(vec![7; 1_000]),
        )],
        ctx: VersionVector::new(),
    };
    let items = vec![ReplicaItem { key, object, dots: Vec::new(), stamp: None }];
    let (call, partition) = (CallId(1), PartitionId(0));
    let message = Message::Replicate { call, partition, left_ms: 1, items, repair: false };
    let mut bytes = encoded(&Frame::Shard(message));
    let received = bytes.as_ptr_range();
    let Ok(Some(Frame::Shard(Message::Replicate { items, .. }))) = decode(&mut bytes) else {
        panic!("the frame parses");
    };
    assert!(received.contains(&items[0].object.entries[0].payload.as_ptr()));
}

#[test]
fn nodes_agree_on_the_highest_version_that_both_speak() {
    assert_eq!(agree(1, 1), Ok(1));
    assert_eq!(agree(1, 200), Ok(1));
    assert_eq!(agree(0, 1), Ok(1));
    for (min, max) in [(2, 5), (0, 0), (2, 1)] {
        let error = agree(min, max).unwrap_err();
        assert_eq!(error, FrameError::NoCommonVersion { min, max });
        assert!(error.to_string().contains(&format!("{min} to {max}")));
    }
}

#[test]
fn a_greeting_of_a_far_newer_node_is_refused_by_its_range_alone() {
    let mut bytes = BytesMut::new();
    bytes.put_bytes(0, PREFIX_BYTES);
    let header = Header { kind: kind::HELLO, version: 9, flags: 3, ..Header::default() };
    put_header(header, &mut bytes);
    bytes.put_slice(&[8, 9]);
    bytes.put_slice(b"a layout from years to come");
    let expected = FrameError::NoCommonVersion { min: 8, max: 9 };
    assert_eq!(decode(&mut resealed(bytes)), Err(expected));
}

#[test]
fn a_long_refusal_is_cut_between_characters() {
    let text = "\u{e9}".repeat(3_000);
    let refusal = Refusal { code: "c".repeat(300), text };
    let mut bytes = encoded(&Frame::Refusal(refusal));
    let Ok(Some(Frame::Refusal(cut))) = decode(&mut bytes) else { panic!("it parses") };
    assert_eq!(cut.code.len(), 255);
    assert_eq!(cut.text, "\u{e9}".repeat(2_048));
}

/// The bytes of one frame of each kind, as version 1 writes them. A change here is a change of the
/// protocol, and needs a new version.
#[test]
fn version_1_keeps_its_bytes() {
    let mut golden = String::new();
    for (name, frame) in golden_frames() {
        let hex = encoded(&frame).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(golden, "{name} {hex}").unwrap();
    }
    assert_eq!(golden, include_str!("golden_v1.txt"));
}

fn golden_frames() -> Vec<(&'static str, Frame)> {
    let (call, partition, left_ms) = (CallId(0x0201), PartitionId(0x0403), 1_000);
    let key = Key::new(BucketId(0), Bytes::from_static(b"key"));
    let dot = Dot { actor: Actor(0x0a0b_0c0d_0000_0007), seq: 300 };
    let entry = Entry::register(dot, Hlc(0x0102_0304), Bytes::from_static(b"value"));
    let ctx: VersionVector = [(dot.actor, 300)].into_iter().collect();
    let object = Object { entries: vec![entry], ctx };
    let id = RequestId(0x3344);
    let stamp = Some(Stamp { id, at_ms: 0x0506, dot, print: 0x0708, existed: true });
    let item = ReplicaItem { key: key.clone(), object: object.clone(), dots: vec![dot], stamp };
    let put = Op::Put {
        key: key.clone(),
        value: Bytes::from_static(b"value"),
        context: WriteContext::Shown(dot),
        expiry: Expiry::Never,
    };
    let items = vec![(key.clone(), Bytes::from_static(b"value"))];
    let expiring = Op::Batch { items, expiry: Expiry::After(1_500), kind: BatchKind::Any };
    let expiring = Box::new(Request { left_ms, ..Request::new(expiring) });
    let request = Box::new(Request {
        w: Some(2),
        left_ms,
        request_id: Some(RequestId(0x1122)),
        ..Request::new(put)
    });
    let written = Reply::Written(Written {
        dot,
        existed: true,
        context: Bytes::from_static(b"token"),
        acks_home: 2,
        acks_fallback: 0,
        siblings: 1,
        previous: None,
    });
    let items = vec![item.clone()];
    let placed = vec![(partition, item)];
    let refusal = Refusal { code: "code".to_string(), text: "text".to_string() };
    vec![
        ("hello", Frame::Hello(fixed_greeting())),
        ("refusal", Frame::Refusal(refusal)),
        ("ping", Frame::Cluster(cluster::Message::Ping { seq: 300 })),
        ("forward", Frame::Shard(Message::Forward { call, partition, request })),
        ("forward_expiring", Frame::Shard(Message::Forward { call, partition, request: expiring })),
        ("forward_reply", Frame::Shard(Message::ForwardReply { call, reply: Box::new(written) })),
        (
            "replicate",
            Frame::Shard(Message::Replicate { call, partition, left_ms, items, repair: true }),
        ),
        (
            "replicate_batch",
            Frame::Shard(Message::ReplicateBatch { call, partition, left_ms, items: placed }),
        ),
        (
            "replicate_ack",
            Frame::Shard(Message::ReplicateAck { call, refusal: Some(Nack::NotOwner) }),
        ),
        ("read", Frame::Shard(Message::Read { call, partition, key, full_up_to: 4_096, left_ms })),
        (
            "read_reply",
            Frame::Shard(Message::ReadReply { call, answer: ReadAnswer::Object(object) }),
        ),
        ("count", Frame::Shard(Message::Count { call, partition, bucket: BucketId(0) })),
    ]
}

fn fixed_greeting() -> Greeting {
    let hello = Hello {
        node: NodeId([1; 16]),
        public_key: [2; 32],
        name: "n1".to_string(),
        zone: "default".to_string(),
        generation: 3,
        cluster_addr: "127.0.0.1:7379".to_string(),
        client_addr: "127.0.0.1:6379".to_string(),
        cluster: None,
        layout_epoch: 0,
        layout_hash: [0; 32],
        partitions: 1_024,
        replicas: 3,
    };
    Greeting::new(Link::Data(1), hello)
}
