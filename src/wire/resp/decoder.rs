//! Cuts a stream into commands.
//!
//! What is parsed of an incomplete command is kept as positions in the buffer of the connection,
//! so each byte is looked at once, however it trickles in. A command that breaks a limit is read to
//! its end and dropped as it comes; then it is answered, and the stream goes on.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::arguments::Arguments;
use super::plan::Planner;
use super::{Version, protocol_error};
use crate::api::{Fault, Session};
use crate::limits::{
    BATCH_BYTES_MAX, INLINE_BYTES_MAX, RESP_ARRAY_MAX, RESP_BULK_BYTES_MAX, RESP_NAMES_BYTES_MAX,
    STRANGER_ARGUMENTS_MAX, STRANGER_BYTES_MAX,
};
use crate::time::Mono;
use crate::wire::call::Call;
use crate::wire::{check, sniff};

/// Longest line that announces a length: a sign, 20 digits, and some zeros in front.
const LENGTH_LINE_BYTES_MAX: usize = 64;

/// The reading half of a connection that speaks RESP.
#[derive(Debug)]
pub(in crate::wire) struct Decoder {
    value_bytes_max: usize,
    expects: Expects,
    /// Bytes at the start of the buffer that are parsed, or searched for a line end.
    position: usize,
    /// Where the arguments of the command lie that is being read.
    marks: Vec<Range<usize>>,
    /// Bytes of its arguments.
    command_bytes: usize,
    /// Why the command that is being read will be refused. Its bytes are dropped as they come.
    refused: Option<Fault>,
    planner: Planner,
    /// The client must show a token first: its commands are short until then.
    is_stranger: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Expects {
    Command,
    /// The length of the next argument; that many are missing, this one included.
    Length {
        missing: usize,
    },
    /// The bytes of an argument and the line end behind them.
    Body {
        missing: usize,
        length: usize,
    },
    /// The same of a refused command, of which `left` bytes are still to be dropped.
    Skip {
        missing: usize,
        left: usize,
    },
    /// Nothing: the stream cannot be followed any more.
    Nothing,
}

/// One step of parsing.
enum Step {
    /// More bytes are needed.
    Starved,
    /// Go on.
    Advanced,
    /// The command is complete: its arguments are marked up to the position.
    Complete,
    /// The line of an inline command is complete, this many bytes with its line end.
    Inline { line_bytes: usize },
    /// The stream cannot be followed any more.
    Broken(&'static str),
}

impl Decoder {
    pub(in crate::wire) fn new(value_bytes_max: usize) -> Self {
        Self {
            value_bytes_max,
            expects: Expects::Command,
            position: 0,
            marks: Vec::new(),
            command_bytes: 0,
            refused: None,
            planner: Planner::new(value_bytes_max),
            is_stranger: false,
        }
    }

    /// Whether a command was begun and its rest is awaited.
    pub(in crate::wire) fn is_inside(&self) -> bool {
        match self.expects {
            Expects::Command | Expects::Nothing => false,
            Expects::Length { .. } | Expects::Body { .. } | Expects::Skip { .. } => true,
        }
    }

    pub(in crate::wire) fn next(
        &mut self,
        now: Mono,
        buffer: &mut BytesMut,
        session: &mut Session,
    ) -> Option<Call> {
        loop {
            self.is_stranger = !session.access.is_let_in();
            match self.step(buffer) {
                Step::Starved => return None,
                Step::Advanced => {}
                Step::Complete => {
                    let frame = buffer.split_to(self.position).freeze();
                    return Some(self.finish(&frame, session, now));
                }
                Step::Inline { line_bytes } => {
                    let line = buffer.split_to(line_bytes).freeze();
                    self.position = 0;
                    if sniff::is_http(&line) {
                        self.expects = Expects::Nothing;
                        return Some(Call::close_silently());
                    }
                    let Some(text) = super::inline::words(&line, &mut self.marks) else {
                        return Some(self.broken("a quote is not closed"));
                    };
                    if !self.marks.is_empty() {
                        return Some(self.finish(&text.freeze(), session, now));
                    }
                }
                Step::Broken(text) => return Some(self.broken(text)),
            }
        }
    }

    fn finish(&mut self, frame: &Bytes, session: &mut Session, now: Mono) -> Call {
        let call = match self.refused.take() {
            Some(fault) => self.planner.refuse(fault),
            None => self.planner.plan(Arguments { frame, marks: &self.marks }, session, now),
        };
        self.expects = if call.closes() { Expects::Nothing } else { Expects::Command };
        self.position = 0;
        self.command_bytes = 0;
        self.marks.clear();
        call
    }

    fn broken(&mut self, text: &str) -> Call {
        self.expects = Expects::Nothing;
        protocol_error(self.version(), text)
    }

    fn version(&self) -> Version {
        self.planner.version()
    }

    fn step(&mut self, buffer: &mut BytesMut) -> Step {
        match self.expects {
            Expects::Command => match buffer.first() {
                None => Step::Starved,
                Some(b'*') => self.on_array(buffer),
                Some(_) => self.on_inline(buffer),
            },
            Expects::Length { missing: 0 } => Step::Complete,
            Expects::Length { missing } => self.on_length(missing, buffer),
            Expects::Body { missing, length } => self.on_body(missing, length, buffer),
            Expects::Skip { missing, left } => {
                let dropped = left.min(buffer.len());
                buffer.advance(dropped);
                if dropped < left {
                    self.expects = Expects::Skip { missing, left: left - dropped };
                    return Step::Starved;
                }
                self.expects = Expects::Length { missing: missing - 1 };
                Step::Advanced
            }
            Expects::Nothing => {
                buffer.clear();
                Step::Starved
            }
        }
    }

