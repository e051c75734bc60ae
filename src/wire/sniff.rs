//! Which protocol a connection speaks, told from its first bytes.
//!
//! `{` is newline-JSON, `*` is RESP, and a first line whose first word is a command is an inline
//! command of RESP. What a browser sends is recognised and the connection closed without a word:
//! no web page may be able to send commands. Any other line is answered as a JSON client expects
//! ("Invalid JSON"), and the next line is looked at afresh.

use bytes::{Buf, BytesMut};

use super::resp::commands;

/// What the first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sniffed {
    /// Not enough.
    NeedMore,
    /// Newline-JSON.
    Json,
    /// RESP, as an array or inline.
    Resp,
    /// A web browser or another HTTP client.
    Http,
    /// A TLS client.
    Tls,
    /// A line that is no request of either protocol.
    Neither {
        /// Its length, with the newline.
        line_bytes: usize,
    },
}

/// Looks at what has arrived. Blank lines in front are dropped, nothing else is taken.
///
/// A line has at most `line_bytes_max` bytes.
///
/// `searched` bytes at the start of the buffer are known to hold no newline; it starts at 0.
pub(super) fn sniff(buffer: &mut BytesMut, searched: &mut usize, line_bytes_max: usize) -> Sniffed {
    let from = std::mem::take(searched);
    if from == 0 {
        let blanks = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        buffer.advance(blanks);
    }
    match buffer.first() {
        None => return Sniffed::NeedMore,
        Some(b'{') => return Sniffed::Json,
        Some(b'*') => return Sniffed::Resp,
        Some(0x16) => return Sniffed::Tls,
        Some(_) => {}
    }
    let head = buffer.get(..line_bytes_max).unwrap_or(buffer);
    let fresh = head.get(from..).unwrap_or_default();
    let Some(offset) = fresh.iter().position(|&byte| byte == b'\n') else {
        if head.len() == line_bytes_max {
            // A line without end is refused by the decoder of inline commands.
            return Sniffed::Resp;
        }
        *searched = head.len();
        return Sniffed::NeedMore;
    };
    let end = from + offset;
    let line = head.get(..end).unwrap_or_default();
    if is_http(line) {
        return Sniffed::Http;
    }
    let word = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    if commands::find(word).is_some() {
        return Sniffed::Resp;
    }
    Sniffed::Neither { line_bytes: end + 1 }
}

/// Whether a line is the first one, or a header, of an HTTP request.
pub(super) fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    let last = words.next_back().unwrap_or_default();
    first.eq_ignore_ascii_case(b"post")
        || first.eq_ignore_ascii_case(b"host:")
        || last.get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"HTTP/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::INLINE_BYTES_MAX;

    fn check(bytes: &[u8], expected: Sniffed) {
        let found = sniff(&mut BytesMut::from(bytes), &mut 0, INLINE_BYTES_MAX);
        assert_eq!(found, expected, "{:?}", bytes.escape_ascii());
        let (mut buffer, mut searched) = (BytesMut::new(), 0);
        let mut found = Sniffed::NeedMore;
        for &byte in bytes {
            buffer.extend_from_slice(&[byte]);
            found = sniff(&mut buffer, &mut searched, INLINE_BYTES_MAX);
            if found != Sniffed::NeedMore {
                break;
            }
        }
        assert_eq!(found, expected, "{:?} byte by byte", bytes.escape_ascii());
    }

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        check(b"", Sniffed::NeedMore);
        check(b"\r\n  ", Sniffed::NeedMore);
        check(b"{", Sniffed::Json);
        check(b"\r\n {", Sniffed::Json);
        check(b"*", Sniffed::Resp);
        check(b"PIN", Sniffed::NeedMore);
        check(b"ping\r\n", Sniffed::Resp);
        check(b"GeT key\n", Sniffed::Resp);
        check(b"\x16\x03\x01", Sniffed::Tls);
        check(b"not json\n", Sniffed::Neither { line_bytes: 9 });
        check(b"[1]\n{", Sniffed::Neither { line_bytes: 4 });
        check(&vec![b'x'; INLINE_BYTES_MAX], Sniffed::Resp);
    }

    #[test]
    fn a_browser_is_recognised() {
        check(b"GET / HTTP/1.1\r\n", Sniffed::Http);
        check(b"POST /x", Sniffed::NeedMore);
        check(b"POST / HTTP/1.1\r\n", Sniffed::Http);
        check(b"post x\n", Sniffed::Http);
        check(b"Host: localhost:6379\r\n", Sniffed::Http);
        check(b"PUT /v1 http/1.0\n", Sniffed::Http);
        check(b"GET HTTP/1.1\n", Sniffed::Http);
        check(b"GET http\n", Sniffed::Resp);
    }
}
