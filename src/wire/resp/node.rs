//! Commands about the connection, the node and the commands themselves: HELLO, CLIENT, COMMAND,
//! CONFIG, INFO. Clients call them when they connect, so none may fail where Redis does not.

use std::fmt::Write;

use bytes::Bytes;

use super::Version;
use super::answer::Body;
use super::arguments::Arguments;
use super::commands::{self, Command, Group, TABLE, Verdict};
use super::plan::{Client, Refusal, not_supported, syntax_error, wrong_number};
use super::writer::Writer;
use crate::cluster::Phase;
use crate::limits::{CONNECTIONS_MAX, RESP_BULK_BYTES_MAX};
use crate::wire::Facts;

/// The version of Redis whose commands and replies are the model: clients choose features by it.
const REDIS_VERSION: &str = "7.4.0";
/// Longest name that a client may give itself, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// HELLO [2|3 [AUTH USER PASSWORD] [SETNAME NAME]].
pub(super) fn hello(client: &mut Client, arguments: Arguments<'_>) -> Result<Body, Refusal> {
    let mut agreed = client.clone();
    match arguments.number::<u8>(1) {
        Some(2) => agreed.version = Version::Two,
        Some(3) => agreed.version = Version::Three,
        None if arguments.len() == 1 => {}
        Some(_) | None => {
            return Err(Refusal::Text("NOPROTO only versions 2 and 3 are spoken here".to_string()));
        }
    }
    let mut index = 2;
    while index < arguments.len() {
        if arguments.is(index, "setname") && index + 1 < arguments.len() {
            agreed.name = client_name(arguments, index + 1)?;
            index += 2;
        } else if arguments.is(index, "auth") && index + 2 < arguments.len() {
            let why = "users come in a later version; this one listens on loopback only";
            return Err(not_supported("HELLO with AUTH", why).into());
        } else {
            return Err(syntax_error());
        }
    }
    *client = agreed;
    Ok(Body::Hello)
}

/// CLIENT and its subcommands. Unknown ones are an error that clients expect from older servers.
pub(super) fn client(client: &mut Client, arguments: Arguments<'_>) -> Result<Body, Refusal> {
    let word = arguments.at(1).to_ascii_lowercase();
    let body = match (word.as_slice(), arguments.len()) {
        (b"id", 2) => Body::ClientId,
        (b"getname", 2) if client.name.is_empty() => Body::Null,
        (b"getname", 2) => Body::Bulk(client.name.clone()),
        (b"setname", 3) => {
            client.name = client_name(arguments, 2)?;
            Body::Done
        }
        (b"setinfo", 4) => {
            let value = client_name(arguments, 3)?;
            if arguments.is(2, "lib-name") {
                client.library = value;
            } else if arguments.is(2, "lib-ver") {
                client.library_version = value;
            } else {
                return Err(syntax_error());
            }
            Body::Done
        }
        // This connection is the only one that a connection is shown.
        (b"info", 2) | (b"list", _) => Body::ClientLine(Box::new(client.clone())),
        (b"no-evict" | b"no-touch", 3) => Body::Done,
        (b"reply", 3) if arguments.is(2, "on") => Body::Done,
        (b"tracking", 3) if arguments.is(2, "off") => Body::Done,
        (b"getredir", 2) => Body::Number(-1),
        (
            b"id" | b"getname" | b"setname" | b"setinfo" | b"info" | b"no-evict" | b"no-touch"
            | b"getredir",
            _,
        ) => return Err(wrong_number(&format!("client|{}", word.escape_ascii()))),
        _ => {
            return Err(Refusal::Text(format!(
                "ERR unknown subcommand '{}' of CLIENT: this version does not have it",
                arguments.shown(1, NAME_BYTES_MAX)
            )));
        }
    };
    Ok(body)
}

fn client_name(arguments: Arguments<'_>, index: usize) -> Result<Bytes, Refusal> {
    let name = arguments.at(index);
    if name.len() > NAME_BYTES_MAX || !name.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::Text(format!(
            "ERR a client name has up to {NAME_BYTES_MAX} visible ASCII characters without blanks"
        )));
    }
    // A copy: a slice would keep the buffer of the whole read alive as long as the connection.
    Ok(Bytes::copy_from_slice(name))
}

/// COMMAND and its subcommands.
pub(super) fn command(arguments: Arguments<'_>) -> Result<Body, Refusal> {
    let served = || TABLE.iter().filter(|command| is_served(command));
    let word = arguments.at(1).to_ascii_lowercase();
    let body = match (word.as_slice(), arguments.len()) {
        (_, 1) | (b"info", 2) => Body::Commands(served().map(Some).collect()),
        (b"info", _) => Body::Commands(
            arguments
                .bytes_from(2)
                .map(|name| commands::find(&name).filter(|command| is_served(command)))
                .collect(),
        ),
        (b"count", 2) => {
            Body::Number(i64::try_from(served().count()).expect("there are a few hundred"))
        }
        (b"list", 2) => Body::Bulks(
            served().map(|command| Bytes::from_static(command.name.as_bytes())).collect(),
        ),
        // The texts of the Redis manual are not ours; an empty map is what clients take for none.
        (b"docs", _) => Body::EmptyMap,
        (b"getkeys", 3..) => return keys_of(arguments),
        (b"count" | b"list" | b"getkeys", _) => {
            return Err(wrong_number(&format!("command|{}", word.escape_ascii())));
        }
        _ => {
            return Err(Refusal::Text(format!(
                "ERR unknown subcommand '{}' of COMMAND: this version does not have it",
                arguments.shown(1, NAME_BYTES_MAX)
            )));
        }
    };
    Ok(body)
}

