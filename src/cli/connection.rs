//! One connection to one node, speaking newline-JSON: a line for a request, a line for a reply.
//!
//! Replies are kept as the text they came as, so no value and no number is changed by reading it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::value::RawValue;

use super::text;
use crate::limits;

/// Longest wait for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest reply that is read, in bytes: a key at its limit of siblings, every byte of each escaped
/// as six, and room for the rest. A longer one is not from a node of this version.
const REPLY_BYTES_MAX: usize = 8 * limits::VALUE_BYTES_CEILING;
/// Bytes read from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// A request as the text of its fields; [`Call::line`] is what goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    text: String,
}

/// A connection that has answered everything it was asked, or is closed.
#[derive(Debug)]
pub(crate) struct Connection {
    addr: String,
    reader: BufReader<TcpStream>,
}

/// The fields of a JSON object, each as the text it came as.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Answer(BTreeMap<String, Box<RawValue>>);

impl Call {
    /// A request for `command`.
    pub(crate) fn new(command: &str) -> Self {
        Self { text: format!("{{\"cmd\":\"{command}\"") }
    }

    /// A field whose value is this text.
    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.json(name, &text::json_string(value))
    }

    /// A field whose value is this number.
    pub(crate) fn number(self, name: &str, value: u64) -> Self {
        self.json(name, &value.to_string())
    }

    /// A field whose value is this JSON text, which must be one line.
    pub(crate) fn json(mut self, name: &str, value: &str) -> Self {
        debug_assert!(!value.contains('\n'), "a request is one line");
        write!(self.text, ",\"{name}\":{value}").expect("a string takes any text");
        self
    }

    /// The request as it is sent, with its newline.
    pub(crate) fn line(&self) -> String {
        format!("{}}}\n", self.text)
    }
}

impl Connection {
    /// Connects to `addr` (HOST:PORT); a reply that takes longer than `patience` is an error.
    pub(crate) fn open(addr: &str, patience: Duration) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for target in addr.to_socket_addrs()? {
            match TcpStream::connect_timeout(&target, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(patience))?;
                    stream.set_write_timeout(Some(patience))?;
                    let reader = BufReader::with_capacity(READ_BYTES, stream);
                    return Ok(Self { addr: addr.to_owned(), reader });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The node at the other end.
    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    /// Sends requests without waiting for their replies.
    pub(crate) fn send(&mut self, lines: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(lines)
    }

    /// The next reply.
    pub(crate) fn receive(&mut self) -> io::Result<Answer> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let mut line = Vec::new();
        let bound = u64::try_from(REPLY_BYTES_MAX).expect("the bound fits 64 bits");
        self.reader.by_ref().take(bound).read_until(b'\n', &mut line)?;
        match line.last() {
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node closed it")),
            Some(b'\n') => serde_json::from_slice(&line).map_err(|error| {
                invalid(format!(
                    "that is not a reply of a Peerage node ({error}): {}",
                    text::printable_cut(line.trim_ascii_end(), 60)
                ))
            }),
            Some(_) if line.len() == REPLY_BYTES_MAX => {
                Err(invalid(format!("the reply is longer than {REPLY_BYTES_MAX} bytes")))
            }
            Some(_) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the node closed it in the middle of a reply",
            )),
        }
    }
}

impl Answer {
    /// The object as compact JSON, every value as it came, its fields in the order of their names.
    pub(crate) fn to_json(&self) -> String {
        let fields = self
            .0
            .iter()
            .map(|(name, raw)| format!("{}:{}", text::json_string(name), text::compact(raw.get())));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }

    /// Whether the request was done.
    pub(crate) fn is_ok(&self) -> bool {
        self.claim("ok")
    }

    /// Whether the field is `true`.
    pub(crate) fn claim(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|raw| raw.get() == "true")
    }

    /// The field as it came; `null` counts as missing.
    pub(crate) fn raw(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(AsRef::as_ref).filter(|raw| raw.get() != "null")
    }

    /// The field, where it is a string.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The field, where it is a whole number of 64 bits, also one written as a string.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let raw = self.raw(name)?.get();
        raw.trim_matches('"').parse().ok()
    }

    /// The elements of the field, where it is an array.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<Box<RawValue>>> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The key or value in the field, decoded if this object says that it is in base64.
    pub(crate) fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        self.raw(name).map(|raw| self.decoded(raw)).transpose()
    }

    /// A key or value of this object, decoded if the object says that it is in base64.
    pub(crate) fn decoded(&self, raw: &RawValue) -> Result<Vec<u8>, String> {
        let bytes = text::bytes_of(raw)?.unwrap_or_default();
        if self.text("encoding").as_deref() != Some("base64") {
            return Ok(bytes);
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
        text::from_base64(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_call_is_one_line_of_json_whatever_its_bytes() {
        let call = Call::new("SET").text("key", "a\n\"b\"").number("w", 2).json("siblings", "true");
        let line = "{\"cmd\":\"SET\",\"key\":\"a\\n\\\"b\\\"\",\"w\":2,\"siblings\":true}\n";
        assert_eq!(call.line(), line);
    }

    #[test]
    fn numbers_are_read_beyond_the_reach_of_floats() {
        let answer =
            answer(r#"{"ok":true,"next":18446744073709551615,"cursor":"9007199254740993"}"#);
        assert!(answer.is_ok());
        assert_eq!(answer.number("next"), Some(u64::MAX));
        assert_eq!(answer.number("cursor"), Some(9_007_199_254_740_993));
        assert_eq!(answer.number("ok"), None);
    }

    #[test]
    fn values_are_decoded_as_their_object_says() {
        let plain = answer(r#"{"key":"YQ==","value":{"n": 1.0},"none":null}"#);
        assert_eq!(plain.bytes("key").unwrap().unwrap(), b"YQ==");
        assert_eq!(plain.bytes("value").unwrap().unwrap(), b"{\"n\":1.0}");
        assert_eq!(plain.bytes("none"), Ok(None));
        let binary = answer(r#"{"key":"YQ==","value":"/w==","encoding":"base64"}"#);
        assert_eq!(binary.bytes("key").unwrap().unwrap(), b"a");
        assert_eq!(binary.bytes("value").unwrap().unwrap(), b"\xff");
        assert!(answer(r#"{"value":"?","encoding":"base64"}"#).bytes("value").is_err());
    }
}
