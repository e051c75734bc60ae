//! The types of RESP, written into a buffer.

use bytes::{BufMut, BytesMut};

use super::Version;
use crate::wire::write::{put_decimal, put_length};

/// Writes in the version that a connection has agreed on.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut BytesMut,
    pub(super) version: Version,
}

impl Writer<'_> {
    /// `+TEXT`
    pub(super) fn simple(&mut self, text: &str) {
        self.out.put_u8(b'+');
        self.line(text);
    }

    /// `-TEXT`; line ends in the text become blanks.
    pub(super) fn error(&mut self, text: &str) {
        self.out.put_u8(b'-');
        self.line(text);
    }

    fn line(&mut self, text: &str) {
        let start = self.out.len();
        self.out.put_slice(text.as_bytes());
        for byte in self.out.get_mut(start..).unwrap_or_default() {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.put_slice(b"\r\n");
    }

    /// `:N`
    pub(super) fn number(&mut self, number: u64) {
        self.out.put_u8(b':');
        put_decimal(self.out, number);
        self.out.put_slice(b"\r\n");
    }

    /// `:N` for numbers that may be below zero.
    pub(super) fn signed(&mut self, number: i64) {
        self.out.put_slice(if number < 0 { b":-" } else { b":" });
        put_decimal(self.out, number.unsigned_abs());
        self.out.put_slice(b"\r\n");
    }

    /// `$LENGTH` and the bytes.
    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 16);
        self.header(b'$', bytes.len());
        self.out.put_slice(bytes);
        self.out.put_slice(b"\r\n");
    }

    /// What stands for no value.
    pub(super) fn null(&mut self) {
        self.out.put_slice(match self.version {
            Version::Two => b"$-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// The head of an array; its elements follow.
    pub(super) fn array(&mut self, length: usize) {
        self.header(b'*', length);
    }

    /// The head of a set; its elements follow.
    pub(super) fn set(&mut self, length: usize) {
        self.header(if self.version == Version::Two { b'*' } else { b'~' }, length);
    }

    /// The head of a map of `pairs` names and values, which follow one after the other.
    pub(super) fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Two => self.header(b'*', pairs * 2),
            Version::Three => self.header(b'%', pairs),
        }
    }

    /// Text that people read; a bulk string where the protocol knows no verbatim ones.
    pub(super) fn verbatim(&mut self, text: &str) {
        match self.version {
            Version::Two => self.bulk(text.as_bytes()),
            Version::Three => {
                self.header(b'=', text.len() + 4);
                self.out.put_slice(b"txt:");
                self.out.put_slice(text.as_bytes());
                self.out.put_slice(b"\r\n");
            }
        }
    }

    fn header(&mut self, kind: u8, length: usize) {
        self.out.put_u8(kind);
        put_length(self.out, length);
        self.out.put_slice(b"\r\n");
    }
}
