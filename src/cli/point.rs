//! `get`, `set`, `del` and `mget`: single keys.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;

use super::argument;
use super::client::{Client, ClientFlags, ReadLevel, WriteLevel};
use super::failure::Failure;
use super::output::{Cell, Format, Printer};
use super::request_id::IdFlag;
use super::text;
use crate::client::{Answer, Call};
use crate::limits;

/// Arguments of `get`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage get user:1                        the value, byte by byte
  peerage get photo > photo.jpg             no newline is added where stdout is not a terminal
  peerage get user:1 --siblings -o json     every concurrent value, and the context for `set`
  peerage get user:1 --level all            only if every replica answers

Without --output the value itself is written. A key that is not there is exit code 1.")]
pub(crate) struct Get {
    /// Key to read
    key: OsString,
    /// Show every concurrent value and the context that a write needs to supersede them
    #[arg(long)]
    siblings: bool,
    /// KEY is in base64
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    level: ReadLevel,
    #[command(flatten)]
    client: ClientFlags,
}

/// Arguments of `set`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage set user:1 Ada
  peerage set photo --value-file photo.jpg
  date | peerage set now -                  the value from stdin, with its newline
  peerage set user:1 Ada --context TOKEN    supersede just what that `get --siblings` showed
  peerage set user:1 Bob --context ''       \"I have seen nothing\": becomes a sibling
  peerage set user:1 Ada --level all        durable on every replica before it is acknowledged
  peerage set session token --ttl 30        ends in 30 seconds

Without --context the write supersedes everything that the leader of the key holds.
Exit code 1: not applied. 3: it is not known whether it was applied.")]
pub(crate) struct Set {
    /// Key to write
    key: OsString,
    /// Its new value; - reads stdin
    #[arg(allow_hyphen_values = true, required_unless_present = "value_file")]
    value: Option<OsString>,
    /// Read the value from this file
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    value_file: Option<PathBuf>,
    /// Context token of the read that this write answers
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    context: Option<String>,
    /// Seconds after which the value ends, with at most three decimals [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = argument::seconds)]
    ttl: Option<String>,
    /// KEY and VALUE are in base64
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    id: IdFlag,
    #[command(flatten)]
    level: WriteLevel,
    #[command(flatten)]
    client: ClientFlags,
}

/// Arguments of `del`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage del user:1
  peerage del user:1 user:2 user:3          one after the other; not atomic
  peerage del user:1 --context TOKEN        remove just what that `get --siblings` showed

Deleting a key that is not there is no failure.
Exit code 1: the key named in the message was not deleted, those before it were.")]
pub(crate) struct Del {
    /// Keys to delete
    #[arg(required = true)]
    keys: Vec<OsString>,
    /// Context token of the read that this delete answers
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    context: Option<String>,
    /// Keys are in base64
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    id: IdFlag,
    #[command(flatten)]
    level: WriteLevel,
    #[command(flatten)]
    client: ClientFlags,
}

/// Arguments of `mget`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage mget user:1 user:2
  peerage mget user:1 user:2 -o csv

Each key is read by itself: there is no common moment at which all values held.
Keys that are not there have no value (null in JSON); that is no failure.")]
pub(crate) struct Mget {
    /// Keys to read
    #[arg(required = true)]
    keys: Vec<OsString>,
    /// Keys are in base64
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    level: ReadLevel,
    #[command(flatten)]
    client: ClientFlags,
}

impl Get {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let key = argument::bytes(&self.key, self.base64)?;
        let call = if self.siblings { Call::siblings(&key) } else { Call::get(&key) };
        let answer = self.client.client()?.call(&self.level.apply(call))?;
        if self.siblings { self.show_siblings(&key, &answer) } else { self.show(key, &answer) }
    }

    fn show(&self, key: Vec<u8>, answer: &Answer) -> Result<(), Failure> {
        let Some(value) = answer.bytes("value").map_err(Failure::unreadable)? else {
            return Err(not_found(&key));
        };
        let siblings = answer.number("siblings").unwrap_or(1);
        let Some(format) = self.client.output else {
            write_value(&value)?;
            if siblings > 1 {
                eprintln!("peerage: one of {siblings} concurrent values; see `get --siblings`");
            }
            return Ok(());
        };
        let mut printer = Printer::new(format, &["key", "value", "siblings"], io::stdout().lock());
        let row = [Cell::Bytes(key), Cell::Bytes(value), Cell::Number(siblings)];
        printer.row(&row).and_then(|()| printer.end()).map_err(Failure::output)?;
        Ok(())
    }

    fn show_siblings(&self, key: &[u8], answer: &Answer) -> Result<(), Failure> {
        let values = answer.values().map_err(Failure::unreadable)?;
        let context = answer.text("context").unwrap_or_default();
        let absent = values.is_empty();
        let format = self.client.format();
        let mut printer =
            Printer::new(format, &["key", "sibling", "value", "context"], io::stdout().lock());
        for (number, value) in (1..).zip(values) {
            let row = [
                Cell::Bytes(key.to_vec()),
                Cell::Number(number),
                Cell::Bytes(value),
                Cell::Text(context.clone()),
            ];
            printer.row(&row).map_err(Failure::output)?;
        }
        printer.end().map_err(Failure::output)?;
        if absent {
            let text = text::printable_cut(key, 60);
            let words = format!("{text}: key not found; what is known of it has context {context}");
            return Err(Failure::Failed(words));
        }
        Ok(())
    }
}

