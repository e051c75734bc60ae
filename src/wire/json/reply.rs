//! Replies to JSON. Where a reply says `"encoding":"base64"`, every key and value in it is base64:
//! because the request asked for it, or because one of them is not UTF-8.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::cluster;
use super::text::put_string;
use crate::api::{
    Conflicts, Explained, Fault, Holding, Level, Outcome, Page, Read, Reply, Role, Session,
    Settled, Written,
};
use crate::causality::VersionVector;
use crate::hash::{Key, Token};
use crate::time::Mono;
use crate::wire::Facts;
use crate::wire::call::{Replies, Walked};
use crate::wire::renew::Renewed;
use crate::wire::write::{put_decimal, put_length};

/// How one line is answered.
#[derive(Debug)]
pub(in crate::wire) struct Answer {
    body: Body,
    base64: bool,
    debug: bool,
}

/// What the answer is about.
#[derive(Debug)]
pub(super) enum Body {
    Refusal(Fault),
    /// `previous`: what it replaced is shown.
    Set {
        previous: bool,
    },
    Get {
        key: Key,
    },
    Siblings,
    Delete {
        previous: bool,
    },
    Bulk {
        count: u64,
    },
    Values {
        keys: Vec<Key>,
    },
    Keys,
    Count,
    Page {
        values: bool,
    },
    Explain,
    Conflicts,
    Outcome,
    Ttl,
    Renewed,
    Consistency(Level),
    Granted(Role),
    Ping,
    Info,
    Status,
    Ring,
}

impl Answer {
    pub(super) fn new(body: Body, base64: bool, debug: bool) -> Self {
        Self { body, base64, debug }
    }

    pub(super) fn refusal(fault: Fault) -> Self {
        Self::new(Body::Refusal(fault), false, false)
    }
}

/// Appends the answer as one line.
pub(in crate::wire) fn encode(
    answer: Answer,
    replies: Replies,
    session: &mut Session,
    facts: &Facts<'_>,
    out: &mut BytesMut,
) {
    let debug_ignored = answer.debug && !facts.config.allow_fault_injection;
    if answer.debug && !debug_ignored {
        facts.debug_writes.fetch_add(1, Ordering::Relaxed);
    }
    let mut writer = Writer { out, base64: answer.base64, debug_ignored };
    match replies {
        Replies::None => writer.immediate(answer.body, facts),
        Replies::One(reply) => writer.one(answer.body, reply, session, facts),
        Replies::Many(replies) => writer.values(answer.body, replies, session, facts.now.mono),
        Replies::Walked(walked) => writer.walked(&answer.body, walked),
        Replies::Renewed(renewed) => writer.renewed(&renewed, facts),
    }
    out.extend_from_slice(b"\n");
}

/// Appends the refusal of whatever a client may have asked.
pub(in crate::wire) fn put_refusal(fault: &Fault, out: &mut BytesMut) {
    Writer { out, base64: false, debug_ignored: false }.fault(fault);
    out.extend_from_slice(b"\n");
}

struct Writer<'a> {
    out: &'a mut BytesMut,
    base64: bool,
    debug_ignored: bool,
}

