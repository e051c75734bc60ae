//! The value path, laid out by hand: writes, replication and reads between shards.
//!
//! `call` and `left_ms` travel in the header of the frame. Numbers are little-endian, lengths and
//! event numbers LEB128 in its shortest form:
//!
//! | part | bytes |
//! | --- | --- |
//! | key | token 8, bucket varint, bytes |
//! | dot | actor 8, seq varint |
//! | clock | list of dots, ascending by actor, no seq 0 |
//! | entry | flags 1, dot, hlc 8, [expiry 8], [rid 8], [tag 1, path bytes], payload bytes |
//! | object | list of entries, ascending by dot; clock |
//! | item | key, object, list of dots, 0 or 1 and then a stamp |
//! | stamp | id 16, milliseconds 8, dot, print 8, existed 1 |
//! | expiry | kind 1: 1 kept, 2 after, 3 at; but for 1, milliseconds 8 |
//! | request | flags 1, level 1, [r 1], [w 1], [id 16], `[expiry]`, kind 1, key, context, value |
//! | batch | request to kind, 0 any, 1 isolated, 2 part, 3 finish and hlc 8; list of key, value |

use bytes::{BufMut, BytesMut};

use super::reader::{Reader, put_bytes, put_length, put_list, put_varint};
use super::{Header, kind, take_postcard};
use crate::api::{BatchKind, Expiry, Level, Op, Reply, Request, RequestId, WriteContext, Written};
use crate::causality::{Actor, Dot, Entry, Object, VersionVector};
use crate::hash::{BucketId, Key, PartitionId, Token};
use crate::shard::message::{CallId, Nack, ReadAnswer, ReplicaItem};
use crate::shard::{Message, Stamp};
use crate::time::Hlc;

const ENTRY_EXPIRY: u8 = 1;
const ENTRY_RID: u8 = 2;
const ENTRY_PLACE: u8 = 4;
const REQUEST_R: u8 = 1;
const REQUEST_W: u8 = 2;
const REQUEST_ID: u8 = 4;
const REQUEST_EXPIRY: u8 = 8;
const EXPIRY_KEPT: u8 = 1;
const EXPIRY_AFTER: u8 = 2;
const EXPIRY_AT: u8 = 3;
const REQUEST_PREVIOUS: u8 = 16;
const OP_PUT: u8 = 0;
const OP_DELETE: u8 = 1;
const OP_BATCH: u8 = 2;
const OP_OTHER: u8 = 3;
const CONTEXT_KNOWN: u8 = 0;
const CONTEXT_SHOWN: u8 = 1;
const CONTEXT_TOKEN: u8 = 2;
const REPLY_WRITTEN: u8 = 0;
const REPLY_BATCH: u8 = 1;
const REPLY_OTHER: u8 = 2;
const WRITTEN_EXISTED: u8 = 1;
const WRITTEN_PREVIOUS: u8 = 2;
const ANSWER_OBJECT: u8 = 0;
const ANSWER_DIGEST: u8 = 1;
const ANSWER_UNKNOWN: u8 = 2;
const ANSWER_REFUSED: u8 = 3;

/// Appends header and payload, if the message belongs to the value path.
pub(super) fn put(message: &Message, out: &mut BytesMut) -> bool {
    match message {
        Message::Forward { call, partition, request } => {
            start(kind::FORWARD, *call, request.left_ms, out);
            out.put_u16_le(partition.0);
            put_request(out, request);
        }
        Message::ForwardReply { call, reply } => {
            start(kind::FORWARD_REPLY, *call, 0, out);
            put_reply(out, reply);
        }
        Message::Replicate { call, partition, left_ms, items, repair } => {
            start(kind::REPLICATE, *call, *left_ms, out);
            out.put_u16_le(partition.0);
            out.put_u8(u8::from(*repair));
            put_list(out, items, put_item);
        }
        Message::ReplicateBatch { call, partition, left_ms, items } => {
            start(kind::REPLICATE_BATCH, *call, *left_ms, out);
            out.put_u16_le(partition.0);
            put_list(out, items, |out, (partition, item)| {
                out.put_u16_le(partition.0);
                put_item(out, item);
            });
        }
        Message::ReplicateAck { call, refusal } => {
            start(kind::REPLICATE_ACK, *call, 0, out);
            out.put_u8(refusal.map_or(0, number_of));
        }
        Message::Read { call, partition, key, full_up_to, left_ms } => {
            start(kind::READ, *call, *left_ms, out);
            out.put_u16_le(partition.0);
            out.put_u32_le(*full_up_to);
            put_key(out, key);
        }
        Message::ReadReply { call, answer } => {
            start(kind::READ_REPLY, *call, 0, out);
            put_answer(out, answer);
        }
        Message::Page { .. }
        | Message::PageReply { .. }
        | Message::Count { .. }
        | Message::CountReply { .. }
        | Message::Explain { .. }
        | Message::ExplainReply { .. }
        | Message::Outcome { .. }
        | Message::OutcomeReply { .. }
        | Message::Hold { .. }
        | Message::Held { .. }
        | Message::Apply { .. }
        | Message::Applied { .. }
        | Message::Release { .. } => return false,
    }
    true
}