    fn on_inline(&mut self, buffer: &BytesMut) -> Step {
        let bytes_max = if self.is_stranger { STRANGER_BYTES_MAX } else { INLINE_BYTES_MAX };
        let fresh = buffer.get(self.position..).unwrap_or_default();
        match fresh.iter().position(|&byte| byte == b'\n') {
            Some(offset) if self.position + offset < bytes_max => {
                Step::Inline { line_bytes: self.position + offset + 1 }
            }
            None if buffer.len() < bytes_max => {
                self.position = buffer.len();
                Step::Starved
            }
            Some(_) | None => Step::Broken("the inline command is too long"),
        }
    }

    fn on_array(&mut self, buffer: &mut BytesMut) -> Step {
        const BAD: Step = Step::Broken("the multibulk length is no number from 0 to 20001");
        let (count, end) = match number_line(buffer, 1) {
            Line::Starved => return Step::Starved,
            Line::Bad => return BAD,
            Line::Number(count, end) => (count, end),
        };
        match usize::try_from(count) {
            Ok(missing) if missing > RESP_ARRAY_MAX => return BAD,
            Ok(missing) if self.is_stranger && missing > STRANGER_ARGUMENTS_MAX => {
                return Step::Broken("unauthenticated multibulk length");
            }
            Ok(missing) if missing > 0 => {
                self.position = end;
                self.expects = Expects::Length { missing };
            }
            // An empty or null array is no command and gets no answer.
            Ok(_) | Err(_) => buffer.advance(end),
        }
        Step::Advanced
    }

    fn on_length(&mut self, missing: usize, buffer: &mut BytesMut) -> Step {
        const BAD: Step = Step::Broken("the bulk length is no number from 0 to 536870912");
        match buffer.get(self.position) {
            None => return Step::Starved,
            Some(b'$') => {}
            Some(_) => return Step::Broken("an argument must begin with $"),
        }
        let (length, end) = match number_line(buffer, self.position + 1) {
            Line::Starved => return Step::Starved,
            Line::Bad => return BAD,
            Line::Number(length, end) => (length, end),
        };
        let Ok(length) = usize::try_from(length) else { return BAD };
        if length > RESP_BULK_BYTES_MAX {
            return BAD;
        }
        if self.is_stranger && length > STRANGER_BYTES_MAX {
            return Step::Broken("unauthenticated bulk length");
        }
        self.position = end;
        self.command_bytes = self.command_bytes.saturating_add(length);
        if self.refused.is_none() {
            self.refused = self.over_limit(length);
        }
        if self.refused.is_some() {
            buffer.advance(self.position);
            self.position = 0;
            self.marks.clear();
            self.expects = Expects::Skip { missing, left: length + 2 };
        } else {
            self.expects = Expects::Body { missing, length };
        }
        Step::Advanced
    }

    /// Why an argument of this length cannot be taken, if so.
    fn over_limit(&self, length: usize) -> Option<Fault> {
        if length > self.value_bytes_max.max(RESP_NAMES_BYTES_MAX) {
            let max = check::length(self.value_bytes_max);
            return Some(Fault::ValueTooLarge { bytes: check::length(length), max });
        }
        let command_bytes_max = self.value_bytes_max.max(BATCH_BYTES_MAX) + RESP_NAMES_BYTES_MAX;
        if self.command_bytes > command_bytes_max {
            return Some(check::batch_too_large(self.marks.len() / 2, self.command_bytes));
        }
        None
    }

    fn on_body(&mut self, missing: usize, length: usize, buffer: &BytesMut) -> Step {
        let end = self.position + length;
        let Some(line_end) = buffer.get(end..end + 2) else { return Step::Starved };
        if line_end != b"\r\n" {
            return Step::Broken("an argument does not end where its length says");
        }
        self.marks.push(self.position..end);
        self.position = end + 2;
        self.expects = Expects::Length { missing: missing - 1 };
        Step::Advanced
    }
}

enum Line {
    Starved,
    Bad,
    /// The number, and the position behind the line end.
    Number(i64, usize),
}

/// The number between `start` and the next line end.
fn number_line(buffer: &[u8], start: usize) -> Line {
    let rest = buffer.get(start..).unwrap_or_default();
    let head = rest.get(..LENGTH_LINE_BYTES_MAX).unwrap_or(rest);
    let Some(digits) = head.iter().position(|&byte| byte == b'\r') else {
        return if head.len() < LENGTH_LINE_BYTES_MAX { Line::Starved } else { Line::Bad };
    };
    match rest.get(digits + 1) {
        None => return Line::Starved,
        Some(b'\n') => {}
        Some(_) => return Line::Bad,
    }
    let text = head.get(..digits).and_then(|text| std::str::from_utf8(text).ok());
    match text.and_then(|text| text.parse().ok()) {
        Some(number) => Line::Number(number, start + digits + 2),
        None => Line::Bad,
    }
}
