//! Pages of keys in token order: what `scan` and `export` read.

use std::ffi::OsString;

use clap::Args;

use super::argument;
use super::client::{Client, Kind, ReadLevel};
use super::connection::{Answer, Call};
use super::failure::Failure;
use super::record::Record;
use super::text;

/// Which keys to show.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only keys that begin with this
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<OsString>,
    #[arg(
        long = "match",
        value_name = "GLOB",
        help = r"Only keys that match this glob: * ? [abc] [a-z] [^a] and \ before any of them"
    )]
    pattern: Option<OsString>,
    /// PREFIX and GLOB are in base64
    #[arg(long)]
    base64: bool,
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Keys,
    KeysAndValues,
}

/// A page, and where the next one begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Keys with their values; without values these are empty.
    pub(crate) records: Vec<Record>,
    /// `None`: the ring is done.
    pub(crate) next: Option<u64>,
}

/// The page from `cursor` on, of at most about `limit` keys.
pub(crate) fn page(
    client: &mut Client,
    filter: &Filter,
    level: &ReadLevel,
    content: Content,
    (cursor, limit): (u64, u64),
) -> Result<Page, Failure> {
    let mut call = level.apply(Call::new("SCAN")).text("cursor", &cursor.to_string());
    call = call.number("limit", limit);
    if content == Content::KeysAndValues {
        call = call.json("values", "true");
    }
    call = filter.apply(call)?;
    read(&client.call(call, Kind::Read)?, content).map_err(Failure::unreadable)
}

impl Filter {
    fn apply(&self, call: Call) -> Result<Call, Failure> {
        let decoded = |argument: &Option<OsString>| {
            argument.as_ref().map(|argument| argument::bytes(argument, self.base64)).transpose()
        };
        let (prefix, pattern) = (decoded(&self.prefix)?, decoded(&self.pattern)?);
        let fields = [("prefix", prefix), ("pattern", pattern)];
        let is_text = |bytes: &Vec<u8>| std::str::from_utf8(bytes).is_ok();
        let plain = fields.iter().filter_map(|(_, bytes)| bytes.as_ref()).all(is_text);
        let mut call = if plain { call } else { call.text("encoding", "base64") };
        for (name, bytes) in fields {
            let Some(bytes) = bytes else { continue };
            call = match String::from_utf8(bytes) {
                Ok(words) if plain => call.text(name, &words),
                Ok(words) => call.text(name, &text::base64(words.as_bytes())),
                Err(binary) => call.text(name, &text::base64(binary.as_bytes())),
            };
        }
        Ok(call)
    }
}

fn read(answer: &Answer, content: Content) -> Result<Page, String> {
    let name = match content {
        Content::Keys => "keys",
        Content::KeysAndValues => "items",
    };
    let items = answer.list(name).ok_or_else(|| format!("it has no {name}"))?;
    let mut records = Vec::with_capacity(items.len());
    for raw in &items {
        records.push(match content {
            Content::Keys => Record { key: answer.decoded(raw)?, value: Vec::new() },
            Content::KeysAndValues => {
                let item: Answer = serde_json::from_str(raw.get()).map_err(|e| e.to_string())?;
                let field = |name: &str| {
                    let raw = item.raw(name).ok_or_else(|| format!("an item has no {name}"))?;
                    answer.decoded(raw)
                };
                Record { key: field("key")?, value: field("value")? }
            }
        });
    }
    let next = answer.number("cursor").ok_or("it has no cursor")?;
    Ok(Page { records, next: (next != 0).then_some(next) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_page_is_decoded_as_it_says_and_its_cursor_has_64_bits() {
        let page = read(
            &answer(
                r#"{"ok":true,"items":[{"key":"YQ==","value":"/w=="},{"key":"","value":""}],
                    "cursor":"18446744073709551615","encoding":"base64"}"#,
            ),
            Content::KeysAndValues,
        );
        let record = |key: &[u8], value: &[u8]| Record { key: key.into(), value: value.into() };
        let records = vec![record(b"a", b"\xff"), record(b"", b"")];
        assert_eq!(page, Ok(Page { records, next: Some(u64::MAX) }));
    }

    #[test]
    fn cursor_zero_is_the_end() {
        let page = read(&answer(r#"{"ok":true,"keys":["k"],"cursor":"0"}"#), Content::Keys);
        assert_eq!(page.unwrap().next, None);
        assert!(read(&answer(r#"{"ok":true,"keys":[]}"#), Content::Keys).is_err());
    }

    #[test]
    fn one_binary_filter_puts_both_in_base64() {
        let filter = Filter {
            prefix: Some(OsString::from("/w==")),
            pattern: Some(OsString::from("Kg==")),
            base64: true,
        };
        let line = filter.apply(Call::new("SCAN")).unwrap().line();
        assert_eq!(
            line,
            "{\"cmd\":\"SCAN\",\"encoding\":\"base64\",\"prefix\":\"/w==\",\"pattern\":\"Kg==\"}\n"
        );
        let plain = Filter { pattern: Some(OsString::from("a*")), ..Filter::default() };
        let line = plain.apply(Call::new("SCAN")).unwrap().line();
        assert_eq!(line, "{\"cmd\":\"SCAN\",\"pattern\":\"a*\"}\n");
    }
}