/// The message of a frame of the value path; `None`: it does not parse.
pub(super) fn take(header: Header, reader: &mut Reader) -> Option<Message> {
    let call = CallId(header.call);
    let left_ms = header.left_ms;
    let message = match header.kind {
        kind::FORWARD => {
            let partition = take_partition(reader)?;
            let request = Box::new(take_request(reader, left_ms)?);
            Message::Forward { call, partition, request }
        }
        kind::FORWARD_REPLY => Message::ForwardReply { call, reply: Box::new(take_reply(reader)?) },
        kind::REPLICATE => {
            let partition = take_partition(reader)?;
            let repair = reader.flag()?;
            let items = reader.list(take_item)?;
            Message::Replicate { call, partition, left_ms, items, repair }
        }
        kind::REPLICATE_BATCH => {
            let partition = take_partition(reader)?;
            let items =
                reader.list(|reader| Some((take_partition(reader)?, take_item(reader)?)))?;
            Message::ReplicateBatch { call, partition, left_ms, items }
        }
        kind::REPLICATE_ACK => {
            let refusal = match reader.u8()? {
                0 => None,
                number => Some(nack_of(number)?),
            };
            Message::ReplicateAck { call, refusal }
        }
        kind::READ => {
            let partition = take_partition(reader)?;
            let full_up_to = reader.u32()?;
            let key = take_key(reader)?;
            Message::Read { call, partition, key, full_up_to, left_ms }
        }
        kind::READ_REPLY => Message::ReadReply { call, answer: take_answer(reader)? },
        _ => return None,
    };
    (reader.left() == 0).then_some(message)
}

fn start(kind: u8, call: CallId, left_ms: u32, out: &mut BytesMut) {
    let header =
        Header { kind, version: super::PROTOCOL_MAX, call: call.0, left_ms, ..Header::default() };
    super::put_header(header, out);
}

fn put_request(out: &mut BytesMut, request: &Request) {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    out.put_u8(
        flag(request.r.is_some(), REQUEST_R)
            | flag(request.w.is_some(), REQUEST_W)
            | flag(request.request_id.is_some(), REQUEST_ID)
            | flag(request.op.expiry() != Expiry::Never, REQUEST_EXPIRY)
            | flag(request.previous, REQUEST_PREVIOUS),
    );
    out.put_u8(number_of_level(request.level));
    out.put_slice(request.r.as_slice());
    out.put_slice(request.w.as_slice());
    if let Some(id) = request.request_id {
        out.put_u128_le(id.0);
    }
    put_expiry(out, request.op.expiry());
    match &request.op {
        Op::Put { key, value, context, .. } => {
            out.put_u8(OP_PUT);
            put_key(out, key);
            put_context(out, context);
            put_bytes(out, value);
        }
        Op::Delete { key, context } => {
            out.put_u8(OP_DELETE);
            put_key(out, key);
            put_context(out, context);
        }
        Op::Batch { items, kind, .. } => {
            out.put_u8(OP_BATCH);
            put_batch_kind(out, *kind);
            put_list(out, items, |out, (key, value)| {
                put_key(out, key);
                put_bytes(out, value);
            });
        }
        other @ (Op::Get { .. }
        | Op::Scan(_)
        | Op::Count { .. }
        | Op::Explain { .. }
        | Op::Outcome { .. }
        | Op::Conflicts { .. }) => {
            out.put_u8(OP_OTHER);
            super::put_postcard(other, out);
        }
    }
}

