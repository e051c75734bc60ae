//! Newline-JSON: one object a line, one reply a line, in order (docs/protocols.md).
//!
//! Keys and values that are not strings are kept as their JSON text without the blanks between
//! its tokens. What is wrong with a line is answered; the connection stays open.

mod cluster;
mod fields;
mod reply;
mod request;
mod text;

use bytes::{Buf, BytesMut};

pub(super) use reply::{Answer, encode, put_refusal};

use super::call::{self, Call};
use crate::api::{Fault, Session};
use crate::limits::{JSON_LINE_BYTES_EXTRA, STRANGER_BYTES_MAX};
use crate::time::Mono;

/// Cuts a stream into lines and lines into calls.
#[derive(Debug)]
pub(super) struct Decoder {
    value_bytes_max: usize,
    line_bytes_max: usize,
    /// Bytes at the start of the buffer that hold no newline.
    searched: usize,
    /// The line that is being read is too long: its bytes are dropped up to the newline.
    skipping: bool,
}

impl Decoder {
    pub(super) fn new(value_bytes_max: usize) -> Self {
        let line_bytes_max =
            value_bytes_max.saturating_mul(8).saturating_add(JSON_LINE_BYTES_EXTRA);
        Self { value_bytes_max, line_bytes_max, searched: 0, skipping: false }
    }

    /// Whether a line is being dropped as it comes.
    pub(super) fn is_inside(&self) -> bool {
        self.skipping
    }

    pub(super) fn next(
        &mut self,
        now: Mono,
        buffer: &mut BytesMut,
        session: &mut Session,
    ) -> Option<Call> {
        let line_bytes_max =
            if session.access.is_let_in() { self.line_bytes_max } else { STRANGER_BYTES_MAX };
        let fresh = buffer.get(self.searched..).unwrap_or_default();
        let Some(offset) = fresh.iter().position(|&byte| byte == b'\n') else {
            self.searched = buffer.len();
            if self.skipping || buffer.len() > line_bytes_max {
                self.skipping = true;
                self.searched = 0;
                buffer.clear();
            }
            return None;
        };
        let end = self.searched + offset;
        self.searched = 0;
        let line = buffer.split_to(end).freeze();
        buffer.advance(1);
        if std::mem::take(&mut self.skipping) || line.len() > line_bytes_max {
            let text = format!(
                "the line has more than {line_bytes_max} bytes, the limit here; nothing of it was \
                 read"
            );
            return Some(refuse(Fault::BadRequest { text }));
        }
        Some(request::parse(&line, self.value_bytes_max, session, now))
    }
}

/// The answer to a first line that belongs to no protocol. The line is taken out of `buffer`.
pub(super) fn not_json(buffer: &mut BytesMut, line_bytes: usize) -> Call {
    buffer.advance(line_bytes.min(buffer.len()));
    refuse(request::invalid_json())
}

fn refuse(fault: Fault) -> Call {
    Call::immediate(call::Answer::Json(Box::new(Answer::refusal(fault))))
}

#[cfg(test)]
mod tests;
