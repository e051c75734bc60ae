//! A key and its value as a JSON line: what `import` and `bulk` read and `export` writes.
//!
//! A store holds bytes, and JSON has types. There are two ways across, and both lose nothing:
//!
//! * text (the default): a string is its characters, any other value its compact JSON text; every
//!   value is written back as a string. Whatever is exported so imports to the same bytes.
//! * JSON (`--json-values` on both sides): every value is its compact JSON text, strings with their
//!   quotes; it is written back as it is. Whatever is imported so exports to the same lines, where
//!   the lines are compact, hold `key` and then `value`, and spell characters as `export` does.
//!
//! Bytes that are not UTF-8 are in base64 on both sides, in a line with `"encoding":"base64"`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::failure::Failure;
use super::text;
pub(crate) use crate::client::Record;
use crate::limits;

/// Longest line that is read: a value at the highest limit of any node, each byte escaped as six.
const LINE_BYTES_MAX: usize = 6 * limits::VALUE_BYTES_CEILING + 64 * 1024;
const READ_BYTES: usize = 256 * 1024;

/// How JSON values become bytes and come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Strings are their characters; values are written back as strings.
    Text,
    /// Every value is its compact JSON text, and is written back as it is.
    Json,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default, deserialize_with = "as_written")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "as_written")]
    value: Option<&'a RawValue>,
    #[serde(default)]
    encoding: Option<String>,
}

impl Values {
    /// What `--json-values` chooses.
    pub(crate) fn from_flag(json_values: bool) -> Self {
        if json_values { Self::Json } else { Self::Text }
    }
}

impl Record {
    /// The record of a line, or what is wrong with the line.
    pub(crate) fn parse(line: &str, values: Values) -> Result<Self, String> {
        let wrong = |why| format!("it is not a JSON object with key and value{why}");
        if !line.trim_start().starts_with('{') {
            return Err(wrong(String::new()));
        }
        let line: Line<'_> =
            serde_json::from_str(line).map_err(|error| wrong(format!(" ({error})")))?;
        let base64 = match line.encoding.as_deref() {
            None => false,
            Some("base64") => true,
            Some(other) => return Err(format!("{other:?} is no encoding; only base64 is")),
        };
        let key = present(line.key).ok_or("it has no key")?;
        let value = match values {
            Values::Text => present(line.value),
            Values::Json => line.value,
        };
        let value = value.ok_or("it has no value")?;
        let (key, value) = (
            field(key, base64)?,
            match values {
                Values::Json if !base64 => text::compact(value.get()).into_bytes(),
                Values::Json | Values::Text => field(value, base64)?,
            },
        );
        if key.len() > limits::KEY_BYTES_MAX {
            let max = limits::KEY_BYTES_MAX;
            return Err(format!("its key has {} bytes, the limit is {max}", key.len()));
        }
        Ok(Self { key, value })
    }

    /// The record as a line without its newline, or why it has none.
    pub(crate) fn line(&self, values: Values) -> Result<String, String> {
        let (key, value) = (std::str::from_utf8(&self.key), std::str::from_utf8(&self.value));
        let (Ok(key), Ok(value)) = (key, value) else {
            return Ok(format!(
                "{{\"key\":\"{}\",\"value\":\"{}\",\"encoding\":\"base64\"}}",
                text::base64(&self.key),
                text::base64(&self.value)
            ));
        };
        let value = match values {
            Values::Text => text::json_string(value),
            Values::Json => {
                let raw: Result<&RawValue, _> = serde_json::from_str(value);
                let raw = raw.map_err(|error| {
                    let key = text::printable_cut(self.key.as_slice(), 60);
                    format!("the value of {key} is not JSON ({error})")
                })?;
                text::compact(raw.get())
            }
        };
        Ok(format!("{{\"key\":{},\"value\":{value}}}", text::json_string(key)))
    }
}

/// A field that is there, also where it is `null`.
fn as_written<'de, D: Deserializer<'de>>(source: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(source).map(Some)
}

fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

fn field(raw: &RawValue, base64: bool) -> Result<Vec<u8>, String> {
    let bytes = text::bytes_of(raw)?.unwrap_or_default();
    if !base64 {
        return Ok(bytes);
    }
    text::from_base64(&String::from_utf8_lossy(&bytes))
}

/// A file to read lines from; `-` is stdin.
pub(crate) fn open(file: &str) -> Result<Box<dyn BufRead + Send>, Failure> {
    if file == "-" {
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, io::stdin())));
    }
    let opened =
        File::open(file).map_err(|error| Failure::Usage(format!("cannot open {file}: {error}")))?;
    Ok(Box::new(BufReader::with_capacity(READ_BYTES, opened)))
}