fn take_request(reader: &mut Reader, left_ms: u32) -> Option<Request> {
    let flags = reader.u8()?;
    let known = REQUEST_R | REQUEST_W | REQUEST_ID | REQUEST_EXPIRY | REQUEST_PREVIOUS;
    if flags & !known != 0 {
        return None;
    }
    let level = level_of(reader.u8()?)?;
    let r = if flags & REQUEST_R == 0 { None } else { Some(reader.u8()?) };
    let w = if flags & REQUEST_W == 0 { None } else { Some(reader.u8()?) };
    let request_id = if flags & REQUEST_ID == 0 {
        None
    } else {
        Some(RequestId(u128::from_le_bytes(reader.fixed()?)))
    };
    let expiry = if flags & REQUEST_EXPIRY == 0 { Expiry::Never } else { take_expiry(reader)? };
    let op = match reader.u8()? {
        OP_PUT => {
            let key = take_key(reader)?;
            let context = take_context(reader)?;
            Op::Put { key, context, expiry, value: reader.bytes()? }
        }
        OP_DELETE => Op::Delete { key: take_key(reader)?, context: take_context(reader)? },
        OP_BATCH => {
            let kind = take_batch_kind(reader)?;
            let items = reader.list(|reader| Some((take_key(reader)?, reader.bytes()?)))?;
            Op::Batch { items, expiry, kind }
        }
        OP_OTHER => take_postcard(&reader.rest())?,
        _ => return None,
    };
    if op.expiry() != expiry {
        return None;
    }
    let previous = flags & REQUEST_PREVIOUS != 0;
    Some(Request { op, level, r, w, left_ms, request_id, previous })
}

/// Nothing for one that never comes.
fn put_expiry(out: &mut BytesMut, expiry: Expiry) {
    match expiry {
        Expiry::Never => {}
        Expiry::Kept => out.put_u8(EXPIRY_KEPT),
        Expiry::After(ms) => {
            out.put_u8(EXPIRY_AFTER);
            out.put_u64_le(ms);
        }
        Expiry::At(at_ms) => {
            out.put_u8(EXPIRY_AT);
            out.put_u64_le(at_ms);
        }
    }
}

fn take_expiry(reader: &mut Reader) -> Option<Expiry> {
    match reader.u8()? {
        EXPIRY_KEPT => Some(Expiry::Kept),
        EXPIRY_AFTER => reader.u64().map(Expiry::After),
        EXPIRY_AT => reader.u64().map(Expiry::At),
        _ => None,
    }
}

fn put_batch_kind(out: &mut BytesMut, kind: BatchKind) {
    match kind {
        BatchKind::Any => out.put_u8(0),
        BatchKind::Isolated => out.put_u8(1),
        BatchKind::Part => out.put_u8(2),
        BatchKind::Finish(logged) => {
            out.put_u8(3);
            out.put_u64_le(logged.0);
        }
    }
}

fn take_batch_kind(reader: &mut Reader) -> Option<BatchKind> {
    Some(match reader.u8()? {
        0 => BatchKind::Any,
        1 => BatchKind::Isolated,
        2 => BatchKind::Part,
        3 => BatchKind::Finish(Hlc(reader.u64()?)),
        _ => return None,
    })
}

fn put_context(out: &mut BytesMut, context: &WriteContext) {
    match context {
        WriteContext::Known => out.put_u8(CONTEXT_KNOWN),
        WriteContext::Shown(dot) => {
            out.put_u8(CONTEXT_SHOWN);
            put_dot(out, dot);
        }
        WriteContext::Token(token) => {
            out.put_u8(CONTEXT_TOKEN);
            put_bytes(out, token);
        }
    }
}

fn take_context(reader: &mut Reader) -> Option<WriteContext> {
    match reader.u8()? {
        CONTEXT_KNOWN => Some(WriteContext::Known),
        CONTEXT_SHOWN => Some(WriteContext::Shown(take_dot(reader)?)),
        CONTEXT_TOKEN => Some(WriteContext::Token(reader.bytes()?)),
        _ => None,
    }
}

