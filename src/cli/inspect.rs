//! `status`, `ring`, `explain` and `conflicts`: what the cluster is and what it holds.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use serde_json::value::RawValue;

use super::argument;
use super::client::ClientFlags;
use super::failure::Failure;
use super::output::{Cell, Format, Printer};
use super::text;
use crate::client::{Answer, Call};

/// Arguments of `status`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage status
  peerage status --addr 127.0.0.1:6381 -o json   the reply of that node as it is

Shown is what the asked node believes; ask another one to compare. A member without partitions
joined after the birth of the cluster: it answers for every key and stores none itself.")]
pub(crate) struct Status {
    #[command(flatten)]
    client: ClientFlags,
}

/// Arguments of `ring`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage ring                 each arc of the ring with its owners, the most preferred first
  peerage ring -o json         the same with the number of partitions of each node

An arc is a run of neighbouring partitions with the same owners. Slots are those of Redis
Cluster.")]
pub(crate) struct Ring {
    #[command(flatten)]
    client: ClientFlags,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage explain user:1
  peerage explain user:1 -o json

Shows the slot, token and partition of a key, its owners in order of preference, and what each of
them holds: the events (actor:number) of its versions, the newest first. All replicas of a key
that nobody writes to show the same after a moment; a read mends those that differ.")]
pub(crate) struct Explain {
    /// Key to look at; it need not exist
    key: OsString,
    /// KEY is in base64
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    client: ClientFlags,
}

/// Arguments of `conflicts`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage conflicts
  peerage conflicts -o jsonl | jq .key

Lists the keys that hold several values because their writers did not know of one another. The
first value of a key is the one that a plain read shows. To resolve one, read it with
`peerage get KEY --siblings` and write it with `peerage set KEY VALUE --context TOKEN`.")]
pub(crate) struct Conflicts {
    /// Keys to show at most
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Where to begin: the cursor that a list before ended with
    #[arg(long, default_value_t = 0)]
    cursor: u64,
    #[command(flatten)]
    client: ClientFlags,
}

impl Status {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let answer = self.client.client()?.call(&Call::read("STATUS"))?;
        let mut out = io::stdout().lock();
        show_status(&answer, self.client.format(), &mut out)
    }
}

/// The reply to STATUS: for people a head, a table of members and the notes.
pub(crate) fn show_status(
    answer: &Answer,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if format == Format::Json {
        return write_reply(answer, out);
    }
    let words = |name: &str| answer.text(name).unwrap_or_default();
    let number = |name: &str| answer.number(name).unwrap_or_default();
    if format == Format::Table {
        let head = match words("phase").as_str() {
            "member" => format!(
                "{} is a member of cluster {}\nlayout {}: {} partitions, {} copies of each key",
                words("node"),
                words("cluster"),
                number("epoch"),
                number("partitions"),
                number("replicas")
            ),
            phase => format!("{} is {phase}: {}", words("node"), words("detail")),
        };
        writeln!(out, "{head}\n").map_err(Failure::output)?;
    }
    let columns = &["name", "state", "partitions", "client_addr", "cluster_addr", "id", "me"];
    let mut printer = Printer::new(format, columns, &mut *out);
    let mut members = objects(answer.list("members"))?;
    members.sort_by_cached_key(|member| member.text("name"));
    for member in members {
        let words = |name: &str| Cell::Text(member.text(name).unwrap_or_default());
        let state = if member.claim("reachable") { "reachable" } else { "unreachable" };
        let row = [
            words("name"),
            Cell::Text(String::from(state)),
            Cell::Number(member.number("partitions").unwrap_or_default()),
            words("client_addr"),
            words("cluster_addr"),
            words("id"),
            Cell::Bool(member.claim("me")),
        ];
        printer.row(&row).map_err(Failure::output)?;
    }
    printer.end().map_err(Failure::output)?;
    if format == Format::Table {
        for note in answer.list("notes").unwrap_or_default() {
            let note: String = serde_json::from_str(note.get()).unwrap_or_default();
            writeln!(out, "\nnote: {note}").map_err(Failure::output)?;
        }
    }
    Ok(())
}

impl Ring {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let answer = self.client.client()?.call(&Call::read("RING"))?;
        let format = self.client.format();
        let mut out = io::stdout().lock();
        if format == Format::Json {
            return write_reply(&answer, &mut out);
        }
        let mut printer = Printer::new(format, &["partitions", "slots", "owners"], out);
        for arc in objects(answer.list("arcs"))? {
            let owners = texts(&arc, "owners").join(" ");
            let row = [
                Cell::Text(span(&arc, "partitions")),
                Cell::Text(span(&arc, "slots")),
                Cell::Text(owners),
            ];
            printer.row(&row).map_err(Failure::output)?;
        }
        let arcs = printer.end().map_err(Failure::output)?;
        if arcs == 0 {
            return Err(Failure::Failed(String::from(
                "there is no ring yet: the node belongs to no cluster; `peerage status` shows what \
                 it waits for",
            )));
        }
        Ok(())
    }
}