impl Set {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let key = argument::bytes(&self.key, self.base64)?;
        let value = argument::value(self.value.as_ref(), self.value_file.as_ref(), self.base64)?;
        let call = with_context(Call::set(&key, &value), self.context.as_deref());
        let call = self.ttl.iter().fold(call, |call, seconds| call.json("ttl", seconds));
        let call = self.id.apply(call)?;
        let answer = self.client.client()?.call(&self.level.apply(call))?;
        show_written(&[(key, "stored", answer)], self.client.output)
    }
}

impl Del {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut client = self.client.client()?;
        let mut written = Vec::with_capacity(self.keys.len());
        let mut ended = Ok(());
        for key in &self.keys {
            let key = argument::bytes(key, self.base64)?;
            let call = with_context(Call::delete(&key), self.context.as_deref());
            let call = self.id.apply(call)?;
            match client.call(&self.level.apply(call)) {
                Ok(answer) => {
                    let done = if answer.claim("deleted") { "deleted" } else { "was not there" };
                    written.push((key, done, answer));
                }
                Err(failure) => {
                    ended = Err(about(&key, failure));
                    break;
                }
            }
        }
        show_written(&written, self.client.output)?;
        ended
    }
}

impl Mget {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut client = self.client.client()?;
        let keys = self.keys.iter().map(|key| argument::bytes(key, self.base64));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut printer =
            Printer::new(self.client.format(), &["key", "value"], io::stdout().lock());
        for chunk in keys.chunks(limits::PAGE_KEYS_MAX) {
            for (key, value) in chunk.iter().zip(read_many(&mut client, chunk, &self.level)?) {
                let value = value.map_or(Cell::Nothing, Cell::Bytes);
                printer.row(&[Cell::Bytes(key.clone()), value]).map_err(Failure::output)?;
            }
        }
        printer.end().map_err(Failure::output)?;
        Ok(())
    }
}

/// The values of `keys`, in their order.
fn read_many(
    client: &mut Client,
    keys: &[Vec<u8>],
    level: &ReadLevel,
) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    let answer = client.call(&level.apply(Call::mget(keys)))?;
    let values = answer.optional_values().map_err(Failure::unreadable)?;
    if values.len() != keys.len() {
        return Err(Failure::Failed(format!(
            "the node answered {} values for {} keys",
            values.len(),
            keys.len()
        )));
    }
    Ok(values)
}

fn with_context(call: Call, context: Option<&str>) -> Call {
    match context {
        Some(context) => call.text("context", context),
        None => call,
    }
}

/// What writes did: a sentence each, or rows where a format was asked for.
fn show_written(
    written: &[(Vec<u8>, &str, Answer)],
    format: Option<Format>,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let Some(format) = format else {
        for (key, done, answer) in written {
            let durable = answer.acks().map_or_else(String::new, |acks| {
                format!(", durable on {acks} {}", if acks == 1 { "node" } else { "nodes" })
            });
            writeln!(out, "{} {done}{durable}", text::printable_cut(key, 60))
                .map_err(Failure::output)?;
        }
        return Ok(());
    };
    let mut printer = Printer::new(format, &["key", "result", "acks", "context"], out);
    for (key, done, answer) in written {
        let row = [
            Cell::Bytes(key.clone()),
            Cell::Text((*done).to_owned()),
            answer.acks().map_or(Cell::Nothing, Cell::Number),
            answer.text("context").map_or(Cell::Nothing, Cell::Text),
        ];
        printer.row(&row).map_err(Failure::output)?;
    }
    printer.end().map_err(Failure::output)?;
    Ok(())
}

/// The value itself: byte by byte into a file or pipe, escaped and with a newline on a terminal.
fn write_value(value: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = if io::stdout().is_terminal() {
        writeln!(out, "{}", text::printable_lines(value))
    } else {
        out.write_all(value)
    };
    written.and_then(|()| out.flush()).map_err(Failure::output)
}

fn not_found(key: &[u8]) -> Failure {
    Failure::Failed(format!("{}: key not found", text::printable_cut(key, 60)))
}

fn about(key: &[u8], failure: Failure) -> Failure {
    let name = text::printable_cut(key, 60);
    match failure {
        Failure::Failed(words) => Failure::Failed(format!("{name}: {words}")),
        Failure::Usage(words) => Failure::Usage(format!("{name}: {words}")),
        Failure::Unknown(words) => Failure::Unknown(format!("{name}: {words}")),
        Failure::OutputClosed => Failure::OutputClosed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_key_and_keeps_its_exit_code() {
        let failure = about(b"k\0", Failure::Unknown(String::from("lost")));
        assert_eq!(failure.code(), 3);
        assert_eq!(failure.to_string(), "k\\u{0}: lost");
    }
}