fn put_reply(out: &mut BytesMut, reply: &Reply) {
    match reply {
        Reply::Written(written) => {
            out.put_u8(REPLY_WRITTEN);
            put_dot(out, &written.dot);
            let has_previous = u8::from(written.previous.is_some()) * WRITTEN_PREVIOUS;
            out.put_u8((u8::from(written.existed) * WRITTEN_EXISTED) | has_previous);
            out.put_u8(written.acks_home);
            out.put_u8(written.acks_fallback);
            out.put_u32_le(written.siblings);
            put_bytes(out, &written.context);
            if let Some(previous) = &written.previous {
                put_bytes(out, previous);
            }
        }
        Reply::BatchWritten { count, isolated } => {
            out.put_u8(REPLY_BATCH);
            out.put_u32_le(*count);
            out.put_u8(u8::from(*isolated));
        }
        other @ (Reply::Read(_)
        | Reply::Page(_)
        | Reply::Count(_)
        | Reply::Explained(_)
        | Reply::Conflicts(_)
        | Reply::Outcome(_)
        | Reply::Fault(_)) => {
            out.put_u8(REPLY_OTHER);
            super::put_postcard(other, out);
        }
    }
}

fn take_reply(reader: &mut Reader) -> Option<Reply> {
    match reader.u8()? {
        REPLY_WRITTEN => {
            let dot = take_dot(reader)?;
            let flags = reader.u8()?;
            if flags & !(WRITTEN_EXISTED | WRITTEN_PREVIOUS) != 0 {
                return None;
            }
            let (acks_home, acks_fallback) = (reader.u8()?, reader.u8()?);
            let siblings = reader.u32()?;
            let context = reader.bytes()?;
            let has_previous = flags & WRITTEN_PREVIOUS != 0;
            let previous = if has_previous { Some(reader.bytes()?) } else { None };
            let existed = flags & WRITTEN_EXISTED != 0;
            Some(Reply::Written(Written {
                dot,
                existed,
                context,
                acks_home,
                acks_fallback,
                siblings,
                previous,
            }))
        }
        REPLY_BATCH => Some(Reply::BatchWritten { count: reader.u32()?, isolated: reader.flag()? }),
        REPLY_OTHER => take_postcard(&reader.rest()),
        _ => None,
    }
}

fn put_answer(out: &mut BytesMut, answer: &ReadAnswer) {
    match answer {
        ReadAnswer::Object(object) => {
            out.put_u8(ANSWER_OBJECT);
            put_object(out, object);
        }
        ReadAnswer::Digest(digest) => {
            out.put_u8(ANSWER_DIGEST);
            out.put_slice(digest);
        }
        ReadAnswer::Unknown(left) => {
            out.put_u8(ANSWER_UNKNOWN);
            put_object(out, left);
        }
        ReadAnswer::Refused(nack) => {
            out.put_u8(ANSWER_REFUSED);
            out.put_u8(number_of(*nack));
        }
    }
}

fn take_answer(reader: &mut Reader) -> Option<ReadAnswer> {
    match reader.u8()? {
        ANSWER_OBJECT => take_object(reader).map(ReadAnswer::Object),
        ANSWER_DIGEST => reader.fixed().map(ReadAnswer::Digest),
        ANSWER_UNKNOWN => take_object(reader).map(ReadAnswer::Unknown),
        ANSWER_REFUSED => nack_of(reader.u8()?).map(ReadAnswer::Refused),
        _ => None,
    }
}

fn put_item(out: &mut BytesMut, item: &ReplicaItem) {
    put_key(out, &item.key);
    put_object(out, &item.object);
    put_list(out, &item.dots, put_dot);
    out.put_u8(u8::from(item.stamp.is_some()));
    if let Some(stamp) = &item.stamp {
        out.put_u128_le(stamp.id.0);
        out.put_u64_le(stamp.at_ms);
        put_dot(out, &stamp.dot);
        out.put_u64_le(stamp.print);
        out.put_u8(u8::from(stamp.existed));
    }
}

fn take_item(reader: &mut Reader) -> Option<ReplicaItem> {
    Some(ReplicaItem {
        key: take_key(reader)?,
        object: take_object(reader)?,
        dots: reader.list(take_dot)?,
        stamp: if reader.flag()? { Some(take_stamp(reader)?) } else { None },
    })
}

fn take_stamp(reader: &mut Reader) -> Option<Stamp> {
    let id = RequestId(u128::from_le_bytes(reader.fixed()?));
    let (at_ms, dot) = (reader.u64()?, take_dot(reader)?);
    Some(Stamp { id, at_ms, dot, print: reader.u64()?, existed: reader.flag()? })
}

