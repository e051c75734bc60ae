//! Inline commands: a line of words, as a person types them.
//!
//! Words are parted by blanks. `"..."` knows \n \r \t \b \a \\ \" and \xHH, `'...'` only \'; a
//! closing quote ends its word.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

/// The words of a line, one behind the other, and where each lies. `None`: a quote is not closed,
/// or is closed in the middle of a word.
pub(super) fn words(line: &[u8], marks: &mut Vec<Range<usize>>) -> Option<BytesMut> {
    let mut text = BytesMut::with_capacity(line.len());
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        if rest.peek().is_none() {
            return Some(text);
        }
        let start = text.len();
        while let Some(byte) = rest.next_if(|byte| !byte.is_ascii_whitespace()) {
            if byte == b'"' || byte == b'\'' {
                quoted(byte, &mut rest, &mut text)?;
                if rest.peek().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    return None;
                }
            } else {
                text.put_u8(byte);
            }
        }
        marks.push(start..text.len());
    }
}

fn quoted(
    quote: u8,
    rest: &mut std::iter::Peekable<impl Iterator<Item = u8>>,
    text: &mut BytesMut,
) -> Option<()> {
    loop {
        let byte = rest.next()?;
        if byte == quote {
            return Some(());
        }
        if byte != b'\\' {
            text.put_u8(byte);
        } else if quote == b'\'' {
            text.put_u8(rest.next_if_eq(&b'\'').unwrap_or(b'\\'));
        } else {
            escape(rest, text)?;
        }
    }
}

fn escape(
    rest: &mut std::iter::Peekable<impl Iterator<Item = u8>>,
    text: &mut BytesMut,
) -> Option<()> {
    let byte = rest.next()?;
    let plain = match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        b'x' => {
            // What follows an x that are not two digits stands for itself.
            let Some(high) = rest.next_if(u8::is_ascii_hexdigit) else {
                text.put_u8(b'x');
                return Some(());
            };
            let Some(low) = rest.next_if(u8::is_ascii_hexdigit) else {
                text.put_slice(&[b'x', high]);
                return Some(());
            };
            digit(high) << 4 | digit(low)
        }
        other => other,
    };
    text.put_u8(plain);
    Some(())
}

fn digit(byte: u8) -> u8 {
    let value = char::from(byte).to_digit(16).expect("only hexadecimal digits get here");
    u8::try_from(value).expect("a hexadecimal digit is below 16")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], expected: Option<&[&[u8]]>) {
        let mut marks = Vec::new();
        let text = words(line, &mut marks);
        let found = text
            .as_ref()
            .map(|text| marks.iter().map(|mark| &text[mark.clone()]).collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expected, "{:?}", line.escape_ascii());
    }

    #[test]
    fn a_line_is_parted_into_words() {
        check(b"", Some(&[]));
        check(b"  get\tk \r", Some(&[b"get", b"k"]));
        check(br#"set "a b" 'c d'"#, Some(&[b"set", b"a b", b"c d"]));
        check(br#""\n\r\t\b\a\\\"\x00\xfF\q""#, Some(&[b"\n\r\t\x08\x07\\\"\0\xffq"]));
        check(br#""\xZ \x1Z""#, Some(&[b"xZ x1Z"]));
        check(br"'it\'s \n'", Some(&[br"it's \n"]));
        check(br#"a"b c""#, Some(&[b"ab c"]));
        check(br#"set k """#, Some(&[b"set", b"k", b""]));
    }

    #[test]
    fn quotes_that_do_not_match_are_refused() {
        check(br#"set "a"#, None);
        check(br"set 'a", None);
        check(br#"set "a"b"#, None);
        check(br#"set "a\"#, None);
    }
}