impl Explain {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let key = argument::bytes(&self.key, self.base64)?;
        let call = Call::read("EXPLAIN").bytes(&[("key", &key)]);
        let answer = self.client.client()?.call(&call)?;
        let mut out = io::stdout().lock();
        show_explained(&key, &answer, self.client.format(), &mut out)
    }
}

fn show_explained(
    key: &[u8],
    answer: &Answer,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if format == Format::Json {
        return write_reply(answer, out);
    }
    let number = |name: &str| answer.number(name).unwrap_or_default();
    if format == Format::Table {
        writeln!(
            out,
            "{}: slot {}, token {}, partition {}, layout {}\n",
            text::printable_cut(key, 60),
            number("slot"),
            number("token"),
            number("partition"),
            number("epoch")
        )
        .map_err(Failure::output)?;
    }
    let columns = &["replica", "state", "version", "bytes", "written_ms", "clock"];
    let mut printer = Printer::new(format, columns, out);
    for replica in objects(answer.list("replicas"))? {
        let name = Cell::Text(replica.text("name").unwrap_or_default());
        let state = replica.text("state").unwrap_or_default();
        let state = Cell::Text(state.replace('_', " "));
        let clock = replica.raw("vclock").map_or(Cell::Nothing, |raw| Cell::Json(raw.get().into()));
        let versions = objects(replica.list("versions"))?;
        if versions.is_empty() {
            let row = [name, state, Cell::Nothing, Cell::Nothing, Cell::Nothing, clock];
            printer.row(&row).map_err(Failure::output)?;
            continue;
        }
        for version in versions {
            let row = [
                name.clone(),
                state.clone(),
                Cell::Text(version.text("dot").unwrap_or_default()),
                version.number("bytes").map_or(Cell::Nothing, Cell::Number),
                version.number("written_ms").map_or(Cell::Nothing, Cell::Time),
                clock.clone(),
            ];
            printer.row(&row).map_err(Failure::output)?;
        }
    }
    printer.end().map_err(Failure::output)?;
    Ok(())
}

impl Conflicts {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut client = self.client.client()?;
        let columns = &["key", "shown", "value", "version", "written_ms"];
        let mut printer = Printer::new(self.client.format(), columns, io::stdout().lock());
        let (mut cursor, mut left) = (self.cursor, self.limit);
        let next = loop {
            let call = Call::read("CONFLICTS").text("cursor", &cursor.to_string());
            let answer = client.call(&call.number("limit", left.min(1_000)))?;
            let found = objects(answer.list("conflicts"))?;
            left = left.saturating_sub(found.len() as u64);
            for conflict in &found {
                for row in conflict_rows(&answer, conflict)? {
                    printer.row(&row).map_err(Failure::output)?;
                }
            }
            match answer.number("cursor").filter(|next| *next != 0) {
                Some(next) if left > 0 => cursor = next,
                next => break next,
            }
        };
        let rows = printer.end().map_err(Failure::output)?;
        if let Some(next) = next {
            eprintln!("peerage: there may be more from --cursor {next}");
        } else if rows == 0 {
            eprintln!("peerage: no key holds more than one value");
        }
        Ok(())
    }
}

/// A row for each value of a key; the first is the one that a plain read shows.
fn conflict_rows(answer: &Answer, conflict: &Answer) -> Result<Vec<[Cell; 5]>, Failure> {
    let bytes = |object: &Answer, name: &str| {
        let raw = object.raw(name).ok_or_else(|| format!("a conflict has no {name}"));
        raw.and_then(|raw| answer.decoded(raw)).map_err(Failure::unreadable)
    };
    let key = bytes(conflict, "key")?;
    let siblings = objects(conflict.list("siblings"))?;
    let row = |(index, sibling): (usize, &Answer)| {
        Ok([
            Cell::Bytes(key.clone()),
            Cell::Bool(index == 0),
            Cell::Bytes(bytes(sibling, "value")?),
            Cell::Text(sibling.text("dot").unwrap_or_default()),
            sibling.number("written_ms").map_or(Cell::Nothing, Cell::Time),
        ])
    };
    siblings.iter().enumerate().map(row).collect()
}

/// The reply as the node sent it: for programs, and complete.
fn write_reply(answer: &Answer, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "{}", answer.to_json()).map_err(Failure::output)
}

