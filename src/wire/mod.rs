//! The codecs: bytes to requests, replies to bytes. Slices in, buffers out; nothing waits here.
//!
//! [`Connection`] is one client connection, whatever it speaks. The shell reads bytes into a
//! buffer, takes [`Call`]s out of it, hands their requests to its shard and the replies back to
//! the call, and writes the answers in the order of the calls:
//!
//! ```text
//! bytes -> Connection::decode -> Call -> next_request ... on_reply -> is_ready
//!                                     -> Connection::encode -> bytes
//! ```
//!
//! Invariants: nothing is allocated from a length that was merely declared; no input makes a codec
//! panic or loop; bytes fed one by one decode as bytes fed at once; what a client did wrong is an
//! answer to it, and closes the connection only where the stream cannot be followed any more.

#![warn(clippy::indexing_slicing, clippy::as_conversions)]

mod call;
mod check;
mod facts;
mod gauges;
mod json;
pub mod peer;
mod renew;
mod resp;
mod sniff;
#[cfg(test)]
mod testing;
mod write;

use std::sync::Arc;

use bytes::BytesMut;

pub use call::{Call, reply_bytes};
pub use facts::Facts;
pub use gauges::Gauges;
pub use resp::commands;

use crate::api::{Access, Fault, Session, Tokens};
use crate::limits::{INLINE_BYTES_MAX, STRANGER_BYTES_MAX};
use crate::time::Mono;
use call::Answer;
use sniff::Sniffed;

/// The protocol side of one client connection.
#[derive(Debug)]
pub struct Connection {
    codec: Codec,
    session: Session,
    value_bytes_max: usize,
}

#[derive(Debug)]
enum Codec {
    /// Nothing has been said yet that tells; so many bytes of the first line were looked at.
    Undecided {
        searched: usize,
    },
    Json(json::Decoder),
    Resp(Box<resp::Decoder>),
}

impl Connection {
    /// A connection that has said nothing yet, at a node that takes values up to
    /// `value_bytes_max`.
    pub fn new(value_bytes_max: usize) -> Self {
        Self {
            codec: Codec::Undecided { searched: 0 },
            session: Session::default(),
            value_bytes_max,
        }
    }

    /// A connection to a node that asks for one of these tokens; `None` = for none.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Option<Arc<Tokens>>) -> Self {
        self.session = Session::new(Access::new(tokens));
        self
    }

    /// Whether the client has shown the token that it must. Before that its limits are narrow.
    pub fn is_let_in(&self) -> bool {
        self.session.access.is_let_in()
    }

    /// Wrong tokens that the client has shown since the last call.
    pub fn take_failures(&mut self) -> u32 {
        self.session.access.take_failures()
    }

    /// For how long no token of the client is looked at, if at all.
    pub fn deny_for(&mut self, denied_ms: Option<u64>) {
        self.session.access.deny_for(denied_ms);
    }

    /// Takes the next call out of `buffer`, or `None` when more bytes are needed.
    ///
    /// Between two calls of this function the shell may only append to `buffer`. Calls are
    /// answered in the order in which they were taken. After one that [closes](Call::closes)
    /// nothing more is read.
    pub fn decode(&mut self, now: Mono, buffer: &mut BytesMut) -> Option<Call> {
        if let Codec::Undecided { searched } = &mut self.codec {
            let line_bytes_max =
                if self.session.access.is_let_in() { INLINE_BYTES_MAX } else { STRANGER_BYTES_MAX };
            match sniff::sniff(buffer, searched, line_bytes_max) {
                Sniffed::NeedMore => return None,
                Sniffed::Json => self.codec = Codec::Json(json::Decoder::new(self.value_bytes_max)),
                Sniffed::Resp => {
                    self.codec = Codec::Resp(Box::new(resp::Decoder::new(self.value_bytes_max)));
                }
                Sniffed::Neither { line_bytes } => return Some(json::not_json(buffer, line_bytes)),
                Sniffed::Http => return Some(Call::close_silently()),
                Sniffed::Tls => return Some(resp::refuse_tls()),
            }
        }
        match &mut self.codec {
            Codec::Undecided { .. } => None,
            Codec::Json(decoder) => decoder.next(now, buffer, &mut self.session),
            Codec::Resp(decoder) => decoder.next(now, buffer, &mut self.session),
        }
    }

    /// Whether a part of a request was taken out of the buffer already, and its rest is awaited.
    pub fn is_inside(&self) -> bool {
        match &self.codec {
            Codec::Undecided { .. } => false,
            Codec::Json(decoder) => decoder.is_inside(),
            Codec::Resp(decoder) => decoder.is_inside(),
        }
    }

    /// Appends what a client hears last, in its protocol, where no call of it waits.
    pub fn put_farewell(&self, text: &str, out: &mut BytesMut) {
        match &self.codec {
            Codec::Json(_) => {
                json::put_refusal(&Fault::BadRequest { text: text.to_owned() }, out);
            }
            Codec::Undecided { .. } | Codec::Resp(_) => {
                out.extend_from_slice(b"-ERR ");
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Appends the answer to a call that [is ready](Call::is_ready).
    ///
    /// # Panics
    /// When replies are missing.
    pub fn encode(&mut self, call: Call, facts: &Facts<'_>, out: &mut BytesMut) {
        let (mut replies, answer) = call.into_parts();
        replies.hide_expired(facts.now.unix_ms);
        match answer {
            Answer::Silence => {}
            Answer::Json(answer) => json::encode(*answer, replies, &mut self.session, facts, out),
            Answer::Resp(answer) => resp::encode(answer, replies, &mut self.session, facts, out),
        }
    }
}

/// What a client hears who is one too many and began with these bytes.
pub fn too_many_clients(first: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    if first.trim_ascii_start().starts_with(b"{") {
        let what = String::from("number of connections of clients");
        json::put_refusal(&Fault::Overloaded { what, retry_after_ms: 1_000 }, &mut out);
    } else {
        // The words of Redis, by which libraries know it.
        out.extend_from_slice(b"-ERR max number of clients reached\r\n");
    }
    out
}

/// What a client hears whose address holds as many connections as it may, and who began so.
pub fn too_many_of_address(first: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    if first.trim_ascii_start().starts_with(b"{") {
        let what = String::from("number of connections from this address");
        json::put_refusal(&Fault::Overloaded { what, retry_after_ms: 1_000 }, &mut out);
    } else {
        out.extend_from_slice(b"-ERR max number of clients reached for this address\r\n");
    }
    out
}

#[cfg(test)]
mod tests;
