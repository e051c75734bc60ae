//! RESP2 for the loops: what GET, SET and MSET need of it, of Peerage and of Redis alike.

use super::{Operation, Outcome, Wire};

/// One connection of RESP2.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resp;

impl Wire for Resp {
    fn put(&mut self, operation: &Operation<'_>, out: &mut Vec<u8>) {
        match operation {
            Operation::Get { key } => put_command(&["GET", key], out),
            Operation::Set { key, value } => put_command(&["SET", key, value], out),
            Operation::Bulk { keys, value } => {
                let pairs = keys.iter().flat_map(|key| [&key[..], *value]);
                let words: Vec<&str> = std::iter::once("MSET").chain(pairs).collect();
                put_command(&words, out);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Option<(usize, Outcome)>, String> {
        let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let (kind, rest) = (bytes[0], &bytes[1..end]);
        let words = || String::from_utf8_lossy(rest).into_owned();
        match kind {
            b'+' | b':' => Ok(Some((end + 2, Outcome::Done))),
            b'-' => Ok(Some((end + 2, Outcome::Failed(words())))),
            b'$' if rest == b"-1" => Ok(Some((end + 2, Outcome::Absent))),
            b'$' => {
                let length: usize = words()
                    .parse()
                    .map_err(|error| format!("no length of a reply: {} ({error})", words()))?;
                let whole = end + 2 + length + 2;
                Ok((bytes.len() >= whole).then_some((whole, Outcome::Done)))
            }
            _ => Err(format!("no reply in RESP: {}", bytes[..end].escape_ascii())),
        }
    }
}

fn put_command(words: &[&str], out: &mut Vec<u8>) {
    put_length(b'*', words.len(), out);
    for word in words {
        put_length(b'$', word.len(), out);
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn put_length(kind: u8, length: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(length.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_arrays_of_words() {
        let mut out = Vec::new();
        Resp.put(&Operation::Bulk { keys: &["a".into(), "b".into()], value: "v" }, &mut out);
        assert_eq!(out, b"*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\nv\r\n$1\r\nb\r\n$1\r\nv\r\n");
    }

    #[test]
    fn replies_are_told_apart_and_waited_for_to_their_end() {
        let take = |text: &str| Resp.take(text.as_bytes()).unwrap();
        assert_eq!(take("+O"), None);
        assert_eq!(take("+OK\r\n+OK"), Some((5, Outcome::Done)));
        assert_eq!(take("$-1\r\n"), Some((5, Outcome::Absent)));
        assert_eq!(take("$3\r\nab"), None);
        assert_eq!(take("$3\r\na\r\n\r"), None);
        assert_eq!(take("$3\r\na\r\n\r\n"), Some((9, Outcome::Done)));
        let failed = Outcome::Failed(String::from("ERR no"));
        assert_eq!(take("-ERR no\r\n"), Some((9, failed)));
        assert!(Resp.take(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