impl Writer<'_> {
    fn immediate(&mut self, body: Body, facts: &Facts<'_>) {
        match body {
            Body::Refusal(fault) => self.fault(&fault),
            Body::Ping => self.raw(r#"{"ok":true,"pong":true,"role":"peer"}"#),
            Body::Granted(role) => {
                self.raw(r#"{"ok":true,"role":""#);
                self.raw(role.name());
                self.raw("\"}");
            }
            Body::Consistency(level) => {
                self.raw(r#"{"ok":true,"level":""#);
                self.raw(level.name());
                self.raw("\"");
                if level == Level::Sloppy {
                    // Until fallback nodes exist.
                    self.raw(r#","behaves_as":"quorum""#);
                }
                self.raw("}");
            }
            Body::Info => cluster::put_info(self.out, facts),
            Body::Status => cluster::put_status(self.out, facts),
            Body::Ring => cluster::put_ring(self.out, facts),
            Body::Set { .. }
            | Body::Get { .. }
            | Body::Siblings
            | Body::Delete { .. }
            | Body::Bulk { .. }
            | Body::Values { .. }
            | Body::Keys
            | Body::Count
            | Body::Page { .. }
            | Body::Explain
            | Body::Conflicts
            | Body::Outcome
            | Body::Ttl
            | Body::Renewed => unreachable!("these commands ask a shard"),
        }
    }

    fn one(&mut self, body: Body, reply: Reply, session: &mut Session, facts: &Facts<'_>) {
        match (body, reply) {
            (_, Reply::Fault(fault)) => self.fault(&fault),
            (Body::Get { key }, Reply::Read(read)) => {
                self.value(&key, &read, session, facts.now.mono);
            }
            (Body::Siblings, Reply::Read(read)) => self.siblings(&read),
            (Body::Ttl, Reply::Read(read)) => self.ttl(&read, facts.now.unix_ms),
            (Body::Set { previous }, Reply::Written(written)) => {
                self.raw(r#"{"ok":true,"seq":"#);
                put_decimal(self.out, facts.next_write_seq());
                self.previous(previous, &written);
                self.written(&written);
            }
            (Body::Delete { previous }, Reply::Written(written)) => {
                let deleted = if written.existed { "true" } else { "false" };
                self.raw(r#"{"ok":true,"deleted":"#);
                self.raw(deleted);
                facts.next_write_seq();
                self.previous(previous, &written);
                self.written(&written);
            }
            (Body::Bulk { count }, Reply::BatchWritten { isolated, .. }) => {
                self.raw(r#"{"ok":true,"seq":"#);
                put_decimal(self.out, facts.next_write_seq());
                self.number("count", count);
                if !isolated {
                    self.raw(r#","isolated":false"#);
                }
                self.close();
            }
            (Body::Count, Reply::Count(count)) => {
                self.raw(r#"{"ok":true"#);
                self.number("count", count);
                self.close();
            }
            (Body::Page { values }, Reply::Page(page)) => self.page(page, values),
            (Body::Explain, Reply::Explained(explained)) => self.explained(&explained),
            (Body::Conflicts, Reply::Conflicts(conflicts)) => self.conflicts(&conflicts),
            (Body::Outcome, Reply::Outcome(settled)) => self.settled(&settled),
            (body, reply) => unreachable!("{body:?} is not answered by {reply:?}"),
        }
    }

    fn value(&mut self, key: &Key, read: &Read, session: &mut Session, now: Mono) {
        let Some(winner) = read.siblings.first() else { return self.not_found() };
        session.note_shown(key, winner.dot, now);
        self.base64 |= !is_text(&winner.payload);
        self.raw(r#"{"ok":true,"value":"#);
        self.bytes(&winner.payload);
        if read.siblings.len() > 1 {
            self.raw(r#","siblings":"#);
            put_length(self.out, read.siblings.len());
        }
        if winner.expiry_ms != 0 {
            self.number("expires_ms", winner.expiry_ms);
        }
        self.close();
    }

    fn ttl(&mut self, read: &Read, unix_ms: u64) {
        let Some(winner) = read.siblings.first() else { return self.not_found() };
        if winner.expiry_ms == 0 {
            self.raw(r#"{"ok":true,"ttl_ms":null"#);
        } else {
            self.raw(r#"{"ok":true"#);
            self.number("ttl_ms", winner.expiry_ms.saturating_sub(unix_ms));
            self.number("expires_ms", winner.expiry_ms);
        }
        self.close();
    }

    fn renewed(&mut self, renewed: &Renewed, facts: &Facts<'_>) {
        match (&renewed.result, &renewed.shown) {
            (Err(fault), _) => self.fault(fault),
            (Ok(_), None) => self.not_found(),
            (Ok(None), Some(_)) => {
                self.raw(r#"{"ok":true,"changed":false"#);
                self.close();
            }
            (Ok(Some(written)), Some(_)) => {
                self.raw(r#"{"ok":true,"changed":true,"seq":"#);
                put_decimal(self.out, facts.next_write_seq());
                self.written(written);
            }
        }
    }

    fn not_found(&mut self) {
        self.raw(r#"{"ok":false,"error":"Key not found","code":"not_found"}"#);
    }

    fn siblings(&mut self, read: &Read) {
        self.base64 |= !read.siblings.iter().all(|entry| is_text(&entry.payload));
        self.raw(r#"{"ok":true,"values":["#);
        for (index, entry) in read.siblings.iter().enumerate() {
            self.comma(index);
            self.bytes(&entry.payload);
        }
        self.raw("]");
        if read.siblings.iter().any(|entry| entry.expiry_ms != 0) {
            self.raw(r#","expires_ms":["#);
            for (index, entry) in read.siblings.iter().enumerate() {
                self.comma(index);
                match entry.expiry_ms {
                    0 => self.raw("null"),
                    expiry_ms => put_decimal(self.out, expiry_ms),
                }
            }
            self.raw("]");
        }
        self.context(&read.context);
        self.vector_clock("vclock", &read.vector_clock);
        self.close();
    }

    fn values(&mut self, body: Body, replies: Vec<Reply>, session: &mut Session, now: Mono) {
        let Body::Values { keys } = body else { unreachable!("only MGET asks more than once") };
        let mut winners = Vec::with_capacity(replies.len());
        for (key, reply) in keys.iter().zip(replies) {
            match reply {
                Reply::Read(read) => winners.push(read.siblings.into_iter().next()),
                Reply::Fault(fault) => return self.fault(&fault),
                reply @ (Reply::Written(_)
                | Reply::BatchWritten { .. }
                | Reply::Page(_)
                | Reply::Count(_)
                | Reply::Explained(_)
                | Reply::Conflicts(_)
                | Reply::Outcome(_)) => unreachable!("{key:?} was read, not {reply:?}"),
            }
        }
        self.base64 |= !winners.iter().flatten().all(|winner| is_text(&winner.payload));
        self.raw(r#"{"ok":true,"values":["#);
        for (index, (key, winner)) in keys.iter().zip(&winners).enumerate() {
            self.comma(index);
            match winner {
                Some(winner) => {
                    session.note_shown(key, winner.dot, now);
                    self.bytes(&winner.payload);
                }
                None => self.raw("null"),
            }
        }
        self.raw("]");
        self.close();
    }

    fn walked(&mut self, body: &Body, walked: Walked) {
        if let Some(fault) = walked.fault {
            return self.fault(&fault);
        }
        if matches!(body, Body::Count) {
            self.raw(r#"{"ok":true"#);
            self.number("count", walked.count);
            return self.close();
        }
        self.base64 |= !walked.items.iter().all(|key| is_text(&key.bytes));
        self.raw(r#"{"ok":true,"keys":["#);
        for (index, key) in walked.items.iter().enumerate() {
            self.comma(index);
            self.bytes(&key.bytes);
        }
        self.raw("]");
        if walked.next != Token(0) {
            self.raw(r#","truncated":true"#);
            self.cursor(walked.next);
        }
        self.close();
    }

    fn page(&mut self, page: Page, values: bool) {
        let all_text = page.items.iter().all(|(key, value)| {
            is_text(&key.bytes) && value.as_ref().is_none_or(|value| is_text(value))
        });
        self.base64 |= !all_text;
        self.raw(r#"{"ok":true"#);
        self.raw(if values { r#","items":["# } else { r#","keys":["# });
        for (index, (key, value)) in page.items.into_iter().enumerate() {
            self.comma(index);
            if values {
                self.raw(r#"{"key":"#);
                self.bytes(&key.bytes);
                self.raw(r#","value":"#);
                self.bytes(&value.unwrap_or_default());
                self.raw("}");
            } else {
                self.bytes(&key.bytes);
            }
        }
        self.raw("]");
        self.cursor(page.next);
        self.close();
    }

    fn explained(&mut self, explained: &Explained) {
        self.base64 |= !is_text(&explained.key.bytes);
        self.raw(r#"{"ok":true,"key":"#);
        self.bytes(&explained.key.bytes);
        self.number("slot", u64::from(explained.slot));
        // A string: a token needs all 64 bits, more than a JSON number holds for most readers.
        self.raw(r#","token":""#);
        put_decimal(self.out, explained.key.token.0);
        self.raw("\"");
        self.number("partition", u64::from(explained.partition.0));
        self.number("epoch", explained.epoch);
        self.raw(r#","replicas":["#);
        for (index, replica) in explained.replicas.iter().enumerate() {
            self.comma(index);
            self.raw(r#"{"node":"#);
            put_string(self.out, &replica.node.to_string());
            self.raw(r#","name":"#);
            put_string(self.out, &replica.name);
            self.holding(replica.holds.as_ref());
            self.raw("}");
        }
        self.raw("]");
        self.close();
    }

    fn holding(&mut self, holding: Option<&Holding>) {
        match holding {
            None => self.raw(r#","state":"no_answer""#),
            Some(Holding::Absent) => self.raw(r#","state":"absent""#),
            Some(Holding::Unknown) => self.raw(r#","state":"unknown""#),
            Some(Holding::Versions { siblings, vector_clock }) => {
                self.raw(r#","state":"present","versions":["#);
                for (index, (dot, hlc, bytes)) in siblings.iter().enumerate() {
                    self.comma(index);
                    self.raw(r#"{"dot":"#);
                    put_string(self.out, &dot.to_string());
                    self.number("written_ms", hlc.unix_ms());
                    self.number("bytes", *bytes);
                    self.raw("}");
                }
                self.raw("]");
                self.vector_clock("vclock", vector_clock);
            }
        }
    }

    fn settled(&mut self, settled: &Settled) {
        self.raw(r#"{"ok":true,"outcome":"#);
        put_string(self.out, settled.known.name());
        self.raw(r#","detail":"#);
        put_string(self.out, &settled.detail);
        self.close();
    }

    fn conflicts(&mut self, conflicts: &Conflicts) {
        let all_text = conflicts.items.iter().all(|(key, siblings)| {
            is_text(&key.bytes) && siblings.iter().all(|entry| is_text(&entry.payload))
        });
        self.base64 |= !all_text;
        self.raw(r#"{"ok":true,"conflicts":["#);
        for (index, (key, siblings)) in conflicts.items.iter().enumerate() {
            self.comma(index);
            self.raw(r#"{"key":"#);
            self.bytes(&key.bytes);
            self.raw(r#","siblings":["#);
            for (index, entry) in siblings.iter().enumerate() {
                self.comma(index);
                self.raw(r#"{"value":"#);
                self.bytes(&entry.payload);
                self.raw(r#","dot":"#);
                put_string(self.out, &entry.dot.to_string());
                self.number("written_ms", entry.hlc.unix_ms());
                self.raw("}");
            }
            self.raw("]}");
        }
        self.raw("]");
        self.cursor(conflicts.next);
        self.close();
    }

    /// What a write replaced, where it was asked for.
    fn previous(&mut self, asked: bool, written: &Written) {
        if !asked {
            return;
        }
        self.raw(r#","previous":"#);
        match &written.previous {
            Some(value) => {
                self.base64 |= !is_text(value);
                self.bytes(value);
            }
            None => self.raw("null"),
        }
    }

    fn written(&mut self, written: &Written) {
        self.context(&written.context);
        self.raw(r#","acks":{"home":"#);
        put_decimal(self.out, u64::from(written.acks_home));
        self.number("fallback", u64::from(written.acks_fallback));
        self.raw("}");
        if written.siblings > 1 {
            self.number("siblings", u64::from(written.siblings));
        }
        self.close();
    }

    fn fault(&mut self, fault: &Fault) {
        self.raw(r#"{"ok":false,"error":"#);
        put_string(self.out, &fault.to_string());
        self.raw(r#","code":""#);
        self.raw(fault.code());
        self.raw(match fault.outcome() {
            Outcome::Refused => r#"","outcome":"refused""#,
            Outcome::Unknown => r#"","outcome":"unknown""#,
        });
        if let Fault::OutcomeUnknown { request_id, .. } = fault {
            self.raw(r#","request_id":"#);
            put_string(self.out, &request_id.to_string());
        }
        if let Fault::Overloaded { retry_after_ms, .. } = fault {
            self.number("retry_after_ms", u64::from(*retry_after_ms));
        }
        self.raw("}");
    }

    fn context(&mut self, token: &Bytes) {
        self.raw(r#","context":""#);
        self.raw(&URL_SAFE_NO_PAD.encode(token));
        self.raw("\"");
    }

    fn vector_clock(&mut self, name: &str, clock: &VersionVector) {
        self.raw(",\"");
        self.raw(name);
        self.raw("\":{");
        for (index, (actor, seq)) in clock.iter().enumerate() {
            self.comma(index);
            put_string(self.out, &actor.to_string());
            self.raw(":");
            put_decimal(self.out, seq);
        }
        self.raw("}");
    }

    /// A string for the same reason as a token.
    fn cursor(&mut self, next: Token) {
        self.raw(r#","cursor":""#);
        put_decimal(self.out, next.0);
        self.raw("\"");
    }

    fn number(&mut self, name: &str, number: u64) {
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
        put_decimal(self.out, number);
    }

    /// A key or value, in the encoding of this reply.
    fn bytes(&mut self, bytes: &[u8]) {
        if self.base64 {
            self.raw("\"");
            self.raw(&STANDARD.encode(bytes));
            self.raw("\"");
        } else {
            let text = std::str::from_utf8(bytes).expect("what is not text makes a reply base64");
            put_string(self.out, text);
        }
    }

    /// Ends a reply that succeeded.
    fn close(&mut self) {
        if self.base64 {
            self.raw(r#","encoding":"base64""#);
        }
        if self.debug_ignored {
            self.raw(r#","debug":"ignored""#);
        }
        self.raw("}");
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.raw(",");
        }
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}