fn put_object(out: &mut BytesMut, object: &Object) {
    put_list(out, &object.entries, put_entry);
    put_length(out, object.ctx.len());
    for (actor, seq) in object.ctx.iter() {
        put_dot(out, &Dot { actor, seq });
    }
}

fn take_object(reader: &mut Reader) -> Option<Object> {
    let entries = reader.list(take_entry)?;
    let dots = reader.list(take_dot)?;
    // What merges two objects walks both in order.
    let sorted = entries.is_sorted_by(|left, right| left.dot < right.dot)
        && dots.is_sorted_by(|left, right| left.actor < right.actor);
    let ctx: VersionVector = dots.into_iter().collect();
    sorted.then_some(Object { entries, ctx })
}

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    let has_place = entry.tag != 0 || !entry.path.is_empty();
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    out.put_u8(
        flag(entry.expiry_ms != 0, ENTRY_EXPIRY)
            | flag(entry.rid != 0, ENTRY_RID)
            | flag(has_place, ENTRY_PLACE),
    );
    put_dot(out, &entry.dot);
    out.put_u64_le(entry.hlc.0);
    if entry.expiry_ms != 0 {
        out.put_u64_le(entry.expiry_ms);
    }
    if entry.rid != 0 {
        out.put_u64_le(entry.rid);
    }
    if has_place {
        out.put_u8(entry.tag);
        put_bytes(out, &entry.path);
    }
    put_bytes(out, &entry.payload);
}

fn take_entry(reader: &mut Reader) -> Option<Entry> {
    let flags = reader.u8()?;
    if flags & !(ENTRY_EXPIRY | ENTRY_RID | ENTRY_PLACE) != 0 {
        return None;
    }
    let dot = take_dot(reader)?;
    let hlc = Hlc(reader.u64()?);
    let mut entry = Entry::register(dot, hlc, bytes::Bytes::new());
    if flags & ENTRY_EXPIRY != 0 {
        entry.expiry_ms = reader.u64()?;
    }
    if flags & ENTRY_RID != 0 {
        entry.rid = reader.u64()?;
    }
    if flags & ENTRY_PLACE != 0 {
        entry.tag = reader.u8()?;
        entry.path = reader.bytes()?;
    }
    entry.payload = reader.bytes()?;
    Some(entry)
}

fn put_key(out: &mut BytesMut, key: &Key) {
    out.put_u64_le(key.token.0);
    put_varint(out, u64::from(key.bucket.0));
    put_bytes(out, &key.bytes);
}

/// The token is taken as it came: it is a digest of what follows, members trust one another, and
/// the checksum of the frame covers it.
fn take_key(reader: &mut Reader) -> Option<Key> {
    let token = Token(reader.u64()?);
    let bucket = BucketId(u32::try_from(reader.varint()?).ok()?);
    Some(Key { token, bucket, bytes: reader.bytes()? })
}

fn put_dot(out: &mut BytesMut, dot: &Dot) {
    out.put_u64_le(dot.actor.0);
    put_varint(out, dot.seq);
}

/// Events are numbered from 1.
fn take_dot(reader: &mut Reader) -> Option<Dot> {
    let dot = Dot { actor: Actor(reader.u64()?), seq: reader.varint()? };
    (dot.seq > 0).then_some(dot)
}

fn take_partition(reader: &mut Reader) -> Option<PartitionId> {
    reader.u16().map(PartitionId)
}

fn number_of_level(level: Level) -> u8 {
    match level {
        Level::One => 0,
        Level::Sloppy => 1,
        Level::Quorum => 2,
        Level::Strict => 3,
        Level::All => 4,
    }
}

fn level_of(number: u8) -> Option<Level> {
    Level::ALL.into_iter().find(|level| number_of_level(*level) == number)
}

fn number_of(nack: Nack) -> u8 {
    match nack {
        Nack::Overloaded => 1,
        Nack::DiskFull => 2,
        Nack::Rebuilding => 3,
        Nack::NotOwner => 4,
        Nack::Expired => 5,
        Nack::Stopping => 6,
    }
}

fn nack_of(number: u8) -> Option<Nack> {
    match number {
        1 => Some(Nack::Overloaded),
        2 => Some(Nack::DiskFull),
        3 => Some(Nack::Rebuilding),
        4 => Some(Nack::NotOwner),
        5 => Some(Nack::Expired),
        6 => Some(Nack::Stopping),
        _ => None,
    }
}