fn is_served(command: &Command) -> bool {
    matches!(command.verdict, Verdict::Served(_))
}

/// COMMAND GETKEYS: the keys of the command that follows.
fn keys_of(arguments: Arguments<'_>) -> Result<Body, Refusal> {
    let refuse = |text: &str| Err(Refusal::Text(format!("ERR {text}")));
    let words = arguments.len() - 2;
    let Some(command) = commands::find(arguments.at(2)).filter(|command| is_served(command)) else {
        return refuse("Invalid command specified");
    };
    if !command.takes(words) {
        return refuse("Invalid number of arguments specified for command");
    }
    let (first, last, step) = command.keys;
    if step == 0 {
        return refuse("The command has no key arguments");
    }
    let first = usize::from(first.unsigned_abs());
    let end = if last < 0 { words } else { usize::from(last.unsigned_abs()) + 1 };
    let step = usize::from(step.unsigned_abs());
    Ok(Body::Bulks((first..end).step_by(step).map(|index| arguments.bytes(index + 2)).collect()))
}

/// CONFIG GET; everything else of CONFIG is refused.
pub(super) fn config(arguments: Arguments<'_>) -> Result<Body, Refusal> {
    if arguments.is(1, "get") && arguments.len() > 2 {
        return Ok(Body::Settings(arguments.bytes_from(2).collect()));
    }
    if arguments.is(1, "get") {
        return Err(wrong_number("config|get"));
    }
    let what = format!("CONFIG {}", arguments.shown(1, NAME_BYTES_MAX).to_ascii_uppercase());
    Err(not_supported(&what, "settings are flags, variables and a file, read at the start").into())
}

/// The reply to HELLO.
pub(super) fn put_hello(writer: &mut Writer<'_>, facts: &Facts<'_>) {
    let version = match writer.version {
        Version::Two => 2,
        Version::Three => 3,
    };
    writer.map(8);
    put_pair(writer, "server", "redis");
    put_pair(writer, "version", REDIS_VERSION);
    writer.bulk(b"proto");
    writer.number(version);
    writer.bulk(b"id");
    writer.number(facts.connection);
    put_pair(writer, "mode", "standalone");
    put_pair(writer, "role", "master");
    writer.bulk(b"modules");
    writer.array(0);
    put_pair(writer, "peerage_version", env!("CARGO_PKG_VERSION"));
}

fn put_pair(writer: &mut Writer<'_>, name: &str, value: &str) {
    writer.bulk(name.as_bytes());
    writer.bulk(value.as_bytes());
}

/// One line about this connection, as CLIENT INFO and CLIENT LIST show it.
pub(super) fn put_client(writer: &mut Writer<'_>, client: &Client, facts: &Facts<'_>) {
    let version = match client.version {
        Version::Two => 2,
        Version::Three => 3,
    };
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let line = format!(
        "id={} laddr={}:{} name={} db=0 resp={version} lib-name={} lib-ver={}\n",
        facts.connection,
        facts.host,
        facts.port,
        text(&client.name),
        text(&client.library),
        text(&client.library_version),
    );
    writer.verbatim(&line);
}

/// The reply to CONFIG GET: the settings of Redis that clients ask for, as they are true here.
pub(super) fn put_settings(writer: &mut Writer<'_>, patterns: &[Bytes], facts: &Facts<'_>) {
    let appendfsync = match facts.config.durability {
        crate::config::Durability::Always => "always",
        crate::config::Durability::Interval => "everysec",
        crate::config::Durability::Os => "no",
    };
    let settings = [
        ("appendfsync", appendfsync.to_string()),
        ("appendonly", "yes".to_string()),
        ("bind", facts.host.to_string()),
        ("databases", "1".to_string()),
        ("maxclients", CONNECTIONS_MAX.to_string()),
        ("maxmemory", "0".to_string()),
        ("maxmemory-policy", "noeviction".to_string()),
        ("port", facts.port.to_string()),
        ("proto-max-bulk-len", RESP_BULK_BYTES_MAX.to_string()),
        ("replica-read-only", "no".to_string()),
        ("save", String::new()),
        ("slave-read-only", "no".to_string()),
        ("timeout", "0".to_string()),
    ];
    let asked: Vec<_> = settings
        .iter()
        .filter(|(name, _)| patterns.iter().any(|pattern| matches(pattern, name)))
        .collect();
    writer.map(asked.len());
    for (name, value) in asked {
        put_pair(writer, name, value);
    }
}

/// Whether a pattern of CONFIG GET names a setting: the name in any case, or its beginning and `*`.
fn matches(pattern: &[u8], name: &str) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(head) => {
            name.as_bytes().get(..head.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(head))
        }
        None => pattern.eq_ignore_ascii_case(name.as_bytes()),
    }
}