/// The next line that is not blank, without its line end, or what is wrong with it; `None` at the
/// end. `number` counts lines from 1, the blank ones too.
pub(crate) fn next_line(
    source: &mut impl BufRead,
    number: &mut u64,
) -> Result<Option<Result<String, String>>, Failure> {
    let bound = u64::try_from(LINE_BYTES_MAX).expect("the bound fits 64 bits");
    loop {
        let mut line = Vec::new();
        *number += 1;
        let failed = |error| Failure::Failed(format!("cannot read line {number}: {error}"));
        source.by_ref().take(bound).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            source.skip_until(b'\n').map_err(failed)?;
            return Ok(Some(Err(format!("it is longer than {LINE_BYTES_MAX} bytes"))));
        }
        if !line.trim_ascii().is_empty() {
            let text =
                String::from_utf8(line).map_err(|error| format!("it is not UTF-8 ({error})"));
            return Ok(Some(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &[u8], value: &[u8]) -> Record {
        Record { key: key.to_vec(), value: value.to_vec() }
    }

    #[test]
    fn a_line_of_json_values_comes_back_byte_by_byte() {
        for line in [
            r#"{"key":"bash","value":{"Package":"bash","Installed-Size":7164,"f":1.50e+07}}"#,
            r#"{"key":"s","value":"a string, with \"quotes\" and \n"}"#,
            r#"{"key":"n","value":12345678901234567890123.10}"#,
            r#"{"key":"null","value":null}"#,
            r#"{"key":"","value":[true,[],{}," two  blanks "]}"#,
            "{\"key\":\"\u{e9}\",\"value\":\"\u{1f980}\"}",
        ] {
            let record = Record::parse(line, Values::Json).unwrap();
            assert_eq!(record.line(Values::Json).unwrap(), line);
        }
    }

    #[test]
    fn bytes_come_back_through_text_whatever_they_are() {
        for (key, value) in [
            (&b"k"[..], &b"text"[..]),
            (b"", b""),
            (b"\0", b"{\"not\": \"touched\" }"),
            (b"k", b"null"),
            (b"\xff\x00", b"text"),
            (b"k", b"\xc3\x28"),
        ] {
            let before = record(key, value);
            let line = before.line(Values::Text).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(Record::parse(&line, Values::Text).unwrap(), before, "{line}");
        }
    }

    #[test]
    fn text_takes_other_types_as_their_compact_text() {
        let parsed = Record::parse(r#" { "value" : { "a" : 1.0 } , "key" : 5 } "#, Values::Text);
        assert_eq!(parsed, Ok(record(b"5", b"{\"a\":1.0}")));
    }

    #[test]
    fn a_value_that_is_not_json_cannot_be_exported_as_json() {
        let why = record(b"k", b"plain words").line(Values::Json).unwrap_err();
        assert!(why.starts_with("the value of k is not JSON"), "{why}");
        let binary = record(b"k", b"\xff").line(Values::Json).unwrap();
        assert_eq!(binary, r#"{"key":"aw==","value":"/w==","encoding":"base64"}"#);
        assert_eq!(Record::parse(&binary, Values::Json), Ok(record(b"k", b"\xff")));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let check = |line: &str, expected: &str| {
            let why = Record::parse(line, Values::Text).unwrap_err();
            assert!(why.starts_with(expected), "{line}: {why}");
        };
        check("[\"k\",\"v\"]", "it is not a JSON object");
        check("{\"key\":1", "it is not a JSON object");
        check("{\"value\":1}", "it has no key");
        check("{\"key\":null,\"value\":1}", "it has no key");
        check("{\"key\":\"k\"}", "it has no value");
        check("{\"key\":\"k\",\"value\":null}", "it has no value");
        check("{\"key\":\"k\",\"value\":\"v\",\"encoding\":\"hex\"}", "\"hex\" is no encoding");
        check("{\"key\":\"k\",\"value\":\"?\",\"encoding\":\"base64\"}", "not base64");
        let long = format!("{{\"key\":\"{}\",\"value\":1}}", "k".repeat(limits::KEY_BYTES_MAX + 1));
        check(&long, "its key has 4097 bytes");
    }

    #[test]
    fn lines_are_counted_with_the_blank_ones_and_a_bad_one_stops_nobody() {
        let mut source = &b"a\n\n  \r\n\xff\nlast"[..];
        let mut number = 0;
        let mut next = || next_line(&mut source, &mut number).unwrap();
        assert_eq!(next(), Some(Ok(String::from("a\n"))));
        assert!(next().unwrap().unwrap_err().starts_with("it is not UTF-8"));
        assert_eq!(next(), Some(Ok(String::from("last"))));
        assert_eq!(next(), None);
        assert_eq!(number, 6);
    }
}
