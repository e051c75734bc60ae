//! Commands about the connection and the node: HELLO, CLIENT, CONFIG, INFO. Clients call them when
//! they connect, so none may fail where Redis does not.

use std::fmt::Write;

use bytes::Bytes;

use super::Version;
use super::answer::Body;
use super::arguments::Arguments;
use super::commands::Command;
use super::plan::{Client, Refusal, not_supported, syntax_error};
use super::writer::Writer;
use super::{cluster, describe};
use crate::api::{Access, Fault, Role};
use crate::cluster::Phase;
use crate::limits::RESP_BULK_BYTES_MAX;
use crate::wire::Facts;

/// The version of Redis whose commands and replies are the model: clients choose features by it.
const REDIS_VERSION: &str = "7.4.0";
/// Longest name that a client may give itself, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// HELLO [2|3 [AUTH USER TOKEN] [SETNAME NAME]].
pub(super) fn hello(
    client: &mut Client,
    access: &mut Access,
    arguments: Arguments<'_>,
) -> Result<Body, Refusal> {
    let mut agreed = client.clone();
    match arguments.number::<u8>(1) {
        Some(2) => agreed.version = Version::Two,
        Some(3) => agreed.version = Version::Three,
        None if arguments.len() == 1 => {}
        Some(_) | None => {
            return Err(Refusal::Text("NOPROTO only versions 2 and 3 are spoken here".to_string()));
        }
    }
    let (mut index, mut shown) = (2, None);
    while index < arguments.len() {
        if arguments.is(index, "setname") && index + 1 < arguments.len() {
            agreed.name = client_name(arguments, index + 1)?;
            index += 2;
        } else if arguments.is(index, "auth") && index + 2 < arguments.len() {
            shown = Some((arguments.at(index + 1), arguments.at(index + 2)));
            index += 3;
        } else {
            return Err(syntax_error());
        }
    }
    if let Some((user, token)) = shown {
        access.authenticate(Some(user), token).map_err(Fault::from)?;
    }
    access.require(Role::Read).map_err(Fault::from)?;
    *client = agreed;
    Ok(Body::Hello)
}

/// `AUTH [USER] TOKEN`.
pub(super) fn auth(access: &mut Access, arguments: Arguments<'_>) -> Result<Body, Refusal> {
    let (user, token) = match arguments.len() {
        2 => (None, arguments.at(1)),
        3 => (Some(arguments.at(1)), arguments.at(2)),
        _ => return Err(syntax_error()),
    };
    access.authenticate(user, token).map_err(Fault::from)?;
    Ok(Body::Done)
}

/// CLIENT and its subcommands. Unknown ones are an error that clients expect from older servers.
pub(super) fn client(
    client: &mut Client,
    command: &'static Command,
    arguments: Arguments<'_>,
) -> Result<Body, Refusal> {
    let body = match describe::subcommand(command, arguments)? {
        "id" => Body::ClientId,
        "getname" if client.name.is_empty() => Body::Null,
        "getname" => Body::Bulk(client.name.clone()),
        "setname" => {
            client.name = client_name(arguments, 2)?;
            Body::Done
        }
        "setinfo" => {
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
        "info" | "list" => Body::ClientLine(Box::new(client.clone())),
        "no-evict" | "no-touch" => Body::Done,
        "reply" if arguments.is(2, "on") => Body::Done,
        "tracking" if arguments.is(2, "off") => Body::Done,
        "getredir" => Body::Number(-1),
        "help" => Body::Help(command),
        _ => return Err(describe::unknown_subcommand(command, arguments)),
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

/// CONFIG GET; everything else of CONFIG is refused.
pub(super) fn config(command: &'static Command, arguments: Arguments<'_>) -> Result<Body, Refusal> {
    if command.subcommand(arguments.at(1)).is_some() {
        return Ok(match describe::subcommand(command, arguments)? {
            "help" => Body::Help(command),
            _ => Body::Settings(arguments.bytes_from(2).collect()),
        });
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

pub(super) fn put_pair(writer: &mut Writer<'_>, name: &str, value: &str) {
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
        ("maxclients", facts.config.connections_max.to_string()),
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

/// The reply to INFO: the sections that were asked for, all without any.
pub(super) fn put_info(writer: &mut Writer<'_>, sections: &[Bytes], facts: &Facts<'_>) {
    const SECTIONS: [(&str, Section); 9] = [
        ("Server", server_section),
        ("Clients", clients_section),
        ("Persistence", persistence_section),
        ("Memory", memory_section),
        ("Storage", storage_section),
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
    put_line(text, format_args!("run_id:{}", cluster::name(facts.view.me)));
    put_line(text, format_args!("tcp_port:{}", facts.port));
    put_line(text, format_args!("uptime_in_seconds:{uptime_seconds}"));
}

fn clients_section(text: &mut String, facts: &Facts<'_>) {
    put_line(text, format_args!("connected_clients:{}", facts.connections));
    put_line(text, format_args!("maxclients:{}", facts.config.connections_max));
}

/// Clients wait while `loading` is 1; so does a node that belongs to no cluster yet.
fn persistence_section(text: &mut String, facts: &Facts<'_>) {
    let loading = u8::from(facts.view.phase != Phase::Member);
    put_line(text, format_args!("loading:{loading}"));
    put_line(text, format_args!("aof_enabled:1"));
}

fn memory_section(text: &mut String, facts: &Facts<'_>) {
    put_gauges(text, facts, "memory_");
}

fn storage_section(text: &mut String, facts: &Facts<'_>) {
    put_gauges(text, facts, "storage_");
}

fn put_gauges(text: &mut String, facts: &Facts<'_>, of: &str) {
    for (name, figure) in facts.gauges.figures().filter(|(name, _)| name.starts_with(of)) {
        put_line(text, format_args!("{name}:{figure}"));
    }
}

/// Every node takes writes, which is what `role:master` tells a client.
fn replication_section(text: &mut String, _facts: &Facts<'_>) {
    put_line(text, format_args!("role:master"));
    put_line(text, format_args!("connected_slaves:0"));
}

/// Clients that know the cluster find it; to others every node is a server by itself.
fn cluster_section(text: &mut String, _facts: &Facts<'_>) {
    put_line(text, format_args!("cluster_enabled:1"));
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
    put_line(text, format_args!("detours:{}", facts.detours));
}

/// Empty: the number of keys is known to the whole cluster only, and DBSIZE asks it.
fn keyspace_section(_text: &mut String, _facts: &Facts<'_>) {}
