//! Pages of keys in token order: what `scan` and `export` read.

use std::ffi::OsString;

use clap::Args;

use super::argument;
use super::client::{Client, ReadLevel};
use super::failure::Failure;
use crate::client::{Call, Page};

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

/// The page from `cursor` on, of at most about `limit` keys.
pub(crate) fn page(
    client: &mut Client,
    filter: &Filter,
    level: &ReadLevel,
    content: Content,
    (cursor, limit): (u64, u64),
) -> Result<Page, Failure> {
    let mut call = level.apply(Call::scan(cursor, limit));
    if content == Content::KeysAndValues {
        call = call.json("values", "true");
    }
    call = filter.apply(call)?;
    client.call(&call)?.page().map_err(Failure::unreadable)
}

impl Filter {
    fn apply(&self, call: Call) -> Result<Call, Failure> {
        let decoded = |argument: &Option<OsString>| {
            argument.as_ref().map(|argument| argument::bytes(argument, self.base64)).transpose()
        };
        let (prefix, pattern) = (decoded(&self.prefix)?, decoded(&self.pattern)?);
        let fields = [("prefix", &prefix), ("pattern", &pattern)];
        let given = fields.iter().filter_map(|(name, bytes)| Some((*name, bytes.as_deref()?)));
        Ok(call.bytes(&given.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_binary_filter_puts_both_in_base64() {
        let filter = Filter {
            prefix: Some(OsString::from("/w==")),
            pattern: Some(OsString::from("Kg==")),
            base64: true,
        };
        let line = filter.apply(Call::read("SCAN")).unwrap().line();
        assert_eq!(
            line,
            "{\"cmd\":\"SCAN\",\"encoding\":\"base64\",\"prefix\":\"/w==\",\"pattern\":\"Kg==\"}\n"
        );
        let plain = Filter { pattern: Some(OsString::from("a*")), ..Filter::default() };
        let line = plain.apply(Call::read("SCAN")).unwrap().line();
        assert_eq!(line, "{\"cmd\":\"SCAN\",\"pattern\":\"a*\"}\n");
    }
}
