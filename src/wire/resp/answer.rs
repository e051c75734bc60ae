//! Replies to RESP.

use bytes::{Bytes, BytesMut};

use super::commands::Command;
use super::expiry::Moment;
use super::plan::Client;
use super::writer::Writer;
use super::{Version, cluster, describe, node, own};
use crate::api::{Denial, Fault, Reply, Session};
use crate::causality::Entry;
use crate::hash::{Key, Token};
use crate::limits::KEYS_LIMIT_DEFAULT;
use crate::time::{Mono, Now};
use crate::wire::Facts;
use crate::wire::call::{Replies, Walked};
use crate::wire::renew::Renewed;

/// How one command is answered.
#[derive(Debug)]
pub(in crate::wire) struct Answer {
    pub(super) version: Version,
    pub(super) body: Body,
}

/// What the answer is about.
#[derive(Debug)]
pub(super) enum Body {
    /// The whole error line.
    Error(String),
    Refusal(Fault),
    /// `+OK`, unless a shard says otherwise.
    Done,
    Simple(&'static str),
    Bulk(Bytes),
    Null,
    Bulks(Vec<Bytes>),
    Number(i64),
    EmptyPage,
    Pong(Option<Bytes>),
    Hello,
    ClientId,
    ClientLine(Box<Client>),
    Info(Vec<Bytes>),
    Settings(Vec<Bytes>),
    Commands(Vec<Option<&'static Command>>),
    Manual(Vec<&'static Command>),
    Help(&'static Command),
    /// The number of keys that a DEL removed.
    Deleted,
    /// The number of names that exist.
    Existing,
    Value {
        key: Key,
    },
    Values {
        keys: Vec<Key>,
    },
    Length,
    Kind,
    Size,
    Page,
    Keys,
    /// So many keys at most, without a word about others.
    Some {
        count: usize,
    },
    /// The number of keys that a walk found.
    Counted,
    Siblings,
    Written,
    /// The value that a write replaced.
    Previous,
    Explained,
    Conflicts,
    /// What became of a write.
    Outcome,
    Time,
    Map(cluster::Map),
    /// When a key ends.
    Moment(Moment),
    /// 1 = when it ends was changed.
    Changed,
    /// The value whose end was changed.
    Renewed,
}

/// Appends the answer.
pub(in crate::wire) fn encode(
    answer: Answer,
    replies: Replies,
    session: &mut Session,
    facts: &Facts<'_>,
    out: &mut BytesMut,
) {
    let mut writer = Writer { out, version: answer.version };
    match replies {
        Replies::None => immediate(&mut writer, answer.body, facts),
        Replies::One(reply) => one(&mut writer, answer.body, reply, session, facts.now),
        Replies::Many(replies) => many(&mut writer, answer.body, &replies, session, facts.now.mono),
        Replies::Walked(walked) => keys(&mut writer, &answer.body, walked),
        Replies::Renewed(renewed) => renewal(&mut writer, &answer.body, &renewed),
    }
}

fn immediate(writer: &mut Writer<'_>, body: Body, facts: &Facts<'_>) {
    match body {
        Body::Error(text) => writer.error(&text),
        Body::Refusal(fault) => put_fault(writer, &fault),
        Body::Done => writer.simple("OK"),
        Body::Simple(text) => writer.simple(text),
        Body::Bulk(bytes) | Body::Pong(Some(bytes)) => writer.bulk(&bytes),
        Body::Null => writer.null(),
        Body::Bulks(bulks) => {
            writer.array(bulks.len());
            for bulk in &bulks {
                writer.bulk(bulk);
            }
        }
        Body::Number(number) => writer.signed(number),
        Body::EmptyPage => put_page(writer, Token(0), &[]),
        Body::Pong(None) => writer.simple("PONG"),
        Body::Hello => node::put_hello(writer, facts),
        Body::ClientId => writer.number(facts.connection),
        Body::ClientLine(client) => node::put_client(writer, &client, facts),
        Body::Info(sections) => node::put_info(writer, &sections, facts),
        Body::Settings(patterns) => node::put_settings(writer, &patterns, facts),
        Body::Commands(commands) => describe::put_commands(writer, &commands),
        Body::Manual(commands) => describe::put_manual(writer, &commands),
        Body::Help(command) => describe::put_help(writer, command),
        Body::Time => {
            let ms = facts.now.unix_ms;
            writer.array(2);
            writer.bulk((ms / 1_000).to_string().as_bytes());
            writer.bulk((ms % 1_000 * 1_000).to_string().as_bytes());
        }
        Body::Map(map) => cluster::put(writer, map, facts),
        Body::Deleted
        | Body::Existing
        | Body::Value { .. }
        | Body::Values { .. }
        | Body::Length
        | Body::Kind
        | Body::Size
        | Body::Page
        | Body::Keys
        | Body::Some { .. }
        | Body::Counted
        | Body::Siblings
        | Body::Written
        | Body::Previous
        | Body::Explained
        | Body::Conflicts
        | Body::Outcome
        | Body::Moment(_)
        | Body::Changed
        | Body::Renewed => unreachable!("these commands ask a shard"),
    }
}

fn one(writer: &mut Writer<'_>, body: Body, reply: Reply, session: &mut Session, now: Now) {
    match (body, reply) {
        (_, Reply::Fault(fault)) => put_fault(writer, &fault),
        (Body::Value { key }, Reply::Read(read)) => {
            put_value(writer, &key, read.siblings.first(), session, now.mono);
        }
        (Body::Moment(moment), Reply::Read(read)) => {
            let expiry_ms = read.siblings.first().map(|winner| winner.expiry_ms);
            writer.signed(moment.number(expiry_ms, now.unix_ms));
        }
        (Body::Done, Reply::Written(_) | Reply::BatchWritten { .. }) => writer.simple("OK"),
        (Body::Length, Reply::Read(read)) => {
            let length = read.siblings.first().map_or(0, |winner| winner.payload.len());
            writer.number(crate::wire::check::length(length));
        }
        (Body::Kind, Reply::Read(read)) => {
            writer.simple(if read.siblings.is_empty() { "none" } else { "string" });
        }
        (Body::Size, Reply::Count(count)) => writer.number(count),
        (Body::Page, Reply::Page(page)) => {
            let keys: Vec<Key> = page.items.into_iter().map(|(key, _)| key).collect();
            put_page(writer, page.next, &keys);
        }
        (Body::Siblings, Reply::Read(read)) => own::put_siblings(writer, &read),
        (Body::Written, Reply::Written(written)) => own::put_written(writer, &written),
        (Body::Previous, Reply::Written(written)) => match written.previous {
            Some(value) => writer.bulk(&value),
            None => writer.null(),
        },
        (Body::Explained, Reply::Explained(explained)) => {
            own::put_explained(writer, &explained);
        }
        (Body::Outcome, Reply::Outcome(settled)) => {
            writer.bulk(settled.known.name().as_bytes());
        }
        (Body::Conflicts, Reply::Conflicts(conflicts)) => {
            own::put_conflicts(writer, &conflicts);
        }
        (body, reply) => unreachable!("{body:?} is not answered by {reply:?}"),
    }
}

fn renewal(writer: &mut Writer<'_>, body: &Body, renewed: &Renewed) {
    match (&renewed.result, &renewed.shown) {
        (Err(fault), _) => put_fault(writer, fault),
        (Ok(written), _) if matches!(body, Body::Changed) => {
            writer.signed(i64::from(written.is_some()));
        }
        (Ok(_), Some(shown)) => writer.bulk(&shown.payload),
        (Ok(_), None) => writer.null(),
    }
}

fn put_value(
    writer: &mut Writer<'_>,
    key: &Key,
    winner: Option<&Entry>,
    session: &mut Session,
    now: Mono,
) {
    match winner {
        Some(winner) => {
            session.note_shown(key, winner.dot, now);
            writer.bulk(&winner.payload);
        }
        None => writer.null(),
    }
}

fn many(writer: &mut Writer<'_>, body: Body, replies: &[Reply], session: &mut Session, now: Mono) {
    let hits = replies.iter().filter(|reply| is_hit(reply)).count();
    let fault = replies.iter().find_map(|reply| match reply {
        Reply::Fault(fault) => Some(fault),
        Reply::Read(_)
        | Reply::Written(_)
        | Reply::BatchWritten { .. }
        | Reply::Page(_)
        | Reply::Count(_)
        | Reply::Explained(_)
        | Reply::Outcome(_)
        | Reply::Conflicts(_) => None,
    });
    match (body, fault) {
        (Body::Deleted, Some(fault)) if replies.len() > 1 => {
            let line = error_line(fault);
            let asked = replies.len();
            writer.error(&format!("{line}; {hits} of the {asked} keys were deleted"));
        }
        (_, Some(fault)) => put_fault(writer, fault),
        (Body::Deleted | Body::Existing, None) => {
            writer.number(crate::wire::check::length(hits));
        }
        (Body::Values { keys }, None) => {
            writer.array(replies.len());
            for (key, reply) in keys.iter().zip(replies) {
                let Reply::Read(read) = reply else { unreachable!("a key was read") };
                put_value(writer, key, read.siblings.first(), session, now);
            }
        }
        (body, None) => unreachable!("{body:?} asks once"),
    }
}

/// Whether a key was there.
fn is_hit(reply: &Reply) -> bool {
    match reply {
        Reply::Read(read) => !read.siblings.is_empty(),
        Reply::Written(written) => written.existed,
        Reply::BatchWritten { .. }
        | Reply::Page(_)
        | Reply::Count(_)
        | Reply::Explained(_)
        | Reply::Outcome(_)
        | Reply::Conflicts(_)
        | Reply::Fault(_) => false,
    }
}

/// What a walk found.
fn keys(writer: &mut Writer<'_>, body: &Body, walked: Walked) {
    if let Some(fault) = walked.fault {
        return put_fault(writer, &fault);
    }
    if matches!(body, Body::Counted) {
        return writer.number(walked.count);
    }
    let mut items = walked.items;
    if let Body::Some { count } = body {
        items.truncate(*count);
    } else if walked.next != Token(0) {
        // An array without a mark for its end would pass for all keys.
        return writer.error(&format!(
            "ERR KEYS found more than {KEYS_LIMIT_DEFAULT} keys; SCAN walks through any number"
        ));
    }
    writer.array(items.len());
    for key in &items {
        writer.bulk(&key.bytes);
    }
}

fn put_page(writer: &mut Writer<'_>, next: Token, keys: &[Key]) {
    writer.array(2);
    writer.bulk(next.0.to_string().as_bytes());
    writer.array(keys.len());
    for key in keys {
        writer.bulk(&key.bytes);
    }
}

fn put_fault(writer: &mut Writer<'_>, fault: &Fault) {
    writer.error(&error_line(fault));
}

/// The error line of a fault: its kind in capitals, then what happened.
fn error_line(fault: &Fault) -> String {
    match fault {
        Fault::OutcomeUnknown { request_id, .. } => {
            format!("UNKNOWN request id {request_id}: {fault}")
        }
        Fault::Overloaded { .. } => format!("OVERLOADED {fault}"),
        Fault::Unavailable { .. } | Fault::NoCluster { .. } | Fault::ShuttingDown => {
            format!("UNAVAILABLE {fault}")
        }
        Fault::OutOfMemory => format!("OOM {fault}"),
        Fault::Denied(denial) => denial_line(denial),
        Fault::BadRequest { .. }
        | Fault::NotSupported { .. }
        | Fault::KeyTooLarge { .. }
        | Fault::ValueTooLarge { .. }
        | Fault::BatchTooLarge { .. }
        | Fault::DuplicateKey { .. }
        | Fault::NotOneGroup
        | Fault::BadContext { .. }
        | Fault::BadLevel { .. }
        | Fault::BadCursor { .. }
        | Fault::RequestIdReused { .. }
        | Fault::RequestIdRefused { .. }
        | Fault::DiskFull
        | Fault::Damaged { .. }
        | Fault::TooManySiblings { .. }
        | Fault::TimedOut => format!("ERR {fault}"),
    }
}

/// The error line of a denial, beginning with the words by which Redis clients know it.
fn denial_line(denial: &Denial) -> String {
    match denial {
        Denial::NotAuthenticated => format!("NOAUTH {denial}"),
        Denial::WrongToken => {
            format!("WRONGPASS invalid username-password pair or user is disabled: {denial}")
        }
        Denial::NotPermitted { .. } => format!("NOPERM {denial}"),
        Denial::TooManyFailures { .. } | Denial::NoTokens => format!("ERR {denial}"),
    }
}