fn objects(list: Option<Vec<Box<RawValue>>>) -> Result<Vec<Answer>, Failure> {
    let parse = |raw: Box<RawValue>| {
        serde_json::from_str(raw.get()).map_err(|error| Failure::unreadable(error.to_string()))
    };
    list.unwrap_or_default().into_iter().map(parse).collect()
}

fn texts(answer: &Answer, name: &str) -> Vec<String> {
    let list = answer.list(name).unwrap_or_default();
    list.iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect()
}

/// A pair of numbers as `first-last`, or the number where they are one.
fn span(answer: &Answer, name: &str) -> String {
    let ends: Vec<String> =
        answer.list(name).unwrap_or_default().iter().map(|raw| raw.get().to_owned()).collect();
    match ends.as_slice() {
        [first, last] if first == last => first.clone(),
        _ => ends.join("-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer {
        serde_json::from_str(json).unwrap()
    }

    const STATUS: &str = r#"{"ok":true,"node":"n1","id":"a1","phase":"member","detail":null,
        "cluster":"c0ffee","epoch":1,"partitions":1024,"replicas":3,"members":[
        {"name":"n1","id":"a1","client_addr":"127.0.0.1:1","cluster_addr":"127.0.0.1:2",
         "reachable":true,"since_ms":5,"partitions":1024,"me":true},
        {"name":"n2","id":"b2","client_addr":"127.0.0.1:3","cluster_addr":"127.0.0.1:4",
         "reachable":false,"since_ms":5,"partitions":0,"me":false}],"notes":["mind this"]}"#;

    #[test]
    fn status_is_a_head_a_table_and_notes() {
        let mut out = Vec::new();
        show_status(&answer(STATUS), Format::Table, &mut out).unwrap();
        let lines = String::from_utf8(out).unwrap();
        assert_eq!(
            lines,
            "n1 is a member of cluster c0ffee\n\
             layout 1: 1024 partitions, 3 copies of each key\n\n\
             NAME  STATE        PARTITIONS  CLIENT_ADDR  CLUSTER_ADDR  ID  ME\n\
             n1    reachable    1024        127.0.0.1:1  127.0.0.1:2   a1  yes\n\
             n2    unreachable  0           127.0.0.1:3  127.0.0.1:4   b2  no\n\n\
             note: mind this\n"
        );
    }

    #[test]
    fn an_unborn_node_says_what_it_waits_for() {
        let mut out = Vec::new();
        let json =
            r#"{"ok":true,"node":"n1","phase":"unborn","detail":"it waits for 127.0.0.1:9"}"#;
        show_status(&answer(json), Format::Table, &mut out).unwrap();
        assert_eq!(out, b"n1 is unborn: it waits for 127.0.0.1:9\n\n");
    }

    #[test]
    fn explain_has_a_row_for_each_version_of_each_replica() {
        let json = r#"{"ok":true,"slot":5,"token":"18446744073709551615","partition":7,"epoch":1,
            "replicas":[{"name":"n1","state":"present","versions":[
              {"dot":"a:2","written_ms":9,"bytes":3},{"dot":"b:1","written_ms":8,"bytes":4}],
              "vclock":{"a":2,"b":1}},
             {"name":"n2","state":"no_answer"}]}"#;
        let mut out = Vec::new();
        show_explained(b"k", &answer(json), Format::Table, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "k: slot 5, token 18446744073709551615, partition 7, layout 1\n\n\
             REPLICA  STATE      VERSION  BYTES  WRITTEN                   CLOCK\n\
             n1       present    a:2      3      1970-01-01 00:00:00.009Z  {\"a\":2,\"b\":1}\n\
             n1       present    b:1      4      1970-01-01 00:00:00.008Z  {\"a\":2,\"b\":1}\n\
             n2       no answer\n"
        );
    }

    #[test]
    fn a_conflict_shows_its_winner_first() {
        let reply = answer(r#"{"encoding":"base64"}"#);
        let conflict = answer(
            r#"{"key":"aw==","siblings":[{"value":"/w==","dot":"a:2","written_ms":9},
                {"value":"YQ==","dot":"b:1","written_ms":8}]}"#,
        );
        let rows = conflict_rows(&reply, &conflict).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0][1..3], [Cell::Bool(true), Cell::Bytes(vec![0xff])]);
        assert_eq!(rows[1][1..3], [Cell::Bool(false), Cell::Bytes(b"a".to_vec())]);
    }

    #[test]
    fn an_arc_of_one_partition_is_one_number() {
        let arc = answer(r#"{"partitions":[3,3],"slots":[48,63]}"#);
        assert_eq!(span(&arc, "partitions"), "3");
        assert_eq!(span(&arc, "slots"), "48-63");
    }
}