/// The reply to COMMAND and COMMAND INFO.
pub(super) fn put_commands(writer: &mut Writer<'_>, commands: &[Option<&'static Command>]) {
    writer.array(commands.len());
    for command in commands {
        let Some(command) = command else {
            writer.null();
            continue;
        };
        let flags: &[&str] = match command.group {
            Group::Read => &["readonly"],
            Group::Write => &["write", "denyoom"],
            Group::Connection | Group::Refused => &["loading", "stale", "fast"],
        };
        let categories: &[&str] = match command.group {
            Group::Read => &["@read"],
            Group::Write => &["@write"],
            Group::Connection | Group::Refused => &["@connection"],
        };
        let (first, last, step) = command.keys;
        writer.array(10);
        writer.bulk(command.name.as_bytes());
        writer.signed(i64::from(command.arity));
        put_words(writer, flags);
        writer.signed(i64::from(first));
        writer.signed(i64::from(last));
        writer.signed(i64::from(step));
        put_words(writer, categories);
        // Tips, key specifications, subcommands: the positions above say all there is.
        writer.array(0);
        writer.array(0);
        writer.array(0);
    }
}

fn put_words(writer: &mut Writer<'_>, words: &[&str]) {
    writer.set(words.len());
    for word in words {
        writer.simple(word);
    }
}

/// The reply to INFO: the sections that were asked for, all without any.
pub(super) fn put_info(writer: &mut Writer<'_>, sections: &[Bytes], facts: &Facts<'_>) {
    const SECTIONS: [(&str, Section); 7] = [
        ("Server", server_section),
        ("Clients", clients_section),
        ("Persistence", persistence_section),
        ("Replication", replication_section),
        ("Cluster", cluster_section),
        ("Peerage", peerage_section),
        ("Keyspace", keyspace_section),
    ];
    let everything = |asked: &Bytes| {
        ["all", "default", "everything"]
            .iter()
            .any(|word| asked.eq_ignore_ascii_case(word.as_bytes()))
    };
    let all = sections.is_empty() || sections.iter().any(everything);
    let mut text = String::new();
    for (title, section) in SECTIONS {
        if all || sections.iter().any(|asked| asked.eq_ignore_ascii_case(title.as_bytes())) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            put_line(&mut text, format_args!("# {title}"));
            section(&mut text, facts);
        }
    }
    writer.verbatim(&text);
}

type Section = fn(&mut String, &Facts<'_>);

fn put_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    write!(text, "{line}\r\n").expect("a string takes any text");
}

fn server_section(text: &mut String, facts: &Facts<'_>) {
    let uptime_seconds = facts.now.unix_ms.saturating_sub(facts.started_unix_ms) / 1_000;
    put_line(text, format_args!("redis_version:{REDIS_VERSION}"));
    put_line(text, format_args!("peerage_version:{}", env!("CARGO_PKG_VERSION")));
    put_line(text, format_args!("redis_mode:standalone"));
    put_line(text, format_args!("run_id:{}{:08x}", facts.view.me, facts.view.me.tag().0));
    put_line(text, format_args!("tcp_port:{}", facts.port));
    put_line(text, format_args!("uptime_in_seconds:{uptime_seconds}"));
}

fn clients_section(text: &mut String, facts: &Facts<'_>) {
    put_line(text, format_args!("connected_clients:{}", facts.connections));
    put_line(text, format_args!("maxclients:{CONNECTIONS_MAX}"));
}

/// Clients wait while `loading` is 1; so does a node that belongs to no cluster yet.
fn persistence_section(text: &mut String, facts: &Facts<'_>) {
    let loading = u8::from(facts.view.phase != Phase::Member);
    put_line(text, format_args!("loading:{loading}"));
    put_line(text, format_args!("aof_enabled:1"));
}

/// Every node takes writes, which is what `role:master` tells a client.
fn replication_section(text: &mut String, _facts: &Facts<'_>) {
    put_line(text, format_args!("role:master"));
    put_line(text, format_args!("connected_slaves:0"));
}

fn cluster_section(text: &mut String, _facts: &Facts<'_>) {
    put_line(text, format_args!("cluster_enabled:0"));
}

fn peerage_section(text: &mut String, facts: &Facts<'_>) {
    let layout = facts.view.layout.as_deref();
    put_line(text, format_args!("node:{}", facts.view.name));
    put_line(text, format_args!("epoch:{}", layout.map_or(0, |layout| layout.epoch)));
    put_line(text, format_args!("members:{}", layout.map_or(0, |layout| layout.roles.len())));
    let owned = layout.map_or(0, |layout| layout.owned_by(facts.view.me));
    put_line(text, format_args!("partitions_owned:{owned}"));
    put_line(text, format_args!("cluster_port:{}", facts.cluster_port));
    put_line(text, format_args!("shards:{}", facts.shards));
}

/// Empty: the number of keys is known to the whole cluster only, and DBSIZE asks it.
fn keyspace_section(_text: &mut String, _facts: &Facts<'_>) {}
