//! JSON text as text: strings, blanks between tokens, nesting.

use bytes::{BufMut, Bytes, BytesMut};

/// The bytes that a JSON key or value stands for: a string's characters, anything else's JSON text
/// without blanks. `None`: a string with an impossible escape.
///
/// `line` is where `raw` was cut from; most strings are handed out as slices of it.
pub(super) fn bytes_of(line: &Bytes, raw: &str) -> Option<Bytes> {
    let Some(quoted) = raw.strip_prefix('"') else {
        return Some(compact(line, raw));
    };
    let characters = quoted.strip_suffix('"')?;
    if !characters.as_bytes().contains(&b'\\') {
        return Some(line.slice_ref(characters.as_bytes()));
    }
    serde_json::from_str::<String>(raw).ok().map(Bytes::from)
}

/// JSON text without the blanks between its tokens; everything else stays as it was written.
fn compact(line: &Bytes, raw: &str) -> Bytes {
    if !raw.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return line.slice_ref(raw.as_bytes());
    }
    let mut text = BytesMut::with_capacity(raw.len());
    let mut scanner = Scanner::default();
    for byte in raw.bytes() {
        if scanner.step(byte) || !byte.is_ascii_whitespace() {
            text.put_u8(byte);
        }
    }
    text.freeze()
}

/// The deepest nesting of well-formed JSON text; an object without objects in it has depth 1.
pub(super) fn depth(text: &str) -> usize {
    let mut scanner = Scanner::default();
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    for byte in text.bytes() {
        if scanner.step(byte) {
            continue;
        }
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Knows whether a byte of well-formed JSON text belongs to a string.
#[derive(Default)]
struct Scanner {
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// Whether this byte, the next one of the text, is part of a string or a quote around one.
    fn step(&mut self, byte: u8) -> bool {
        if !self.in_string {
            self.in_string = byte == b'"';
            return self.in_string;
        }
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
        }
        true
    }
}

/// Appends a JSON string.
pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    serde_json::to_writer(out.writer(), text).expect("a growing buffer takes any string");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, expected: &str) {
        let line = Bytes::copy_from_slice(raw.as_bytes());
        let cut = std::str::from_utf8(&line).unwrap();
        let bytes = bytes_of(&line, cut).unwrap();
        assert_eq!(bytes, expected.as_bytes(), "{raw}");
    }

    #[test]
    fn strings_are_their_characters_and_the_rest_is_kept_as_written() {
        check(r#""plain""#, "plain");
        check(r#""""#, "");
        check(r#""a\n\u0041\"""#, "a\nA\"");
        check("5", "5");
        check("1.50e+07", "1.50e+07");
        check("123456789012345678901234567890", "123456789012345678901234567890");
        check("true", "true");
        check("{ \"a b\" : [ 1 ,\t2.0 ] , \"\\\" \" : null }", r#"{"a b":[1,2.0],"\" ":null}"#);
        assert_eq!(bytes_of(&Bytes::new(), r#""\ud800""#), None);
    }

    #[test]
    fn nesting_is_counted_outside_of_strings() {
        assert_eq!(depth("1"), 0);
        assert_eq!(depth(r#"{"a":"[[[","b":[{"c":"\"["}]}"#), 3);
    }
}
